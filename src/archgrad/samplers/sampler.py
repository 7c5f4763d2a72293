"""The contract of a sampler.

Shapes: logits α [..., E, K], E choices with K candidates each; leading dimensions are batches of
independent searches.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor

from archgrad.choice import Sample

Law = Literal["argmax", "tempered argmax", "mean"]
"""What a random sampler's `probabilities` say of a draw z at temperature τ (`law_of`).

"argmax": argmax z ~ probabilities(α) at every τ. "tempered argmax": argmax z ~ probabilities(α/τ).
"mean": E[z] = probabilities(α), and E[dz/dα] is its derivative; nothing is said of the argmax.
"""


class Sampler(Protocol):
    """Turns logits into weights on the simplex.

    Law: rows sum to 1; a draw is a function of its arguments and the generator alone; the global
    random state is untouched; a sampler with `one_active` is exactly one-hot in the forward pass.
    `probabilities` tell how draws are distributed, in the sense of the class attribute `law`, a `Law`;
    a class without it has "argmax".
    """

    uses_temperature: ClassVar[bool]
    one_active: ClassVar[bool]

    def __call__(self, logits: Tensor, tau: float, generator: torch.Generator) -> Sample:
        """Draw weights [..., E, K] at temperature tau > 0. The generator lives on the host."""

    def probabilities(self, logits: Tensor) -> Tensor:
        """The distribution over candidates [..., E, K] that the logits stand for."""


def law_of(sampler: Sampler) -> str:
    """The declared law of a sampler, "argmax" where it declares none. Not checked to be a `Law`."""
    return str(getattr(sampler, "law", "argmax"))


def active_rows(index: Tensor) -> tuple[tuple[int, ...], ...]:
    """The chosen candidate of each choice, brought to the host in one transfer. index: [E]."""
    return tuple((k,) for k in index.tolist())
