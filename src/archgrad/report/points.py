"""The numbers behind every figure of the report, as plain tuples; nothing here draws.

Epochs count from 0, as in ``metrics.jsonl``. A value that was not measured or not finite is None.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from archgrad.report.reading import Decision, RunRecord, SearchEpoch, Training


class Series(NamedTuple):
    """One curve: `values[i]` was measured in `epochs[i]`."""

    name: str
    epochs: tuple[int, ...]
    values: tuple[float | None, ...]


class EntropyPoints(NamedTuple):
    """Entropy of the candidate probabilities in nats: mean and range over choices, and its maximum."""

    mean: Series
    lowest: Series
    highest: Series
    maximum: float | None


class CostPoints(NamedTuple):
    """The expected cost by epoch, and its unit."""

    series: Series
    unit: str


class ProbabilityRow(NamedTuple):
    """The probability of one candidate of one choice, by epoch."""

    choice: str
    candidate: str
    values: tuple[float | None, ...]


class ProbabilityPoints(NamedTuple):
    """Rows in order of choice, then candidate."""

    epochs: tuple[int, ...]
    rows: tuple[ProbabilityRow, ...]

    def choices(self) -> dict[str, tuple[ProbabilityRow, ...]]:
        """The rows of each choice."""
        grouped: dict[str, list[ProbabilityRow]] = {}
        for row in self.rows:
            grouped.setdefault(row.choice, []).append(row)
        return {choice: tuple(rows) for choice, rows in grouped.items()}


class StabilityPoints(NamedTuple):
    """The strongest candidate of each choice by epoch.

    changes[i]: number of choices whose strongest candidate differs from the epoch before.
    last_change: the last epoch with a change; None when there was none.
    """

    epochs: tuple[int, ...]
    winners: dict[str, tuple[str | None, ...]]
    changes: tuple[int, ...]
    last_change: int | None

    @property
    def quiet_epochs(self) -> int:
        """Epochs at the end in which nothing changed."""
        return sum(1 for e in self.epochs if self.last_change is None or e > self.last_change)


class TrainedNetwork(NamedTuple):
    """One network trained from scratch. Accuracies are fractions, seconds those of its training.

    test_perplexity: of a network that reads a text; its accuracy is that of the next word.
    """

    name: str
    kind: str
    test_accuracy: float | None
    train_accuracy: float | None
    test_images: int | None
    parameters: int | None
    macs: float | None
    epochs: int | None
    seed: int | None
    seconds: float | None
    test_perplexity: float | None = None

    @property
    def quality(self) -> float | None:
        """What networks are compared by, more being better: accuracy, or a word's log-likelihood in nats."""
        if self.test_perplexity is not None and self.test_perplexity > 0:
            return -math.log(self.test_perplexity)
        return self.test_accuracy


class ControlPoints(NamedTuple):
    """The derived network beside its controls.

    mean, deviation: of the random controls' test accuracy; the deviation (n−1) needs two of them.
    """

    derived: TrainedNetwork | None
    random: tuple[TrainedNetwork, ...]
    others: tuple[TrainedNetwork, ...]
    mean: float | None
    deviation: float | None

    def networks(self) -> tuple[TrainedNetwork, ...]:
        """All of them, the derived network first."""
        return (*((self.derived,) if self.derived else ()), *self.random, *self.others)


def finite(value: float | None) -> float | None:
    """The value, or None when it is missing or not finite: neither can be drawn."""
    return value if value is not None and math.isfinite(value) else None


def _series(run: RunRecord, name: str, value: Callable[[SearchEpoch], float | None]) -> Series:
    return Series(name, tuple(e.epoch for e in run.epochs), tuple(finite(value(e)) for e in run.epochs))


def loss_points(run: RunRecord) -> tuple[Series, Series]:
    """Training and validation loss of the sampled supernet."""
    return _series(run, "training", lambda e: e.train_loss), _series(
        run, "validation", lambda e: e.valid_loss
    )


def accuracy_points(run: RunRecord) -> tuple[Series, Series]:
    """Training and validation accuracy of the sampled supernet, fractions."""
    return (
        _series(run, "training", lambda e: e.train_accuracy),
        _series(run, "validation", lambda e: e.valid_accuracy),
    )


def entropy_points(run: RunRecord) -> EntropyPoints:
    """Mean, lowest and highest entropy over the choices, and ln K averaged over the choices, in nats."""

    def of_choices(e: SearchEpoch, function: Callable[[list[float]], float]) -> float | None:
        values = [v for v in map(finite, e.entropy.values()) if v is not None]
        return function(values) if values else None

    sizes = [len(row) for row in (run.epochs[-1].probabilities.values() if run.epochs else ()) if row]
    sizes = sizes or [len(candidates) for candidates in run.candidates.values()]
    return EntropyPoints(
        _series(
            run,
            "mean",
            lambda e: e.entropy_mean if e.entropy_mean is not None else of_choices(e, statistics.fmean),
        ),
        _series(run, "lowest choice", lambda e: of_choices(e, min)),
        _series(run, "highest choice", lambda e: of_choices(e, max)),
        statistics.fmean(math.log(k) for k in sizes) if sizes else None,
    )


def tau_points(run: RunRecord) -> Series:
    """The sampler's temperature τ."""
    return _series(run, "τ", lambda e: e.tau)


def cost_points(run: RunRecord) -> CostPoints:
    """The expected cost of the sampled architecture; without a unit in the lines, the cost's name."""
    units = [e.cost_unit for e in run.epochs if e.cost_unit]
    name = run.setting("cost.name")
    units = units or ([name] if isinstance(name, str) and name != "none" else [])
    return CostPoints(_series(run, "expected cost", lambda e: e.cost), units[-1] if units else "")


def gradient_points(run: RunRecord) -> tuple[Series, Series]:
    """Norm of the gradient to α and to the weights, epoch means before clipping."""
    return (
        _series(run, "architecture α", lambda e: e.alpha_gradient_norm),
        _series(run, "weights w", lambda e: e.weight_gradient_norm),
    )


def candidates_of(run: RunRecord) -> dict[str, tuple[str, ...]]:
    """choice -> candidate names; numbered where ``choices.json`` does not name them."""
    names = dict(run.candidates)
    for epoch in run.epochs:
        for choice, row in epoch.probabilities.items():
            if len(names.get(choice, ())) != len(row):
                names[choice] = tuple(f"candidate {k}" for k in range(len(row)))
    return names


def probability_points(run: RunRecord) -> ProbabilityPoints:
    """The probability of every candidate of every choice, by epoch."""
    epochs = [e for e in run.epochs if e.probabilities]
    names = candidates_of(run)
    choices = dict.fromkeys(choice for e in epochs for choice in e.probabilities)

    def value(row: Sequence[float | None] | None, k: int) -> float | None:
        return finite(row[k]) if row is not None and k < len(row) else None

    rows = tuple(
        ProbabilityRow(choice, candidate, tuple(value(e.probabilities.get(choice), k) for e in epochs))
        for choice in choices
        for k, candidate in enumerate(names[choice])
    )
    return ProbabilityPoints(tuple(e.epoch for e in epochs), rows)


def _ranked(row: Sequence[float | None]) -> list[tuple[float, int]]:
    """(probability, candidate's index), strongest first; equal ones in order of the candidates."""
    known = [(p, k) for k, p in enumerate(map(finite, row)) if p is not None]
    return sorted(known, key=lambda pair: (-pair[0], pair[1]))


def _strongest(epoch: SearchEpoch, names: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """The candidate with the highest probability; what the line says itself goes first."""
    strongest = {}
    for choice, row in epoch.probabilities.items():
        if ranked := _ranked(row):
            strongest[choice] = names[choice][ranked[0][1]]
    return {**strongest, **epoch.architecture}


def stability_points(run: RunRecord) -> StabilityPoints:
    """The strongest candidate by choice and epoch, and how many of them changed from epoch to epoch."""
    names = candidates_of(run)
    by_epoch = {e.epoch: _strongest(e, names) for e in run.epochs}
    by_epoch = {epoch: winners for epoch, winners in by_epoch.items() if winners}
    choices = dict.fromkeys(choice for winners in by_epoch.values() for choice in winners)
    table = list(by_epoch.values())
    changes = tuple(
        sum(1 for choice in choices if i and now.get(choice) != table[i - 1].get(choice))
        for i, now in enumerate(table)
    )
    epochs = tuple(by_epoch)
    changed = [epoch for epoch, n in zip(epochs, changes, strict=True) if n]
    winners = {choice: tuple(now.get(choice) for now in table) for choice in choices}
    return StabilityPoints(epochs, winners, changes, changed[-1] if changed else None)


def decision_points(run: RunRecord) -> tuple[Decision, ...]:
    """How each choice was decided: as derived, or by the probabilities of the last epoch so far."""
    if run.derivation and run.derivation.choices:
        return run.derivation.choices
    if not run.epochs:
        return ()
    decisions = []
    names = candidates_of(run)
    last = run.epochs[-1]
    for choice, row in last.probabilities.items():
        ranked = _ranked(row)
        if not ranked:
            continue
        p, k = ranked[0]
        q, runner_up = (ranked[1][0], names[choice][ranked[1][1]]) if len(ranked) > 1 else (None, None)
        decisions.append(
            Decision(
                name=choice,
                winner=names[choice][k],
                winner_probability=p,
                runner_up=runner_up,
                runner_up_probability=q,
                margin=None if q is None else p - q,
                entropy=finite(last.entropy.get(choice)),
            )
        )
    return tuple(decisions)


def _network(training: Training) -> TrainedNetwork | None:
    result = training.result
    if result is None:
        return None
    return TrainedNetwork(
        training.name,
        training.kind,
        finite(result.test_accuracy),
        finite(result.train_accuracy),
        result.test_images,
        result.parameters,
        finite(result.macs),
        result.epochs,
        result.seed,
        finite(result.seconds),
        finite(result.test_perplexity),
    )


def control_points(run: RunRecord) -> ControlPoints:
    """The derived network and its controls, as far as they are trained."""
    networks = [n for n in map(_network, run.trainings) if n is not None]
    derived = next((n for n in networks if n.kind == "derived"), None)
    random = tuple(n for n in networks if n.kind == "random")
    accuracies = [n.test_accuracy for n in random if n.test_accuracy is not None]
    return ControlPoints(
        derived,
        random,
        tuple(n for n in networks if n is not derived and n.kind != "random"),
        statistics.fmean(accuracies) if accuracies else None,
        statistics.stdev(accuracies) if len(accuracies) > 1 else None,
    )


def training_points(run: RunRecord) -> tuple[tuple[Series, Series], ...]:
    """For each trained network its training loss and training accuracy by epoch, named after it."""
    curves = []
    for training in run.trainings:
        if training.epochs:
            epochs = tuple(e.epoch for e in training.epochs)
            loss = tuple(finite(e.train_loss) for e in training.epochs)
            accuracy = tuple(finite(e.train_accuracy) for e in training.epochs)
            curves.append((Series(training.name, epochs, loss), Series(training.name, epochs, accuracy)))
    return tuple(curves)
