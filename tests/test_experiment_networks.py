"""Experiments on networks: ordinary runs in parallel processes; stopped, resumed, failed; their control."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from archgrad.architecture import Architecture
from archgrad.choice import Sample
from archgrad.config_layers import merge
from archgrad.datasets.loading import load
from archgrad.errors import Stopped, UserError
from archgrad.experiment import arms_on_data
from archgrad.experiment.measures import SHARED, TRUTH, read_run, true_accuracy
from archgrad.experiment.network import EVALUATED, Job, searched_supernet, shared_accuracy
from archgrad.experiment.plan import CONTROL, Plan
from archgrad.experiment.runner import cores, run_all, shares
from archgrad.landscapes.nasbench201 import NASBench201
from archgrad.parts import Parts
from archgrad.progress import Silent
from archgrad.runs import Run
from archgrad.verbs import derive_run, report_run, search_run
from archgrad.verbs.contents import read_config, read_tensors
from archgrad.verbs.experiment import experiment_run

SIZE = {"channels": 2, "cells": 1, "stages": 2}
SETTINGS = {
    "data": {"name": "digits"},
    "space": {"name": "nasbench201", **SIZE},
    "search": {"epochs": 3, "warmup_epochs": 0, "batch_size": 256},
    "train": {"epochs": 1, "batch_size": 256, "space": SIZE},
    "device": {"name": "cpu"},
}


def plan(**changes):
    return Plan(**{"methods": ["darts", "gdas"], "seeds": 2, "settings": SETTINGS, **changes})


def states(document):
    return {arm["name"]: (arm["done"], arm["failed"], arm["pending"]) for arm in document["arms"]}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(folder, document) of an experiment that has ended. Copy the folder to change it."""
    folder = tmp_path_factory.mktemp("experiment") / "e"
    return folder, experiment_run(plan(train=True), folder, jobs=2)


def test_every_run_is_an_ordinary_run(finished, tmp_path):
    folder, document = finished
    assert states(document) == {"darts": (2, 0, 0), "gdas": (2, 0, 0), CONTROL: (2, 0, 0)}
    assert document["score"] == "test_accuracy"
    alone = search_run({**SETTINGS, "method": "gdas", "seed": 1}, tmp_path / "alone")
    derivation = derive_run(tmp_path / "alone")
    run = Run.open(folder / "runs" / "gdas" / "seed-1")
    for name, tensor in read_tensors(alone, "logits.safetensors").items():
        assert torch.equal(tensor, read_tensors(run, "logits.safetensors")[name])
    row = next(r for r in document["runs"] if (r["arm"], r["seed"]) == ("gdas", 1))
    lines = alone.read_lines("metrics.jsonl")
    assert row["architecture"] == derivation.architecture.digest
    assert row["valid_accuracy"] == lines[-1]["valid_accuracy"]
    assert row["entropy"] == pytest.approx(lines[-1]["diagnostics"]["entropy"]["relative"])
    stable = [line["diagnostics"]["stability"]["same_last"] for line in lines[1:]]
    assert row["stability"] == pytest.approx(sum(stable) / 2)
    result = run.read_json("train/derived/result.json")
    assert row["test_accuracy"] == result["test_accuracy"]
    assert report_run(run.folder, tmp_path / "report.html").exists()


def test_shared_weights_are_evaluated_as_the_search_sees_them(finished):
    folder, _ = finished
    run = Run.open(folder / "runs" / "darts" / "seed-0")
    parts = Parts.of(read_config(run), load("digits"))
    network = searched_supernet(run, parts)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    text = run.path("architecture.json").read_text()
    architecture = Architecture.from_json(text)
    found = shared_accuracy(parts, network, architecture)
    assert run.read_json(SHARED)["accuracy"] == pytest.approx(found)
    (group,) = network.groups
    weights = torch.zeros(len(group.names), len(group.candidates))
    for row, name in zip(weights, group.names, strict=True):
        row[group.candidates.index(architecture[name])] = 1.0
    sample = Sample(weights, tuple((int(row.argmax()),) for row in weights), True)
    network.train()
    _, wanted = parts.task(network).evaluate(lambda step: [sample])
    assert found == pytest.approx(wanted, abs=2.1 / 719)  # an image on the edge, by rounding
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_the_control_is_the_best_of_what_it_looked_at(finished):
    folder, document = finished
    runs = sorted((folder / "runs" / "random-search-3").glob("seed-*"))
    assert len(runs) == 2
    for path in runs:
        found = Run.open(path).read_json(EVALUATED)
        accuracies = [one["accuracy"] for one in found["evaluated"]]
        assert len(accuracies) == 3  # as many as there are epochs
        assert accuracies[found["best"]] == max(accuracies)
        chosen = Architecture.from_json((path / "architecture.json").read_text())
        assert dict(chosen) == found["evaluated"][found["best"]]["architecture"]
        config = read_config(Run.open(path))
        assert (config.method, config.search.epochs, config.data.validation) == ("random", 3, 0.5)
    rows = [row for row in document["runs"] if row["arm"] == CONTROL]
    assert all(row["converged"] is None and row["stability"] is None for row in rows)
    others = {(r["arm"], r["seed"]): r["test_accuracy"] for r in document["runs"]}
    for row in document["runs"]:
        if row["arm"] != CONTROL:
            assert row["success"] is (row["test_accuracy"] > others[CONTROL, row["seed"]])
    assert document["curves"][CONTROL]["entropy"] is None
    assert document["curves"]["darts"]["at"] == [1, 2, 3]


def test_a_finished_experiment_does_nothing_and_more_seeds_only_what_is_new(finished, tmp_path, monkeypatch):
    _, document = finished
    folder = tmp_path / "e"
    shutil.copytree(finished[0], folder)
    monkeypatch.setattr("archgrad.experiment.runner._Process", None)  # no process may begin
    again = experiment_run(plan(train=True), folder)
    assert again["runs"] == [{**row, "success": row["success"]} for row in document["runs"]]
    few = experiment_run(plan(methods=["gdas"], seeds=1, control=False), folder)
    assert states(few) == {"gdas": (1, 0, 0)}
    monkeypatch.undo()
    more = experiment_run(plan(methods=["gdas"], seeds=3, control=False), folder, jobs=1)
    assert states(more) == {"gdas": (3, 0, 0)}
    assert more["runs"][0]["test_accuracy"] == document["runs"][2]["test_accuracy"]
    assert more["score"] == "shared_accuracy"  # the new one was not trained
    longer = merge(SETTINGS, {"search": {"epochs": 4}})
    with pytest.raises(UserError, match=r"settings.search.epochs: the experiment has 3, you gave 4"):
        experiment_run(plan(settings=longer), folder)
    (folder / "experiment.json").unlink()
    with pytest.raises(UserError, match=r"gdas: settings.search.epochs: the run has 3, you gave 5"):
        experiment_run(plan(methods=["gdas=gdas(search.epochs=5)"]), folder)


def test_a_run_that_fails_is_recorded_and_the_others_go_on(tmp_path):
    document = experiment_run(
        plan(methods=["gdas", "bad=gdas(weights.learning_rate=1e30)"], seeds=1, control=False),
        tmp_path / "e",
        jobs=2,
    )
    assert states(document) == {"gdas": (1, 0, 0), "bad": (0, 1, 0)}
    (failed,) = [row for row in document["runs"] if row["status"] == "failed"]
    assert "finite" in failed["message"]
    assert "finite" in (tmp_path / "e" / "experiment.html").read_text()
    assert document["comparisons"] == []


def test_a_process_that_dies_is_a_failed_run(tmp_path, monkeypatch):
    module = tmp_path / "deadly_space.py"
    module.write_text(
        "import os, sys\n"
        "from archgrad.spaces.nasbench201 import NasBench201Network\n"
        "def space(pick, shape, classes, channels=2):\n"
        "    if 'worker' in sys.argv[0]:\n"
        "        os._exit(7)\n"
        "    return NasBench201Network(pick, shape, classes, channels, 1, 1)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    deadly = merge(SETTINGS, {"space": {"name": "deadly_space:space"}})
    deadly["train"] = {"epochs": 1, "batch_size": 256}
    document = experiment_run(
        plan(methods=["gdas"], seeds=2, settings=deadly, control=False), tmp_path / "e", jobs=1
    )
    assert states(document) == {"gdas": (0, 2, 0)}
    assert "ended with code 7" in document["runs"][0]["message"]


def test_stopped_and_resumed_it_is_the_same(tmp_path):
    words = [
        sys.executable, "-m", "archgrad", "experiment", "--methods", "gdas", "--data", "digits",
        "--seeds", "1", "--no-control", "--jobs", "1", "--space", "nasbench201", "space.channels=2",
        "space.cells=1", "space.stages=2", "search.epochs=25", "search.warmup_epochs=0",
        "search.batch_size=256", "train.batch_size=256", "device.name=cpu", "device.threads=1",
        "--out", str(tmp_path / "e"),
    ]  # fmt: skip
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    metrics = tmp_path / "e" / "runs" / "gdas" / "seed-0" / "metrics.jsonl"
    until = time.monotonic() + 200
    while not metrics.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 1
    assert "stopped by SIGTERM; the same command goes on; 0 of 1 runs are done" in errors
    done = len(metrics.read_text().splitlines())
    assert 1 <= done < 25
    document = json.loads((tmp_path / "e" / "experiment.json").read_text())
    assert states(document) == {"gdas": (0, 0, 1)}
    log = metrics.with_name("log.txt").read_text()
    assert "stopped by" in log
    result = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert "resumed at epoch" in metrics.with_name("log.txt").read_text()
    config = Run.open(metrics.parent).read_config()
    whole = search_run(config, tmp_path / "whole")
    found = read_tensors(Run.open(metrics.parent), "logits.safetensors")
    assert all(torch.equal(t, found[name]) for name, t in read_tensors(whole, "logits.safetensors").items())


def test_a_worker_ends_with_the_process_that_started_it(tmp_path):
    settings = merge(SETTINGS, {"method": "gdas", "seed": 0, "search": {"epochs": 500}})
    job = Job(str(tmp_path / "run"), settings)
    worker = subprocess.Popen(
        [sys.executable, "-m", "archgrad.experiment.worker", "1"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    worker.stdin.write(json.dumps(job.document()) + "\n")
    worker.stdin.flush()
    assert "at" in json.loads(worker.stdout.readline())
    worker.stdin.close()  # as when the other process is gone
    assert worker.wait(timeout=60) == 0
    assert "stopped" in json.loads(worker.stdout.read().splitlines()[-1])
    assert "stopped by SIGTERM" in (tmp_path / "run" / "log.txt").read_text()


def test_a_stop_before_the_first_run_has_ended(tmp_path, monkeypatch):
    job = Job(str(tmp_path / "run"), merge(SETTINGS, {"method": "gdas", "search": {"epochs": 500}}))

    class Impatient(Silent):
        def update(self, done, numbers):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Stopped, match="SIGINT"):
        run_all({"one": job}, 1, 1, tmp_path, Impatient())


def test_cores_are_shared():
    assert shares(None, 100, accelerator=False) == (cores(), 1)
    assert shares(None, 100, accelerator=True) == (1, cores())
    assert shares(1, 100, accelerator=False) == (1, cores())
    assert shares(None, 1, accelerator=False) == (1, cores())
    assert shares(None, 100, accelerator=False, threads=cores()) == (1, cores())
    assert shares(7, 100, accelerator=False)[0] == 7
    with pytest.raises(UserError, match="--jobs"):
        shares(0, 1, accelerator=False)


def test_cells_of_nasbench201_are_looked_up():
    from archgrad.config_problems import check

    table = NASBench201.open()
    config = check({"space": {"name": "nasbench201"}, "data": {"name": "cifar10"}})
    architecture = table.architecture(1234)
    accuracy, regret = true_accuracy(config, architecture)
    assert accuracy == pytest.approx(table.value(TRUTH, 1234) / 100)
    assert regret == pytest.approx((table.best(TRUTH) - table.value(TRUTH, 1234)) / 100)
    assert true_accuracy(check({"space": {"name": "nasbench201"}}), architecture) is None  # digits
    small = Architecture({"cell/1<-0": "none"})
    assert true_accuracy(config, small) is None


def test_a_run_that_has_not_ended_has_no_row(finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished[0] / "runs" / "gdas" / "seed-0", run)
    assert read_run(run, "x").epochs == 3
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "half')  # is passed over
    assert read_run(run, "x").epochs == 3
    (run / "logits.safetensors").unlink()
    with pytest.raises(UserError, match="--resume"):
        read_run(run, "x")


def test_notes_say_what_is_not_equal(tmp_path):
    uneven = plan(methods=["snas(search.epochs=2)", "darts"])
    work = arms_on_data.work_of(uneven, tmp_path)
    assert "of different length, 2 to 3 epochs" in work.notes[0]
    assert "0.1 to 0.5" in work.notes[1]
    control = next(arm for arm in work.arms if arm.is_control)
    assert control.settings["search"]["epochs"] == 3
    order = [name for name, _ in work.jobs]
    assert order[:3] == order[3:]  # seed by seed
    assert not (tmp_path / "runs").exists()


def test_what_is_wrong_is_said_before_anything_runs(tmp_path):
    for changes, message in (
        ({"space": {"name": "nasbench201", "chanels": 3}}, "chanels"),
        ({"data": {"name": "digits", "split_file": "nowhere.json"}}, "nowhere"),
        ({"search": {"epochs": 3, "warmup_epochs": 3}}, "warmup"),
    ):
        with pytest.raises(UserError, match=message):
            experiment_run(plan(settings=merge(SETTINGS, changes)), tmp_path / "e", jobs=1)
        assert not (tmp_path / "e").exists()


def test_documented_command_prints_a_table(finished):
    folder, document = finished
    from archgrad.experiment.sentences import text

    printed = text(document)
    for arm in document["arms"]:
        assert arm["name"] in printed
    assert "with 2 seeds no difference can be told from luck" in printed
    assert Path(folder / "experiment.html").stat().st_size < 200_000
