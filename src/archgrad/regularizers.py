"""Terms on the logits alone, added to the architecture's loss. E choices × K candidates.

Each maps the sampler's probabilities [..., E, K] per group to one number a search, [...]; smaller is better.
The two entropies name their direction, as −λ·H and +λ·H are easily taken for one another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Regularizer = Callable[[Sequence[Tensor]], Tensor]


def exploration_bonus(probabilities: Sequence[Tensor]) -> Tensor:
    """−mean entropy of the choices, in nats: undecided choices are rewarded."""
    return -_mean_entropy(probabilities)


def decisiveness_penalty(probabilities: Sequence[Tensor]) -> Tensor:
    """+mean entropy of the choices, in nats: undecided choices are charged."""
    return _mean_entropy(probabilities)


def zero_one(probabilities: Sequence[Tensor]) -> Tensor:
    """−mean (p − ½)² over all candidates: gates are driven to 0 or 1.

    Source: Chu et al. 2020, FairDARTS (arXiv 1911.12126), eq. 4 (its strength w₀₋₁ is 10).
    """
    return -torch.cat([(p - 0.5).square().flatten(-2) for p in probabilities], dim=-1).mean(dim=-1)


REGULARIZERS: dict[str, Regularizer] = {
    "exploration_bonus": exploration_bonus,
    "decisiveness_penalty": decisiveness_penalty,
    "zero_one": zero_one,
}


def _mean_entropy(probabilities: Sequence[Tensor]) -> Tensor:
    rows = [torch.special.entr(p).sum(dim=-1) for p in probabilities]
    mean: Tensor = torch.cat(rows, dim=-1).mean(dim=-1)
    return mean
