"""Encoded images (PNG, JPEG, WebP ... as files or bytes) to uint8 pixels, by a pool of threads.

Grey files stay grey (C = 1) when all of a data set are grey; otherwise everything becomes RGB
(C = 3). Transparency is dropped, palettes are resolved, 16-bit grey is scaled to 8 bits, of an
animation the first frame counts. EXIF rotation is not applied.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from archgrad.datasets.memory import refuse_too_large
from archgrad.errors import UserError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})
"""File names that are taken for images; others in a folder (notes, thumbnails' indices) are passed over."""

# Only these are tried, the likely ones first: left to itself Pillow tries all it knows, which takes
# longer than decoding a small image, and some of those run other programs.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")

_T = TypeVar("_T")

_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
_CHUNK = 128  # images a task: enough that handing tasks out costs nothing

_THREADS_PAY = 64 * 64
"""Pixels of an image from which decoding in threads is faster (two cores; 32×32 is 1.4 times slower)."""


def _open(encoded: bytes | Path) -> Image.Image:
    return Image.open(io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded, formats=_FORMATS)


def _broken(where: str, error: BaseException) -> UserError:
    return UserError(f"cannot read the image {where}: {error}; replace or remove it")


def header(encoded: bytes | Path, where: str) -> tuple[int, int, int]:
    """(C, H, W) as the file's header says, without decoding; C is 1 for grey, else 3.

    Raises:
        UserError: not an image; the text names it by `where`.
    """
    try:
        with _open(encoded) as image:
            return _channels(image.mode), image.height, image.width
    except _BROKEN as error:
        raise _broken(where, error) from None


def _channels(mode: str) -> int:
    """Pillow's modes of one value a pixel: bilevel, grey, grey with alpha, 16 or 32 bits, float."""
    return 1 if mode in {"1", "L", "LA", "La", "F"} or mode.startswith("I") else 3


def decode(
    encoded: bytes | Path, where: str, channels: int, resize: tuple[int, int] | None
) -> NDArray[np.uint8]:
    """Pixels [C, H, W] of one image, stretched to `resize` = (H, W) where given (bilinear, antialiased).

    Raises:
        UserError: unreadable or truncated, or floating-point pixels; the text names it by `where`.
    """
    try:
        with _open(encoded) as image:
            return to_pixels(image, where, channels, resize)
    except UserError:
        raise
    except _BROKEN as error:
        raise _broken(where, error) from None


def to_pixels(
    image: Image.Image, where: str, channels: int | None, resize: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """Pixels [C, H, W] of an opened Pillow image; `channels` None takes as many as its mode has.

    Raises:
        UserError: floating-point pixels, or grey values beyond 16 bits.
    """
    if image.mode == "F":
        raise UserError(f"the image {where} has floating-point pixels; save it with 8 or 16 bits")
    channels = channels or _channels(image.mode)
    if image.mode.startswith("I"):  # Pillow's own conversion would clip at 255 instead of scaling
        deep = np.asarray(image).astype(np.int64)
        if deep.min() < 0 or deep.max() > 65535:
            raise UserError(f"the image {where} has grey values beyond 16 bits; save it with 8 or 16 bits")
        image = Image.fromarray(((deep + 128) // 257).astype(np.uint8))
    image = image.convert("L" if channels == 1 else "RGB")
    if resize is not None and (image.height, image.width) != resize:
        image = image.resize((resize[1], resize[0]), Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def common_shape(
    encoded: Sequence[bytes | Path], where: Callable[[int], str], resize: tuple[int, int] | None
) -> tuple[int, int, int]:
    """The one shape (C, H, W) that all images decode to; reads headers only.

    where: the name of image i, for messages.

    Raises:
        UserError: an unreadable image, or several sizes and no `resize`.
    """
    shapes: list[tuple[int, int, int]] = []
    for chunk in _in_threads(lambda i: header(encoded[i], where(i)), len(encoded)):
        shapes += chunk
    channels = max(c for c, _, _ in shapes)
    if resize is not None:
        return channels, *resize
    _, h, w = shapes[0]
    for i, (_, other_h, other_w) in enumerate(shapes):
        if (other_h, other_w) != (h, w):
            raise UserError(
                f"images of several sizes: {where(0)} is {w}×{h}, {where(i)} is {other_w}×{other_h} pixels "
                f"(width × height); give one size to bring all to, e.g. data.resize={min(max(h, w), 64)}"
            )
    return channels, h, w


def decode_all(
    encoded: Sequence[bytes | Path],
    where: Callable[[int], str],
    shape: tuple[int, int, int],
    resize: tuple[int, int] | None,
) -> Tensor:
    """Decode all images to uint8 [N, C, H, W]; `shape` is that of `common_shape`.

    Raises:
        UserError: an unreadable or truncated image, whose text names the first by `where`; or they do not
            fit into memory.
    """
    refuse_too_large(len(encoded), shape)
    pixels = np.empty((len(encoded), *shape), dtype=np.uint8)

    def one(i: int) -> None:
        pixels[i] = decode(encoded[i], where(i), shape[0], resize)

    if not encoded:
        return torch.from_numpy(pixels)
    _, h, w = header(encoded[0], where(0))
    _in_threads(one, len(encoded), os.cpu_count() if h * w >= _THREADS_PAY else 1)
    return torch.from_numpy(pixels)


def _in_threads(work: Callable[[int], _T], n: int, threads: int | None = None) -> list[list[_T]]:
    """work(0) … work(n−1) in chunks, results in order; the first failure is raised. None: all cores."""

    def chunk(start: int) -> list[_T]:
        return [work(i) for i in range(start, min(start + _CHUNK, n))]

    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        return list(pool.map(chunk, range(0, n, _CHUNK)))
