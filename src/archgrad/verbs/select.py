"""The selection after a search, recorded in its run folder."""

from __future__ import annotations

from collections.abc import Callable

from archgrad.config import Config
from archgrad.errors import Stopped
from archgrad.progress import Progress, Shown
from archgrad.randomness import Streams
from archgrad.runs import Run, StopRequest
from archgrad.search import SearchTask
from archgrad.search_records import StepRecord
from archgrad.search_state import SearchPlan, SearchState
from archgrad.selection import PRUNING, Decided, Selection, select

LINES = "selection.jsonl"
"""A line a decision."""
RESULT = "selection.json"
"""All of them, once there is nothing left to decide."""


def select_in_run(
    run: Run,
    config: Config,
    task: SearchTask,
    state: SearchState,
    plan: SearchPlan,
    streams: Streams,
    checkpoint: Callable[[], None],
    progress: Progress,
) -> None:
    """Go on with the selection that the configuration asks for, to its end.

    Raises:
        Stopped: Ctrl-C or SIGTERM; the decision in work is begun again on resuming.
    """
    settings, prune = config.selection, config.derive.rule in PRUNING
    if settings.name == "none":
        return
    run.cut_lines(LINES, state.epoch + 1)  # of decisions after the checkpoint
    with run.reading(LINES):
        done = [Decided(**line["decided"]) for line in run.read_lines(LINES)]
    total = sum(len(group.names) for group in task.groups if group.chosen)
    with StopRequest() as stop, Shown(progress, "select", total, len(done)):
        for record in select(
            task,
            state,
            plan,
            streams,
            prune=prune,
            done=done,
            tune_epochs=settings.tune_epochs,
            measure=settings.measure,
        ):
            if stop.requested:
                run.log(f"stopped by {stop.requested} after {len(done)} decisions of the selection")
                raise Stopped(
                    f"stopped by {stop.requested} after {len(done)} decisions; go on with\n"
                    f"  archgrad search --run {run.folder} --resume"
                )
            if isinstance(record, StepRecord):
                progress.update(len(done), f"tuning  loss {record.loss:.3f}  accuracy {record.accuracy:.1%}")
                continue
            done.append(record)
            checkpoint()
            run.append(LINES, {"epoch": state.epoch, "decided": record._asdict()})
            progress.update(len(done), f"{record.choice}: {record.chosen}")
    run.write_json(RESULT, {"decided": [record._asdict() for record in done]})
    run.log(f"selection finished: {len(done)} decisions")


def read_selection(run: Run) -> Selection | None:
    """What was selected; None before there is nothing left to decide.

    Raises:
        UserError: the file is damaged.
    """
    if not run.exists(RESULT):
        return None
    with run.reading(RESULT):
        return tuple(Decided(**one) for one in run.read_json(RESULT)["decided"])
