"""Trackers: what they are given, what TensorBoard and MLflow then hold, and that a search never suffers."""

import json
import struct
import sys

import pytest
from click.testing import CliRunner

from archgrad.cli import main
from archgrad.errors import MissingExtra, UserError
from archgrad.trackers import TRACKERS
from archgrad.trackers.tracker import Trackers, numbers_of
from archgrad.verbs.search import search_run
from archgrad.verbs.track import track_run

QUICK = {
    "data": {"name": "digits"},
    "space": {"name": "nasbench201", "channels": 2, "cells": 1},
    "method": "gdas",
    "search": {"epochs": 2, "batch_size": 256},
}
LINE = {
    "epoch": 4,
    "train_loss": 0.5,
    "valid_loss": float("nan"),
    "tau": None,
    "probabilities": {"a": [0.5, 0.5]},
    "budgets": {"macs": {"expected": 1e6, "held": 2e6, "price_above": 0.0, "price_below": None}},
    "diagnostics": {
        "entropy": {"mean": 1.0, "relative": 0.5, "relative_by_choice": {"a": 1.0}},
        "gap": {"drop": 0.25},
        "odd": 3,
    },
    "alarms": {"unsettled": {"text": "…", "remedy": "…"}},
}


class Failing:
    """A tracker whose server is gone after the first epoch."""

    said = 0

    def begin(self, folder, config):
        pass

    def epoch(self, epoch, numbers):
        if epoch:
            raise ConnectionError("the server does not answer\nand more")

    def finish(self, done):
        Failing.said += 1


def _events(folder):
    """(step, tag) -> value of all event files; every record once."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    found, files = {}, sorted(folder.glob("events.out.tfevents.*"))
    for path in files:
        data = path.read_bytes()
        while data:  # length, its checksum, the record, its checksum
            (size,) = struct.unpack("<Q", data[:8])
            event = event_pb2.Event.FromString(data[12 : 12 + size])
            data = data[16 + size :]
            for value in event.summary.value:
                assert (event.step, value.tag) not in found
                found[event.step, value.tag] = value.simple_value
    return found, len(files)


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A run that was tracked while it went on."""
    pytest.importorskip("tensorboardX")
    folder = tmp_path_factory.mktemp("tracked") / "run"
    search_run(QUICK, folder, track=("tensorboard",))
    return folder


def _lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_numbers_are_those_of_the_whole_search():
    assert numbers_of(LINE) == {
        "loss/train": 0.5,
        "budget/macs/expected": 1e6,
        "budget/macs/held": 2e6,
        "budget/macs/price_above": 0.0,
        "entropy/relative": 0.5,
        "gap/drop": 0.25,
        "alarms": 1.0,
    }


def test_every_tracker_of_the_table_says_which_extra_it_needs(monkeypatch, tmp_path):
    for module in ("tensorboardX", "mlflow", "mlflow.tracking"):
        monkeypatch.setitem(sys.modules, module, None)
    for name in TRACKERS:
        with pytest.raises(MissingExtra, match=rf"pip install 'archgrad\[{name}\]'"):
            search_run(QUICK, tmp_path / "run", track=(name,))
        assert not (tmp_path / "run").exists()  # said before anything begins


def test_events_hold_what_the_lines_hold(searched):
    found, files = _events(searched / "tensorboard")
    lines = _lines(searched)
    assert files == 1
    assert {step for step, _ in found} == {0, 1}
    for line in lines:
        numbers = numbers_of(line)
        assert {tag for step, tag in found if step == line["epoch"]} == set(numbers)
        for name, value in numbers.items():
            assert found[line["epoch"], name] == pytest.approx(value, rel=1e-6)
    assert found[1, "loss/train"] == pytest.approx(lines[1]["train_loss"], rel=1e-6)


def test_a_tracked_search_is_the_same_search(searched, tmp_path):
    search_run(QUICK, tmp_path / "plain")

    def timeless(folder):
        return [{key: value for key, value in line.items() if key != "seconds"} for line in _lines(folder)]

    assert timeless(tmp_path / "plain") == timeless(searched)
    assert not (tmp_path / "plain" / "tensorboard").exists()


def test_a_search_that_goes_on_has_every_epoch_once(tmp_path):
    pytest.importorskip("tensorboardX")
    staged = {**QUICK, "search": {**QUICK["search"], "warmup_epochs": 1}, "method": "darts"}
    search_run(staged, tmp_path / "run", track=("tensorboard",), warm_up_only=True)
    assert {step for step, _ in _events(tmp_path / "run" / "tensorboard")[0]} == {0}
    search_run({}, tmp_path / "run", track=("tensorboard",), resume=True)
    found, files = _events(tmp_path / "run" / "tensorboard")
    assert ({step for step, _ in found}, files) == ({0, 1}, 1)


def test_a_tracker_that_fails_is_left_out_and_the_search_goes_on(tmp_path):
    said = []

    class Shown:
        def say(self, line):
            said.append(line)

        def start(self, title, total, done=0):
            pass

        def update(self, done, numbers):
            pass

        def finish(self):
            pass

    settings = {**QUICK, "search": {**QUICK["search"], "epochs": 3}}
    search_run(settings, tmp_path / "run", track=(f"{__name__}:Failing",), progress=Shown())
    assert len(_lines(tmp_path / "run")) == 3
    warnings = [line for line in said if "does not get the numbers any more" in line]
    assert len(warnings) == 1
    assert warnings[0].endswith("the server does not answer")
    assert Failing.said == 0


def test_a_finished_run_is_tracked_afterwards(searched, tmp_path):
    before, _ = _events(searched / "tensorboard")
    result = CliRunner().invoke(main, ["track", str(searched), "--json"])
    assert json.loads(result.output) == {"run": str(searched), "trackers": ["tensorboard"], "epochs": 2}
    assert _events(searched / "tensorboard") == (before, 1)


def test_bad_input_is_said(searched, tmp_path):
    with pytest.raises(UserError, match="unknown tracker 'tensorbord' - did you mean 'tensorboard'"):
        Trackers(["tensorbord"], print)
    result = CliRunner().invoke(
        main, ["search", "--run", str(tmp_path / "run"), "--data", "digits", "--track", "x"]
    )
    assert result.exit_code == 2
    assert "unknown tracker 'x'" in result.output
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match="to which tracker"):
        track_run(searched, [])
    with pytest.raises(UserError, match="the server does not answer"):
        track_run(searched, [f"{__name__}:Failing"])
    with pytest.raises(UserError, match="holds no run"):
        track_run(tmp_path, ["tensorboard"])


def test_mlflow_holds_what_the_lines_hold(searched, tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert track_run(searched, ["mlflow"]) == 2
    client = MlflowClient()
    experiment = client.get_experiment_by_name("archgrad")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.tags["archgrad.folder"] == str(searched)
    assert run.data.params["search.epochs"] == "2"
    for line in _lines(searched):
        for name, value in numbers_of(line).items():
            history = {m.step: m.value for m in client.get_metric_history(run.info.run_id, name)}
            assert history[line["epoch"]] == pytest.approx(value)
