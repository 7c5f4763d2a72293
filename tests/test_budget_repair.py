"""The integer program against enumeration, and derivation within budgets."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from archgrad.architecture import Architecture, Edge
from archgrad.architecture_warnings import is_connected
from archgrad.budgets.budget import Budget
from archgrad.budgets.repair import check_possible, limits, log_probability, most_probable
from archgrad.budgets.within import within_budgets
from archgrad.choice import Group
from archgrad.cli import main
from archgrad.costs.cost_table import CostTable
from archgrad.costs.nested import Nested
from archgrad.costs.network_counts import count_network
from archgrad.datasets.images import ImageData
from archgrad.derive import derive
from archgrad.errors import ConfigError, UserError
from archgrad.spaces import SPACES
from archgrad.spaces.space import as_space
from archgrad.verbs import derive_run, search_run

CELL = Group(
    ("none", "skip_connect", "sep_conv_3x3"),
    tuple(f"normal/{node}<-{source}" for node in (2, 3) for source in range(node)),
)
BENCH = Group(("none", "skip_connect", "nor_conv_3x3"), ("cell/1<-0", "cell/2<-0", "cell/2<-1"))
PLAIN = Group(("a", "b", "c"), ("x", "y", "z"))


def table(group: Group, seed: int, nested: tuple[Nested, ...] = ()) -> CostTable:
    generator = torch.Generator().manual_seed(seed)
    costs = 10 * torch.rand(len(group.names), len(group.candidates), generator=generator).double()
    if "none" in group.candidates:
        costs[:, 0] = 0
    return CostTable(f"cost{seed}", "", 3.0, (group,), (costs,), nested=nested)


def probabilities(group: Group, seed: int) -> Tensor:
    shape = (len(group.names), len(group.candidates))
    return torch.softmax(
        2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed)), dim=-1
    ).double()


def every(group: Group, rule: str) -> Iterator[Architecture]:
    """All architectures that the rule could derive, by definition."""
    for row in itertools.product(group.candidates, repeat=len(group.names)):
        architecture = Architecture(dict(zip(group.names, row, strict=True)))
        if rule in ("darts", "rnn"):
            kept: dict[int, int] = {}
            for name, op in architecture.items():
                edge = Edge.parse(name)
                assert edge is not None
                kept[edge.node] = kept.get(edge.node, 0) + (op != "none")
            if set(kept.values()) != {2 if rule == "darts" else 1}:
                continue
        yield architecture


def score(group: Group, p: Tensor, rule: str, architecture: Architecture) -> float:
    return sum(
        math.log(float(p[e, group.candidates.index(architecture[name])]))
        for e, name in enumerate(group.names)
        if rule == "argmax" or architecture[name] != "none"
    )


CASES = [(CELL, "darts"), (CELL, "rnn"), (BENCH, "argmax"), (PLAIN, "argmax"), (PLAIN, "snas")]


@pytest.mark.parametrize(("group", "rule"), CASES)
@pytest.mark.parametrize("seed", range(4))
def test_it_finds_what_enumeration_finds(group: Group, rule: str, seed: int) -> None:
    plain = "argmax" if rule == "snas" else rule
    tables, p = [table(group, seed), table(group, seed + 50)], probabilities(group, seed + 100)
    all_of_them = list(every(group, plain))
    first, second = sorted(tables[0].of(a) for a in all_of_them), sorted(tables[1].of(a) for a in all_of_them)
    budgets = [
        Budget("first", first[len(first) // 2]),
        Budget("second", second[int(0.8 * len(second))], second[len(second) // 5]),
    ]
    allowed = [
        a
        for a in all_of_them
        if is_connected(a) and all(b.met(t.of(a)) for b, t in zip(budgets, tables, strict=True))
    ]
    best = max(score(group, p, plain, a) for a in allowed)
    found, value = most_probable((group,), [p], rule, budgets, tables)
    assert found in allowed
    assert value == pytest.approx(best)
    assert score(group, p, plain, found) == pytest.approx(best)


@pytest.mark.parametrize(("group", "rule"), CASES)
def test_without_a_budget_in_the_way_it_is_the_rule(group: Group, rule: str) -> None:
    for seed in range(5):
        p = probabilities(group, seed)
        derived = derive((group,), [p], rule).architecture
        if is_connected(derived):
            found, value = most_probable((group,), [p], rule, [Budget("c", 1e9)], [table(group, 1)])
            assert found == derived
            assert value == pytest.approx(log_probability((group,), [p], rule, derived))


@pytest.mark.parametrize(("group", "rule"), CASES)
def test_the_limits_are_those_of_the_rule(group: Group, rule: str) -> None:
    costs = table(group, 9)
    found = [costs.of(a) for a in every(group, "argmax" if rule == "snas" else rule)]
    assert limits((group,), rule, costs) == pytest.approx((min(found), max(found)))


def test_nested_choices_cost_what_they_cost_together() -> None:
    joint = torch.zeros(3, 3).double()
    joint[1] = torch.tensor([4.0, 20.0, 1.0])
    costs, p = table(PLAIN, 2, (Nested(("x", "y"), joint),)), probabilities(PLAIN, 3)
    values = sorted(costs.of(a) for a in every(PLAIN, "argmax"))
    assert limits((PLAIN,), "argmax", costs) == pytest.approx((values[0], values[-1]))
    for position in (0, 5, 12, 25):
        budget = Budget("c", values[position])
        allowed = [a for a in every(PLAIN, "argmax") if budget.met(costs.of(a))]
        _, value = most_probable((PLAIN,), [p], "argmax", [budget], [costs])
        assert value == pytest.approx(max(score(PLAIN, p, "argmax", a) for a in allowed))


def test_a_disconnected_architecture_is_not_taken() -> None:
    p = torch.tensor([[0.98, 0.01, 0.01]] * 3).double()  # `none` everywhere is the most probable
    costs = table(BENCH, 4)
    found, _ = most_probable((BENCH,), [p], "argmax", [Budget("c", costs.bounds()[1])], [costs])
    assert is_connected(found)
    with pytest.raises(UserError, match="leaves its output without an input"):
        check_possible((BENCH,), "argmax", [Budget("c", costs.fixed + 1e-6)], [costs])


def test_edges_are_weighed_as_the_rule_weighs_them() -> None:
    p = probabilities(CELL, 5)
    blends = [Group(tuple(map(str, range(node))), (f"normal/{node}",), "blend") for node in (2, 3)]
    weights = [torch.softmax(3 * torch.arange(node).double(), dim=-1)[None] for node in (2, 3)]
    groups, rows = (CELL, *blends), [p, *weights]
    found, _ = most_probable(groups, rows, "darts", [Budget("c", 1e9)], [table(CELL, 1)])
    assert found == derive(groups, rows, "darts").architecture


def test_budgets_that_no_architecture_meets_say_what_comes_nearest() -> None:
    costs = [table(PLAIN, 1), table(PLAIN, 2)]
    cheapest = [min(every(PLAIN, "argmax"), key=t.of) for t in costs]
    budgets = [
        Budget(f"cost{i}", t.of(a) + 1e-6) for i, (t, a) in enumerate(zip(costs, cheapest, strict=True))
    ]
    with pytest.raises(UserError, match=r"no architecture of this space meets .* the nearest has cost0"):
        check_possible((PLAIN,), "argmax", budgets, costs)
    with pytest.raises(UserError, match="the nearest has"):
        most_probable((PLAIN,), [probabilities(PLAIN, 0)], "argmax", budgets, costs)
    low, high = costs[0].bounds()
    for budget in (Budget("macs", low / 2), Budget("macs", 3 * high, 2 * high)):
        with pytest.raises(UserError, match=rf"the cheapest costs {low:.4g}, the dearest {high:.4g}"):
            check_possible((PLAIN,), "argmax", [budget], costs[:1])


def test_a_rule_of_ones_own_cannot_be_repaired() -> None:
    with pytest.raises(UserError, match="says nothing of its structure"):
        most_probable((PLAIN,), [probabilities(PLAIN, 0)], "my:rule", [Budget("c", 1.0)], [table(PLAIN, 0)])


@pytest.mark.parametrize("rule", ["argmax", "darts"])
def test_what_was_changed_is_told(rule: str) -> None:
    group = CELL if rule == "darts" else BENCH
    costs, p = table(group, 6), probabilities(group, 7)
    derivation = derive((group,), [p], rule)
    same = within_budgets(derivation, (group,), [p], [Budget("c", 1e9)], [costs])
    assert same is derivation
    connected = sorted(costs.of(a) for a in every(group, rule) if is_connected(a))
    budget = Budget("macs", connected[1])
    found = within_budgets(derivation, (group,), [p], [budget], [costs])
    assert budget.met(costs.of(found.architecture))
    assert found.repair is not None
    changed = {c["name"]: (c["from"], c["to"]) for c in found.repair["changed"]}
    before = derivation.architecture
    assert changed == {
        n: (before[n], found.architecture[n]) for n in before if before[n] != found.architecture[n]
    }
    lost = log_probability((group,), [p], rule, before) - log_probability(
        (group,), [p], rule, found.architecture
    )
    assert found.repair["log_probability_lost"] == pytest.approx(lost)
    assert lost > 0
    assert "missed its budget" in found.warnings[0]
    for decision in found.decisions:  # the decisions are those of the architecture
        taken = found.architecture[decision.name]
        assert taken == (decision.winner if decision.kept else "none")
        e = group.names.index(decision.name)
        assert decision.winner_probability == pytest.approx(
            float(p[e, group.candidates.index(decision.winner)])
        )


def test_a_run_within_budgets(
    few_digits: ImageData, tiny: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    settings = tiny(budget={"macs": "14k±3%", "parameters": "1k"})
    run = search_run(settings, tmp_path / "run", data=few_digits)
    line = run.read_lines("metrics.jsonl")[-1]
    assert set(line["budgets"]) == {"macs", "parameters"}
    assert set(line["budgets"]["macs"]) == {"expected", "held", "price_above", "price_below"}
    derivation = derive_run(run.folder)
    by_cost = {one["cost"]: one for one in derivation.budgets}
    assert 13_580 <= by_cost["macs"]["value"] <= 14_420
    assert by_cost["parameters"]["value"] <= 1_000
    counts = count_network(
        as_space(SPACES["nasbench201"]).builder,
        derivation.architecture,
        few_digits.shape,
        10,
        settings["train"]["space"],
    )
    assert (counts.macs, counts.parameters_without_auxiliary) == tuple(o["value"] for o in derivation.budgets)
    document = json.loads((run.folder / "derivation.json").read_text())
    assert document["budgets"] == list(derivation.budgets)
    assert run.read_config()["budget"] == {"macs": "14k±3%", "parameters": "1k"}


def test_a_resumed_search_has_the_prices_of_an_unbroken_one(
    few_digits: ImageData, tiny: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    settings = tiny(budget={"macs": "14k"})
    whole = search_run(settings, tmp_path / "whole", data=few_digits)
    again = search_run(settings, tmp_path / "again", data=few_digits)
    for file in (again.folder / "logits.safetensors", again.folder / "checkpoints" / "step-8.pt"):
        file.unlink(missing_ok=True)
    newest = max((again.folder / "checkpoints").glob("step-*.pt"), key=lambda f: int(f.stem[5:]))
    newest.unlink()
    resumed = search_run({}, tmp_path / "again", data=few_digits, resume=True)
    last = [r.read_lines("metrics.jsonl")[-1]["budgets"] for r in (whole, resumed)]
    assert last[0] == last[1]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"budget": {"macs": "14"}}, "has no unit"),
        ({"budget": {"latency": "2ms"}}, "name the table behind @"),
        ({"budget": {"macs": "14k", "mac": "1k"}}, "two budgets for 'macs'"),
        ({"budget": {"macs": 14}}, "should be a valid string"),
        ({"budget": {"macs": "14k"}, "cost": {"name": "macs", "strength": 0.1}}, "pull it away"),
        ({"budget": {"macs": "14k"}, "method": "random"}, "trains no logits"),
        ({"budget": {"macs": "1k"}}, r"the cheapest costs 4.776 k, the dearest 32.42 k"),
        ({"budget": {"macs": "14G±1%"}}, "no architecture of this space meets it"),
        ({"budget": {"latency": "2ms@nowhere.json"}}, "no latency table nowhere.json"),
    ],
)
def test_wrong_budgets_are_refused_before_any_training(
    few_digits: ImageData,
    tiny: Callable[..., dict[str, Any]],
    tmp_path: Path,
    changes: dict[str, Any],
    says: str,
) -> None:
    settings = {**tiny(), **changes}
    with pytest.raises((UserError, ConfigError), match=says):
        search_run(settings, tmp_path / "run", data=few_digits)
    assert not (tmp_path / "run").exists()


def test_the_command_line_takes_budgets(tmp_path: Path) -> None:
    line = ["search", "--data", "digits", "--run", str(tmp_path / "run"), "--budget", "macs=1"]
    result = CliRunner().invoke(main, line)
    assert result.exit_code == 2
    assert "has no unit; write one of k, M, G" in result.output
