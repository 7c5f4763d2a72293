"""Plausible mistakes at the command line: a message, exit code 2 (1 when work failed), nothing lost."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from archgrad import atomic, runs
from archgrad.cli import main
from archgrad.datasets.images import ImageData, MemoryImages
from archgrad.errors import UserError
from archgrad.runs import Run
from archgrad.verbs import derive_run, search_run, train_run

QUICK = ["search.epochs=1", "space.channels=2", "space.stages=2", "device.threads=1", "device.name=cpu"]


def call(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def refused(*arguments, code=2):
    """The message of a command that must fail with `code`, without a traceback or a result."""
    result = call(*arguments)
    assert result.exit_code == code, (result.exit_code, result.stderr, result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.fixture
def run(finished_run, tmp_path):
    shutil.copytree(finished_run, tmp_path / "run")
    return tmp_path / "run"


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != "log.txt"
    }


SEARCHES = [
    (["--method", "dartz"], "did you mean 'darts'"),
    (["--space", "nasbench20"], "did you mean 'nasbench201'"),
    (["--data", "cifar"], "did you mean 'cifar10'"),
    (["--data-path", "/nowhere/at/all"], "no file or folder /nowhere/at/all"),
    (["--space", "nowhere:space"], "no module 'nowhere'"),
    (["--space", "json:dumps"], "(pick, shape, classes)"),
    (["--config", "/nowhere.yaml"], "no configuration file"),
    (["search.epochs"], "section.key=value"),
    (["search.epochs=many"], "search.epochs: should be a valid integer"),
    (["search.epochs=0"], "search.epochs: should be greater than or equal to 1"),
    (["search.batch_size=1"], "search.batch_size: should be greater than or equal to 2"),
    (["search.batch_size=5000"], "search.batch_size: 5000 is larger than the part of the data"),
    (["train.batch_size=5000"], "train.batch_size: 5000 is larger than the part of the data"),
    (["train.batch_size=1"], "train.batch_size"),
    (["temperature.start=0"], "temperature.start: should be greater than 0"),
    (["temperature.end=-1"], "temperature.end: should be greater than 0"),
    (["weights.learning_rate=.nan"], "weights.learning_rate"),
    (["weights.learning_rate=.inf"], "weights.learning_rate"),
    (["weights.clip=-1"], "weights.clip: should be greater than 0"),
    (["architecture.weight_decay=-0.1"], "architecture.weight_decay"),
    (["cost.name=macs", "cost.strength=-1"], "cost.strength"),
    (["cost.name=watts"], "cost.name: unknown 'watts'"),
    (["data.validation=1"], "data.validation"),
    (["data.validation=0"], "data.validation"),
    (["data.test=-0.1"], "data.test"),
    (["data.split_file=/nowhere.npz"], "no split file"),
    (["data.resize=0"], "resize"),
    (["data.resize=100000"], "smaller data.resize"),
    (["data.crop=5"], "data.crop: 5 pixels of padding"),
    (["data.resize=1"], "too small for the reductions"),
    (["data.resize=2", "--space", "darts", "space.cells=3"], "too small for the reductions"),
    (["space.stages=9"], "too small for the reductions"),
    (["space.channels=-1"], "space.channels: should be above 0"),
    (["space.channels=wide"], "space.channels: should be a valid integer"),
    (["space.nodes=1"], "makes no choice"),
    (["space.candidates=[none]"], "nothing to search"),
    (["space.candidates=[nor_conv_9x9]"], "unknown operation 'nor_conv_9x9'"),
    (["device.name=toaster"], "device.name: cannot use 'toaster'"),
    (["device.threads=0"], "device.threads"),
    (["seed=-1"], "seed"),
    (["seed=1.5"], "seed: should be a valid integer"),
    (["--seed", "x"], "not a valid integer"),
    (["epochs=3"], "epochs: belongs to a section; did you mean search.epochs or train.epochs?"),
    (["search.bs=3"], "search.bs: unknown key - did you mean 'batch_size'?"),
    (["weights.lr=0.1"], "weights.lr: unknown key - did you mean 'learning_rate'?"),
    (["architecture.betas=[0.5]"], "architecture.betas: should be a list of two numbers, got (0.5,)"),
    (["architecture.betas=0.5"], "architecture.betas: should be a list of two numbers, got 0.5"),
    (["data.resize=[8]"], "data.resize: should be a valid integer or should be a list of two numbers"),
    (["data.resize=[8,8,8]"], "data.resize: should be a valid integer or should be a list of two numbers"),
    (["sampler=softmax"], "write sampler.name=softmax"),
    (["method.name=darts"], "method: a name, no section; write method=darts"),
    (["train.space=5"], "train.space: a section of settings; write train.space.setting=value, got 5"),
    (["space.candidates=none"], "space.candidates: should be a list such as [none]"),
    (["nonsense.key=1"], "nonsense: unknown key"),
    (["nonsense=1"], "nonsense: unknown key"),
    (["search=5"], "search: a section with keys"),
    (["--resume"], "holds no run"),
]


@pytest.mark.parametrize(("arguments", "message"), SEARCHES, ids=[" ".join(a) for a, _ in SEARCHES])
def test_a_search_that_cannot_be(arguments, message, tmp_path):
    text = refused("search", "--run", tmp_path / "r", *arguments)
    assert message in text
    assert not (tmp_path / "r").exists()  # nothing is left behind


def test_a_missing_gpu_is_wrong_input(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert "device.name: cannot use 'cuda'" in refused("search", "--run", tmp_path / "r", "device.name=cuda")


def test_every_problem_is_reported_at_once_at_the_command_line(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text('method = "random"\n[temperature]\nstart = 2.0\n[weights]\nlr = 0.1\n')
    text = refused("search", "--run", tmp_path / "r", "--config", file, "search.epochs=-3", "seed=x")
    assert "4 problem(s)" in text
    for key in ("temperature.start", "weights.lr", "search.epochs", "seed"):
        assert f"- {key}:" in text


@pytest.mark.parametrize("verb", ["derive", "train", "export", "report"])
def test_a_verb_on_what_is_no_run(verb, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    for name in ("file", "empty", "missing"):
        assert "holds no run" in refused(verb, tmp_path / name) or verb == "report"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "file"]


def test_the_run_option_on_a_file(tmp_path):
    (tmp_path / "file").write_text("x")
    assert "is a file" in refused("search", "--run", tmp_path / "file")
    assert "is a file" in refused("search", "--run", tmp_path / "file" / "below")
    assert (tmp_path / "file").read_text() == "x"


def test_a_folder_with_a_run_is_not_searched_again(run):
    before = contents(run)
    assert "--resume" in refused("search", "--run", run, "search.epochs=1")
    assert contents(run) == before


def test_resuming_otherwise_lists_the_differences(run):
    before = contents(run)
    text = refused("search", "--run", run, "--resume", "search.epochs=7", "--seed", 9)
    assert "search.epochs: the run has 2, you gave 7" in text
    assert "seed: the run has 3, you gave 9" in text
    assert contents(run) == before


def test_verbs_out_of_order(run):
    (run / "train/derived/result.json").unlink()
    assert f"archgrad train {run}" in refused("export", run)
    (run / "architecture.json").unlink()
    assert f"archgrad derive {run}" in refused("train", run)
    for name in ("logits.safetensors", "best.json"):
        (run / name).unlink()
    shutil.rmtree(run / "checkpoints")
    assert "--resume" in refused("derive", run)
    assert "no finished epoch" in refused("derive", run, "--best")


@pytest.mark.parametrize(
    ("file", "verb"),
    [
        ("config.yaml", "derive"),
        ("config.yaml", "train"),
        ("config.yaml", "export"),
        ("choices.json", "derive"),
        ("choices.json", "train"),
        ("architecture.json", "train"),
        ("data.json", "derive"),
        ("data.json", "train"),
        ("logits.safetensors", "derive"),
        ("best.json", "derive --best"),
        ("best.safetensors", "derive --best"),
        ("train/derived/result.json", "export"),
        ("train/derived/weights.safetensors", "export"),
        ("train/derived/settings.json", "train"),
    ],
)
@pytest.mark.parametrize("content", [b"", b"{}", b'{"a": [1]}', b"\xff\xfe rubbish", b"[1, 2]", b"cut"])
def test_a_damaged_file_is_named(file, verb, content, run):
    (run / file).write_bytes((run / file).read_bytes()[:-40] if content == b"cut" else content)
    name, *options = verb.split()
    text = refused(name, run, *options)
    assert Path(file).name in text or "data differ" in text or "trained otherwise" in text


def test_an_architecture_of_another_space_is_refused(run):
    document = json.loads((run / "architecture.json").read_text())
    document["choices"] = {name.replace("cell", "sell"): c for name, c in document["choices"].items()}
    (run / "architecture.json").write_text(json.dumps(document))
    assert "another space" in refused("train", run, "--again")


def test_other_overrides_for_training(run):
    assert "sections train and device" in refused("train", run, "search.epochs=3")
    assert "train.epochs: should be a valid integer" in refused("train", run, "train.epochs=x")
    assert "train.epochs: the run has 2, you gave 3" in refused("train", run, "train.epochs=3")
    assert "train.drop_path" in refused("train", run, "train.drop_path=0.1", "--again")
    assert "controls" in refused("train", run, "--controls", -1)
    with pytest.raises(UserError, match="controls"):
        train_run(run, controls=-1)


def test_unknown_rule_family_and_verb(run):
    assert "did you mean 'argmax'" in refused("derive", run, "--rule", "argmx")
    assert "did you mean 'samplers'" in refused("list", "sampler")
    assert "No such command" in refused("serch")


def test_a_report_that_cannot_be_written(run):
    assert "/nowhere" in refused("report", run, "--out", "/nowhere/at/all/report.html")


def test_a_search_that_diverges_is_failed_work(tmp_path):
    settings = ["weights.learning_rate=1e30", "weights.clip=null", "search.epochs=3", *QUICK[1:]]
    text = refused("search", "--run", tmp_path / "r", *settings, code=1)
    assert "steps in a row" in text
    assert "checkpoint" in text
    assert "weights.learning_rate" in text
    assert (tmp_path / "r/config.yaml").exists()


def test_a_training_that_diverges_is_failed_work_and_keeps_the_search(run):
    before = contents(run)
    settings = ["train.learning_rate=1e30", "train.momentum=0.99", "train.epochs=3"]
    text = refused("train", run, "--again", *settings, code=1)
    assert "training steps in a row" in text
    after = contents(run)
    assert all(after[name] == before[name] for name in before if not name.startswith("train/derived"))


def test_a_disk_that_fills_up_during_a_search_loses_nothing(tmp_path, tiny, few_digits, monkeypatch):
    real, calls = os.fsync, []

    def fill(descriptor):
        calls.append(1)
        if len(calls) > 12:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "fsync", fill)
        patch.setattr(runs, "CHECKPOINT_SECONDS", 0.0)
        with pytest.raises(UserError, match=r"No space left on device.*intact"):
            search_run(tiny(search={"epochs": 6}), tmp_path / "a", data=few_digits)
    run = Run(tmp_path / "a")
    assert run.load_checkpoint()[0] is not None
    assert run.load_checkpoint()[1] == []
    # with room again it goes on, to the same end as a run that never stopped
    search_run({}, tmp_path / "a", data=few_digits, resume=True)
    search_run(tiny(search={"epochs": 6}), tmp_path / "b", data=few_digits)
    for name in ("logits.safetensors", "best.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


# ---- from Python


def nothing(pick, shape, classes):
    """A space without a choice."""
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, classes))


def broken(pick, shape, classes):
    """A space whose code is wrong."""
    return torch.nn.Sequential(pick("a", {"x": lambda: torch.nn.Linear(3, 2), "y": torch.nn.Identity}))


def tuple_space(pick, shape, classes, width: int = 4):
    """A good space of the user's own."""
    return torch.nn.Sequential(
        torch.nn.Conv2d(shape[0], width, 1),
        pick(
            "middle",
            {
                "conv": lambda: torch.nn.Conv2d(width, width, 3, padding=1),
                "skip": torch.nn.Identity,
            },
        ),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(width, classes),
    )


PLAIN = {"search": {"epochs": 1, "batch_size": 20}, "train": {"epochs": 1, "batch_size": 20}}


@pytest.fixture
def importable(monkeypatch):
    """This file as a module that can be imported by its name, as a user's would be."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import test_bad_input

    return test_bad_input


def test_a_space_and_data_of_ones_own_go_through_all_verbs(tmp_path, few_digits, importable):
    folder = tmp_path / "r"
    search_run(PLAIN, folder, data=few_digits, space=importable.tuple_space)
    assert set(derive_run(folder).architecture) == {"middle"}
    trained = train_run(folder, controls=1, data=few_digits)
    assert trained.derived["test_images"] == 100
    assert "given in Python" in refused("train", folder, "--again")


def test_spaces_that_cannot_be_searched(tmp_path, few_digits, importable):
    with pytest.raises(UserError, match="makes no choice"):
        search_run(PLAIN, tmp_path / "r", data=few_digits, space=importable.nothing)
    with pytest.raises(UserError, match="cannot be built"):
        search_run(PLAIN, tmp_path / "r", data=few_digits, space=importable.broken)

    def local(pick, shape, classes):
        return nothing(pick, shape, classes)

    with pytest.raises(UserError, match="top of a module"):
        search_run(PLAIN, tmp_path / "r", data=few_digits, space=local)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(("side", "images"), [(1, 40), (2, 40), (8, 20)])
def test_tiny_parts_and_images_either_work_or_are_refused(side, images, tmp_path):
    """BatchNorm in training must never be handed one value per channel."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, 1, side, side), generator=generator).to(torch.uint8)
    labels = torch.arange(images) % 2
    data = ImageData("tiny", MemoryImages(pixels, labels), None, ("a", "b"), "")
    settings = {"space": {"name": "nasbench201", "stages": 1, "channels": 2}, "search": {"epochs": 1}}
    settings["train"] = {"epochs": 1, "space": {"stages": 1, "channels": 2, "cells": 1}}
    search_run(settings, tmp_path / "r", data=data)
    derive_run(tmp_path / "r")
    trained = train_run(tmp_path / "r", controls=1, data=data)
    assert all(0 <= r["test_accuracy"] <= 1 for r in (trained.derived, *trained.controls))
