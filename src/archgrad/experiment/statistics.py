"""The statistics of experiments: summaries, intervals, paired tests, effect sizes, ranks.

n runs a side. Resampling, tests and quantiles are scipy's; all random ones take a seed. How often the
intervals cover and the tests err is measured by ``benchmarks/experiment_statistics.py``.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

LEVEL = 0.05
RESAMPLES = 9_999
LEAST_FOR_INTERVAL = 3
"""Runs below which no interval is given: a bootstrap of one or two values knows nothing of their spread."""
COVERS = {3: 0.71, 5: 0.84, 10: 0.90, 20: 0.93}
"""Runs -> how often a 95 % interval of so many normal values holds their mean, as measured."""
_BATCH = 4_000_000  # numbers in memory at once

Array = npt.NDArray[np.float64]


class Summary(NamedTuple):
    """n values: mean, median, standard deviation (n − 1), quartiles, ends, 95 % interval of the mean.

    deviation is None for one value, low and high below `LEAST_FOR_INTERVAL`.
    """

    n: int
    mean: float
    median: float
    deviation: float | None
    lower_quartile: float
    upper_quartile: float
    least: float
    largest: float
    low: float | None
    high: float | None


class Difference(NamedTuple):
    """Of two sides, first minus second, larger being better.

    paired: by seed, n pairs; otherwise n is the smaller side. low, high: 95 % interval of the difference of
    the means (BCa), None with too few runs. wins: share of the pairs in which the first is larger, ties by
    half. permutation, wilcoxon: two-sided p-values (unpaired: of a permutation of the labels, and of the
    rank sum). effect: Cohen's d (paired: mean over standard deviation of the differences), None where it has
    no value. rank_effect: in [−1, 1], the matched-pairs rank-biserial correlation, unpaired Cliff's δ.
    """

    n: int
    paired: bool
    difference: float
    low: float | None
    high: float | None
    wins: float
    permutation: float
    wilcoxon: float
    effect: float | None
    rank_effect: float


class Ranks(NamedTuple):
    """k methods ranked in N blocks (seeds), 1 the best, ties by their mean.

    mean: method -> mean rank. friedman: p of no difference, None for two methods. critical: mean ranks closer
    than this cannot be told apart (Nemenyi, 5 %). groups: methods not told apart, each from best to worst.
    """

    blocks: int
    mean: dict[str, float]
    friedman: float | None
    critical: float
    groups: tuple[tuple[str, ...], ...]


def summary(values: Sequence[float], seed: int = 0) -> Summary:
    """What there is to say about the values of one side.

    >>> summary([1.0, 2.0, 3.0, 4.0])[:4]
    (4, 2.5, 2.5, 1.2909944487358056)
    """
    found = np.asarray(values, dtype=float)
    lower, median, upper = (float(q) for q in np.quantile(found, [0.25, 0.5, 0.75]))
    low, high = interval(found, seed) or (None, None)
    return Summary(
        len(found),
        float(found.mean()),
        median,
        float(found.std(ddof=1)) if len(found) > 1 else None,
        lower,
        upper,
        float(found.min()),
        float(found.max()),
        low,
        high,
    )


def interval(values: Sequence[float] | Array, seed: int = 0) -> tuple[float, float] | None:
    """95 % interval of the mean, bias-corrected and accelerated; None with too few values.

    Equal values have an interval of no width. Source: Efron 1987, "Better bootstrap confidence intervals".
    """
    found = np.asarray(values, dtype=float)
    return None if len(found) < LEAST_FOR_INTERVAL else _bootstrap((found,), _mean, seed)


def paired(
    first: Sequence[float], second: Sequence[float], seed: int = 0, resamples: int = RESAMPLES
) -> Difference:
    """Value i of the one side belongs to value i of the other: both runs had the same seed.

    The permutation test exchanges the sides of every pair: exact up to 13 pairs, where all exchanges are
    gone through. What it assumes is that without a difference the sides of a pair are exchangeable.

    Raises:
        ValueError: sides of different length, or empty.
    """
    from scipy import stats

    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if len(a) != len(b) or not len(a):
        raise ValueError(f"wanted two sides of the same length, at least 1; got {len(a)} and {len(b)}")
    d = _without_rounding(a - b, a, b)
    low, high = interval(d, seed) or (None, None)
    wins = float(((d > 0) + 0.5 * (d == 0)).mean())
    permutation = wilcoxon = 1.0
    if len(d) > 1 and bool((d != 0).any()):
        permutation = _permutation((d, np.zeros_like(d)), "samples", seed, resamples)
        wilcoxon = float(stats.wilcoxon(d, zero_method="wilcox").pvalue)
    return Difference(
        len(d), True, float(d.mean()), low, high, wins, permutation, wilcoxon, _over(d.mean(), _std(d)),
        rank_biserial(d),
    )  # fmt: skip


def unpaired(
    first: Sequence[float], second: Sequence[float], seed: int = 0, resamples: int = RESAMPLES
) -> Difference:
    """Sides that have no seeds in common; either may have one value only.

    Raises:
        ValueError: an empty side.
    """
    from scipy import stats

    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if not len(a) or not len(b):
        raise ValueError(f"wanted two sides of at least one value, got {len(a)} and {len(b)}")
    least = min(len(a), len(b))
    low, high = None, None
    if least >= LEAST_FOR_INTERVAL:
        low, high = _bootstrap((a, b), _difference_of_means, seed)
    delta = cliffs_delta(a, b)
    permutation = rank_sum = 1.0
    if least > 1 and np.ptp(np.concatenate([a, b])) > 0:
        permutation = _permutation((a, b), "independent", seed, resamples)
        rank_sum = float(stats.mannwhitneyu(a, b).pvalue)
    spread = None
    if len(a) + len(b) > 2:
        squares = ((a - a.mean()) ** 2).sum() + ((b - b.mean()) ** 2).sum()
        spread = math.sqrt(squares / (len(a) + len(b) - 2))
    difference = float(a.mean() - b.mean())
    effect = _over(difference, spread)
    return Difference(
        least, False, difference, low, high, 0.5 + 0.5 * delta, permutation, rank_sum, effect, delta
    )


def rank_biserial(differences: Sequence[float] | Array) -> float:
    """Matched-pairs rank-biserial correlation, (W⁺ − W⁻)/(W⁺ + W⁻); zeros left out, 0 where all are zero.

    Source: Kerby 2014, "The simple difference formula", doi 10.2466/11.IT.3.1.

    >>> rank_biserial([1.0, 2.0, -3.0, 4.0])
    0.4
    """
    from scipy import stats

    found = np.asarray(differences, dtype=float)
    found = found[found != 0]
    if not len(found):
        return 0.0
    ranks = stats.rankdata(np.abs(found))
    return float((ranks * np.sign(found)).sum() / ranks.sum())


def cliffs_delta(first: Sequence[float] | Array, second: Sequence[float] | Array) -> float:
    """Cliff's δ = P(a > b) − P(a < b) over all pairs of a value of each side (Cliff 1993).

    >>> cliffs_delta([1.0, 2.0, 3.0], [2.0, 0.0])
    0.5
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    return float(np.sign(a[:, None] - b[None, :]).mean())


def covers(count: int) -> float:
    """How often a 95 % interval of so many normal values holds their mean, about; with few it is too narrow.

    >>> covers(3), covers(7), covers(50)
    (0.71, 0.84, 0.95)
    """
    return 0.95 if count > 20 else COVERS[max((n for n in COVERS if n <= count), default=3)]


def least_seeds(pairs: int = 1) -> int:
    """How many paired seeds a permutation test needs at least to reach 5 % after Holm's correction.

    The least p-value of n pairs is 2^(1 − n), when the same side is better in all of them.

    >>> least_seeds(), least_seeds(10)
    (6, 9)
    """
    return 1 + math.ceil(math.log2(max(1, pairs) / LEVEL))


def ranks(scores: dict[str, Sequence[float]]) -> Ranks:
    """Mean ranks, Friedman's test and Nemenyi's critical difference q·√(k(k + 1)/(6N)).

    Source: Demšar 2006, "Statistical comparisons of classifiers over multiple data sets", section 3.2.2.

    Args:
        scores: method -> N scores, the same N seeds in the same order; larger is better.

    Raises:
        ValueError: fewer than two methods or blocks, or sides of different length.
    """
    from scipy import stats

    names = list(scores)
    if len({len(values) for values in scores.values()}) != 1 or len(names) < 2:
        raise ValueError("wanted at least two methods with the same number of scores")
    table = np.array([scores[name] for name in names], dtype=float).T
    blocks, count = table.shape
    if blocks < 2:
        raise ValueError(f"wanted at least two blocks, got {blocks}")
    each = stats.rankdata(-np.round(table, 12), axis=1)
    mean = each.mean(axis=0)
    friedman = None
    if count > 2:
        level = bool((np.ptp(each, axis=1) == 0).all())
        friedman = 1.0 if level else float(stats.friedmanchisquare(*each.T).pvalue)
    critical = nemenyi(count) * math.sqrt(count * (count + 1) / (6 * blocks))
    order = sorted(range(count), key=lambda k: mean[k])
    return Ranks(
        blocks,
        {names[k]: float(mean[k]) for k in order},
        friedman,
        critical,
        _groups([names[k] for k in order], [float(mean[k]) for k in order], critical),
    )


def nemenyi(count: int) -> float:
    """The 95 % quantile of the studentised range of `count` methods, by √2.

    >>> [round(nemenyi(k), 3) for k in (2, 3, 5, 10)]
    [1.96, 2.344, 2.728, 3.164]
    """
    from scipy import stats

    return float(stats.studentized_range.ppf(1 - LEVEL, count, np.inf)) / math.sqrt(2)


def _groups(names: Sequence[str], mean: Sequence[float], critical: float) -> tuple[tuple[str, ...], ...]:
    """Longest stretches of the order whose ends are closer than `critical`, of two methods at least."""
    found: list[tuple[int, int]] = []
    for start in range(len(names)):
        end = max(k for k in range(start, len(names)) if mean[k] - mean[start] < critical)
        if end > start and not (found and found[-1][1] >= end):
            found.append((start, end))
    return tuple(tuple(names[start : end + 1]) for start, end in found)


def _bootstrap(sides: tuple[Array, ...], statistic: Callable[..., Any], seed: int) -> tuple[float, float]:
    """BCa; of values without spread the statistic itself, and percentiles where BCa has no value."""
    from scipy import stats

    value = float(statistic(*sides, axis=-1))
    if all(np.ptp(side) <= 1e-12 * max(1e-300, float(np.abs(side).max())) for side in sides):
        return value, value
    batch = max(1, _BATCH // sum(map(len, sides)))
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # of a degenerate sample: its ends are not finite, and looked at
            found = stats.bootstrap(
                sides, statistic, n_resamples=RESAMPLES, batch=batch, method=method, vectorized=True,
                rng=np.random.default_rng(seed),
            ).confidence_interval  # fmt: skip
        if np.isfinite(found.low) and np.isfinite(found.high):
            break
    return float(found.low), float(found.high)


def _permutation(sides: tuple[Array, Array], kind: str, seed: int, resamples: int) -> float:
    from scipy import stats

    result = stats.permutation_test(
        sides, _difference_of_means, permutation_type=kind, vectorized=True, n_resamples=resamples,
        batch=max(1, _BATCH // sum(map(len, sides))), rng=np.random.default_rng(seed),
    )  # fmt: skip
    return float(result.pvalue)


def _mean(values: Array, axis: int = -1) -> Any:
    return values.mean(axis=axis)


def _difference_of_means(first: Array, second: Array, axis: int = -1) -> Any:
    return first.mean(axis=axis) - second.mean(axis=axis)


def _without_rounding(d: Array, a: Array, b: Array) -> Array:
    """Differences of equal values that were rounded differently are 0."""
    return np.where(np.abs(d) <= 1e-12 * np.maximum(np.abs(a), np.abs(b)), 0.0, d)


def _std(values: Array) -> float | None:
    return float(values.std(ddof=1)) if len(values) > 1 else None


def _over(value: float, spread: float | None) -> float | None:
    """value / spread; None where there is none, or no spread under a difference."""
    if spread is None:
        return None
    if spread <= 1e-12 * abs(value) or spread == 0:
        return 0.0 if value == 0 else None
    return float(value / spread)
