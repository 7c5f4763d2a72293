"""An experiment's numbers as one document of plain values: what is written, shown and printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from archgrad.experiment.comparisons import Side, compare_sides, judged_by
from archgrad.experiment.measures import TRUTH, RunRow
from archgrad.experiment.plan import CONTROL, Arm, Plan
from archgrad.experiment.points import Curves
from archgrad.experiment.statistics import LEAST_FOR_INTERVAL, covers, least_seeds, ranks, summary

SUMMARISED = (
    "valid_accuracy",
    "shared_accuracy",
    "test_accuracy",
    "true_accuracy",
    "regret",
    "converged",
    "seconds_to_convergence",
    "stability",
    "entropy",
    "skips",
    "seconds",
)
"""Numbers of a run that are summed up over the seeds."""


def document_of(
    plan: Plan,
    arms: Sequence[Arm],
    rows: Mapping[str, Sequence[RunRow]],
    curves: Mapping[str, Curves | None],
    notes: Sequence[str] = (),
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Everything that can be said of an experiment, finished or not.

    Args:
        plan: what was asked for.
        arms: with the control, in order.
        rows: of each arm, one a seed. curves: of each arm.
        notes: sentences about how it was done.
        about: of the landscape, or of data and space.
    """
    sides = [Side(arm.name, tuple(r for r in rows[arm.name] if r.status == "done")) for arm in arms]
    score = judged_by(sides)
    if score is not None:
        rows = _with_success(plan, rows, score)
        sides = [Side(side.name, tuple(r for r in rows[side.name] if r.status == "done")) for side in sides]
    comparisons = [] if score is None else compare_sides(sides, score, plan.seed)
    return {
        "kind": "network" if plan.landscape is None else "landscape",
        "plan": plan.document(),
        "about": dict(about or {}),
        "score": score,
        "definitions": definitions(plan, score),
        "notes": [*notes, *_remarks(plan, sides, score, len(comparisons))],
        "arms": [
            {
                "name": arm.name,
                "slug": arm.slug,
                "method": arm.method,
                "schedule": arm.schedule,
                "control": arm.is_control,
                "settings": arm.settings,
                **_numbers(rows[arm.name], plan.seed),
            }
            for arm in arms
        ],
        "runs": [row._asdict() for arm in arms for row in rows[arm.name]],
        "comparisons": [c.document() for c in comparisons],
        "ranks": _ranks(sides, score),
        "curves": {arm.name: curves.get(arm.name) for arm in arms},
    }


def definitions(plan: Plan, score: str | None) -> dict[str, str]:
    """What the words of the tables mean, as sentences."""
    unit = "epoch" if plan.landscape is None else "step"
    scores = {
        "true_accuracy": "accuracy of the derived cell in NAS-Bench-201 after 200 epochs (CIFAR-10, test)"
        if plan.landscape is None
        else "1 − the true loss of the strongest architecture"
        + (f" ({plan.landscape_settings.get('truth', TRUTH)})" if plan.landscape == "nasbench201" else ""),
        "test_accuracy": "test accuracy of the derived network, trained from scratch",
        "shared_accuracy": "accuracy of the derived architecture with the supernet's weights, on the part of "
        "the data that drove the search: a proxy, train the networks (--train) for more",
        "valid_accuracy": "validation accuracy of the sampled supernet, which is not that of what is derived",
    }
    success = (
        f"true accuracy at most {100 * plan.within:g} points below the best there is"
        if score == "true_accuracy"
        else "a higher score than the control has with the same seed"
    )
    control = (
        f"the best of {plan.steps:,} random architectures, as many as a search takes steps, by the loss that "
        "is searched"
        if plan.landscape is not None
        else "a supernet trained on uniformly drawn paths for as many epochs as the longest search here, "
        "then as many random architectures as it has epochs, each on the whole validation part with shared "
        "weights: the best of them (Li & Talwalkar 2019)"
    )
    return {
        "score": scores.get(score or "", "no number that all runs have"),
        "converged": f"the first {unit} from which on to the end the mean entropy is at most "
        f"{plan.entropy:.0%} of a uniform choice and the architecture is the last one, for a tenth of the "
        f"recorded {unit}s at least",
        "stability": f"share of choices whose winner is that of the recorded {unit} before, the mean over "
        "the search",
        "success": success,
        "control": control if plan.control else "none was asked for (--no-control)",
    }


def _numbers(rows: Sequence[RunRow], seed: int) -> dict[str, Any]:
    """How many runs there are, and every number summed up over those that are done."""
    from scipy import stats

    done = [row for row in rows if row.status == "done"]
    found: dict[str, Any] = {
        "done": len(done),
        "failed": sum(row.status == "failed" for row in rows),
        "pending": sum(row.status == "pending" for row in rows),
        "reached": sum(row.converged is not None for row in done),
    }
    judged = [row.success for row in done if row.success is not None]
    found["success"] = None
    if judged:
        ends = stats.binomtest(sum(judged), len(judged)).proportion_ci(method="wilson")
        found["success"] = {
            "n": len(judged),
            "share": sum(judged) / len(judged),
            "low": float(ends.low),
            "high": float(ends.high),
        }
    for name in SUMMARISED:
        values = [value for row in done if (value := row.number(name)) is not None]
        found[name] = summary(values, seed)._asdict() if values else None
    return found


def _with_success(plan: Plan, rows: Mapping[str, Sequence[RunRow]], score: str) -> dict[str, list[RunRow]]:
    """The rows, with what is a success where it can be said."""
    control = {r.seed: r.number(score) for r in rows.get(CONTROL, ()) if r.status == "done"}

    def judged(row: RunRow) -> RunRow:
        if row.status != "done":
            return row
        if score == "true_accuracy":
            assert row.regret is not None
            return row._replace(success=row.regret <= plan.within + 1e-12)
        other, own = control.get(row.seed), row.number(score)
        if row.arm == CONTROL or other is None or own is None:
            return row
        return row._replace(success=own > other)

    return {name: [judged(row) for row in found] for name, found in rows.items()}


def _ranks(sides: Sequence[Side], score: str | None) -> dict[str, Any] | None:
    """Of the arms that have runs, over the seeds that all of them have."""
    if score is None:
        return None
    found = {side.name: values for side in sides if (values := side.values(score))}
    common = sorted(set.intersection(*map(set, found.values()))) if found else []
    if len(found) < 2 or len(common) < 2:
        return None
    return ranks({name: [values[s] for s in common] for name, values in found.items()})._asdict()


def _remarks(plan: Plan, sides: Sequence[Side], score: str | None, pairs: int) -> list[str]:
    """What whoever reads the tables has to know."""
    remarks = []
    counts = [len(side.rows) for side in sides if side.rows]
    if pairs and (needed := least_seeds(pairs)) > (least := min(counts)):
        remarks.append(
            f"with {least} seed{'s' * (least > 1)} no difference can be told from luck: for {pairs} "
            f"pair{'s' * (pairs > 1)} a test needs {needed} seeds at least"
        )
    if counts and LEAST_FOR_INTERVAL <= (least := min(counts)) < 10:
        remarks.append(
            f"the 95 % intervals of {least} runs are too narrow: even of normal values only about "
            f"{covers(least):.0%} of such intervals hold the mean"
        )
    if score == "shared_accuracy":
        remarks.append(
            "arms are judged by shared weights, which rank architectures poorly; train what they derive with "
            "--train"
        )
    if plan.landscape is None and score == "valid_accuracy":
        remarks.append("the accuracy of a sampled supernet is not that of the network which is derived")
    return remarks
