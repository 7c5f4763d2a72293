"""Experiments on landscapes: the same searches as the laboratory's, a control, and nothing done twice."""

import csv
import json
import math

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from archgrad.cli import main
from archgrad.errors import UserError
from archgrad.experiment import landscape as landscape_arms
from archgrad.experiment.measures import converged_at
from archgrad.experiment.plan import CONTROL, Plan, network_arms
from archgrad.experiment.points import curves_of, curves_of_runs
from archgrad.lab.contenders import line_up
from archgrad.lab.convergence import run
from archgrad.landscapes.build import build
from archgrad.randomness import Streams
from archgrad.verbs.experiment import experiment_run

SMALL = {"choices": 3, "candidates": 4}


def plan(**changes):
    given = {
        "methods": ["darts", "gdas"],
        "landscape": "separable",
        "landscape_settings": SMALL,
        "seeds": 6,
        "steps": 40,
    }
    return Plan(**{**given, **changes})


def rows_of(document, arm):
    return [row for row in document["runs"] if row["arm"] == arm]


def test_searches_are_those_of_the_laboratory(tmp_path):
    document = experiment_run(plan(schedules=["constant:1", "exponential:10:0.1"]), tmp_path / "e")
    names = [arm["name"] for arm in document["arms"]]
    assert names == [
        "darts · constant:1", "darts · exponential:10:0.1", "gdas · constant:1", "gdas · exponential:10:0.1",
        CONTROL,
    ]  # fmt: skip
    landscape = build("separable", **SMALL)
    (contender,) = line_up(["gdas"], steps=40).contenders
    temperature = contender.config.temperature.model_copy(update={"schedule": "constant", "start": 1.0})
    contender.config.__dict__["temperature"] = temperature
    course = run(contender, landscape, searches=6)
    found = rows_of(document, "gdas · constant:1")
    regret = course.regret[-1].tolist()
    assert [row["regret"] for row in found] == pytest.approx(regret)
    assert [row["true_accuracy"] for row in found] == pytest.approx([1 - landscape.best - r for r in regret])
    assert [row["entropy"] for row in found] == pytest.approx((course.entropy[-1] / math.log(4)).tolist())
    assert [row["stability"] for row in found] == pytest.approx(course.stability[1:].mean(0).tolist())
    assert [row["success"] for row in found] == [r <= 0.01 for r in regret]


def test_convergence_is_the_first_record_from_which_on_nothing_happens():
    entropy = np.array(
        [[0.9, 0.3, 0.3, 0.3], [0.4, 0.6, 0.3, 0.3], [0.3, 0.3, 0.3, 0.3], [0.2, 0.2, 0.2, 0.9]]
    )
    same = np.array([[1, 1, 0, 1], [1, 1, 0, 1], [1, 1, 0, 1], [1, 1, 1, 1]], dtype=bool)
    # the third is still moving at the end, the fourth is undecided there
    assert converged_at(entropy, same, 0.5).tolist() == [1, 2, -1, -1]
    assert converged_at(entropy[:, :1], same[:, :1], 0.1).tolist() == [-1]
    long = np.full((100, 1), 0.1)
    late = np.arange(100)[:, None] >= 91  # for nine of a hundred records only
    assert converged_at(long, late, 0.5).tolist() == [-1]
    assert converged_at(long, np.arange(100)[:, None] >= 90, 0.5).tolist() == [90]


@pytest.mark.parametrize(("method", "threshold"), [("darts", 0.5), ("gdas", 0.999)])
def test_a_search_that_converges_is_found_to(tmp_path, method, threshold):
    """Once the entropy decides when, once the last change of a winner."""
    document = experiment_run(plan(methods=[method], steps=100, entropy=threshold), tmp_path / "e")
    landscape = build("separable", **SMALL)
    (contender,) = line_up([method], steps=100).contenders
    course = run(contender, landscape, searches=6)
    converged = [row for row in rows_of(document, method) if row["converged"] is not None]
    assert len(converged) >= 3
    for row in converged:
        s, index = row["seed"], course.steps.index(row["converged"])
        low = course.entropy[:, s] / math.log(4) <= threshold
        still = course.stability[:, s] == 1
        assert bool(low[index:].all())
        assert bool(still[index + 1 :].all())
        assert index == 0 or not (bool(low[index - 1]) and bool(still[index]))


def test_the_control_is_the_best_of_as_many_random_architectures(tmp_path):
    document = experiment_run(plan(seed=3), tmp_path / "e")
    landscape = build("separable", **SMALL)
    for s, row in enumerate(rows_of(document, CONTROL)):
        generator = Streams(3).generator("experiment/random search", s)
        drawn = torch.randint(4, (40, 3), generator=generator)
        assert row["true_accuracy"] == pytest.approx(1 - float(landscape.values(drawn).min()))
        assert row["seed"] == 3 + s
    assert len({row["true_accuracy"] for row in rows_of(document, CONTROL)}) > 1
    curve = document["curves"][CONTROL]["accuracy"]["mean"]
    assert curve == sorted(curve)
    assert curve[-1] == pytest.approx(
        np.mean([r["true_accuracy"] for r in rows_of(document, CONTROL)]), rel=1e-5
    )
    assert document["curves"][CONTROL]["entropy"] is None


def test_the_control_looks_at_what_is_searched_and_is_judged_by_the_truth(tmp_path):
    noisy = plan(noise={"name": "additive", "sigma": 0.5}, steps=300, seeds=4)
    document = experiment_run(noisy, tmp_path / "e")
    landscape = build("separable", {"name": "additive", "sigma": 0.5}, **SMALL)
    for s, row in enumerate(rows_of(document, CONTROL)):
        drawn = torch.randint(4, (300, 3), generator=Streams(0).generator("experiment/random search", s))
        best = drawn[landscape.values(drawn).argmin()]
        assert row["valid_accuracy"] == pytest.approx(1 - float(landscape.values(best)))
        assert row["true_accuracy"] == pytest.approx(1 - float(landscape.truth.values(best)))
    assert document["score"] == "true_accuracy"


def test_nothing_is_done_twice_and_more_can_be_added(tmp_path, monkeypatch):
    done = []
    searched, drawn = landscape_arms._searched, landscape_arms._random_search
    monkeypatch.setattr(landscape_arms, "_searched", lambda *a: (done.append(a[2].name), searched(*a))[1])
    monkeypatch.setattr(landscape_arms, "_random_search", lambda *a: (done.append(CONTROL), drawn(*a))[1])
    first = experiment_run(plan(), tmp_path)
    again = experiment_run(plan(), tmp_path)
    assert done == ["darts", "gdas", CONTROL]
    assert again["runs"] == first["runs"]
    more = experiment_run(plan(methods=["darts", "gdas", "snas"]), tmp_path)
    assert done[3:] == ["snas"]
    assert more["runs"][:12] == first["runs"][:12]
    experiment_run(plan(seeds=7), tmp_path)
    assert done[4:] == ["darts", "gdas", CONTROL]
    file = tmp_path / "arms" / "darts.json"
    file.write_text(file.read_text()[:50])  # damaged: made anew
    assert experiment_run(plan(seeds=7), tmp_path)["arms"][0]["done"] == 7
    assert done[7:] == ["darts"]
    with pytest.raises(UserError, match=r"steps: the experiment has 40, you gave 41"):
        experiment_run(plan(steps=41), tmp_path)


def test_files(tmp_path):
    document = experiment_run(plan(methods=["darts", "gdas", "snas"]), tmp_path)
    assert json.loads((tmp_path / "experiment.json").read_text()) == json.loads(json.dumps(document))
    with (tmp_path / "runs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24
    assert [float(row["true_accuracy"]) for row in rows] == [r["true_accuracy"] for r in document["runs"]]
    with (tmp_path / "comparison.csv").open() as file:
        pairs = list(csv.DictReader(file))
    assert len(pairs) == 6
    assert {(p["first"], p["second"]) for p in pairs} >= {("darts", "gdas"), ("snas", CONTROL)}
    assert float(pairs[0]["permutation_holm"]) == document["comparisons"][0]["permutation_holm"]
    assert pairs[2]["speed_value"] == ""  # of the control nothing converges
    assert (tmp_path / "ranks.svg").read_text().startswith("<svg")
    mean = document["ranks"]["mean"]
    assert sum(mean.values()) == pytest.approx(10)
    assert {"darts", "gdas", "snas", CONTROL} == set(mean)


def test_an_arm_that_fails_is_recorded_and_the_others_go_on(tmp_path):
    document = experiment_run(
        plan(methods=["gdas", "bad=darts(architecture.learning_rate=1e300)"], steps=30), tmp_path
    )
    states = {arm["name"]: (arm["done"], arm["failed"]) for arm in document["arms"]}
    assert states == {"gdas": (6, 0), "bad": (0, 6), CONTROL: (6, 0)}
    assert "overflow" in rows_of(document, "bad")[0]["message"]
    assert [pair["first"] for pair in document["comparisons"]] == ["gdas"]
    assert "bad, seed 0" in CliRunner().invoke(
        main,
        [
            "experiment", "--landscape", "separable", "landscape.choices=3", "landscape.candidates=4",
            "--methods", "gdas,bad=darts(architecture.learning_rate=1e300)", "--steps", "30", "--seeds", "6",
            "--out", str(tmp_path),
        ],
    ).stdout  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": []}, "at least one method"),
        ({"methods": ["dart"]}, "did you mean 'darts'"),
        ({"methods": ["random"]}, "trains no logits"),
        ({"methods": ["darts(architecture.foo=1)"]}, "foo"),
        (
            {"methods": ["darts", "darts(architecture.initial_scale=0.1)", "darts=gdas"]},
            "two arms are called",
        ),
        ({"methods": [f"{CONTROL}=darts"]}, "two arms are called"),
        ({"schedules": ["linear:1"]}, "linear:START:END"),
        ({"settings": {"search": {"epochs": 3}}}, "--steps"),
        ({"settings": {"controller": {"hidden": 3}}}, "no contender reads it"),
        ({"settings": {"seed": 3}}, "--seed"),
        ({"seeds": 0}, "at least one seed"),
        ({"entropy": 1.5}, "--entropy"),
        ({"within": -1.0}, "--within"),
        ({"train": True}, "leave --train out"),
        ({"landscape": "nowhere"}, "unknown landscape"),
    ],
)
def test_bad_plans(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        experiment_run(plan(**changes), tmp_path)
    assert not (tmp_path / "experiment.json").exists()


def test_other_folders_are_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="something else"):
        experiment_run(plan(), tmp_path)
    with pytest.raises(UserError, match="is a file"):
        experiment_run(plan(), tmp_path / "thesis.tex")
    with pytest.raises(UserError, match="leave --jobs out"):
        experiment_run(plan(), tmp_path / "new", jobs=2)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "experiment.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        experiment_run(plan(), tmp_path / "broken")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--methods", "darts"], "--landscape nasbench201"),
        (["--methods", "darts", "--data", "digits", "--steps", "3"], "--steps: an option of experiments"),
        (["--methods", "darts", "--landscape", "separable", "--data", "digits"], "--data: an option"),
        (["--methods", "darts", "--data", "digits", "noise.name=additive"], "noise.name: a setting of a"),
        (["--methods", "darts", "--landscape", "separable", "landscape=3"], "write --landscape NAME"),
    ],
)
def test_options_that_do_not_go_together(words, message, tmp_path):
    result = CliRunner().invoke(main, ["experiment", *words, "--out", str(tmp_path / "e")])
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "e").exists()


def test_arms_of_networks_are_checked_before_anything_runs():
    arms = network_arms(
        Plan(
            methods=["darts", "snas", "few=gdas(search.epochs=3)"],
            schedules=["constant:1", "exponential:10:0.1"],
            settings={"cost": {"strength": 0.1}, "search": {"epochs": 9}},
        )
    )
    assert [arm.name for arm in arms] == [
        f"{label} · {tau}"
        for label in ("darts", "snas", "few")
        for tau in ("constant:1", "exponential:10:0.1")
    ]
    assert "cost" not in arms[0].settings  # darts has no cost
    assert arms[2].settings["cost"] == {"strength": 0.1}
    assert arms[4].settings["search"]["epochs"] == 3
    assert arms[5].settings["temperature"] == {"schedule": "exponential", "start": 10.0, "end": 0.1}
    assert len({arm.slug for arm in arms}) == 6
    assert all(set(arm.slug) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-") for arm in arms)
    once = network_arms(Plan(methods=["dsnas"], schedules=["constant:1", "constant:2"]))
    assert [(arm.name, arm.schedule) for arm in once] == [("dsnas", None)]
    with pytest.raises(UserError, match="no method here reads it"):
        network_arms(Plan(methods=["darts"], settings={"cost": {"strength": 0.1}}))
    with pytest.raises(UserError, match="reads texts"):
        network_arms(
            Plan(methods=["darts"], settings={"space": {"name": "darts_rnn"}, "data": {"name": "ptb"}})
        )
    with pytest.raises(UserError, match="cannot be a setting"):
        network_arms(Plan(methods=["darts(seed=3)"]))


def test_curves_of_runs_of_different_length():
    from archgrad.experiment.measures import RunCurves

    found = curves_of_runs(
        [
            RunCurves([1, 2], [1.0, 0.5], [None, 1.0], [0.1, 0.2]),
            RunCurves([1, 2, 3], [0.8, 0.4, 0.2], [None, 0.5, 1.0], [0.3, 0.4, 0.9]),
        ]
    )
    assert found["at"] == [1, 2, 3]
    assert found["entropy"]["mean"] == pytest.approx([0.9, 0.45, 0.2])
    assert found["stability"]["mean"] == [None, 0.75, 1.0]
    assert found["accuracy"]["upper"] == pytest.approx([0.25, 0.35, 0.9])
    assert curves_of_runs([]) is None
    assert curves_of([0], None, [[math.nan]], [[1.0]])["stability"] is None
