"""How many decoded images this machine's memory takes, asked before they are decoded."""

from __future__ import annotations

import math
import os

from archgrad.errors import UserError

_SHARE = 0.5  # of the memory, for the pixels; the rest is for the network and everything else
_UNKNOWN = 16 * 2**30  # bytes of memory where the system does not say


def memory_limit() -> int:
    """Bytes of pixels that are decoded into memory at most: half of this machine's."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # no sysconf on Windows
        memory = _UNKNOWN
    return int(_SHARE * memory)


def refuse_too_large(images: int, shape: tuple[int, int, int]) -> None:
    """Refuse `images` images of `shape` (C, H, W), one byte a value, that do not fit into memory.

    Raises:
        UserError: they take more than `memory_limit`.
    """
    wanted, limit = images * math.prod(shape), memory_limit()
    if wanted > limit:
        channels, height, width = shape
        side = math.isqrt(limit // max(1, images * channels))
        raise UserError(
            f"{images:,} images of {width}×{height} pixels (width × height) in {channels} channel(s) take "
            f"{wanted / 2**30:,.1f} GiB decoded, of {limit / 2**30:,.1f} GiB that there are for them here; "
            f"give a smaller data.resize: 64 is a good start, {side} the most"
        )
