"""The contract of a hypergradient: ``(problem, alpha) -> ArchitectureGradient``.

E choices × K candidates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from archgrad.choice import Sample
from archgrad.planted import Planted, exponential_problem, quadratic_problem
from archgrad.problem import Hypergradient, Objective, Outcome, Problem
from archgrad.testing.law import BrokenLaw, require, require_close, require_identical

CLOSED_FORM = "a hypergradient equals the closed form on planted problems"
FORM = "a hypergradient is one new finite tensor per group, of the logits' shape and dtype, without graph"
EVALUATIONS = "a call costs the evaluations that its documentation states"
BACKWARD = "a call costs the backward passes that its documentation states"
SAME_NOISE = "all evaluations of a call see the same random state"
PRESERVED = "weights, buffers, gradients, velocities, logits and random state are bit-identical afterwards"
RAISES = "an exception of the objective is passed on"
ORDER = "the error of a finite difference falls with its stated order"


class _Interrupted(Exception):
    """Raised by an objective on purpose."""


def check_hypergradient(
    hypergradient: Hypergradient,
    *,
    closed_form: Callable[[Planted], Sequence[Tensor]] | None = None,
    evaluations: tuple[int, int] | None = None,
    backward: tuple[int, int] | None = None,
    tolerance: float = 1e-9,
    seed: int = 0,
) -> None:
    """Check a hypergradient's laws on quadratic planted problems.

    The problem draws softmax(α), or one-hot rows for a hypergradient with a class attribute ``score = True``,
    which says that it needs the probability of a draw and no gradient through it.

    Args:
        hypergradient: the part.
        closed_form: which answer of `Planted` it should give, e.g. ``lambda planted: planted.unrolled``;
            without it the value is not checked.
        evaluations: evaluations of (training, validation) objective per call; None leaves them unchecked.
        backward: backward passes through an objective per call, and passes through such a pass (each the
            product of a vector with second derivatives); None leaves them unchecked.
        tolerance: largest difference from the closed form, relative where the numbers exceed 1.
        seed: seed of the planted problem.

    Raises:
        BrokenLaw: with the law's name and the numbers.
    """
    one_hot = bool(getattr(hypergradient, "score", False))
    settings: tuple[dict[str, float], ...] = (
        {"momentum": 0.0, "weight_decay": 0.0},
        {},
        {"learning_rate": 0.7},
    )
    for given in settings:
        planted = quadratic_problem(seed, one_hot=one_hot, **given)
        found = hypergradient(planted.problem, planted.alpha).gradients
        _check_form(found, planted)
        if closed_form is not None:
            for group, (got, wanted) in enumerate(zip(found, closed_form(planted), strict=True)):
                require_close(CLOSED_FORM, got, wanted, tolerance, f"group {group}, inner step {given}")
    watched = _watch(quadratic_problem(seed, one_hot=one_hot))
    before = watched.state()
    hypergradient(watched.problem, watched.alpha)
    watched.require_state(before, "after a call")
    counts = (watched.calls.count("train"), watched.calls.count("valid"))
    require(
        evaluations is None or counts == evaluations,
        EVALUATIONS,
        f"stated (training, validation) = {evaluations}, counted {counts}",
    )
    require(
        backward is None or watched.passes == list(backward),
        BACKWARD,
        f"stated (first, second order) = {backward}, counted {tuple(watched.passes)}",
    )
    for call, noise in enumerate(watched.noise[1:], start=2):
        require_identical(SAME_NOISE, noise, watched.noise[0], f"evaluation {call} against the first")
    for call in range(1, len(watched.calls) + 1):
        _check_interrupted(hypergradient, call, seed, one_hot)


def check_order(
    make: Callable[[float], Hypergradient],
    *,
    closed_form: Callable[[Planted], Sequence[Tensor]],
    order: float = 2.0,
    epsilons: Sequence[float] = (0.4, 0.2, 0.1, 0.05, 0.025),
    within: float = 0.2,
    seed: int = 0,
) -> float:
    """Check that the error of ``make(epsilon)`` falls as epsilon^order; return the measured order.

    Measured on a problem that is not quadratic, as the least-squares slope of log error on log epsilon.

    Args:
        make: builds the hypergradient for a step size.
        closed_form: which answer of `Planted` it should give.
        order: the stated order.
        epsilons: the step sizes.
        within: largest distance from `order`.
        seed: seed of the planted problem.

    Raises:
        BrokenLaw: with the order and the errors.
    """
    planted = exponential_problem(seed)
    wanted = torch.cat([g.flatten() for g in closed_form(planted)])
    errors = []
    for epsilon in epsilons:
        found = make(epsilon)(planted.problem, planted.alpha).gradients
        errors.append(float((torch.cat([g.flatten() for g in found]) - wanted).norm()))
    shown = ", ".join(f"{e:.2e}" for e in errors)
    require(all(math.isfinite(e) and e > 0 for e in errors), ORDER, f"errors {shown}")
    x, y = (torch.tensor(v, dtype=torch.float64).log() for v in (list(epsilons), errors))
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())
    require(abs(slope - order) <= within, ORDER, f"stated {order}, measured {slope:.3f}; errors {shown}")
    return slope


def _check_form(found: Sequence[Tensor], planted: Planted) -> None:
    alpha = planted.alpha
    require(len(found) == len(alpha), FORM, f"{len(found)} tensors for {len(alpha)} groups")
    mine = {t.untyped_storage().data_ptr() for t in (*alpha, *planted.problem.weights)}
    for group, (gradient, logits) in enumerate(zip(found, alpha, strict=True)):
        where = f"group {group}"
        require(
            gradient.shape == logits.shape and gradient.dtype == logits.dtype,
            FORM,
            f"{where}: {tuple(gradient.shape)} {gradient.dtype}, logits {tuple(logits.shape)} {logits.dtype}",
        )
        require(bool(gradient.isfinite().all()), FORM, f"{where}: non-finite numbers")
        require(not gradient.requires_grad, FORM, f"{where}: the gradient carries a graph")
        require(gradient.untyped_storage().data_ptr() not in mine, FORM, f"{where}: shares memory")


@dataclass
class _Watched:
    """A planted problem whose evaluations are counted, move buffers and draw random numbers."""

    problem: Problem
    alpha: list[Tensor]
    generator: torch.Generator
    calls: list[str]
    noise: list[Tensor]
    passes: list[int]

    def state(self) -> dict[str, Tensor | None]:
        """Copies of all that a hypergradient may touch but has to put back."""
        step = self.problem.weight_step
        named: dict[str, Tensor | None] = {
            "random state of PyTorch": torch.get_rng_state(),
            "random state of the problem's generator": self.generator.get_state(),
        }
        for kind, tensors in (
            ("weight", self.problem.weights),
            ("buffer", self.problem.buffers),
            ("velocity", step.velocities),
            ("logits", self.alpha),
        ):
            for index, tensor in enumerate(tensors):
                named[f"{kind} {index}"] = None if tensor is None else tensor.detach().clone()
                if tensor is not None and tensor.is_leaf:
                    gradient = tensor.grad
                    named[f"gradient field of {kind} {index}"] = (
                        None if gradient is None else gradient.clone()
                    )
        return named

    def require_state(self, before: dict[str, Tensor | None], when: str) -> None:
        """Require that `state` is what it was."""
        for name, now in self.state().items():
            require_identical(PRESERVED, now, before[name], f"{name} {when}")
        frozen = [i for i, w in enumerate(self.problem.weights) if not w.requires_grad]
        require(not frozen, PRESERVED, f"weights {frozen} no longer require grad {when}")


def counted(values: Tensor, passes: list[int], *leaves: Tensor) -> Tensor:
    """`values` as they are; adds to `passes` (passes back through them, passes through such a pass).

    leaves: what the second kind of pass differentiates by, or comes by on its way.
    """
    found: Tensor = _Counted.apply(values, passes, *leaves)  # type: ignore[no-untyped-call]
    return found


class _Counted(torch.autograd.Function):
    """A loss [...] as it is; counts the passes back through it."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, passes: list[int], *leaves: Tensor) -> Tensor:
        ctx.passes, ctx.leaves = passes, leaves
        return loss.view_as(loss)

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor | None, ...]:
        ctx.passes[0] += 1
        (g,) = gradient
        if torch.is_grad_enabled():  # this pass may be differentiated itself
            g = g * _One.apply(ctx.passes, *ctx.leaves)  # type: ignore[no-untyped-call]
        return g, None, *[None] * len(ctx.leaves)


class _One(torch.autograd.Function):
    """1, as if it depended on the leaves; counts the passes back through it."""

    @staticmethod
    def forward(ctx: Any, passes: list[int], *leaves: Tensor) -> Tensor:
        ctx.passes, ctx.leaves = passes, leaves
        return leaves[0].new_ones(())

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor | None, ...]:
        ctx.passes[1] += 1
        return None, *[torch.zeros_like(leaf) for leaf in ctx.leaves]


def _watch(planted: Planted, interrupt_at: int = 0) -> _Watched:
    """Watch a problem; its evaluation number `interrupt_at` (from 1; 0: none) raises."""
    buffers = [torch.zeros(3, dtype=torch.float64), torch.tensor(5)]
    generator = torch.Generator().manual_seed(1)
    calls: list[str] = []
    noise: list[Tensor] = []
    passes = [0, 0]
    # some with a gradient field and some without: neither kind may change
    planted.problem.weights[0].grad = torch.ones_like(planted.problem.weights[0])
    planted.alpha[0].grad = torch.ones_like(planted.alpha[0])

    def objective(name: str, inner: Objective) -> Objective:
        def evaluate(samples: Sequence[Sample]) -> Outcome:
            calls.append(name)
            noise.append(torch.cat([torch.rand(2), torch.rand(2, generator=generator)]))
            outcome = inner(samples)
            # as BatchNorm does: a floating-point and an integer buffer move
            buffers[0].add_(outcome.loss.detach())
            buffers[1].add_(1)
            if len(calls) == interrupt_at:
                raise _Interrupted
            loss = counted(outcome.loss, passes, *planted.alpha, *planted.problem.weights)
            return outcome._replace(loss=loss)

        return evaluate

    problem = replace(
        planted.problem,
        train=objective("train", planted.problem.train),
        valid=objective("valid", planted.problem.valid),
        buffers=buffers,
        generators=[generator],
    )
    return _Watched(problem, planted.alpha, generator, calls, noise, passes)


def _check_interrupted(hypergradient: Hypergradient, call: int, seed: int, one_hot: bool) -> None:
    """All is as before also when evaluation number `call` raises."""
    watched = _watch(quadratic_problem(seed, one_hot=one_hot), interrupt_at=call)
    before = watched.state()
    try:
        hypergradient(watched.problem, watched.alpha)
    except _Interrupted:
        watched.require_state(before, f"after evaluation {call} raised")
    else:
        raise BrokenLaw(RAISES, f"evaluation {call} raised, the call returned")
