"""What stands on the laboratory's page: facts, tables and figures, put together from the findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from archgrad.lab import estimator_figures, figures, verdict
from archgrad.lab.findings import (
    EXACT,
    NORMAL_95,
    Row,
    Scale,
    best_schedules,
    common_settings,
    differences,
    estimator_points,
    estimators_at,
    level_with,
    main_point,
    ranked,
    scale,
    schedules_by_sampler,
    split_schedule,
)
from archgrad.lab.reproduce import command
from archgrad.report.figures import Panel

_CURVES = {
    "regret": ("Regret", "of the strongest architecture; mean over the seeds and its 95 % interval"),
    "found": ("Share that found the optimum", "by this step"),
    "entropy": ("Entropy", "mean over the choices"),
    "margin": ("Margin", "winner's probability less the runner-up's"),
    "stability": ("Stability", "choices whose winner is that of the recorded step before"),
}
_SHOWN = 12  # buttons of a legend that are not folded away
_IDLE = ("seed", "data.", "space.", "weights.", "train.", "device.", "derive.", "search.batch_size")
"""Settings that a search on a landscape does not read."""


class Curve(NamedTuple):
    """A button of a legend. rank: place in the order, which gives colour, dash and symbol.

    pressed: in colour at first. shown: not folded away.
    """

    name: str
    rank: int
    colour: str
    dash: str
    pressed: bool
    shown: bool


class Legend(NamedTuple):
    """The buttons that say which curves of the figures of a group have a colour."""

    group: str
    curves: tuple[Curve, ...]
    left_out: int


class OutcomeRow(NamedTuple):
    """A row of the table of searches. whisker: low, mean and high of the regret on the axis, in [0, 1]."""

    outcome: Row
    regret: str
    error: str
    median: str
    level: bool
    whisker: tuple[float, float, float] | None


def page_content(document: Row) -> dict[str, Any]:
    """The variables of the template, and the figures by key."""
    content: dict[str, Any] = {
        "title": f"Laboratory: {document['landscape']['name']}",
        "facts": _facts(document),
        "paragraphs": verdict.paragraphs(document),
        "tiles": verdict.tiles(document),
        "searches": None,
        "estimators": None,
        "schedules": None,
        "left_out": document.get("left_out", []),
        "settings": _settings(document),
        "command": command(document["settings"]),
        "environment": [(k, v) for k, v in document.get("environment", {}).items() if v is not None],
    }
    panels: list[Panel] = []
    if "searches" in document:
        content["searches"] = _searches(document["searches"], panels)
    if "estimators" in document:
        content["estimators"] = _estimators(document, panels)
    if "schedules" in document:
        content["schedules"] = _schedules(document["schedules"], panels)
    content["figures"] = {panel.key: panel.figure for panel in panels if panel.figure is not None}
    return content


def _facts(document: Row) -> list[tuple[str, str]]:
    """What was measured, where and with what, as far as it is known."""
    landscape, settings = document["landscape"], document["settings"]
    environment = document.get("environment", {})
    studied = set(document) & {"searches", "schedules"}
    size = landscape["architectures"]
    facts = {
        "landscape": landscape["name"],
        "architectures": f"{size:,}" if size < 1e9 else f"{size:.3g}",
        "choices": f"{landscape['choices']} with {len(landscape['candidates'])} candidates each",
        "noise of the loss": _flat(settings.get("noise")),
        "noise of a step": settings.get("step_noise") or None,
        "gradient of": "active candidates only" if settings.get("observe") == "active" else None,
        "searches each": f"{settings['seeds']:,}" if studied else None,
        "steps": f"{settings['steps']:,}" if studied else None,
        "draws": f"{settings['draws']:,}" if document.get("estimators") else None,
        "seed": settings.get("seed"),
        "archgrad": environment.get("archgrad"),
        "torch": environment.get("torch"),
        "processor": environment.get("processor"),
        "date": str(environment["started"])[:10] if environment.get("started") else None,
    }
    return [(name, str(value)) for name, value in facts.items() if value is not None]


def _flat(settings: Row | None) -> str | None:
    words = (f"{v}" if key == "name" else f"{key} {v}" for key, v in (settings or {}).items())
    return ", ".join(words) or None


def legend(group: str, order: Sequence[str], pressed: Sequence[str]) -> Legend:
    """The legend of a group of figures whose contenders have the ranks of `order`."""
    curves = tuple(
        Curve(
            name,
            rank,
            figures.colour(rank),
            figures.DASHES[rank // len(figures.CURVES) % len(figures.DASHES)],
            name in pressed,
            rank < _SHOWN or name in pressed,
        )
        for rank, name in enumerate(order[: figures.MOST])
    )
    return Legend(group, curves, max(0, len(order) - figures.MOST))


def _curve_panels(study: Row, order: Sequence[str], group: str, quantities: Sequence[str]) -> list[Panel]:
    return [
        Panel(f"{group}-{q}", *_CURVES[q], figures.curves_figure(study["curves"], order, q, group))
        for q in quantities
    ]


def _searches(study: Row, panels: list[Panel]) -> dict[str, Any]:
    order = [outcome["name"] for outcome in ranked(study)]
    curves = _curve_panels(study, order, "searches", tuple(_CURVES))
    matrix = None
    if study["comparisons"]:
        figure = figures.matrix_figure(order, differences(study))
        matrix = Panel("matrix", "Regret of the row minus that of the column", "", figure)
    panels += [*curves, *([matrix] if matrix else [])]
    rows, axis = outcome_rows(study)
    return {
        "rows": rows,
        "axis": axis,
        "skips": any(row.outcome["skips"] is not None for row in rows),
        "seeds": rows[0].outcome["searches"],
        "pairs": study["pairs_tested"],
        "legend": legend("searches", order, order[: figures.EMPHASISED]),
        "curves": curves,
        "matrix": matrix,
        "matrix_left_out": max(0, len(order) - figures.MOST),
    }


def outcome_rows(study: Row) -> tuple[list[OutcomeRow], Scale]:
    """The outcomes in order of regret, in points, and the scale of their axis."""
    order = ranked(study)
    level = level_with(order[0]["name"], [o["name"] for o in order], differences(study))
    axis = figures.schedule_scale(order)
    errors = [100 * o["regret_error"] for o in order if o["regret_error"]]
    digits = 4 if errors and min(errors) < 0.0005 else 3
    rows = []
    for outcome in order:
        regret, error, median = (outcome.get(k) for k in ("regret", "regret_error", "regret_median"))
        half = NORMAL_95 * (error or 0.0)
        rows.append(
            OutcomeRow(
                outcome,
                "–" if regret is None else f"{100 * regret:.{digits}f}",
                "" if error is None else f"{100 * error:.{digits}f}",
                "–" if median is None else f"{100 * median:.{digits}f}",
                outcome["name"] in level,
                None
                if regret is None
                else (
                    axis.share(100 * max(0.0, regret - half)),
                    axis.share(100 * regret),
                    axis.share(100 * (regret + half)),
                ),
            )
        )
    return rows, axis


def _estimators(document: Row, panels: list[Panel]) -> dict[str, Any]:
    """Ranks are those of the searches where there are such, so that a contender keeps its colour."""
    rows = document["estimators"]
    if not rows:
        return {"points": []}
    points, main = estimator_points(rows), main_point(rows)
    here = [row["name"] for row in estimators_at(rows, main)]
    names = list(dict.fromkeys([*here, *(row["name"] for row in rows)]))
    order = [o["name"] for o in ranked(document["searches"])] if "searches" in document else []
    order = [*order, *(name for name in names if name not in order)]
    scatter = [
        Panel(
            f"estimators-{i}",
            f"Bias and variance, {point} logits",
            "95 % interval",
            estimator_figures.scatter_figure(rows, order, point, "estimators"),
        )
        for i, point in enumerate(points)
    ]
    cosine = Panel(
        "cosine",
        "Cosine of one draw and the exact gradient",
        "mean over the draws",
        estimator_figures.cosine_figure(rows, points, main),
    )
    panels += [*scatter, cosine]
    shown = legend("estimators", order, order[: figures.EMPHASISED])
    curves = tuple(curve for curve in shown.curves if curve.name in names)
    return {
        "points": points,
        "main": main,
        "tables": {point: estimators_at(rows, point) for point in points},
        "exact": EXACT,
        "scatter": scatter,
        "cosine": cosine,
        "legend": shown._replace(curves=curves, left_out=0),
        "largest": {p: scale((r["mse"] for r in estimators_at(rows, p)), 6) for p in points},
    }


def _schedules(study: Row, panels: list[Panel]) -> dict[str, Any]:
    order = [outcome["name"] for outcome in ranked(study)]
    by_sampler = schedules_by_sampler(study)
    shared = figures.schedule_scale(study["outcomes"])
    dots = [
        Panel(f"schedules-{i}", sampler, "95 % interval", figures.schedule_figure(rows, shared))
        for i, (sampler, rows) in enumerate(by_sampler.items())
    ]
    tau, chosen = _temperatures(study), list(
        dict.fromkeys(row.schedule for rows in by_sampler.values() for row in rows if row.best)
    )  # fmt: skip
    warm = Panel(
        "temperature",
        "Temperature τ",
        "in colour: best of a sampler",
        figures.temperature_figure(tau, chosen),
    )
    curves = _curve_panels(study, order, "schedules", ("regret", "found", "entropy"))
    panels += [*dots, warm, *curves]
    rows, axis = outcome_rows(study)
    return {
        "dots": dots,
        "warm": warm,
        "curves": curves,
        "rows": rows,
        "axis": axis,
        "skips": any(row.outcome["skips"] is not None for row in rows),
        "pairs": study["pairs_tested"],
        "best": {next(r for r in rows if r.best).outcome["name"] for rows in by_sampler.values()},
        "legend": legend("schedules", order, best_schedules(study, figures.EMPHASISED)),
    }


def _temperatures(study: Row) -> dict[str, tuple[list[int], list[float]]]:
    """The course of τ of each schedule."""
    found: dict[str, tuple[list[int], list[float]]] = {}
    for outcome in study["outcomes"]:
        curves = study["curves"].get(outcome["name"])
        if curves is not None:
            found.setdefault(split_schedule(outcome)[1], (curves["steps"], curves["tau"]))
    return found


def _settings(document: Row) -> dict[str, Any]:
    """What all contenders share, and what is each one's own, without what a landscape does not read."""
    outcomes = {
        outcome["name"]: outcome
        for study in ("searches", "schedules")
        if study in document
        for outcome in document[study]["outcomes"]
    }
    common, own = common_settings(list(outcomes.values()))

    def read(settings: Mapping[str, Any]) -> dict[str, str]:
        return {key: _shown(v) for key, v in settings.items() if not f"{key}".startswith(_IDLE)}

    return {"common": read(common), "own": {name: read(settings) for name, settings in own.items()}}


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)
