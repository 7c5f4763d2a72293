"""FBNet's loss: the task's, times a power of the logarithm of the cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from archgrad.penalties.penalty import PricedCost, above, check_factor, logarithm


@dataclass(frozen=True)
class FBNet:
    """L·alpha·(log C(z))^beta.

    The relative change of the loss is beta·dC / (C·log C): the larger the numbers of the unit, the weaker.
    (At 10⁸ multiply-adds, 1 % more cost is 0.03 % more loss.)

    alpha: scales the loss and with it the gradient, nothing else. beta: the strength. Both above 0.

    Source: Wu et al. 2019, FBNet (arXiv 1812.03443), eq. 2, with its values; docs/gradients.md, eq. (49).

    Raises:
        UserError: numbers that are not above 0, or an architecture that costs 1 or less, whose logarithm is
            no basis of a power.
    """

    cost: PricedCost
    alpha: float = 0.2
    beta: float = 0.6

    product: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_factor("fbnet", self.alpha, self.beta)
        above(1.0, self.cost, "fbnet")

    def __call__(self, task: Tensor, accuracy: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """The loss [...]; see `Penalty`."""
        return task * self.alpha * logarithm(self.cost, weights, 1 + 1e-6) ** self.beta
