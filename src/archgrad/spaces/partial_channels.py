"""Partial channel connections: 1/k of an edge's channels through its candidates, the rest past them.

Xu et al. 2020, PC-DARTS (arXiv 1907.05737), section 3.2. B C H W throughout.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from archgrad.errors import UserError


def check_divisible(channels: int, k: int) -> None:
    """`channels` can be cut into k equal parts.

    Raises:
        UserError: they cannot.
    """
    if k < 1 or channels % k:
        fitting = [n for n in range(1, channels + 1) if channels % n == 0]
        raise UserError(
            f"space.partial_channels: {channels} channels cannot be cut into {k} equal parts; give a divisor "
            f"({', '.join(map(str, fitting))}) or other channels"
        )


class PartialChannels(nn.Module):
    """The first C/k channels through `edge`, the others past it; concatenated and shuffled in k groups.

    At stride 2 the others are max-pooled 2×2, of an odd size with the last row and column by themselves.

    Args:
        edge: [B, C/k, H, W] -> [B, C/k, ⌈H/stride⌉, ⌈W/stride⌉].
        channels: C.
        k: the share's denominator, at least 2; must divide C.
        stride: of the edge.
    """

    def __init__(self, edge: nn.Module, channels: int, k: int, stride: int):
        super().__init__()
        check_divisible(channels, k)
        self.edge, self.k, self.through = edge, k, channels // k
        self.past: nn.Module = nn.Identity() if stride == 1 else nn.MaxPool2d(2, 2, ceil_mode=True)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, ⌈H/stride⌉, ⌈W/stride⌉]; channel g·C/k + i becomes i·k + g."""
        y = torch.cat([self.edge(x[:, : self.through]), self.past(x[:, self.through :])], dim=1)
        b, c, h, w = y.shape
        return y.view(b, self.k, c // self.k, h, w).transpose(1, 2).reshape(b, c, h, w)
