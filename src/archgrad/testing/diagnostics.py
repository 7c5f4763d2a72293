"""The contract of a probe: ``probe(subject) -> {field: number or {name: number}}``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from archgrad.diagnostics.subject import Probe, Subject, untouched
from archgrad.search import search
from archgrad.search_records import EpochRecord
from archgrad.testing.hypergradients import counted
from archgrad.testing.law import BrokenLaw, require, require_identical

READ_ONLY = "a search that is looked at is identical to one that is not"
RESTORED = "a look that raises leaves the search as it was"
RAISES = "an exception of the network is passed on"
FORM = "a look gives numbers, or numbers by name, all finite"
REPEATABLE = "two looks at the same epoch give the same numbers"
PASSES = "a look costs the passes that its documentation states"


class _Interrupted(Exception):
    """Raised by a network on purpose."""


def check_probe(
    probe: Probe,
    begin: Callable[[], Subject],
    *,
    passes: tuple[int, int, int] | None = None,
    interrupt: bool = True,
) -> dict[str, Any]:
    """Check a probe's laws on a search; returns what it said of the first epoch.

    Args:
        probe: the part.
        begin: makes the search from the beginning, the same one at every call, of two epochs or more.
        passes: (forward passes, backward passes, passes back through a backward pass) of the supernet in a
            look; None leaves them unchecked, and so does a search without a supernet.
        interrupt: also let the network fail in every one of its passes of a look.

    Raises:
        BrokenLaw: with the law's name and the numbers.
    """
    alone, watched = begin(), begin()
    first: dict[str, Any] = {}
    for step, (a, b) in enumerate(zip(_epochs(alone), _epochs(watched), strict=True)):
        _require_same(alone, watched, f"before look {step + 1}")
        require(_plain(a[0]) == _plain(b[0]), READ_ONLY, f"the record of epoch {step}: {a[0]} and {b[0]}")
        before = _state(watched)
        with untouched(b[1]):
            reading = dict(probe(b[1]))
        _require_state(before, _state(watched), READ_ONLY, f"after look {step + 1}")
        _check_form(reading)
        if step == 0:
            first = reading
            with untouched(b[1]):
                again = dict(probe(b[1]))
            require(again == reading, REPEATABLE, f"{reading} and {again}")
            if b[1].network is not None:
                _check_passes(probe, b[1], passes, interrupt)
    return first


def _epochs(subject: Subject) -> Iterator[tuple[EpochRecord, Subject]]:
    """The epochs of the search, each with the subject as it is after it."""
    for record in search(subject.task, subject.state, subject.plan, subject.streams):
        if isinstance(record, EpochRecord):
            yield (
                record,
                Subject(subject.task, subject.state, subject.plan, subject.streams, record.epoch),
            )


def _check_form(reading: dict[str, Any]) -> None:
    for field, value in reading.items():
        numbers = value.values() if isinstance(value, dict) else [value]
        for number in numbers:
            fits = isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number)
            require(fits, FORM, f"{field}: {value!r}")


def _check_passes(
    probe: Probe, subject: Subject, passes: tuple[int, int, int] | None, interrupt: bool
) -> None:
    with _watched(subject, 0) as counts, untouched(subject):
        probe(subject)
    require(
        passes is None or tuple(counts) == passes,
        PASSES,
        f"stated (forward, backward, second order) = {passes}, counted {tuple(counts)}",
    )
    for number in range(1, counts[0] + 1 if interrupt else 1):
        before = _state(subject)
        try:
            with _watched(subject, number), untouched(subject):
                probe(subject)
        except _Interrupted:
            _require_state(before, _state(subject), RESTORED, f"after pass {number} raised")
        else:
            raise BrokenLaw(RAISES, f"pass {number} raised, the probe returned")


@contextmanager
def _watched(subject: Subject, interrupt_at: int) -> Iterator[list[int]]:
    """Count the supernet's passes; forward pass `interrupt_at` (from 1; 0: none) raises when it is done."""
    network, counts, back = subject.network, [0, 0, 0], [0, 0]
    assert network is not None
    weight = next(network.parameters())

    def count(module: nn.Module, given: tuple[Any, ...], output: Any) -> Any:
        counts[0] += 1
        if counts[0] == interrupt_at:
            raise _Interrupted
        if not isinstance(output, Tensor) or not output.requires_grad:
            return output
        weights = [s.weights for s in given[1] if s.weights.requires_grad]
        return counted(output, back, *weights, weight)

    handle = network.register_forward_hook(count)
    try:
        yield counts
    finally:
        handle.remove()
        # a pass back through a backward pass also goes on through the forward pass below it
        counts[1:] = back[0] - back[1], back[1]


def _state(subject: Subject) -> dict[str, Tensor | None]:
    """Copies of all that a look may not change."""
    named: dict[str, Tensor | None] = {"random state of PyTorch": torch.get_rng_state()}
    state, task = subject.state, subject.task
    tensors: dict[str, Any] = {
        "weight": task.weights,
        "buffer": task.buffers,
        "logits": state.logits,
        "memory": state.memory,
    }
    if subject.network is not None:
        tensors["buffer of the network"] = list(subject.network.buffers())
        modes = [m.training for m in subject.network.modules()]
        momenta = [getattr(m, "momentum", None) for m in subject.network.modules()]
        named["modes of the modules"] = torch.tensor(modes)
        # None, the plain mean, is told from every momentum by −1
        named["momenta of the modules"] = torch.tensor(
            [-1.0 if m is None else float(m) for m in momenta], dtype=torch.float64
        )
    for kind, several in tensors.items():
        for index, tensor in enumerate(several):
            named[f"{kind} {index}"] = tensor.detach().clone()
            gradient = tensor.grad if tensor.is_leaf else None
            named[f"gradient field of {kind} {index}"] = None if gradient is None else gradient.clone()
    for name, optimizer in (
        ("weight", state.weight_optimizer),
        ("architecture", state.architecture_optimizer),
    ):
        for index, values in enumerate(optimizer.state.values() if optimizer else ()):
            for key, value in values.items():
                kept = (
                    value.clone()
                    if isinstance(value, Tensor)
                    else torch.tensor(0.0 if value is None else value)
                )
                named[f"{name} optimizer's {key} {index}"] = kept
    named["position"] = torch.tensor([state.epoch, state.step, state.skipped_in_a_row])
    return named


def _require_same(alone: Subject, watched: Subject, when: str) -> None:
    _require_state(_state(alone), _state(watched), READ_ONLY, when)


def _require_state(
    wanted: dict[str, Tensor | None], got: dict[str, Tensor | None], law: str, when: str
) -> None:
    require(wanted.keys() == got.keys(), law, f"{when}: {sorted(set(wanted) ^ set(got))[:3]} came or went")
    for name, value in wanted.items():
        require_identical(law, got[name], value, f"{name} {when}")


def _plain(record: EpochRecord) -> str:
    """The record but for its seconds, as text, in which NaN equals NaN."""
    return repr(record._replace(seconds=0.0))
