"""3×3 poolings, padding 1. Where channels change, a 1×1 convolution comes first."""

from __future__ import annotations

from torch import nn

from archgrad.ops.convolution import ReLUConvBN


def max_pool_3x3(c_in: int, c_out: int, stride: int, affine: bool = True) -> nn.Module:
    """3×3 max pooling."""
    return _pool(nn.MaxPool2d(3, stride, padding=1), c_in, c_out, affine)


def avg_pool_3x3(c_in: int, c_out: int, stride: int, affine: bool = True) -> nn.Module:
    """3×3 average pooling; pixels of the padding are not counted (count_include_pad=False)."""
    return _pool(nn.AvgPool2d(3, stride, padding=1, count_include_pad=False), c_in, c_out, affine)


def _pool(pool: nn.Module, c_in: int, c_out: int, affine: bool) -> nn.Module:
    """NAS-Bench-201's rule for a change of channels: ReLU-1×1-BN, then the pooling."""
    if c_in == c_out:
        return pool
    return nn.Sequential(ReLUConvBN(c_in, c_out, 1, 1, affine), pool)
