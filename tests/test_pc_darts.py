"""Partial channels and edge normalisation against a literal computation; their gradients and the search."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from archgrad.architecture import Edge
from archgrad.choice import Sample, Supernet, supernet
from archgrad.errors import ConfigError, UserError
from archgrad.schedules import SCHEDULES
from archgrad.settings import DataSize, resolve
from archgrad.spaces import SPACES
from archgrad.spaces.cell import Cell, DartsNetwork
from archgrad.spaces.nasbench201 import NasBench201Network
from archgrad.spaces.partial_channels import PartialChannels
from archgrad.verbs import derive_run, search_run

F64 = torch.float64


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("k", [2, 4, 8])
def test_partial_channels_channel_by_channel(stride: int, k: int) -> None:
    """Output channel i·k + g is channel i of group g: group 0 through the edge, the others past it."""
    channels, part = 8, 8 // k
    edge = nn.Conv2d(part, part, 3, stride, padding=1, dtype=F64)
    x = torch.randn(2, channels, 5, 6, generator=torch.Generator().manual_seed(0), dtype=F64)
    y = PartialChannels(edge, channels, k, stride)(x)
    through = edge(x[:, :part])
    assert y.shape == (2, channels, *through.shape[2:])
    for i in range(part):
        assert torch.equal(y[:, i * k], through[:, i])
        for g in range(1, k):
            past = x[:, g * part + i]
            if stride == 2:  # 2×2 maxima, the last row of the odd height by itself
                past = F.max_pool2d(F.pad(past, (0, 0, 0, 1), value=-torch.inf)[:, None], 2)[:, 0]
            assert torch.equal(y[:, i * k + g], past)


def test_channels_that_cannot_be_cut() -> None:
    with pytest.raises(UserError, match=r"6 channels cannot be cut into 4 equal parts.*1, 2, 3, 6"):
        PartialChannels(nn.Identity(), 6, 4, 1)
    for builder in (DartsNetwork, NasBench201Network):
        with pytest.raises(UserError, match="partial_channels"):
            supernet(builder, (3, 8, 8), 2, channels=6, partial_channels=4)


def network(space: str, **settings: object) -> Supernet:
    torch.manual_seed(0)
    return supernet(SPACES[space].builder, (3, 6, 6), 3, edge_normalisation=True, **settings).double()


SMALL = {
    "darts": {
        "channels": 4,
        "cells": 3,
        "nodes": 2,
        "partial_channels": 2,
        "affine": False,
        "pool_norm": True,
    },
    "nasbench201": {"channels": 4, "cells": 1, "stages": 1, "partial_channels": 2, "affine": False},
}


def logits(of: Supernet) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(len(g.names), len(g.candidates), generator=generator, dtype=F64).requires_grad_()
        for g in of.groups
    ]


def run(of: Supernet, theta: list[Tensor], x: Tensor) -> Tensor:
    return of(x, [Sample(torch.softmax(a, dim=-1)) for a in theta])


@pytest.mark.parametrize("space", SMALL)
def test_the_gradient_of_every_logit_equals_finite_differences(space: str) -> None:
    """The weights of edges included: a popular package gave them none."""
    of = network(space, **SMALL[space])
    theta, x = logits(of), torch.randn(3, 3, 6, 6, generator=torch.Generator().manual_seed(2), dtype=F64)

    def loss() -> Tensor:
        return F.cross_entropy(run(of, theta, x), torch.tensor([0, 1, 2]))

    gradients = torch.autograd.grad(loss(), theta)
    blends = [k for k, group in enumerate(of.groups) if not group.chosen and len(group.candidates) > 1]
    assert blends
    for k in blends:
        assert gradients[k].abs().max() > 1e-6
    h = 1e-6
    for alpha, gradient in zip(theta, gradients, strict=True):
        for place in range(0, alpha.numel(), 5):
            with torch.no_grad():
                alpha.view(-1)[place] += h
                up = float(loss())
                alpha.view(-1)[place] -= 2 * h
                down = float(loss())
                alpha.view(-1)[place] += h
            assert (up - down) / (2 * h) == pytest.approx(float(gradient.view(-1)[place]), rel=2e-5, abs=1e-9)


def test_a_cell_weighs_its_edges() -> None:
    """Node j = Σ_i β_ji · edge_ji(x_i), by hand, with what the edges give."""
    of = network("darts", **SMALL["darts"])
    theta = logits(of)
    weights = {
        name: row
        for group, alpha in zip(of.groups, theta, strict=True)
        for name, row in zip(group.names, torch.softmax(alpha, dim=-1), strict=True)
    }
    seen: dict[str, Tensor] = {}
    cell = of.network.cells[0]
    assert isinstance(cell, Cell)
    for key, edge in cell.edges.items():
        edge.register_forward_hook(lambda m, i, y, key=key: seen.__setitem__(key, y))
    out: list[Tensor] = []
    cell.register_forward_hook(lambda m, i, y: out.append(y))
    run(of, theta, torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(3), dtype=F64))
    for position, node in enumerate((2, 3)):
        wanted = sum(weights[f"normal/{node}"][i] * seen[f"{node}<-{i}"] for i in range(node))
        got = out[0][:, 4 * position : 4 * position + 4]
        assert torch.allclose(got, torch.as_tensor(wanted), rtol=1e-12, atol=1e-12)


def test_parallel_edges_and_concatenations() -> None:
    of = supernet(
        DartsNetwork, (3, 8, 8), 2, channels=4, cells=3, nodes=3, parallel=2, normal_concat=[2, 4],
        candidates=("none", "skip_connect"),
    )  # fmt: skip
    names = of.groups[0].names
    assert names[:4] == ("normal/2<-0", "normal/2<-0#2", "normal/2<-1", "normal/2<-1#2")
    assert len(names) == 2 * 2 * (2 + 3 + 4)
    assert Edge.parse("normal/4<-0#2") == Edge("normal", 4, 0, 2)
    cells = of.network.cells
    assert cells[0].concat == (2, 4)
    assert cells[1].concat == (2, 3, 4)
    for wrong in ([2, 2], [1, 2], [2, 5], [9], []):
        with pytest.raises(UserError, match=r"space.normal_concat: .*different nodes from 2 to 4"):
            supernet(DartsNetwork, (3, 8, 8), 2, channels=4, cells=3, nodes=3, normal_concat=wrong)
    with pytest.raises(UserError, match=r"space.reduce_concat: .*different nodes from 2 to 4.*got \[\]"):
        supernet(DartsNetwork, (3, 8, 8), 2, channels=4, cells=3, nodes=3, reduce_concat=[])


def test_settings_that_contradict_one_another() -> None:
    for settings, words in (
        ({"stem": "imagenet", "stem_multiplier": 3}, "only the CIFAR stem"),
        ({"stem": "imagnet"}, "none of cifar, imagenet"),
        ({"odd_sizes": "refuse"}, r"would halve 9×9"),
        ({"candidates": {"normal/2<-0": ["skip_connect"]}}, "gives none for the edge 'normal/2<-1'"),
        ({"stem": "imagenet", "channels": 5}, "wanted an even number, got 5"),
    ):
        with pytest.raises(UserError, match=words):
            supernet(DartsNetwork, (3, 9, 9), 2, **{"channels": 4, "cells": 3, **settings})


@pytest.mark.parametrize(
    ("space", "wrong"),
    [
        ("darts", {"channels": 0}),
        ("darts", {"channels": 4.0}),
        ("darts", {"channels": True}),
        ("darts", {"cells": 3.5}),
        ("darts", {"nodes": 0}),
        ("darts", {"parallel": 0}),
        ("darts", {"stem_multiplier": 0}),
        ("nasbench201", {"channels": 0}),
        ("nasbench201", {"cells": 0}),
        ("nasbench201", {"stages": 0}),
        ("nasbench201", {"nodes": -1}),
        ("mobile", {"channels": 0}),
        ("mobile", {"head": 0}),
        ("darts_rnn", {"hidden": 0}),
        ("darts_rnn", {"hidden": 2.5}),
        ("darts_rnn", {"nodes": 0}),
    ],
    ids=str,
)
def test_numbers_that_count_nothing(space: str, wrong: dict[str, object]) -> None:
    name, value = next(iter(wrong.items()))
    shape = (8,) if space == "darts_rnn" else (3, 32, 32)
    with pytest.raises(UserError, match=rf"space.{name}: wanted a whole number of at least 1, got {value}"):
        supernet(SPACES[space].builder, shape, 2, **wrong)


@pytest.mark.parametrize(
    ("space", "candidates"),
    [
        ("darts", ["skip_connect", "sep_conv_3x3", "sep_conv_3x3"]),
        ("darts", {**dict(SPACES["s1"].builder.keywords["candidates"]), "reduce/5<-4": ["none", "none"]}),
        ("nasbench201", ["skip_connect", "none", "none"]),
        ("darts_rnn", ["none", "tanh", "tanh"]),
    ],
    ids=["darts", "of an edge", "nasbench201", "darts_rnn"],
)
def test_candidates_given_twice(space: str, candidates: object) -> None:
    shape = (8,) if space == "darts_rnn" else (3, 8, 8)
    where = r" of the edge 'reduce/5<-4'" if isinstance(candidates, dict) else ""
    with pytest.raises(UserError, match=rf"wanted different ones{where}, got (none|tanh|sep_conv_3x3) more"):
        supernet(SPACES[space].builder, shape, 2, candidates=candidates)


S1 = {  # the two candidates of every edge, in their order, as the authors of RobustDARTS publish them
    "normal/2<-0": ("skip_connect", "dil_conv_3x3"),
    "normal/2<-1": ("skip_connect", "dil_conv_5x5"),
    "normal/3<-0": ("skip_connect", "dil_conv_5x5"),
    "normal/3<-1": ("skip_connect", "sep_conv_3x3"),
    "normal/3<-2": ("skip_connect", "dil_conv_3x3"),
    "normal/4<-0": ("max_pool_3x3", "skip_connect"),
    "normal/4<-1": ("skip_connect", "sep_conv_3x3"),
    "normal/4<-2": ("skip_connect", "sep_conv_3x3"),
    "normal/4<-3": ("skip_connect", "dil_conv_3x3"),
    "normal/5<-0": ("skip_connect", "sep_conv_3x3"),
    "normal/5<-1": ("max_pool_3x3", "skip_connect"),
    "normal/5<-2": ("skip_connect", "dil_conv_3x3"),
    "normal/5<-3": ("dil_conv_3x3", "dil_conv_5x5"),
    "normal/5<-4": ("dil_conv_3x3", "dil_conv_5x5"),
    "reduce/2<-0": ("max_pool_3x3", "avg_pool_3x3"),
    "reduce/2<-1": ("max_pool_3x3", "dil_conv_3x3"),
    "reduce/3<-0": ("max_pool_3x3", "avg_pool_3x3"),
    "reduce/3<-1": ("max_pool_3x3", "avg_pool_3x3"),
    "reduce/3<-2": ("skip_connect", "dil_conv_5x5"),
    "reduce/4<-0": ("max_pool_3x3", "avg_pool_3x3"),
    "reduce/4<-1": ("max_pool_3x3", "sep_conv_3x3"),
    "reduce/4<-2": ("skip_connect", "dil_conv_3x3"),
    "reduce/4<-3": ("skip_connect", "dil_conv_5x5"),
    "reduce/5<-0": ("max_pool_3x3", "avg_pool_3x3"),
    "reduce/5<-1": ("max_pool_3x3", "avg_pool_3x3"),
    "reduce/5<-2": ("skip_connect", "dil_conv_5x5"),
    "reduce/5<-3": ("skip_connect", "dil_conv_5x5"),
    "reduce/5<-4": ("skip_connect", "dil_conv_5x5"),
}


def test_s1_edge_by_edge() -> None:
    groups = supernet(SPACES["s1"].builder, (3, 8, 8), 2, channels=4, cells=3).groups
    assert {name: group.candidates for group in groups for name in group.names} == S1


def test_s1_has_two_candidates_on_every_edge() -> None:
    groups = supernet(SPACES["s1"].builder, (3, 8, 8), 2, channels=4, cells=3).groups
    assert sum(len(group.names) for group in groups) == 28
    assert {len(group.candidates) for group in groups} == {2}
    assert all(group.kind == "droppable" for group in groups)


def test_a_search_of_weighed_edges_from_the_start_to_the_derived_cell(tmp_path: Path) -> None:
    run_folder = tmp_path / "run"
    given = {
        "method": "darts",
        "space": {"name": "pc_darts", "channels": 8, "cells": 3, "nodes": 2},
        "search": {"epochs": 2, "warmup_epochs": 0, "batch_size": 256},
        "data": {"crop": 0},
        "cost": {"name": "macs", "strength": "mild"},
        "device": {"threads": 1},
    }
    found = search_run(given, run_folder)
    line = found.read_lines("metrics.jsonl")[-1]
    assert {"normal/2", "normal/3", "reduce/2", "reduce/3"} < set(line["probabilities"])
    assert line["cost"] > 0
    assert sum(line["probabilities"]["normal/3"]) == pytest.approx(1.0, abs=1e-5)
    assert line["probabilities"]["normal/3"][0] != pytest.approx(1 / 3, abs=1e-6)  # it has learned
    architecture = derive_run(run_folder).architecture
    assert not any("<-" not in name for name in architecture)
    assert sum(candidate != "none" for candidate in architecture.values()) == 8


# --- settings


CIFAR10 = DataSize("cifar10", 50_000, (3, 32, 32), True, mirror=True)


def test_the_published_recipe_of_pc_darts_and_what_a_method_says_itself() -> None:
    """Xu et al. 2020, section 4.2: batch 256, rate 0.1 to 0, logits frozen for 15 epochs."""
    config = resolve({"method": "darts", "space": {"name": "pc_darts"}}, CIFAR10).config
    assert (config.search.batch_size, config.search.warmup_epochs) == (256, 15)
    assert (config.weights.learning_rate, config.weights.final_learning_rate) == (0.1, 0.0)
    assert config.architecture.learning_rate == 6e-4
    config = resolve({"method": "proxyless", "space": {"name": "pc_darts"}}, CIFAR10).config
    assert (config.search.batch_size, config.search.warmup_epochs) == (256, 40)  # the method's own
    assert config.architecture.learning_rate == 1e-3


@pytest.mark.parametrize("space", ["darts", "nasbench201"])
def test_partial_channels_are_the_supernets_alone(space: str) -> None:
    given = {"method": "darts", "space": {"name": space, "partial_channels": 4, "edge_normalisation": True}}
    config = resolve(given, CIFAR10).config
    assert config.space.settings()["partial_channels"] == 4
    assert not {"partial_channels", "edge_normalisation"} & set(config.train.space)


def test_the_rate_of_the_imagenet_recipe_falls_by_three_percent_an_epoch() -> None:
    size = DataSize("photos", 1_000_000, (3, 224, 224), True, mirror=True)
    train = resolve({"space": {"name": "darts_imagenet"}}, size).config.train
    rates = [
        SCHEDULES[train.schedule](train.learning_rate, train.final_learning_rate, e / train.epochs)
        for e in (0, 1, 100)
    ]
    assert rates == pytest.approx([0.1, 0.097, 0.1 * 0.97**100], rel=1e-9)
    with pytest.raises(ConfigError, match=r"train.final_learning_rate: an exponential schedule ends above 0"):
        resolve({"train": {"schedule": "exponential", "final_learning_rate": 0.0}}, CIFAR10)
    with pytest.raises(ConfigError, match="a constant learning rate has no end"):
        resolve({"train": {"schedule": "constant", "final_learning_rate": 0.01}}, CIFAR10)
