"""Networks trained beside the derived one, and images that are held out from training."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from archgrad.architecture import Architecture
from archgrad.choice import concrete
from archgrad.datasets.images import ImageData, MemoryImages
from archgrad.datasets.splits import split
from archgrad.errors import UserError
from archgrad.randomness import Streams
from archgrad.spaces import SPACES
from archgrad.verbs import derive_run, search_run, train_run
from archgrad.verbs.contents import read_architecture
from archgrad.verbs.train import Beside

CONVOLUTIONS = Architecture(
    {f"cell/{j}<-{i}": "nor_conv_3x3" if i == j - 1 else "none" for j in (1, 2, 3) for i in range(j)}
)


@pytest.fixture(scope="module")
def derived(tmp_path_factory: Any, few_digits: ImageData) -> Path:
    folder: Path = tmp_path_factory.mktemp("derived") / "run"
    space = {"channels": 4, "cells": 1, "stages": 2}
    search_run(
        {
            "space": {"name": "nasbench201", **space},
            "search": {"epochs": 1, "batch_size": 20},
            "train": {"epochs": 2, "batch_size": 40, "space": space},
            "data": {"validation": 0.3},
            "device": {"name": "cpu", "threads": 1},
        },
        folder,
        data=few_digits,
    )
    derive_run(folder)
    return folder


@pytest.fixture
def run(derived: Path, tmp_path: Path) -> Path:
    shutil.copytree(derived, tmp_path / "run")
    return tmp_path / "run"


def part_of(data: ImageData) -> torch.Tensor:
    return split(data, Streams(0), 0.3).architecture


def test_what_is_held_out_is_not_learned_from(
    run: Path, derived: Path, tmp_path: Path, few_digits: ImageData
) -> None:
    trained = train_run(run, data=few_digits, hold_out=True).derived
    assert trained["valid_images"] == len(part_of(few_digits))
    # other pixels in the part that is held out change nothing but the accuracy on it
    source = few_digits.train
    assert isinstance(source, MemoryImages)
    pixels = source.pixels.clone()
    pixels[part_of(few_digits)] = 255 - pixels[part_of(few_digits)]
    other = replace(few_digits, train=MemoryImages(pixels, source.labels))
    shutil.copytree(derived, tmp_path / "other")
    changed = train_run(tmp_path / "other", data=other, hold_out=True).derived
    for key in trained.keys() - {"seconds", "valid_accuracy", "valid_loss"}:
        assert trained[key] == changed[key], key
    assert trained["valid_loss"] != changed["valid_loss"]
    weights = "train/derived/weights.safetensors"
    assert (run / weights).read_bytes() == (tmp_path / "other" / weights).read_bytes()
    # while without it they are learned from
    everything = train_run(run, data=few_digits, again=True).derived
    assert everything["mean"] != trained["mean"]
    assert "valid_accuracy" not in everything


def test_the_accuracy_on_what_is_held_out(run: Path, few_digits: ImageData) -> None:
    trained = train_run(run, data=few_digits, hold_out=True).derived
    network = concrete(
        SPACES["nasbench201"].builder, read_architecture_of(run), (1, 8, 8), 10, **trained["settings"]
    )
    network.load_state_dict(load_file(run / "train/derived/weights.safetensors"))
    network.eval()
    index = part_of(few_digits)
    x = few_digits.train.fetch(index).float() / 255
    x = (x - torch.tensor(trained["mean"])[:, None, None]) / torch.tensor(trained["std"])[:, None, None]
    with torch.no_grad():
        right = (network(x).argmax(dim=1) == few_digits.train.labels[index]).float().mean()
    assert trained["valid_accuracy"] == pytest.approx(float(right))


def read_architecture_of(folder: Path) -> Architecture:
    from archgrad.runs import Run

    return read_architecture(Run(folder))


def test_networks_beside_the_derived_one(run: Path, few_digits: ImageData) -> None:
    wide = Beside("scaled", "scaled", CONVOLUTIONS, {"channels": 6})
    trained = train_run(run, data=few_digits, beside=[Beside("random-0", "random", CONVOLUTIONS), wide])
    narrow, wider = trained.controls
    assert (narrow["name"], narrow["kind"], narrow["settings"]["channels"]) == ("random-0", "random", 4)
    assert (wider["name"], wider["kind"], wider["settings"]["channels"]) == ("scaled", "scaled", 6)
    assert wider["parameters"] > narrow["parameters"]
    assert narrow["architecture"] == wider["architecture"] == dict(CONVOLUTIONS)
    assert wider["epochs"] == trained.derived["epochs"] == 2


def test_one_that_was_trained_on_everything_is_not_taken_for_one_that_was_not(
    run: Path, few_digits: ImageData
) -> None:
    train_run(run, data=few_digits)
    with pytest.raises(UserError, match="hold_out: the run has None, you gave True"):
        train_run(run, data=few_digits, hold_out=True)
