"""What an alarm is, what it says, and all of them asked of a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from archgrad.alarms import ALARMS
from archgrad.metric_lines import Line, epoch_of, learned


class Found(NamedTuple):
    """What is wrong, in one sentence with the numbers, and what to do, both without a full stop."""

    text: str
    remedy: str


class About(NamedTuple):
    """What an alarm knows of a run besides its lines; None: not known.

    epochs: that the search is to take. warmup: epochs without steps on the logits.
    classes: of the images; None of a text. temperature: whether τ changes anything.
    """

    epochs: int | None = None
    warmup: int = 0
    classes: int | None = None
    temperature: bool = True

    def progress(self, line: Line) -> float | None:
        """The share of the epochs that train the logits that is done with this line."""
        if self.epochs is None or self.epochs <= self.warmup:
            return None
        return (epoch_of(line) + 1 - self.warmup) / (self.epochs - self.warmup)

    def ends(self, line: Line) -> bool:
        """Whether this is the last epoch that was planned."""
        return self.epochs is not None and epoch_of(line) + 1 >= self.epochs

    @property
    def chance(self) -> float:
        """The accuracy of guessing; 0 of a text."""
        return 1 / self.classes if self.classes else 0.0


class Alarm(Protocol):
    """Called after every epoch with all lines so far."""

    def __call__(self, lines: Sequence[Line], about: About) -> Found | None:
        """What is wrong after the last line, or None."""


class Raised(NamedTuple):
    """An alarm, the epoch at which it first rang, what it said then, and the last epoch at which it rang."""

    name: str
    epoch: int
    text: str
    remedy: str
    last: int


def alarms_of(settings: Mapping[str, Any]) -> dict[str, Alarm]:
    """The alarms by name; settings: name -> the alarm's settings, or False for silence."""
    names = [*ALARMS, *(name for name in settings if name not in ALARMS)]
    wanted = {name: settings.get(name, {}) for name in names if settings.get(name) is not False}
    return {name: ALARMS[name](**own) for name, own in wanted.items()}


def alarms_now(alarms: Mapping[str, Alarm], lines: Sequence[Line], about: About) -> dict[str, Found]:
    """What the alarms say after the last line, by name; nothing in an epoch that did not train the logits."""
    if not lines or not learned(lines[-1]):
        return {}
    found = ((name, alarm(lines, about)) for name, alarm in alarms.items())
    return {name: what for name, what in found if what is not None}


def raised(alarms: Mapping[str, Alarm], lines: Sequence[Line], about: About) -> list[Raised]:
    """Every alarm of a run that rang, from the epoch at which it first did, in the order of these epochs."""
    begun: dict[str, Raised] = {}
    for count, line in enumerate(lines, start=1):
        for name, found in alarms_now(alarms, lines[:count], about).items():
            first = begun.get(name, Raised(name, epoch_of(line), *found, epoch_of(line)))
            begun[name] = first._replace(last=epoch_of(line))
    return list(begun.values())
