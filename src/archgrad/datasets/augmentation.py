"""Standard augmentation, on a whole batch at a time: crop with padding, flip, cutout.

Shapes: B images of C channels, H×W pixels. Every random number of a batch is drawn on the host from
one generator, so a batch is the same on every device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from archgrad.errors import UserError


class Draw(NamedTuple):
    """The random numbers of one batch.

    offset: int64 [B, 2], row and column of the crop's corner in the padded image, 0 to 2·crop.
    flip: bool [B], mirror left and right.
    centre: int64 [B, 2], row and column of the cutout's centre, 0 to H−1 and 0 to W−1.
    """

    offset: Tensor
    flip: Tensor
    centre: Tensor


@dataclass(frozen=True)
class Augmentation:
    """What is done to a training image; the default does nothing.

    crop: pixels of black padding on each side, of which an H×W window is cut at random (He et al.
        2016: 4 for CIFAR).
    flip: mirror left and right with probability 1/2.
    cutout: side in pixels of a square set to 0 *after* normalisation, i.e. to the mean colour. Its
        centre is uniform over the pixels and the square is clipped at the border (DeVries & Taylor
        2017, arXiv 1708.04552: 16 for CIFAR-10). With centre y the rows y − ⌊s/2⌋ … y − ⌊s/2⌋ + s − 1.

    Raises:
        UserError: a negative size.
    """

    crop: int = 0
    flip: bool = False
    cutout: int = 0

    def __post_init__(self) -> None:
        for name, value in (("crop", self.crop), ("cutout", self.cutout)):
            if value < 0:
                raise UserError(f"{name} is a number of pixels, 0 for none; got {value}")

    def draw(self, count: int, height: int, width: int, generator: torch.Generator) -> Draw:
        """Random numbers for `count` images of height×width pixels.

        The same numbers are drawn whatever is switched on, so that two settings of one seed can be
        compared image by image.
        """

        def below(limit: int) -> Tensor:
            # A fraction of [0, 1) scaled: the count of raw draws does not depend on the limit.
            fraction = torch.rand(count, generator=generator, dtype=torch.float64)
            return (fraction * limit).long()

        offset = torch.stack([below(2 * self.crop + 1), below(2 * self.crop + 1)], 1)
        flip = below(2).bool()
        centre = torch.stack([below(height), below(width)], 1)
        return Draw(offset, flip, centre)

    def crop_and_flip(self, pixels: Tensor, draw: Draw) -> Tensor:
        """Pad, cut and mirror uint8 [B, C, H, W]: one gather from the padded batch."""
        if self.crop == 0 and not self.flip:
            return pixels
        b, c, h, w = pixels.shape
        device = pixels.device
        rows = torch.arange(h, device=device).expand(b, h)
        columns = torch.arange(w, device=device).expand(b, w)
        if self.flip:
            # Cut first, then mirror: output column j is the cut's column W − 1 − j.
            columns = torch.where(draw.flip.to(device)[:, None], w - 1 - columns, columns)
        if self.crop:
            offset = draw.offset.to(device)
            rows = rows + offset[:, :1]
            columns = columns + offset[:, 1:]
            pixels = F.pad(pixels, [self.crop] * 4)
        padded_w = w + 2 * self.crop
        flat = rows[:, :, None] * padded_w + columns[:, None, :]  # [B, H, W]
        return pixels.flatten(2).gather(2, flat.view(b, 1, h * w).expand(b, c, h * w)).view(b, c, h, w)

    def cut_out_(self, x: Tensor, draw: Draw) -> Tensor:
        """Set each image's square of normalised x [B, C, H, W] to 0, in place; returns x."""
        if self.cutout == 0:
            return x
        _, _, h, w = x.shape
        corner = draw.centre.to(x.device) - self.cutout // 2
        row = torch.arange(h, device=x.device) - corner[:, :1]  # [B, H], 0 … s−1 inside the square
        column = torch.arange(w, device=x.device) - corner[:, 1:]
        inside_row = (row >= 0) & (row < self.cutout)
        inside_column = (column >= 0) & (column < self.cutout)
        return x.masked_fill_((inside_row[:, :, None] & inside_column[:, None, :]).unsqueeze(1), 0.0)
