"""Is a latency target met by the network as it runs? Searched under it, derived, exported, measured whole.

For each space the candidates are measured through ONNX Runtime (one thread, batches of one image), then
random networks whole, by which the table is corrected. Three targets, quantiles of random networks by the
table, ±5 %; each derived network is exported to ONNX and measured whole with the same clock.

Timed is the processor's time of the one thread, so that what else runs on the machine counts only as far as
it takes caches and memory from it. That can be a quarter of a network's time, and nothing of a small
piece's: so three networks that the table was corrected by are timed again beside the derived one, in turns.
Searched are few epochs on 4,000 images of CIFAR-10: what is asked is whether the budget is kept, not what
accuracy it costs. Wants $ARCHGRAD_DATA; about half an hour on two cores.

    python benchmarks/latency_target.py [--networks 24] [--case nasbench201]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from record import record

from archgrad.budgets.repair import limits
from archgrad.datasets.images import ImageData, MemoryImages
from archgrad.datasets.loading import load
from archgrad.derive import random_derivation
from archgrad.latency.candidates import Target
from archgrad.latency.report import latency_document, latency_text
from archgrad.latency.table import LatencyTable
from archgrad.progress import for_this_terminal
from archgrad.randomness import Streams
from archgrad.spaces import SPACES
from archgrad.spaces.space import as_space
from archgrad.verbs import derive_run, search_run
from archgrad.verbs.latency import How, measure_latency
from archgrad.verbs.latency_whole import derived_text, measure_derived

CASES: dict[str, dict[str, Any]] = {
    "nasbench201": {
        "space": {"channels": 4, "cells": 1},
        "train": {"channels": 16, "cells": 1},
    },
    "darts": {
        "space": {"channels": 4, "cells": 3},
        "train": {"channels": 8, "cells": 5, "auxiliary": False},
    },
}
QUANTILES, TOLERANCE = (0.2, 0.5, 0.8), 0.05
"""Targets: quantiles of random networks by the table. And how far the table may be off them. (A share of the
way from the cheapest to the dearest can be where no network is: a 3×3 convolution is a step of a fifth.)"""
DRAWN = 400
IMAGES = 4_000
WITHIN = 0.15
"""What is to be shown: the measured network is so near its target, at the speed that the machine had when the
table was measured (by three networks that are measured both times; without them, see `off_target`)."""


def images() -> ImageData:
    """The first images of CIFAR-10."""
    whole = load("cifar10")
    assert isinstance(whole.train, MemoryImages)
    train = MemoryImages(whole.train.pixels[:IMAGES], whole.train.labels[:IMAGES])
    return ImageData("cifar10 in part", train, whole.test, whole.classes, "", mirror=True)


def targets(space: str, table: LatencyTable) -> tuple[tuple[float, float], list[float]]:
    """By the table: (cheapest and dearest that the rule can derive, quantiles of random networks)."""
    groups, rule, cost = table.pieces.groups, as_space(SPACES[space]).rule, table.cost_table()
    streams = Streams(0)
    drawn = sorted(
        cost.of(random_derivation(groups, rule, streams, "targets", i).architecture) for i in range(DRAWN)
    )
    return limits(groups, rule, cost), [drawn[int(q * DRAWN)] for q in QUANTILES]


def one(
    space: str, target_ms: float, table: LatencyTable, data: ImageData, epochs: int, folder: Path
) -> dict[str, Any]:
    """Search, derive and measure under one target."""
    settings = {
        "method": "gdas",
        "space": {"name": space, **CASES[space]["space"]},
        "train": {"space": CASES[space]["train"]},
        "search": {"epochs": epochs, "warmup_epochs": 1},
        "budget": {"latency": f"{target_ms:.6g}ms±{TOLERANCE:.0%}@{table.source}"},
        "device": {"name": "cpu", "threads": 1},
    }
    run = search_run(settings, folder, data=data, progress=for_this_terminal())
    derivation = derive_run(run.folder)
    assert derivation.budgets is not None
    (check,), repair = derivation.budgets, derivation.repair
    measured = measure_derived(run.folder, progress=for_this_terminal())
    print(derived_text(measured), flush=True)
    (compared,) = measured["comparisons"]
    by_pieces = table.cost_table("sum").of(derivation.architecture)
    return {
        "target_ms": target_ms,
        "expected_ms": run.read_lines("metrics.jsonl")[-1]["budgets"]["latency"]["expected"],
        "by_the_rule_ms": repair["costs_before"]["latency"] if repair else check["value"],
        "choices_changed": len(repair["changed"]) if repair else 0,
        "predicted_ms": check["value"],
        "sum_of_pieces_ms": by_pieces,
        "measured_ms": measured["measured_ms"],
        "quartiles_ms": [measured["lower_quartile"], measured["upper_quartile"]],
        "off_target": compared["off_target"],
        "off_prediction": compared["off_prediction"],
        "off_sum_of_pieces": measured["measured_ms"] / by_pieces - 1,
        "reference_change": compared["reference_change"],
        "references": compared["references"],
        "then_ms": compared["then_ms"],
        "then_off_target": compared["then_off_target"],
        "within": abs(compared["then_off_target"]) <= WITHIN,
        "architecture": dict(derivation.architecture),
    }


def case(space: str, networks: int, rounds: int, epochs: int, data: ImageData) -> dict[str, Any]:
    """A table, and three targets by it."""
    target = Target.of(space, data.shape, len(data.classes), CASES[space]["train"])
    how = How("onnxruntime", clock="processor", rounds=rounds)
    with tempfile.TemporaryDirectory() as name:
        table = measure_latency(
            target, Path(name) / "table.json", how, validate=networks, progress=for_this_terminal()
        )
        document = latency_document(table)
        print(f"== {space}\n{latency_text(document)}\n", flush=True)
        bounds, wanted = targets(space, table)
        rows = [
            one(space, target_ms, table, data, epochs, Path(name) / f"run-{i}")
            for i, target_ms in enumerate(wanted)
        ]
    kept = ("pieces", "model", "rounds", "validation", "backend", "device", "clock")
    return {
        "settings": CASES[space],
        "bounds_ms": list(bounds),
        **{key: document[key] for key in kept},
        "targets": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", type=int, default=24, help="random networks measured whole")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--case", choices=CASES, help="this one, without a record")
    given = parser.parse_args()
    torch.set_num_threads(1)
    data, found = images(), {}
    for space in [given.case] if given.case else CASES:
        found[space] = case(space, given.networks, given.rounds, given.epochs, data)
        for row in found[space]["targets"]:
            print(
                f"{space}: target {row['target_ms']:.3f} ms, predicted {row['predicted_ms']:.3f}, measured "
                f"{row['measured_ms']:.3f} ({row['off_target']:+.1%}; {row['then_off_target']:+.1%} at the "
                "speed of the table)",
                flush=True,
            )
    if not given.case:
        record("latency_target", {"images": IMAGES, "epochs": given.epochs, "cases": found})


if __name__ == "__main__":
    main()
