"""A price on the logarithm of the cost: what counts is a saving in percent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from archgrad.penalties.penalty import PricedCost, above, logarithm, nats, spread


@dataclass(frozen=True)
class Logarithmic:
    """L + s·(μ/σ)·log(C(z)/μ), with mean μ and standard deviation σ of the cost over random architectures.

    At C = μ it has the value and the slope of `linear.Linear`; below it is steeper, above flatter.

    strength: s, in nats for one σ at the mean cost, or its name.

    Source: an idea of Xie et al. 2019, SNAS (arXiv 1812.09926), whose code has a logarithm for each edge; the
    scale is our own; docs/gradients.md, eq. (47).

    Raises:
        UserError: no such strength; every architecture costs the same; one costs nothing.
    """

    cost: PricedCost
    strength: str | float
    mean: float = field(init=False, repr=False)
    factor: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        mean, deviation = spread(self.cost)
        above(0.0, self.cost, "logarithmic")
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "factor", nats(self.strength) * mean / deviation)

    def __call__(self, task: Tensor, accuracy: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """The loss [...]; see `Penalty`."""
        return task + self.factor * (logarithm(self.cost, weights, 1e-6 * self.mean) - math.log(self.mean))
