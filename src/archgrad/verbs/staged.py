"""Searches in stages: one search after another, each with fewer candidates or other sizes than before.

Every stage is a run of its own, the last one the run itself; the others are in its folder ``stages``. So each
has a report, resumes by itself, and is what a search with these settings would be. Weights begin anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from archgrad.choice import Group, supernet
from archgrad.config import Config
from archgrad.config_layers import merge
from archgrad.config_problems import check
from archgrad.datasets.images import ImageData
from archgrad.datasets.text import TextData
from archgrad.errors import ConfigError, Stopped, UserError
from archgrad.language_settings import TextSize
from archgrad.method_parts import policy_of
from archgrad.parts import Parts, data_size, load_any_data
from archgrad.progress import Progress
from archgrad.randomness import seeded_modules
from archgrad.restriction import restricted, strongest
from archgrad.runs import Run
from archgrad.settings import DataSize, published_share, resolve
from archgrad.verbs.contents import read_config, read_groups, read_logits

PLAN = "stages/plan.json"
"""What was asked for, before it was resolved: `search --resume` goes on by it."""
KEPT = "kept.json"
"""choice -> candidates that the next stage has; in the folder of every stage but the last."""
_SHARED = ("method", "seed", "data", "device", "derive", "train", "stages", "restrict", "selection")
_SIZES = {"space": ("cells", "channels"), "search": ("epochs", "warmup_epochs")}


def planned(run: Run) -> dict[str, Any] | None:
    """The settings of a staged search whose last stage has not begun; None of any other run."""
    if run.exists("config.yaml") or not run.exists(PLAN):
        return None
    with run.reading(PLAN):
        settings = run.read_json(PLAN)["settings"]
        return {**settings}


def whole_groups(run: Run, parts: Parts) -> tuple[Group, ...]:
    """The choices of a run with all candidates that they had before its first stage: what controls come from.

    Raises:
        UserError: the run's files are damaged.
    """
    if not run.exists(PLAN):
        return read_groups(run)
    with run.reading(PLAN):
        kept = dict(run.read_json(PLAN)["settings"].get("restrict", {}))
    builder, settings = restricted(parts.space.builder, kept), parts.config.space.settings()
    with seeded_modules(0), torch.device("meta"):
        return supernet(builder, parts.data.shape, parts.classes, **settings).groups


def search_stages(
    search: Callable[..., Run],
    given: Mapping[str, Any],
    folder: Path | str,
    *,
    data: ImageData | TextData | None,
    resume: bool,
    progress: Progress,
) -> Run:
    """Search stage after stage; those that are finished are not done again.

    Args:
        search: `verbs.search_run`, for one stage.
        given: the settings, with names for objects.
        folder: of the run.
        data: see `search_run`.
        resume: the folder holds stages already.
        progress: where to show it.

    Raises:
        UserError: as `search_run`, for all stages before the first begins.
        Stopped: in some stage.
    """
    run, config = Run(folder), check(given)
    if not resume:
        run.check_free()
        if run.exists("stages"):
            raise UserError(
                f"{run.folder} holds stages of a search: go on with --resume, or choose another --run folder"
            )
    stages, notes = stage_settings(given, config, data_size(data or load_any_data(config), config))
    for note in notes:
        progress.say(f"  {note}")
    run.write_json(PLAN, {"settings": dict(given)})
    kept: dict[str, list[str]] = {}
    for number, settings in enumerate(stages, 1):
        place = run.folder if number == len(stages) else run.folder / "stages" / f"stage-{number}"
        begun = (place / "config.yaml").is_file()
        if not (begun and (place / "logits.safetensors").is_file()):
            progress.say(f"stage {number} of {len(stages)}")
            own = {**settings, "restrict": kept} if kept else settings
            try:
                search({} if begun else own, place, data=data, resume=begun, progress=progress)
            except Stopped as stopped:
                raise Stopped(
                    f"{str(stopped).partition(';')[0]} of stage {number} of {len(stages)}; go on with\n"
                    f"  archgrad search --run {run.folder} --resume"
                ) from None
        keep = config.stages[number - 1].keep
        if keep is not None:
            kept = _left_by(Run.open(place), keep)
    return Run.open(folder)


def stage_settings(
    given: Mapping[str, Any], config: Config, size: DataSize | TextSize
) -> tuple[list[dict[str, Any]], list[str]]:
    """The settings of every stage, but for what the ones before it leave over; and notes for a person.

    The sizes in a preset's stages are for data like CIFAR-10: for smaller ones all stages have the network
    and the epochs that the rules choose. A user's own stages are taken as they are.

    Raises:
        ConfigError: what is wrong with the stages, all at once.
    """
    small = isinstance(size, DataSize) and published_share(size) < 1 and "stages" not in given
    found, problems, dropped = [], list[str](), set[str]()
    for number, stage in enumerate(config.stages, 1):
        settings = merge(stage.settings)
        for section, keys in _SIZES.items() if small else ():
            dropped |= {f"{section}.{key}" for key in keys if settings.get(section, {}).pop(key, None)}
        if shared := [key for key in _SHARED if key in settings]:
            problems.append(f"stages: stage {number} sets {shared[0]}, which is one for all stages")
            continue
        if stage.keep is not None and number == len(config.stages):
            problems.append("stages: nothing follows the last stage, so it has no `keep`")
        own = {**merge(given, settings), "stages": []}
        if number < len(config.stages):  # what is selected is selected at the end
            own["selection"] = {"name": "none"}
        try:
            resolve(own, size)
        except ConfigError as error:
            problems += [f"stage {number}: {problem}" for problem in error.problems]
        found.append(own)
    if problems:
        raise ConfigError(problems)
    note = f"stages: the data are small, so {', '.join(sorted(dropped))} are the same in all of them"
    return found, [note] if dropped else []


def _left_by(run: Run, keep: int | float) -> dict[str, list[str]]:
    """The candidates of every choice that a finished stage leaves to the next."""
    config, groups = read_config(run), read_groups(run)
    p = policy_of(config, groups).probabilities(read_logits(run, "logits.safetensors"))
    kept = strongest(groups, p, keep)
    run.write_json(KEPT, kept)
    return kept
