"""The numbers behind the laboratory's page: ranks, paired differences, schedules; nothing here draws.

Works on the document of `archgrad.lab.studies` with null (None) for what is not finite.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from archgrad.schedules import SCHEDULES

Row = Mapping[str, Any]
NORMAL_95 = 1.96
"""Standard errors on either side of a mean in its 95 % interval."""
EXACT = 1e-9
"""Below this mean squared error, relative to the squared gradient, an estimator is exact up to rounding."""
PREFERRED_POINT = "leaning"


class Difference(NamedTuple):
    """Regret of one contender minus that of another, with its 95 % interval; below 0 the first is better.

    wins: share of the seeds in which the first is better. verdict: "better", "worse", "undecided", of this
    pair by itself; corrected: the same with the correction for all pairs (`comparison.holm`).
    """

    value: float
    low: float
    high: float
    wins: float
    verdict: str
    corrected: str

    def turned(self) -> Difference:
        """The same pair, the second first."""
        other = {"better": "worse", "worse": "better", "undecided": "undecided"}
        return Difference(
            -self.value, -self.high, -self.low, 1 - self.wins, other[self.verdict], other[self.corrected]
        )


class ScheduleRow(NamedTuple):
    """One schedule of a sampler. level: not to be told from the best of this sampler; False for the best."""

    schedule: str
    outcome: Row
    best: bool
    level: bool


class Scale(NamedTuple):
    """A logarithmic axis for numbers that may be 0: 0 is drawn at `floor`, `digits` after the point round
    `floor` to 0 and no other number. top: the largest number."""

    floor: float
    top: float
    digits: int

    def at(self, value: float | None) -> float | None:
        """Where the value is drawn."""
        return None if value is None else max(self.floor, value)

    def share(self, value: float) -> float:
        """Position between the ends of the axis, in [0, 1].

        >>> Scale(0.01, 100.0, 1).share(1.0)
        0.5
        """
        if self.top <= self.floor:
            return 0.0
        place = math.log(max(value, self.floor) / self.floor) / math.log(self.top / self.floor)
        return min(1.0, max(0.0, place))


def scale(values: Iterable[float | None], decades: int = 5) -> Scale:
    """The scale on which the values can be told apart, at most `decades` below the largest.

    >>> scale([0.0, 0.03, 2.0])
    Scale(floor=0.004, top=2.0, digits=2)
    """
    positive = [v for v in values if v is not None and v > 0]
    if not positive:
        return Scale(0.4e-3, 1e-3, 3)
    top = max(positive)
    least = max(min(positive), top / 10**decades)
    digits = min(12, max(0, math.ceil(-math.log10(least) - 1e-12)))
    return Scale(float(f"4e{-1 - digits}"), top, digits)


def ranked(study: Row) -> list[Row]:
    """The outcomes, least regret first, of equal ones the quickest at the optimum; unknown ones last."""

    def place(outcome: Row) -> tuple[float, float]:
        regret, steps = outcome["regret"], outcome["steps_to_optimum"]
        return (math.inf if regret is None else regret, math.inf if steps is None else steps)

    return sorted(study["outcomes"], key=place)


def differences(study: Row) -> dict[tuple[str, str], Difference]:
    """Every measured pair in both orders. An interval without ends goes to infinity on both sides."""
    found = {}
    for row in study["comparisons"]:
        low, high = row["low"], row["high"]
        if low is None and high is None:
            low, high = -math.inf, math.inf
        if None not in (row["difference"], low, high, row["wins"]):
            difference = Difference(
                row["difference"], low, high, row["wins"], row["verdict"], row["verdict_holm"]
            )
            found[row["first"], row["second"]] = difference
            found[row["second"], row["first"]] = difference.turned()
    return found


def level_with(
    name: str, others: Iterable[str], pairs: Mapping[tuple[str, str], Difference]
) -> tuple[str, ...]:
    """Those of the others that cannot be told from `name`, all pairs considered, or were not compared."""
    return tuple(
        other
        for other in others
        if other != name and ((name, other) not in pairs or pairs[name, other].corrected == "undecided")
    )


def estimator_points(rows: Sequence[Row]) -> list[str]:
    """The names of the logits at which estimators were measured, in order."""
    return list(dict.fromkeys(row["point"] for row in rows))


def main_point(rows: Sequence[Row]) -> str:
    """The logits that the verdict is about: "leaning" where there are such."""
    names = estimator_points(rows)
    return PREFERRED_POINT if PREFERRED_POINT in names else names[len(names) // 2]


def estimators_at(rows: Sequence[Row], point: str) -> list[Row]:
    """The estimators at these logits, least mean squared error first, unknown ones last."""
    here = [row for row in rows if row["point"] == point]
    return sorted(here, key=lambda r: math.inf if r["mse"] is None else r["mse"])


def split_schedule(outcome: Row) -> tuple[str, str]:
    """(sampler, schedule) of a contender, from its name and, where that names no schedule, its settings.

    >>> split_schedule({"name": "reinmax · linear:10:0.1"})
    ('reinmax', 'linear:10:0.1')
    >>> settings = {"temperature": {"schedule": "linear", "start": 10.0, "end": 0.1}}
    >>> split_schedule({"name": "reinmax", "settings": settings})
    ('reinmax', 'linear:10:0.1')
    """
    sampler, dot, last = outcome["name"].rpartition(" · ")
    if dot and last.partition(":")[0] in SCHEDULES:
        return sampler, last
    temperature = outcome.get("settings", {}).get("temperature", {})
    numbers = [temperature[key] for key in ("start", "end") if temperature.get(key) is not None]
    if "schedule" not in temperature:
        return outcome["name"], "no temperature"
    return outcome["name"], ":".join([temperature["schedule"], *(f"{n:g}" for n in numbers)])


def schedules_by_sampler(study: Row) -> dict[str, list[ScheduleRow]]:
    """The schedules of each sampler in their order."""
    pairs = differences(study)
    grouped: dict[str, list[tuple[str, Row]]] = {}
    for outcome in study["outcomes"]:
        sampler, schedule = split_schedule(outcome)
        grouped.setdefault(sampler, []).append((schedule, outcome))
    rows = {}
    for sampler, members in grouped.items():
        best = ranked({"outcomes": [outcome for _, outcome in members]})[0]["name"]
        level = level_with(best, [outcome["name"] for _, outcome in members], pairs)
        rows[sampler] = [
            ScheduleRow(schedule, outcome, outcome["name"] == best, outcome["name"] in level)
            for schedule, outcome in members
        ]
    return rows


def best_schedules(study: Row, count: int) -> list[str]:
    """Names of `count` contenders: the best of every sampler, least regret first, then the next best."""
    order = [outcome["name"] for outcome in ranked(study)]
    best = {row.outcome["name"] for rows in schedules_by_sampler(study).values() for row in rows if row.best}
    chosen = ([n for n in order if n in best] + [n for n in order if n not in best])[:count]
    return [name for name in order if name in chosen]


def common_settings(outcomes: Sequence[Row]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """What all contenders have in common, and for each by name what is its own; keys as ``section.key``."""
    flat = {o["name"]: dict(_flat(o["settings"])) for o in outcomes if "settings" in o}
    if not flat:
        return {}, {}
    first, *others = flat.values()
    missing = object()
    common = {k: v for k, v in first.items() if all(o.get(k, missing) == v for o in others)}
    own = {name: {k: v for k, v in row.items() if k not in common} for name, row in flat.items()}
    return common, own


def _flat(settings: Row, prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
