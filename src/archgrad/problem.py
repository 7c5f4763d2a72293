"""What a hypergradient is given, and what it returns.

The bilevel problem of differentiable search (Liu et al. 2019, eq. 3-4):
minimise L_val(w*(α), α) over the logits α, where w*(α) minimises L_train(w, α) over the weights w.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from archgrad.choice import Sample
from archgrad.policy import Policy


class Outcome(NamedTuple):
    """One evaluation of an objective.

    loss: what is differentiated: task loss plus penalty. A scalar, or [S] for S independent searches at
        once, each with logits of its own.
    task_loss: scalar, detached, without the penalty (the mean over the searches).
    correct, images: right predictions and images of the batch.
    """

    loss: Tensor
    task_loss: Tensor
    correct: Tensor
    images: int


class Objective(Protocol):
    """Maps samples (one per group of choices) to an `Outcome`: a supernet on a batch, or a landscape."""

    def __call__(self, samples: Sequence[Sample]) -> Outcome:
        """Evaluate at these samples and the current weights."""


class Draw(Protocol):
    """Logits -> samples, one per group; a repeat has noise of its own, the same at every call."""

    def __call__(self, alpha: Sequence[Tensor], repeat: int = 0) -> list[Sample]:
        """Draw at logits alpha, [..., E, K] per group."""


class WeightStep(NamedTuple):
    """The next step of SGD on the weights, as far as an unrolled gradient needs to know it.

    velocities: momentum buffers, one per weight; None where no step was taken yet.
    """

    learning_rate: float = 0.0
    momentum: float = 0.0
    weight_decay: float = 0.0
    velocities: Sequence[Tensor | None] = ()
    nesterov: bool = False


@dataclass(frozen=True)
class Problem:
    """One step's bilevel problem.

    train, valid: the objectives of weights and of logits.
    draw: logits [E, K] per group -> samples; the same noise at every call within a step, for each repeat.
    weights: the tensors w, leaves that require grad.
    buffers: tensors that evaluating an objective may change (BatchNorm statistics).
    weight_step: the optimizer's next step on w.
    generators: generators besides PyTorch's default ones that evaluating an objective advances. All
        of them are put back after every evaluation: see `evaluate`.
    policy: what `draw` draws from, for hypergradients that need its log-probability.
    tau: the temperature of `draw`.
    noise: repeat -> generator, for hypergradients that draw for themselves; as `draw`, repeatable.
    memory: what this hypergradient returned as memory in the step before; empty before the first.
    """

    train: Objective
    valid: Objective
    draw: Draw
    weights: Sequence[Tensor] = ()
    buffers: Sequence[Tensor] = ()
    weight_step: WeightStep = field(default_factory=WeightStep)
    generators: Sequence[torch.Generator] = ()
    policy: Policy | None = None
    tau: float = 1.0
    noise: Callable[[int], torch.Generator] | None = None
    memory: Sequence[Tensor] = ()


class ArchitectureGradient(NamedTuple):
    """dL/dα [E, K] per group, and the outcome of the objective that it belongs to.

    memory: what the next call is to be given (a moving average, say); saved with the search's state.
    """

    gradients: list[Tensor]
    outcome: Outcome
    memory: tuple[Tensor, ...] = ()


class Hypergradient(Protocol):
    """Returns dL/dα; whatever it touched is bit-identical afterwards, also when it raises.

    A class attribute ``joint = True`` says that it is ∇_α of the training loss at the weights' own draw,
    so that the search may take both gradients from the weight step's backward pass instead of calling it.
    """

    def __call__(self, problem: Problem, alpha: Sequence[Tensor]) -> ArchitectureGradient:
        """The architecture gradient at logits alpha, [E, K] per group."""


@contextmanager
def preserved(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Put the tensors' values back on leaving, bit for bit, also when the body raises."""
    saved = [t.detach().clone() for t in tensors]
    try:
        yield saved
    finally:
        if saved:
            with torch.no_grad():
                torch._foreach_copy_(list(tensors), saved)


def evaluate(problem: Problem, objective: Objective, alpha: Sequence[Tensor], repeat: int = 0) -> Outcome:
    """The objective at logits alpha [E, K] per group; generators are as before the call afterwards."""
    return observe(problem, objective, problem.draw(alpha, repeat))


def observe(problem: Problem, objective: Objective, samples: Sequence[Sample]) -> Outcome:
    """The objective at these samples; generators are as before the call afterwards.

    Evaluations within one hypergradient so see the same dropout masks. A difference quotient of two
    evaluations that see different masks is noise divided by ε.
    """
    states = [generator.get_state() for generator in problem.generators]
    devices = {w.device.index for w in problem.weights if w.device.type == "cuda"}
    with torch.random.fork_rng(devices=sorted(devices)):
        try:
            return objective(samples)
        finally:
            for generator, state in zip(problem.generators, states, strict=True):
                generator.set_state(state)


def gradients(loss: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    """d loss / d inputs, zeros where the loss does not depend on an input (a path that was not run).

    loss: a scalar, or [S] for independent searches, whose sum is differentiated.
    """
    if not loss.requires_grad or not inputs:
        return [torch.zeros_like(x) for x in inputs]
    return list(torch.autograd.grad(loss.sum(), list(inputs), allow_unused=True, materialize_grads=True))
