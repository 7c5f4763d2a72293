"""How far each named strength of the cost penalty brings the cost down, in three spaces and on landscapes.

Fall: of the way from the cost that is derived without a penalty to that of the cheapest architecture, the
share that was gone with it, the mean over searches; and the same of the expected costs, which have no steps.
"dearest" divides the cost by that of the dearest architecture, with 0.01, 0.05 and 0.2 nats; "spread" by its
standard deviation, with the numbers of `STRENGTHS`.

- Networks: SNAS on the digits, small supernets, the multiply-adds of the network that would be trained.
- NAS-Bench-201, all results: searched by accuracy after 12 epochs; the loss is an error rate.
- Planted: every choice counts by itself, and dearer candidates are better on the whole. Losses of random
  architectures have the deviation 0.05, however many choices there are, and half of the mean cost is fixed.

    python benchmarks/cost_strengths.py [--seeds 3] [--epochs 12] [--numbers 0.01 0.1]
"""

from __future__ import annotations

import argparse
import functools
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from record import record
from torch import Tensor

from archgrad.costs.cost_table import CostTable
from archgrad.lab.contenders import line_up
from archgrad.lab.convergence import beginnings
from archgrad.landscapes.cost import LandscapeCost, nasbench201_cost
from archgrad.landscapes.landscape import Landscape
from archgrad.landscapes.nasbench201 import landscape
from archgrad.landscapes.separable import summing_cores
from archgrad.landscapes.task import LandscapeTask
from archgrad.landscapes.tensor_train import TensorTrain
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
PLANTED = 5
"""Landscapes of each number of choices."""
OF_THE_DEAREST = {"mild": 0.01, "moderate": 0.05, "aggressive": 0.2}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--spaces", nargs="*", default=list(SPACES), choices=list(SPACES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--steps", type=int, default=300, help="on the landscape")
    parser.add_argument("--landscape-seeds", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=3, help="searches on the digits at once")
    parser.add_argument("--numbers", type=float, nargs="*", help="print these instead, keep nothing")
    given = parser.parse_args()
    with ProcessPoolExecutor(given.jobs) as pool:
        rows = list(pool.map(functools.partial(on_digits, given=given), given.spaces))
    cost = nasbench201_cost("flops_cifar10")
    rows.append(on_landscapes("NAS-Bench-201, all results", [(landscape(), cost)], given))
    for choices in (6, 24):
        several = [planted(choices, seed) for seed in range(PLANTED)]
        rows.append(on_landscapes(f"planted, {choices} choices", several, given))
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
    expected: dict[str, list[float]] = {}
    accuracy: dict[str, list[float]] = {}
    for seed in range(given.seeds):
        with tempfile.TemporaryDirectory() as folder:
            first = searched(seed, 0.0, Path(folder) / "none")
            config = read_config(first)
            table = Parts.of(config, load_data(config)).cost_table
            deviation, dearest = table.moments()[1], table.bounds()[1]
            named = {"none": 0.0, **strengths(deviation, dearest, given.numbers)}
            for label, strength in named.items():
                run = first if label == "none" else searched(seed, strength, Path(folder) / label)
                last = run.read_lines("metrics.jsonl")[-1]
                macs.setdefault(label, []).append(float(derive_run(run.folder).macs or 0))
                expected.setdefault(label, []).append(last["cost"])
                accuracy.setdefault(label, []).append(last["valid_accuracy"])
                print(f"{space} {seed} {label}: {macs[label][-1]:.4g}", flush=True)
    return shown(space, [summed(table, named, macs, expected, accuracy)], time.perf_counter() - began)


def planted(choices: int, seed: int) -> tuple[Landscape, CostTable]:
    """Losses Σ u[e, a_e] of deviation 0.05, costs Σ c[e, a_e]; in a choice u falls with c, and by chance."""
    generator = Streams(seed).generator("planted costs")
    costs, chance = torch.rand(2, choices, 5, generator=generator, dtype=torch.float64)
    losses = 1 - costs + 0.5 * chance
    losses *= 0.05 / losses.var(dim=-1, correction=0).sum().sqrt()
    losses -= losses.amin(dim=-1, keepdim=True)
    searched = TensorTrain(
        summing_cores(losses), losses.argmin(dim=-1).tolist(), worst=float(losses.amax(dim=-1).sum())
    )
    return searched, CostTable("macs", "", float(costs.mean(dim=-1).sum()), searched.groups, (costs,))


def on_landscapes(
    place: str, places: Sequence[tuple[Landscape, LandscapeCost | CostTable]], given: argparse.Namespace
) -> dict[str, Any]:
    """The mean row of many searches on each landscape; accuracy: 1 − the true loss of what they end with."""
    began, rows = time.perf_counter(), []
    for searched, cost in places:
        (_, deviation), bounds = cost.moments(), cost.bounds()
        named = {"none": 0.0, **strengths(deviation, bounds[1], given.numbers)}
        (group,) = searched.groups
        macs: dict[str, list[float]] = {}
        expected: dict[str, list[float]] = {}
        accuracy: dict[str, list[float]] = {}
        for label, strength in named.items():
            penalty = Linear(cost, strength) if strength else None
            p = ended(searched, penalty, given.steps, given.landscape_seeds // len(places))
            index = p.argmax(dim=-1)
            expected[label] = cost.expected([p.double()]).tolist()
            chosen = torch.nn.functional.one_hot(index, len(group.candidates)).double()
            macs[label] = cost.expected([chosen]).tolist()
            accuracy[label] = (1 - searched.truth.values(index)).tolist()
        rows.append(summed(cost, named, macs, expected, accuracy))
    return shown(place, rows, time.perf_counter() - began)


def ended(searched: Landscape, penalty: Linear | None, steps: int, searches: int) -> Tensor:
    """The probabilities [S, E, K] that S searches end with."""
    (contender,) = line_up(methods=["snas"], steps=steps).contenders
    config, streams = contender.config, Streams(0)
    plan = search_plan(config, searched.groups, searches=searches)
    task = LandscapeTask(searched, searches, "all", 1, 0.0, streams, plan.policy.gates, penalty)
    theta = beginnings(plan.policy, config.architecture, searches, streams)
    state = SearchState(theta, None, architecture_optimizer(theta, config.architecture))
    for _ in search(task, state, plan, streams):
        pass
    (p,) = plan.policy.probabilities([t.detach() for t in state.logits])
    return p


def summed(
    cost: LandscapeCost | CostTable,
    named: dict[str, float],
    macs: dict[str, list[float]],
    expected: dict[str, list[float]],
    accuracy: dict[str, list[float]],
) -> dict[str, Any]:
    """What is kept of the searches in one place, by label."""
    (mean, deviation), (cheapest, dearest) = cost.moments(), cost.bounds()

    def means(of: dict[str, list[float]]) -> dict[str, float]:
        return {label: statistics.fmean(values) for label, values in of.items()}

    def fall(costs: dict[str, float]) -> dict[str, float]:
        return {label: (costs["none"] - value) / (costs["none"] - cheapest) for label, value in costs.items()}

    return {
        "mean": mean,
        "deviation": deviation,
        "cheapest": cheapest,
        "dearest": dearest,
        "searches": len(macs["none"]),
        "strength": named,
        "macs": means(macs),
        "fall": fall(means(macs)),
        "expected_fall": fall(means(expected)),
        "accuracy": means(accuracy),
    }


def shown(place: str, rows: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """The row of a place, the mean over its landscapes where there are several; printed."""
    row: dict[str, Any] = {"place": place, "landscapes": len(rows), "seconds": seconds}
    for key, first in rows[0].items():
        if isinstance(first, dict):
            row[key] = {label: statistics.fmean(one[key][label] for one in rows) for label in first}
        else:
            row[key] = statistics.fmean(one[key] for one in rows)
    print(f"{place}: mean {row['mean']:.4g}, deviation {row['deviation']:.4g}, {seconds:.0f} s")
    for label, fall in row["fall"].items():
        print(
            f"  {label:<20} {row['strength'][label]:8.4f} nats a deviation: {row['macs'][label]:11.4g}, "
            f"fall {fall:6.1%}, expected {row['expected_fall'][label]:6.1%}, "
            f"accuracy {row['accuracy'][label]:.3f}",
            flush=True,
        )
    return row


if __name__ == "__main__":
    main()
