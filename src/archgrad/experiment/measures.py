"""What is measured of one run: when it converged, how stable it was, how good what it found is.

T recorded epochs (on a landscape: steps), S runs at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from archgrad.architecture import Architecture
from archgrad.config import Config
from archgrad.diagnostics import RECORDS
from archgrad.errors import UserError
from archgrad.landscapes.nasbench201 import NASBench201
from archgrad.runs import Run
from archgrad.verbs.contents import read_architecture, read_config

SHARED = "shared_accuracy.json"
"""File of a run in an experiment: accuracy of the derived architecture with the supernet's weights."""
TRUTH = "cifar10_test_200ep"
"""The column of NAS-Bench-201 that a derived cell is scored with."""
SCORES = ("true_accuracy", "test_accuracy", "shared_accuracy", "valid_accuracy")
"""By which of its numbers a run is judged: the first that every finished run has."""
_LINES = "metrics.jsonl"
HOLD = 0.1
"""Share of the recorded epochs at the end in which a converged run has to keep what it has."""


class RunRow(NamedTuple):
    """A line of ``runs.csv``. Accuracies are fractions; None: not known, or not reached.

    status: "done", "failed", "pending". message: why it failed. epochs: of the search (landscape: steps).
    seconds: of the search; None on a landscape, where all runs are one computation. converged: the epoch or
    step, counted from 1, from which on the run was converged (`converged_at`); seconds_to_convergence: as
    long as it took until then. entropy: at the end, the mean over the choices relative to that of a uniform
    choice. stability: share of choices whose winner is that of the recorded epoch before, the mean over the
    epochs. valid_accuracy: of the sampled supernet in the last epoch; on a landscape 1 − the loss that is
    searched. shared_accuracy: of the derived architecture with the supernet's weights, on the same part.
    test_accuracy: of the derived network, trained from scratch. true_accuracy: of NAS-Bench-201's table; on
    a landscape 1 − the true loss. regret: the best true accuracy minus this one. skips: share of skip
    connections among the choices. architecture: its digest.
    """

    arm: str
    seed: int
    status: str
    message: str | None = None
    epochs: int | None = None
    seconds: float | None = None
    converged: int | None = None
    seconds_to_convergence: float | None = None
    entropy: float | None = None
    stability: float | None = None
    valid_accuracy: float | None = None
    shared_accuracy: float | None = None
    test_accuracy: float | None = None
    true_accuracy: float | None = None
    regret: float | None = None
    skips: float | None = None
    success: bool | None = None
    architecture: str | None = None

    def number(self, name: str) -> float | None:
        """A field as a number; None where it is not known or not finite."""
        value = getattr(self, name)
        return None if value is None or not math.isfinite(value) else float(value)


class RunCurves(NamedTuple):
    """By recorded epoch [T]: relative entropy, stability (None at the first), accuracy.

    at: the epoch, counted from 1, or step. accuracy: of the sampled supernet; on a landscape 1 − true loss of
    the strongest architecture.
    """

    at: list[int]
    entropy: list[float | None]
    stability: list[float | None]
    accuracy: list[float | None]


def converged_at(entropy: npt.ArrayLike, same: npt.ArrayLike, threshold: float) -> npt.NDArray[np.int64]:
    """First of T records from which on entropy and architecture stay; −1 for never. [T, S] twice -> [S].

    From there to the end the entropy is at most `threshold`, and the architecture is the last one; and that
    holds for a tenth of the records at least, two at fewest: whoever is still moving at the end did not
    converge.

    >>> converged_at([[0.9], [0.4], [0.3], [0.2]], [[False], [False], [True], [True]], 0.5).tolist()
    [2]

    Args:
        entropy: relative to uniform.
        same: whether the architecture is that of the last record.
        threshold: on the entropy.
    """
    low = np.asarray(entropy, dtype=float) <= threshold
    good = low & np.asarray(same, dtype=bool)
    kept = np.logical_and.accumulate(good[::-1], axis=0)[::-1]
    length, count = len(good), kept.sum(axis=0)
    return np.where(count >= max(2, math.ceil(HOLD * length)), length - count, -1)


def read_run(folder: Path | str, arm: str, seed: int | None = None, threshold: float = 0.5) -> RunRow:
    """The row of a run folder whose search has ended and derived.

    Raises:
        UserError: no such run, or it has not come so far.
    """
    run = Run.open(folder)
    lines = run.read_lines(_LINES)
    if not lines or not run.exists("logits.safetensors"):
        raise UserError(f"{run.folder} has not ended its search: archgrad search --run {run.folder} --resume")
    config, architecture = read_config(run), read_architecture(run)
    with run.reading(_LINES):
        curves = read_curves(lines)
        same = [[dict(line["architecture"]) == dict(lines[-1]["architecture"])] for line in lines]
        entropy = [[math.inf if e is None else e] for e in curves.entropy]
        seconds = [line["seconds"] or 0.0 for line in lines]
    stages = [line for path in sorted(run.path("stages").glob("*")) for line in Run(path).read_lines(_LINES)]
    before = sum(line.get("seconds") or 0.0 for line in stages)  # of a search in stages, all but the last
    # without logits that are trained there is nothing that could converge
    (first,) = converged_at(entropy, same, threshold).tolist() if config.learns else (-1,)
    stable = [s for s in curves.stability if s is not None] if config.learns else []
    truth = true_accuracy(config, architecture)
    result = run.read_json("train/derived/result.json") if run.exists("train/derived/result.json") else {}
    shared = run.read_json(SHARED) if run.exists(SHARED) else {}
    return RunRow(
        arm,
        config.seed if seed is None else seed,
        "done",
        epochs=len(stages) + len(lines),
        seconds=before + sum(seconds) + (shared.get("seconds") or 0.0),
        converged=len(stages) + first + 1 if first >= 0 else None,
        seconds_to_convergence=before + sum(seconds[: first + 1]) if first >= 0 else None,
        entropy=curves.entropy[-1] if config.learns else None,
        stability=sum(stable) / len(stable) if stable else None,
        valid_accuracy=lines[-1]["valid_accuracy"] if config.learns else None,
        shared_accuracy=shared.get("accuracy"),
        test_accuracy=result.get("test_accuracy"),
        true_accuracy=None if truth is None else truth[0],
        regret=None if truth is None else truth[1],
        skips=sum(op == "skip_connect" for op in architecture.values()) / len(architecture),
        architecture=architecture.digest,
    )


def read_curves(lines: Sequence[Mapping[str, Any]], learns: bool = True) -> RunCurves:
    """The curves of the lines of a ``metrics.jsonl``, by the diagnostics of these names.

    learns: whether there are logits that are trained, of which entropy and stability say something.
    """
    entropy, stability = RECORDS["entropy"], RECORDS["stability"]
    nothing: list[float | None] = [None] * len(lines)
    return RunCurves(
        [line["epoch"] + 1 for line in lines],
        [entropy(line).get("relative") for line in lines] if learns else nothing,
        [None, *(stability(b, [a]).get("same_last") for a, b in pairwise(lines))] if learns else nothing,
        [line["valid_accuracy"] for line in lines],
    )


def true_accuracy(config: Config, architecture: Architecture) -> tuple[float, float] | None:
    """(accuracy, regret) of a cell in the table of NAS-Bench-201; None where the table has not this network.

    The table is of the space ``nasbench201`` with its own nodes and candidates, on CIFAR-10. The network that
    was searched may be smaller, and the images, too: what is judged is the cell.
    """
    if (config.space.name, config.data.name) != ("nasbench201", "cifar10"):
        return None
    try:
        table = NASBench201.open()
        index = table.index_of(architecture)
    except UserError:  # other nodes or candidates
        return None
    return table.value(TRUTH, index) / 100, table.regret(TRUTH, index) / 100
