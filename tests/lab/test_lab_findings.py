import itertools
import math

import pytest

from archgrad.lab import figures, findings, labels, verdict
from archgrad.lab.findings import Difference


def test_outcomes_are_ranked_by_regret_unknown_ones_last(document):
    study = document()["searches"]
    regrets = [0.03, None, 0.0, 0.01]
    for outcome, regret in zip(study["outcomes"], regrets, strict=True):
        outcome["regret"] = regret
    assert [o["regret"] for o in findings.ranked(study)] == [0.0, 0.01, 0.03, None]


def test_of_equal_outcomes_the_quickest_is_first(document):
    study = document(["a", "b", "c", "d"])["searches"]
    for outcome, steps in zip(study["outcomes"], (None, 9.0, 30.0, 4.0), strict=True):
        outcome.update(regret=0.0, steps_to_optimum=steps)
    assert [o["name"] for o in findings.ranked(study)] == ["d", "b", "c", "a"]


def test_a_pair_is_known_in_both_orders(document):
    study = document()["searches"]
    pairs = findings.differences(study)
    assert len(pairs) == 4 * 3
    for row in study["comparisons"]:
        there, back = pairs[row["first"], row["second"]], pairs[row["second"], row["first"]]
        known = ("difference", "low", "high", "wins", "verdict", "verdict_holm")
        assert there == tuple(row[key] for key in known)
        assert (back.value, back.low, back.high, back.wins) == (
            -there.value, -there.high, -there.low, 1 - there.wins,
        )  # fmt: skip
        assert {there.verdict, back.verdict} in ({"better", "worse"}, {"undecided"})
        assert (back.verdict == "better") == (back.high < 0)


def test_a_pair_with_a_number_that_is_not_known_counts_as_not_measured(document):
    study = document()["searches"]
    study["comparisons"][0]["low"] = None
    pairs = findings.differences(study)
    assert ("softmax", "reinmax") not in pairs
    assert findings.level_with("softmax", ["softmax", "reinmax", "score_gate"], pairs) == ("reinmax",)


def test_an_interval_without_ends_is_an_undecided_pair(document):
    study = document()["searches"]
    study["comparisons"][0].update(low=None, high=None)
    pair = findings.differences(study)["softmax", "reinmax"]
    assert (pair.low, pair.high, pair.verdict) == (-math.inf, math.inf, "undecided")
    shown = figures.matrix_figure(["softmax", "reinmax"], findings.differences(study))
    assert "too few seeds differ" in shown["data"][0]["hovertext"][0][1]


def test_level_is_told_with_all_pairs_in_mind(document):
    study = document()["searches"]
    study["comparisons"][1]["verdict_holm"] = "undecided"  # softmax and gumbel_rao, decided by themselves
    pairs = findings.differences(study)
    names = ["softmax", "reinmax", "gumbel_rao", "score_gate"]
    assert findings.level_with("softmax", names, pairs) == ("reinmax", "gumbel_rao")
    assert "but not among so many pairs" in str(figures.matrix_figure(names, pairs))


def test_level_are_the_undecided_ones(document):
    pairs = findings.differences(document()["searches"])
    names = ["softmax", "reinmax", "gumbel_rao", "score_gate"]
    assert findings.level_with("softmax", names, pairs) == ("reinmax",)
    assert findings.level_with("reinmax", names, pairs) == ("softmax", "gumbel_rao")


@pytest.mark.parametrize(
    "values", [[0.0, 0.03, 2.0], [1e-4], [0.0], [], [None, 0.1, 0.1], [5e-9, 3.0], [250.0, 40.0], [1.0, 0.1]]
)
def test_on_a_scale_only_0_reads_as_0(values):
    found = findings.scale(values)
    positive = [v for v in values if v]
    assert found.floor > 0
    assert float(f"{found.floor:.{found.digits}f}") == 0
    if positive:
        assert found.top == max(positive)
        for value in positive:
            if value >= found.top / 1e5:
                assert float(f"{value:.{found.digits}f}") > 0
                assert value > found.floor
    assert found.at(0.0) == found.floor
    assert found.at(None) is None
    assert found.share(0.0) == 0.0
    assert found.share(found.top) == 1.0


def test_positions_on_a_scale_are_logarithmic():
    found = findings.Scale(0.01, 100.0, 1)
    assert [found.share(v) for v in (0.001, 0.01, 0.1, 1, 10, 100, 1000)] == pytest.approx(
        [0, 0, 0.25, 0.5, 0.75, 1, 1]
    )


def test_schedules_go_by_sampler_with_the_best_and_those_level_with_it(document):
    rows = findings.schedules_by_sampler(document()["schedules"])
    assert list(rows) == ["reinmax", "gumbel_rao"]
    assert [(r.schedule, r.best, r.level) for r in rows["gumbel_rao"]] == [
        ("constant:1", True, False),
        ("linear:10:0.1", False, True),
        ("exponential:10:1", False, False),
    ]


def test_the_chosen_schedules_hold_the_best_of_every_sampler(document):
    study = document()["schedules"]
    assert findings.best_schedules(study, 2) == ["reinmax · constant:1", "gumbel_rao · constant:1"]
    assert findings.best_schedules(study, 3)[1] == "reinmax · linear:10:0.1"
    assert len(findings.best_schedules(study, 99)) == 6


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        ({"name": "a · first · cosine:1:0.1"}, ("a · first", "cosine:1:0.1")),
        ({"name": "a · unrolled"}, ("a · unrolled", "no temperature")),
        ({"name": "linear:1:2"}, ("linear:1:2", "no temperature")),
        (
            {"name": "a", "settings": {"temperature": {"schedule": "constant", "start": 0.5, "end": None}}},
            ("a", "constant:0.5"),
        ),
    ],
)
def test_a_name_splits_into_sampler_and_schedule(outcome, expected):
    assert findings.split_schedule(outcome) == expected


def test_common_settings_are_those_all_share(document):
    common, own = findings.common_settings(document()["searches"]["outcomes"])
    assert common["architecture.learning_rate"] == 0.05
    assert "sampler.name" not in common
    assert own["reinmax"] == {"sampler.name": "reinmax"}
    assert findings.common_settings([]) == ({}, {})
    ragged = [{"name": "a", "settings": {"x": None}}, {"name": "b", "settings": {}}]
    assert findings.common_settings(ragged) == ({}, {"a": {"x": None}, "b": {}})


def test_the_main_point_is_leaning_where_it_was_measured(document):
    rows = document()["estimators"]
    assert findings.main_point(rows) == "leaning"
    assert findings.main_point([r for r in rows if r["point"] != "leaning"]) == "nearly decided"
    assert [r["name"] for r in findings.estimators_at(rows, "leaning")] == [
        "softmax", "reinmax", "gumbel_rao", "score_gate",
    ]  # fmt: skip


def test_the_verdict_names_the_winner_the_gap_and_who_is_level(document):
    text = " ".join(verdict.searches(document()["searches"]))
    assert "Of 4 contenders softmax ends with the least regret, 0.00 ± 0.20 points" in text
    assert "100% of its 8 searches at the optimum" in text
    assert "Not to be told from it: reinmax (paired bootstrap, 5 %, corrected for 6 pairs)." in text
    assert "clearly behind, gumbel_rao, has 2.00 points more (95 % interval 0.50 to 3.50)" in text


def test_the_verdict_when_nobody_is_level_and_when_everybody_is(document):
    study = document(["a", "b"])["searches"]
    (pair,) = study["comparisons"]
    assert "More seeds are needed to rank them." in verdict.searches(study)
    pair.update(difference=-0.01, low=-0.02, high=-0.005, verdict="better", verdict_holm="better")
    assert verdict.searches(study)[1] == (
        "The next, b, has 1.00 points more (95 % interval 0.50 to 2.00) "
        "(paired bootstrap, 5 %, corrected for 1 pair)."
    )
    few = document(["a", "b"], seeds=7)["searches"]
    assert "More seeds are needed to rank them: fewer than 8 decide nothing." in verdict.searches(few)


def test_the_verdict_of_one_contender_and_of_none_that_is_finite(document):
    study = document(["only"])["searches"]
    (text,) = verdict.searches(study)
    assert text.startswith("only ends with this regret, 0.00 ± 0.20 points")
    study["outcomes"][0]["regret"] = None
    assert verdict.searches(study) == ["No search has a finite regret."]


def test_the_verdict_on_estimators(document):
    text = " ".join(verdict.estimators(document()["estimators"]))
    assert "softmax draws nothing and is exact" in text
    assert "Of those that draw, reinmax has the least mean squared error at leaning logits: 0.19 " in text
    assert "Without a measurable bias the least is that of gumbel_rao: 1." in text


def test_the_verdict_on_schedules_recommends_one_for_each_sampler(document):
    study = document()["schedules"]
    first, second = verdict.schedules(study)
    assert first == (
        "For reinmax use constant:1 (regret 0.00 ± 0.20 points); not to be told from it: linear:10:0.1."
    )
    assert second.startswith("For gumbel_rao use constant:1 (regret 3.00 ± 0.20 points)")
    study["outcomes"][2]["regret"] = -0.03  # now exponential:10:1, and constant:1 is clearly worse
    row = next(
        r for r in study["comparisons"] if (r["first"], r["second"]) == (
            "reinmax · constant:1", "reinmax · exponential:10:1")
    )  # fmt: skip
    row.update(difference=0.03, low=0.02, high=0.04, verdict="worse", verdict_holm="worse")
    assert "; constant:1 has 3.00 points more (95 % interval 2.00 to 4.00)." in verdict.schedules(study)[0]


def test_tiles_leave_out_what_was_not_studied(document):
    def labels(studies):
        return [label for label, _, _ in verdict.tiles(document(studies=studies))]

    assert labels("searches") == ["least regret", "first at the optimum"]
    assert labels("estimators") == ["best estimate"]
    assert labels("schedules") == ["schedule for reinmax", "schedule for gumbel_rao"]


def test_numbers_show_two_digits_of_their_error():
    assert verdict.points(0.5, 0.1) == "50.00 ± 10.00 points"
    assert verdict.points(1.234e-4, 1.2e-6) == "0.01234 ± 0.00012 points"
    assert verdict.points(0.0, 0.0) == "0 points"
    gap = Difference(0.01234, 0.0120, 0.0126, 0.1, "worse", "worse")
    assert verdict.more(gap) == "1.234 points more (95 % interval 1.200 to 1.260)"


def test_names_cover_neither_points_nor_names():
    at = [(100.0, 100.0), (110.0, 103.0), (100.0, 130.0), (390.0, 100.0)]
    names = ["first name", "second name", "third name", "at the edge"]
    places = labels.placed(names, at, (400.0, 200.0))
    assert places[0] == "middle left"  # to the right is the second point
    assert places[3] == "middle left"
    assert None not in places
    crowd = [(200.0 + i, 100.0) for i in range(40)]
    placed = labels.placed(["a name"] * 40, crowd, (400.0, 200.0))
    assert 2 <= sum(p is not None for p in placed) < 15


@pytest.mark.parametrize(("length", "limit"), list(itertools.product((5, 24, 25, 26, 80), (24, 25))))
def test_short_names_are_short(length, limit):
    name = "".join(chr(97 + i % 26) for i in range(length))
    shortened = labels.short(name, limit)
    assert len(shortened) <= limit + 1
    assert (shortened == name) == (length <= limit + 1)
    assert shortened[0] == name[0]
    assert shortened[-1] == name[-1]
