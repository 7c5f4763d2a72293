"""Reading genotypes as people publish and print them. Nothing is executed: literals, `range` and `list` only.

- ``Genotype(normal=[('sep_conv_3x3', 0), …], normal_concat=range(2, 6), reduce=[…], reduce_concat=[…])``,
  also with a name before it, as a dictionary, or with its values alone (DARTS, arXiv 1806.09055). The list
  of a cell is flat, with two edges for each node or with all that there can be (SNAS, arXiv 1812.09926), or
  has a list for each node; an edge may end with its strength, which is passed over.
- ``Genotype(recurrent=[('relu', 0), …], concat=range(1, 9))``: one edge for each node.
- ``|nor_conv_3x3~0|+|none~0|skip_connect~1|+…`` (NAS-Bench-201, arXiv 2001.00326).
- JSON of a genotype or of an architecture, as archgrad writes it.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from archgrad.architecture import Architecture
from archgrad.errors import UserError
from archgrad.genotype import FORMAT, Connection, Genotype, Node, family_of
from archgrad.table import nearest

SYNONYMS = {
    "skip": "skip_connect",
    "avg": "avg_pool_3x3",
    "max": "max_pool_3x3",
    "dua_sepc_3x3": "sep_conv_3x3",
    "dua_sepc_5x5": "sep_conv_5x5",
    "dil_sepc_3x3": "dil_conv_3x3",
    "dil_sepc_5x5": "dil_conv_5x5",
}
"""Names of the GDAS authors' code for the operations of DARTS (arXiv 1910.04465)."""

_LONGEST = 100_000  # characters; a published genotype has fewer than 2,000
_LARGEST = 1000  # nodes
_FIELDS = {"normal": "normal_concat", "reduce": "reduce_concat", "recurrent": "concat"}
_FORMS = (
    "wanted Genotype(normal=[('sep_conv_3x3', 0), …], normal_concat=range(2, 6), reduce=[…], "
    "reduce_concat=[…]), Genotype(recurrent=[('relu', 0), …], concat=range(1, 9)), "
    "|op~0|+|op~0|op~1|+…, or JSON of archgrad"
)


def read(text: str) -> Genotype:
    """The genotype that a text describes.

    Raises:
        UserError: it describes none, or one that cannot be built.
    """
    text = text.strip()
    if not text:
        raise UserError(f"the genotype is empty; {_FORMS}")
    if len(text) > _LONGEST:
        raise UserError(f"{len(text):,} characters are no genotype; {_FORMS}")
    if text.startswith("|"):
        return Genotype.from_architecture(Architecture.from_nasbench201(text))
    if text.startswith("{"):
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            document = None  # a dictionary of Python, perhaps
        if document is not None:
            return _from_json(document, text)
    return _from_fields(_fields(text))


def _from_json(document: Mapping[str, Any], text: str) -> Genotype:
    if document.get("format") == FORMAT:
        cells, concat = document.get("cells"), document.get("concat")
        if not isinstance(cells, dict) or not isinstance(concat, dict):
            raise UserError(f'wanted {{"format": "{FORMAT}", "cells": {{…}}, "concat": {{…}}}}')
        family = family_of(cells)
        nodes = {kind: _nested(kind, _list(kind, cells[kind])) for kind in family.kinds}
        return Genotype(nodes, {kind: _numbers(f"{kind}_concat", row) for kind, row in concat.items()})
    if "format" in document:
        return Genotype.from_architecture(Architecture.from_json(text))
    return _from_fields(document)


def _fields(text: str) -> dict[str, Any]:
    """The named values of ``Genotype(…)``, ``dict(…)`` or ``{…}``."""
    if (start := re.search(r"\bGenotype\s*\(", text)) is not None:
        text = text[start.start() :]  # a name, a module or a line of a log before it
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        where = f" (line {error.lineno}: {error.msg})" if isinstance(error, SyntaxError) else ""
        raise UserError(f"{_shown(text)} is no genotype{where}; {_FORMS}") from None
    try:
        if (
            isinstance(tree, ast.Call)
            and isinstance(tree.func, ast.Name)
            and tree.func.id in ("Genotype", "dict")
        ):
            values = [_value(value) for value in tree.args]
            named = {str(word.arg): _value(word.value) for word in tree.keywords}
        elif isinstance(tree, ast.Dict):
            values, named = (
                [],
                {str(_value(k)): _value(v) for k, v in zip(tree.keys, tree.values, strict=True)},
            )
        else:
            raise UserError(f"{_shown(text)} is no genotype; {_FORMS}")
    except RecursionError:
        raise UserError(f"{_shown(text)} is nested too deeply; {_FORMS}") from None
    order = (
        ("recurrent", "concat")
        if len(values) == 2
        else ("normal", "normal_concat", "reduce", "reduce_concat")
    )
    if len(values) > len(order):
        raise UserError(f"a genotype has at most {len(order)} values, got {len(values)}; {_FORMS}")
    return {**dict(zip(order, values, strict=False)), **named}


def _shown(text: str) -> str:
    return repr(text if len(text) < 60 else f"{text[:57]}…")


def _value(node: ast.expr | None) -> Any:
    """What an expression says: a literal, a list or tuple, ``range(…)``, ``list(…)``."""
    match node:
        case ast.Constant(value=str() | int() | float() | None as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_value(item) for item in items]
        case ast.Call(func=ast.Name(id="list" | "tuple"), args=[inner], keywords=[]):
            return _value(inner)
        case ast.Call(func=ast.Name(id="range"), args=[_, *_] as bounds, keywords=[]) if len(bounds) < 4:
            numbers = [_value(bound) for bound in bounds]
            if all(isinstance(n, int) for n in numbers) and numbers[2:] != [0]:
                found = range(*numbers)
                if all(abs(n) <= _LARGEST for n in numbers):
                    return list(found)
    text = "nothing" if node is None else ast.unparse(node)
    raise UserError(
        f"{_shown(text)} in a genotype is not read: nothing is executed; give names, numbers, lists, range(…)"
    )


def _from_fields(fields: Mapping[str, Any]) -> Genotype:
    known = [*_FIELDS, *_FIELDS.values()]
    if strange := [key for key in fields if key not in known]:
        raise UserError(f"a genotype has no {strange[0]!r}{nearest(str(strange[0]), known)}; {_FORMS}")
    kinds = [kind for kind in _FIELDS if kind in fields]
    if ("normal" in kinds) != ("reduce" in kinds):
        lost = "reduce" if "normal" in kinds else "normal"
        raise UserError(f"the genotype has no {lost} cell: give {lost}=[…] and {_FIELDS[lost]}=[…]")
    family = family_of(kinds)
    cells: dict[str, tuple[Node, ...]] = {}
    joined: dict[str, tuple[int, ...]] = {}
    for kind in family.kinds:
        edges = _list(kind, fields[kind])
        key = _FIELDS[kind]
        nested = bool(edges) and all(isinstance(e, list) and not (e and isinstance(e[0], str)) for e in edges)
        if nested:
            cells[kind] = _nested(kind, edges)
            everything = range(family.first, family.first + len(cells[kind]))
            joined[kind] = _numbers(key, fields[key]) if key in fields else tuple(everything)
        else:
            if key not in fields:
                raise UserError(
                    f"the genotype has no {key}: say which nodes the {kind} cell joins, {key}=[…]"
                )
            joined[kind] = _numbers(key, fields[key])
            cells[kind] = layout(kind, [_connection(kind, edge) for edge in edges], joined[kind])
    return Genotype(cells, joined)


def layout(kind: str, edges: Sequence[Connection], joined: Sequence[int]) -> tuple[Node, ...]:
    """The edges of a flat list by node.

    Recurrent cells have one edge for each node. Of the others a list of 2·n edges has two for each of n
    nodes, and one of n·(n + 3)/2 has all that there can be; where both are possible (14 edges: 7 nodes or 4),
    the last joined node decides.

    Raises:
        UserError: an edge is missing or too many.
    """
    count, last = len(edges), max(joined, default=0)
    if kind == "recurrent":
        return tuple((edge,) for edge in edges)
    full = [n for n in range(1, count + 1) if n * (n + 3) == 2 * count]
    two = [count // 2] if count % 2 == 0 and count else []
    by_two = two and (not full or last == two[0] + 1 or last != full[0] + 1)
    if by_two:
        return tuple(tuple(edges[2 * n : 2 * n + 2]) for n in range(two[0]))
    if not full:
        nodes = max(last - 1, 1)
        raise UserError(
            f"the {kind} cell has {count} edges: an edge is missing or one too many; {nodes} nodes have "
            f"{2 * nodes} (two each) or {nodes * (nodes + 3) // 2} (all)"
        )
    nodes_: list[Node] = []
    start = 0
    for number in range(2, full[0] + 2):
        node = tuple(edges[start : start + number])
        start += number
        sources = sorted(source for _, source in node)
        if sources != list(range(number)):
            lost = sorted(set(range(number)) - set(sources))
            raise UserError(
                f"node {number} of the {kind} cell: all its edges should be there, and that from node "
                f"{', '.join(map(str, lost))} is missing (its sources are {', '.join(map(str, sources))})"
            )
        nodes_.append(node)
    return tuple(nodes_)


def _nested(kind: str, nodes: Sequence[Any]) -> tuple[Node, ...]:
    return tuple(tuple(_connection(kind, edge) for edge in _list(kind, node)) for node in nodes)


def _connection(kind: str, edge: Any) -> Connection:
    match edge:
        case [str(operation), int(source)] | [str(operation), int(source), int() | float() | None]:
            if not isinstance(source, bool):
                return Connection(SYNONYMS.get(operation, operation), source)
    raise UserError(f"an edge of the {kind} cell reads ('operation', source), got {_shown(repr(edge))}")


def _list(key: str, value: Any) -> list[Any]:
    if not isinstance(value, list) or len(value) > _LARGEST:
        raise UserError(f"{key} should be a list of edges, got {_shown(repr(value))}")
    return value


def _numbers(key: str, value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(isinstance(n, int) and not isinstance(n, bool) for n in value):
        raise UserError(f"{key} should be a list of node numbers, got {_shown(repr(value))}")
    return tuple(value)
