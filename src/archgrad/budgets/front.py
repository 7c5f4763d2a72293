"""Fronts of cost against accuracy: what is not dominated, and the area that a front covers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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


def drawing(
    series: Mapping[str, tuple[Sequence[Point], str, bool]],
    cost: str,
    accuracy: str,
    size: tuple[int, int] = (640, 400),
) -> str:
    """An SVG of points, or where the third part of a series says so of the steps of its front.

    series: name -> (points, CSS colour, whether it is a line). cost, accuracy: what the axes say.
    """
    every = [point for points, _, _ in series.values() for point in points]
    width, height = size
    left, bottom, top, right = 60, 45, 15, 15
    low, high = min(p.cost for p in every), max(p.cost for p in every)
    worst, best = min(p.accuracy for p in every), max(p.accuracy for p in every)

    def x(value: float) -> float:
        return left + (width - left - right) * (value - low) / ((high - low) or 1.0)

    def y(value: float) -> float:
        return height - bottom - (height - bottom - top) * (value - worst) / ((best - worst) or 1.0)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<path d="M{left} {top}V{height - bottom}H{width - right}" fill="none" stroke="#888"/>',
        f'<text x="{(left + width) / 2}" y="{height - 8}" text-anchor="middle">{cost}</text>',
        f'<text transform="translate(14 {height / 2}) rotate(-90)" text-anchor="middle">{accuracy}</text>',
    ]
    for value in (low, (low + high) / 2, high):
        parts.append(f'<text x="{x(value):.1f}" y="{height - 28}" text-anchor="middle">{value:.4g}</text>')
    for value in (worst, (worst + best) / 2, best):
        parts.append(f'<text x="{left - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.4g}</text>')
    for place, (name, (points, colour, line)) in enumerate(series.items()):
        if line:
            steps = front(points)
            path = f"M{x(steps[0].cost):.1f} {y(steps[0].accuracy):.1f}" + "".join(
                f"H{x(p.cost):.1f}V{y(p.accuracy):.1f}" for p in steps[1:]
            )
            parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        else:
            for p in points:
                place_of = f'cx="{x(p.cost):.1f}" cy="{y(p.accuracy):.1f}"'
                parts.append(f'<circle {place_of} r="3" fill="{colour}" fill-opacity="0.6"/>')
        parts.append(
            f'<text x="{width - right - 4}" y="{height - bottom - 12 - 16 * place}" text-anchor="end" '
            f'fill="{colour}">{name}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"
