"""Figures of networks trained from scratch: the derived one beside its controls, and how they learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from archgrad.report.figures import Figure, axis, curves, layout, plain
from archgrad.report.points import ControlPoints, Series, TrainedNetwork

_KINDS = {"derived": "derived", "random": "random controls"}


def _kind(network: TrainedNetwork) -> str:
    return _KINDS.get(network.kind, plain(network.kind))


def _accuracy_range(points: ControlPoints) -> list[float]:
    """From the lowest to the highest accuracy with some room; at least a point wide, for a network alone."""
    known = [n.test_accuracy for n in points.networks() if n.test_accuracy is not None]
    if points.mean is not None and points.deviation is not None:
        known += [points.mean - points.deviation, points.mean + points.deviation]
    room = max(0.005, 0.1 * (max(known) - min(known)))
    return [min(known) - room, max(known) + room]


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
        if kind == "random controls" and accuracy and points.deviation is not None:
            bar = {"type": "data", "array": [points.deviation], "color": colour, "thickness": 2}
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
    values = axis(tickformat=".1%" if accuracy else ".2s", nticks=5, automargin=False)
    if accuracy:
        values["range"] = _accuracy_range(points)
    else:
        values["rangemode"] = "tozero"
    return {
        "data": data,
        "layout": layout(
            40 + 62 * max(1, len(rows)),
            xaxis=values,
            margin={"l": 8, "r": 12, "t": 4, "b": 26},
            yaxis=axis(
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
    for index, form in enumerate((".3f", ".1%")):
        # The derived network last, on top of the others.
        order = sorted(networks, key=lambda pair: kinds.get(pair[0].name) == "derived")
        figure = curves([pair[index] for pair in order], form, height=270)
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
