"""Collapse to skip connections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from archgrad.alarms.alarm import About, Found
from archgrad.metric_lines import Line, learned, reading


@dataclass(frozen=True)
class SkipCollapse:
    """Rings when skip connections are more than a share of what would be derived, `epochs` epochs in a row.

    Samplers that draw one candidate at a time pass through many architectures, so a few epochs say nothing.

    share: of the choices that are not ``none``.
    """

    share: float = 0.5
    epochs: int = 5

    def __call__(self, lines: Sequence[Line], about: About) -> Found | None:
        """The alarm, or None."""
        shares = [reading(line, "operations", "skip") for line in lines[-self.epochs :] if learned(line)]
        known = [share for share in shares if share is not None]
        if len(known) < self.epochs or min(known) <= self.share:
            return None
        return Found(
            f"collapse to skip connections: they are {known[-1]:.0%} of what would be derived",
            "search again with --method darts-ada, end the search there with stopping.rules.skip_count={}, "
            "or give a smaller cost.strength if there is one",
        )
