"""Search an architecture and record everything in a run folder."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from archgrad.alarms.alarm import About, alarms_of, begun, with_alarms
from archgrad.choice import Supernet
from archgrad.config_layers import merge
from archgrad.config_problems import GIVEN, check
from archgrad.datasets.images import ImageData
from archgrad.datasets.text import TextData
from archgrad.diagnostics.schedule import Watch
from archgrad.diagnostics.subject import Subject
from archgrad.errors import Stopped, UserError, WorkError
from archgrad.language_parts import TextParts, parts_of
from archgrad.language_settings import TextSize
from archgrad.parts import Parts, data_size, differences, load_any_data
from archgrad.progress import Progress, Shown, Silent
from archgrad.runs import CHECKPOINT_SECONDS, Run, StopRequest
from archgrad.search_records import EpochRecord, StepRecord
from archgrad.search_state import SearchState
from archgrad.settings import DataSize, Resolved, resolve
from archgrad.stopping.guard import Guard
from archgrad.trackers.tracker import Trackers
from archgrad.verbs.contents import check_same_data, load_network, named_logits, read_document, write_tensors
from archgrad.verbs.genotype import check_searched
from archgrad.verbs.select import select_in_run
from archgrad.verbs.staged import planned, search_stages
from archgrad.verbs.steering import Steering, with_combination
from archgrad.verbs.warm_start import WarmStart


def search_run(
    settings: Mapping[str, Any],
    folder: Path | str,
    *,
    data: ImageData | TextData | None = None,
    space: Callable[..., nn.Module] | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    loaded: ImageData | TextData | None = None,
    warm_up_only: bool = False,
    warm: Path | str | None = None,
    track: Sequence[str] = (),
) -> Run:
    """Search an architecture and record everything in a run folder.

    Args:
        settings: configuration keys (nested), on top of preset and rules; see `config`.
        folder: the run folder, new unless `resume`.
        data: images or a text to use instead of what ``data.name`` names. The verbs after this one need
            them again, so they can then be called from Python only.
        space: a builder ``(pick, shape, classes, …)`` instead of ``space.name``.
        resume: go on from the newest whole checkpoint; `settings` must then be empty or the same, but for
            ``stopping.combine``: with ``none`` a search that a rule ended goes on.
        progress: where to show it.
        loaded: what ``data.name`` names, where it is at hand: it is not loaded again.
        warm_up_only: end with the last epoch of the warm-up; with `resume` the search goes on from there.
        warm: a run that ended so: begin with its state. Its configuration may differ in budgets only; the
            result is the same to the last bit as that of a search with a warm-up of its own.
        track: names of `trackers.TRACKERS` that are given the numbers of every epoch, too.

    Raises:
        UserError: anything wrong with the settings, the data or the folder.
        WorkError: the search diverged.
        Stopped: Ctrl-C or SIGTERM; a checkpoint was written.
    """
    progress = progress or Silent()
    trackers = Trackers(track, lambda why: progress.say(f"warning: {why}"))  # one that is missing fails now
    given = _with_objects(settings, data, space)
    asked = planned(Run(folder)) if resume else given
    if asked is not None and (resume or check(asked).stages):
        one = functools.partial(search_run, space=space, track=track)
        return search_stages(one, asked, folder, data=data, resume=resume, progress=progress)
    if resume:
        run = Run.open(folder)
        check_searched(run)
        before = read_document(run)
    else:
        run, before = Run(folder), {}
        run.check_free()
    before, given = with_combination(before, given)
    first = check(before or given)
    data = data or loaded or load_any_data(first)
    size = data_size(data, first)
    resolved = resolve(before or given, size)
    if resume and (changed := _changes(before, given, size)):
        raise UserError(
            "a run can only be resumed with its own configuration; leave these out, or start a new run:\n"
            + "\n".join(f"  - {line}" for line in changed)
        )
    parts = parts_of(resolved.config, data)
    network = parts.supernet()
    task, state, plan = parts.task(network), parts.state(network), parts.plan(network.groups)
    shared = None if warm is None else WarmStart.of(warm, resolved.document(), parts)
    if warm_up_only:
        plan = replace(plan, epochs=plan.warmup_epochs)
    every = {name: look for name, (look, _) in resolved.config.probes.items()}
    guard = Guard() if warm_up_only else Guard.of(resolved.config.stopping, every)
    steering = Steering(run, guard, plan, network, state, progress.say)
    steering.check_fits(network.groups)
    if isinstance(parts, Parts):
        parts.train_batches("derived")  # a batch size that does not fit fails now, not after the search
    if resume:
        check_same_data(run, parts)
        best, steered = _restore(run, before, network, state, progress)
        steering.restore(steered, run.read_lines("metrics.jsonl"))
        if run.read_config() != resolved.document():  # rules were switched off, or on again
            run.write_config(resolved.document())
            run.log(f"stopping.combine = {resolved.config.stopping.combine}")
    else:
        best = -math.inf
        run = Run.create(folder)
        _record_beginning(run, resolved, parts, network)
        for note in resolved.notes if shared is None else ():  # else the warm-up has said them
            progress.say(f"  {note}")
    if shared is not None and (state.epoch, state.step) == (0, 0):
        shared.begin(network, state)
        run.write_lines("metrics.jsonl", shared.lines)
        run.log(f"began with the warm-up in {warm}")

    def checkpoint_now() -> None:
        run.save_checkpoint(
            state.epoch * task.steps_per_epoch + state.step,
            {
                "network": network.state_dict(),
                "search": state.state_dict(),
                "best": best,
                "config": resolved.document(),
                **steering.document(),
            },
        )

    network.train()
    lines = run.read_lines("metrics.jsonl")
    watch = Watch.of(resolved.config)
    alarms = alarms_of(resolved.config.alarms)
    about = About.of(resolved.config, parts.classes if isinstance(parts, Parts) else None)
    trackers.begin(run.folder, resolved.document(), lines)
    saved = time.monotonic()
    first_epoch = state.epoch  # ends with a checkpoint in any case
    total = plan.epochs * task.steps_per_epoch
    done = state.epoch * task.steps_per_epoch + state.step
    with StopRequest() as stop, Shown(progress, "search", total, done), trackers:
        try:
            for record in steering.follow(task, parts.streams):
                if isinstance(record, StepRecord):
                    done = record.epoch * task.steps_per_epoch + record.step
                    progress.update(done, _step_text(record, plan.epochs))
                else:
                    subject = Subject(task, state, steering.plan, parts.streams, record.epoch)
                    line = {**watch.complete(record.line(), lines, subject), **steering.extra(record.epoch)}
                    lines.append(with_alarms(line, lines, alarms, about))
                    run.append("metrics.jsonl", lines[-1])
                    trackers.epoch(lines[-1])
                    for sentence in (*watch.news(), *begun(lines)):
                        progress.say(f"warning: {sentence}")
                        run.log(f"warning: {sentence}")
                    # untrained logits are no candidates for the best
                    learned = plan.hypergradient is None or plan.learns(record.epoch)
                    if learned and record.valid_accuracy > best:
                        best = record.valid_accuracy
                        _write_best(run, record, state)
                    best, acted = steering.after_epoch(lines, best)
                    if acted:
                        checkpoint_now()
                        steering.settle()
                ended_first = isinstance(record, EpochRecord) and record.epoch == first_epoch
                if stop.requested or ended_first or time.monotonic() - saved > CHECKPOINT_SECONDS:
                    checkpoint_now()
                    saved = time.monotonic()
                if stop.requested and not steering.ended:
                    run.log(f"stopped by {stop.requested} at epoch {state.epoch}, step {state.step}")
                    raise Stopped(
                        f"stopped by {stop.requested} in epoch {state.epoch}, step {state.step}; go on with\n"
                        f"  archgrad search --run {run.folder} --resume"
                    )
        except WorkError as error:
            run.log(f"failed: {error}")
            raise WorkError(f"{error}; {run.last_checkpoint()}") from None
    if state.epoch <= steering.plan.epochs:  # else a selection has trained on
        checkpoint_now()
        if warm_up_only:
            run.log("warm-up finished")
            return run
        steering.finish()
        write_tensors(run, "logits.safetensors", named_logits(state.logits))
        run.log("search finished")
    select_in_run(run, resolved.config, task, state, steering.plan, parts.streams, checkpoint_now, progress)
    return run


def _with_objects(
    settings: Mapping[str, Any], data: ImageData | TextData | None, space: Callable[..., nn.Module] | None
) -> dict[str, Any]:
    """The settings, with names for the objects that were given in their place."""
    given = merge(settings)
    if space is not None:
        name = f"{space.__module__}:{space.__qualname__}"
        if "." in space.__qualname__:
            raise UserError(
                f"space {name}: give a function or class defined at the top of a module, so that "
                "derive and train can find it again"
            )
        given = merge(given, {"space": {"name": name}})
    if data is not None:
        given = merge(given, {"data": {"name": f"{GIVEN}{data.name}"}})
    return given


def _changes(before: Mapping[str, Any], given: Mapping[str, Any], size: DataSize | TextSize) -> list[str]:
    """In what the configuration would differ from the run's."""
    if not given:
        return []
    return differences(before, resolve(merge(before, given), size).document())


def _restore(
    run: Run, config: Mapping[str, Any], network: Supernet, state: SearchState, progress: Progress
) -> tuple[float, dict[str, Any] | None]:
    """Put the newest whole checkpoint into network and state.

    Returns:
        (the best accuracy so far, what the checkpoint says of stopping rules).
    """
    checkpoint, warnings = run.load_checkpoint()
    for warning in warnings:
        progress.say(f"warning: {warning}")
        run.log(f"warning: {warning}")
    best, steered = -math.inf, None
    if checkpoint is not None:
        with run.reading("checkpoints"):
            then, _ = with_combination(checkpoint["config"], {"stopping": {**config.get("stopping", {})}})
            if changed := differences(then, config):
                raise UserError(
                    f"{run.path('config.yaml')} was changed since the run began; put back:\n"
                    + "\n".join(f"  - {line.replace('you gave', 'the file has')}" for line in changed)
                )
            load_network(network, checkpoint["network"], "the newest checkpoint")
            state.load_state_dict(checkpoint["search"])
            best, steered = checkpoint["best"], checkpoint.get("steering")
    run.cut_lines("metrics.jsonl", state.epoch)
    run.log(f"resumed at epoch {state.epoch}, step {state.step}")
    progress.say(f"resuming at epoch {state.epoch + 1}, step {state.step}")
    return best, steered


def _record_beginning(run: Run, resolved: Resolved, parts: Parts | TextParts, network: Supernet) -> None:
    """Everything that is known before the first step; the configuration last, as it makes the run."""
    config = resolved.config
    run.write_json("data.json", parts.description())
    run.write_json("choices.json", {"groups": [group._asdict() for group in network.groups]})
    for note in resolved.notes:
        run.log(f"rule: {note}")
    run.write_config(resolved.document())
    run.log(
        f"search: method {config.method}, space {config.space.name}, data {config.data.name}, "
        f"seed {config.seed}"
    )


def _write_best(run: Run, record: EpochRecord, state: SearchState) -> None:
    write_tensors(run, "best.safetensors", named_logits(state.logits))
    run.write_json(
        "best.json",
        {
            "epoch": record.epoch,
            "valid_accuracy": record.valid_accuracy,
            "architecture": record.architecture,
        },
    )


def _step_text(record: StepRecord, epochs: int) -> str:
    return (
        f"epoch {record.epoch + 1}/{epochs}  loss {record.loss:.3f}  accuracy {record.accuracy:.1%}  "
        f"τ {record.tau:.3g}  entropy {record.entropy:.3f}"
    )
