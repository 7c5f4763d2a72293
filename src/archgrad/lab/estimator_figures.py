"""Figures of the gradient estimators: bias beside variance, and the angle to the exact gradient."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from archgrad.lab.figures import (
    CURVES,
    EMPHASISED,
    LEGEND,
    SYMBOLS,
    colour,
    log_axis,
    rounded,
    rows_axis,
)
from archgrad.lab.findings import NORMAL_95, Row, Scale, estimators_at, scale
from archgrad.lab.labels import placed, short
from archgrad.report.figures import Figure, axis, layout, plain

_SIZE = (470.0, 265.0)  # of the picture without its axes, about, for placing names
_DECADES = 6


def variance_scale(rows: Sequence[Row]) -> Scale:
    """One axis of variance for all points; a variance that is rounding only is drawn as 0."""
    return scale((r["variance"] for r in rows), _DECADES)


def scatter_figure(rows: Sequence[Row], order: Sequence[str], point: str, group: str) -> Figure:
    """Bias with its 95 % interval by variance at these logits; rows: of all points, which share axes."""
    found = variance_scale(rows)
    highest = _highest(rows)
    here = [r for r in estimators_at(rows, point) if r["bias"] is not None and r["variance"] is not None]
    here.sort(key=lambda r: order.index(r["name"]))
    places = _places(here, found, highest, order)
    data = _equal_errors(found, highest)
    for row in here:
        rank = order.index(row["name"])
        place = places.get(row["name"])
        data.append(
            {
                "type": "scatter",
                "mode": "markers+text" if place else "markers",
                "name": plain(row["name"]),
                "meta": f"{group}:{rank}",
                "x": rounded([found.at(row["variance"])]),
                "y": rounded([row["bias"]]),
                "error_y": _errors(row),
                "text": [plain(short(row["name"], 26))],
                "textposition": place or "top center",
                "textfont": {"size": 11, "color": colour(rank)},
                "zorder": 100 - min(rank, 99),
                "marker": {
                    "size": 10,
                    "color": colour(rank),
                    "symbol": SYMBOLS[rank // len(CURVES) % len(SYMBOLS)],
                },
                "hovertemplate": _spoken(row),
            }
        )
    return {
        "data": data,
        "layout": layout(
            330,
            xaxis=log_axis(found, "variance of one draw ÷ squared gradient", automargin=False),
            yaxis=axis("bias ÷ gradient", range=[-0.06 * highest, highest]),
            hovermode="closest",
        ),
    }


def _highest(rows: Sequence[Row]) -> float:
    """The top of the axis of bias: every bias is below it, and the usual interval; long ones are cut off."""
    biases = [row["bias"] for row in rows if row["bias"] is not None]
    errors = [row["bias_error"] for row in rows if row["bias_error"] is not None]
    usual = NORMAL_95 * statistics.median(errors) if errors else 0.0
    return 1.08 * (max(biases, default=0.0) + usual) or 1.0


def _errors(row: Row) -> dict[str, Any]:
    half = NORMAL_95 * (row["bias_error"] or 0.0)
    return {
        "type": "data",
        "symmetric": False,
        "array": rounded([half]),
        "arrayminus": rounded([min(half, row["bias"])]),
        "thickness": 1.2,
        "width": 3,
    }


def _spoken(row: Row) -> str:
    tau = "" if row["tau"] is None else f", τ = {row['tau']:g}"
    half = NORMAL_95 * (row["bias_error"] or 0.0)
    return (
        f"<b>{plain(row['name'])}</b>{tau}<br>bias {row['bias']:.3g} ± {half:.2g}"
        f"<br>variance {row['variance']:.3g}<br>mean squared error {row['mse'] or 0.0:.3g}<extra></extra>"
    )


def _places(here: Sequence[Row], found: Scale, highest: float, order: Sequence[str]) -> dict[str, str | None]:
    """Where the names go; those that have no colour at first come last."""

    def pixel(variance: float, bias: float) -> tuple[float, float]:
        across = (0.04 + found.share(variance)) / 1.1  # the margins of `log_axis`
        return _SIZE[0] * across, _SIZE[1] * (1 - bias / highest) / 1.06

    first = [row for row in here if order.index(row["name"]) < EMPHASISED]
    rest = [row for row in here if row not in first]
    names = [short(row["name"], 26) for row in first]
    at = [pixel(row["variance"], row["bias"]) for row in first]
    covered = [pixel(row["variance"], row["bias"]) for row in rest]
    for row in first:  # their intervals
        half = NORMAL_95 * (row["bias_error"] or 0.0)
        ends = max(0.0, row["bias"] - half), min(highest, row["bias"] + half)
        covered += [pixel(row["variance"], ends[0] + i / 8 * (ends[1] - ends[0])) for i in range(9)]
    places = placed(names, at, _SIZE, covered)
    return dict(zip((row["name"] for row in first), places, strict=True)) | {
        row["name"]: "top center" for row in rest
    }


def _equal_errors(found: Scale, highest: float) -> list[dict[str, Any]]:
    """Lines along which bias² + variance is the same power of ten; each ends at that variance."""
    lines = []
    for decade in range(math.ceil(math.log10(found.floor)), math.floor(math.log10(found.top * 10)) + 1):
        error = float(f"1e{decade}")
        top = min(highest, math.sqrt(error))
        heights = [top * i / 30 for i in range(31)]
        pairs = [(max(found.floor, error - h * h), h) for h in heights]
        lines.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": rounded([v for v, _ in pairs]),
                "y": rounded([h for _, h in pairs]),
                "line": {"color": "var(--line)", "width": 1, "dash": "dot"},
                "hoverinfo": "skip",
            }
        )
    return lines


def cosine_figure(rows: Sequence[Row], points: Sequence[str], main: str) -> Figure:
    """Mean cosine of one draw and the exact gradient: a bar at the main logits, marks at the others."""
    order = estimators_at(rows, main) or list(rows)
    names = [row["name"] for row in sorted(order, key=lambda r: -_cosine(r))]
    symbols = iter(("circle-open", "diamond", "cross"))
    data: list[dict[str, Any]] = []
    for point in sorted(points, key=lambda p: p != main):
        found = {row["name"]: row["cosine"] for row in rows if row["point"] == point}
        known = [(i, found[name]) for i, name in enumerate(names) if found.get(name) is not None]
        shared = {
            "name": plain(point),
            "x": rounded(v for _, v in known),
            "y": [i for i, _ in known],
            "text": [plain(names[i]) for i, _ in known],
            "hovertemplate": f"%{{text}}<br>{plain(point)} logits: %{{x:.3f}}<extra></extra>",
        }
        if point == main:
            bar = {"type": "bar", "orientation": "h", "width": 0.62, "textposition": "none"}
            data.append({**bar, **shared, "marker": {"color": "var(--bar)"}})
        else:
            marker = {
                "symbol": next(symbols, "x"),
                "size": 7,
                "color": "var(--series-2)",
                "line": {"width": 1.6, "color": "var(--series-2)"},
            }
            data.append({"type": "scatter", "mode": "markers", **shared, "marker": marker})
    lowest = min([0.0, *(row["cosine"] for row in rows if row["cosine"] is not None)])
    return {
        "data": data,
        "layout": layout(
            max(160, 21 * len(names) + 72),
            xaxis=axis("cosine", range=[lowest - 0.04, 1.04], automargin=False),
            yaxis=rows_axis([short(name, 30) for name in names]),
            showlegend=len(data) > 1,
            legend=LEGEND,
            hovermode="closest",
            margin={"l": 8, "r": 12, "t": 28, "b": 42},
        ),
    }


def _cosine(row: Row) -> float:
    return -2.0 if row["cosine"] is None else float(row["cosine"])
