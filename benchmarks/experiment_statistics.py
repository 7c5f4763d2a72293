"""How often the intervals of `archgrad experiment` cover the mean, and how often its tests err among equals.

Intervals: the share of samples whose 95 % interval holds the true mean. "failing": as losses of searches are,
about 0 in most runs and large in one of ten. Equals: the share of studies of so many arms of the same law in
which some pair is called different at 5 %, after Holm's correction and without one. Power: the share of pairs
told apart where the difference is one standard deviation of the paired differences. Minutes.

    python benchmarks/experiment_statistics.py
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from record import record

from archgrad.experiment import statistics
from archgrad.experiment.statistics import interval, least_seeds, paired
from archgrad.lab.comparison import holm

LAWS: dict[str, tuple[Callable[[np.random.Generator, int], Any], float]] = {
    "normal": (lambda g, n: g.normal(size=n), 0.0),
    "exponential": (lambda g, n: g.exponential(size=n), 1.0),
    "failing": (lambda g, n: (g.random(n) < 0.1) * g.exponential(size=n) + 0.05 * g.normal(size=n), 0.1),
}


def intervals(samples: int) -> list[dict[str, Any]]:
    rows = []
    for (law, (draw, mean)), n in itertools.product(LAWS.items(), (3, 5, 10, 20, 50)):
        generator, hits, width = np.random.default_rng(n), 0, 0.0
        for _ in range(samples):
            low, high = interval(draw(generator, n))  # type: ignore[misc]
            hits += low <= mean <= high
            width += (high - low) / samples
        rows.append({"law": law, "n": n, "samples": samples, "coverage": hits / samples, "width": width})
        print(rows[-1], flush=True)
    return rows


def equals(studies: int) -> list[dict[str, Any]]:
    rows = []
    for (law, (draw, _)), arms, n in itertools.product(LAWS.items(), (3, 6), (8, 12)):
        generator = np.random.default_rng(100 * arms + n)
        wrong = dict.fromkeys(("permutation", "wilcoxon", "permutation_holm", "wilcoxon_holm"), 0)
        for _ in range(studies):
            common = draw(generator, n)
            drawn = [common + draw(generator, n) for _ in range(arms)]
            pairs = [paired(a, b) for a, b in itertools.combinations(drawn, 2)]
            for test in ("permutation", "wilcoxon"):
                p = [getattr(pair, test) for pair in pairs]
                wrong[test] += min(p) <= 0.05
                wrong[f"{test}_holm"] += min(holm(p)) <= 0.05
        rows.append(
            {
                "law": law,
                "arms": arms,
                "n": n,
                "studies": studies,
                **{k: v / studies for k, v in wrong.items()},
            }
        )
        print(rows[-1], flush=True)
    return rows


def power(studies: int) -> list[dict[str, Any]]:
    rows = []
    for n in (6, 8, 12, 20):
        generator, found = np.random.default_rng(n), 0
        for _ in range(studies):
            found += paired(generator.normal(1.0, 1.0, n), np.zeros(n)).permutation <= 0.05
        rows.append({"effect": 1.0, "n": n, "studies": studies, "found": found / studies})
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=2_000)
    parser.add_argument("--studies", type=int, default=1_000)
    asked = parser.parse_args()
    statistics.RESAMPLES = 1_999  # of every interval; the tests with so few seeds are exact
    covered = intervals(asked.samples)
    statistics.RESAMPLES = 19  # these look at no interval
    record(
        "experiment_statistics",
        {
            "intervals": covered,
            "equals": equals(asked.studies),
            "power": power(asked.studies),
            "least_seeds": {str(pairs): least_seeds(pairs) for pairs in (1, 3, 6, 10, 15, 28, 45)},
        },
    )


if __name__ == "__main__":
    main()
