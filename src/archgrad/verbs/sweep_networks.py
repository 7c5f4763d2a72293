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
from archgrad.budgets.budget import Budget
from archgrad.budgets.controls import random_within, widest
from archgrad.budgets.within import checked, table_of
from archgrad.config_layers import merge
from archgrad.config_problems import GIVEN
from archgrad.datasets.images import ImageData
from archgrad.errors import Stopped, UserError
from archgrad.progress import Progress, Silent
from archgrad.runs import Run
from archgrad.verbs.contents import read_architecture
from archgrad.verbs.derive import derive_run
from archgrad.verbs.search import search_run
from archgrad.verbs.sweep_plan import (
    CONTROLS,
    FILE,
    POINTS,
    Plan,
    Point,
    as_budgets,
    check_same,
    read_plan,
)
from archgrad.verbs.sweep_results import csv_table, figure, summarised
from archgrad.verbs.train import Beside, train_run


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
        plan, kept = read_plan(folder)
        check_same(plan, asked, given)
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
    sweep = _Sweep(Plan.of(plan, data), folder, data, progress)
    try:
        return sweep.run(kept)
    except (Stopped, KeyboardInterrupt) as error:
        where = str(error).partition(";")[0] or "stopped"
        raise Stopped(f"{where}; go on with\n  archgrad sweep --run {folder} --resume") from None


@dataclass(frozen=True)
class _Sweep:
    """The work of a plan.

    data: given in Python, else None.
    """

    plan: Plan
    folder: Path
    data: ImageData | None
    progress: Progress

    def run(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Everything that is not done yet; `rows` are those of the limits that are."""
        document = self.write(rows)
        if len(rows) == len(self.plan.points):
            return document
        self.search("warm", (), warm_up_only=True)
        base = None
        if self.plan.scaled is None:
            self.progress.say("search without the range, for the scaled networks")
            self.search("free", self.plan.points[0].budgets[1:])
            base = self.derived("free")
        for index, point in enumerate(self.plan.points[len(rows) :], start=len(rows)):
            self.progress.say(f"point {index + 1} of {len(self.plan.points)}: {point.limit}")
            self.search(point.name, point.budgets)
            self.derived(point.name)
            rows = [*rows, self.trained(index, point, base)]
            document = self.write(rows)
        return document

    def write(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The files of the sweep, as far as it is."""
        config, span = self.plan.config, self.plan.points
        document = summarised(
            rows,
            {
                "plan": dict(self.plan.asked),
                "cost": span[0].limit.cost,
                "unit": self.plan.tables[0].unit,
                "data": config.data.name,
                "space": config.space.name,
                "method": config.method,
                "seed": config.seed,
                "epochs": {
                    "warm": config.search.warmup_epochs,
                    "search": config.search.epochs,
                    "train": config.train.epochs,
                },
                "scaled_left_out": self.plan.scaled,
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
            warm_up_only
            and any(Run(self.folder / p.name).exists("logits.safetensors") for p in self.plan.points)
        ):
            return
        begun = run.exists("config.yaml")
        settings = merge(
            {k: v for k, v in self.plan.given.items() if k != "budget"},
            as_budgets(dict(b.written() for b in budgets)),
        )
        search_run(
            {} if begun else settings,
            run.folder,
            data=self.data,
            loaded=self.plan.parts.data,
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

    def trained(self, index: int, point: Point, base: Architecture | None) -> dict[str, Any]:
        """The networks of a limit, trained: its row in ``sweep.json``."""
        config, run = self.plan.config, Run(self.folder / point.name)
        beside, repaired = [], dict[str, bool]()
        for number in range(self.plan.asked["controls"]):
            drawn = random_within(
                self.plan.groups,
                config.derive.rule,
                point.budgets,
                self.plan.tables,
                self.plan.parts.streams,
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
            data=self.plan.parts.data,
            inherit=self.plan.asked["inherit"],
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

    def costs(self, point: Point, architecture: Architecture, settings: Mapping[str, Any]) -> list[float]:
        """Of every budget of a point what a network with other settings costs, counted by itself."""
        builder, shape, classes = (
            self.plan.parts.searched,
            self.plan.parts.data.shape,
            self.plan.parts.classes,
        )
        found = checked(architecture, point.budgets, self.plan.tables, builder, shape, classes, settings)
        same = dict(settings) == dict(self.plan.config.train.space)
        values = []
        for budget, one in zip(point.budgets, found, strict=True):
            value = one["value"]
            if not one["counted"] and not same:  # the table is of another size
                name = self.plan.config.space.name
                value = table_of(budget, name, builder, shape, classes, settings).of(architecture)
            values.append(value)
        return values

    def width(self, point: Point, base: Architecture) -> int | None:
        """With how many channels the architecture `base` meets the limit; None where it cannot."""
        space = self.plan.config.train.space

        def costs(channels: int) -> list[float]:
            return self.costs(point, base, {**space, "channels": channels})

        return widest(costs, point.budgets, self.plan.channels())
