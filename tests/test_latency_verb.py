"""The verb: real measurements of tiny networks, as smoke tests; stops, kits on another device, errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from archgrad.architecture import Architecture
from archgrad.cli import main
from archgrad.errors import UserError, WorkError
from archgrad.latency import device_script
from archgrad.latency.candidates import Target, find
from archgrad.latency.table import LatencyTable, load_table
from archgrad.latency.timing import CLOCKS, ClockTimer, Plan, TimingError, measure, summary
from archgrad.latency.torch_backend import CudaTimer, inference, torch_calls
from archgrad.runs import Run
from archgrad.verbs import derive_run, export_run, search_run, train_run
from archgrad.verbs.contents import read_architecture
from archgrad.verbs.latency import How, measure_latency, write_latency_kit
from archgrad.verbs.latency_whole import derived_text, measure_derived

TINY = {"channels": 2, "cells": 1, "stages": 1}
QUICK = How(rounds=4, drift=1e6)  # on a busy machine every round counts
WORDS = ["--space", "nasbench201", "--size", "8", "--rounds", "4", "--drift", "1e6"]
SETTINGS = [f"space.{key}={value}" for key, value in TINY.items()]


def tiny() -> Target:
    return Target.of("nasbench201", (3, 8, 8), 10, TINY)


def run(*words: str) -> Any:
    return CliRunner().invoke(main, ["latency", *words])


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readings of a tenth of a millisecond."""
    import archgrad.verbs.latency as verb

    monkeypatch.setattr(verb, "Plan", lambda rounds, drift: Plan(rounds, 1e-4, drift=drift))


def test_a_large_convolution_takes_longer_than_nothing():
    calls = {"identity": nn.Identity(), "conv": nn.Conv2d(64, 64, 5, padding=2)}
    x = torch.randn(1, 64, 16, 16)
    plan = Plan(rounds=4, reading_seconds=1e-3, drift=1e6)
    with inference(1):
        session = measure({k: (lambda m=m: m(x)) for k, m in calls.items()}, plan)
    found = summary(session, plan).spreads
    assert 0 < found["identity"].median < found["conv"].median


def test_a_space_is_measured_and_read_back(tmp_path, short):
    path = tmp_path / "table.json"
    before, state = torch.get_num_threads(), torch.random.get_rng_state()
    table = measure_latency(tiny(), path, QUICK, validate=5)
    assert torch.get_num_threads() == before
    assert torch.equal(torch.random.get_rng_state(), state)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["table.json"]
    assert all(entry["median"] > 0 for entry in table.document["entries"].values())
    assert len(table.document["entries"]) == 7
    assert len(table.measured) == 5
    assert {"sum", "scaled"} == set(table.document["validation"]["models"])
    groups = tiny().supernet().groups
    cost = load_table(path, groups, target=tiny(), model="sum")
    architecture = Architecture(dict.fromkeys(groups[0].names, "nor_conv_3x3"))
    weights = [s.weights for s in tiny().supernet().one_hot(architecture)]
    assert float(cost.expected(weights)) == pytest.approx(cost.of(architecture), rel=1e-5)
    with pytest.raises(UserError, match="channels: the table has 2, wanted 4"):
        load_table(path, target=Target.of("nasbench201", (3, 8, 8), 10, {**TINY, "channels": 4}))


def test_what_was_measured_is_kept(tmp_path, short):
    path = tmp_path / "table.json"
    first = measure_latency(tiny(), path, QUICK)
    entries = first.document["entries"]
    validated = measure_latency(tiny(), path, QUICK, validate=5)
    assert validated.document["entries"] == entries
    same = measure_latency(tiny(), path, QUICK)
    assert same.measured == validated.measured
    assert measure_latency(tiny(), path, QUICK, again=True).document["entries"] != entries


def test_a_stop_loses_at_most_a_round(tmp_path, short, monkeypatch):
    path = tmp_path / "table.json"
    wrote: list[dict] = []
    write = device_script.write_json

    def stopping(file: Path, document: Any) -> None:
        write(file, document)
        wrote.append(json.loads(file.read_text()))
        if len(wrote) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(device_script, "write_json", stopping)
    with pytest.raises(KeyboardInterrupt):
        measure_latency(tiny(), path, QUICK)
    assert not path.exists()
    monkeypatch.setattr(device_script, "write_json", write)
    kept = json.loads((tmp_path / "table.json.partial").read_text())
    assert len(kept["sessions"]["pieces"]["rounds"]) == 3
    rounds: list[int] = []
    monkeypatch.setattr(
        device_script,
        "measure",
        lambda *a, session, **k: rounds.append(len(session["rounds"])) or measure(*a, session=session, **k),
    )
    table = measure_latency(tiny(), path, QUICK)
    assert rounds == [3]
    assert table.document["rounds"]["counted"] == 4
    assert not (tmp_path / "table.json.partial").exists()


def test_a_partial_file_of_something_else_is_not_gone_on_with(tmp_path, short):
    path = tmp_path / "table.json"
    partial = tmp_path / "table.json.partial"
    partial.write_text('{"identity": "other", "sessions": {"pieces": {}}}')
    assert measure_latency(tiny(), path, QUICK).document["rounds"]["counted"] == 4
    path.unlink()
    partial.write_bytes(b"\x00half")
    assert measure_latency(tiny(), path, QUICK).document["rounds"]["counted"] == 4


def test_a_table_of_something_else_is_not_written_over(tmp_path, short):
    path = tmp_path / "table.json"
    measure_latency(tiny(), path, QUICK)
    other = Target.of("nasbench201", (3, 8, 8), 10, {**TINY, "channels": 4})
    text = path.read_text()
    with pytest.raises(UserError, match=r"(?s)something else.*--again.*'channels': 2.*'channels': 4"):
        measure_latency(other, path, QUICK)
    with pytest.raises(UserError, match="batch: it has 1, you gave 2"):
        measure_latency(tiny(), path, How(rounds=4, drift=1e6, batch=2))
    assert path.read_text() == text
    measure_latency(other, path, QUICK, again=True)
    assert LatencyTable.read(path).document["space"]["settings"]["channels"] == 4


def test_batches_and_half_precision_are_measured(tmp_path, short):
    how = How(rounds=4, drift=1e6, batch=3, precision="bf16")
    table = measure_latency(tiny(), tmp_path / "table.json", how, validate=5)
    assert (table.document["batch"], table.document["precision"]) == (3, "bf16")


def test_candidates_run_on_inputs_of_the_batch_and_precision():
    found = find(tiny(), 3, "bf16")
    seen: list[tuple[Any, Any]] = []
    for module in found.modules.values():
        module.register_forward_hook(lambda m, i, o: seen.append((i[0].shape[0], o.dtype)))
    with inference(1):
        torch_calls(found.manifest, found.modules, list, torch.device("cpu"))
    assert set(seen) == {(3, torch.bfloat16)}


def test_the_processor_s_time_leaves_waiting_out():
    """Sleeping is no work of the thread: by one clock it takes long, by the other hardly anything."""
    plan = Plan(rounds=4, reading_seconds=1e-3, drift=1e6)
    x = torch.randn(1, 64, 16, 16)
    conv = nn.Conv2d(64, 64, 5, padding=2)

    def waiting() -> None:
        conv(x)
        time.sleep(0.05)

    found = {}
    with inference(1):
        for clock in CLOCKS:
            session = measure({"wait": waiting, "work": lambda: conv(x)}, plan, ClockTimer(CLOCKS[clock]))
            found[clock] = summary(session, plan).spreads
    assert found["wall"]["wait"].median > 0.05
    assert found["processor"]["wait"].median < 0.025
    assert found["processor"]["work"].median > 0


def test_the_clock_is_kept(tmp_path, short):
    path = tmp_path / "table.json"
    table = measure_latency(tiny(), path, How(rounds=4, drift=1e6, clock="processor"))
    assert table.document["clock"] == "processor"
    with pytest.raises(UserError, match="clock: it has processor, you gave wall"):
        measure_latency(tiny(), path, QUICK)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_is_timed_by_its_own_events(tmp_path):
    table = measure_latency(
        tiny(), tmp_path / "table.json", How(device="cuda", rounds=4, drift=1e6), validate=5
    )
    assert table.document["device"]["accelerator"] == torch.cuda.get_device_name()
    x = torch.randn(64, 64, 64, 64, device="cuda")
    large, small = nn.Conv2d(64, 64, 5, device="cuda"), nn.Conv2d(64, 8, 1, device="cuda")
    plan = Plan(rounds=4, drift=1e6)
    with inference(1):
        session = measure({"large": lambda: large(x), "small": lambda: small(x)}, plan, CudaTimer())
    found = summary(session, plan).spreads
    assert 0 < found["small"].median < found["large"].median


# ---- the derived network of a run


@pytest.fixture
def held_run(tmp_path, tiny, few_digits, short) -> Path:
    """A run held to a latency by a table that PyTorch measured here."""
    target = Target.of("nasbench201", (1, 8, 8), 10, {"channels": 2, "cells": 1, "stages": 2})
    table = measure_latency(target, tmp_path / "table.json", QUICK)
    low, high = table.cost_table().bounds()
    budget = {"latency": f"{(low + high) / 2:.6g}ms@{tmp_path / 'table.json'}"}
    search_run(tiny(budget=budget), tmp_path / "run", data=few_digits)
    derive_run(tmp_path / "run")
    return tmp_path / "run"


def test_the_derived_network_of_a_run_is_measured_whole(held_run, tmp_path):
    document = measure_derived(held_run)
    (one,) = document["comparisons"]
    assert document["not_compared"] == []
    assert document["measured_ms"] > 0
    assert document["lower_quartile"] <= document["measured_ms"] <= document["upper_quartile"]
    cost = load_table(tmp_path / "table.json")
    assert one["predicted_ms"] == cost.of(read_architecture(Run(held_run)))
    assert one["off_prediction"] == document["measured_ms"] / one["predicted_ms"] - 1
    assert one["met"] == (document["measured_ms"] <= one["most_ms"])
    assert one["references"] == 0  # no networks in the table: by a piece
    assert one["then_ms"] == document["measured_ms"] / (1 + one["reference_change"])
    assert Run(held_run).read_json("latency.json") == document
    shown = run(str(held_run), "--derived", "--rounds", "4")
    assert shown.exit_code == 0, shown.output
    assert "budget latency ≤ " in shown.output
    assert " predicted " in shown.output
    assert "than when that table was measured" in shown.output


def test_networks_of_the_table_tell_how_fast_the_machine_is(held_run, tmp_path):
    """Those of the table are said to have taken a hundred times as long."""
    path = tmp_path / "table.json"
    target = Target.of("nasbench201", (1, 8, 8), 10, {"channels": 2, "cells": 1, "stages": 2})
    measure_latency(target, path, QUICK, validate=6)
    table = json.loads(path.read_text())
    now = measure_derived(held_run)["comparisons"][0]["reference_change"]
    for network in table["whole"]["networks"]:
        network["median"] *= 100
    path.write_text(json.dumps(table))
    document = measure_derived(held_run)
    (one,) = document["comparisons"]
    assert one["references"] == 3
    assert abs(now) < 0.9
    assert -0.999 < one["reference_change"] < -0.9
    assert one["then_ms"] == document["measured_ms"] / (1 + one["reference_change"])
    assert one["then_off_target"] == one["then_ms"] / one["target_ms"] - 1
    assert "by 3 networks that both have timed" in derived_text(document)


def test_tables_that_say_nothing_of_the_measurement_are_named(held_run, tmp_path):
    document = measure_derived(held_run, {"batch": 2})
    assert document["comparisons"] == []
    assert document["batch"] == 2
    (reason,) = document["not_compared"]
    assert "its table was measured with batch 1, not 2" in reason
    path = tmp_path / "table.json"
    table = json.loads(path.read_text())
    table["device"]["processor"] = "Abacus 3000"
    path.write_text(json.dumps(table))
    document = measure_derived(held_run, {"rounds": 4, "drift": 1e6})
    assert document["comparisons"] == []
    assert "the table has Abacus 3000" in document["not_compared"][0]
    assert "not compared: " in derived_text(document)


def test_what_was_exported_is_what_is_measured(held_run, few_digits, monkeypatch):
    train_run(held_run, data=few_digits)
    export_run(held_run, data=few_digits)
    read: list[Path] = []
    plain = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: (read.append(path), plain(path))[1])
    how = {"backend": "onnxruntime", "rounds": 4, "drift": 1e6}
    document = measure_derived(held_run, how)
    assert (held_run / "export" / "model.onnx").resolve() in read
    assert document["file"] == "export/model.onnx"
    assert "its table was measured with backend torch, not onnxruntime" in document["not_compared"][0]
    architecture = read_architecture(Run(held_run))
    name = next(iter(architecture))
    changed = {**architecture, name: "none" if architecture[name] != "none" else "skip_connect"}
    Run(held_run).write_text(
        "architecture.json", Architecture(changed).to_json()
    )  # derived anew: the file is of another network
    assert measure_derived(held_run, how)["file"] is None


def test_a_run_without_a_budget_is_measured_too(finished_run):
    document = measure_derived(finished_run, {"rounds": 4, "drift": 1e6})
    assert (document["comparisons"], document["not_compared"]) == ([], [])
    assert document["measured_ms"] > 0


# ---- kits


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kit") / "kit"
    write_latency_kit(tiny(), folder, validate=5)
    return folder


def test_a_kit_measures_without_archgrad(kit, tmp_path):
    """In a Python that finds onnxruntime and numpy, and neither archgrad nor PyTorch."""
    import numpy
    import onnxruntime

    packages = tmp_path / "packages"
    packages.mkdir()
    for module in (numpy, onnxruntime):
        home = Path(module.__file__).parent
        for place in (home, home.with_name("numpy.libs")):
            link = packages / place.name
            if place.is_dir() and not link.exists():
                link.symlink_to(place)
    for name in ("google", "flatbuffers", "packaging"):  # what onnxruntime may import
        place = Path(numpy.__file__).parents[1] / name
        if place.exists():
            (packages / name).symlink_to(place)
    out = tmp_path / "table.json"
    command = [
        sys.executable,
        "-S",
        str(kit / "measure.py"),
        "--out",
        str(out),
        "--rounds",
        "4",
        "--drift",
        "1e6",
    ]
    environment = {**os.environ, "PYTHONPATH": str(packages), "OMP_NUM_THREADS": "1"}
    alone = subprocess.run(
        [sys.executable, "-S", "-c", "import archgrad"], env=environment, capture_output=True, check=False
    )
    assert alone.returncode != 0
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "6 pieces" in done.stdout
    assert sorted(p.name for p in tmp_path.iterdir()) == ["packages", "table.json"]
    table = LatencyTable.read(out)
    assert table.document["backend"]["name"] == "onnxruntime"
    assert len(table.measured) == 5
    cost = load_table(out, tiny().supernet().groups, target=tiny(), model="sum")
    skips = Architecture(dict.fromkeys(cost.choices[0].names, "skip_connect"))
    assert cost.of(skips) == cost.fixed  # ONNX Runtime leaves identities out
    shown = run("--check", str(out))
    assert shown.exit_code == 0
    assert "a call by itself takes" in shown.output
    assert "5 random networks measured whole" in shown.output
    assert run("--check", str(out), "--json").exit_code == 0


def test_a_kit_of_another_version_is_refused(kit, tmp_path, capsys):
    manifest = json.loads((kit / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "version": 99}))
    for name in ("measure.py", "timing.py"):
        (tmp_path / name).write_text((kit / name).read_text())
    done = subprocess.run(
        [sys.executable, str(tmp_path / "measure.py")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "write the kit anew" in done.stderr


def test_onnx_runtime_measures_on_this_machine(tmp_path, short):
    table = measure_latency(tiny(), tmp_path / "table.json", How("onnxruntime", rounds=4, drift=1e6))
    assert table.document["backend"]["name"] == "onnxruntime"
    assert table.document["call"]["median"] > 0
    assert not any("skip_connect" in key for key in table.document["entries"])
    assert (table.pieces.sum.numbers[0] >= 0).all()


def test_kits_are_not_written_over_other_folders(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="no kit: choose another folder"):
        write_latency_kit(tiny(), tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "mine"


# ---- the command line


def test_the_command_line_measures_and_shows(tmp_path):
    out = tmp_path / "table.json"
    done = run(*WORDS, *SETTINGS, "--out", str(out))
    assert done.exit_code == 0, done.output
    assert "nor_conv_3x3 on 2x8x8" in done.output
    assert "not compared with whole networks yet" in done.output
    shown = json.loads(run("--check", str(out), "--json").stdout)
    assert shown["pieces"] == 7
    assert shown["bounds_ms"][0] > 0


def test_a_run_says_its_own_sizes(finished_run, tmp_path):
    out = tmp_path / "table.json"
    done = run(str(finished_run), "--out", str(out), "--rounds", "4", "--drift", "1e6")
    assert done.exit_code == 0, done.output
    assert "the derived network: " in done.output
    document = json.loads(out.read_text())
    assert document["space"]["shape"] == [1, 8, 8]
    assert document["space"]["settings"]["channels"] == 2
    refused = run(str(finished_run), "--out", str(out), "--size", "8")
    assert refused.exit_code == 2
    assert "a run says its own sizes" in refused.output


def test_data_say_sizes_as_a_search_on_them_would(tmp_path, short):
    """The table fits the budget of a search with the same words."""
    small = ["train.space.channels=2", "train.space.cells=1", "train.space.stages=1"]
    file = tmp_path / "settings.yaml"
    file.write_text("method: gdas\ndata: {name: digits}\nspace: {name: nasbench201, channels: 2, cells: 1}\n")
    out = tmp_path / "table.json"
    done = run("--config", str(file), *small, "--rounds", "4", "--drift", "1e6", "--out", str(out))
    assert done.exit_code == 0, done.output
    document = json.loads(out.read_text())
    assert (document["space"]["shape"], document["space"]["classes"]) == ([1, 8, 8], 10)
    assert document["space"]["settings"]["channels"] == 2
    words = ["--config", str(file), *small, "search.epochs=1", "search.warmup_epochs=0"]
    budget = ["--budget", f"latency=1s@{out}", "--run", str(tmp_path / "run")]
    searched = CliRunner().invoke(main, ["search", *words, *budget])
    assert searched.exit_code == 0, searched.output
    same = run("--data", "digits", "--space", "nasbench201", *small, "--kit", str(tmp_path / "kit"))
    assert same.exit_code == 0, same.output
    manifest = json.loads((tmp_path / "kit" / "manifest.json").read_text())
    assert manifest["space"] == document["space"]


def test_published_devices_are_shown():
    done = run("--check", "nasbench201:gold_6226")
    assert done.exit_code == 0
    assert "15,625 measured networks: Kendall τ 0.92" in done.output
    document = json.loads(run("--check", "nasbench201:gold_6226", "--json").stdout)
    assert document["entries_ms"]["cell/1<-0"]["nor_conv_3x3"] > 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give a run folder, a space, data or a table"),
        (["runs/none", "--out", "t.json"], "holds no run"),
        ([*WORDS], "say where to"),
        ([*WORDS, "--out", "t.json", "--kit", "kit"], "say where to"),
        (["--space", "nasbench2O1", "--out", "t.json"], "did you mean 'nasbench201'"),
        (["--space", "darts_rnn", "--out", "t.json"], "reads texts"),
        ([*WORDS, "--out", "t.json", "space.chanels=3"], "did you mean 'channels'"),
        ([*WORDS, "--out", "t.json", "train.epochs=3"], "space.KEY=VALUE"),
        ([*WORDS, "--out", "t.json", "--size", "0"], "wanted pixels as in 32"),
        ([*WORDS, "--out", "t.json", "--size", "1x2"], "wanted pixels as in 32"),
        ([*WORDS, "--out", "t.json", "--backend", "tflite"], "unknown backend 'tflite'"),
        ([*WORDS, "--out", "t.json", "--precision", "fp16"], "unknown precision 'fp16'"),
        ([*WORDS, "--out", "t.json", "--threads", "many"], "wanted a number of threads"),
        ([*WORDS, "--out", "t.json", "--threads", "0"], "wanted a number of threads"),
        ([*WORDS, "--out", "t.json", "--validate", "3"], "at least 5 networks"),
        ([*WORDS, "--out", "t.json", "--predictor", "ridge"], "at least 20; there are 0"),
        ([*WORDS, "--out", "t.json", "--predictor", "rigde"], "did you mean 'ridge'"),
        ([*WORDS, "--out", "nowhere/t.json"], "there is no folder nowhere"),
        ([*WORDS, "--out", "t.json", "--drift", "0"], "wanted a drift above 0"),
        ([*WORDS, "--out", "t.json", "--backend", "onnxruntime", "--device", "cuda"], "GPU"),
        ([*WORDS, "--out", "t.json", "--backend", "onnxruntime", "--precision", "bf16"], "in fp32, not bf16"),
        ([*WORDS, "--out", "t.json", "--clock", "sun"], "unknown clock 'sun'; known: wall, processor"),
        ([*WORDS, "--out", "t.json", "--clock", "processor", "--threads", "2"], "that of one thread"),
        (["--data", "digits", "--size", "8", "--out", "t.json"], "the data say their own sizes"),
        (["--data", "digits", "--space", "darts_rnn", "--out", "t.json"], "reads a text"),
        (["--data-path", "nowhere", "--out", "t.json"], "nowhere"),
        (["--config", "none.yaml", "--out", "t.json"], "none.yaml"),
        (["runs/none", "--data", "digits", "--out", "t.json"], "one of them"),
        (["--derived", "--space", "nasbench201"], "archgrad latency RUN --derived"),
        (["runs/none", "--derived", "--out", "t.json"], "archgrad latency RUN --derived"),
        (["runs/none", "--derived"], "holds no run"),
        (["--check", "none.json"], "no latency table none.json"),
        (["--check", "nasbench201:pixel33"], "did you mean 'pixel3'"),
        (["--check", "none.json", "space.channels=3"], "leave out space.channels=3"),
    ],
)
def test_wrong_words_are_refused(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run(*words)
    assert done.exit_code == 2, done.output
    assert message in done.output
    assert not list(tmp_path.iterdir())


def test_a_machine_that_cannot_be_measured_on_is_an_error_of_the_work(tmp_path, short, monkeypatch):
    def refuse(*arguments: Any, **named: Any) -> Callable[[], None]:
        raise TimingError("the timer is too coarse")

    monkeypatch.setattr(device_script, "measure", refuse)
    with pytest.raises(WorkError, match="too coarse"):
        measure_latency(tiny(), tmp_path / "table.json", QUICK)
    assert run(*WORDS, *SETTINGS, "--out", str(tmp_path / "table.json")).exit_code == 1
