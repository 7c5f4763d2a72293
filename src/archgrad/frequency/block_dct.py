"""Images as channels of frequency: YCbCr, then the discrete cosine transform of 8×8 blocks.

Shapes: images [B, C, H, W] with C = 1 (grey) or 3 (RGB); coefficients [B, n, ⌈H/stride⌉, ⌈W/stride⌉].
Channel 64·colour + 8·u + v holds coefficient (u, v) of every block, u counting vertical half waves and v
horizontal ones: 192 channels of a colour image, 64 of a grey one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from archgrad.datasets.normalisation import Normalisation
from archgrad.errors import UserError
from archgrad.spaces.space import Shape

BLOCK = 8
"""Side of a block in pixels, as in JPEG."""

STRIDES = (8, 4, 2)
"""Pixels from one block to the next. 8 is JPEG's: blocks side by side. Below that they overlap."""

_SMALLEST_MAP = 16  # a side of the coefficients that leaves a network's reductions something to reduce

# ITU-R BT.601 as JFIF 1.02 uses it: Cb = (B − Y)/1.772 and Cr = (R − Y)/1.402, around 0.
_LUMA = (0.299, 0.587, 0.114)


def colours(channels: int) -> tuple[str, ...]:
    """Names of the colours that images of so many channels are transformed to.

    Raises:
        UserError: neither 1 channel nor 3.

    >>> colours(3)
    ('Y', 'Cb', 'Cr')
    """
    if channels not in (1, 3):
        raise UserError(
            f"frequency channels are made from grey images (1 channel) or RGB (3), got {channels} channels"
        )
    return ("grey",) if channels == 1 else ("Y", "Cb", "Cr")


def channel_names(channels: int) -> tuple[str, ...]:
    """A name for each frequency channel of images of so many channels.

    >>> channel_names(3)[0], channel_names(3)[64 + 8 * 2 + 1]
    ('Y 0,0', 'Cb 2,1')
    """
    return tuple(
        f"{colour} {u},{v}" for colour in colours(channels) for u in range(BLOCK) for v in range(BLOCK)
    )


def zigzag() -> tuple[int, ...]:
    """8·u + v of the 64 coefficients in JPEG's order, from low frequencies to high.

    Source: ITU-T T.81 (JPEG), figure 5: diagonals of equal u + v, walked in alternating directions.

    >>> zigzag()[:6]
    (0, 1, 8, 16, 9, 2)
    """

    def place(index: int) -> tuple[int, int]:
        u, v = divmod(index, BLOCK)
        return u + v, u if (u + v) % 2 else v

    return tuple(sorted(range(BLOCK * BLOCK), key=place))


def default_stride(shape: Shape) -> int:
    """The largest stride whose coefficients still are 16 high and wide, else 2.

    Blocks side by side for photographs of 128 pixels and more, overlapping ones for small images.

    >>> [default_stride((3, side, side)) for side in (224, 64, 32, 8)]
    [8, 4, 2, 2]
    """
    return next((s for s in STRIDES if min(shape[1:]) >= _SMALLEST_MAP * s), STRIDES[-1])


def map_size(shape: Shape, stride: int) -> tuple[int, int]:
    """Height and width of the coefficients, ⌈H/stride⌉ and ⌈W/stride⌉.

    Raises:
        UserError: another stride than 8, 4 or 2, or an image smaller than a block.
    """
    if isinstance(stride, bool) or stride not in STRIDES:
        raise UserError(f"stride: blocks are 8, 4 or 2 pixels apart, got {stride!r}")
    _, height, width = shape
    if min(height, width) < BLOCK:
        raise UserError(
            f"images of {height}×{width} are smaller than a block of {BLOCK}×{BLOCK}; enlarge them with "
            f"data.resize={BLOCK} or more"
        )
    return math.ceil(height / stride), math.ceil(width / stride)


def pad_for_blocks(x: Tensor, stride: int) -> Tensor:
    """Repeat the border of x [B, C, H, W] so that ⌈H/stride⌉ × ⌈W/stride⌉ blocks fit.

    Half the overlap on each side, so that a block's middle is that of its `stride` pixels, and below and
    on the right what is missing to a multiple of the stride (as JPEG does for its last blocks).
    """
    around = (BLOCK - stride) // 2
    height, width = x.shape[-2:]
    right, bottom = around - width % -stride, around - height % -stride
    return F.pad(x, (around, right, around, bottom), mode="replicate") if around or right or bottom else x


def dct_matrix(size: int = BLOCK) -> Tensor:
    """The orthonormal DCT-II, float64 [size, size]: row u is √(2/N)·cos(π(2i + 1)u / 2N), row 0 over √2.

    Source: Ahmed, Natarajan & Rao 1974; for N = 8 the transform of ITU-T T.81, A.3.3.
    """
    i = torch.arange(size, dtype=torch.float64)
    matrix = torch.cos(math.pi / (2 * size) * i[:, None] * (2 * i + 1)) * math.sqrt(2 / size)
    return torch.cat([matrix[:1] / math.sqrt(2), matrix[1:]])


def _colour_rows(normalisation: Normalisation) -> tuple[Tensor, Tensor]:
    """(weight [3 or 1, C], bias): from normalised channels to Y − 128, Cb, Cr (or grey − 128) of 0…255."""
    if len(normalisation.mean) == 1:
        matrix = torch.ones(1, 1, dtype=torch.float64)
    else:
        red, green, blue = _LUMA
        matrix = torch.tensor(
            [
                [red, green, blue],
                [-red / 1.772, -green / 1.772, (1 - blue) / 1.772],
                [(1 - red) / 1.402, -green / 1.402, -blue / 1.402],
            ],
            dtype=torch.float64,
        )
    mean = torch.tensor(normalisation.mean, dtype=torch.float64)
    std = torch.tensor(normalisation.std, dtype=torch.float64)
    shift = torch.tensor([128.0, 0.0, 0.0], dtype=torch.float64)[: len(matrix)]
    return 255 * matrix * std, 255 * (matrix * mean).sum(1) - shift


class FixedConvolution(nn.Conv2d):
    """A convolution that is not learned: its filters are buffers that no file needs to hold.

    weight: [c_out, c_in, k, k]; bias: [c_out] or None. No padding. Its multiply-adds count as any other's.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, stride: int = 1) -> None:
        c_out, c_in, kernel, _ = weight.shape
        # on meta, as the filters that it would draw are not wanted
        super().__init__(c_in, c_out, kernel, stride, bias=bias is not None, device="meta")
        del self.weight
        self.register_buffer("weight", weight, persistent=False)
        if bias is not None:
            del self.bias
            self.register_buffer("bias", bias, persistent=False)


class BlockDCT(nn.Module):
    """Normalised images -> DCT coefficients of 8×8 blocks, in JPEG's units (before any quantisation).

    The data set's normalisation is undone inside, exactly: it is linear, so it joins the colour matrix.

    Args:
        shape: (C, H, W) of an image, C = 1 or 3.
        normalisation: of the images, mean and deviation a channel.
        stride: pixels from one block to the next; see `STRIDES`.
        channels: which of the 64·C frequency channels to compute, ascending; None means all. The others
            cost nothing.
        dtype: of the filters.

    Raises:
        UserError: images of other channels or smaller than a block, another stride, or channels that are
            not there, repeated or not ascending.
    """

    def __init__(
        self,
        shape: Shape,
        normalisation: Normalisation,
        stride: int = BLOCK,
        channels: Sequence[int] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        total = BLOCK * BLOCK * len(colours(shape[0]))
        if not len(normalisation.mean) == len(normalisation.std) == shape[0]:
            raise UserError(
                f"images of {shape[0]} channel(s) need as many means and deviations, got "
                f"{len(normalisation.mean)} and {len(normalisation.std)}"
            )
        self.size = map_size(shape, stride)
        self.stride = stride
        self.channels = check_channels(range(total) if channels is None else channels, total)
        by_colour: dict[int, list[int]] = {}
        for channel in self.channels:
            by_colour.setdefault(channel // BLOCK**2, []).append(channel % BLOCK**2)
        used = list(by_colour)  # ascending, as the channels are
        weight, bias = _colour_rows(normalisation)
        self.colour = FixedConvolution(weight[used][:, :, None, None].to(dtype), bias[used].to(dtype))
        d = dct_matrix()
        waves = torch.einsum("ui,vj->uvij", d, d).reshape(BLOCK**2, 1, BLOCK, BLOCK).to(dtype)
        self.waves = nn.ModuleList(FixedConvolution(waves[own], None, stride) for own in by_colour.values())

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, n, ⌈H/stride⌉, ⌈W/stride⌉], at full precision even under autocast."""
        kind = x.device.type
        if kind != "meta" and torch.is_autocast_enabled(
            kind
        ):  # eight bits of a mantissa would drown the small coefficients
            with torch.autocast(kind, enabled=False):
                return self._transform(x)
        return self._transform(x)

    def _transform(self, x: Tensor) -> Tensor:
        y = pad_for_blocks(self.colour(x), self.stride)
        return torch.cat([wave(y[:, c : c + 1]) for c, wave in enumerate(self.waves)], dim=1)


def check_channels(channels: Sequence[int], total: int) -> tuple[int, ...]:
    """The channels as a tuple.

    Raises:
        UserError: none, or not whole numbers from 0 to total − 1 in ascending order.
    """
    chosen = tuple(channels)
    whole = all(isinstance(c, int) and not isinstance(c, bool) and 0 <= c < total for c in chosen)
    if not chosen or not whole or list(chosen) != sorted(set(chosen)):
        raise UserError(
            f"channels: ascending whole numbers from 0 to {total - 1}, at least one; got "
            f"{list(chosen[:8])}{' …' if len(chosen) > 8 else ''}"
        )
    return chosen


class Standardise(nn.Module):
    """(x − mean)/deviation per channel, with fixed numbers: coefficients differ in size a hundredfold.

    mean, deviation: [n], kept with the network's weights; 0 and 1 until they are set or loaded.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """[B, n, h, w] -> the same."""
        return (x - self.mean[:, None, None]) / self.deviation[:, None, None]
