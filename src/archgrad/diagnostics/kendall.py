"""Kendall's rank correlation τ-b, exactly."""

from __future__ import annotations

from collections.abc import Sequence


def kendall_tau(x: Sequence[float], y: Sequence[float]) -> float | None:
    """τ-b of two rankings of the same n things: 1 the same order, −1 the reverse; None where one is all ties.

    (pairs in the same order − pairs in reverse order) / √(pairs untied in x · pairs untied in y). O(n²), for
    the few candidates of a choice and some dozens of architectures; loading SciPy's takes longer than a whole
    search on small images.

    Source: Kendall 1945, The treatment of ties in ranking problems, Biometrika 33.

    >>> kendall_tau([1, 2, 3], [1, 3, 2])
    0.3333333333333333
    """
    agreement = untied_x = untied_y = 0
    for i in range(len(x)):
        for j in range(i):
            a, b = (x[i] > x[j]) - (x[i] < x[j]), (y[i] > y[j]) - (y[i] < y[j])
            agreement, untied_x, untied_y = agreement + a * b, untied_x + a * a, untied_y + b * b
    return agreement / (untied_x * untied_y) ** 0.5 if untied_x and untied_y else None
