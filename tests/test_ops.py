"""Operations: the contract for every entry, the contract's own teeth, and the details of each paper."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from archgrad.errors import UserError
from archgrad.ops import OPS
from archgrad.ops.skip import FactorizedReduce
from archgrad.testing import BrokenLaw, check_operation
from archgrad.testing import ops as laws


def test_the_number_of_operations() -> None:
    assert len(OPS) == 25


@pytest.mark.parametrize("name", OPS)
def test_every_operation_keeps_the_contract(name: str) -> None:
    check_operation(OPS[name])


class FloorSize(nn.Module):
    """Stride 2 without padding: ⌊H/2⌋ where ⌈H/2⌉ is wanted."""

    def __init__(self, c_in: int, c_out: int, stride: int, affine: bool = True):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, stride, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


def in_place_relu(c_in: int, c_out: int, stride: int, affine: bool = True) -> nn.Module:
    return nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(c_in, c_out, 1, stride))


def always_affine(c_in: int, c_out: int, stride: int, affine: bool = True) -> nn.Module:
    return nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride), nn.BatchNorm2d(c_out))


class InfiniteGradient(nn.Module):
    """√0: finite forward, infinite slope."""

    def __init__(self, c_in: int, c_out: int, stride: int, affine: bool = True):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (0.0 * self.conv(x)).sqrt()


@pytest.mark.parametrize(
    ("op", "law"),
    [
        (FloorSize, laws.SHAPE),
        (in_place_relu, laws.INPUT),
        (always_affine, laws.AFFINE),
        (InfiniteGradient, laws.FINITE),
    ],
)
def test_the_contract_catches(op: type[nn.Module], law: str) -> None:
    with pytest.raises(BrokenLaw, match="law broken") as caught:
        check_operation(op)
    assert caught.value.law == law
    assert law in str(caught.value)


def test_average_pooling_leaves_the_padding_out() -> None:
    assert torch.equal(OPS["avg_pool_3x3"](2, 2, 1)(torch.ones(1, 2, 4, 4)), torch.ones(1, 2, 4, 4))


def test_skip_is_the_identity_where_the_shape_stays() -> None:
    x = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(OPS["skip_connect"](4, 4, 1)(x), x)
    assert not list(OPS["skip_connect"](4, 4, 1).parameters())


def test_factorized_reduction_sees_both_diagonals() -> None:
    """The halves read pixels (0, 0) and (1, 1) of each 2×2 block."""
    module = FactorizedReduce(1, 2).eval()
    for conv in (module.conv_even, module.conv_odd):
        nn.init.ones_(conv.weight)
    x = torch.arange(16.0).view(1, 1, 4, 4)
    scale = (1 + module.bn.eps) ** -0.5
    expected = torch.stack([x[0, 0, ::2, ::2], x[0, 0, 1::2, 1::2]])[None] * scale
    torch.testing.assert_close(module(x), expected)


@pytest.mark.parametrize("channels", [0, 1, 5])
def test_factorized_reduction_needs_an_even_number_of_channels(channels: int) -> None:
    with pytest.raises(
        UserError, match=rf"two halves, and {channels} output channels are not divisible by 2"
    ):
        OPS["skip_connect"](4, channels, 2)


def test_none_gives_zeros_even_for_a_non_finite_input() -> None:
    x = torch.full((1, 2, 3, 3), float("inf"), requires_grad=True)
    y = OPS["none"](2, 4, 2)(x)
    assert torch.equal(y, torch.zeros(1, 4, 2, 2))
    assert not y.requires_grad


@pytest.mark.parametrize(
    ("name", "parameters"),
    [  # C = 16: depthwise k·k·C, pointwise C·C, BatchNorm 2·C
        ("sep_conv_3x3", 2 * (9 * 16 + 256 + 32)),
        ("sep_conv_5x5", 2 * (25 * 16 + 256 + 32)),
        ("dil_conv_3x3", 9 * 16 + 256 + 32),
        ("dil_conv_5x5", 25 * 16 + 256 + 32),
        ("sep_conv_7x7", 2 * (49 * 16 + 256 + 32)),
        ("conv_7x1_1x7", 2 * 7 * 256 + 32),
        ("nor_conv_1x1", 256 + 32),
        ("nor_conv_3x3", 9 * 256 + 32),
        ("max_pool_3x3", 0),
        ("avg_pool_3x3", 0),
        ("none", 0),
    ],
)
def test_parameters(name: str, parameters: int) -> None:
    assert sum(p.numel() for p in OPS[name](16, 16, 1).parameters()) == parameters


@pytest.mark.parametrize(
    ("name", "reach"),
    [("sep_conv_3x3", 2), ("sep_conv_5x5", 4), ("sep_conv_7x7", 6), ("conv_7x1_1x7", 3), ("dil_conv_3x3", 2)],
)
def test_receptive_field(name: str, reach: int) -> None:
    """Twice 3×3 and once 3×3 with dilation 2 both see 2 pixels far; dilation skips every second pixel."""
    op = OPS[name](1, 1, 1).eval()
    for p in op.parameters():
        nn.init.ones_(p)
    x = torch.ones(1, 1, 15, 15, requires_grad=True)
    op(x)[0, 0, 7, 7].backward()
    assert x.grad is not None
    seen = (x.grad[0, 0, 7] != 0).nonzero().flatten() - 7
    assert seen.abs().max() == reach
    assert seen.tolist() == list(range(-reach, reach + 1, 2 if name.startswith("dil") else 1))
