"""Fixtures that all tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: the machine is shared, and sums stay the same

import pytest
import torch

from archgrad.datasets.images import ImageData, MemoryImages
from archgrad.datasets.loading import load
from archgrad.verbs import derive_run, search_run, train_run

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the real data sets: ARCHGRAD_DATA, or ../shared/data beside the repository."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("ARCHGRAD_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no data folder at {folder}; set ARCHGRAD_DATA")
    return folder


@pytest.fixture(scope="session")
def few_digits() -> ImageData:
    """200 of the digits, with their own test part of 100: a search on them takes a second."""
    digits = load("digits")
    pixels, labels = digits.train.pixels, digits.train.labels  # type: ignore[attr-defined]
    train, test = MemoryImages(pixels[:200], labels[:200]), MemoryImages(pixels[200:300], labels[200:300])
    return ImageData("few digits", train, test, digits.classes, "")


TINY: dict[str, Any] = {
    "method": "gdas",
    "seed": 3,
    "space": {"name": "nasbench201", "channels": 2, "cells": 1, "stages": 2},
    "search": {"epochs": 2, "batch_size": 20},
    "train": {"epochs": 2, "batch_size": 40, "space": {"channels": 2, "cells": 1, "stages": 2}},
    "device": {"name": "cpu", "threads": 1},
}


@pytest.fixture
def tiny() -> Callable[..., dict[str, Any]]:
    """Settings of a search of a second: ``tiny(method="snas", search={"epochs": 1})``."""

    def settings(**changes: Any) -> dict[str, Any]:
        merged = {key: dict(value) if isinstance(value, dict) else value for key, value in TINY.items()}
        for key, value in changes.items():
            merged[key] = {**merged.get(key, {}), **value} if isinstance(value, dict) else value
        return merged

    return settings


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the digits that searched, derived and trained beside controls. Copy it to change it."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    search_run({**TINY, "data": {"name": "digits"}, "search": {"epochs": 2}}, folder)
    derive_run(folder)
    train_run(folder, controls=1)
    return folder
