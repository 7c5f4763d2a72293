"""Fronts, hyper-volume, and the sweep on NAS-Bench-201."""

from __future__ import annotations

import csv
import doctest
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from click.testing import CliRunner

from archgrad.budgets import front as front_module
from archgrad.budgets.front import Point, front, hyper_volume
from archgrad.cli import main
from archgrad.errors import UserError
from archgrad.verbs.sweep import sweep_landscape


def cloud(count: int, seed: int) -> list[Point]:
    generator = torch.Generator().manual_seed(seed)
    return [Point(*row) for row in torch.randint(0, 12, (count, 2), generator=generator).tolist()]


@pytest.mark.parametrize("seed", range(5))
def test_the_front_is_what_nothing_dominates(seed: int) -> None:
    points = cloud(30, seed)
    wanted = {
        p for p in points if not any(q != p and q.cost <= p.cost and q.accuracy >= p.accuracy for q in points)
    }
    assert front(points) == sorted(wanted)


@pytest.mark.parametrize("seed", range(5))
def test_the_hyper_volume_is_the_number_of_dominated_cells(seed: int) -> None:
    points, reference = cloud(8, seed), Point(10, 2)
    cells = sum(
        any(p.cost <= x and p.accuracy >= y + 1 for p in points)
        for x in range(reference.cost)
        for y in range(int(reference.accuracy), 12)
    )
    assert hyper_volume(points, reference) == cells


def test_points_beyond_the_reference_add_nothing() -> None:
    assert hyper_volume([Point(5, 90), Point(1, 60)], Point(4, 70)) == 0
    assert hyper_volume([], Point(4, 70)) == 0


def test_examples() -> None:
    assert doctest.testmod(front_module).failed == 0


def test_a_small_sweep(tmp_path: Path) -> None:
    document = sweep_landscape(
        "latency_ms_fpga=2.5ms..5ms", tmp_path, points=2, seeds=4, steps=200, candidates=32
    )
    assert json.loads((tmp_path / "sweep.json").read_text()) == document
    rows = list(csv.DictReader((tmp_path / "sweep.csv").open()))
    assert [float(row["limit"]) for row in rows] == [2.5, 5.0]
    ElementTree.parse(tmp_path / "sweep.svg")
    for row in document["limits"]:
        assert row["within"] == 1.0
        assert row["cost"] <= row["limit"]
        assert row["accuracy"] <= row["best"]
        assert row["distance"] == pytest.approx(row["best"] - row["accuracy"])
    assert 0.5 < document["hyper_volume_share"] <= 1
    assert document["distance"] < 3
    true = [Point(**point) for point in document["true_front"]]
    assert front(true) == true
    assert hyper_volume(true, Point(**document["reference"])) == document["true_hyper_volume"]


@pytest.mark.parametrize(
    ("budget", "landscape", "says"),
    [
        ("macs=20M", "nasbench201", "two ends"),
        ("macs=1M..200M", "nasbench201", "the cheapest costs 7.783 M"),
        ("macs=20M..200M", "separable", "needs true costs"),
        ("latency_ms_nothing=1ms..2ms", "nasbench201", "no column"),
        ("macs=20M..200M@table.json", "nasbench201", "costs of its own"),
    ],
)
def test_sweeps_that_are_refused(tmp_path: Path, budget: str, landscape: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        sweep_landscape(budget, tmp_path / "out", landscape=landscape, points=2, seeds=1, steps=1)
    assert not (tmp_path / "out").exists()


def test_the_command(tmp_path: Path) -> None:
    line = ["sweep", "--budget", "macs=60M..120M", "--points", "2", "--seeds", "2", "--steps", "20"]
    result = CliRunner().invoke(main, [*line, "--out", str(tmp_path / "s")])
    assert result.exit_code == 0, result.output
    assert "share of the hyper-volume" in result.output
    assert (tmp_path / "s" / "sweep.svg").exists()
