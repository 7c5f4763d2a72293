"""A landscape as the search sees it: one or S independent searches at once, no weights, no data.

E choices × K candidates; the logits of a search are [E, K], of S searches [S, E, K].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from archgrad.choice import Group, Sample
from archgrad.errors import UserError
from archgrad.landscapes.landscape import Landscape, mean_loss
from archgrad.landscapes.noise import per_step
from archgrad.penalties.penalty import Penalty
from archgrad.problem import Objective, Outcome
from archgrad.randomness import Streams

_LEAST = 1e-6
"""Added to every gate, so that the shares of almost closed ones are not divided by almost zero."""

Observe = Literal["all", "active"]
"""Which gates have a gradient: all, as if every candidate had been run, or those that did run."""


@dataclass(frozen=True)
class LandscapeObjective:
    """f at the drawn weights.

    landscape: the losses.
    observe: "active" leaves out candidates that did not run, as a network would. The slope of a gate that
        ran would be the whole loss of the architecture, offset included, and the estimators' result that of
        the offset; so there `offset`, the mean loss, is taken off every entry of the table. On the simplex
        that is a constant, and the exact gradient is the same.
    error: added to the loss, a function of the weights: noise of this step.
    penalty: the price on a cost, known for every candidate whether it ran or not. The accuracy that it is
        given is 1 − f.
    gates: the weights are gates, each for itself; a landscape knows the simplex only, so their shares
        count (`shares`).
    """

    landscape: Landscape
    observe: Observe = "all"
    error: Callable[[Tensor], Tensor] | None = None
    gates: bool = False
    offset: float = 0.0
    penalty: Penalty | None = None

    def __call__(self, samples: Sequence[Sample]) -> Outcome:
        """`loss` [...], one a search; `correct` is 1 minus its mean, of one image.

        Raises:
            UserError: the sample asks for what a landscape cannot do (`Sample.inactive_as_scalars`), or is
                not of the landscape's shape.
        """
        (sample,) = samples
        if sample.inactive_as_scalars:
            raise UserError(
                "a landscape has no output that the gates of undrawn candidates could be added to as "
                "numbers: set sampler.unselected to nothing"
            )
        z = drawn = sample.weights
        if self.observe == "active":
            z = torch.where(_ran(sample), z, z.detach())
        if self.gates:
            z = shares(z)
        loss = self.landscape.value(z)
        if self.offset:
            loss = loss + self.offset * (1 - z.sum(dim=-1).prod(dim=-1))
        if self.error is not None:
            loss = loss + self.error(z)
        mean = loss.detach().mean()
        if self.penalty is not None:
            loss = self.penalty(loss, 1 - loss, [shares(drawn) if self.gates else drawn])
        return Outcome(loss, mean, 1 - mean, 1)


class LandscapeTask:
    """A `SearchTask` whose training and validation objective are both the landscape.

    Args:
        landscape: searched on; its `truth` is for scoring and is never looked at here.
        searches: S, for logits [S, E, K] of independent searches; None for logits [E, K].
        observe: "all", or "active" for a gradient through candidates that ran only.
        steps_per_epoch: steps that count as an epoch.
        step_noise: standard deviation of an error that is fresh at every step (`noise.per_step`), and of
            its own for each search and for training and validation.
        streams: of that error.
        gates: the sampler draws gates, each for itself; see `LandscapeObjective`.
        penalty: the price on a cost, or None.

    Raises:
        UserError: a number out of range, or unknown `observe`.
    """

    def __init__(
        self,
        landscape: Landscape,
        searches: int | None = None,
        observe: Observe = "all",
        steps_per_epoch: int = 50,
        step_noise: float = 0.0,
        streams: Streams | None = None,
        gates: bool = False,
        penalty: Penalty | None = None,
    ):
        if observe not in get_args(Observe):
            raise UserError(f"observe is one of {', '.join(get_args(Observe))}, got {observe!r}")
        if steps_per_epoch < 1 or (searches is not None and searches < 1):
            raise UserError(
                f"wanted at least one search and one step per epoch, got searches={searches}, "
                f"steps_per_epoch={steps_per_epoch}"
            )
        if step_noise and streams is None:
            raise UserError(f"step_noise={step_noise} needs streams to draw from: give streams=Streams(seed)")
        self.landscape, self.observe, self.step_noise = landscape, observe, step_noise
        self.gates, self.penalty = gates, penalty
        self.offset = mean_loss(landscape) if observe == "active" else 0.0
        self.streams = Streams(0) if streams is None else streams
        self.shape = () if searches is None else (searches,)
        self.groups: tuple[Group, ...] = landscape.groups
        self.weights: list[Any] = []
        self.buffers: list[Tensor] = []
        self.steps_per_epoch = steps_per_epoch
        self._objective(0, 0, 0)  # a bad deviation is refused here

    def steps(self, epoch: int, start: int) -> Iterator[tuple[Objective, Objective]]:
        """(training, validation) objectives of the steps from `start`; a function of its arguments."""
        for step in range(start, self.steps_per_epoch):
            yield self._objective(epoch, step, 0), self._objective(epoch, step, 1)

    def evaluate(self, draw: Callable[[int], list[Sample]]) -> tuple[float, float]:
        """(loss, 1 − loss) of one draw without the step's error, the mean over the searches."""
        with torch.no_grad():
            outcome = LandscapeObjective(self.landscape, gates=self.gates)(draw(0))
        return float(outcome.task_loss), float(outcome.correct)

    def _objective(self, epoch: int, step: int, part: int) -> LandscapeObjective:
        error = None
        if self.step_noise:
            generator = self.streams.generator("landscape noise/step", epoch, step, part)
            error = per_step(self.landscape, self.step_noise, generator, self.shape)
        return LandscapeObjective(self.landscape, self.observe, error, self.gates, self.offset, self.penalty)


def shares(gates: Tensor) -> Tensor:
    """z / Σ z of every row [..., K]; uniform where all gates are closed, that is, exactly 0.

    There z / Σ z has no slope. Taken is that of a row that is open by 1 in all: ∂s_j/∂z_k = δ_jk − 1/K.
    Anything much less open, as the formula asks for in the limit, would be a slope without bound, and
    hard gates do not come near it: they are closed, or open by 1 or more.
    """
    closed = gates.detach().sum(dim=-1, keepdim=True) == 0
    opened = gates + torch.where(closed, 1 / gates.shape[-1], _LEAST)
    return opened / opened.sum(dim=-1, keepdim=True)


def _ran(sample: Sample) -> Tensor:
    """Which candidates ran, bool [..., E, K]; see `Sample`. One of no weight and no word of it did not."""
    if sample.ran is not None:
        if sample.ran.shape != sample.weights.shape:
            raise UserError(
                f"a sample's ran has the shape of its weights, {list(sample.weights.shape)}; got "
                f"{list(sample.ran.shape)}: check the sampler with archgrad.testing.check_sampler"
            )
        return sample.ran
    if sample.active is None:
        return sample.weights.detach() != 0
    ran = torch.zeros_like(sample.weights, dtype=torch.bool)
    for row, active in zip(ran, sample.active, strict=True):
        row[list(active)] = True
    return ran
