"""Implicit hypergradients: against dense solves at several dampings, and the derivative of a real optimum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from archgrad.choice import Sample
from archgrad.errors import UserError
from archgrad.hypergradients.implicit_cg import ImplicitCG
from archgrad.hypergradients.implicit_neumann import ImplicitNeumann
from archgrad.planted import Planted, exponential_problem, quadratic_problem
from archgrad.problem import Outcome, gradients
from archgrad.testing import check_hypergradient

PROBLEMS = [quadratic_problem, exponential_problem]
Inverse = Callable[[Tensor], Tensor]


def flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([t.detach().reshape(-1) for t in tensors])


def one(like: Tensor) -> Tensor:
    return torch.eye(len(like), dtype=like.dtype)


def damped(damping: float) -> Inverse:
    return lambda hessian: torch.linalg.inv(hessian + damping * one(hessian))


def series(terms: int, step: float, damping: float) -> Inverse:
    """step · Σ_{i<terms} (I − step·H)^i."""

    def inverse(hessian: Tensor) -> Tensor:
        inner = one(hessian) - step * (hessian + damping * one(hessian))
        total = torch.zeros_like(hessian)
        for i in range(terms):
            total += step * torch.linalg.matrix_power(inner, i)
        return total

    return inverse


@pytest.mark.parametrize("make", PROBLEMS)
@pytest.mark.parametrize("damping", [0.0, 0.01, 0.3, 1.0, 4.0])
def test_conjugate_gradients_equal_the_dense_solve_at_every_damping(
    make: Callable[..., Planted], damping: float
) -> None:
    for seed in range(2):
        planted = make(seed)
        part = ImplicitCG(iterations=30, damping=damping, tolerance=1e-12)
        found = flat(part(planted.problem, planted.alpha).gradients)
        wanted = flat(planted.implicit_with(damped(damping)))
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)
        for other in {0.0, 0.3, 1.0, 4.0} - {damping}:
            assert float((found - flat(planted.implicit_with(damped(other)))).norm()) > 1e-3


@pytest.mark.parametrize("iterations", [1, 2, 3, 5])
def test_each_iteration_is_the_best_of_its_krylov_space(iterations: int) -> None:
    """x_n minimises ½xᵀHx − vᵀx over span{v, Hv, …, Hⁿ⁻¹v}: its definition, solved densely."""
    planted = quadratic_problem(3)
    weights = list(planted.problem.weights[:2])
    vector = flat(gradients(planted.problem.valid(planted.problem.draw(planted.alpha)).loss, weights))

    def best(hessian: Tensor) -> Tensor:
        """A matrix that takes v to x_n."""
        h = hessian + 0.2 * one(hessian)
        columns = [vector]
        for _ in range(iterations - 1):
            columns.append(h @ columns[-1])
        basis, _ = torch.linalg.qr(torch.stack(columns, dim=1))
        return basis @ torch.linalg.inv(basis.T @ h @ basis) @ basis.T

    found = ImplicitCG(iterations, damping=0.2)(planted.problem, planted.alpha).gradients
    torch.testing.assert_close(flat(found), flat(planted.implicit_with(best)), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("make", PROBLEMS)
@pytest.mark.parametrize("terms", [1, 2, 7, 40])
@pytest.mark.parametrize("damping", [0.0, 0.7])
def test_a_neumann_series_equals_its_closed_form(
    make: Callable[..., Planted], terms: int, damping: float
) -> None:
    planted = make(1)
    found = ImplicitNeumann(terms, 0.05, damping)(planted.problem, planted.alpha).gradients
    wanted = planted.implicit_with(series(terms, 0.05, damping))
    torch.testing.assert_close(flat(found), flat(wanted), rtol=1e-10, atol=1e-11)


def test_a_neumann_series_converges_at_its_rate() -> None:
    """Each further term multiplies what is missing by ρ, the largest |1 − step·eigenvalue|."""
    planted, step, damping = quadratic_problem(2), 0.1, 0.1
    spectrum: list[Tensor] = []

    def look(hessian: Tensor) -> Tensor:
        spectrum.append(torch.linalg.eigvalsh(hessian) + damping)
        return damped(damping)(hessian)

    wanted = flat(planted.implicit_with(look))
    rate = float((1 - step * spectrum[0]).abs().max())
    assert 0.5 < rate < 1

    def missing(terms: int) -> float:
        found = ImplicitNeumann(terms, step, damping)(planted.problem, planted.alpha).gradients
        return float((flat(found) - wanted).norm())

    assert missing(201) / missing(200) == pytest.approx(rate, rel=1e-3)
    assert missing(600) < 1e-9


def test_a_neumann_series_with_too_large_a_step_diverges() -> None:
    planted = quadratic_problem(2)
    wanted = flat(planted.implicit)
    errors = [
        float((flat(ImplicitNeumann(n, 2.0)(planted.problem, planted.alpha).gradients) - wanted).norm())
        for n in (10, 20, 2000)
    ]
    assert errors[1] > 10 * errors[0]
    assert not errors[2] < float("inf")  # in the gradient, for the loop to skip the step


@pytest.mark.parametrize("decay", [0.0, 0.4])
def test_at_the_optimum_it_is_the_derivative_of_the_optimum(decay: float) -> None:
    """d L_val(w*(α), α)/dα by finite differences, w* found by solving; weight decay is damping."""
    planted = quadratic_problem(6)
    problem, alpha, weights = planted.problem, planted.alpha, list(planted.problem.weights[:2])

    def settle(at: Sequence[Tensor]) -> None:
        """Put the weights at the optimum of L_train + decay/2 ‖w‖², by Newton's step: it is quadratic."""
        loss = problem.train(problem.draw(at)).loss + decay / 2 * sum((w**2).sum() for w in weights)
        slope = torch.autograd.grad(loss, weights, create_graph=True)
        rows = torch.cat([g.reshape(-1) for g in slope])
        hessian = torch.stack([flat(torch.autograd.grad(r, weights, retain_graph=True)) for r in rows])
        step = torch.linalg.solve(hessian, rows.detach())
        with torch.no_grad():
            weights[0] -= step[:3]
            weights[1] -= step[3:].view(2, 2)

    wanted, h = [], 1e-5
    for group in range(len(alpha)):
        for index in range(alpha[group].numel()):
            sides = []
            for sign in (1, -1):
                moved = [a.detach().clone() for a in alpha]
                moved[group].view(-1)[index] += sign * h
                settle(moved)
                sides.append(float(problem.valid(problem.draw(moved)).loss.detach()))
            wanted.append((sides[0] - sides[1]) / (2 * h))
    settle(alpha)
    for part in (ImplicitCG(20, decay, 1e-12), ImplicitNeumann(2000, 0.1, decay)):
        found = part(problem, alpha).gradients
        torch.testing.assert_close(
            flat(found), torch.tensor(wanted, dtype=torch.float64), rtol=1e-6, atol=1e-8
        )


def test_conjugate_gradients_stop_at_negative_curvature() -> None:
    """L_train = −½‖w‖² + w·z: damping below 1 leaves H negative, above it H is (damping − 1)·I."""
    planted = quadratic_problem()
    alpha, weights = planted.alpha, list(planted.problem.weights)

    def train(samples: Sequence[Sample]) -> Outcome:
        loss = weights[0] @ samples[0].weights[0] - 0.5 * sum((w**2).sum() for w in weights)
        return Outcome(loss, loss.detach(), torch.tensor(0), 1)

    problem = replace(planted.problem, train=train)
    found = ImplicitCG(damping=0.5)(problem, alpha).gradients
    assert torch.equal(flat(found), flat(gradients(problem.valid(problem.draw(alpha)).loss, alpha)))
    slope = gradients(problem.valid(problem.draw(alpha)).loss, weights)[0]
    term = gradients(slope / (3.0 - 1) @ problem.draw(alpha)[0].weights[0], alpha)
    found = ImplicitCG(damping=3.0)(problem, alpha).gradients
    torch.testing.assert_close(flat(found), flat(planted.first_order) - flat(term), rtol=1e-9, atol=1e-10)


def test_the_cost_is_as_stated() -> None:
    """A product for every term but the first or every iteration, and one for the mixed term."""
    for terms in (1, 4):
        check_hypergradient(ImplicitNeumann(terms), evaluations=(1, 1), backward=(2, terms))
    for iterations in (1, 3):
        check_hypergradient(ImplicitCG(iterations), evaluations=(1, 1), backward=(2, iterations + 1))
    # a loose tolerance stops earlier
    check_hypergradient(ImplicitCG(tolerance=0.9), evaluations=(1, 1), backward=(2, 2))


@pytest.mark.parametrize(
    ("make", "settings", "text"),
    [
        (ImplicitNeumann, {"terms": 0}, "implicit_neumann: terms is a whole number from 1, got 0"),
        (ImplicitNeumann, {"terms": 2.0}, "terms is a whole number"),
        (ImplicitNeumann, {"terms": True}, "terms is a whole number"),
        (ImplicitNeumann, {"step": 0.0}, "step is a finite number above 0"),
        (ImplicitNeumann, {"damping": -0.1}, "damping is a finite number from 0, got -0.1"),
        (ImplicitCG, {"iterations": 0}, "implicit_cg: iterations is a whole number"),
        (ImplicitCG, {"damping": float("nan")}, "damping is a finite number from 0"),
        (ImplicitCG, {"tolerance": 0.0}, "tolerance is a finite number above 0"),
    ],
)
def test_wrong_settings_are_refused(make: type, settings: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        make(**settings)
