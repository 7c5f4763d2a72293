"""Mobile blocks: expand, depthwise convolution, project, beside a shortcut where shapes allow.

Sandler et al. 2018 (MobileNetV2, arXiv 1801.04381), section 3.3; the variants are those of FBNet (Wu et al.
2019, arXiv 1812.03443, table 2), ProxylessNAS (arXiv 1812.00332) and MnasNet (arXiv 1807.11626).
Shapes: [B, c_in, H, W] -> [B, c_out, ⌈H/stride⌉, ⌈W/stride⌉]; M is the number of expanded channels.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from archgrad.errors import UserError


@dataclass(frozen=True)
class BlockKind:
    """What an inverted residual is made of: ``mb_k<kernel>_e<expansion>[_g<groups>][_se][_swish]``.

    kernel: side of the depthwise convolution, odd. expansion: M = expansion · c_in.
    groups: of the pointwise convolutions; above 1 the channels are shuffled between them.
    squeeze: squeeze-excitation before the projection. swish: x·sigmoid(x) in place of ReLU.

    >>> BlockKind.parse("mb_k5_e3_g2")
    BlockKind(kernel=5, expansion=3, groups=2, squeeze=False, swish=False)
    >>> BlockKind.parse("mb_k3_e6_se").name
    'mb_k3_e6_se'
    >>> BlockKind.parse("sep_conv_3x3") is None
    True
    """

    kernel: int
    expansion: int
    groups: int = 1
    squeeze: bool = False
    swish: bool = False

    @classmethod
    def parse(cls, name: str) -> BlockKind | None:
        """The kind that `name` says, None where it does not begin with ``mb_``.

        Raises:
            UserError: it does, and goes on otherwise; or the kernel is even, or a number is 0.
        """
        if not name.startswith("mb_"):
            return None
        found = re.fullmatch(r"mb_k(\d+)_e(\d+)(?:_g(\d+))?(_se)?(_swish)?", name)
        if found is None:
            raise UserError(
                f"{name!r} is no mobile block: wanted mb_k<kernel>_e<expansion>, then _g<groups>, _se and "
                "_swish where it has them, in this order, as in mb_k3_e6 or mb_k5_e3_g2_se"
            )
        kernel, expansion, groups = (int(found[i] or 1) for i in (1, 2, 3))
        if kernel % 2 == 0 or min(kernel, expansion, groups) < 1:
            raise UserError(
                f"{name!r}: the kernel must be odd, and kernel, expansion and groups at least 1; "
                "usual kernels are 3, 5, 7"
            )
        return cls(kernel, expansion, groups, found[4] is not None, found[5] is not None)

    @property
    def has_width(self) -> bool:
        """Whether the number of expanded channels can be chosen: it expands, and in one group."""
        return self.expansion > 1 and self.groups == 1

    @property
    def name(self) -> str:
        """The name of a candidate."""
        groups = f"_g{self.groups}" if self.groups > 1 else ""
        return f"mb_k{self.kernel}_e{self.expansion}{groups}{'_se' * self.squeeze}{'_swish' * self.swish}"


class ChannelShuffle(nn.Module):
    """Channel i of group g becomes channel g of block i (Zhang et al. 2018, ShuffleNet, arXiv 1707.01083)."""

    def __init__(self, groups: int):
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        batch, channels, height, width = x.shape
        y = x.view(batch, self.groups, channels // self.groups, height, width)
        return y.transpose(1, 2).reshape(batch, channels, height, width)


class SqueezeExcitation(nn.Module):
    """x · sigmoid(W₂ a(W₁ mean(x))): a weight for each channel (Hu et al. 2018, arXiv 1709.01507).

    hidden: width between W₁ and W₂. MnasNet takes a quarter of the block's input channels, so that it does
    not depend on the expansion.
    """

    def __init__(self, channels: int, hidden: int, swish: bool = False):
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, hidden, 1),
            _activation(swish),
            nn.Conv2d(hidden, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        y: Tensor = x * self.gate(x)
        return y


class InvertedResidual(nn.Module):
    """1×1 to M channels, k×k depthwise, squeeze-excitation if any, 1×1 to c_out; each with BatchNorm.

    The activation follows the first two convolutions, none follows the last. At stride 1 with c_in = c_out
    the input is added. With expansion 1 the first 1×1 convolution is left out, as in MobileNetV2 and the
    FBNet authors' code (their paper draws it; the published multiply-adds are those without).

    Args:
        c_in: input channels.
        c_out: output channels.
        stride: of the depthwise convolution.
        affine: whether BatchNorm has scale and shift.
        kind: kernel, expansion, groups, squeeze-excitation, activation.
        choose_width: maps M to (channels, mask): how many of the M channels are built, and what the
            depthwise convolution's output is passed through. By default all, unmasked.
        drop_path: what the branch beside the shortcut is passed through; left out where there is no shortcut.

    Raises:
        UserError: c_in or c_out is no multiple of the groups, or the kind has no width to choose.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        stride: int,
        affine: bool = True,
        kind: BlockKind = BlockKind(3, 6),
        choose_width: Callable[[int], tuple[int, nn.Module]] | None = None,
        drop_path: Callable[[], nn.Module] = nn.Identity,
    ):
        super().__init__()
        kernel, groups = kind.kernel, kind.groups
        if c_in % groups or c_out % groups:
            raise UserError(
                f"{kind.name} has {groups} groups, and {c_in} input or {c_out} output channels are no "
                f"multiple of that: make the channels multiples of {groups}, or leave {kind.name} out"
            )
        if choose_width is not None and not kind.has_width:
            raise UserError(
                f"{kind.name} cannot have its width chosen: without expansion it has its input's width, and "
                "with groups the first channels of a wide block are not those of a narrow one"
            )
        middle = c_in * kind.expansion
        mask: nn.Module = nn.Identity()
        if choose_width is not None:
            middle, mask = choose_width(middle)
        self.expand: nn.Module = nn.Identity()
        if kind.expansion > 1:
            self.expand = nn.Sequential(
                nn.Conv2d(c_in, middle, 1, groups=groups, bias=False),
                nn.BatchNorm2d(middle, affine=affine),
                _activation(kind.swish),
            )
        self.shuffle: nn.Module = ChannelShuffle(groups) if groups > 1 else nn.Identity()
        self.depthwise = nn.Sequential(
            nn.Conv2d(middle, middle, kernel, stride, kernel // 2, groups=middle, bias=False),
            nn.BatchNorm2d(middle, affine=affine),
            _activation(kind.swish),
        )
        # Up to here each of the M channels is by itself; from here on all are mixed. So masked channels are
        # set to zero here, after the BatchNorm whose shift would revive them, and before squeeze-excitation.
        self.mask = mask
        self.squeeze: nn.Module = (
            SqueezeExcitation(middle, max(1, c_in // 4), kind.swish) if kind.squeeze else nn.Identity()
        )
        self.project = nn.Sequential(
            nn.Conv2d(middle, c_out, 1, groups=groups, bias=False), nn.BatchNorm2d(c_out, affine=affine)
        )
        self.residual = stride == 1 and c_in == c_out
        self.drop_path: nn.Module = drop_path() if self.residual else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[B, c_in, H, W] -> [B, c_out, ⌈H/stride⌉, ⌈W/stride⌉]."""
        y: Tensor = self.mask(self.depthwise(self.shuffle(self.expand(x))))
        y = self.project(self.squeeze(y))
        return x + self.drop_path(y) if self.residual else y


def _activation(swish: bool) -> nn.Module:
    return nn.SiLU() if swish else nn.ReLU()


def mb_k3_e1(c_in: int, c_out: int, stride: int, affine: bool = True) -> nn.Module:
    """Inverted residual, 3×3, no expansion."""
    return InvertedResidual(c_in, c_out, stride, affine, BlockKind(3, 1))


def mb_k3_e1_g2(c_in: int, c_out: int, stride: int, affine: bool = True) -> nn.Module:
    """Inverted residual, 3×3, no expansion, two groups."""
    return InvertedResidual(c_in, c_out, stride, affine, BlockKind(3, 1, 2))


def mb_k3_e3(c_in: int, c_out: int, stride: int, affine: bool = True) -> nn.Module:
    """Inverted residual, 3×3, expansion 3."""
    return InvertedResidual(c_in, c_out, stride, affine, BlockKind(3, 3))


def mb_k3_e6(c_in: int, c_out: int, stride: int, affine: bool = True) -> nn.Module:
    """Inverted residual, 3×3, expansion 6."""
    return InvertedResidual(c_in, c_out, stride, affine, BlockKind(3, 6))


def mb_k5_e1(c_in: int, c_out: int, stride: int, affine: bool = True) -> nn.Module:
    """Inverted residual, 5×5, no expansion."""
    return InvertedResidual(c_in, c_out, stride, affine, BlockKind(5, 1))


def mb_k5_e1_g2(c_in: int, c_out: int, stride: int, affine: bool = True) -> nn.Module:
    """Inverted residual, 5×5, no expansion, two groups."""
    return InvertedResidual(c_in, c_out, stride, affine, BlockKind(5, 1, 2))


def mb_k5_e3(c_in: int, c_out: int, stride: int, affine: bool = True) -> nn.Module:
    """Inverted residual, 5×5, expansion 3."""
    return InvertedResidual(c_in, c_out, stride, affine, BlockKind(5, 3))


def mb_k5_e6(c_in: int, c_out: int, stride: int, affine: bool = True) -> nn.Module:
    """Inverted residual, 5×5, expansion 6."""
    return InvertedResidual(c_in, c_out, stride, affine, BlockKind(5, 6))


def mb_k7_e3(c_in: int, c_out: int, stride: int, affine: bool = True) -> nn.Module:
    """Inverted residual, 7×7, expansion 3."""
    return InvertedResidual(c_in, c_out, stride, affine, BlockKind(7, 3))


def mb_k7_e6(c_in: int, c_out: int, stride: int, affine: bool = True) -> nn.Module:
    """Inverted residual, 7×7, expansion 6."""
    return InvertedResidual(c_in, c_out, stride, affine, BlockKind(7, 6))


def mb_k3_e6_se(c_in: int, c_out: int, stride: int, affine: bool = True) -> nn.Module:
    """Inverted residual, 3×3, expansion 6, squeeze-excitation."""
    return InvertedResidual(c_in, c_out, stride, affine, BlockKind(3, 6, squeeze=True))


def mb_k5_e3_se(c_in: int, c_out: int, stride: int, affine: bool = True) -> nn.Module:
    """Inverted residual, 5×5, expansion 3, squeeze-excitation."""
    return InvertedResidual(c_in, c_out, stride, affine, BlockKind(5, 3, squeeze=True))
