"""The score function: its exact expectation by enumeration, its variance, what it costs and refuses."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from archgrad.choice import Group, Sample
from archgrad.controllers.lstm import LSTM
from archgrad.errors import UserError
from archgrad.hypergradients.score_function import ScoreFunction
from archgrad.planted import exponential_problem, quadratic_problem
from archgrad.policy import Policy
from archgrad.problem import Outcome, Problem, gradients
from archgrad.samplers.gumbel_max import GumbelMax
from archgrad.samplers.softmax import Softmax
from archgrad.samplers.straight_through import StraightThrough
from archgrad.testing import check_hypergradient
from archgrad.verbs import search_run

GROUPS = (Group(("a", "b"), ("x", "y")), Group(("a", "b", "c"), ("z",)))
INDEPENDENT = Policy(GROUPS, GumbelMax())
SMALL_LSTM = Policy(GROUPS, GumbelMax(), LSTM(hidden=3, layers=1, temperature=1.0))
POLICIES = {"independent": INDEPENDENT, "lstm": SMALL_LSTM}


def flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([t.detach().reshape(-1) for t in tensors])


def theta_of(policy: Policy, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in policy.controller.shapes(policy.groups)
    ]


def architectures(groups: Sequence[Group]) -> Iterator[list[Sample]]:
    """Every architecture as one-hot samples."""
    sizes = [len(g.candidates) for g in groups for _ in g.names]
    for chosen in itertools.product(*map(range, sizes)):
        index, samples = iter(chosen), []
        for group in groups:
            rows = torch.tensor([next(index) for _ in group.names])
            weights = torch.nn.functional.one_hot(rows, len(group.candidates)).double()
            samples.append(Sample(weights, tuple((k,) for k in rows.tolist()), one_hot=True))
        yield samples


def loss_of(samples: Sequence[Sample]) -> Tensor:
    """A number [...] for every architecture, without structure: sin of its position in a mixed radix."""
    rows = torch.cat([s.weights.argmax(dim=-1) for s in samples], dim=-1)
    position = rows.double() @ torch.tensor([1.0, 3.0, 9.0], dtype=torch.float64)
    return 2 + torch.sin(7.3 * position)


def objective(samples: Sequence[Sample]) -> Outcome:
    loss = loss_of(samples)
    return Outcome(loss, loss.mean(), torch.tensor(3), 5)


def never(samples: Sequence[Sample]) -> Outcome:
    raise AssertionError("the training loss is none of a score function's business")


def problem_at(policy: Policy, draws: Sequence[Sequence[Sample]] = (), **more: Any) -> Problem:
    """A problem that draws what it is told."""
    return Problem(never, objective, lambda alpha, repeat=0: list(draws[repeat]), policy=policy, **more)


def expectation(policy: Policy, theta: Sequence[Tensor], bonus: float = 0.0) -> Tensor:
    """Σ_z p(z) (L(z) + bonus · log p(z)), differentiable in θ: by the chain rule the entropy is −E[log p]."""
    total = torch.zeros((), dtype=torch.float64)
    for samples in architectures(policy.groups):
        log_p = policy.log_prob(theta, 1.0, samples)
        total = total + log_p.exp() * (loss_of(samples) + bonus * log_p)
    return total


def mean_estimate(
    estimator: ScoreFunction, policy: Policy, theta: Sequence[Tensor], memory: Sequence[Tensor] = ()
) -> Tensor:
    """The estimate of every tuple of draws, weighted by the tuple's probability."""
    total = torch.zeros_like(flat(theta))
    everything = list(architectures(policy.groups))
    with torch.no_grad():
        probability = [float(policy.log_prob(theta, 1.0, z).exp()) for z in everything]
    assert sum(probability) == pytest.approx(1, abs=1e-12)
    for index in itertools.product(range(len(everything)), repeat=estimator.samples):
        weight = 1.0
        for i in index:
            weight *= probability[i]
        given = problem_at(policy, [everything[i] for i in index], memory=memory)
        total += weight * flat(estimator(given, theta).gradients)
    return total


MEMORY = (torch.tensor(-1.7, dtype=torch.float64),)
ESTIMATORS = {
    "none": ScoreFunction("none"),
    "none of two": ScoreFunction("none", samples=2),
    "moving average": ScoreFunction("moving_average"),
    "leave one out": ScoreFunction("leave_one_out", samples=2),
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("bonus", [0.0, 0.3])
def test_the_expectation_is_the_gradient_of_the_expected_loss(name: str, policy: str, bonus: float) -> None:
    """Exactly, by enumeration of all architectures and, for two draws, of all pairs."""
    parts = POLICIES[policy]
    theta = theta_of(parts)
    found = mean_estimate(replace(ESTIMATORS[name], entropy_bonus=bonus), parts, theta, MEMORY)
    wanted = gradients(expectation(parts, theta, bonus), theta)
    torch.testing.assert_close(found, flat(wanted), rtol=1e-10, atol=1e-12)
    assert float(found.norm()) > 0.05


def test_with_an_lstm_it_equals_finite_differences_over_its_parameters() -> None:
    theta = theta_of(SMALL_LSTM, seed=3)
    found, step, wanted = mean_estimate(ScoreFunction("none"), SMALL_LSTM, theta), 1e-5, []
    with torch.no_grad():
        for tensor in theta:
            for i in range(tensor.numel()):
                sides = []
                for sign in (1, -1):
                    tensor.view(-1)[i] += sign * step
                    sides.append(float(expectation(SMALL_LSTM, theta)))
                    tensor.view(-1)[i] -= sign * step
                wanted.append((sides[0] - sides[1]) / (2 * step))
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("samples", [1, 2])
def test_the_first_step_of_a_moving_average_is_scaled_as_stated(samples: int) -> None:
    theta = theta_of(INDEPENDENT)
    found = mean_estimate(ScoreFunction(samples=samples), INDEPENDENT, theta)
    whole = flat(torch.autograd.grad(expectation(INDEPENDENT, theta), theta))
    torch.testing.assert_close(found, (1 - 1 / samples) * whole, rtol=1e-10, atol=1e-12)


def test_the_moving_average() -> None:
    """Its memory: the mean reward at first, then moved by 1 − decay towards each step's mean reward."""
    first, second, third = list(architectures(GROUPS))[:3]
    theta = theta_of(INDEPENDENT)
    rewards = [-float(loss_of(z)) for z in (first, second, third)]
    result = ScoreFunction(samples=2, decay=0.8)(problem_at(INDEPENDENT, [first, second]), theta)
    (memory,) = result.memory
    assert float(memory) == pytest.approx((rewards[0] + rewards[1]) / 2)
    for decay, kept in ((0.8, 0.8), (None, 0.99)):
        given = problem_at(INDEPENDENT, [third], memory=result.memory)
        later = ScoreFunction(decay=decay)(given, theta)
        assert float(later.memory[0]) == pytest.approx(kept * float(memory) + (1 - kept) * rewards[2])
        log_p = INDEPENDENT.log_prob(theta, 1.0, third)
        wanted = torch.autograd.grad(-(rewards[2] - float(memory)) * log_p, theta)
        torch.testing.assert_close(flat(later.gradients), flat(wanted))  # the average before this step
    for estimator in (ScoreFunction("none"), ScoreFunction("leave_one_out", samples=2)):
        assert estimator(problem_at(INDEPENDENT, [first, second]), theta).memory == ()


@pytest.mark.parametrize("make", [quadratic_problem, exponential_problem])
def test_the_planted_expectation_is_that_of_all_draws(make: Callable[..., Any]) -> None:
    planted = make(2, one_hot=True)
    policy = planted.problem.policy
    total, mean = torch.zeros((), dtype=torch.float64), torch.zeros_like(flat(planted.alpha))
    for samples in architectures(policy.groups):
        probability = policy.log_prob(planted.alpha, 1.0, samples).exp()
        total = total + probability * planted.problem.valid(samples).loss.detach()
        given = replace(planted.problem, draw=lambda alpha, repeat=0, samples=samples: samples)
        mean += probability.detach() * flat(ScoreFunction("none")(given, planted.alpha).gradients)
    wanted = torch.autograd.grad(total, planted.alpha)
    torch.testing.assert_close(flat(planted.expected), flat(wanted), rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(mean, flat(planted.expected), rtol=1e-10, atol=1e-11)


def drawing(searches: int, seed: int) -> tuple[Problem, list[Tensor]]:
    """S searches at the same logits, each with draws of its own."""
    theta = [t.detach().expand(searches, *t.shape).clone().requires_grad_() for t in theta_of(INDEPENDENT)]

    def draw(alpha: Sequence[Tensor], repeat: int = 0) -> list[Sample]:
        return INDEPENDENT.draw(alpha, 1.0, torch.Generator().manual_seed(seed + repeat))

    return Problem(never, objective, draw, policy=INDEPENDENT), theta


def test_leave_one_out_has_less_variance_and_the_same_mean() -> None:
    """20,000 searches at once, two draws each, at a fixed seed: means within five standard errors."""
    problem, theta = drawing(20_000, seed=1)
    wanted = flat(torch.autograd.grad(expectation(INDEPENDENT, one := theta_of(INDEPENDENT)), one))
    variance = {}
    for baseline in ("none", "leave_one_out"):
        found = ScoreFunction(baseline, samples=2)(problem, theta).gradients
        rows = torch.cat([g.flatten(1) for g in found], dim=1)
        error = (rows.mean(dim=0) - wanted) / (rows.std(dim=0) / len(rows) ** 0.5)
        assert float(error.abs().max()) < 5
        variance[baseline] = float(rows.var(dim=0).sum())
    assert variance["leave_one_out"] < 0.5 * variance["none"]


@pytest.mark.parametrize("name", [*ESTIMATORS, "first step"])
def test_a_batch_of_searches_is_as_one_search_each(name: str) -> None:
    estimator = replace(ESTIMATORS.get(name, ScoreFunction()), entropy_bonus=0.2)
    problem, theta = drawing(4, seed=5)
    memory = () if name != "moving average" else (torch.tensor([1.0, -2.0, 0.5, 0.0], dtype=torch.float64),)
    draws = [problem.draw(theta, repeat) for repeat in range(estimator.samples)]
    together = estimator(replace(problem, memory=memory), theta)
    assert together.outcome.loss.shape == (4,)
    assert together.outcome.task_loss.shape == ()
    for s in range(4):
        own = [[Sample(z.weights[s]) for z in samples] for samples in draws]
        alone = estimator(
            problem_at(INDEPENDENT, own, memory=[m[s] for m in memory]),
            [t[s].detach().requires_grad_() for t in theta],
        )
        torch.testing.assert_close(flat(alone.gradients), flat([g[s] for g in together.gradients]))
        for one, every in zip(alone.memory, together.memory, strict=True):
            torch.testing.assert_close(one, every[s])


def test_the_outcome_is_of_all_draws() -> None:
    first, second = list(architectures(GROUPS))[4:6]
    outcome = ScoreFunction(samples=2)(
        problem_at(INDEPENDENT, [first, second]), theta_of(INDEPENDENT)
    ).outcome
    assert float(outcome.loss) == pytest.approx(float(loss_of(first) + loss_of(second)) / 2)
    assert float(outcome.task_loss) == pytest.approx(float(outcome.loss))
    assert (int(outcome.correct), outcome.images) == (6, 10)


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("baseline", ["none", "moving_average", "leave_one_out"])
def test_it_costs_forward_passes_only(baseline: Any, samples: int) -> None:
    if baseline != "leave_one_out" or samples > 1:
        check_hypergradient(ScoreFunction(baseline, samples), evaluations=(0, samples), backward=(0, 0))


def test_the_objective_sees_no_graph_whatever_the_sampler() -> None:
    policy = Policy(GROUPS, StraightThrough())
    theta = theta_of(policy)

    def watched(samples: Sequence[Sample]) -> Outcome:
        assert not torch.is_grad_enabled()
        assert not any(s.weights.requires_grad for s in samples)
        return objective(samples)

    def draw(alpha: Sequence[Tensor], repeat: int = 0) -> list[Sample]:
        return policy.draw(alpha, 1.0, torch.Generator().manual_seed(repeat))

    problem = Problem(never, watched, draw, policy=policy)
    assert float(flat(ScoreFunction("none")(problem, theta).gradients).norm()) > 0


def test_a_loss_that_is_not_finite_shows_in_the_gradient() -> None:
    first = next(architectures(GROUPS))

    def diverged(samples: Sequence[Sample]) -> Outcome:
        loss = torch.tensor(float("nan"), dtype=torch.float64)
        return Outcome(loss, loss, torch.tensor(0), 1)

    given = replace(problem_at(INDEPENDENT, [first]), valid=diverged)
    assert flat(ScoreFunction("none")(given, theta_of(INDEPENDENT)).gradients).isnan().all()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"baseline": "mean"}, "baseline is one of none, moving_average, leave_one_out, got 'mean'"),
        ({"samples": 0}, "samples is a whole number from 1, got 0"),
        ({"samples": True}, "samples is a whole number"),
        ({"samples": 1.5}, "samples is a whole number"),
        ({"baseline": "leave_one_out"}, "set samples to 2"),
        ({"baseline": "none", "decay": 0.9}, "leave decay out"),
        ({"decay": 1.0}, "decay is a number between 0 and 1, got 1.0"),
        ({"decay": 0.0}, "decay is a number between 0 and 1"),
        ({"decay": float("nan")}, "decay is a number between 0 and 1"),
        ({"entropy_bonus": -1.0}, "decisiveness_penalty"),
        ({"entropy_bonus": float("inf")}, "entropy_bonus is a finite number"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        ScoreFunction(**settings)


def test_a_policy_that_does_not_know_its_draws_is_refused_before_anything_runs() -> None:
    first = next(architectures(GROUPS))
    for policy, text in ((None, "no policy"), (Policy(GROUPS, Softmax()), "use gumbel_max")):
        given = replace(problem_at(INDEPENDENT, [first]), policy=policy, valid=never)
        with pytest.raises(UserError, match=text):
            ScoreFunction()(given, theta_of(INDEPENDENT))


def test_a_search_by_it(tiny: Any, few_digits: Any, tmp_path: Any) -> None:
    """As part of a method, from a configuration."""
    config = tiny(
        sampler={"name": "gumbel_max"},
        hypergradient={"name": "score_function", "samples": 2, "entropy_bonus": 0.01},
    )
    run = search_run(config, tmp_path / "run", data=few_digits)
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    for line in lines:
        assert line["alpha_gradient_norm"] > 0
        assert 0 < line["valid_accuracy"] < 1  # of both draws' images together
        assert line["skipped_steps"] == 0
    assert lines[1]["probabilities"] != lines[0]["probabilities"]
