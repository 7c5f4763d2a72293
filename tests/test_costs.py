"""Costs against published totals, against PyTorch's own counter, and against the laws of a cost."""

from __future__ import annotations

import itertools
import json
import random
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from archgrad.architecture import NASBENCH201_CANDIDATES, Architecture
from archgrad.choice import concrete, supernet
from archgrad.costs.cost_table import CostTable, cost_table
from archgrad.costs.counting import dry_run
from archgrad.costs.network_counts import count_module, count_network
from archgrad.errors import UserError
from archgrad.spaces.cell import DARTS_CANDIDATES, DartsNetwork
from archgrad.spaces.nasbench201 import NasBench201Network

# Published cells, (operation, source) pairs two a node; multiply-adds in millions and parameters of
# the CIFAR-10 network, C = 36, 20 cells, auxiliary head left out.
SHORT = {
    "sep3": "sep_conv_3x3",
    "sep5": "sep_conv_5x5",
    "dil3": "dil_conv_3x3",
    "dil5": "dil_conv_5x5",
    "max": "max_pool_3x3",
    "avg": "avg_pool_3x3",
    "skip": "skip_connect",
}
PUBLISHED = {
    "DARTS_V1": (
        "sep3 1 sep3 0 skip 0 sep3 1 skip 0 sep3 1 sep3 0 skip 2",
        "max 0 max 1 skip 2 max 0 max 0 skip 2 skip 2 avg 0",
        3_169_414,
        500.99,
    ),
    "DARTS_V2": (
        "sep3 0 sep3 1 sep3 0 sep3 1 sep3 1 skip 0 skip 0 dil3 2",
        "max 0 max 1 skip 2 max 1 max 0 skip 2 skip 2 max 1",
        3_349_342,
        528.36,
    ),
    "SNAS_mild": (
        "sep3 0 sep3 1 skip 0 dil3 1 skip 0 skip 1 skip 0 sep3 1",
        "max 0 max 1 max 1 skip 2 max 1 skip 2 max 0 dil5 2",
        2_661_382,
        422.22,
    ),
    "GDAS_V1": (
        "skip 0 skip 1 skip 0 sep5 2 sep3 3 skip 0 sep5 4 sep3 3",
        "sep5 0 sep3 1 sep5 2 sep5 1 dil5 2 sep3 1 sep5 0 sep5 1",
        3_368_782,
        519.43,
    ),
    "PC_DARTS_cifar": (
        "sep3 1 skip 0 sep3 0 dil3 1 sep5 0 sep3 1 avg 0 dil3 1",
        "sep5 1 max 0 sep5 1 sep5 2 sep3 0 sep3 3 sep3 1 sep3 2",
        3_634_678,
        556.67,
    ),
}
IMAGE = (3, 32, 32)
BASIC = ("parameters", "macs")  # all entries of the table: test_costs_table.py
DARTS_EDGES = [f"{kind}/{n}<-{s}" for kind in ("normal", "reduce") for n in range(2, 6) for s in range(n)]
NB201_EDGES = [f"cell/{n}<-{s}" for n in (1, 2, 3) for s in range(n)]
SPACES = {
    # builder, edges, candidates, shape, classes, settings: small, and each with a reduction
    "darts": (
        DartsNetwork,
        DARTS_EDGES,
        DARTS_CANDIDATES,
        (3, 16, 16),
        7,
        {"channels": 4, "cells": 3, "auxiliary": True},
    ),
    "darts in search": (
        DartsNetwork,
        DARTS_EDGES,
        DARTS_CANDIDATES,
        (1, 15, 15),
        7,
        {"channels": 4, "cells": 3, "affine": False, "pool_norm": True},
    ),
    "nasbench201": (
        NasBench201Network,
        NB201_EDGES,
        NASBENCH201_CANDIDATES,
        (3, 8, 8),
        7,
        {"channels": 4, "cells": 2},
    ),
}
TABLES: dict[tuple[str, str], CostTable] = {}


def table_of(cost: str, space: str) -> CostTable:
    if (cost, space) not in TABLES:
        builder, _, _, shape, classes, options = SPACES[space]
        TABLES[cost, space] = cost_table(cost, builder, shape, classes, options)
    return TABLES[cost, space]


def architecture_of(normal: str, reduce: str) -> Architecture:
    choices = dict.fromkeys(DARTS_EDGES, "none")
    for kind, text in (("normal", normal), ("reduce", reduce)):
        words = text.split()
        for i, (op, source) in enumerate(zip(words[::2], words[1::2], strict=True)):
            choices[f"{kind}/{2 + i // 2}<-{source}"] = SHORT[op]
    return Architecture(choices)


def one_hot(table: CostTable, architecture: Architecture) -> list[Tensor]:
    return [
        torch.tensor(
            [[float(k == architecture[n]) for k in group.candidates] for n in group.names],
            dtype=torch.float64,
        )
        for group in table.choices
    ]


def pytorch_macs(network: nn.Module, shape: tuple[int, ...]) -> float:
    """The independent count: PyTorch's counter, which takes a multiply-add as two operations."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network.eval()(torch.zeros(1, *shape))
    return counter.get_total_flops() / 2


def independent(cost: str, network: nn.Module, shape: tuple[int, ...]) -> float:
    if cost == "macs":
        return pytorch_macs(network, shape)
    head = getattr(network, "auxiliary", None)
    unused = sum(p.numel() for p in head.parameters()) if isinstance(head, nn.Module) else 0
    return float(sum(p.numel() for p in network.parameters()) - unused)


# published numbers


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_cells_have_their_published_size(name: str) -> None:
    normal, reduce, parameters, millions = PUBLISHED[name]
    counts = count_network(DartsNetwork, architecture_of(normal, reduce), IMAGE, 10, {"auxiliary": True})
    assert counts.parameters_without_auxiliary == parameters
    assert counts.parameters - counts.parameters_without_auxiliary == 476_426
    assert round(counts.macs / 1e6, 2) == millions
    assert counts.uncounted == ()


@pytest.mark.parametrize(
    ("op", "parameters", "macs"),
    [
        ("none", 73_306, 7_783_040),
        ("skip_connect", 73_306, 7_783_040),
        ("nor_conv_3x3", 1_531_546, 220_119_680),
    ],
)
def test_nasbench201_networks_have_their_published_size(op: str, parameters: int, macs: int) -> None:
    counts = count_network(NasBench201Network, Architecture(dict.fromkeys(NB201_EDGES, op)), IMAGE, 10)
    assert (counts.parameters, counts.macs) == (parameters, macs)


def test_nasbench201_table_of_costs(shared_data: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    sets = {"cifar10": (IMAGE, 10), "cifar100": (IMAGE, 100), "imagenet16_120": ((3, 16, 16), 120)}
    columns = [f"{what}_{name}" for name in sets for what in ("params", "flops")]
    rows = parquet.read_table(shared_data / "nasbench201" / "nasbench201.parquet", columns=["arch", *columns])
    sample = random.Random(0).sample(rows.to_pylist(), 1000)
    for name, (shape, classes) in sets.items():
        parameters = cost_table("parameters", NasBench201Network, shape, classes)
        macs = cost_table("macs", NasBench201Network, shape, classes)
        for row in sample:
            architecture = Architecture.from_nasbench201(row["arch"])
            assert parameters.of(architecture) == row[f"params_{name}"]
            # that table also counts the bias of the classifier, one a class
            assert macs.of(architecture) + classes == row[f"flops_{name}"]


def test_every_published_cell_of_four_nodes(shared_data: Path) -> None:
    genotypes = json.loads((shared_data.parent / "genotypes.json").read_text())["cnn"]
    shape, options = (3, 16, 16), {"channels": 4, "cells": 4}
    tables = {cost: cost_table(cost, DartsNetwork, shape, 10, options) for cost in BASIC}
    fitting = 0
    for cells in genotypes.values():
        pairs = [*cells["normal"], *cells["reduce"]]
        if len(pairs) != 16 or not {op for op, _ in pairs} <= set(DARTS_CANDIDATES):
            continue
        fitting += 1
        choices = dict.fromkeys(DARTS_EDGES, "none")
        for kind in ("normal", "reduce"):
            for i, (op, source) in enumerate(cells[kind]):
                choices[f"{kind}/{2 + i // 2}<-{source}"] = op
        network = concrete(DartsNetwork, Architecture(choices), shape, 10, **options)
        for cost, table in tables.items():
            assert table.of(Architecture(choices)) == independent(cost, network, shape)
    assert fitting == 11


# the law of a cost


@pytest.mark.parametrize("cost", BASIC)
@pytest.mark.parametrize("space", SPACES)
@settings(max_examples=8, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_expected_cost_at_one_hot_is_the_cost_of_the_concrete_network(
    cost: str, space: str, data: st.DataObject
) -> None:
    builder, edges, candidates, shape, classes, options = SPACES[space]
    architecture = Architecture({edge: data.draw(st.sampled_from(candidates)) for edge in edges})
    table = table_of(cost, space)
    network = concrete(builder, architecture, shape, classes, **options)
    counted = independent(cost, network, shape)
    assert float(table.expected(one_hot(table, architecture))) == counted
    assert table.of(architecture) == counted
    counts = count_network(builder, architecture, shape, classes, options)
    assert counted == (counts.macs if cost == "macs" else counts.parameters_without_auxiliary)
    assert counts.parameters == sum(p.numel() for p in network.parameters())
    assert table.uncounted == ()


@pytest.mark.parametrize("cost", BASIC)
@pytest.mark.parametrize("space", SPACES)
def test_the_gradient_to_the_logits_is_not_zero_and_equals_finite_differences(cost: str, space: str) -> None:
    table = table_of(cost, space)
    generator = torch.Generator().manual_seed(3)
    logits = [torch.randn(c.shape, generator=generator, dtype=torch.float64) for c in table.groups]
    scale = table.bounds()[1]

    def expected(*alpha: Tensor) -> Tensor:
        return table.expected([a.softmax(dim=-1) for a in alpha]) / scale

    leaves = [a.requires_grad_() for a in logits]
    assert torch.autograd.gradcheck(expected, leaves, eps=1e-5, atol=1e-8)
    gradients = torch.autograd.grad(expected(*leaves), leaves)
    # any two candidates of an edge differ somewhere in cost, so every edge is pushed
    assert all((g.abs().sum(dim=1) > 0).all() for g in gradients)


def test_bounds_are_those_of_all_architectures() -> None:
    options = {"channels": 2, "cells": 1, "stages": 2, "nodes": 3}
    table = cost_table("macs", NasBench201Network, (3, 8, 8), 3, options)
    edges = NB201_EDGES[:3]
    every = [
        table.of(Architecture(dict(zip(edges, ops, strict=True))))
        for ops in itertools.product(NASBENCH201_CANDIDATES, repeat=3)
    ]
    assert table.bounds() == (min(every), max(every))
    uniform = table.expected([torch.full((3, 5), 0.2, dtype=torch.float64)])
    assert float(uniform) == pytest.approx(sum(every) / len(every))


def test_many_searches_at_once() -> None:
    table = table_of("macs", "nasbench201")
    weights = torch.rand(4, 2, 6, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    together = table.expected([weights])
    assert together.shape == (4, 2)
    assert float(together[3, 1]) == pytest.approx(float(table.expected([weights[3, 1]])))


# counting single layers


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv1d(4, 6, 3, stride=2, groups=2), (4, 17)),
        (nn.Conv2d(4, 8, (3, 5), padding=2, dilation=2, groups=4), (4, 13, 11)),
        (nn.Conv3d(2, 3, 2), (2, 5, 6, 7)),
        (nn.ConvTranspose1d(4, 6, 3, stride=2), (4, 9)),
        (nn.ConvTranspose2d(4, 6, (3, 2), stride=3, groups=2), (4, 5, 6)),
        (nn.ConvTranspose3d(2, 3, 2, stride=2), (2, 3, 4, 5)),
        (nn.Linear(6, 5), (6,)),
        (nn.Linear(6, 5, bias=False), (4, 7, 6)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_layers_agree_with_the_counter_of_pytorch(layer: nn.Module, shape: tuple[int, ...]) -> None:
    counts = count_module(lambda: layer, shape)
    macs = FlopCounterMode(display=False)
    with macs, torch.no_grad():
        layer(torch.zeros(1, *shape))
    assert counts.macs == macs.get_total_flops() / 2 > 0
    assert counts.uncounted == ()
    assert counts.parameters == sum(p.numel() for p in layer.parameters())


class Twice(nn.Module):
    """One layer, called twice, and a second name for it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)
        self.again = self.layer

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.again(self.layer(x))
        return y


def test_a_layer_that_runs_twice_multiplies_twice_and_is_stored_once() -> None:
    counts = count_module(Twice, (6,))
    assert (counts.macs, counts.parameters, counts.parameters_without_auxiliary) == (72, 42, 42)


def test_a_shared_tensor_is_stored_once() -> None:
    def build() -> nn.Module:
        network = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
        network[1].weight = network[0].weight
        return network

    counts = count_module(build, (6,))
    assert (counts.macs, counts.parameters, counts.parameters_without_auxiliary) == (72, 48, 48)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        q = self.project(x)
        return torch.bmm(torch.bmm(q, q.transpose(1, 2)).softmax(dim=-1), q)


class LowRank(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + super().forward(x[..., :1].expand_as(x))


class Gate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.ones(6))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate


class Borrower(nn.Module):
    """Uses the weights of a layer without calling it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.layer.weight)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 6, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.lstm(x)[0]
        return y


@pytest.mark.parametrize(
    ("build", "uncounted", "macs"),
    [
        (Attention, ("bmm in Attention",), 5 * 36),
        (lambda: LowRank(6, 6), ("(add)?mm in LowRank",), 5 * 36),
        (Gate, ("Gate",), 0),
        (Borrower, ("mm in Borrower",), 0),
        (Recurrent, ("LSTM",), 0),
        (lambda: nn.Sequential(nn.LayerNorm(6), nn.PReLU(), nn.Dropout(), nn.GELU()), (), 0),
    ],
)
def test_what_has_no_rule_is_reported(build: object, uncounted: tuple[str, ...], macs: int) -> None:
    counts = count_module(build, (5, 6))  # type: ignore[arg-type]
    assert len(counts.uncounted) == len(uncounted)
    assert all(re.fullmatch(wanted, got) for wanted, got in zip(uncounted, counts.uncounted, strict=True))
    assert counts.macs == macs


def test_multi_head_attention_is_reported_as_a_whole() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.attention(x, x, x, need_weights=False)[0]
            return y

    counts = count_module(Block, (5, 8))
    assert counts.uncounted == ("MultiheadAttention",)
    assert counts.parameters_without_auxiliary == counts.parameters == 4 * 8 * 9


# the dry run


class Reader(nn.Module):
    """Looks at a value, which the meta device does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)
        self.side = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), Gate())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x) if x.sum().item() == 0 else x
        return self.side(y) if self.training else y


def test_a_network_that_reads_values_is_counted_on_the_cpu() -> None:
    run = dry_run(Reader, (6,))
    assert {p.device.type for p in run.network.parameters()} == {"cpu"}
    counts = count_module(Reader, (6,))
    assert (counts.macs, counts.parameters, counts.parameters_without_auxiliary) == (36, 102, 42)
    assert counts.uncounted == ()  # the gate runs in training only


@pytest.mark.parametrize("build", [Reader, Twice])
def test_global_random_state_is_left_alone(build: type[nn.Module]) -> None:
    before = torch.random.get_rng_state()
    dry_run(build, (6,))
    assert torch.equal(before, torch.random.get_rng_state())


def test_nothing_is_allocated() -> None:
    run = dry_run(lambda: supernet(NasBench201Network, IMAGE, 10), IMAGE)
    assert {t.device.type for t in (*run.network.parameters(), *run.network.buffers())} == {"meta"}


def test_the_fault_of_a_network_comes_through() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        dry_run(lambda: nn.Linear(3, 2), (6,))


# spaces that cannot be tabulated, and wrong input


def a_space(pick, shape, classes, inner=None, shared=None):  # type: ignore[no-untyped-def]
    def leaf() -> nn.Module:
        return shared or nn.Linear(6, 6)

    options = {"a": leaf, "b": lambda: pick("inner", {"c": leaf, "d": nn.Identity}) if inner else leaf()}
    return nn.Sequential(pick("outer", options), nn.Linear(6, classes))


def test_choices_of_a_users_own_space() -> None:
    table = cost_table("macs", a_space, (6,), 4)
    assert (table.fixed, table.groups[0].tolist()) == (24, [[36, 36]])


def test_a_table_reports_what_it_leaves_out_inside_and_outside_choices() -> None:
    def space(pick, shape, classes):  # type: ignore[no-untyped-def]
        return nn.Sequential(Gate(), pick("c", {"a": Attention, "b": nn.Identity}))

    assert cost_table("macs", space, (5, 6), 4).uncounted == ("Gate", "bmm in Attention")


def test_nested_choices_are_counted() -> None:
    table = cost_table("macs", a_space, (6,), 4, {"inner": True})
    assert [(joint.names, joint.costs.tolist()) for joint in table.nested] == [
        (("outer", "inner"), [[0, 0], [36, 0]])
    ]


def test_shared_candidates_are_billed_once_or_refused() -> None:
    with torch.device("meta"):
        layer = nn.Linear(6, 6)
    table = cost_table("parameters", a_space, (6,), 4, {"shared": layer})
    assert (table.fixed, table.groups[0].tolist()) == (28, [[42, 42]])
    # in the supernet it runs twice, and a dry run does not say which of the calls is whose
    with pytest.raises(UserError, match="no sum over the choices"):
        cost_table("macs", a_space, (6,), 4, {"shared": layer})


def test_weights_of_a_wrong_shape_are_refused() -> None:
    table = table_of("macs", "nasbench201")
    with pytest.raises(UserError, match=r"\[\(6, 4\)\] do not fit .* \[\(6, 5\)\]"):
        table.expected([torch.full((6, 4), 0.25)])
    with pytest.raises(UserError, match="do not fit"):
        table.expected([])


def test_a_foreign_architecture_is_refused() -> None:
    table = table_of("macs", "nasbench201")
    with pytest.raises(UserError, match="no choice 'cell/1<-0'"):
        table.of(Architecture({"cell/1<-1": "none"}))
    with pytest.raises(UserError, match=r"no candidate 'nor_conv_5x5' - did you mean 'nor_conv_"):
        table.of(Architecture(dict.fromkeys(NB201_EDGES, "nor_conv_5x5")))


def test_a_cost_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "layers_cost.py").write_text(
        "from archgrad.costs.counting import Cost, Count\n"
        "import torch.nn as nn\n"
        "def count(part, run):\n"
        "    return Count(sum(isinstance(m, nn.Conv2d) for m in part), ('x',))\n"
        "LAYERS = Cost('layers', count)\n"
        "NOTHING = 3\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    table = cost_table("layers_cost:LAYERS", NasBench201Network, (3, 8, 8), 3, {"channels": 2, "cells": 1})
    assert (table.unit, table.uncounted, table.fixed) == ("layers", ("x",), 7)
    assert table.groups[0][0].tolist() == [0, 0, 3, 3, 0]
    with pytest.raises(UserError, match=r"wanted an archgrad.costs.counting.Cost"):
        cost_table("layers_cost:NOTHING", NasBench201Network, (3, 8, 8), 3)
    with pytest.raises(UserError, match=r"unknown cost 'mac' - did you mean 'macs'"):
        cost_table("mac", NasBench201Network, (3, 8, 8), 3)
