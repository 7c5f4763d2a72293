"""Networks that see frequencies: the transform, gates if wanted, then a residual network. B C H W: images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from archgrad.datasets.normalisation import Normalisation
from archgrad.frequency.block_dct import BLOCK, BlockDCT, Standardise, map_size, pad_for_blocks
from archgrad.frequency.channel_gates import ChannelGates
from archgrad.spaces.residual import ResidualNetwork
from archgrad.spaces.space import Shape


class FrequencyNetwork(nn.Module):
    """Block DCT -> standardised coefficients -> gates, if any -> `ResidualNetwork`.

    Takes ordinary normalised images, so it is trained, evaluated and exported like any other network.

    Args:
        shape: (C, H, W) of an image.
        classes: number of classes.
        normalisation: of the images.
        stride, channels: see `BlockDCT`.
        width, blocks: the residual network's first width, and its blocks in each of three stages.
        gates: settings of `ChannelGates`; None for none.

    Raises:
        UserError: see `BlockDCT` and `ChannelGates`.
    """

    def __init__(
        self,
        shape: Shape,
        classes: int,
        normalisation: Normalisation,
        stride: int,
        width: int,
        blocks: int,
        channels: Sequence[int] | None = None,
        gates: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.transform = BlockDCT(shape, normalisation, stride, channels)
        count = len(self.transform.channels)
        self.standardise = Standardise(count)
        self.gates = nn.Identity() if gates is None else ChannelGates(count, **gates)
        self.body = ResidualNetwork((count, *self.transform.size), classes, width, blocks)

    def set_statistics(self, mean: Tensor, deviation: Tensor) -> None:
        """Standardise by mean and deviation [all channels], of which it takes those that it computes."""
        chosen = list(self.transform.channels)
        with torch.no_grad():
            self.standardise.mean.copy_(mean[chosen])
            self.standardise.deviation.copy_(deviation[chosen])

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> logits [B, classes]."""
        y: Tensor = self.body(self.gates(self.standardise(self.transform(x))))
        return y


class LearnedFilterNetwork(nn.Module):
    """The control that sees pixels: as many 8×8 filters at the same places, learned instead of fixed.

    Convolution and BatchNorm take the place of transform and standardisation; the residual network is that
    of `FrequencyNetwork`.

    Args:
        shape, classes, stride, width, blocks: as there.
        filters: n, the number of channels that the residual network gets.
    """

    def __init__(
        self, shape: Shape, classes: int, stride: int, width: int, blocks: int, filters: int
    ) -> None:
        super().__init__()
        self.stride = stride
        self.filters = nn.Sequential(
            nn.Conv2d(shape[0], filters, BLOCK, stride, bias=False), nn.BatchNorm2d(filters)
        )
        self.body = ResidualNetwork((filters, *map_size(shape, stride)), classes, width, blocks)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> logits [B, classes]."""
        y: Tensor = self.body(self.filters(pad_for_blocks(x, self.stride)))
        return y
