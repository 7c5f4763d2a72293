"""Realistic run folders in the documented formats (docs/architecture.md), without running a search."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

DARTS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
NB201 = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
OWN = {"stem": ("narrow", "wide", "patches"), "block1/mixer": ("conv", "attention"), "head": ("mean", "max")}


def _groups(space: str) -> list[dict[str, list[str]]]:
    if space == "darts":
        edges = [f"{c}/{n}<-{s}" for c in ("normal", "reduce") for n in range(2, 6) for s in range(n)]
        return [{"candidates": list(DARTS), "names": edges}]
    if space == "nasbench201":
        return [
            {"candidates": list(NB201), "names": [f"cell/{n}<-{s}" for n in range(1, 4) for s in range(n)]}
        ]
    return [{"candidates": list(candidates), "names": [name]} for name, candidates in OWN.items()]


def _dump(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


def _lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _softmax(logits: np.ndarray) -> np.ndarray:
    z = np.exp(logits - logits.max())
    return z / z.sum()


def _search(
    groups: list[dict[str, list[str]]], epochs: int, planned: int, rng: Any, cost: bool
) -> list[dict[str, Any]]:
    """Logits that drift towards a favourite per choice, with noise that dies away; losses that fall."""
    names = {name: g["candidates"] for g in groups for name in g["names"]}
    drift = {
        n: rng.normal(0, 1, len(c)) + 2.2 * np.eye(len(c))[rng.integers(len(c))] for n, c in names.items()
    }
    logits = {n: 1e-3 * rng.normal(size=len(c)) for n, c in names.items()}
    rows, before = [], {}
    for epoch in range(epochs):
        t = epoch / max(1, planned - 1)
        for name in names:
            noise = rng.normal(0, 0.12 * (1.1 - t), len(logits[name]))
            logits[name] = logits[name] + drift[name] * 1.3 * t / planned * 2 + noise
        p = {name: _softmax(value) for name, value in logits.items()}
        entropy = {name: float(-(row * np.log(row)).sum()) for name, row in p.items()}
        winners = {name: names[name][int(row.argmax())] for name, row in p.items()}
        loss = 2.2 * np.exp(-2.3 * t) + 0.35
        rows.append(
            {
                "epoch": epoch,
                "step": (epoch + 1) * 195,
                "seconds": 41.7 + float(rng.normal(0, 1.2)),
                "tau": 10 - 9.9 * t,
                "learning_rate": 0.0125 * (1 + np.cos(np.pi * t)),
                "train_loss": loss + float(rng.normal(0, 0.02)),
                "train_accuracy": 1.05 - 0.36 * loss,
                "valid_loss": loss + 0.16 * t + float(rng.normal(0, 0.04)),
                "valid_accuracy": 0.98 - 0.33 * loss - 0.03 * t,
                "cost": 3.1e7 * (1 + 0.4 * np.exp(-3 * t)) if cost else None,
                "cost_unit": "MACs" if cost else None,
                "entropy": entropy,
                "entropy_mean": float(np.mean(list(entropy.values()))),
                "probabilities": {name: row.tolist() for name, row in p.items()},
                "alpha_gradient_norm": 0.012 * np.exp(-1.2 * t) * float(rng.lognormal(0, 0.2)),
                "weight_gradient_norm": 2.1 * np.exp(-0.5 * t) * float(rng.lognormal(0, 0.1)),
                "skipped_steps": 0,
                "architecture": winners,
                "changed": [n for n in names if before and before[n] != winners[n]],
            }
        )
        before = winners
    return rows


def _derive(
    folder: Path, groups: list[dict[str, list[str]]], last: dict[str, Any], rule: str
) -> dict[str, str]:
    names = {name: g["candidates"] for g in groups for name in g["names"]}
    decisions = []
    for name, candidates in names.items():
        row = np.array(last["probabilities"][name])
        order = [k for k in np.argsort(-row) if rule != "darts" or candidates[k] != "none"]
        decisions.append(
            {
                "name": name,
                "winner": candidates[order[0]],
                "runner_up": candidates[order[1]],
                "winner_probability": row[order[0]],
                "runner_up_probability": row[order[1]],
                "margin": row[order[0]] - row[order[1]],
                "entropy": last["entropy"][name],
                "kept": True,
            }
        )
    if rule == "darts":
        by_node: dict[str, list[dict[str, Any]]] = {}
        for decision in decisions:
            by_node.setdefault(decision["name"].split("<-")[0], []).append(decision)
        for incoming in by_node.values():
            for decision in sorted(incoming, key=lambda d: -d["winner_probability"])[2:]:
                decision["kept"] = False
    chosen = {d["name"]: d["winner"] if d["kept"] else "none" for d in decisions}
    kept = [d for d in decisions if d["kept"]]
    weak = [d for d in kept if d["margin"] < 0.05]
    _dump(folder / "architecture.json", {"format": "archgrad.architecture/1", "choices": chosen})
    _dump(
        folder / "derivation.json",
        {
            "rule": rule,
            "choices": decisions,
            "parameters": 3349342,
            "macs": 528360000,
            "epoch": last["epoch"],
            "warnings": [
                f"{d['name']}: {d['winner']} won over {d['runner_up']} by only {d['margin']:.3f}."
                for d in weak
            ],
            "skip_share": sum(d["winner"] == "skip_connect" for d in kept) / len(kept),
        },
    )
    return chosen


def _train(
    folder: Path, name: str, kind: str, accuracy: float, parameters: int, rng: Any, epochs: int = 60
) -> None:
    folder = folder / "train" / name
    folder.mkdir(parents=True)
    t = np.linspace(0, 1, epochs)
    speed = float(rng.uniform(3, 6))
    loss = 2.1 * np.exp(-speed * t) + 0.12 + rng.normal(0, 0.015, epochs)
    top = 0.995 - 0.6 * np.exp(-speed * t) + rng.normal(0, 0.004, epochs)
    _lines(
        folder / "metrics.jsonl",
        [
            {
                "epoch": e,
                "seconds": 22.0,
                "learning_rate": 0.025 * (1 - t[e]),
                "train_loss": float(loss[e]),
                "train_accuracy": float(min(1, top[e])),
            }
            for e in range(epochs)
        ],
    )
    _dump(
        folder / "result.json",
        {
            "name": name,
            "kind": kind,
            "architecture": None,
            "parameters": parameters,
            "macs": parameters * 160,
            "epochs": epochs,
            "seed": 0,
            "seconds": 22.0 * epochs,
            "train_accuracy": float(min(1, top[-1])),
            "test_accuracy": accuracy,
            "test_loss": 0.31,
            "test_images": 10000,
            "settings": {},
            "shape": [3, 32, 32],
            "classes": 10,
        },
    )


def write_run(
    folder: Path,
    space: str = "darts",
    epochs: int = 50,
    planned: int = 50,
    derived: bool = True,
    controls: int = 5,
    lead: float = 0.012,
    seed: int = 0,
    cost: bool = True,
) -> Path:
    """A run folder; `lead` is the derived network's test accuracy less the controls' mean."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    groups = _groups(space)
    (folder / "config.yaml").write_text(
        yaml.safe_dump(
            {
                "method": "snas",
                "seed": seed,
                "space": {"name": space, "channels": 16, "cells": 8},
                "data": {"name": "cifar10", "validation": 0.5, "flip": True},
                "search": {"epochs": planned, "batch_size": 64, "order": "architecture_first"},
                "temperature": {"schedule": "linear", "start": 10.0, "end": 0.1},
                "weights": {"learning_rate": 0.025, "momentum": 0.9, "weight_decay": 0.0003, "clip": 5.0},
                "cost": {"name": "macs", "strength": "moderate"} if cost else {"name": "none"},
                "train": {"epochs": 60},
            },
            sort_keys=False,
        )
    )
    _dump(
        folder / "environment.json",
        {
            "archgrad": "0.1.0",
            "python": "3.12.3",
            "versions": {"torch": "2.11.0", "numpy": "2.1.0"},
            "machine": {"cpu": "8 cores", "memory_gib": 31.2, "accelerator": None},
            "threads": 4,
            "started": "2026-03-14T09:26:53Z",
        },
    )
    _dump(
        folder / "data.json",
        {
            "name": "cifar10",
            "sizes": {"train": 25000, "valid": 25000, "test": 10000},
            "shape": [3, 32, 32],
            "classes": [
                "airplane",
                "automobile",
                "bird",
                "cat",
                "deer",
                "dog",
                "frog",
                "horse",
                "ship",
                "truck",
            ],
            "splits": {k: hashlib.sha256(k.encode()).hexdigest()[:16] for k in ("train", "valid", "test")},
            "mean": [0.4914, 0.4822, 0.4465],
            "std": [0.247, 0.2435, 0.2616],
        },
    )
    _dump(folder / "choices.json", {"groups": groups})
    rows = _search(groups, epochs, planned, rng, cost)
    if rows:
        _lines(folder / "metrics.jsonl", rows)
        best = max(rows, key=lambda row: row["valid_accuracy"])
        _dump(folder / "best.json", {k: best[k] for k in ("epoch", "valid_accuracy", "architecture")})
    if epochs >= planned:
        (folder / "logits.safetensors").write_bytes(b"")
    if derived:
        _derive(folder, groups, rows[-1], "darts" if space == "darts" else "argmax")
        accuracies = 0.962 + rng.normal(0, 0.0035, max(1, controls))
        _train(folder, "derived", "derived", float(accuracies.mean() + lead), 3349342, rng)
        for i in range(controls):
            size = int(rng.normal(3.0e6, 3.5e5))
            _train(folder, f"random-{i}", "random", float(accuracies[i]), size, rng)
        if controls:
            _train(folder, "residual", "residual", float(accuracies.mean() - 0.008), 3510000, rng)
    return folder


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """``make_run(name="run", **settings of write_run) -> run folder``."""
    return lambda name="run", **settings: write_run(tmp_path / name, **settings)
