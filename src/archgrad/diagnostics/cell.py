"""Depth and width of the cells that would be derived now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from archgrad.architecture import Architecture, Edge
from archgrad.architecture_warnings import NONE, flow
from archgrad.diagnostics.line import Line, Reading, mean


def cell(line: Line, before: Sequence[Line] = ()) -> Reading:
    """How deep and how wide every kind of cell is: search prefers wide and shallow cells, as they train fast.

    Depth: connections on the longest path from an input of the cell to its output, the joining of several
    nodes into the output counted as one. Width: Σ over the nodes of the share of a node's inputs that are
    inputs of the cell, in units of a node's channels. Edges that carry nothing from input to output are not
    there. The published DARTS cell (second order) has depth 3 and width 3.5.

    Fields: `depth`, `width`, means over the kinds of cells; `depth_by_cell`, `width_by_cell`. None where the
    choices are no edges. No pass through the network.

    Source: Shu et al. 2020 (arXiv 1909.09569), section 3.1.
    """
    cells = Architecture(line.get("architecture") or {}).cells()
    if not cells:
        return {}
    sizes = {name: depth_and_width(edges) for name, edges in cells.items()}
    return {
        "depth": mean([float(depth) for depth, _ in sizes.values()]),
        "width": mean([width for _, width in sizes.values()]),
        "depth_by_cell": {name: float(depth) for name, (depth, _) in sizes.items()},
        "width_by_cell": {name: width for name, (_, width) in sizes.items()},
    }


def depth_and_width(edges: Mapping[Edge, str]) -> tuple[int, float]:
    """(depth, width) of one cell, candidates by edge; (0, 0.0) where nothing joins input and output."""
    found = flow(dict(edges))
    alive = [e for e, op in edges.items() if op != NONE and e.source in found.fed and e.node in found.read]
    nodes = {e.node for e in edges}
    longest = dict.fromkeys({e.source for e in edges} - nodes, 0)
    for edge in sorted(alive, key=lambda e: e.node):
        longest[edge.node] = max(longest.get(edge.node, 0), longest[edge.source] + 1)
    outputs = [longest[node] for node in found.outputs if node in longest]
    joined = len(found.outputs) > 1
    width = 0.0
    for node in nodes:
        sources = [e.source for e in alive if e.node == node]
        width += sum(source not in nodes for source in sources) / len(sources) if sources else 0.0
    return (max(outputs) + joined, width) if outputs else (0, 0.0)
