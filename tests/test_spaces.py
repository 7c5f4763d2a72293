"""Spaces: the contract, a literal reference of the DARTS supernet, published counts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from archgrad.architecture import NASBENCH201_CANDIDATES, Architecture
from archgrad.choice import Pick, Sample, Supernet, concrete, supernet
from archgrad.errors import UserError
from archgrad.randomness import seeded_modules
from archgrad.spaces import SPACES
from archgrad.spaces.auxiliary import AuxiliaryHead
from archgrad.spaces.cell import DARTS, DARTS_CANDIDATES, DartsNetwork
from archgrad.spaces.drop_path import DropPath, set_drop_path
from archgrad.spaces.nasbench201 import NASBENCH201, NasBench201Cell, NasBench201Network
from archgrad.spaces.space import as_space
from archgrad.testing import BrokenLaw, check_space, inherit
from archgrad.testing import spaces as laws
from archgrad.testing.spaces import random_architecture

SMALL = {  # (search, train) settings of a network of a few thousand parameters
    "darts": (
        {"channels": 4, "cells": 3, "affine": False, "pool_norm": True},
        {"channels": 4, "cells": 3, "auxiliary": True},
    ),
    "nasbench201": ({"channels": 4, "cells": 1, "affine": False}, {"channels": 4, "cells": 1}),
}
SMALL["darts_imagenet"] = SMALL["reduced_darts"] = SMALL["darts"]
SMALL["pc_darts"] = (
    {**SMALL["darts"][0], "partial_channels": 2, "edge_normalisation": True},
    SMALL["darts"][1],
)
SMALL |= dict.fromkeys(("s1", "s2", "s3", "s4"), SMALL["darts"])
CELLS = [name for name in SMALL if name != "nasbench201"]  # spaces of DARTS cells


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_every_cell_space_of_the_table_is_here() -> None:
    assert set(SMALL) <= set(SPACES)
    assert len(CELLS) == 8


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(
    ("shape", "classes"), [((3, 8, 8), 10), ((1, 9, 7), 2)], ids=["colour-even", "grey-odd"]
)
def test_every_space_keeps_the_contract(name: str, shape: tuple[int, int, int], classes: int) -> None:
    search, train = SMALL[name]
    if name in CELLS and name != "s1":  # a cell of 2 nodes has 5 edges, of 3 nodes 9
        few = {"nodes": 3} if shape[0] == 3 else {"nodes": 2, "auxiliary": True}
        search, train = {**search, **few}, {**train, **few}
    check_space(SPACES[name], shape, classes, search=search, train=train, architectures=2)


@pytest.mark.parametrize("name", ["darts", "nasbench201", "pc_darts", "s4"])
def test_the_contract_holds_with_affine_and_without_pool_norm(name: str) -> None:
    """The training settings of a supernet: parameters everywhere, none after a pooling."""
    few = {"nodes": 2} if name in CELLS else {}
    _, train = SMALL[name]
    check_space(SPACES[name], (2, 6, 5), 3, search={**train, **few}, train={**train, **few}, architectures=1)


def names(space: str) -> list[str]:
    return [
        n for g in supernet(SPACES[space].builder, (3, 8, 8), 10, **SMALL[space][0]).groups for n in g.names
    ]


def test_choice_names_are_what_files_and_papers_say() -> None:
    """A changed name breaks every saved architecture."""
    edges = [f"{j}<-{i}" for j in range(2, 6) for i in range(j)]
    assert names("darts") == [f"{kind}/{edge}" for kind in ("normal", "reduce") for edge in edges]
    assert names("nasbench201") == [f"cell/{j}<-{i}" for j in range(1, 4) for i in range(j)]
    for space, candidates in (("darts", DARTS_CANDIDATES), ("nasbench201", NASBENCH201_CANDIDATES)):
        network = supernet(SPACES[space].builder, (3, 8, 8), 10, **SMALL[space][0])
        assert [g.candidates for g in network.groups] == [candidates]


@pytest.mark.parametrize("name", SMALL)
def test_choice_names_do_not_depend_on_the_data_or_the_width(name: str) -> None:
    search, _ = SMALL[name]
    groups = {
        supernet(SPACES[name].builder, shape, classes, **{**search, **extra}).groups
        for shape, classes in (((3, 8, 8), 10), ((1, 9, 7), 2))
        for extra in ({}, {"channels": 6})
    }
    assert len(groups) == 1


@pytest.mark.parametrize("name", SMALL)
@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_every_architecture_builds_and_trains(name: str, data: st.DataObject) -> None:
    """Any candidates at all, all `none` included; a step of training gives finite gradients."""
    candidates = {
        choice: (*group.candidates, "none")
        for group in GROUPS[name]
        if group.chosen
        for choice in group.names
    }
    architecture = Architecture({c: data.draw(st.sampled_from(known)) for c, known in candidates.items()})
    with seeded_modules(0):
        network = concrete(SPACES[name].builder, architecture, (1, 7, 7), 3, **SMALL[name][1])
        output = network(torch.randn(2, 1, 7, 7))
    loss = torch.stack([o.square().sum() for o in (output if isinstance(output, tuple) else (output,))]).sum()
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in network.parameters())


NAMES = {name: names(name) for name in SMALL}
GROUPS = {name: supernet(SPACES[name].builder, (3, 8, 8), 10, **SMALL[name][0]).groups for name in SMALL}


# --- a slow, literal DARTS supernet ----------------------------------------------------------------


class Literal:
    """The DARTS supernet written out from the paper, for 3 cells (normal, reduce, reduce), in float64.

    Parameters are looked up by their path in the supernet; everything else is written here.
    """

    def __init__(self, parameters: dict[str, Tensor], nodes: int, alpha: Tensor, order: list[str]):
        self.p, self.nodes = parameters, nodes
        exponentials = torch.exp(alpha)
        self.z = exponentials / exponentials.sum(dim=1, keepdim=True)  # eq. 2
        self.rows = {name: index for index, name in enumerate(order)}

    @staticmethod
    def batch_norm(x: Tensor) -> Tensor:
        mean = x.mean(dim=(0, 2, 3), keepdim=True)
        variance = ((x - mean) ** 2).mean(dim=(0, 2, 3), keepdim=True)
        return (x - mean) / torch.sqrt(variance + 1e-5)

    @staticmethod
    def relu(x: Tensor) -> Tensor:
        return x * (x > 0)

    @staticmethod
    def windows(x: Tensor, stride: int, fill: float) -> list[Tensor]:
        """The nine shifted views of 3×3 pooling."""
        _, _, height, width = x.shape
        padded = torch.full((*x.shape[:2], height + 2, width + 2), fill, dtype=x.dtype)
        padded[:, :, 1:-1, 1:-1] = x
        return [
            padded[:, :, i : i + height : stride, j : j + width : stride] for i in range(3) for j in range(3)
        ]

    def conv_bn(self, x: Tensor, path: str, stride: int = 1) -> Tensor:
        """ReLU, 1×1, BatchNorm."""
        return self.batch_norm(F.conv2d(self.relu(x), self.p[f"{path}.op.1.weight"], stride=stride))

    def reduce(self, x: Tensor, path: str) -> Tensor:
        x = self.relu(x)
        even = F.conv2d(x[:, :, ::2, ::2], self.p[f"{path}.conv_even.weight"])
        odd = F.conv2d(x[:, :, 1::2, 1::2], self.p[f"{path}.conv_odd.weight"])
        return self.batch_norm(torch.cat([even, odd], dim=1))

    def depthwise_pointwise(self, x: Tensor, path: str, stride: int, dilation: int) -> Tensor:
        deep, point = self.p[f"{path}.op.1.weight"], self.p[f"{path}.op.2.weight"]
        reach = dilation * (deep.shape[-1] // 2)
        channels = [
            F.conv2d(self.relu(x[:, c : c + 1]), deep[c : c + 1], None, stride, reach, dilation)
            for c in range(x.shape[1])
        ]
        return self.batch_norm(F.conv2d(torch.cat(channels, dim=1), point))

    def candidates(self, x: Tensor, path: str, stride: int) -> list[Tensor]:
        """The eight in the published order."""

        def separable(k: int) -> Tensor:
            half = self.depthwise_pointwise(x, f"{path}.options.{k}.op.0", stride, 1)
            return self.depthwise_pointwise(half, f"{path}.options.{k}.op.1", 1, 1)

        largest = torch.stack(self.windows(x, stride, -torch.inf)).amax(dim=0)
        counts = torch.stack(self.windows(torch.ones_like(x), stride, 0.0)).sum(dim=0)
        average = torch.stack(self.windows(x, stride, 0.0)).sum(dim=0) / counts
        return [
            torch.zeros_like(x[:, :, ::stride, ::stride]),
            self.batch_norm(largest),
            self.batch_norm(average),
            x if stride == 1 else self.reduce(x, f"{path}.options.3"),
            separable(4),
            separable(5),
            self.depthwise_pointwise(x, f"{path}.options.6", stride, 2),
            self.depthwise_pointwise(x, f"{path}.options.7", stride, 2),
        ]

    def cell(self, index: int, s0: Tensor, s1: Tensor) -> Tensor:
        kind, path = ("normal" if index == 0 else "reduce"), f"cells.{index}"
        before = f"{path}.preprocess0"
        states = [self.reduce(s0, before) if index == 2 else self.conv_bn(s0, before)]
        states.append(self.conv_bn(s1, f"{path}.preprocess1"))
        for node in range(2, 2 + self.nodes):
            total = torch.zeros(())
            for source in range(node):
                stride = 2 if kind == "reduce" and source < 2 else 1
                edge = f"{node}<-{source}"
                outputs = self.candidates(states[source], f"{path}.edges.{edge}.0", stride)
                for k in range(8):
                    total = total + self.z[self.rows[f"{kind}/{edge}"], k] * outputs[k]
            states.append(total)
        return torch.cat(states[2:], dim=1)

    def loss(self, x: Tensor, labels: Tensor) -> Tensor:
        stem = F.conv2d(x, self.p["stem.0.weight"], padding=1)
        stem = self.batch_norm(stem) * self.p["stem.1.weight"].view(1, -1, 1, 1)
        stem = stem + self.p["stem.1.bias"].view(1, -1, 1, 1)
        s0 = s1 = stem
        for index in range(3):
            s0, s1 = s1, self.cell(index, s0, s1)
        pooled = s1.sum(dim=(2, 3)) / (s1.shape[2] * s1.shape[3])
        logits = pooled @ self.p["classifier.weight"].T + self.p["classifier.bias"]
        picked = logits[torch.arange(len(labels)), labels]
        return (torch.log(torch.exp(logits).sum(dim=1)) - picked).mean()


@pytest.mark.parametrize("nodes", [2, 4])
def test_the_darts_supernet_equals_a_literal_reference(nodes: int) -> None:
    """Loss, α-gradient and all weight gradients to 1e-9 in float64."""
    with seeded_modules(1):
        network = supernet(
            DartsNetwork, (3, 8, 8), 5, channels=4, cells=3, nodes=nodes, affine=False, pool_norm=True
        ).double()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 3, 8, 8, generator=generator, dtype=torch.float64)
    labels = torch.tensor([0, 4, 2])
    (group,) = network.groups
    assert group.candidates == DARTS_CANDIDATES
    alpha = torch.randn(len(group.names), 8, generator=generator, dtype=torch.float64, requires_grad=True)
    named = dict(network.network.named_parameters())
    leaves = [alpha, *named.values()]

    loss = F.cross_entropy(network(x, [Sample(torch.softmax(alpha, dim=-1))]), labels)
    ours = torch.autograd.grad(loss, leaves)
    reference = Literal(named, nodes, alpha, list(group.names)).loss(x, labels)
    theirs = torch.autograd.grad(reference, leaves)

    assert abs(float(loss.detach() - reference.detach())) < 1e-9
    assert float(ours[0].norm()) > 1e-3
    for path, got, wanted in zip(["alpha", *named], ours, theirs, strict=True):
        assert float((got - wanted).abs().max()) < 1e-9, path
        assert float(wanted.abs().max()) > 0, path  # every parameter takes part


# --- published counts ------------------------------------------------------------------------------

# (operation, source) pairs, two per node, and the number of parameters of the network for CIFAR-10
# with 36 channels and 20 cells, without the auxiliary head.
Pairs = list[tuple[str, int]]
SEP3, SEP5, DIL3, DIL5 = "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5"
SKIP, MAX, AVG = "skip_connect", "max_pool_3x3", "avg_pool_3x3"
PUBLISHED: dict[str, tuple[int, Pairs, Pairs]] = {
    "DARTS_V1": (
        3_169_414,
        [(SEP3, 1), (SEP3, 0), (SKIP, 0), (SEP3, 1), (SKIP, 0), (SEP3, 1), (SEP3, 0), (SKIP, 2)],
        [(MAX, 0), (MAX, 1), (SKIP, 2), (MAX, 0), (MAX, 0), (SKIP, 2), (SKIP, 2), (AVG, 0)],
    ),
    "DARTS_V2": (
        3_349_342,
        [(SEP3, 0), (SEP3, 1), (SEP3, 0), (SEP3, 1), (SEP3, 1), (SKIP, 0), (SKIP, 0), (DIL3, 2)],
        [(MAX, 0), (MAX, 1), (SKIP, 2), (MAX, 1), (MAX, 0), (SKIP, 2), (SKIP, 2), (MAX, 1)],
    ),
    "SNAS_mild": (
        2_661_382,
        [(SEP3, 0), (SEP3, 1), (SKIP, 0), (DIL3, 1), (SKIP, 0), (SKIP, 1), (SKIP, 0), (SEP3, 1)],
        [(MAX, 0), (MAX, 1), (MAX, 1), (SKIP, 2), (MAX, 1), (SKIP, 2), (MAX, 0), (DIL5, 2)],
    ),
    "GDAS_V1": (
        3_368_782,
        [(SKIP, 0), (SKIP, 1), (SKIP, 0), (SEP5, 2), (SEP3, 3), (SKIP, 0), (SEP5, 4), (SEP3, 3)],
        [(SEP5, 0), (SEP3, 1), (SEP5, 2), (SEP5, 1), (DIL5, 2), (SEP3, 1), (SEP5, 0), (SEP5, 1)],
    ),
    "PC_DARTS_cifar": (
        3_634_678,
        [(SEP3, 1), (SKIP, 0), (SEP3, 0), (DIL3, 1), (SEP5, 0), (SEP3, 1), (AVG, 0), (DIL3, 1)],
        [(SEP5, 1), (MAX, 0), (SEP5, 1), (SEP5, 2), (SEP3, 0), (SEP3, 3), (SEP3, 1), (SEP3, 2)],
    ),
}


def published_cell(name: str) -> Architecture:
    """A published genotype: two edges per node, `none` elsewhere."""
    _, normal, reduce = PUBLISHED[name]
    choices = dict.fromkeys(NAMES["darts"], "none")
    for kind, pairs in (("normal", normal), ("reduce", reduce)):
        for index, (op, source) in enumerate(pairs):
            choices[f"{kind}/{2 + index // 2}<-{source}"] = op
    return Architecture(choices)


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_of_published_cells(name: str) -> None:
    with torch.device("meta"):
        network = concrete(DartsNetwork, published_cell(name), (3, 32, 32), 10, channels=36, cells=20)
    assert parameters(network) == PUBLISHED[name][0]


def test_parameters_of_the_auxiliary_head() -> None:
    with torch.device("meta"):
        network = concrete(
            DARTS.builder, published_cell("DARTS_V2"), (3, 32, 32), 10, **{**DARTS.train, "auxiliary": True}
        )
    head = network.auxiliary
    assert isinstance(head, AuxiliaryHead)
    assert parameters(head) == 476_426
    assert parameters(network) == 3_349_342 + 476_426


def test_parameters_of_the_darts_supernet() -> None:
    with torch.device("meta"):
        network = supernet(DARTS.builder, (3, 32, 32), 10, **DARTS.search)
    assert parameters(network) == 1_930_618


@pytest.mark.parametrize(
    ("candidate", "count"), [("none", 73_306), ("skip_connect", 73_306), ("nor_conv_3x3", 1_531_546)]
)
def test_parameters_of_nasbench201(candidate: str, count: int) -> None:
    with torch.device("meta"):
        network = concrete(
            NASBENCH201.builder,
            Architecture(dict.fromkeys(NAMES["nasbench201"], candidate)),
            (3, 32, 32),
            10,
            **NASBENCH201.train,
        )
    assert parameters(network) == count


def test_parameters_of_the_published_nasbench201_table(shared_data: Path) -> None:
    """Every 1,302nd row of the table, on its three data sets."""
    parquet = pytest.importorskip("pyarrow.parquet")
    path = shared_data / "nasbench201" / "nasbench201.parquet"
    if not path.is_file():
        pytest.skip("no NAS-Bench-201 table in the data folder")
    columns = {"params_cifar10": 10, "params_cifar100": 100, "params_imagenet16_120": 120}
    rows = parquet.read_table(path, columns=["arch", *columns]).to_pylist()
    assert len(rows) == 5**6
    for row in rows[::1302]:
        architecture = Architecture.from_nasbench201(row["arch"])
        with torch.device("meta"):
            found = {
                column: parameters(concrete(NasBench201Network, architecture, (3, 32, 32), classes))
                for column, classes in columns.items()
            }
        assert found == {column: row[column] for column in columns}, row["arch"]


# --- parts -----------------------------------------------------------------------------------------


def test_a_removed_edge_is_not_run() -> None:
    """`none` costs nothing in a concrete network; a node with nothing else is zero, from one edge."""
    kept = {"normal/3<-1": "skip_connect", "normal/4<-0": "skip_connect", "normal/4<-2": "max_pool_3x3"}
    architecture = Architecture(dict.fromkeys(NAMES["darts"], "none") | kept)
    network = concrete(DartsNetwork, architecture, (3, 8, 8), 10, channels=4, cells=3)
    ran = []
    for edge, module in network.cells[0].edges.items():
        module.register_forward_hook(lambda *_, edge=edge: ran.append(edge))
    network(torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert ran == ["2<-0", "3<-1", "4<-0", "4<-2", "5<-0"]


def test_the_wiring_of_the_nasbench201_cell() -> None:
    """Supernet and concrete network share this code, so neither checks it for the other."""
    with seeded_modules(0):
        cell = NasBench201Cell(lambda name, options: nn.Linear(3, 3), 3, 4, NASBENCH201_CANDIDATES, False)
    e, x = cell.edges, torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    one = e["1<-0"](x)
    two = e["2<-0"](x) + e["2<-1"](one)
    torch.testing.assert_close(cell(x), e["3<-0"](x) + e["3<-1"](one) + e["3<-2"](two))


def test_drop_path() -> None:
    drop, x = DropPath(), torch.ones(4000, 2, 1, 1)
    assert torch.equal(drop(x), x)  # probability 0
    set_drop_path(nn.Sequential(drop), 0.25, torch.Generator().manual_seed(0))
    before = torch.get_rng_state()
    y = drop(x)
    assert torch.equal(torch.get_rng_state(), before)
    assert y.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    assert torch.equal(y[:, 0], y[:, 1])  # a whole sample at once
    assert float((y == 0).float().mean()) == pytest.approx(0.25, abs=0.03)
    assert torch.equal(drop.eval()(x), x)


def test_drop_path_spares_identities() -> None:
    choices = dict.fromkeys(NAMES["darts"], "skip_connect") | {"normal/2<-0": "sep_conv_3x3"}
    network = concrete(DartsNetwork, Architecture(choices), (3, 8, 8), 10, channels=4, cells=3)
    dropping = [p for p, m in network.named_modules() if isinstance(m, DropPath)]
    reductions = [f"cells.{c}.edges.{j}<-{i}.1" for c in (1, 2) for j in range(2, 6) for i in range(2)]
    assert sorted(dropping) == sorted(["cells.0.edges.2<-0.1", *reductions])


def test_the_auxiliary_head_is_used_in_training_only() -> None:
    architecture = Architecture(dict.fromkeys(NAMES["darts"], "skip_connect"))
    network = concrete(DartsNetwork, architecture, (3, 32, 32), 10, channels=4, cells=3, auxiliary=True)
    x = torch.zeros(2, 3, 32, 32)
    logits, side = network.train()(x)
    assert logits.shape == side.shape == (2, 10)
    assert network.eval()(x).shape == (2, 10)


def test_a_builder_of_ones_own_is_a_space() -> None:
    def tiny(pick: Pick, shape: tuple[int, int, int], classes: int, width: int = 2) -> nn.Module:
        raise NotImplementedError

    assert list(as_space(tiny).settings()) == ["width"]
    assert as_space(tiny).unknown_settings({"widht": 3}) == [
        "'widht' - did you mean 'width'?; it takes width"
    ]
    with pytest.raises(UserError, match=r"first parameters of a space are \(pick, shape, classes\)"):
        as_space(lambda shape, pick, classes: None)
    with pytest.raises(UserError, match="a space is a function or class"):
        as_space(3)


# --- inheriting, and the contract's own teeth --------------------------------------------------------


def one_choice(pick: Pick, shape: tuple[int, int, int], classes: int, bias: bool = False) -> nn.Module:
    size = shape[0] * shape[1] * shape[2]
    return nn.Sequential(
        nn.Flatten(),
        pick(
            "op",
            {
                "linear": lambda: nn.Linear(size, size, bias=bias),
                "norm": lambda: nn.BatchNorm1d(size),
                "none": nn.Identity,
            },
        ),
        nn.Linear(size, classes),
    )


def built(bias: bool = False) -> Supernet:
    with seeded_modules(0):
        return supernet(one_choice, (1, 2, 2), 3, bias=bias)


def test_a_sound_space_passes() -> None:
    check_space(one_choice, (1, 2, 2), 3)


def test_inherit_copies_parameters_and_buffers() -> None:
    network, architecture = built(), Architecture({"op": "norm"})
    choice = network.choices()[0]
    choice.options[1].running_mean.fill_(0.25)
    target = concrete(one_choice, architecture, (1, 2, 2), 3)
    inherit(network, target, architecture)
    assert torch.equal(target[1].running_mean, torch.full((4,), 0.25))
    assert torch.equal(target[2].weight, network.network[2].weight)
    with torch.no_grad():
        target[2].weight.add_(1.0)  # a copy, no view
    assert not torch.equal(target[2].weight, network.network[2].weight)


def test_inherit_refuses_another_network() -> None:
    linear, norm = Architecture({"op": "linear"}), Architecture({"op": "norm"})
    with pytest.raises(UserError, match=r"missing in the supernet: 1\.bias"):
        inherit(built(), concrete(one_choice, linear, (1, 2, 2), 3, bias=True), linear)
    with pytest.raises(UserError, match=r"supernet \(4, 4\), concrete network \(8, 8\)"):
        inherit(built(), concrete(one_choice, linear, (2, 2, 2), 3), linear)
    with pytest.raises(UserError, match=r"missing in the concrete network: 1\.running_mean"):
        inherit(built(), concrete(one_choice, linear, (1, 2, 2), 3), norm)


def test_inherit_through_a_choice_inside_a_candidate() -> None:
    def nested(pick: Pick) -> nn.Module:
        inner = {"a": lambda: nn.Linear(2, 2), "b": nn.Tanh}
        return pick("outer", {"plain": nn.Identity, "deep": lambda: nn.Sequential(pick("inner", inner))})

    network, architecture = supernet(nested), Architecture({"outer": "deep", "inner": "a"})
    target = concrete(nested, architecture)
    inherit(network, target, architecture)
    x = torch.ones(1, 2)
    torch.testing.assert_close(target(x), network(x, network.one_hot(architecture)))


def is_supernet(pick: Pick) -> bool:
    """What a space must not ask: whether it is being searched or derived."""
    return isinstance(pick("probe", {"a": nn.Identity, "b": lambda: nn.Sequential()}), nn.Module) and (
        "supernet" in getattr(pick, "__qualname__", "")
    )


def differing(pick: Pick, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """The concrete twin has another activation."""
    activation = nn.Tanh() if is_supernet(pick) else nn.Sigmoid()
    return nn.Sequential(nn.Flatten(), activation, nn.Linear(shape[0] * shape[1] * shape[2], classes))


def with_more_parameters(pick: Pick, shape: tuple[int, int, int], classes: int) -> nn.Module:
    size = shape[0] * shape[1] * shape[2]
    extra = nn.Identity() if is_supernet(pick) else nn.BatchNorm1d(size)
    return nn.Sequential(nn.Flatten(), extra, nn.Linear(size, classes))


class Detached(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.detach()


def without_gradient(pick: Pick, shape: tuple[int, int, int], classes: int) -> nn.Module:
    size = shape[0] * shape[1] * shape[2]
    gate = Detached() if is_supernet(pick) else nn.Identity()
    return nn.Sequential(nn.Flatten(), nn.Linear(size, size), gate, nn.Linear(size, classes))


COUNTER = iter(range(1000))


def renaming(pick: Pick, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """A name that changes from building to building."""
    size = shape[0] * shape[1] * shape[2]
    gate = pick(f"op{next(COUNTER)}", {"a": nn.Identity, "b": nn.Tanh})
    return nn.Sequential(nn.Flatten(), gate, nn.Linear(size, classes))


def not_building(pick: Pick, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Candidate b builds only beside the others."""
    size = shape[0] * shape[1] * shape[2]
    gate = pick("op", {"a": nn.Identity, "b": nn.Tanh})
    if isinstance(gate, nn.Tanh):
        raise ZeroDivisionError("b alone")
    return nn.Sequential(nn.Flatten(), gate, nn.Linear(size, classes))


def wrong_classes(pick: Pick, shape: tuple[int, int, int], classes: int) -> nn.Module:
    size = shape[0] * shape[1] * shape[2]
    return nn.Sequential(
        nn.Flatten(), pick("op", {"a": nn.Identity, "b": nn.Tanh}), nn.Linear(size, classes + 1)
    )


class Leaking(nn.Module):
    """Infinite where it is run, whatever its weight."""

    def forward(self, x: Tensor) -> Tensor:
        return x / 0.0


def leaking(pick: Pick, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """A candidate whose output is not finite spoils a mixture even with weight 0."""
    size = shape[0] * shape[1] * shape[2]
    gate = pick("op", {"a": nn.Identity, "b": nn.Tanh, "c": nn.Sigmoid})
    if "supernet" in getattr(pick, "__qualname__", ""):
        gate.options[2] = Leaking()
    return nn.Sequential(nn.Flatten(), gate, nn.Linear(size, classes))


@pytest.mark.parametrize(
    ("space", "law"),
    [
        (differing, laws.ONE_HOT),
        (with_more_parameters, laws.PARAMETERS),
        (without_gradient, laws.WEIGHT_GRADIENT),
        (renaming, laws.NAMES),
        (not_building, laws.BUILDS),
        (wrong_classes, laws.BUILDS),
        (leaking, laws.INACTIVE),
    ],
)
def test_the_contract_catches(space: Callable[..., nn.Module], law: str) -> None:
    with pytest.raises(BrokenLaw) as caught:
        check_space(space, (1, 2, 2), 3)
    assert caught.value.law == law


def test_random_architectures_are_repeatable_and_varied() -> None:
    groups = built().groups
    drawn = [random_architecture(groups, torch.Generator().manual_seed(s)) for s in range(30)]
    assert drawn[3] == random_architecture(groups, torch.Generator().manual_seed(3))
    assert {a["op"] for a in drawn} == {"linear", "norm", "none"}
