"""ReinMax: straight-through of second order. One candidate of each choice runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from archgrad.choice import Sample
from archgrad.samplers.gumbel_noise import gumbel_perturbed
from archgrad.samplers.hard_draw import hard_draw, softmax_pull_back
from archgrad.samplers.log_prob import one_hot_log_prob


@dataclass(frozen=True)
class ReinMax:
    """Forward D = one-hot(argmax(α + G)); backward 2·J(p) − ½·J(π), with J(p) = diag(p) − p pᵀ.

    π = softmax(α), p = (D + softmax(α/τ))/2. Straight-through takes f(D) − f(D') for a step of Euler's
    method, this for one of Heun's: (∇f(D) + ∇f(D'))·(D − D')/2, exact where f is quadratic. So at τ = 1

        E[∇f(D)ᵀ (2·J(p) − ½·J(π))] = d E[f(D)]/dα    for every quadratic f, any K,

    and for any f that is quadratic in each choice alone, the others held. At another τ it is biased.

    That needs ∂f/∂z of all K candidates, as on a landscape. In a network only the drawn candidate k
    runs and ∂f/∂z is taken as zero for the others; at τ = 1 what is left is (∂f/∂z_k)·(D − π)/2:
    half the score-function gradient with ∂f/∂z_k as reward, unbiased (but for the ½) for linear f.

    Source: Liu et al. 2023 (arXiv 2304.08612), algorithm 2; the authors advise τ ≥ 1; docs/gradients.md,
    eq. (19)-(21).
    """

    uses_temperature: ClassVar[bool] = True
    one_active: ClassVar[bool] = True
    draws_from_softmax: ClassVar[bool] = True
    log_prob_uses_temperature: ClassVar[bool] = False

    def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
        """Weights [..., E, K], exactly one-hot."""
        index = gumbel_perturbed(logits, generator).argmax(dim=-1, keepdim=True)

        def pull_back(alpha: Tensor, v: Tensor) -> Tensor:
            # 2·J(p)·v − ½·J(π)·v written out for u = v − v_k, which J sees as v, with q = softmax(α/τ):
            # q·(u − m) − D·m − ½·π·(u − Σ π·u) where m = ½·Σ q·u; at τ = 1 that is ½·π·u − D·m
            alpha = alpha.detach()  # held: a second derivative is not that of the softmax
            u = v - v.gather(-1, index)
            if tau == 1:
                weighted = torch.softmax(alpha, dim=-1) * u / 2
                return weighted.scatter_add(-1, index, weighted.sum(dim=-1, keepdim=True).neg())
            far = torch.softmax(alpha / tau, dim=-1)
            m = (far * u).sum(dim=-1, keepdim=True) / 2
            near = softmax_pull_back(torch.softmax(alpha, dim=-1), u)
            return torch.sub(far * (u - m), near, alpha=0.5).scatter_add(-1, index, -m)

        return hard_draw(logits, index, pull_back)

    def probabilities(self, logits: Tensor) -> Tensor:
        """softmax(α) [..., E, K]."""
        return torch.softmax(logits, dim=-1)

    def log_prob(self, logits: Tensor, tau: float, weights: Tensor) -> Tensor:
        """log P(D) [..., E] of the drawn one-hot weights [..., E, K]."""
        return one_hot_log_prob(logits, weights)
