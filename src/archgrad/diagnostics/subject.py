"""What a probe looks at, and the promise that it only looks.

S independent searches on a landscape, otherwise 1; E choices × K candidates; n logits of a search in all.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from archgrad.choice import Sample, Supernet
from archgrad.diagnostics.line import Reading
from archgrad.problem import Objective, Problem, preserved
from archgrad.randomness import Streams
from archgrad.search import SearchTask, weight_step
from archgrad.search_state import SearchPlan, SearchState

if TYPE_CHECKING:
    from archgrad.config import Config


@dataclass(frozen=True)
class Subject:
    """A search between two epochs.

    epoch: the one that was just done.
    """

    task: SearchTask
    state: SearchState
    plan: SearchPlan
    streams: Streams
    epoch: int

    @property
    def network(self) -> Supernet | None:
        """The supernet, where there is one."""
        network = getattr(self.task, "network", None)
        return network if isinstance(network, Supernet) else None

    @property
    def searches(self) -> int:
        """S."""
        return self.plan.searches or 1

    @property
    def tau(self) -> float:
        """The temperature of the epoch."""
        return self.plan.temperature(self.epoch)

    def logits(self) -> list[Tensor]:
        """Copies of what is learned, θ, that require grad."""
        return [a.detach().clone().requires_grad_() for a in self.state.logits]

    def relaxed(self, logits: Sequence[Tensor]) -> list[Sample]:
        """Samples whose weights are the probabilities themselves: every candidate runs, nothing is drawn."""
        return [Sample(p) for p in self.plan.policy.probabilities(logits)]

    def pairs(self, count: int) -> list[tuple[Objective, Objective]]:
        """(training, validation) objectives of the first steps of the first epoch, `count` or all there are.

        They are the same in every epoch, so that a curve shows the search and not the draw of batches.
        """
        steps = self.task.steps(0, 0)
        return list(itertools.islice(steps, count))

    def problem(self, train: Objective, valid: Objective, purpose: str, index: int) -> Problem:
        """The bilevel problem of a step on these objectives, its noise from a stream of the probe's own."""

        def noise(repeat: int) -> torch.Generator:
            return self.streams.generator(f"diagnostics/{purpose}", self.epoch, index, repeat)

        def draw(alpha: Sequence[Tensor], repeat: int = 0) -> list[Sample]:
            return self.plan.policy.draw(alpha, self.tau, noise(repeat))

        return Problem(
            train,
            valid,
            draw,
            self.task.weights,
            self.task.buffers,
            weight_step(self.state.weight_optimizer),
            policy=self.plan.policy,
            tau=self.tau,
            noise=noise,
            memory=self.state.memory,
        )

    def flat(self, tensors: Sequence[Tensor]) -> Tensor:
        """One row of n numbers for each search, [S, n], in float64 on the host."""
        rows = [t.detach().reshape(self.searches, -1) for t in tensors]
        return torch.cat(rows, dim=1).to("cpu", torch.float64)

    def like_logits(self, rows: Tensor) -> list[Tensor]:
        """The inverse of `flat`: tensors of the logits' shapes, precision and device."""
        sizes = [a.numel() // self.searches for a in self.state.logits]
        parts = torch.split(rows, sizes, dim=1)
        return [part.reshape(a.shape).to(a) for part, a in zip(parts, self.state.logits, strict=True)]


class Probe(Protocol):
    """A diagnostic that asks the network: a frozen dataclass of its settings, called with a `Subject`.

    Law (`archgrad.testing.check_probe`): a search that is looked at and one that is not are identical to
    the bit, also when the probe raises. `look` puts back weights, buffers and the global random state;
    everything else (logits, optimizers, modes of modules) a probe leaves alone or puts back itself.

    A probe may have a static method ``unfit(config, settings) -> str | None``: why it cannot look at such a
    search, or what is wrong with its settings there.
    """

    def __call__(self, subject: Subject) -> Reading:
        """The fields of this epoch; those that cannot be known are left out."""


class Unfit(Protocol):
    """See `Probe`."""

    def __call__(self, config: Config, settings: dict[str, object]) -> str | None:
        """The reason, or None."""


@contextmanager
def untouched(subject: Subject) -> Iterator[None]:
    """Put back, bit for bit, what evaluating objectives or a recomputation of statistics may change."""
    network, task = subject.network, subject.task
    known = {b.untyped_storage().data_ptr() for b in task.buffers}  # the network's own may be views of these
    others = [] if network is None else list(network.buffers())
    buffers = [*task.buffers, *(b for b in others if b.untyped_storage().data_ptr() not in known)]
    weights = [w for w in task.weights if isinstance(w, Tensor)]
    devices = {w.device.index for w in weights if w.device.type == "cuda"}
    with torch.random.fork_rng(devices=sorted(devices)), preserved([*weights, *buffers]):
        yield
