"""What is suspicious about an architecture by itself: skip connections, and cells as graphs."""

from __future__ import annotations

from typing import NamedTuple

from archgrad.architecture import Architecture, Edge

NONE = "none"
"""The candidate that stands for no connection."""

RECURRENT = "recurrent"
"""Name of the cell whose nodes are all put out, and in which `identity` is an activation, no skip."""

_SKIPS = frozenset({"skip_connect", "skip", "identity"})
_POOLINGS = ("max_pool", "avg_pool")


def skip_share(architecture: Architecture) -> float:
    """Skip connections among the choices that are not `none`, in [0, 1]; 0 when all are `none`."""
    alive = {name: candidate for name, candidate in architecture.items() if candidate != NONE}
    return sum(is_skip(name, candidate) for name, candidate in alive.items()) / len(alive) if alive else 0.0


def is_skip(name: str, candidate: str) -> bool:
    """Whether the candidate of the choice `name` is a skip connection."""
    return candidate in _SKIPS and not name.startswith(f"{RECURRENT}/")


def is_pooling(candidate: str) -> bool:
    """Whether a candidate is a pooling."""
    return candidate.startswith(_POOLINGS)


def architecture_warnings(architecture: Architecture) -> list[str]:
    """Sentences on cells that skip connections took over, or that do not carry their input through."""
    scopes: dict[str, list[bool]] = {}
    for name, candidate in architecture.items():
        edge = Edge.parse(name)
        if candidate != NONE:
            scopes.setdefault(f"of cell {edge.cell!r}" if edge else "outside cells", []).append(
                is_skip(name, candidate)
            )
    warnings = []
    for scope, alive in scopes.items():
        skips = sum(alive)
        if skips > len(alive) / 2:
            warnings.append(
                f"skip connections took over: they are {skips} of the {len(alive)} choices {scope} that are "
                f"not {NONE!r}"
            )
    for cell, edges in architecture.cells().items():
        warnings += _cell_warnings(cell, edges)
    return warnings


def is_connected(architecture: Architecture) -> bool:
    """Whether every cell's output depends on its input, by at least one path without `none`.

    True where the choices are no edges: nothing is known of the graph then.
    """
    return all(one.outputs & one.fed for one in map(flow, architecture.cells().values()))


class Flow(NamedTuple):
    """Nodes of a cell: its outputs, those that something arrives at, those that the outputs depend on."""

    outputs: set[int]
    fed: set[int]
    read: set[int]


def flow(edges: dict[Edge, str]) -> Flow:
    """What flows in a cell.

    A cell with several inputs (DARTS) and a recurrent one put out all their nodes, one with a single
    input (NAS-Bench-201) the last.
    """
    kept = [edge for edge, op in edges.items() if op != NONE]
    nodes = {edge.node for edge in edges}
    inputs = {edge.source for edge in edges} - nodes
    recurrent = any(edge.cell == RECURRENT for edge in edges)
    outputs = nodes if len(inputs) > 1 or recurrent else {max(nodes)}
    fed = set(inputs)
    for edge in sorted(kept, key=lambda e: e.node):
        if edge.source in fed:
            fed.add(edge.node)
    read = set(outputs)
    for edge in sorted(kept, key=lambda e: -e.node):
        if edge.node in read:
            read.add(edge.source)
    return Flow(outputs, fed, read)


def _cell_warnings(cell: str, edges: dict[Edge, str]) -> list[str]:
    """What is wrong with a cell as a graph."""
    kept = {edge: op for edge, op in edges.items() if op != NONE}
    outputs, fed, read = flow(edges)
    warnings = []
    if not outputs & fed:
        warnings.append(f"the output of cell {cell!r} is not connected to its input: it is constant")
    elif outputs - fed:
        dead = ", ".join(map(str, sorted(outputs - fed)))
        warnings.append(
            f"cell {cell!r}: nothing arrives at node(s) {dead}: their part of the output is constant"
        )
    idle = [edge for edge in kept if edge.source not in fed or edge.node not in read]
    if idle and outputs & fed:
        warnings.append(
            f"cell {cell!r}: {', '.join(map(str, idle))} carry nothing from input to output, yet their "
            "parameters and MACs are counted"
        )
    if kept and all(is_skip(str(edge), op) or is_pooling(op) for edge, op in kept.items()):
        warnings.append(f"cell {cell!r} has only skip connections and poolings on its kept edges")
    return warnings
