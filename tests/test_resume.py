"""Resuming continues exactly: stop and resume equal a run that was never stopped, bit for bit."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from archgrad.datasets.images import MemoryImages
from archgrad.errors import Stopped, UserError
from archgrad.methods import METHODS
from archgrad.progress import Silent
from archgrad.runs import Run
from archgrad.verbs import derive_run, search_run, train_run

STEPS = 5  # an epoch of 100 images in batches of 20
SNAS = {
    "space": {"name": "darts", "channels": 2, "cells": 3, "nodes": 2, "stem_multiplier": 1},
    "search": {"epochs": 2, "batch_size": 20, "drop_path": 0.3},
    "train": {"epochs": 2, "batch_size": 40, "space": {"channels": 2, "cells": 3, "stem_multiplier": 1}},
}


class StopAt(Silent):
    """Raises a real signal while step `at` is being reported."""

    def __init__(self, at: int, number: int = signal.SIGINT) -> None:
        self.at, self.number, self.said = at, number, []

    def update(self, done: int, numbers: str) -> None:
        if done == self.at:
            signal.raise_signal(self.number)

    def say(self, line: str) -> None:
        self.said.append(line)


def same(a: Any, b: Any, where: str = "") -> int:
    """Assert that two documents of tensors and plain values are identical; returns how many tensors."""
    assert type(a) is type(b), where
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype, where
        assert torch.equal(a, b), where
        return 1
    if isinstance(a, dict):
        assert list(a) == list(b), where
        return sum(same(a[k], b[k], f"{where}.{k}") for k in a if k != "seconds")
    if isinstance(a, list | tuple):
        assert len(a) == len(b), where
        return sum(same(x, y, f"{where}[{i}]") for i, (x, y) in enumerate(zip(a, b, strict=True)))
    assert a == b, where
    return 0


def lines_of(run: Run, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k != "seconds"} for line in run.read_lines(name)]


def assert_same_search(left: Path, right: Path) -> None:
    a, b = Run(left), Run(right)
    tensors = same(a.load_checkpoint()[0], b.load_checkpoint()[0])
    assert tensors > 20  # weights, buffers, momentum, logits and their moments
    for name in ("logits.safetensors", "best.safetensors", "best.json", "choices.json", "config.yaml"):
        assert a.path(name).read_bytes() == b.path(name).read_bytes(), name
    assert lines_of(a) == lines_of(b)
    assert len(a.path("metrics.jsonl").read_text().splitlines()) == 2  # no line of before the resume left


@pytest.fixture(scope="session")
def straight(tmp_path_factory, few_digits):
    """Folders of uninterrupted searches by method, made once."""
    made: dict[str, Path] = {}

    def run(method: str, settings: dict[str, Any]) -> Path:
        if method not in made:
            made[method] = tmp_path_factory.mktemp("straight") / method
            search_run(settings, made[method], data=few_digits)
        return made[method]

    return run


def settings_of(method: str, tiny) -> dict[str, Any]:
    settings = tiny(method=method, data={"validation": 0.5})
    return {**settings, **SNAS} if method == "snas" else settings


ONE_SEARCH = [name for name, m in METHODS.items() if not {"stages", "selection"} & set(m.settings)]
"""Methods that are one search; the others are stopped and resumed in tests/test_stages.py."""


@pytest.mark.parametrize("at", [2, STEPS, STEPS + 1], ids=["mid epoch", "last step", "second epoch"])
@pytest.mark.parametrize("method", ONE_SEARCH)
def test_a_stopped_search_goes_on_as_if_nothing_had_happened(
    method, at, tmp_path, tiny, few_digits, straight
):
    settings = settings_of(method, tiny)
    with pytest.raises(Stopped, match="--resume"):
        search_run(settings, tmp_path / "run", data=few_digits, progress=StopAt(at))
    assert len(lines_of(Run(tmp_path / "run"))) == (at - 1) // STEPS
    search_run({}, tmp_path / "run", data=few_digits, resume=True)
    assert_same_search(tmp_path / "run", straight(method, settings))


@pytest.mark.parametrize("method", ["snas", "gdas"])
def test_a_killed_search_goes_on_from_its_last_checkpoint(method, tmp_path, tiny, few_digits, straight):
    folder = tmp_path / "run"
    shutil.copytree(straight(method, settings_of(method, tiny)), folder)
    # as SIGKILL in the second epoch leaves it: a line and a half too many, no newest checkpoint
    for file in folder.glob(f"checkpoints/step-{2 * STEPS:08d}.*"):
        file.unlink()
    (folder / "logits.safetensors").unlink()
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 2, "st')
    search_run({}, folder, data=few_digits, resume=True)
    assert_same_search(folder, straight(method, settings_of(method, tiny)))


def test_resuming_twice_and_resuming_what_is_finished(tmp_path, tiny, few_digits, straight):
    settings = settings_of("gdas", tiny)
    with pytest.raises(Stopped):
        search_run(settings, tmp_path / "run", data=few_digits, progress=StopAt(3))
    with pytest.raises(Stopped):
        search_run({}, tmp_path / "run", data=few_digits, resume=True, progress=StopAt(7, signal.SIGTERM))
    for _ in range(2):
        search_run({}, tmp_path / "run", data=few_digits, resume=True)
        assert_same_search(tmp_path / "run", straight("gdas", settings))


@pytest.fixture(scope="module")
def searched(tmp_path_factory, few_digits):
    """A derived run in the DARTS space, whose training has drop path and an auxiliary head."""
    folder = tmp_path_factory.mktemp("searched") / "run"
    space = {"channels": 2, "cells": 3, "nodes": 2, "stem_multiplier": 1}
    search_run(
        {
            "method": "darts",
            "space": {"name": "darts", **space},
            "search": {"epochs": 1, "batch_size": 20},
            "train": {
                "epochs": 2,
                "batch_size": 50,
                "drop_path": 0.3,
                "auxiliary_weight": 0.4,
                "cutout": 2,
                "space": {**space, "auxiliary": True},
            },
            "device": {"name": "cpu", "threads": 1},
        },
        folder,
        data=few_digits,
    )
    derive_run(folder)
    return folder


@pytest.fixture(scope="module")
def trained(searched, few_digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    shutil.copytree(searched, folder)
    train_run(folder, controls=1, data=few_digits)
    return folder


@pytest.mark.parametrize("at", [1, 4, 6], ids=["mid epoch", "last step", "second epoch"])
def test_a_stopped_training_goes_on_as_if_nothing_had_happened(at, searched, trained, tmp_path, few_digits):
    folder = tmp_path / "run"
    shutil.copytree(searched, folder)
    with pytest.raises(Stopped, match="archgrad train"):
        train_run(folder, controls=1, data=few_digits, progress=StopAt(at))
    assert not (folder / "train/derived/result.json").exists()
    train_run(folder, controls=1, data=few_digits)
    for name in ("derived", "random-0", "residual"):
        a, b = folder / "train" / name, trained / "train" / name
        assert (a / "weights.safetensors").read_bytes() == (b / "weights.safetensors").read_bytes()
        assert lines_of(Run(a)) == lines_of(Run(b))
        results = [json.loads((f / "result.json").read_text()) for f in (a, b)]
        assert results[0].pop("seconds") >= 0
        assert results[1].pop("seconds") > 0
        assert results[0] == results[1]
        assert not list((a / "checkpoints").glob("*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_command_after_its_step_and_says_how_to_go_on(number, tmp_path):
    folder = tmp_path / "run"
    arguments = [
        *["search", "--run", str(folder), "--data", "digits", "--method", "gdas"],
        *["search.epochs=400", "space.channels=2", "device.threads=1", "device.name=cpu"],
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", "from archgrad.cli import main; main()", *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    for _ in range(1200):
        if (folder / "metrics.jsonl").exists() or process.poll() is not None:
            break
        time.sleep(0.1)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    assert out == ""
    assert f"archgrad search --run {folder} --resume" in err
    assert "Traceback" not in err
    run = Run(folder)
    checkpoint, warnings = run.load_checkpoint()
    assert warnings == []
    assert checkpoint is not None
    epoch, step, _ = checkpoint["search"]["position"]
    assert len(run.read_lines("metrics.jsonl")) == epoch
    assert 0 <= step <= 11
    assert f"epoch {epoch}, step {step}" in err


@pytest.fixture
def two_checkpoints(straight, tiny, tmp_path) -> Path:
    shutil.copytree(straight("gdas", settings_of("gdas", tiny)), tmp_path / "run")
    assert len(list((tmp_path / "run/checkpoints").glob("*.pt"))) == 2
    return tmp_path / "run"


@pytest.mark.parametrize("damage", ["truncated", "bit flipped", "no digest", "empty"])
def test_a_damaged_newest_checkpoint_is_passed_over_with_a_warning(
    damage, two_checkpoints, few_digits, straight, tiny
):
    newest = sorted(two_checkpoints.glob("checkpoints/*.pt"))[-1]
    data = bytearray(newest.read_bytes())
    if damage == "truncated":
        newest.write_bytes(data[: len(data) // 2])
    elif damage == "bit flipped":
        data[len(data) // 2] ^= 1
        newest.write_bytes(data)
    elif damage == "no digest":
        newest.with_suffix(".sha256").unlink()
    else:
        newest.write_bytes(b"")
    progress = StopAt(-1)
    search_run({}, two_checkpoints, data=few_digits, resume=True, progress=progress)
    assert any("warning" in line and newest.name in line for line in progress.said)
    assert_same_search(two_checkpoints, straight("gdas", settings_of("gdas", tiny)))


def test_when_every_checkpoint_is_damaged_nothing_is_thrown_away(two_checkpoints, few_digits):
    for file in two_checkpoints.glob("checkpoints/*.pt"):
        file.write_bytes(b"rubbish")
    before = (two_checkpoints / "metrics.jsonl").read_bytes()
    with pytest.raises(UserError, match="every checkpoint in"):
        search_run({}, two_checkpoints, data=few_digits, resume=True)
    assert (two_checkpoints / "metrics.jsonl").read_bytes() == before


class Trap:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_a_checkpoint_with_code_in_it_is_refused_and_not_executed(two_checkpoints, few_digits, tmp_path):
    sprung = tmp_path / "sprung"
    run = Run(two_checkpoints)
    run.save_checkpoint(99, {"search": Trap(str(sprung))})  # written with its digest
    newest = sorted(two_checkpoints.glob("checkpoints/*.pt"))[-1]
    assert newest.name == "step-00000099.pt"
    with pytest.raises(UserError, match="nothing in it was executed"):
        search_run({}, two_checkpoints, data=few_digits, resume=True)
    with pytest.raises(UserError, match="nothing in it was executed"):
        run.load_checkpoint()
    assert not sprung.exists()
    pickle.loads(pickle.dumps(Trap(str(sprung)))).close()  # the trap does work
    assert sprung.exists()


def test_only_the_newest_two_checkpoints_are_kept(tmp_path):
    run = Run(tmp_path)
    for step in (1, 5, 20, 100):
        run.save_checkpoint(step, {"step": step})
    names = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert names == [
        "step-00000020.pt",
        "step-00000020.sha256",
        "step-00000100.pt",
        "step-00000100.sha256",
    ]
    assert run.load_checkpoint() == ({"step": 100}, [])


def test_resuming_with_another_configuration_lists_what_differs(two_checkpoints, few_digits):
    with pytest.raises(UserError) as error:
        search_run(
            {"search": {"epochs": 9, "batch_size": 20}, "seed": 4},
            two_checkpoints,
            data=few_digits,
            resume=True,
        )
    assert "search.epochs: the run has 2, you gave 9" in str(error.value)
    assert "seed: the run has 3, you gave 4" in str(error.value)
    assert "batch_size" not in str(error.value)
    # the same configuration once more is no difference
    search_run({"search": {"epochs": 2}}, two_checkpoints, data=few_digits, resume=True)


def test_resuming_with_an_edited_configuration_file_lists_what_differs(two_checkpoints, few_digits):
    file = two_checkpoints / "config.yaml"
    file.write_text(file.read_text().replace("momentum: 0.9", "momentum: 0.5"))
    with pytest.raises(UserError, match=r"weights.momentum: the run has 0.9, the file has 0.5"):
        search_run({}, two_checkpoints, data=few_digits, resume=True)


def test_resuming_on_other_data_is_refused(two_checkpoints, few_digits):
    train = few_digits.train
    fewer = replace(few_digits, train=MemoryImages(train.pixels[:180], train.labels[:180]))
    with pytest.raises(UserError, match="the data differ"):
        search_run({}, two_checkpoints, data=fewer, resume=True)
