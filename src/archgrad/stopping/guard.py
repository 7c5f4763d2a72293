"""The rules of one search, put together: which of them fire after an epoch, and what is to be done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from archgrad.metric_lines import Line
from archgrad.stopping import ACTIONS, STOPPING_RULES
from archgrad.stopping.actions import Action
from archgrad.stopping.rule import Reason, Rule
from archgrad.stopping.settings import Stopping


class Firing(NamedTuple):
    """Rules that fire together, why, and the name of the action with the action."""

    rules: tuple[str, ...]
    reason: Reason
    name: str
    action: Action


class Watched(NamedTuple):
    """A rule, and what is done when it fires."""

    rule: Rule
    name: str
    action: Action


@dataclass(frozen=True)
class Guard:
    """All rules of a search, by name; none of them is asked in a guard without any.

    together: they fire only when all do, with the action that they share.
    reach: how many epochs back they may go.
    """

    watched: Mapping[str, Watched] = field(default_factory=dict)
    together: bool = False
    reach: int = 0

    @classmethod
    def of(cls, stopping: Stopping, every: Mapping[str, int]) -> Guard:
        """The guard of a section that was found right. every: probe -> epochs from one look to the next."""
        if stopping.combine == "none":
            return cls()
        watched = {name: _watched(name, settings) for name, settings in stopping.rules.items()}
        reach = [_reach(one.rule, every) for one in watched.values()]
        return cls(watched, stopping.combine == "all", max(reach, default=0))

    def __bool__(self) -> bool:
        return bool(self.watched)

    @property
    def restarts(self) -> bool:
        """Whether an action may begin again from the end of an older epoch."""
        return any(one.action.restarts for one in self.watched.values())

    def __call__(self, lines: Sequence[Line]) -> list[Firing]:
        """What to do after the epoch of the last line: end, or begin again, or actions that go together.

        An action that does not end the search is taken when its rule begins to fire, and not again before
        the rule has ceased to.
        """
        fired = list(self._fired(lines))
        if ending := [one for one in fired if one.action.ends]:
            return ending[:1]
        before = {one.rules for one in self._fired(lines[:-1])} if fired and len(lines) > 1 else set()
        fresh = [one for one in fired if one.rules not in before]
        return [one for one in fresh if one.action.restarts][:1] or fresh

    def end(self, lines: Sequence[Line]) -> Firing | None:
        """The firing that ends the search after the last line, if one does."""
        return next((one for one in self._fired(lines) if one.action.ends), None) if lines else None

    def unfit(self, cells: Sequence[str]) -> list[str]:
        """Rules that can never fire in a space with these kinds of cells, each with the reason."""
        found = ((name, getattr(one.rule, "unfit", None)) for name, one in self.watched.items())
        reasons = ((name, unfit(cells)) for name, unfit in found if unfit is not None)
        return [f"stopping.rules.{name}: {why}" for name, why in reasons if why]

    def _fired(self, lines: Sequence[Line]) -> Iterator[Firing]:
        found = {name: one.rule(lines) for name, one in self.watched.items()}
        reasons = {name: reason for name, reason in found.items() if reason is not None}
        if not self.together:
            for name, reason in reasons.items():
                one = self.watched[name]
                yield Firing((name,), reason, one.name, one.action)
        elif reasons and len(reasons) == len(self.watched):
            one = next(iter(self.watched.values()))
            because = "; and ".join(reason.because for reason in reasons.values())
            both = Reason(because, min(reason.epoch for reason in reasons.values()))
            yield Firing(tuple(reasons), both, one.name, one.action)


def action_of(settings: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """(name, settings) of the action among a rule's settings: ``stop`` where there is none.

    >>> action_of({"action": {"name": "raise_tau", "factor": 3.0}})
    ('raise_tau', {'factor': 3.0})
    """
    given = settings.get("action", "stop")
    if isinstance(given, str):
        return given, {}
    return given["name"], {key: value for key, value in given.items() if key != "name"}


def rule_of(name: str, settings: Mapping[str, Any]) -> Rule:
    """The rule of this name with its own settings."""
    rule: Rule = STOPPING_RULES[name](**{key: value for key, value in settings.items() if key != "action"})
    return rule


def _watched(name: str, settings: Mapping[str, Any]) -> Watched:
    action, own = action_of(settings)
    return Watched(rule_of(name, settings), action, ACTIONS[action](**own))


def _reach(rule: Rule, every: Mapping[str, int]) -> int:
    looks = [every.get(probe, own) for probe, own in getattr(rule, "needs", {}).items()]
    return int(getattr(rule, "reach", 0)) * max(looks, default=1)
