"""Gumbel-Rao: straight-through Gumbel-softmax, averaged over the noise that gives the same draw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from archgrad.choice import Sample
from archgrad.errors import UserError
from archgrad.samplers.gumbel_noise import exponential, gumbel_given, gumbel_perturbed, safe_log_
from archgrad.samplers.hard_draw import at_least_float32, hard_draw, softmax_pull_back
from archgrad.samplers.log_prob import one_hot_log_prob


@dataclass(frozen=True)
class GumbelRao:
    """Forward D = one-hot(argmax(α + G)); backward the mean over S of d softmax(Y_s/τ)/dα, Y_s ~ α + G | D.

    ∂f(D)/∂D depends on D alone, so the gradient of straight-through may be replaced by its mean given D
    (Rao-Blackwell): same expectation, variance not larger, at the price of S·E·K random numbers and no
    further pass of the network. S = 1 is as straight-through in distribution.

    The derivative is taken at fixed Y_s: what straight-through differentiates is softmax((α + G)/τ) at
    fixed G, and only its average is replaced. A gradient through Y_s(α) would have another expectation.

    samples: S, conditional draws for each choice.

    Source: Paulus et al. 2021 (arXiv 2010.04838), the Monte Carlo form GR-MCK; docs/gradients.md, eq. (16).
    """

    samples: int = 10

    uses_temperature: ClassVar[bool] = True
    one_active: ClassVar[bool] = True
    draws_from_softmax: ClassVar[bool] = True
    log_prob_uses_temperature: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if isinstance(self.samples, bool) or not isinstance(self.samples, int) or self.samples < 1:
            raise UserError(f"gumbel_rao: samples is a whole number from 1, got {self.samples!r}")

    def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
        """Weights [..., E, K], exactly one-hot."""
        index = gumbel_perturbed(logits, generator).argmax(dim=-1, keepdim=True)
        # drawn whether or not a gradient follows: the draws after this one are the same in both cases
        x = exponential((self.samples, *logits.shape), logits.dtype, generator)

        def pull_back(alpha: Tensor, v: Tensor) -> Tensor:
            # Y_j − Y_k = −log(1 + X_j/(X_k·π_j)) by eq. (17): all of Y that a softmax sees. α is held.
            log_x = safe_log_(x.to(alpha.device, copy=True))
            k = index.expand(self.samples, *index.shape)
            odds = log_x - log_x.gather(-1, k) - torch.log_softmax(alpha.detach(), dim=-1)
            below = torch.nn.functional.softplus(odds, threshold=40).scatter_(-1, k, 0.0)
            given = softmax_pull_back(torch.softmax(below * (-1 / tau), dim=-1), v)
            return given.sum(dim=0) / (self.samples * tau)

        return hard_draw(logits, index, pull_back)

    def probabilities(self, logits: Tensor) -> Tensor:
        """softmax(α) [..., E, K]."""
        return torch.softmax(logits, dim=-1)

    def log_prob(self, logits: Tensor, tau: float, weights: Tensor) -> Tensor:
        """log P(D) [..., E] of the drawn one-hot weights [..., E, K]."""
        return one_hot_log_prob(logits, weights)


def conditional_gumbel(logits: Tensor, index: Tensor, samples: int, generator: torch.Generator) -> Tensor:
    """Draws of α + G given that its argmax is `index`: [S, ..., K] for logits [..., K] and index [...].

    Nothing is drawn again: see `gumbel_given`. At least float32.

    Source: Paulus et al. 2021 (arXiv 2010.04838); docs/gradients.md, eq. (17).
    """
    alpha = at_least_float32(logits)
    log_x = safe_log_(exponential((samples, *alpha.shape), alpha.dtype, generator))
    return gumbel_given(alpha, log_x.to(alpha.device), index.expand(samples, *index.shape))
