"""Heat maps over epochs: the probabilities of the candidates, and the strongest candidate of each choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from archgrad.architecture import Edge
from archgrad.report.figures import Figure, axis, epoch_axis, layout, plain
from archgrad.report.points import ProbabilityRow, StabilityPoints

COLOUR_BAR = {
    "title": {"text": "probability", "font": {"size": 11, "color": "var(--muted)"}, "side": "right"},
    "thickness": 9,
    "outlinewidth": 0,
    "tickfont": {"size": 11, "color": "var(--muted)"},
}
SCALE = [[i / 4, f"var(--scale-{i})"] for i in range(5)]
"""Of numbers from 0 to the top."""


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
    in all figures. detailed: one choice, its candidates named, and the colour bar.
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
    height = round(row_height * len(labels)) + 52
    first, last = min(epochs), max(epochs)
    edge = first - 0.5 - 0.022 * (last - first + 1)
    if detailed:
        tick_values, tick_text = list(range(len(labels))), [plain(row.candidate) for row in rows]
    else:
        tick_values = [indices[len(indices) // 2] for indices in ticks.values()]
        # The cell is in the title of the figure.
        tick_text = [plain(choice.partition("/")[2] if Edge.parse(choice) else choice) for choice in ticks]
    return {
        "data": [
            {
                "type": "heatmap",
                "x": list(epochs),
                "y": labels,
                "z": table,
                "zmin": 0,
                "zmax": largest,
                "colorscale": SCALE,
                "showscale": detailed,
                "colorbar": COLOUR_BAR,
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
        "layout": layout(
            height,
            xaxis=epoch_axis(epochs, range=[2 * edge - first + 0.5, last + 0.5]),
            yaxis=axis(
                "",
                type="category",
                range=[len(labels) - 0.5, -0.5],
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
    strips, bars, gap, margins = 17 * len(points.winners), 80, 14, 50
    share = strips / (strips + gap + bars)
    whole = {"dtick": 1} if max(points.changes) < 5 else {"nticks": 4}
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
        "layout": layout(
            strips + gap + bars + margins,
            xaxis=epoch_axis(points.epochs),
            yaxis=axis(type="category", autorange="reversed", showgrid=False, domain=[0, share]),
            yaxis2=axis("changes", domain=[1 - share * bars / strips, 1], rangemode="tozero", **whole),
            bargap=0.25,
        ),
    }
