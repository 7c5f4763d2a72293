"""MnasNet's reward: the accuracy, weighed by how the cost compares to a target."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from archgrad.errors import UserError
from archgrad.penalties.penalty import PricedCost, above, check_target


@dataclass(frozen=True)
class MnasNet:
    """−ACC·(C/T)^w with w = alpha where C ≤ T and w = beta where C > T: minus the reward of an architecture.

    The defaults are the paper's soft constraint: twice the cost is worth it for 2^0.07 − 1 = 5 % more
    accuracy, relative. Its hard one, alpha = 0 and beta = −1, does not reward what is below the target. The
    score function of ProxylessNAS has alpha = beta = −0.1 (its authors' code).

    target: T, in the cost's unit. alpha, beta: at most 0, not both 0.

    Source: Tan et al. 2019, MnasNet (arXiv 1807.11626), eq. 2-3; docs/gradients.md, eq. (48).

    Raises:
        UserError: exponents that reward cost or nothing; a target that no architecture is near, or that all
            are within while nothing below it counts; an architecture that costs nothing.
    """

    cost: PricedCost
    target: float
    alpha: float = -0.07
    beta: float = -0.07

    reward: ClassVar[bool] = True

    def __post_init__(self) -> None:
        exponents = (self.alpha, self.beta)
        if not all(math.isfinite(w) and w <= 0 for w in exponents) or not any(exponents):
            raise UserError(
                "cost.alpha and cost.beta: mnasnet's exponents are at most 0 and not both 0, so that less "
                f"cost is more reward; got {self.alpha:g} and {self.beta:g}; e.g. cost.alpha=0 cost.beta=-1"
            )
        above(0.0, self.cost, "mnasnet")
        check_target(self.target, self.cost)
        if not self.alpha and self.target == self.cost.bounds()[1]:
            raise UserError(
                "cost.target: every architecture is within it, and with cost.alpha=0 none is rewarded for "
                "that; give a lower target"
            )

    def __call__(self, task: Tensor, accuracy: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """Minus the reward [...]; see `Penalty`. The task loss does not count."""
        share = self.cost.expected(weights) / self.target
        exponent = torch.where(share <= 1, self.alpha, self.beta)
        return -accuracy.to(share) * share**exponent
