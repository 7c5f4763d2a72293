"""Random architectures within budgets and scaled networks, against enumeration."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
import torch
from scipy.stats import chisquare

from archgrad.architecture import Architecture
from archgrad.budgets.budget import Budget
from archgrad.budgets.controls import random_within, widest
from archgrad.choice import Group
from archgrad.costs.cost_table import CostTable
from archgrad.costs.network_counts import count_network
from archgrad.errors import UserError
from archgrad.randomness import Streams
from archgrad.spaces import SPACES

GROUP = Group(("a", "b", "c"), ("x", "y", "z"))
COSTS = torch.tensor([[0.0, 1.0, 2.0], [0.0, 2.0, 3.0], [1.0, 1.5, 4.0]], dtype=torch.float64)
TABLE = CostTable("cost", "", 1.0, (GROUP,), (COSTS,))


def every() -> list[Architecture]:
    rows = itertools.product(GROUP.candidates, repeat=len(GROUP.names))
    return [Architecture(dict(zip(GROUP.names, row, strict=True))) for row in rows]


@pytest.mark.parametrize("budget", [Budget("cost", 5.0), Budget("cost", 6.0, 4.0)], ids=str)
def test_of_the_architectures_within_a_budget_each_is_as_likely(budget: Budget) -> None:
    allowed = [a for a in every() if budget.met(TABLE.of(a))]
    assert 5 < len(allowed) < 20
    drawn = [random_within([GROUP], "argmax", [budget], [TABLE], Streams(3), "p", i) for i in range(400)]
    assert not any(one.repaired for one in drawn)
    counts = Counter(one.architecture for one in drawn)
    assert set(counts) == set(allowed)
    assert chisquare([counts[a] for a in allowed]).pvalue > 1e-3


def test_where_almost_nothing_is_within_it_is_repaired() -> None:
    cell = Group(("a", "b", "c", "d"), tuple(f"choice {i}" for i in range(8)))
    costs = torch.arange(4, dtype=torch.float64).repeat(8, 1)
    table = CostTable("cost", "", 1.0, (cell,), (costs,))
    budget = Budget("cost", 2.0)  # 9 of 65,536 architectures
    drawn = [random_within([cell], "argmax", [budget], [table], Streams(0), "p", i) for i in range(3)]
    assert all(one.repaired for one in drawn)
    assert all(table.of(one.architecture) <= 2.0 for one in drawn)
    with pytest.raises(UserError, match="no architecture of this space meets"):
        random_within([cell], "argmax", [Budget("cost", 0.5)], [table], Streams(0), "p", 0)


def test_several_budgets_and_repeatable_draws() -> None:
    budgets, tables = [Budget("cost", 6.0), Budget("cost", 9.0, 5.5)], [TABLE, TABLE]
    first, again, other = (
        random_within([GROUP], "argmax", budgets, tables, Streams(0), "p", i).architecture for i in (0, 0, 1)
    )
    assert first == again
    assert first != other
    assert 5.5 <= TABLE.of(first) <= 6.0


@pytest.mark.parametrize("width", [1, 3, 16, 50])
def test_the_widest_network_is_that_of_a_search_over_all(width: int) -> None:
    for most in (1.0, 2.0, 17.0, 900.0, 12345.0):
        wanted = max((c for c in range(1, 200) if 0.5 * c * c + c <= most), default=None)
        assert widest(lambda c: [0.5 * c * c + c], [Budget("macs", most)], width) == wanted
    assert widest(lambda c: [c, 3.0 * c], [Budget("macs", 50.0), Budget("parameters", 60.0)], width) == 20


def test_a_cost_that_does_not_grow_with_the_width_ends_somewhere() -> None:
    found = widest(lambda c: [7.0], [Budget("macs", 30.0)], 16)
    assert found is not None
    assert found <= 4096


def test_widths_that_a_network_cannot_have_are_left_out() -> None:
    def costs(channels: int) -> list[float]:
        if channels % 4:
            raise UserError("channels: a multiple of 4")
        return [float(channels)]

    assert widest(costs, [Budget("macs", 30.0)], 16) == 28
    assert widest(costs, [Budget("macs", 3.0)], 16) is None


def test_the_width_of_a_real_network() -> None:
    builder = SPACES["nasbench201"].builder
    architecture = Architecture({f"cell/{j}<-{i}": "nor_conv_3x3" for j in (1, 2, 3) for i in range(j)})

    def costs(channels: int) -> list[float]:
        settings = {"channels": channels, "cells": 1, "stages": 1}
        return [float(count_network(builder, architecture, (1, 8, 8), 10, settings).macs)]

    found = widest(costs, [Budget("macs", 1e6)], 16)
    assert found is not None
    assert costs(found)[0] <= 1e6 < costs(found + 1)[0]
