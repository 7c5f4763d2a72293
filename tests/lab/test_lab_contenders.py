"""Who competes, under which name and with which settings; what the laboratory refuses."""

import dataclasses

import pytest

from archgrad.errors import UserError
from archgrad.lab.contenders import LAB_SETTINGS, line_up
from archgrad.lab.studies import LabSettings, study
from archgrad.lab.tables import csv_files, text

SMALL = LabSettings(
    samplers=["softmax"],
    landscape="separable",
    landscape_settings={"choices": 2, "candidates": 2},
    seeds=2,
    steps=2,
    draws=2,
    studies=["searches"],
)
ENAS = ["enas"]


def asked(**changes):
    return study(dataclasses.replace(SMALL, **changes))


def names(document, title="searches"):
    return [row["name"] for row in document[title]["outcomes"]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": 3}, "--seed"),
        ({"method": "gdas"}, "--methods"),
        ({"search": {"epochs": 2}}, "--steps"),
        ({"search": {"batch_size": 2}}, "no other of its keys"),
        ({"temperature": {"start": 7}}, "--schedules"),
        ({"sampler": {"name": "gumbel_softmax"}}, r"--samplers name\(key=value\)"),
        ({"sampler": {"samples": 2}}, r"--samplers name\(key=value\)"),
        ({"hypergradient": {"samples": 2}}, "--hypergradients"),
        *(({section: {"name": "x"}}, "does not read it") for section in ("space", "cost", "data", "device")),
        *(({section: {"epochs": 2}}, "does not read it") for section in ("weights", "train", "derive")),
        ({"weigths": {"clip": 1}}, "does not read it"),
        ({"architecture": 3}, "architecture.KEY=VALUE"),
        ({"controller": {"hidden": 5}}, "controller.hidden: no contender reads it"),
        ({"regularizer": {"strength": 0.1}}, "regularizer.strength: no contender reads it"),
        ({"architecture": {"optimizer": "sgd", "betas": [0.5, 0.9]}}, "betas: no contender reads it"),
        ({"controller": {"name": "lstm", "hiden": 5}}, "hiden"),
        ({"architecture": {"learning_rte": 1}}, "learning_rate"),
    ],
)
def test_a_setting_that_changes_nothing_or_who_competes_is_refused(settings, message):
    with pytest.raises(UserError, match=message):
        asked(overrides=settings)


def test_settings_go_to_those_that_read_them():
    settings = {
        "architecture": {"learning_rate": 0.2, "betas": [0.1, 0.9]},
        "regularizer": {"name": "decisiveness_penalty", "strength": 0.01},
        "controller": {"hidden": 5},
    }
    line = line_up(methods=["gdas", "enas", "fairdarts"], steps=7, settings=settings)
    gdas, enas = (c.config for c in line.contenders)
    assert len(line.left_out) == 1  # entropy is not of gates
    assert "fairdarts: regularizer.name" in line.left_out[0]
    for config in (gdas, enas):
        assert (config.architecture.learning_rate, config.architecture.betas) == (0.2, (0.1, 0.9))
        assert (config.regularizer.name, config.regularizer.strength) == ("decisiveness_penalty", 0.01)
        assert config.search.epochs == 7
    assert enas.controller.settings() == {"hidden": 5}
    assert gdas.controller.settings() == {}
    assert "controller.hidden" in line.read


def test_a_key_that_one_of_several_lines_reads_is_taken():
    document = asked(
        samplers=[], studies=["searches"], overrides={"regularizer": {"name": "zero_one", "strength": 0.1}}
    )
    assert set(names(document)) == {"sigmoid", "binary_concrete"}
    assert any("softmax" in line for line in document["left_out"])


def test_an_lstm_is_small_unless_its_size_is_given():
    (enas,) = line_up(methods=["enas"], steps=2).contenders
    assert enas.config.controller.settings() == {"hidden": 8}
    (mine,) = line_up(methods=["enas"], steps=2, settings={"controller": {"hidden": 5}}).contenders
    assert mine.config.controller.settings() == {"hidden": 5}
    (gdas,) = line_up(methods=["gdas"], steps=2).contenders
    assert gdas.config.controller.settings() == {}


def test_a_given_rate_wins_over_that_of_the_laboratory():
    enas, gdas = line_up(methods=["enas", "gdas"], steps=2).contenders
    rates = {c.config.document()["architecture"]["learning_rate"] for c in (enas, gdas)}
    assert rates == {LAB_SETTINGS["architecture"]["learning_rate"]} == {0.05}
    faster = line_up(methods=["enas"], steps=2, settings={"architecture": {"learning_rate": 0.3}})
    assert faster.contenders[0].config.architecture.learning_rate == 0.3
    assert LAB_SETTINGS["architecture"]["learning_rate"] == 0.05  # a table that stays as it is


def test_a_sampler_that_needs_plain_steps_has_them():
    (two,) = line_up(samplers=["two_path"], steps=2).contenders
    assert two.config.architecture.betas[0] == two.config.architecture.weight_decay == 0.0
    line = line_up(
        samplers=["two_path", "softmax"], steps=2, settings={"architecture": {"betas": [0.5, 0.9]}}
    )
    assert [c.name for c in line.contenders] == ["softmax"]
    assert "two_path" in line.left_out[0]


def test_a_method_and_a_sampler_of_one_name_both_compete():
    line = line_up(methods=["reinmax"], samplers=["reinmax", "softmax", "softmax"], steps=2)
    assert [c.name for c in line.contenders] == ["reinmax", "reinmax (sampler)", "softmax"]
    assert [c.config.method for c in line.contenders] == ["reinmax", "darts", "darts"]


def test_pairs_that_do_not_fit_are_left_out_before_the_work():
    document = asked(
        samplers=["gumbel_max", "decoupled_straight_through", "two_path"], hypergradients=["rebar"]
    )
    assert names(document) == ["gumbel_max · rebar"]
    assert len(document["left_out"]) == 2


def test_the_study_of_schedules_takes_hypergradients_and_says_what_it_left_out():
    document = asked(
        samplers=["gumbel_max", "softmax"],
        hypergradients=["rebar"],
        schedules=["constant:1", "linear:10:1"],
        studies=["schedules"],
    )
    assert names(document, "schedules") == [
        "gumbel_max · rebar · constant:1",
        "gumbel_max · rebar · linear:10:1",
    ]
    assert all(line.startswith("softmax · rebar") for line in document["left_out"])
    assert len(document["left_out"]) == 2
    assert "searches" not in document


def test_by_default_every_schedule_competes_with_rebar_too():
    document = asked(samplers=[], schedules=["constant:1", "constant:3"])
    rebar = {n for n in names(document) if "rebar" in n}
    assert rebar == {"gumbel_max · rebar · constant:1", "gumbel_max · rebar · constant:3"}
    assert sum("score_function" in n for n in names(document)) == 3  # they have no temperature
    assert any(line.startswith("uniform") for line in document["left_out"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"studies": []}, "wanted a study"),
        ({"studies": ["estimators"], "methods": ENAS, "samplers": []}, "independent logits"),
        ({"studies": ["schedules"], "methods": ENAS, "samplers": []}, "give --samplers"),
        ({"studies": ["searches", "schedules"], "methods": ["snas"], "samplers": []}, "give --samplers"),
        ({"methods": ["snas"], "samplers": [], "schedules": ["constant:1"]}, "schedule of their own"),
        ({"methods": ["snas"], "samplers": [], "hypergradients": ["rebar"]}, "--samplers"),
        ({"studies": ["schedules"], "samplers": [], "hypergradients": ["rebar"]}, "--samplers"),
    ],
)
def test_what_would_measure_nothing_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        asked(**changes)


def test_where_no_logits_are_independent_there_are_searches_only():
    document = asked(methods=ENAS, samplers=[], studies=["estimators", "searches"])
    assert document["estimators"] == []
    assert set(csv_files(document)) == {"searches.csv", "searches_curves.csv"}
    assert "no contender has independent logits" in text(document)
