"""A price in nats for every standard deviation of the cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from archgrad.penalties.penalty import PricedCost, nats, spread


@dataclass(frozen=True)
class Linear:
    """L + s·(C(z) − μ)/σ, with mean μ and standard deviation σ of the cost over random architectures.

    One σ cheaper is worth s nats of loss, whatever the space, the cost and its unit. Where losses of random
    architectures spread by about as much in two spaces, the same s gives up the same share of them. (Divided
    by the dearest architecture's cost instead, the price falls with everything that all architectures share,
    and with the number of choices: of E alike choices the extremes differ by ~ E, while σ is ~ √E.)

    strength: s, in nats, or its name.

    Source: Xie et al. 2019, SNAS (arXiv 1812.09926), eq. 8; Cai et al. 2019, ProxylessNAS (arXiv 1812.00332),
    the loss with λ·E[latency], s = λ·σ; docs/gradients.md, eq. (46).

    Raises:
        UserError: no such strength, or every architecture costs the same.
    """

    cost: PricedCost
    strength: str | float
    mean: float = field(init=False, repr=False)
    slope: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        mean, deviation = spread(self.cost)
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "slope", nats(self.strength) / deviation)

    def __call__(self, task: Tensor, accuracy: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """The loss [...]; see `Penalty`."""
        return task + self.slope * (self.cost.expected(weights) - self.mean)
