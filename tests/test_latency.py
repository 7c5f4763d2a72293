"""Pieces of a space, tables and what they refuse, models of whole networks, published devices."""

from __future__ import annotations

import copy
import json
import math
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from archgrad.architecture import Architecture
from archgrad.choice import Group, Pick, supernet
from archgrad.derive import random_derivation
from archgrad.errors import UserError
from archgrad.landscapes.nasbench201 import NASBench201
from archgrad.latency import models
from archgrad.latency.candidates import Target, find
from archgrad.latency.device_script import Calls, table_of
from archgrad.latency.models import Additive, Pieces, Quality, choose, compare, one_hot, predict
from archgrad.latency.published import additive_fit, devices, published
from archgrad.latency.report import correction, latency_document, latency_text, validation
from archgrad.latency.table import LatencyTable, load_table
from archgrad.latency.timing import ClockTimer, Plan
from archgrad.randomness import Streams
from archgrad.spaces import SPACES
from archgrad.spaces.space import as_space
from archgrad.testing.spaces import random_architecture

SMALL = {"channels": 4, "cells": 2, "stages": 2}


def small() -> Target:
    return Target.of("nasbench201", (3, 8, 8), 10, SMALL)


class Machine:
    """A machine of which it is known what a piece takes; `networks` gives whole ones their time."""

    def __init__(self) -> None:
        self.now = 0.0

    def timer(self) -> ClockTimer:
        def clock() -> float:
            self.now += 1e-8
            return self.now

        return ClockTimer(clock)

    def call(self, seconds: float) -> Any:
        def run() -> None:
            self.now += seconds

        return run


def seconds_of(what: str) -> float:
    """Made-up times, each different."""
    return 1e-4 + 1e-5 * (sum(map(ord, what)) % 97)


WHERE = {
    "device": {"processor": "made up", "cores": 2, "threads": 1, "accelerator": None, "system": "none"},
    "backend": {"name": "torch", "versions": {"torch": torch.__version__}},
    "clock": "wall",
}


def made_up(tmp_path: Path, target: Target, networks: int = 0, overhead: Any = None) -> dict[str, Any]:
    """The document of a table measured on a `Machine`; a network takes overhead(sum, architecture)."""
    found, machine = find(target), Machine()
    rule = as_space(SPACES[target.space]).rule
    drawn = [
        random_derivation(found.groups, rule, Streams(5), "test", i).architecture for i in range(networks)
    ]
    found.manifest["whole"] = [{"architecture": dict(a)} for a in drawn]
    pieces = {key: machine.call(seconds_of(p["what"])) for key, p in found.manifest["pieces"].items()}

    def whole() -> list[Any]:
        entries = {
            key: {"median": 1e3 * seconds_of(p["what"]), "idle": p["idle"]}
            for key, p in found.manifest["pieces"].items()
        }
        known = models.pieces_of({**found.manifest, "entries": entries, "call": None})
        sums = predict(known.sum, one_hot(known, drawn))
        return [machine.call(float(1e-3 * overhead(s, a))) for s, a in zip(sums, drawn, strict=True)]

    plan = Plan(rounds=4, reading_seconds=1e-4)
    calls = Calls(pieces, whole, machine.timer())
    table = table_of(found.manifest, calls, plan, WHERE, tmp_path / "partial")
    return {**table, "predictor": None}


# ---- pieces


@pytest.mark.parametrize("space", ["nasbench201", "darts", "mobile", "pc_darts", "s1"])
def test_the_sum_of_the_pieces_is_the_count_of_their_calls_in_a_network(space, tmp_path):
    """One millisecond for each piece of a candidate: the table's sum is the number of candidates called."""
    given = {
        "darts": {"channels": 4, "cells": 3},
        "s1": {"channels": 4, "cells": 3},
        "pc_darts": {"channels": 4, "cells": 3},
    }
    target = Target.of(
        space, (3, 16, 16), 10, given.get(space, {"channels": 4} if space == "mobile" else SMALL)
    )
    found = find(target)
    names = {key: {"median": 1.0, "idle": False} for key in found.manifest["pieces"]}
    known = models.pieces_of({**found.manifest, "entries": names, "call": None})
    assert known.groups == tuple(g for g in found.groups if g.chosen)
    architecture = random_architecture(found.groups, torch.Generator().manual_seed(0))
    (total,) = predict(known.sum, one_hot(known, [architecture]))
    network = target.supernet()
    calls = dict.fromkeys(architecture, 0)
    for choice in network.choices():
        if choice.name in calls and architecture[choice.name] in choice.candidates:
            calls[choice.name] += 1
    assert total - known.sum.fixed == sum(calls.values())
    assert known.sum.fixed == sum(found.manifest["fixed"].values()) > 0


def test_equal_pieces_are_measured_once_and_others_apart():
    found = find(small())
    whats = [piece["what"] for piece in found.manifest["pieces"].values()]
    assert len(whats) == len(set(whats)) == 2 * 5 + 3  # two stages of five candidates; stem, reduction, head
    (group,) = found.manifest["groups"]
    assert all(sum(cell.values()) == 4 for row in group["entries"] for cell in row)  # two cells a stage
    idle = {p["what"].split()[0] for p in found.manifest["pieces"].values() if p["idle"]}
    assert idle == {"none", "skip_connect"}
    strided = find(Target.of("darts", (3, 16, 16), 10, {"channels": 4, "cells": 3}))
    skips = [p for p in strided.manifest["pieces"].values() if p["what"].startswith("skip_connect on 8x")]
    assert {p["idle"] for p in skips} == {False, True}  # identities, and the reduction of stride 2


class Scale(nn.Module):
    """The same type and shapes, another setting."""

    def __init__(self, factor: object) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2


def own_space(pick: Pick, shape: Any, classes: int, factors: Any = (1, 2)) -> nn.Module:
    choice = pick("outer", {f"x{i}": partial(Scale, factor) for i, factor in enumerate(factors)})
    return nn.Sequential(choice, nn.Flatten(), nn.Linear(math.prod(shape), classes))


def test_pieces_differ_where_their_settings_do():
    def count(*factors: Any) -> int:
        target = Target("mine", own_space, (1, 4, 4), 3, {"factors": factors})
        return len(find(target).manifest["pieces"])

    around = 2  # flatten and linear
    assert count(1, 1) == around + 1
    assert count(1, 2) == around + 2
    assert count((1, [2]), (1, [2])) == around + 1
    assert count({"a": 1}, {"a": 2}) == around + 2
    assert count(torch.relu, object()) == around + 2  # what cannot be compared is a piece of its own
    assert count(object(), object()) == around + 2


class Twice(nn.Module):
    """Goes through its part twice."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.part(self.part(x))
        return y


def used_twice(pick: Pick, shape: Any, classes: int) -> nn.Module:
    choice = pick("outer", {"a": lambda: Scale(1), "b": lambda: Scale(2)})
    return nn.Sequential(Twice(choice), nn.Flatten(), nn.Linear(math.prod(shape), classes))


def test_a_choice_that_is_used_twice_counts_twice():
    (group,) = find(Target("mine", used_twice, (1, 4, 4), 3, {})).manifest["groups"]
    assert [list(cell.values()) for cell in group["entries"][0]] == [[2], [2]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("darts_rnn", (3, 8, 8)), "reads texts"),
        (("nasbench201", (3, 8, 8), 10, {"chanels": 4}), "did you mean 'channels'"),
        (("nasbench201", (8, 8), 10), "wanted an image"),
        (("nasbench2O1", (3, 8, 8)), "did you mean 'nasbench201'"),
    ],
)
def test_targets_are_checked(arguments, message):
    with pytest.raises(UserError, match=message):
        Target.of(*arguments)


# ---- the table


def test_a_table_has_what_was_measured(tmp_path):
    document = made_up(tmp_path, small())
    for entry in document["entries"].values():
        assert entry["median"] == pytest.approx(1e3 * seconds_of(entry["what"]), rel=1e-2)
        assert entry["n"] == 4
    table = LatencyTable(document, "made up")
    cost = table.cost_table()
    assert (cost.name, cost.unit) == ("latency", "ms")
    architecture = Architecture(dict.fromkeys(cost.choices[0].names, "nor_conv_3x3"))
    entries = {e["what"]: e["median"] for e in document["entries"].values()}
    wanted = 2 * 6 * (entries["nor_conv_3x3 on 4x8x8"] + entries["nor_conv_3x3 on 8x4x4"])
    fixed = sum(m for what, m in entries.items() if what.split()[0] in ("stem", "head", "body.2"))
    assert cost.of(architecture) == pytest.approx(wanted + fixed, rel=1e-9)
    assert table.predict([architecture]) == [pytest.approx(cost.of(architecture))]


def test_what_a_call_takes_by_itself_is_taken_off_each_piece_once_added(tmp_path):
    document = made_up(tmp_path, small())
    plain = LatencyTable(document, "made up").pieces.sum
    least = min(e["median"] for e in document["entries"].values())
    with_call = copy.deepcopy(document)
    with_call["call"] = {**next(iter(document["entries"].values())), "median": least / 2}
    found = LatencyTable(with_call, "made up").pieces.sum
    assert np.allclose(found.numbers[0], plain.numbers[0] - 4 * least / 2)
    assert found.fixed == pytest.approx(plain.fixed - 3 * least / 2 + least / 2)


@pytest.fixture
def file(tmp_path):
    """A table on this machine."""
    from archgrad.latency.device_script import processor

    document = made_up(tmp_path, small())
    document["device"] = {**document["device"], "processor": processor()}
    path = tmp_path / "table.json"
    path.write_text(json.dumps(document))
    return path


def groups_of(target: Target) -> tuple[Group, ...]:
    return supernet(target.builder, target.shape, target.classes, **target.settings).groups


def test_a_table_that_fits_is_read(file):
    cost = load_table(file, groups_of(small()), target=small())
    assert cost.of(Architecture(dict.fromkeys(cost.choices[0].names, "none"))) > cost.fixed > 0


def damage(document: dict, change: str) -> None:
    first = next(iter(document["entries"]))
    match change:
        case "format":
            document["format"] = "other"
        case "version":
            document["version"] = 99
        case "negative":
            document["entries"][first]["median"] = -1.0
        case "nan":
            document["entries"][first]["upper_quartile"] = float("nan")
        case "missing":
            del document["entries"][first]
        case "part":
            del document["groups"]
        case "row":
            document["groups"][0]["entries"].pop()
        case "text":
            document["entries"][first]["median"] = "fast"
        case "processor":
            document["device"]["processor"] = "Abacus 3000"
        case "library":
            document["backend"]["versions"]["torch"] = "0.4.0"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("format", "its format is 'other', wanted 'archgrad-latency'"),
        ("version", "version 99"),
        ("negative", "takes -1.0 ms"),
        ("nan", "takes nan ms"),
        ("missing", "no entry for none of choice cell/1<-0"),
        ("part", "lacks groups"),
        ("row", "rows are not 6 choices of 5 candidates"),
        ("text", "takes fast ms"),
        ("processor", "processor: the table has Abacus 3000, this machine"),
        ("library", rf"torch: the table has 0.4.0, this machine {torch.__version__.split('+')[0]}"),
    ],
)
def test_tables_that_do_not_fit_are_refused(file, change, message):
    document = json.loads(file.read_text())
    damage(document, change)
    file.write_text(json.dumps(document))
    with pytest.raises(UserError, match=message):
        load_table(file)
    if change in ("processor", "library"):
        load_table(file, allow_other_device=True)


def test_files_that_are_no_tables_are_refused(tmp_path):
    with pytest.raises(UserError, match="no latency table"):
        load_table(tmp_path / "none.json")
    for text in ("", "[]", "{}", "\x00", '{"format": "archgrad-latency", "version": 1, "entries": 3}'):
        path = tmp_path / "broken.json"
        path.write_text(text)
        with pytest.raises(UserError, match=r"broken\.json"):
            load_table(path)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (("nasbench201", (3, 16, 16), 10, SMALL), r"shape: the table has \[3, 8, 8\], wanted \[3, 16, 16\]"),
        (("nasbench201", (3, 8, 8), 7, SMALL), "classes: the table has 10, wanted 7"),
        (("nasbench201", (3, 8, 8), 10, {**SMALL, "channels": 8}), "channels: the table has 4, wanted 8"),
        (("darts", (3, 8, 8), 10, {}), "name: the table has nasbench201, wanted darts"),
    ],
)
def test_tables_of_other_networks_are_refused(file, target, message):
    with pytest.raises(UserError, match=message):
        load_table(file, target=Target.of(*target))


def test_tables_of_other_choices_are_refused(file):
    other = Target.of("nasbench201", (3, 8, 8), 10, {**SMALL, "nodes": 3})
    with pytest.raises(UserError, match="another choices"):
        load_table(file, groups_of(other))


# ---- models


def table_with(tmp_path: Path, overhead: Any, networks: int = 40) -> LatencyTable:
    return LatencyTable(made_up(tmp_path, small(), networks, overhead), "made up")


def test_a_machine_that_adds_up_is_found_to_add_up(tmp_path):
    table = table_with(tmp_path, lambda s, a: s)
    quality = table.qualities["sum"]
    assert quality.tau == pytest.approx(1.0, abs=0.02)
    assert quality.error < 0.01
    assert table.model_name() == "sum"


def test_an_overhead_and_a_slope_are_found(tmp_path):
    table = table_with(tmp_path, lambda s, a: 0.5 + 1.4 * s)
    assert table.qualities["sum"].error > 0.2
    assert table.model_name() == "scaled"
    found = table.additive()
    assert found.fixed == pytest.approx(0.5 + 1.4 * table.pieces.sum.fixed, rel=0.02)
    assert np.allclose(found.numbers[0], 1.4 * table.pieces.sum.numbers[0], rtol=0.03)
    said = validation(table)["correction"]
    assert said["factor"] == pytest.approx(1.4, rel=0.02)
    assert said["overhead_ms"] == pytest.approx(0.5, rel=0.05)
    assert said["steps_ms"] == {}
    document = latency_document(table)
    text = latency_text(document)
    assert f"the table is corrected: {said['factor']:.3f} · pieces + {said['overhead_ms']:.4f} ms" in text


@pytest.mark.parametrize("model", ["scaled", "boundary", "ridge"])
def test_what_a_table_says_of_its_correction_makes_its_predictions(tmp_path, model):
    """overhead + factor · pieces + a step for each choice, put together by hand."""
    table = table_with(tmp_path, lambda s, a: 0.3 + 1.2 * s + 0.1 * (a["cell/1<-0"] == "nor_conv_3x3"))
    found = table.additive(model)
    if model == "ridge":  # has a number for each candidate besides
        assert found.factor == table.additive("scaled").factor
        return
    said, pieces = correction(table, found), table.pieces
    architecture = table.architectures[3]
    (sums,) = predict(pieces.sum, one_hot(pieces, [architecture]))
    total = said["overhead_ms"] + said["factor"] * sums
    for name, (busy, idle) in said["steps_ms"].items():
        total += idle if architecture[name] in ("none", "skip_connect") else busy
    assert table.cost_table(model).of(architecture) == pytest.approx(total, abs=1e-4)


def test_a_table_that_does_not_predict_holds_no_budget(tmp_path):
    from archgrad.latency.device_script import processor

    noise = iter(np.random.default_rng(0).uniform(0.3, 1.7, 40))
    document = made_up(tmp_path, small(), 40, lambda s, a: next(noise))
    document["device"] = {**document["device"], "processor": processor()}
    path = tmp_path / "poor.json"
    path.write_text(json.dumps(document))
    with pytest.raises(UserError, match=r"(?s)median error of \d\d\.\d%.*15% are allowed.*--predictor ridge"):
        load_table(path)
    assert load_table(path, model="sum").fixed > 0  # one that is named is taken
    document["whole"] = None  # not compared: nothing is known against it
    path.write_text(json.dumps(document))
    load_table(path)


def test_networks_measured_at_a_bad_moment_do_not_move_the_line(tmp_path):
    """Of ten networks three take two to nine times as long, and one is said to take next to nothing."""
    factors = iter([1.0, 9.0, 1.0, 1.0, 3.0, 1.0, 1e-3, 1.0, 2.0, 1.0] * 4)
    table = table_with(tmp_path, lambda s, a: next(factors) * (0.5 + 1.4 * s))
    found = table.additive("scaled")
    assert found.fixed == pytest.approx(0.5 + 1.4 * table.pieces.sum.fixed, rel=0.05)
    assert np.allclose(found.numbers[0], 1.4 * table.pieces.sum.numbers[0], rtol=0.05)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_number_for_each_choice_is_found(tmp_path, sign):
    """Each choice that does something takes some time more, or less, than its pieces say."""
    steps = {"1<-0": 0.2, "2<-0": 0.05, "2<-1": 0.1, "3<-0": 0.15, "3<-1": 0.0, "3<-2": 0.25}

    def overhead(s: float, a: Architecture) -> float:
        busy = [n for n in a if a[n] not in ("none", "skip_connect")]
        return s + sign * sum(steps[n.split("/")[1]] for n in busy)

    table = table_with(tmp_path, overhead, 60)
    assert table.qualities["boundary"].error < 0.02
    assert table.model_name() == "boundary"
    found, pieces = table.additive(), table.pieces
    for e, name in enumerate(pieces.groups[0].names):
        conv, skip = (pieces.groups[0].candidates.index(c) for c in ("nor_conv_3x3", "skip_connect"))
        more = found.numbers[0][e, conv] - found.numbers[0][e, skip]
        plain = pieces.sum.numbers[0][e, conv] - pieces.sum.numbers[0][e, skip]
        assert more - plain == pytest.approx(sign * steps[name.split("/")[1]], abs=0.02)
    assert (found.numbers[0] >= 0).all()
    assert found.fixed >= 0


def test_ridge_learns_what_single_candidates_take(tmp_path):
    candidates = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
    more = np.random.default_rng(2).uniform(0, 3, (6, 5))

    def overhead(s: float, a: Architecture) -> float:
        return s + sum(more[e, candidates.index(op)] for e, op in enumerate(a.values()))

    table = table_with(tmp_path, overhead, 120)
    qualities = table.qualities
    assert qualities["ridge"].error < 0.5 * qualities["sum"].error
    found = table.additive("ridge")
    cost = table.cost_table("ridge")
    predicted = predict(found, one_hot(table.pieces, table.architectures))
    assert [cost.of(a) for a in table.architectures] == pytest.approx(list(predicted))
    assert table.model_name() != "ridge"  # only if it is asked for
    asked = LatencyTable({**table.document, "predictor": "ridge"}, "made up")
    assert asked.model_name() == "ridge"
    assert asked.predict(table.architectures[:3]) == pytest.approx(list(predicted[:3]))


def test_boosting_learns_what_is_no_sum_and_makes_no_table(tmp_path):
    def overhead(s: float, a: Architecture) -> float:
        first, second = (a[name] in ("none", "skip_connect") for name in ("cell/3<-0", "cell/1<-0"))
        return s * [[1.0, 1.2], [1.3, 4.0]][first][second]

    table = table_with(tmp_path, overhead, 240)
    chosen, measured = one_hot(table.pieces, table.architectures), np.asarray(table.measured)
    off = {
        name: np.mean(np.abs(models.held_out(name, table.pieces, chosen, measured) / measured - 1))
        for name in models.MODELS
    }
    assert off["boosting"] < 0.5 * min(off[name] for name in models.FITS)
    with pytest.raises(UserError, match="'boosting' is no sum over choices"):
        table.cost_table("boosting")
    asked = LatencyTable({**table.document, "predictor": "boosting"}, "made up")
    assert asked.model_name() in ("sum", "scaled", "boundary")
    near = np.abs(np.array(asked.predict(table.architectures)) / np.array(table.measured) - 1)
    assert np.median(near) < 0.1


def test_models_are_judged_by_networks_they_have_not_seen(tmp_path):
    """On pure noise a fitted model does not look better than it is."""
    noise = iter(np.random.default_rng(0).uniform(0.5, 1.5, 40))
    table = table_with(tmp_path, lambda s, a: next(noise))
    qualities = table.qualities
    assert all(abs(qualities[name].tau) < 0.4 for name in qualities)
    assert qualities["boundary"].error >= 0.9 * qualities["scaled"].error
    assert "Kendall τ" in validation(table)["warnings"][0]


def test_too_few_networks_are_refused(tmp_path):
    table = table_with(tmp_path, lambda s, a: s, 8)
    assert set(table.qualities) == {"sum", "scaled"}
    for model, wanted in (("boundary", 16), ("ridge", 20)):
        with pytest.raises(UserError, match=f"needs {wanted} networks measured whole, the table has 8"):
            table.additive(model)
    with pytest.raises(UserError, match="did you mean 'scaled'"):
        table.additive("scale")


@pytest.mark.parametrize("kind", ["choice", "droppable"])
def test_negative_times_do_not_come_out_of_a_fit(kind):
    group = Group(("none", "op"), ("a", "b"), kind)
    pieces = Pieces(
        (group,), Additive(1.0, (np.array([[0.0, 1.0], [0.0, 2.0]]),)), (np.array([[False, True]] * 2),)
    )
    architectures = [Architecture({"a": x, "b": y}) for x in group.candidates for y in group.candidates] * 6
    chosen = one_hot(pieces, architectures)
    for measured in (
        3.0 - predict(pieces.sum, chosen) / 2,
        np.full(24, 0.1),
        predict(pieces.sum, chosen) * 9,
    ):
        for fit in models.FITS.values():
            found = fit(pieces, chosen, measured)
            assert found.fixed >= 0
            assert all((numbers >= 0).all() for numbers in found.numbers)


def test_dropped_choices_take_nothing():
    group = Group(("op", "other"), ("a",), "droppable")
    pieces = Pieces((group,), Additive(2.0, (np.array([[1.0, 4.0]]),)), (np.array([[True, True]]),))
    given = [Architecture({"a": c}) for c in ("op", "other", "none")]
    assert predict(pieces.sum, one_hot(pieces, given)).tolist() == [3.0, 6.0, 2.0]
    with pytest.raises(UserError, match="'more' at choice 'a'"):
        one_hot(pieces, [Architecture({"a": "more"})])


def test_more_numbers_have_to_be_worth_it():
    assert (
        choose({"sum": Quality(1, 0.10, 1), "scaled": Quality(1, 0.05, 1), "boundary": Quality(1, 0.049, 1)})
        == "scaled"
    )
    assert choose({"sum": Quality(1, 0.10, 1)}) == "sum"
    qualities = {"sum": Quality(1, 0.10, 1), "ridge": Quality(1, 0.01, 1)}
    assert choose(qualities) == "sum"
    assert choose(qualities, ("sum", "ridge")) == "ridge"


def test_quality_is_as_defined():
    found = Quality.of(np.array([1.0, 2.0, 3.0, 5.0]), np.array([1.0, 2.5, 2.0, 4.0]))
    assert found.tau == pytest.approx(4 / 6)
    assert found.error == pytest.approx((0.2 + 0.25) / 2)
    assert found.worst == pytest.approx(0.5)
    assert Quality.of(np.ones(4), np.arange(1.0, 5.0)).tau == 0.0


def test_compare_needs_no_table():
    group = Group(("none", "op"), ("a", "b"))
    pieces = Pieces(
        (group,), Additive(1.0, (np.array([[0.0, 1.0], [0.0, 2.0]]),)), (np.array([[False, True]] * 2),)
    )
    given = [Architecture({"a": x, "b": y}) for x in group.candidates for y in group.candidates]
    assert compare(pieces, given, [1.0, 3.0, 2.0, 4.0])["sum"] == Quality(pytest.approx(1.0), 0.0, 0.0)


def test_the_tables_of_the_document_are_those_of_the_benchmarks():
    script = Path(__file__).resolve().parents[1] / "benchmarks" / "latency_document.py"
    done = subprocess.run([sys.executable, str(script), "--check"], check=False)
    assert done.returncode == 0, "run: python benchmarks/latency_document.py"


def test_the_targets_were_kept():
    """Within 15 % at the speed that the machine had when the table was measured."""
    results = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "latency_target.json"
    rows = [row for case in json.loads(results.read_text())["cases"].values() for row in case["targets"]]
    assert len(rows) == 6
    assert all(abs(row["then_ms"] / row["target_ms"] - 1) <= 0.15 for row in rows)


# ---- NAS-Bench-201


def test_all_devices_are_there():
    assert len(devices()) == 27
    assert {"pixel3", "raspi4", "eyeriss", "fpga", "gold_6226", "1080ti_1"} <= set(devices())


def test_the_fit_is_that_of_least_squares():
    cube = np.random.default_rng(0).uniform(4, 9, (5,) * 6)
    fixed, rows = additive_fit(cube)
    assert fixed >= 0
    assert rows.min() == 0
    digits = np.indices(cube.shape).reshape(6, -1)
    features = np.concatenate([np.ones((cube.size, 1)), *np.eye(5)[digits]], axis=1)
    wanted = features @ np.linalg.lstsq(features, cube.ravel(), rcond=None)[0]
    found = fixed + sum(rows[e][digits[e]] for e in range(6))
    assert np.abs(found - wanted).max() < 1e-9


def test_an_additive_table_is_fitted_exactly_and_a_negative_one_bounded():
    rows = np.random.default_rng(1).uniform(0, 3, (6, 5))
    digits = np.indices((5,) * 6)
    sums = sum(rows[e][digits[e]] for e in range(6))
    fixed, found = additive_fit(sums + 2.0)
    assert fixed == pytest.approx(2.0 + rows.min(axis=1).sum())
    assert np.allclose(found, rows - rows.min(axis=1, keepdims=True))
    low = sums - sums.max() / 2
    fixed, found = additive_fit(low)
    assert fixed == 0.0
    assert (found >= 0).all()
    ours = ((sum(found[e][digits[e]] for e in range(6)) - low) ** 2).sum()
    for e, k in np.ndindex(found.shape):  # no step that is allowed makes it better
        for step in (1e-4, -1e-4):
            other = found.copy()
            other[e, k] += step
            if other[e, k] >= 0:
                assert ((sum(other[i][digits[i]] for i in range(6)) - low) ** 2).sum() >= ours - 1e-9


def test_ready_tables_are_near_the_published_latencies():
    table = NASBench201.open()
    for device, tau in (("eyeriss", 0.999), ("gold_6226", 0.9), ("1080ti_256", 0.97), ("samsung_a50", 0.9)):
        found = published(device)
        assert found.quality.tau > tau
        cells = range(0, 15_625, 700)
        errors = [
            abs(found.table.of(table.architecture(i)) / table.value(f"latency_ms_{device}", i) - 1)
            for i in cells
        ]
        assert np.median(errors) < 0.03


def test_ready_tables_are_loaded_by_name():
    target = Target.of("nasbench201", (3, 32, 32), 100)
    cost = load_table("nasbench201:pixel3", groups_of(target), target=target)
    assert (cost.unit, cost.choices[0].names[0]) == ("ms", "cell/1<-0")
    with pytest.raises(UserError, match="did you mean 'pixel3'"):
        load_table("nasbench201:pixel33")
    with pytest.raises(UserError, match="has the choices"):
        load_table("nasbench201:pixel3", [Group(("a", "b"), ("c",))])
    with pytest.raises(UserError, match=r"'channels': 16.*'channels': 4"):
        load_table("nasbench201:pixel3", target=small())
    with pytest.raises(UserError, match="leave out model='sum'"):
        load_table("nasbench201:pixel3", model="sum")
