"""The laboratory's tables: estimators, searches by sampler and by method, schedules; on several landscapes.

Searches and schedules are measured on the true tables of NAS-Bench-201 and on planted landscapes, with all
gates observed and with those of candidates that ran only (what a network shows), and with the rank error of
shared weights. Curves are not kept, only how the searches ended.

    python benchmarks/lab.py                 # everything
    python benchmarks/lab.py estimators      # one of: estimators, samplers, methods, enas, schedules
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from record import record

from archgrad.lab.studies import LabSettings, study
from archgrad.lab.tables import text
from archgrad.progress import for_this_terminal

STUDIES = ["estimators", "samplers", "methods", "enas", "schedules"]
METHODS = ["darts", "snas", "gdas", "reinmax", "drnas", "proxyless", "dsnas", "fairdarts"]
CIFAR10 = LabSettings(seeds=1000, steps=400)
CIFAR100 = replace(
    CIFAR10, landscape_settings={"column": "cifar100_valid_12ep", "truth": "cifar100_test_200ep"}
)
SHARED = replace(CIFAR10, noise={"name": "correlated", "kendall_tau": 0.5}, step_noise=0.05)
DECEPTIVE = replace(CIFAR10, landscape="deceptive", landscape_settings={"choices": 6, "candidates": 5})
LANDSCAPES = {
    "NAS-Bench-201, CIFAR-10": CIFAR10,
    "NAS-Bench-201, CIFAR-10, gates of what ran": replace(CIFAR10, observe="active"),
    "NAS-Bench-201, CIFAR-100": CIFAR100,
    "NAS-Bench-201, CIFAR-10, Kendall's tau 0.5 and noise per step": SHARED,
    "deceptive": DECEPTIVE,
}


def kept(document: dict[str, Any]) -> dict[str, Any]:
    """The document without curves and without what every row repeats."""
    found = {"landscape": document["landscape"], "left_out": document["left_out"]}
    if "estimators" in document:
        found["estimators"] = document["estimators"]
    for name in ("searches", "schedules"):
        if name in document:
            rows = [{k: v for k, v in o.items() if k != "settings"} for o in document[name]["outcomes"]]
            found[name] = {"outcomes": rows, "comparisons": document[name]["comparisons"]}
    return found


def measure(title: str, settings: dict[str, LabSettings]) -> None:
    results = {}
    for name, asked in settings.items():
        print(f"== {title}: {name}", flush=True)
        document = study(asked, for_this_terminal())
        print(text(document), flush=True)
        results[name] = kept(document)
    first = next(iter(settings.values()))
    record(
        f"lab_{title}",
        {"seeds": first.seeds, "steps": first.steps, "draws": first.draws, "landscapes": results},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("studies", nargs="*", default=STUDIES)
    parser.add_argument("--seeds", type=int, default=1000)
    asked = parser.parse_args()
    landscapes = {name: replace(s, seeds=asked.seeds) for name, s in LANDSCAPES.items()}
    if "estimators" in asked.studies:
        some = {n: s for n, s in landscapes.items() if "Kendall" not in n}
        measure("estimators", {n: replace(s, studies=["estimators"]) for n, s in some.items()})
    if "samplers" in asked.studies:
        measure("samplers", {n: replace(s, studies=["searches"]) for n, s in landscapes.items()})
    if "methods" in asked.studies:
        compared = {n: replace(s, methods=METHODS, studies=["searches"]) for n, s in landscapes.items()}
        measure("methods", compared)
    if "enas" in asked.studies:  # an LSTM of its own for every search
        few = {n: replace(s, methods=["enas", "gdas"], studies=["searches"]) for n, s in landscapes.items()}
        measure("enas", few)
    if "schedules" in asked.studies:
        measure("schedules", {n: replace(s, studies=["schedules"]) for n, s in landscapes.items()})


if __name__ == "__main__":
    main()
