"""The cells epoch by epoch: one drawing with every edge, and what the page's slider writes into it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from archgrad.architecture import Edge
from archgrad.report.cell_drawing import cell_svg, choices_svg
from archgrad.report.points import ProbabilityPoints, StabilityPoints

LARGEST_CELL = 16
"""Nodes; a larger cell is a list of choices rather than a drawing."""


class Drawing(NamedTuple):
    """One cell as SVG, or the choices that belong to none."""

    title: str
    svg: str


class Frames(NamedTuple):
    """What the strongest candidates were.

    names: candidates, in the order of their colours. choices: choice -> for every epoch the candidate's
    number in `names`, its probability (None: not known), and whether the network derived then would have it.
    An edge that would be left out shows the candidate that is the most probable there.
    """

    epochs: tuple[int, ...]
    names: tuple[str, ...]
    choices: dict[str, tuple[list[int], list[float | None], list[bool]]]


def frames_of(stability: StabilityPoints, probabilities: ProbabilityPoints, names: Sequence[str]) -> Frames:
    """The frames of a run; a choice whose winner is not known in some epoch has none."""
    number = {name: i for i, name in enumerate(names)}
    table = {
        choice: {row.candidate: dict(zip(probabilities.epochs, row.values, strict=True)) for row in rows}
        for choice, rows in probabilities.choices().items()
    }
    choices = {}
    for choice, winners in stability.winners.items():
        if None in winners:
            continue
        shown: list[int] = []
        values: list[float | None] = []
        kept: list[bool] = []
        for epoch, winner in zip(stability.epochs, winners, strict=True):
            known = {c: p for c, row in table.get(choice, {}).items() if (p := row.get(epoch)) is not None}
            kept.append(winner != "none")
            candidate = winner if winner != "none" or not known else max(known, key=lambda c: known[c])
            p = known.get(str(candidate))
            shown.append(number[str(candidate)])
            values.append(None if p is None else round(p, 6))
        choices[choice] = (shown, values, kept)
    return Frames(stability.epochs, tuple(names), choices)


def frame_drawings(frames: Frames, colours: Mapping[str, str]) -> list[Drawing]:
    """The drawings at the last epoch, every edge in them, for the slider to change."""
    last: dict[str, tuple[str, float | None]] = {
        choice: (frames.names[shown[-1]], values[-1]) for choice, (shown, values, _) in frames.choices.items()
    }
    cells: dict[str, dict[Edge, str]] = {}
    others = []
    for choice, (candidate, p) in last.items():
        edge = Edge.parse(choice)
        if edge is not None and str(edge) == choice and edge.source < edge.node <= LARGEST_CELL:
            cells.setdefault(edge.cell, {})[edge] = candidate
        else:
            others.append((choice, candidate, p))
    drawings = []
    for cell, edges in cells.items():
        weights = {e: p for e in edges if (p := last[str(e)][1]) is not None}
        title = f"{cell} cell" if cell != "cell" else cell
        drawings.append(
            Drawing(title, cell_svg(edges, weights, colours, f"{cell} cell by epoch", moving=frames.names))
        )
    if others:
        drawings.append(
            Drawing("choices", choices_svg(others, colours, "choices by epoch", moving=frames.names))
        )
    return drawings


def frames_json(frames: Frames) -> dict[str, Any]:
    """For the page's script."""
    return {"epochs": frames.epochs, "names": frames.names, "choices": frames.choices}
