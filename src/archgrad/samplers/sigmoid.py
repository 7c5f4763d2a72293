"""Sigmoid: independent gates, the mixture of FairDARTS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from archgrad.choice import Sample
from archgrad.samplers.sampler import Law


@dataclass(frozen=True)
class Sigmoid:
    """z_k = σ(α_k): each candidate has a gate of its own; deterministic, every candidate runs.

    No candidate gains by another's loss, so several may stay, or none. The weights of a choice are not a
    distribution: their sum lies between 0 and K.

    Source: Chu et al. 2020, FairDARTS (arXiv 1911.12126); docs/gradients.md, eq. (33).
    """

    uses_temperature: ClassVar[bool] = False
    one_active: ClassVar[bool] = False
    law: ClassVar[Law] = "gates"

    def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
        """Weights [..., E, K]; neither the temperature nor the generator is used."""
        return Sample(torch.sigmoid(logits))

    def probabilities(self, logits: Tensor) -> Tensor:
        """σ(α) [..., E, K], a number in [0, 1] for each gate; rows do not sum to 1."""
        return torch.sigmoid(logits)
