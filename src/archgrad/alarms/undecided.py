"""The search ends with near ties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from archgrad.alarms.alarm import About, Found
from archgrad.metric_lines import Line, by_name


@dataclass(frozen=True)
class Undecided:
    """Rings at the end when the margin of more than a share of the choices is small.

    margin: the winner's probability minus the runner-up's. share: of the choices.
    """

    margin: float = 0.02
    share: float = 0.25

    def __call__(self, lines: Sequence[Line], about: About) -> Found | None:
        """The alarm, or None."""
        margins = by_name(lines[-1], "margin", "by_choice")
        if not about.ends(lines[-1]) or not margins:
            return None
        ties = [name for name in sorted(margins, key=lambda n: margins[n]) if margins[name] < self.margin]
        if len(ties) <= self.share * len(margins):
            return None
        shown = ", ".join(ties[:3]) + (", …" if len(ties) > 3 else "")
        return Found(
            f"{len(ties)} of {len(margins)} choices are undecided at the end, with margins below "
            f"{self.margin:g} ({shown})",
            "search longer (search.epochs), raise architecture.learning_rate, or set "
            "regularizer.name=decisiveness_penalty",
        )
