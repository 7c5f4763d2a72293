"""Paired comparisons on hand-made courses: known differences, known null rates."""

import math
import re

import numpy as np
import pytest
import torch
from scipy import stats

from archgrad.lab import comparison
from archgrad.lab.comparison import LEAST_SEEDS, compare, holm, interval, studentised
from archgrad.lab.convergence import Course


def course(name, regret):
    """A course that ended with these regrets [S]."""
    row = torch.as_tensor(regret, dtype=torch.float64)[None]
    empty = torch.zeros_like(row)
    return Course(name, [0], [1.0], row, empty, empty, empty, empty[0], empty[0], 0.0)


def exponential(generator, share, shape):
    """Regrets of mean 1: 0 but for a share of them, which are exponential."""
    found = torch.rand(shape, generator=generator, dtype=torch.float64) < share
    return found * torch.empty(shape, dtype=torch.float64).exponential_(generator=generator) / share


def test_search_s_of_the_one_is_compared_with_search_s_of_the_other():
    generator = torch.Generator().manual_seed(0)
    common = torch.rand(40, generator=generator, dtype=torch.float64)
    small = 1e-3 * torch.randn(40, generator=generator, dtype=torch.float64)
    (pair,) = compare([course("a", common), course("b", common + 0.01 + small)])
    assert pair.difference == pytest.approx(-float((0.01 + small).mean()))
    half = 2.02 * float(small.std()) / 40**0.5  # of Student's t
    assert pair.high - pair.difference == pytest.approx(half, rel=0.2)
    assert (pair.verdict, pair.verdict_holm) == ("better", "better")
    assert pair.wins == 1.0
    (turned,) = compare([course("b", common + 0.01 + small), course("a", common)])
    assert (turned.verdict, turned.low) == ("worse", pytest.approx(-pair.high))


def test_wins_count_ties_by_half():
    (pair,) = compare([course("a", [0.0, 0, 1, 2]), course("b", [0.0, 1, 0, 3])])
    assert pair.wins == pytest.approx((0.5 + 1 + 0 + 1) / 4)


@pytest.mark.parametrize("seeds", [1, 2, LEAST_SEEDS - 1, LEAST_SEEDS])
def test_few_seeds_decide_nothing(seeds):
    (pair,) = compare([course("a", torch.zeros(seeds)), course("b", torch.ones(seeds))])
    assert pair.verdict == pair.verdict_holm == ("better" if seeds >= LEAST_SEEDS else "undecided")
    assert pair.p == 2.0 ** (1 - seeds)


def test_how_often_equals_are_called_different_is_as_the_module_says():
    said = re.search(r"^\| 30 \| ([\d.]+) % \([\d.]+ %\) \| ([\d.]+) %", comparison.__doc__, re.M)
    generator = torch.Generator().manual_seed(1)
    pairs = 4_000
    for share, stated in ((0.3, said[1]), (0.1, said[2])):
        other = exponential(generator, 0.3 if share == 0.3 else 0.5, (30, pairs))
        values = exponential(generator, share, (30, pairs)) - other
        _, _, p = studentised(values, resamples=999)
        rate, wanted = np.mean(np.array(p) <= 0.05), float(stated) / 100
        assert abs(rate - wanted) < 4 * (2 * wanted * (1 - wanted) / pairs) ** 0.5


def test_zero_is_outside_the_interval_where_p_is_at_most_005():
    generator = torch.Generator().manual_seed(2)
    values = exponential(generator, 0.3, (20, 300)) - exponential(generator, 0.6, (20, 300)) - 0.6
    low, high, p = map(np.array, studentised(values, resamples=999))
    outside = (low > 0) | (high < 0)
    assert 0.2 < outside.mean() < 0.9
    assert (outside == (p <= 0.05)).all()


def test_of_normal_values_it_is_students_test():
    values = torch.randn(200, 40, generator=torch.Generator().manual_seed(3), dtype=torch.float64) + 0.1
    low, high, p = studentised(values)
    wanted = stats.ttest_1samp(values.numpy(), 0)
    assert np.abs(np.array(p) - wanted.pvalue).max() < 0.03
    assert np.abs(np.array(low) - wanted.confidence_interval().low).max() < 0.01
    assert np.abs(np.array(high) - wanted.confidence_interval().high).max() < 0.01


def test_it_is_the_bootstrap_done_by_hand():
    values = exponential(torch.Generator().manual_seed(7), 0.7, (9, 1)) - 0.4
    drawn = np.random.default_rng(1).choice(values.numpy()[:, 0], size=(100_000, 9))
    centre, spread = drawn.mean(axis=1) - float(values.mean()), drawn.std(axis=1, ddof=1) / 3
    with np.errstate(divide="ignore"):
        t = np.abs(centre) / spread
    own = float(values.std()) / 3
    low, high, p = studentised(values, resamples=99_999)
    assert p[0] == pytest.approx(np.mean(t >= abs(float(values.mean())) / own), rel=0.05)
    half = np.quantile(t, 0.95) * own
    mean = float(values.mean())
    assert (low[0], high[0]) == pytest.approx((mean - half, mean + half), abs=0.03 * half)


def test_a_column_does_not_know_its_neighbours():
    values = torch.rand(20, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    values[:, 1] = 0.25
    together = studentised(values, resamples=999)
    for k in range(3):
        alone = studentised(values[:, k : k + 1], resamples=999)
        for one, all_ in zip(alone, together, strict=True):
            assert one[0] == pytest.approx(all_[k], rel=1e-12)


def test_from_one_or_two_seeds_that_differ_nothing_follows():
    values = torch.zeros(30, 2, dtype=torch.float64)
    values[0], values[1, 1] = 1.0, 1.0
    low, high, p = studentised(values)
    assert low == [-math.inf] * 2
    assert high == [math.inf] * 2
    assert min(p) > 0.1
    assert studentised(torch.zeros(30, 1))[2] == [1.0]


def test_the_interval_covers_the_mean_as_often_as_it_says():
    values = torch.randn(60, 1_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 1.0
    low, high, _ = map(np.array, studentised(values, resamples=1_999))
    covered = ((low <= 1) & (high >= 1)).mean()
    assert abs(covered - 0.95) < 3 * (0.05 * 0.95 / 1_000) ** 0.5
    assert interval(values[:, 0], 0) == pytest.approx((low[0], high[0]), rel=0.05)


def test_equal_values_have_no_width():
    assert interval(torch.full((7,), 0.25)) == (0.25, 0.25)
    assert interval(torch.tensor([0.5])) == (0.5, 0.5)


def test_holms_correction():
    assert holm([]) == []
    assert holm([0.04]) == [0.04]
    assert holm([0.5, 0.001, 0.02, 0.6]) == pytest.approx([1.0, 0.004, 0.06, 1.0])


def test_verdicts_for_all_pairs_are_corrected():
    generator = torch.Generator().manual_seed(5)
    courses = [course(f"{i}", exponential(generator, 0.5, (60,)) + 0.07 * i) for i in range(8)]
    found = compare(courses)
    assert len(found) == 28
    assert [c.p_holm for c in found] == holm([c.p for c in found])
    assert {c.verdict_holm for c in found if c.p <= 0.05 < c.p_holm} == {"undecided"}
    assert any(c.verdict != "undecided" for c in found if c.verdict_holm == "undecided")
    for c in found:
        assert (c.verdict == "undecided") == (c.p > 0.05)
        assert (c.verdict_holm == "undecided") == (c.p_holm > 0.05)


def test_equals_are_rarely_called_worse_than_the_best_of_many():
    """The best is chosen by the same seeds, so a correction for the pairs with it alone is too little."""
    generator, studies, many = torch.Generator().manual_seed(6), 100, 10
    first, second = torch.combinations(torch.arange(many)).T
    wrong = {"none": 0, "the best's": 0, "all": 0}
    for _ in range(studies):
        regret = exponential(generator, 0.3, (100, many))
        _, _, p = studentised(regret[:, first] - regret[:, second], resamples=1_999)
        best = int(regret.mean(dim=0).argmin())
        own = [k for k in range(len(p)) if best in (int(first[k]), int(second[k]))]
        wrong["none"] += min(p[k] for k in own) <= 0.05
        wrong["the best's"] += min(holm([p[k] for k in own])) <= 0.05
        wrong["all"] += min(holm(p)[k] for k in own) <= 0.05
    assert wrong["none"] > 0.4 * studies
    assert wrong["all"] <= 0.05 * studies
    assert wrong["all"] <= wrong["the best's"] < wrong["none"]
