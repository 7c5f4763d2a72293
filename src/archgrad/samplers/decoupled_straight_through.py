"""Decoupled straight-through: one temperature to draw with, another for the gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from archgrad.choice import Sample
from archgrad.errors import UserError
from archgrad.samplers.gumbel_noise import gumbel_perturbed
from archgrad.samplers.hard_draw import at_least_float32, hard_draw, softmax_pull_back
from archgrad.samplers.log_prob import one_hot_log_prob
from archgrad.samplers.sampler import Law


@dataclass(frozen=True)
class DecoupledStraightThrough:
    """Forward D = one-hot(argmax(α/τ + G)), backward J(q)/τ_b, q = softmax(α/τ_b), J(q) = diag(q) − q qᵀ.

    τ, the temperature of the schedule, is how far draws explore: D ~ softmax(α/τ), not softmax(α) but
    at τ = 1. τ_b is how widely a gradient spreads over the candidates. The backward pass sees no noise,
    unlike that of `straight_through`: the gradient is a function of α and D. At τ = τ_b = 1 it is
    unbiased for d E[f(D)]/dα where f is linear in each choice, and biased where f is not (`reinmax`).
    In a network ∂f/∂z is taken as zero for candidates that did not run.

    backward_tau: τ_b > 0.

    Source: Shah et al. 2024 (arXiv 2410.13331v2), forward τ_f and backward τ_b; Bengio et al. 2013
    (arXiv 1308.3432); docs/gradients.md, eq. (18).
    """

    backward_tau: float = 1.0

    uses_temperature: ClassVar[bool] = True
    one_active: ClassVar[bool] = True
    law: ClassVar[Law] = "tempered argmax"
    log_prob_uses_temperature: ClassVar[bool] = True

    def __post_init__(self) -> None:
        tau = self.backward_tau
        number = isinstance(tau, int | float) and not isinstance(tau, bool)
        if not number or not math.isfinite(tau) or tau <= 0:
            raise UserError(
                f"decoupled_straight_through: backward_tau is a finite number above 0, got {tau!r}"
            )

    def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
        """Weights [..., E, K], exactly one-hot."""
        perturbed = gumbel_perturbed(at_least_float32(logits.detach()) / tau, generator)
        index = perturbed.argmax(dim=-1, keepdim=True)

        def pull_back(alpha: Tensor, v: Tensor) -> Tensor:
            # held: a second derivative is not that of the softmax
            soft = torch.softmax(alpha.detach() / self.backward_tau, dim=-1)
            return softmax_pull_back(soft, v) / self.backward_tau

        return hard_draw(logits, index, pull_back)

    def probabilities(self, logits: Tensor) -> Tensor:
        """softmax(α) [..., E, K]: what is drawn from at τ = 1; at another τ it is probabilities(α/τ)."""
        return torch.softmax(logits, dim=-1)

    def log_prob(self, logits: Tensor, tau: float, weights: Tensor) -> Tensor:
        """log P(D) [..., E] of the drawn one-hot weights [..., E, K], D ~ softmax(α/τ)."""
        return one_hot_log_prob(logits / tau, weights)
