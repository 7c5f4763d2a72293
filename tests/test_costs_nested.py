"""Costs of nested and shared choices: the table against the count of every architecture of small spaces."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from archgrad.architecture import Architecture
from archgrad.architecture_warnings import NONE
from archgrad.choice import Droppable, Group, Pick, concrete, supernet
from archgrad.costs import COSTS
from archgrad.costs.cost_table import CostTable, cost_table
from archgrad.costs.counting import Cost
from archgrad.costs.nested import Nested, extremes
from archgrad.errors import UserError
from archgrad.ops.zero import Zero
from archgrad.spaces.depth import repeat
from archgrad.spaces.mobile import MobileNetwork
from archgrad.spaces.width import choose_width

SHAPE = (3, 8, 8)
EXACT = [name for name in COSTS if isinstance(COSTS[name], Cost) and not COSTS[name].bound]


def conv(c_in: int, c_out: int, kernel: int = 3) -> nn.Module:
    return nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2)


def head(channels: int, classes: int) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def inside(pick: Pick, shape: tuple[int, ...], classes: int) -> nn.Module:
    """A choice in a candidate, that has one in a candidate itself; and one beside them."""

    def deep() -> nn.Module:
        return nn.Sequential(
            conv(4, 4), pick("deep", {"3": partial(conv, 4, 4), "5": partial(conv, 4, 4, 5)})
        )

    def middle() -> nn.Module:
        options = {"deep": deep, "plain": partial(conv, 4, 4), "nothing": nn.Identity}
        return nn.Sequential(pick("middle", options), nn.ReLU())

    outer = pick("outer", {"one": partial(conv, 4, 4, 1), "inside": middle})
    beside = pick("beside", {"3": partial(conv, 4, 4), "1": partial(conv, 4, 4, 1)})
    return nn.Sequential(conv(shape[0], 4), outer, beside, head(4, classes))


def depth(pick: Pick, shape: tuple[int, ...], classes: int) -> nn.Module:
    """A row of blocks that the candidates share, each with a choice of its own."""

    def block(i: int) -> nn.Module:
        return pick(f"block{i}", {"3": partial(conv, 4, 4), "1": partial(conv, 4, 4, 1)})

    return nn.Sequential(conv(shape[0], 4), repeat(pick, "depth", block, [0, 1, 3]), head(4, classes))


def width(pick: Pick, shape: tuple[int, ...], classes: int) -> nn.Module:
    """Two widths outside all candidates, one behind the other: they cost something together."""
    first, mask = choose_width(pick, "first", [2, 4])
    second, other = choose_width(pick, "second", [2, 3, 6])
    return nn.Sequential(
        conv(shape[0], first), mask, conv(first, second), other, conv(second, 4), head(4, classes)
    )


def mixed(pick: Pick, shape: tuple[int, ...], classes: int) -> nn.Module:
    """Depth, widths, activations in candidates, and an edge that may be dropped with a choice in it."""

    def block(i: int) -> nn.Module:
        wide, mask = choose_width(pick, f"width{i}", {"half": 4, "full": 8})
        act = pick("activation", {"relu": nn.ReLU, "swish": nn.SiLU})
        return nn.Sequential(conv(4, wide, 1), act, mask, conv(wide, 4, 1))

    kernels = {"3": partial(conv, 4, 4), "5": partial(conv, 4, 4, 5)}
    edge = Droppable(
        {"kernels": lambda: pick("kernels", kernels), "1": partial(conv, 4, 4, 1)},
        dropped=partial(Zero, 4, 4, 1),
    )
    row = repeat(pick, "depth", block, [1, 2])
    return nn.Sequential(conv(shape[0], 4), row, pick("edge", edge), head(4, classes))


class Cells(nn.Module):
    """One choice in two places of different sizes, one of which is inside a candidate."""

    def __init__(self, pick: Pick, shape: tuple[int, ...], classes: int):
        super().__init__()

        def op(stride: int) -> nn.Module:
            return pick(
                "op", {"3": lambda: nn.Conv2d(3, 3, 3, stride, 1), "id": partial(nn.AvgPool2d, stride)}
            )

        self.first = op(1)
        self.second = pick("second", {"op": partial(op, 2), "pool": partial(nn.AvgPool2d, 2)})
        self.head = head(3, classes)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.second(self.first(x)))
        return y


MOBILE = partial(
    MobileNetwork,
    channels=4,
    stages=[[16, 2, 1], [24, 1, 2]],
    reductions=1,
    head=32,
    candidates=["mb_k3_e3", "mb_k5_e6_se", "mb_k3_e1", "skip_connect"],
    widths=[0.5, 0.75, 1],
)
SPACES: dict[str, Callable[..., nn.Module]] = {
    "inside": inside,
    "depth": depth,
    "width": width,
    "mixed": mixed,
    "cells": Cells,
}


def every(groups: Sequence[Group]) -> Iterator[Architecture]:
    """All architectures of a space."""
    names = [(name, group) for group in groups for name in group.names]
    lists = [(*g.candidates, NONE) if g.kind == "droppable" else g.candidates for _, g in names]
    for chosen in itertools.product(*lists):
        yield Architecture({name: k for (name, _), k in zip(names, chosen, strict=True)})


def counted(cost: str, space: Callable[..., nn.Module], architecture: Architecture) -> float:
    """The cost of the derived network, counted by itself."""
    run = COSTS[cost].run(partial(concrete, space, architecture, SHAPE, 5), SHAPE)
    return float(COSTS[cost].count(run.network.modules(), run).value)


def probability(groups: Sequence[Group], p: Sequence[Tensor], architecture: Architecture) -> Tensor:
    """Of an architecture under independent choices; of `none` in its place, what the row leaves over."""
    total = torch.ones((), dtype=torch.float64)
    for group, rows in zip(groups, p, strict=True):
        for name, row in zip(group.names, rows, strict=True):
            dropped = architecture[name] == NONE and group.kind == "droppable"
            total = total * (1 - row.sum() if dropped else row[group.candidates.index(architecture[name])])
    return total


@pytest.mark.parametrize("cost", EXACT)
@pytest.mark.parametrize("name", SPACES)
def test_the_table_is_the_count_of_every_architecture(name: str, cost: str) -> None:
    space = SPACES[name]
    table = cost_table(cost, space, SHAPE, 5)
    assert table.uncounted == ()
    found = {architecture: counted(cost, space, architecture) for architecture in every(table.choices)}
    assert {a: table.of(a) for a in found} == found
    assert table.bounds() == (min(found.values()), max(found.values()))
    generator = torch.Generator().manual_seed(1)
    p = [torch.rand(c.shape, generator=generator, dtype=torch.float64) for c in table.groups]
    p = [
        (rows / rows.sum(dim=-1, keepdim=True) * (0.9 if group.kind == "droppable" else 1)).requires_grad_()
        for group, rows in zip(table.choices, p, strict=True)
    ]
    mean = torch.stack([probability(table.choices, p, a) * c for a, c in found.items()]).sum()
    torch.testing.assert_close(table.expected(p), mean, rtol=1e-12, atol=0)
    ours, theirs = (torch.autograd.grad(value, p) for value in (table.expected(p), mean))
    for group, got in zip(table.choices, ours, strict=True):
        assert float(got.abs().max()) > 0 or group.names == ("activation",)  # ReLU and SiLU cost as much
    # off the simplex the two are different functions of the droppable rows, on it they have one slope
    for group, got, wanted in zip(table.choices, ours, theirs, strict=True):
        if group.kind != "droppable":
            torch.testing.assert_close(
                got - got.mean(dim=-1, keepdim=True), wanted - wanted.mean(dim=-1, keepdim=True)
            )


@pytest.mark.parametrize("cost", EXACT)
def test_mobile_blocks_with_widths(cost: str) -> None:
    table = cost_table(cost, MOBILE, SHAPE, 5)
    widths = [joint for joint in table.nested if joint.names[1:]]
    assert {joint.names[1] for joint in widths} == {
        f"stage{s}/width" for s in ("1/layer1", "1/layer2", "2/layer1")
    }
    generator = torch.Generator().manual_seed(2)
    for _ in range(12):
        rows = [(name, g.candidates) for g in table.choices for name in g.names]
        drawn = Architecture({n: c[int(torch.randint(len(c), (), generator=generator))] for n, c in rows})
        assert table.of(drawn) == pytest.approx(counted(cost, MOBILE, drawn), rel=1e-12)
    cheapest, dearest = table.bounds()
    assert cheapest <= table.of(drawn) <= dearest
    dear = Architecture({n: "1" if n.endswith("width") else "mb_k5_e6_se" for n, _ in rows})
    assert dearest == table.of(dear)


def test_what_a_candidate_brings_is_billed_with_it_alone() -> None:
    table = cost_table("macs", inside, SHAPE, 5)
    assert {joint.names for joint in table.nested} == {("outer", "middle"), ("outer", "middle", "deep")}
    # a choice in a candidate that is not chosen need not be named
    plain = Architecture({"outer": "one", "beside": "3"})
    assert table.of(plain) == counted("macs", inside, plain)
    with pytest.raises(UserError, match="no choice 'deep'"):
        table.of(Architecture({"outer": "inside", "middle": "deep", "beside": "3"}))
    with pytest.raises(UserError, match="no candidate 'depe'"):
        table.of(Architecture({"outer": "inside", "middle": "depe", "beside": "3"}))


def test_many_searches_at_once_with_nested_choices() -> None:
    table = cost_table("macs", inside, SHAPE, 5)
    generator = torch.Generator().manual_seed(3)
    z = [torch.rand(4, 2, *c.shape, generator=generator, dtype=torch.float64) for c in table.groups]
    together = table.expected(z)
    assert together.shape == (4, 2)
    assert float(together[3, 1]) == pytest.approx(float(table.expected([rows[3, 1] for rows in z])))


def test_a_depth_is_a_sum_again() -> None:
    """Shared blocks stand in several candidates of one choice: no joint cost, and billed once."""

    def row(pick: Pick, shape: tuple[int, ...], classes: int) -> nn.Module:
        return nn.Sequential(repeat(pick, "depth", lambda i: conv(3, 3), [1, 2, 4]), head(3, classes))

    table = cost_table("parameters", row, SHAPE, 5)
    assert table.nested == ()
    assert table.groups[0].tolist() == [[84, 168, 336]]


# --- what is refused ------------------------------------------------------------------------------


class Again(nn.Module):
    """Two candidates of two choices are one layer: it runs as often as it is chosen."""

    def __init__(self, pick: Pick, shape: tuple[int, ...], classes: int):
        super().__init__()
        layer = conv(3, 3)
        self.first = pick("first", {"layer": lambda: layer, "id": nn.Identity})
        self.second = pick("second", {"layer": lambda: layer, "id": nn.Identity})
        self.head = head(3, classes)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.second(self.first(x)))
        return y


@pytest.mark.parametrize("cost", ["parameters", "macs"])
def test_a_layer_of_two_choices_is_refused(cost: str) -> None:
    with pytest.raises(UserError, match="no sum over the choices of this space"):
        cost_table(cost, Again, SHAPE, 5)


def test_too_many_widths_at_once_are_refused() -> None:
    def row(pick: Pick, shape: tuple[int, ...], classes: int) -> nn.Module:
        layers: list[nn.Module] = []
        c_in = shape[0]
        for i in range(5):
            wide, mask = choose_width(pick, f"width{i}", [1, 2, 3])
            layers += [conv(c_in, wide), mask]
            c_in = wide
        return nn.Sequential(*layers, head(c_in, classes))

    with pytest.raises(UserError, match="many choices change what is built"):
        cost_table("macs", row, SHAPE, 5)


def test_a_cost_that_is_no_sum_over_modules_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "largest_cost.py").write_text(
        "from archgrad.costs.counting import Cost, Count\n"
        "def count(part, run):\n"
        "    return Count(max((c.output.numel() for m in part for c in run.calls.get(m, [])), default=0))\n"
        "LARGEST = Cost('numbers', count)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match="no sum over the choices"):
        cost_table("largest_cost:LARGEST", inside, SHAPE, 5)


def test_a_width_outside_all_candidates_is_not_billed_as_the_widest() -> None:
    """The supernet's parts add up to its own cost, and yet are not those of the networks."""
    table = cost_table("parameters", width, SHAPE, 5)
    assert {joint.names for joint in table.nested} == {("first", "second")}


# --- the least and the greatest -------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_extremes_are_those_of_all_decisions(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    sizes = {"a": 2, "b": 3, "c": 2, "d": 4, "e": 2}

    def numbers(*names: str) -> Tensor:
        return torch.randint(0, 50, [sizes[n] for n in names], generator=generator).double()

    rows = {name: numbers(name) for name in sizes}
    joint = [Nested(n, numbers(*n)) for n in (("a", "b"), ("b", "c", "d"), ("d", "a"), ("c", "b"))]
    totals = []
    for k in itertools.product(*(range(n) for n in sizes.values())):
        at = dict(zip(sizes, k, strict=True))
        total = sum(float(rows[n][at[n]]) for n in sizes)
        totals.append(total + sum(float(t.costs[tuple(at[n] for n in t.names)]) for t in joint))
    assert extremes(rows, joint) == (min(totals), max(totals))


def test_extremes_of_too_many_that_depend_on_one_another() -> None:
    names = tuple(f"c{i}" for i in range(30))
    rows = {name: torch.ones(4, dtype=torch.float64) for name in names}
    joint = [Nested(pair, torch.ones(4, 4, dtype=torch.float64)) for pair in itertools.combinations(names, 2)]
    with pytest.raises(UserError, match="give them fewer candidates"):
        extremes(rows, joint)


# --- tables from outside --------------------------------------------------------------------------


GROUP = Group(("a", "b"), ("x", "y"))


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
def test_entries_of_a_table_are_finite_and_not_negative(wrong: float) -> None:
    costs = torch.tensor([[1.0, 2.0], [wrong, 0.0]], dtype=torch.float64)
    with pytest.raises(UserError, match=r"candidate 'a' of choice 'y' costs .* ms; wanted a finite number"):
        CostTable("latency", "ms", 0.0, (GROUP,), (costs,))
    with pytest.raises(UserError, match="everything outside the choices costs"):
        CostTable("latency", "ms", wrong, (GROUP,), (costs.nan_to_num(0, 0, 0).abs(),))
    joint = Nested(("x", "y"), costs)
    with pytest.raises(UserError, match="x, y cost together"):
        CostTable("latency", "ms", 0.0, (GROUP,), (torch.ones(2, 2),), nested=(joint,))


def test_tables_have_the_shape_of_their_choices() -> None:
    with pytest.raises(UserError, match=r"of shapes \[\(2, 2\)\], got \[\(2, 3\)\]"):
        CostTable("latency", "ms", 0.0, (GROUP,), (torch.ones(2, 3),))
    for joint in (Nested(("x", "z"), torch.ones(2, 2)), Nested(("x", "y"), torch.ones(2, 3))):
        with pytest.raises(UserError, match="cost together has shape"):
            CostTable("latency", "ms", 0.0, (GROUP,), (torch.ones(2, 2),), nested=(joint,))


def test_what_is_not_counted_is_named_where_a_limit_depends_on_it() -> None:
    ones: Any = torch.ones(2, 2)
    CostTable("macs", "MACs", 0.0, (GROUP,), (ones,)).require_counted()
    with pytest.raises(UserError, match="'macs' has no rule for LSTM, bmm in Attention"):
        CostTable("macs", "MACs", 0.0, (GROUP,), (ones,), ("LSTM", "bmm in Attention")).require_counted()


def test_supernets_of_these_spaces_run() -> None:
    for space in SPACES.values():
        assert supernet(space, SHAPE, 5).groups
