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


class Outcome(NamedTuple):
    """One evaluation of an objective.

    loss: scalar that is differentiated: task loss plus penalty.
    task_loss: scalar, detached, without the penalty.
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
    draw: logits [E, K] per group -> samples; the same noise at every call within a step.
    weights: the tensors w, leaves that require grad.
    buffers: tensors that evaluating an objective may change (BatchNorm statistics).
    weight_step: the optimizer's next step on w.
    generators: generators besides PyTorch's default ones that evaluating an objective advances. All
        of them are put back after every evaluation: see `evaluate`.
    """

    train: Objective
    valid: Objective
    draw: Callable[[Sequence[Tensor]], list[Sample]]
    weights: Sequence[Tensor] = ()
    buffers: Sequence[Tensor] = ()
    weight_step: WeightStep = field(default_factory=WeightStep)
    generators: Sequence[torch.Generator] = ()


class ArchitectureGradient(NamedTuple):
    """dL/dα [E, K] per group, and the outcome of the objective that it belongs to."""

    gradients: list[Tensor]
    outcome: Outcome


class Hypergradient(Protocol):
    """Returns dL/dα; whatever it touched is bit-identical afterwards, also when it raises."""

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


def evaluate(problem: Problem, objective: Objective, alpha: Sequence[Tensor]) -> Outcome:
    """The objective at logits alpha [E, K] per group; generators are as before the call afterwards.

    Evaluations within one hypergradient so see the same dropout masks. A difference quotient of two
    evaluations that see different masks is noise divided by ε.
    """
    states = [generator.get_state() for generator in problem.generators]
    devices = {w.device.index for w in problem.weights if w.device.type == "cuda"}
    with torch.random.fork_rng(devices=sorted(devices)):
        try:
            return objective(problem.draw(alpha))
        finally:
            for generator, state in zip(problem.generators, states, strict=True):
                generator.set_state(state)


def gradients(loss: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    """d loss / d inputs, zeros where the loss does not depend on an input (a path that was not run)."""
    if not loss.requires_grad:
        return [torch.zeros_like(x) for x in inputs]
    return list(torch.autograd.grad(loss, list(inputs), allow_unused=True, materialize_grads=True))
