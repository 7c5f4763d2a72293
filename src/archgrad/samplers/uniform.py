"""Uniform: the control that learns nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from archgrad.choice import Sample
from archgrad.samplers.sampler import active_rows


@dataclass(frozen=True)
class Uniform:
    """One candidate per choice, each with probability 1/K whatever the logits; no gradient to them.

    Source: Li & Talwalkar 2019 (arXiv 1902.07638), random search with weight sharing.
    """

    uses_temperature: ClassVar[bool] = False
    one_active: ClassVar[bool] = True

    def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
        """Weights [E, K], exactly one-hot."""
        candidates = logits.shape[-1]
        index = torch.randint(candidates, logits.shape[:-1], generator=generator)
        weights = torch.nn.functional.one_hot(index, candidates).to(logits)
        return Sample(weights, active_rows(index) if index.dim() == 1 else None, one_hot=True)

    def probabilities(self, logits: Tensor) -> Tensor:
        """1/K [..., E, K]: what is drawn from."""
        return torch.full_like(logits, 1 / logits.shape[-1])
