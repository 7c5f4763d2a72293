"""Straight-through Gumbel-softmax: the sampler of GDAS. One candidate of each choice runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from archgrad.choice import Sample
from archgrad.samplers.gumbel_noise import gumbel_noise
from archgrad.samplers.sampler import active_rows


@dataclass(frozen=True)
class StraightThrough:
    """Forward one-hot(argmax(α + G)), backward the gradient of softmax((α + G)/τ).

    Only the drawn candidate is active, so dL/dz is known (and taken as) zero for the others: the
    gradient of the authors' NASNet-space code, where a mixed operation returns z_k · op_k(x) alone.

    Source: Dong & Yang 2019, GDAS (arXiv 1910.04465), eq. 3-4; Bengio et al. 2013 (arXiv 1308.3432).
    """

    uses_temperature: ClassVar[bool] = True
    one_active: ClassVar[bool] = True

    def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
        """Weights [E, K], exactly one-hot."""
        perturbed = logits + gumbel_noise(logits, generator)
        soft = torch.softmax(perturbed / tau, dim=-1)
        index = perturbed.detach().argmax(dim=-1)
        # soft − soft.detach() is exactly zero, so adding the one-hot last keeps it exact
        hard = (soft - soft.detach()) + torch.nn.functional.one_hot(index, logits.shape[-1]).to(soft)
        return Sample(hard, active_rows(index) if index.dim() == 1 else None, one_hot=True)

    def probabilities(self, logits: Tensor) -> Tensor:
        """softmax(α) [..., E, K]."""
        return torch.softmax(logits, dim=-1)
