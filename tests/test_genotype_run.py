"""``archgrad train --genotype``: a run folder without a search, and every verb that works on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from archgrad.cli import main
from archgrad.config_layers import overrides
from archgrad.datasets.images import ImageData
from archgrad.datasets.loading import load
from archgrad.errors import UserError
from archgrad.genotypes import published
from archgrad.verbs import export_run, report_run, train_run
from archgrad.verbs.genotype import genotype_run

TINY = overrides(
    [
        "train.epochs=2",
        "train.batch_size=16",
        "train.space.channels=4",
        "train.space.cells=3",
        "device.threads=1",
        "device.name=cpu",
    ]
)


@pytest.fixture(scope="module")
def images() -> ImageData:
    """120 digits."""
    digits = load("digits")
    index = torch.arange(120)
    return digits._replace(train=digits.train[index]) if hasattr(digits, "_replace") else digits


def call(*arguments: Any) -> Any:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def words(folder: Path, *more: str) -> list[str]:
    sizes = ["train.epochs=1", "train.space.channels=2", "train.space.cells=3", "device.threads=1"]
    return ["--data", "digits", "--run", str(folder), "device.name=cpu", *sizes, *more]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of NASNet, whose cells have two edges between the same nodes and odd outputs."""
    folder = tmp_path_factory.mktemp("genotype") / "run"
    result = call("train", "--genotype", "NASNet", *words(folder), "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["derived"]["parameters"] > 0
    return folder


def test_the_folder_is_as_if_derived(trained: Path) -> None:
    architecture = json.loads((trained / "architecture.json").read_text())["choices"]
    assert architecture == dict(published()["NASNet"].genotype.architecture())
    groups = json.loads((trained / "choices.json").read_text())["groups"]
    assert {name for group in groups for name in group["names"]} == set(architecture)
    result = json.loads((trained / "train" / "derived" / "result.json").read_text())
    assert result["architecture"] == architecture
    assert result["settings"]["reduce_concat"] == [4, 5, 6]
    assert json.loads((trained / "genotype.json").read_text())["name"] == "NASNet"
    assert not (trained / "metrics.jsonl").exists()


def test_a_second_call_keeps_the_result(trained: Path) -> None:
    before = (trained / "train" / "derived" / "weights.safetensors").read_bytes()
    result = call("train", "--genotype", "NASNet", *words(trained))
    assert result.exit_code == 0, result.output
    assert "result kept" in result.stderr
    assert (trained / "train" / "derived" / "weights.safetensors").read_bytes() == before


def test_export_report_count_and_draw_work_on_it(trained: Path, tmp_path: Path) -> None:
    exported = export_run(trained)
    assert exported.onnx.largest_difference < 1e-4
    assert exported.standalone.largest_difference < 1e-5
    page = report_run(trained).read_text(encoding="utf-8")
    assert "Nothing was searched here" in page
    assert "NASNet (Zoph et al. 2018" in page
    assert "The search has not finished" not in page
    for of_search in ("<span>method</span>", "Search time", "Entropy", 'id="search"', 'href="#stability"'):
        assert of_search not in page
    assert 'id="training"' in page
    counted = json.loads(call("count", trained, "--json").stdout)
    result = json.loads((trained / "train" / "derived" / "result.json").read_text())
    assert (counted["parameters"], counted["macs"]) == (result["parameters"], result["macs"])
    assert call("draw", trained, "--out", tmp_path / "cell.svg").exit_code == 0
    assert (tmp_path / "cell.svg").read_text().count('class="edge"') == 20


def test_training_stops_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in the middle and called again, the network is the one of a run that nobody stopped."""
    from archgrad.verbs import saved_training as verb

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    given = ["train", "--genotype", "DARTS_V1"]
    assert call(*given, *words(whole)).exit_code == 0

    class StopInTheMiddle(verb.StopRequest):
        """A signal after three steps, each of which asks twice."""

        steps = 0

        @property
        def requested(self) -> str | None:  # type: ignore[override]
            StopInTheMiddle.steps += 1
            return "SIGTERM" if StopInTheMiddle.steps > 6 else None

        @requested.setter
        def requested(self, value: str | None) -> None:
            pass

    with monkeypatch.context() as patched:
        patched.setattr(verb, "StopRequest", StopInTheMiddle)
        stopped = call(*given, *words(parts))
        assert stopped.exit_code == 1
        assert "stopped by SIGTERM" in stopped.stderr
    again = call(*given, *words(parts))
    assert again.exit_code == 0
    assert "resuming" in again.stderr
    name = "train/derived/weights.safetensors"
    assert (parts / name).read_bytes() == (whole / name).read_bytes()


def test_controls_are_of_the_same_space(tmp_path: Path) -> None:
    folder = genotype_run(
        "SNAS_mild", overrides(words(tmp_path / "r")[4:]) | {"data": {"name": "digits"}}, tmp_path
    )
    trained = train_run(folder.folder, controls=1)
    assert [c["name"] for c in trained.controls] == ["random-0", "residual"]
    assert set(trained.controls[0]["architecture"]) == set(trained.derived["architecture"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--genotype", "DARTS_V3", "--data", "digits"], "did you mean"),
        (["--genotype", "DARTS_V2"], "--data cifar10"),
        (["--genotype", "DARTS_V2", "--data", "digits", "method=gdas"], "decides method"),
        (["--genotype", "DARTS_V2", "--data", "digits", "space.nodes=3"], "decides space"),
        (
            ["--genotype", "DARTS_V2", "--data", "digits", "train.space.normal_concat=[2]"],
            "decides train.space.",
        ),
        (["--genotype", "DARTS_V2", "--data", "digits", "train.space.nodes=3"], "decides train.space.nodes"),
        (["--genotype", "DARTS_V2", "--data", "digits", "search.epochs=99"], "so search would do nothing"),
        (["--genotype", "DARTS_V2", "--data", "digits", "derive.rule=snas"], "so derive would do nothing"),
        (["--genotype", "DARTS_V2", "--data", "digits", "--inherit"], "leave --inherit out"),
        (["--genotype", "DARTS_V2", "--data", "digits", "runs/x"], "section.key=value"),
        (["--genotype", "DARTS_V2", "--data", "digits", "train.space.cells=2"], "cells"),
        (["--genotype", "DARTS_V2", "--data", "digits", "train.epoch=2"], "did you mean"),
        (["--data", "digits"], "give the run folder"),
        ([], "give the run folder"),
    ],
)
def test_bad_input_makes_no_folder(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call("train", *arguments)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert not list(tmp_path.iterdir())


def test_another_run_in_the_folder_is_refused(trained: Path, finished_run: Path) -> None:
    with pytest.raises(UserError, match="another genotype"):
        genotype_run("DARTS_V1", {"data": {"name": "digits"}}, trained)
    with pytest.raises(UserError, match="other settings"):
        genotype_run("NASNet", {"data": {"name": "digits"}, "seed": 7}, trained)
    with pytest.raises(UserError, match="run of a search"):
        genotype_run("DARTS_V1", {"data": {"name": "digits"}}, finished_run)


@pytest.mark.parametrize("verb", [["derive"], ["search", "--resume", "--run"]])
def test_a_genotype_is_not_overwritten_by_a_search(trained: Path, verb: list[str]) -> None:
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    result = call(*verb, trained)
    assert result.exit_code == 2, result.output
    assert "holds the genotype NASNet: nothing was searched here" in result.stderr
    assert f"archgrad train {trained}" in result.stderr
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before


def test_the_cells_of_a_genotype_stay_as_they_are(trained: Path) -> None:
    with pytest.raises(UserError, match=r"decides train\.space\.candidates"):
        train_run(trained, {"train": {"space": {"candidates": ["none", "skip_connect"]}}}, again=True)
    assert (trained / "train" / "derived" / "result.json").is_file()


def test_two_edges_that_are_alike_are_said(tmp_path: Path) -> None:
    note = "note: node 5 of the normal cell has 2 edges avg_pool_3x3 from node 0"
    assert note in call("count", "--genotype", "NASNet").stdout
    assert note in call("draw", "--genotype", "NASNet", "--out", tmp_path / "cell.svg").stderr
    result = call("train", "--genotype", "NASNet", *words(tmp_path / "run"))
    assert result.exit_code == 0
    assert note in result.stderr
    assert "note:" not in call("count", "--genotype", "AmoebaNet").stdout  # two edges, but different ones


def test_without_a_folder_the_name_says_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = {"data": {"name": "digits"}}
    assert genotype_run("GDAS_V1", settings).folder == Path("runs/GDAS_V1-digits")
    text = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_1x1~2|"
    folder = genotype_run(text, settings).folder
    assert folder.name.startswith("genotype-")
    assert folder.name.endswith("-digits")
    assert "nasbench201" in (folder / "config.yaml").read_text()
