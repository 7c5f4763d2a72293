"""Binary concrete: random gates that open and close independently, relaxed or exactly 0 and 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from archgrad.choice import Sample
from archgrad.errors import UserError
from archgrad.samplers.gumbel_noise import gumbel_noise
from archgrad.samplers.sampler import Law, open_or_nearest, rows_of


@dataclass(frozen=True)
class BinaryConcrete:
    """z_k = σ((α_k + L_k)/τ), L logistic, one gate a candidate; P(z_k > ½) = σ(α_k) at every τ.

    For what is kept or dropped one by one: candidates, edges, channels. The leading dimensions are free,
    so logits [B, C] may be made from an input, a gate for each channel of each image.
    A caller that does not need `Sample.active` spares the list by one more dimension, [1, B, C].

    hard: the forward pass is exactly 1 where z_k > ½ and 0 elsewhere, the backward pass that of z
        (straight-through). As logits [E, K] of a supernet, closed candidates are not run and their
        dL/dz is taken as zero. A choice whose gates are all closed runs the candidate that was nearest
        to open, with weight 0: its output is zero, and its gate has a gradient to open again by.

    Source: Maddison et al. 2017 (arXiv 1611.00712), appendix B; Jang et al. 2017 (arXiv 1611.01144),
    section 2.2, for the straight-through gradient. L = log U − log(1 − U) is the difference of two Gumbel
    variables; docs/gradients.md, eq. (33).
    """

    hard: bool = False

    uses_temperature: ClassVar[bool] = True
    one_active: ClassVar[bool] = False
    law: ClassVar[Law] = "gates"

    def __post_init__(self) -> None:
        if not isinstance(self.hard, bool):
            raise UserError(f"binary_concrete: hard is true or false, got {self.hard!r}")

    def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
        """Weights [..., E, K] in [0, 1]; each number of a row is a gate of its own."""
        alpha = logits.to(torch.promote_types(logits.dtype, torch.float32))
        logistic = gumbel_noise(alpha, generator) - gumbel_noise(alpha, generator)
        perturbed = alpha + logistic
        soft = torch.sigmoid(perturbed / tau)
        if not self.hard:
            return Sample(soft.to(logits.dtype))
        opened = perturbed.detach() > 0
        weights = ((soft - soft.detach()) + opened.to(soft)).to(logits.dtype)
        runs = open_or_nearest(opened, perturbed.detach())
        return Sample(weights, rows_of(runs)) if runs.dim() == 2 else Sample(weights, ran=runs)

    def probabilities(self, logits: Tensor) -> Tensor:
        """σ(α) [..., E, K], the probability of each gate to be open; rows do not sum to 1."""
        return torch.sigmoid(logits)
