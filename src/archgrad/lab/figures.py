"""The laboratory's figures as plotly dictionaries, in the manner of the report's.

A trace with ``meta: "group:rank"`` follows the legend of buttons of that group: in colour where its button
is pressed, else grey.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from archgrad.lab.findings import NORMAL_95, Difference, Row, Scale, ScheduleRow, scale
from archgrad.lab.labels import short
from archgrad.report.figures import Figure, axis, layout, plain
from archgrad.report.palette import Colour

CURVES = (
    Colour("#005bbe", "#4b83c5"),
    Colour("#b23c07", "#d66b1d"),
    Colour("#239a64", "#2fdc88"),
    Colour("#89306e", "#fbb6b5"),
    Colour("#c59722", "#c2ee54"),
    Colour("#6ea7c1", "#cdb7dc"),
    Colour("#4135d1", "#808bf9"),
    Colour("#924031", "#d16547"),
)
"""Colours of the ranks, chosen by a search that kept them apart for common colour-vision deficiencies."""
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross")
EMPHASISED = 6
"""Contenders that have a colour at first."""
MOST = 40
"""Contenders in a figure, at most: the best."""
_UNITS = {"regret": 100.0}  # points of 0.01 loss; other quantities as they are
_PERCENT = ("stability", "found")
LEGEND = {
    "orientation": "h",
    "x": 0,
    "y": 1.0,
    "xanchor": "left",
    "yanchor": "bottom",
    "bgcolor": "rgba(0,0,0,0)",
}


def colour(rank: int) -> str:
    """The CSS variable of a rank's colour."""
    return f"var(--curve-{rank % len(CURVES)})"


def rounded(values: Iterable[float | None], digits: int = 4) -> list[float | None]:
    """Numbers with significant digits: a page needs no more, and is smaller."""
    return [None if v is None else float(f"{v:.{digits}g}") for v in values]


def rows_axis(labels: Sequence[str], **more: Any) -> dict[str, Any]:
    """An axis of names from top to bottom; row i is at y = i."""
    return axis(
        tickvals=list(range(len(labels))),
        ticktext=[plain(label) for label in labels],
        range=[len(labels) - 0.5, -0.5],
        showgrid=False,
        **more,
    )


def log_axis(found: Scale, title: str = "", **more: Any) -> dict[str, Any]:
    """A logarithmic axis whose lowest tick is 0."""
    low, high = math.log10(found.floor), math.log10(max(found.top, found.floor * 10))
    decades = range(math.floor(low) + 1, math.ceil(high) + 1)
    step = 1 if len(decades) <= 6 else 2
    clear = low + 0.1 * (high - low)  # the lowest decade would run into the 0
    marks = [float(f"1e{d}") for d in decades if (d - decades[-1]) % step == 0 and d > clear]
    return axis(
        title,
        type="log",
        tickvals=[found.floor, *marks],
        ticktext=["0", *(f"{m:g}" for m in marks)],
        range=[low - 0.04 * (high - low), high + 0.06 * (high - low)],
        **more,
    )


def curves_figure(curves: Mapping[str, Row], order: Sequence[str], quantity: str, group: str) -> Figure:
    """A quantity by step, a curve for each contender in order of rank; regret with its 95 % band."""
    unit = _UNITS.get(quantity, 1.0)
    shown = [name for name in order if name in curves][:MOST]
    bands = quantity == "regret"
    found = scale([unit * v for n in shown for v in _mean(curves[n], quantity) if v is not None])
    data: list[dict[str, Any]] = []
    for name in shown:
        rank = order.index(name)
        steps = list(curves[name]["steps"])
        values = [None if v is None else unit * v for v in _mean(curves[name], quantity)]
        if bands:
            data.append(_band(curves[name], steps, found, rank, group))
            values = [found.at(v) for v in values]
        form = ".1%" if quantity in _PERCENT else f".{max(3, found.digits)}f" if bands else ".3f"
        data.append(
            {
                "type": "scatter",
                "mode": "lines" if len(steps) > 1 else "markers",
                "name": plain(name),
                "meta": f"{group}:{rank}",
                "x": steps,
                "y": rounded(values),
                "zorder": MOST - min(rank, MOST - 1),
                "line": {
                    "color": colour(rank),
                    "width": 2,
                    "dash": DASHES[rank // len(CURVES) % len(DASHES)],
                },
                "marker": {"color": colour(rank), "size": 6},
                "hovertemplate": f"{plain(name)}<br>step %{{x}}: %{{y:{form}}}<extra></extra>",
            }
        )
    figure = _by_step(data, 320 if bands else 230)
    figure["layout"]["yaxis"] = _values_axis(quantity, figure, found)
    return figure


def _values_axis(quantity: str, figure: Figure, found: Scale) -> dict[str, Any]:
    """The axis of a quantity; that of regret has another form to change to."""
    if quantity != "regret":
        return axis(tickformat=".0%" if quantity in _PERCENT else "", rangemode="tozero")
    forms = {"logarithmic": log_axis(found), "linear": axis(rangemode="tozero")}
    figure["layout"]["meta"] = {"axes": forms}
    return forms["logarithmic"]


def _mean(curves: Row, quantity: str) -> Sequence[float | None]:
    values: Any = curves[quantity]
    found: Sequence[float | None] = values["mean"] if isinstance(values, Mapping) else values
    return found


def _band(curves: Row, steps: Sequence[int], found: Scale, rank: int, group: str) -> dict[str, Any]:
    """The area between the ends of the interval, once around."""
    edges = [
        (step, found.at(100 * low), found.at(100 * high))
        for step, low, high in zip(steps, curves["regret"]["low"], curves["regret"]["high"], strict=True)
        if low is not None and high is not None
    ]
    return {
        "type": "scatter",
        "mode": "lines",
        "meta": f"{group}:{rank}",
        "x": [e[0] for e in edges] + [e[0] for e in reversed(edges)],
        "y": rounded([e[2] for e in edges] + [e[1] for e in reversed(edges)]),
        "fill": "toself",
        "fillcolor": f"var(--curve-band-{rank % len(CURVES)})",
        "line": {"width": 0},
        "hoverinfo": "skip",
    }


def _by_step(data: list[dict[str, Any]], height: int, **more: Any) -> Figure:
    steps = axis("step", showgrid=False, automargin=False, nticks=8, rangemode="tozero")
    return {"data": data, "layout": layout(height, xaxis=steps, hovermode="closest", **more)}


def matrix_figure(order: Sequence[str], pairs: Mapping[tuple[str, str], Difference]) -> Figure:
    """Regret of the row minus that of the column. Undecided pairs have a sign of their own and no colour."""
    shown = list(order)[:MOST]
    decided = scale(abs(100 * d.value) for d in pairs.values() if d.verdict != "undecided")
    colours: list[list[float | None]] = []
    texts: list[list[str]] = []
    hovers: list[list[str]] = []
    for row in shown:
        found = [pairs.get((row, column)) for column in shown]
        colours.append([_intensity(d, decided) for d in found])
        texts.append([_cell(d, len(shown)) for d in found])
        hovers.append([_spoken(d, row, column) for d, column in zip(found, shown, strict=True)])
    numbers = [str(i + 1) for i in range(len(shown))]
    labels = [f"{short(name, 34)}  {i + 1}" for i, name in enumerate(shown)]
    size = 30 if len(shown) <= 12 else 24 if len(shown) <= 20 else 19
    heat = {
        "type": "heatmap",
        "x": list(range(len(shown))),
        "y": list(range(len(shown))),
        "z": colours,
        "zmin": -1,
        "zmax": 1,
        "colorscale": [
            [0, "var(--better)"], [0.38, "var(--better-less)"], [0.5, "var(--undecided)"],
            [0.62, "var(--worse-less)"], [1, "var(--worse)"],
        ],
        "showscale": False,
        "text": texts,
        "texttemplate": "%{text}",
        "hovertext": hovers,
        "hovertemplate": "%{hovertext}<extra></extra>",
        "hoverongaps": False,
        "xgap": 1,
        "ygap": 1,
    }  # fmt: skip
    columns = axis(
        side="top", tickvals=list(range(len(shown))), ticktext=numbers, showgrid=False, automargin=False
    )
    margins = {"l": 8, "r": 12, "t": 24, "b": 8}
    return {
        "data": [heat],
        "layout": layout(size * len(shown) + 32, xaxis=columns, yaxis=rows_axis(labels), margin=margins),
    }


def _intensity(found: Difference | None, decided: Scale) -> float | None:
    """Signed, so that every decided pair has a colour and large differences the strongest."""
    if found is None:
        return None
    if found.verdict == "undecided":
        return 0.0
    share = 0.24 + 0.76 * decided.share(abs(100 * found.value))
    return round(math.copysign(share, found.value), 3)


def _cell(found: Difference | None, count: int) -> str:
    if found is None:
        return ""
    if found.verdict == "undecided":
        return "≈"
    return f"{100 * found.value:+.2g}".replace("-", "−") if count <= 8 else ""


def _spoken(found: Difference | None, row: str, column: str) -> str:
    if found is None:
        return plain(row) if row == column else f"{plain(row)} and {plain(column)}: not measured"
    value, low, high = (f"{100 * v:+.3g}".replace("-", "−") for v in (found.value, found.low, found.high))
    ends = (
        f"95 % interval {low} to {high}" if math.isfinite(found.high) else "too few seeds differ to say more"
    )
    together = "" if found.corrected == found.verdict else ", but not among so many pairs"
    return (
        f"{plain(row)}<br>minus {plain(column)}:<br><b>{value}</b> points, {ends}"
        f"<br>less regret in {100 * found.wins:.0f} % of the seeds<br>{found.verdict}{together}"
    )


def schedule_figure(rows: Sequence[ScheduleRow], found: Scale) -> Figure:
    """Regret of the schedules of one sampler with 95 % intervals, from top to bottom in their order."""
    kinds = (
        ("least regret", "var(--series-1)", "circle", lambda row: row.best),
        ("not to be told from it", "var(--series-1)", "circle-open", lambda row: row.level),
        ("worse", "var(--muted)", "circle", lambda row: not (row.best or row.level)),
    )
    data = []
    for name, tone, symbol, belongs in kinds:
        chosen = [
            (i, row) for i, row in enumerate(rows) if belongs(row) and row.outcome["regret"] is not None
        ]
        if not chosen:
            continue
        ends = [_interval(row.outcome) for _, row in chosen]
        x = [found.at(value) or found.floor for value, _, _ in ends]
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "x": rounded(x),
                "y": [i for i, _ in chosen],
                "error_x": {
                    "type": "data",
                    "symmetric": False,
                    "array": rounded(max(0.0, high - at) for at, (_, _, high) in zip(x, ends, strict=True)),
                    "arrayminus": rounded(
                        max(0.0, at - max(found.floor, low)) for at, (_, low, _) in zip(x, ends, strict=True)
                    ),
                    "thickness": 1.4,
                    "width": 3,
                    "color": tone,
                },
                "marker": {"size": 9, "symbol": symbol, "color": tone, "line": {"width": 2, "color": tone}},
                "text": [
                    f"{plain(row.schedule)}: {value:.3g} points ({max(0.0, low):.3g} to {high:.3g})"
                    for (_, row), (value, low, high) in zip(chosen, ends, strict=True)
                ],
                "hovertemplate": "%{text}<extra></extra>",
            }
        )
    return {
        "data": data,
        "layout": layout(
            20 * len(rows) + 60,
            xaxis=log_axis(found, "regret, points", automargin=False),
            yaxis=rows_axis([short(row.schedule, 24) for row in rows]),
            hovermode="closest",
        ),
    }


def _interval(outcome: Row) -> tuple[float, float, float]:
    """Regret in points and the ends of its 95 % interval, by the normal distribution."""
    value, error = 100 * outcome["regret"], 100 * NORMAL_95 * (outcome["regret_error"] or 0.0)
    return value, value - error, value + error


def schedule_scale(outcomes: Sequence[Row]) -> Scale:
    """One scale for the schedules of all samplers, their intervals within."""
    known = [_interval(o) for o in outcomes if o["regret"] is not None]
    found = scale([value for value, _, _ in known])
    return found._replace(top=max([found.top, *(high for _, _, high in known)]))


def temperature_figure(
    tau: Mapping[str, tuple[Sequence[int], Sequence[float]]], best: Sequence[str]
) -> Figure:
    """Temperature by step; tau: schedule -> (steps, τ). Those in `best` have a colour and a name."""
    data = []
    for name in sorted(tau, key=lambda n: n in best):
        steps, values = tau[name]
        rank = best.index(name) if name in best else None
        data.append(
            {
                "type": "scatter",
                "mode": "lines" if len(steps) > 1 else "markers",
                "name": plain(name),
                "x": list(steps),
                "y": rounded(values),
                "line": {"width": 1.2 if rank is None else 2.6,
                         "color": "var(--faint)" if rank is None else colour(rank)},
                "showlegend": rank is not None,
                "hovertemplate": f"{plain(name)}<br>step %{{x}}: τ = %{{y:.3g}}<extra></extra>",
            }
        )  # fmt: skip
    figure = _by_step(data, 320, showlegend=True)
    figure["layout"]["legend"] = LEGEND
    figure["layout"]["margin"]["t"] = 30
    figure["layout"]["yaxis"] = axis(type="log", dtick=1, tickformat="~g", showgrid=False)
    return figure
