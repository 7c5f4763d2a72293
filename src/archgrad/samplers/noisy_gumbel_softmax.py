"""Noisy Gumbel-softmax: explores more, by noise on the logits and by dropped candidates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from archgrad.choice import Sample
from archgrad.errors import UserError
from archgrad.samplers.gumbel_noise import gumbel_noise
from archgrad.samplers.sampler import Law, rows_of


@dataclass(frozen=True)
class NoisyGumbelSoftmax:
    """z = softmax((α + s·N + G)/τ) over the candidates that were not dropped, N standard normal.

    With both settings at 0 it is `gumbel_softmax`, the same numbers from the same generator, and its law
    that one's. Otherwise draws are more even than softmax(α): argmax z follows the mean of
    softmax(α + s·N) over the noise and the sets of kept candidates, of which `probabilities`, still
    softmax(α), is the value without noise and with all kept. So `law` is "perturbed".

    logit_noise: s ≥ 0, standard deviation of the noise, in the unit of the logits.
    candidate_dropout: probability in [0, 1) of a candidate of a choice to be dropped: it does not run, and
        its weight is exactly 0. Where all would be, one is kept, any with the same probability.

    Source: Jang et al. 2017 (arXiv 1611.01144), eq. 2, for what is perturbed; the perturbations are
    exploration as usual, of no one paper; docs/gradients.md, eq. (13).
    """

    logit_noise: float = 0.0
    candidate_dropout: float = 0.0

    uses_temperature: ClassVar[bool] = True
    one_active: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name, most, wanted in (
            ("logit_noise", math.inf, "a finite number from 0"),
            ("candidate_dropout", 1.0, "a number from 0 and below 1"),
        ):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 <= value < most:
                raise UserError(f"noisy_gumbel_softmax: {name} is {wanted}, got {value!r}")

    @property
    def law(self) -> Law:
        """As `gumbel_softmax` without perturbation."""
        return "perturbed" if self.logit_noise or self.candidate_dropout else "argmax"

    def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
        """Weights [..., E, K]."""
        perturbed = logits + gumbel_noise(logits, generator)
        if self.logit_noise:
            dtype = torch.promote_types(logits.dtype, torch.float32)
            normal = torch.empty(logits.shape, dtype=dtype).normal_(generator=generator)
            perturbed = perturbed + (self.logit_noise * normal).to(logits)
        if not self.candidate_dropout:
            return Sample(torch.softmax(perturbed / tau, dim=-1))
        kept = self._kept(logits.shape, generator)
        dropped = kept.logical_not().to(logits.device)
        weights = torch.softmax((perturbed / tau).masked_fill(dropped, -torch.inf), dim=-1)
        return Sample(weights, rows_of(kept) if kept.dim() == 2 else None)

    def probabilities(self, logits: Tensor) -> Tensor:
        """softmax(α) [..., E, K]: what is drawn from without perturbation."""
        return torch.softmax(logits, dim=-1)

    def _kept(self, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """Which candidates [..., E, K] stay, on the host; at least one a choice."""
        uniform = torch.rand(shape, generator=generator, dtype=torch.float64)
        kept = uniform >= self.candidate_dropout
        # the largest is above the threshold if any is; if none is, each is the largest equally often
        return kept.scatter(-1, uniform.argmax(dim=-1, keepdim=True), True)
