"""Genotypes: parallel edges, the literature's notations in and out, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archgrad.architecture import Architecture, Edge
from archgrad.errors import UserError


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
