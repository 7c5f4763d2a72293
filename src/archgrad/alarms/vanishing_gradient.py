"""The logits' gradient vanishes before the choices are decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from archgrad.alarms.alarm import About, Found
from archgrad.metric_lines import Line, learned, number, reading


@dataclass(frozen=True)
class VanishingGradient:
    """Rings when the logits' gradient norm is below a share of its greatest, `epochs` epochs in a row.

    Once the choices are decided it has to vanish, so the alarm is silent then: where their mean entropy is
    below `decided` of its maximum.
    """

    share: float = 1e-3
    epochs: int = 3
    decided: float = 0.3

    def __call__(self, lines: Sequence[Line], about: About) -> Found | None:
        """The alarm, or None."""
        norms = [number(line["alpha_gradient_norm"]) or 0.0 for line in lines if learned(line)]
        entropy = reading(lines[-1], "entropy", "relative")
        if len(norms) <= self.epochs or entropy is None or entropy < self.decided:
            return None
        greatest = max(norms)
        if max(norms[-self.epochs :]) >= self.share * greatest and greatest > 0:
            return None
        key = "temperature.end" if about.temperature else "architecture.learning_rate"
        return Found(
            f"the logits hardly learn any more: their gradient is {norms[-1]:.2g}, was {greatest:.2g}, and "
            f"the entropy of the choices is {entropy:.0%} of its maximum",
            f"set a higher {key}, or end the search there with stopping.rules.stability={{}}",
        )
