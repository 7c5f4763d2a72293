"""What the architecture is made of that would be derived now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from archgrad.architecture import Edge
from archgrad.architecture_warnings import NONE, is_pooling, is_skip
from archgrad.diagnostics.line import Line, Reading


def operations(line: Line, before: Sequence[Line] = ()) -> Reading:
    """Shares of operations that compute nothing of their own.

    Fields: `skip` and `pooling`, among the choices that are not `none` (0 where all are); `none`, among all;
    `skips_by_cell`, how many skip connections each kind of cell has (DARTS+ stops a search at two in the
    normal cell: Liang et al. 2019, arXiv 1909.06035). No pass through the network.

    >>> operations({"architecture": {"normal/2<-0": "skip_connect", "normal/2<-1": "none"}})
    {'skip': 1.0, 'pooling': 0.0, 'none': 0.5, 'skips_by_cell': {'normal': 1.0}}
    """
    architecture = line.get("architecture") or {}
    if not architecture:
        return {}
    alive = {name: candidate for name, candidate in architecture.items() if candidate != NONE}
    skips = [name for name, candidate in alive.items() if is_skip(name, candidate)]
    count = max(1, len(alive))
    cells = Counter({edge.cell: 0 for name in architecture if (edge := Edge.parse(name))})
    cells.update(edge.cell for name in skips if (edge := Edge.parse(name)))
    reading: Reading = {
        "skip": len(skips) / count,
        "pooling": sum(is_pooling(candidate) for candidate in alive.values()) / count,
        "none": 1 - len(alive) / len(architecture),
    }
    return {**reading, "skips_by_cell": {cell: float(n) for cell, n in cells.items()}} if cells else reading
