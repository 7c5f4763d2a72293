"""What diagnostics, alarms and rules said, by epoch: numbers only.

Records are computed of lines that lack them (`archgrad.diagnostics`), so a run of any age has them;
probes are there where they were asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from archgrad.metric_lines import Line, by_name, complete, reading
from archgrad.report.points import Series, finite
from archgrad.report.reading import RunRecord, SearchEpoch


class Curves(NamedTuple):
    """Curves that belong in one figure.

    key: unique on the page. form: a d3 number format of the values.
    """

    key: str
    title: str
    note: str
    series: tuple[Series, ...]
    form: str = ".3f"
    logarithmic: bool = False


class ChoicePoints(NamedTuple):
    """A number in [0, 1] of every choice by epoch."""

    key: str
    title: str
    note: str
    epochs: tuple[int, ...]
    rows: dict[str, tuple[float | None, ...]]


class Event(NamedTuple):
    """Something said after an epoch. kind: "alarm", "action" or "stop"."""

    epoch: int
    kind: str
    name: str
    text: str


class _Field(NamedTuple):
    diagnostic: str
    field: str
    name: str


_RECORDS = (
    (
        Curves("margin", "Margin", "winner less runner-up", ()),
        (_Field("margin", "mean", "mean"), _Field("margin", "least", "smallest")),
    ),
    (
        Curves("settled", "Order of the candidates", "", ()),
        (
            _Field("stability", "same", "winners as 5 epochs ago"),
            _Field("stability", "kendall_tau", "Kendall’s τ to the epoch before"),
        ),
    ),
    (
        Curves("operations", "What would be derived", "shares of its choices", (), ".0%"),
        (
            _Field("operations", "skip", "skip"),
            _Field("operations", "pooling", "pooling"),
            _Field("operations", "none", "none"),
        ),
    ),
    (
        Curves("step", "Step on α", "‖Δα‖ ÷ ‖α‖, mean of the epoch", (), ".2~e", True),
        (_Field("motion", "relative_step", "relative step"),),
    ),
)
_PROBES = (
    (
        Curves("gap", "Discretisation gap", "validation accuracy, shared weights", (), ".1%"),
        (
            _Field("gap", "mixture", "mixture"),
            _Field("gap", "derived", "derived"),
            _Field("gap", "sampled", "samples, mean"),
            _Field("gap", "best", "best sample"),
        ),
    ),
    (
        Curves("sharpness", "Sharpness λ_max", "of the validation loss in α", (), ".3~g"),
        (_Field("sharpness", "largest", "λ_max"), _Field("sharpness", "largest_with_decay", "with decay")),
    ),
    (
        Curves("signal", "Signal ÷ noise", "of the architecture gradient", (), ".3~g"),
        (_Field("signal", "ratio", "one batch"),),
    ),
    (
        Curves("agreement", "First order against unrolled", "cosine of the gradients", ()),
        (_Field("agreement", "cosine", "cosine"),),
    ),
    (
        Curves("ranking", "Rank quality", "Kendall’s τ to true accuracy", ()),
        (_Field("ranking", "kendall_tau", "τ"),),
    ),
)


class Convergence(NamedTuple):
    """All of it.

    records: margin, stability, operations, step size; probes: those that were taken, at the epochs at which
    they were; choices: entropy and margin of every choice. Without what no epoch has.
    events: alarms of every epoch at which they ring, what rules did, what ended the search, by epoch.
    watched: the search asked its alarms, so silence means that none rang.
    """

    records: tuple[Curves, ...]
    probes: tuple[Curves, ...]
    choices: tuple[ChoicePoints, ...]
    events: tuple[Event, ...]
    watched: bool


def convergence_points(run: RunRecord) -> Convergence:
    """What is known of the run."""
    lines = complete([_mapping(epoch) for epoch in run.epochs])
    watched = any(epoch.diagnostics for epoch in run.epochs)
    return Convergence(_of(lines, _RECORDS), _of(lines, _PROBES), _choices(lines), _events(run), watched)


def _choices(lines: Sequence[Line]) -> tuple[ChoicePoints, ...]:
    kinds = (
        ("entropy", "relative_by_choice", "Entropy by choice", "share of its maximum"),
        ("margin", "by_choice", "Margin by choice", "winner less runner-up"),
    )
    found = []
    for diagnostic, field, title, note in kinds:
        known = [(line["epoch"], by_name(line, diagnostic, field)) for line in lines]
        known = [(epoch, values) for epoch, values in known if values]
        names = dict.fromkeys(name for _, values in known for name in values)
        rows = {name: tuple(values.get(name) for _, values in known) for name in names}
        if rows:
            epochs = tuple(epoch for epoch, _ in known)
            found.append(ChoicePoints(f"{diagnostic}-by-choice", title, note, epochs, rows))
    return tuple(found)


def _events(run: RunRecord) -> tuple[Event, ...]:
    found = [
        Event(line.epoch, "alarm", name.replace("_", " "), f"{said.text}. {said.remedy}")
        for line in run.epochs
        for name, said in line.alarms.items()
    ]
    found += [
        Event(act.epoch, "action", act.action.replace("_", " "), f"{act.because}; {act.did}")
        for act in run.actions
    ]
    if run.stopped is not None:
        found.append(Event(run.stopped.epoch, "stop", "stopped", run.stopped.because))
    return tuple(sorted(found, key=lambda event: event.epoch))


def _of(lines: Sequence[Line], plan: Sequence[tuple[Curves, Sequence[_Field]]]) -> tuple[Curves, ...]:
    found = []
    for curves, fields in plan:
        series = []
        for diagnostic, field, name in fields:
            known = [
                (line["epoch"], value)
                for line in lines
                if (value := reading(line, diagnostic, field)) is not None
            ]
            if known:
                epochs, values = zip(*known, strict=True)
                series.append(Series(name, epochs, values))
        if series:
            found.append(curves._replace(series=tuple(series)))
    return tuple(found)


def _mapping(epoch: SearchEpoch) -> Line:
    """The line as it was written; a probability that is not finite is not known."""
    rows = {name: [finite(p) for p in row] for name, row in epoch.probabilities.items()}
    return {**epoch.model_dump(), "probabilities": rows}
