"""Architectures: value semantics, JSON, the NAS-Bench-201 string and the DARTS genotype."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archgrad.architecture import NASBENCH201_CANDIDATES, Architecture, Edge
from archgrad.errors import UserError

PUBLISHED_STRING = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|none~2|"
architectures = st.dictionaries(st.text(min_size=1), st.text(), min_size=1, max_size=6).map(Architecture)


@given(architectures)
def test_json_round_trip(architecture: Architecture) -> None:
    again = Architecture.from_json(architecture.to_json())
    assert again == architecture
    assert list(again) == list(architecture)
    assert again.digest == architecture.digest


@given(architectures)
def test_equality_hash_and_digest_do_not_depend_on_order(architecture: Architecture) -> None:
    turned = Architecture(dict(reversed(list(architecture.items()))))
    assert turned == architecture
    assert hash(turned) == hash(architecture)
    assert turned.digest == architecture.digest


def test_another_candidate_is_another_architecture() -> None:
    a, b = Architecture({"x": "p", "y": "q"}), Architecture({"x": "q", "y": "p"})
    assert a != b
    assert a.digest != b.digest
    assert a != {"x": "p", "y": "q"}  # a plain dictionary can change


def test_the_digest_is_the_same_on_every_machine() -> None:
    assert (
        Architecture({"cell/1<-0": "skip_connect"}).digest == "261f77a18e0b"
    )  # sha256sum of the JSON list of items


def test_it_does_not_follow_the_mapping_it_was_made_of() -> None:
    choices = {"x": "p"}
    architecture = Architecture(choices)
    choices["x"] = "q"
    assert architecture["x"] == "p"
    with pytest.raises(TypeError):
        architecture["x"] = "q"  # type: ignore[index]


GOOD = {"format": "archgrad.architecture/1", "choices": {"a": "b"}}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        "null",
        json.dumps({**GOOD, "choices": {}}),
        json.dumps({**GOOD, "choices": {"a": 1}}),
        json.dumps({**GOOD, "choices": [["a", "b"]]}),
        json.dumps({**GOOD, "format": "archgrad.architecture/2"}),
        json.dumps({"choices": {"a": "b"}}),
    ],
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="architecture"):
        Architecture.from_json(text)
    assert Architecture.from_json(json.dumps(GOOD)) == Architecture({"a": "b"})


def test_the_published_string() -> None:
    architecture = Architecture.from_nasbench201(PUBLISHED_STRING)
    assert architecture["cell/1<-0"] == "avg_pool_3x3"
    assert architecture["cell/3<-2"] == "none"
    assert len(architecture) == 6
    assert architecture.to_nasbench201() == PUBLISHED_STRING


@given(st.lists(st.sampled_from(NASBENCH201_CANDIDATES), min_size=6, max_size=6), st.randoms())
def test_string_round_trip_in_any_order(ops: list[str], order: object) -> None:
    names = [f"cell/{j}<-{i}" for j in range(1, 4) for i in range(j)]
    items = list(zip(names, ops, strict=True))
    order.shuffle(items)  # type: ignore[attr-defined]
    architecture = Architecture(dict(items))
    assert Architecture.from_nasbench201(architecture.to_nasbench201()) == architecture


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "needs 1 edges, has 0"),
        ("|none~1|", "should read 'op~0'"),
        ("|none~0|+|none~0|", "node 2 .* needs 2 edges, has 1"),
        ("|none~0|+|none~0|none~0|", "should read 'op~1'"),
        ("|conv~0|", "unknown operation 'conv'"),
        ("|none|", "should read 'op~0'"),
    ],
)
def test_broken_strings_are_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Architecture.from_nasbench201(text)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"a/1<-0": "none", "b/1<-0": "none"}, "has 2"),
        ({"width": "wide"}, "no edges"),
        ({"cell/1<-0": "none", "cell/2<-0": "none"}, "all nodes before it"),
    ],
)
def test_what_is_no_single_cell_has_no_string(choices: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Architecture(choices).to_nasbench201()


def test_genotype() -> None:
    architecture = Architecture(
        {
            "normal/3<-2": "skip_connect",
            "normal/2<-1": "sep_conv_3x3",
            "normal/2<-0": "none",
            "normal/3<-0": "max_pool_3x3",
            "reduce/2<-0": "dil_conv_5x5",
            "width": "wide",
        }
    )
    assert architecture.to_genotype() == {
        "normal": [("sep_conv_3x3", 1), ("max_pool_3x3", 0), ("skip_connect", 2)],
        "normal_concat": [2, 3],
        "reduce": [("dil_conv_5x5", 0)],
        "reduce_concat": [2],
    }


@given(st.text(alphabet="ab/ ", min_size=1), st.integers(0, 99), st.integers(0, 99))
def test_edge_names_round_trip(cell: str, node: int, source: int) -> None:
    assert Edge.parse(str(Edge(cell, node, source))) == Edge(cell, node, source)


@pytest.mark.parametrize("name", ["normal", "/2<-0", "normal/2<-", "normal/2->0", "normal/2<-0 ", "a/-1<-0"])
def test_other_names_are_no_edges(name: str) -> None:
    assert Edge.parse(name) is None
