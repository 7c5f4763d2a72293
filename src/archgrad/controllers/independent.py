"""Independent choices: what is learned are the logits themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from archgrad.choice import Group
from archgrad.controllers.controller import Choose


@dataclass(frozen=True)
class Independent:
    """θ = α, one tensor [..., E, K] per group.

    Source: Liu et al. 2019 (arXiv 1806.09055), section 2.2.
    """

    def initial(
        self, groups: Sequence[Group], generator: torch.Generator, scale: float, mean: float
    ) -> list[Tensor]:
        """α ~ N(mean, scale²) (DARTS: 1e-3·randn; SNAS: N(1, 0.01²))."""
        return [
            (mean + scale * torch.randn(shape, generator=generator)).requires_grad_()
            for shape in self.shapes(groups)
        ]

    def logits(self, groups: Sequence[Group], theta: Sequence[Tensor], choose: Choose) -> list[Tensor]:
        """θ itself."""
        for alpha in theta:
            choose(alpha)
        return list(theta)

    def shapes(self, groups: Sequence[Group]) -> list[tuple[int, ...]]:
        """(E, K) per group."""
        return [(len(g.names), len(g.candidates)) for g in groups]
