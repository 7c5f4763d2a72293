"""What would be derived is far worse than the mixture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from archgrad.alarms.alarm import About, Found
from archgrad.metric_lines import Line, reading


@dataclass(frozen=True)
class DiscretisationGap:
    """Rings when the derived architecture keeps less than a share of the mixture's accuracy above chance.

    Both with the supernet's weights, by the probe ``gap``. In the first part of a search, before the choices
    have had time to be decided, there is always a gap: `after` is the share of the epochs that are let pass.
    """

    keeps: float = 0.5
    after: float = 0.5

    def __call__(self, lines: Sequence[Line], about: About) -> Found | None:
        """The alarm, or None."""
        line = lines[-1]
        mixture, derived = reading(line, "gap", "mixture"), reading(line, "gap", "derived")
        done = about.progress(line)
        if mixture is None or derived is None or done is None or done <= self.after:
            return None
        if mixture <= about.chance or derived - about.chance >= self.keeps * (mixture - about.chance):
            return None
        return Found(
            f"the discretisation gap is large: with the same weights the mixture is right on {mixture:.1%} "
            f"of the validation part, and what would be derived on {derived:.1%}",
            "search with samples that are nearly one-hot (--method gdas), or with "
            "regularizer.name=decisiveness_penalty",
        )
