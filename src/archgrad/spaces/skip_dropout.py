"""Dropout on skip connections, which learn nothing and are the easiest way at first (P-DARTS)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from archgrad.choice import Blend, Droppable, Pick

SKIP = "skip_connect"
_DECAY = 0.2  # per epoch in which the logits learn


class SkipDropout(nn.Module):
    """An identity whose numbers are dropped with a probability, the others scaled up; in evaluation itself.

    `probability` is set before a step, `generator` by `drop_path.set_drop_path`.

    Source: Chen et al. 2019, P-DARTS (arXiv 1904.12760), section 3.3.
    """

    def __init__(self) -> None:
        super().__init__()
        self.probability = 0.0
        self.generator: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        """[B, …] -> [B, …]."""
        if not self.training or self.probability == 0.0:
            return x
        keep = 1.0 - self.probability
        draw = torch.rand(x.shape, generator=self.generator)  # on the host: the same mask on any device
        return x * ((draw < keep).to(x.device, x.dtype) / keep)


def with_skip_dropout(space: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """The space, with dropout on its candidates `skip_connect` that are identities."""

    @functools.wraps(space)
    def build(pick: Pick, *arguments: Any, **settings: Any) -> nn.Module:
        def picks(name: str, options: Mapping[str, Callable[[], nn.Module]]) -> nn.Module:
            if SKIP not in options or isinstance(options, Blend):
                return pick(name, options)
            dropping = {**options, SKIP: lambda: _dropping(options[SKIP]())}
            dropped = options.dropped if isinstance(options, Droppable) else None
            return pick(name, Droppable(dropping, dropped) if dropped else dropping)

        return space(picks, *arguments, **settings)

    return build


def set_skip_dropout(network: nn.Module, probability: float) -> None:
    """Give every `SkipDropout` its probability in [0, 1)."""
    for module in network.modules():
        if isinstance(module, SkipDropout):
            module.probability = probability


def rate(first: float, epoch: int, epochs: int, warmup: int) -> float:
    """The probability of an epoch: a line while the weights learn alone, then ·exp(−0.2) an epoch.

    >>> [round(rate(0.4, epoch, 25, 10), 3) for epoch in (0, 9, 10, 15)]
    [0.384, 0.24, 0.4, 0.147]
    """
    if epoch < warmup:
        return first * (epochs - epoch - 1) / epochs
    return first * math.exp(-_DECAY * (epoch - warmup))


def _dropping(module: nn.Module) -> nn.Module:
    return SkipDropout() if isinstance(module, nn.Identity) else module
