"""The candidate `none`: no connection."""

from __future__ import annotations

from torch import Tensor, nn


class Zero(nn.Module):
    """Zeros of the output's shape; no gradient flows through.

    A constant rather than 0·x: the gradient is the same zero, and a non-finite x cannot leak through.
    """

    def __init__(self, c_in: int, c_out: int, stride: int, affine: bool = True):
        super().__init__()
        self.c_out, self.stride = c_out, stride

    def forward(self, x: Tensor) -> Tensor:
        """[B, c_in, H, W] -> zeros [B, c_out, ⌈H/stride⌉, ⌈W/stride⌉]."""
        batch, _, height, width = x.shape
        return x.new_zeros(batch, self.c_out, -(-height // self.stride), -(-width // self.stride))
