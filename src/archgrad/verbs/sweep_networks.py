"""A sweep over budgets with networks that are trained: one search a limit, all from one warm-up.

The folder holds a run folder a limit (``point-0``, …), that of the shared warm-up (``warm``) and of a search
without the range (``free``), and the results as ``sweep.json``, ``sweep.csv`` and ``sweep.svg``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archgrad.architecture import Architecture
from archgrad.atomic import write_text
from archgrad.budgets.budget import Budget, Range, as_setting, parse_all
from archgrad.budgets.controls import random_within, widest
from archgrad.budgets.repair import check_possible
from archgrad.budgets.within import checked, table_of
from archgrad.choice import Group
from archgrad.config import Config
from archgrad.config_layers import dotted, merge
from archgrad.config_problems import GIVEN, check
from archgrad.costs.cost_table import CostTable
from archgrad.datasets.images import ImageData
from archgrad.datasets.text import TextData
from archgrad.errors import Stopped, UserError
from archgrad.parts import Parts, data_size, differences, load_any_data
from archgrad.progress import Progress, Silent
from archgrad.runs import Run
from archgrad.settings import resolve
from archgrad.spaces import SPACES
from archgrad.spaces.space import as_space
from archgrad.verbs.contents import read_architecture
from archgrad.verbs.derive import derive_run
from archgrad.verbs.search import search_run
from archgrad.verbs.sweep_results import csv_table, figure, summarised
from archgrad.verbs.train import Beside, train_run

FILE = "sweep.json"
POINTS, CONTROLS = 4, 2
"""Where nothing else is said: limits, and random architectures at each."""


def sweep_networks(
    budgets: Sequence[str],
    folder: Path | str,
    settings: Mapping[str, Any] | None = None,
    *,
    points: int | None = None,
    controls: int | None = None,
    inherit: bool | None = None,
    data: ImageData | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Search, derive and train a network under each limit of a range, beside controls.

    All networks are trained alike, on the images that train the supernet's weights; ``valid_accuracy`` is of
    the images that drove the architecture, to choose by, ``test_accuracy`` of the test part. The controls at
    a limit are random architectures within it, and what a search without the range found, with so many
    channels that it meets it.

    Args:
        budgets: a range, e.g. ``macs=1M..8M`` or targets ``macs=1M..8M±5%``; any others hold at every point.
        folder: of the sweep, new unless `resume`.
        settings: configuration keys (nested), as of a search. Of ``search.warmup_epochs`` the warm-up is
            made; a quarter of the epochs where the configuration has none.
        points: limits, each the same factor above the one before (default 4).
        controls: random architectures at each limit (default 2); with 0 there is no scaled network either.
        inherit: train the networks at the size of the search, from the supernet's weights.
        data: images to use instead of what ``data.name`` names.
        resume: go on; what is not given is as it was.
        progress: where to show it.

    Returns:
        the content of ``sweep.json``.

    Raises:
        UserError: a range that is none; a limit that no architecture meets, before anything is trained;
            anything wrong with the settings, the data or the folder.
        WorkError: a search or a training diverged.
        Stopped: Ctrl-C or SIGTERM; what was done is saved.
    """
    folder, progress = Path(folder), progress or Silent()
    given = merge(settings or {})
    if data is not None:
        given = merge(given, {"data": {"name": f"{GIVEN}{data.name}"}})
    asked = {"budgets": list(budgets), "points": points, "controls": controls, "inherit": inherit}
    kept: list[dict[str, Any]] = []
    if resume:
        plan, kept = _read(folder)
        _check_same(plan, asked, given)
    else:
        defaults = {"points": POINTS, "controls": CONTROLS, "inherit": False}
        plan = {
            **asked,
            **{key: value for key, value in defaults.items() if asked[key] is None},
            "settings": given,
        }
        if (folder / FILE).exists():
            raise UserError(
                f"{folder} already holds a sweep: go on with --resume, or choose another --run folder"
            )
        Run(folder).check_free()
    sweep = _Sweep.prepared(plan, folder, data, progress)
    try:
        return sweep.run(kept)
    except (Stopped, KeyboardInterrupt) as error:
        where = str(error).partition(";")[0] or "stopped"
        raise Stopped(f"{where}; go on with\n  archgrad sweep --run {folder} --resume") from None


def _read(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(plan, limits that are finished) of a sweep that was begun."""
    if not (folder / FILE).is_file():
        raise UserError(f"{folder} holds no sweep to go on with; begin one without --resume")
    run = Run(folder)
    document = run.read_json(FILE)
    with run.reading(FILE):
        return dict(document["plan"]), list(document["limits"])


def _check_same(plan: Mapping[str, Any], asked: Mapping[str, Any], given: Mapping[str, Any]) -> None:
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


class _Point:
    """A limit: its budget, and all budgets of its search, that one first."""

    def __init__(self, name: str, limit: Budget, *others: Budget) -> None:
        self.name, self.limit, self.budgets = name, limit, (limit, *others)


@dataclass(frozen=True)
class _Sweep:
    """Everything that is known before the first step.

    given: the configuration of every search, but for the limit. data: given in Python, else None.
    tables: of the range's cost and of those that hold at every point. scaled: why there are no scaled
        networks, or None.
    """

    plan: Mapping[str, Any]
    folder: Path
    given: Mapping[str, Any]
    data: ImageData | None
    parts: Parts
    groups: tuple[Group, ...]
    points: tuple[_Point, ...]
    tables: tuple[CostTable, ...]
    scaled: str | None
    progress: Progress

    @classmethod
    def prepared(
        cls, plan: Mapping[str, Any], folder: Path, data: ImageData | None, progress: Progress
    ) -> _Sweep:
        """Read the budgets, resolve the configuration, and refuse what cannot be.

        Raises:
            UserError: see `sweep_networks`.
        """
        span, fixed = _budgets(plan["budgets"], plan["settings"].get("budget", {}))
        if plan["controls"] < 0:
            raise UserError(f"controls is a number of networks, at least 0; got {plan['controls']}")
        points = tuple(
            _Point(f"point-{i}", *(_as_written(b) for b in (limit, *parse_all(fixed))))
            for i, limit in enumerate(span.limits(plan["points"]))
        )
        given = merge({k: v for k, v in plan["settings"].items() if k != "budget"}, _setting(fixed))
        first = check(merge(given, _setting(dict(b.written() for b in points[0].budgets))))
        images = data or load_any_data(first)
        size = data_size(images, first)
        config = resolve(given, size).config
        if not config.search.warmup_epochs:
            if "search.warmup_epochs" in dotted(given):
                raise UserError(
                    "search.warmup_epochs: the searches of a sweep share their warm-up; give 1 or more"
                )
            given = merge(given, {"search": {"warmup_epochs": max(1, config.search.epochs // 4)}})
        if plan["inherit"]:
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
            table_of(b, config.space.name, parts.space.builder, images.shape, parts.classes, space)
            for b in points[0].budgets
        )
        for point in points:
            check_possible(groups, config.derive.rule, point.budgets, tables)
        scaled = _no_scaled(plan, parts, points[0].budgets)
        return cls(plan, folder, given, data, parts, groups, points, tables, scaled, progress)

    @property
    def config(self) -> Config:
        """Of every search, but for the limit."""
        return self.parts.config

    def run(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Everything that is not done yet; `rows` are those of the limits that are."""
        document = self.write(rows)
        if len(rows) == len(self.points):
            return document
        self.search("warm", (), warm_up_only=True)
        base = None
        if self.scaled is None:
            self.progress.say("search without the range, for the scaled networks")
            self.search("free", self.points[0].budgets[1:])
            base = self.derived("free")
        for index, point in enumerate(self.points[len(rows) :], start=len(rows)):
            self.progress.say(f"point {index + 1} of {len(self.points)}: {point.limit}")
            self.search(point.name, point.budgets)
            self.derived(point.name)
            rows = [*rows, self.trained(index, point, base)]
            document = self.write(rows)
        return document

    def write(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The files of the sweep, as far as it is."""
        config, span = self.config, self.points
        document = summarised(
            rows,
            {
                "plan": dict(self.plan),
                "cost": span[0].limit.cost,
                "unit": self.tables[0].unit,
                "data": config.data.name,
                "space": config.space.name,
                "method": config.method,
                "seed": config.seed,
                "epochs": {
                    "warm": config.search.warmup_epochs,
                    "search": config.search.epochs,
                    "train": config.train.epochs,
                },
                "scaled_left_out": self.scaled,
            },
            span[0].limit,
            span[-1].limit,
            finished=len(rows) == len(span),
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.folder / FILE, json.dumps(document, indent=2, ensure_ascii=False) + "\n")
        if rows:
            write_text(self.folder / "sweep.csv", csv_table(document))
            write_text(self.folder / "sweep.svg", figure(document))
        return document

    def search(self, name: str, budgets: Sequence[Budget], warm_up_only: bool = False) -> None:
        """The search in the run folder `name`, unless it is finished."""
        run = Run(self.folder / name)
        if run.exists("logits.safetensors") or (
            warm_up_only and any(Run(self.folder / p.name).exists("logits.safetensors") for p in self.points)
        ):
            return
        begun = run.exists("config.yaml")
        settings = merge(
            {k: v for k, v in self.given.items() if k != "budget"},
            _setting(dict(b.written() for b in budgets)),
        )
        search_run(
            {} if begun else settings,
            run.folder,
            data=self.data,
            loaded=self.parts.data,
            resume=begun,
            progress=self.progress,
            warm_up_only=warm_up_only,
            warm=None if warm_up_only else self.folder / "warm",
        )

    def derived(self, name: str) -> Architecture:
        """What the search in `name` derives."""
        run = Run(self.folder / name)
        if not run.exists("derivation.json"):
            derive_run(run.folder)
        return read_architecture(run)

    def trained(self, index: int, point: _Point, base: Architecture | None) -> dict[str, Any]:
        """The networks of a limit, trained: its row in ``sweep.json``."""
        config, run = self.config, Run(self.folder / point.name)
        beside, repaired = [], dict[str, bool]()
        for number in range(self.plan["controls"]):
            drawn = random_within(
                self.groups,
                config.derive.rule,
                point.budgets,
                self.tables,
                self.parts.streams,
                point.name,
                number,
            )
            beside.append(Beside(f"random-{number}", "random", drawn.architecture))
            repaired[f"random-{number}"] = drawn.repaired
        channels = None if base is None else self.width(point, base)
        if base is not None and channels is not None:
            beside.append(Beside("scaled", "scaled", base, {"channels": channels}))
        results = train_run(
            run.folder,
            data=self.parts.data,
            inherit=self.plan["inherit"],
            beside=beside,
            hold_out=True,
            progress=self.progress,
        )
        derivation, lines = run.read_json("derivation.json"), run.read_lines("metrics.jsonl")
        repair = derivation.get("repair")
        warm = config.search.warmup_epochs
        networks = []
        for result in (results.derived, *results.controls):
            name = result["name"]
            if name == "derived":
                values = [one["value"] for one in derivation["budgets"]]
            else:
                chosen = Architecture(result["architecture"])
                values = self.costs(point, chosen, result["settings"])
            met = all(b.met(v) for b, v in zip(point.budgets, values, strict=True))
            networks.append(
                {
                    "series": {"derived": "searched"}.get(name, result["kind"]),
                    "name": name,
                    "cost": values[0],
                    "met": met,
                    "channels": channels if name == "scaled" else None,
                    "repaired": repaired.get(name, bool(repair)) if name != "scaled" else False,
                    **{
                        key: result[key]
                        for key in ("parameters", "macs", "valid_accuracy", "test_accuracy", "seconds")
                    },
                }
            )
        return {
            "limit": str(point.limit),
            "least": point.limit.least,
            "most": point.limit.most,
            "run": point.name,
            "expected": lines[-1]["budgets"][point.limit.cost]["expected"],
            "changed": len(repair["changed"]) if repair else 0,
            "log_probability_lost": repair["log_probability_lost"] if repair else 0.0,
            "supernet_valid_accuracy": lines[-1]["valid_accuracy"],
            "search_seconds": sum(line["seconds"] for line in lines[warm:]),
            "networks": networks,
        }

    def costs(self, point: _Point, architecture: Architecture, settings: Mapping[str, Any]) -> list[float]:
        """Of every budget of a point what a network with other settings costs, counted by itself."""
        builder, shape, classes = self.parts.space.builder, self.parts.data.shape, self.parts.classes
        found = checked(architecture, point.budgets, self.tables, builder, shape, classes, settings)
        same = dict(settings) == dict(self.config.train.space)
        values = []
        for budget, one in zip(point.budgets, found, strict=True):
            value = one["value"]
            if not one["counted"] and not same:  # the table is of another size
                name = self.config.space.name
                value = table_of(budget, name, builder, shape, classes, settings).of(architecture)
            values.append(value)
        return values

    def width(self, point: _Point, base: Architecture) -> int | None:
        """With how many channels the architecture `base` meets the limit; None where it cannot."""
        space = self.config.train.space

        def costs(channels: int) -> list[float]:
            return self.costs(point, base, {**space, "channels": channels})

        return widest(costs, point.budgets, _channels(self.parts))


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


def _setting(budgets: Mapping[str, str]) -> dict[str, Any]:
    return {"budget": dict(budgets)} if budgets else {}


def _channels(parts: Parts) -> int:
    """The width of the networks that are trained: their setting `channels`, or its default."""
    return int(parts.config.train.space.get("channels", parts.space.settings()["channels"].default))


def _size_of_search(config: Config) -> dict[str, Any]:
    """Settings with which the networks that are trained are as large as those in the supernet."""
    known = as_space(SPACES[config.space.name]).settings()
    own = config.space.settings()
    others = {key: known[key].default for key in config.train.space if key not in own}
    return {"train": {"auxiliary_weight": 0.0, "space": {**others, **own}}}


def _no_scaled(plan: Mapping[str, Any], parts: Parts, budgets: Sequence[Budget]) -> str | None:
    """Why no network is scaled to the limits; None where it can be."""
    if not plan["controls"]:
        return "no controls were asked for"
    if plan["inherit"]:
        return "the supernet has no weights for networks of another width"
    if "channels" not in parts.space.settings():
        return f"the space {parts.config.space.name!r} has no setting 'channels'"
    if any(budget.table is not None for budget in budgets):
        return "a table of measured costs is of networks of one width"
    return None
