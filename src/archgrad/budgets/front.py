"""Fronts of cost against accuracy: what is not dominated, and the area that a front covers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import NamedTuple


class Point(NamedTuple):
    """A network: its cost (less is better) and its accuracy in percent (more is better)."""

    cost: float
    accuracy: float


def front(points: Iterable[Point]) -> list[Point]:
    """Those that no other is at least as cheap and as accurate as, by rising cost; of equal ones the first.

    >>> front([Point(2, 90), Point(1, 80), Point(3, 85), Point(2, 90)])
    [Point(cost=1, accuracy=80), Point(cost=2, accuracy=90)]
    """
    found: list[Point] = []
    for point in sorted(points, key=lambda p: (p.cost, -p.accuracy)):
        if not found or point.accuracy > found[-1].accuracy:
            found.append(point)
    return found


def hyper_volume(points: Iterable[Point], reference: Point) -> float:
    """The area of what the points dominate and the reference does not: Σ of the steps of their front.

    With two criteria it is the exact hyper-volume of Zitzler & Thiele 1998 (PPSN V). Points that are dearer
    or less accurate than the reference add nothing.

    >>> hyper_volume([Point(1, 80), Point(2, 90)], Point(4, 70))
    50.0
    """
    steps = front(p for p in points if p.cost < reference.cost and p.accuracy > reference.accuracy)
    ends = [*(p.cost for p in steps[1:]), reference.cost] if steps else []
    return float(
        sum((end - p.cost) * (p.accuracy - reference.accuracy) for p, end in zip(steps, ends, strict=True))
    )


class Series(NamedTuple):
    """Points of a figure, and how they are drawn.

    colour: of CSS. line: whether the steps of their front are. dots: whether each of them is.
    """

    points: Sequence[Point]
    colour: str
    line: bool = False
    dots: bool = True


def drawing(
    series: Mapping[str, Series],
    cost: str,
    accuracy: str,
    *,
    show: Callable[[float], str] = "{:.4g}".format,
    logarithmic: bool = False,
    limits: Sequence[float] = (),
    size: tuple[int, int] = (640, 420),
) -> str:
    """An SVG of points and fronts.

    Args:
        series: by name; the first is drawn last, above the others.
        cost, accuracy: what the axes say.
        show: a cost as a person reads it.
        logarithmic: whether the axis of costs is.
        limits: costs marked by a line from top to bottom.
        size: width and height.
    """
    every = [point for one in series.values() for point in one.points]
    width, height = size
    left, bottom, top, right = 60, 50, 40, 25
    scale: Callable[[float], float] = math.log if logarithmic else float
    costs = [*(p.cost for p in every), *limits]
    low, high = min(costs), max(costs)
    worst, best = min(p.accuracy for p in every), max(p.accuracy for p in every)

    def x(value: float) -> float:
        span = (scale(high) - scale(low)) or 1.0
        return left + 10 + (width - left - right - 10) * (scale(value) - scale(low)) / span

    def y(value: float) -> float:
        return height - bottom - 10 - (height - bottom - top - 10) * (value - worst) / ((best - worst) or 1.0)

    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-size="12" '
            'font-family="sans-serif">'
        ),
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<path d="M{left} {top}V{height - bottom}H{width - right}" fill="none" stroke="#888"/>',
        f'<text x="{(left + width) / 2}" y="{height - 8}" text-anchor="middle">{escape(cost)}</text>',
        (
            f'<text transform="translate(14 {height / 2}) rotate(-90)" text-anchor="middle">'
            f"{escape(accuracy)}</text>"
        ),
    ]
    for limit in limits:
        parts.append(
            f'<path d="M{x(limit):.1f} {top}V{height - bottom}" stroke="#bbb" stroke-dasharray="3 4"/>'
        )
    middle = math.sqrt(low * high) if logarithmic else (low + high) / 2
    for value in (low, middle, high):
        parts.append(
            f'<text x="{x(value):.1f}" y="{height - bottom + 16}" text-anchor="middle">'
            f"{escape(show(value))}</text>"
        )
    for value in (worst, (worst + best) / 2, best):
        parts.append(f'<text x="{left - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.4g}</text>')
    for one in reversed(list(series.values())):
        if one.line and one.points:
            steps = front(one.points)
            path = f"M{x(steps[0].cost):.1f} {y(steps[0].accuracy):.1f}" + "".join(
                f"H{x(p.cost):.1f}V{y(p.accuracy):.1f}" for p in steps[1:]
            )
            parts.append(f'<path d="{path}" fill="none" stroke="{one.colour}" stroke-width="2"/>')
        for p in one.points if one.dots else ():
            place = f'cx="{x(p.cost):.1f}" cy="{y(p.accuracy):.1f}"'
            parts.append(f'<circle {place} r="3.5" fill="{one.colour}" fill-opacity="0.7"/>')
    across = (width - left - right) / max(1, len(series))
    for number, (name, one) in enumerate(series.items()):  # above the plot, where no point is
        at = left + number * across
        parts.append(
            f'<rect x="{at:.1f}" y="14" width="10" height="10" fill="{one.colour}"/>'
            f'<text x="{at + 15:.1f}" y="23">{escape(name)}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"
