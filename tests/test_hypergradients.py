"""Hypergradients: closed forms, the true inner step, order, cost; and the traps that others fell into."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import attrgetter

import pytest
import torch
from torch import Tensor, nn

from archgrad.choice import Sample
from archgrad.errors import UserError
from archgrad.hypergradients import HYPERGRADIENTS
from archgrad.hypergradients.first_order import FirstOrder
from archgrad.hypergradients.implicit_cg import ImplicitCG
from archgrad.hypergradients.implicit_neumann import ImplicitNeumann
from archgrad.hypergradients.truncated import Truncated
from archgrad.hypergradients.unrolled import Unrolled
from archgrad.hypergradients.unrolled_exact import UnrolledExact
from archgrad.planted import Planted, exponential_problem, quadratic_problem
from archgrad.problem import (
    ArchitectureGradient,
    Outcome,
    Problem,
    WeightStep,
    gradients,
    preserved,
)
from archgrad.testing import BrokenLaw, check_hypergradient, check_order
from archgrad.testing import hypergradients as laws


def neumann(hessian: Tensor) -> Tensor:
    """0.01 Σ_{i<10} (I − 0.01 H)^i: what the defaults put in place of the inverse."""
    inner = torch.eye(len(hessian), dtype=hessian.dtype) - 0.01 * hessian
    return 0.01 * sum((torch.linalg.matrix_power(inner, i) for i in range(10)), torch.zeros_like(inner))


def damped(hessian: Tensor) -> Tensor:
    return torch.linalg.inv(hessian + 0.1 * torch.eye(len(hessian), dtype=hessian.dtype))


def three_steps(planted: Planted) -> Sequence[Tensor]:
    """By finite differences of the real optimizer's steps."""
    rows = central_differences(lambda alpha: unrolled_value(planted, alpha, steps=3), planted.alpha)
    parts = rows.split([a.numel() for a in planted.alpha])
    return [part.view_as(a) for part, a in zip(parts, planted.alpha, strict=True)]


CLOSED_FORM: dict[str, Callable[[Planted], Sequence[Tensor]]] = {
    "first_order": attrgetter("first_order"),
    "unrolled": attrgetter("unrolled"),
    "unrolled_exact": attrgetter("unrolled"),
    "truncated": three_steps,
    "implicit_neumann": lambda planted: planted.implicit_with(neumann),
    "implicit_cg": lambda planted: planted.implicit_with(damped),
    "single_level": attrgetter("single_level"),
}
"""Which answer of `Planted` each gives by default; the others are random: tested by their expectation."""
COST = {
    "first_order": ((0, 1), (1, 0)),
    "unrolled": ((3, 1), (4, 0)),
    "unrolled_exact": ((2, 1), (3, 1)),
    "truncated": ((6, 1), (7, 3)),
    "implicit_neumann": ((1, 1), (2, 10)),
    "implicit_cg": ((1, 1), (2, 8)),  # 7 weights in the loss: 7 iterations, and the mixed term
    "single_level": ((1, 0), (1, 0)),
    "score_function": ((0, 1), (0, 0)),
    "rebar": ((0, 2), (1, 0)),
}
"""Forward passes (training, validation); backward passes, and passes back through a backward pass."""
SCORE = [name for name in HYPERGRADIENTS if getattr(HYPERGRADIENTS[name], "score", False)]


def flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([t.detach().reshape(-1) for t in tensors])


def test_the_tables_of_costs_and_answers_are_complete() -> None:
    assert list(COST) == list(HYPERGRADIENTS)
    assert {*CLOSED_FORM, *SCORE} == set(HYPERGRADIENTS)


@pytest.mark.parametrize("name", HYPERGRADIENTS)
@pytest.mark.parametrize("seed", [0, 1])
def test_every_hypergradient_keeps_the_contract(name: str, seed: int) -> None:
    """Value, and cost as the docstrings state it."""
    check_hypergradient(
        HYPERGRADIENTS[name](),
        closed_form=CLOSED_FORM.get(name),
        evaluations=COST[name][0],
        backward=COST[name][1],
        tolerance=1e-8 if name == "truncated" else 1e-9,  # the error of its finite differences
        seed=seed,
    )


# --- the planted problems are what they say ------------------------------------------------------

PROBLEMS = [quadratic_problem, exponential_problem]


def objective_value(
    planted: Planted, alpha: Sequence[Tensor], level: str, weights: Sequence[Tensor]
) -> Tensor:
    """L_train or L_val at other weights, by writing them into the problem's own and back."""
    own = planted.problem.weights
    with preserved(own):
        with torch.no_grad():
            for w, value in zip(own, weights, strict=True):
                w.copy_(value)
        objective = getattr(planted.problem, level)
        return objective(planted.problem.draw(alpha)).loss.detach()


def unrolled_value(planted: Planted, alpha: Sequence[Tensor], steps: int = 1) -> Tensor:
    """L_val after real steps of torch.optim.SGD from the problem's weights."""
    problem, step = planted.problem, planted.problem.weight_step
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
            loss = problem.train(problem.draw([a.detach() for a in alpha])).loss
            for w, g in zip(problem.weights, gradients(loss, problem.weights), strict=True):
                w.grad = g
            optimizer.step()
        value = problem.valid(problem.draw(alpha)).loss.detach()
        for w in problem.weights:
            w.grad = None
    return value


def central_differences(f: Callable[[Sequence[Tensor]], Tensor], alpha: Sequence[Tensor]) -> Tensor:
    step, found = 1e-5, []
    for group in range(len(alpha)):
        for index in range(alpha[group].numel()):
            values = []
            for sign in (1, -1):
                moved = [a.detach().clone() for a in alpha]
                moved[group].view(-1)[index] += sign * step
                values.append(f(moved))
            found.append((values[0] - values[1]) / (2 * step))
    return torch.stack(found)


@pytest.mark.parametrize("make", PROBLEMS)
@pytest.mark.parametrize("settings", [{}, {"momentum": 0.0, "weight_decay": 0.0}, {"learning_rate": 0.3}])
def test_planted_answers_equal_finite_differences(
    make: Callable[..., Planted], settings: dict[str, float]
) -> None:
    """float64, and for `unrolled` through the step that torch.optim.SGD really takes."""
    planted = make(3, **settings)
    at = planted.problem.weights

    def value(level: str) -> Callable[[Sequence[Tensor]], Tensor]:
        return lambda alpha: objective_value(planted, alpha, level, at)

    close = {"rtol": 1e-7, "atol": 1e-8}
    torch.testing.assert_close(
        flat(planted.first_order), central_differences(value("valid"), planted.alpha), **close
    )
    torch.testing.assert_close(
        flat(planted.single_level), central_differences(value("train"), planted.alpha), **close
    )
    torch.testing.assert_close(
        flat(planted.unrolled),
        central_differences(lambda alpha: unrolled_value(planted, alpha), planted.alpha),
        **close,
    )


@pytest.mark.parametrize("make", PROBLEMS)
def test_the_planted_implicit_answer_equals_its_definition(make: Callable[..., Planted]) -> None:
    """∇_α L_val − (∂²L_train/∂w∂α)ᵀ [∂²L_train/∂w²]⁻¹ ∇_w L_val, each factor by automatic differentiation."""
    planted = make(5)
    problem, alpha, used = planted.problem, planted.alpha, list(planted.problem.weights[:2])
    slope = torch.autograd.grad(problem.train(problem.draw(alpha)).loss, used, create_graph=True)
    rows = torch.cat([g.reshape(-1) for g in slope])
    second = [
        torch.autograd.grad(row, [*used, *alpha], retain_graph=True, materialize_grads=True) for row in rows
    ]
    hessian = torch.stack([flat(row[:2]) for row in second])
    mixed = torch.stack([flat(row[2:]) for row in second])
    outcome = problem.valid(problem.draw(alpha))
    direct = gradients(outcome.loss, [*alpha, *used])
    wanted = flat(direct[:2]) - mixed.T @ torch.linalg.solve(hessian, flat(direct[2:]))
    torch.testing.assert_close(flat(planted.implicit), wanted, rtol=1e-9, atol=1e-10)


def test_different_answers_differ() -> None:
    """So that a hypergradient can't pass as another."""
    planted = quadratic_problem()
    answers = [planted.first_order, planted.single_level, planted.unrolled, planted.implicit]
    for i, a in enumerate(answers):
        for b in answers[:i]:
            assert float((flat(a) - flat(b)).norm()) > 0.1


# --- order, and the size of the terms ------------------------------------------------------------


def make_unrolled(epsilon: float) -> Unrolled:
    return Unrolled(epsilon=epsilon)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_finite_difference_is_of_second_order(seed: int) -> None:
    slope = check_order(make_unrolled, closed_form=attrgetter("unrolled"), seed=seed)
    assert 1.8 <= slope <= 2.2


def test_epsilon_does_not_matter_on_a_quadratic_problem() -> None:
    planted = quadratic_problem()
    found = [flat(Unrolled(e)(planted.problem, planted.alpha).gradients) for e in (1.0, 1e-2, 1e-4)]
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=0, atol=1e-9)


def test_the_second_order_term_has_its_size() -> None:
    """Times ε instead of divided by ε it would be some 1e-4 of this: here it is a good part of the whole."""
    planted = quadratic_problem()
    term = flat(planted.unrolled) - flat(Unrolled()(*_stepped_by(planted.problem, planted.alpha)).gradients)
    assert float(term.norm()) > 0.05 * float(flat(planted.unrolled).norm())


def _stepped_by(problem: Problem, alpha: list[Tensor]) -> tuple[Problem, list[Tensor]]:
    """The same problem at the stepped weights with learning rate 0: only ∇_α L_val(w', α) is left."""
    step = problem.weight_step
    slope = gradients(problem.train(problem.draw(alpha)).loss, problem.weights)
    with torch.no_grad():
        for w, g, v in zip(problem.weights, slope, step.velocities, strict=True):
            momentum = 0.0 if v is None else step.momentum * v
            w -= step.learning_rate * (g + step.weight_decay * w + momentum)
    return replace(problem, weight_step=WeightStep()), alpha


def test_unrolled_without_a_step_is_first_order() -> None:
    planted = quadratic_problem()
    still = replace(planted.problem, weight_step=WeightStep(learning_rate=0.0))
    found = Unrolled()(still, planted.alpha).gradients
    torch.testing.assert_close(flat(found), flat(planted.first_order), rtol=0, atol=1e-12)


def test_unrolled_where_the_validation_loss_ignores_the_weights() -> None:
    """‖∇_w L_val‖ = 0: no direction to differentiate along, and no division by zero."""
    planted = quadratic_problem()
    problem = planted.problem

    def valid(samples: Sequence[Sample]) -> Outcome:
        loss = sum((s.weights**2).sum() for s in samples)
        return Outcome(loss, loss.detach(), torch.tensor(0), 1)

    blind = replace(problem, valid=valid)
    found = Unrolled()(blind, planted.alpha).gradients
    wanted = FirstOrder()(blind, planted.alpha).gradients
    torch.testing.assert_close(flat(found), flat(wanted), rtol=0, atol=0)


def test_velocities_must_be_one_per_weight() -> None:
    planted = quadratic_problem()
    step = planted.problem.weight_step._replace(velocities=planted.problem.weight_step.velocities[:1])
    with pytest.raises(ValueError, match="zip"):
        Unrolled()(replace(planted.problem, weight_step=step), planted.alpha)


@pytest.mark.parametrize("name", [name for name in HYPERGRADIENTS if name not in SCORE])
def test_a_uniform_draw_gives_zeros(name: str) -> None:
    """Logits that the samples do not depend on."""
    planted = quadratic_problem()
    samples = [Sample(s.weights.detach()) for s in planted.problem.draw(planted.alpha)]
    problem = replace(planted.problem, draw=lambda alpha, repeat=0: samples)
    found = HYPERGRADIENTS[name]()(problem, planted.alpha).gradients
    assert [g.shape for g in found] == [a.shape for a in planted.alpha]
    assert not flat(found).any()


def test_unrolled_through_dropout_and_batch_norm() -> None:
    """All evaluations see one mask: the difference quotient is that of a smooth function, not noise/ε.

    A network with global-generator dropout and BatchNorm, against double backward with the same masks.
    """
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(16, n, generator=generator, dtype=torch.float64) for n in (6, 3))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 3)
        )
    network = network.double()
    alpha = [torch.tensor([[0.1, -0.2, 0.3]], dtype=torch.float64, requires_grad=True)]

    def loss_of(scale: float) -> Callable[[Sequence[Sample]], Outcome]:
        def evaluate(samples: Sequence[Sample]) -> Outcome:
            loss = ((network(x) * samples[0].weights - scale * y) ** 2).mean()
            return Outcome(loss, loss.detach(), torch.tensor(0), 16)

        return evaluate

    weights, rate = list(network.parameters()), 0.1
    problem = Problem(
        loss_of(1.0),
        loss_of(0.5),
        lambda a, repeat=0: [Sample(torch.softmax(a[0], dim=-1))],
        weights,
        list(network.buffers()),
        WeightStep(rate),
    )
    state = {k: v.clone() for k, v in network.state_dict().items()}
    random_state = torch.get_rng_state()
    found = Unrolled(epsilon=1e-4)(problem, alpha).gradients
    assert torch.equal(torch.get_rng_state(), random_state)
    for name, value in network.state_dict().items():
        assert torch.equal(value, state[name]), name

    def functional(values: Sequence[Tensor], scale: float) -> Tensor:
        named = dict(zip(dict(network.named_parameters()), values, strict=True))
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(random_state)
            output = torch.func.functional_call(network, named, (x,))
        return ((output * torch.softmax(alpha[0], dim=-1) - scale * y) ** 2).mean()

    slope = torch.autograd.grad(functional(weights, 1.0), weights, create_graph=True)
    stepped = [w - rate * g for w, g in zip(weights, slope, strict=True)]
    (wanted,) = torch.autograd.grad(functional(stepped, 0.5), alpha)
    assert float((found[0] - wanted).norm()) < 1e-6 * float(wanted.norm())


# --- what holds for everything that looks through the weights' step or optimum ------------------------

INNER = {
    "unrolled": Unrolled(),
    "unrolled_exact": UnrolledExact(),
    "truncated": Truncated(steps=1),
    "implicit_neumann": ImplicitNeumann(terms=3),
    "implicit_cg": ImplicitCG(),
}


@pytest.mark.parametrize("name", INNER)
def test_without_weights_it_is_first_order(name: str) -> None:
    """A landscape has none; its losses may be [S] with logits of S searches."""
    q = torch.linspace(-1, 1, 3, dtype=torch.float64)

    def valid(samples: Sequence[Sample]) -> Outcome:
        loss = (samples[0].weights @ q).square().sum(dim=-1) + samples[1].weights[..., 0, 2]
        return Outcome(loss, loss.detach().mean(), torch.tensor(0), 1)

    problem = replace(quadratic_problem().problem, valid=valid, weights=[], weight_step=WeightStep(0.1))
    generator = torch.Generator().manual_seed(0)
    for searches in ((), (5,)):
        alpha = [
            torch.randn(*searches, *shape, generator=generator).double().requires_grad_()
            for shape in ((2, 3), (1, 4))
        ]
        found, wanted = INNER[name](problem, alpha), FirstOrder()(problem, alpha)
        assert torch.equal(flat(found.gradients), flat(wanted.gradients))
        assert torch.equal(found.outcome.loss, wanted.outcome.loss)


@pytest.mark.parametrize("name", INNER)
@pytest.mark.parametrize("level", ["train", "valid"])
def test_a_loss_that_is_not_finite_shows_in_the_gradient(name: str, level: str) -> None:
    planted = quadratic_problem()
    inner = getattr(planted.problem, level)

    def diverged(samples: Sequence[Sample]) -> Outcome:
        outcome = inner(samples)
        return outcome._replace(loss=outcome.loss * float("inf"))

    before = [w.detach().clone() for w in planted.problem.weights]
    found = INNER[name](replace(planted.problem, **{level: diverged}), planted.alpha).gradients
    assert not flat(found).isfinite().any()
    assert all(torch.equal(w, b) for w, b in zip(planted.problem.weights, before, strict=True))


@pytest.mark.parametrize("name", INNER)
@pytest.mark.parametrize("slope", [0.0, 2.0])
def test_a_loss_constant_or_linear_in_the_weights(name: str, slope: float) -> None:
    """∇_w L_train depends neither on w nor on α: nothing to differentiate a second time, and no error."""
    planted = quadratic_problem()
    weights = planted.problem.weights if slope else []

    def train(samples: Sequence[Sample]) -> Outcome:
        loss = sum(((slope * w).sum() for w in weights), torch.zeros((), dtype=torch.float64))
        return Outcome(loss, loss.detach(), torch.tensor(0), 1)

    problem = replace(planted.problem, train=train)
    found = INNER[name](problem, planted.alpha).gradients
    wanted = planted.first_order
    if not name.startswith("implicit"):
        wanted = FirstOrder()(*_stepped_by(problem, planted.alpha)).gradients
    torch.testing.assert_close(flat(found), flat(wanted), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("make", [Unrolled, UnrolledExact])
@pytest.mark.parametrize("nesterov", [False, True])
def test_the_virtual_step_may_leave_out_momentum_or_decay(make: type[UnrolledExact], nesterov: bool) -> None:
    planted = quadratic_problem(4)
    step = planted.problem.weight_step._replace(nesterov=nesterov)
    for options, given in (
        ({"momentum": False}, {"momentum": 0.0, "nesterov": False}),
        ({"weight_decay": False}, {"weight_decay": 0.0}),
        (
            {"momentum": False, "weight_decay": False},
            {"momentum": 0.0, "weight_decay": 0.0, "nesterov": False},
        ),
    ):
        whole = replace(planted.problem, weight_step=step)
        found = flat(make(**options)(whole, planted.alpha).gradients)
        wanted = make()(replace(whole, weight_step=step._replace(**given)), planted.alpha).gradients
        assert torch.equal(found, flat(wanted))
        assert float((found - flat(make()(whole, planted.alpha).gradients)).norm()) > 1e-3


def test_the_exact_form_on_a_problem_that_is_not_quadratic() -> None:
    for seed in range(3):
        planted = exponential_problem(seed)
        found = UnrolledExact()(planted.problem, planted.alpha).gradients
        torch.testing.assert_close(flat(found), flat(planted.unrolled), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("epsilon", [0.0, -0.1, float("nan"), float("inf")])
def test_a_difference_needs_a_step(epsilon: float) -> None:
    with pytest.raises(UserError, match="epsilon is a number above 0"):
        Unrolled(epsilon)


# --- the contract's own teeth: mistakes that were shipped ------------------------------------------


class BrokenUnrolled(Unrolled):
    """Unrolled, written out so that one thing can be wrong."""

    def __call__(self, problem: Problem, alpha: Sequence[Tensor]) -> ArchitectureGradient:
        weights, step = list(problem.weights), problem.weight_step
        generators = [*problem.generators, torch.default_generator]
        states = [g.get_state() for g in generators]

        def run(objective: Callable[[list[Sample]], Outcome]) -> Outcome:
            for g, s in zip(generators, states, strict=True):
                g.set_state(s)
            try:
                return objective(problem.draw(alpha))
            finally:
                for g, s in zip(generators, states, strict=True):
                    g.set_state(s)

        with preserved(problem.buffers), preserved(weights) as before:
            slope = gradients(run(problem.train).loss, weights)
            self.step(weights, slope, step)
            outcome = run(problem.valid)
            both = gradients(outcome.loss, [*alpha, *weights])
            direct, vector = both[: len(alpha)], both[len(alpha) :]
            epsilon = 0.01 / float(flat(vector).norm())

            def side(sign: float) -> list[Tensor]:
                with torch.no_grad():
                    for w, b, v in zip(weights, before, vector, strict=True):
                        w.copy_(b + sign * epsilon * v)
                return gradients(run(problem.train).loss, alpha)

            plus, minus = self.sides(side)
            rate = step.learning_rate
            total = [
                d - rate * self.quotient(p, m, epsilon) for d, p, m in zip(direct, plus, minus, strict=True)
            ]
        return ArchitectureGradient(total, outcome)

    def step(self, weights: list[Tensor], slope: list[Tensor], step: WeightStep) -> None:
        with torch.no_grad():
            for w, g, v in zip(weights, slope, step.velocities, strict=True):
                w -= step.learning_rate * (
                    g + step.weight_decay * w + (0.0 if v is None else step.momentum * v)
                )

    def sides(self, side: Callable[[float], list[Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
        return side(1.0), side(-1.0)

    def quotient(self, plus: Tensor, minus: Tensor, epsilon: float) -> Tensor:
        return (plus - minus) / (2 * epsilon)


class TimesEpsilon(BrokenUnrolled):
    """(p − n) / 2.*eps."""

    def quotient(self, plus: Tensor, minus: Tensor, epsilon: float) -> Tensor:
        return (plus - minus) / 2.0 * epsilon


class NoVirtualStep(BrokenUnrolled):
    """Rebinds a local name: the network keeps its weights."""

    def step(self, weights: list[Tensor], slope: list[Tensor], step: WeightStep) -> None:
        for w, g in zip(weights, slope, strict=True):
            w = w - step.learning_rate * g


class AliasedSides(BrokenUnrolled):
    """Both sides are one tensor: their difference is exactly 0."""

    def sides(self, side: Callable[[float], list[Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
        plus, minus = side(1.0), side(-1.0)
        for p, m in zip(plus, minus, strict=True):
            p.copy_(m)
        return plus, plus


class WithoutMomentum(BrokenUnrolled):
    def step(self, weights: list[Tensor], slope: list[Tensor], step: WeightStep) -> None:
        super().step(weights, slope, step._replace(momentum=0.0))


class WithoutDecay(BrokenUnrolled):
    def step(self, weights: list[Tensor], slope: list[Tensor], step: WeightStep) -> None:
        super().step(weights, slope, step._replace(weight_decay=0.0))


def test_the_written_out_form_is_right_when_nothing_is_broken() -> None:
    check_hypergradient(BrokenUnrolled(), closed_form=attrgetter("unrolled"), evaluations=(3, 1))


@pytest.mark.parametrize("broken", [TimesEpsilon, NoVirtualStep, AliasedSides, WithoutMomentum, WithoutDecay])
def test_the_contract_catches_a_wrong_value(broken: type[BrokenUnrolled]) -> None:
    with pytest.raises(BrokenLaw) as caught:
        check_hypergradient(broken(), closed_form=attrgetter("unrolled"))
    assert caught.value.law == laws.CLOSED_FORM


def test_times_epsilon_loses_the_term_by_orders_of_magnitude() -> None:
    planted = quadratic_problem()
    wrong = flat(TimesEpsilon()(planted.problem, planted.alpha).gradients)
    none = flat(AliasedSides()(planted.problem, planted.alpha).gradients)  # without the term
    term = flat(planted.unrolled) - none
    assert float((wrong - none).norm()) < 1e-3 * float(term.norm())
    ours = flat(Unrolled()(planted.problem, planted.alpha).gradients) - none
    assert float((ours - term).norm()) < 1e-9 * float(term.norm())


class Wrapped:
    """First order with one thing wrong."""

    def __init__(self, wrong: Callable[[Problem, Sequence[Tensor], ArchitectureGradient], object]) -> None:
        self.wrong = wrong

    def __call__(self, problem: Problem, alpha: Sequence[Tensor]) -> ArchitectureGradient:
        result = FirstOrder()(problem, alpha)
        changed = self.wrong(problem, alpha, result)
        return changed if isinstance(changed, ArchitectureGradient) else result


def leaves_weights(problem: Problem, alpha: Sequence[Tensor], result: ArchitectureGradient) -> None:
    with torch.no_grad():
        problem.weights[1].add_(1e-12)


def leaves_gradients(problem: Problem, alpha: Sequence[Tensor], result: ArchitectureGradient) -> None:
    problem.valid(problem.draw(alpha)).loss.backward()


def moves_buffers(problem: Problem, alpha: Sequence[Tensor], result: ArchitectureGradient) -> None:
    if problem.buffers:
        problem.buffers[1].add_(1)


def moves_the_global_generator(
    problem: Problem, alpha: Sequence[Tensor], result: ArchitectureGradient
) -> None:
    torch.rand(1)


def moves_velocities(problem: Problem, alpha: Sequence[Tensor], result: ArchitectureGradient) -> None:
    velocity = problem.weight_step.velocities[0]
    assert velocity is not None
    velocity.mul_(0.9)


def returns_logits(problem: Problem, alpha: Sequence[Tensor], result: ArchitectureGradient) -> object:
    return result._replace(gradients=[a.detach() for a in alpha])


def returns_a_graph(problem: Problem, alpha: Sequence[Tensor], result: ArchitectureGradient) -> object:
    return result._replace(gradients=[g * a.sum() for g, a in zip(result.gradients, alpha, strict=True)])


def returns_one_group(problem: Problem, alpha: Sequence[Tensor], result: ArchitectureGradient) -> object:
    return result._replace(gradients=result.gradients[:1])


def evaluates_twice(problem: Problem, alpha: Sequence[Tensor], result: ArchitectureGradient) -> object:
    return FirstOrder()(problem, alpha)


@pytest.mark.parametrize(
    ("wrong", "law"),
    [
        (leaves_weights, laws.PRESERVED),
        (leaves_gradients, laws.PRESERVED),
        (moves_buffers, laws.PRESERVED),
        (moves_the_global_generator, laws.PRESERVED),
        (moves_velocities, laws.PRESERVED),
        (returns_logits, laws.FORM),
        (returns_a_graph, laws.FORM),
        (returns_one_group, laws.FORM),
        (evaluates_twice, laws.EVALUATIONS),
    ],
)
def test_the_contract_catches(wrong: Callable[..., object], law: str) -> None:
    state = torch.get_rng_state()
    try:
        with pytest.raises(BrokenLaw) as caught:
            check_hypergradient(Wrapped(wrong), evaluations=(0, 1))
    finally:
        torch.set_rng_state(state)
    assert caught.value.law == law


class NotRestoredWhenInterrupted:
    """Puts everything back, but not when the objective raises."""

    def __call__(self, problem: Problem, alpha: Sequence[Tensor]) -> ArchitectureGradient:
        state = torch.get_rng_state(), [g.get_state() for g in problem.generators]
        saved = [b.clone() for b in problem.buffers]
        outcome = problem.valid(problem.draw(alpha))
        for b, s in zip(problem.buffers, saved, strict=True):
            b.copy_(s)
        torch.set_rng_state(state[0])
        for g, s in zip(problem.generators, state[1], strict=True):
            g.set_state(s)
        return ArchitectureGradient(gradients(outcome.loss, alpha), outcome)


class SwallowsErrors(FirstOrder):
    def __call__(self, problem: Problem, alpha: Sequence[Tensor]) -> ArchitectureGradient:
        try:
            return super().__call__(problem, alpha)
        except Exception:
            return ArchitectureGradient([torch.zeros_like(a) for a in alpha], None)  # type: ignore[arg-type]


class OtherNoise(FirstOrder):
    """Two evaluations that see different random states."""

    def __call__(self, problem: Problem, alpha: Sequence[Tensor]) -> ArchitectureGradient:
        with torch.random.fork_rng(devices=[]):
            super().__call__(problem, alpha)
            torch.rand(1)
            return super().__call__(problem, alpha)


@pytest.mark.parametrize(
    ("hypergradient", "law"),
    [
        (NotRestoredWhenInterrupted(), laws.PRESERVED),
        (SwallowsErrors(), laws.RAISES),
        (OtherNoise(), laws.SAME_NOISE),
    ],
)
def test_the_contract_catches_what_shows_only_in_bad_weather(hypergradient: FirstOrder, law: str) -> None:
    with pytest.raises(BrokenLaw) as caught:
        check_hypergradient(hypergradient)
    assert caught.value.law == law


class OneSided(BrokenUnrolled):
    """A forward difference: of first order."""

    def __init__(self, epsilon: float) -> None:
        object.__setattr__(self, "epsilon", epsilon)

    def __call__(self, problem: Problem, alpha: Sequence[Tensor]) -> ArchitectureGradient:
        return super().__call__(problem, alpha)

    def sides(self, side: Callable[[float], list[Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
        factor = self.epsilon / 0.01
        plus, middle = side(factor), side(0.0)
        return [2 * p / factor for p in plus], [2 * m / factor for m in middle]


def test_the_contract_catches_a_wrong_order() -> None:
    with pytest.raises(BrokenLaw, match=r"stated 2\.0, measured 1\.0") as caught:
        check_order(OneSided, closed_form=attrgetter("unrolled"))
    assert caught.value.law == laws.ORDER
    assert check_order(OneSided, closed_form=attrgetter("unrolled"), order=1.0) == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("make", [Unrolled, UnrolledExact])
@pytest.mark.parametrize("first_step", [False, True])
def test_the_virtual_step_knows_nesterovs_momentum(first_step: bool, make: type[UnrolledExact]) -> None:
    planted = quadratic_problem(4)
    step = planted.problem.weight_step._replace(nesterov=True)
    if first_step:
        step = step._replace(velocities=[None] * len(step.velocities))
    planted = replace(planted, problem=replace(planted.problem, weight_step=step))
    ours = make()(planted.problem, planted.alpha).gradients
    exact = central_differences(lambda alpha: unrolled_value(planted, alpha), planted.alpha)
    torch.testing.assert_close(flat(ours), exact, rtol=1e-6, atol=1e-8)
