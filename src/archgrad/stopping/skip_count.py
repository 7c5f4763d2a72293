"""Stop when skip connections take over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from archgrad.metric_lines import Line, by_name, epoch_of, learned
from archgrad.stopping.rule import Reason


@dataclass(frozen=True)
class SkipCount:
    """Fires when one cell that would be derived has `count` skip connections or more; keeps this epoch.

    cell: the kind of cell; where the space has but one kind, that one, whatever it is called.

    Source: Liang et al. 2019, DARTS+ (arXiv 1909.06035), criterion 1: two or more in one normal cell.
    """

    count: int = 2
    cell: str = "normal"

    def __call__(self, lines: Sequence[Line]) -> Reason | None:
        """The reason, or None."""
        if not learned(lines[-1]):
            return None
        skips = by_name(lines[-1], "operations", "skips_by_cell")
        cell = next(iter(skips)) if len(skips) == 1 else self.cell
        if skips.get(cell, 0) < self.count:
            return None
        return Reason(
            f"the cell {cell!r} that would be derived has {skips[cell]:.0f} skip connections, {self.count} "
            "being too many",
            epoch_of(lines[-1]),
        )

    def unfit(self, cells: Sequence[str]) -> str | None:
        """Why the rule can never fire in a space with these kinds of cells; None where it can."""
        if len(cells) == 1 or self.cell in cells:
            return None
        if not cells:
            return "the choices of this space are no edges of cells, so no cell has skip connections to count"
        return f"cell: the space has no cells {self.cell!r}; it has {', '.join(map(repr, cells))}"
