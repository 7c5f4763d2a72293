"""A feature pyramid on top of any network that halves its image: for detection and segmentation.

Lin et al. 2017 (arXiv 1612.03144), section 3: 1×1 convolutions bring the backbone's maps to one width, the
next coarser one is enlarged and added to each, and a 3×3 convolution follows. B C H W throughout.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from archgrad.errors import UserError
from archgrad.spaces.space import Shape


@dataclass
class _Called:
    """One call of a module: its name, the sizes (H, W) that went in and came out, and the calls in it.

    row: whether the module is an `nn.Sequential`. A size is None where there was no map [B, C, H, W].
    """

    name: str
    row: bool = True
    before: tuple[int, int] | None = None
    after: tuple[int, int] | None = None
    inner: list[_Called] = field(default_factory=list)

    def __iter__(self) -> Iterator[_Called]:
        """This call and all inside it."""
        yield self
        for call in self.inner:
            yield from call


def feature_maps(network: nn.Module, shape: Shape, strides: Sequence[int] = (8, 16, 32)) -> dict[int, str]:
    """For each stride the name of the module whose output is the network's last map of that size.

    Found by passing an empty image through `network`, whose flags and buffers stay as they were. Taken is
    the last map of a size that one block hands to the next. A module that is no `nn.Sequential` and
    halves its input once is a block, and the maps inside it (expanded channels, say) do not count; nor do
    those of a head, which turns a map into something else. Modules that are called more than once are
    passed over.

    Args:
        network: runs on images [B, C, H, W].
        shape: (C, H, W) of an image, H and W at least twice the largest stride.
        strides: powers of 2 that H and W are divided by, rounded up.

    Raises:
        UserError: an image too small for the strides, or no map of a size.
    """
    _, height, width = shape
    if not strides or min(height, width) < 2 * max(strides):
        raise UserError(
            f"images of {height}×{width} are too small for maps at 1/{max(strides, default=1)} of their "
            "size: they would be a single pixel, as after global pooling; both sides must be at least "
            f"{2 * max(strides, default=1)}"
        )
    root = _calls(network, shape)
    times: dict[str, int] = {}
    for call in root:
        times[call.name] = times.get(call.name, 0) + 1
    found = {}
    for stride in strides:
        size = (-(-height // stride), -(-width // stride))
        name = _last(root, size, times)
        if name is None:
            seen = sorted({call.after for call in root if call.after}, reverse=True)
            raise UserError(
                f"the network has no feature map of {size[0]}×{size[1]}, 1/{stride} of {height}×{width}; it "
                f"has {', '.join(f'{h}×{w}' for h, w in seen)}: choose other strides, or make it halve more"
            )
        found[stride] = name
    return found


def _last(call: _Called, size: tuple[int, int], times: dict[str, int]) -> str | None:
    """The last module below `call` that hands on a map of `size`."""
    found = None
    for inner in call.inner:
        if inner.after == size and times[inner.name] == 1:
            found = inner.name
        elif inner.after != size and _has_blocks(inner, size):
            found = _last(inner, size, times) or found
    return found


def _has_blocks(call: _Called, size: tuple[int, int]) -> bool:
    """Whether a module is more than one block as far as maps of `size` go."""
    if call.before is None or call.before[0] > size[0] or call.before[1] > size[1]:
        return True
    if call.before != size or call.after is None:
        return False
    return call.row or 4 * max(call.after) <= max(size) + 3


def _calls(network: nn.Module, shape: Shape) -> _Called:
    """What is called in one pass, as a tree."""
    root = _Called("")
    stack = [root]

    def enter(name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        stack[-1].inner.append(_Called(name, type(module) is nn.Sequential, _size(inputs)))
        stack.append(stack[-1].inner[-1])

    def leave(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        stack.pop().after = _size((output,))

    hooks = []
    for name, module in network.named_modules():
        if name:
            hooks += [
                module.register_forward_pre_hook(partial(enter, name)),
                module.register_forward_hook(leave),
            ]
    like = next(network.parameters(), torch.empty(0))
    try:
        with _evaluation(network), torch.no_grad():
            network(torch.zeros(1, *shape, dtype=like.dtype, device=like.device))
    finally:
        for hook in hooks:
            hook.remove()
    return root


def _size(values: tuple[Any, ...]) -> tuple[int, int] | None:
    """(H, W) of the first map among the values."""
    maps = [v for v in values if isinstance(v, Tensor) and v.dim() == 4]
    return (maps[0].shape[2], maps[0].shape[3]) if maps else None


@contextmanager
def _evaluation(network: nn.Module) -> Iterator[None]:
    """Evaluation mode, and each module's own mode afterwards."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


class FeaturePyramid(nn.Module):
    """Maps of one width at several strides, each of which has seen the coarser ones.

    ``p_s = conv3×3(m_s)`` with ``m_s = conv1×1(c_s) + enlarged(m_2s)``, c_s being the backbone's map at
    stride s; enlarged by repeating pixels.

    Args:
        backbone: a network, its classifier included: what it puts out at the end is not used.
        shape: (C, H, W) of an image; others of the same C will do, too, if they are large enough.
        channels: width of the pyramid (published: 256).
        strides: from fine to coarse.
        names: modules of the backbone whose outputs to take, one a stride; None: those of `feature_maps`.

    Raises:
        UserError: as `feature_maps`; or a name that is no module or gives no map.
    """

    def __init__(
        self,
        backbone: nn.Module,
        shape: Shape,
        channels: int = 256,
        strides: Sequence[int] = (8, 16, 32),
        names: Sequence[str] | None = None,
    ):
        super().__init__()
        if names is None:
            names = list(feature_maps(backbone, shape, strides).values())
        known = dict(backbone.named_modules())
        wrong = [name for name in names if name not in known]
        if wrong or len(names) != len(strides):
            raise UserError(
                f"wanted one module of the backbone for each stride of {list(strides)}, got {list(names)}"
                + (f"; the backbone has no {', '.join(map(repr, wrong))}" if wrong else "")
            )
        self.backbone, self.names, self.strides = backbone, tuple(names), tuple(strides)
        like = next(backbone.parameters(), torch.empty(0))
        with _evaluation(backbone), torch.no_grad():
            maps = self.backbone_maps(torch.zeros(1, *shape, dtype=like.dtype, device=like.device))
        self.lateral = nn.ModuleList(nn.Conv2d(c.shape[1], channels, 1) for c in maps)
        self.smooth = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in maps)
        self.to(like)

    def backbone_maps(self, x: Tensor) -> list[Tensor]:
        """[B, C, H, W] -> the backbone's maps [B, C_s, ⌈H/s⌉, ⌈W/s⌉], one a stride."""
        found: dict[str, Any] = {}

        def note(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            found[name] = output

        hooks = [
            self.backbone.get_submodule(name).register_forward_hook(partial(note, name))
            for name in self.names
        ]
        try:
            self.backbone(x)
        finally:
            for hook in hooks:
                hook.remove()
        maps = [found.get(name) for name in self.names]
        for name, c in zip(self.names, maps, strict=True):
            if not isinstance(c, Tensor) or c.dim() != 4:
                what = tuple(c.shape) if isinstance(c, Tensor) else type(c).__name__
                raise UserError(f"module {name!r} of the backbone gives no map [B, C, H, W] but {what}")
        return [c for c in maps if c is not None]

    def forward(self, x: Tensor) -> list[Tensor]:
        """[B, C, H, W] -> one [B, channels, ⌈H/s⌉, ⌈W/s⌉] a stride, from fine to coarse."""
        levels = [lateral(c) for lateral, c in zip(self.lateral, self.backbone_maps(x), strict=True)]
        for fine in reversed(range(len(levels) - 1)):
            levels[fine] = levels[fine] + F.interpolate(levels[fine + 1], size=levels[fine].shape[2:])
        return [smooth(level) for smooth, level in zip(self.smooth, levels, strict=True)]
