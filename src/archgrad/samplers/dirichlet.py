"""Dirichlet: random mixtures whose concentration is learned, the sampler of DrNAS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from archgrad.choice import Sample
from archgrad.samplers.sampler import Law

_LEAST_LOG = -30.0
"""log of the least concentration. Gradients of a draw are of size 1/β, so they stay finite in bfloat16."""


@dataclass(frozen=True)
class Dirichlet:
    """z ~ Dir(β), β = elu(α) + 1, but at least exp(−30); every candidate runs.

    Drawn as z = softmax(log Y), Y_k ~ Gamma(β_k, 1), in logarithms: log Y_k = log Y'_k − X_k/β_k with
    Y'_k ~ Gamma(β_k + 1, 1) and X_k a standard exponential, so that Y_k may be smaller than any float.
    The gradient is reparameterised: dY'/dβ = −(∂F/∂β)/(∂F/∂y) with F the distribution function, what
    PyTorch gives for its own Gamma draws (to about 1e-4 relative), and that of X/β outright. So
    E[dz/dα] = d E[z]/dα, but the gradient is not the derivative of a draw at a fixed generator.

    E[z] = β/Σβ is `probabilities`. The argmax of a draw is not distributed so: as β grows all draws tend
    to the mean, and the largest β wins every time. There is no temperature: the sum of β has its place.

    Source: Chen et al. 2021, DrNAS (arXiv 2006.10355); Figurnov et al. 2018 (arXiv 1805.08498), the
    implicit gradient of a Gamma draw; docs/gradients.md, eq. (28)-(29).
    """

    uses_temperature: ClassVar[bool] = False
    one_active: ClassVar[bool] = False
    law: ClassVar[Law] = "mean"

    def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
        """Weights [..., E, K]. Drawn on the host in float64: a seed gives the same on every device."""
        beta = log_concentration(logits).cpu().double().exp()
        # the function under torch.distributions.Gamma, which itself takes no generator
        gamma = torch._standard_gamma(beta + 1, generator)
        exponential = torch.empty_like(beta).exponential_(generator=generator)
        return Sample(torch.softmax(gamma.log() - exponential / beta, dim=-1).to(logits))

    def probabilities(self, logits: Tensor) -> Tensor:
        """β/Σβ [..., E, K], the mean of the draws (not the distribution of their argmax)."""
        return torch.softmax(log_concentration(logits), dim=-1).to(logits.dtype)


def log_concentration(logits: Tensor) -> Tensor:
    """log(elu(α) + 1), at least −30: α below 0 and log(1 + α) above. Exact where elu(α) + 1 rounds to 0."""
    alpha = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return torch.where(alpha > 0, torch.log1p(alpha.clamp_min(0)), alpha.clamp_min(_LEAST_LOG))
