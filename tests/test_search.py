"""The search loop: steps, their order, what a step leaves alone, methods told apart, determinism."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from pathlib import Path
from statistics import mean

import numpy as np
import pytest
import torch

from archgrad.choice import Choice
from archgrad.config_layers import merge
from archgrad.errors import UserError, WorkError
from archgrad.gradient_step import MOST_SKIPPED_IN_A_ROW
from archgrad.hypergradients.single_level import SingleLevel
from archgrad.methods import METHODS
from archgrad.parts import Parts
from archgrad.problem import Problem
from archgrad.runs import Run
from archgrad.search import search
from archgrad.search_records import EpochRecord, StepRecord
from archgrad.settings import DataSize, resolve
from archgrad.verbs import derive_run, search_run

GOLDEN = Path(__file__).parent / "golden"
SPACE = {"name": "nasbench201", "channels": 2, "cells": 1, "stages": 2}


def prepared(settings, data):
    """(parts, network, task, state, plan) as the verb makes them."""
    given = merge(settings, {"data": {"name": "given:few digits"}})
    config = resolve(given, DataSize("few digits", len(data.train), data.shape, True)).config
    parts = Parts.of(config, data)
    network = parts.supernet()
    network.train()
    return parts, network, parts.task(network), parts.state(network), parts.plan(network.groups)


def snapshot(network, state):
    """Copies of everything that a step may change."""
    tensors = [*network.parameters(), *network.buffers(), *state.logits]
    for optimizer in (state.weight_optimizer, state.architecture_optimizer):
        for values in optimizer.state.values():
            tensors += [v for v in values.values() if isinstance(v, torch.Tensor)]
    return [t.detach().clone() for t in tensors]


class Poisoned:
    """A task whose objectives give a loss that is not finite in some steps of the training."""

    def __init__(self, task, bad_train=(), bad_valid=(), value=math.nan):
        self.task, self.bad_train, self.bad_valid, self.value = task, bad_train, bad_valid, value
        for name in ("groups", "weights", "buffers", "steps_per_epoch", "evaluate"):
            setattr(self, name, getattr(task, name))

    def steps(self, epoch, start):
        for step, (train, valid) in enumerate(self.task.steps(epoch, start), start):
            number = epoch * self.steps_per_epoch + step
            yield self._of(train, number in self.bad_train), self._of(valid, number in self.bad_valid)

    def _of(self, objective, bad):
        def poisoned(samples):
            outcome = objective(samples)
            return outcome._replace(loss=outcome.loss * self.value, task_loss=outcome.task_loss * self.value)

        return poisoned if bad else objective


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("method", ["darts", "darts-2nd", "snas"])
def test_a_step_whose_loss_is_not_finite_changes_nothing_and_is_counted(method, value, tiny, few_digits):
    parts, network, task, state, plan = prepared(tiny(method=method), few_digits)
    steps = search(Poisoned(task, bad_train={2}, bad_valid={2}, value=value), state, plan, parts.streams)
    next(steps), next(steps)
    before = snapshot(network, state)
    next(steps)
    for a, b in zip(before, snapshot(network, state), strict=True):
        assert torch.equal(a, b)
    assert state.totals["skipped_steps"] == 1
    record = next(r for r in steps if isinstance(r, EpochRecord))
    assert record.skipped_steps == 1
    assert math.isfinite(record.train_loss)
    assert any(not torch.equal(a, b) for a, b in zip(before, snapshot(network, state), strict=True))


def test_a_bad_architecture_step_leaves_the_weight_step_of_the_same_step_alone(tiny, few_digits):
    parts, _, task, state, plan = prepared(tiny(method="darts"), few_digits)
    steps = search(Poisoned(task, bad_valid={0}), state, plan, parts.streams)
    logits = [a.detach().clone() for a in state.logits]
    weights = [w.detach().clone() for w in task.weights]
    next(steps)
    assert all(torch.equal(a, b) for a, b in zip(logits, state.logits, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(weights, task.weights, strict=True))
    assert state.totals["skipped_steps"] == 1


def test_several_bad_steps_in_a_row_end_the_search_but_scattered_ones_do_not(tiny, few_digits):
    settings = tiny(method="darts", search={"epochs": 4})
    parts, _, task, state, plan = prepared(settings, few_digits)
    scattered = {n for n in range(20) if n % MOST_SKIPPED_IN_A_ROW != 4}
    records = list(search(Poisoned(task, bad_train=scattered), state, plan, parts.streams))
    assert sum(r.skipped_steps for r in records if isinstance(r, EpochRecord)) == 16
    parts, _, task, state, plan = prepared(settings, few_digits)
    bad = set(range(3, 3 + MOST_SKIPPED_IN_A_ROW))  # over the end of an epoch
    with pytest.raises(WorkError, match="5 steps in a row"):
        for _ in search(Poisoned(task, bad_train=bad), state, plan, parts.streams):
            pass
    assert (state.epoch, state.step) == (1, 2)


def test_a_diverging_run_names_its_last_good_checkpoint(tiny, few_digits, tmp_path, monkeypatch):
    from archgrad import parts as parts_module

    real = parts_module.Parts.task
    monkeypatch.setattr(parts_module.Parts, "task", lambda self, n: Poisoned(real(self, n), range(5, 99)))
    with pytest.raises(WorkError, match=r"the last good checkpoint is .*step-00000005\.pt"):
        search_run(tiny(method="gdas", search={"epochs": 3}), tmp_path / "run", data=few_digits)
    assert len(Run(tmp_path / "run").read_lines("metrics.jsonl")) == 1
    assert "failed" in (tmp_path / "run/log.txt").read_text()
    checkpoint, _ = Run(tmp_path / "run").load_checkpoint()
    assert all(t.isfinite().all() for t in checkpoint["network"].values())


def test_one_backward_pass_gives_the_single_level_hypergradient(tiny, few_digits):
    """The joint step moves the logits by the value that SingleLevel returns, to the last bit."""
    settings = tiny(
        method="snas",
        architecture={
            "optimizer": "sgd",
            "learning_rate": 1.0,
            "weight_decay": 0.0,
            "clip": None,
            "initial_mean": 0.0,
            "initial_scale": 0.0,
        },
    )
    parts, _, task, state, plan = prepared(settings, few_digits)
    train, valid = next(task.steps(0, 0))
    problem = Problem(
        train,
        valid,
        lambda alpha, repeat=0: plan.policy.draw(
            alpha, plan.temperature(0), parts.streams.generator("sampler/weights", 0, 0)
        ),
        task.weights,
        task.buffers,
    )
    wanted, *_ = SingleLevel()(problem, state.logits)
    next(search(task, state, plan, parts.streams))
    moved = [-a.detach() for a in state.logits]  # from zero, with learning rate one
    assert max(float(g.abs().max()) for g in wanted) > 1e-4
    assert all(torch.equal(a, b) for a, b in zip(moved, wanted, strict=True))


def runs_of_candidates(method, tiny, few_digits):
    """(forward calls of choices, of candidates) over one epoch."""
    parts, network, task, state, plan = prepared(tiny(method=method, search={"epochs": 1}), few_digits)
    calls: Counter[str] = Counter()
    for choice in network.choices():
        choice.register_forward_hook(lambda *_: calls.update(choices=1))
        for option in choice.options:
            option.register_forward_hook(lambda *_: calls.update(candidates=1))
    assert all(isinstance(c, Choice) for c in network.choices())
    for _ in search(task, state, plan, parts.streams):
        pass
    return calls["choices"], calls["candidates"]


def test_gdas_runs_the_chosen_candidate_alone_and_darts_runs_all_five(tiny, few_digits):
    choices, candidates = runs_of_candidates("gdas", tiny, few_digits)
    assert choices == candidates == 5 * 2 * 12  # 5 steps, two forward passes each, 6 edges in two cells
    choices, candidates = runs_of_candidates("darts", tiny, few_digits)
    assert choices == 120
    assert candidates == 5 * choices


@pytest.mark.parametrize(("order", "first"), [("architecture_first", "valid"), ("weights_first", "train")])
def test_the_order_of_the_two_steps(order, first, tiny, few_digits):
    parts, _, task, state, plan = prepared(tiny(method="darts", search={"order": order}), few_digits)
    seen = []

    class Noted(Poisoned):
        def steps(self, epoch, start):
            for train, valid in self.task.steps(epoch, start):
                yield (
                    lambda s, t=train: (seen.append("train"), t(s))[1],
                    lambda s, v=valid: (seen.append("valid"), v(s))[1],
                )

    next(search(Noted(task), state, plan, parts.streams))
    assert seen[0] == first
    assert sorted(seen) == ["train", "valid"]


def test_warm_up_epochs_leave_the_logits_alone(tiny, few_digits):
    settings = tiny(method="darts", search={"epochs": 2, "warmup_epochs": 1})
    parts, _, task, state, plan = prepared(settings, few_digits)
    logits = [a.detach().clone() for a in state.logits]
    records = search(task, state, plan, parts.streams)
    first = next(r for r in records if isinstance(r, EpochRecord))
    assert all(torch.equal(a, b) for a, b in zip(logits, state.logits, strict=True))
    assert math.isnan(first.alpha_gradient_norm)
    assert math.isfinite(first.valid_loss)
    second = next(r for r in records if isinstance(r, EpochRecord))
    assert any(not torch.equal(a, b) for a, b in zip(logits, state.logits, strict=True))
    assert second.alpha_gradient_norm > 0


def test_clipping_bounds_the_step(tiny, few_digits):
    """With momentum and decay off, a step has the length learning rate × min(norm, clip)."""
    plain = {"momentum": 0.0, "weight_decay": 0.0, "nesterov": False, "learning_rate": 0.5}
    lengths = {}
    for clip in (None, 0.01):
        parts, _, task, state, plan = prepared(
            tiny(method="darts", weights={**plain, "clip": clip}), few_digits
        )
        before = [w.detach().clone() for w in task.weights]
        next(search(task, state, plan, parts.streams))
        moved = torch.cat(
            [(w.detach() - b).flatten() for w, b in zip(task.weights, before, strict=True)]
        ).norm()
        lengths[clip] = (float(moved), state.totals["weight_norm"])
    length, norm = lengths[None]
    assert norm > 0.1
    assert length == pytest.approx(0.5 * norm, rel=1e-4)
    assert lengths[0.01][1] == pytest.approx(norm)  # the norm is recorded before clipping
    assert lengths[0.01][0] == pytest.approx(0.5 * 0.01, rel=1e-2)


def test_records_say_what_the_documents_promise(tiny, few_digits):
    parts, _, task, state, plan = prepared(tiny(method="gdas"), few_digits)
    records = list(search(task, state, plan, parts.streams))
    steps = [r for r in records if isinstance(r, StepRecord)]
    epochs = [r for r in records if isinstance(r, EpochRecord)]
    assert [(r.epoch, r.step) for r in steps] == [(e, s) for e in (0, 1) for s in range(1, 6)]
    assert [(r.epoch, r.step) for r in epochs] == [(0, 5), (1, 10)]
    assert [r.tau for r in epochs] == [10.0, 0.1]
    assert epochs[0].learning_rate == 0.025
    assert epochs[1].learning_rate == pytest.approx((0.025 + 0.001) / 2)
    for record in epochs:
        assert list(record.probabilities) == [f"cell/{n}<-{s}" for n in (1, 2, 3) for s in range(n)]
        assert all(sum(p) == pytest.approx(1) for p in record.probabilities.values())
        for name, p in record.probabilities.items():
            assert record.entropy[name] == pytest.approx(-sum(x * math.log(x) for x in p), abs=1e-6)
            assert record.architecture[name] == task.groups[0].candidates[p.index(max(p))]
        assert record.entropy_mean == pytest.approx(sum(record.entropy.values()) / 6)
    assert epochs[0].changed == []
    before, after = epochs[0].architecture, epochs[1].architecture
    assert set(epochs[1].changed) == {n for n in before if before[n] != after[n]}
    assert steps[4].loss == pytest.approx(epochs[0].train_loss)
    assert steps[4].accuracy == pytest.approx(epochs[0].train_accuracy)


# ---- methods

LOOPS = [
    name for name, method in METHODS.items() if not {"stopping", "stages", "selection"} & set(method.settings)
]
"""Methods whose steps are their own; rules only watch DARTS'."""


def curve(method, few_digits, folder, seed=3):
    """[(training loss, validation loss)] by epoch of a short search, full precision.

    What the rules for small data choose is given, so that a better rule changes no curve.
    """
    settings = {
        "method": method,
        "seed": seed,
        "data": {"validation": 0.5, "crop": 1, "flip": False},
        "space": {**SPACE, "affine": False},
        "search": {"epochs": 3, "batch_size": 20},
        "device": {"name": "cpu", "threads": 1},
    }
    if method != "random":
        settings["architecture"] = {"learning_rate": 0.02}
        settings["search"]["warmup_epochs"] = 0
    if method == "snas":
        # a tenth of a nat for the multiply-adds of the dearest network, which are 7.1 standard deviations
        settings["cost"] = {"name": "macs", "strength": 0.01407}
    run = search_run(settings, folder, data=few_digits)
    return [(line["train_loss"], line["valid_loss"]) for line in run.read_lines("metrics.jsonl")]


@pytest.fixture(scope="module")
def curves(few_digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("curves")
    return {method: curve(method, few_digits, folder / method) for method in LOOPS}


@pytest.mark.parametrize("method", LOOPS)
def test_the_loss_curve_is_the_recorded_one(method, curves):
    """The tolerance covers other processors and PyTorch releases; methods differ by far more."""
    file = GOLDEN / f"{method}.txt"
    recorded = [tuple(map(float, line.split())) for line in file.read_text().splitlines() if line[0] != "#"]
    assert len(recorded) == 3
    for measured, wanted in zip(curves[method], recorded, strict=True):
        assert measured == pytest.approx(wanted, abs=2e-4)


def test_no_two_methods_have_the_same_curve(curves):
    assert len(curves) == 11
    names = list(curves)
    for i, a in enumerate(names):
        for b in names[:i]:
            # the training loss of the first epoch may agree closely: the logits have hardly moved
            gap = float((torch.tensor(curves[a]) - torch.tensor(curves[b])).abs().max())
            assert gap > 1e-3, (a, b)


def test_every_recorded_curve_belongs_to_a_method():
    assert {file.stem for file in GOLDEN.glob("*.txt")} == set(LOOPS)


def test_a_stronger_penalty_gives_a_cheaper_network(few_digits, tmp_path):
    """SNAS' three strengths by name, means of two searches each."""
    space = {key: value for key, value in SPACE.items() if key != "name"}
    costs, macs = {}, {}
    for strength in ("mild", "moderate", "aggressive"):
        folders = [tmp_path / f"{strength}-{seed}" for seed in (1, 2)]
        for seed, folder in enumerate(folders, start=1):
            settings = {
                "method": "snas",
                "seed": seed,
                "data": {"validation": 0.5},
                "space": SPACE,
                "search": {"epochs": 8, "batch_size": 20, "warmup_epochs": 0},
                "architecture": {"learning_rate": 0.1},
                "cost": {"strength": strength},
                "train": {"space": space},
                "device": {"name": "cpu", "threads": 1},
            }
            search_run(settings, folder, data=few_digits)
        costs[strength] = mean(Run(f).read_lines("metrics.jsonl")[-1]["cost"] for f in folders)
        macs[strength] = mean(derive_run(f).macs for f in folders)
    assert costs["mild"] > costs["moderate"] > costs["aggressive"]
    assert costs["mild"] > 1.4 * costs["aggressive"]
    assert macs["mild"] > macs["moderate"] > macs["aggressive"]


def test_the_random_method_never_moves_its_logits(tiny, few_digits, tmp_path):
    run = search_run(tiny(method="random"), tmp_path / "run", data=few_digits)
    for line in run.read_lines("metrics.jsonl"):
        assert all(p == [0.2] * 5 or p == pytest.approx([0.2] * 5) for p in line["probabilities"].values())
        assert line["alpha_gradient_norm"] is None
    derivation = derive_run(run.folder)
    assert "random" in derivation.warnings[0]
    other = search_run(tiny(method="random", seed=4), tmp_path / "other", data=few_digits)
    assert derive_run(other.folder).architecture != derivation.architecture
    with pytest.raises(UserError, match="leave out --best"):
        derive_run(run.folder, best=True)


# ---- determinism


def files_of(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        del line["seconds"]
    return lines, (folder / "logits.safetensors").read_bytes(), (folder / "best.json").read_bytes()


def test_two_runs_of_one_seed_are_the_same_and_another_seed_differs(tiny, few_digits, tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        torch.manual_seed(hash(name) % 1000)  # the state outside must not matter
        search_run(tiny(seed=seed), tmp_path / name, data=few_digits)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    assert files_of(tmp_path / "a")[1] != files_of(tmp_path / "c")[1]


def test_the_written_configuration_reproduces_the_run(tiny, few_digits, tmp_path):
    for method in LOOPS:
        first = search_run(tiny(method=method), tmp_path / method, data=few_digits)
        again = search_run(first.read_config(), tmp_path / f"{method}-again", data=few_digits)
        assert files_of(first.folder) == files_of(again.folder)
        assert first.read_config() == again.read_config()


def test_global_random_state_is_left_alone(tiny, few_digits, tmp_path):
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    search_run(tiny(method="gdas"), tmp_path / "run", data=few_digits)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()  # noqa: NPY002
    assert before[2] == random.getstate()


def test_best_and_last_are_both_kept(tiny, few_digits, tmp_path, monkeypatch):
    def search_with_given_accuracies(*arguments):
        for record in search(*arguments):
            if isinstance(record, EpochRecord):
                yield record._replace(valid_accuracy=[0.2, 0.5, 0.4, 0.5][record.epoch])
            else:
                yield record

    monkeypatch.setattr("archgrad.verbs.steering.search", search_with_given_accuracies)
    settings = tiny(seed=2, search={"epochs": 4}, architecture={"learning_rate": 0.3})
    run = search_run(settings, tmp_path / "run", data=few_digits)
    lines = run.read_lines("metrics.jsonl")
    best = max(lines, key=lambda line: line["valid_accuracy"])
    assert best["epoch"] == 1  # the first of two that are equal
    assert best["architecture"] != lines[-1]["architecture"]
    saved = run.read_json("best.json")
    assert saved["epoch"] == best["epoch"]
    assert saved["architecture"] == best["architecture"]
    assert dict(derive_run(run.folder, best=True).architecture) == best["architecture"]
    assert dict(derive_run(run.folder).architecture) == lines[-1]["architecture"]
    assert derive_run(run.folder, best=True).epoch == best["epoch"]


def test_an_unrolled_step_whose_gradient_overflows_is_skipped(tiny, few_digits):
    """A finite loss whose gradient is too long for float32 gives an infinite norm, not a NaN."""
    parts, _, task, state, plan = prepared(tiny(method="darts-2nd"), few_digits)
    steps = search(Poisoned(task, bad_valid={0}, value=1e30), state, plan, parts.streams)
    logits = [a.detach().clone() for a in state.logits]
    next(steps)
    assert all(torch.equal(a, b) for a, b in zip(logits, state.logits, strict=True))
    assert state.totals["skipped_steps"] == 1


def test_temperature_anneals_while_the_logits_learn(tiny, few_digits):
    settings = tiny(method="gdas", search={"epochs": 7, "warmup_epochs": 3})
    _, _, _, _, plan = prepared(settings, few_digits)
    taus = [plan.temperature(epoch) for epoch in range(7)]
    assert taus[:4] == [10.0] * 4
    assert taus[4] < taus[3]
    assert taus[-1] == 0.1


@pytest.mark.parametrize("method", ["gdas", "random"])
def test_the_recorded_architecture_is_the_one_that_is_derived(method, few_digits, tmp_path):
    """By the rule of the space, which on DARTS cells drops edges and leaves `none` out of account."""
    settings = {
        "method": method,
        "space": {"name": "darts", "channels": 2, "cells": 3, "nodes": 3},
        "search": {"epochs": 1, "batch_size": 20},
        "train": {"space": {"nodes": 3}},
    }
    if method != "random":
        settings["search"]["warmup_epochs"] = 0
    run = search_run(settings, tmp_path / "run", data=few_digits)
    derivation = derive_run(run.folder)
    assert run.read_lines("metrics.jsonl")[-1]["architecture"] == dict(derivation.architecture)
    assert "none" in derivation.architecture.values()


def test_epochs_of_warm_up_are_never_the_best(tiny, few_digits, tmp_path):
    run = search_run(
        tiny(method="gdas", search={"epochs": 3, "warmup_epochs": 2}), tmp_path / "run", data=few_digits
    )
    assert run.read_json("best.json")["epoch"] == 2
