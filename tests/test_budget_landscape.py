"""Budgets on the landscape of NAS-Bench-201, where every cost and the best cell under it are known."""

from __future__ import annotations

import math

import pytest
import torch

from archgrad.budgets.budget import Budget
from archgrad.budgets.on_landscape import meeting, meets, pick_within, search_within
from archgrad.errors import UserError
from archgrad.lab.contenders import Contender, line_up
from archgrad.landscapes.cost import all_indices, nasbench201_cost
from archgrad.landscapes.landscape import architecture_at
from archgrad.landscapes.nasbench201 import NASBench201, landscape

INDEX = all_indices(6, 5)


def contender(method: str = "snas", steps: int = 200) -> Contender:
    return line_up(methods=[method], steps=steps).contenders[0]


def test_a_cost_is_the_benchmarks_own() -> None:
    table, cost = NASBench201.open(), nasbench201_cost("latency_ms_raspi4")
    for number in (0, 77, 15_000):
        cell = table.architecture(number)
        assert cost.of(cell) == pytest.approx(table.value("latency_ms_raspi4", cell))
    assert cost.unit == "ms"
    assert cost.bounds() == pytest.approx((0.0112835, 98.88752), rel=1e-6)
    assert cost.of(architecture_at(cost.table, cost.table.optimum)) == cost.bounds()[0]


def test_the_expected_cost_is_exact_though_the_cost_is_no_sum() -> None:
    cost = nasbench201_cost("latency_ms_raspi4")
    p = torch.softmax(torch.randn(6, 5, generator=torch.Generator().manual_seed(0)).double(), dim=-1)
    probability = torch.stack([p[e, INDEX[:, e]] for e in range(6)]).prod(dim=0)
    assert float(cost.expected([p])) == pytest.approx(float((probability * cost.values(INDEX)).sum()))


def test_an_accuracy_is_no_cost() -> None:
    with pytest.raises(UserError, match="is an accuracy"):
        nasbench201_cost("cifar10_test_200ep")


def test_too_many_architectures_are_refused() -> None:
    with pytest.raises(UserError, match="too many to go through"):
        all_indices(20, 5)


def test_the_picked_architecture_is_the_most_probable_allowed_one() -> None:
    cost, searched = nasbench201_cost("flops_cifar10"), landscape()
    p = torch.softmax(torch.randn(3, 6, 5, generator=torch.Generator().manual_seed(1)), dim=-1).double()
    allowed = meets(INDEX, [Budget("flops_cifar10", 40e6)], [cost])
    position, lost = pick_within(p, INDEX, allowed, searched)
    for s in range(3):
        probability = torch.stack([p[s, e, INDEX[:, e]] for e in range(6)]).prod(dim=0)
        best = int(torch.where(allowed, probability, torch.zeros(())).argmax())
        assert int(position[s]) == best
        assert float(lost[s]) == pytest.approx(math.log(float(probability.max() / probability[best])))
    among, _ = pick_within(p, INDEX, allowed, searched, 50)
    losses = searched.values(INDEX)
    assert bool((losses[among] <= losses[position]).all())
    every, _ = pick_within(p, INDEX, allowed, searched, len(INDEX))
    assert bool((losses[every] == losses[allowed].min()).all())


@pytest.mark.parametrize(
    ("budgets", "says"),
    [
        ([Budget("flops_cifar10", 7e6)], "the cheapest costs 7.783 M, the dearest 220.1 M"),
        ([Budget("flops_cifar10", 300e6, 250e6)], "no architecture meets it"),
        (
            [Budget("flops_cifar10", 9e6), Budget("params_cifar10", 2e6, 1.2e6)],
            "no architecture meets all of them",
        ),
    ],
)
def test_budgets_that_nothing_meets(budgets: list[Budget], says: str) -> None:
    with pytest.raises(UserError, match=says):
        meeting(INDEX, budgets, [nasbench201_cost(b.cost) for b in budgets])


def test_a_search_needs_a_seed() -> None:
    cost = nasbench201_cost("flops_cifar10")
    with pytest.raises(UserError, match="one search and one candidate"):
        search_within(contender(), landscape(), [Budget(cost.name, 50e6)], [cost], searches=0)


@pytest.mark.parametrize("device", ["1080ti_1", "fpga"])
def test_latency_budgets_are_met_and_the_accuracy_is_near_the_best(device: str) -> None:
    """A small part of benchmarks/budgets_landscape.py."""
    cost, searched = nasbench201_cost(f"latency_ms_{device}"), landscape()
    truth = searched.truth.values(INDEX)
    latency = cost.values(INDEX)
    gaps = []
    for share in (0.25, 0.75):
        budget = Budget(cost.name, float(latency.quantile(share)))
        found = search_within(contender(), searched, [budget], [cost], searches=8, candidates=32)
        assert bool((found.costs <= budget.most).all())
        assert 0.75 * budget.most < float(found.expected.mean()) < 1.02 * budget.most
        gaps.append(float(searched.truth.values(found.derived).mean() - truth[latency <= budget.most].min()))
    assert sum(gaps) / len(gaps) < 0.006


def test_two_budgets_at_once() -> None:
    costs = [nasbench201_cost("latency_ms_fpga"), nasbench201_cost("params_cifar10")]
    budgets = [Budget(costs[0].name, 4.0), Budget(costs[1].name, 6e5, 4e5)]
    found = search_within(contender(), landscape(), budgets, costs, searches=4)
    assert bool(meets(found.derived, budgets, costs).all())
    assert found.prices.shape == (4, 2, 2)


def test_without_a_budget_in_the_way_the_search_is_what_it_was() -> None:
    cost = nasbench201_cost("flops_cifar10")
    found = search_within(contender(), landscape(), [Budget(cost.name, 1e9)], [cost], searches=3)
    assert torch.equal(found.derived, found.argmax)
    assert float(found.lost.abs().max()) == 0
    assert float(found.prices.abs().max()) == 0
