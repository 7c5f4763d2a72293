"""ProxylessNAS' loss as its authors' code has it: the task's, times a power of log cost over log target."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from archgrad.errors import UserError
from archgrad.penalties.penalty import PricedCost, above, check_factor, check_target, logarithm


@dataclass(frozen=True)
class Proxyless:
    """L·alpha·(log C(z) / log T)^beta: alpha·L at the target.

    The target divides, and pulls at nothing: it takes the scale of the unit out of the value, while the
    relative change is that of `fbnet.FBNet`. The paper's own loss, with λ·E[latency], is `linear`; the reward
    of its score function is `mnasnet` with both exponents −0.1.

    target: T, in the cost's unit. alpha, beta: above 0.

    Source: Cai et al. 2019, ProxylessNAS (arXiv 1812.00332), the authors' code with its values;
    docs/gradients.md, eq. (49).

    Raises:
        UserError: numbers that are not above 0; a target that no architecture is near; an architecture that
            costs 1 or less, whose logarithm is no basis of a power.
    """

    cost: PricedCost
    target: float
    alpha: float = 0.2
    beta: float = 0.3

    product: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_factor("proxyless", self.alpha, self.beta)
        if not self.target > 1:
            raise UserError(
                f"cost.target: proxyless divides by the logarithm of the target, which has to be above "
                f"1 in the unit of the cost, got {self.target:g}; set cost.form=linear"
            )
        above(1.0, self.cost, "proxyless")
        check_target(self.target, self.cost)

    def __call__(self, task: Tensor, accuracy: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """The loss [...]; see `Penalty`."""
        ratio = logarithm(self.cost, weights, 1 + 1e-6) / math.log(self.target)
        return task * self.alpha * ratio**self.beta
