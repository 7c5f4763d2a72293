"""Drop path: one sample's whole edge is dropped, the others are scaled up (Larsson et al. 2017)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DropPath(nn.Module):
    """x / (1−p) with probability 1−p per sample, else 0; identity in evaluation and at p = 0.

    `probability` and `generator` are set by `set_drop_path` before a training step.
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
        draw = torch.rand(x.shape[0], generator=self.generator)  # on the host: the same mask on any device
        mask = (draw < keep).to(x.device, x.dtype) / keep
        return x * mask.view(-1, *[1] * (x.dim() - 1))


def set_drop_path(network: nn.Module, probability: float, generator: torch.Generator) -> None:
    """Give every `DropPath` its probability in [0, 1), and whatever draws in `network` its random stream.

    A module that draws in training has an attribute `generator`.
    """
    for module in network.modules():
        if hasattr(module, "generator"):
            module.generator = generator  # type: ignore[assignment]
        if isinstance(module, DropPath):
            module.probability = probability


def draws_by_itself(network: nn.Module) -> bool:
    """Whether some module draws in training whatever the probability of drop path (`archgrad.ops.noise`)."""
    return any(hasattr(m, "generator") and not isinstance(m, DropPath) for m in network.modules())
