"""Gumbel-softmax (the Concrete distribution): the sampler of SNAS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from archgrad.choice import Sample
from archgrad.samplers.gumbel_noise import gumbel_noise
from archgrad.samplers.log_prob import concrete_log_prob


@dataclass(frozen=True)
class GumbelSoftmax:
    """z = softmax((α + G)/τ); every candidate runs.

    argmax z ~ softmax(α) at every τ; z tends to one-hot as τ falls to 0. Reparameterised: the
    gradient of E[f(z)] is estimated without bias, that of E[f(one-hot)] with a bias that τ controls.

    Source: Jang et al. 2017 (arXiv 1611.01144), eq. 2; Maddison et al. 2017 (arXiv 1611.00712), eq. 10;
    Xie et al. 2019, SNAS (arXiv 1812.09926), eq. 4; docs/gradients.md, eq. (10)-(12).
    """

    uses_temperature: ClassVar[bool] = True
    one_active: ClassVar[bool] = False
    log_prob_uses_temperature: ClassVar[bool] = True

    def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
        """Weights [..., E, K]."""
        return Sample(torch.softmax((logits + gumbel_noise(logits, generator)) / tau, dim=-1))

    def probabilities(self, logits: Tensor) -> Tensor:
        """softmax(α) [..., E, K]."""
        return torch.softmax(logits, dim=-1)

    def log_prob(self, logits: Tensor, tau: float, weights: Tensor) -> Tensor:
        """log-density [..., E] of the drawn weights [..., E, K] on the simplex."""
        return concrete_log_prob(logits, tau, weights)
