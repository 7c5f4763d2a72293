"""Convolutions as the literature orders them: ReLU, convolution without bias, BatchNorm.

Shapes: [B, c_in, H, W] -> [B, c_out, ⌈H/stride⌉, ⌈W/stride⌉].
"""

from __future__ import annotations

from torch import Tensor, nn


class ReLUConvBN(nn.Module):
    """ReLU, k×k convolution, BatchNorm (NAS-Bench-201 candidates; preprocessing of DARTS cells)."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, affine: bool = True):
        super().__init__()
        self.op = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(c_out, affine=affine),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, c_in, H, W] -> [B, c_out, ⌈H/stride⌉, ⌈W/stride⌉]."""
        y: Tensor = self.op(x)
        return y


class DilConv(nn.Module):
    """ReLU, depthwise k×k with dilation, pointwise, BatchNorm: once (DARTS)."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, dilation: int, affine: bool = True):
        super().__init__()
        padding = dilation * (kernel // 2)
        self.op = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(c_in, c_in, kernel, stride, padding, dilation, groups=c_in, bias=False),
            nn.Conv2d(c_in, c_out, 1, bias=False),
            nn.BatchNorm2d(c_out, affine=affine),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, c_in, H, W] -> [B, c_out, ⌈H/stride⌉, ⌈W/stride⌉]."""
        y: Tensor = self.op(x)
        return y


class SepConv(nn.Module):
    """A depthwise-separable convolution applied twice, the stride in the first (DARTS)."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, affine: bool = True):
        super().__init__()
        self.op = nn.Sequential(
            DilConv(c_in, c_in, kernel, stride, dilation=1, affine=affine),
            DilConv(c_in, c_out, kernel, 1, dilation=1, affine=affine),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, c_in, H, W] -> [B, c_out, ⌈H/stride⌉, ⌈W/stride⌉]."""
        y: Tensor = self.op(x)
        return y


class FactoredConv(nn.Module):
    """ReLU, 1×k and then k×1 convolution, BatchNorm (NASNet, AmoebaNet; in the form of the DARTS authors)."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, affine: bool = True):
        super().__init__()
        half = kernel // 2
        self.op = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(c_in, c_out, (1, kernel), (1, stride), (0, half), bias=False),
            nn.Conv2d(c_out, c_out, (kernel, 1), (stride, 1), (half, 0), bias=False),
            nn.BatchNorm2d(c_out, affine=affine),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, c_in, H, W] -> [B, c_out, ⌈H/stride⌉, ⌈W/stride⌉]."""
        y: Tensor = self.op(x)
        return y


def sep_conv_3x3(c_in: int, c_out: int, stride: int, affine: bool = True) -> nn.Module:
    """Depthwise-separable 3×3 convolution, twice."""
    return SepConv(c_in, c_out, 3, stride, affine)


def sep_conv_5x5(c_in: int, c_out: int, stride: int, affine: bool = True) -> nn.Module:
    """Depthwise-separable 5×5 convolution, twice."""
    return SepConv(c_in, c_out, 5, stride, affine)


def sep_conv_7x7(c_in: int, c_out: int, stride: int, affine: bool = True) -> nn.Module:
    """Depthwise-separable 7×7 convolution, twice."""
    return SepConv(c_in, c_out, 7, stride, affine)


def conv_7x1_1x7(c_in: int, c_out: int, stride: int, affine: bool = True) -> nn.Module:
    """A 7×7 convolution in two factors."""
    return FactoredConv(c_in, c_out, 7, stride, affine)


def dil_conv_3x3(c_in: int, c_out: int, stride: int, affine: bool = True) -> nn.Module:
    """Depthwise-separable 3×3 convolution with dilation 2 (receptive field 5×5)."""
    return DilConv(c_in, c_out, 3, stride, 2, affine)


def dil_conv_5x5(c_in: int, c_out: int, stride: int, affine: bool = True) -> nn.Module:
    """Depthwise-separable 5×5 convolution with dilation 2 (receptive field 9×9)."""
    return DilConv(c_in, c_out, 5, stride, 2, affine)


def nor_conv_1x1(c_in: int, c_out: int, stride: int, affine: bool = True) -> nn.Module:
    """ReLU, 1×1 convolution, BatchNorm."""
    return ReLUConvBN(c_in, c_out, 1, stride, affine)


def nor_conv_3x3(c_in: int, c_out: int, stride: int, affine: bool = True) -> nn.Module:
    """ReLU, 3×3 convolution, BatchNorm."""
    return ReLUConvBN(c_in, c_out, 3, stride, affine)
