"""Probabilities as curves over the epochs: one figure of a choice, and small pictures of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from archgrad.report.figures import Figure, axis, epoch_axis, layout, plain
from archgrad.report.points import ProbabilityRow

_WIDTH, _HEIGHT, _PAD = 150.0, 70.0, 4.0


class Picture(NamedTuple):
    """The small picture of a choice."""

    choice: str
    svg: str


def trajectory_figure(
    epochs: Sequence[int], rows: Sequence[ProbabilityRow], colours: Mapping[str, str], largest: float
) -> Figure:
    """One curve for each candidate of a choice, in its colour; `largest` is the top of the axis."""
    mode = "lines+markers" if len(epochs) <= 30 else "lines"
    return {
        "data": [
            {
                "type": "scatter",
                "mode": mode,
                "name": plain(row.candidate),
                "x": list(epochs),
                "y": [None if v is None else round(v, 4) for v in row.values],
                "line": {"color": colours.get(row.candidate, "var(--muted)"), "width": 2},
                "marker": {"size": 4, "color": colours.get(row.candidate, "var(--muted)")},
                "hovertemplate": f"{plain(row.candidate)}: %{{y:.3f}}<extra></extra>",
            }
            for row in rows
        ],
        "layout": layout(
            260,
            xaxis=epoch_axis(epochs),
            yaxis=axis(range=[0, largest], hoverformat=".3f"),
            hovermode="x unified",
        ),
    }


def trajectory_pictures(
    choices: Mapping[str, Sequence[ProbabilityRow]], colours: Mapping[str, str], largest: float
) -> list[Picture]:
    """A small picture for each choice, all with the same axes: from 0 to `largest`, over all epochs."""
    return [Picture(choice, _svg(choice, rows, colours, largest)) for choice, rows in choices.items()]


def _svg(choice: str, rows: Sequence[ProbabilityRow], colours: Mapping[str, str], largest: float) -> str:
    count = max(len(row.values) for row in rows)
    across = (_WIDTH - 2 * _PAD) / max(1, count - 1)
    up = (_HEIGHT - 2 * _PAD) / largest
    parts = [
        f'<line x1="0" x2="{_WIDTH:.0f}" y1="{y:.1f}" y2="{y:.1f}" class="rule"/>'
        for y in (_PAD, _HEIGHT - _PAD)
    ]
    for row in rows:
        colour = colours.get(row.candidate, "var(--muted)")
        points = [
            f"{_PAD + i * across:.1f},{_HEIGHT - _PAD - v * up:.1f}"
            for i, v in enumerate(row.values)
            if v is not None
        ]
        if len(points) == 1:  # a line needs two
            x, y = points[0].split(",")
            parts.append(f'<circle cx="{x}" cy="{y}" r="2.5" style="fill:{colour}"/>')
        elif points:
            parts.append(f'<polyline points="{" ".join(points)}" style="stroke:{colour}"/>')
    title = escape(f"probabilities of {choice} over the epochs")
    return (
        f'<svg class="trajectory" role="img" viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" aria-label="{title}">'
        f"{''.join(parts)}</svg>"
    )
