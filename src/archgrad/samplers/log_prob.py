"""The log-probability of a draw, for score-function gradients: Σ reward · ∇ log p.

The draw is held: no gradient goes to the weights, only to the logits. At least float32.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def one_hot_log_prob(logits: Tensor, weights: Tensor) -> Tensor:
    """log softmax(α)_k [..., E] of one-hot weights [..., E, K] drawn with P(e_k) = softmax(α)_k."""
    log_p = torch.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), dim=-1)
    return log_p.gather(-1, weights.detach().argmax(dim=-1, keepdim=True)).squeeze(-1)


def concrete_log_prob(logits: Tensor, tau: float, weights: Tensor) -> Tensor:
    """log p(z) [..., E] of z = softmax((α + G)/τ), weights z [..., E, K] within the simplex.

        p(z) = (K − 1)! τ^(K−1) Π_k exp(α_k) z_k^(−τ−1) / (Σ_j exp(α_j) z_j^(−τ))^K

    a density with respect to z_1 … z_{K−1}. In logarithms; z that a float rounded to 0 counts as the
    least normal number, so that the value and its gradient are finite.

    Source: Maddison et al. 2017 (arXiv 1611.00712), eq. 10; docs/gradients.md, eq. (11).
    """
    alpha = logits.to(torch.promote_types(logits.dtype, torch.float32))
    candidates = alpha.shape[-1]
    log_z = weights.detach().to(alpha.dtype).clamp_min(torch.finfo(alpha.dtype).tiny).log()
    score = torch.log_softmax(alpha - tau * log_z, dim=-1)  # the K-th power of the sum, a part a candidate
    constant = math.lgamma(candidates) + (candidates - 1) * math.log(tau)
    return constant + (score - log_z).sum(dim=-1)
