"""Truncated unrolling: one step, many real steps, and what it becomes at the weights' optimum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from archgrad.errors import UserError
from archgrad.hypergradients.implicit_neumann import ImplicitNeumann
from archgrad.hypergradients.truncated import Truncated
from archgrad.hypergradients.unrolled_exact import UnrolledExact
from archgrad.planted import Planted, exponential_problem, quadratic_problem
from archgrad.problem import Problem, WeightStep, gradients, preserved
from archgrad.testing import check_hypergradient

PROBLEMS = [quadratic_problem, exponential_problem]


def flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([t.detach().reshape(-1) for t in tensors])


def value(problem: Problem, alpha: Sequence[Tensor], steps: int) -> float:
    """L_val after real steps of torch.optim.SGD."""
    step = problem.weight_step
    with preserved(problem.weights):
        optimizer = torch.optim.SGD(
            problem.weights,
            lr=step.learning_rate,
            momentum=step.momentum,
            weight_decay=step.weight_decay,
            nesterov=step.nesterov,
        )
        for w, velocity in zip(problem.weights, step.velocities, strict=True):
            if velocity is not None and step.momentum:
                optimizer.state[w]["momentum_buffer"] = velocity.clone()
        for _ in range(steps):
            loss = problem.train(problem.draw(alpha)).loss
            for w, g in zip(problem.weights, gradients(loss, problem.weights), strict=True):
                w.grad = g
            optimizer.step()
            optimizer.zero_grad()
        return float(problem.valid(problem.draw(alpha)).loss.detach())


def differences(problem: Problem, alpha: Sequence[Tensor], steps: int) -> Tensor:
    found, h = [], 1e-5
    for group in range(len(alpha)):
        for index in range(alpha[group].numel()):
            sides = []
            for sign in (1, -1):
                moved = [a.detach().clone() for a in alpha]
                moved[group].view(-1)[index] += sign * h
                sides.append(value(problem, moved, steps))
            found.append((sides[0] - sides[1]) / (2 * h))
    return torch.tensor(found, dtype=torch.float64)


STEPS = {
    "plain": {"momentum": 0.0, "weight_decay": 0.0},
    "momentum": {"momentum": 0.9, "weight_decay": 0.0},
    "decay": {"momentum": 0.0, "weight_decay": 0.2},
    "both": {"momentum": 0.9, "weight_decay": 0.2},
    "nesterov": {"momentum": 0.9, "weight_decay": 0.2, "nesterov": True},
}


@pytest.mark.parametrize("make", PROBLEMS)
@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("first", [False, True])
def test_it_equals_finite_differences_through_real_steps(
    make: Callable[..., Planted], name: str, first: bool
) -> None:
    planted = make(2)
    step = planted.problem.weight_step._replace(learning_rate=0.05, **STEPS[name])
    if first:  # no momentum buffers yet
        step = step._replace(velocities=[None] * len(step.velocities))
    problem = replace(planted.problem, weight_step=step)
    for steps in (2, 4):
        found = Truncated(steps)(problem, planted.alpha).gradients
        wanted = differences(problem, planted.alpha, steps)
        torch.testing.assert_close(flat(found), wanted, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("make", PROBLEMS)
@pytest.mark.parametrize("name", STEPS)
def test_one_step_is_unrolled_exact(make: Callable[..., Planted], name: str) -> None:
    planted = make(1)
    problem = replace(planted.problem, weight_step=planted.problem.weight_step._replace(**STEPS[name]))
    found = Truncated(1)(problem, planted.alpha)
    wanted = UnrolledExact()(problem, planted.alpha)
    torch.testing.assert_close(flat(found.gradients), flat(wanted.gradients), rtol=1e-12, atol=1e-13)
    assert float(found.outcome.loss.detach()) == float(wanted.outcome.loss.detach())


def test_at_the_optimum_its_steps_are_the_terms_of_a_neumann_series() -> None:
    """Plain SGD stays at w*, so K steps sum (I − ηH)^i for i < K, as Lorraine et al. argue."""
    planted = quadratic_problem(3)
    problem, weights = planted.problem, list(planted.problem.weights)
    with torch.no_grad():
        for _ in range(3000):
            with torch.enable_grad():
                slope = gradients(problem.train(problem.draw(planted.alpha)).loss, weights)
            for w, g in zip(weights, slope, strict=True):
                w -= 0.1 * g
    problem = replace(problem, weight_step=WeightStep(0.07))
    for steps in (1, 2, 6):
        found = Truncated(steps)(problem, planted.alpha).gradients
        wanted = ImplicitNeumann(steps, 0.07)(problem, planted.alpha).gradients
        torch.testing.assert_close(flat(found), flat(wanted), rtol=1e-9, atol=1e-10)


def test_the_cost_is_as_stated() -> None:
    for steps in (1, 2, 5):
        check_hypergradient(
            Truncated(steps), evaluations=(2 * steps, 1), backward=(2 * steps + 1, steps), seed=steps
        )


@pytest.mark.parametrize("steps", [0, -1, 1.0, True])
def test_wrong_settings_are_refused(steps: Any) -> None:
    with pytest.raises(UserError, match="steps is a whole number from 1"):
        Truncated(steps)
