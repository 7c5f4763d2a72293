"""Choice of a width by masks: one wide layer stands for all narrower ones.

Wan et al. 2020, FBNetV2 (arXiv 2004.05565), section 3.1: the mixture of layers of different widths that share
their weights is the widest layer's output times a mixture of masks, so more widths cost next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from archgrad.choice import Pick
from archgrad.errors import UserError


class ChannelMask(nn.Module):
    """Keeps the first `channels` along dimension `dim` and sets the others to zero.

    >>> ChannelMask(2)(torch.ones(1, 4))
    tensor([[1., 1., 0., 0.]])
    """

    def __init__(self, channels: int, dim: int = 1):
        super().__init__()
        self.channels, self.dim = channels, dim

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, …] -> the same shape."""
        there = x.shape[self.dim]
        if self.channels >= there:
            return x
        kept = x.narrow(self.dim, 0, self.channels)
        rest = x.narrow(self.dim, self.channels, there - self.channels)
        return torch.cat([kept, torch.zeros_like(rest)], dim=self.dim)

    def extra_repr(self) -> str:
        """The number of channels, for ``print(network)``."""
        return str(self.channels)


class MixedMask(nn.Module):
    """x · Σ_k z_k m_k: the masks are mixed first, as vectors of one number a channel, then applied once."""

    def __init__(self, masks: nn.Module, dim: int):
        super().__init__()
        self.masks, self.dim = masks, dim

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, …] -> the same shape."""
        shape = [1] * x.dim()
        shape[self.dim] = x.shape[self.dim]
        y: Tensor = x * self.masks(x.new_ones(shape))
        return y


def choose_width(
    pick: Pick, name: str, widths: Sequence[int] | Mapping[str, int], dim: int = 1
) -> tuple[int, nn.Module]:
    """Decide how wide a layer is: (channels to build, module to pass its output through).

    In a supernet the widest is built, and its output goes through the mixture of masks. In a derived
    network just the chosen number of channels is built and the module is an identity. Several decisions of
    one name are one choice: layers that are added to one another must have the same width.

    The supernet at one-hot weights is exactly the network whose tensors are the leading slices of its own, if
    every operation between the layer and its mask keeps channels apart (activation, BatchNorm, depthwise
    convolution, but neither LayerNorm nor groups), and what follows the mask does not revive a zero channel
    before the next layer mixes channels (no BatchNorm with a shift, no sigmoid).

    Args:
        pick: the decision maker.
        name: of the choice.
        widths: numbers of channels; or candidate name -> number, where names must not depend on the size of
            the network: ``{"half": 8, "full": 16}``.
        dim: the dimension of the channels; 1 for B C H W, -1 for features at the end.

    Raises:
        UserError: no width, one below 1, or one twice.

    >>> choose_width(lambda name, options: options["8"](), "width", [4, 8, 16])
    (8, Identity())
    """
    named = widths if isinstance(widths, Mapping) else {str(width): width for width in widths}
    if not named or len(named) < len(widths) or min(named.values()) < 1:
        raise UserError(
            f"choice {name!r}: wanted different widths of at least 1 channel, got {widths!r}; "
            "give them like [8, 16, 24]"
        )
    options: dict[str, Callable[[], nn.Module]] = {
        candidate: partial(ChannelMask, width, dim) for candidate, width in named.items()
    }
    chosen = pick(name, options)
    if type(chosen) is ChannelMask:
        return chosen.channels, nn.Identity()
    return max(named.values()), MixedMask(chosen, dim)
