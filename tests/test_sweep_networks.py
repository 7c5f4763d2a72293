"""The sweep over networks that are trained: its results, going on after a stop, and what it refuses."""

from __future__ import annotations

import csv
import json
import math
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from archgrad.architecture import Architecture
from archgrad.budgets.front import Point, front
from archgrad.cli import main
from archgrad.costs.network_counts import count_network
from archgrad.datasets.images import ImageData
from archgrad.errors import ConfigError, Stopped, UserError
from archgrad.progress import Silent
from archgrad.runs import Run
from archgrad.spaces import SPACES
from archgrad.verbs import report_run
from archgrad.verbs.sweep_networks import sweep_networks
from archgrad.verbs.sweep_results import summarised, text

RANGE = ["macs=10k..25k"]
SPACE = {"channels": 2, "cells": 1, "stages": 2}
SETTINGS: dict[str, Any] = {
    "method": "gdas",
    "seed": 3,
    "space": {"name": "nasbench201", **SPACE},
    "search": {"epochs": 3, "batch_size": 20, "warmup_epochs": 1},
    "train": {"epochs": 2, "batch_size": 40, "space": SPACE},
    "device": {"name": "cpu", "threads": 1},
}


def counted(architecture: dict[str, str], **changes: Any) -> int:
    builder = SPACES["nasbench201"].builder
    return count_network(builder, Architecture(architecture), (1, 8, 8), 10, {**SPACE, **changes}).macs


@pytest.fixture(scope="module")
def straight(tmp_path_factory: Any, few_digits: ImageData) -> Path:
    """A sweep that nothing stopped."""
    folder: Path = tmp_path_factory.mktemp("straight") / "front"
    sweep_networks(RANGE, folder, SETTINGS, points=2, controls=2, data=few_digits)
    return folder


@pytest.fixture(scope="module")
def document(straight: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((straight / "sweep.json").read_text())
    return found


def networks(document: dict[str, Any], series: str) -> list[dict[str, Any]]:
    return [n for row in document["limits"] for n in row["networks"] if n["series"] == series]


def test_every_network_is_within_its_limit(straight: Path, document: dict[str, Any]) -> None:
    assert document["finished"]
    assert [row["most"] for row in document["limits"]] == pytest.approx([10e3, 25e3])
    for row in document["limits"]:
        assert [n["name"] for n in row["networks"]] == ["derived", "random-0", "random-1", "scaled"]
        for network in row["networks"]:
            result = Run(straight / row["run"]).read_json(f"train/{network['name']}/result.json")
            for key in ("parameters", "macs", "valid_accuracy", "test_accuracy"):
                assert network[key] == result[key]
            assert network["cost"] == result["macs"] <= row["most"]
            assert network["met"]
            assert result["epochs"] == 2
            channels = network["channels"] or 2
            assert counted(result["architecture"], channels=channels) == network["cost"]
            if network["name"] == "scaled":  # as wide as can be
                assert counted(result["architecture"], channels=channels + 1) > row["most"]
    drawn = [Run(straight / "point-1").read_json(f"train/random-{i}/result.json") for i in (0, 1)]
    assert drawn[0]["architecture"] != drawn[1]["architecture"]


def test_the_scaled_networks_are_what_a_search_without_the_range_found(straight: Path) -> None:
    free = json.loads((straight / "free/architecture.json").read_text())["choices"]
    assert "budget" not in Run(straight / "free").read_config()
    for point in ("point-0", "point-1"):
        assert Run(straight / point).read_json("train/scaled/result.json")["architecture"] == free


def test_all_searches_begin_with_one_warm_up(straight: Path) -> None:
    (line,) = Run(straight / "warm").read_lines("metrics.jsonl")
    for name in ("free", "point-0", "point-1"):
        lines = Run(straight / name).read_lines("metrics.jsonl")
        assert lines[0] == line  # its seconds, too: it was not done again
        assert len(lines) == 3
    assert not (straight / "warm" / "logits.safetensors").exists()


def test_each_point_is_an_ordinary_run(straight: Path, tmp_path: Path) -> None:
    shutil.copytree(straight / "point-0", tmp_path / "run")
    page = report_run(tmp_path / "run").read_text()
    assert "random controls" in page
    assert "scaled" in page
    assert Run(tmp_path / "run").read_config()["budget"] == {"macs": "10k"}


def test_the_files(straight: Path, document: dict[str, Any]) -> None:
    rows = list(csv.DictReader((straight / "sweep.csv").open()))
    assert len(rows) == 8
    assert [r["series"] for r in rows[:4]] == ["searched", "random", "random", "scaled"]
    assert {float(r["cost"]) for r in rows} == {
        n["cost"] for row in document["limits"] for n in row["networks"]
    }
    tree = ElementTree.parse(straight / "sweep.svg")
    assert len(tree.findall(".//{*}circle")) == 8
    shown = text(document)
    assert "macs ≤ 10 k" in shown
    assert "hyper-volume" in shown


def test_the_hyper_volume_has_one_reference(document: dict[str, Any]) -> None:
    every = [n for row in document["limits"] for n in row["networks"]]
    for part in ("valid", "test"):
        found, key = document[part], f"{part}_accuracy"
        worst, best = (100 * f(n[key] for n in every) for f in (min, max))
        assert found["reference"]["accuracy"] == worst
        assert found["reference"]["cost"] == pytest.approx(25e3 * 2.5)
        box = math.log(62.5e3 / min(n["cost"] for n in every)) * (best - worst)
        a, b = (n for n in networks(document, "searched"))
        # two points: of the first until the second, then of the better one
        first, second = sorted((math.log(n["cost"]), 100 * n[key] - worst) for n in (a, b))
        end = math.log(62.5e3)
        area = (second[0] - first[0]) * first[1] + (end - second[0]) * max(first[1], second[1])
        assert found["hyper_volume"]["searched"] == pytest.approx(area / box if box else 0)
        assert set(found["hyper_volume"]) == {"searched", "random", "scaled"}
        points = [Point(**p) for p in found["fronts"]["random"]]
        assert front(points) == points


def test_of_random_networks_the_hyper_volume_is_the_mean_of_fronts_of_one_each() -> None:
    def network(series: str, name: str, cost: float, accuracy: float) -> dict[str, Any]:
        both = {"valid_accuracy": accuracy, "test_accuracy": accuracy}
        return {"series": series, "name": name, "cost": cost, **both}

    rows = [
        {
            "networks": [
                network("searched", "derived", 1.0, 0.5),
                network("random", "random-0", 1.0, 0.9),
                network("random", "random-1", 1.0, 0.5),
            ]
        },
        {
            "networks": [
                network("searched", "derived", math.e, 0.9),
                network("random", "random-0", math.e, 0.5),
                network("random", "random-1", math.e, 0.5),
            ]
        },
    ]
    from archgrad.budgets.budget import Budget

    first, last = Budget("macs", 1.0), Budget("macs", math.e)
    shares = summarised(rows, {"plan": {"points": 2}}, first, last, True)["test"]["hyper_volume"]
    # the box is from 1 to e² and from 50 to 90 %
    assert shares == pytest.approx({"searched": 0.5, "random": (1.0 + 0.0) / 2})


class Until(Silent):
    """Does something at the n-th step of all."""

    def __init__(self, at: int, act: Callable[[], Any]) -> None:
        self.left, self.act = at, act

    def update(self, done: int, numbers: str) -> None:
        self.left -= 1
        if not self.left:
            self.act()


class Killed(BaseException):
    """As nothing catches it."""


def kill() -> None:
    raise Killed


def without_seconds(document: Any) -> Any:
    if isinstance(document, dict):
        return {k: without_seconds(v) for k, v in document.items() if "seconds" not in k}
    return [without_seconds(x) for x in document] if isinstance(document, list) else document


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


# of 5 steps: warm-up 1-5, search without the range 6-15, the first point's 16-25; training 8 networks of 4
@pytest.mark.parametrize(
    ("at", "act", "error"),
    [
        pytest.param(3, kill, Killed, marks=pytest.mark.slow),
        (16, kill, Killed),
        (30, interrupt, Stopped),
        (45, kill, Killed),
    ],
    ids=["warm-up", "first step of a point", "training", "second point"],
)
def test_a_stopped_sweep_goes_on_as_if_nothing_had_happened(
    at: int,
    act: Callable[[], Any],
    error: type[BaseException],
    tmp_path: Path,
    straight: Path,
    few_digits: ImageData,
) -> None:
    folder = tmp_path / "front"
    with pytest.raises(error) as stopped:
        sweep_networks(
            RANGE, folder, SETTINGS, points=2, controls=2, data=few_digits, progress=Until(at, act)
        )
    if error is Stopped:
        assert str(stopped.value).endswith(f"go on with\n  archgrad sweep --run {folder} --resume")
    done = json.loads((folder / "sweep.json").read_text())
    assert not done["finished"]
    before = {p: p.stat().st_mtime_ns for row in done["limits"] for p in (folder / row["run"]).rglob("*")}
    assert bool(before) == (at == 45)
    sweep_networks([], folder, resume=True, data=few_digits)
    for name in ("sweep.json", "sweep.csv"):
        left, right = ((f / name).read_text() for f in (folder, straight))
        if name == "sweep.json":
            assert without_seconds(json.loads(left)) == without_seconds(json.loads(right))
    for point in ("point-0", "point-1"):
        for file in ("logits.safetensors", "train/derived/weights.safetensors"):
            assert (folder / point / file).read_bytes() == (straight / point / file).read_bytes()
    assert before == {path: path.stat().st_mtime_ns for path in before}  # what was done is not done again


def test_resuming_what_is_finished_does_nothing(
    tmp_path: Path, straight: Path, few_digits: ImageData
) -> None:
    folder = tmp_path / "front"
    shutil.copytree(straight, folder)
    again = sweep_networks(RANGE, folder, resume=True, data=few_digits, progress=Until(1, kill))
    assert again == json.loads((straight / "sweep.json").read_text())


def test_resuming_with_something_else_lists_what_differs(straight: Path, few_digits: ImageData) -> None:
    with pytest.raises(UserError) as error:
        sweep_networks(
            ["macs=10k..30k"],
            straight,
            {"train": {"epochs": 9, "batch_size": 40}},
            points=3,
            resume=True,
            data=few_digits,
        )
    for line in (
        "points: the sweep has 2, you gave 3",
        "epochs: the sweep has 2, you gave 9",
        "macs=10k..30k",
    ):
        assert line in str(error.value)
    assert "batch_size" not in str(error.value)


@pytest.mark.parametrize(
    ("budgets", "changes", "options", "says"),
    [
        (["macs=10k"], {}, {}, "goes through one range"),
        (["macs=10k..20k", "params=1k..2k"], {}, {}, "goes through one range"),
        ([], {}, {}, "goes through one range"),
        (["macs=10k..20k", "macs=15k"], {}, {}, "two budgets for 'macs'"),
        (["macs=1k..20k"], {}, {}, "the cheapest costs 4.776 k, the dearest 32.42 k"),
        (["macs=40k..60k±5%"], {}, {}, "the cheapest costs 4.776 k, the dearest 32.42 k"),
        (["macs=10k..20k", "params=10"], {}, {}, "has no unit"),
        (["macs=30k..32k±1%", "params=0.3k"], {}, {}, "no architecture of this space meets"),
        (RANGE, {"method": "random"}, {}, "trains no logits"),
        (RANGE, {"search": {"epochs": 3, "warmup_epochs": 0}}, {}, "share their warm-up"),
        (RANGE, {"search": {"epochs": 1}}, {}, "leaves no epoch"),
        (RANGE, {}, {"points": 1}, "two points or more"),
        (RANGE, {}, {"controls": -1}, "at least 0; got -1"),
        (RANGE, {}, {"inherit": True}, r"train\.space\.channels.*as large as in the supernet"),
        (RANGE, {"method": "pdarts"}, {}, "a search in stages"),
        (RANGE, {"space": {"name": "darts_rnn"}}, {}, "budgets are for spaces that read images"),
    ],
)
def test_what_is_refused_before_anything_is_trained(
    budgets: list[str],
    changes: dict[str, Any],
    options: dict[str, Any],
    says: str,
    tmp_path: Path,
    few_digits: ImageData,
) -> None:
    settings = {**SETTINGS, **changes}
    if "space" in changes:
        del settings["train"]
    with pytest.raises((UserError, ConfigError), match=says):
        sweep_networks(
            budgets,
            tmp_path / "front",
            settings,
            **{"points": 2, **options},
            data=few_digits,
            progress=Until(1, kill),
        )
    assert not (tmp_path / "front").exists()


def test_folders_that_are_taken_or_empty(straight: Path, tmp_path: Path, few_digits: ImageData) -> None:
    with pytest.raises(UserError, match="already holds a sweep: go on with --resume"):
        sweep_networks(RANGE, straight, SETTINGS, data=few_digits)
    with pytest.raises(UserError, match="already holds a run"):
        sweep_networks(RANGE, straight / "free", SETTINGS, data=few_digits)
    with pytest.raises(UserError, match="holds no sweep to go on with"):
        sweep_networks(RANGE, tmp_path / "nothing", resume=True, data=few_digits)


def test_targets_another_budget_and_the_supernets_weights(tmp_path: Path, few_digits: ImageData) -> None:
    settings = {k: v for k, v in SETTINGS.items() if k != "train"} | {
        "train": {"epochs": 1, "batch_size": 40},
        "restrict": {"cell/3<-2": ["none", "nor_conv_1x1"]},
    }
    document = sweep_networks(
        ["macs=10k..20k±20%", "params=0.9k"],
        tmp_path / "front",
        settings,
        points=2,
        controls=1,
        inherit=True,
        data=few_digits,
    )
    assert "no weights for networks of another width" in document["scaled_left_out"]
    assert not (tmp_path / "front/free").exists()
    for row in document["limits"]:
        assert [n["name"] for n in row["networks"]] == ["derived", "random-0"]
        for network in row["networks"]:
            result = Run(tmp_path / "front" / row["run"]).read_json(f"train/{network['name']}/result.json")
            assert row["least"] <= network["cost"] == result["macs"] <= row["most"]
            assert result["parameters"] <= 900
            assert result["settings"]["affine"] is False  # as in the supernet
            assert result["settings"]["channels"] == 2
            assert result["architecture"]["cell/3<-2"] in ("none", "nor_conv_1x1")


def test_the_command(tmp_path: Path) -> None:
    def call(*arguments: str) -> Any:
        return CliRunner().invoke(main, ["sweep", *arguments])

    folder = str(tmp_path / "front")
    begin = ["--data", "digits", "--budget", "macs=10k..25k", "--points", "2", "--controls", "0"]
    small = ["space.channels=2", "space.stages=2", "train.space.channels=2", "train.space.stages=2"]
    quick = ["search.epochs=2", "train.epochs=1", "device.threads=1", "device.name=cpu"]
    done = call("--run", folder, *begin, *small, *quick)
    assert done.exit_code == 0, done.output
    assert "macs ≤ 25 k" in done.stdout
    assert "no scaled networks: no controls were asked for" in done.stdout
    assert f"archgrad report {folder}/point-1" in done.stdout
    again = call("--run", folder, "--resume", "--json")
    assert again.exit_code == 0
    assert json.loads(again.stdout)["finished"]
    assert call("--run", folder, *begin).exit_code == 2
    for arguments, says in (
        (["--run", folder, "--resume", "--seeds", "3"], "--seeds: of a landscape"),
        (["--budget", "macs=20M..200M", "--data", "digits"], "--data: for networks that are trained"),
        (["--budget", "macs=20M..200M", "train.epochs=3"], "SECTION.KEY=VALUE: for networks"),
        (["--points", "3"], "give one range"),
    ):
        refused = call(*arguments)
        assert refused.exit_code == 2
        assert says in refused.stderr
