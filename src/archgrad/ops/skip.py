"""Skip connections: identity where the shape stays, a factorised reduction where it does not."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from archgrad.errors import UserError


class FactorizedReduce(nn.Module):
    """ReLU, two 1×1 convolutions of stride 2, one shifted by a pixel, concatenated; BatchNorm (DARTS).

    The published code needs even sizes. An odd height or width is padded by a row or column of zeros (as
    in the GDAS authors' code), which changes nothing where the size is even.

    Raises:
        UserError: the output channels are not divisible by 2.
    """

    def __init__(self, c_in: int, c_out: int, affine: bool = True):
        super().__init__()
        if c_out < 2 or c_out % 2:
            raise UserError(
                f"a factorised reduction has two halves, and {c_out} output channels are not divisible by 2: "
                "give an even number"
            )
        self.relu = nn.ReLU()
        self.conv_even = nn.Conv2d(c_in, c_out // 2, 1, stride=2, bias=False)
        self.conv_odd = nn.Conv2d(c_in, c_out // 2, 1, stride=2, bias=False)
        self.bn = nn.BatchNorm2d(c_out, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        """[B, c_in, H, W] -> [B, c_out, ⌈H/2⌉, ⌈W/2⌉]."""
        x = self.relu(x)
        height, width = x.shape[2:]
        if height % 2 or width % 2:
            x = F.pad(x, (0, width % 2, 0, height % 2))
        y: Tensor = self.bn(torch.cat([self.conv_even(x), self.conv_odd(x[:, :, 1:, 1:])], dim=1))
        return y


def skip_connect(c_in: int, c_out: int, stride: int, affine: bool = True) -> nn.Module:
    """Identity at stride 1 with equal channels, `FactorizedReduce` at stride 2."""
    if stride == 1 and c_in == c_out:
        return nn.Identity()
    if stride == 2:
        return FactorizedReduce(c_in, c_out, affine)
    return nn.Sequential(
        nn.ReLU(), nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out, affine=affine)
    )
