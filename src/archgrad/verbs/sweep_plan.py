"""What a sweep over networks is to do: read, resolved and refused before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archgrad.budgets.budget import Budget, Range, as_setting, parse_all
from archgrad.budgets.repair import check_possible
from archgrad.budgets.within import table_of
from archgrad.choice import Group
from archgrad.config import Config
from archgrad.config_layers import dotted, merge
from archgrad.config_problems import check
from archgrad.costs.cost_table import CostTable
from archgrad.datasets.images import ImageData
from archgrad.datasets.text import TextData
from archgrad.errors import UserError
from archgrad.parts import Parts, data_size, differences, load_any_data
from archgrad.runs import Run
from archgrad.settings import resolve
from archgrad.spaces import SPACES
from archgrad.spaces.space import as_space

FILE = "sweep.json"
POINTS, CONTROLS = 4, 2
"""Where nothing else is said: limits, and random architectures at each."""


class Point:
    """A limit: its budget, and all budgets of its search, that one first."""

    def __init__(self, name: str, limit: Budget, *others: Budget) -> None:
        self.name, self.limit, self.budgets = name, limit, (limit, *others)


@dataclass(frozen=True)
class Plan:
    """Everything that is known before the first step.

    asked: what was given: `budgets`, `points`, `controls`, `inherit`, `settings`.
    given: the configuration of every search, but for the limit.
    parts: of that configuration. groups: of its supernet.
    tables: of the range's cost and of those that hold at every point.
    scaled: why there are no scaled networks, or None.
    """

    asked: Mapping[str, Any]
    given: Mapping[str, Any]
    parts: Parts
    groups: tuple[Group, ...]
    points: tuple[Point, ...]
    tables: tuple[CostTable, ...]
    scaled: str | None

    @classmethod
    def of(cls, asked: Mapping[str, Any], data: ImageData | None) -> Plan:
        """Read the budgets, resolve the configuration, and refuse what cannot be.

        Args:
            asked: see the class.
            data: images given in Python, else None.

        Raises:
            UserError: see `sweep_networks`.
        """
        span, fixed = _budgets(asked["budgets"], asked["settings"].get("budget", {}))
        if asked["controls"] < 0:
            raise UserError(f"controls is a number of networks, at least 0; got {asked['controls']}")
        points = tuple(
            Point(f"point-{i}", *(_as_written(b) for b in (limit, *parse_all(fixed))))
            for i, limit in enumerate(span.limits(asked["points"]))
        )
        given = merge({k: v for k, v in asked["settings"].items() if k != "budget"}, as_budgets(fixed))
        first = check(merge(given, as_budgets(dict(b.written() for b in points[0].budgets))))
        if first.stages:
            raise UserError(
                f"method {first.method!r}: a search in stages has no warm-up that others could share; give "
                "another method, or search limit by limit"
            )
        images = data or load_any_data(first)
        size = data_size(images, first)
        config = resolve(given, size).config
        if not config.search.warmup_epochs:
            if "search.warmup_epochs" in dotted(given):
                raise UserError(
                    "search.warmup_epochs: the searches of a sweep share their warm-up; give 1 or more"
                )
            given = merge(given, {"search": {"warmup_epochs": max(1, config.search.epochs // 4)}})
        if asked["inherit"]:
            if own := [key for key in dotted(given) if key.startswith("train.space.")]:
                raise UserError(
                    f"{', '.join(own)}: with --inherit the networks are as large as in the supernet; set "
                    "space.channels and the like, or leave --inherit out"
                )
            given = merge(given, _size_of_search(config))
        config = resolve(given, size).config
        assert not isinstance(images, TextData)
        parts = Parts.of(config, images)
        groups, space = parts.supernet().groups, config.train.space
        tables = tuple(
            table_of(b, config.space.name, parts.searched, images.shape, parts.classes, space)
            for b in points[0].budgets
        )
        for point in points:
            check_possible(groups, config.derive.rule, point.budgets, tables)
        scaled = _no_scaled(asked, parts, points[0].budgets)
        return cls(asked, given, parts, groups, points, tables, scaled)

    @property
    def config(self) -> Config:
        """Of every search, but for the limit."""
        return self.parts.config

    def channels(self) -> int:
        """The width of the networks that are trained: their setting `channels`, or its default."""
        default = self.parts.space.settings()["channels"].default
        return int(self.config.train.space.get("channels", default))


def read_plan(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(plan, limits that are finished) of a sweep that was begun."""
    if not (folder / FILE).is_file():
        raise UserError(f"{folder} holds no sweep to go on with; begin one without --resume")
    run = Run(folder)
    document = run.read_json(FILE)
    with run.reading(FILE):
        return dict(document["plan"]), list(document["limits"])


def check_same(plan: Mapping[str, Any], asked: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """What is given on resuming is what the sweep began with."""
    now = {key: value for key, value in asked.items() if value not in (None, [])}
    before = {key: plan[key] for key in now}
    changed = differences(before, now)
    if given:
        changed += differences(plan["settings"], merge(plan["settings"], given))
    if changed:
        raise UserError(
            "a sweep can only be resumed as it began; leave these out, or start a new one:\n"
            + "\n".join(f"  - {line.replace('the run has', 'the sweep has')}" for line in changed)
        )


def _budgets(texts: Sequence[str], held: Mapping[str, str]) -> tuple[Range, dict[str, str]]:
    """The range, and the budgets that hold at every point: cost -> value."""
    ranges = [text for text in texts if ".." in text.partition("@")[0]]
    if len(ranges) != 1:
        raise UserError(
            "a sweep goes through one range, e.g. --budget macs=1M..8M, and may be held to other budgets "
            f"besides; got {', '.join(map(repr, texts)) or 'none'}"
        )
    span = Range.parse(ranges[0])
    fixed = {**held, **as_setting(tuple(text for text in texts if text not in ranges))}
    if span.cost in fixed:
        raise UserError(
            f"two budgets for {span.cost!r}: {ranges[0]!r} and {fixed[span.cost]!r}; leave one out"
        )
    parse_all(fixed)
    return span, fixed


def _as_written(budget: Budget) -> Budget:
    """As the configuration of its search has it."""
    return Budget.parse("=".join(budget.written()))


def as_budgets(budgets: Mapping[str, str]) -> dict[str, Any]:
    """The section `budget`: cost -> value."""
    return {"budget": dict(budgets)} if budgets else {}


def _size_of_search(config: Config) -> dict[str, Any]:
    """Settings with which the networks that are trained are as large as those in the supernet."""
    known = as_space(SPACES[config.space.name]).settings()
    own = config.space.settings()
    others = {key: known[key].default for key in config.train.space if key not in own}
    return {"train": {"auxiliary_weight": 0.0, "space": {**others, **own}}}


def _no_scaled(asked: Mapping[str, Any], parts: Parts, budgets: Sequence[Budget]) -> str | None:
    """Why no network is scaled to the limits; None where it can be."""
    if not asked["controls"]:
        return "no controls were asked for"
    if asked["inherit"]:
        return "the supernet has no weights for networks of another width"
    if "channels" not in parts.space.settings():
        return f"the space {parts.config.space.name!r} has no setting 'channels'"
    if any(budget.table is not None for budget in budgets):
        return "a table of measured costs is of networks of one width"
    return None
