"""Arms against each other: scores, stability, speed; corrected for all pairs that are looked at."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from archgrad.experiment.measures import SCORES, RunRow
from archgrad.experiment.statistics import LEVEL, Difference, paired, unpaired
from archgrad.lab.comparison import holm


class Side(NamedTuple):
    """Runs that differ in their seed only; none that failed."""

    name: str
    rows: tuple[RunRow, ...]

    def values(self, field: str) -> dict[int, float]:
        """Seed -> number, of the runs that have one."""
        found = {row.seed: row.number(field) for row in self.rows}
        return {seed: value for seed, value in found.items() if value is not None}


class Ratio(NamedTuple):
    """How many times as long the second takes as the first: above 1 the first is faster.

    The geometric mean over n pairs of runs, or of two sides; low, high: its 95 % interval, None with too few.
    """

    n: int
    value: float
    low: float | None
    high: float | None


class Comparison(NamedTuple):
    """Of two sides, first minus second.

    score: of the accuracies that the runs are judged by; permutation_holm, wilcoxon_holm: its p-values,
    corrected for all pairs; verdict: "better", "worse" or "undecided", of the first, by permutation_holm.
    stability: of the average stabilities; None where a side has none. speed: of epochs until convergence,
    over the seeds that converged on both sides; None where there is none. time: of the seconds of the search.
    """

    first: str
    second: str
    score: Difference
    permutation_holm: float
    wilcoxon_holm: float
    verdict: str
    stability: Difference | None
    speed: Ratio | None
    time: Ratio | None

    def document(self) -> dict[str, Any]:
        """Plain values, nested."""
        return {
            key: value._asdict() if isinstance(value, Difference | Ratio) else value
            for key, value in self._asdict().items()
        }


NESTED = {
    "score": Difference._fields,
    "stability": Difference._fields,
    "speed": Ratio._fields,
    "time": Ratio._fields,
}
"""Fields of a `Comparison` that have fields of their own."""


def judged_by(sides: Sequence[Side]) -> str | None:
    """The best of `SCORES` that every run has; None where there is none, or no run."""
    rows = [row for side in sides for row in side.rows]
    return next((s for s in SCORES if rows and all(row.number(s) is not None for row in rows)), None)


def compare_sides(sides: Sequence[Side], score: str, seed: int = 0) -> list[Comparison]:
    """Every pair of sides that have a score, in order; paired by seed where they have two in common."""
    pairs = [(a, b) for a, b in itertools.combinations(sides, 2) if a.values(score) and b.values(score)]
    # as many resamples as the least p-value needs after the correction
    resamples = max(9_999, math.ceil(2 * len(pairs) / LEVEL))
    scores = [difference(a.values(score), b.values(score), seed, resamples) for a, b in pairs]
    permutation = holm([d.permutation for d in scores])
    wilcoxon = holm([d.wilcoxon for d in scores])
    found = []
    for (a, b), d, p, w in zip(pairs, scores, permutation, wilcoxon, strict=True):
        stable = a.values("stability"), b.values("stability")
        found.append(
            Comparison(
                a.name,
                b.name,
                d,
                p,
                w,
                _verdict(d, p),
                difference(*stable, seed) if all(stable) else None,
                ratio(a.values("converged"), b.values("converged"), seed),
                ratio(a.values("seconds"), b.values("seconds"), seed),
            )
        )
    return found


def difference(
    first: dict[int, float], second: dict[int, float], seed: int = 0, resamples: int = 9_999
) -> Difference:
    """Of numbers by seed: paired over the seeds in common if there are two, else unpaired."""
    common = [s for s in first if s in second]
    if len(common) > 1 or (len(common) == len(first) == len(second)):
        return paired([first[s] for s in common], [second[s] for s in common], seed, resamples)
    return unpaired(list(first.values()), list(second.values()), seed, resamples)


def ratio(first: dict[int, float], second: dict[int, float], seed: int = 0) -> Ratio | None:
    """Second over first, of positive numbers by seed, by the difference of their logarithms."""
    a, b = ({s: math.log(v) for s, v in side.items() if v > 0} for side in (first, second))
    if {*first} & {*second}:  # what one side alone reached is no comparison
        a, b = {s: v for s, v in a.items() if s in b}, {s: v for s, v in b.items() if s in a}
    if not a or not b:
        return None
    found = difference(b, a, seed)
    low, high = (None if end is None else math.exp(end) for end in (found.low, found.high))
    return Ratio(found.n, math.exp(found.difference), low, high)


def _verdict(found: Difference, p: float) -> str:
    if p > LEVEL or found.difference == 0:
        return "undecided"
    return "better" if found.difference > 0 else "worse"
