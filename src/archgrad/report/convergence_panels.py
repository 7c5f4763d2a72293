"""The figures of convergence: curves of diagnostics, entropy and margin by choice, alarms on a time line."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from archgrad.report.convergence import ChoicePoints, Convergence, Curves, Event
from archgrad.report.figures import Figure, Panel, axis, curves, epoch_axis, layout, plain
from archgrad.report.heat_maps import COLOUR_BAR, SCALE
from archgrad.report.points import Series

_MARKS = {
    "alarm": {"symbol": "square", "color": "var(--warning)"},
    "action": {"symbol": "diamond", "color": "var(--info)"},
    "stop": {"symbol": "x", "color": "var(--bad)"},
}
_HOVER_WIDTH = 60  # characters of a line of the text under the pointer


def record_panels(found: Convergence) -> list[Panel]:
    """Curves of the records."""
    return [_panel(one) for one in found.records]


def probe_panels(found: Convergence) -> list[Panel]:
    """Curves of the probes that were taken."""
    return [_panel(one) for one in found.probes]


def choice_panels(found: Convergence) -> list[Panel]:
    """Entropy and margin of every choice as heat maps."""
    return [Panel(one.key, one.title, one.note, choice_figure(one)) for one in found.choices]


def alarm_panel(found: Convergence, epochs: Sequence[int]) -> Panel | None:
    """What rang and what was done, on a line of time; None where nothing was."""
    if not found.events:
        return None
    note = "■ alarm  ◆ a rule acted  ✕ a rule ended the search"
    return Panel("alarms", "Alarms and rules", note, alarm_figure(found.events, epochs))


def _panel(one: Curves) -> Panel:
    figure = curves(_wide(one.series), form=one.form, logarithmic=one.logarithmic)
    return Panel(f"diagnostic-{one.key}", one.title, one.note, figure)


def _wide(series: Sequence[Series]) -> list[Series]:
    """The same curves with numbers of as many digits as can be seen."""
    return [
        s._replace(values=tuple(None if v is None else float(f"{v:.6g}") for v in s.values)) for s in series
    ]


def choice_figure(points: ChoicePoints) -> Figure:
    """Value by epoch (columns) and choice (rows), both in one colour scale from 0 to 1."""
    table = [[None if v is None else round(v, 4) for v in row] for row in points.rows.values()]
    return {
        "data": [
            {
                "type": "heatmap",
                "x": list(points.epochs),
                "y": [plain(choice) for choice in points.rows],
                "z": table,
                "zmin": 0,
                "zmax": 1,
                "colorscale": SCALE,
                "colorbar": {**COLOUR_BAR, "title": {}},
                "ygap": 1,
                "hoverongaps": False,
                "hovertemplate": "%{y}<br>epoch %{x}: %{z:.3f}<extra></extra>",
            }
        ],
        "layout": layout(
            13 * len(points.rows) + 64,
            xaxis=epoch_axis(points.epochs),
            yaxis=axis(type="category", autorange="reversed", showgrid=False, tickfont=_SMALL),
        ),
    }


_SMALL = {"size": 10.5, "color": "var(--muted)"}


def alarm_figure(events: Sequence[Event], epochs: Sequence[int]) -> Figure:
    """A mark in every epoch at which an alarm rang or a rule did something; one row a name."""
    names = list(dict.fromkeys(event.name for event in events))
    traces: list[dict[str, Any]] = []
    for kind, mark in _MARKS.items():
        own = [event for event in events if event.kind == kind]
        if own:
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "x": [event.epoch for event in own],
                    "y": [plain(event.name) for event in own],
                    "text": [_wrapped(event.text) for event in own],
                    "marker": {**mark, "size": 11},
                    "hovertemplate": "epoch %{x}<br>%{text}<extra></extra>",
                }
            )
    first, last = min(epochs), max(epochs)
    return {
        "data": traces,
        "layout": layout(
            60 + 30 * len(names),
            xaxis=epoch_axis(epochs, range=[first - 0.5, last + 0.5]),
            yaxis=axis(
                type="category",
                categoryorder="array",
                categoryarray=[plain(name) for name in names],
                range=[len(names) - 0.4, -0.6],
                tickfont={"size": 12, "color": "var(--ink)"},
                fixedrange=True,
            ),
        ),
    }


def _wrapped(text: str) -> str:
    return "<br>".join(plain(line) for line in textwrap.wrap(text, _HOVER_WIDTH))
