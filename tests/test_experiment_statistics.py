"""The statistics of experiments against published examples, enumeration and simulations."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from archgrad.experiment import statistics
from archgrad.experiment.comparisons import Side, compare_sides, difference, judged_by, ratio
from archgrad.experiment.measures import RunRow
from archgrad.experiment.statistics import (
    cliffs_delta,
    interval,
    least_seeds,
    nemenyi,
    paired,
    rank_biserial,
    ranks,
    summary,
    unpaired,
)
from archgrad.lab.comparison import holm

# Hollander & Wolfe 1973, p. 29: depression scale of nine patients at two visits
FIRST = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]
SECOND = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]
# Demšar 2006, table 6: four classifiers on fourteen data sets. The two 0.975 of "voting" are ranked second
# and third there, so the one is told from the other by a digit that is not printed
DEMSAR = {
    "C4.5": (.763, .599, .954, .628, .882, .936, .661, .583, .775, 1, .940, .619, .972, .957),
    "C4.5+m": (.768, .591, .971, .661, .888, .931, .668, .583, .838, 1, .962, .666, .981, .978),
    "C4.5+cf": (.771, .590, .968, .654, .886, .916, .609, .563, .866, 1, .965, .614, .9751, .946),
    "C4.5+m+cf": (.798, .569, .967, .657, .898, .931, .685, .625, .875, 1, .962, .669, .975, .970),
}  # fmt: skip


def rows(arm, **fields):
    """Finished runs with these numbers, seeds 0, 1, …"""
    count = len(next(iter(fields.values())))
    return Side(
        arm,
        tuple(RunRow(arm, s, "done", **{k: v[s] for k, v in fields.items()}) for s in range(count)),
    )


def test_wilcoxon_and_its_effect_size_on_a_published_example():
    found = paired(FIRST, SECOND)
    assert found.wilcoxon == pytest.approx(0.0390625)  # V = 40, twice the published one-sided 0.01953
    assert found.rank_effect == pytest.approx((40 - 5) / 45)
    d = np.array(FIRST) - np.array(SECOND)
    assert found.difference == pytest.approx(d.mean())
    assert found.effect == pytest.approx(d.mean() / d.std(ddof=1))
    assert (found.n, found.paired, found.wins) == (9, True, 7 / 9)


def test_permutation_by_seed_is_the_enumeration_of_all_exchanges():
    d = np.array(FIRST) - np.array(SECOND)
    signs = np.array(list(itertools.product((1, -1), repeat=len(d))))
    means = np.abs((signs * d).mean(axis=1))
    assert paired(FIRST, SECOND).permutation == pytest.approx((means >= abs(d.mean()) - 1e-12).mean())


def test_unpaired_permutation_is_the_enumeration_of_all_divisions():
    a, b = np.array([0.9, 0.7, 0.95, 0.8]), np.array([0.6, 0.75, 0.5])
    pool, seen = np.concatenate([a, b]), []
    for chosen in itertools.combinations(range(7), 4):
        rest = [k for k in range(7) if k not in chosen]
        seen.append(pool[list(chosen)].mean() - pool[rest].mean())
    observed, seen = a.mean() - b.mean(), np.array(seen)
    larger, smaller = (seen >= observed - 1e-12).mean(), (seen <= observed + 1e-12).mean()
    found = unpaired(a, b)
    assert found.permutation == pytest.approx(2 * min(larger, smaller))
    assert found.rank_effect == pytest.approx(cliffs_delta(a, b)) == pytest.approx((11 - 1) / 12)
    assert found.wins == pytest.approx(11 / 12)
    assert found.wilcoxon == pytest.approx(stats.mannwhitneyu(a, b).pvalue)
    spread = math.sqrt((3 * a.var(ddof=1) + 2 * b.var(ddof=1)) / 5)
    assert found.effect == pytest.approx(observed / spread)


def test_holm_as_r_does_it():
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])


def test_critical_differences_are_those_of_the_published_table():
    wanted = (1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164)  # Demšar 2006, table 5a
    assert [nemenyi(k) for k in range(2, 11)] == pytest.approx(wanted, abs=1.1e-3)


def test_ranks_of_the_published_example():
    found = ranks(DEMSAR)
    assert found.mean == pytest.approx(
        {"C4.5": 3.143, "C4.5+m": 2.0, "C4.5+cf": 2.893, "C4.5+m+cf": 1.964}, abs=5e-4
    )
    assert list(found.mean) == ["C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5"]
    assert found.critical == pytest.approx(1.25, abs=0.01)
    assert found.friedman == pytest.approx(stats.friedmanchisquare(*DEMSAR.values()).pvalue)
    # all are closer than 1.25; the article finds the differences that it looks for with other tests
    assert found.groups == (("C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5"),)


def test_groups_end_where_the_critical_difference_does():
    found = ranks({"a": [4.0] * 9, "b": [3.0] * 9, "c": [2.0] * 9, "d": [1.0] * 9})
    assert found.critical == pytest.approx(nemenyi(4) * math.sqrt(20 / 54))
    assert 1 < found.critical < 2
    assert found.groups == (("a", "b"), ("b", "c"), ("c", "d"))
    assert found.friedman < 1e-4
    level = ranks({"a": [1.0, 2.0], "b": [1.0, 2.0], "c": [1.0, 2.0]})
    assert level.friedman == 1.0
    assert set(level.mean.values()) == {2.0}
    with pytest.raises(ValueError, match="at least two"):
        ranks({"a": [1.0]})
    with pytest.raises(ValueError, match="two blocks"):
        ranks({"a": [1.0], "b": [2.0]})


def test_the_interval_is_efrons_formula():
    values = np.array([0.2, 0.25, 0.3, 0.32, 0.4, 0.9, 1.4, 0.22, 0.35, 0.5])
    draws = np.random.default_rng(7).choice(values, (200_000, len(values))).mean(axis=1)
    z0 = stats.norm.ppf((draws < values.mean()).mean())
    left_out = (values.sum() - values) / (len(values) - 1)
    bent = left_out.mean() - left_out
    a = (bent**3).sum() / (6 * (bent**2).sum() ** 1.5)
    wanted = []
    for z in stats.norm.ppf([0.025, 0.975]):
        wanted.append(np.quantile(draws, stats.norm.cdf(z0 + (z0 + z) / (1 - a * (z0 + z)))))
    assert interval(values) == pytest.approx(wanted, abs=0.02)
    assert interval(values) != pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.02)


def test_few_or_equal_values():
    assert interval([1.0, 2.0]) is None
    assert interval([0.3, 0.3, 0.3]) == (0.3, 0.3)
    assert interval([0.1 + 0.2, 0.3, 0.3]) == pytest.approx((0.3, 0.3))  # apart by rounding only
    one = summary([0.5])
    assert (one.n, one.mean, one.deviation, one.low) == (1, 0.5, None, None)
    alone = paired([0.4], [0.3])
    assert (alone.permutation, alone.wilcoxon, alone.low, alone.effect) == (1.0, 1.0, None, None)
    equal = paired([0.1 + 0.2] * 5, [0.3] * 5)
    assert (equal.difference, equal.permutation, equal.effect, equal.rank_effect) == (0, 1, 0, 0)
    constant = paired([0.4] * 6, [0.3] * 6)  # a difference without a spread has no Cohen's d
    assert constant.effect is None
    assert constant.permutation == pytest.approx(2**-5)
    single = unpaired([0.5], [0.1, 0.2, 0.3])
    assert (single.permutation, single.low, single.rank_effect) == (1.0, None, 1.0)
    for wrong in ((paired, [1.0], [1.0, 2.0]), (paired, [], []), (unpaired, [], [1.0])):
        with pytest.raises(ValueError, match="wanted two sides"):
            wrong[0](*wrong[1:])


def test_how_many_seeds_a_test_needs():
    for pairs in (1, 3, 10, 45):
        n = least_seeds(pairs)
        assert 2.0 ** (1 - n) * pairs <= 0.05 < 2.0 ** (2 - n) * pairs
    for n in (5, 6):
        side = rows("a", true_accuracy=[0.9] * n), rows("b", true_accuracy=[0.8] * n)
        assert compare_sides(side, "true_accuracy")[0].permutation_holm == pytest.approx(2.0 ** (1 - n))


def test_resampling_follows_the_seed_and_nothing_else():
    a, b = np.random.default_rng(1).normal(size=(2, 30))
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    assert paired(a, b, 3) == paired(a, b, 3)
    assert paired(a, b, 3).low != paired(a, b, 4).low
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


def test_sides_with_seeds_in_common_are_paired():
    found = difference({0: 1.0, 1: 2.0, 2: 4.0}, {1: 1.0, 2: 2.0, 3: 9.0})
    assert (found.paired, found.n, found.difference) == (True, 2, 1.5)
    found = difference({0: 1.0, 1: 2.0}, {1: 1.0, 2: 2.0, 3: 9.0})
    assert (found.paired, found.n, found.difference) == (False, 2, -2.5)
    assert difference({5: 1.0}, {5: 3.0}).paired


def test_a_ratio_is_of_times_and_above_one_where_the_first_is_faster():
    found = ratio({0: 10.0, 1: 20.0, 2: 5.0}, {0: 20.0, 1: 40.0, 2: 10.0})
    assert found.value == pytest.approx(2.0)
    assert (found.low, found.high) == pytest.approx((2.0, 2.0))
    assert ratio({0: 10.0}, {1: 5.0}).value == pytest.approx(0.5)
    # seeds that converged on one side only say nothing
    assert ratio({0: 10.0, 1: 1000.0}, {0: 30.0}) == (1, pytest.approx(3.0), None, None)
    assert ratio({}, {0: 1.0}) is None


def test_what_runs_are_judged_by_is_what_all_of_them_have():
    full = rows("a", true_accuracy=[0.9, 0.8], shared_accuracy=[0.5, 0.4])
    part = rows("b", shared_accuracy=[0.3, 0.4])
    assert judged_by([full]) == "true_accuracy"
    assert judged_by([full, part]) == "shared_accuracy"
    assert judged_by([full, rows("c", valid_accuracy=[0.1])]) is None
    assert judged_by([]) is None


def test_comparisons_of_all_pairs():
    generator = np.random.default_rng(0)
    base = generator.normal(0.9, 0.01, 8)
    sides = [
        rows("good", true_accuracy=base + 0.05, converged=[5] * 8, stability=[0.9] * 8, seconds=[4.0] * 8),
        rows("level", true_accuracy=base, converged=[10] * 8, stability=[0.8] * 8, seconds=[4.0] * 8),
        rows("bad", true_accuracy=list(base - 0.05 + generator.normal(0, 1e-3, 8))),
    ]  # fmt: skip
    first, second, third = compare_sides(sides, "true_accuracy")
    assert [c.verdict for c in (first, second, third)] == ["better"] * 3
    assert first.permutation_holm == pytest.approx(3 * 2**-7)
    assert first.speed.value == pytest.approx(2.0)
    assert first.time.value == pytest.approx(1.0)
    assert first.stability.difference == pytest.approx(0.1)
    assert (second.speed, second.stability) == (None, None)
    (turned,) = compare_sides([sides[2], sides[0]], "true_accuracy")
    assert turned.verdict == "worse"
    few = compare_sides(
        [rows("a", true_accuracy=[0.9] * 5), rows("b", true_accuracy=[0.1] * 5)], "true_accuracy"
    )
    assert few[0].verdict == "undecided"


def test_among_equals_something_is_called_different_in_one_study_of_twenty_at_most(monkeypatch):
    monkeypatch.setattr(statistics, "interval", lambda *_: None)  # this does not look at them
    generator, studies, wrong = np.random.default_rng(5), 300, 0
    for _ in range(studies):
        common = generator.exponential(size=8)
        arms = [common + generator.exponential(size=8) for _ in range(3)]
        p = [paired(a, b).permutation for a, b in itertools.combinations(arms, 2)]
        wrong += min(holm(p)) <= 0.05
    assert wrong / studies <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / studies)
    assert wrong > 0  # it is no test that never finds anything


def test_rank_biserial_leaves_out_ties():
    assert rank_biserial([0.0, 0.0]) == 0.0
    assert rank_biserial([0.0, 2.0, 1.0]) == 1.0
