"""A genotype: cells as the literature writes them down, every node with the edges that lead to it.

An `Architecture` names a candidate for each choice of a space. A genotype is the wiring alone, in the order
in which its authors printed it, with the nodes that a cell's output joins: what papers publish, and what a
network of any size can be built from. `genotype_text` reads it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from archgrad.architecture import NASBENCH201_CANDIDATES, Architecture, Edge
from archgrad.errors import UserError
from archgrad.ops import OPS
from archgrad.table import nearest

FORMAT = "archgrad.genotype/1"
RECURRENT_CANDIDATES = ("none", "tanh", "relu", "sigmoid", "identity")
_NONE = "none"


class Connection(NamedTuple):
    """An edge into a node: the operation, and the node that it comes from."""

    operation: str
    source: int


Node = tuple[Connection, ...]


class Family(NamedTuple):
    """What the cells of a space have in common.

    space: its name in `SPACES`. first: number of the first node that is not an input. operations: that it
    knows. joined: whether a cell's output joins nodes, so that there is something to say in `concat`.
    """

    space: str
    kinds: tuple[str, ...]
    first: int
    operations: Iterable[str]
    joined: bool


DECIDED = ("nodes", "parallel", "normal_concat", "reduce_concat", "concat", "candidates")
"""Settings of the builders that a genotype decides; the others are sizes."""

FAMILIES = (
    Family("darts", ("normal", "reduce"), 2, OPS, True),
    Family("darts_rnn", ("recurrent",), 1, RECURRENT_CANDIDATES, True),
    Family("nasbench201", ("cell",), 1, NASBENCH201_CANDIDATES, False),
)


@dataclass(frozen=True)
class Genotype:
    """Cells of the DARTS space, of the DARTS space for recurrent networks, or of NAS-Bench-201.

    cells: by kind (``normal`` and ``reduce``; ``recurrent``; ``cell``) the nodes in order, each the
        connections that lead to it. Sources 0 and 1 are the two cells before, and the first node is 2; in
        the other two families 0 is the input and the first node is 1.
    concat: by kind the nodes that the output joins, in order; of NAS-Bench-201 nothing.

    Raises:
        UserError: an unknown operation, a source that is not there yet, an edge missing or too many, a joined
            node that is not there, or cells of different numbers of nodes.
    """

    cells: Mapping[str, tuple[Node, ...]]
    concat: Mapping[str, tuple[int, ...]]

    def __post_init__(self) -> None:
        object.__setattr__(self, "cells", {k: _nodes(nodes) for k, nodes in self.cells.items()})
        object.__setattr__(self, "concat", {k: tuple(joined) for k, joined in self.concat.items()})
        _check(self)

    def __hash__(self) -> int:
        return hash(self.to_text())

    @cached_property
    def family(self) -> Family:
        """The family that the kinds of cells belong to."""
        return family_of(self.cells)

    @property
    def space(self) -> str:
        """The space that builds it, by name."""
        return self.family.space

    @property
    def nodes(self) -> int:
        """How many nodes a cell has, inputs not counted."""
        return len(next(iter(self.cells.values())))

    @cached_property
    def parallel(self) -> int:
        """The largest number of edges between the same two nodes."""
        return max(
            [1, *(n for nodes in self.cells.values() for node in nodes for n in _twins(node).values())]
        )

    def remarks(self) -> tuple[str, ...]:
        """What is odd in it but can be built: edges of the same operation between the same two nodes."""
        return tuple(
            f"node {number} of the {kind} cell has {n} edges {edge.operation} from node {edge.source}; "
            "every one of them is built"
            for kind, nodes in self.cells.items()
            for number, node in enumerate(nodes, start=self.family.first)
            for edge, n in Counter(node).items()
            if n > 1 and edge.operation != _NONE
        )

    def operations(self) -> tuple[str, ...]:
        """The operations that occur, each once."""
        found = (c.operation for nodes in self.cells.values() for node in nodes for c in node)
        return tuple(dict.fromkeys(found))

    def architecture(self) -> Architecture:
        """The candidate of every choice of the space built with `settings`; ``none`` where no edge is."""
        choices: dict[str, str] = {}
        for kind, nodes in self.cells.items():
            for number, node in enumerate(nodes, start=self.family.first):
                pairs = range(1, self.parallel + 1)
                for source in range(number):
                    choices |= {str(Edge(kind, number, source, twin)): _NONE for twin in pairs}
                met: Counter[int] = Counter()
                for operation, source in node:
                    if operation != _NONE:
                        met[source] += 1
                        choices[str(Edge(kind, number, source, met[source]))] = operation
        return Architecture(choices)

    def settings(self) -> dict[str, Any]:
        """The settings of the space's builder that this genotype needs and that are not its defaults."""
        settings: dict[str, Any] = {}
        nodes = self.nodes + _COUNTED_INPUTS.get(self.space, 0)
        if nodes != _DEFAULT_NODES[self.space]:
            settings["nodes"] = nodes
        if self.parallel > 1:
            settings["parallel"] = self.parallel
        everything = tuple(range(self.family.first, self.family.first + self.nodes))
        for kind, joined in self.concat.items():
            if joined != everything:
                settings["concat" if kind == "recurrent" else f"{kind}_concat"] = list(joined)
        if self.space == "darts":
            from archgrad.spaces.cell import DARTS_CANDIDATES

            more = [name for name in self.operations() if name not in DARTS_CANDIDATES]
            if more:
                settings["candidates"] = [*DARTS_CANDIDATES, *more]
        return settings

    @classmethod
    def from_architecture(
        cls, architecture: Architecture, concat: Mapping[str, Iterable[int]] | None = None
    ) -> Genotype:
        """The genotype of an architecture of one of the families; the order within a node is that of sources.

        Args:
            architecture: its choices are edges; those that are ``none`` are left out, but of NAS-Bench-201.
            concat: the joined nodes by kind; all nodes of a kind that is not there.
        """
        found = architecture.cells()
        if sum(map(len, found.values())) != len(architecture):
            raise UserError(
                "a genotype describes cells; this architecture has other choices, e.g. "
                + next(repr(name) for name in architecture if Edge.parse(name) is None)
            )
        family = family_of(found)
        cells: dict[str, tuple[Node, ...]] = {}
        joined: dict[str, tuple[int, ...]] = {}
        for kind in family.kinds:
            last = max(edge.node for edge in found[kind])
            cells[kind] = tuple(
                tuple(
                    Connection(operation, edge.source)
                    for edge, operation in sorted(found[kind].items(), key=lambda item: item[0][1:])
                    if edge.node == node and (operation != _NONE or not family.joined)
                )
                for node in range(family.first, last + 1)
            )
            if family.joined:
                joined[kind] = tuple((concat or {}).get(kind, range(family.first, last + 1)))
        return cls(cells, joined)

    @classmethod
    def parse(cls, text: str) -> Genotype:
        """Read a genotype in any of the forms of `genotype_text`; nothing in it is executed.

        >>> g = Genotype.parse("|skip_connect~0|+|none~0|nor_conv_3x3~1|")
        >>> g.space, g.nodes
        ('nasbench201', 2)

        Raises:
            UserError: what the text says is no genotype, or one that cannot be built.
        """
        from archgrad.genotype_text import read

        return read(text)

    def to_text(self) -> str:
        """The form of the literature: ``Genotype(normal=[…], normal_concat=range(2, 6), …)``, ``|op~0|+…``.

        One list for a cell where two edges lead to every node, or all that there can be, and one for every
        node otherwise. The order of the edges is kept.
        """
        if not self.family.joined:
            return self.architecture().to_nasbench201()
        from archgrad.genotype_text import layout

        parts = []
        for kind, nodes in self.cells.items():
            flat = [connection for node in nodes for connection in node]
            try:
                plain = layout(kind, flat, self.concat[kind]) == nodes
            except UserError:
                plain = False
            shown = _listed(flat) if plain else "[" + ", ".join(map(_listed, nodes)) + "]"
            key = "concat" if kind == "recurrent" else f"{kind}_concat"
            parts += [f"{kind}={shown}", f"{key}={_range(self.concat[kind])}"]
        return f"Genotype({', '.join(parts)})"

    def to_json(self) -> str:
        """One JSON document: ``{"format": "archgrad.genotype/1", "cells": …, "concat": …}``."""
        document = {"format": FORMAT, "cells": self.cells, "concat": self.concat}
        return json.dumps(document, ensure_ascii=False) + "\n"


_DEFAULT_NODES = {"darts": 4, "darts_rnn": 8, "nasbench201": 4}  # as the builders count them
_COUNTED_INPUTS = {"nasbench201": 1}  # inputs that a builder's `nodes` counts; a genotype's leaves them out


def family_of(kinds: Iterable[str]) -> Family:
    """The family with exactly these kinds of cells.

    Raises:
        UserError: there is none.
    """
    for family in FAMILIES:
        if set(family.kinds) == set(kinds):
            return family
    known = "; ".join(" and ".join(family.kinds) for family in FAMILIES)
    raise UserError(f"a genotype has the cells {known}; got {', '.join(kinds) or 'none'}")


def _nodes(nodes: Iterable[Iterable[tuple[str, int]]]) -> tuple[Node, ...]:
    return tuple(tuple(Connection(*connection) for connection in node) for node in nodes)


def _twins(node: Node) -> Counter[int]:
    return Counter(source for operation, source in node if operation != _NONE)


def _check(genotype: Genotype) -> None:
    """Everything that can be wrong with cells that have the right form."""
    family = genotype.family
    for kind in family.kinds:
        nodes = genotype.cells[kind]
        if not nodes:
            raise UserError(f"the {kind} cell has no nodes")
        for number, node in enumerate(nodes, start=family.first):
            _check_node(f"node {number} of the {kind} cell", number, node, family)
        if family.joined:
            _check_concat(kind, genotype.concat.get(kind, ()), family.first, len(nodes))
    if more := [kind for kind in genotype.concat if kind not in family.kinds or not family.joined]:
        raise UserError(
            f"nothing is joined in {', '.join(more)}: there is no such cell, or its output is a node"
        )
    sizes = {kind: len(genotype.cells[kind]) for kind in family.kinds}
    if len(set(sizes.values())) > 1:
        shown = ", ".join(f"{kind} has {size}" for kind, size in sizes.items())
        raise UserError(f"wanted cells of the same number of nodes: {shown}")


def _check_node(where: str, number: int, node: Node, family: Family) -> None:
    for operation, source in node:
        if operation not in family.operations:
            raise UserError(
                f"{where}: unknown operation {operation!r}{nearest(operation, family.operations)}; "
                f"known: {', '.join(family.operations)}"
            )
        if not 0 <= source < number:
            what = "which comes later" if source >= number else "which is no node"
            raise UserError(
                f"{where}: {operation} comes from node {source}, {what}; sources are 0 to {number - 1}"
            )
    if family.space == "darts":
        return
    sources = sorted(source for _, source in node)
    if twice := [source for source, n in Counter(sources).items() if n > 1]:
        raise UserError(f"{where}: two edges from node {twice[0]}; the space {family.space} has one at most")
    if not family.joined and sources != list(range(number)):
        lost = sorted(set(range(number)) - set(sources))
        raise UserError(
            f"{where}: no edge from node {', '.join(map(str, lost))}; write none where there is none"
        )


def _check_concat(kind: str, joined: tuple[int, ...], first: int, nodes: int) -> None:
    last = first + nodes - 1
    if not joined:
        raise UserError(f"the output of the {kind} cell joins no nodes: its concat is empty or not there")
    for node in joined:
        if not first <= node <= last:
            raise UserError(
                f"the output of the {kind} cell joins node {node}; it has the nodes {first} to {last}"
            )
    if len(set(joined)) != len(joined):
        raise UserError(f"the output of the {kind} cell joins a node twice: {list(joined)}")


def _listed(connections: Iterable[Connection]) -> str:
    return "[" + ", ".join(f"({operation!r}, {source})" for operation, source in connections) + "]"


def _range(numbers: tuple[int, ...]) -> str:
    if numbers == tuple(range(numbers[0], numbers[-1] + 1)):
        return f"range({numbers[0]}, {numbers[-1] + 1})"
    return str(list(numbers))
