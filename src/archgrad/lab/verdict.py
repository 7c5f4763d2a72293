"""What the laboratory found, in plain sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

from archgrad.lab.comparison import LEAST_SEEDS
from archgrad.lab.findings import (
    EXACT,
    Difference,
    Row,
    differences,
    estimators_at,
    level_with,
    main_point,
    ranked,
    schedules_by_sampler,
)
from archgrad.report.quantities import percent

_NAMED = 5  # names in a sentence, at most
_BIASED = 0.01
"""Where an estimator without a bias would look so biased more rarely than this, it is called biased."""
_USUAL = "constant:1"
"""The schedule that a recommendation is measured against."""


def paragraphs(document: Row) -> dict[str, list[str]]:
    """Study -> what it found, in sentences, for the studies that there are."""
    found = {}
    if "searches" in document:
        found["Searches"] = searches(document["searches"])
    if document.get("estimators"):
        found["Estimators"] = estimators(document["estimators"])
    if "schedules" in document:
        found["Schedules"] = schedules(document["schedules"])
    return {study: sentences for study, sentences in found.items() if sentences}


def searches(study: Row) -> list[str]:
    """Who ends with the least regret, by how much, and who cannot be told from it."""
    order = ranked(study)
    best = order[0]
    if best["regret"] is None:
        return ["No search has a finite regret."]
    seeds = best["searches"]
    end = f"regret, {points(best['regret'], best['regret_error'])}"
    share = f"{percent(best['optimum'], 0)} of its {plural(seeds, 'search', 'searches')} at the optimum"
    if len(order) == 1:
        return [f"{best['name']} ends with this {end}, {share}."]
    pairs = differences(study)
    level = level_with(best["name"], [o["name"] for o in order], pairs)
    said = [f"Of {len(order)} contenders {best['name']} ends with the least {end}, {share}."]
    if level:
        said.append(f"Not to be told from it: {listed(level)} ({tested(study)}).")
    behind = next((o["name"] for o in order[1:] if o["name"] not in level), None)
    if behind is not None:
        who = f"The next, {behind}," if not level else f"The first that is clearly behind, {behind},"
        why = "" if level else f" ({tested(study)})"
        said.append(f"{who} has {more(pairs[behind, best['name']])}{why}.")
    elif len(level) + 1 == len(order):
        few = f": fewer than {LEAST_SEEDS} decide nothing" if seeds < LEAST_SEEDS else ""
        said.append(f"More seeds are needed to rank them{few}.")
    return said


def tested(study: Row) -> str:
    """By which test contenders are told from the best, in a few words."""
    count = study["pairs_tested"]
    return f"paired bootstrap, 5 %, corrected for {plural(count, 'pair', 'pairs')}"


def estimators(rows: Sequence[Row]) -> list[str]:
    """Which estimator of the gradient has the least mean squared error."""
    point = main_point(rows)
    order = [row for row in estimators_at(rows, point) if row["mse"] is not None]
    if not order:
        return [f"No estimator has a finite error at {point} logits."]
    exact = [row["name"] for row in order if row["mse"] < EXACT]
    rest = [row for row in order if row["mse"] >= EXACT]
    said = []
    if exact:
        verb = "draws nothing and is" if len(exact) == 1 else "draw nothing and are"
        said.append(f"Of the gradient estimators {listed(exact)} {verb} exact.")
    if rest:
        best = rest[0]
        among = "Of those that draw" if exact else "Of the gradient estimators"
        said.append(
            f"{among}, {best['name']} has the least mean squared error at {point} logits: "
            f"{best['mse']:.3g} times the squared gradient (bias {number(best['bias'], 2)}, "
            f"variance {number(best['variance'], 3)})."
        )
        unbiased = [r for r in rest if is_unbiased(r)]
        if unbiased and unbiased[0] is not best:
            row = unbiased[0]
            said.append(f"Without a measurable bias the least is that of {row['name']}: {row['mse']:.3g}.")
    return said


def schedules(study: Row) -> list[str]:
    """A recommendation for each sampler."""
    pairs = differences(study)
    said = []
    for sampler, rows in schedules_by_sampler(study).items():
        best = next(row for row in rows if row.best)
        if best.outcome["regret"] is None or len(rows) == 1:
            continue
        level = [row.schedule for row in rows if row.level]
        regret = points(best.outcome["regret"], best.outcome["regret_error"])
        text = f"For {sampler} use {best.schedule} (regret {regret})"
        if level:
            text += f"; not to be told from it: {listed(level)}"
        usual = next((r.outcome["name"] for r in rows if r.schedule == _USUAL and not r.best), None)
        gap = pairs.get((usual, best.outcome["name"])) if usual else None
        if gap is not None and gap.corrected == "worse":
            text += f"; {_USUAL} has {more(gap)}"
        said.append(f"{text}.")
    return said


def is_unbiased(row: Row) -> bool:
    """Whether the draws leave it open that there is no bias: of unbiased ones 1 % will seem biased."""
    return row["bias_p"] is not None and row["bias_p"] > _BIASED


def points(value: float | None, error: float | None = None) -> str:
    """A loss in points of 0.01, with as many digits as its standard error supports.

    >>> [points(0.0123456, 0.0004), points(0.0123456), points(None)]
    ['1.235 ± 0.040 points', '1.235 points', 'unknown']
    """
    if value is None:
        return "unknown"
    if value == 0 and not error:
        return "0 points"
    digits = _digits(100 * error) if error else 3
    spread = "" if error is None else f" ± {100 * error:.{digits}f}"
    return f"{100 * value:.{digits}f}{spread} points"


def more(gap: Difference) -> str:
    """A difference above 0 in points with its interval."""
    digits = _digits((gap.high - gap.low) * 100 / 4)
    low, high = (f"{100 * v:.{digits}f}" for v in (gap.low, gap.high))
    return f"{100 * gap.value:.{digits}f} points more (95 % interval {low} to {high})"


def _digits(error: float) -> int:
    """Digits after the point that show two of the error."""
    return min(6, max(2, 1 - math.floor(math.log10(error)))) if error > 0 else 3


def number(value: float | None, digits: int) -> str:
    """A number with significant digits, or a dash."""
    return "–" if value is None else f"{value:.{digits}g}"


def listed(names: Sequence[str]) -> str:
    """Names in a sentence.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    >>> listed(list("abcdefgh"))
    'a, b, c, d, e and 3 more'
    """
    if len(names) > _NAMED + 1:
        return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def plural(count: int, one: str, many: str) -> str:
    """A count with its noun."""
    return f"{count:,} {one if count == 1 else many}"


def tiles(document: Row) -> list[tuple[str, str, str]]:
    """(label, value, note) of the numbers at the top."""
    found = []
    if "searches" in document:
        best = ranked(document["searches"])[0]
        regret = points(best["regret"], best["regret_error"])
        found.append(("least regret", best["name"], regret))
        quick = [o for o in document["searches"]["outcomes"] if o["steps_to_optimum"] is not None]
        sure = [o for o in quick if (o["reached"] or 0.0) >= 0.5]
        if sure:
            first = min(sure, key=lambda o: o["steps_to_optimum"])
            share = f"of the {percent(first['reached'], 0)} that came by it"
            note = f"median {first['steps_to_optimum']:.0f} steps, {share}"
            found.append(("first at the optimum", first["name"], note))
    if document.get("estimators"):
        rows = document["estimators"]
        drawn = [r for r in estimators_at(rows, main_point(rows)) if (r["mse"] or 0.0) >= EXACT]
        if drawn:
            note = (
                f"mean squared error {drawn[0]['mse']:.3g} at {main_point(rows)} logits, of those that draw"
            )
            found.append(("best estimate", drawn[0]["name"], note))
    if "schedules" in document:
        for sampler, schedule_rows in list(schedules_by_sampler(document["schedules"]).items())[:2]:
            best_row = next(row for row in schedule_rows if row.best)
            note = points(best_row.outcome["regret"], best_row.outcome["regret_error"])
            found.append((f"schedule for {sampler}", best_row.schedule, note))
    return found
