"""The page of an experiment: one HTML file without a script, that opens offline, from its document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from archgrad.atomic import write_text
from archgrad.errors import MissingExtra
from archgrad.experiment.figures import (
    DASHES,
    ON_PAPER,
    Ink,
    axis_svg,
    curves_svg,
    rank_svg,
    seeds_svg,
    span,
)
from archgrad.experiment.reproduce import command
from archgrad.experiment.sentences import shown, verdict
from archgrad.lab.figures import CURVES
from archgrad.report.quantities import duration

MATRIX = 14
"""Arms in the table of differences, at most: the best."""
_CURVES = (
    ("accuracy", "Accuracy", ".1%"),
    ("entropy", "Entropy, relative to uniform", ".0%"),
    ("stability", "Stability", ".0%"),
)


def write_page(document: Mapping[str, Any], target: Path) -> None:
    """Write the page; it is replaced in one step.

    Args:
        document: of `archgrad.experiment.document`, with "environment".
        target: the HTML file.

    Raises:
        MissingExtra: jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError:
        raise MissingExtra("report", "jinja2", "the experiment's page") from None
    report, own = resources.files("archgrad.report"), resources.files("archgrad.experiment")
    style = "".join(
        (folder / name).read_text(encoding="utf-8")
        for folder, name in ((report, "page.css"), (own, "experiment.css"))
    )
    template = (own / "experiment.html.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.from_string(template).render(
        **page_content(document),
        style=style,
        light="".join(_declared(i, c.light) for i, c in enumerate(CURVES)),
        dark="".join(_declared(i, c.dark) for i, c in enumerate(CURVES)),
        shown=shown,
        duration=duration,
    )
    write_text(target, page)


def rank_picture(document: Mapping[str, Any]) -> str | None:
    """The rank plot as a file of its own; None where there are no ranks."""
    if document["ranks"] is None:
        return None
    return rank_svg(document["ranks"], _control(document), ON_PAPER) + "\n"


def page_content(document: Mapping[str, Any]) -> dict[str, Any]:
    """The variables of the template."""
    score, arms, ranks = document["score"], ordered(document), document["ranks"]
    colours = {arm["name"]: _colours(i) for i, arm in enumerate(arms)}
    runs = document["runs"]
    landscape = document["kind"] == "landscape"
    values = {
        arm["name"]: [r[score] for r in runs if r["arm"] == arm["name"] and r["status"] == "done"]
        if score
        else []
        for arm in arms
    }
    found = [v for each in values.values() for v in each]
    axis = span(found) if found else None
    rows = []
    for arm in arms:
        tone = colours[arm["name"]][0]
        name, summed = arm["name"], arm[score] if score else None
        ends = None if summed is None or summed["low"] is None else (summed["low"], summed["high"])
        rows.append(
            {
                "arm": arm,
                "score": summed,
                "seeds": seeds_svg(values[name], ends, axis, tone) if axis and values[name] else "",
                "colour": tone,
            }
        )
    unit = "step" if landscape else "epoch"
    accuracy = "of the strongest architecture, true" if landscape else "validation, of the sampled supernet"
    notes = {"accuracy": accuracy, "entropy": "mean over the choices", "stability": "kept winners"}
    curves = [
        (title, notes[quantity], picture)
        for quantity, title, form in _CURVES
        if (picture := curves_svg(_known(document), quantity, colours, form, unit)) is not None
    ]
    return {
        "title": _title(document),
        "facts": _facts(document),
        "verdict": verdict(document),
        "rows": rows,
        "axis": axis_svg(axis, ".1%" if axis.high - axis.low > 0.02 else ".2%") if axis else "",
        "unit": unit,
        "ranks": ranks and rank_svg(ranks, _control(document), Ink()),
        "rank_numbers": ranks,
        "matrix": _matrix([arm["name"] for arm in arms][:MATRIX], document["comparisons"]),
        "pairs": document["comparisons"],
        "curves": curves,
        "legend": [(name, *colours[name]) for name in colours],
        "definitions": document["definitions"],
        "notes": document["notes"],
        "failed": [run for run in runs if run["status"] == "failed"],
        "runs": runs,
        "settings": {arm["name"]: _flat(arm["settings"]) for arm in arms},
        "command": command(document),
        "environment": [(k, v) for k, v in document.get("environment", {}).items() if v is not None],
        "landscape": landscape,
    }


def ordered(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The arms, the best mean score first, those without a score last."""
    score = document["score"]

    def place(arm: Mapping[str, Any]) -> float:
        summed = arm[score] if score else None
        return float("inf") if summed is None else -float(summed["mean"])

    return sorted(document["arms"], key=place)


def _matrix(
    names: Sequence[str], comparisons: Sequence[Mapping[str, Any]]
) -> list[tuple[str, list[dict[str, Any] | None]]]:
    """Row minus column, for every two of the arms."""
    cells: dict[tuple[str, str], dict[str, Any]] = {}
    turned = {"better": "worse", "worse": "better", "undecided": "undecided"}
    for c in comparisons:
        value, p, verdict_of = c["score"]["difference"], c["permutation_holm"], c["verdict"]
        cells[c["first"], c["second"]] = {"value": value, "p": p, "verdict": verdict_of}
        cells[c["second"], c["first"]] = {"value": -value, "p": p, "verdict": turned[verdict_of]}
    return [(row, [cells.get((row, column)) for column in names]) for row in names] if cells else []


def _title(document: Mapping[str, Any]) -> str:
    about = document["about"]
    if document["kind"] == "landscape":
        return f"Experiment on {about['name']}"
    return f"Experiment: {about['space']} on {about['data']}"


def _facts(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    plan, about, arms = document["plan"], document["about"], document["arms"]
    done, failed = (sum(arm[key] for arm in arms) for key in ("done", "failed"))
    facts = [
        ("arms", str(len(arms))),
        ("seeds", f"{plan['seeds']} each"),
        ("runs", f"{done} of {len(document['runs'])} done" + (f", {failed} failed" if failed else "")),
    ]
    if document["kind"] == "landscape":
        size = len(about["candidates"]) ** about["choices"]
        return [*facts, ("steps", f"{plan['steps']:,}"), ("architectures", f"{size:,}")]
    shape = "×".join(map(str, about["shape"]))
    return [*facts, ("images", f"{about['images']:,} of {shape}"), ("classes", str(about["classes"]))]


def _control(document: Mapping[str, Any]) -> str | None:
    return next((arm["name"] for arm in document["arms"] if arm["control"]), None)


def _known(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {name: curves for name, curves in document["curves"].items() if curves}


def _colours(rank: int) -> tuple[str, str, str]:
    """Line, band and dash of an arm."""
    k = rank % len(CURVES)
    return f"var(--curve-{k})", f"var(--curve-band-{k})", DASHES[rank // len(CURVES) % len(DASHES)]


def _declared(number: int, colour: str) -> str:
    channels = ",".join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))
    return f"--curve-{number}:{colour};--curve-band-{number}:rgba({channels},0.14);"


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found
