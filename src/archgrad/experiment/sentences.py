"""What an experiment says, in sentences and in a table for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archgrad.report.quantities import duration


def shown(value: float | None, form: str = ".2%") -> str:
    """A number as a person reads it.

    >>> shown(0.9412), shown(-0.001), shown(None), shown(-1e-9, "+.2f")
    ('94.12%', '−0.10%', '–', '0.00')
    """
    if value is None:
        return "–"
    text = format(value, form)
    if not text.strip("+-0.%"):  # a zero has no sign
        return text.lstrip("+-")
    return text.replace("-", "−")


def verdict(document: Mapping[str, Any]) -> str:
    """Who is best, from whom it cannot be told, and how the control does."""
    score = document["score"]
    scored = [arm for arm in document["arms"] if score and arm[score]]
    if not scored:
        return (
            "No run has ended yet." if not any(a["done"] for a in document["arms"]) else "Nothing to compare."
        )
    best = max(scored, key=lambda arm: float(arm[score]["mean"]))
    if len(scored) == 1:
        return f"{best['name']}: mean score {shown(best[score]['mean'])}."
    level = [
        arm["name"] for arm in scored if arm is not best and not _told(document, best["name"], arm["name"])
    ]
    sentence = f"The best mean score is that of {best['name']}, {shown(best[score]['mean'])}"
    if not level:
        sentence += (
            "; it is better than every other (permutation test by seed, 5 %, corrected for all pairs)."
        )
    else:
        names = ", ".join(level[:6]) + (f" and {len(level) - 6} more" if len(level) > 6 else "")
        sentence += f"; it cannot be told from {names} (permutation test by seed, 5 %, corrected)."
    control = next((arm for arm in scored if arm["control"]), None)
    if control is None:
        return sentence
    if control is best:
        return sentence + " That is the control: no method here found more than random search does."
    beaten, lost = (
        [
            arm["name"]
            for arm in scored
            if arm is not control
            and _told(document, arm["name"], control["name"])
            and (arm[score]["mean"] > control[score]["mean"]) is better
        ]
        for better in (True, False)
    )
    sentence += f" Random search of equal budget has {shown(control[score]['mean'])}"
    sentence += f"; better than it: {', '.join(beaten)}" if beaten else "; no method is better beyond doubt"
    return sentence + (f"; worse: {', '.join(lost)}." if lost else ".")


def _told(document: Mapping[str, Any], first: str, second: str) -> bool:
    """Whether the two can be told apart."""
    pair = {first, second}
    return any(
        c["verdict"] != "undecided" for c in document["comparisons"] if {c["first"], c["second"]} == pair
    )


def text(document: Mapping[str, Any]) -> str:
    """The tables for a terminal."""
    from archgrad.experiment.page import ordered

    arms, score = ordered(document), document["score"]
    unit = "step" if document["kind"] == "landscape" else "epoch"
    width = max(len(arm["name"]) for arm in arms)
    head = f"{'':<{width}} {'runs':>6} {'score':>8} {'95 % interval':>18} {'median':>8} {'success':>8} "
    lines = [head + f"{'conv.':>6} {unit:>6} {'stable':>7} {'entropy':>8} {'search':>9}"]
    for arm in arms:
        found = arm[score] if score else None
        runs = str(arm["done"]) + (f"+{arm['failed']}f" if arm["failed"] else "")
        ends = "–"
        if found is not None and found["low"] is not None:
            ends = f"{shown(found['low'])} – {shown(found['high'])}"
        lines.append(
            f"{arm['name']:<{width}} {runs:>6} {_of(found, 'mean'):>8} {ends:>18} {_of(found, 'median'):>8} "
            f"{shown(None if arm['success'] is None else arm['success']['share'], '.0%'):>8} "
            f"{_reached(arm):>6} {_of(arm['converged'], 'median', '.0f'):>6} "
            f"{_of(arm['stability'], 'mean', '.1%'):>7} {_of(arm['entropy'], 'mean', '.0%'):>8} "
            f"{duration(arm['seconds'] and arm['seconds']['mean']):>9}"
        )
    lines.append("")
    for key in ("score", "success", "converged"):
        lines.append(f"{key}: {document['definitions'][key]}")
    lines.append("")
    lines.append(verdict(document))
    if document["ranks"] is not None:
        ranks = document["ranks"]
        friedman = "" if ranks["friedman"] is None else f"; Friedman p = {ranks['friedman']:.2g}"
        lines.append(
            "mean ranks: "
            + ", ".join(f"{name} {value:.2f}" for name, value in ranks["mean"].items())
            + f" (critical difference {ranks['critical']:.2f}{friedman})"
        )
    lines += [f"note: {note}" for note in document["notes"]]
    failed = [run for run in document["runs"] if run["status"] == "failed"]
    lines += [f"failed: {run['arm']}, seed {run['seed']}: {run['message']}" for run in failed]
    return "\n".join(lines)


def _of(found: Mapping[str, Any] | None, field: str, form: str = ".2%") -> str:
    return "–" if found is None else shown(found[field], form)


def _reached(arm: Mapping[str, Any]) -> str:
    return f"{arm['reached']}/{arm['done']}" if arm["done"] and not arm["control"] else "–"
