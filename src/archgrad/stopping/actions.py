"""What is done when a rule fires: end the search, or move one of three levers and go on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple, Protocol

from archgrad.errors import UserError


@dataclass(frozen=True)
class Levers:
    """What actions move.

    weight_decay: of the operation weights. tau: factor on every temperature from now on.
    frozen: whether the logits stay as they are.
    """

    weight_decay: float
    tau: float = 1.0
    frozen: bool = False


class Moved(NamedTuple):
    """The levers after an action, and half a sentence that says what it did."""

    levers: Levers
    text: str


class Action(Protocol):
    """Called with the levers when a rule fires; None where there is nothing left to move.

    ends: the search is over. restarts: it goes on from the end of the epoch that the rule names, with the
    weights, optimizers and logits of then. takes_logits: only the logits of that epoch are taken.
    """

    ends: ClassVar[bool]
    restarts: ClassVar[bool]
    takes_logits: ClassVar[bool]

    def __call__(self, levers: Levers) -> Moved | None:
        """The levers from now on."""


@dataclass(frozen=True)
class Stop:
    """End the search."""

    ends: ClassVar[bool] = True
    restarts: ClassVar[bool] = False
    takes_logits: ClassVar[bool] = True

    def __call__(self, levers: Levers) -> Moved | None:
        """The levers from now on."""
        return Moved(levers, "the search ends")


@dataclass(frozen=True)
class RaiseWeightDecay:
    """Multiply the weight decay of the operation weights, up to `most`, and begin again from the named epoch.

    Once it is at `most` the rule has no effect any more, as in the authors' program.

    Source: Zela et al. 2020, RobustDARTS-ADA (arXiv 1909.09656), section 5: ×3, from 3e-4 up to 0.0243.

    Raises:
        UserError: a factor that raises nothing.
    """

    factor: float = 3.0
    most: float = 0.0243

    ends: ClassVar[bool] = False
    restarts: ClassVar[bool] = True
    takes_logits: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _raises(self.factor)

    def __call__(self, levers: Levers) -> Moved | None:
        """The levers from now on."""
        if levers.weight_decay >= self.most * (1 - 1e-9):
            return None
        decay = min(levers.weight_decay * self.factor, self.most)
        text = f"the weight decay is {decay:.3g} from now on, was {levers.weight_decay:.3g}"
        return Moved(replace(levers, weight_decay=decay), text)


@dataclass(frozen=True)
class RaiseTau:
    """Multiply every temperature from the next epoch on, all in all up to `most`; nothing is undone.

    Raises:
        UserError: a factor that raises nothing.
    """

    factor: float = 2.0
    most: float = 8.0

    ends: ClassVar[bool] = False
    restarts: ClassVar[bool] = False
    takes_logits: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _raises(self.factor)

    def __call__(self, levers: Levers) -> Moved | None:
        """The levers from now on."""
        if levers.tau >= self.most:
            return None
        tau = min(levers.tau * self.factor, self.most)
        return Moved(replace(levers, tau=tau), f"τ is {tau:g} times the schedule's from now on")


@dataclass(frozen=True)
class FreezeAlpha:
    """Put the logits of the named epoch back and train the weights alone for the rest of the search."""

    ends: ClassVar[bool] = False
    restarts: ClassVar[bool] = False
    takes_logits: ClassVar[bool] = True

    def __call__(self, levers: Levers) -> Moved | None:
        """The levers from now on."""
        if levers.frozen:
            return None
        return Moved(replace(levers, frozen=True), "the logits stay as they are from now on")


def _raises(factor: float) -> None:
    if factor <= 1:
        raise UserError(f"factor: more than 1, got {factor:g}")
