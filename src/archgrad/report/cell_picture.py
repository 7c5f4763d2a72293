"""Cells as one picture that stands alone: an SVG file with its own colours on white."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape

from archgrad.architecture import Edge
from archgrad.report.cell_drawing import cell_svg, choices_svg
from archgrad.report.palette import candidate_colours

_MARGIN, _HEADING = 16.0, 40.0
_FONT = "system-ui, 'Segoe UI', Helvetica, Arial, sans-serif"
_SIZE = re.compile(r'viewBox="0 0 (\d+) (\d+)"')
_VARIABLE = re.compile(r"var\(--[\w-]+, (#\w+)\)")


def picture(
    cells: Mapping[str, Mapping[Edge, str]],
    joined: Mapping[str, Sequence[int]] | None = None,
    others: Mapping[str, str] | None = None,
    title: str = "",
) -> str:
    """All cells of an architecture, one below the other, as the text of an SVG file.

    Args:
        cells: by kind, the candidate of every edge.
        joined: by kind the nodes that the output joins, where those are not all.
        others: the candidates of choices that are no edges.
        title: over the cells.
    """
    chosen = [*(c for edges in cells.values() for c in edges.values()), *(others or {}).values()]
    colours = {
        name: colour.light for name, colour in candidate_colours(dict.fromkeys(sorted(chosen))).items()
    }
    drawings = [
        (
            f"{kind} cell" if kind != "cell" else kind,
            cell_svg(edges, None, colours, kind, (joined or {}).get(kind)),
        )
        for kind, edges in cells.items()
    ]
    if others:
        rows = [(name, candidate, None) for name, candidate in others.items()]
        drawings.append(("choices", choices_svg(rows, colours)))
    parts, y, width = [], _MARGIN, 0.0
    if title:
        parts.append(_heading(title, y + 20, 17))
        y += 26
    for heading, drawing in drawings:
        size = _SIZE.search(drawing)
        assert size is not None
        parts.append(_heading(heading, y + 22, 14))
        y += _HEADING
        parts.append(drawing.replace("<svg ", f'<svg x="{_MARGIN:.0f}" y="{y:.0f}" ', 1))
        y += float(size[2])
        width = max(width, float(size[1]) + 2 * _MARGIN)
    y += _MARGIN
    body = "\n".join(_VARIABLE.sub(r"\1", part) for part in parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {y:.0f}" width="{width:.0f}" '
        f'height="{y:.0f}" font-family="{_FONT}">\n'
        f'<rect width="{width:.0f}" height="{y:.0f}" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


def _heading(text: str, y: float, size: int) -> str:
    style = f"fill:#1c2430;font-size:{size}px;font-weight:600"
    return f'<text x="{_MARGIN:.0f}" y="{y:.0f}" style="{style}">{escape(text)}</text>'
