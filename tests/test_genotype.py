"""Genotypes: parallel edges, the literature's notations in and out, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archgrad.architecture import Architecture, Edge
from archgrad.choice import concrete, supernet
from archgrad.errors import UserError
from archgrad.genotype import Genotype
from archgrad.genotypes import find, published
from archgrad.spaces import SPACES
from archgrad.spaces.space import as_space


@given(st.text(alphabet="ab/ #", min_size=1), st.integers(0, 99), st.integers(0, 99), st.integers(1, 99))
def test_parallel_edge_names_round_trip(cell: str, node: int, source: int, parallel: int) -> None:
    edge = Edge(cell, node, source, parallel)
    assert Edge.parse(str(edge)) == edge


@pytest.mark.parametrize("name", ["a/2<-0#", "a/2<-0#1", "a/2<-0#0", "a/2<-0#02", "a/2<-0#x", "a/2<-0#2#3"])
def test_a_second_edge_has_one_spelling(name: str) -> None:
    assert Edge.parse(name) is None


def test_the_first_of_parallel_edges_is_named_as_ever() -> None:
    assert str(Edge("normal", 4, 0)) == "normal/4<-0"
    assert str(Edge("normal", 4, 0, 2)) == "normal/4<-0#2"


def test_parallel_edges_have_no_nasbench201_string() -> None:
    with pytest.raises(UserError, match="cell/1<-0#2"):
        Architecture({"cell/1<-0": "none", "cell/1<-0#2": "none"}).to_nasbench201()


NORMAL = "[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('skip_connect', 0), ('dil_conv_3x3', 2)]"
REDUCE = "[('max_pool_3x3', 0), ('avg_pool_3x3', 1), ('none', 2), ('skip_connect', 1)]"
SMALL = f"Genotype(normal={NORMAL}, normal_concat=range(2, 4), reduce={REDUCE}, reduce_concat=range(2, 4))"


def test_a_darts_genotype_is_an_architecture() -> None:
    genotype = Genotype.parse(SMALL)
    assert (genotype.space, genotype.nodes, genotype.parallel) == ("darts", 2, 1)
    assert genotype.architecture() == Architecture(
        {
            "normal/2<-0": "sep_conv_3x3",
            "normal/2<-1": "sep_conv_3x3",
            "normal/3<-0": "skip_connect",
            "normal/3<-1": "none",
            "normal/3<-2": "dil_conv_3x3",
            "reduce/2<-0": "max_pool_3x3",
            "reduce/2<-1": "avg_pool_3x3",
            "reduce/3<-0": "none",
            "reduce/3<-1": "skip_connect",
            "reduce/3<-2": "none",
        }
    )
    assert genotype.settings() == {"nodes": 2}
    assert Architecture.from_genotype(SMALL) == genotype.architecture()


@pytest.mark.parametrize(
    "text",
    [
        f"genotype = {SMALL}",
        f"07/25 10:00:01 AM genotype = {SMALL}",
        f"DARTS_X = {SMALL}",
        f"genotypes.{SMALL}\n",
        SMALL.replace("range(2, 4)", "list(range(2, 4))"),
        SMALL.replace("range(2, 4)", "[2, 3]")
        .replace("(", "[")
        .replace(")", "]")
        .replace("Genotype[", "Genotype(")[:-1]
        + ")",
        f"Genotype({NORMAL}, [2, 3], {REDUCE}, [2, 3])",
        f"dict(normal={NORMAL}, normal_concat=[2, 3], reduce={REDUCE}, reduce_concat=[2, 3])",
        f"{{'normal': {NORMAL}, 'normal_concat': [2, 3], 'reduce': {REDUCE}, 'reduce_concat': (2, 3)}}",
        # one list for each node, and the strength of every edge
        (
            "Genotype(normal=[[('sep_conv_3x3', 0, 0.4), ('sep_conv_3x3', 1, 1)], "
            "[('skip_connect', 0, None), "
            "('dil_conv_3x3', 2, 1e-3)]], normal_concat=range(2, 4), reduce=[(('max_pool_3x3', 0), "
            "('avg_pool_3x3', 1)), (('none', 2), ('skip_connect', 1))])"
        ),
        # the names of the GDAS authors
        SMALL.replace("sep_conv", "dua_sepc")
        .replace("'skip_connect'", "'skip'")
        .replace("dil_conv", "dil_sepc"),
        SMALL.replace("'max_pool_3x3'", "'max'").replace("'avg_pool_3x3'", "'avg'"),
    ],
)
def test_the_notations_of_one_cell(text: str) -> None:
    assert Genotype.parse(text) == Genotype.parse(SMALL)


def test_json_of_the_literatures_fields() -> None:
    fields = {"normal": [["skip_connect", 0], ["skip_connect", 1]], "normal_concat": [2]}
    text = json.dumps({**fields, "reduce": fields["normal"], "reduce_concat": [2]})
    assert Genotype.parse(text).operations() == ("skip_connect",)


def test_all_edges_or_two_for_each_node_is_told_by_the_last_joined_node() -> None:
    edges = [("skip_connect", source) for node in range(2, 6) for source in range(node)]  # 14
    full = Genotype.parse(
        f"Genotype(normal={edges}, normal_concat=[2, 5], reduce={edges}, reduce_concat=[5])"
    )
    assert full.nodes == 4
    assert [len(node) for node in full.cells["normal"]] == [2, 3, 4, 5]
    pairs = [("skip_connect", 0), ("skip_connect", 1)] * 7
    two = Genotype.parse(f"Genotype(normal={pairs}, normal_concat=[8], reduce={pairs}, reduce_concat=[8])")
    assert [len(node) for node in two.cells["normal"]] == [2] * 7


def test_a_recurrent_cell() -> None:
    genotype = Genotype.parse(
        "Genotype(recurrent=[('relu', 0), ('tanh', 1), ('identity', 1)], concat=range(1, 4))"
    )
    assert (genotype.space, genotype.nodes) == ("darts_rnn", 3)
    chosen = {name: c for name, c in genotype.architecture().items() if c != "none"}
    assert chosen == {"recurrent/1<-0": "relu", "recurrent/2<-1": "tanh", "recurrent/3<-1": "identity"}
    assert len(genotype.architecture()) == 6


def test_a_nasbench201_string() -> None:
    text = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|none~1|nor_conv_1x1~2|"
    genotype = Genotype.parse(text)
    assert genotype.architecture() == Architecture.from_nasbench201(text)
    assert genotype.to_text() == text
    assert genotype.settings() == {}


@pytest.mark.parametrize("nodes", [1, 2, 3, 4])
def test_the_space_builds_cells_of_other_sizes(nodes: int) -> None:
    """Of NAS-Bench-201 the builder's `nodes` counts the input; of the other spaces it does not."""
    dense = "+".join(
        "|" + "|".join(f"nor_conv_3x3~{source}" for source in range(node)) + "|"
        for node in range(1, nodes + 1)
    )
    edges = [[("sep_conv_3x3", source) for source in range(node)] for node in range(2, 2 + nodes)]
    chain = [("tanh", source) for source in range(nodes)]
    for text, shape in (
        (dense, (3, 8, 8)),
        (f"Genotype(normal={edges}, reduce={edges})", (3, 8, 8)),
        (f"Genotype(recurrent={chain}, concat=range(1, {nodes + 1}))", (1,)),
    ):
        genotype = Genotype.parse(text)
        assert genotype.nodes == nodes
        space, more = as_space(SPACES[genotype.space]), genotype.settings()
        groups = supernet(space.builder, shape, 5, **{**space.small_train, **more}).groups
        assert {name for group in groups for name in group.names} == set(genotype.architecture())
        concrete(space.builder, genotype.architecture(), shape, 5, **{**space.small_train, **more})


def test_parallel_edges_are_counted_from_one() -> None:
    cell = [("skip_connect", 0), ("none", 1), ("avg_pool_3x3", 0), ("avg_pool_3x3", 0)]
    text = f"Genotype(normal={cell}, normal_concat=[2, 3], reduce={cell}, reduce_concat=[3])"
    genotype = Genotype.parse(text)
    assert genotype.parallel == 2
    assert genotype.settings() == {"nodes": 2, "parallel": 2, "reduce_concat": [3]}
    architecture = genotype.architecture()
    assert architecture["normal/3<-0"] == architecture["normal/3<-0#2"] == "avg_pool_3x3"
    assert architecture["normal/2<-1"] == architecture["normal/2<-1#2"] == "none"
    assert len(architecture) == 2 * 2 * (2 + 3)


@st.composite
def genotypes(draw: st.DrawFn) -> Genotype:
    nodes = draw(st.integers(1, 4))
    names = st.sampled_from(["none", "skip_connect", "sep_conv_7x7", "max_pool_3x3"])

    def cell() -> list[list[tuple[str, int]]]:
        return [
            draw(st.lists(st.tuples(names, st.integers(0, node - 1)), max_size=3))
            for node in range(2, 2 + nodes)
        ]

    def joined() -> list[int]:
        return draw(st.lists(st.integers(2, 1 + nodes), min_size=1, unique=True))

    return Genotype({"normal": cell(), "reduce": cell()}, {"normal": joined(), "reduce": joined()})  # type: ignore[dict-item]


@settings(max_examples=200, deadline=None)
@given(genotypes())
def test_every_genotype_comes_back(genotype: Genotype) -> None:
    assert Genotype.parse(genotype.to_text()) == genotype
    assert Genotype.parse(genotype.to_json()) == genotype
    assert hash(Genotype.parse(genotype.to_json())) == hash(genotype)
    again = Genotype.from_architecture(genotype.architecture(), genotype.concat)
    assert sorted(again.architecture().values()) == sorted(genotype.architecture().values())


def test_from_an_architecture() -> None:
    genotype = Genotype.parse(SMALL)
    assert Genotype.parse(genotype.architecture().to_json()).architecture() == genotype.architecture()
    with pytest.raises(UserError, match="'depth'"):
        Genotype.from_architecture(Architecture({"depth": "3"}))
    with pytest.raises(UserError, match="encoder"):
        Genotype.from_architecture(Architecture({"encoder/2<-0": "none"}))


BAD = [
    ("", "empty"),
    ("  \n", "empty"),
    ("hello", "no genotype"),
    ("import os", "no genotype"),
    ("[1, 2]", "no genotype"),
    ("Genotype(", "no genotype"),
    ("Genotype()", "got none"),
    (SMALL.replace("range(2, 4)", "open('x')"), "nothing is executed"),
    (SMALL.replace("range(2, 4)", "range(2, 10**9)"), "nothing is executed"),
    (SMALL.replace("range(2, 4)", "range(2, 1000000000)"), "nothing is executed"),
    (SMALL.replace("range(2, 4)", "[n for n in (2, 3)]"), "nothing is executed"),
    (SMALL.replace("range(2, 4)", "2"), "list of node numbers"),
    (SMALL.replace("range(2, 4)", "[2, 3, 4]"), "joins node 4"),
    (SMALL.replace("range(2, 4)", "[1, 3]"), "joins node 1"),
    (SMALL.replace("range(2, 4)", "[3, 3]"), "twice"),
    (SMALL.replace("range(2, 4)", "[]"), "joins no nodes"),
    (SMALL.replace("'dil_conv_3x3'", "'dil_conv_3x4'"), "did you mean 'dil_conv_3x3'"),
    (SMALL.replace("('dil_conv_3x3', 2)", "('dil_conv_3x3', 3)"), "node 3, which comes later"),
    (SMALL.replace("('dil_conv_3x3', 2)", "('dil_conv_3x3', -1)"), "which is no node"),
    (SMALL.replace("('dil_conv_3x3', 2)", "('dil_conv_3x3', True)"), "reads"),
    (SMALL.replace("('dil_conv_3x3', 2)", "'dil_conv_3x3'"), "reads"),
    (SMALL.replace(", ('dil_conv_3x3', 2)", ""), "an edge is missing"),
    (SMALL.replace(", ('dil_conv_3x3', 2)", ", ('dil_conv_3x3', 2), ('none', 0)"), "all its edges"),
    (SMALL.replace(NORMAL, NORMAL[:-1] + ", " + NORMAL[1:]), "same number of nodes|joins"),
    (SMALL.replace("normal=", "norml="), "did you mean 'normal'"),
    (SMALL.replace("normal_concat=range(2, 4), ", ""), "normal_concat"),
    (f"Genotype(normal={NORMAL}, normal_concat=[2, 3])", "no reduce cell"),
    ("Genotype(recurrent=[('relu', 0), ('relu', 2)], concat=[1, 2])", "comes later"),
    ("Genotype(recurrent=[('swish', 0)], concat=[1])", "unknown operation 'swish'"),
    ("Genotype(recurrent=[[('relu', 0), ('tanh', 0)]], concat=[1])", "two edges"),
    ("|none~0|+|none~0|", "needs 2 edges"),
    ("|none~1|", "op~0"),
    ("|nothing~0|", "unknown operation"),
    ('{"format": "archgrad.genotype/1"}', "wanted"),
    ('{"format": "archgrad.genotype/2", "choices": {}}', "not an architecture"),
    (
        '{"format": "archgrad.genotype/1", "cells": {"cell": [[["none", 0]], [["none", 1]]]}, "concat": {}}',
        "no edge",
    ),
    ("Genotype(" + "[" * 5000 + "]" * 5000 + ")", "genotype"),
    ("x" * 200_000, "characters"),
]


@pytest.mark.parametrize(("text", "message"), BAD, ids=[str(i) for i in range(len(BAD))])
def test_what_is_no_genotype_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Genotype.parse(text)


def test_published_cells() -> None:
    cells = published()
    assert sum(cell.genotype.space == "darts" for cell in cells.values()) == 16
    assert sum(cell.genotype.space == "darts_rnn" for cell in cells.values()) == 3
    for cell in cells.values():
        assert cell.sentence
        assert "arXiv" in cell.source
        assert cell.genotype.to_text() == cell.text
    for name in ("mild", "moderate", "aggressive"):
        every = cells[f"SNAS_{name}_edge_all"].genotype
        assert every != cells[f"SNAS_{name}"].genotype
        assert every.architecture() == cells[f"SNAS_{name}"].genotype.architecture()


def test_published_cells_are_those_that_were_collected(shared_data: Path) -> None:
    collected = json.loads((shared_data.parent / "genotypes.json").read_text("utf-8"))
    names = [*collected["cnn"], *(f"RNN_{name}" for name in collected["rnn"])]
    assert names == list(published())
    for name, row in zip(names, [*collected["cnn"].values(), *collected["rnn"].values()], strict=True):
        genotype = published()[name].genotype
        for kind, nodes in genotype.cells.items():
            assert [list(c) for node in nodes for c in node] == row[kind]
            assert list(genotype.concat[kind]) == row["concat" if kind == "recurrent" else f"{kind}_concat"]


def test_a_genotype_is_found_by_name_text_and_file(tmp_path: Path) -> None:
    (tmp_path / "cell.txt").write_text(f"genotype = {SMALL}\n")
    assert find("NASNet") is published()["NASNet"]
    assert find(str(tmp_path / "cell.txt")).genotype == find(SMALL).genotype == Genotype.parse(SMALL)
    (tmp_path / "empty").write_text("")
    (tmp_path / "picture").write_bytes(b"\xff\xfe\x00")
    for wrong, message in (
        ("DARTS_V3", "did you mean 'DARTS_V"),
        (str(tmp_path / "empty"), "empty"),
        (str(tmp_path / "picture"), "UTF-8"),
        (" ", "empty"),
    ):
        with pytest.raises(UserError, match=message):
            find(wrong)
