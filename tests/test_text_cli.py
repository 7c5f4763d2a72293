"""The command line on a text of one's own: search, resume, derive, train, report."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from archgrad.cli import main

FEW = ["space.hidden=6", "space.nodes=2", "text.window=5", "search.epochs=1", "search.batch_size=4"]
FEW_TRAIN = ["train.epochs=1", "train.batch_size=4", "train.space.hidden=6", "train.space.nodes=2"]


def call(*arguments: str) -> str:
    done = CliRunner().invoke(main, list(arguments))
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_text_goes_the_whole_way(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for part, count in (("train", 40), ("valid", 10), ("test", 10)):
        lines = [f"the {'cat' if k % 2 else 'dog'} sat on mat {k % 5}" for k in range(count)]
        (tmp_path / "mine" / f"{part}.txt").write_text("\n".join(lines) + "\n")
    run = str(tmp_path / "run")
    data = ["--data-path", str(tmp_path / "mine"), "--space", "darts_rnn", "--method", "darts"]
    found = call("search", "--run", run, *data, *FEW, *FEW_TRAIN, "device.name=cpu")
    assert "(perplexity " in found
    assert call("search", "--run", run, "--resume").startswith("searched 1 epochs")
    assert "by rule" not in call("derive", run)
    assert "test perplexity" in call("train", run, "--controls", "1")
    result = json.loads((tmp_path / "run/train/lstm/result.json").read_text())
    assert result["kind"] == "lstm"
    call("report", run)
    assert "runs without archgrad" in call("export", run, "--no-onnx")
    wrong = CliRunner().invoke(main, ["search", "--run", f"{run}2", *data[:2], "--method", "gdas"])
    assert wrong.exit_code == 2
    assert "search with --space darts_rnn" in wrong.stderr
