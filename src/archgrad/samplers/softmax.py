"""Softmax: the mixture of DARTS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from archgrad.choice import Sample


@dataclass(frozen=True)
class Softmax:
    """z = softmax(α/τ); deterministic, every candidate runs.

    Its known flaw: what is optimised is the mixture, what is kept is the argmax.

    Source: Liu et al. 2019 (arXiv 1806.09055), eq. 2, with τ = 1; docs/gradients.md, eq. (7).
    """

    uses_temperature: ClassVar[bool] = True
    one_active: ClassVar[bool] = False

    def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
        """Weights [..., E, K]; the generator is not used."""
        return Sample(torch.softmax(logits / tau, dim=-1))

    def probabilities(self, logits: Tensor) -> Tensor:
        """softmax(α) [..., E, K]."""
        return torch.softmax(logits, dim=-1)
