"""Is one method better than another, or was it luck? A paired bootstrap over the seeds."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from archgrad.lab.convergence import Course

RESAMPLES = 5_000


@dataclass(frozen=True)
class Comparison:
    """The difference in final regret of two methods, first minus second: below 0 the first is better.

    low, high: its 95 % interval. wins: share of the seeds in which the first has less regret, ties by half.
    verdict: "better", "worse" or "undecided", of the first; decided where the interval leaves out 0.
    """

    first: str
    second: str
    difference: float
    low: float
    high: float
    wins: float
    verdict: str


def compare(courses: Sequence[Course], seed: int = 0) -> list[Comparison]:
    """Every pair, in order; search s of the one is paired with search s of the other."""
    return [_pair(a, b, seed) for a, b in itertools.combinations(courses, 2)]


def _pair(a: Course, b: Course, seed: int) -> Comparison:
    difference = (a.regret[-1] - b.regret[-1]).double()
    low, high = interval(difference, seed)
    verdict = "better" if high < 0 else "worse" if low > 0 else "undecided"
    wins = (difference < 0).double() + 0.5 * (difference == 0).double()
    return Comparison(a.name, b.name, float(difference.mean()), low, high, float(wins.mean()), verdict)


def interval(values: Tensor, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean, by the percentile bootstrap (Efron & Tibshirani 1993, chapter 13).

    values: [S], one per seed. All equal, or a single one: that value twice, as there is nothing to resample.
    """
    from scipy.stats import bootstrap

    found = values.numpy()
    if len(found) < 2 or float(np.ptp(found)) == 0.0:
        return float(found.mean()), float(found.mean())
    result = bootstrap(
        (found,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=500,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)
