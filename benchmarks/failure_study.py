"""A known failure and its cures, scored by the true accuracy of the derived cell (NAS-Bench-201, CIFAR-10).

DARTS on the supernet of NAS-Bench-201 drifts to skip connections (Dong & Yang 2020, arXiv 2001.00326, table
5: 54.3 % on CIFAR-10). The cures: ending at the epoch before the loss becomes sharp (λ_max), raising the
weight decay instead, ending at two skip connections, a part of the channels, drawing with Gumbel noise at an
exponential temperature, one candidate at a time, a Dirichlet distribution, and deciding by perturbation. And
random search of equal budget. By default at a size for two processor cores: 8 channels, one cell a stage,
16×16 pixels, 10,000 images. Needs CIFAR-10 (ARCHGRAD_DATA).

    python benchmarks/failure_study.py                       # small: hours on two cores
    python benchmarks/failure_study.py --full --jobs 8       # the published size: for a GPU
    python benchmarks/failure_study.py --arms darts,lambda-max --seeds 5

Stopped, it goes on where it was when it is started again with the same --out.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from record import record

from archgrad.architecture import Architecture
from archgrad.atomic import write_text
from archgrad.datasets.loading import load
from archgrad.experiment.figures import DASHES, ON_PAPER, curves_svg
from archgrad.experiment.measures import TRUTH
from archgrad.experiment.plan import CONTROL, Plan
from archgrad.experiment.points import band
from archgrad.experiment.sentences import text
from archgrad.lab.figures import CURVES
from archgrad.landscapes.nasbench201 import NASBench201
from archgrad.progress import for_this_terminal
from archgrad.randomness import Streams
from archgrad.runs import Run
from archgrad.verbs.experiment import experiment_run

GUMBEL = (
    "sampler.name=gumbel_softmax,temperature.schedule=exponential,temperature.start=10,temperature.end=0.1"
)
ARMS = {
    "darts": "darts=darts(diagnostics.sharpness=1)",
    "lambda-max": "lambda-max=darts-es",
    "lambda-max-decay": "lambda-max-decay=darts-ada",
    "two-skips": "two-skips=darts-plus(diagnostics.sharpness=1)",
    "partial-channels": "partial-channels=darts(space.partial_channels=4,space.edge_normalisation=true,"
    "diagnostics.sharpness=1)",
    "gumbel-exponential": f"gumbel-exponential=darts({GUMBEL},diagnostics.sharpness=1)",
    "gdas": "gdas=gdas(temperature.schedule=exponential)",
    "dirichlet": "dirichlet=drnas",
    "perturbation": "perturbation=darts-pt(selection.tune_epochs={tune})",
}
IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
FOLLOWED = ("true_accuracy", "skips", "largest")


def settings(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """What all arms have in common."""
    common: dict[str, Any] = {
        "data": {"name": "cifar10"},
        "space": {"name": "nasbench201"},
        "search": {"epochs": asked.epochs, "batch_size": asked.batch, "warmup_epochs": 0},
        "device": {"name": asked.device},
    }
    if asked.full:
        common["data"]["validation"] = 0.5
        return common
    common["data"] |= {"resize": 16, "split_file": str(split_file(folder, asked.images))}
    common["space"] |= {"channels": 8, "cells": 1}
    common["device"]["threads"] = 1
    return common


def split_file(folder: Path, images: int) -> Path:
    """Half of so many images for the weights, half for the architecture; the same for all seeds."""
    file = folder.parent / f"cifar10-{images}.npz"
    if not file.exists():
        count = len(load("cifar10").train)
        drawn = np.random.default_rng(Streams(0).seed_of("failure study")).permutation(count)[:images]
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, train=np.sort(drawn[: images // 2]), valid=np.sort(drawn[images // 2 :]))
    return file


def followed(run: Run) -> dict[str, list[float]]:
    """By epoch: true accuracy and skips of the cell that would be derived; λ_max where it was measured."""
    table, found = NASBench201.open(), {name: [] for name in FOLLOWED}
    for line in run.read_lines("metrics.jsonl"):
        cell = Architecture(line["architecture"])
        found["true_accuracy"].append(table.value(TRUTH, cell) / 100)
        found["skips"].append(sum(op == "skip_connect" for op in cell.values()) / len(cell))
        largest = line.get("diagnostics", {}).get("sharpness", {}).get("largest")
        found["largest"].append(float("nan") if largest is None else largest)
    return found


def first_alarms(run: Run) -> dict[str, int]:
    """Alarm -> the epoch, counted from 1, at which it first rang."""
    first: dict[str, int] = {}
    for line in run.read_lines("metrics.jsonl"):
        for name in line.get("alarms") or {}:
            first.setdefault(name, line["epoch"] + 1)
    return first


def on_the_way(
    folder: Path, document: Mapping[str, Any]
) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
    """Curves by arm, and what there is to know of every run that the table of the experiment has not."""
    curves, runs = {}, []
    for arm in document["arms"]:
        if arm["control"]:
            continue
        each = []
        for row in document["runs"]:
            if row["arm"] == arm["name"] and row["status"] == "done":
                run = Run.open(folder / "runs" / arm["slug"] / f"seed-{row['seed']}")
                each.append(followed(run))
                runs.append(
                    {
                        "arm": row["arm"],
                        "seed": row["seed"],
                        "cell": Architecture.from_json(
                            run.path("architecture.json").read_text()
                        ).to_nasbench201(),
                        "best_on_the_way": max(each[-1]["true_accuracy"]),
                        "first_alarms": first_alarms(run),
                        "epochs": len(each[-1]["skips"]),
                    }
                )
        if each:
            curves[arm["name"]] = curve(each)
    return curves, runs


def curve(runs: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, Any]:
    """Mean and quartiles over the runs by epoch; a run that ended early is left out from there on."""
    length = max(len(run["skips"]) for run in runs)
    found: dict[str, Any] = {"at": list(range(1, length + 1))}
    for name in FOLLOWED:
        table = np.full((length, len(runs)), np.nan)
        for s, run in enumerate(runs):
            table[: len(run[name]), s] = run[name]
        found[name] = band(table)
    return found


def pictures(curves: Mapping[str, Mapping[str, Any]]) -> None:
    """docs/images/failure-study-*.svg."""
    colours = {}
    for i, name in enumerate(curves):
        colour = CURVES[i % len(CURVES)].light
        channels = ",".join(str(int(colour[k : k + 2], 16)) for k in (1, 3, 5))
        colours[name] = colour, f"rgba({channels},0.1)", DASHES[i // len(CURVES)]
    for name, form in (("true_accuracy", ".0%"), ("skips", ".0%"), ("largest", ".2g")):
        picture = curves_svg(curves, name, colours, form, "epoch", ON_PAPER)
        if picture is not None:
            write_text(IMAGES / f"failure-study-{name.replace('_', '-')}.svg", picture + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="16 channels, 5 cells a stage, all of CIFAR-10")
    parser.add_argument("--arms", default=",".join(ARMS), help="some of: " + ", ".join(ARMS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="of a search; default 30, 50 with --full")
    parser.add_argument("--images", type=int, default=10_000, help="without --full")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--name", help="of the result; default failure_study, failure_study_full")
    asked = parser.parse_args()
    asked.epochs = asked.epochs or (50 if asked.full else 30)
    name = asked.name or ("failure_study_full" if asked.full else "failure_study")
    folder = asked.out or Path("runs") / name
    tune = 5 if asked.full else 2
    plan = Plan(
        methods=[ARMS[arm].format(tune=tune) for arm in asked.arms.split(",")],
        seeds=asked.seeds,
        settings=settings(asked, folder),
        within=0.02,
    )
    document = experiment_run(plan, folder, jobs=asked.jobs, progress=for_this_terminal())
    print(text(document))
    curves, runs = on_the_way(folder, document)
    pictures({k: v for k, v in curves.items() if k != CONTROL})
    kept = {key: document[key] for key in ("score", "definitions", "notes", "runs", "comparisons", "ranks")}
    sizes = {key: value for key, value in plan.settings.items() if key != "device"}
    sizes["data"] = {key: value for key, value in sizes["data"].items() if key != "split_file"}
    record(
        name,
        {
            "size": "full" if asked.full else "small",
            "images": None if asked.full else asked.images,
            "settings": sizes,
            "methods": list(plan.methods),
            "arms": [{k: v for k, v in arm.items() if k != "settings"} for arm in document["arms"]],
            "found": runs,
            "curves": curves,
            **kept,
        },
    )


if __name__ == "__main__":
    main()
