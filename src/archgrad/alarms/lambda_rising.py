"""The validation loss becomes sharp in the logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from archgrad.alarms.alarm import About, Found
from archgrad.metric_lines import Line
from archgrad.stopping.lambda_max import LambdaMax


@dataclass(frozen=True)
class LambdaRising:
    """Rings when the stopping rule ``lambda_max`` would fire; where the probe ``sharpness`` measures."""

    window: int = 5
    factor: float = 1.3
    delta: int = 4
    first: int = 10

    def __call__(self, lines: Sequence[Line], about: About) -> Found | None:
        """The alarm, or None."""
        reason = LambdaMax(self.window, self.factor, self.delta, self.first)(lines)
        if reason is None:
            return None
        return Found(
            reason.because,
            f"search again with stopping.rules.lambda_max={{}}, which goes back to epoch {reason.epoch} "
            "(--method darts-es), or with --method darts-ada",
        )
