"""Run an experiment, or what is left of it, and write what was found."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from archgrad.atomic import write_text
from archgrad.errors import Stopped, UserError
from archgrad.experiment.arms_on_data import Work, keep_arms, work_of
from archgrad.experiment.comparisons import NESTED, Comparison
from archgrad.experiment.document import document_of
from archgrad.experiment.landscape import run_on_landscape
from archgrad.experiment.measures import RunCurves, RunRow, read_curves, read_run
from archgrad.experiment.plan import Plan
from archgrad.experiment.points import Curves, curves_of_runs
from archgrad.experiment.runner import LOG, run_all, shares
from archgrad.parts import differences
from archgrad.progress import Progress, Silent
from archgrad.runs import Run, environment, finite

DOCUMENT = "experiment.json"
_OURS = {"runs", "arms", LOG, "runs.csv", "comparison.csv", "ranks.svg", "experiment.html"}


def experiment_run(
    plan: Plan, out: Path | str, *, jobs: int | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Do the runs that are not done yet, and compare the arms.

    The folder gets ``experiment.json``, ``runs.csv``, ``comparison.csv``, ``ranks.svg``, ``experiment.html``,
    and the runs below ``runs``. The same plan goes on with an experiment that was stopped; more seeds,
    methods or schedules go on with one that is finished. Runs that failed are tried again.

    Args:
        plan: what is asked for.
        out: the folder.
        jobs: processes at once, of an experiment on networks; by default one a core, on a GPU one.
        progress: where to show it.

    Returns:
        the content of ``experiment.json``.

    Raises:
        UserError: anything wrong with the plan or the folder.
        Stopped: Ctrl-C or SIGTERM; what was found so far is written.
        MissingExtra: jinja2 is not installed; the other files are there by then.
    """
    folder, progress = Path(out), progress or Silent()
    _check_folder(folder, plan)
    if plan.landscape is not None:
        if jobs is not None:
            raise UserError("on a landscape all seeds of a method are one computation: leave --jobs out")
        arms, found, about = run_on_landscape(plan, folder / "arms", progress)
        document = document_of(
            plan,
            arms,
            {name: rows for name, (rows, _) in found.items()},
            {name: curves for name, (_, curves) in found.items()},
            about=about,
        )
        return _write(folder, document)
    work = work_of(plan, folder)
    processes, threads = shares(jobs, len(work.jobs), work.accelerator, work.threads)
    keep_arms(folder, work.arms)
    waiting = {f"{arm}, seed {seed}": job for (arm, seed), job in work.jobs.items() if not job.done}
    progress.say(
        f"  {len(work.jobs)} runs, {len(work.jobs) - len(waiting)} done; {processes} at once with {threads} "
        f"thread{'s' * (threads > 1)} each"
    )
    try:
        failed = run_all(waiting, processes, threads, folder, progress, len(work.jobs) - len(waiting))
    except Stopped as stopped:
        document = _write(folder, _collected(plan, work, {}))
        done = sum(arm["done"] for arm in document["arms"])
        raise Stopped(f"{stopped}; {done} of {len(work.jobs)} runs are done, see {folder}") from None
    return _write(folder, _collected(plan, work, failed))


def _collected(plan: Plan, work: Work, failed: Mapping[str, str]) -> dict[str, Any]:
    """The document of what the run folders hold."""
    rows: dict[str, list[RunRow]] = {arm.name: [] for arm in work.arms}
    curves: dict[str, list[RunCurves]] = {arm.name: [] for arm in work.arms}
    for (arm, seed), job in work.jobs.items():
        message = failed.get(f"{arm}, seed {seed}")
        if message is None and job.done:
            try:
                row = read_run(job.folder, arm, seed, plan.entropy)
                lines = Run(job.folder).read_lines("metrics.jsonl")
                curves[arm].append(read_curves(lines, learns=row.entropy is not None))
                rows[arm].append(row)
                continue
            except UserError as error:
                message = str(error)
        rows[arm].append(RunRow(arm, seed, "pending" if message is None else "failed", message))
    found: dict[str, Curves | None] = {name: curves_of_runs(each) for name, each in curves.items()}
    return document_of(plan, work.arms, rows, found, work.notes, work.about)


def _write(folder: Path, document: dict[str, Any]) -> dict[str, Any]:
    document = finite({**document, "environment": environment()})
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / DOCUMENT, json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    write_text(folder / "runs.csv", as_csv(document["runs"], RunRow._fields))
    lines = [comparison_line(c) for c in document["comparisons"]]
    write_text(folder / "comparison.csv", as_csv(lines, list(lines[0]) if lines else ["first", "second"]))
    from archgrad.experiment.page import rank_picture, write_page

    if (picture := rank_picture(document)) is not None:
        write_text(folder / "ranks.svg", picture)
    write_page(document, folder / "experiment.html")
    return document


def comparison_line(comparison: Mapping[str, Any]) -> dict[str, Any]:
    """A comparison of the document as a flat line; what is not known is empty."""
    line: dict[str, Any] = {}
    for key in Comparison._fields:
        value = comparison[key]
        names = NESTED.get(key)
        if names is None:
            line[key] = value
        else:
            line |= {f"{key}_{name}": None if value is None else value[name] for name in names}
    return line


def as_csv(rows: Sequence[Mapping[str, Any]], fields: Sequence[str]) -> str:
    """As CSV; None is empty."""
    target = io.StringIO()
    writer = csv.DictWriter(target, fieldnames=list(fields), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return target.getvalue()


def _check_folder(folder: Path, plan: Plan) -> None:
    """Raise `UserError` unless the folder is free or holds an experiment of this kind."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; give a folder for the experiment with --out")
    file = folder / DOCUMENT
    if not file.exists():
        if folder.is_dir() and not {path.name for path in folder.iterdir()} <= _OURS:
            raise UserError(f"{folder} holds something else than an experiment; give another --out")
        return
    before = read_experiment(folder)["plan"]
    now = json.loads(json.dumps(finite(plan.identity())))
    if changed := differences({key: before.get(key) for key in now}, now):
        raise UserError(
            f"{folder} holds an experiment of other settings; give another --out, or these:\n"
            + "\n".join(f"  - {line.replace('the run has', 'the experiment has')}" for line in changed)
        )


def read_experiment(folder: Path) -> dict[str, Any]:
    """The document of an experiment's folder.

    Raises:
        UserError: it has none, or it is damaged.
    """
    file = folder / DOCUMENT
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        known = {"plan", "arms", "runs", "about", "kind"} <= set(document)
    except FileNotFoundError:
        raise UserError(
            f"{folder} holds no experiment: make one with  archgrad experiment --out {folder}"
        ) from None
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{file} is damaged: {error}") from None
    if not known or not isinstance(document["plan"], dict):
        raise UserError(f"{file} is damaged: it is not the document of an experiment")
    found: dict[str, Any] = document
    return found
