"""``archgrad compare``: run folders and experiments, what cannot be compared, and what is damaged."""

import json
import shutil

import pytest
from click.testing import CliRunner

from archgrad.cli import main
from archgrad.errors import UserError
from archgrad.experiment.plan import CONTROL, Plan
from archgrad.experiment.statistics import paired
from archgrad.runs import Run
from archgrad.verbs.compare import compare_folders, text
from archgrad.verbs.experiment import experiment_run


@pytest.fixture(scope="module")
def landscape(tmp_path_factory):
    """(folder, document) of an experiment on a landscape."""
    folder = tmp_path_factory.mktemp("compared") / "table"
    plan = Plan(
        methods=["darts", "gdas"],
        landscape="separable",
        landscape_settings={"choices": 4, "candidates": 4},
        seeds=8,
        steps=150,
    )
    return folder, experiment_run(plan, folder)


@pytest.fixture
def seeds(finished_run, tmp_path):
    """A folder of three copies of a run as if they had other seeds and accuracies."""

    def make(name, accuracies, **changes):
        for seed, accuracy in enumerate(accuracies):
            folder = tmp_path / name / f"seed-{seed}"
            shutil.copytree(finished_run, folder)
            run = Run.open(folder)
            config = run.read_config()
            for section, values in changes.items():
                config[section] = {**config[section], **values} if isinstance(values, dict) else values
            run.write_config({**config, "seed": seed})
            result = run.read_json("train/derived/result.json")
            run.write_json("train/derived/result.json", {**result, "test_accuracy": accuracy})
        return tmp_path / name

    return make


def test_arms_of_an_experiment(landscape):
    folder, document = landscape
    found = compare_folders([folder])
    assert [side["name"] for side in found["sides"]] == ["darts", "gdas", CONTROL]
    assert found["comparisons"] == document["comparisons"]
    darts, gdas = (
        {r["seed"]: r["converged"] for r in document["runs"] if r["arm"] == arm and r["converged"]}
        for arm in ("darts", "gdas")
    )
    speed = found["comparisons"][0]["speed"]
    both = [s for s in darts if s in gdas]
    assert speed is None or speed["n"] == len(both)
    printed = text(found)
    assert "darts against gdas, 8 pairs of the same seed" in printed
    assert f"darts against {CONTROL}" in printed
    assert "95 % interval" in printed


def test_several_seeds_a_side(seeds):
    a, b = [0.90, 0.92, 0.95], [0.80, 0.85, 0.84]
    found = compare_folders([seeds("a", a), seeds("b", b)])
    (comparison,) = found["comparisons"]
    wanted = paired(a, b)
    assert found["score"] == "test_accuracy"
    assert comparison["score"]["difference"] == pytest.approx(wanted.difference)
    assert (comparison["score"]["low"], comparison["score"]["high"]) == pytest.approx(
        (wanted.low, wanted.high)
    )
    assert comparison["time"]["value"] == pytest.approx(1.0)
    assert comparison["verdict"] == "undecided"  # three seeds cannot decide
    assert "3 pairs of the same seed" in text(found)
    assert not found["notes"]


def test_one_run_each_has_no_interval(seeds):
    a, b = seeds("a", [0.9]), seeds("b", [0.8])
    found = compare_folders([a / "seed-0", b / "seed-0"])
    (comparison,) = found["comparisons"]
    assert comparison["score"]["low"] is None
    printed = text(found)
    assert "+10.00 points, no interval" in printed
    assert "an interval needs 3 seeds a side at least" in printed
    assert "one run each" in printed
    assert "p =" not in printed


def test_runs_without_a_seed_in_common(seeds):
    a, b = seeds("a", [0.9, 0.91, 0.92, 0.93]), seeds("b", [0.8, 0.85, 0.84, 0.83])
    shutil.rmtree(a / "seed-0")
    shutil.rmtree(a / "seed-1")
    shutil.rmtree(b / "seed-2")
    shutil.rmtree(b / "seed-3")
    (comparison,) = compare_folders([a, b])["comparisons"]
    assert not comparison["score"]["paired"]
    assert comparison["score"]["difference"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("data.json", {"name": "fashion"}, "data.name: .*a has 'digits', it has 'fashion'"),
        ("data.json", {"shape": [1, 16, 16]}, r"data.shape: .* \[1, 8, 8\], it has \[1, 16, 16\]"),
        ("config", {"train": {"epochs": 7}}, "train.epochs: .* has 2, it has 7"),
        (
            "config",
            {"train": {"space": {"channels": 4, "cells": 1, "stages": 2}}},
            "space.network.channels: .* has 2, it has 4",
        ),
    ],
)
def test_other_runs_are_refused(seeds, file, change, message):
    a, b = seeds("a", [0.9]), seeds("b", [0.8], **(change if file == "config" else {}))
    if file == "data.json":
        run = Run.open(b / "seed-0")
        run.write_json(file, {**run.read_json(file), **change})
    with pytest.raises(UserError, match=f"(?s)cannot be compared.*{message}"):
        compare_folders([a, b])


def test_another_space_is_refused(seeds):
    a, b = seeds("a", [0.9]), seeds("b", [0.8])
    run = Run.open(b / "seed-0")
    groups = run.read_json("choices.json")["groups"]
    groups[0]["candidates"][2] = "sep_conv_3x3"
    run.write_json("choices.json", {"groups": groups})
    with pytest.raises(UserError, match=r"space.choices: .*nor_conv_1x1.* it has .*sep_conv_3x3"):
        compare_folders([a, b])


def test_a_landscape_is_no_network(landscape, finished_run):
    with pytest.raises(UserError, match=r"searched: .* has 'the landscape separable', it has 'networks'"):
        compare_folders([landscape[0], finished_run])


def test_untrained_runs_are_compared_by_what_there_is(seeds):
    a, b = seeds("a", [0.9]), seeds("b", [0.8])
    shutil.rmtree(b / "seed-0" / "train")
    with pytest.raises(UserError, match="cannot be compared"):  # one trained, one not
        compare_folders([a, b])
    shutil.rmtree(a / "seed-0" / "train")
    found = compare_folders([a, b])
    assert found["score"] == "valid_accuracy"
    assert "not that of the network which is derived" in text(found)


def test_folders_that_are_none(tmp_path, finished_run, seeds, landscape):
    with pytest.raises(UserError, match="holds no run"):
        compare_folders([tmp_path / "nowhere", finished_run])
    with pytest.raises(UserError, match="two sides"):
        compare_folders([finished_run])
    with pytest.raises(UserError, match="given twice"):
        compare_folders([finished_run, finished_run])
    mixed = seeds("mixed", [0.9])
    shutil.copytree(seeds("other", [0.8], search={"epochs": 3}) / "seed-0", mixed / "seed-1")
    with pytest.raises(UserError, match=r"(?s)more than their seed.*search.epochs.*same seed: 0, 0"):
        compare_folders([mixed, finished_run])
    half = seeds("half", [0.9, 0.8, 0.7])
    (half / "seed-1" / "logits.safetensors").unlink()
    found = compare_folders([half, seeds("b", [0.9, 0.8])])
    assert found["sides"][0]["runs"] == 2
    assert any("left out: " in note and "seed-1" in note for note in found["notes"])
    (half / "seed-0" / "config.yaml").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        compare_folders([half / "seed-0", finished_run])
    broken = tmp_path / "broken"
    shutil.copytree(landscape[0], broken)
    document = json.loads((broken / "experiment.json").read_text())
    document["runs"][0]["unknown"] = 3
    (broken / "experiment.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match="damaged"):
        compare_folders([broken])


def test_the_command(landscape, tmp_path):
    printed = CliRunner().invoke(main, ["compare", str(landscape[0])])
    assert printed.exit_code == 0
    assert "darts against gdas" in printed.stdout
    plain = CliRunner().invoke(main, ["compare", str(landscape[0]), "--json"])
    assert json.loads(plain.stdout) == compare_folders([landscape[0]])
    wrong = CliRunner().invoke(main, ["compare", str(tmp_path)])
    assert wrong.exit_code == 2
    assert "Traceback" not in wrong.output
