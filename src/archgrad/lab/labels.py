"""Names beside points: shortened, and put where they cover nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

_LETTER, _LINE, _GAP = 6.0, 13.0, 8.0  # pixels of the page's small type; gap: from a point to its name


class _Box(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float

    def covers(self, other: _Box) -> bool:
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )


def short(name: str, limit: int) -> str:
    """At most `limit` characters, with beginning and end.

    >>> short("gumbel_max · score_function(baseline=none)", 24)
    'gumbel_max · …eline=none)'
    >>> short("softmax", 24)
    'softmax'
    """
    if len(name) <= limit + 1:
        return name
    head = limit // 2 + 1
    return f"{name[:head]}…{name[head - limit :]}"


def placed(
    names: Sequence[str],
    at: Sequence[tuple[float, float]],
    size: tuple[float, float],
    obstacles: Sequence[tuple[float, float]] = (),
) -> list[str | None]:
    """For each name plotly's text position at which it is free of names and points; None where there is none.

    Args:
        names: N names, the most important first.
        at: N points in pixels, from the upper left corner.
        size: of the picture in pixels; names stay inside.
        obstacles: further points that are not to be covered.
    """
    taken = [_Box(x - 4, y - 4, x + 4, y + 4) for x, y in (*at, *obstacles)]
    found: list[str | None] = []
    for name, (x, y) in zip(names, at, strict=True):
        width, half = _LETTER * len(name), _LINE / 2
        options = {
            "middle right": _Box(x + _GAP, y - half, x + _GAP + width, y + half),
            "middle left": _Box(x - _GAP - width, y - half, x - _GAP, y + half),
            "top center": _Box(x - width / 2, y - _GAP - _LINE, x + width / 2, y - _GAP),
            "bottom center": _Box(x - width / 2, y + _GAP, x + width / 2, y + _GAP + _LINE),
            "top right": _Box(x + 5, y - _GAP - _LINE, x + 5 + width, y - _GAP),
            "top left": _Box(x - 5 - width, y - _GAP - _LINE, x - 5, y - _GAP),
            "bottom right": _Box(x + 5, y + _GAP, x + 5 + width, y + _GAP + _LINE),
            "bottom left": _Box(x - 5 - width, y + _GAP, x - 5, y + _GAP + _LINE),
        }
        free = [
            (place, box)
            for place, box in options.items()
            if box.left >= 0
            and box.right <= size[0]
            and box.top >= 0
            and box.bottom <= size[1]
            and not any(box.covers(other) for other in taken)
        ]
        found.append(free[0][0] if free else None)
        taken += [box for _, box in free[:1]]
    return found
