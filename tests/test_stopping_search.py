"""Stopping rules in searches: roll-back, actions, resuming; a rule that is silent changes nothing."""

from __future__ import annotations

import math
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from archgrad.config_problems import check
from archgrad.datasets.images import ImageData
from archgrad.errors import ConfigError, Stopped, UserError
from archgrad.methods import METHODS
from archgrad.metric_lines import reading
from archgrad.progress import Silent
from archgrad.runs import Run
from archgrad.settings import DataSize, resolve
from archgrad.verbs import derive_run, search_run
from archgrad.verbs.contents import read_logits
from archgrad.verbs.steering import Steering

STEPS = 5  # an epoch of 100 images in batches of 20
Settings = Callable[..., dict[str, Any]]
PLATEAU = {"epochs": 2, "least": 10.0}  # no epoch is better by 10 nats: fires two epochs after the first
SIZES = {"channels": 2, "cells": 1, "stages": 2}
DARTS: dict[str, Any] = {
    "method": "darts",
    "search": {"epochs": 6, "warmup_epochs": 1, "batch_size": 20},
    "architecture": {"learning_rate": 0.05},
}
SETTINGS: dict[str, Any] = {
    **DARTS,
    "seed": 3,
    "space": {"name": "nasbench201", **SIZES},
    "train": {"epochs": 2, "batch_size": 40, "space": SIZES},
    "device": {"name": "cpu", "threads": 1},
}


class Said(Silent):
    """Keeps what is said; raises a signal when step `at` is done for the n-th `time`."""

    def __init__(self, at: int | None = None, time: int = 1) -> None:
        self.at, self.time, self.lines = at, time, list[str]()

    def update(self, done: int, numbers: str) -> None:
        self.time -= done == self.at
        if done == self.at and self.time == 0:
            signal.raise_signal(signal.SIGINT)

    def say(self, line: str) -> None:
        self.lines.append(line)


def same_run(one: Path, other: Path) -> None:
    """Final logits, checkpoint and metrics are identical, but for seconds and what stands in rules."""
    a, b = Run(one), Run(other)
    for left, right in zip(
        read_logits(a, "logits.safetensors"), read_logits(b, "logits.safetensors"), strict=True
    ):
        assert torch.equal(left, right)
    lines = [
        [{k: v for k, v in line.items() if "seconds" not in k} for line in run.read_lines("metrics.jsonl")]
        for run in (a, b)
    ]
    assert lines[0] == lines[1]
    assert len(lines[0]) > 1
    (first, _), (second, _) = a.load_checkpoint(), b.load_checkpoint()
    assert first is not None
    assert second is not None
    assert first["network"].keys() == second["network"].keys()
    assert all(torch.equal(first["network"][k], second["network"][k]) for k in first["network"])
    assert_same(first["search"], second["search"])
    assert a.read_json("best.json") == b.read_json("best.json")


def assert_same(a: Any, b: Any) -> None:
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for left, right in zip(a, b, strict=True):
            assert_same(left, right)
    else:
        assert a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, few_digits: ImageData) -> Path:
    """A search without rules."""
    folder = tmp_path_factory.mktemp("plain") / "run"
    search_run(SETTINGS, folder, data=few_digits)
    return folder


def test_a_rule_that_never_fires_changes_nothing(
    plain: Path, tiny: Settings, few_digits: ImageData, tmp_path: Path
) -> None:
    rules = {
        "time": {"seconds": 1e9},
        "entropy": {"below": 1e-9},
        "plateau": {"epochs": 50, "action": "raise_weight_decay"},
    }
    search_run(tiny(**DARTS, stopping={"rules": rules}), tmp_path / "run", data=few_digits)
    same_run(plain, tmp_path / "run")
    assert not Run(tmp_path / "run").exists("stopped.json")
    checkpoint, _ = Run(plain).load_checkpoint()
    assert checkpoint is not None
    assert "steering" not in checkpoint
    assert not Run(plain).exists("logits")


def test_a_rule_stops_rolls_back_and_says_so(
    plain: Path, tiny: Settings, few_digits: ImageData, tmp_path: Path
) -> None:
    said = Said()
    run = search_run(
        tiny(**DARTS, stopping={"rules": {"plateau": PLATEAU}}),
        tmp_path / "run",
        data=few_digits,
        progress=said,
    )
    lines = run.read_lines("metrics.jsonl")
    assert [line["epoch"] for line in lines] == [0, 1, 2, 3]  # the first that learns is 1, and 1 + 2 = 3
    stopped = run.read_json("stopped.json")
    assert (stopped["epoch"], stopped["rolled_back_to"], stopped["rules"]) == (3, 1, ["plateau"])
    told = [line for line in said.lines if line.startswith("stopped after epoch 3 by the rule plateau")]
    assert len(told) == 1
    assert "the logits of epoch 1 count" in told[0]
    assert told[0] in (run.folder / "log.txt").read_text()
    (logits,) = read_logits(run, "logits.safetensors")
    expected = torch.tensor(list(lines[1]["probabilities"].values()))
    assert torch.equal(torch.softmax(logits, -1), expected)  # of epoch 1, to the last bit
    derivation = derive_run(run.folder)
    assert derivation.epoch == 1
    assert dict(derivation.architecture) == lines[1]["architecture"]


def test_a_stopped_search_goes_on_as_if_there_had_been_no_rule(
    plain: Path, tiny: Settings, few_digits: ImageData, tmp_path: Path
) -> None:
    run = search_run(
        tiny(**DARTS, stopping={"rules": {"plateau": PLATEAU}}), tmp_path / "run", data=few_digits
    )
    before = (run.folder / "logits.safetensors").read_bytes()
    again = Said()
    search_run({}, run.folder, data=few_digits, resume=True, progress=again)
    assert len(run.read_lines("metrics.jsonl")) == 4  # says why once more, and is at its end
    assert any(line.startswith("stopped after epoch 3") for line in again.lines)
    assert (run.folder / "logits.safetensors").read_bytes() == before
    with pytest.raises(UserError, match="own configuration"):
        search_run({"stopping": {"rules": {"entropy": {}}}}, run.folder, data=few_digits, resume=True)
    search_run({"stopping": {"combine": "none"}}, run.folder, data=few_digits, resume=True)
    same_run(plain, run.folder)
    assert not run.exists("stopped.json")
    assert run.read_config()["stopping"]["combine"] == "none"
    search_run({}, run.folder, data=few_digits, resume=True)  # as it is configured now


def test_weight_decay_is_raised_and_the_search_begins_again(
    plain: Path, tiny: Settings, few_digits: ImageData, tmp_path: Path
) -> None:
    action = {"name": "raise_weight_decay", "factor": 10.0, "most": 0.02}
    given = tiny(**DARTS, stopping={"rules": {"plateau": {**PLATEAU, "action": action}}})
    run = search_run(given, tmp_path / "run", data=few_digits)
    lines, acted = run.read_lines("metrics.jsonl"), run.read_lines("actions.jsonl")
    assert [line["epoch"] for line in lines] == list(range(6))
    # at 3 back to 1 with 3e-3, again with 2e-2; then there is no more to raise, and it goes on
    assert [(a["epoch"], a["rolled_back_to"], a["given_up"]) for a in acted] == [(3, 1, 2), (3, 1, 2)]
    assert [line["epoch"] for line in run.read_lines("given_up.jsonl")] == [2, 3, 2, 3]
    checkpoint, _ = run.load_checkpoint()
    assert checkpoint is not None
    (group,) = checkpoint["search"]["weight_optimizer"]["param_groups"]
    assert group["weight_decay"] == 0.02
    whole = Run(plain).read_lines("metrics.jsonl")
    assert [line["valid_loss"] for line in lines[:2]] == [line["valid_loss"] for line in whole[:2]]
    assert lines[2]["train_loss"] != whole[2]["train_loss"]
    given_up = run.read_lines("given_up.jsonl")
    assert given_up[0]["train_loss"] == whole[2]["train_loss"]  # what was given up is what was there
    assert lines[2]["given_up_seconds"] == pytest.approx(sum(line["seconds"] for line in given_up))
    assert not list(run.folder.glob("rollback/*.pt"))
    best = run.read_json("best.json")
    most = max(lines[1:], key=lambda line: line["valid_accuracy"])
    assert (best["epoch"], best["valid_accuracy"]) == (most["epoch"], most["valid_accuracy"])


ACTING = {
    "method": "gdas",
    "stopping": {
        "rules": {
            "plateau": {**PLATEAU, "action": {"name": "raise_weight_decay", "most": 9e-4}},
            "entropy": {"below": 0.999999, "action": {"name": "raise_tau", "factor": 3.0}},
        }
    },
}


@pytest.fixture(scope="module")
def acting(tmp_path_factory: pytest.TempPathFactory, few_digits: ImageData) -> Path:
    """A search whose rules acted, never broken off."""
    folder = tmp_path_factory.mktemp("acting") / "run"
    search_run({**SETTINGS, **ACTING}, folder, data=few_digits)
    return folder


@pytest.mark.parametrize("at", [2 * STEPS + 2, 4 * STEPS, 5 * STEPS + 3])
def test_a_search_with_actions_resumes_to_the_last_bit(
    acting: Path, few_digits: ImageData, tmp_path: Path, at: int
) -> None:
    with pytest.raises(Stopped):
        search_run({**SETTINGS, **ACTING}, tmp_path / "broken", data=few_digits, progress=Said(at))
    broken = search_run({}, tmp_path / "broken", data=few_digits, resume=True)
    same_run(acting, broken.folder)
    acted = [
        [{k: v for k, v in line.items() if "seconds" not in k} for line in run.read_lines("actions.jsonl")]
        for run in (Run(acting), broken)
    ]
    assert acted[0] == acted[1]
    assert {line["action"] for line in acted[0]} == {"raise_weight_decay", "raise_tau"}


def test_checkpoints_of_given_up_steps_are_not_taken_for_newer_ones(
    acting: Path, few_digits: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archgrad.verbs.search.CHECKPOINT_SECONDS", 0.0)
    said = Said(2 * STEPS + 2, time=2)
    with pytest.raises(Stopped):
        search_run({**SETTINGS, **ACTING}, tmp_path / "run", data=few_digits, progress=said)
    steps = sorted(path.stem for path in tmp_path.glob("run/checkpoints/*.pt"))
    assert steps == ["step-00000011", "step-00000012"]
    search_run({}, tmp_path / "run", data=few_digits, resume=True)
    same_run(acting, tmp_path / "run")


def test_a_search_begins_again_exactly_where_it_was(
    plain: Path, few_digits: ImageData, tmp_path: Path
) -> None:
    """A factor that changes no float32: what comes after the roll-back is what came before it."""
    action = {"name": "raise_weight_decay", "factor": 1 + 1e-8, "most": 3e-4 * (1 + 1e-8)}
    rules = {"plateau": {**PLATEAU, "action": action}}
    run = search_run({**SETTINGS, "stopping": {"rules": rules}}, tmp_path / "run", data=few_digits)
    assert [line["given_up"] for line in run.read_lines("actions.jsonl")] == [2]
    for line, wanted in zip(
        run.read_lines("metrics.jsonl"), Run(plain).read_lines("metrics.jsonl"), strict=True
    ):
        assert {k: v for k, v in line.items() if "seconds" not in k} == {
            k: v for k, v in wanted.items() if "seconds" not in k
        }
    (logits,), (wanted_logits,) = (read_logits(r, "logits.safetensors") for r in (run, Run(plain)))
    assert torch.equal(logits, wanted_logits)


def test_the_best_epoch_is_none_that_was_given_up(few_digits: ImageData, tmp_path: Path) -> None:
    rules = {"plateau": {"epochs": 50, "action": "raise_weight_decay"}}
    run = search_run({**SETTINGS, "stopping": {"rules": rules}}, tmp_path / "run", data=few_digits)
    lines = run.read_lines("metrics.jsonl")
    for line, accuracy in zip(lines, [0.9, 0.2, 0.4, 0.4, 0.3, 0.8], strict=True):
        line["valid_accuracy"] = accuracy
    given_up = {"epoch": 5, "valid_accuracy": 0.8, "architecture": lines[5]["architecture"]}
    run.write_json("best.json", given_up)
    steering = SimpleNamespace(run=run)
    Steering._restore_best(steering, lines)  # type: ignore[arg-type]
    assert run.read_json("best.json") == given_up  # nothing is given up
    Steering._restore_best(steering, lines[:5])  # type: ignore[arg-type]
    best = run.read_json("best.json")
    assert (best["epoch"], best["valid_accuracy"]) == (2, 0.4)  # the warm-up's 0.9 is of untrained logits
    assert best["architecture"] == lines[2]["architecture"]
    (logits,) = read_logits(run, "best.safetensors")
    rows = torch.tensor(list(lines[2]["probabilities"].values()))
    assert torch.equal(torch.softmax(logits, -1), rows)
    Steering._restore_best(steering, lines[:1])  # type: ignore[arg-type]
    assert not run.exists("best.json")


def test_what_was_done_is_done_again_where_the_process_died_before_it_was_saved(
    tiny: Settings, few_digits: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = tiny(**DARTS, stopping={"rules": {"plateau": {**PLATEAU, "action": "raise_weight_decay"}}})
    whole = search_run(given, tmp_path / "whole", data=few_digits)
    begin_again = Steering._begin_again

    def dies(*arguments: Any) -> float:
        begin_again(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Steering, "_begin_again", dies)
        with pytest.raises(KeyboardInterrupt):
            search_run(given, tmp_path / "broken", data=few_digits)
    search_run({}, tmp_path / "broken", data=few_digits, resume=True)
    same_run(whole.folder, tmp_path / "broken")
    assert len(Run(tmp_path / "broken").read_lines("given_up.jsonl")) == len(
        whole.read_lines("given_up.jsonl")
    )


def test_logits_are_frozen_as_they_were(
    plain: Path, tiny: Settings, few_digits: ImageData, tmp_path: Path
) -> None:
    rules = {"plateau": {**PLATEAU, "action": "freeze_alpha"}}
    run = search_run(tiny(**DARTS, stopping={"rules": rules}), tmp_path / "run", data=few_digits)
    lines, whole = run.read_lines("metrics.jsonl"), Run(plain).read_lines("metrics.jsonl")
    assert lines[3]["probabilities"] == whole[3]["probabilities"]
    assert lines[4]["probabilities"] == lines[5]["probabilities"] == whole[1]["probabilities"]
    assert [line["alpha_gradient_norm"] is None for line in lines] == [True, False, False, False, True, True]
    assert lines[5]["train_loss"] != lines[4]["train_loss"]
    assert [line["action"] for line in run.read_lines("actions.jsonl")] == ["freeze_alpha"]


def test_the_temperature_is_raised_from_the_next_epoch_on(
    tiny: Settings, few_digits: ImageData, tmp_path: Path
) -> None:
    rules = {"plateau": {**PLATEAU, "action": "raise_tau"}}
    given = tiny(**{**DARTS, "method": "gdas"}, stopping={"rules": rules})
    lines = search_run(given, tmp_path / "run", data=few_digits).read_lines("metrics.jsonl")
    schedule = [10.0, 10.0, 7.525, 5.05, 2.575, 0.1]  # linear over the 5 epochs after the warm-up
    assert [line["tau"] for line in lines] == pytest.approx([*schedule[:4], *(2 * t for t in schedule[4:])])


def test_time_is_kept(tiny: Settings, few_digits: ImageData, tmp_path: Path) -> None:
    rules = {"time": {"seconds": 1e-3}}
    run = search_run(tiny(**DARTS, stopping={"rules": rules}), tmp_path / "run", data=few_digits)
    assert len(run.read_lines("metrics.jsonl")) == 1
    assert "go beyond its 0.001 s" in run.read_json("stopped.json")["because"]


def test_a_rule_on_curvature_measures_it(tiny: Settings, few_digits: ImageData, tmp_path: Path) -> None:
    said = Said()
    rules = {"lambda_max": {"window": 1, "delta": 1, "first": 1, "factor": 1.0001}}
    given = tiny(**DARTS, stopping={"rules": rules})
    run = search_run(given, tmp_path / "run", data=few_digits, progress=said)
    assert any(
        "diagnostics.sharpness = 1: the stopping rule 'lambda_max' needs it" in line for line in said.lines
    )
    values = [reading(line, "sharpness", "largest") for line in run.read_lines("metrics.jsonl")]
    assert values[0] is None  # warm-up
    known = [value for value in values if value is not None]
    rises = [e for e in range(1, len(known)) if known[e - 1] > 0 and known[e] > 1.0001 * known[e - 1]]
    if rises:
        assert run.read_json("stopped.json")["epoch"] == rises[0] + 1
        assert run.read_json("stopped.json")["rolled_back_to"] == rises[0]
    else:
        assert not run.exists("stopped.json")


# ---- presets


def test_presets_have_the_published_rules() -> None:
    size = DataSize("cifar10", 40_000, (3, 32, 32), True, True)
    rules = {name: resolve({"method": name, "space": {"name": "darts"}}, size).config for name in METHODS}
    assert {name for name, config in rules.items() if config.stopping.rules} == {
        "darts-es",
        "darts-ada",
        "darts-plus",
    }
    assert rules["darts-es"].stopping.rules == {"lambda_max": {}}
    assert rules["darts-es"].diagnostics["sharpness"] == 1
    assert rules["darts-ada"].stopping.rules == {"lambda_max": {"action": "raise_weight_decay"}}
    assert rules["darts-plus"].stopping.rules == {"skip_count": {}}
    darts = rules["darts"].model_dump(exclude={"method", "stopping", "diagnostics"})
    for name in ("darts-es", "darts-ada", "darts-plus"):
        assert rules[name].model_dump(exclude={"method", "stopping", "diagnostics"}) == darts


# ---- wrong input


def problems(**given: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        check(given)
    return caught.value.problems


def test_everything_that_is_wrong_with_rules_is_said_at_once() -> None:
    rules = {
        "entropie": {},
        "entropy": {"below": "low"},
        "stability": {"epoch": 3},
        "time": {},
        "plateau": {"epochs": 0, "action": "stopp"},
        "lambda_max": {"factor": 0.5, "action": {"factor": 3.0}},
        "skip_count": {"action": {"name": "raise_tau", "factor": 0.5}},
    }
    found = "\n".join(
        problems(stopping={"rules": rules}, alarms={"low_tua": {}, "undecided": {"margin": -1.0}})
    )
    for sentence in (
        "stopping.rules.entropie: unknown 'entropie' - did you mean 'entropy'?; known: entropy, stability",
        "stopping.rules.entropy.below: should be a valid number, got 'low'",
        "stopping.rules.stability.epoch: 'stability' has no such setting - did you mean 'epochs'?",
        "stopping.rules.time: seconds: say how long",
        "stopping.rules.plateau.epochs: should be above 0, got 0",
        "stopping.rules.plateau.action: unknown 'stopp' - did you mean 'stop'?",
        "stopping.rules.lambda_max: factor: a rise is by more than 1, got 0.5",
        "stopping.rules.lambda_max.action: a name of stop, raise_weight_decay",
        "stopping.rules.skip_count.action: factor: more than 1, got 0.5",
        "alarms.low_tua: unknown 'low_tua' - did you mean 'low_tau'?; known: skip_collapse",
        "alarms.undecided.margin: should be above 0, got -1.0",
    ):
        assert sentence in found, sentence


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"stopping": {"combine": "all"}}, "stopping.combine: there is no rule"),
        ({"stopping": "entropy"}, "stopping: a section with keys combine, rules"),
        ({"stopping": {"rules": {"entropy": None}}}, "stopping.rules.entropy: "),
        ({"stopping": {"rule": {"entropy": {}}}}, "stopping.rule: unknown key - did you mean 'rules'?"),
        ({"method": "random", "stopping": {"rules": {"entropy": {}}}}, "does not train the logits"),
        (
            {"method": "drnas", "stopping": {"rules": {"entropy": {"action": "raise_tau"}}}},
            "has no temperature",
        ),
        (
            {
                "weights": {"weight_decay": 0.0},
                "stopping": {"rules": {"entropy": {"action": "raise_weight_decay"}}},
            },
            "weights.weight_decay is 0",
        ),
        (
            {
                "stopping": {
                    "combine": "all",
                    "rules": {"entropy": {}, "stability": {"action": "freeze_alpha"}},
                }
            },
            "share one action",
        ),
        ({"alarms": {"low_tau": True}}, "alarms.low_tau: it is on"),
        ({"alarms": {"low_tau": 3}}, "alarms.low_tau: "),
    ],
)
def test_wrong_rules_are_refused(given: dict[str, Any], sentence: str) -> None:
    assert any(sentence in problem for problem in problems(**given))


def test_a_rule_that_can_never_fire_in_the_space_is_refused_before_anything_is_written(
    tiny: Settings, few_digits: ImageData, tmp_path: Path
) -> None:
    given = tiny(space={"name": "mobile"}, stopping={"rules": {"skip_count": {}}})
    given["space"], given["train"] = {"name": "mobile"}, {"epochs": 1, "batch_size": 40}
    with pytest.raises(ConfigError, match=re.escape("stopping.rules.skip_count: the choices of this space")):
        search_run(given, tmp_path / "run", data=few_digits)
    assert not (tmp_path / "run").exists()


def test_a_roll_back_to_an_epoch_that_is_damaged_takes_the_one_before_it(
    tiny: Settings, few_digits: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_again = Steering._begin_again

    def damaged(self: Steering, *arguments: Any) -> float:
        (self.run.folder / "rollback" / "step-00000002.pt").write_bytes(b"half")
        return begin_again(self, *arguments)

    monkeypatch.setattr(Steering, "_begin_again", damaged)
    said = Said()
    rules = {"plateau": {**PLATEAU, "action": {"name": "raise_weight_decay", "most": 9e-4}}}
    run = search_run(
        tiny(**DARTS, stopping={"rules": rules}), tmp_path / "run", data=few_digits, progress=said
    )
    assert any("is damaged" in line for line in said.lines)
    assert [line["rolled_back_to"] for line in run.read_lines("actions.jsonl")] == [0]
    assert [line["epoch"] for line in run.read_lines("metrics.jsonl")] == list(range(6))
    shutil.rmtree(run.folder)
