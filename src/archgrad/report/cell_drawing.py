"""A cell as an arc diagram in SVG: nodes left to right, one labelled arc per edge.

The label sits on the top of its arc. An arc's top is at (middle between its nodes, height by the number
of nodes it spans and by its number among edges between the same nodes), a place that no other edge of the
cell has: labels cannot collide, however dense the cell. Colours are CSS values, so ``var(--x)`` follows the
page's appearance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from archgrad.architecture import Edge

_RADIUS = 17.0
_LABEL_HEIGHT = 20.0
_FIRST_ARC = 54.0  # height of the top of an arc between neighbours, above the nodes' centres
_ARC_STEP = 31.0  # more than a label's height, so that labels of different spans stay apart
_CHARACTER = 6.7  # mean width of a character of the labels at 11.5 px
_INK = "var(--ink, #1c2430)"
_MUTED = "var(--muted, #667080)"
_SURFACE = "var(--surface, #ffffff)"
_LINE = "var(--line, #c9d0d9)"


class _Point(NamedTuple):
    x: float
    y: float


class _Arc(NamedTuple):
    """A cubic Bézier curve from `start` to `end`."""

    start: _Point
    first: _Point
    second: _Point
    end: _Point

    def path(self) -> str:
        points = (self.first, self.second, self.end)
        controls = " ".join(f"{p.x:.1f},{p.y:.1f}" for p in points)
        return f"M{self.start.x:.1f},{self.start.y:.1f} C{controls}"

    def middle(self) -> _Point:
        """The point at parameter ½, the top of a symmetric arc."""
        return _Point(
            (self.start.x + 3 * self.first.x + 3 * self.second.x + self.end.x) / 8,
            (self.start.y + 3 * self.first.y + 3 * self.second.y + self.end.y) / 8,
        )


def _port(centre: _Point, side: int, rank: int, count: int, below: bool = False) -> _Point:
    """Where arc `rank` of `count` touches a node: fanned out over a quarter of its outline.

    side is +1 where arcs leave, −1 where they arrive; rank 0 is the shortest arc, nearest the axis.
    """
    angle = math.radians(28 + 50 * (rank + 0.5) / count)
    drop = math.sin(angle) * _RADIUS
    return _Point(centre.x + side * math.cos(angle) * _RADIUS, centre.y + (drop if below else -drop))


def _arc(start: _Point, end: _Point, top: float, lean: float) -> _Arc:
    """The arc from start to end whose middle is at height `top`; `lean` moves the control points inwards."""
    control = (top - (start.y + end.y) / 8) / 0.75
    return _Arc(start, _Point(start.x + lean, control), _Point(end.x - lean, control), end)


def _arrow_head(arc: _Arc, colour: str, size: float) -> str:
    dx, dy = arc.end.x - arc.second.x, arc.end.y - arc.second.y
    length = math.hypot(dx, dy) or 1.0
    ux, uy = dx / length, dy / length
    bx, by = arc.end.x - ux * size * 1.5, arc.end.y - uy * size * 1.5
    half = size * 0.7
    corners = (arc.end, _Point(bx - uy * half, by + ux * half), _Point(bx + uy * half, by - ux * half))
    text = " ".join(f"{p.x:.1f},{p.y:.1f}" for p in corners)
    return f'<polygon points="{text}" style="fill:{colour}"/>'


def _text(x: float, y: float, content: str, colour: str, size: float, weight: int = 400) -> str:
    style = f"fill:{colour};font-size:{size}px;font-weight:{weight}"
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle" style="{style}">{content}</text>'


def _label_width(candidate: str, probability: float | None) -> float:
    return _CHARACTER * (len(candidate) + (5 if probability is not None else 0)) + 18


def _label(at: _Point, candidate: str, probability: float | None, colour: str) -> str:
    width = _label_width(candidate, probability)
    box = (
        f'<rect class="label" x="{at.x - width / 2:.1f}" y="{at.y - _LABEL_HEIGHT / 2:.1f}" '
        f'width="{width:.1f}" height="{_LABEL_HEIGHT:.1f}" rx="10" '
        f'style="fill:{_SURFACE};stroke:{colour};stroke-width:1.5"/>'
    )
    number = "" if probability is None else f'<tspan dx="6" style="fill:{_MUTED}">{probability:.2f}</tspan>'
    return box + _text(at.x, at.y + 4, escape(candidate) + number, _INK, 11.5)


def _node(at: _Point, name: str, caption: str, reached: bool) -> str:
    dash = "" if reached else ";stroke-dasharray:3 3"
    circle = (
        f'<circle cx="{at.x:.1f}" cy="{at.y:.1f}" r="{_RADIUS}" '
        f'style="fill:{_SURFACE};stroke:{_INK if reached else _MUTED};stroke-width:1.6{dash}"/>'
    )
    label = _text(at.x, at.y + 4.5, escape(name), _INK if reached else _MUTED, 13, 600)
    return circle + label + (_text(at.x, at.y + 35, escape(caption), _MUTED, 11.5) if caption else "")


def _captions(inputs: int, last: int, joined: bool) -> dict[int, str]:
    captions = dict.fromkeys(range(inputs), "input")
    if inputs == 2:
        captions = {0: "cell k−2", 1: "cell k−1"}
    if not joined:
        captions[last] = "output"
    return captions


def cell_svg(
    edges: Mapping[Edge, str],
    probabilities: Mapping[Edge, float] | None = None,
    colours: Mapping[str, str] | None = None,
    title: str = "cell",
    joined: Sequence[int] | None = None,
    moving: Sequence[str] = (),
) -> str:
    """One cell as an SVG element; edges whose candidate is ``none`` are left out.

    Nodes without incoming edges are inputs. With two or more inputs the output concatenates the others
    (the DARTS cell); with one the last node is the output (NAS-Bench-201), but of a ``recurrent`` cell it is
    the mean of all.

    Args:
        edges: candidate by edge, `none` included: it says which nodes there are.
        probabilities: of the candidates in [0, 1]; they set the width of the arcs.
        colours: CSS colour by candidate.
        title: for screen readers.
        joined: the nodes that the output concatenates or averages, where those are not all.
        moving: candidates that a script may put in place of those given: every edge is drawn, `none`
            included, with room for the longest, and its parts carry its name as ``data-choice``.
    """
    last = max((edge.node for edge in edges), default=0)
    inputs = min((edge.node for edge in edges), default=1)
    recurrent = any(edge.cell == "recurrent" for edge in edges)
    members = list(joined or (range(inputs, last + 1) if inputs > 1 or recurrent else ()))
    concatenated = bool(members)
    weight = dict(probabilities or {})
    drawn = sorted(
        (e for e, candidate in edges.items() if moving or candidate != "none"), key=lambda e: e[1:]
    )
    twins = max([1, *(e.parallel for e in drawn)])
    widest = max([90.0, *(_label_width(edges[e], weight.get(e)) for e in drawn)])
    widest = max([widest, *(_label_width(candidate, 0.0) for candidate in moving)])
    columns = last + 1 + concatenated
    spacing = max(widest + 10, min(210.0, 840 / max(1, columns - 1)))

    def level(edge: Edge) -> int:
        """Which of the heights its arc has, from 0."""
        return (edge.node - edge.source - 1) * twins + edge.parallel - 1

    base = _FIRST_ARC + _ARC_STEP * max([0, *map(level, drawn)]) + _LABEL_HEIGHT / 2 + 6
    margin = max(widest / 2 - spacing / 2, 0) + 40
    width = 2 * margin + spacing * (columns - 1)
    depth = 26 + 13 * (last - inputs + 1) if concatenated else 44
    at = {node: _Point(margin + spacing * node, base) for node in range(columns)}

    lines, labels = [], []
    if concatenated:
        for node in sorted(members):
            rank = last - node
            start = _port(at[node], 1, 0, 1, below=True)
            end = _port(at[last + 1], -1, rank, last - inputs + 1, below=True)
            arc = _arc(start, end, base + 24 + 13 * rank, (end.x - start.x) * 0.22)
            lines.append(f'<path d="{arc.path()}" style="fill:none;stroke:{_LINE};stroke-width:1.6"/>')
            lines.append(_arrow_head(arc, _LINE, 6))
    for edge in drawn:
        leaving = sorted((e for e in drawn if e.source == edge.source), key=level)
        arriving = sorted((e for e in drawn if e.node == edge.node), key=level)
        start = _port(at[edge.source], 1, leaving.index(edge), len(leaving))
        end = _port(at[edge.node], -1, arriving.index(edge), len(arriving))
        lean = (end.x - start.x) * max(0.04, 0.24 - 0.02 * (edge.node - edge.source))
        arc = _arc(start, end, base - _FIRST_ARC - _ARC_STEP * level(edge), lean)
        candidate, probability = edges[edge], weight.get(edge)
        colour = (colours or {}).get(candidate, _MUTED)
        stroke = 2.2 if probability is None else 1.4 + 5.0 * min(1.0, max(0.0, probability))
        style = f"fill:none;stroke:{colour};stroke-width:{stroke:.2f}"
        line = f'<path class="edge" d="{arc.path()}" style="{style}"/>'
        line += _arrow_head(arc, colour, 5.5 + stroke / 2)
        label = _label(arc.middle(), candidate, probability, colour)
        lines.append(_named(line, str(edge)) if moving else line)
        labels.append(_named(label, str(edge)) if moving else label)

    captions = _captions(inputs, last, concatenated)
    reached = set(range(inputs))
    for node in range(inputs, last + 1):
        if any(e.node == node and e.source in reached for e in drawn):
            reached.add(node)
    captions |= {n: "no input" for n in range(inputs, last) if n not in reached and n not in captions}
    nodes = [_node(at[n], str(n), captions.get(n, ""), n in reached) for n in range(last + 1)]
    if concatenated:
        joining = "mean" if recurrent else "concatenation"
        nodes.append(_node(at[last + 1], "out", "", True))
        nodes.append(_text(at[last + 1].x, base - _RADIUS - 8, joining, _MUTED, 11.5))
    return _svg(width, base + depth, title, [*lines, *nodes, *labels])


def choices_svg(
    choices: Sequence[tuple[str, str, float | None]],
    colours: Mapping[str, str] | None = None,
    title: str = "choices",
    moving: Sequence[str] = (),
) -> str:
    """Choices that are no edges, as a chain from top to bottom: name, chosen candidate, probability bar.

    Args:
        choices: (choice, candidate, its probability in [0, 1] or None), in order.
        colours: CSS colour by candidate.
        title: for screen readers.
        moving: as for `cell_svg`.
    """
    row, bar = 38.0, 150.0
    left = 24 + _CHARACTER * max([6, *(len(name) for name, _, _ in choices)])
    shown = (*moving, *(candidate for _, candidate, _ in choices))
    box = max([90.0, *(_label_width(candidate, None) for candidate in shown)])
    middle = left + 30 + box / 2
    parts = []
    if len(choices) > 1:
        bottom = row * (len(choices) - 0.5)
        line = f'x1="{middle:.1f}" x2="{middle:.1f}" y1="{row / 2}" y2="{bottom}"'
        parts.append(f'<line {line} style="stroke:{_LINE};stroke-width:2"/>')
    for index, (name, candidate, probability) in enumerate(choices):
        y = row * (index + 0.5)
        colour = (colours or {}).get(candidate, _MUTED)
        parts.append(
            f'<text x="{left:.1f}" y="{y + 4:.1f}" text-anchor="end" '
            f'style="fill:{_INK};font-size:12.5px">{escape(name)}</text>'
        )
        label = _label(_Point(middle, y), candidate, None, colour)
        if probability is not None:
            x, filled = middle + box / 2 + 22, bar * min(1.0, max(0.0, probability))
            for length, fill in ((bar, _LINE), (filled, colour)):
                label += (
                    f'<rect x="{x:.1f}" y="{y - 4:.1f}" width="{length:.1f}" height="8" rx="4" '
                    f'style="fill:{fill}"/>'
                )
            label += _text(x + bar + 24, y + 4, f"{probability:.2f}", _MUTED, 11.5)
        parts.append(_named(label, name) if moving else label)
    return _svg(middle + box / 2 + bar + 80, row * max(1, len(choices)), title, parts)


def _named(parts: str, choice: str) -> str:
    return f'<g data-choice="{escape(choice)}">{parts}</g>'


def _svg(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg class="cell" role="img" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )
