"""Training and its controls: the same budget, kept results, a test part that nothing sees before the end."""

from __future__ import annotations

import json
import math
import random
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from archgrad.choice import concrete
from archgrad.costs.network_counts import count_module
from archgrad.datasets.images import MemoryImages
from archgrad.errors import ConfigError, UserError, WorkError
from archgrad.gradient_step import MOST_SKIPPED_IN_A_ROW
from archgrad.parts import Parts
from archgrad.progress import Silent
from archgrad.randomness import Streams
from archgrad.runs import Run
from archgrad.spaces.cell import DartsNetwork
from archgrad.spaces.residual import ResidualNetwork, residual_parameters, residual_size
from archgrad.train import TrainPlan, TrainRecord, TrainState, train
from archgrad.verbs import derive_run, search_run, train_run
from archgrad.verbs.contents import read_config


class Said(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.numbers: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def update(self, done: int, numbers: str) -> None:
        self.numbers.append(numbers)


@pytest.fixture(scope="module")
def derived(tmp_path_factory, few_digits):
    folder = tmp_path_factory.mktemp("derived") / "run"
    space = {"channels": 4, "cells": 1, "stages": 2}
    search_run(
        {
            "space": {"name": "nasbench201", **space},
            "search": {"epochs": 1, "batch_size": 20},
            "train": {"epochs": 2, "batch_size": 40, "space": space},
            "device": {"name": "cpu", "threads": 1},
        },
        folder,
        data=few_digits,
    )
    derive_run(folder)
    return folder


@pytest.fixture
def run(derived, tmp_path):
    shutil.copytree(derived, tmp_path / "run")
    return tmp_path / "run"


def result(folder, name="derived"):
    return json.loads((folder / f"train/{name}/result.json").read_text())


def without_seconds(results):
    return [{k: v for k, v in r.items() if k != "seconds"} for r in results]


def test_controls_are_n_random_architectures_and_a_residual_network_on_the_same_budget(run, few_digits):
    trained = train_run(run, controls=3, data=few_digits)
    assert [c["name"] for c in trained.controls] == ["random-0", "random-1", "random-2", "residual"]
    assert [c["kind"] for c in trained.controls] == ["random"] * 3 + ["residual"]
    drawn = {json.dumps(c["architecture"]) for c in trained.controls[:3]}
    assert len(drawn) == 3
    assert trained.controls[3]["architecture"] is None
    for r in (trained.derived, *trained.controls):
        assert r["epochs"] == 2
        assert r["test_images"] == 100
        assert len((run / f"train/{r['name']}/metrics.jsonl").read_text().splitlines()) == 2
        assert 0 <= r["test_accuracy"] <= 1
        assert result(run, r["name"]) == r
    assert trained.derived["architecture"] == json.loads((run / "architecture.json").read_text())["choices"]


def test_the_residual_network_has_about_as_many_parameters(run, few_digits):
    trained = train_run(run, controls=1, data=few_digits)
    residual, derived = trained.controls[-1], trained.derived
    size = residual["settings"]["channels"], residual["settings"]["blocks"]
    assert size == residual_size((1, 8, 8), 10, derived["parameters"])
    network = ResidualNetwork((1, 8, 8), 10, **residual["settings"])
    assert sum(p.numel() for p in network.parameters()) == residual["parameters"]
    for wanted in (derived["parameters"], 20_000, 100_000, 1_000_000, 3_300_000):
        size = residual_size((3, 32, 32), 10, wanted)
        neighbours = [residual_parameters((3, 32, 32), 10, size[0] + d, size[1]) for d in (-1, 0, 1)]
        assert min(neighbours, key=lambda n: abs(n - wanted)) == neighbours[1]
        if wanted >= 5000:
            assert abs(neighbours[1] / wanted - 1) < 0.15, (wanted, size)


def test_a_result_is_kept_and_again_trains_anew(run, few_digits):
    first = train_run(run, data=few_digits)
    stamp = (run / "train/derived/weights.safetensors").stat().st_mtime_ns
    said = Said()
    assert train_run(run, data=few_digits, progress=said).derived == first.derived
    assert (run / "train/derived/weights.safetensors").stat().st_mtime_ns == stamp
    assert "kept" in said.lines[-1]
    again = train_run(run, data=few_digits, again=True)
    assert (run / "train/derived/weights.safetensors").stat().st_mtime_ns > stamp
    assert without_seconds([again.derived]) == without_seconds([first.derived])
    assert len((run / "train/derived/metrics.jsonl").read_text().splitlines()) == 2


def test_an_interrupted_again_leaves_no_old_result_behind(run, few_digits, monkeypatch):
    train_run(run, data=few_digits)

    def fail(*_, **__):
        raise WorkError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr("archgrad.verbs.saved_training.train", fail)
        with pytest.raises(WorkError, match="power cut"):
            train_run(run, {"train": {"epochs": 3}}, data=few_digits, again=True)
    assert not (run / "train/derived/result.json").exists()
    assert train_run(run, {"train": {"epochs": 3}}, data=few_digits).derived["epochs"] == 3


def test_other_settings_than_those_it_was_trained_with_are_refused(run, few_digits):
    train_run(run, data=few_digits)
    with pytest.raises(UserError, match=r"train\.epochs: the run has 2, you gave 3"):
        train_run(run, {"train": {"epochs": 3}}, data=few_digits)
    assert result(run)["epochs"] == 2
    assert train_run(run, {"train": {"epochs": 3}}, data=few_digits, again=True).derived["epochs"] == 3


@pytest.mark.parametrize("own_test", [True, False], ids=["own test part", "held out"])
def test_nothing_but_the_final_numbers_depends_on_the_test_images(own_test, few_digits, tmp_path, tiny):
    """Noise in place of the test images changes the test numbers, and not one other byte."""
    data = few_digits if own_test else replace(few_digits, test=None)
    folders = []
    for name in ("clean", "poisoned"):
        folder = tmp_path / name
        images = data
        if name == "poisoned":
            noise = torch.randint(0, 256, (100, 1, 8, 8), generator=Streams(0).generator("noise"))
            if own_test:
                images = replace(data, test=MemoryImages(noise.to(torch.uint8), data.test.labels))
            else:
                held_out = Parts.of(read_config(Run(tmp_path / "clean")), data).splits.test
                pixels = data.train.pixels.clone()
                pixels[held_out] = noise.to(torch.uint8)[: len(held_out)]
                images = replace(data, train=MemoryImages(pixels, data.train.labels))
        search_run(tiny(method="darts"), folder, data=images)
        derive_run(folder)
        train_run(folder, controls=1, data=images)
        folders.append(folder)
    clean, poisoned = folders
    compared = 0
    for file in sorted(p for p in clean.rglob("*") if p.is_file()):
        name = str(file.relative_to(clean))
        if name in ("log.txt", "environment.json") or name.startswith("checkpoints"):
            continue
        other = poisoned / name
        if name.endswith(".jsonl"):
            a, b = ([json.loads(x) for x in f.read_text().splitlines()] for f in (file, other))
            assert without_seconds(a) == without_seconds(b), name
        elif name.endswith("result.json"):
            a, b = json.loads(file.read_text()), json.loads(other.read_text())
            different = {k for k in a if a[k] != b[k]} - {"seconds"}
            assert "test_loss" in different
            assert different <= {"test_loss", "test_accuracy"}, name
        else:
            assert file.read_bytes() == other.read_bytes(), name
        compared += 1
    assert compared >= 20


def test_training_is_repeatable_and_leaves_global_random_state_alone(derived, few_digits, tmp_path):
    results = []
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    for name in ("a", "b"):
        shutil.copytree(derived, tmp_path / name)
        results.append(train_run(tmp_path / name, controls=1, data=few_digits))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()  # noqa: NPY002
    assert before[2] == random.getstate()
    a, b = results
    assert without_seconds([a.derived, *a.controls]) == without_seconds([b.derived, *b.controls])
    for name in ("derived", "random-0", "residual"):
        file = f"train/{name}/weights.safetensors"
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_what_the_network_would_ignore_is_an_error(run, few_digits):
    with pytest.raises(ConfigError) as error:
        train_run(run, {"train": {"drop_path": 0.2, "auxiliary_weight": 0.4}}, data=few_digits)
    assert len(error.value.problems) == 2
    assert "train.drop_path" in str(error.value)
    assert "train.auxiliary_weight" in str(error.value)
    with pytest.raises(UserError, match="sections train and device, got search"):
        train_run(run, {"search": {"epochs": 3}}, data=few_digits)


# ---- the loop


class Numbers:
    """Three batches of four one-pixel images; batch `bad` of every epoch is not finite."""

    steps = 3

    def __init__(self, bad=()):
        self.bad = bad

    def epoch(self, epoch, start=0):
        for step in range(start, self.steps):
            x = torch.randn(4, 2, 3, 3, generator=Streams(1).generator("x", epoch, step))
            if epoch * self.steps + step in self.bad:
                x = x * math.nan
            yield x, torch.tensor([0, 1, 0, 1])


def small():
    torch_state = torch.get_rng_state()
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    torch.set_rng_state(torch_state)
    return network, TrainState(torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9))


def plan(**changes):
    return replace(TrainPlan(2, lambda e: 0.1, lambda e: 0.0), **changes)


def test_a_bad_training_step_changes_nothing_and_is_counted():
    network, state = small()
    steps = train(network, Numbers(bad={1}), state, plan(), Streams(0))
    next(steps)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    next(steps)
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    record = next(r for r in steps if isinstance(r, TrainRecord))
    assert record.skipped_steps == 1
    assert math.isfinite(record.train_loss)
    assert any(not torch.equal(before[k], v) for k, v in network.state_dict().items())


def test_several_bad_training_steps_in_a_row_end_it():
    network, state = small()
    with pytest.raises(WorkError, match="5 training steps in a row"):
        list(train(network, Numbers(bad=range(1, 99)), state, plan(epochs=9), Streams(0)))
    assert (state.epoch, state.step) == (1, 2)
    assert state.skipped_in_a_row == MOST_SKIPPED_IN_A_ROW
    network, state = small()
    list(train(network, Numbers(bad=[n for n in range(27) if n % 5]), state, plan(epochs=9), Streams(0)))


def test_the_schedules_of_the_plan_are_followed():
    network, state = small()
    rates = []
    for record in train(network, Numbers(), state, plan(learning_rate=lambda e: 0.1 / (e + 1)), Streams(0)):
        rates.append((state.optimizer.param_groups[0]["lr"], getattr(record, "learning_rate", None)))
    assert [lr for lr, _ in rates] == [0.1] * 4 + [0.05] * 4
    assert [rate for _, rate in rates if rate] == [0.1, 0.05]


def test_the_auxiliary_loss_is_added_with_its_weight():
    """One plain step from the same weights: the update is linear in the auxiliary weight."""
    architecture = {
        f"{k}/{n}<-{s}": "skip_connect" for k in ("normal", "reduce") for n in (2,) for s in (0, 1)
    }
    settings = {"channels": 2, "cells": 3, "nodes": 1, "stem_multiplier": 1, "auxiliary": True}
    updates = []
    for weight in (0.0, 0.4, 0.8):
        torch.manual_seed(0)
        network = concrete(DartsNetwork, architecture, (2, 8, 8), 2, **settings)
        state = TrainState(torch.optim.SGD(network.parameters(), lr=1.0))
        before = network.stem[0].weight.detach().clone()

        class Batch:
            steps = 1

            def epoch(self, epoch, start=0):
                yield torch.randn(4, 2, 8, 8, generator=Streams(2).generator("x")), torch.tensor([0, 1, 0, 1])

        next(train(network, Batch(), state, plan(auxiliary_weight=weight), Streams(0)))
        updates.append(network.stem[0].weight.detach() - before)
    one, two = updates[1] - updates[0], updates[2] - updates[0]
    assert float(one.abs().max()) > 1e-4
    assert torch.allclose(two, 2 * one, rtol=1e-3, atol=1e-6)


def test_published_training_leaves_the_auxiliary_head_out_of_the_count():
    architecture = {
        f"{k}/{n}<-{s}": "skip_connect" for k in ("normal", "reduce") for n in (2,) for s in (0, 1)
    }
    settings = {"channels": 2, "cells": 3, "nodes": 1, "auxiliary": True}
    counts = count_module(
        lambda: concrete(DartsNetwork, architecture, (3, 32, 32), 10, **settings), (3, 32, 32)
    )
    assert counts.parameters > counts.parameters_without_auxiliary > 0


def test_progress_shows_loss_and_accuracy(run, few_digits):
    said = Said()
    train_run(run, data=few_digits, progress=said)
    assert len(said.numbers) == 10
    assert all("loss" in n and "accuracy" in n and "epoch" in n for n in said.numbers)
