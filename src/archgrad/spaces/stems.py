"""What stands before the cells of a DARTS network. B C H W throughout.

Liu et al. 2019 (arXiv 1806.09055), section 3.3; details as in the authors' code.
"""

from __future__ import annotations

from torch import Tensor, nn


class CifarStem(nn.Sequential):
    """3×3 convolution and BatchNorm; both inputs of the first cell are its output. The size is kept."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__(nn.Conv2d(c_in, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, c_in, H, W] -> twice [B, c_out, H, W]."""
        y: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return y, y


class ImageNetStem(nn.Module):
    """Three 3×3 convolutions of stride 2; the inputs of the first cell are at 1/4 and 1/8 of the size."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(c_in, c_out // 2, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(c_out // 2),
            nn.ReLU(),
            nn.Conv2d(c_out // 2, c_out, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(c_out),
        )
        self.second = nn.Sequential(
            nn.ReLU(), nn.Conv2d(c_out, c_out, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(c_out)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, c_in, H, W] -> [B, c_out, ⌈H/4⌉, ⌈W/4⌉] and [B, c_out, ⌈H/8⌉, ⌈W/8⌉]."""
        first: Tensor = self.first(x)
        return first, self.second(first)
