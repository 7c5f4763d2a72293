"""How far each named strength of the cost penalty brings the cost down, in three spaces and on NAS-Bench-201.

Fall: (multiply-adds derived without a penalty − with it) / their standard deviation over random
architectures, the mean over seeds. "dearest" divides the cost by that of the dearest architecture, with 0.01,
0.05 and 0.2 nats; "spread" by its standard deviation, with the numbers of `STRENGTHS`. Networks: SNAS on the
digits, small supernets, the multiply-adds of the network that would be trained. Landscape: SNAS on all of
NAS-Bench-201 by accuracy after 12 epochs, whose loss is an error rate and not a cross-entropy.

    python benchmarks/cost_strengths.py [--seeds 3] [--epochs 12] [--numbers 0.01 0.1]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from record import record

from archgrad.lab.contenders import line_up
from archgrad.lab.convergence import beginnings
from archgrad.landscapes.cost import LandscapeCost, nasbench201_cost
from archgrad.landscapes.nasbench201 import landscape
from archgrad.landscapes.task import LandscapeTask
from archgrad.method_parts import architecture_optimizer, search_plan
from archgrad.parts import Parts, load_data
from archgrad.penalties.linear import Linear
from archgrad.penalties.penalty import STRENGTHS
from archgrad.randomness import Streams
from archgrad.runs import Run
from archgrad.search import search
from archgrad.search_state import SearchState
from archgrad.verbs import derive_run, search_run
from archgrad.verbs.contents import read_config

SPACES: dict[str, dict[str, Any]] = {
    "nasbench201": {"channels": 4, "cells": 1, "stages": 2},
    "reduced_darts": {"channels": 4, "cells": 3, "nodes": 1},
    "mobile": {
        "channels": 8,
        "reductions": 1,
        "stages": [[16, 1, 1], [24, 1, 2], [40, 2, 1]],
        "head": 64,
    },
}
OF_THE_DEAREST = {"mild": 0.01, "moderate": 0.05, "aggressive": 0.2}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--spaces", nargs="*", default=list(SPACES), choices=list(SPACES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--steps", type=int, default=300, help="on the landscape")
    parser.add_argument("--landscape-seeds", type=int, default=100)
    parser.add_argument("--numbers", type=float, nargs="*", help="print these instead, keep nothing")
    given = parser.parse_args()
    rows = [on_digits(space, given) for space in given.spaces] + [on_the_landscape(given)]
    if given.numbers is None:
        record("cost_strengths", {**vars(given), "strengths": STRENGTHS, "rows": rows})


def strengths(deviation: float, dearest: float, numbers: list[float] | None) -> dict[str, float]:
    """Label -> nats a standard deviation."""
    if numbers is not None:
        return {f"{number:g}": number for number in numbers}
    share = deviation / dearest
    return {f"dearest/{name}": number * share for name, number in OF_THE_DEAREST.items()} | {
        f"spread/{name}": number for name, number in STRENGTHS.items()
    }


def on_digits(space: str, given: argparse.Namespace) -> dict[str, Any]:
    """The row of a space of networks."""
    began = time.perf_counter()

    def searched(seed: int, strength: float, folder: Path) -> Run:
        sizes = SPACES[space]
        return search_run(
            {
                "method": "snas",
                "seed": seed,
                "data": {"name": "digits"},
                "space": {"name": space, **sizes},
                "train": {"space": sizes},
                "search": {"epochs": given.epochs, "warmup_epochs": given.epochs // 3, "batch_size": 32},
                "weights": {"learning_rate": 0.1},  # of small networks: the task loss has to say something
                "cost": {"name": "macs", "strength": strength},
                "device": {"name": "cpu", "threads": 1},
            },
            folder,
        )

    macs: dict[str, list[float]] = {}
    accuracy: dict[str, list[float]] = {}
    named: dict[str, float] = {}
    for seed in range(given.seeds):
        with tempfile.TemporaryDirectory() as folder:
            first = searched(seed, 0.0, Path(folder) / "none")
            config = read_config(first)
            table = Parts.of(config, load_data(config)).cost_table
            (mean, deviation), bounds = table.moments(), table.bounds()
            named = {"none": 0.0, **strengths(deviation, bounds[1], given.numbers)}
            for label, strength in named.items():
                run = first if label == "none" else searched(seed, strength, Path(folder) / label)
                macs.setdefault(label, []).append(derive_run(run.folder).macs)
                accuracy.setdefault(label, []).append(run.read_lines("metrics.jsonl")[-1]["valid_accuracy"])
    return shown(space, mean, deviation, bounds, named, macs, accuracy, time.perf_counter() - began)


def on_the_landscape(given: argparse.Namespace) -> dict[str, Any]:
    """The row of NAS-Bench-201's true results."""
    began, cost, truth = time.perf_counter(), nasbench201_cost("flops_cifar10"), landscape()
    (mean, deviation), bounds = cost.moments(), cost.bounds()
    named = {"none": 0.0, **strengths(deviation, bounds[1], given.numbers)}
    macs, accuracy = {}, {}
    for label, strength in named.items():
        index = ended(truth, cost, strength, given.steps, given.landscape_seeds)
        macs[label] = cost.values(index).tolist()
        accuracy[label] = (1 - truth.truth.values(index)).tolist()
    seconds = time.perf_counter() - began
    return shown("nasbench201 landscape", mean, deviation, bounds, named, macs, accuracy, seconds)


def ended(truth: Any, cost: LandscapeCost, strength: float, steps: int, searches: int) -> torch.Tensor:
    """The architectures [S, E] that S searches end with."""
    (contender,) = line_up(methods=["snas"], steps=steps).contenders
    config, streams = contender.config, Streams(0)
    plan = search_plan(config, truth.groups, searches=searches)
    penalty = Linear(cost, strength) if strength else None
    task = LandscapeTask(truth, searches, "all", 1, 0.0, streams, plan.policy.gates, penalty)
    theta = beginnings(plan.policy, config.architecture, searches, streams)
    state = SearchState(theta, None, architecture_optimizer(theta, config.architecture))
    for _ in search(task, state, plan, streams):
        pass
    (p,) = plan.policy.probabilities([t.detach() for t in state.logits])
    return p.argmax(dim=-1)


def shown(
    place: str,
    mean: float,
    deviation: float,
    bounds: tuple[float, float],
    named: dict[str, float],
    macs: dict[str, list[float]],
    accuracy: dict[str, list[float]],
    seconds: float,
) -> dict[str, Any]:
    """A row, printed."""
    middle = {label: sum(values) / len(values) for label, values in macs.items()}
    row = {
        "place": place,
        "mean": mean,
        "deviation": deviation,
        "cheapest": bounds[0],
        "dearest": bounds[1],
        "searches": len(macs["none"]),
        "strength": named,
        "searched_macs": macs,
        "macs": middle,
        "fall": {label: (middle["none"] - value) / deviation for label, value in middle.items()},
        "accuracy": {label: sum(values) / len(values) for label, values in accuracy.items()},
        "seconds": seconds,
    }
    print(f"{place}: mean {mean:.4g}, deviation {deviation:.4g}, {seconds:.0f} s")
    for label, value in middle.items():
        print(
            f"  {label:<20} {named[label]:8.4f} nats a deviation: {value:11.4g} multiply-adds, fall "
            f"{row['fall'][label]:6.2f}, accuracy {row['accuracy'][label]:.3f}",
            flush=True,
        )
    return row


if __name__ == "__main__":
    main()
