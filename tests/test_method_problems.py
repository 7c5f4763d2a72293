"""Combinations of parts that cannot work are refused with everything else, before any work."""

import re
from dataclasses import replace

import pytest
import torch

from archgrad.architecture_step import architecture_step
from archgrad.choice import Group
from archgrad.config_problems import check
from archgrad.controllers.lstm import LSTM
from archgrad.errors import ConfigError
from archgrad.policy import Policy
from archgrad.samplers.two_path import TwoPath
from archgrad.search_state import SearchPlan, SearchState
from archgrad.settings import DataSize, resolve

DIGITS = DataSize("digits", 1437, (1, 8, 8))
SCORE = {"name": "score_function"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        # a score function needs to know how probable a draw is
        ({"method": "drnas", "hypergradient": SCORE}, "does not say how probable"),
        ({"method": "fairdarts", "regularizer": {"name": "none"}, "hypergradient": SCORE}, "how probable"),
        ({"method": "enas", "hypergradient": {"name": "rebar"}}, "rebar"),
        ({"method": "proxyless", "hypergradient": {"name": "rebar"}}, "rebar"),
        # a temperature that nothing reads
        (
            {"method": "gdas", "hypergradient": SCORE, "temperature": {"start": 5.0}},
            "temperature.start: with 'score_function', 'straight_through' has no temperature",
        ),
        (
            {
                "method": "gdas",
                "sampler": {"name": "straight_through", "unselected": "scalar"},
                "hypergradient": SCORE,
            },
            "sampler.unselected: it shapes the sampler's gradient, which 'score_function' does not use",
        ),
        (
            {"method": "reinmax", "temperature": {"schedule": "exponential"}},
            "temperature.schedule: 'exponential' from 1 to 1 goes nowhere; give both ends",
        ),
        # a term without strength, or a strength without its term
        ({"method": "darts", "regularizer": {"name": "exploration_bonus"}}, "regularizer.strength: 0 leaves"),
        ({"method": "fairdarts", "regularizer": {"strength": 0.0}}, "regularizer.strength: 0 leaves"),
        ({"method": "darts", "regularizer": {"strength": 0.1}}, "no term is chosen"),
        ({"method": "darts", "regularizer": {"name": "zero_one", "strength": 1.0}}, "does not go with"),
        (
            {"method": "fairdarts", "regularizer": {"name": "decisiveness_penalty"}},
            "does not go with independent gates",
        ),
        # a controller where nothing learns
        ({"method": "random", "controller": {"name": "lstm"}}, "controller.name: the method 'random'"),
        # logits that are rescaled after a step
        ({"method": "proxyless", "architecture": {"weight_decay": 0.1}}, "architecture.weight_decay"),
        ({"method": "proxyless", "architecture": {"betas": (0.5, 0.9)}}, "architecture.betas"),
        ({"method": "enas", "sampler": {"name": "two_path"}}, "controller.name"),
        (
            {"method": "proxyless", "regularizer": {"name": "exploration_bonus", "strength": 0.1}},
            "regularizer.name: 'two_path' moves two logits",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(given, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        check(given)


@pytest.mark.parametrize(
    "given",
    [
        {"method": "gdas", "hypergradient": {"name": "rebar"}, "temperature": {"start": 5.0}},
        {"method": "darts", "sampler": {"name": "gumbel_max"}, "hypergradient": SCORE},
        {"method": "snas", "cost": {"name": "none"}, "hypergradient": SCORE, "temperature": {"start": 2.0}},
        {"method": "enas", "sampler": {"name": "straight_through"}, "hypergradient": {"name": "first_order"}},
        {"method": "darts", "regularizer": {"name": "exploration_bonus", "strength": 0.1}},
        {
            "method": "snas",
            "sampler": {"name": "noisy_gumbel_softmax", "logit_noise": 0.0, "candidate_dropout": 0.1},
        },
        {"method": "darts", "hypergradient": {"name": "implicit_neumann", "damping": 0.0}},
    ],
)
def test_what_goes_together_is_taken(given):
    document = resolve(given, DIGITS).document()
    for section, keys in given.items():
        if section != "method" and (section, keys) != ("cost", {"name": "none"}):
            assert {key: document[section][key] for key in keys} == keys


def test_the_rule_for_logits_leaves_the_parameters_of_an_lstm_alone():
    enas = resolve({"method": "enas"}, DIGITS)
    assert enas.config.architecture.learning_rate == 1e-3
    assert not any("architecture.learning_rate" in note for note in enas.notes)
    assert resolve({"method": "gdas"}, DIGITS).config.architecture.learning_rate > 1e-3


def test_logits_are_rescaled_only_where_they_are_what_is_learned():
    groups = (Group(("a", "b", "c"), ("0", "1")),)
    for controller, moved_mean in ((LSTM(hidden=4, layers=1), -1.0), (None, None)):
        policy = Policy(groups, TwoPath(), controller) if controller else Policy(groups, TwoPath())
        theta = policy.controller.initial(groups, torch.Generator().manual_seed(0), 0.1, 0.0)
        before = [t.detach().clone() for t in theta]
        plan = SearchPlan(policy, None, 1, lambda e: 1.0, lambda e: 0.1)
        state = SearchState(theta, None, torch.optim.SGD(theta, lr=1.0))
        architecture_step(state, replace(plan), [torch.ones_like(t) for t in theta])
        for old, new in zip(before, theta, strict=True):
            step = (new.detach() - old).mean()
            # logits that all move alike keep their log-sum-exp, so they end where they were
            assert float(step) == pytest.approx(moved_mean if moved_mean is not None else 0.0, abs=1e-5)


def test_steps_on_the_logits_are_counted_over_the_search(tiny, few_digits):
    from archgrad.parts import Parts
    from archgrad.search import search
    from archgrad.search_records import StepRecord

    settings = tiny(
        method="proxyless",
        data={"validation": 0.5},
        search={"epochs": 4, "batch_size": 60, "warmup_epochs": 0, "architecture_every": 3},
    )
    parts = Parts.of(resolve(settings, DataSize("digits", 160, (1, 8, 8))).config, few_digits)
    network = parts.supernet()
    task, state, plan = parts.task(network), parts.state(network), parts.plan(network.groups)
    assert task.steps_per_epoch % 3
    moved, before = [], [a.detach().clone() for a in state.logits]
    for record in search(task, state, plan, parts.streams):
        if isinstance(record, StepRecord):
            now = [a.detach().clone() for a in state.logits]
            moved.append(any(not torch.equal(a, b) for a, b in zip(now, before, strict=True)))
            before = now
    assert [step for step, stepped in enumerate(moved) if stepped] == list(range(0, len(moved), 3))
