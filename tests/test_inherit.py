"""A derived network begins with the supernet's weights: copied exactly, or refused clearly."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from archgrad.architecture import Architecture
from archgrad.choice import concrete, supernet
from archgrad.datasets.text import numbered
from archgrad.errors import UserError
from archgrad.inheritance import inherit
from archgrad.spaces import SPACES
from archgrad.verbs import derive_run, export_run, search_run, train_run

SMALL = {"channels": 4, "cells": 1}


def test_weights_of_another_size_are_refused_and_the_target_is_left_as_it_was() -> None:
    builder = SPACES["nasbench201"].builder
    network = supernet(builder, (1, 8, 8), 3, **SMALL)
    architecture = Architecture({name: "nor_conv_3x3" for g in network.groups for name in g.names})
    target = concrete(builder, architecture, (1, 8, 8), 3, channels=8, cells=1)
    before = {key: value.clone() for key, value in target.state_dict().items()}
    with pytest.raises(
        UserError, match=r"do not fit:\n  stem.0.weight: supernet \(4, 1, 3, 3\), .*\(8, 1, 3, 3\)"
    ):
        inherit(network, target, architecture)
    assert all(torch.equal(before[key], value) for key, value in target.state_dict().items())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inherit") / "run"
    given = {
        "method": "gdas",
        "space": {"name": "nasbench201", **SMALL},
        "search": {"epochs": 12, "warmup_epochs": 1, "batch_size": 32},
        "device": {"threads": 1},
    }
    search_run(given, folder)
    derive_run(folder)
    return folder


def test_the_first_epoch_from_the_supernets_weights_is_better_than_from_scratch(run: Path) -> None:
    settings = {"train": {"epochs": 1, "batch_size": 64, "learning_rate": 0.01}}
    size = {"train": {**settings["train"], "space": {**SMALL, "affine": False}}}
    scratch = train_run(run, size).derived
    with pytest.raises(UserError, match=r"trained otherwise; --again"):
        train_run(run, settings, inherit=True)
    inherited = train_run(run, settings, inherit=True, again=True, controls=1)
    assert inherited.derived["settings"]["channels"] == 4
    assert inherited.derived["parameters"] == scratch["parameters"]
    assert inherited.derived["train_accuracy"] > scratch["train_accuracy"] + 0.05
    assert inherited.controls[0]["train_accuracy"] > scratch["train_accuracy"]
    assert train_run(run, settings, inherit=True, controls=1).derived == inherited.derived  # kept
    assert export_run(run, onnx=False).standalone.largest_difference < 1e-4


def test_a_recurrent_network_is_trained_from_scratch(tmp_path: Path) -> None:
    lines = ["the cat sat on the mat"] * 12
    data = numbered("little", lines, lines[:4], lines[:4])
    size = {"hidden": 4, "nodes": 2}
    given = {
        "space": {"name": "darts_rnn", **size},
        "text": {"window": 4},
        "search": {"epochs": 1, "batch_size": 2},
        "train": {"epochs": 1, "batch_size": 2, "space": size},
        "device": {"name": "cpu", "threads": 1},
    }
    search_run(given, tmp_path / "run", data=data)
    derive_run(tmp_path / "run")
    with pytest.raises(UserError, match=r"for networks on images.*leave --inherit out"):
        train_run(tmp_path / "run", data=data, inherit=True)
    assert not (tmp_path / "run" / "train").exists()


def test_a_run_without_a_checkpoint_has_nothing_to_inherit(run: Path) -> None:
    moved = run / "elsewhere"
    (run / "checkpoints").rename(moved)
    try:
        with pytest.raises(UserError, match="no supernet to inherit weights from"):
            train_run(run, {"train": {"epochs": 1}}, inherit=True, again=True)
    finally:
        moved.rename(run / "checkpoints")
