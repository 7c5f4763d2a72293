"""The three forms of an expected cost: against enumeration, finite differences and many draws."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from archgrad.architecture import Architecture
from archgrad.choice import Group, Sample
from archgrad.costs.cost_table import CostTable
from archgrad.costs.forms import expectation, expectation_gap, sampled, score
from archgrad.costs.nested import Nested
from archgrad.errors import UserError
from archgrad.policy import Policy
from archgrad.samplers import SAMPLERS
from archgrad.samplers.sampler import Sampler

DOUBLE = torch.float64
GROUPS = (Group(("a", "b", "c"), ("x", "y")), Group(("p", "q"), ("z",)))
SIZES = (3, 3, 2)
EVERY: dict[str, Sampler] = {name: SAMPLERS[name]() for name in SAMPLERS}
NO_GRADIENT = {"gumbel_max", "uniform"}
REPARAMETERISED = ("softmax", "gumbel_softmax", "noisy_gumbel_softmax", "sigmoid", "binary_concrete")
DISCRETE = [n for n, s in EVERY.items() if hasattr(s, "log_prob") and n != "gumbel_softmax"]
TAU = 0.7


def table(nested: bool = True) -> CostTable:
    rows = torch.tensor([[0.0, 3.0, 10.0], [5.0, 2.0, 1.0]], dtype=DOUBLE)
    joint = Nested(("x", "z"), torch.tensor([[0.0, 7.0], [4.0, 0.0], [1.0, 2.0]], dtype=DOUBLE))
    return CostTable(
        "macs",
        "MACs",
        8.0,
        GROUPS,
        (rows, torch.tensor([[6.0, 0.0]], dtype=DOUBLE)),
        nested=(joint,) if nested else (),
    )


def logits(seed: int = 0, draws: int | None = None) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(len(g.names), len(g.candidates)) for g in GROUPS]
    leaves = [torch.randn(shape, generator=generator, dtype=DOUBLE) for shape in shapes]
    return [(a if draws is None else a.expand(draws, *a.shape).clone()).requires_grad_() for a in leaves]


def every() -> list[tuple[Architecture, list[Sample]]]:
    """All 18 architectures, and the draw that each of them is."""
    found = []
    for x, y, z in itertools.product(*(range(n) for n in SIZES)):
        rows = [torch.tensor([x, y]), torch.tensor([z])]
        weights = [torch.nn.functional.one_hot(k, n).double() for k, n in zip(rows, (3, 2), strict=True)]
        named = Architecture({"x": "abc"[x], "y": "abc"[y], "z": "pq"[z]})
        found.append((named, [Sample(w) for w in weights]))
    return found


def differences(f: object, leaves: list[Tensor], step: float = 1e-6) -> list[Tensor]:
    """Central finite differences of f(leaves) in every number."""
    found = []
    for leaf in leaves:
        slope = torch.zeros_like(leaf)
        for at in itertools.product(*(range(n) for n in leaf.shape)):
            values = []
            for sign in (1, -1):
                with torch.no_grad():
                    leaf[at] += sign * step
                    values.append(float(f(leaves)))  # type: ignore[operator]
                    leaf[at] -= sign * step
            slope[at] = (values[0] - values[1]) / (2 * step)
        found.append(slope)
    return found


# --- expectation


def test_the_expectation_is_the_mean_over_all_architectures() -> None:
    theta, policy = logits(), Policy(GROUPS, EVERY["gumbel_max"])
    p = [row for a in theta for row in a.softmax(-1)]
    mean = sum(
        p[0]["abc".index(a["x"])] * p[1]["abc".index(a["y"])] * p[2]["pq".index(a["z"])] * table().of(a)
        for a, _ in every()
    )
    found = expectation(table(), policy.probabilities(theta))
    assert isinstance(mean, Tensor)
    torch.testing.assert_close(found, mean)
    ours, theirs = torch.autograd.grad(found, theta), torch.autograd.grad(mean, theta)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("nested", [True, False])
def test_the_gradient_of_the_expectation_is_that_of_finite_differences(nested: bool) -> None:
    theta, costs = logits(1), table(nested)

    def f(leaves: list[Tensor]) -> Tensor:
        return expectation(costs, [a.softmax(-1) for a in leaves])

    gradients = torch.autograd.grad(f(theta), theta)
    assert all(bool((g != 0).all()) for g in gradients)
    for found, wanted in zip(gradients, differences(f, theta), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-8)


# --- the sampled form, through every sampler


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_sampled_cost_has_a_gradient_through_every_sampler_that_has_one(name: str) -> None:
    theta, policy = logits(2), Policy(GROUPS, EVERY[name])
    generator = torch.Generator().manual_seed(0)
    total = [torch.zeros_like(a) for a in theta]
    for _ in range(40):
        cost = sampled(table(), [s.weights for s in policy.draw(theta, TAU, generator)])
        assert cost.requires_grad == (name not in NO_GRADIENT)
        if name in NO_GRADIENT:
            return
        total = [t + g.abs() for t, g in zip(total, torch.autograd.grad(cost, theta), strict=True)]
    assert all(bool((t > 0).all()) for t in total)


@pytest.mark.parametrize("name", REPARAMETERISED)
@pytest.mark.parametrize("seed", range(3))
def test_at_fixed_noise_the_gradient_is_that_of_finite_differences(name: str, seed: int) -> None:
    theta, policy = logits(3), Policy(GROUPS, EVERY[name])

    def f(leaves: list[Tensor]) -> Tensor:
        draws = policy.draw(leaves, TAU, torch.Generator().manual_seed(seed))
        return sampled(table(), [s.weights for s in draws])

    gradients = torch.autograd.grad(f(theta), theta)
    for found, wanted in zip(gradients, differences(f, theta), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["score_gate", "decoupled_straight_through", "reinmax", "dirichlet"])
def test_the_sampled_form_is_unbiased_where_a_sampler_is_for_sums(name: str) -> None:
    """τ = 1, no nested choices: the mean gradient of 20,000 draws within five standard errors."""
    costs, sampler = table(nested=False), EVERY[name]
    draws = 20_000
    theta, policy = logits(4, draws), Policy(GROUPS, sampler)
    one = [a[0].detach().requires_grad_() for a in theta]
    wanted = torch.autograd.grad(expectation(costs, policy.probabilities(one)), one)
    drawn = policy.draw(theta, 1.0, torch.Generator().manual_seed(5))
    gradients = torch.autograd.grad(sampled(costs, [s.weights for s in drawn]).sum(), theta)
    for found, exact in zip(gradients, wanted, strict=True):
        error = found.std(dim=0) / draws**0.5
        assert bool(((found.mean(dim=0) - exact).abs() <= 5 * error + 1e-4 * exact.abs()).all())


# --- the score function


@pytest.mark.parametrize("baseline", [0.0, 17.0])
@pytest.mark.parametrize("name", DISCRETE)
def test_the_score_function_is_unbiased_by_enumeration(name: str, baseline: float) -> None:
    assert len(DISCRETE) == 7
    theta, policy = logits(6), Policy(GROUPS, EVERY[name])
    mean = [torch.zeros_like(a) for a in theta]
    total, cost = torch.zeros((), dtype=DOUBLE), torch.zeros((), dtype=DOUBLE)
    for architecture, draw in every():
        log_p = policy.log_prob(theta, TAU, draw)
        surrogate = score(table(), [s.weights for s in draw], log_p, baseline)
        gradients = torch.autograd.grad(surrogate, theta, retain_graph=True)
        mean = [m + log_p.exp().detach() * g for m, g in zip(mean, gradients, strict=True)]
        total = total + log_p.exp()
        cost = cost + log_p.exp() * table().of(architecture)
    assert float(total.detach()) == pytest.approx(1.0)
    for found, wanted in zip(mean, torch.autograd.grad(cost, theta), strict=True):
        torch.testing.assert_close(found, wanted)


def test_the_score_function_of_a_density_is_unbiased() -> None:
    """SNAS' own case, points of the simplex: as the reparameterised gradient, in the mean of 40,000 draws."""
    draws = 40_000
    theta, policy = logits(7, draws), Policy(GROUPS, EVERY["gumbel_softmax"])
    drawn = policy.draw(theta, 1.0, torch.Generator().manual_seed(8))
    weights = [s.weights for s in drawn]
    through = torch.autograd.grad(sampled(table(), weights).sum(), theta, retain_graph=True)
    mean = float(sampled(table(), weights).detach().mean())
    surrogate = score(table(), weights, policy.log_prob(theta, 1.0, drawn), mean)
    by_score = torch.autograd.grad(surrogate.sum(), theta)
    for one, other in zip(through, by_score, strict=True):
        error = (one.var(dim=0) + other.var(dim=0)).sqrt() / draws**0.5
        assert bool(((one.mean(dim=0) - other.mean(dim=0)).abs() <= 5 * error).all())
        assert bool((one.mean(dim=0).abs() > 5 * error).any())


def test_nothing_of_the_score_function_goes_through_the_weights() -> None:
    theta, policy = logits(9), Policy(GROUPS, EVERY["straight_through"])
    drawn = policy.draw(theta, TAU, torch.Generator().manual_seed(0))
    log_p = policy.log_prob(theta, TAU, drawn)
    surrogate = score(table(), [s.weights for s in drawn], log_p)
    found = torch.autograd.grad(surrogate, theta, retain_graph=True)
    cost = float(sampled(table(), [s.weights for s in drawn]).detach())
    torch.testing.assert_close(found, tuple(cost * g for g in torch.autograd.grad(log_p, theta)))


def test_a_score_function_without_a_probability_is_refused() -> None:
    weights = [s.weights for s in every()[0][1]]
    with pytest.raises(UserError, match="without one"):
        score(table(), weights, torch.zeros(()))
    with pytest.raises(UserError, match=r"of shape \(\) with a gradient, got \(3,\)"):
        score(table(), weights, torch.zeros(3, requires_grad=True))


# --- the gap


def test_the_gap_between_expectation_and_derived_network() -> None:
    p = [a.softmax(-1) for a in logits()]
    derived = Architecture({"x": "a", "y": "b", "z": "p"})
    gap = expectation_gap(table(), p, derived, live=12.0)
    assert gap.expected == float(table().expected(p).detach())
    assert (gap.derived, gap.live) == (8 + 0 + 2 + 6 + 0, 12.0)
    assert gap.difference == gap.derived - gap.expected
    assert gap.relative == pytest.approx(gap.derived / gap.expected - 1)
    sure = every()[5]
    certain = expectation_gap(table(), [s.weights for s in sure[1]], sure[0])
    assert (certain.difference, certain.relative) == (0.0, 0.0)
    nothing = CostTable("macs", "MACs", 0.0, GROUPS, tuple(torch.zeros_like(c) for c in table().groups))
    assert expectation_gap(nothing, p, derived).relative is None
