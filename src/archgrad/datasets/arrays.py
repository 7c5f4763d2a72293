"""Arrays from files or from Python to pixels and labels, checked: nothing is scaled by guessing."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from archgrad.datasets.memory import refuse_too_large
from archgrad.errors import UserError

_CHUNK = 512  # images resized at a time


def pixels_from(array: NDArray[Any], where: str) -> Tensor:
    """uint8 [N, C, H, W] of images [N, H, W], [N, H, W, C] or [N, C, H, W] with C 1 or 3.

    Where both could be meant, the last axis is taken for the channels. Integers must be 0 to 255,
    floating-point values 0 to 1 (they become round(255·v), halves to even).

    Raises:
        UserError: another shape or type, values out of range, NaN; the text names it by `where`.
    """
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[3] in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    elif array.ndim != 4 or array.shape[1] not in (1, 3):
        raise UserError(
            f"{where} must be images [N, H, W], [N, H, W, 3] or [N, 3, H, W]; got shape {array.shape}"
        )
    return torch.from_numpy(to_uint8(array, where))


def to_uint8(array: NDArray[Any], where: str) -> NDArray[np.uint8]:
    """The same shape as uint8, by the rules of `pixels_from`, in memory of its own.

    Raises:
        UserError: as `pixels_from`.
    """
    if array.dtype == np.uint8:
        return np.array(array, dtype=np.uint8, order="C")
    if array.dtype.kind not in "iuf":
        raise UserError(f"{where} must be numbers, best uint8 from 0 to 255; got {array.dtype}")
    if array.size == 0:
        raise UserError(f"{where} has no image: its shape is {array.shape}")
    real = array.dtype.kind == "f"
    if real and not np.isfinite(array).all():
        raise UserError(f"{where} has NaN or infinite pixels; remove or fill them")
    low, high, top = array.min(), array.max(), 1 if real else 255
    if low < 0 or high > top:
        raise UserError(
            f"{where}: pixels of type {array.dtype} must be 0 to {top}; got {low} to {high}. Scale them, "
            "or save them as uint8 from 0 to 255"
        )
    return np.ascontiguousarray(np.rint(array * 255.0) if real else array, dtype=np.uint8)


def labels_from(array: NDArray[Any], count: int, where: str) -> Tensor:
    """int64 [N] of integer labels [N] or [N, 1], one for each of `count` images.

    Raises:
        UserError: another shape or type, another count, a negative label.
    """
    if array.dtype.kind not in "iub" or array.ndim not in (1, 2) or (array.ndim == 2 and array.shape[1] != 1):
        raise UserError(
            f"{where} must be one integer an image, shape [N] or [N, 1]; got {array.dtype} of shape "
            f"{array.shape}"
        )
    if len(array) != count:
        raise UserError(f"{where} has {len(array)} labels for {count} images; one an image is wanted")
    labels = torch.from_numpy(array.reshape(-1).astype(np.int64))
    if count and int(labels.min()) < 0:
        raise UserError(f"{where}: label {int(labels.min())} is out of range; classes count from 0")
    return labels


def numbered_classes(labels: Tensor, where: str) -> tuple[str, ...]:
    """Names "0", "1" … for training labels that come without names; each class must occur.

    Raises:
        UserError: a class between 0 and the largest label has no image, e.g. labels that count from 1.
    """
    count = int(labels.max()) + 1
    present = set(labels.tolist())
    if len(present) != count:
        missing = sorted(set(range(min(count, len(present) + 1))) - present)[0]
        raise UserError(
            f"{where}: labels go up to {count - 1} but only {len(present)} different ones occur (none is "
            f"{missing}); number the classes 0 to {len(present) - 1}, or name them all"
        )
    return tuple(str(i) for i in range(count))


def resized(pixels: Tensor, size: tuple[int, int] | None) -> Tensor:
    """uint8 [N, C, H, W] stretched to `size` = (H, W), bilinear with antialiasing; as it is for None.

    Raises:
        UserError: the result does not fit into memory.
    """
    if size is None or tuple(pixels.shape[2:]) == size:
        return pixels
    refuse_too_large(len(pixels), (pixels.shape[1], *size))
    result = torch.empty((*pixels.shape[:2], *size), dtype=torch.uint8)
    for start in range(0, len(pixels), _CHUNK):
        chunk = pixels[start : start + _CHUNK]
        result[start : start + _CHUNK] = F.interpolate(
            chunk, size, mode="bilinear", align_corners=False, antialias=True
        )
    return result
