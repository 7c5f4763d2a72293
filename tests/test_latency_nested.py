"""Choices inside candidates of others: which pieces there are, what they add up to, and what is refused."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from archgrad.architecture import Architecture
from archgrad.choice import Droppable, Group, Pick, concrete
from archgrad.errors import UserError
from archgrad.latency import models
from archgrad.latency.candidates import Found, Target, find
from archgrad.latency.models import one_hot, predict
from archgrad.latency.nested import MOST, decisions
from archgrad.latency.table import LatencyTable, load_table
from archgrad.latency.timing import Plan
from archgrad.ops.zero import Zero
from archgrad.spaces.depth import repeat
from archgrad.spaces.width import choose_width
from archgrad.testing.spaces import random_architecture
from archgrad.verbs.latency import How, measure_latency, write_latency_kit

SHAPE = (3, 8, 8)
MOBILE = {
    "channels": 4,
    "reductions": 2,
    "stages": [[16, 1, 1], [24, 2, 2]],
    "head": 16,
    "candidates": ["mb_k3_e1", "mb_k3_e3", "mb_k5_e6_se", "skip_connect"],
    "widths": [0.25, 0.5, 1.0],
}


def conv(c_in: int, c_out: int, kernel: int = 3) -> nn.Module:
    return nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2)


def head(channels: int, classes: int) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def inside(pick: Pick, shape: tuple[int, ...], classes: int) -> nn.Module:
    """A choice in a candidate that has one in a candidate itself, and one beside them."""

    def deep() -> nn.Module:
        options = {"3": partial(conv, 4, 4), "5": partial(conv, 4, 4, 5)}
        return nn.Sequential(conv(4, 4), pick("deep", options))

    def middle() -> nn.Module:
        options = {"deep": deep, "plain": partial(conv, 4, 4), "nothing": nn.Identity}
        return nn.Sequential(pick("middle", options), nn.ReLU())

    outer = pick("outer", {"one": partial(conv, 4, 4, 1), "inside": middle})
    beside = pick("beside", {"3": partial(conv, 4, 4), "1": partial(conv, 4, 4, 1)})
    return nn.Sequential(conv(shape[0], 4), outer, beside, head(4, classes))


def depth(pick: Pick, shape: tuple[int, ...], classes: int) -> nn.Module:
    """A row of blocks that the candidates share, each with a choice of its own and one in common."""

    def block(i: int) -> nn.Module:
        act = pick("activation", {"relu": nn.ReLU, "prelu": nn.PReLU})
        return nn.Sequential(pick(f"block{i}", {"3": partial(conv, 4, 4), "1": partial(conv, 4, 4, 1)}), act)

    return nn.Sequential(conv(shape[0], 4), repeat(pick, "depth", block, [0, 1, 3]), head(4, classes))


def common(pick: Pick, shape: tuple[int, ...], classes: int) -> nn.Module:
    """Two choices whose candidates have a width in common."""

    def wide() -> nn.Module:
        width, mask = choose_width(pick, "width", {"half": 4, "full": 8})
        return nn.Sequential(conv(4, width), mask, conv(width, 4))

    rows = [pick(name, {"wide": wide, "thin": partial(conv, 4, 4)}) for name in ("a", "b")]
    return nn.Sequential(conv(shape[0], 4), *rows, head(4, classes))


def target_of(space: str) -> Target:
    if space == "mobile":
        return Target.of("mobile", SHAPE, 10, MOBILE)
    builders: dict[str, Callable[..., nn.Module]] = {"inside": inside, "depth": depth, "common": common}
    return Target(space, builders[space], SHAPE, 5, {})


def by_parameters(found: Found) -> models.Pieces:
    """As if a piece took a millisecond for each of its parameters."""
    entries = {
        key: {"median": float(sum(p.numel() for p in module.parameters())), "idle": False}
        for key, module in found.modules.items()
    }
    return models.pieces_of({**found.manifest, "entries": entries, "call": None})


def every_architecture(groups: tuple[Group, ...]) -> list[Architecture]:
    rows = [(name, group.candidates) for group in groups for name in group.names]
    product = itertools.product(*(candidates for _, candidates in rows))
    return [Architecture(dict(zip((n for n, _ in rows), chosen, strict=True))) for chosen in product]


@pytest.mark.parametrize("space", ["inside", "depth", "common", "mobile"])
def test_the_pieces_of_a_network_have_its_parameters(space: str) -> None:
    """The sum of the table at a one-hot against networks that are built by themselves."""
    target = target_of(space)
    found = find(target)
    pieces = by_parameters(found)
    if space == "mobile":
        generator = torch.Generator().manual_seed(0)
        architectures = [random_architecture(found.groups, generator) for _ in range(40)]
    else:
        architectures = every_architecture(found.groups)
    sums = predict(pieces.sum, one_hot(pieces, architectures))
    assert len(set(sums)) > 5 or space == "common"
    for architecture, summed in zip(architectures, sums, strict=True):
        network = concrete(target.builder, architecture, target.shape, target.classes, **target.settings)
        assert summed == sum(p.numel() for p in network.parameters()), architecture


@pytest.mark.parametrize("space", ["inside", "depth", "common", "mobile"])
def test_the_cost_of_a_table_is_its_sum_and_its_expectation_exact(space: str, tmp_path: Path) -> None:
    table = LatencyTable(made_up(find(target_of(space))), "made up")
    cost = table.cost_table()
    generator = torch.Generator().manual_seed(1)
    few = [random_architecture(table.pieces.groups, generator) for _ in range(10)]
    assert [cost.of(a) for a in few] == pytest.approx(table.predict(few))
    weights = [
        torch.rand(len(g.names), len(g.candidates), generator=generator, dtype=torch.float64).softmax(-1)
        for g in table.pieces.groups
    ]
    if space == "mobile":
        return
    total = 0.0
    for architecture in every_architecture(table.pieces.groups):
        chosen = one_hot(table.pieces, [architecture])
        rows = [(w * torch.from_numpy(z[0])).sum(-1) for w, z in zip(weights, chosen, strict=True)]
        total += float(torch.cat(rows).prod()) * cost.of(architecture)
    assert float(cost.expected(weights)) == pytest.approx(total, rel=1e-12)
    low, high = cost.bounds()
    every = [cost.of(a) for a in every_architecture(table.pieces.groups)]
    assert (low, high) == (pytest.approx(min(every)), pytest.approx(max(every)))


def made_up(found: Found) -> dict[str, Any]:
    """The document of a table of made-up times."""
    numbers = dict.fromkeys(("lower_quartile", "upper_quartile", "mad"), 0.0)
    entries = {
        key: {
            "what": p["what"],
            "idle": p["idle"],
            "median": 0.1 + (sum(map(ord, key)) % 97) / 100,
            **numbers,
        }
        for key, p in found.manifest["pieces"].items()
    }
    kept = ("space", "batch", "precision", "groups", "nested", "fixed", "uncounted")
    return {
        "format": "archgrad-latency",
        "version": 2,
        **{key: found.manifest[key] for key in kept},
        "device": {"processor": "made up", "cores": 2, "threads": 1, "accelerator": None, "system": "none"},
        "backend": {"name": "torch", "versions": {"torch": torch.__version__}},
        "clock": "wall",
        "plan": {"rounds": 4, "reading_seconds": 1e-4, "drift": 0.1},
        "rounds": {"warnings": []},
        "reference": next(iter(entries)),
        "entries": entries,
        "call": None,
        "whole": None,
        "predictor": None,
    }


def test_equal_combinations_are_measured_once() -> None:
    """Half of six times the channels is all of three times: the same block."""
    widths = {"candidates": ["mb_k3_e3", "mb_k3_e6"], "widths": [0.5, 1.0]}
    found = find(Target.of("mobile", SHAPE, 10, {**MOBILE, **widths}))
    one = next(joint for joint in found.manifest["nested"] if joint["names"][0] == "stage2/layer2")
    cells = {tuple(cell["at"]): cell["pieces"] for cell in one["cells"]}
    assert len(cells) == 4
    assert cells["mb_k3_e3", "1"] == cells["mb_k3_e6", "0.5"]
    assert len({json.dumps(cell) for cell in cells.values()}) == 3


@pytest.mark.parametrize("model", ["scaled", "boundary", "ridge"])
def test_a_correction_covers_what_choices_cost_together(model: str) -> None:
    found = find(target_of("mobile"))
    document = made_up(found)
    generator = torch.Generator().manual_seed(2)
    drawn = [random_architecture(found.groups, generator) for _ in range(60)]
    sums = LatencyTable(document, "made up").predict(drawn)
    numbers = dict.fromkeys(("lower_quartile", "upper_quartile", "mad"), 0.0)
    networks = [
        {"architecture": dict(a), "median": 0.2 + 1.3 * s, **numbers}
        for a, s in zip(drawn, sums, strict=True)
    ]
    document["whole"] = {"networks": networks, "rounds": {"warnings": []}, "reference_change": 0.0}
    table = LatencyTable(document, "made up")
    cost = table.cost_table(model)
    assert np.allclose([cost.of(a) for a in drawn], [0.2 + 1.3 * s for s in sums], rtol=1e-3)
    assert models.needed("boundary", table.pieces) == 2 * (3 + 2)  # widths are no boundaries of their own
    widths = [g for g, group in enumerate(table.pieces.groups) if group.names[0].endswith("/width")]
    assert all(not table.additive(model).numbers[g].any() for g in widths)


# ---- refused


def test_too_many_combinations_are_refused_with_their_number() -> None:
    def space(pick: Pick, shape: Any, classes: int) -> nn.Module:
        def block(i: int) -> nn.Module:
            return pick(f"block{i}", {str(k): partial(conv, 4, 4, k) for k in (1, 3, 5)})

        return nn.Sequential(conv(3, 4), repeat(pick, "depth", block, [1, 4]), head(4, classes))

    with pytest.raises(UserError, match=rf"inside choice 'depth' stand.* 81 combinations.* at most {MOST}"):
        find(Target("mine", space, SHAPE, 5, {}))


def test_combinations_of_different_choices_do_not_multiply() -> None:
    group = Group(("a", "b", "c"), ("x", "y", "z"))
    found = decisions([group], {("outer", "k"): ("x",), ("other", "k"): ("y",), ("third", "k"): ("z",)})
    assert len(found) == 3
    assert {d["y"] for d in found} == {"a", "b", "c"}
    together = decisions([group], {("outer", "k"): ("x", "y"), ("other", "k"): ("y", "z")})
    assert len(together) == len({tuple(d.values()) for d in together}) == 27


def test_a_choice_inside_and_outside_is_refused() -> None:
    def space(pick: Pick, shape: Any, classes: int) -> nn.Module:
        def act() -> nn.Module:
            return pick("act", {"relu": nn.ReLU, "tanh": nn.Tanh})

        outer = pick(
            "outer", {"with": lambda: nn.Sequential(conv(4, 4), act()), "plain": partial(conv, 4, 4)}
        )
        return nn.Sequential(conv(3, 4), act(), outer, head(4, classes))

    with pytest.raises(UserError, match=r"'act' stands inside a candidate .* and outside of all"):
        find(Target("mine", space, SHAPE, 5, {}))


def test_an_inner_choice_that_may_be_left_out_is_refused() -> None:
    def space(pick: Pick, shape: Any, classes: int) -> nn.Module:
        def edge() -> nn.Module:
            return pick("edge", Droppable({"3": partial(conv, 4, 4), "1": partial(conv, 4, 4, 1)}, zero))

        def zero() -> nn.Module:
            return Zero(4, 4, 1)

        outer = pick(
            "outer", {"with": lambda: nn.Sequential(conv(4, 4), edge()), "plain": partial(conv, 4, 4)}
        )
        return nn.Sequential(conv(3, 4), outer, head(4, classes))

    with pytest.raises(UserError, match=r"'edge' stands inside .* may be left out"):
        find(Target("mine", space, SHAPE, 5, {}))


def test_a_width_outside_all_candidates_is_refused() -> None:
    """The supernet has the widest layers only, so their pieces are not those of a network."""

    def space(pick: Pick, shape: Any, classes: int) -> nn.Module:
        wide, mask = choose_width(pick, "width", [2, 4])
        return nn.Sequential(conv(3, wide), mask, conv(wide, 4), head(4, classes))

    with pytest.raises(UserError, match="a choice changes what is built around it"):
        find(Target("mine", space, SHAPE, 5, {}))


def test_a_damaged_combination_is_refused() -> None:
    document = made_up(find(target_of("mobile")))
    lost = next(iter(document["nested"][0]["cells"][0]["pieces"]))
    del document["entries"][lost]
    with pytest.raises(UserError, match=r"has no entry for .*mb_k3_e3 with 0\.25"):
        LatencyTable(document, "made up")


def test_a_table_of_the_version_before_is_read() -> None:
    found = find(Target.of("nasbench201", SHAPE, 10, {"channels": 2, "cells": 1, "stages": 1}))
    document = {**made_up(found), "version": 1}
    now = LatencyTable(dict(document), "made up").cost_table()
    assert document.pop("nested") == []
    before = LatencyTable(document, "made up").cost_table()
    assert before.bounds() == now.bounds()


# ---- measured


def test_widths_are_measured_and_hold_a_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import archgrad.verbs.latency as verb

    monkeypatch.setattr(verb, "Plan", lambda rounds, drift: Plan(rounds, 1e-4, drift=drift))
    target, path = target_of("mobile"), tmp_path / "table.json"
    table = measure_latency(target, path, How(rounds=4, drift=1e6), validate=5)
    groups = target.supernet().groups
    cost = load_table(path, groups, target=target, model="sum")
    widest = Architecture(
        {n: "1" if n.endswith("/width") else "mb_k5_e6_se" for g in groups for n in g.names}
    )
    entries = {key: entry["median"] for key, entry in table.document["entries"].items()}
    wanted = sum(entries[key] * n for key, n in table.document["fixed"].items())
    for joint in table.document["nested"]:
        (cell,) = [c for c in joint["cells"] if c["at"] == [widest[name] for name in joint["names"]]]
        wanted += sum(entries[key] * n for key, n in cell["pieces"].items())
    assert cost.of(widest) == pytest.approx(wanted, rel=1e-12)
    weights = [s.weights for s in target.supernet().one_hot(widest)]
    assert float(cost.expected(weights)) == pytest.approx(wanted, rel=1e-5)


def test_a_kit_has_every_combination(tmp_path: Path) -> None:
    settings = {**MOBILE, "reductions": 1, "stages": [[16, 1, 1]], "candidates": ["mb_k3_e3", "skip_connect"]}
    manifest = write_latency_kit(Target.of("mobile", SHAPE, 10, settings), tmp_path / "kit")
    (joint,) = manifest["nested"]
    assert [cell["at"] for cell in joint["cells"]] == [["mb_k3_e3", w] for w in ("0.25", "0.5", "1")]
    files = {manifest["pieces"][key]["file"] for cell in joint["cells"] for key in cell["pieces"]}
    assert len(files) == 3
    assert all((tmp_path / "kit" / file).is_file() for file in files)
