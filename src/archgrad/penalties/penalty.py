"""What a penalty is given and what it returns, and the strengths that have a name. E choices × K candidates.

A form is a class whose first argument is the cost; the others are those settings of the section ``cost`` that
it reads: `strength`, `target`, `alpha`, `beta`. All others are errors in a configuration that chooses it.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

from archgrad.errors import UserError

SETTINGS = ("strength", "target", "alpha", "beta")
"""What a form may read of the section ``cost``."""
STRENGTHS = {"mild": 0.004, "moderate": 0.02, "aggressive": 0.1}
"""SNAS' three by name: the nats of loss that one standard deviation of the cost is worth."""


class PricedCost(Protocol):
    """A cost of every architecture: `costs.cost_table.CostTable` or `landscapes.cost.LandscapeCost`."""

    @property
    def name(self) -> str:
        """Of the cost."""

    @property
    def unit(self) -> str:
        """Of its numbers."""

    def expected(self, weights: Sequence[Tensor]) -> Tensor:
        """C(z) [...] of weights [..., E, K] per group; of one-hot weights that architecture's cost."""

    def bounds(self) -> tuple[float, float]:
        """Costs of the cheapest and of the dearest architecture."""

    def moments(self) -> tuple[float, float]:
        """Mean and standard deviation of the cost over architectures drawn uniformly."""


class Penalty(Protocol):
    """What the architecture's loss is, given its task loss and what was drawn.

    Class attributes: ``product = True`` says that the task loss is multiplied, so a gradient of the operation
    weights taken from the same loss would change with the cost; ``reward = True`` that the value has no
    gradient in z, so only a score function can use it, and that z has to be an architecture.
    """

    def __call__(self, task: Tensor, accuracy: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """The loss [...].

        Args:
            task: its task loss [...], a scalar or one a search.
            accuracy: share of right predictions [...], in [0, 1].
            weights: as drawn, [..., E, K] per group of choices; not detached.
        """


def settings_of(kind: Any) -> tuple[str, ...]:
    """The settings that a form reads, besides the cost.

    >>> from archgrad.penalties import PENALTIES
    >>> settings_of(PENALTIES["mnasnet"])
    ('target', 'alpha', 'beta')

    Raises:
        UserError: it is none, of the user's own.
    """
    try:
        cost, *settings = inspect.signature(kind).parameters
    except (TypeError, ValueError):
        cost, settings = "", []
    if not cost or not set(settings) <= set(SETTINGS):
        raise UserError(
            f"{kind!r} cannot be called as (cost, …), with settings of {', '.join(SETTINGS)} alone, as every "
            "form of a penalty is"
        )
    return tuple(settings)


def nats(strength: str | float) -> float:
    """A strength in nats per standard deviation of the cost, from its name or the number itself.

    >>> nats("moderate") == STRENGTHS["moderate"]
    True

    Raises:
        UserError: unknown name; a number that is negative or not finite.
    """
    value = STRENGTHS.get(strength, math.nan) if isinstance(strength, str) else strength
    if not (math.isfinite(value) and value >= 0):
        raise UserError(
            f"the strength of a cost penalty is a number of at least 0, got {strength}; "
            f"named ones: {', '.join(f'{name} = {number}' for name, number in STRENGTHS.items())}"
        )
    return value


def spread(cost: PricedCost) -> tuple[float, float]:
    """Mean μ and standard deviation σ of the cost over random architectures.

    Raises:
        UserError: every architecture costs the same.
    """
    mean, deviation = cost.moments()
    cheapest, dearest = cost.bounds()
    if cheapest == dearest:
        raise UserError(
            f"every architecture of this space costs {cheapest:,.0f} {cost.unit}: a penalty on "
            f"{cost.name!r} cannot tell them apart; choose another cost or none"
        )
    return mean, deviation


def above(least: float, cost: PricedCost, form: str) -> None:
    """Refuse a cost that is not above `least` for every architecture, as the form needs it.

    Raises:
        UserError: saying so.
    """
    cheapest, _ = cost.bounds()
    if cheapest <= least:
        raise UserError(
            f"cost.form: {form!r} needs costs above {least:g}, and the cheapest architecture costs "
            f"{cheapest:g} {cost.unit}; set cost.form=linear, or choose another cost"
        )


def logarithm(cost: PricedCost, weights: Sequence[Tensor], least: float) -> Tensor:
    """log C(z) [...]. Hard gates may all be closed, at a cost that no architecture has: then of `least`."""
    return cost.expected(weights).clamp_min(least).log()


def check_factor(form: str, alpha: float, beta: float) -> None:
    """Refuse alpha·(…)^beta by which less cost would be more loss, or no difference.

    Raises:
        UserError: one of them is not above 0.
    """
    if not all(math.isfinite(n) and n > 0 for n in (alpha, beta)):
        raise UserError(
            f"cost.alpha and cost.beta: {form} multiplies the loss by alpha·(…)^beta, both finite and above "
            f"0; got {alpha:g} and {beta:g}"
        )


def check_target(target: float, cost: PricedCost) -> None:
    """Refuse a target that no architecture is near.

    Raises:
        UserError: it is below the cheapest architecture or above the dearest; both are named.
    """
    cheapest, dearest = cost.bounds()
    if not cheapest <= target <= dearest:
        raise UserError(
            f"cost.target: {target:g} {cost.unit} is out of reach; the cheapest architecture costs "
            f"{cheapest:g}, the dearest {dearest:g}: give a target between them"
        )
