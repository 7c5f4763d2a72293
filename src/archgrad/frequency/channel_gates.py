"""Input-dependent gates, one for each frequency channel, and the penalty on those that are open.

Shapes: B images, n channels; coefficients [B, n, h, w].
Source: Xu et al. 2020 (arXiv 2002.12416), section 3.2; the gates are binary concrete variables, exactly 0
or 1 with the straight-through gradient (`archgrad.samplers.binary_concrete`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from archgrad.errors import UserError
from archgrad.samplers.binary_concrete import BinaryConcrete


class ChannelGates(nn.Module):
    """x · z with a gate z in {0, 1} for each channel of each image, drawn from what is in the image.

    Pooling, 1×1 convolution, BatchNorm and ReLU, then a 1×1 convolution of n groups that gives two logits a
    channel, closed and open. Their difference α is the gate's logit: P(open) = σ(α).

    Args:
        channels: n.
        temperature: τ of the relaxation that the gradient is taken from (published: 1).
        open_at_first: about the probability of each gate to be open before any training.
        noise_in_evaluation: draw in evaluation, too, as the authors' code does. Without it a gate is then
            open where its probability is above ½, and the network is a function of the image alone.

    After a forward pass `expected_open` holds E[Σ z], the mean over the batch, differentiable, and `logits`
    α [B, n], detached. `generator` is set by `set_gate_noise` before every pass that draws.

    Raises:
        UserError: a temperature that is not above 0, or a probability outside (0, 1).
    """

    def __init__(
        self,
        channels: int,
        temperature: float = 1.0,
        open_at_first: float = 0.9,
        noise_in_evaluation: bool = False,
    ) -> None:
        super().__init__()
        if not (math.isfinite(temperature) and temperature > 0):
            raise UserError(f"temperature: a finite number above 0, got {temperature!r}")
        if not 0 < open_at_first < 1:
            raise UserError(f"open_at_first: a probability above 0 and below 1, got {open_at_first!r}")
        self.temperature, self.noise_in_evaluation = temperature, noise_in_evaluation
        self.sampler = BinaryConcrete(hard=True)
        self.squeeze = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        )
        self.logit_pairs = nn.Conv2d(channels, 2 * channels, 1, groups=channels)
        half = math.log(open_at_first / (1 - open_at_first)) / 2
        with torch.no_grad():
            self.logit_pairs.weight.mul_(0.1)  # so that the bias, not the image, decides at first
            self.logit_pairs.bias.copy_(torch.tensor([-half, half]).repeat(channels))  # type: ignore[union-attr]
        self.generator: torch.Generator | None = None
        self.expected_open: Tensor | None = None
        self.logits: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """[B, n, h, w] -> the same, closed channels exactly 0.

        Raises:
            RuntimeError: gates are to be drawn, and `set_gate_noise` was not called.
        """
        closed, opened = self.logit_pairs(self.squeeze(x)).flatten(1).unflatten(1, (-1, 2)).unbind(2)
        alpha = (opened - closed).float() if x.dtype != torch.float64 else opened - closed
        self.expected_open, self.logits = torch.sigmoid(alpha).sum(1).mean(), alpha.detach()
        if self.training or self.noise_in_evaluation:
            if self.generator is None:
                raise RuntimeError("ChannelGates draws: give it a generator with set_gate_noise(network, …)")
            # one more dimension, as the list of what runs is not wanted
            z = self.sampler(alpha[None], self.temperature, self.generator).weights[0]
        else:
            z = (alpha > 0).to(x.dtype)
        return x * z.to(x.dtype)[:, :, None, None]


def gates_of(network: nn.Module) -> list[ChannelGates]:
    """All `ChannelGates` of a network."""
    return [module for module in network.modules() if isinstance(module, ChannelGates)]


def set_gate_noise(network: nn.Module, generator: torch.Generator) -> None:
    """Give every `ChannelGates` of `network` its random stream; the generator lives on the host."""
    for gates in gates_of(network):
        gates.generator = generator


@dataclass(frozen=True)
class GatePenalty:
    """strength · E[number of open gates], averaged over images; in `warmup` epochs it grows to that.

    The expectation Σ σ(α) is taken exactly, not from the draw: the same mean, without its noise and without
    the bias of the straight-through gradient. Nats per open gate.

    Source: Xu et al. 2020 (arXiv 2002.12416), section 3.2, the regularizer on the number of channels.
    """

    strength: float
    warmup: int = 0

    def at(self, epoch: int) -> float:
        """The strength in an epoch, counted from 0.

        >>> [GatePenalty(0.5, warmup=4).at(epoch) for epoch in (0, 2, 4, 9)]
        [0.0, 0.25, 0.5, 0.5]
        """
        return self.strength * min(1.0, epoch / self.warmup) if self.warmup else self.strength

    def __call__(self, network: nn.Module, epoch: int) -> Tensor:
        """The penalty after a forward pass of `network`, a scalar."""
        terms = [gates.expected_open for gates in gates_of(network) if gates.expected_open is not None]
        return self.at(epoch) * torch.stack(terms).sum()
