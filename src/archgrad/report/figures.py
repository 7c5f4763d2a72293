"""Plotly figures as plain dictionaries, drawn by the page's script.

Colours are CSS variables of the page (``var(--x)``), resolved when a figure is drawn: the same figure
serves light, dark and paper. Strings from files go through `plain`, because plotly reads some HTML.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from archgrad.report.points import (
    ControlPoints,
    EntropyPoints,
    ProbabilityRow,
    Series,
    StabilityPoints,
    TrainedNetwork,
)

Figure = dict[str, Any]
SERIES = ("var(--series-1)", "var(--series-2)")
_MAX_MARKED = 30  # curves with fewer points also show markers


def plain(text: str) -> str:
    """Text that plotly shows as it stands, tags included."""
    return escape(text, quote=False)


def _axis(title: str = "", **more: Any) -> dict[str, Any]:
    return {
        "title": {"text": title, "font": {"size": 12, "color": "var(--muted)"}, "standoff": 8},
        "gridcolor": "var(--grid)",
        "linecolor": "var(--line)",
        "zeroline": False,
        "ticks": "",
        "automargin": True,
        "tickfont": {"size": 11.5, "color": "var(--muted)"},
        **more,
    }


def _layout(height: int, **more: Any) -> dict[str, Any]:
    return {
        "height": height,
        "margin": {"l": 8, "r": 12, "t": 8, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": "var(--ink)"},
        "hoverlabel": {"bgcolor": "var(--surface)", "font": {"color": "var(--ink)"}},
        "showlegend": False,
        "dragmode": "zoom",
        **more,
    }


def _epoch_axis(epochs: Sequence[int], **more: Any) -> dict[str, Any]:
    # Whole epochs only; plotly would put half epochs under short runs.
    ticks = {"dtick": 1} if len(epochs) <= 10 else {"nticks": 8}
    return _axis("epoch", showgrid=False, **ticks, **more)


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
    series: Sequence[Series],
    unit: str = "",
    form: str = ".3f",
    logarithmic: bool = False,
    colours: Sequence[str] = SERIES,
    height: int = 250,
) -> Figure:
    """Curves over epochs. form: a d3 number format; unit: the title of the value axis."""
    axis = _axis(unit, tickformat=".0%" if "%" in form else "", hoverformat=form)
    if logarithmic:
        axis.update(type="log", exponentformat="power", dtick=1, minor={"ticks": ""})
    many = len(series) > 1
    epochs = [e for s in series for e in s.epochs]
    return {
        "data": [
            _scatter(
                s, colours[i % len(colours)], f"%{{y:{form}}}", dash="solid" if i < len(colours) else "dot"
            )
            for i, s in enumerate(series)
        ],
        "layout": _layout(
            height,
            xaxis=_epoch_axis(sorted(set(epochs))),
            yaxis=axis,
            hovermode="x unified",
            showlegend=many,
            legend=_LEGEND,
            margin={"l": 8, "r": 12, "t": 30 if many else 8, "b": 8},
        ),
    }


def entropy_figure(points: EntropyPoints) -> Figure:
    """The mean entropy with the range over choices as a band, and the line of no preference."""
    figure = curves([points.mean], "nats")
    band = [
        _scatter(series, "var(--band)", "%{y:.3f} nats", width=0) | {"mode": "lines"}
        for series in (points.lowest, points.highest)
    ]
    band[1] |= {"fill": "tonexty", "fillcolor": "var(--band)"}
    figure["data"] = [*band, *figure["data"]]
    if points.uniform is not None:
        line = {"color": "var(--muted)", "width": 1.2, "dash": "dash"}
        ends = {"x0": 0, "x1": 1, "xref": "paper", "y0": points.uniform, "y1": points.uniform}
        figure["layout"]["shapes"] = [{"type": "line", "line": line, **ends}]
        figure["layout"]["annotations"] = [
            {
                "text": "no preference",
                "x": 1,
                "xref": "paper",
                "xanchor": "right",
                "y": points.uniform,
                "yanchor": "bottom",
                "showarrow": False,
                "font": {"size": 11, "color": "var(--muted)"},
            }
        ]
        figure["layout"]["yaxis"]["range"] = [0, points.uniform * 1.14]
    return figure


def _colour_bar(height: int) -> dict[str, Any]:
    return {
        "title": {"text": "probability", "font": {"size": 11, "color": "var(--muted)"}, "side": "right"},
        "thickness": 9,
        "lenmode": "pixels",
        "len": min(220, height - 60),
        "y": 1,
        "yanchor": "top",
        "outlinewidth": 0,
        "tickfont": {"size": 11, "color": "var(--muted)"},
    }


def probability_figure(
    epochs: Sequence[int],
    rows: Sequence[ProbabilityRow],
    colours: Mapping[str, str],
    largest: float,
    row_height: float = 7.0,
    detailed: bool = False,
) -> Figure:
    """Probability by epoch (columns) and candidate (rows), rows grouped by choice.

    A square in the candidate's colour begins each row. `largest` is the top of the colour scale, the same
    in all figures. detailed: one choice, its candidates named and every row tall.
    """
    labels: list[str] = []
    table: list[list[float | None]] = []
    marks: list[tuple[str, str]] = []
    ticks: dict[str, list[int]] = {}
    for row in rows:
        if labels and not detailed and row.choice not in ticks:
            labels.append(f"gap before {plain(row.choice)}")
            table.append([None] * len(epochs))
        ticks.setdefault(row.choice, []).append(len(labels))
        labels.append(f"{plain(row.choice)} · {plain(row.candidate)}")
        table.append([None if v is None else round(v, 4) for v in row.values])
        marks.append((labels[-1], colours.get(row.candidate, "var(--muted)")))
    height = round(row_height * len(labels)) + 64
    first, last = min(epochs), max(epochs)
    edge = first - 0.5 - 0.022 * (last - first + 1)
    if detailed:
        tick_values, tick_text = list(range(len(labels))), [plain(row.candidate) for row in rows]
    else:
        tick_values = [indices[len(indices) // 2] for indices in ticks.values()]
        tick_text = [plain(choice.partition("/")[2] or choice) for choice in ticks]
    return {
        "data": [
            {
                "type": "heatmap",
                "x": list(epochs),
                "y": labels,
                "z": table,
                "zmin": 0,
                "zmax": largest,
                "colorscale": [[i / 4, f"var(--scale-{i})"] for i in range(5)],
                "colorbar": _colour_bar(height),
                "hoverongaps": False,
                "hovertemplate": "%{y}<br>epoch %{x}: %{z:.3f}<extra></extra>",
            },
            {
                "type": "scatter",
                "mode": "markers",
                "x": [edge] * len(marks),
                "y": [label for label, _ in marks],
                "marker": {
                    "symbol": "square",
                    "size": min(11.0, row_height - 1),
                    "color": [colour for _, colour in marks],
                },
                "hovertemplate": "%{y}<extra></extra>",
            },
        ],
        "layout": _layout(
            height,
            xaxis=_epoch_axis(epochs, range=[2 * edge - first + 0.5, last + 0.5]),
            yaxis=_axis(
                "",
                type="category",
                autorange="reversed",
                tickvals=tick_values,
                ticktext=tick_text,
                showgrid=False,
                fixedrange=detailed,
            ),
        ),
    }


def stability_figure(points: StabilityPoints, colours: Mapping[str, str]) -> Figure:
    """Bars: how many choices changed per epoch. Strips: the strongest candidate of each choice."""
    candidates = list(dict.fromkeys(c for row in points.winners.values() for c in row if c is not None))
    number = {candidate: i for i, candidate in enumerate(candidates)}
    size = len(candidates)
    scale = [
        [(i + end) / size, colours.get(candidate, "var(--muted)")]
        for i, candidate in enumerate(candidates)
        for end in (0, 1)
    ]
    strips = 17 * len(points.winners)
    height = strips + 90 + 66
    top = 1 - strips / (strips + 90)
    return {
        "data": [
            {
                "type": "bar",
                "x": list(points.epochs),
                "y": list(points.changes),
                "yaxis": "y2",
                "marker": {"color": "var(--series-1)"},
                "hovertemplate": "epoch %{x}: %{y} choices changed<extra></extra>",
            },
            {
                "type": "heatmap",
                "x": list(points.epochs),
                "y": [plain(choice) for choice in points.winners],
                "z": [[None if c is None else number[c] for c in row] for row in points.winners.values()],
                "text": [["" if c is None else plain(c) for c in row] for row in points.winners.values()],
                "zmin": -0.5,
                "zmax": size - 0.5,
                "colorscale": scale,
                "showscale": False,
                "hoverongaps": False,
                "xgap": 1 if len(points.epochs) <= 80 else 0,
                "ygap": 3,
                "hovertemplate": "%{y}<br>epoch %{x}: %{text}<extra></extra>",
            },
        ],
        "layout": _layout(
            height,
            xaxis=_epoch_axis(points.epochs),
            yaxis=_axis(
                "", type="category", autorange="reversed", showgrid=False, domain=[0, 1 - top - 0.01]
            ),
            yaxis2=_axis("changes", domain=[1 - top + 0.02, 1], rangemode="tozero", nticks=4, tickformat="d"),
            bargap=0.25,
        ),
    }


_KINDS = {"derived": "derived", "random": "random controls"}


def _kind(network: TrainedNetwork) -> str:
    return _KINDS.get(network.kind, plain(network.kind))


def control_figure(points: ControlPoints, quantity: str) -> Figure:
    """One dot per network, a row per kind; quantity: "test_accuracy" or "parameters".

    The random controls' mean and standard deviation are a diamond with a bar below their dots.
    """
    accuracy = quantity == "test_accuracy"
    form = ".2%" if accuracy else ".3s"
    rows: dict[str, list[tuple[float, str]]] = {}
    for network in points.networks():
        value = network.test_accuracy if accuracy else network.parameters
        if value is not None:
            rows.setdefault(_kind(network), []).append((value, plain(network.name)))
    colours = {"derived": "var(--series-2)", "random controls": "var(--series-1)"}
    data: list[dict[str, Any]] = []
    for level, (kind, dots) in enumerate(rows.items()):
        colour = colours.get(kind, "var(--muted)")
        # Dots that fall on one another are told apart by a small, regular shift.
        shift = [0.09 * ((i % 3) - 1) if len(dots) > 3 else 0.0 for i in range(len(dots))]
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": kind,
                "x": [value for value, _ in dots],
                "y": [level + s for s in shift],
                "text": [name for _, name in dots],
                "marker": {
                    "color": colour,
                    "size": 15 if kind == "derived" else 10,
                    "symbol": "diamond" if kind == "derived" else "circle",
                    "opacity": 0.9,
                    "line": {"color": "var(--surface)", "width": 1},
                },
                "hovertemplate": f"%{{text}}: %{{x:{form}}}<extra></extra>",
            }
        )
        if kind == "random controls" and accuracy and points.mean is not None:
            bar = {"type": "data", "array": [points.deviation or 0], "color": colour, "thickness": 2}
            data.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": "mean ± std",
                    "x": [points.mean],
                    "y": [level + 0.3],
                    "error_x": {**bar, "width": 6},
                    "marker": {
                        "color": colour,
                        "size": 11,
                        "symbol": "line-ns",
                        "line": {"width": 2.5, "color": colour},
                    },
                    "hovertemplate": "mean %{x:.2%}<extra></extra>",
                }
            )
    axis = _axis(
        "test accuracy" if accuracy else "parameters", tickformat=".1%" if accuracy else ".2s", nticks=6
    )
    if not accuracy:
        axis["rangemode"] = "tozero"
    return {
        "data": data,
        "layout": _layout(
            76 + 62 * max(1, len(rows)),
            xaxis=axis,
            yaxis=_axis(
                "",
                tickvals=list(range(len(rows))),
                ticktext=list(rows),
                range=[len(rows) - 0.4, -0.6],
                showgrid=False,
                fixedrange=True,
                tickfont={"size": 12.5, "color": "var(--ink)"},
            ),
        ),
    }


def training_figures(
    networks: Sequence[tuple[Series, Series]], kinds: Mapping[str, str]
) -> tuple[Figure, Figure]:
    """Training loss and accuracy of every trained network; the derived one stands out."""
    styles = {"derived": ("var(--series-2)", 2.8), "random": ("var(--series-1)", 1.3)}
    figures = []
    for index, (unit, form) in enumerate((("training loss", ".3f"), ("training accuracy", ".1%"))):
        # The derived network last, on top of the others.
        order = sorted(networks, key=lambda pair: kinds.get(pair[0].name) == "derived")
        figure = curves([pair[index] for pair in order], unit, form, height=300)
        seen: set[str] = set()
        for trace, pair in zip(figure["data"], order, strict=True):
            kind = kinds.get(pair[0].name, "")
            colour, width = styles.get(kind, ("var(--muted)", 2.0))
            label = {"random": "random controls"}.get(kind, plain(kind or pair[0].name))
            trace.update(
                mode="lines",
                line={"color": colour, "width": width, "dash": "solid"},
                legendgroup=label,
                name=label,
                showlegend=label not in seen,
            )
            seen.add(label)
        figure["layout"]["hovermode"] = "closest"
        figure["layout"]["showlegend"] = True
        figure["layout"]["margin"]["t"] = 30
        figures.append(figure)
    return figures[0], figures[1]
