"""The mobile space: a chain of inverted residuals, each layer with a choice of its own.

Wu et al. 2019, FBNet (arXiv 1812.03443), tables 1 and 2; the same chain with other candidates is that of
ProxylessNAS (Cai et al. 2019, arXiv 1812.00332). B C H W throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor, nn

from archgrad.architecture import Architecture
from archgrad.choice import Pick
from archgrad.errors import UserError
from archgrad.ops import OPS
from archgrad.ops.inverted_residual import BlockKind, InvertedResidual
from archgrad.spaces.drop_path import DropPath
from archgrad.spaces.space import Shape, Space, check_counts
from archgrad.spaces.width import choose_width
from archgrad.table import nearest

FBNET_CANDIDATES = (
    "mb_k3_e1",
    "mb_k3_e1_g2",
    "mb_k3_e3",
    "mb_k3_e6",
    "mb_k5_e1",
    "mb_k5_e1_g2",
    "mb_k5_e3",
    "mb_k5_e6",
    "skip_connect",
)
PROXYLESS_CANDIDATES = (
    "mb_k3_e3",
    "mb_k3_e6",
    "mb_k5_e3",
    "mb_k5_e6",
    "mb_k7_e3",
    "mb_k7_e6",
    "skip_connect",
)
FBNET_STAGES = (
    (16, 1, 1),
    (24, 4, 2),
    (32, 4, 2),
    (64, 4, 2),
    (112, 4, 1),
    (184, 4, 2),
    (352, 1, 1),
)
"""(channels, layers, stride of the first layer) of each stage: 22 layers."""

FBNET_STEM = 16
"""Channels of the stem that the plan's widths go with."""

# Kernel and expansion of the 22 layers, g for two groups, - for a skip; and the head's channels.
_FBNETS = {
    "FBNet-A": ("- 33 31 - - 56 33 51 33 56 53 51g 56 36 51g 53 31g 56 56 53 56 56", 1504),
    "FBNet-B": ("31 36 51 31 31 56 53 36 56 56 56 - 53 56 31 51 53 56 51 56 56 36", 1984),
    "FBNet-C": ("31 36 - 31 31 56 53 56 36 56 53 56 56 56 56 56 53 56 56 56 56 36", 1984),
}


def fbnet(name: str) -> tuple[Architecture, dict[str, int]]:
    """A published network by name: its architecture, and the settings that go with it beside the defaults.

    Blocks as in the authors' code (mobile-vision), for images of 224×224 and 1,000 classes:

    ======= =========== ============= ==========================
    name    parameters  multiply-adds published, in millions
    ======= =========== ============= ==========================
    FBNet-A 4,304,584   244,452,664   4.3, 244.5
    FBNet-B 4,801,368   291,004,424   4.8, 291.1
    FBNet-C 5,570,664   378,136,224   5.5, 378.2
    ======= =========== ============= ==========================

    The published multiply-adds come out to the last digit if global pooling is counted with one for each of
    its inputs (head · 49), and the parameters if they are cut, not rounded, after one digit. The biases that
    the authors' code gives its convolutions add nothing before a BatchNorm and are left out here.

    Raises:
        UserError: there is no network of that name.

    >>> architecture, settings = fbnet("FBNet-A")
    >>> architecture["stage4/layer3"], settings
    ('mb_k5_e1_g2', {'head': 1504})
    """
    if name not in _FBNETS:
        raise UserError(f"no FBNet {name!r}{nearest(name, _FBNETS)}; there are {', '.join(_FBNETS)}")
    blocks, head = _FBNETS[name]
    layers = [f"stage{s}/layer{i + 1}" for s, (_, n, _) in enumerate(FBNET_STAGES, start=1) for i in range(n)]
    return Architecture(
        {layer: _block_name(block) for layer, block in zip(layers, blocks.split(), strict=True)}
    ), {"head": head}


def _block_name(short: str) -> str:
    if short == "-":
        return "skip_connect"
    return BlockKind(int(short[0]), int(short[1]), 2 if short.endswith("g") else 1).name


class MobileNetwork(nn.Module):
    """Stem, stages of layers with one choice each, 1×1 convolution, global pooling, linear head.

    The choice of a layer is named ``stage<s>/layer<l>``, both counted from 1. `skip_connect` is a candidate
    where a layer keeps the plan's channels and stride 1; elsewhere it is left out.

    Of the last layer of a stage a sampler that runs a single candidate learns nothing (methods gdas, reinmax,
    dsnas): its gradient is that of scaling the layer's output, and a convolution with BatchNorm follows,
    which undoes any scale. Mixtures (snas, as in FBNet; darts, drnas) and pairs of candidates (proxyless) do
    learn there.

    Args:
        pick: the decision maker.
        shape: (C, H, W) of an image.
        classes: number of classes.
        channels: width of the stem. The plan is written for 16, and all its widths grow with this number,
            rounded to a multiple of 8 from 16 on and of 2 below: channels / 16 is the width multiplier.
        reductions: how often the image is halved. There are as many places for it as strides of 2 in stem and
            plan (published: 5, for images of 224×224); with fewer the last of them halve.
        stages: (channels, layers, stride) of each stage.
        head: channels of the 1×1 convolution before pooling (published: 1984, in FBNet-A 1504), for 16
            channels like the plan.
        candidates: operation names. Mobile blocks are ``mb_k<kernel>_e<expansion>[_g<groups>][_se][_swish]``.
        widths: fractions of a block's expanded channels to choose from, by masks as in FBNetV2: the
            choice is ``stage<s>/layer<l>/width``. Empty: no such choice. Blocks without expansion and those
            with groups have one width.
        swish: x·sigmoid(x) in place of ReLU in stem and head; the blocks say it in their names.
        affine: whether BatchNorm inside candidates has scale and shift.

    Raises:
        UserError: `channels`, `reductions`, `stages`, `head`, `candidates` or `widths` are not as described.
    """

    def __init__(
        self,
        pick: Pick,
        shape: Shape,
        classes: int,
        channels: int = FBNET_STEM,
        reductions: int = 5,
        stages: Sequence[Sequence[int]] = FBNET_STAGES,
        head: int = 1984,
        candidates: Sequence[str] = FBNET_CANDIDATES,
        widths: Sequence[float] = (),
        swish: bool = False,
        affine: bool = True,
    ):
        super().__init__()
        check_counts(channels=channels, head=head)
        _check(stages, candidates, widths)
        strides = _strides(stages, reductions)
        c_in = _scaled(FBNET_STEM, channels)
        self.stem = _conv_bn(shape[0], c_in, 3, strides[0], swish)
        self.layers = nn.Sequential()
        planned = FBNET_STEM
        for s, (width, layers, stride) in enumerate(stages, start=1):
            for layer in range(1, layers + 1):
                name = f"stage{s}/layer{layer}"
                # by the plan alone, so that size and reductions do not change the choices
                keeps = layer > 1 or (stride == 1 and width == planned)
                here = [c for c in candidates if keeps or c != "skip_connect"]
                if not here:
                    raise UserError(
                        f"{name} changes the channels or halves the image, so skip_connect alone cannot "
                        "stand there: add a mobile block such as mb_k3_e6 to the candidates"
                    )
                c_out, step = _scaled(width, channels), strides[s] if layer == 1 else 1
                self.layers.append(
                    pick(
                        name,
                        {
                            c: partial(_candidate, pick, name, c, c_in, c_out, step, affine, widths)
                            for c in here
                        },
                    )
                )
                c_in = c_out
            planned = width
        c_head = _scaled(head, channels)
        self.head = nn.Sequential(
            _conv_bn(c_in, c_head, 1, 1, swish),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(c_head, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> logits [B, classes]."""
        y: Tensor = self.head(self.layers(self.stem(x)))
        return y


def _candidate(
    pick: Pick,
    layer: str,
    name: str,
    c_in: int,
    c_out: int,
    stride: int,
    affine: bool,
    widths: Sequence[float],
) -> nn.Module:
    """One candidate of a layer; a mobile block with a choice of width where it can have one."""
    kind = BlockKind.parse(name)
    if kind is None:
        op: nn.Module = OPS[name](c_in, c_out, stride, affine)
        return op

    def choose(middle: int) -> tuple[int, nn.Module]:
        return choose_width(pick, f"{layer}/width", {f"{w:g}": max(1, round(w * middle)) for w in widths})

    chooser: Callable[[int], tuple[int, nn.Module]] | None = choose if widths and kind.has_width else None
    return InvertedResidual(c_in, c_out, stride, affine, kind, chooser, DropPath)


def _conv_bn(c_in: int, c_out: int, kernel: int, stride: int, swish: bool) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(c_out),
        nn.SiLU() if swish else nn.ReLU(),
    )


def _scaled(planned: int, channels: int) -> int:
    """A width of the plan for a stem of `channels`.

    >>> [_scaled(184, channels) for channels in (16, 8, 4)]
    [184, 92, 46]
    """
    step = 8 if channels >= FBNET_STEM else 2
    return max(step, step * round(planned * channels / FBNET_STEM / step))


def _strides(stages: Sequence[Sequence[int]], reductions: int) -> list[int]:
    """Stride of the stem and of each stage: the last `reductions` of those that the plan halves at.

    >>> _strides(FBNET_STAGES, 3)
    [1, 1, 1, 2, 2, 1, 2, 1]
    """
    planned = [2, *(stride for _, _, stride in stages)]
    places = [i for i, stride in enumerate(planned) if stride == 2]
    if not 0 <= reductions <= len(places):
        raise UserError(
            f"reductions = {reductions}: stem and plan have {len(places)} places to halve the image at; give "
            f"0 to {len(places)}"
        )
    kept = places[len(places) - reductions :]
    return [2 if i in kept else 1 for i in range(len(planned))]


def _check(stages: Sequence[Sequence[int]], candidates: Sequence[str], widths: Sequence[float]) -> None:
    """Refuse a plan, candidates or widths that are not as described."""
    for stage in stages:
        if len(stage) != 3 or stage[0] < 1 or stage[1] < 1 or stage[2] not in (1, 2):
            raise UserError(
                f"stages: wanted [channels, layers, stride] with stride 1 or 2, as in [24, 4, 2], got {stage}"
            )
    if not stages or not candidates or len(set(candidates)) < len(candidates):
        raise UserError(
            f"wanted at least one stage and different candidates, got {len(stages)} stages and {candidates}"
        )
    kinds = [BlockKind.parse(name) for name in candidates]
    if not widths:
        return
    if not all(0 < w <= 1 for w in widths) or len({f"{w:g}" for w in widths}) < len(widths):
        raise UserError(
            f"widths: wanted different fractions above 0, at most 1, as in [0.5, 0.75, 1], got {widths}"
        )
    if not any(kind is not None and kind.has_width for kind in kinds):
        raise UserError(
            f"widths: none of the candidates {', '.join(candidates)} has a width to choose; add one that "
            "expands and has no groups, such as mb_k3_e6"
        )


MOBILE = Space(
    MobileNetwork,
    search={"channels": 8, "reductions": 3},
    train={"channels": 16, "reductions": 3},
    # as FBNet is trained on ImageNet, section 4; but their learning rate falls in steps, ours along a cosine
    training={"epochs": 360, "batch_size": 256, "learning_rate": 0.1, "weight_decay": 4e-5},
    small_search={"channels": 4, "reductions": 2},
    small_train={"channels": 8, "reductions": 2},
)
