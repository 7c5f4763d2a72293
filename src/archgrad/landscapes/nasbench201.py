"""The results of all 15,625 cells of NAS-Bench-201, and the landscape that they are.

Dong & Yang 2020 (arXiv 2001.00326); where each column comes from is told in ``nasbench201.md`` beside
the table. Only NumPy is needed to look something up. Accuracies are in percent, latencies in
milliseconds. E = 6 edges × K = 5 candidates, in the order of the cell's string.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from archgrad.architecture import NASBENCH201_CANDIDATES, Architecture
from archgrad.errors import UserError
from archgrad.table import nearest

if TYPE_CHECKING:
    from archgrad.landscapes.multilinear import MultilinearLandscape

PATH = Path(__file__).with_suffix(".npz")
ARCHITECTURES = 15_625
EDGES = ("1<-0", "2<-0", "2<-1", "3<-0", "3<-1", "3<-2")

_HIDDEN = ("code", "isomorphism_class")  # members that are no results
_COSTS = ("params_", "flops_", "latency_ms_")  # less is better
_ZERO = "#"

Cell = Architecture | str | int
"""A cell: an `Architecture`, its string ``|op~0|+|op~0|op~1|+…``, or its index in the benchmark."""


class NASBench201:
    """The table. `NASBench201.open` opens it once; a column is read when it is first asked for.

    >>> table = NASBench201.open()
    >>> cell = "|skip_connect~0|+|none~0|nor_conv_3x3~1|+|none~0|skip_connect~1|none~2|"
    >>> table.index_of(cell), round(table.value("cifar10_test_200ep", cell), 2)
    (5680, 86.8)
    """

    def __init__(self, members: Mapping[str, Any]) -> None:
        self._members = members
        self._read: dict[str, NDArray[Any]] = {}
        self.columns = tuple(name for name in members if name not in _HIDDEN)

    @staticmethod
    @functools.cache
    def open() -> NASBench201:
        """The table of this package."""
        return NASBench201(np.load(PATH, allow_pickle=False))

    def index_of(self, cell: Cell) -> int:
        """The benchmark's index of a cell, 0 to 15,624.

        Raises:
            UserError: an index out of range, a string that is none, or an architecture that is not
                one cell of six edges with the benchmark's candidates.
        """
        if not isinstance(cell, (str, Architecture)):
            try:
                index = operator.index(cell)
            except TypeError:
                raise UserError(
                    f"wanted a cell as an Architecture, a string or an index, got {cell!r}"
                ) from None
            if not 0 <= index < ARCHITECTURES:
                raise UserError(f"NAS-Bench-201 has the cells 0 to {ARCHITECTURES - 1}, got {index}")
            return index
        return int(self._indices[_code(cell)])

    def architecture(self, index: int) -> Architecture:
        """The cell of an index, its choices named as by the space ``nasbench201``."""
        code = int(self._column("code")[self.index_of(index)])
        digits = np.unravel_index(code, _shape())
        return Architecture(
            {f"cell/{edge}": NASBENCH201_CANDIDATES[k] for edge, k in zip(EDGES, digits, strict=True)}
        )

    def column(self, name: str) -> NDArray[Any]:
        """All values of a column [15625], in the order of the benchmark's index; read-only.

        Raises:
            UserError: there is no such column.
        """
        self._check(name)
        return self._column(name)

    def value(self, column: str, cell: Cell) -> float:
        """One result."""
        return float(self.column(column)[self.index_of(cell)])

    def best(self, column: str) -> float:
        """The best result: the greatest accuracy, the least cost."""
        return float(self._loss(column).min()) * (1 if lower_is_better(column) else -1)

    def rank(self, column: str, cell: Cell) -> int:
        """1 + the number of better cells; equal ones share the best of their ranks."""
        losses = self._loss(column)
        return 1 + int((losses < losses[self.index_of(cell)]).sum())

    def percentile(self, column: str, cell: Cell) -> float:
        """The percentage of all cells, itself included, that are no better; the best has 100."""
        return 100 * (ARCHITECTURES + 1 - self.rank(column, cell)) / ARCHITECTURES

    def regret(self, column: str, cell: Cell) -> float:
        """How much worse than the best, in the column's unit; never negative."""
        return abs(self.best(column) - self.value(column, cell))

    def canonical(self, cell: Cell) -> str:
        """The published form under isomorphism; see `canonical_form`."""
        return canonical_form(self.architecture(self.index_of(cell)))

    def equivalents(self, cell: Cell) -> tuple[int, ...]:
        """Indices of all cells with the same published form, itself included, in order."""
        classes = self._column("isomorphism_class")
        same = classes == classes[self.index_of(cell)]
        return tuple(np.flatnonzero(same).tolist())

    def cube(self, column: str) -> NDArray[Any]:
        """A column as a table over candidates, [5] in each of the six dimensions `EDGES`."""
        cube: NDArray[Any] = self.column(column)[self._indices].reshape(_shape())
        return cube

    @functools.cached_property
    def _indices(self) -> NDArray[Any]:
        """code -> index."""
        found = np.empty(ARCHITECTURES, np.int64)
        found[self._column("code")] = np.arange(ARCHITECTURES)
        return found

    def _column(self, name: str) -> NDArray[Any]:
        if name not in self._read:
            values = self._members[name]
            values.setflags(write=False)
            self._read[name] = values
        return self._read[name]

    def _loss(self, column: str) -> NDArray[Any]:
        """The column, turned so that less is better."""
        values = self.column(column)
        return values if lower_is_better(column) else -values

    def _check(self, name: str) -> None:
        if name not in self.columns:
            raise UserError(
                f"NAS-Bench-201 has no column {name!r}{nearest(name, self.columns)}\n"
                f"  columns: {', '.join(self.columns)}"
            )


def lower_is_better(column: str) -> bool:
    """Whether the column is a cost (parameters, multiply-adds, latency) and not an accuracy."""
    return column.startswith(_COSTS)


def canonical_form(architecture: Architecture) -> str:
    """The output of a cell as an expression in its input, by the published rule (6,466 forms).

    A skip connection is its operand, `none` and whatever is applied to a node called zero is zero,
    the terms of a node are sorted. It is a rule on text: a sum that came through a skip stays together,
    and only a node with a single edge can be called zero. So cells of one form compute the same, but a few
    cells that compute the same differ in form; were all sums taken apart and zeros dropped, 4,930 forms
    would be left (where a convolution of nothing is nothing, its BatchNorm's offset aside).

    Raises:
        UserError: the architecture is not one cell of six edges with the benchmark's candidates.
    """
    _code(architecture)
    edges = {(edge.node, edge.source): op for edge, op in next(iter(architecture.cells().values())).items()}
    nodes = ["0"]
    for node in (1, 2, 3):
        terms = []
        for source in range(node):
            op, operand = edges[node, source], nodes[source]
            if op == "none" or operand == _ZERO:
                terms.append(_ZERO)
            else:
                terms.append(operand if op == "skip_connect" else f"({operand})@{op}")
        nodes.append("+".join(sorted(terms)))
    return nodes[-1]


def landscape(column: str = "cifar10_valid_12ep", truth: str = "cifar10_test_200ep") -> MultilinearLandscape:
    """1 − accuracy/100 of a column, to search on; its `truth` is that of another, to score with.

    Args:
        column: the accuracy to search on: cheap, and honest as a signal.
        truth: the accuracy that what was found is scored on.

    Raises:
        UserError: there is no such column, or it is no accuracy.
    """
    import torch

    from archgrad.choice import Group
    from archgrad.landscapes.multilinear import MultilinearLandscape

    table = NASBench201.open()
    group = Group(NASBENCH201_CANDIDATES, tuple(f"cell/{edge}" for edge in EDGES))
    losses = []
    for name in (truth, column):
        cube = table.cube(name)
        if lower_is_better(name):
            raise UserError(f"a landscape is made of accuracies; {name!r} is a cost: search it as a cost")
        losses.append(1 - torch.from_numpy(cube.astype(np.float64)) / 100)
    scored = MultilinearLandscape(losses[0], group)
    return MultilinearLandscape(losses[1], group, truth=scored)


def _shape() -> tuple[int, ...]:
    return (len(NASBENCH201_CANDIDATES),) * len(EDGES)


def _code(cell: Architecture | str) -> int:
    """The candidates of the six edges as digits to the base five."""
    text = cell if isinstance(cell, str) else cell.to_nasbench201()
    choices = {name.partition("/")[2]: op for name, op in Architecture.from_nasbench201(text).items()}
    if tuple(choices) != EDGES:
        raise UserError(
            f"a cell of NAS-Bench-201 has the six edges {', '.join(EDGES)}; {text!r} has "
            f"{len(choices)}: write |op~0|+|op~0|op~1|+|op~0|op~1|op~2|"
        )
    digits = [NASBENCH201_CANDIDATES.index(op) for op in choices.values()]
    return int(np.ravel_multi_index(digits, _shape()))
