"""One colour per candidate, the same in every figure: family gives the hue, order the shade.

Hues after Okabe & Ito 2008 and Paul Tol's schemes, which stay apart for the common colour-vision
deficiencies; a test measures it for the spaces that archgrad has.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Colour(NamedTuple):
    """A hexadecimal colour for a light and for a dark page."""

    light: str
    dark: str


_BLUE = (Colour("#56b4e9", "#7cc8f4"), Colour("#0067a5", "#2f86d0"))
_FAMILIES: dict[str, tuple[Colour, ...]] = {
    "zero": (Colour("#858b94", "#5c636e"),),
    "identity": (Colour("#e69f00", "#f2b23a"),),
    "pooling": (Colour("#e39ac6", "#eeb2d6"), Colour("#8a2a6a", "#b4529d")),
    "separable": _BLUE,
    "dilated": (Colour("#5fcaa5", "#7fe0bd"), Colour("#00795a", "#169871")),
    "convolution": _BLUE,
}
_SPARE = (
    Colour("#d55e00", "#ee7733"),
    Colour("#b5a300", "#e3d33c"),
    Colour("#5f55c9", "#9389f5"),
    Colour("#8a5a44", "#c08d75"),
    Colour("#2b8c9b", "#58c3d2"),
    Colour("#6c8f1f", "#a5cc52"),
    Colour("#b03a4c", "#e2687a"),
    Colour("#44546a", "#a9bad1"),
)


def family(candidate: str) -> str:
    """The operation family that a candidate's name stands for; "other" when the name does not say.

    >>> [family(c) for c in ("none", "skip_connect", "sep_conv_3x3", "nor_conv_1x1", "mystery")]
    ['zero', 'identity', 'separable', 'convolution', 'other']
    """
    name = candidate.lower()
    if name in ("none", "zero"):
        return "zero"
    if "skip" in name or "identity" in name:
        return "identity"
    if "pool" in name:
        return "pooling"
    if "sep" in name and "conv" in name:
        return "separable"
    if "dil" in name and "conv" in name:
        return "dilated"
    return "convolution" if "conv" in name else "other"


def candidate_colours(candidates: Iterable[str]) -> dict[str, Colour]:
    """A colour for each candidate, in order; distinct as long as there are colours left."""
    names = list(dict.fromkeys(candidates))
    colours: dict[str, Colour] = {}
    for name in names:
        free = [c for c in _FAMILIES.get(family(name), ()) if c not in colours.values()]
        free = free or [c for c in _SPARE if c not in colours.values()]
        colours[name] = free[0] if free else _SPARE[len(colours) % len(_SPARE)]
    return colours
