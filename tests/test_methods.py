"""The presets, resolved for CIFAR-10, are the published settings."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from archgrad.config import Config
from archgrad.hypergradients import HYPERGRADIENTS
from archgrad.methods import METHODS
from archgrad.samplers import SAMPLERS
from archgrad.schedules import SCHEDULES, epoch_progress
from archgrad.settings import DataSize, resolve

CIFAR10 = DataSize("cifar10", 50_000, (3, 32, 32), True, mirror=True)

# Liu et al. 2019, appendix A.1, and the authors' code
DARTS = {
    "data.validation": 0.5,
    "data.crop": 4,
    "data.flip": True,
    "search.epochs": 50,
    "search.batch_size": 64,
    "search.order": "architecture_first",
    "search.warmup_epochs": 0,
    "search.drop_path": 0.0,
    "sampler.name": "softmax",
    "temperature.schedule": "constant",
    "temperature.start": 1.0,
    "hypergradient.name": "first_order",
    "weights.learning_rate": 0.025,
    "weights.final_learning_rate": 0.001,
    "weights.momentum": 0.9,
    "weights.nesterov": False,
    "weights.weight_decay": 3e-4,
    "weights.clip": 5.0,
    "architecture.optimizer": "adam",
    "architecture.learning_rate": 3e-4,
    "architecture.betas": (0.5, 0.999),
    "architecture.weight_decay": 1e-3,
    "architecture.clip": None,
    "architecture.initial_mean": 0.0,
    "architecture.initial_scale": 1e-3,
    "cost.name": "none",
    "derive.rule": "darts",
}
PUBLISHED: dict[str, dict[str, Any]] = {
    "darts": DARTS,
    "darts-2nd": {**DARTS, "hypergradient.name": "unrolled"},
    # Dong & Yang 2019, section 4.1, and the authors' code
    "gdas": {
        **DARTS,
        "search.epochs": 250,
        "search.order": "weights_first",
        "sampler.name": "straight_through",
        "temperature.schedule": "linear",
        "temperature.start": 10.0,
        "temperature.end": 0.1,
        "weights.nesterov": True,
        "weights.weight_decay": 5e-4,
    },
    # Xie et al. 2019, appendix, and the authors' code. Different on purpose: a tenth of the images is
    # held back to watch the search by (theirs was the test set), and the penalty is on multiply-adds, in
    # standard deviations over the space, instead of a sum in three units.
    "snas": {
        **DARTS,
        "data.validation": 0.1,
        "search.epochs": 150,
        "search.drop_path": 0.3,
        "sampler.name": "gumbel_softmax",
        "temperature.schedule": "linear",
        "temperature.start": 1.0,
        "temperature.end": 0.03,
        "hypergradient.name": "single_level",
        "architecture.initial_mean": 1.0,
        "architecture.initial_scale": 0.01,
        "architecture.clip": 10.0,
        "cost.name": "macs",
        "cost.strength": "mild",
        "derive.rule": "snas",
    },
    # Pham et al. 2018, with the sizes of Dong & Yang 2020 for NAS-Bench-201 (theirs: 20 draws a step, Adam's
    # eps 1e-3, accuracy as reward; here one draw, and minus the loss)
    "enas": {
        **DARTS,
        "search.epochs": 250,
        "search.order": "weights_first",
        "sampler.name": "gumbel_max",
        "controller.name": "lstm",
        "hypergradient.name": "score_function",
        "hypergradient.baseline": "moving_average",
        "hypergradient.decay": 0.99,
        "hypergradient.entropy_bonus": 1e-4,
        "architecture.learning_rate": 1e-3,
        "architecture.betas": (0.0, 0.999),
        "architecture.weight_decay": 0.0,
        "architecture.clip": 5.0,
        "architecture.initial_scale": 0.1,
    },
    # Hu et al. 2020: 240 epochs, weights and logits from the same batch
    "dsnas": {
        **DARTS,
        "data.validation": 0.1,
        "search.epochs": 240,
        "sampler.name": "score_gate",
        "hypergradient.name": "single_level",
        "derive.rule": "argmax",
    },
    # Cai et al. 2019, and the authors' code: 40 epochs of weights, then 120 of both
    "proxyless": {
        **DARTS,
        "search.epochs": 160,
        "search.warmup_epochs": 40,
        "search.architecture_every": 5,
        "search.order": "weights_first",
        "sampler.name": "two_path",
        "architecture.learning_rate": 1e-3,
        "architecture.betas": (0.0, 0.999),
        "architecture.weight_decay": 0.0,
    },
    # Chen et al. 2021, the NAS-Bench-201 search without its second stage
    "drnas": {
        **DARTS,
        "search.epochs": 100,
        "search.warmup_epochs": 10,
        "sampler.name": "dirichlet",
        "architecture.learning_rate": 6e-4,
    },
    # its NAS-Bench-201 search in two stages of 50 epochs, K = 4 and then 2, 5 candidates and then 3
    "drnas-2stage": {
        **DARTS,
        "search.epochs": 50,
        "search.warmup_epochs": 10,
        "sampler.name": "dirichlet",
        "architecture.learning_rate": 6e-4,
        "stages": [
            {"keep": 0.6, "settings": {"space": {"partial_channels": 4}}},
            {"keep": None, "settings": {"space": {"partial_channels": 2}}},
        ],
    },
    # Wang et al. 2021: DARTS, and 5 epochs of tuning after each decision by validation accuracy
    "darts-pt": {
        **DARTS,
        "selection.name": "perturbation",
        "selection.tune_epochs": 5,
        "selection.measure": "accuracy",
    },
    # Chen et al. 2019, and the authors' README: 3 stages of 25 epochs
    "pdarts": {
        **DARTS,
        "search.epochs": 25,
        "search.warmup_epochs": 10,
        "search.batch_size": 96,
        "architecture.learning_rate": 6e-4,
        "architecture.clip": 5.0,
        "derive.rule": "pdarts",
        "stages": [
            {"keep": 5, "settings": {"space": {"cells": 5}, "search": {"skip_dropout": 0.1}}},
            {"keep": 3, "settings": {"space": {"cells": 11}, "search": {"skip_dropout": 0.4}}},
            {"keep": None, "settings": {"space": {"cells": 17}, "search": {"skip_dropout": 0.7}}},
        ],
    },
    # Zela et al. 2020: as DARTS, with a rule; its numbers are the rule's defaults
    "darts-es": {**DARTS, "diagnostics.sharpness": 1, "stopping.rules.lambda_max.": {}},
    "darts-ada": {
        **DARTS,
        "diagnostics.sharpness": 1,
        "stopping.rules.lambda_max.action": "raise_weight_decay",
    },
    # Liang et al. 2019, criterion 1
    "darts-plus": {**DARTS, "stopping.rules.skip_count.": {}},
    # Chu et al. 2020: w₀₋₁ = 10
    "fairdarts": {
        **DARTS,
        "sampler.name": "sigmoid",
        "regularizer.name": "zero_one",
        "regularizer.strength": 10.0,
    },
    # Liu et al. 2023 is an estimator: the rest is GDAS, at the τ for which it is of second order
    "reinmax": {
        **DARTS,
        "search.epochs": 250,
        "search.order": "weights_first",
        "sampler.name": "reinmax",
        "weights.nesterov": True,
        "weights.weight_decay": 5e-4,
    },
    # Li & Talwalkar 2019: weights shared by uniform sampling; the logits are not trained
    "random": {
        **DARTS,
        "data.validation": 0.1,
        "sampler.name": "uniform",
        "hypergradient.name": "none",
    },
}


def flat(document, prefix=""):
    keys = {}
    for key, value in document.items():
        below = flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
        keys |= below or {f"{prefix}{key}.": {}}
    return keys


@pytest.mark.parametrize("method", METHODS)
def test_the_preset_is_what_was_published(method):
    config = resolve({"method": method, "space": {"name": "darts"}}, CIFAR10).config
    keys = flat(config.model_dump())
    assert {key: keys[key] for key in PUBLISHED[method]} == PUBLISHED[method]
    assert config.space.settings() == {
        "channels": 16,
        "cells": 8,
        "affine": False,
        "pool_norm": True,
        "partial_channels": 1,
        "edge_normalisation": False,
    }


def test_every_method_is_in_the_list():
    assert set(METHODS) == set(PUBLISHED)
    assert len(METHODS) == 17
    assert all(m.sentence and m.source for m in METHODS.values())


def test_published_training_of_a_darts_network():
    """Liu et al. 2019, appendix A.2."""
    train = resolve({"method": "darts", "space": {"name": "darts"}}, CIFAR10).config.train
    published = {
        "epochs": 600,
        "batch_size": 96,
        "learning_rate": 0.025,
        "final_learning_rate": 0.0,
        "momentum": 0.9,
        "nesterov": False,
        "weight_decay": 3e-4,
        "clip": 5.0,
        "drop_path": 0.2,
        "auxiliary_weight": 0.4,
        "cutout": 16,
        "space": {"channels": 36, "cells": 20, "auxiliary": True},
    }
    assert {key: getattr(train, key) for key in published} == published


def test_published_training_of_a_darts_network_on_imagenet():
    """Liu et al. 2019, section 3.3 and appendix A.3, and the authors' code: rate · 0.97 every epoch."""
    size = DataSize("photos", 1_281_167, (3, 224, 224), True, mirror=True)
    train = resolve({"method": "darts", "space": {"name": "darts_imagenet"}}, size).config.train
    published = {
        "epochs": 250,
        "batch_size": 128,
        "learning_rate": 0.1,
        "schedule": "exponential",
        "final_learning_rate": pytest.approx(0.1 * 0.97**250, rel=1e-12),
        "momentum": 0.9,
        "nesterov": False,
        "weight_decay": 3e-5,
        "clip": 5.0,
        "label_smoothing": 0.1,
        "drop_path": 0.0,
        "auxiliary_weight": 0.4,
        "cutout": 0,
        "space": {"channels": 48, "cells": 14, "auxiliary": True},
    }
    assert {key: getattr(train, key) for key in published} == published


def test_published_training_of_a_nasbench201_network():
    """Dong & Yang 2020, table 2."""
    train = resolve({"method": "gdas", "space": {"name": "nasbench201"}}, CIFAR10).config.train
    assert (train.epochs, train.batch_size, train.learning_rate) == (200, 256, 0.1)
    assert (train.nesterov, train.weight_decay, train.drop_path) == (True, 5e-4, 0.0)


def test_nothing_is_sized_at_published_data():
    for method in METHODS:
        assert resolve({"method": method, "space": {"name": "darts"}}, CIFAR10).notes == ()


def test_gdas_anneals_over_its_epochs_with_both_ends_reached():
    tau = resolve({"method": "gdas"}, CIFAR10).config.temperature
    values = [SCHEDULES[tau.schedule](tau.start, tau.end, epoch_progress(e, 250)) for e in range(250)]
    assert (values[0], values[-1]) == (10.0, 0.1)
    assert values[100] == pytest.approx(10 - (10 - 0.1) * 100 / 249)


def test_each_preset_names_only_keys_that_exist_and_are_read():
    for name, method in METHODS.items():
        for section, settings in method.settings.items():
            model = getattr(Config(), section)
            if isinstance(model, dict | list):  # its keys are names of parts, which are looked up as those
                continue
            for key in settings:
                known = set(type(model).model_fields)
                # a part's own settings stand beside its name
                if section == "hypergradient" and settings["name"] != "none":
                    known |= {f.name for f in fields(HYPERGRADIENTS[settings["name"]])}
                assert key in known, (name, section, key)
    assert SAMPLERS["straight_through"].one_active
    assert SAMPLERS["uniform"].one_active
