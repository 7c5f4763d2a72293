"""Straight-through Gumbel-softmax: the sampler of GDAS. One candidate of each choice runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from archgrad.choice import Sample
from archgrad.errors import UserError
from archgrad.samplers.gumbel_noise import gumbel_perturbed
from archgrad.samplers.hard_draw import hard_draw, softmax_pull_back
from archgrad.samplers.log_prob import one_hot_log_prob


@dataclass(frozen=True)
class StraightThrough:
    """Forward one-hot(argmax(α + G)), backward the gradient of softmax((α + G)/τ).

    Only the drawn candidate k is active. What dL/dz of the others is taken to be, the authors' code
    answers in two ways, and the logits' gradients differ.

    unselected: "nothing", dL/dz_j = 0: in their NASNet-space code a mixed operation returns z_k · op_k(x)
        alone. "scalar", dL/dz_j = Σ dL/dy over all numbers of the output y: in their NAS-Bench-201 code
        it returns z_k · op_k(x) + Σ_{j≠k} z_j, where the z_j are 0 but have a gradient, as if op_j ≡ 1.

    Source: Dong & Yang 2019, GDAS (arXiv 1910.04465), eq. 3-4; Bengio et al. 2013 (arXiv 1308.3432);
    docs/gradients.md, eq. (14)-(15).
    """

    unselected: Literal["nothing", "scalar"] = "nothing"

    uses_temperature: ClassVar[bool] = True
    one_active: ClassVar[bool] = True
    draws_from_softmax: ClassVar[bool] = True
    log_prob_uses_temperature: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.unselected not in ("nothing", "scalar"):
            raise UserError(f"straight_through: unselected is 'nothing' or 'scalar', got {self.unselected!r}")

    def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
        """Weights [E, K], exactly one-hot."""
        perturbed = gumbel_perturbed(logits, generator)
        index = perturbed.argmax(dim=-1, keepdim=True)

        def pull_back(alpha: Tensor, v: Tensor) -> Tensor:
            # for a second derivative α has to stay in the graph; at its value a zero is added
            at = perturbed + (alpha - alpha.detach()) if torch.is_grad_enabled() else perturbed
            return softmax_pull_back(torch.softmax(at / tau, dim=-1), v) / tau

        sample = hard_draw(logits, index, pull_back)
        return sample._replace(inactive_as_scalars=True) if self.unselected == "scalar" else sample

    def probabilities(self, logits: Tensor) -> Tensor:
        """softmax(α) [..., E, K]."""
        return torch.softmax(logits, dim=-1)

    def log_prob(self, logits: Tensor, tau: float, weights: Tensor) -> Tensor:
        """log P(D) [..., E] of the drawn one-hot weights [..., E, K]."""
        return one_hot_log_prob(logits, weights)
