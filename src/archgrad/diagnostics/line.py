"""What diagnostics read from lines of ``metrics.jsonl``, and the form of what they say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

Line = Mapping[str, Any]
"""A line of ``metrics.jsonl`` (docs/architecture.md); keys may be missing, numbers may be null."""

Reading = dict[str, float | dict[str, float]]
"""Field -> a number, or a number for every choice or cell."""


def number(line: Line, key: str) -> float | None:
    """The finite number under `key`, or None."""
    value = line.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def decided(line: Line) -> dict[str, list[float]]:
    """Choice -> its K probabilities; of choices that an architecture decides, so not of blends."""
    rows = line.get("probabilities") or {}
    names = line.get("architecture") or rows
    return {name: rows[name] for name in names if rows.get(name) and None not in rows[name]}


def shares(row: Sequence[float]) -> list[float]:
    """The row over its sum: of gates, each for itself in [0, 1], their shares; uniform where all are 0.

    >>> shares([0.5, 1.0, 0.5])
    [0.25, 0.5, 0.25]
    """
    total = sum(row)
    return [p / total for p in row] if total > 0 else [1 / len(row)] * len(row)


def mean(values: Sequence[float]) -> float:
    """The mean of at least one value."""
    return sum(values) / len(values)


def at_epoch(lines: Sequence[Line], epoch: int) -> Line | None:
    """The line of an epoch, the last one written where there are several; or None."""
    return next((line for line in reversed(lines) if line["epoch"] == epoch), None)
