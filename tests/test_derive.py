"""Derivation: published logits give published cells, and a choice's doubt is stated."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from archgrad.architecture import NASBENCH201_CANDIDATES, Architecture
from archgrad.choice import Group, concrete
from archgrad.derive import RULES, Derivation, decide, derive
from archgrad.errors import UserError
from archgrad.spaces.cell import DARTS_CANDIDATES, DartsNetwork

DARTS_EDGES = tuple(
    f"{kind}/{n}<-{s}" for kind in ("normal", "reduce") for n in range(2, 6) for s in range(n)
)
NB201_EDGES = tuple(f"cell/{n}<-{s}" for n in (1, 2, 3) for s in range(n))
DARTS_GROUPS = (Group(DARTS_CANDIDATES, DARTS_EDGES),)
NB201_GROUPS = (Group(NASBENCH201_CANDIDATES, NB201_EDGES),)
Genotype = dict[str, list[tuple[str, int]]]

# Liu et al. 2019, the second-order cell
DARTS_V2: Genotype = {
    "normal": [
        ("sep_conv_3x3", 0),
        ("sep_conv_3x3", 1),
        ("sep_conv_3x3", 0),
        ("sep_conv_3x3", 1),
        ("sep_conv_3x3", 1),
        ("skip_connect", 0),
        ("skip_connect", 0),
        ("dil_conv_3x3", 2),
    ],
    "reduce": [
        ("max_pool_3x3", 0),
        ("max_pool_3x3", 1),
        ("skip_connect", 2),
        ("max_pool_3x3", 1),
        ("max_pool_3x3", 0),
        ("skip_connect", 2),
        ("skip_connect", 2),
        ("max_pool_3x3", 1),
    ],
}


def one_hot(groups: Sequence[Group], architecture: Architecture) -> list[Tensor]:
    return [
        torch.tensor([[float(k == architecture[n]) for k in g.candidates] for n in g.names]) for g in groups
    ]


def logits_of(genotype: Genotype) -> Tensor:
    """α [28, 8] from which the published code reads this genotype, strongest edge of a node first.

    `none` is the strongest candidate of many edges, as in a real search, and must not count. Dropped
    edges get large logits all over: strong by raw α, weak by probability.
    """
    generator = torch.Generator().manual_seed(11)
    logits = 0.1 * torch.randn(len(DARTS_EDGES), len(DARTS_CANDIDATES), generator=generator)
    logits += torch.tensor([[5.0 if edge[-1] in "34" else 3.0] for edge in DARTS_EDGES])
    for kind in ("normal", "reduce"):
        for i, (op, source) in enumerate(genotype[kind]):
            row = DARTS_EDGES.index(f"{kind}/{2 + i // 2}<-{source}")
            logits[row] = 0.1 * torch.randn(len(DARTS_CANDIDATES), generator=generator)
            logits[row, 0] = 3.0
            logits[row, DARTS_CANDIDATES.index(op)] = 2.8 - 0.3 * (i % 2)
    return logits


def architecture_of(genotype: Genotype) -> Architecture:
    choices = dict.fromkeys(DARTS_EDGES, "none")
    for kind in ("normal", "reduce"):
        for i, (op, source) in enumerate(genotype[kind]):
            choices[f"{kind}/{2 + i // 2}<-{source}"] = op
    return Architecture(choices)


def by_node(probabilities: Sequence[float], names: Sequence[str], candidates: Sequence[str]) -> Derivation:
    """Derive, by the DARTS rule, from edges whose first candidate has the given probability."""
    rest = len(candidates) - 1
    rows = torch.tensor([[p, *[(1 - p) / rest] * rest] for p in probabilities])
    return derive([Group(tuple(candidates), tuple(names))], [rows], "darts")


# laws


def test_the_table_of_rules_is_covered() -> None:
    assert list(RULES) == ["argmax", "darts", "snas", "pdarts", "rnn"]


@pytest.mark.parametrize("rule", ["argmax", "snas"])
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_argmax_and_snas_are_idempotent_on_one_hot(rule: str, data: st.DataObject) -> None:
    groups = data.draw(st.sampled_from([DARTS_GROUPS, NB201_GROUPS]))
    names = groups[0].names
    architecture = Architecture({n: data.draw(st.sampled_from(groups[0].candidates)) for n in names})
    derivation = derive(groups, one_hot(groups, architecture), rule)
    assert derivation.architecture == architecture
    assert all(d.kept and d.margin == 1 and d.entropy == 0 for d in derivation.decisions)


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_the_darts_rule_is_idempotent_on_one_hot(data: st.DataObject) -> None:
    choices = dict.fromkeys(DARTS_EDGES, "none")
    for kind in ("normal", "reduce"):
        for node in range(2, 6):
            pair = data.draw(st.lists(st.integers(0, node - 1), min_size=2, max_size=2, unique=True))
            for source in pair:
                choices[f"{kind}/{node}<-{source}"] = data.draw(st.sampled_from(DARTS_CANDIDATES[1:]))
    architecture = Architecture(choices)
    derivation = derive(DARTS_GROUPS, one_hot(DARTS_GROUPS, architecture), "darts")
    assert derivation.architecture == architecture


def published_darts(probabilities: Tensor) -> set[tuple[str, str]]:
    """The published rule again, with tensors: per node the top 2 of the maxima without `none`."""
    kept = set()
    strength, op = probabilities[:, 1:].max(dim=1)
    for kind in ("normal", "reduce"):
        for node in range(2, 6):
            rows = [i for i, e in enumerate(DARTS_EDGES) if e.startswith(f"{kind}/{node}<-")]
            for j in strength[rows].topk(2).indices.tolist():
                kept.add((DARTS_EDGES[rows[j]], DARTS_CANDIDATES[1 + int(op[rows[j]])]))
    return kept


@pytest.mark.parametrize("seed", range(5))
def test_the_darts_rule_on_random_logits(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    probabilities = (2 * torch.randn(28, 8, generator=generator)).softmax(dim=-1)
    derived = derive(DARTS_GROUPS, [probabilities], "darts").architecture
    assert {(e, op) for e, op in derived.items() if op != "none"} == published_darts(probabilities)
    assert len(derived) == 28


# published cells


def test_logits_give_the_published_cell() -> None:
    logits = logits_of(DARTS_V2)
    derivation = derive(DARTS_GROUPS, [logits.softmax(dim=-1)], "darts")
    assert derivation.architecture == architecture_of(DARTS_V2)
    assert "`none` is the most probable candidate of 16 of 16 kept edges" in derivation.warnings[0]
    assert derivation.skip_share == 5 / 16


def test_ranking_edges_by_raw_logits_would_give_another_cell() -> None:
    # A known fault of a popular package. The same α, with the softmax left out:
    logits = logits_of(DARTS_V2)
    wrong = published_darts(logits)
    right = {(e, op) for e, op in architecture_of(DARTS_V2).items() if op != "none"}
    assert published_darts(logits.softmax(dim=-1)) == right != wrong
    with pytest.raises(UserError, match="are no probabilities"):
        derive(DARTS_GROUPS, [logits], "darts")


def test_every_published_cell_of_four_nodes(shared_data: Path) -> None:
    genotypes = json.loads((shared_data.parent / "genotypes.json").read_text())["cnn"]
    pairs_derived = edges_derived = 0
    for name, genotype in genotypes.items():
        cells = [*genotype["normal"], *genotype["reduce"]]
        if not {op for op, _ in cells} <= set(DARTS_CANDIDATES):
            continue
        if len(cells) == 16 and all(op != "none" for op, _ in cells):
            pairs_derived += 1
            derivation = derive(DARTS_GROUPS, [logits_of(genotype).softmax(dim=-1)], "darts")
            assert derivation.architecture == architecture_of(genotype), name
        elif len(cells) == 28:
            edges_derived += 1
            nodes = [2] * 2 + [3] * 3 + [4] * 4 + [5] * 5
            wanted = Architecture(
                {
                    f"{kind}/{node}<-{source}": op
                    for kind in ("normal", "reduce")
                    for node, (op, source) in zip(nodes, genotype[kind], strict=True)
                }
            )
            logits = 3 * one_hot(DARTS_GROUPS, wanted)[0]
            assert derive(DARTS_GROUPS, [logits.softmax(dim=-1)], "snas").architecture == wanted, name
    assert (pairs_derived, edges_derived) == (10, 3)


def test_a_derived_cell_builds() -> None:
    architecture = derive(DARTS_GROUPS, [logits_of(DARTS_V2).softmax(dim=-1)], "darts").architecture
    network = concrete(DartsNetwork, architecture, (3, 8, 8), 4, channels=4, cells=3)
    assert network(torch.zeros(2, 3, 8, 8)).shape == (2, 4)


# the DARTS rule in particular


def test_equal_edges_keep_the_earlier_source_and_say_so() -> None:
    names = [f"normal/4<-{source}" for source in (3, 2, 1, 0)]
    derivation = by_node([0.4, 0.4, 0.4, 0.4], names, ("sep_conv_3x3", "none", "avg_pool_3x3"))
    kept = [d.name for d in derivation.decisions if d.kept]
    assert kept == ["normal/4<-1", "normal/4<-0"]
    assert derivation.architecture["normal/4<-3"] == "none"
    assert "normal/4<-1 (0.400) ties with normal/4<-2 (0.400)" in derivation.warnings[0]


def test_a_close_call_between_edges_is_a_warning() -> None:
    names = [f"normal/4<-{source}" for source in range(3)]
    candidates = ("sep_conv_3x3", "none", "avg_pool_3x3")
    close = by_node([0.9, 0.7, 0.66], names, candidates)
    assert "normal/4<-1 (0.700) beats normal/4<-2 (0.660)" in close.warnings[0]
    clear = by_node([0.9, 0.7, 0.64], names, candidates)
    assert not clear.warnings
    assert [d.kept for d in clear.decisions] == [True, True, False]


def test_edges_with_different_candidates_are_ranked_together() -> None:
    groups = [Group(("none", "a"), ("c/3<-0", "c/3<-2")), Group(("b", "none", "d"), ("c/3<-1", "c/2<-0"))]
    probabilities = [torch.tensor([[0.5, 0.5], [0.1, 0.9]]), torch.tensor([[0.3, 0.0, 0.7], [0.6, 0.3, 0.1]])]
    derived = derive(groups, probabilities, "darts").architecture
    assert derived == Architecture({"c/3<-0": "none", "c/3<-2": "a", "c/3<-1": "d", "c/2<-0": "b"})


def test_choices_that_are_no_edges_need_another_rule() -> None:
    groups, rows = [Group(("a", "b"), ("depth",))], [torch.tensor([[0.7, 0.3]])]
    with pytest.raises(UserError, match="'depth' is no edge: use rule 'argmax'"):
        derive(groups, rows, "darts")
    assert derive(groups, rows, "argmax").architecture == Architecture({"depth": "a"})


def test_a_dropped_edge_needs_the_candidate_none() -> None:
    names = [f"normal/4<-{source}" for source in range(3)]
    with pytest.raises(UserError, match="drops 'normal/4<-2', but that choice has no candidate 'none'"):
        by_node([0.9, 0.7, 0.6], names, ("sep_conv_3x3", "avg_pool_3x3"))
    whole = by_node([0.9, 0.7], names[:2], ("sep_conv_3x3", "avg_pool_3x3"))
    assert set(whole.architecture.values()) == {"sep_conv_3x3"}


def test_a_choice_of_none_alone_cannot_be_made() -> None:
    with pytest.raises(UserError, match="no candidate but none"):
        derive([Group(("none",), ("c/2<-0",))], [torch.ones(1, 1)], "darts")


# decisions and warnings


def test_a_decision_by_hand() -> None:
    d = decide("c", ("none", "x", "y"), [0.5, 0.2, 0.3], excluded={"none"})
    assert d[:5] == ("c", "y", "x", 0.3, 0.2)
    assert d.margin == pytest.approx(0.1)
    assert d.entropy == pytest.approx(0.5 * math.log(2) - 0.2 * math.log(0.2) - 0.3 * math.log(0.3))


def test_one_candidate_has_no_runner_up() -> None:
    derivation = derive([Group(("x",), ("c",))], [torch.ones(1, 1)])
    assert derivation.decisions[0] == ("c", "x", None, 1.0, 0.0, 1.0, 0.0, True)
    assert not derivation.warnings


def test_ties_take_the_first_candidate_and_say_so() -> None:
    derivation = derive(
        [Group(("x", "y", "z"), ("c", "d"))], [torch.tensor([[0.1, 0.45, 0.45], [0.9, 0.1, 0.0]])]
    )
    assert derivation.architecture["c"] == "y"
    assert derivation.warnings == ("1 of 2 decisions are ties, the first candidate was taken (c: y and z)",)


@pytest.mark.parametrize(
    ("row", "weak"),
    [
        ([0.52, 0.48, 0.0, 0.0], "c: w over x by 0.040, entropy 50% of uniform"),  # margin
        ([0.40, 0.20, 0.20, 0.20], "c: w over x by 0.200, entropy 96% of uniform"),  # entropy
        ([0.53, 0.47, 0.0, 0.0], None),
        ([0.55, 0.15, 0.15, 0.15], None),  # entropy 86 %
    ],
)
def test_weak_decisions_are_named_with_their_numbers(row: list[float], weak: str | None) -> None:
    warnings = derive([Group(("w", "x", "y", "z"), ("c",))], [torch.tensor([row])]).warnings
    if weak is None:
        assert warnings == ()
    else:
        assert len(warnings) == 1
        assert warnings[0].startswith("1 of 1 decisions are weak")
        assert weak in warnings[0]


def nasbench201(text: str) -> Derivation:
    architecture = Architecture.from_nasbench201(text)
    return derive(NB201_GROUPS, one_hot(NB201_GROUPS, architecture))


def test_skip_connections_taking_over_is_a_warning() -> None:
    four = nasbench201(
        "|skip_connect~0|+|skip_connect~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_1x1~1|skip_connect~2|"
    )
    assert four.warnings == (
        "skip connections took over: they are 4 of the 6 choices of cell 'cell' that are not 'none'",
    )
    assert four.skip_share == 4 / 6
    half = nasbench201(
        "|skip_connect~0|+|skip_connect~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_1x1~1|nor_conv_1x1~2|"
    )
    assert half.warnings == ()
    # `none` is no competitor: three skips of the four that are kept
    sparse = nasbench201("|skip_connect~0|+|skip_connect~0|none~1|+|skip_connect~0|none~1|nor_conv_1x1~2|")
    assert "3 of the 4 choices" in sparse.warnings[0]
    assert sparse.skip_share == 0.75


def test_a_cell_without_operations_is_a_warning() -> None:
    warnings = nasbench201(
        "|avg_pool_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|none~1|avg_pool_3x3~2|"
    ).warnings
    assert warnings == ("cell 'cell' has only skip connections and poolings on its kept edges",)


def test_an_unconnected_output_is_a_warning() -> None:
    cut = nasbench201("|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|nor_conv_3x3~2|")
    assert cut.warnings == ("the output of cell 'cell' is not connected to its input: it is constant",)
    nothing = nasbench201("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|")
    assert nothing.warnings == cut.warnings
    assert nothing.skip_share == 0.0
    # node 1 has no input, which is no fault: the last node has another path
    whole = nasbench201("|none~0|+|nor_conv_3x3~0|none~1|+|none~0|none~1|nor_conv_3x3~2|")
    assert whole.warnings == ()


def test_edges_that_lead_nowhere_are_a_warning() -> None:
    dead = nasbench201("|nor_conv_1x1~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|nor_conv_3x3~2|")
    assert len(dead.warnings) == 1
    assert "cell/1<-0, cell/3<-2 carry nothing from input to output" in dead.warnings[0]


def test_a_path_that_ends_before_the_output_is_a_warning() -> None:
    unread = nasbench201("|nor_conv_1x1~0|+|none~0|nor_conv_3x3~1|+|nor_conv_3x3~0|none~1|none~2|")
    assert len(unread.warnings) == 1
    assert "cell/1<-0, cell/2<-1 carry nothing from input to output" in unread.warnings[0]


def test_a_node_of_a_darts_cell_that_gets_nothing_is_a_warning() -> None:
    choices = dict(architecture_of(DARTS_V2))
    choices["normal/5<-0"] = choices["normal/5<-2"] = "none"
    warnings = derive(DARTS_GROUPS, one_hot(DARTS_GROUPS, Architecture(choices)), "snas").warnings
    assert any("cell 'normal': nothing arrives at node(s) 5" in w for w in warnings)


# input and output


def test_probabilities_that_do_not_fit_are_refused() -> None:
    rows = torch.full((6, 5), 0.2)
    for wrong in ([rows[:5]], [rows.T], [], [rows, rows]):
        with pytest.raises(UserError, match=r"wanted probabilities \[E, K\] of shapes \[\(6, 5\)\]"):
            derive(NB201_GROUPS, wrong)
    for bad in (math.nan, -0.2, 0.4, math.inf):
        broken = rows.clone()
        broken[3, 1] = bad
        with pytest.raises(UserError, match=r"choice 'cell/3<-0': .* are no probabilities"):
            derive(NB201_GROUPS, [broken])
    with pytest.raises(UserError, match="are no probabilities"):
        derive(NB201_GROUPS, [torch.tensor([[-0.2, 0.6, 0.2, 0.2, 0.2]]).expand(6, 5)])


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(UserError, match="unknown derivation rule 'dart' - did you mean 'darts'"):
        derive(NB201_GROUPS, [torch.full((6, 5), 0.2)], "dart")


def test_the_document() -> None:
    groups = [Group(("x", "y"), ("c",))]
    document = json.loads(derive(groups, [torch.tensor([[0.25, 0.75]], dtype=torch.float64)]).to_json())
    assert document == {
        "rule": "argmax",
        "choices": [
            {
                "name": "c",
                "winner": "y",
                "runner_up": "x",
                "winner_probability": 0.75,
                "runner_up_probability": 0.25,
                "margin": 0.5,
                "entropy": pytest.approx(0.5623351446188083),
                "kept": True,
            }
        ],
        "warnings": [],
        "parameters": None,
        "macs": None,
        "live": None,
        "skip_share": 0.0,
        "epoch": None,
    }


def test_the_table_for_reading() -> None:
    text = str(derive(DARTS_GROUPS, [logits_of(DARTS_V2).softmax(dim=-1)], "darts"))
    lines = text.splitlines()
    assert lines[0].split() == ["choice", "winner", "p", "runner-up", "p", "margin", "entropy"]
    assert lines[1].startswith("normal/2<-0  sep_conv_3x3")
    assert sum(line.endswith("dropped") for line in lines) == 12
    assert lines[29].startswith("warning: ")
