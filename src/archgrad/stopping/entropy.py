"""Stop when the choices are decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from archgrad.errors import UserError
from archgrad.metric_lines import Line, epoch_of, learned, reading
from archgrad.stopping.rule import Reason


@dataclass(frozen=True)
class Entropy:
    """Fires when the mean over the choices of H / log K is below a share; keeps this epoch.

    below: the share, in (0, 1): 1 is undecided, 0 decided (`diagnostics.entropy`, field ``relative``).

    Raises:
        UserError: a share that is not between 0 and 1.
    """

    below: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.below < 1:
            raise UserError(f"below: a share of the largest entropy between 0 and 1, got {self.below:g}")

    def __call__(self, lines: Sequence[Line]) -> Reason | None:
        """The reason, or None."""
        share = reading(lines[-1], "entropy", "relative")
        if share is None or share >= self.below or not learned(lines[-1]):
            return None
        return Reason(
            f"the choices are decided: their mean entropy is {share:.1%} of its maximum, below "
            f"{self.below:.1%}",
            epoch_of(lines[-1]),
        )
