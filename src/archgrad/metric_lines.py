"""What rules and alarms read from the lines of ``metrics.jsonl``: what is there, and only if it is sound."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from archgrad.diagnostics import record_diagnostics

Line = Mapping[str, Any]
"""A line of ``metrics.jsonl`` with its key ``diagnostics`` (docs/architecture.md, docs/convergence.md)."""


def number(value: Any) -> float | None:
    """The value where it is a finite number, else None.

    >>> number(3), number("3"), number(float("nan"))
    (3.0, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an integer that no float holds
        return None


def reading(line: Line, diagnostic: str, field: str) -> float | None:
    """A number of a diagnostic, or None where it was not measured in this epoch.

    >>> reading({"epoch": 0, "diagnostics": {"entropy": {"mean": 1.5}}}, "entropy", "mean")
    1.5
    """
    return number(parts(line, diagnostic).get(field))


def by_name(line: Line, diagnostic: str, field: str) -> dict[str, float]:
    """The numbers of a field that has one for every choice or cell; empty where there are none."""
    values = parts(line, diagnostic).get(field)
    if not isinstance(values, Mapping):
        return {}
    return {str(name): known for name, value in values.items() if (known := number(value)) is not None}


def parts(line: Line, diagnostic: str) -> Mapping[str, Any]:
    """The fields of a diagnostic; none where it was not measured in this epoch."""
    found = line.get("diagnostics")
    fields = found.get(diagnostic) if isinstance(found, Mapping) else None
    return fields if isinstance(fields, Mapping) else {}


def complete(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """The lines with the record diagnostics, which those of older runs lack."""
    done: list[dict[str, Any]] = []
    for line in lines:
        found = line.get("diagnostics")
        if not isinstance(found, Mapping) or "entropy" not in found:
            found = {**record_diagnostics(line, done), **(found if isinstance(found, Mapping) else {})}
        done.append({**line, "diagnostics": found})
    return done


def learned(line: Line) -> bool:
    """Whether the logits were trained in this epoch: not in a warm-up, nor by a method that leaves them."""
    return number(line.get("alpha_gradient_norm")) is not None


def epoch_of(line: Line) -> int:
    """The epoch of a line, from 0."""
    return int(line["epoch"])
