"""What an alarm is, what it says, and all of them asked of a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from archgrad.alarms import ALARMS
from archgrad.metric_lines import Line, epoch_of, learned

if TYPE_CHECKING:
    from archgrad.config import Config


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

    @classmethod
    def of(cls, config: Config, classes: int | None) -> About:
        """Of the run with this configuration."""
        warmup = config.search.warmup_epochs if config.learns else 0
        return cls(config.search.epochs, warmup, classes, config.uses_temperature)

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


def begun(lines: Sequence[Line]) -> list[str]:
    """A sentence for every alarm of the last line that no line before has, as a search writes them."""
    before = {name for line in lines[:-1] for name in line.get("alarms") or {}}
    rung = (lines[-1].get("alarms") or {}) if lines else {}
    return [
        f"{found['text']}. {_capital(found['remedy'])}" for name, found in rung.items() if name not in before
    ]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def with_alarms(
    line: dict[str, Any], before: Sequence[Line], alarms: Mapping[str, Alarm], about: About
) -> dict[str, Any]:
    """The line, with ``alarms`` {name: {`text`, `remedy`}} where some ring after its epoch."""
    rung = alarms_now(alarms, [*before, line], about)
    return {**line, "alarms": {name: found._asdict() for name, found in rung.items()}} if rung else line


def raised(alarms: Mapping[str, Alarm], lines: Sequence[Line], about: About) -> list[Raised]:
    """Every alarm of a run that rang, from the epoch at which it first did, in the order of these epochs."""
    begun: dict[str, Raised] = {}
    for count, line in enumerate(lines, start=1):
        for name, found in alarms_now(alarms, lines[:count], about).items():
            first = begun.get(name, Raised(name, epoch_of(line), *found, epoch_of(line)))
            begun[name] = first._replace(last=epoch_of(line))
    return list(begun.values())
