"""Gumbel noise, and why it and no other: argmax(α + G) is distributed exactly as softmax(α)."""

from __future__ import annotations

import torch
from torch import Tensor


def gumbel_noise(like: Tensor, generator: torch.Generator) -> Tensor:
    """G = −log(−log U), U ~ Uniform(0, 1), of the shape, dtype and device of `like`.

    −log U is drawn as a standard exponential variable, which is never 0 after the clamp below: G is
    always finite and nothing has to be drawn again. Drawn on the host in at least float32, so a seed
    gives the same noise on every device.

    Source: Maddison et al. 2014 (arXiv 1411.0030), section 2; docs/gradients.md, eq. (9).
    """
    dtype = torch.promote_types(like.dtype, torch.float32)
    exponential = torch.empty(like.shape, dtype=dtype).exponential_(generator=generator)
    return (-exponential.clamp_min(torch.finfo(dtype).tiny).log()).to(like)


def gumbel_given(logits: Tensor, log_x: Tensor, index: Tensor) -> Tensor:
    """α + G given that its argmax is `index` [...], a function of standard exponentials X: [..., K].

    With Z = Σ exp(α): the largest is Y_k = log Z − log X_k, which does not depend on k, and the others are
    Gumbels cut off there, Y_j = −log(X_j·exp(−α_j) + X_k/Z). In logarithms, as Z overflows for large
    logits. Differentiable in α at fixed X. logits [..., K] may lack leading dimensions of log X [..., K].

    Source: Maddison et al. 2014 (arXiv 1411.0030), section 3; docs/gradients.md, eq. (17).
    """
    chosen = index.unsqueeze(-1)
    below = log_x.gather(-1, chosen) - torch.logsumexp(logits, dim=-1, keepdim=True)  # −Y_k
    others = -torch.logaddexp(log_x - logits, below)
    return others.scatter(-1, chosen, -below)
