"""The candidate `noise`: Gaussian noise in place of the input."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Noise(nn.Module):
    """N(0, 1) of the output's shape, whatever the input; no gradient flows through.

    It carries nothing, so a search that works learns to avoid it: the harmful candidate of the space S4
    (Zela et al. 2020, arXiv 1909.09656, section 3). In training it is drawn anew in every pass, from the
    `generator` that `set_drop_path` gives (on the host: the same noise on any device); in evaluation it
    is always the same.
    """

    def __init__(self, c_in: int, c_out: int, stride: int, affine: bool = True):
        super().__init__()
        self.c_out, self.stride = c_out, stride
        self.generator: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        """[B, c_in, H, W] -> noise [B, c_out, ⌈H/stride⌉, ⌈W/stride⌉]."""
        batch, _, height, width = x.shape
        shape = (batch, self.c_out, -(-height // self.stride), -(-width // self.stride))
        if x.is_meta:
            return x.new_empty(shape)
        generator = self.generator
        if generator is None or not self.training:
            generator = torch.Generator().manual_seed(0)
        return torch.randn(shape, generator=generator).to(x)
