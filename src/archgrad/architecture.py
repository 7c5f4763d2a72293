"""An architecture: which candidate at each choice. The only thing passed from search to what follows.

Reads and writes JSON and the NAS-Bench-201 string; writes the genotype of the DARTS literature.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from archgrad.errors import UserError

if TYPE_CHECKING:
    from archgrad.genotype import Genotype

NASBENCH201_CANDIDATES = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
_FORMAT = "archgrad.architecture/1"
_EDGE = re.compile(r"(?P<cell>.+)/(?P<node>\d+)<-(?P<source>\d+)(?:#(?P<parallel>[2-9]|[1-9]\d+))?")


class Edge(NamedTuple):
    """A choice that is an edge of a cell: named ``cell/node<-source``.

    parallel: counts edges between the same two nodes from 1; the second is ``cell/node<-source#2``.
    """

    cell: str
    node: int
    source: int
    parallel: int = 1

    @staticmethod
    def parse(name: str) -> Edge | None:
        """The edge that a choice's name stands for, or None when it is no edge.

        >>> Edge.parse("normal/2<-0")
        Edge(cell='normal', node=2, source=0, parallel=1)
        >>> Edge.parse("normal/4<-0#2").parallel
        2
        """
        match = _EDGE.fullmatch(name)
        if match is None:
            return None
        return Edge(match["cell"], int(match["node"]), int(match["source"]), int(match["parallel"] or 1))

    def __str__(self) -> str:
        twin = f"#{self.parallel}" if self.parallel > 1 else ""
        return f"{self.cell}/{self.node}<-{self.source}{twin}"


class Architecture(Mapping[str, str]):
    """A frozen mapping from choice to candidate, with equality, hash and text forms.

    >>> a = Architecture({"cell/1<-0": "skip_connect"})
    >>> a == Architecture.from_json(a.to_json())
    True
    """

    __slots__ = ("_items",)

    def __init__(self, choices: Mapping[str, str]) -> None:
        self._items = dict(choices)

    def __getitem__(self, name: str) -> str:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        return self._items == other._items if isinstance(other, Architecture) else NotImplemented

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        return f"Architecture({self._items})"

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that name this architecture, the same on every machine."""
        text = json.dumps(sorted(self._items.items()))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def cells(self) -> dict[str, dict[Edge, str]]:
        """Candidates by cell and edge; choices that are no edges are left out."""
        cells: dict[str, dict[Edge, str]] = {}
        for name, candidate in self.items():
            if edge := Edge.parse(name):
                cells.setdefault(edge.cell, {})[edge] = candidate
        return cells

    def to_json(self) -> str:
        """One JSON document: ``{"format": "archgrad.architecture/1", "choices": {…}}``."""
        return json.dumps({"format": _FORMAT, "choices": self._items}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Architecture:
        """Read what `to_json` wrote.

        Raises:
            UserError: the text is not JSON of that form.
        """
        try:
            document = json.loads(text)
        except json.JSONDecodeError as error:
            raise UserError(f"not a JSON architecture: {error}") from None
        choices = document.get("choices") if isinstance(document, dict) else None
        if (
            not isinstance(choices, dict)
            or document.get("format") != _FORMAT
            or not choices
            or not all(isinstance(candidate, str) for candidate in choices.values())
        ):
            raise UserError(
                f'not an architecture: wanted {{"format": "{_FORMAT}", '
                '"choices": {choice: candidate}}, got other JSON'
            )
        return cls(choices)

    def to_nasbench201(self) -> str:
        """``|op~0|+|op~0|op~1|+…``, the string of NAS-Bench-201 (Dong & Yang 2020, section 2).

        Raises:
            UserError: the architecture is not one fully connected cell.
        """
        cells = self.cells()
        if len(cells) != 1:
            raise UserError(
                f"a NAS-Bench-201 string describes one cell; this architecture has {len(cells)} "
                f"({', '.join(cells) or 'no edges'})"
            )
        cell = next(iter(cells.values()))
        if twin := next((edge for edge in cell if edge.parallel > 1), None):
            raise UserError(f"a NAS-Bench-201 string has one edge between two nodes; there is also {twin}")
        edges = {(edge.node, edge.source): op for edge, op in cell.items()}
        nodes = max(node for node, _ in edges)
        if set(edges) != {(node, source) for node in range(1, nodes + 1) for source in range(node)}:
            raise UserError("a NAS-Bench-201 string needs every node joined to all nodes before it")
        return "+".join(
            "|" + "".join(f"{edges[node, source]}~{source}|" for source in range(node))
            for node in range(1, nodes + 1)
        )

    @classmethod
    def from_nasbench201(cls, text: str, cell: str = "cell") -> Architecture:
        """Read a NAS-Bench-201 string.

        >>> s = "|nor_conv_3x3~0|+|none~0|skip_connect~1|"
        >>> Architecture.from_nasbench201(s).to_nasbench201() == s
        True

        Raises:
            UserError: unknown operation, or an edge missing, repeated or out of order.
        """
        choices = {}
        for node, part in enumerate(text.strip().split("+"), start=1):
            edges = [edge for edge in part.strip("|").split("|") if edge]
            for position, edge in enumerate(edges):
                op, _, source = edge.partition("~")
                if op not in NASBENCH201_CANDIDATES:
                    raise UserError(
                        f"unknown operation {op!r} in {text!r}; known: {', '.join(NASBENCH201_CANDIDATES)}"
                    )
                if source != str(position):
                    raise UserError(
                        f"node {node} of {text!r}: edge {position} should read 'op~{position}', is {edge!r}"
                    )
                choices[str(Edge(cell, node, position))] = op
            if len(edges) != node:
                raise UserError(f"node {node} of {text!r} needs {node} edges, has {len(edges)}")
        return cls(choices)

    @classmethod
    def from_genotype(cls, genotype: Genotype | str) -> Architecture:
        """The architecture of a genotype, given as text too; see `genotype.Genotype`, also for its settings.

        >>> cell = "Genotype(recurrent=[('relu', 0), ('tanh', 1)], concat=[1, 2])"
        >>> Architecture.from_genotype(cell)["recurrent/2<-1"]
        'tanh'

        Raises:
            UserError: the text is no genotype.
        """
        from archgrad.genotype import Genotype

        return (Genotype.parse(genotype) if isinstance(genotype, str) else genotype).architecture()

    def to_genotype(self) -> dict[str, list[tuple[str, int]] | list[int]]:
        """The DARTS genotype: for each cell kind its (operation, source) pairs by node, `none` left out.

        Keys ``normal``, ``normal_concat``, ``reduce``, ``reduce_concat`` as in the published code;
        sources 0 and 1 are the two previous cells. Within a node pairs are in order of source: the
        order by strength, which the published lists have, is a property of the logits, not of the cell.
        """
        genotype: dict[str, list[tuple[str, int]] | list[int]] = {}
        for cell, edges in self.cells().items():
            kept = sorted((e for e, op in edges.items() if op != "none"), key=lambda e: e[1:])
            genotype[cell] = [(edges[e], e.source) for e in kept]
            genotype[f"{cell}_concat"] = sorted({e.node for e in edges})
        return genotype
