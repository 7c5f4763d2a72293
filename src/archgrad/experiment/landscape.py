"""An experiment on a landscape: all seeds of an arm at once, and the control.

T records, S seeds, E choices.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from archgrad.architecture import Architecture
from archgrad.atomic import write_text
from archgrad.errors import UserError, WorkError
from archgrad.experiment.measures import RunRow, converged_at
from archgrad.experiment.plan import CONTROL, Arm, Plan, landscape_arms
from archgrad.experiment.points import Curves, curves_of
from archgrad.lab.contenders import Contender
from archgrad.lab.convergence import RECORDED, Course, run
from archgrad.landscapes.build import build
from archgrad.landscapes.landscape import Landscape, architecture_at
from archgrad.progress import Progress, Shown
from archgrad.randomness import Streams
from archgrad.runs import finite

Found = tuple[list[RunRow], Curves | None]
"""The rows of an arm and its curves."""


def run_on_landscape(
    plan: Plan, folder: Path, progress: Progress
) -> tuple[list[Arm], dict[str, Found], dict[str, Any]]:
    """The arms, what was found of each, and what is said of the landscape.

    The result of an arm is a file of `folder`; an arm that has one, of the same settings, is not run again.
    An arm that fails has rows that say so.

    Raises:
        UserError: anything wrong with the plan.
    """
    assert plan.landscape is not None
    landscape = build(plan.landscape, plan.noise, **plan.landscape_settings)
    pairs = landscape_arms(plan)
    arms = [arm for arm, _ in pairs]
    work: dict[str, Callable[[], Found]] = {
        arm.name: partial(_searched, plan, landscape, arm, contender) for arm, contender in pairs
    }
    if plan.control:
        arms.append(Arm(CONTROL, CONTROL, None, {"evaluations": plan.steps}))
        work[CONTROL] = partial(_random_search, plan, landscape)
    found: dict[str, Found] = {}
    with Shown(progress, "arms", len(arms)):
        for number, arm in enumerate(arms, start=1):
            file = folder / f"{arm.slug}.json"
            key = _key(plan, arm)
            kept = _read(file, key)
            if kept is None:
                try:
                    kept = work[arm.name]()
                except (WorkError, UserError) as error:
                    failed = [RunRow(arm.name, s, "failed", str(error)) for s in plan.all_seeds]
                    kept = failed, None
                except Exception as error:  # a part of the user's own may raise anything
                    message = f"{type(error).__name__}: {error}"
                    failed = [RunRow(arm.name, s, "failed", message) for s in plan.all_seeds]
                    kept = failed, None
                else:
                    _write(file, key, kept)
            found[arm.name] = kept
            progress.update(number, arm.name)
    return arms, found, _described(plan, landscape)


def _searched(plan: Plan, landscape: Landscape, arm: Arm, contender: Contender) -> Found:
    course = run(
        contender,
        landscape,
        searches=plan.seeds,
        seed=plan.seed,
        observe=plan.observe,
        step_noise=plan.step_noise,
    )
    (group,) = landscape.groups
    uniform = math.log(len(group.candidates)) or 1.0
    entropy = (course.entropy / uniform).numpy()
    stability = course.stability.numpy()
    # the architecture is the last one as long as nothing changes any more: [T, S]
    same = np.ones_like(stability, dtype=bool)
    same[:-1] = np.logical_and.accumulate((stability[1:] == 1)[::-1], axis=0)[::-1]
    first = converged_at(entropy, same, plan.entropy)
    rows = []
    for s, row in enumerate(_rows(plan, landscape, arm.name, course.final)):
        at = course.steps[first[s]] if first[s] >= 0 else None
        rows.append(
            row._replace(
                converged=at,
                entropy=float(entropy[-1, s]),
                stability=float(stability[1:, s].mean()) if len(stability) > 1 else None,
            )
        )
    return rows, curves_of(course.steps, entropy, stability, _accuracy(landscape, course))


def _random_search(plan: Plan, landscape: Landscape) -> Found:
    """As many random architectures as a search takes steps; the one with the least loss of what is searched.

    The loss of each has an error of its own where that of a step has one.
    """
    (group,) = landscape.groups
    shape = len(group.names), len(group.candidates)
    every = max(1, plan.steps // RECORDED)
    recorded = [t for t in range(1, plan.steps + 1) if t % every == 0 or t == plan.steps]
    best, accuracy = [], np.empty((len(recorded), plan.seeds))
    for s in range(plan.seeds):
        generator = Streams(plan.seed).generator("experiment/random search", s)
        drawn = torch.randint(shape[1], (plan.steps, shape[0]), generator=generator)
        losses = landscape.values(drawn).clone()
        if plan.step_noise:
            losses += plan.step_noise * torch.randn(len(losses), generator=generator, dtype=losses.dtype)
        least = torch.cummin(losses, dim=0).indices  # [steps], of the best so far
        best.append(drawn[least[-1]])
        accuracy[:, s] = 1 - landscape.truth.values(drawn[least[[t - 1 for t in recorded]]]).numpy()
    rows = _rows(plan, landscape, CONTROL, torch.stack(best))
    return rows, curves_of(recorded, None, None, accuracy)


def _rows(plan: Plan, landscape: Landscape, name: str, final: Tensor) -> list[RunRow]:
    """What is known of the architectures [S, E] that were found."""
    searched, true = landscape.values(final).tolist(), landscape.truth.values(final).tolist()
    (group,) = landscape.groups
    rows = []
    for s, index in enumerate(final.tolist()):
        architecture: Architecture = architecture_at(landscape, index)
        skips = None
        if "skip_connect" in group.candidates:
            skips = sum(op == "skip_connect" for op in architecture.values()) / len(architecture)
        rows.append(
            RunRow(
                name,
                plan.seed + s,
                "done",
                epochs=plan.steps,
                valid_accuracy=1 - searched[s],
                true_accuracy=1 - true[s],
                regret=true[s] - landscape.truth.best,
                skips=skips,
                architecture=architecture.digest,
            )
        )
    return rows


def _accuracy(landscape: Landscape, course: Course) -> Any:
    """1 − true loss of the strongest architecture, [T, S]."""
    return 1 - (course.regret + landscape.truth.best).numpy()


def _described(plan: Plan, landscape: Landscape) -> dict[str, Any]:
    (group,) = landscape.groups
    return {
        "name": plan.landscape,
        "choices": len(group.names),
        "candidates": list(group.candidates),
        "best": 1 - landscape.truth.best,
    }


def _key(plan: Plan, arm: Arm) -> str:
    """Of what an arm's result is: another plan or setting has another key."""
    document = {
        **plan.identity(),
        "seeds": plan.seeds,
        "entropy": plan.entropy,
        "arm": arm.name,
        "arm settings": arm.settings,
    }
    return hashlib.sha256(json.dumps(document, sort_keys=True, default=str).encode()).hexdigest()


def _read(file: Path, key: str) -> Found | None:
    """The kept result; None where there is none, or of other settings."""
    try:
        document: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if document["key"] != key:
            return None
        rows: Sequence[Mapping[str, Any]] = document["rows"]
        return [RunRow(**row) for row in rows], document["curves"]
    except (OSError, ValueError, KeyError, TypeError):  # not there, or damaged: it is made anew
        return None


def _write(file: Path, key: str, found: Found) -> None:
    rows, curves = found
    file.parent.mkdir(parents=True, exist_ok=True)
    document = finite({"key": key, "rows": [row._asdict() for row in rows], "curves": curves})
    write_text(file, json.dumps(document, ensure_ascii=False) + "\n")
