"""The winners still change at the end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from archgrad.alarms.alarm import About, Found
from archgrad.diagnostics.line import decided
from archgrad.metric_lines import Line


@dataclass(frozen=True)
class Unsettled:
    """Rings at the end when a share of the choices has another winner than some epochs before.

    changed: the share of the choices. last: the epochs looked back, a share of all that train the logits, at
    least 3; silent where the search is shorter than twice that.
    """

    changed: float = 0.2
    last: float = 0.1

    def __call__(self, lines: Sequence[Line], about: About) -> Found | None:
        """The alarm, or None."""
        if about.epochs is None or not about.ends(lines[-1]):
            return None
        learning = about.epochs - about.warmup
        back = max(3, math.ceil(self.last * learning))
        if learning < 2 * back or len(lines) <= back:
            return None
        now, then = (
            {name: row.index(max(row)) for name, row in decided(line).items()}
            for line in (lines[-1], lines[-1 - back])
        )
        moved = [name for name, winner in now.items() if then.get(name, winner) != winner]
        if not now or len(moved) <= self.changed * len(now):
            return None
        shown = ", ".join(moved[:3]) + (", …" if len(moved) > 3 else "")
        return Found(
            f"the ranking still changes at the end: {len(moved)} of {len(now)} choices have another winner "
            f"than {back} epochs before ({shown})",
            f"search longer: search.epochs={2 * about.epochs} with stopping.rules.stability={{}}",
        )
