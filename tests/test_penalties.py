"""The forms of the penalty on a cost: by hand, through every sampler, the reward by enumeration."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from archgrad.choice import Group, Sample, supernet
from archgrad.costs.cost_table import CostTable, cost_table
from archgrad.costs.nested import Nested, moments
from archgrad.errors import UserError
from archgrad.hypergradients.rebar import Rebar
from archgrad.hypergradients.score_function import ScoreFunction
from archgrad.landscapes.cost import LandscapeCost
from archgrad.landscapes.multilinear import MultilinearLandscape
from archgrad.landscapes.task import LandscapeObjective, shares
from archgrad.objectives import NetworkObjective
from archgrad.penalties import PENALTIES
from archgrad.penalties.fbnet import FBNet
from archgrad.penalties.linear import Linear
from archgrad.penalties.logarithmic import Logarithmic
from archgrad.penalties.mnasnet import MnasNet
from archgrad.penalties.penalty import STRENGTHS, Penalty, PricedCost, nats, settings_of
from archgrad.penalties.proxyless import Proxyless
from archgrad.policy import Policy
from archgrad.problem import Problem
from archgrad.samplers import SAMPLERS
from archgrad.samplers.sampler import law_of
from archgrad.spaces.nasbench201 import NasBench201Network

DOUBLE = torch.float64
SETTINGS: dict[str, dict[str, Any]] = {
    "linear": {"strength": 0.3},
    "logarithmic": {"strength": 0.3},
    "mnasnet": {"target": 12.0, "alpha": -0.2, "beta": -0.9},
    "fbnet": {},
    "proxyless": {"target": 12.0},
}
SLOPED = [form for form in PENALTIES if not getattr(PENALTIES[form], "reward", False)]
NO_GRADIENT = {"gumbel_max", "uniform"}
TAU = 0.7


def table(scale: float = 1.0, nested: bool = False) -> CostTable:
    joint = Nested(("a", "c"), torch.tensor([[0.0, 7.0], [4.0, 1.0]], dtype=DOUBLE) * scale)
    return CostTable(
        name="macs",
        unit="MACs",
        fixed=10.0 * scale,
        choices=(Group(("x", "y"), ("a", "b")), Group(("z", "w"), ("c",))),
        groups=(
            torch.tensor([[0.0, 30.0], [5.0, 20.0]], dtype=DOUBLE) * scale,
            torch.tensor([[40.0, 3.0]], dtype=DOUBLE) * scale,
        ),
        nested=(joint,) if nested else (),
    )


def cubes() -> tuple[MultilinearLandscape, LandscapeCost]:
    """Losses in (0, 1) and costs in (4, 25) of three choices with three candidates; neither is a sum."""
    generator = torch.Generator().manual_seed(0)
    loss = 0.1 + 0.8 * torch.rand(3, 3, 3, generator=generator, dtype=DOUBLE)
    cost = 4 + 21 * torch.rand(3, 3, 3, generator=generator, dtype=DOUBLE)
    return MultilinearLandscape(loss), LandscapeCost("macs", "MACs", MultilinearLandscape(cost))


def made(form: str, cost: PricedCost) -> Penalty:
    penalty: Penalty = PENALTIES[form](cost, **SETTINGS[form])
    return penalty


def by_hand(form: str, cost: PricedCost, loss: float, accuracy: float, c: float) -> float:
    """The formulas of docs/gradients.md, section 20, in numbers."""
    mean, deviation = cost.moments()
    target = SETTINGS[form].get("target", math.nan)
    return {
        "linear": lambda: loss + 0.3 * (c - mean) / deviation,
        "logarithmic": lambda: loss + 0.3 * mean / deviation * math.log(c / mean),
        "mnasnet": lambda: -accuracy * (c / target) ** (-0.2 if c <= target else -0.9),
        "fbnet": lambda: loss * 0.2 * math.log(c) ** 0.6,
        "proxyless": lambda: loss * 0.2 * (math.log(c) / math.log(target)) ** 0.3,
    }[form]()


def slopes(f: Callable[[Tensor], Tensor], at: Tensor, step: float = 1e-6) -> Tensor:
    """Central finite differences of a scalar function."""
    found = torch.zeros_like(at)
    for place in itertools.product(*(range(n) for n in at.shape)):
        shift = torch.zeros_like(at)
        shift[place] = step
        with torch.no_grad():
            found[place] = (f(at + shift) - f(at - shift)) / (2 * step)
    return found


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- the spread of a cost over a space


@pytest.mark.parametrize("nested", [False, True])
def test_the_moments_are_those_of_all_architectures(nested: bool) -> None:
    costs = table(nested=nested)
    values = []
    for x, y, z in itertools.product(range(2), repeat=3):
        hot = [torch.eye(2, dtype=DOUBLE)[[x, y]], torch.eye(2, dtype=DOUBLE)[[z]]]
        values.append(costs.expected(hot))
    every = torch.stack(values)
    assert costs.moments() == pytest.approx((float(every.mean()), float(every.std(correction=0))))


def test_terms_that_share_choices_vary_together() -> None:
    """Three choices, of which each pair and all together have a cost, against enumeration."""
    generator = seeded(3)
    sizes = {"a": 2, "b": 3, "c": 4}
    rows = {n: torch.rand(k, generator=generator, dtype=DOUBLE) for n, k in sizes.items()}
    joint = [
        Nested(names, torch.rand([sizes[n] for n in names], generator=generator, dtype=DOUBLE))
        for names in (("a", "b"), ("c", "b"), ("a", "c"), ("c", "a", "b"))
    ]
    total = torch.zeros(2, 3, 4, dtype=DOUBLE)
    for a, b, c in itertools.product(range(2), range(3), range(4)):
        at = {"a": a, "b": b, "c": c}
        total[a, b, c] = sum(rows[n][at[n]] for n in sizes)
        total[a, b, c] += sum(t.costs[tuple(at[n] for n in t.names)] for t in joint)
    wanted = (float(total.mean()), float(total.std(correction=0)))
    assert moments(rows, joint) == pytest.approx(wanted, rel=1e-12)


def test_the_moments_of_a_landscape_are_those_of_its_table() -> None:
    _, cost = cubes()
    every = cost.table.table
    assert cost.moments() == pytest.approx((float(every.mean()), float(every.std(correction=0))))


def test_the_moments_of_a_space_are_those_of_its_networks() -> None:
    """NAS-Bench-201's published multiply-adds differ from ours by a constant, the classifier's bias."""
    from archgrad.landscapes.cost import nasbench201_cost

    ours = cost_table("macs", NasBench201Network, (3, 32, 32), 10).moments()
    theirs = nasbench201_cost("flops_cifar10").moments()
    assert ours[1] == pytest.approx(theirs[1], rel=1e-6)
    assert abs(ours[0] - theirs[0]) <= 64


# --- values


@pytest.mark.parametrize("form", PENALTIES)
def test_values_by_hand(form: str) -> None:
    assert list(PENALTIES) == list(SETTINGS)
    landscape, cost = cubes()
    for index in itertools.product(range(3), repeat=3):
        hot = torch.eye(3, dtype=DOUBLE)[list(index)]
        c, loss = float(cost.table.table[index]), float(landscape.table[index])
        found = LandscapeObjective(landscape, penalty=made(form, cost))([Sample(hot)])
        assert float(found.loss) == pytest.approx(by_hand(form, cost, loss, 1 - loss, c))
        assert float(found.task_loss) == pytest.approx(loss)  # the record is of the task


@pytest.mark.parametrize("form", PENALTIES)
def test_searches_at_once_do_not_touch_each_other(form: str) -> None:
    landscape, cost = cubes()
    z = torch.softmax(torch.randn(5, 3, 3, generator=seeded(), dtype=DOUBLE), dim=-1)
    objective = LandscapeObjective(landscape, penalty=made(form, cost))
    together = objective([Sample(z)]).loss
    assert together.shape == (5,)
    for one, row in zip(together, z, strict=True):
        assert float(one) == pytest.approx(float(objective([Sample(row)]).loss), rel=1e-12)


@pytest.mark.parametrize("form", ["linear", "logarithmic"])
def test_a_strength_has_no_unit(form: str) -> None:
    z = [torch.tensor([[0.25, 0.75], [0.5, 0.5]]).double(), torch.tensor([[0.5, 0.5]]).double()]
    zero = torch.zeros(())
    one, other = (PENALTIES[form](table(scale), 0.3)(zero, zero, z) for scale in (1.0, 1e6))
    assert float(one) == pytest.approx(float(other))


def test_a_standard_deviation_is_worth_the_strength() -> None:
    """Also in the logarithm, at the mean cost; and a cost that all architectures share changes nothing."""
    costs = table()
    mean, deviation = costs.moments()
    weights = torch.tensor([[0.5, 0.5], [0.5, 0.5]], dtype=DOUBLE)
    last = torch.tensor([[0.5, 0.5]], dtype=DOUBLE)
    for kind in (Linear, Logarithmic):
        x = weights.clone().requires_grad_()
        value = kind(costs, 0.7)(torch.zeros(()), torch.zeros(()), [x, last])
        assert float(value.detach()) == pytest.approx(0.0, abs=1e-12)
        (gradient,) = torch.autograd.grad(value, x)
        assert torch.allclose(gradient, 0.7 * costs.groups[0] / deviation)
    assert float(costs.expected([weights, last])) == pytest.approx(mean)
    dearer = dataclasses.replace(costs, fixed=1e4)
    cheap = [torch.tensor([[1.0, 0.0], [1.0, 0.0]]).double(), last]
    values = [float(Linear(c, 0.7)(torch.zeros(()), torch.zeros(()), cheap)) for c in (costs, dearer)]
    assert values[0] == pytest.approx(values[1])


def test_copies_of_a_choice_leave_the_price_of_the_deviation() -> None:
    """E alike choices: a small step against the price lowers the expected cost by s·η·σ, whatever E."""
    falls = []
    for copies in (1, 4, 16):
        names = tuple(map(str, range(copies)))
        rows = torch.tensor([[1.0, 2.0, 6.0]], dtype=DOUBLE).repeat(copies, 1)
        costs = CostTable("macs", "", 5.0, (Group(("a", "b", "c"), names),), (rows,))
        p = torch.full_like(rows, 1 / 3).requires_grad_()
        (g,) = torch.autograd.grad(Linear(costs, 0.1)(torch.zeros(()), torch.zeros(()), [p]), p)
        moved = p.detach() - 1e-3 / 3 * (g - g.mean(dim=-1, keepdim=True))
        falls.append((costs.moments()[0] - float(costs.expected([moved]))) / costs.moments()[1])
    assert falls == pytest.approx([falls[0]] * 3)
    assert falls[0] == pytest.approx(1e-3 * 0.1)


# --- gradients


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("form", SLOPED)
def test_the_gradient_through_every_sampler_is_that_of_differences(form: str, name: str) -> None:
    """dL/dz by float64 differences at the drawn weights, carried back by the sampler."""
    landscape, cost = cubes()
    sampler = SAMPLERS[name]()
    gates = law_of(sampler) == "gates"
    objective = LandscapeObjective(landscape, gates=gates, penalty=made(form, cost))
    alpha = torch.randn(3, 3, generator=seeded(1), dtype=DOUBLE).requires_grad_()
    sample = Policy(landscape.groups, sampler).draw([alpha], TAU, seeded(2))[0]
    sample = sample._replace(inactive_as_scalars=False)
    assert sample.weights.requires_grad == (name not in NO_GRADIENT)
    if name in NO_GRADIENT:
        return
    z = sample.weights

    def priced(weights: Tensor) -> Tensor:
        return objective([sample._replace(weights=weights)]).loss

    if gates and bool((z.detach().sum(dim=-1) == 0).any()):
        pytest.skip("all gates of a row are closed, where shares have a slope by definition only")
    (found,) = torch.autograd.grad(priced(z), alpha, retain_graph=True)
    (wanted,) = torch.autograd.grad(z, alpha, grad_outputs=slopes(priced, z.detach()))
    assert float(found.abs().max()) > 1e-4
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("form", SLOPED)
@pytest.mark.parametrize("name", ["softmax", "gumbel_softmax", "sigmoid", "binary_concrete"])
def test_at_fixed_noise_the_whole_gradient_is_that_of_differences(form: str, name: str) -> None:
    landscape, cost = cubes()
    sampler = SAMPLERS[name]()
    objective = LandscapeObjective(landscape, gates=law_of(sampler) == "gates", penalty=made(form, cost))

    def f(alpha: Tensor) -> Tensor:
        return objective([sampler(alpha, TAU, seeded(4))]).loss

    alpha = torch.randn(3, 3, generator=seeded(3), dtype=DOUBLE).requires_grad_()
    (found,) = torch.autograd.grad(f(alpha), alpha)
    torch.testing.assert_close(found, slopes(f, alpha.detach()), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("form", SLOPED)
def test_the_price_is_known_for_candidates_that_did_not_run(form: str) -> None:
    landscape, cost = cubes()
    sampler = SAMPLERS["straight_through"]()
    alpha = torch.zeros(3, 3, dtype=DOUBLE).requires_grad_()
    z = sampler(alpha, 1.0, seeded()).weights.detach().requires_grad_()
    found = {}
    for penalty in (None, made(form, cost)):
        objective = LandscapeObjective(landscape, "active", penalty=penalty)
        (found[penalty is None],) = torch.autograd.grad(objective([Sample(z)]).loss, z)
    assert bool((found[True][z == 0] == 0).all())
    assert bool((found[False][z == 0] != 0).all())


@pytest.mark.parametrize("form", PENALTIES)
def test_the_score_function_is_right_on_average(form: str) -> None:
    """The mean over all 27 architectures is the slope of the formula's expectation, by differences."""
    landscape, cost = cubes()
    policy = Policy(landscape.groups, SAMPLERS["gumbel_max"]())
    objective = LandscapeObjective(landscape, penalty=made(form, cost))
    alpha = torch.randn(3, 3, generator=seeded(5), dtype=DOUBLE).requires_grad_()
    every = [torch.eye(3, dtype=DOUBLE)[list(i)] for i in itertools.product(range(3), repeat=3)]
    values = torch.zeros(3, 3, 3, dtype=DOUBLE)
    for i in itertools.product(range(3), repeat=3):
        loss = float(landscape.table[i])
        values[i] = by_hand(form, cost, loss, 1 - loss, float(cost.table.table[i]))

    def mean(logits: Tensor) -> Tensor:
        a, b, c = torch.softmax(logits, dim=-1)
        return torch.einsum("abc,a,b,c->", values, a, b, c)

    total = torch.zeros_like(alpha)
    for hot in every:

        def draw(theta: Sequence[Tensor], repeat: int = 0, hot: Tensor = hot) -> list[Sample]:
            return [Sample(hot, one_hot=True)]

        problem = Problem(objective, objective, draw, policy=policy)
        (gradient,) = ScoreFunction(baseline="none")(problem, [alpha]).gradients
        probability = policy.log_prob([alpha], 1.0, [Sample(hot)]).exp()
        total += float(probability.detach()) * gradient
    torch.testing.assert_close(total, slopes(mean, alpha.detach()), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("form", SLOPED)
def test_rebar_is_unbiased_for_every_form_with_a_slope(form: str) -> None:
    """20,000 searches at once, each with one estimate: their mean within five standard errors."""
    landscape, cost = cubes()
    policy = Policy(landscape.groups, SAMPLERS["gumbel_max"]())
    objective = LandscapeObjective(landscape, penalty=made(form, cost))
    one = torch.randn(3, 3, generator=seeded(5), dtype=DOUBLE)
    count = 20_000
    alpha = one.expand(count, 3, 3).clone().requires_grad_()
    problem = Problem(
        objective,
        objective,
        lambda theta, repeat=0: policy.draw(theta, TAU, seeded(repeat)),
        policy=policy,
        tau=TAU,
        noise=lambda repeat: seeded(11 + repeat),
    )
    (gradient,) = Rebar()(problem, [alpha]).gradients
    values = torch.zeros(3, 3, 3, dtype=DOUBLE)
    for i in itertools.product(range(3), repeat=3):
        loss = float(landscape.table[i])
        values[i] = by_hand(form, cost, loss, 1 - loss, float(cost.table.table[i]))

    def mean(logits: Tensor) -> Tensor:
        a, b, c = torch.softmax(logits, dim=-1)
        return torch.einsum("abc,a,b,c->", values, a, b, c)

    error = gradient.std(dim=0) / count**0.5
    assert bool(((gradient.mean(dim=0) - slopes(mean, one)).abs() <= 5 * error).all())


@pytest.mark.parametrize("form", PENALTIES)
def test_on_a_network_the_gradient_is_that_of_differences(form: str) -> None:
    """A supernet of NAS-Bench-201 in float64, BatchNorm in training."""
    settings = {"channels": 2, "cells": 1, "stages": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = supernet(NasBench201Network, (1, 8, 8), 3, **settings).double()
    costs = cost_table("macs", NasBench201Network, (1, 8, 8), 3, settings)
    given = {**SETTINGS[form], **({"target": costs.moments()[0]} if "target" in SETTINGS[form] else {})}
    penalty = PENALTIES[form](costs, **given)
    images = torch.randn(6, 1, 8, 8, generator=seeded(), dtype=DOUBLE)
    labels = torch.randint(3, (6,), generator=seeded())
    plain, priced = (NetworkObjective(network, images, labels, p) for p in (None, penalty))

    def samples(alpha: Tensor) -> list[Sample]:
        return [Sample(torch.softmax(alpha, dim=-1))]

    (group,) = network.groups
    shape = (len(group.names), len(group.candidates))
    alpha = torch.randn(shape, generator=seeded(1), dtype=DOUBLE).requires_grad_()
    task, outcome = plain(samples(alpha)), priced(samples(alpha))
    assert float(outcome.task_loss) == float(task.task_loss)
    c = float(costs.expected([torch.softmax(alpha.detach(), dim=-1)]))
    accuracy = float(outcome.correct) / 6
    if "target" not in given:
        wanted = by_hand(form, costs, float(task.task_loss), accuracy, c)
        assert float(outcome.loss.detach()) == pytest.approx(wanted)
    (found,) = torch.autograd.grad(outcome.loss, alpha)
    differences = slopes(lambda a: priced(samples(a)).loss, alpha.detach(), 1e-5)
    torch.testing.assert_close(found, differences, rtol=1e-5, atol=1e-7)


# --- what does not fit


def test_strengths_are_three_and_rise() -> None:
    assert list(STRENGTHS) == ["mild", "moderate", "aggressive"]
    assert sorted(STRENGTHS.values()) == list(STRENGTHS.values())
    assert len(set(STRENGTHS.values())) == 3


@pytest.mark.parametrize("strength", [-0.1, math.nan, math.inf, "strong"])
def test_a_strength_is_a_number_of_at_least_zero_or_a_name(strength: float | str) -> None:
    with pytest.raises(UserError, match="named ones: mild"):
        nats(strength)


@pytest.mark.parametrize("kind", [Linear, Logarithmic])
def test_a_cost_that_all_architectures_share_is_refused(kind: type[Linear | Logarithmic]) -> None:
    same = CostTable("macs", "MACs", 7.0, (Group(("a", "b"), ("x",)),), (torch.ones(1, 2).double(),))
    with pytest.raises(UserError, match="every architecture of this space costs 8 MACs"):
        kind(same, 0.1)


def small(*costs: float) -> CostTable:
    group = Group(tuple("abcd"[: len(costs)]), ("x",))
    return CostTable("latency", "ms", 0.0, (group,), (torch.tensor([costs]).double(),))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Logarithmic(small(0.0, 3.0), 0.1), "needs costs above 0"),
        (lambda: MnasNet(small(0.0, 3.0), 2.0), "needs costs above 0"),
        (
            lambda: MnasNet(small(1.0, 3.0), 0.5),
            r"out of reach; the cheapest architecture costs 1, the dearest 3",
        ),
        (lambda: MnasNet(small(1.0, 3.0), 3.5), "out of reach"),
        (lambda: MnasNet(small(1.0, 3.0), 3.0, 0.0, -1.0), "every architecture is within it"),
        (lambda: MnasNet(small(1.0, 3.0), 2.0, 0.07, -1.0), "at most 0 and not both 0"),
        (lambda: MnasNet(small(1.0, 3.0), 2.0, 0.0, 0.0), "at most 0 and not both 0"),
        (lambda: FBNet(small(0.5, 3.0)), "needs costs above 1"),
        (lambda: FBNet(small(2.0, 3.0), 0.0), "finite and above 0"),
        (lambda: FBNet(small(2.0, 3.0), 0.2, math.nan), "finite and above 0"),
        (lambda: Proxyless(small(2.0, 3.0), 1.0), "has to be above 1"),
        (lambda: Proxyless(small(1.0, 3.0), 2.0), "needs costs above 1"),
        (lambda: Proxyless(small(2.0, 3.0), 4.0), "out of reach"),
    ],
)
def test_what_a_form_cannot_take_is_refused(build: Callable[[], Penalty], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build()


@pytest.mark.parametrize("form", SLOPED)
def test_closed_gates_cost_something_finite(form: str) -> None:
    """Hard gates of a table without a fixed part may all be closed: C(0) = 0 is no architecture's cost."""
    penalty = PENALTIES[form](small(6.0, 9.0, 20.0), **SETTINGS[form])
    closed = torch.zeros(1, 3, dtype=DOUBLE).requires_grad_()
    value = penalty(torch.ones((), dtype=DOUBLE), torch.ones(()), [closed])
    (gradient,) = torch.autograd.grad(value, closed)
    assert bool(value.isfinite())
    assert bool(gradient.isfinite().all())


def test_every_form_reads_settings_of_the_section() -> None:
    known = {"strength", "target", "alpha", "beta"}
    for form in PENALTIES:
        kind = PENALTIES[form]
        assert next(iter(inspect.signature(kind).parameters)) == "cost"
        assert set(settings_of(kind)) <= known
    assert set().union(*(settings_of(PENALTIES[form]) for form in PENALTIES)) == known


def test_gates_count_by_their_shares_on_a_landscape() -> None:
    landscape, cost = cubes()
    gates = torch.tensor([[0.9, 0.3, 0.0], [0.2, 0.2, 0.4], [1.0, 1.0, 1.0]], dtype=DOUBLE)
    priced = LandscapeObjective(landscape, gates=True, penalty=Linear(cost, 0.3))([Sample(gates)])
    plain = LandscapeObjective(landscape, gates=True)([Sample(gates)])
    mean, deviation = cost.moments()
    wanted = 0.3 * (float(cost.expected([shares(gates)])) - mean) / deviation
    assert float(priced.loss - plain.loss) == pytest.approx(wanted)
