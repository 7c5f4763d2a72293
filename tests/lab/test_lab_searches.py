"""What is said of searches, against courses and landscapes made by hand."""

import dataclasses
import math

import pytest
import torch

from archgrad.lab.contenders import line_up
from archgrad.lab.convergence import Course, _Watch, outcome, run
from archgrad.lab.tables import verdict
from archgrad.landscapes.build import build
from archgrad.landscapes.multilinear import MultilinearLandscape
from archgrad.policy import Policy
from archgrad.samplers.softmax import Softmax


def one(sampler, steps, **settings):
    (contender,) = line_up(samplers=[sampler], steps=steps, settings=settings).contenders
    return contender


def ended(final, steps=8, **changes):
    """A course that ended at these architectures [S, E]."""
    final = torch.tensor(final)
    rows = torch.zeros(steps, len(final), dtype=torch.float64)
    course = Course(
        "made", list(range(steps)), [1.0] * steps, rows, rows, rows, rows, torch.tensor([-1] * len(final)),
        final, 0.0,
    )  # fmt: skip
    return dataclasses.replace(course, **changes)


def misleading():
    """Searched: least loss at (0, 0). In truth that is the third best, and (1, 1) the best."""
    truth = MultilinearLandscape(torch.tensor([[0.3, 0.2], [0.4, 0.05]], dtype=torch.float64))
    table = torch.tensor([[0.1, 0.2], [0.4, 0.3]], dtype=torch.float64)
    return MultilinearLandscape(table, truth.groups[0], truth=truth)


def test_what_is_hit_is_the_optimum_of_what_is_searched_and_regret_is_in_truth():
    land = misleading()
    course = run(one("softmax", 60), land, searches=6)
    assert course.final.tolist() == [[0, 0]] * 6
    assert bool((course.hit >= 0).all())
    for search, step in enumerate(course.hit.tolist()):
        assert step in course.steps
        assert step == 0 or course.stability[course.steps.index(step), search] < 1  # it came there then
    found = outcome(course, land, threshold=0.15)
    assert (found.optimum, found.reached) == (1.0, 1.0)
    assert found.regret == pytest.approx(0.25)
    assert found.steps_to_optimum == float(course.hit.double().median())


def test_the_best_percent_is_counted_by_true_losses():
    land = misleading()
    course = ended([[0, 0], [1, 1], [1, 1], [0, 1]])
    assert outcome(course, land, threshold=0.15).top == 0.5  # by the searched losses it were (0, 0)'s quarter
    assert outcome(course, land, threshold=0.15).optimum == 0.25


def test_stability_is_that_of_the_last_quarter():
    stability = torch.tensor([[1.0, 1], [0, 0], [0, 0], [0, 0], [0, 0], [0, 0], [0.5, 1], [1, 0.5]])
    course = ended([[0, 0], [0, 0]], stability=stability.double())
    assert outcome(course, misleading(), 0.0).stability == 0.75


def test_entropy_and_margin_are_those_of_the_end():
    rows = torch.arange(16, dtype=torch.float64).reshape(8, 2)
    found = outcome(ended([[0, 0], [0, 0]], entropy=rows, margin=2 * rows), misleading(), 0.0)
    assert (found.entropy, found.margin) == (14.5, 29.0)


def test_stability_compares_with_the_step_recorded_before():
    land = build("separable", choices=3, candidates=2)
    watch = _Watch(land, Policy(land.groups, Softmax()), 2)
    first = torch.tensor([[[1.0, 0.0]] * 3, [[1.0, 0.0]] * 3])
    other = first.clone()
    other[1, 0] = torch.tensor([0.0, 1.0])  # the first choice of the second search
    watch.look(0, 1.0, [first], record=True)
    watch.look(1, 1.0, [other], record=False)
    watch.look(2, 1.0, [first], record=True)
    watch.look(3, 1.0, [other], record=True)
    watch.look(4, 1.0, [other], record=True)
    found = watch.course("made", 0.0).stability
    wanted = torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, 2 / 3], [1.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(found, wanted)


def test_closed_gates_have_no_entropy():
    land = build("separable", choices=3, candidates=3)
    closed = one("sigmoid", 2, architecture={"initial_mean": -200.0})
    course = run(closed, land, searches=2)
    assert bool(course.entropy.isfinite().all())
    assert float(course.entropy.abs().max()) == 0.0


def table(comparisons, seeds=8):
    rows = [
        {"name": name, "regret": i / 100, "steps_to_optimum": None, "searches": seeds}
        for i, name in enumerate("abcd")
    ]
    made = [
        {
            "first": first, "second": second, "difference": -0.1, "low": -0.2, "high": 0.1, "wins": 0.5,
            "p": 0.01, "verdict": verdict_, "p_holm": 0.1, "verdict_holm": corrected,
        }
        for first, second, verdict_, corrected in comparisons
    ]  # fmt: skip
    return {"outcomes": rows, "comparisons": made, "pairs_tested": len(made)}


def test_the_verdict_lists_who_cannot_be_told_from_the_best_and_nobody_else():
    pairs = [
        ("a", "b", "better", "undecided"),  # decided by itself, not among all
        ("d", "a", "worse", "worse"),
        ("a", "c", "better", "better"),
        ("b", "c", "undecided", "undecided"),
        ("b", "d", "undecided", "undecided"),
        ("c", "d", "undecided", "undecided"),
    ]
    assert verdict(table(pairs)) == (
        "least regret: a; not to be told from it (paired bootstrap, 5 %, corrected for 6 pairs): b"
    )
    decided = [(first, second, "better", "better") for first, second, *_ in pairs]
    assert verdict(table(decided)) == (
        "least regret: a, better than every other (paired bootstrap, 5 %, corrected for 6 pairs)"
    )
    assert "fewer than 8 seeds decide nothing): " in verdict(table(pairs, seeds=7))


def test_one_seed_is_better_than_nobody():
    land = build("deceptive", choices=3, candidates=3)
    from archgrad.lab.comparison import compare

    courses = [run(one(s, 5), land, searches=1) for s in ("softmax", "straight_through", "reinmax")]
    assert {c.verdict for c in compare(courses)} == {"undecided"}
    assert not any(math.isnan(c.p) for c in compare(courses))
