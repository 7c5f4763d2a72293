"""What of a network matters for its output, against values and gradients of real networks."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from archgrad.architecture import NASBENCH201_CANDIDATES, Architecture
from archgrad.choice import concrete, supernet
from archgrad.costs.live import count_live
from archgrad.costs.network_counts import count_module, count_network
from archgrad.spaces import SPACES
from archgrad.spaces.cell import DARTS_CANDIDATES, DartsNetwork
from archgrad.spaces.nasbench201 import NasBench201Network
from archgrad.spaces.space import as_space
from archgrad.testing.spaces import random_architecture

SHAPE = (3, 8, 8)
SMALL = {"channels": 4, "cells": 1, "stages": 2}
EDGES = [f"cell/{n}<-{s}" for n in (1, 2, 3) for s in range(n)]


def cell(**edges: str) -> Architecture:
    """A NAS-Bench-201 cell; what is not given is `none`."""
    return Architecture({name: edges.get(f"e{name[5]}{name[8]}", "none") for name in EDGES})


# pairs of cells that are one function: a node that leads nowhere, one that nothing arrives at
EQUAL = {
    "leads nowhere": (cell(e10="nor_conv_3x3", e30="skip_connect"), cell(e30="skip_connect")),
    "leads to one that leads nowhere": (
        cell(e10="nor_conv_3x3", e21="nor_conv_1x1", e30="nor_conv_3x3"),
        cell(e30="nor_conv_3x3"),
    ),
    "nothing arrives": (
        cell(e21="nor_conv_3x3", e32="avg_pool_3x3", e30="nor_conv_1x1"),
        cell(e30="nor_conv_1x1"),
    ),
}


@pytest.mark.parametrize("name", EQUAL)
def test_equal_cells_cost_as_much_without_dead_nodes(name: str) -> None:
    """Counted as built they differ: the trap of comparing cells by their published cost."""
    one, other = (count_network(NasBench201Network, a, SHAPE, 5, SMALL, live=True) for a in EQUAL[name])
    assert one.macs > other.macs
    assert one.parameters > other.parameters
    assert one.live is not None
    assert one.live == other.live == (other.parameters, other.macs, other.traffic)


def live_by_values(build: partial[nn.Module], shape: tuple[int, int, int]) -> tuple[int, int]:
    """Parameters and multiply-adds of layers whose output differs between images and has a gradient.

    In float64 with random statistics of BatchNorm, so that nothing vanishes by accident.
    """
    torch.manual_seed(0)
    network = build().double().eval()
    for p in network.parameters():
        nn.init.normal_(p, std=0.5)
    outputs: dict[nn.Module, list[Tensor]] = {}

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if output.requires_grad:
            output.retain_grad()
        outputs.setdefault(module, []).append(output)

    leaves = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d | nn.Linear)]
    for module in leaves:
        module.register_forward_hook(note)
    total: Tensor = sum(network(torch.randn(1, *shape, dtype=torch.float64)).square().sum() for _ in range(2))
    total.backward()
    parameters = macs = 0
    for module, found in outputs.items():
        first, second = found
        slope = any(y.grad is not None and bool((y.grad != 0).any()) for y in found)
        if slope and not torch.equal(first, second):
            parameters += sum(p.numel() for p in module.parameters())
            if isinstance(module, nn.Conv2d):
                macs += first.numel() * module.weight[0].numel()
            elif isinstance(module, nn.Linear):
                macs += module.weight.numel()
    return parameters, macs


@pytest.mark.parametrize("seed", range(12))
def test_cells_with_dead_nodes_by_values_and_gradients(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    draw = torch.multinomial(torch.tensor([0.55, 0.1, 0.15, 0.15, 0.05]), 6, True, generator=generator)
    architecture = Architecture(
        {e: NASBENCH201_CANDIDATES[k] for e, k in zip(EDGES, draw.tolist(), strict=True)}
    )
    build = partial(concrete, NasBench201Network, architecture, SHAPE, 5, **SMALL)
    live = count_live(build, SHAPE)
    assert live[:2] == live_by_values(build, SHAPE)
    built = count_module(build, SHAPE)
    assert live.macs <= built.macs


@pytest.mark.parametrize("seed", range(4))
def test_darts_cells_that_put_out_one_node(seed: int) -> None:
    """With one node as output the others matter only if they lead to it."""
    settings = {"channels": 4, "cells": 3, "nodes": 3, "normal_concat": [4], "reduce_concat": [3]}
    generator = torch.Generator().manual_seed(seed)
    edges = [f"{kind}/{n}<-{s}" for kind in ("normal", "reduce") for n in (2, 3, 4) for s in range(n)]
    names = [DARTS_CANDIDATES[k] for k in (0, 0, 0, 3, 4, 6)]
    drawn = torch.randint(len(names), (len(edges),), generator=generator).tolist()
    architecture = Architecture({edge: names[k] for edge, k in zip(edges, drawn, strict=True)})
    build = partial(concrete, DartsNetwork, architecture, (3, 16, 16), 5, **settings)
    assert count_live(build, (3, 16, 16))[:2] == live_by_values(build, (3, 16, 16))


@pytest.mark.parametrize("name", [n for n in SPACES if as_space(SPACES[n]).reads == "images"])
def test_where_nothing_is_dead_it_is_the_count_as_built(name: str) -> None:
    space = as_space(SPACES[name])
    named = dict(space.small_train)
    groups = supernet(space.builder, (3, 32, 32), 5, **named).groups
    architecture = random_architecture(groups, torch.Generator().manual_seed(0))
    alive = {n: "skip_connect" if c in ("none", "noise") else c for n, c in architecture.items()}
    candidates = {n: group.candidates for group in groups for n in group.names}
    alive = {n: c if c in candidates[n] else candidates[n][-1] for n, c in alive.items()}
    counts = count_network(space.builder, Architecture(alive), (3, 32, 32), 5, named, live=True)
    assert counts.live == (counts.parameters_without_auxiliary, counts.macs, counts.traffic)


class Ways(nn.Module):
    """A layer called twice, once for nothing; one that works in place; one whose weight another uses."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.borrowed, self.idle = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.act, self.scale = nn.ReLU(inplace=True), nn.Parameter(torch.ones(6))

    def forward(self, x: Tensor) -> Tensor:
        self.twice(self.idle(x))
        y = self.twice(x)
        self.act(y)
        z = torch.empty_like(y)
        z.copy_(y)
        return nn.functional.linear(z[:, :6], self.borrowed.weight) * self.scale


def test_calls_views_and_work_in_place() -> None:
    # the first call of `twice` leads nowhere, nor does `idle`; of `borrowed` the weight is read, not the bias
    assert count_live(Ways, (6,))[:2] == (42 + 36 + 6, 36)


def test_a_network_that_reads_values() -> None:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.other = nn.Linear(6, 6), nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            constant = self.other(torch.zeros_like(x))
            return self.layer(x) + constant if x.sum().item() == 0 else x

    assert count_live(Reader, (6,))[:2] == (42, 36)
