"""A plain residual network: the control that no search was needed for."""

from __future__ import annotations

from torch import Tensor, nn

from archgrad.spaces.space import Shape


class ResidualBlock(nn.Module):
    """conv3×3-BN-ReLU-conv3×3-BN beside a shortcut, then ReLU (He et al. 2016, arXiv 1512.03385, fig. 2)."""

    def __init__(self, c_in: int, c_out: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(c_out),
            nn.ReLU(),
            nn.Conv2d(c_out, c_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(c_out),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or c_in != c_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out)
            )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """[B, c_in, H, W] -> [B, c_out, ⌈H/stride⌉, ⌈W/stride⌉]."""
        y: Tensor = self.relu(self.body(x) + self.shortcut(x))
        return y


class ResidualNetwork(nn.Module):
    """Stem, three stages of `blocks` residual blocks at widths C, 2C, 4C, pooling, linear head.

    The CIFAR form of He et al. 2016, section 4.2: 6·blocks + 2 layers.
    """

    def __init__(self, shape: Shape, classes: int, channels: int, blocks: int):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(shape[0], channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )
        self.body = nn.Sequential()
        width = channels
        for stage in range(3):
            for block in range(blocks):
                c_out = channels * 2**stage
                self.body.append(ResidualBlock(width, c_out, 2 if stage and block == 0 else 1))
                width = c_out
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> logits [B, classes]."""
        y: Tensor = self.head(self.body(self.stem(x)))
        return y


_NARROWEST = 8  # channels; a deeper network is not made narrower than that: it would be a weak control


def residual_parameters(shape: Shape, classes: int, channels: int, blocks: int) -> int:
    """Parameters of that `ResidualNetwork`, in closed form."""
    total = 9 * shape[0] * channels + 2 * channels  # stem and its BatchNorm
    width = channels
    for stage in range(3):
        c_out = channels * 2**stage
        for block in range(blocks):
            total += 9 * width * c_out + 9 * c_out * c_out + 4 * c_out
            if width != c_out or (stage and block == 0):
                total += width * c_out + 2 * c_out
            width = c_out
    return total + width * classes + classes


def residual_size(shape: Shape, classes: int, parameters: int) -> tuple[int, int]:
    """(channels, blocks) of the network whose parameters come nearest to `parameters`, one to three blocks.

    >>> channels, blocks = residual_size((3, 32, 32), 10, 270_000)
    >>> abs(residual_parameters((3, 32, 32), 10, channels, blocks) / 270_000 - 1) < 0.05
    True
    """

    def off(size: tuple[int, int]) -> int:
        return abs(residual_parameters(shape, classes, *size) - parameters)

    sizes = []
    for blocks in (3, 2, 1):  # of equally near ones the deepest
        channels = 1
        while residual_parameters(shape, classes, channels + 1, blocks) <= parameters:
            channels += 1
        if blocks == 1 or channels >= _NARROWEST:
            sizes += [(channels, blocks), (channels + 1, blocks)]
    return min(sizes, key=off)
