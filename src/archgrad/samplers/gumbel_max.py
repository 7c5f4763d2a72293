"""Gumbel-max: an exact draw of one candidate, without gradient."""

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
class GumbelMax:
    """z = one-hot(argmax(α + G)), P(z = e_k) = softmax(α)_k; no gradient to the logits.

    What the estimators with a gradient draw in their forward pass. Alone it is for logits that are not
    trained: to draw cells in proportion to logits that were learned or given.

    Source: Maddison et al. 2014 (arXiv 1411.0030), section 2; docs/gradients.md, eq. (9).
    """

    uses_temperature: ClassVar[bool] = False
    one_active: ClassVar[bool] = True
    draws_from_softmax: ClassVar[bool] = True
    log_prob_uses_temperature: ClassVar[bool] = False

    def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
        """Weights [..., E, K], exactly one-hot."""
        index = gumbel_perturbed(logits, generator).argmax(dim=-1, keepdim=True)
        return hard_draw(logits, index)

    def probabilities(self, logits: Tensor) -> Tensor:
        """softmax(α) [..., E, K]."""
        return torch.softmax(logits, dim=-1)

    def log_prob(self, logits: Tensor, tau: float, weights: Tensor) -> Tensor:
        """log P(D) [..., E] of the drawn one-hot weights [..., E, K]."""
        return one_hot_log_prob(logits, weights)
