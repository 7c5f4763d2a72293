"""On a GPU: the same run as on the CPU, with the same draws. Skipped where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from archgrad.config_layers import merge
from archgrad.methods import METHODS
from archgrad.verbs import derive_run, search_run, train_run

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")

SETTINGS: dict[str, Any] = {
    "data": {"name": "digits"},
    "space": {"name": "nasbench201", "channels": 4, "cells": 1},
    "search": {"epochs": 2},
}


@pytest.mark.parametrize("method", METHODS)
def test_a_search_on_the_gpu_follows_the_one_on_the_cpu(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # cuDNN's convolutions round to TensorFloat-32 where they may: 10 bits, which is not what is compared
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    records = {}
    for device in ("cpu", "cuda"):
        settings = merge(SETTINGS, {"method": method, "device": {"name": device}})
        run = search_run(settings, tmp_path / device)
        records[device] = run.read_lines("metrics.jsonl")
    for cpu, gpu in zip(records["cpu"], records["cuda"], strict=True):
        assert gpu["train_loss"] == pytest.approx(cpu["train_loss"], rel=0.05)
        for name, row in cpu["probabilities"].items():
            assert gpu["probabilities"][name] == pytest.approx(row, abs=0.02)


@pytest.mark.parametrize("method", ["gdas", "enas"])  # enas: the moving baseline goes back to the device, too
def test_a_run_on_the_gpu_is_resumed_derived_and_trained(method: str, tmp_path: Path) -> None:
    settings = merge(SETTINGS, {"method": method, "device": {"name": "cuda"}})
    search_run(settings, tmp_path / "run")
    search_run({}, tmp_path / "run", resume=True)
    derive_run(tmp_path / "run")
    trained = train_run(tmp_path / "run", {"train": {"epochs": 5}})
    assert trained.derived["test_accuracy"] > 0.5


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_precisions_run_on_the_gpu(precision: str, tmp_path: Path) -> None:
    settings = merge(SETTINGS, {"method": "darts", "device": {"name": "cuda", "precision": precision}})
    lines = search_run(settings, tmp_path / "run").read_lines("metrics.jsonl")
    assert lines[-1]["skipped_steps"] == 0
