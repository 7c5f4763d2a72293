"""Score gate: the gradient of the drawn candidate's gate is the reward of its log-probability."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from archgrad.choice import Sample
from archgrad.samplers.gumbel_noise import gumbel_perturbed
from archgrad.samplers.hard_draw import hard_draw
from archgrad.samplers.log_prob import one_hot_log_prob


@dataclass(frozen=True)
class ScoreGate:
    """Forward D = one-hot(argmax(α + G)), D ~ softmax(α); backward dL/dα = Σ_k (dL/dz_k)·D_k·∇ log p_k.

    The score function with a reward for every choice, ∂L/∂z of its drawn gate, in place of the loss,
    and without a further pass: the gradient of z = D·(1 + log p − log p held). Unbiased for d E[f(D)]/dα
    where f is linear in each choice. The candidates that did not run need no ∂L/∂z: D_k drops it.
    Twice ReinMax's gradient at τ = 1, where only the drawn gate has a gradient.

    Source: Hu et al. 2020, DSNAS (arXiv 2002.09128); docs/gradients.md, eq. (25)-(26).
    """

    uses_temperature: ClassVar[bool] = False
    one_active: ClassVar[bool] = True
    draws_from_softmax: ClassVar[bool] = True
    log_prob_uses_temperature: ClassVar[bool] = False

    def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
        """Weights [..., E, K], exactly one-hot."""
        index = gumbel_perturbed(logits, generator).argmax(dim=-1, keepdim=True)

        def pull_back(alpha: Tensor, v: Tensor) -> Tensor:
            reward = v.gather(-1, index)  # ∇ log p_k = e_k − p
            return (-reward * torch.softmax(alpha, dim=-1)).scatter_add(-1, index, reward)

        return hard_draw(logits, index, pull_back)

    def probabilities(self, logits: Tensor) -> Tensor:
        """softmax(α) [..., E, K]."""
        return torch.softmax(logits, dim=-1)

    def log_prob(self, logits: Tensor, tau: float, weights: Tensor) -> Tensor:
        """log P(D) [..., E] of the drawn one-hot weights [..., E, K]."""
        return one_hot_log_prob(logits, weights)
