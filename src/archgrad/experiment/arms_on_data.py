"""The arms of an experiment on networks with the data at hand: jobs, the control, and what they are about."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from archgrad.atomic import write_text
from archgrad.config import Config
from archgrad.config_layers import merge
from archgrad.config_problems import check
from archgrad.datasets.splits import split
from archgrad.datasets.text import TextData
from archgrad.errors import UserError
from archgrad.experiment.network import Job
from archgrad.experiment.plan import CONTROL, Arm, Plan, network_arms, that_it_reads
from archgrad.parts import data_size, differences, load_any_data, torch_device
from archgrad.randomness import Streams
from archgrad.settings import resolve

_ARM_FILE = "arm.json"


class Work(NamedTuple):
    """What there is to do.

    arms: with the control. jobs: (arm's name, seed) -> job, seed by seed, so that an experiment that was
    stopped can be compared. notes: sentences. about: of the data and the space. accelerator: whether the
    runs compute on one. threads: of each run, where its configuration says so.
    """

    arms: list[Arm]
    jobs: dict[tuple[str, int], Job]
    notes: list[str]
    about: dict[str, Any]
    accelerator: bool
    threads: int | None


def work_of(plan: Plan, folder: Path) -> Work:
    """Look at the data, and resolve what every arm is.

    Args:
        plan: of an experiment on networks.
        folder: of the experiment.

    Raises:
        UserError: anything wrong with an arm's configuration or the data.
    """
    arms = network_arms(plan)
    data = load_any_data(check(arms[0].settings))
    if isinstance(data, TextData):
        raise UserError(f"{data.name} is a text; experiments are on images")
    resolved: dict[str, Config] = {}
    notes: list[str] = []
    for arm in arms:
        config = check(arm.settings)
        found = resolve(arm.settings, data_size(data, config))
        resolved[arm.name] = found.config
        part = found.config.data
        file = Path(part.split_file) if part.split_file else None
        split(data, Streams(plan.seed), part.validation, part.test, file)  # raises where it cannot be
    lengths = {config.search.epochs * max(1, len(config.stages)) for config in resolved.values()}
    length = max(lengths)
    if plan.control:
        control = _control(plan, length)
        resolved[CONTROL] = resolve(control.settings, data_size(data, check(control.settings))).config
        arms = [*arms, control]
    if len(lengths) > 1:
        notes.append(
            f"the searches are of different length, {min(lengths)} to {max(lengths)} epochs; "
            "search.epochs=N makes them equal"
        )
    shares = {c.data.validation for c in resolved.values() if c.data.split_file is None}
    if len(shares) > 1:
        notes.append(
            "the arms hold out different shares of the images for the architecture, "
            f"{min(shares):g} to {max(shares):g}; data.validation=SHARE makes them equal"
        )
    jobs = {
        (arm.name, seed): Job(
            str(_folder(folder, arm) / f"seed-{seed}"),
            {**arm.settings, "seed": seed},
            plan.train,
            length if arm.is_control else 0,
        )
        for seed in plan.all_seeds
        for arm in arms
    }
    first = resolved[arms[0].name]
    about = {
        "data": data.name,
        "images": len(data.train),
        "shape": list(data.shape),
        "classes": len(data.classes),
        "space": first.space.name,
        "epochs": {name: config.search.epochs for name, config in resolved.items()},
    }
    return Work(
        arms,
        jobs,
        notes,
        about,
        torch_device(first.device.name).type != "cpu",
        max((c.device.threads for c in resolved.values() if c.device.threads), default=None),
    )


def keep_arms(folder: Path, arms: Sequence[Arm]) -> None:
    """Write down what each arm is, so that no other is taken for it later.

    Raises:
        UserError: an arm of this name was run with other settings.
    """
    problems = []
    for arm in arms:
        file = _folder(folder, arm) / _ARM_FILE
        now = json.loads(json.dumps({"name": arm.name, "settings": arm.settings}))
        before = _read(file)
        if before is not None and (changed := differences(before, now)):
            problems += [f"{arm.name}: {line}" for line in changed]
    if problems:
        raise UserError(
            f"{folder} has runs of these arms with other settings; give another --out, or name the arm "
            "otherwise, LABEL=METHOD(…):\n" + "\n".join(f"  - {line}" for line in problems)
        )
    for arm in arms:
        place = _folder(folder, arm)
        place.mkdir(parents=True, exist_ok=True)
        document = {"name": arm.name, "settings": arm.settings}
        write_text(place / _ARM_FILE, json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def _control(plan: Plan, epochs: int) -> Arm:
    """Random search with shared weights, as long as the longest search."""
    row = {"method": "random"}
    # the preset holds out a tenth, as it only monitors; here the part that is held out chooses
    half = {} if plan.settings.get("data", {}).get("split_file") else {"validation": Config().data.validation}
    settings = merge(
        {"data": half},
        that_it_reads(row, plan.settings),
        row,
        {"search": {"epochs": epochs}},
    )
    check(settings)
    return Arm(CONTROL, "random", None, settings)


def _folder(folder: Path, arm: Arm) -> Path:
    """Of an arm's runs; those of the control are named after their length, which other arms may change."""
    slug = f"random-search-{arm.settings['search']['epochs']}" if arm.is_control else arm.slug
    return folder / "runs" / slug


def _read(file: Path) -> Mapping[str, Any] | None:
    """What was written down; None where nothing was, or nobody can read it."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None
