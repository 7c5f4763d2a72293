"""A penalty on the expected cost, added to the loss of the architecture (SNAS, arXiv 1812.09926, eq. 8)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from archgrad.costs.cost_table import CostTable
from archgrad.errors import UserError

STRENGTHS = {"mild": 0.01, "moderate": 0.05, "aggressive": 0.2}
"""The three settings of SNAS by name; the numbers are for this penalty, which has no unit."""


@dataclass(frozen=True)
class Penalty:
    """strength · expected cost / cost of the dearest architecture: between 0 and `strength`.

    Raises:
        UserError: the strength is negative or not finite, or every architecture costs the same.
    """

    table: CostTable
    strength: float
    dearest: float = field(init=False)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.strength) and self.strength >= 0):
            raise UserError(
                f"the strength of a cost penalty is a number of at least 0, got {self.strength}; "
                f"named ones: {', '.join(f'{name} = {value}' for name, value in STRENGTHS.items())}"
            )
        cheapest, dearest = self.table.bounds()
        if cheapest == dearest:
            raise UserError(
                f"every architecture of this space costs {cheapest:,.0f} {self.table.unit}: a penalty on "
                f"{self.table.name!r} cannot tell them apart; choose another cost or none"
            )
        object.__setattr__(self, "dearest", dearest)

    def __call__(self, weights: Sequence[Tensor]) -> Tensor:
        """The penalty [...] of weights [..., E, K] per group; differentiable in the weights."""
        return self.strength * self.table.expected(weights) / self.dearest
