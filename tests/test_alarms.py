"""Every alarm on lines where it must ring and on lines where it must not; none on a healthy search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from archgrad.alarms import ALARMS
from archgrad.alarms.alarm import About, alarms_now, alarms_of, begun, raised, with_alarms
from archgrad.datasets.images import ImageData
from archgrad.progress import Silent
from archgrad.verbs import search_run


class Said(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


ABOUT = About(epochs=20, warmup=2, classes=10)


def line(
    epoch: int, *, gradient: float | None = 0.1, tau: float = 1.0, accuracy: float = 0.5, **diagnostics: Any
) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "alpha_gradient_norm": gradient,
        "tau": tau,
        "train_accuracy": accuracy,
        "diagnostics": {"entropy": {"relative": 0.8}, **diagnostics},
    }


def of(field: str, name: str, values: Sequence[Any], start: int = 0) -> list[dict[str, Any]]:
    return [line(start + e, **{name: {field: v}}) for e, v in enumerate(values)]


def pulls(*norms: float, **diagnostics: Any) -> list[dict[str, Any]]:
    return [line(e, gradient=norm, **diagnostics) for e, norm in enumerate(norms)]


def winners(*rows: Sequence[int]) -> list[dict[str, Any]]:
    """A line for each row; choice c has the winner row[c] of two candidates."""
    return [
        {
            **line(e),
            "probabilities": {f"c{c}": [0.9, 0.1] if w == 0 else [0.1, 0.9] for c, w in enumerate(row)},
            "architecture": {f"c{c}": "x" for c in range(len(row))},
        }
        for e, row in enumerate(rows)
    ]


def ties(*margins: float, epoch: int = 19) -> list[dict[str, Any]]:
    return [line(epoch, margin={"by_choice": {f"c{i}": m for i, m in enumerate(margins)}})]


def gaps(mixture: float, derived: float, epoch: int = 15) -> list[dict[str, Any]]:
    return [line(epoch, gap={"mixture": mixture, "derived": derived})]


STILL = [[0, 0, 0, 0, 0]] * 17
RINGS: list[tuple[str, list[dict[str, Any]], str]] = [
    ("skip_collapse", of("skip", "operations", [0.4, *5 * [0.6]]), "60% of what would be derived"),
    ("lambda_rising", of("largest", "sharpness", [1.0] * 20 + [2.0] * 2), "from 1 around epoch 15 to 1.4"),
    ("vanishing_gradient", pulls(1.0, 9e-4, 9e-4, 9e-4), "was 1, and"),
    ("vanishing_gradient", pulls(0.0, 0.0, 0.0, 0.0), "hardly learn"),
    ("low_tau", [line(5, tau=0.2)], "τ is 0.2 after 22% of the search"),
    ("untrained_weights", [line(e, accuracy=0.14) for e in range(3)], "14.0%, that of guessing 10.0%"),
    ("unsettled", winners(*STILL, *[[1, 1, 0, 0, 0]] * 3), "2 of 5 choices have another winner"),
    ("undecided", ties(0.01, 0.01, 0.5, 0.5), "2 of 4 choices are undecided"),
    ("discretisation_gap", gaps(0.7, 0.35), "what would be derived on 35.0%"),
]  # fmt: skip
SILENT: list[tuple[str, list[dict[str, Any]]]] = [
    ("skip_collapse", of("skip", "operations", [*4 * [0.6], 0.4, *4 * [0.6]])),
    ("skip_collapse", of("skip", "operations", 9 * [0.5])),
    ("lambda_rising", of("largest", "sharpness", [1.0] * 20 + [1.25] * 10)),
    ("lambda_rising", of("largest", "sharpness", [None] * 30)),
    ("vanishing_gradient", pulls(1.0, 9e-4, 9e-4, 2e-3)),
    ("vanishing_gradient", pulls(1.0, 0.0, 0.0, 0.0, entropy={"relative": 0.1})),
    ("low_tau", [line(11, tau=0.2)]),  # the second half
    ("low_tau", [line(5, tau=0.3)]),
    ("low_tau", [line(5, tau=0.2, entropy={"relative": 0.4})]),  # decided by then
    ("untrained_weights", [line(e, accuracy=a) for e, a in enumerate([0.1, 0.1, 0.16])]),
    ("untrained_weights", [*(line(e, accuracy=0.1, gradient=None) for e in (0, 1)), line(2, accuracy=0.1)]),
    ("unsettled", winners(*STILL, *[[1, 0, 0, 0, 0]] * 3)),  # one of five is a fifth
    ("unsettled", winners(*STILL[:10], *[[1, 1, 1, 1, 1]] * 10)),  # long ago
    ("unsettled", winners(*STILL[:8], *[[1, 1, 1, 1, 1]] * 2)),  # not the end
    ("undecided", ties(0.01, 0.5, 0.5, 0.5)),
    ("undecided", ties(0.01, 0.01, 0.5, 0.5, epoch=18)),
    ("discretisation_gap", gaps(0.7, 0.45)),
    ("discretisation_gap", gaps(0.7, 0.35, epoch=8)),  # there is time
    ("discretisation_gap", gaps(0.09, 0.05)),  # the mixture guesses
]  # fmt: skip


def test_there_is_a_case_for_every_alarm() -> None:
    assert len(ALARMS) == 8
    assert {name for name, _, _ in RINGS} == {name for name, _ in SILENT} == set(ALARMS)


@pytest.mark.parametrize(("name", "lines", "text"), RINGS)
def test_it_rings(name: str, lines: list[dict[str, Any]], text: str) -> None:
    found = alarms_now(alarms_of({}), lines, ABOUT)
    assert list(found) == [name]  # and no other
    assert text in found[name].text
    assert "=" in found[name].remedy or "--" in found[name].remedy  # something to type
    assert not found[name].text.endswith(".")


@pytest.mark.parametrize(("name", "lines"), SILENT)
def test_it_is_silent(name: str, lines: list[dict[str, Any]]) -> None:
    alarm = alarms_of({})[name]
    assert [alarm(lines[:n], ABOUT) for n in range(1, len(lines) + 1)] == [None] * len(lines)


@pytest.mark.parametrize("name", ALARMS)
def test_nothing_rings_of_a_line_that_says_nothing(name: str) -> None:
    bare = [{"epoch": e, "diagnostics": {}, "alpha_gradient_norm": 0.1} for e in range(20)]
    for about in (ABOUT, About()):
        assert alarms_of({})[name](bare, about) is None


def test_no_alarm_of_a_text_that_needs_the_accuracy_of_guessing() -> None:
    lines = [line(e, accuracy=0.01) for e in range(4)]
    assert alarms_now(alarms_of({}), lines, About(20)) == {}


def test_two_classes_are_guessed_at_a_half() -> None:
    two = About(20, 0, 2)
    alarm = alarms_of({})["untrained_weights"]
    assert alarm([line(e, accuracy=0.55) for e in range(3)], two) is not None
    assert alarm([line(e, accuracy=0.63) for e in range(3)], two) is None


def test_thresholds_and_silence_are_settings() -> None:
    lines = of("skip", "operations", 5 * [0.6])
    assert alarms_now(alarms_of({"skip_collapse": False}), lines, ABOUT) == {}
    assert alarms_now(alarms_of({"skip_collapse": {"share": 0.7}}), lines, ABOUT) == {}
    assert list(alarms_now(alarms_of({"skip_collapse": {"epochs": 6}}), lines, ABOUT)) == []
    assert "low_tau" in alarms_of({"skip_collapse": False})


def test_an_alarm_is_told_once_and_stands_in_every_line_in_which_it_holds() -> None:
    lines: list[dict[str, Any]] = []
    told, alarms = [], alarms_of({"skip_collapse": {"epochs": 2}})
    for one in of("skip", "operations", [0.6, 0.6, 0.6, 0.2, 0.6, 0.6]):
        lines.append(with_alarms(one, lines, alarms, ABOUT))
        told.append(begun(lines))
    assert [len(sentences) for sentences in told] == [0, 1, 0, 0, 0, 0]
    assert told[1][0].startswith(
        "collapse to skip connections: they are 60% of what would be derived. Search"
    )
    assert [list(one.get("alarms", {})) for one in lines] == [
        [],
        *[["skip_collapse"]] * 2,
        [],
        [],
        ["skip_collapse"],
    ]
    (found,) = raised(alarms, lines, ABOUT)
    assert (found.name, found.epoch, found.last) == ("skip_collapse", 1, 5)


def test_lambda_rises_before_the_search_ends_though_nothing_else_says_so() -> None:
    lines = of("largest", "sharpness", [1.0] * 12 + [1.15**e for e in range(8)])
    (found,) = raised(alarms_of({}), lines, ABOUT)
    assert found.name == "lambda_rising"
    assert found.epoch < 19


def test_none_rings_in_a_healthy_search(tmp_path: Path) -> None:
    run = search_run(
        {
            "method": "darts",
            "data": {"name": "digits"},
            "space": {"name": "nasbench201", "channels": 4, "cells": 1},
            "search": {"epochs": 10},
            "device": {"threads": 1, "name": "cpu"},
        },
        tmp_path / "run",
    )
    lines = run.read_lines("metrics.jsonl")
    assert len(lines) == 10
    assert [one["alarms"] for one in lines if "alarms" in one] == []


def test_a_search_that_guesses_is_told(
    few_digits: ImageData, tiny: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    said = Said()
    settings = tiny(method="darts", search={"epochs": 4, "warmup_epochs": 0}, weights={"learning_rate": 1e-7})
    settings["weights"]["final_learning_rate"] = 0.0
    run = search_run(settings, tmp_path / "run", data=few_digits, progress=said)
    told = [line for line in said.lines if "weights are not trained yet" in line]
    assert len(told) == 1
    assert told[0].startswith("warning: ")
    assert "Set search.warmup_epochs=5 or more" in told[0]
    assert told[0] in (run.folder / "log.txt").read_text()
    assert "untrained_weights" in run.read_lines("metrics.jsonl")[2]["alarms"]
