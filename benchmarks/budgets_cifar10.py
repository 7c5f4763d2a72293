"""Budgets on CIFAR-10: what searches in the DARTS space derive, for targets of MACs and of parameters, ±5 %.

3,000 images at 16×16; the supernet has 3 cells of 4 channels, the derived network 8 cells of 16. All searches
begin from one warm-up. Every derived network is built and counted by itself (`count_network`), apart from the
tables that the search held. A row says what was expected at the end of the search, what was held (the same
under sharpened probabilities), what the rule alone would have derived, what was derived, and how many of 28
choices the repair changed. The last search has no budget.

    ARCHGRAD_DATA=… python benchmarks/budgets_cifar10.py [--method gdas] [search.epochs=12 …]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from record import record

from archgrad.budgets.budget import parse_all
from archgrad.budgets.repair import limits
from archgrad.config_layers import merge, overrides
from archgrad.costs.cost_table import cost_table
from archgrad.costs.network_counts import count_network
from archgrad.datasets.images import ImageData, MemoryImages
from archgrad.datasets.loading import load
from archgrad.runs import Run
from archgrad.spaces import SPACES
from archgrad.verbs import derive_run, search_run
from archgrad.verbs.contents import read_groups

BUDGETS: tuple[dict[str, str], ...] = (
    {"macs": "7M±5%"},
    {"macs": "11M±5%"},
    {"macs": "16M±5%"},
    {"parameters": "150k±5%"},
    {"parameters": "250k±5%"},
    {"parameters": "380k±5%"},
    {"macs": "8M±5%", "parameters": "170k±5%"},
    {"macs": "12M±5%", "parameters": "250k±5%"},
    {"macs": "15M±5%", "parameters": "350k±5%"},
    {},
)
IMAGES, SIDE = 3000, 16
SETTINGS: dict[str, Any] = {
    "space": {"name": "darts", "channels": 4, "cells": 3},
    "train": {"space": {"channels": 16, "cells": 8}},
    "search": {"epochs": 12, "warmup_epochs": 3, "batch_size": 64},
    "device": {"name": "cpu", "threads": 1},
}


def few_images() -> ImageData:
    """The first images of CIFAR-10, as many of the test part as are kept of a tenth of them."""
    data = load("cifar10", None, SIDE)
    parts = [
        MemoryImages(part.fetch(torch.arange(count)), part.labels[:count])
        for part, count in ((data.train, IMAGES), (data.test, IMAGES // 10))
        if part is not None
    ]
    return ImageData(f"cifar10, {IMAGES} images of {SIDE}×{SIDE}", parts[0], parts[1], data.classes, "")


def row(run: Run, budgets: dict[str, str], shape: tuple[int, int, int]) -> dict[str, Any]:
    """Derive, and count what was derived by itself."""
    before = run.read_lines("metrics.jsonl")[-1]
    derivation = derive_run(run.folder)
    settings = run.read_config()["train"]["space"]
    counts = count_network(SPACES["darts"].builder, derivation.architecture, shape, 10, settings)
    counted = {"macs": counts.macs, "parameters": counts.parameters_without_auxiliary}
    repair, found = derivation.repair, {}
    for budget in parse_all(budgets):
        found[budget.cost] = {
            "target": budget.target,
            "expected": before["budgets"][budget.cost]["expected"],
            "held": before["budgets"][budget.cost]["held"],
            "by_the_rule": repair["costs_before"][budget.cost] if repair else counted[budget.cost],
            "derived": counted[budget.cost],
            "off": counted[budget.cost] / budget.target - 1,
            "met": budget.met(counted[budget.cost]),
        }
    return {
        "budget": budgets,
        "costs": found,
        **counted,
        "changed": len(repair["changed"]) if repair else 0,
        "log_probability_lost": repair["log_probability_lost"] if repair else 0.0,
        "valid_accuracy": before["valid_accuracy"],
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--method", default="gdas")
    parser.add_argument("--name", default="budgets_cifar10", help="of the result")
    parser.add_argument("settings", nargs="*")
    given = parser.parse_args()
    began, began_processor = time.perf_counter(), time.process_time()
    data = few_images()
    settings = merge(SETTINGS, {"method": given.method}, overrides(given.settings))
    bounds: dict[str, tuple[float, float]] = {}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        warm = search_run(settings, Path(folder) / "warm", data=data, warm_up_only=True)
        config = warm.read_config()
        for name in ("macs", "parameters"):
            table = cost_table(name, SPACES["darts"].builder, data.shape, 10, config["train"]["space"])
            bounds[name] = limits(read_groups(warm), config["derive"]["rule"], table)
        print(bounds, flush=True)
        for number, budgets in enumerate(BUDGETS):
            run = search_run(
                merge(settings, {"budget": budgets} if budgets else {}),
                Path(folder) / f"run-{number}",
                data=data,
                warm=warm.folder,
            )
            rows.append(row(run, budgets, data.shape))
            print(rows[-1], flush=True)
    record(
        given.name,
        {
            "method": given.method,
            "images": IMAGES,
            "side": SIDE,
            "settings": config,
            "cheapest_and_dearest": bounds,
            "seconds": time.perf_counter() - began,
            "processor_seconds": time.process_time() - began_processor,
            "all_met": all(one["met"] for r in rows for one in r["costs"].values()),
            "rows": rows,
        },
    )


if __name__ == "__main__":
    main()
