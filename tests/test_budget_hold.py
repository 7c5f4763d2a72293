"""The multipliers that hold a search to its budgets."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from archgrad.budgets import hold as hold_module
from archgrad.budgets.budget import Budget
from archgrad.budgets.expectation import derived_weights
from archgrad.budgets.hold import Hold, HoldState
from archgrad.choice import Group, Sample
from archgrad.controllers.independent import Independent
from archgrad.controllers.lstm import LSTM
from archgrad.costs.cost_table import CostTable
from archgrad.derive import derive
from archgrad.hypergradients.first_order import FirstOrder
from archgrad.hypergradients.score_function import ScoreFunction
from archgrad.landscapes.separable import separable
from archgrad.landscapes.task import LandscapeTask
from archgrad.policy import Policy
from archgrad.problem import Outcome, Problem
from archgrad.randomness import Streams
from archgrad.samplers.gumbel_max import GumbelMax
from archgrad.samplers.softmax import Softmax
from archgrad.search import search
from archgrad.search_state import SearchPlan, SearchState

EDGES = tuple(f"normal/{node}<-{source}" for node in (2, 3, 4) for source in range(node))
CELL = Group(("none", "skip_connect", "sep_conv_3x3"), EDGES)
PLAIN = Group(("a", "b", "c"), ("x", "y"))


def table(group: Group, seed: int = 0, name: str = "macs", fixed: float = 5.0) -> CostTable:
    costs = torch.rand(
        len(group.names), len(group.candidates), generator=torch.Generator().manual_seed(seed)
    ).double()
    if "none" in group.candidates:
        costs[:, group.candidates.index("none")] = 0
    return CostTable(name, "MACs", fixed, (group,), (10 * costs,))


def rows(group: Group, seed: int = 1, *leading: int) -> Tensor:
    shape = (*leading, len(group.names), len(group.candidates))
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def holding(
    group: Group, *budgets: Budget, rule: str = "argmax", gates: bool = False, steps: int = 100
) -> Hold:
    tables = tuple(table(group, i, b.cost) for i, b in enumerate(budgets))
    return Hold(budgets, tables, (group,), steps, rule, gates)


def test_after_the_darts_rule_the_expectation_is_that_of_the_kept_edges() -> None:
    p = torch.softmax(3 * rows(CELL), dim=-1)
    (z,) = derived_weights((CELL,), [p], "darts")
    decisions = derive((CELL,), [p], "darts").decisions
    for e, decision in enumerate(decisions):
        expected = p[e].clone()
        expected[0] = 0
        wanted = expected / expected.sum() if decision.kept else torch.tensor([1.0, 0.0, 0.0]).double()
        assert torch.allclose(z[e], wanted)
    assert sum(d.kept for d in decisions) == 6


@pytest.mark.parametrize("rule", ["argmax", "darts", "rnn"])
def test_of_a_decided_search_it_is_the_cost_of_the_derived_architecture(rule: str) -> None:
    p = torch.softmax(40.0 * rows(CELL).argsort(dim=-1), dim=-1)
    costs = table(CELL)
    (z,) = derived_weights((CELL,), [p], rule)
    assert float(costs.expected([z])) == pytest.approx(costs.of(derive((CELL,), [p], rule).architecture))


@pytest.mark.parametrize("rule", ["argmax", "darts"])
def test_sharp_probabilities_are_powers_and_end_at_the_winner(rule: str) -> None:
    p = torch.softmax(rows(CELL), dim=-1)
    plain, sharp = (derived_weights((CELL,), [p], rule, sharpness=s)[0] for s in (1.0, 3.0))
    powers = plain**3
    assert torch.allclose(sharp, powers / powers.sum(dim=-1, keepdim=True))
    costs = table(CELL)
    (end,) = derived_weights((CELL,), [p], rule, sharpness=1000.0)
    assert float(costs.expected([end])) == pytest.approx(costs.of(derive((CELL,), [p], rule).architecture))


def test_searches_at_once_are_ruled_one_by_one() -> None:
    p = torch.softmax(rows(CELL, 3, 4), dim=-1)
    (together,) = derived_weights((CELL,), [p], "darts")
    for s in range(4):
        assert torch.equal(together[s], derived_weights((CELL,), [p[s]], "darts")[0])


def test_gates_count_by_their_shares() -> None:
    gates = torch.tensor([[0.9, 0.3, 0.0], [0.2, 0.2, 0.4]]).double()
    (z,) = derived_weights((PLAIN,), [gates], "argmax", gates=True)
    assert torch.allclose(z, torch.tensor([[0.75, 0.25, 0.0], [0.25, 0.25, 0.5]]).double())


@pytest.mark.parametrize("rule", ["argmax", "darts"])
def test_the_gradient_equals_finite_differences(rule: str) -> None:
    held = holding(CELL, Budget("macs", 8.0), Budget("parameters", 60.0, 50.0), rule=rule)
    state = HoldState(torch.tensor([[0.3, 0.0], [0.0, 0.7]]).double(), taken=30)

    def value(alpha: Tensor) -> Tensor:
        return held.term([torch.softmax(alpha, dim=-1)], state)

    alpha = rows(CELL).requires_grad_()
    (gradient,) = torch.autograd.grad(value(alpha), alpha)
    assert float(gradient.abs().max()) > 1e-3
    for e, k in itertools.product(range(len(EDGES)), range(3)):
        shift = torch.zeros_like(alpha)
        shift[e, k] = 1e-6
        quotient = (value(alpha.detach() + shift) - value(alpha.detach() - shift)) / 2e-6
        assert float(gradient[e, k]) == pytest.approx(float(quotient), abs=1e-6)


def test_a_budget_that_is_kept_costs_nothing_and_one_that_is_not_does() -> None:
    p = torch.softmax(rows(PLAIN), dim=-1)
    cost = float(table(PLAIN).expected([p]))
    below, above = Budget("macs", 2 * cost), Budget("macs", cost / 2)
    loose, tight = holding(PLAIN, below), holding(PLAIN, above)
    start = HoldState(torch.zeros(1, 2).double())
    assert float(loose.term([p], start)) == 0
    # (max(0, ρ·g))² / 2ρ with g = (cost − cost/2) / (cost/2) = 1
    assert float(tight.term([p], start)) == pytest.approx(hold_module.FIRST_RHO / 2)
    band = Budget("macs", 4 * cost, 2 * cost)  # the cost is too low here: g₂ = (2 − 1) / 3
    assert float(holding(PLAIN, band).term([p], start)) == pytest.approx(hold_module.FIRST_RHO / 2 / 9)


def test_prices_rise_by_the_violation_and_never_fall_below_zero() -> None:
    p = torch.softmax(rows(PLAIN), dim=-1)
    cost = float(table(PLAIN).expected([p]))
    held = holding(PLAIN, Budget("macs", cost / 1.1), steps=50)
    state = held.begin([p])
    held.update([p], state)
    assert state.multipliers[0].tolist() == pytest.approx([hold_module.ASCENT / 50 * 0.1, 0.0])
    assert state.taken == 1
    kept = holding(PLAIN, Budget("macs", 2 * cost), steps=50)
    kept.update([p], state)
    assert state.multipliers[0].tolist() == [0.0, 0.0]
    assert held.rho(0) == pytest.approx(hold_module.FIRST_RHO)
    assert [held.sharpness(t) for t in (0, 15, 50, 80)] == pytest.approx(
        [1.0, 1.0, hold_module.SHARPEST, hold_module.SHARPEST]
    )
    assert held.rho(50) == held.rho(80) == pytest.approx(hold_module.LAST_RHO)


class TestWholeSearch:
    """On a separable landscape the best architecture under a budget is known by enumeration."""

    def run(
        self, budget: Budget | None, searches: int | None, steps: int = 600
    ) -> tuple[Tensor, SearchState, Hold]:
        landscape = separable(choices=3, candidates=4, seed=5)
        (group,) = landscape.groups
        costs = (table(group, 7, "macs", fixed=1.0),)
        held = Hold((budget or Budget("macs", 1.0),), costs, landscape.groups, steps)
        policy = Policy(landscape.groups, Softmax(), Independent())
        plan = SearchPlan(
            policy,
            FirstOrder(),
            steps,
            lambda _: 1.0,
            lambda _: 0.0,
            hold=held if budget else None,
            searches=searches,
        )
        leading = () if searches is None else (searches,)
        theta = [(0.1 * rows(group, 2, *leading)).requires_grad_()]
        state = SearchState(theta, None, torch.optim.Adam(theta, lr=0.05))
        for _ in search(LandscapeTask(landscape, searches, steps_per_epoch=1), state, plan, Streams(0)):
            pass
        (p,) = policy.probabilities([t.detach() for t in state.logits])
        return held.expected([p], steps)[..., 0], state, held

    @pytest.mark.parametrize("searches", [None, 3])
    def test_the_expected_cost_ends_at_the_budget(self, searches: int | None) -> None:
        free, _, _ = self.run(Budget("macs", 1e9), searches)
        assert float(free.min()) > 13.5
        expected, state, _ = self.run(Budget("macs", 11.0), searches)
        # it settles at an architecture below the limit, none of which is far: the costs are discrete
        assert bool(((expected <= 11.0 * 1.02) & (expected > 9.5)).all())
        assert state.hold is not None
        assert float(state.hold.multipliers[..., 0].min()) > 0

    def test_a_lower_end_is_held_too(self) -> None:
        expected, state, _ = self.run(Budget("macs", 20.0, 18.0), None)
        assert 18.0 * 0.99 < float(expected) < 20.0 * 1.01
        assert state.hold is not None
        assert float(state.hold.multipliers[0, 1]) > 0

    def test_a_loose_budget_changes_nothing(self) -> None:
        _, loose, _ = self.run(Budget("macs", 1e9), None, steps=50)
        _, free, _ = self.run(None, None, steps=50)
        assert loose.hold is not None
        assert float(loose.hold.multipliers.abs().max()) == 0
        assert torch.equal(loose.logits[0], free.logits[0])


def test_a_saved_state_is_taken_up_again() -> None:
    theta = [rows(PLAIN).requires_grad_()]
    held = holding(PLAIN, Budget("macs", 6.0))
    state = SearchState(theta, None, None, hold=held.begin(theta))
    assert state.hold is not None
    held.update([torch.softmax(theta[0].detach(), dim=-1)], state.hold)
    fresh = SearchState([torch.zeros_like(theta[0]).requires_grad_()], None, None)
    fresh.load_state_dict(state.state_dict())
    assert fresh.hold is not None
    assert torch.equal(fresh.hold.multipliers, state.hold.multipliers)
    assert fresh.hold.taken == 1
    saved = state.state_dict()
    del saved["hold"]  # a checkpoint of before there were budgets
    fresh.load_state_dict(saved)
    assert fresh.hold is None


def enumerated_gradient(policy: Policy, theta: list[Tensor], group: Group, slope: float) -> list[Tensor]:
    """∇_θ Σ_a p(a)·slope·c(a), over all architectures."""
    total = torch.zeros((), dtype=theta[0].dtype)
    costs = table(group)
    for index in itertools.product(range(len(group.candidates)), repeat=len(group.names)):
        z = torch.nn.functional.one_hot(torch.tensor(index), len(group.candidates)).to(theta[0])
        log_p = policy.log_prob(theta, 1.0, [Sample(z)])
        total = total + log_p.exp() * slope * float(costs.expected([z]))
    return list(torch.autograd.grad(total, theta, allow_unused=True, materialize_grads=True))


@pytest.mark.parametrize("controller", ["independent", "lstm"])
def test_in_a_reward_the_price_has_the_gradient_of_the_expected_cost(controller: str) -> None:
    kind = Independent() if controller == "independent" else LSTM(hidden=3)
    policy = Policy((PLAIN,), GumbelMax(), kind)
    theta = [
        t.detach().double().requires_grad_()
        for t in kind.initial((PLAIN,), torch.Generator().manual_seed(0), 0.5, 0.0)
    ]
    held = holding(PLAIN, Budget("macs", 4.0))
    state = HoldState(torch.tensor([[0.2, 0.0]]).double(), taken=30)

    def nothing(samples: list[Sample]) -> Outcome:
        zero = samples[0].weights.sum() * 0
        return Outcome(zero, zero, torch.tensor(0), 1)

    p = policy.probabilities([t.detach() for t in theta])
    charged = held.charged(nothing, p, state)
    streams = Streams(1)

    def draw(alpha: list[Tensor], repeat: int = 0) -> list[Sample]:
        return policy.draw(alpha, 1.0, streams.generator("draw", repeat))

    excess = (float(held.expected(p)) - 4.0) / 4.0
    slope = max(0.0, 0.2 + held.rho(30) * excess) / 4.0
    wanted = enumerated_gradient(policy, theta, PLAIN, slope)
    if controller == "independent":  # eq. (2) itself, where the expectation has a closed form
        leaves = [t.detach().requires_grad_() for t in theta]
        exact = torch.autograd.grad(held.term(policy.probabilities(leaves), state), leaves)
        assert all(torch.allclose(a, b) for a, b in zip(exact, wanted, strict=True))
        return
    draws = 3_000
    problem = Problem(charged, charged, draw, policy=policy)
    half = [ScoreFunction(baseline="leave_one_out", samples=draws)(problem, theta).gradients]
    for got, want in zip(half[0], wanted, strict=True):
        assert float((got - want).norm()) < 0.15 * max(float(want.norm()), 0.02)
    # and not by chance: the price is what makes it
    assert max(float(w.abs().max()) for w in wanted) > 1e-3


def test_a_search_whose_choices_depend_on_one_another_is_charged_in_its_reward() -> None:
    landscape = separable(choices=2, candidates=3, seed=5)
    (group,) = landscape.groups
    ends = []
    for limit in (1e9, 0.3):
        costs = table(group, 3, fixed=0.1)
        held = Hold((Budget("macs", limit * costs.bounds()[1]),), (costs,), landscape.groups, 60)
        policy = Policy(landscape.groups, GumbelMax(), LSTM(hidden=3))
        score = ScoreFunction(baseline="leave_one_out", samples=8)
        plan = SearchPlan(policy, score, 60, lambda _: 1.0, lambda _: 0.0, hold=held)
        begin = policy.controller.initial(landscape.groups, Streams(2).generator("logits"), 0.1, 0.0)
        theta = [t.detach().requires_grad_() for t in begin]
        state = SearchState(theta, None, torch.optim.Adam(theta, lr=0.05))
        for _ in search(LandscapeTask(landscape, None, steps_per_epoch=1), state, plan, Streams(0)):
            pass
        ends.append(float(held.expected(policy.probabilities([t.detach() for t in state.logits]))[0]))
    assert ends[1] < 0.8 * ends[0]
