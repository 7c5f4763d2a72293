"""Plotly figures as plain dictionaries, drawn by the page's script.

Colours are CSS variables of the page (``var(--x)``), resolved when a figure is drawn: the same figure
serves light, dark and paper. Strings from files go through `plain`, because plotly reads some HTML.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

from archgrad.report.points import EntropyPoints, Series

Figure = dict[str, Any]
SERIES = ("var(--series-1)", "var(--series-2)")
_DASHES = ("solid", "dot", "dash")  # of the first two curves, the next two, …
_MAX_MARKED = 30  # curves with fewer points also show markers


class Panel(NamedTuple):
    """A figure of the page; without a figure, `missing` says why."""

    key: str
    title: str
    note: str
    figure: Figure | None
    missing: str = ""


def plain(text: str) -> str:
    """Text that plotly shows as it stands, tags included."""
    return escape(text, quote=False)


def axis(title: str = "", **more: Any) -> dict[str, Any]:
    """An axis in the page's style; `more` are plotly's own settings."""
    return {
        "title": {"text": title, "font": {"size": 12, "color": "var(--muted)"}, "standoff": 8},
        "gridcolor": "var(--grid)",
        "linecolor": "var(--line)",
        "zeroline": False,
        "ticks": "",
        "tickangle": 0,
        "automargin": True,
        "tickfont": {"size": 11.5, "color": "var(--muted)"},
        **more,
    }


def layout(height: int, **more: Any) -> dict[str, Any]:
    """The layout that all figures share, `height` in pixels; the page sets the width."""
    return {
        "height": height,
        "margin": {"l": 8, "r": 12, "t": 8, "b": 42},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": "var(--ink)"},
        "hoverlabel": {"bgcolor": "var(--surface)", "font": {"color": "var(--ink)"}},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "var(--muted)", "activecolor": "var(--ink)"},
        "showlegend": False,
        "dragmode": "zoom",
        **more,
    }


def epoch_axis(epochs: Sequence[int], **more: Any) -> dict[str, Any]:
    """The axis of epochs, which are whole numbers."""
    # Plotly would put half epochs under short runs.
    ticks = {"dtick": 1} if not epochs or max(epochs) - min(epochs) < 10 else {"nticks": 8}
    # A fixed margin: an automatic one leaves room twice, for the ticks and for the title.
    return axis("epoch", showgrid=False, automargin=False, **ticks, **more)


def _scatter(series: Series, colour: str, hover: str, **line: Any) -> dict[str, Any]:
    measured = sum(v is not None for v in series.values)
    return {
        "type": "scatter",
        "mode": "lines+markers" if measured <= _MAX_MARKED else "lines",
        "name": plain(series.name),
        "x": list(series.epochs),
        "y": list(series.values),
        "line": {"color": colour, "width": 2.2, **line},
        "marker": {"size": 5, "color": colour},
        "hovertemplate": f"{plain(series.name)}: {hover}<extra></extra>",
    }


_LEGEND = {
    "orientation": "h",
    "x": 0,
    "y": 1.02,
    "xanchor": "left",
    "yanchor": "bottom",
    "bgcolor": "rgba(0,0,0,0)",
    "font": {"size": 12},
}


def curves(
    series: Sequence[Series], form: str = ".3f", logarithmic: bool = False, height: int = 250
) -> Figure:
    """Curves over epochs; form: a d3 number format."""
    values = axis(tickformat=".0%" if "%" in form else "", hoverformat=form)
    if logarithmic:
        values.update(type="log", tickformat="~g", dtick=1)
    many = len(series) > 1
    return {
        "data": [
            _scatter(
                s, SERIES[i % len(SERIES)], f"%{{y:{form}}}", dash=_DASHES[i // len(SERIES) % len(_DASHES)]
            )
            for i, s in enumerate(series)
        ],
        "layout": layout(
            height,
            xaxis=epoch_axis(sorted({e for s in series for e in s.epochs})),
            yaxis=values,
            hovermode="x unified",
            showlegend=many,
            legend=_LEGEND,
            margin={"l": 8, "r": 12, "t": 30 if many else 8, "b": 42},
        ),
    }


def entropy_figure(points: EntropyPoints) -> Figure:
    """The mean entropy with the range over choices as a band, and the line of its maximum."""
    figure = curves([points.mean])
    band = [
        _scatter(series, "var(--band)", "%{y:.3f} nats", width=0) | {"mode": "lines"}
        for series in (points.lowest, points.highest)
    ]
    band[1] |= {"fill": "tonexty", "fillcolor": "var(--band)"}
    figure["data"] = [*band, *figure["data"]]
    if points.maximum is not None:
        line = {"color": "var(--muted)", "width": 1.2, "dash": "dash"}
        ends = {"x0": 0, "x1": 1, "xref": "paper", "y0": points.maximum, "y1": points.maximum}
        figure["layout"]["shapes"] = [{"type": "line", "line": line, **ends}]
        figure["layout"]["annotations"] = [
            {
                "text": "maximum",
                "x": 1,
                "xref": "paper",
                "xanchor": "right",
                "y": points.maximum,
                "yanchor": "bottom",
                "showarrow": False,
                "font": {"size": 11, "color": "var(--muted)"},
            }
        ]
        figure["layout"]["yaxis"]["range"] = [0, points.maximum * 1.14]
    return figure
