"""Wrong noise: what becomes of draws when it is not Gumbel's. In no table, and not for a search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from archgrad.choice import Sample
from archgrad.errors import UserError


@dataclass(frozen=True)
class WrongNoise:
    """z = softmax((α + N)/τ) with N uniform on [0, 1) or standard normal: a control that breaks the law.

    It is here to show the distortion: argmax(α + N) follows softmax(α) for Gumbel noise and for no other
    kind of independent noise. Uniform noise never draws a candidate that is more than 1 below the best.
    What `probabilities` says, softmax(α), is therefore untrue of the draws.

    kind: "uniform" or "gaussian".

    Source: Maddison et al. 2014 (arXiv 1411.0030), section 2, for the noise that is right;
    docs/gradients.md, eq. (9).
    """

    kind: Literal["uniform", "gaussian"]

    uses_temperature: ClassVar[bool] = True
    one_active: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.kind not in ("uniform", "gaussian"):
            raise UserError(f"WrongNoise: kind is 'uniform' or 'gaussian', got {self.kind!r}")

    def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
        """Weights [..., E, K]."""
        dtype = torch.promote_types(logits.dtype, torch.float32)
        noise = torch.empty(logits.shape, dtype=dtype)
        if self.kind == "uniform":
            noise.uniform_(generator=generator)
        else:
            noise.normal_(generator=generator)
        return Sample(torch.softmax((logits + noise.to(logits)) / tau, dim=-1))

    def probabilities(self, logits: Tensor) -> Tensor:
        """softmax(α) [..., E, K], what Gumbel noise would draw from."""
        return torch.softmax(logits, dim=-1)
