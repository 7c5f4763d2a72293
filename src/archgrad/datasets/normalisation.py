"""Mean and standard deviation of a channel, from the weight-training part only.

Statistics over validation or test images would leak them into training.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from archgrad.datasets.images import ImageSource
from archgrad.errors import UserError

_CHUNK = 2**23  # values counted at a time, eight bytes each: bounds the memory, however large the images


class Normalisation(NamedTuple):
    """Per-channel mean and standard deviation, C values each, in units where a pixel is in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


def normalisation_of(source: ImageSource, indices: Tensor) -> Normalisation:
    """Mean and (population) standard deviation over all pixels of the images at `indices` (int64 [N]).

    Exact: pixel values are counted, 256 counts a channel, so neither order nor precision of a sum
    matters. A channel of one value throughout gets a deviation of 1, so that it becomes zero.

    Raises:
        UserError: no image.
    """
    if len(indices) == 0:
        raise UserError("mean and deviation of no images; the weight-training part is empty")
    channels = source.shape[0]
    offsets = 256 * torch.arange(channels).view(1, channels, 1)
    counts = torch.zeros(channels * 256, dtype=torch.int64)
    images = max(1, _CHUNK // math.prod(source.shape))
    for start in range(0, len(indices), images):
        pixels = source.fetch(indices[start : start + images]).cpu().flatten(2)  # [B, C, H·W]
        counts += torch.bincount((pixels + offsets).flatten(), minlength=channels * 256)
    share = counts.view(channels, 256).double()
    share /= share.sum(1, keepdim=True)
    value = torch.arange(256, dtype=torch.float64) / 255
    mean = share @ value
    std = (share * (value - mean[:, None]) ** 2).sum(1).sqrt()
    std[std == 0] = 1.0
    return Normalisation(tuple(mean.tolist()), tuple(std.tolist()))
