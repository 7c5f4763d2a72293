"""REBAR: the derivative through its noise, its expectation and variance, what it costs and refuses."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from archgrad.choice import Group, Sample
from archgrad.controllers.lstm import LSTM
from archgrad.errors import UserError
from archgrad.hypergradients.rebar import Rebar, noise_given
from archgrad.hypergradients.score_function import ScoreFunction
from archgrad.planted import quadratic_problem
from archgrad.policy import Policy
from archgrad.problem import Outcome, Problem, observe
from archgrad.samplers import SAMPLERS
from archgrad.samplers.gumbel_max import GumbelMax
from archgrad.samplers.gumbel_noise import gumbel_given, gumbel_noise
from archgrad.samplers.gumbel_rao import conditional_gumbel
from archgrad.testing import check_hypergradient
from archgrad.verbs import search_run

GROUPS = (Group(("a", "b"), ("x", "y")), Group(("a", "b", "c"), ("z",)))
POLICY = Policy(GROUPS, GumbelMax())
SEARCHES = 100_000


def flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([t.detach().reshape(-1) for t in tensors])


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def alphas(seed: int = 0) -> list[Tensor]:
    return [normal(2, 2, seed=seed).requires_grad_(), normal(1, 3, seed=seed + 50).requires_grad_()]


def loss(samples: Sequence[Sample]) -> Tensor:
    """Quadratic and cubic in the weights of all choices: [...]."""
    z = torch.cat([s.weights.flatten(-2) for s in samples], dim=-1)
    x, y = z @ normal(7, seed=1), z @ normal(7, seed=2)
    return 1 + x**2 + y**3 - x * y


def objective(samples: Sequence[Sample]) -> Outcome:
    value = loss(samples)
    return Outcome(value, value.detach().mean(), torch.tensor(1), 2)


def never(samples: Sequence[Sample]) -> Outcome:
    raise AssertionError("the training loss is none of its business")


def problem_of(searches: int, seed: int, tau: float) -> tuple[Problem, list[Tensor]]:
    """S searches at the same logits, each with noise of its own; one without a leading dimension if 0."""

    def noise(repeat: int) -> torch.Generator:
        return torch.Generator().manual_seed(seed + repeat)

    def draw(alpha: Sequence[Tensor], repeat: int = 0) -> list[Sample]:
        return POLICY.draw(alpha, tau, noise(repeat))

    shape = (searches,) if searches else ()
    alpha = [a.detach().expand(*shape, *a.shape).clone().requires_grad_() for a in alphas()]
    return Problem(never, objective, draw, policy=POLICY, tau=tau, noise=noise), alpha


def exact() -> Tensor:
    """∇_α E[f(b)] by enumeration of the twelve draws."""
    alpha, total = alphas(), torch.zeros((), dtype=torch.float64)
    for x, y, z in itertools.product(range(2), range(2), range(3)):
        index = [torch.tensor([x, y]), torch.tensor([z])]
        hard = [
            torch.nn.functional.one_hot(i, a.shape[-1]).double() for i, a in zip(index, alpha, strict=True)
        ]
        rows = [(torch.softmax(a, dim=-1) * h).sum(dim=-1) for a, h in zip(alpha, hard, strict=True)]
        total = total + torch.cat(rows).prod() * loss([Sample(h) for h in hard])
    return flat(torch.autograd.grad(total, alpha))


def rows_of(gradient: Sequence[Tensor]) -> Tensor:
    return torch.cat([g.flatten(1) for g in gradient], dim=1)


@pytest.mark.parametrize(("scale", "tau"), [(1.0, 1.0), (1.0, 0.1), (0.5, 0.3), (2.0, 3.0)])
def test_it_is_unbiased_for_every_scale_and_temperature(scale: float, tau: float) -> None:
    """100,000 estimates at a fixed seed against enumeration: within 4.5 standard errors in each of seven."""
    problem, alpha = problem_of(SEARCHES, seed=11, tau=tau)
    rows = rows_of(Rebar(scale)(problem, alpha).gradients)
    error = (rows.mean(dim=0) - exact()) / (rows.std(dim=0) / SEARCHES**0.5)
    assert float(error.abs().max()) < 4.5
    assert float((rows.std(dim=0) / SEARCHES**0.5).max()) < 0.1 * float(exact().abs().max())


def test_it_has_less_variance_than_the_score_function() -> None:
    problem, alpha = problem_of(SEARCHES, seed=3, tau=1.0)
    plain = rows_of(ScoreFunction("none")(problem, alpha).gradients).var(dim=0).sum()
    reduced = rows_of(Rebar()(problem, alpha).gradients).var(dim=0).sum()
    assert float(reduced) < 0.85 * float(plain)


@pytest.mark.parametrize("tau", [0.3, 1.0])
def test_one_evaluation_of_the_relaxation_is_as_good_as_two(tau: float) -> None:
    """The estimator as published, z̃ from noise of its own: variances differ by less than a tenth."""
    problem, alpha = problem_of(SEARCHES, seed=21, tau=tau)
    ours = rows_of(Rebar()(problem, alpha).gradients)
    noise = torch.Generator().manual_seed(22)
    hard, soft, again, log_p = [], [], [], torch.zeros(SEARCHES, dtype=torch.float64)
    for a in alpha:
        perturbed = a + gumbel_noise(a, noise)
        index = perturbed.detach().argmax(dim=-1)
        hard.append(Sample(torch.nn.functional.one_hot(index, a.shape[-1]).double()))
        soft.append(Sample(torch.softmax(perturbed / tau, dim=-1)))
        again.append(Sample(torch.softmax(conditional_gumbel(a, index, 1, noise)[0] / tau, dim=-1)))
        log_p = log_p + torch.log_softmax(a, dim=-1).gather(-1, index.unsqueeze(-1)).sum(dim=(-2, -1))
    total = (loss(hard) - loss(again)).detach() * log_p + loss(soft) - loss(again)
    theirs = rows_of(torch.autograd.grad(total.sum(), alpha))
    error = (theirs.mean(dim=0) - exact()) / (theirs.std(dim=0) / SEARCHES**0.5)
    assert float(error.abs().max()) < 4.5
    assert 0.9 < float(ours.var(dim=0).sum() / theirs.var(dim=0).sum()) < 1.1


def test_the_derivative_at_fixed_noise_equals_finite_differences() -> None:
    """Through Y(α), also of its largest component, which depends on all logits."""
    logits, log_x = normal(5, 4).requires_grad_(), normal(5, 4, seed=1).exp().log1p().log()
    index, v, h = torch.tensor([0, 1, 2, 3, 1]), normal(5, 4, seed=2), 1e-6
    (found,) = torch.autograd.grad((v * gumbel_given(logits, log_x, index)).sum(), logits)
    wanted = torch.zeros_like(logits)
    for i in range(logits.numel()):
        moved = torch.zeros_like(logits)
        moved.view(-1)[i] = h
        sides = [(v * gumbel_given(logits.detach() + sign * moved, log_x, index)).sum() for sign in (1, -1)]
        wanted.view(-1)[i] = (sides[0] - sides[1]) / (2 * h)
    torch.testing.assert_close(found, wanted, rtol=1e-7, atol=1e-8)
    assert bool((found.abs() > 1e-4).all())


def test_given_is_the_conditional_gumbel() -> None:
    """The formula multiplied out, which is how the sampler gumbel_rao draws, too."""
    logits, index = normal(6, 4), torch.tensor([0, 1, 2, 3, 1, 0])
    log_x = -gumbel_noise(logits, torch.Generator().manual_seed(4))
    x, z = log_x.exp(), logits.exp().sum(dim=-1, keepdim=True)
    chosen = index[:, None]
    cut = x.gather(-1, chosen) / z  # exp(−Y_k)
    wanted = (-(x / logits.exp() + cut).log()).scatter(-1, chosen, -cut.log())
    found = gumbel_given(logits, log_x, index)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    assert torch.equal(found.argmax(dim=-1), index)
    drawn = conditional_gumbel(logits, index, 1, torch.Generator().manual_seed(4))
    assert torch.equal(drawn, found[None])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_noise_is_that_of_the_draw(dtype: torch.dtype) -> None:
    logits = (5 * normal(20_000, 5)).to(dtype)
    perturbed = logits + gumbel_noise(logits, torch.Generator().manual_seed(0))
    index = perturbed.argmax(dim=-1)
    log_x = noise_given(logits, perturbed, index)
    assert bool(log_x.isfinite().all())
    close = {"rtol": 1e-9, "atol": 1e-9} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(gumbel_given(logits, log_x, index), perturbed, **close)


def test_the_noise_does_not_depend_on_the_draw() -> None:
    """Whatever the draw, X are standard exponentials: mean, variance and products within 4.5 errors."""
    logits = 0.5 * normal(3).expand(300_000, 3)
    perturbed = logits + gumbel_noise(logits, torch.Generator().manual_seed(1))
    index = perturbed.argmax(dim=-1)
    x = noise_given(logits, perturbed, index).exp()
    for k in range(3):
        rows = x[index == k]
        assert len(rows) > 10_000
        pairs = (rows[:, [0, 0, 1]] - 1) * (rows[:, [1, 2, 2]] - 1)
        for values, mean in ((rows, 1.0), (rows.square(), 2.0), (rows**3, 6.0), (pairs, 0.0)):
            error = (values.mean(dim=0) - mean) / (values.std(dim=0) / len(rows) ** 0.5)
            assert float(error.abs().max()) < 4.5


def test_a_tie_has_a_finite_gradient() -> None:
    logits, perturbed = torch.zeros(1, 3), torch.tensor([[1.0, 1.0, 0.0]])
    log_x = noise_given(logits, perturbed, torch.tensor([0]))
    assert bool(log_x.isfinite().all())


@pytest.mark.parametrize("tau", [0.7])
def test_one_search_is_as_one_of_a_batch(tau: float) -> None:
    problem, alpha = problem_of(1, seed=9, tau=tau)
    together = Rebar(0.8)(problem, alpha)
    problem, alpha = problem_of(0, seed=9, tau=tau)
    alone = Rebar(0.8)(problem, alpha)
    torch.testing.assert_close(flat(alone.gradients), flat(together.gradients), rtol=1e-12, atol=1e-13)
    assert together.outcome.loss.shape == (1,)
    assert alone.outcome.loss.shape == ()


def test_it_evaluates_the_draw_and_its_relaxation() -> None:
    """The draw is the sampler's at the same noise, hard and without a graph; the outcome is the draw's."""
    problem, alpha = problem_of(0, seed=2, tau=0.5)
    seen: list[tuple[bool, list[Sample]]] = []

    def watched(samples: Sequence[Sample]) -> Outcome:
        seen.append((torch.is_grad_enabled(), list(samples)))
        return objective(samples)

    outcome = Rebar()(replace(problem, valid=watched), alpha).outcome
    (hard_graph, hard), (soft_graph, soft) = seen
    assert (hard_graph, soft_graph) == (False, True)
    for one, wanted, mixed in zip(hard, problem.draw(alpha), soft, strict=True):
        assert torch.equal(one.weights, wanted.weights)
        assert one.one_hot
        assert one.active == wanted.active
        assert torch.equal(mixed.weights.argmax(dim=-1), wanted.weights.argmax(dim=-1))
        assert mixed.active is None
    assert float(outcome.loss) == float(observe(problem, objective, hard).loss)


def test_the_contract() -> None:
    for seed in range(2):
        check_hypergradient(Rebar(0.5), evaluations=(0, 2), backward=(1, 0), seed=seed)


def test_a_loss_that_is_not_finite_shows_in_the_gradient() -> None:
    planted = quadratic_problem(one_hot=True)

    def diverged(samples: Sequence[Sample]) -> Outcome:
        outcome = planted.problem.valid(samples)
        return outcome._replace(loss=outcome.loss * float("nan"))

    found = Rebar()(replace(planted.problem, valid=diverged), planted.alpha).gradients
    assert flat(found).isnan().all()


OTHERS = [name for name in SAMPLERS if not getattr(SAMPLERS[name], "draws_from_softmax", False)]


def test_samplers_that_only_look_alike_are_among_the_others() -> None:
    """The second of a pair, a soft draw, a tempered one: each has a log_prob."""
    assert {"two_path", "gumbel_softmax", "decoupled_straight_through"} < set(OTHERS)


@pytest.mark.parametrize("name", OTHERS)
def test_samplers_that_draw_otherwise_are_refused(name: str) -> None:
    problem, alpha = problem_of(0, seed=0, tau=1.0)
    with pytest.raises(UserError, match=r"set sampler\.name to gumbel_max"):
        Rebar()(replace(problem, policy=Policy(GROUPS, SAMPLERS[name]()), valid=never), alpha)


def test_dependent_choices_and_a_missing_policy_are_refused() -> None:
    problem, alpha = problem_of(0, seed=0, tau=1.0)
    with pytest.raises(UserError, match=r"LSTM makes choices depend.*controller\.name to independent"):
        Rebar()(replace(problem, policy=Policy(GROUPS, GumbelMax(), LSTM())), alpha)
    for missing in ({"policy": None}, {"noise": None}):
        with pytest.raises(UserError, match="no policy, or no noise"):
            Rebar()(replace(problem, **missing), alpha)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_wrong_scales_are_refused(scale: float) -> None:
    with pytest.raises(UserError, match="scale is a finite number above 0"):
        Rebar(scale)


def test_a_search_by_it(tiny: Any, few_digits: Any, tmp_path: Any) -> None:
    """On a network, from a configuration, with a sampler that has a temperature."""
    config = tiny(sampler={"name": "straight_through"}, hypergradient={"name": "rebar", "scale": 0.5})
    run = search_run(config, tmp_path / "run", data=few_digits)
    assert (run.folder / "best.json").exists()
