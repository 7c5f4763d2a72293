"""Every entry of `COSTS`, on every space of images, against counts that share no code with it."""

from __future__ import annotations

import itertools
import math
from functools import cache, partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from archgrad.architecture import Architecture
from archgrad.choice import Group, Pick, concrete
from archgrad.costs import COSTS
from archgrad.costs.activation_memory import memory_run, peak_activations
from archgrad.costs.cost_table import CostTable, cost_table
from archgrad.costs.counting import Cost, TabledCost, dry_run
from archgrad.costs.snas import SnasCounts, snas_counts
from archgrad.errors import UserError
from archgrad.ops import OPS
from archgrad.ops.noise import Noise
from archgrad.ops.zero import Zero
from archgrad.spaces import SPACES
from archgrad.spaces.cell import DARTS_CANDIDATES, DartsNetwork
from archgrad.spaces.drop_path import DropPath
from archgrad.spaces.space import as_space
from archgrad.testing.spaces import random_architecture

IMAGES = [name for name in SPACES if as_space(SPACES[name]).reads == "images"]
SHAPE, CLASSES = (3, 32, 32), 7
UNITS = {
    "parameters": "parameters",
    "macs": "MACs",
    "traffic": "bytes",
    "activation_memory": "bytes",
    "file_size": "bytes",
    "file_size_16": "bytes",
    "file_size_8": "bytes",
    "snas": "SNAS units",
    "snas_log": "SNAS units",
}
EXACT = [name for name in COSTS if isinstance(COSTS[name], Cost) and not COSTS[name].bound]


def test_every_entry_is_here() -> None:
    assert {name: COSTS[name].unit for name in COSTS} == UNITS
    assert [name for name in COSTS if isinstance(COSTS[name], TabledCost)] == ["snas", "snas_log"]
    assert [name for name in COSTS if getattr(COSTS[name], "bound", False)] == ["activation_memory"]


def settings_of(name: str) -> dict[str, Any]:
    """Training settings, at a size that is built in a moment."""
    more = {"stages": [[16, 1, 1], [24, 2, 2]], "head": 32} if name == "mobile" else {}
    return {**as_space(SPACES[name]).small_train, **({"channels": 4, "cells": 3} if not more else {}), **more}


@cache
def table_of(cost: str, space: str) -> CostTable:
    return cost_table(cost, as_space(SPACES[space]).builder, SHAPE, CLASSES, settings_of(space))


def one_hot(groups: tuple[Group, ...], architecture: Architecture) -> list[Tensor]:
    return [
        torch.tensor([[float(k == architecture[n]) for k in g.candidates] for n in g.names]) for g in groups
    ]


def bytes_moved(network: nn.Module) -> int:
    """By hooks, of a real pass: what layers read (input, weights) and write, 4 bytes a number."""
    total = 0

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        weights = sum(p.numel() for p in module.parameters(recurse=False))
        total += 4 * (weights + sum(x.numel() for x in inputs) + output.numel())

    moving = (nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d, nn.AvgPool2d, Noise)
    others = (nn.AdaptiveAvgPool2d, nn.SiLU, nn.Sigmoid)
    still = (nn.Identity, DropPath, Zero, nn.Flatten, nn.ModuleDict)
    for module in network.modules():
        if isinstance(module, moving + others):
            module.register_forward_hook(note)
        elif next(module.children(), None) is None and not isinstance(module, still):
            assert type(module).__name__ == "ChannelShuffle", module
            module.register_forward_hook(note)
    with torch.no_grad():
        network(torch.randn(1, *SHAPE))
    return total


def independent(cost: str, network: nn.Module) -> float:
    """By PyTorch's counter, by `numel`, by hooks and by the state's bytes."""
    network.eval()
    state = network.state_dict()
    assert not any(name.startswith("auxiliary") for name in state)
    match cost:
        case "parameters":
            return sum(p.numel() for p in network.parameters())
        case "macs":
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                network(torch.zeros(1, *SHAPE))
            return counter.get_total_flops() / 2
        case "traffic":
            return bytes_moved(network)
        case "file_size":
            return sum(t.numel() * t.element_size() for t in state.values())
        case "file_size_16":
            return sum(t.numel() * t.element_size() for t in network.half().state_dict().values())
        case "file_size_8":  # weights of more than one dimension are those of convolutions and linear layers
            return sum(
                t.numel() + 4 * t.shape[0] if t.dim() > 1 else t.numel() * t.element_size()
                for t in state.values()
            )
    raise AssertionError(cost)


@pytest.mark.parametrize(
    ("space", "cost"),
    [
        (space, cost)
        for space in IMAGES
        for cost in EXACT
        if cost not in ("file_size_16", "file_size_8") or space in ("darts", "nasbench201", "mobile")
    ],
)
def test_the_expectation_at_one_hot_is_an_independent_count_of_the_derived_network(
    space: str, cost: str
) -> None:
    table = table_of(cost, space)
    assert table.uncounted == ()
    assert not table.bound
    generator = torch.Generator().manual_seed(3)
    for _ in range(2):
        architecture = random_architecture(table.choices, generator)
        network = concrete(
            as_space(SPACES[space]).builder, architecture, SHAPE, CLASSES, **settings_of(space)
        )
        wanted = independent(cost, network)
        assert table.of(architecture) == wanted
        chosen = [z.double() for z in one_hot(table.choices, architecture)]
        assert float(table.expected(chosen)) == pytest.approx(wanted, rel=1e-12)
        cheapest, dearest = table.bounds()
        assert cheapest <= wanted <= dearest


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("space", ["darts", "nasbench201", "mobile"])
def test_the_gradient_to_the_logits_is_not_zero_and_equals_finite_differences(space: str, cost: str) -> None:
    table = table_of(cost, space)
    generator = torch.Generator().manual_seed(3)
    leaves = [
        torch.randn(c.shape, generator=generator, dtype=torch.float64).requires_grad_() for c in table.groups
    ]

    def expected(*alpha: Tensor) -> Tensor:
        return table.expected([a.softmax(dim=-1) for a in alpha]) / table.bounds()[1]

    gradients = torch.autograd.grad(expected(*leaves), leaves)
    assert all((g.abs().sum(dim=1) > 0).all() for g in gradients)
    assert torch.autograd.gradcheck(expected, leaves)


def test_a_file_is_as_large_as_its_tensors(tmp_path: Any) -> None:
    """The bytes after the header of a file in safetensors' format."""
    safetensors = pytest.importorskip("safetensors.torch")

    def build() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2))

    for name, made in (("file_size", build()), ("file_size_16", build().half())):
        safetensors.save_model(made, str(tmp_path / name))
        content = (tmp_path / name).read_bytes()
        header = 8 + int.from_bytes(content[:8], "little")
        run = dry_run(build, (3, 8, 8))
        assert COSTS[name].count(run.network.modules(), run).value == len(content) - header


# --- activations ----------------------------------------------------------------------------------


class Branches(nn.Module):
    """x -> a(x) + b(a(x)), the image being kept by its caller."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 8, 1, bias=False), nn.Conv2d(8, 8, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        return y + self.b(y)


def row(*channels: int) -> nn.Module:
    return nn.Sequential(*(nn.Conv2d(a, b, 1) for a, b in itertools.pairwise(channels)))


@pytest.mark.parametrize(
    ("build", "peak", "total"),
    [
        # numbers a pixel: the image 2, then what is alive at once
        (lambda: row(2, 8, 4), 2 + 8 + 4, 2 + 8 + 4),
        (lambda: row(2, 8, 4, 1), 2 + 8 + 4, 2 + 8 + 4 + 1),
        (lambda: row(2, 1, 1, 8, 8), 2 + 8 + 8, 2 + 1 + 1 + 8 + 8),
        (Branches, 2 + 8 + 8 + 8, 2 + 8 + 8 + 8),
        (lambda: nn.Sequential(row(2, 8), nn.ReLU(), row(8, 1)), 2 + 8 + 8, 2 + 8 + 8 + 1),
        (lambda: nn.Sequential(row(2, 8), nn.ReLU(inplace=True), row(8, 1)), 2 + 8 + 1, 2 + 8 + 1),
        (lambda: nn.Sequential(row(2, 8), nn.BatchNorm2d(8), row(8, 1)), 2 + 8 + 8, 2 + 8 + 8 + 1),
        (lambda: nn.Sequential(row(2, 8), nn.Identity(), nn.Flatten(), nn.Unflatten(1, (8, 3, 3))), 10, 10),
    ],
)
def test_activations_by_hand(build: Any, peak: int, total: int) -> None:
    for batch in (1, 5):
        run = memory_run(build, (2, 3, 3), batch)
        assert run.peak == peak_activations(build, (2, 3, 3), batch) == 4 * 9 * batch * peak
        assert COSTS["activation_memory"].count(run.network.modules(), run).value == 4 * 9 * batch * total


def test_activations_of_a_network_that_reads_values() -> None:
    class Reader(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2 if x.sum().item() == 0 else x

    # the image, and twice it; the sum and its comparison are gone by then
    assert peak_activations(Reader, (2, 3, 3)) == 4 * 2 * 18


@pytest.mark.parametrize("space", IMAGES)
def test_the_table_of_activations_is_above_the_peak_of_the_derived_network(space: str) -> None:
    table = table_of("activation_memory", space)
    assert table.bound
    generator = torch.Generator().manual_seed(4)
    for _ in range(2):
        architecture = random_architecture(table.choices, generator)
        build = partial(
            concrete, as_space(SPACES[space]).builder, architecture, SHAPE, CLASSES, **settings_of(space)
        )
        run = memory_run(build, SHAPE)
        counted = COSTS["activation_memory"].count(run.network.modules(), run).value
        assert 0 < run.peak <= counted <= table.of(architecture)
        if space == "mobile":  # nothing is added or joined outside candidates
            assert counted == table.of(architecture)


class Reads(nn.Module):
    """A network whose image is looked at first, which the meta device cannot do."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        x.sum().item()
        y: Tensor = self.network(x)
        return y


@pytest.mark.parametrize("space", ["darts", "nasbench201", "mobile"])
def test_the_peak_is_that_of_a_real_pass_by_the_tracker_of_pytorch(space: str) -> None:
    tracker = pytest.importorskip("torch.distributed._tools.mem_tracker")
    builder, batch = as_space(SPACES[space]).builder, 4
    table = table_of("activation_memory", space)
    architecture = random_architecture(table.choices, torch.Generator().manual_seed(5))
    build = partial(concrete, builder, architecture, SHAPE, CLASSES, **settings_of(space))
    memory, network = tracker.MemTracker(), build().eval()
    memory.track_external(network)
    with memory, torch.no_grad():
        network(torch.zeros(batch, *SHAPE))
    (found,) = memory.get_tracker_snapshot("peak").values()
    weights = cost_table("file_size", builder, SHAPE, CLASSES, settings_of(space)).of(architecture)
    assert peak_activations(build, SHAPE, batch) == found["Total"] - weights > 0
    assert peak_activations(lambda: Reads(build()), SHAPE, batch) == found["Total"] - weights


# --- SNAS -----------------------------------------------------------------------------------------


def by_formula(name: str, c: int, h: int, stride: int) -> tuple[float, float, float]:
    """(size, FLOPs, MAC) of a DARTS candidate as the authors write them; h is the side of the output."""
    two = stride == 2
    match name.split("_"):
        case ["none"]:
            return 0, 0, 0
        case ["skip", _]:
            return (
                (c * c, c * c * h * h, 2 * h * h * (4 * c + c / 2) + c * c) if two else (0, 0, 2 * c * h * h)
            )
        case [_, "pool", _]:
            return 0, 9 * c * h * h, (5 if two else 2) * c * h * h
        case ["dil", _, kernel]:
            size = c * int(kernel[0]) ** 2 + c * c
            return size, size * h * h, h * h * ((6 if two else 3) * c + c) + size
        case ["sep", _, kernel]:
            size = 2 * (c * int(kernel[0]) ** 2 + c * c)
            return size, size * h * h, h * h * ((10 if two else 7) * c + c) + size
    raise AssertionError(name)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", DARTS_CANDIDATES)
def test_candidates_by_the_formulas_of_the_authors(name: str, stride: int) -> None:
    run = dry_run(lambda: OPS[name](6, 6, stride, False), (6, 16, 16))
    size, flops, mac = by_formula(name, 6, 16 // stride, stride)
    assert snas_counts(run.network, run) == SnasCounts(size, flops, mac)


@pytest.mark.parametrize("form", ["snas", "snas_log"])
def test_the_cost_of_an_edge_is_the_mean_over_its_cells(form: str) -> None:
    settings = {"channels": 4, "cells": 6}
    table = cost_table(form, DartsNetwork, (3, 16, 16), 5, settings)
    # (channels, side of the output) of the cells; reductions are the third and the fifth
    places = {"normal": [(4, 16), (4, 16), (8, 8), (16, 4)], "reduce": [(8, 8), (16, 4)]}
    (group,) = table.choices
    for name, row_of_costs in zip(group.names, table.groups[0].tolist(), strict=True):
        kind, source = name.split("/")[0], int(name[-1])
        stride = 2 if kind == "reduce" and source < 2 else 1
        for candidate, cost in zip(group.candidates, row_of_costs, strict=True):
            each = []
            for c, h in places[kind]:
                size, flops, mac = by_formula(candidate, c, h, stride)
                linear = (2 * size + flops / 4000 + mac / 100) * 0.43
                log = sum(math.log(n) if n > 1 else 0 for n in (size, flops, mac)) / 3
                each.append(linear if form == "snas" else log)
            assert cost == pytest.approx(sum(each) / len(each), rel=1e-12), (name, candidate)
    assert table.fixed == 0
    assert table.of(Architecture(dict.fromkeys(group.names, "none"))) == 0


def test_snas_refuses_nested_choices_and_names_what_it_does_not_know() -> None:
    def nested(pick: Pick, shape: tuple[int, ...], classes: int) -> nn.Module:
        return pick("outer", {"a": lambda: pick("inner", {"b": nn.Identity}), "c": nn.Identity})

    with pytest.raises(UserError, match="'inner' stands inside a candidate of choice 'outer'"):
        cost_table("snas", nested, SHAPE, CLASSES)

    def linear(pick: Pick, shape: tuple[int, ...], classes: int) -> nn.Module:
        return pick("edge", {"linear": partial(nn.Linear, 32, 32), "id": nn.Identity})

    assert cost_table("snas_log", linear, SHAPE, CLASSES).uncounted == ("Linear",)
