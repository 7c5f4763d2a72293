"""Give the recorded numbers of a run to trackers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from archgrad.errors import UserError
from archgrad.runs import Run
from archgrad.trackers import TRACKERS
from archgrad.trackers.tracker import Trackers


def track_run(folder: Path | str, to: Iterable[str]) -> int:
    """Give every line of the run's ``metrics.jsonl`` to the trackers; returns how many lines there were.

    Raises:
        UserError: the folder holds no run, nothing is recorded yet, a tracker is not known, or fails.
        MissingExtra: its library is not installed.
    """
    run, names, problems = Run.open(folder), tuple(to), list[str]()
    if not names:
        raise UserError(f"to which tracker? give --to with some of {', '.join(TRACKERS)}")
    lines = run.read_lines("metrics.jsonl")
    if not lines:
        raise UserError(f"{run.folder} has no epoch yet: search first, or with --resume go on")
    trackers = Trackers(names, problems.append)
    trackers.begin(run.folder, run.read_config(), lines)
    trackers.finish(run.exists("logits.safetensors"))
    if problems:
        raise UserError("; ".join(problems))
    return len(lines)
