"""Deriving within budgets that were given afterwards, and the gap between what was expected and derived."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

from archgrad.architecture import Architecture
from archgrad.budgets.budget import Budget
from archgrad.budgets.within import checked, table_of, within_budgets
from archgrad.choice import Group, Pick, concrete
from archgrad.cli import main
from archgrad.costs.activation_memory import peak_activations
from archgrad.costs.cost_table import CostTable
from archgrad.costs.live import count_live
from archgrad.datasets.images import ImageData
from archgrad.derive import derive
from archgrad.errors import UserError
from archgrad.report.reading import read_run
from archgrad.report.verdict import verdict
from archgrad.runs import Run
from archgrad.spaces import SPACES
from archgrad.spaces.space import as_space
from archgrad.summary import derived_text
from archgrad.verbs import derive_run, search_run
from archgrad.verbs.contents import named_logits, write_tensors

CELL = as_space(SPACES["nasbench201"]).builder
SIZES = {"channels": 4, "cells": 1}


def certain(run: Run, candidates: dict[str, str]) -> None:
    """Logits that leave no doubt about an architecture."""
    (group,) = run.read_json("choices.json")["groups"]
    logits = torch.full((len(group["names"]), len(group["candidates"])), -20.0)
    for e, name in enumerate(group["names"]):
        logits[e, group["candidates"].index(candidates[name])] = 20.0
    write_tensors(run, "logits.safetensors", named_logits([logits]))


def test_a_budget_can_be_given_afterwards(
    few_digits: ImageData, tiny: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    run = search_run(tiny(), tmp_path / "run", data=few_digits)
    plain = derive_run(run.folder)
    assert plain.macs is not None
    assert plain.gaps == ()
    limit = plain.macs - 1
    found = derive_run(run.folder, budgets={"macs": f"{limit / 1000}k"})
    assert found.macs is not None
    assert found.macs <= limit
    assert found.budgets[0]["value"] == found.macs
    assert found.repair is not None
    assert derive_run(run.folder).architecture == plain.architecture
    with pytest.raises(UserError, match="has no unit"):
        derive_run(run.folder, budgets={"macs": "5"})
    with pytest.raises(UserError, match=r"the nearest has macs 4\.776 k"):
        derive_run(run.folder, budgets={"macs": "1k"})
    line = ["derive", str(run.folder), "--budget", f"macs={limit / 1000}k", "--json"]
    result = CliRunner().invoke(main, line)
    assert result.exit_code == 0
    assert json.loads(result.output)["macs"] == found.macs
    random = search_run(tiny(method="random"), tmp_path / "random", data=few_digits)
    with pytest.raises(UserError, match="trains no logits, so there is no most probable network"):
        derive_run(random.folder, budgets={"macs": "1M"})


def test_the_gap_is_told(few_digits: ImageData, tiny: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    settings = tiny(cost={"name": "macs", "strength": 0.1}, budget={"parameters": "1M"})
    run = search_run(settings, tmp_path / "run", data=few_digits)
    (group,) = run.read_json("choices.json")["groups"]
    edges = dict.fromkeys(group["names"], "skip_connect")
    first = next(name for name in edges if name.endswith("1<-0"))
    for name in edges:  # node 1 has a convolution, but nothing leads out of it
        edges[name] = "none" if "<-1" in name else edges[name]
    edges[first] = "nor_conv_3x3"
    certain(run, edges)
    found = derive_run(run.folder)
    assert dict(found.architecture) == edges
    assert found.live is not None
    build = lambda: concrete(  # noqa: E731
        CELL, found.architecture, few_digits.shape, 10, **settings["train"]["space"]
    )
    live = count_live(build, few_digits.shape)
    assert found.live == {"parameters": live.parameters, "macs": live.macs}
    assert found.macs is not None
    assert live.macs < found.macs
    parameters, macs = found.gaps
    assert (parameters["cost"], macs["cost"]) == ("parameters", "macs")
    assert macs["derived"] == found.macs
    assert macs["live"] == live.macs
    assert macs["expected"] == pytest.approx(found.macs)  # as there is no doubt
    assert json.loads((run.folder / "derivation.json").read_text())["gaps"] == list(found.gaps)
    text = derived_text(found)
    assert f"its output depends on {live.parameters:,} parameters" in text
    assert "expected under the probabilities of the search" in text


def test_warnings_are_about_the_repaired_network() -> None:
    group = Group(("none", "skip_connect", "nor_conv_3x3"), ("cell/1<-0", "cell/2<-0", "cell/2<-1"))
    costs = torch.tensor([[0.0, 0.0, 10.0]]).double().expand(3, 3).clone()
    table = CostTable("macs", "", 0.0, (group,), (costs,))
    p = torch.tensor([[0.0, 0.49, 0.51], [0.0, 0.1, 0.9], [0.0, 0.1, 0.9]]).double()
    derivation = derive((group,), [p], "argmax")
    assert any("skip_connect by 0.020" in warning for warning in derivation.warnings)
    found = within_budgets(derivation, (group,), [p], [Budget("macs", 20.0)], [table])
    assert found.architecture["cell/1<-0"] == "skip_connect"
    assert not any("nor_conv_3x3 over skip_connect by 0.020" in warning for warning in found.warnings)
    assert any("skip_connect over nor_conv_3x3 by -0.020" in warning for warning in found.warnings)


def test_activations_are_counted_at_their_peak() -> None:
    shape, budget = (1, 8, 8), Budget.parse("activation_memory=1MB")
    table = table_of(budget, "nasbench201", CELL, shape, 10, SIZES)
    names = [name for group in table.choices for name in group.names]
    architecture = Architecture(dict.fromkeys(names, "nor_conv_3x3"))
    (found,) = checked(architecture, [budget], [table], CELL, shape, 10, SIZES)
    peak = peak_activations(lambda: concrete(CELL, architecture, shape, 10, **SIZES), shape)
    assert found["value"] == peak
    assert peak < table.of(architecture)
    with pytest.raises(UserError, match=r"upper bound .* write activation_memory=1.05 MB without"):
        table_of(Budget.parse("activation_memory=1MB±5%"), "nasbench201", CELL, shape, 10, SIZES)


def test_what_a_cost_cannot_count_is_no_budget() -> None:
    def space(pick: Pick, shape: tuple[int, int, int], classes: int) -> nn.Module:
        class Net(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.choice = pick("c", {"a": lambda: nn.Linear(4, 4), "b": nn.Identity})
                self.last = nn.Linear(4, classes)

            def forward(self, x: Tensor) -> Tensor:
                logits: Tensor = self.last(self.choice(x.mean(dim=(2, 3))))
                return logits

        return Net()

    with pytest.raises(UserError, match="no rule for Linear, so a network may cost more"):
        table_of(Budget.parse("snas_log=1k"), "own", space, (4, 8, 8), 3, {})


def test_the_report_tells_the_gap(
    few_digits: ImageData, tiny: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    run = search_run(tiny(cost={"name": "macs", "strength": 0.1}), tmp_path / "run", data=few_digits)
    derive_run(run.folder)
    document = run.read_json("derivation.json")
    (gap,) = document["gaps"]
    document["gaps"] = [{**gap, "expected": 2e6, "derived": 1.5e6, "relative": -0.25}]
    document["macs"], document["live"] = 1_500_000, {"parameters": 10, "macs": 1_200_000}
    run.write_json("derivation.json", document)
    sentences = " ".join(verdict(read_run(run.folder)).sentences)
    assert "Of macs the search expected 2.00 M; the derived network has 1.50 M (-25%)." in sentences
    assert "Nodes that lead nowhere take 20% of its multiply-adds." in sentences
