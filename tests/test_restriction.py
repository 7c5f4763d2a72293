"""Restricted spaces, and what a stage of a search leaves over."""

from __future__ import annotations

import inspect

import pytest
import torch

from archgrad.architecture import Architecture
from archgrad.choice import concrete, supernet
from archgrad.costs.cost_table import cost_table
from archgrad.derive import derive
from archgrad.errors import UserError
from archgrad.restriction import check_names, restricted, strongest
from archgrad.spaces import SPACES
from archgrad.spaces.space import as_space

BENCH = as_space(SPACES["nasbench201"]).builder
CELLS = as_space(SPACES["darts"]).builder
SHAPE, SIZES = (1, 8, 8), {"channels": 4, "cells": 1}


def test_a_restricted_choice_has_fewer_candidates_and_the_others_all() -> None:
    kept = {"cell/1<-0": ["nor_conv_3x3", "skip_connect"], "cell/3<-*": ["none", "nor_conv_1x1"]}
    network = supernet(restricted(BENCH, kept), SHAPE, 10, **SIZES)
    found = {name: group.candidates for group in network.groups for name in group.names}
    assert found["cell/1<-0"] == ("skip_connect", "nor_conv_3x3")  # in the order of the space
    assert all(found[f"cell/3<-{s}"] == ("none", "nor_conv_1x1") for s in range(3))
    full = supernet(BENCH, SHAPE, 10, **SIZES).groups[0].candidates
    assert found["cell/2<-0"] == found["cell/2<-1"] == full
    kinds = {name: group.kind for group in network.groups for name in group.names}
    assert kinds["cell/1<-0"] == "droppable"  # `none` may still stand there
    assert kinds["cell/3<-0"] == kinds["cell/2<-0"] == "choice"
    assert inspect.signature(restricted(BENCH, kept)) == inspect.signature(BENCH)
    assert restricted(BENCH, {}) is BENCH


def test_what_is_searched_in_a_restricted_space_is_the_network_of_the_whole_one() -> None:
    kept = {"normal/*": ["skip_connect", "sep_conv_3x3"]}
    space, sizes = restricted(CELLS, kept), {"channels": 4, "cells": 3}
    network = supernet(space, (3, 16, 16), 10, **sizes)
    p = [
        torch.softmax(
            torch.randn(len(g.names), len(g.candidates), generator=torch.Generator().manual_seed(0)), -1
        )
        for g in network.groups
    ]
    architecture = derive(network.groups, p, "darts").architecture
    # the rule drops edges though `none` is no candidate of theirs any more
    normal = [op for name, op in architecture.items() if name.startswith("normal")]
    assert (normal.count("none"), set(normal) - {"none"} <= {"skip_connect", "sep_conv_3x3"}) == (6, True)
    sizes_of = [
        sum(p.numel() for p in concrete(builder, architecture, (3, 16, 16), 10, **sizes).parameters())
        for builder in (CELLS, space)
    ]
    assert sizes_of[0] == sizes_of[1]
    table = cost_table("macs", space, (3, 16, 16), 10, sizes)
    assert table.of(architecture) == cost_table("macs", CELLS, (3, 16, 16), 10, sizes).of(architecture)
    assert [g.candidates for g in table.choices] == [g.candidates for g in network.groups]


def test_wrong_restrictions_are_refused() -> None:
    wrong = restricted(BENCH, {"cell/1<-0": ["skip"]})
    with pytest.raises(UserError, match=r"'cell/1<-0' has no candidate 'skip' - did you mean 'skip_connect'"):
        supernet(wrong, SHAPE, 10, **SIZES)
    with pytest.raises(UserError, match="left without a candidate"):
        supernet(restricted(BENCH, {"*": []}), SHAPE, 10, **SIZES)
    with pytest.raises(UserError, match=r"makes no choice 'cell/9<-0' - did you mean"):
        check_names(BENCH, {"cell/9<-0": ["none"]}, SHAPE, 10, **SIZES)
    check_names(BENCH, {"cell/*": ["none"]}, SHAPE, 10, **SIZES)
    check_names(BENCH, {}, SHAPE, 10, **SIZES)


def test_the_strongest_stay() -> None:
    network = supernet(CELLS, (3, 16, 16), 10, channels=4, cells=3)
    (group,) = network.groups
    p = torch.softmax(torch.randn(len(group.names), 8, generator=torch.Generator().manual_seed(1)), -1)
    kept = strongest([group], [p], 5)
    for e, name in enumerate(group.names):
        least = min(float(p[e, group.candidates.index(c)]) for c in kept[name])
        gone = [float(p[e, k]) for k, c in enumerate(group.candidates) if c not in kept[name]]
        assert len(kept[name]) == 5
        assert least >= max(gone)
    assert strongest([group], [p], 0.6) == kept  # 0.6 of 8, rounded
    assert all(len(c) == 8 for c in strongest([group], [p], 20).values())
    ties = strongest([group], [torch.full_like(p, 1 / 8)], 2)
    assert set(map(tuple, ties.values())) == {group.candidates[:2]}
    for wrong in (0, 1.5, 0.0, True, -1):
        with pytest.raises(UserError, match="a number of candidates from 1, or a share"):
            strongest([group], [p], wrong)
    architecture = Architecture({name: c[0] for name, c in kept.items()})
    concrete(restricted(CELLS, kept), architecture, (3, 16, 16), 10, channels=4, cells=3)
