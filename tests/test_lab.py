"""The laboratory: estimators against the exact gradient, searches at once, comparisons, and its output."""

import csv
import io
import itertools
import json
import math
from dataclasses import replace

import pytest
import torch

from archgrad.errors import UserError
from archgrad.lab.comparison import compare
from archgrad.lab.contenders import line_up, names, part, schedule
from archgrad.lab.convergence import best_percent, outcome, run
from archgrad.lab.estimators import estimate, points
from archgrad.lab.studies import LabSettings, study
from archgrad.lab.tables import csv_files, text, verdict
from archgrad.landscapes.build import build
from archgrad.landscapes.landscape import exact_gradient
from archgrad.landscapes.multilinear import MultilinearLandscape
from archgrad.samplers import SAMPLERS
from archgrad.verbs.lab import lab_run

SMALL = {"choices": 3, "candidates": 3}


def one(sampler="softmax", hypergradient="first_order", steps=60, **settings):
    (contender,) = line_up(
        samplers=[sampler], hypergradients=[hypergradient], steps=steps, settings=settings
    ).contenders
    return contender


def landscape(name="separable", **settings):
    return build(name, **{**SMALL, **settings})


# ---- who competes


def test_names_and_parts_are_read():
    assert names("a, b(c=1,d=2) ,e") == ["a", "b(c=1,d=2)", "e"]
    assert part("b(c=1,d=x)") == {"name": "b", "c": 1, "d": "x"}
    assert schedule("linear:1:0.03") == {"schedule": "linear", "start": 1.0, "end": 0.03}


@pytest.mark.parametrize("bad", ["linear:1", "constant", "constant:1:2", "lineer:1:2", "linear:a:b", ""])
def test_a_schedule_that_does_not_read_is_refused(bad):
    with pytest.raises(UserError, match="schedule"):
        schedule(bad)


def test_a_part_that_does_not_read_is_refused():
    with pytest.raises(UserError, match="reads name"):
        part("a(b")


def test_all_combinations_that_fit_compete():
    line = line_up(
        samplers=["softmax", "gumbel_max", "dirichlet"],
        hypergradients=["first_order", "score_function"],
        schedules=["constant:1", "linear:10:0.1"],
        steps=10,
    )
    assert [c.name for c in line.contenders] == [
        "softmax · constant:1",
        "softmax · linear:10:0.1",
        "gumbel_max · score_function",  # neither has a temperature, so each competes once
        "dirichlet",
    ]
    assert len(line.left_out) == 3  # softmax and dirichlet with a score function; gumbel_max without
    assert any("how probable" in why for why in line.left_out)
    assert any("no gradient" in why for why in line.left_out)


def test_methods_keep_what_makes_them():
    (snas, gdas) = line_up(methods=["snas", "gdas"], steps=77).contenders
    assert snas.config.hypergradient.name == "single_level"
    assert snas.config.cost.name == "none"  # a landscape has no cost
    assert (gdas.config.temperature.start, gdas.config.temperature.end) == (10.0, 0.1)
    assert {c.config.search.epochs for c in (snas, gdas)} == {77}
    assert {c.config.search.warmup_epochs for c in line_up(methods=["proxyless"], steps=9).contenders} == {0}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"samplers": ["softmx"]}, "did you mean 'softmax'"),
        ({"methods": ["gdass"]}, "did you mean 'gdas'"),
        ({"methods": ["random"]}, "trains no logits"),
        ({"samplers": ["softmax"], "hypergradients": ["first_ordr"]}, "did you mean 'first_order'"),
        ({}, "give --methods or --samplers"),
        ({"samplers": ["softmax"], "settings": {"architecture": {"learning_rte": 1}}}, "learning_rate"),
        ({"samplers": ["gumbel_rao(samples=0)"]}, "samples"),
    ],
)
def test_wrong_names_and_settings_are_refused(wrong, message):
    with pytest.raises(UserError, match=message):
        line_up(steps=5, **wrong)


# ---- estimators


def test_the_exact_gradient_is_that_of_the_enumerated_expectation():
    table = torch.rand(3, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    alpha = logits.clone().requires_grad_()
    p = torch.softmax(alpha, dim=-1)
    expected = sum(
        p[0, a] * p[1, b] * p[2, c] * table[a, b, c] for a, b, c in itertools.product(range(3), repeat=3)
    )
    (wanted,) = torch.autograd.grad(expected, alpha)
    torch.testing.assert_close(
        exact_gradient(MultilinearLandscape(table), logits), wanted, atol=1e-14, rtol=0
    )


def test_an_estimate_equals_its_enumeration():
    """score_gate with every draw weighed by its probability: bias 0, and the variance in closed form."""
    table = torch.rand(2, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    land, logits = MultilinearLandscape(table), torch.tensor([[0.3, -0.4], [0.1, 0.8]], dtype=torch.float64)
    found = estimate(one("gumbel_max", "score_function(baseline=none)"), land, logits, draws=200_000, seed=4)
    p = torch.softmax(logits, dim=-1)
    exact = exact_gradient(land, logits)
    mse = 0.0
    for a, b in itertools.product(range(2), repeat=2):
        hot = torch.nn.functional.one_hot(torch.tensor([a, b]), 2)
        mse += float(p[0, a] * p[1, b] * (table[a, b] * (hot - p) - exact).square().sum())
    scale = float(exact.square().sum())
    assert found.mse == pytest.approx(mse / scale, rel=0.02)
    assert found.variance == pytest.approx(mse / scale, rel=0.02)
    assert found.bias_p > 0.01
    assert found.mean_cosine > 0.99


def test_the_softmax_is_exact_and_a_biased_estimator_is_seen_to_be():
    land = landscape("pairwise")
    logits = points(land, 0)["leaning"]
    exact = estimate(one("softmax"), land, logits, draws=100)
    assert exact.bias < 1e-5
    assert exact.variance < 1e-8
    biased = estimate(one("straight_through"), land, logits, draws=20_000, tau=0.5)
    assert biased.bias > 10 * biased.bias_error
    assert biased.bias_p < 1e-9
    assert estimate(one("reinmax"), land, logits, draws=20_000).bias_p > 0.01


def test_gates_that_did_not_run_have_no_gradient_when_only_active_ones_are_observed():
    land = landscape()
    logits = points(land, 0)["leaning"]
    both = {
        observe: estimate(one("straight_through"), land, logits, draws=5_000, observe=observe)
        for observe in ("all", "active")
    }
    assert both["all"].cosine > 2 * both["active"].cosine
    assert both["all"].bias + 10 * both["all"].bias_error < both["active"].bias


def test_an_offset_of_the_losses_changes_nothing_when_only_active_gates_are_observed():
    table = torch.rand(3, 3, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    plain, shifted = MultilinearLandscape(table), MultilinearLandscape(table + 5)
    logits = points(plain, 0)["leaning"]
    for sampler in ("straight_through", "score_gate", "softmax"):
        a, b = (estimate(one(sampler), x, logits, draws=2_000, observe="active") for x in (plain, shifted))
        assert a.mse == pytest.approx(b.mse, rel=1e-3, abs=1e-9)
        assert a.mean_cosine == pytest.approx(b.mean_cosine, abs=1e-3)
    assert a.bias < 1e-4  # the softmax runs every candidate, so it stays exact


def test_too_few_draws_are_refused():
    land = landscape()
    with pytest.raises(UserError, match="at least 2 draws"):
        estimate(one(), land, points(land, 0)["leaning"], draws=1)


def test_a_controller_has_no_logits_to_measure_at():
    (enas,) = line_up(methods=["enas"], steps=5).contenders
    land = landscape()
    with pytest.raises(UserError, match="independent choices"):
        estimate(enas, land, points(land, 0)["leaning"])


# ---- searches


def test_a_search_on_a_separable_landscape_finds_its_optimum():
    land = landscape()
    course = run(one("softmax"), land, searches=8)
    found = outcome(course, land, best_percent(land))
    assert found.optimum == found.top == found.reached == 1.0
    assert found.regret == 0.0
    assert found.skips is None
    assert 0 < found.steps_to_optimum < 60
    assert course.steps[0] == 0
    assert course.steps[-1] == 60
    assert course.entropy[0].mean() == pytest.approx(math.log(3), abs=1e-3)
    assert course.entropy[-1].mean() < 0.5
    assert bool((course.stability[0] == 1).all())


def test_many_searches_at_once_are_the_searches_one_by_one():
    land = landscape("pairwise")
    contender = one("softmax", steps=20, architecture={"learning_rate": 0.1})
    together = run(contender, land, searches=5)
    alone = run(contender, land, searches=1)  # deterministic sampler: the batch draws no other noise
    torch.testing.assert_close(together.regret[:, 0], alone.regret[:, 0], atol=1e-9, rtol=0)
    torch.testing.assert_close(together.entropy[:, 0], alone.entropy[:, 0], atol=1e-6, rtol=0)
    assert not torch.equal(together.margin[:, 0], together.margin[:, 1])


def test_runs_are_repeatable_and_seeds_differ():
    land, contender = landscape(), one("straight_through", steps=30)
    first, again, other = (run(contender, land, searches=4, seed=s) for s in (1, 1, 2))
    assert torch.equal(first.margin, again.margin)
    assert not torch.equal(first.margin, other.margin)


@pytest.mark.parametrize(
    "method", ["gdas", "snas", "drnas", "proxyless", "reinmax", "dsnas", "fairdarts", "enas"]
)
def test_every_method_searches_a_landscape(method):
    land = landscape()
    # at its published strength the 0-1 loss outweighs losses below 1: it fixes what the first steps began
    milder = {"regularizer": {"strength": 0.1}} if method == "fairdarts" else {}
    (contender,) = line_up(methods=[method], steps=150, settings=milder).contenders
    found = outcome(run(contender, land, searches=8), land, best_percent(land))
    start = outcome(run(line_up(methods=[method], steps=1).contenders[0], land, searches=64), land, 0.0)
    assert found.regret < 0.7 * start.regret
    assert found.name == method


def test_gates_count_by_their_shares():
    land = landscape()
    found = outcome(run(one("sigmoid"), land, searches=4), land, best_percent(land))
    assert found.optimum == 1.0
    logits = points(land, 0)["leaning"]
    assert estimate(one("sigmoid"), land, logits, draws=10).bias < 1e-5


def test_skip_connections_are_counted_as_collapse():
    land = build("nasbench201")
    course = run(one("softmax", steps=2), land, searches=3)
    skip = land.groups[0].candidates.index("skip_connect")
    final = torch.full_like(course.final, skip)
    final[0] = 3
    collapsed = type(course)(**{**course.__dict__, "final": final})
    assert outcome(collapsed, land, 1.0).skips == pytest.approx(2 / 3)


def test_the_best_percent_is_the_quantile_of_all_architectures():
    table = torch.arange(1000, dtype=torch.float64).reshape(10, 10, 10)
    land = MultilinearLandscape(table)
    assert best_percent(land) == 9.0  # ten of a thousand
    assert best_percent(land, sample=999) == pytest.approx(9.0, abs=8)


def test_no_search_is_refused():
    with pytest.raises(UserError, match="at least one search"):
        run(one(), landscape(), searches=0)


# ---- comparison


def test_pairs_are_compared_seed_by_seed():
    land = landscape("deceptive", choices=4)
    a = run(one("softmax", steps=40), land, searches=40)
    worse = type(a)(**{**a.__dict__, "name": "worse", "regret": a.regret + 0.01})
    (pair,) = compare([a, worse])
    assert (pair.verdict, pair.difference) == ("better", pytest.approx(-0.01))
    assert pair.wins == 1.0
    (pair,) = compare([worse, a])
    assert pair.verdict == "worse"
    (pair,) = compare([a, a])
    assert (pair.verdict, pair.wins) == ("undecided", 0.5)


# ---- the studies, their tables and files


@pytest.fixture(scope="module")
def document():
    return study(
        LabSettings(
            samplers=["softmax", "straight_through", "gumbel_max"],
            landscape="pairwise",
            landscape_settings=SMALL,
            schedules=["constant:1", "linear:10:0.1"],
            seeds=6,
            steps=20,
            draws=200,
            studies=["estimators", "searches", "schedules"],
        )
    )


def test_the_document_holds_every_study(document):
    names_ = [
        "softmax · constant:1",
        "softmax · linear:10:0.1",
        "straight_through · constant:1",
        "straight_through · linear:10:0.1",
    ]
    assert [o["name"] for o in document["searches"]["outcomes"]] == names_
    assert list(document["searches"]["curves"]) == names_
    assert len(document["searches"]["comparisons"]) == 6
    assert {r["point"] for r in document["estimators"]} == {"undecided", "leaning", "nearly decided"}
    assert {r["tau"] for r in document["estimators"]} == {1.0, 10.0}
    assert document["left_out"]
    curve = document["searches"]["curves"][names_[0]]
    lengths = {len(curve["steps"]), len(curve["tau"]), len(curve["found"]), len(curve["regret"]["mean"])}
    assert lengths == {21}
    assert all(a <= b + 1e-12 for a, b in itertools.pairwise(curve["found"]))
    json.dumps(document)


def test_the_tables_say_what_the_document_holds(document):
    shown = text(document)
    for row in document["searches"]["outcomes"]:
        assert row["name"] in shown
    assert "left out:" in shown
    land = build("pairwise", **SMALL)
    every = torch.tensor(list(itertools.product(range(3), repeat=3)))
    control = float(land.values(every).mean()) - land.best
    assert document["landscape"]["regret_of_random"] == pytest.approx(control, abs=1e-6)
    assert f"control: an architecture drawn at random has {100 * control:.3f} points" in shown
    assert verdict(document["searches"]) in shown
    files = csv_files(document)
    assert len(files) == 7
    rows = list(csv.DictReader(io.StringIO(files["searches.csv"])))
    assert [float(r["regret"]) for r in rows] == [o["regret"] for o in document["searches"]["outcomes"]]


def test_a_sampler_of_ones_own_joins_by_name(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from archgrad.samplers.softmax import Softmax\nclass Mine(Softmax):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    line = line_up(samplers=["mine:Mine"], steps=3)
    assert [c.name for c in line.contenders] == ["mine:Mine"]
    land = landscape()
    assert run(line.contenders[0], land, searches=2).regret.shape == (4, 2)


BROKEN = """
import torch
from archgrad.choice import Sample
class Broken:
    uses_temperature = False
    one_active = False
    def __call__(self, logits, tau, generator):
        return Sample(1.1 * torch.softmax(logits, dim=-1))
    def probabilities(self, logits):
        return torch.softmax(logits, dim=-1)
"""


def test_a_sampler_of_ones_own_that_breaks_a_law_is_told_which(tmp_path, monkeypatch):
    (tmp_path / "broken_sampler.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(
        UserError, match="breaks a law of samplers: rows of a sample are non-negative and sum to 1"
    ):
        line_up(samplers=["broken_sampler:Broken"], steps=3)


@pytest.mark.parametrize(("tau", "logit"), [(0.0, 0.0), (math.inf, 0.0), (1.0, math.nan)])
def test_what_cannot_be_drawn_from_is_refused(tau, logit):
    land = landscape()
    with pytest.raises(UserError, match="a sampler's"):
        estimate(one(), land, torch.full((3, 3), logit), tau=tau, draws=4)


def test_a_search_refuses_logits_that_are_not_finite_to_begin_with():
    with pytest.raises(UserError, match="a sampler's logits are finite"):
        run(one(architecture={"initial_mean": 3e38, "initial_scale": 3e38}), landscape(), searches=2)


def test_by_default_every_sampler_competes():
    document = study(
        LabSettings(
            landscape="separable", landscape_settings=SMALL, seeds=2, steps=2, draws=2, studies=["searches"]
        )
    )
    compared = [o["name"] for o in document["searches"]["outcomes"]]
    without = {"gumbel_max", "uniform"}  # they have no gradient
    assert {n.partition("(")[0] for n in compared if "·" not in n} == set(SAMPLERS) - without
    assert sum("·" in n for n in compared) == 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"studies": ["search"]}, "unknown study 'search'"),
        ({"landscape": "nasbench"}, "did you mean 'nasbench201'"),
        ({"landscape_settings": {"colum": "x"}}, "did you mean 'column'"),
        ({"noise": {"name": "addtive"}}, "did you mean 'additive'"),
        ({"hypergradients": ["score_function"]}, "--samplers"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        study(LabSettings(**settings))


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    settings = LabSettings(landscape="separable", landscape_settings=SMALL, seeds=2, steps=2, draws=2)
    with pytest.raises(UserError, match="something else"):
        lab_run(settings, tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == ["thesis.txt"]


def test_what_a_landscape_cannot_give_is_left_out_before_the_work():
    settings = LabSettings(
        samplers=["softmax", "straight_through(unselected=scalar)"],
        landscape="separable",
        landscape_settings=SMALL,
        seeds=8,
        steps=2,
        studies=["searches"],
    )
    document = study(settings)
    assert [o["name"] for o in document["searches"]["outcomes"]] == ["softmax"]
    assert any("unselected=scalar" in line and "no output" in line for line in document["left_out"])
    with pytest.raises(UserError, match="no output"):
        study(replace(settings, samplers=settings.samplers[1:]))
