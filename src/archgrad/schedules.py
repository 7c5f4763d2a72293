"""Temperatures and learning rates as pure functions of progress in [0, 1].

``value = SCHEDULES[name](start, end, progress)`` with value(0) = start and value(1) = end exactly
(`constant` stays at start).
Being functions of progress they cannot compound: the annealing "τ ← τ·(1 − e/E) every epoch" of some
texts is a running product that falls far below the linear schedule it claims to be.
"""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[float, float, float], float]


def constant(start: float, end: float, progress: float) -> float:
    """`start` throughout.

    >>> constant(1.0, 0.1, 0.7)
    1.0
    """
    return start


def linear(start: float, end: float, progress: float) -> float:
    """Straight line (GDAS: 10 to 0.1; SNAS: 1 to 0.03).

    >>> linear(10.0, 0.0, 0.25)
    7.5
    """
    return end if progress >= 1 else start + (end - start) * progress


def exponential(start: float, end: float, progress: float) -> float:
    """start·(end/start)^progress: the same factor every epoch. Both ends must be positive.

    >>> round(exponential(10.0, 0.1, 0.5), 12)
    1.0
    """
    return end if progress >= 1 else start * (end / start) ** progress


def cosine(start: float, end: float, progress: float) -> float:
    """Half a cosine from start to end (Loshchilov & Hutter 2017, SGDR, eq. 5, without restarts).

    >>> cosine(1.0, 0.0, 0.5)
    0.5
    """
    if progress <= 0:
        return start  # end + (start − end) rounds: from 0.1 to 10 it starts at 0.09999999999999964
    return end if progress >= 1 else end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


SCHEDULES: dict[str, Schedule] = {
    "constant": constant,
    "linear": linear,
    "exponential": exponential,
    "cosine": cosine,
}


def epoch_progress(epoch: int, epochs: int) -> float:
    """Progress of epoch 0 … epochs−1 with both ends reached: e/(E−1), and 1 for a single epoch.

    >>> [epoch_progress(e, 3) for e in range(3)]
    [0.0, 0.5, 1.0]
    """
    return epoch / (epochs - 1) if epochs > 1 else 1.0
