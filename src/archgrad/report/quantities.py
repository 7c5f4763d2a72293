"""Numbers as a person reads them: percent, counts with a prefix, durations."""

from __future__ import annotations

import math

_MISSING = "–"


def percent(fraction: float | None, digits: int = 2) -> str:
    """A fraction in [0, 1] as percent.

    >>> percent(0.94215)
    '94.22%'
    """
    return _MISSING if fraction is None or not math.isfinite(fraction) else f"{100 * fraction:.{digits}f}%"


def points(difference: float) -> str:
    """A difference of two fractions in percentage points, signed.

    >>> points(-0.0123)
    '−1.23 points'
    """
    return f"{100 * difference:+.2f} points".replace("-", "−")


def count(value: float | None) -> str:
    """A count with three significant digits and k, M or G.

    >>> [count(v) for v in (7, 3349342, 528360000, 999999)]
    ['7', '3.35 M', '528 M', '1.00 M']
    """
    if value is None or not math.isfinite(value):
        return _MISSING
    if abs(value) < 1000:
        return f"{value:.3g}"
    for size, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        scaled = value / size
        if abs(scaled) >= 0.9995:  # 999,999 is 1.00 M, not 1000 k
            digits = max(0, 2 - math.floor(math.log10(max(1.0, abs(scaled) * 1.0005))))
            return f"{scaled:.{digits}f} {prefix}"
    raise AssertionError("unreachable: a value of 1000 or more has a prefix")


def duration(seconds: float | None) -> str:
    """Seconds as the two largest units.

    >>> [duration(v) for v in (3.21, 75, 1200, 7980, 200000)]
    ['3.2 s', '1 min 15 s', '20 min', '2 h 13 min', '2 d 7 h']
    """
    if seconds is None or not math.isfinite(seconds):
        return _MISSING
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    rest = round(seconds)
    largest = next(i for i, (_, size) in enumerate(units) if rest >= size)
    parts = []
    for unit, size in units[largest : largest + 2]:
        amount, rest = divmod(rest, size)
        parts += [f"{amount} {unit}"] if amount else []
    return " ".join(parts)
