"""The pictures of an experiment as SVG: mean ranks, scores by seed, curves with bands.

Colours are CSS values: variables of the page, or hexadecimal numbers in a file of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from archgrad.lab.labels import short

DASHES = ("none", "6 3", "2 2", "6 2 2 2", "9 3")
_LETTER = 6.6  # pixels of a letter of 12


class Ink(NamedTuple):
    """Colours of a picture: of letters and lines, of what is secondary, of the grid; None: no background."""

    strong: str = "var(--ink)"
    weak: str = "var(--muted)"
    grid: str = "var(--grid)"
    accent: str = "var(--accent)"
    paper: str | None = None


ON_PAPER = Ink("#18202b", "#5c6675", "#e9ecf0", "#0067a5", "#ffffff")
"""For a file of its own."""


class Span(NamedTuple):
    """An axis from low to high with some round ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def share(self, value: float) -> float:
        """Position in [0, 1]."""
        return (value - self.low) / (self.high - self.low)


def span(values: Sequence[float], about: int = 4) -> Span:
    """The axis on which all of the values are, a little wider than they are.

    >>> span([0.901, 0.943]).ticks
    (0.9, 0.92, 0.94)
    """
    least, largest = min(values), max(values)
    width = (largest - least) or max(abs(least), 1.0) * 0.02
    low, high = least - 0.04 * width, largest + 0.04 * width
    raw = (high - low) / about
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(m * size for m in (1, 2, 5, 10) if m * size >= raw * 0.99)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return Span(low, high, tuple(round(k * step, 12) for k in range(first, last + 1)))


def rank_svg(ranks: Mapping[str, Any], control: str | None, ink: Ink = ON_PAPER) -> str:
    """Mean ranks on a line, best on the left; a bar joins what the critical difference does not tell apart.

    Source: Demšar 2006, figure 1.

    Args:
        ranks: fields of `statistics.Ranks`.
        control: an arm that is drawn in another colour.
        ink: the colours.
    """
    mean: dict[str, float] = dict(ranks["mean"])
    names, count = sorted(mean, key=mean.__getitem__), len(mean)
    room = 24 + max(_LETTER * len(short(n, 34)) for n in names) + 40
    width, left, right = 760.0, min(280.0, room), 760.0 - min(280.0, room)
    groups = ranks["groups"]
    top, bars = 66.0, 14.0 + 9.0 * len(groups)
    half = math.ceil(count / 2)
    height = top + bars + 20 * half + 16

    def x(rank: float) -> float:
        return left + (right - left) * (rank - 1) / max(1, count - 1)

    parts = [_open(width, height, "mean ranks of the arms", ink)]
    critical = min(float(ranks["critical"]), count - 1.0)
    wide = x(1 + critical)
    parts += [
        _path(f"M{x(1):.1f} 14v8M{x(1):.1f} 18H{wide:.1f}M{wide:.1f} 14v8", ink.strong, 1.4),
        _text((x(1) + wide) / 2, 11, f"critical difference {ranks['critical']:.2f}", ink.weak, "middle", 11),
        _path(f"M{x(1):.1f} {top}H{x(count):.1f}", ink.strong, 1.4),
    ]
    for rank in range(1, count + 1):
        parts.append(_path(f"M{x(rank):.1f} {top - 6}v6", ink.strong, 1.2))
        parts.append(_text(x(rank), top - 10, str(rank), ink.weak, "middle", 11))
    for number, name in enumerate(names):
        before = number < half
        row = number if before else count - 1 - number
        y, end = top + bars + 20 * row + 10, left - 14 if before else right + 14
        tone = ink.accent if name == control else ink.strong
        parts.append(_path(f"M{x(mean[name]):.1f} {top}V{y}H{end:.1f}", tone, 1.1))
        label = f"{short(name, 34)}  {mean[name]:.2f}" if before else f"{mean[name]:.2f}  {short(name, 34)}"
        place = end - 5 if before else end + 5
        parts.append(_text(place, y + 4, label, tone, "end" if before else "start", 12))
    for number, group in enumerate(groups):
        y = top + 10 + 9 * number
        ends = x(mean[group[0]]) - 4, x(mean[group[-1]]) + 4
        parts.append(_path(f"M{ends[0]:.1f} {y}H{ends[1]:.1f}", ink.strong, 4))
    return "".join([*parts, "</svg>"])


def seeds_svg(
    values: Sequence[float], ends: tuple[float, float] | None, axis: Span, colour: str, width: int = 230
) -> str:
    """The score of every seed as a dot, the mean as a stroke with its interval as a bar; a row of a table."""
    inner, height = width - 12, 26

    def x(value: float) -> float:
        return 6 + inner * axis.share(value)

    mean = sum(values) / len(values)
    parts = [_open(width, height, f"{len(values)} scores, mean {mean:.4g}", Ink(), fixed=True)]
    for tick in axis.ticks:
        parts.append(_path(f"M{x(tick):.1f} 0V{height}", "var(--grid)", 1))
    if ends is not None:
        low, high = (min(max(end, axis.low), axis.high) for end in ends)
        parts.append(
            f'<rect x="{x(low):.1f}" y="7" width="{max(1.0, x(high) - x(low)):.1f}" height="12" rx="3" '
            f'fill="{colour}" fill-opacity="0.22"/>'
        )
    for value in values:
        parts.append(f'<circle cx="{x(value):.1f}" cy="13" r="3.1" fill="{colour}" fill-opacity="0.65"/>')
    parts.append(_path(f"M{x(mean):.1f} 4V22", colour, 2.2))
    return "".join([*parts, "</svg>"])


def axis_svg(axis: Span, show: str, width: int = 230) -> str:
    """The numbers above a column of `seeds_svg`; show: a format."""
    parts = [_open(width, 14, "axis", Ink(), fixed=True)]
    free = -math.inf
    for tick in axis.ticks:
        at, text = 6 + (width - 12) * axis.share(tick), format(tick, show)
        half = _LETTER * len(text) / 2
        at = min(max(at, half), width - half)
        if at - half > free:
            parts.append(_text(at, 11, text, "var(--muted)", "middle", 11))
            free = at + half + 4
    return "".join([*parts, "</svg>"])


def curves_svg(
    curves: Mapping[str, Mapping[str, Any]],
    quantity: str,
    colours: Mapping[str, tuple[str, str, str]],
    show: str,
    unit: str,
    ink: Ink | None = None,
) -> str | None:
    """A quantity by epoch, the mean of each arm, over the band between the quartiles; None without any.

    Args:
        curves: arm -> `points.Curves`.
        quantity: "accuracy", "entropy" or "stability".
        colours: arm -> (line, band, dash).
        show: format of the numbers on the left.
        unit: below the axis.
        ink: the colours; of the page, which has a legend of its own, unless given.
    """
    legend = ink is not None and ink.paper is not None
    ink = ink or Ink()
    known = {name: c for name, c in curves.items() if c.get(quantity)}
    if not known:
        return None
    width, height, left, bottom, top, right = 460.0, 236.0, 52.0, 34.0, 8.0, 10.0
    steps: list[int] = [t for c in known.values() for t in c["at"]]
    first, last = min(steps), max(steps)
    begun = first + (last - first) / 10  # what is before may be far below, and is drawn on the edge
    found = [
        v for c in known.values() for end in ("mean", "lower", "upper")
        for t, v in zip(c["at"], c[quantity][end], strict=True) if v is not None and t >= begun
    ]  # fmt: skip
    if not found:
        return None
    axis = span([0.0, *found] if quantity == "entropy" else found)

    def x(step: float) -> float:
        return left + (width - left - right) * (step - first) / max(1, last - first)

    def y(value: float) -> float:
        share: float = min(1.0, max(0.0, axis.share(value)))
        return height - bottom - (height - bottom - top) * share

    rows_below = math.ceil(len(known) / 3) if legend else 0
    parts = [_open(width, height + 18 * rows_below, f"{quantity} by {unit}", ink)]
    for tick in axis.ticks:
        parts.append(_path(f"M{left} {y(tick):.1f}H{width - right}", ink.grid, 1))
        parts.append(_text(left - 6, y(tick) + 4, format(tick, show), ink.weak, "end", 11))
    for tick in _whole(first, last):
        parts.append(_text(x(tick), height - bottom + 16, f"{tick:,}", ink.weak, "middle", 11))
    parts.append(_text((left + width - right) / 2, height - 3, unit, ink.weak, "middle", 11))
    for name, curve in known.items():
        line, band, dash = colours[name]
        rows = [
            (x(t), *(y(v) for v in values))
            for t, *values in zip(
                curve["at"], *(curve[quantity][end] for end in ("mean", "lower", "upper")), strict=True
            )
            if None not in values
        ]
        area = [f"{a:.1f} {high:.1f}" for a, _, _, high in rows]
        area += [f"{a:.1f} {low:.1f}" for a, _, low, _ in reversed(rows)]
        parts.append(f'<path d="M{"L".join(area)}Z" fill="{band}"/>')
        if len(rows) == 1:
            parts.append(f'<circle cx="{rows[0][0]:.1f}" cy="{rows[0][1]:.1f}" r="3" fill="{line}"/>')
        path = "M" + "L".join(f"{a:.1f} {m:.1f}" for a, m, _, _ in rows)
        title = f"<title>{escape(name)}</title>"
        parts.append(
            f'<path d="{path}" fill="none" stroke="{line}" stroke-width="1.8" '
            f'stroke-dasharray="{dash}">{title}</path>'
        )
    for number, name in enumerate(known if legend else ()):
        at, below = 12 + 150 * (number % 3), height + 18 * (number // 3) + 8
        line, _, dash = colours[name]
        parts.append(
            f'<path d="M{at} {below:.0f}h18" stroke="{line}" stroke-width="3" stroke-dasharray="{dash}"/>'
        )
        parts.append(_text(at + 23, below + 4, short(name, 20), ink.strong, "start", 11))
    return "".join([*parts, "</svg>"])


def _whole(first: int, last: int) -> list[int]:
    """A few whole numbers between two."""
    if last - first < 6:
        return list(range(first, last + 1))
    return sorted({first, last, *(round(first + (last - first) * share) for share in (0.25, 0.5, 0.75))})


def _open(width: float, height: float, label: str, ink: Ink, fixed: bool = False) -> str:
    size = f'width="{width:g}" height="{height:g}"' if fixed else ""
    back = f'<rect width="{width:g}" height="{height:g}" fill="{ink.paper}"/>' if ink.paper else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" {size} role="img" '
        f'aria-label="{escape(label)}" font-family="sans-serif">{back}'
    )


def _path(path: str, colour: str, width: float) -> str:
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width:g}"/>'


def _text(x: float, y: float, text: str, colour: str, anchor: str, size: int) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" font-size="{size}" text-anchor="{anchor}">'
        f"{escape(text)}</text>"
    )
