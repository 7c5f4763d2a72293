"""The section ``cost``: which form reads what, with which methods it goes; a search pays the price."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from archgrad.cli import main
from archgrad.config_problems import check
from archgrad.errors import ConfigError
from archgrad.method_parts import penalty_of, target_of
from archgrad.parts import Parts
from archgrad.penalties import PENALTIES
from archgrad.penalties.penalty import STRENGTHS
from archgrad.runs import Run
from archgrad.settings import DataSize, resolve
from archgrad.verbs import derive_run, search_run

DIGITS = DataSize("digits", 1437, (1, 8, 8))
REWARD = {"name": "macs", "form": "mnasnet", "target": "100k"}
SCORE = {"sampler": {"name": "gumbel_max"}, "hypergradient": {"name": "score_function"}}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cost": {"form": "linear"}}, "cost.form: no cost is chosen; set cost.name"),
        ({"cost": {"target": "60M"}}, "cost.target: no cost is chosen"),
        ({"cost": {"name": "macs", "form": "logaritmic"}}, "did you mean 'logarithmic'"),
        (
            {"cost": {"name": "macs", "form": "logarithmic"}},
            "cost.strength: 0 leaves the form 'logarithmic' out; set cost.strength=mild",
        ),
        (
            {"cost": {"name": "macs", "strength": 0.1, "target": "60M"}},
            "cost.target: the form 'linear' has no such setting; it has strength",
        ),
        (
            {"cost": {"name": "macs", "form": "fbnet", "strength": "mild"}},
            "cost.strength: the form 'fbnet' has no such setting; it has alpha, beta",
        ),
        (
            {"cost": {"name": "macs", "form": "fbnet", "alpha": -1.0}},
            "both finite and above 0; got -1 and 0.6",
        ),
        ({"cost": {"name": "macs", "form": "proxyless"}}, "cost.target: the form 'proxyless' aims at a cost"),
        (
            {"cost": {"name": "macs", "form": "proxyless", "target": "60"}},
            "cost.target: 'macs=60': '60' has no unit",
        ),
        (
            {"cost": {"name": "macs", "form": "proxyless", "target": "60ms"}},
            "cost.target: 'macs=60ms': unknown unit 'ms'",
        ),
        (
            {"cost": {"name": "macs", "form": "proxyless", "target": "60M±3%"}},
            "without a tolerance or a table, got '60M±3%'",
        ),
        (
            {"cost": {"name": "macs", "form": "proxyless", "target": "60M@phone.json"}},
            "without a tolerance or a table",
        ),
        (
            {"cost": {"name": "macs", "form": "proxyless", "target": 60.0}},
            "cost.target: should be a valid string, got 60.0",
        ),
        # forms and hypergradients
        ({"cost": REWARD}, "'first_order' needs one; set hypergradient.name=score_function"),
        ({"method": "dsnas", "cost": REWARD}, "'single_level' needs one"),
        (
            {"method": "gdas", "hypergradient": {"name": "rebar"}, "cost": REWARD},
            "'rebar' takes one; set hypergradient.name=score_function",
        ),
        (
            {"method": "snas", "hypergradient": {"name": "score_function"}, "cost": REWARD},
            "'gumbel_softmax' draws mixtures of several; set sampler.name=gumbel_max",
        ),
        ({"method": "enas", "cost": {**REWARD, "alpha": 0.1}}, "at most 0 and not both 0"),
        (
            {"method": "snas", "cost": {"form": "fbnet"}},
            "'fbnet' multiplies the loss, and 'single_level' takes the weights' gradient from it, too",
        ),
        (
            {"method": "random", "cost": {"name": "macs", "form": "fbnet"}},
            "cost.form: the logits are not trained",
        ),
        # beside a budget on the same cost
        (
            {"budget": {"macs": "60M"}, "cost": {"name": "macs", "form": "fbnet"}},
            "cost.form: a budget holds 'macs' already",
        ),
        (
            {"budget": {"macs": "60M"}, "cost": {"name": "macs", "strength": "mild"}},
            "cost.strength: a budget holds 'macs' already",
        ),
        # of one's own
        ({"cost": {"name": "macs", "form": "torch:zeros"}}, "as every form of a penalty is"),
        ({"cost": {"name": "macs", "form": "math:hypot"}}, "as every form of a penalty is"),
    ],
)
def test_what_does_not_go_together_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        check({"method": "darts", **given})


TAKEN: list[dict[str, Any]] = [
    {"method": "snas", "cost": {"form": "logarithmic"}},
    {"method": "darts", "cost": {"name": "macs", "form": "fbnet"}},
    {"method": "gdas", "cost": {"name": "parameters", "form": "fbnet", "beta": 1.5}},
    {"method": "proxyless", "cost": {"name": "macs", "form": "proxyless", "target": "1e5k"}},
    {"method": "enas", "cost": REWARD},
    {"method": "enas", "cost": {**REWARD, "alpha": 0.0, "beta": -1.0}},
    {"method": "gdas", **SCORE, "cost": REWARD},
    {"method": "gdas", "hypergradient": {"name": "rebar"}, "cost": {"name": "macs", "form": "fbnet"}},
    {"method": "darts", "cost": {"name": "macs"}},  # recorded only
    {"method": "darts", "budget": {"macs": "60M"}, "cost": {"name": "parameters", "form": "fbnet"}},
]


@pytest.mark.parametrize("given", TAKEN)
def test_a_configuration_says_what_its_form_reads_and_can_be_fed_back(given: dict[str, Any]) -> None:
    resolved = resolve(given, DIGITS)
    document = resolved.document()
    section = document["cost"]
    assert {key: section[key] for key in given["cost"]} == given["cost"]
    reads = {"linear": {"strength"}, "logarithmic": {"strength"}, "fbnet": {"alpha", "beta"}}
    reads |= {form: {"target", "alpha", "beta"} for form in ("mnasnet", "proxyless")}
    assert set(section) == {"name", "form"} | reads[section["form"]]
    assert resolve(document, DIGITS).document() == document


def test_without_a_cost_nothing_of_it_is_said() -> None:
    assert resolve({"method": "darts"}, DIGITS).document()["cost"] == {"name": "none"}
    assert resolve({"method": "random", "cost": {"name": "macs"}}, DIGITS).document()["cost"] == {
        "name": "macs"
    }


def test_the_units_of_a_target_are_those_of_budgets() -> None:
    for name, text, wanted in (
        ("macs", "60M", 60e6),
        ("file_size", "2MB", 2e6),
        ("traffic", "1.5GB", 1.5e9),
        ("my_costs:LATENCY", "200us", 0.2),
    ):
        cost = check({"cost": {"name": "macs", "form": "fbnet"}}).cost
        changed = cost.model_copy(update={"name": name, "form": "mnasnet", "target": text})
        assert target_of(changed) == pytest.approx(wanted)


def test_a_form_of_your_own_needs_no_registration(tmp_path, monkeypatch) -> None:
    (tmp_path / "my_forms.py").write_text(
        "from dataclasses import dataclass\n\n\n@dataclass\nclass Hinge:\n    cost: object\n"
        "    target: float\n    beta: float\n\n    def __call__(self, task, accuracy, weights):\n"
        "        return task + self.beta * (self.cost.expected(weights) / self.target - 1).clamp(min=0)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    section = {"name": "macs", "form": "my_forms:Hinge", "target": "10k", "beta": 1.0}
    config = check({"method": "darts", "cost": section})
    from archgrad.choice import Group
    from archgrad.costs.cost_table import CostTable

    costs = CostTable(
        "macs", "MACs", 0.0, (Group(("a", "b"), ("x",)),), (torch.tensor([[5e3, 4e4]]).double(),)
    )
    penalty = penalty_of(config, costs)
    assert penalty is not None
    weights = [torch.tensor([[0.0, 1.0]]).double()]
    assert float(penalty(torch.ones(()), torch.ones(()), weights)) == 4.0
    with pytest.raises(ConfigError, match=r"has no such setting; it has target, beta"):
        check({"method": "darts", "cost": {**section, "alpha": 1.0}})
    with pytest.raises(ConfigError, match=r"cost\.beta: the form 'my_forms:Hinge' needs it"):
        check({"method": "darts", "cost": {k: v for k, v in section.items() if k != "beta"}})


def searched(tiny, data, folder, **changes: Any) -> Run:
    return search_run(tiny(**changes), folder, data=data)


@pytest.mark.parametrize(
    ("method", "cost"),
    [
        ("darts", {"name": "macs", "form": "logarithmic", "strength": 1.0}),
        ("snas", {"name": "macs", "form": "logarithmic", "strength": 1.0}),
        ("darts-2nd", {"name": "macs", "form": "linear", "strength": 1.0}),
        ("gdas", {"name": "macs", "form": "fbnet", "alpha": 1e-10, "beta": 10.0}),
        ("proxyless", {"name": "macs", "form": "proxyless", "target": "30k", "beta": 30.0}),
        ("enas", {"name": "macs", "form": "mnasnet", "target": "30k", "alpha": -3.0, "beta": -3.0}),
    ],
)
def test_a_search_pays_the_price(method, cost, tiny, few_digits, tmp_path) -> None:
    """A price far above all else: the expected cost falls below that of the same search without one."""
    common = {
        "method": method,
        "search": {"epochs": 6, "warmup_epochs": 0, "architecture_every": 1},
        "architecture": {"learning_rate": 0.1},
    }
    plain = searched(tiny, few_digits, tmp_path / "plain", cost={"name": "macs", "strength": 0.0}, **common)
    priced = searched(tiny, few_digits, tmp_path / "priced", cost=cost, **common)
    first, last = (run.read_lines("metrics.jsonl")[-1]["cost"] for run in (plain, priced))
    assert last < 0.9 * first
    # the network's loss is recorded without the price
    assert 1.0 < priced.read_lines("metrics.jsonl")[0]["valid_loss"] < 4.0
    assert derive_run(priced.folder).macs <= derive_run(plain.folder).macs
    resumed = priced.read_config()["cost"]
    assert {key: resumed[key] for key in cost} == cost


def test_weights_are_trained_on_the_task_alone_where_they_alternate(tiny, few_digits) -> None:
    """Of two levels only the logits see the price; of one, both come from the one loss."""
    for method, priced in (("darts", False), ("snas", True)):
        settings = tiny(method=method, cost={"name": "macs", "strength": 2.0})
        config = resolve(settings, DataSize("few digits", 200, (1, 8, 8), own_test=True)).config
        parts = Parts.of(config, few_digits)
        network = parts.supernet()
        task = parts.task(network)
        train, valid = next(iter(task.steps(0, 0)))
        generator = torch.Generator().manual_seed(0)
        state, plan = parts.state(network), parts.plan(network.groups)
        samples = plan.policy.draw(state.logits, 1.0, generator)
        for objective, there in ((train, priced), (valid, True)):
            outcome = objective(samples)
            assert (float(outcome.loss.detach()) != float(outcome.task_loss)) == there


def test_the_command_line_takes_the_keys_and_lists_the_forms(tmp_path) -> None:
    listed = CliRunner().invoke(main, ["list", "forms"])
    assert listed.exit_code == 0
    assert all(form in listed.output for form in PENALTIES)
    pairs = ["cost.name=macs", "cost.form=mnasnet", "cost.target=1M", "cost.alpha=0", "cost.beta=-1"]
    failed = CliRunner().invoke(
        main, ["search", "--data", "digits", "--method", "darts", *pairs, "--run", str(tmp_path / "run")]
    )
    assert failed.exit_code != 0
    assert "set hypergradient.name=score_function" in failed.output
    assert "cost.alpha" not in failed.output


@pytest.mark.parametrize("name", STRENGTHS)
def test_a_name_is_its_number(name: str) -> None:
    from archgrad.costs.cost_table import cost_table
    from archgrad.spaces.nasbench201 import NasBench201Network

    costs = cost_table("macs", NasBench201Network, (1, 8, 8), 10, {"channels": 2, "cells": 1})
    named, number = (
        penalty_of(check({"method": "darts", "cost": {"name": "macs", "strength": s}}), costs)
        for s in (name, STRENGTHS[name])
    )
    assert named is not None
    assert named.slope == number.slope > 0  # type: ignore[attr-defined, union-attr]
