"""The laboratory's results as text for a terminal, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from archgrad.lab.comparison import LEAST_SEEDS
from archgrad.lab.findings import differences, level_with, ranked
from archgrad.lab.verdict import tested


def text(document: Mapping[str, Any]) -> str:
    """The tables of a lab document, and what the pairs say."""
    blocks = []
    if "estimators" in document:
        blocks.append(_estimators(document["estimators"]))
    for title in ("searches", "schedules"):
        if title in document:
            blocks.append(_outcomes(title, document[title]))
            control = 100 * document["landscape"]["regret_of_random"]
            blocks[-1] += f"\ncontrol: an architecture drawn at random has {control:.3f} points of regret"
    if document["left_out"]:
        blocks.append("left out:\n" + "\n".join(f"  {line}" for line in document["left_out"]))
    return "\n\n".join(blocks)


def verdict(study: Mapping[str, Any]) -> str:
    """Who has least regret, and who cannot be told from it."""
    ordered = ranked(study)
    best, seeds = ordered[0]["name"], ordered[0]["searches"]
    if len(ordered) == 1:
        return f"{best}: mean regret {100 * ordered[0]['regret']:.3f} points"
    level = level_with(best, [row["name"] for row in ordered], differences(study))
    if not level:
        return f"least regret: {best}, better than every other ({tested(study)})"
    shown = ", ".join(level[:6]) + (f" and {len(level) - 6} more" if len(level) > 6 else "")
    few = f"; fewer than {LEAST_SEEDS} seeds decide nothing" if seeds < LEAST_SEEDS else ""
    return f"least regret: {best}; not to be told from it ({tested(study)}{few}): {shown}"


def csv_files(document: Mapping[str, Any]) -> dict[str, str]:
    """File name -> content: a table each for estimators, outcomes, comparisons and curves."""
    files = {}
    if document.get("estimators"):
        files["estimators.csv"] = _csv(document["estimators"])
    for title in ("searches", "schedules"):
        if title not in document:
            continue
        study = document[title]
        rows = [{k: v for k, v in o.items() if k != "settings"} for o in study["outcomes"]]
        for row in rows:
            row["regret_lower_quartile"], row["regret_upper_quartile"] = row.pop("regret_quartiles")
        files[f"{title}.csv"] = _csv(rows)
        if study["comparisons"]:
            files[f"{title}_comparisons.csv"] = _csv(study["comparisons"])
        files[f"{title}_curves.csv"] = _csv(
            [
                {
                    "name": name,
                    "step": step,
                    "tau": curves["tau"][t],
                    "found": curves["found"][t],
                    **{
                        f"{quantity}_{statistic}": values[t]
                        for quantity in ("regret", "entropy", "margin", "stability")
                        for statistic, values in curves[quantity].items()
                    },
                }
                for name, curves in study["curves"].items()
                for t, step in enumerate(curves["steps"])
            ]
        )
    return files


def _estimators(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "estimators: no contender has independent logits, so there is no gradient to compare"
    width = max(len(r["name"]) for r in rows)
    lines = []
    for point in dict.fromkeys(r["point"] for r in rows):
        lines.append(
            f"estimators at {point!r} logits, {rows[0]['draws']:,} draws, relative to the exact gradient"
        )
        titles = (
            ("τ", 6),
            ("bias", 7),
            ("±", 6),
            ("p of 0", 7),
            ("variance", 10),
            ("MSE", 10),
            ("cosine", 7),
            ("of mean", 8),
        )
        lines.append(" " * width + "".join(f" {title:>{size}}" for title, size in titles))
        for r in rows:
            if r["point"] == point:
                tau = "–" if r["tau"] is None else f"{r['tau']:g}"
                lines.append(
                    f"{r['name']:<{width}} {tau:>6} {r['bias']:>7.3f} {r['bias_error']:>6.3f} "
                    f"{r['bias_p']:>7.2g} {r['variance']:>10.3g} {r['mse']:>10.3g} {r['cosine']:>7.3f} "
                    f"{r['mean_cosine']:>8.3f}"
                )
        lines.append("")
    return "\n".join(lines).rstrip()


def _outcomes(title: str, study: Mapping[str, Any]) -> str:
    rows = ranked(study)
    width = max(len(r["name"]) for r in rows)
    skips = any(r["skips"] is not None for r in rows)
    lines = [
        f"{title}: {rows[0]['searches']:,} seeds each; regret in points of 0.01 loss, after the last step",
        f"{'':<{width}} {'regret':>8} {'±':>6} {'optimum':>8} {'top 1%':>7} {'reached':>8} {'steps':>6} "
        f"{'entropy':>8} {'margin':>7} {'stable':>7}" + (f" {'skips':>6}" if skips else "") + f" {'s':>6}",
    ]
    for r in rows:
        steps = "–" if r["steps_to_optimum"] is None else f"{r['steps_to_optimum']:.0f}"
        lines.append(
            f"{r['name']:<{width}} {100 * r['regret']:>8.3f} {100 * r['regret_error']:>6.3f} "
            f"{r['optimum']:>8.1%} {r['top']:>7.1%} {r['reached']:>8.1%} {steps:>6} {r['entropy']:>8.3f} "
            f"{r['margin']:>7.3f} {r['stability']:>7.1%}"
            + (f" {r['skips']:>6.1%}" if skips else "")
            + f" {r['seconds']:>6.1f}"
        )
    return "\n".join([*lines, verdict(study)])


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    target = io.StringIO()
    writer = csv.DictWriter(target, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return target.getvalue()
