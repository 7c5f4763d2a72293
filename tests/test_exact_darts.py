"""Supernets of DARTS and NAS-Bench-201 beside a plain transcription of their definitions, in float64.

Outputs, running statistics, the gradients of all weights and of the logits, to 1e-9 relative.
"""

from __future__ import annotations

import importlib.util
import re
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from archgrad.choice import Supernet, supernet
from archgrad.samplers.softmax import Softmax
from archgrad.spaces.cell import DARTS
from archgrad.spaces.nasbench201 import NASBENCH201

DOUBLE = torch.float64
CLASSES = 5


def _reference() -> ModuleType:
    path = Path(__file__).with_name("reference_darts.py")
    spec = importlib.util.spec_from_file_location("reference_darts", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference: Any = _reference()


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- whose weight is whose -----------------------------------------------------------------------


def path_in_darts(name: str, cells: int) -> str:
    """The path in archgrad's network of what the reference calls `name`: a parameter or a BatchNorm."""
    if name.startswith("classifier"):
        return "classifier.bias" if name.endswith("bias") else "classifier.weight"
    if name.startswith("stem"):
        return {
            "stem": "stem.0.weight",
            "stem, norm, scale": "stem.1.weight",
            "stem, norm, shift": "stem.1.bias",
            "stem, norm": "stem.1",
        }[name]
    head, place, *rest = name.split(", ")
    cell = int(head.split()[1])
    if place.startswith("input"):
        prefix = f"cells.{cell}.preprocess{place[-1]}."
        reduced = place == "input 0" and cell - 1 in (cells // 3, 2 * cells // 3)
        operation = "skip_connect" if reduced else "relu_conv_bn"
    else:
        source, into = re.findall(r"\d+", place)
        operation, *rest = rest
        k = reference.DARTS_OPERATIONS.index(operation)
        prefix = f"cells.{cell}.edges.{into}<-{source}.0.options.{k}."
    last = " ".join(rest)
    if operation == "skip_connect":
        return prefix + {"even": "conv_even.weight", "odd": "conv_odd.weight", "norm": "bn"}[last]
    if operation == "relu_conv_bn":
        return prefix + {"": "op.1.weight", "norm": "op.2"}[last]
    if "pool" in operation:
        return prefix + {"norm": "1"}[last]
    layer, _, again = last.partition(" ")
    inner = f"op.{int(again) - 1}.op." if again else "op."
    return prefix + inner + {"depthwise": "1.weight", "pointwise": "2.weight", "norm": "3"}[layer]


def path_in_nasbench201(name: str, cells: int) -> str:
    if name.startswith("classifier"):
        return "head.4.bias" if name.endswith("bias") else "head.4.weight"
    if name.startswith(("stem", "last norm")):
        module = "stem.1" if name.startswith("stem") else "head.0"
        tail = {"scale": ".weight", "shift": ".bias", "norm": ""}
        return "stem.0.weight" if name == "stem" else module + tail.get(name.split(", ")[-1], "")
    place, *rest = name.split(", ")
    if place.startswith("reduction"):
        prefix = f"body.{int(place[-1]) * (cells + 1) - 1}."
        which, *rest = rest
        if which == "shortcut":
            return prefix + "shortcut.1.weight"
        prefix += {"first": "conv_a.op.", "second": "conv_b.op."}[which]
        ends = {"": "1.weight", "norm": "2", "norm scale": "2.weight", "norm shift": "2.bias"}
        return prefix + ends[" ".join(rest)]
    cell, edge, operation, *rest = rest
    source, into = re.findall(r"\d+", edge)
    index = int(place[-1]) * (cells + 1) + int(cell.split()[1])
    k = reference.NASBENCH201_OPERATIONS.index(operation)
    end = {"": "1.weight", "norm": "2"}[" ".join(rest)]
    return f"body.{index}.edges.{into}<-{source}.options.{k}.op.{end}"


# --- the comparison ------------------------------------------------------------------------------


def close(found: Tensor, wanted: Tensor, what: str, scale: Tensor | None = None) -> None:
    """Within 1e-9 of the largest number of the tensor, or of `scale`."""
    found, wanted = found.detach(), wanted.detach()
    assert found.shape == wanted.shape, what
    error = (found - wanted).abs()
    size = wanted.abs().max() if scale is None else scale
    assert bool((error <= 1e-9 * size).all()), f"{what}: off by {float(error.max()):.1e}"


Forward = Callable[[Any, Tensor, dict[str, Tensor]], Tensor]
"""(the reference's network, images, a row of logits for each choice's name) -> logits of the classes."""


def compare(
    ours: Supernet, forward: Forward, path: Callable[[str], str], shape: tuple[int, int, int]
) -> None:
    """A pass in training and one in evaluation mode, each with all gradients; then the statistics."""
    ours.double()
    generator = seeded(1)
    named = dict(ours.network.named_parameters())
    with torch.no_grad():
        for parameter in named.values():
            fan_in = max(parameter[0].numel(), 4)  # outputs of size 1, also where nothing is normalised
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=DOUBLE) / fan_in**0.5)
    alpha = [
        torch.randn(len(g.names), len(g.candidates), generator=generator, dtype=DOUBLE).requires_grad_()
        for g in ours.groups
    ]
    rows = {
        n: row for g, a in zip(ours.groups, alpha, strict=True) for n, row in zip(g.names, a, strict=True)
    }
    theirs = reference.Network(lambda name: named[path(name)].detach().clone().requires_grad_())
    for training in (True, False):
        ours.train(training)
        theirs.training = training
        x = torch.randn(4, *shape, generator=generator, dtype=DOUBLE)
        labels = torch.randint(CLASSES, (4,), generator=generator)
        logits = ours(x, [Softmax()(a, 1.0, generator) for a in alpha])
        wanted = forward(theirs, x, rows)
        close(logits, wanted, "output")
        loss, same_loss = nn.functional.cross_entropy(logits, labels), reference.cross_entropy(wanted, labels)
        close(loss, same_loss, "loss")
        weights: dict[str, Tensor] = theirs.weights
        assert sorted(map(path, weights)) == sorted(named)  # one to one, and none left out
        found = torch.autograd.grad(loss, [*alpha, *(named[path(name)] for name in weights)])
        by_hand = torch.autograd.grad(same_loss, [*alpha, *weights.values()])
        names = [*(f"logits {i}" for i in range(len(alpha))), *weights]
        for name, got, right in zip(names, found, by_hand, strict=True):
            close(got, right, f"gradient of {name}, training={training}")
            assert float(right.abs().max()) > 0, name
    modules = dict(ours.network.named_modules())
    norms = {place for place, module in modules.items() if isinstance(module, nn.BatchNorm2d)}
    assert sorted(map(path, theirs.running)) == sorted(norms)
    for name, (mean, variance) in theirs.running.items():
        norm: Any = modules[path(name)]
        close(norm.running_mean, mean, f"{name}, mean", variance.sqrt())
        close(norm.running_var, variance, f"{name}, variance")


SIZES = [
    (3, (8, 8)),
    (4, (9, 7)),
    pytest.param(4, (8, 8), marks=pytest.mark.slow),
    pytest.param(5, (8, 8), marks=pytest.mark.slow),
    pytest.param(5, (9, 7), marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("cells", "size"), SIZES, ids=str)
def test_the_darts_supernet_is_that_of_the_definitions(cells: int, size: tuple[int, int]) -> None:
    """Stem, both kinds of cell, all eight candidates at both strides, head; odd sizes padded."""
    ours = supernet(DARTS.builder, (3, *size), CLASSES, **{**DARTS.search, "channels": 4, "cells": cells})

    def forward(theirs: Any, x: Tensor, rows: dict[str, Tensor]) -> Tensor:
        alpha = {
            kind: {(i, j): rows[f"{kind}/{j}<-{i}"] for j in (2, 3, 4, 5) for i in range(j)}
            for kind in ("normal", "reduce")
        }
        logits: Tensor = theirs.darts(x, alpha, 4, cells, CLASSES)
        return logits

    compare(ours, forward, lambda name: path_in_darts(name, cells), (3, *size))


@pytest.mark.parametrize("cells", [1, 2])
def test_the_nasbench201_supernet_is_that_of_the_definitions(cells: int) -> None:
    """Stem, cells, both reductions, head; sides that halve evenly, as published."""
    settings = {**NASBENCH201.search, "channels": 4, "cells": cells}
    ours = supernet(NASBENCH201.builder, (3, 8, 12), CLASSES, **settings)

    def forward(theirs: Any, x: Tensor, rows: dict[str, Tensor]) -> Tensor:
        alpha = {(i, j): rows[f"cell/{j}<-{i}"] for j in (1, 2, 3) for i in range(j)}
        logits: Tensor = theirs.nasbench201(x, alpha, 4, cells, CLASSES)
        return logits

    compare(ours, forward, lambda name: path_in_nasbench201(name, cells), (3, 8, 12))


def test_the_published_supernet_is_built_within_a_second() -> None:
    """CIFAR-10, C = 16, 8 cells: 1.930618 M weights, as the search of its authors logs it.

    The best of three, of the processor's seconds, as others may use the machine.
    """
    seconds = []
    for _ in range(3):
        start = time.process_time()
        network = supernet(DARTS.builder, (3, 32, 32), 10, **DARTS.search)
        seconds.append(time.process_time() - start)
    assert (DARTS.search["channels"], DARTS.search["cells"]) == (16, 8)
    assert sum(p.numel() for p in network.parameters()) == 1_930_618
    assert min(seconds) < 1.0
