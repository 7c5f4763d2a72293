"""What a tracker is, the numbers it is given, and several of them beside a search."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from archgrad.metric_lines import Line, epoch_of, number, parts
from archgrad.trackers import TRACKERS

_NAMES = {
    "train_loss": "loss/train",
    "valid_loss": "loss/valid",
    "train_accuracy": "accuracy/train",
    "valid_accuracy": "accuracy/valid",
    "entropy_mean": "entropy/mean",
    "alpha_gradient_norm": "gradient/alpha",
    "weight_gradient_norm": "gradient/weights",
    "tau": "schedule/tau",
    "learning_rate": "schedule/learning_rate",
    "cost": "cost/expected",
    "seconds": "time/epoch_seconds",
}
_SAID_ALREADY = {("entropy", "mean"), ("motion", "architecture_gradient"), ("motion", "weight_gradient")}


class Tracker(Protocol):
    """Made without arguments, which raises `MissingExtra` where its library is not installed."""

    def begin(self, folder: Path, config: Mapping[str, Any]) -> None:
        """A search in this folder, with this configuration (nested), begins or goes on."""

    def epoch(self, epoch: int, numbers: Mapping[str, float]) -> None:
        """The numbers of an epoch by name (`numbers_of`); everything is written when it returns."""

    def finish(self, done: bool) -> None:
        """No more epochs come. done: the search is at its end; else it was stopped or failed."""


def numbers_of(line: Line) -> dict[str, float]:
    """The numbers of a line that are one for the whole search, by a name with a section.

    Names are those of the line, ``budget/<cost>/<field>`` and ``<diagnostic>/<field>``; ``alarms`` counts the
    alarms that ring. What is not finite or was not measured is left out, and so is what is a number for every
    choice: there are hundreds.

    >>> numbers_of({"epoch": 3, "train_loss": 0.5, "tau": None, "diagnostics": {"gap": {"drop": 0.25}}})
    {'loss/train': 0.5, 'gap/drop': 0.25, 'alarms': 0.0}
    """
    found = {name: number(line.get(key)) for key, name in _NAMES.items()}
    for cost, fields in (line.get("budgets") or {}).items():
        found |= {f"budget/{cost}/{field}": number(value) for field, value in fields.items()}
    for diagnostic in line.get("diagnostics") or {}:
        for field, value in parts(line, diagnostic).items():
            if (diagnostic, field) not in _SAID_ALREADY:
                found[f"{diagnostic}/{field}"] = number(value)
    found["alarms"] = float(len(line.get("alarms") or {}))
    return {name: value for name, value in found.items() if value is not None}


def check_names(names: Iterable[str]) -> tuple[str, ...]:
    """The names, each once.

    Raises:
        UserError: one of them is no tracker.
    """
    wanted = tuple(dict.fromkeys(names))
    for name in wanted:
        TRACKERS.check(name)
    return wanted


class Trackers:
    """Some trackers of one search. What goes wrong in one is said once, and the search goes on without it.

    Args:
        names: of `TRACKERS`, or ``module:object``.
        warn: is told what went wrong.

    Raises:
        UserError: a name is not known.
        MissingExtra: a library is not installed.
    """

    def __init__(self, names: Iterable[str], warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._trackers: dict[str, Tracker] = {name: TRACKERS[name]() for name in check_names(names)}

    def begin(self, folder: Path, config: Mapping[str, Any], lines: Sequence[Line]) -> None:
        """A search begins, or goes on after `lines`, which are tracked first."""
        self._each(lambda tracker: tracker.begin(folder, config))
        for line in lines:
            self.epoch(line)

    def epoch(self, line: Line) -> None:
        """A line was written."""
        if self._trackers:
            at, numbers = epoch_of(line), numbers_of(line)
            self._each(lambda tracker: tracker.epoch(at, numbers))

    def finish(self, done: bool) -> None:
        """No more lines come."""
        self._each(lambda tracker: tracker.finish(done))

    def __enter__(self) -> Trackers:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.finish(done=kind is None)

    def _each(self, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                call(tracker)
            except Exception as error:  # no answer, a full disk: whatever a library raises
                del self._trackers[name]
                why = (str(error).strip() or type(error).__name__).splitlines()[0]
                self._warn(f"{name} does not get the numbers any more: {why}")
