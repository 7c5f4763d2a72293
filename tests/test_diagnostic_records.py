"""Record diagnostics: numbers of a line of metrics.jsonl and those before it."""

from __future__ import annotations

import copy
import json
import math
import random
from pathlib import Path

import pytest
import torch

from archgrad.architecture import Architecture
from archgrad.architecture_step import architecture_step
from archgrad.choice import Group
from archgrad.config import Config
from archgrad.config_layers import layered
from archgrad.diagnostics import RECORDS, record_diagnostics
from archgrad.diagnostics.cell import depth_and_width
from archgrad.diagnostics.kendall import kendall_tau
from archgrad.diagnostics.stability import LAG
from archgrad.genotypes import published
from archgrad.landscapes.nasbench201 import landscape
from archgrad.landscapes.task import LandscapeTask
from archgrad.method_parts import architecture_optimizer, search_plan
from archgrad.methods import METHODS
from archgrad.policy import Policy
from archgrad.randomness import Streams
from archgrad.runs import Run
from archgrad.samplers.softmax import Softmax
from archgrad.search import search
from archgrad.search_records import EpochRecord
from archgrad.search_state import SearchPlan, SearchState
from archgrad.verbs import search_run


def line(epoch, probabilities, architecture=None, **more):
    winners = {name: f"op{row.index(max(row))}" for name, row in probabilities.items()}
    return {
        "epoch": epoch,
        "probabilities": probabilities,
        "architecture": architecture or winners,
        **more,
    }


def history(*rows):
    """Lines of one choice, one for each row of probabilities."""
    return [line(epoch, {"a": row}) for epoch, row in enumerate(rows)]


def test_there_are_seven():
    assert list(RECORDS) == [
        "entropy",
        "margin",
        "motion",
        "stability",
        "operations",
        "cell",
        "generalisation",
    ]


@pytest.mark.parametrize("seed", range(20))
def test_kendalls_tau_is_scipys(seed):
    from scipy.stats import kendalltau

    draw = random.Random(seed)
    x, y = ([draw.randrange(4) if seed % 2 else draw.random() for _ in range(3 + seed)] for _ in range(2))
    wanted = float(kendalltau(x, y).statistic)
    found = kendall_tau(x, y)
    assert math.isnan(wanted) if found is None else found == pytest.approx(wanted, abs=1e-14)


def test_kendalls_tau_of_all_ties_is_none():
    assert kendall_tau([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None
    assert kendall_tau([1.0], [1.0]) is None


def test_entropy_of_uniform_decided_and_of_gates():
    found = record_diagnostics(
        line(0, {"uniform": [0.25] * 4, "decided": [1.0, 0.0], "gates": [0.8, 0.8], "one": [1.0]})
    )["entropy"]
    assert found["relative_by_choice"] == pytest.approx({"uniform": 1, "decided": 0, "gates": 1, "one": 0})
    assert found["effective_by_choice"] == pytest.approx({"uniform": 4, "decided": 1, "gates": 2, "one": 1})
    assert found["mean"] == pytest.approx((math.log(4) + math.log(2)) / 4)
    assert found["relative"] == pytest.approx(0.5)
    assert found["effective"] == pytest.approx(2.0)


def test_margin_is_of_the_two_most_probable():
    found = record_diagnostics(line(0, {"a": [0.1, 0.6, 0.3], "b": [0.5, 0.5], "one": [1.0]}))["margin"]
    assert found["by_choice"] == pytest.approx({"a": 0.3, "b": 0.0, "one": 1.0})
    assert found["least"] == 0.0
    assert found["mean"] == pytest.approx(1.3 / 3)


def test_weights_of_edges_are_no_choices():
    """Blends have probabilities, but an architecture does not decide them."""
    one = line(0, {"a": [0.5, 0.5]})
    one["probabilities"]["normal/2"] = [0.9, 0.1]
    found = record_diagnostics(one)
    assert list(found["margin"]["by_choice"]) == ["a"]
    assert list(found["entropy"]["relative_by_choice"]) == ["a"]


def test_motion_takes_what_was_recorded_and_leaves_out_the_rest():
    full = line(0, {"a": [1.0]}, alpha_gradient_norm=0.5, weight_gradient_norm=2.0, alpha_relative_step=0.01)
    assert record_diagnostics(full)["motion"] == {
        "architecture_gradient": 0.5,
        "weight_gradient": 2.0,
        "relative_step": 0.01,
    }
    warm = line(0, {"a": [1.0]}, alpha_gradient_norm=None, weight_gradient_norm=2.0)
    assert record_diagnostics(warm)["motion"] == {"weight_gradient": 2.0}
    assert "motion" not in record_diagnostics(line(0, {"a": [1.0]}))


@pytest.mark.parametrize("searches", [None, 3])
def test_a_step_is_measured_against_the_logits_before_it(searches):
    group = Group(("a", "b", "c"), ("0", "1"))
    plan = SearchPlan(Policy((group,), Softmax()), None, 1, lambda e: 1.0, lambda e: 0.1, searches=searches)
    generator = torch.Generator().manual_seed(0)
    shape = (2, 3) if searches is None else (searches, 2, 3)
    logits, gradient = (torch.randn(shape, generator=generator) for _ in range(2))
    theta = [logits.clone().requires_grad_()]
    state = SearchState(theta, None, torch.optim.SGD(theta, lr=0.1))
    architecture_step(state, plan, [gradient.clone()])
    rows = [(logits, gradient)] if searches is None else list(zip(logits, gradient, strict=True))
    wanted = sum(float(0.1 * g.norm() / a.norm()) for a, g in rows) / len(rows)
    assert state.totals["relative_step"] == pytest.approx(wanted, rel=1e-5)
    assert state.totals["relative_steps"] == 1


def test_stability_of_a_choice_that_changes_once():
    first, second = [0.6, 0.3, 0.1], [0.3, 0.6, 0.1]
    lines = history(*[first] * 3, *[second] * 6)
    found = [record_diagnostics(one, lines[:i])["stability"] for i, one in enumerate(lines)]
    assert [f["unchanged"] for f in found] == [0, 1, 2, 0, 1, 2, 3, 4, 5]
    assert [f["architecture_unchanged"] for f in found] == [0, 1, 2, 0, 1, 2, 3, 4, 5]
    assert [f.get("same_last") for f in found] == [None, 1, 1, 0, 1, 1, 1, 1, 1]
    assert LAG == 5
    assert [f.get("same") for f in found] == [None] * 5 + [0, 0, 0, 1]
    assert [f.get("kendall_tau") for f in found] == [None, 1, 1, pytest.approx(1 / 3), *[1] * 5]


def test_later_lines_are_passed_over():
    lines = history([0.6, 0.4], [0.6, 0.4], [0.4, 0.6])
    assert record_diagnostics(lines[1], lines) == record_diagnostics(lines[1], lines[:1])
    assert record_diagnostics(lines[1], lines)["stability"]["unchanged"] == 1


def test_an_edge_that_the_rule_drops_changes_the_architecture_and_no_argmax():
    p = {"normal/2<-0": [0.6, 0.4], "normal/2<-1": [0.6, 0.4]}
    lines = [
        line(0, p, {"normal/2<-0": "op0", "normal/2<-1": "none"}),
        line(1, p, {"normal/2<-0": "none", "normal/2<-1": "op0"}),
    ]
    found = record_diagnostics(lines[1], lines[:1])["stability"]
    assert (found["unchanged"], found["architecture_unchanged"], found["same_last"]) == (1, 0, 1)


def test_shares_are_of_all_choices_and_a_missing_epoch_is_not_guessed():
    p = {"a": [0.6, 0.4], "b": [0.6, 0.4]}
    lines = [line(0, p), line(2, {**p, "b": [0.4, 0.6]}), line(3, p)]
    assert "same_last" not in record_diagnostics(lines[1], lines)["stability"]  # epoch 1 was lost
    assert record_diagnostics(lines[2], lines)["stability"]["same_last"] == 0.5
    assert record_diagnostics(lines[2], lines)["stability"]["kendall_tau_by_choice"] == {"a": 1, "b": -1}


def test_operations_by_kind_and_cell():
    architecture = {
        "normal/2<-0": "skip_connect",
        "normal/2<-1": "max_pool_3x3",
        "normal/3<-0": "none",
        "reduce/2<-0": "sep_conv_3x3",
        "width": "skip_connect",
    }
    found = record_diagnostics(line(0, {}, architecture))["operations"]
    assert found == {
        "skip": 0.5,
        "pooling": 0.25,
        "none": pytest.approx(0.2),
        "skips_by_cell": {"normal": 1, "reduce": 0},
    }


@pytest.mark.parametrize(
    ("name", "depth", "width"),
    [("DARTS_V2", 3, 3.5), ("SNAS_mild", 2, 4.0)],  # as Shu et al. state them for DARTS and SNAS
)
def test_published_cells_have_the_published_depth_and_width(name, depth, width):
    found = published()
    assert name in found, sorted(found)
    cells = found[name].genotype.architecture().cells()
    assert depth_and_width(cells["normal"]) == (depth, width)


@pytest.mark.parametrize(
    ("cell", "depth", "width"),
    [
        ("|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|none~0|none~1|nor_conv_3x3~2|", 3, 1.0),
        ("|none~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|", 1, 1.0),
        ("|skip_connect~0|+|skip_connect~0|none~1|+|none~0|skip_connect~1|skip_connect~2|", 2, 2.0),
        # node 1 is not reached, and what goes on from it carries nothing
        ("|none~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_1x1~2|", 2, 1.5),
        # node 2 is read by nobody
        ("|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|none~0|nor_conv_3x3~1|none~2|", 2, 1.0),
        ("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|", 0, 0.0),
    ],
)
def test_depth_and_width_of_cells_with_one_output(cell, depth, width):
    edges = Architecture.from_nasbench201(cell).cells()["cell"]
    assert depth_and_width(edges) == (depth, width)
    found = record_diagnostics(line(0, {}, dict(Architecture.from_nasbench201(cell))))["cell"]
    assert found["depth_by_cell"] == {"cell": depth}
    assert found["width"] == width


def test_choices_outside_cells_have_no_depth():
    assert "cell" not in record_diagnostics(line(0, {"a": [0.5, 0.5]}))
    assert "skips_by_cell" not in record_diagnostics(line(0, {"a": [0.5, 0.5]}))["operations"]


def test_generalisation_needs_both_parts():
    numbers = {"train_loss": 1.0, "valid_loss": 1.5, "train_accuracy": 0.9, "valid_accuracy": 0.75}
    found = record_diagnostics(line(0, {"a": [1.0]}, **numbers))["generalisation"]
    assert found == {"loss": 0.5, "accuracy": pytest.approx(0.15)}
    del numbers["valid_loss"]
    assert list(record_diagnostics(line(0, {"a": [1.0]}, **numbers))["generalisation"]) == ["accuracy"]


def test_lines_are_not_changed_and_damaged_ones_do_not_matter():
    lines = history([0.5, 0.5], [0.6, 0.4])
    lines[0]["probabilities"]["a"] = [None, 0.5]
    before = copy.deepcopy(lines)
    record_diagnostics(lines[1], lines)
    assert lines == before
    assert record_diagnostics({"epoch": 3}) == {}
    assert record_diagnostics({"epoch": 3, "valid_loss": None, "train_loss": 1.0}) == {}


def test_a_run_has_them_and_they_can_be_computed_again(finished_run: Path):
    lines = Run(finished_run).read_lines("metrics.jsonl")
    assert len(lines) == 2
    for number, one in enumerate(lines):
        stored = one.pop("diagnostics")
        assert set(stored) == set(RECORDS)
        assert json.loads(json.dumps(record_diagnostics(one, lines[:number]))) == stored
    assert 0 < stored["motion"]["relative_step"] < 10
    assert stored["motion"]["architecture_gradient"] == lines[1]["alpha_gradient_norm"]
    assert "kendall_tau" in stored["stability"]


def test_a_resumed_run_goes_on_with_the_lines_before(tiny, few_digits, tmp_path, monkeypatch):
    from archgrad.errors import Stopped
    from archgrad.progress import Silent

    class StopAt(Silent):
        def update(self, done, numbers):
            if done == 12:
                import signal

                signal.raise_signal(signal.SIGINT)

    settings = tiny(method="darts", search={"epochs": 3})
    with pytest.raises(Stopped):
        search_run(settings, tmp_path / "a", data=few_digits, progress=StopAt())
    search_run({}, tmp_path / "a", data=few_digits, resume=True)
    search_run(settings, tmp_path / "b", data=few_digits)
    found = [
        [one["diagnostics"] for one in Run(tmp_path / name).read_lines("metrics.jsonl")] for name in "ab"
    ]
    assert found[0] == found[1]
    assert found[0][2]["stability"]["unchanged"] >= 0


def test_many_searches_at_once_give_the_numbers_of_their_mean():
    config = Config.model_validate(layered(METHODS["snas"].settings, {"search": {"epochs": 2}}))
    land, streams = landscape(), Streams(0)
    plan = search_plan(config, land.groups, searches=4)
    theta = [torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()]
    state = SearchState(theta, None, architecture_optimizer(theta, config.architecture))
    task = LandscapeTask(land, 4, steps_per_epoch=3, streams=streams)
    records = [r.line() for r in search(task, state, plan, streams) if isinstance(r, EpochRecord)]
    (p,) = plan.policy.probabilities([theta[0].detach()])
    top = p.mean(dim=0).topk(2).values
    found = record_diagnostics(records[1], records[:1])
    assert found["margin"]["mean"] == pytest.approx(float((top[:, 0] - top[:, 1]).mean()), abs=1e-6)
    assert found["generalisation"]["loss"] == pytest.approx(0, abs=0.1)
    assert found["motion"]["relative_step"] > 0
