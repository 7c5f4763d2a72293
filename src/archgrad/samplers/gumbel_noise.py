"""Gumbel noise, and why it and no other: argmax(α + G) is distributed exactly as softmax(α)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def gumbel_noise(like: Tensor, generator: torch.Generator) -> Tensor:
    """G = −log(−log U), U ~ Uniform(0, 1), of the shape, dtype and device of `like`.

    −log U is drawn as a standard exponential variable, which is never 0 after the clamp below: G is
    always finite and nothing has to be drawn again. Drawn on the host in at least float32, so a seed
    gives the same noise on every device.

    Source: Maddison et al. 2014 (arXiv 1411.0030), section 2; docs/gradients.md, eq. (9).
    """
    return safe_log_(exponential(like.shape, like.dtype, generator)).neg_().to(like)


def exponential(shape: Sequence[int], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """Standard exponential variables X on the host, in at least float32; the noise is G = −log X."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    return torch.empty(shape, dtype=wide).exponential_(generator=generator)


def safe_log_(x: Tensor) -> Tensor:
    """log X in place, finite where X was drawn as 0."""
    return x.clamp_min_(_LEAST[x.dtype]).log_()


_LEAST = {dtype: torch.finfo(dtype).tiny for dtype in (torch.float32, torch.float64)}


def gumbel_perturbed(logits: Tensor, generator: torch.Generator) -> Tensor:
    """α + G [..., E, K], whose argmax is a draw from softmax(α) in each row; without gradient.

    In at least float32: in a lower precision sums tie, and the first one would win.
    """
    log_x = safe_log_(exponential(logits.shape, logits.dtype, generator))
    alpha = logits.detach()
    return alpha - (log_x if alpha.device == log_x.device else log_x.to(alpha.device))


def gumbel_given(logits: Tensor, log_x: Tensor, index: Tensor, log_z: Tensor | float | None = None) -> Tensor:
    """α + G given that its argmax is `index` [...], a function of standard exponentials X: [..., K].

    With Z = Σ exp(α): the largest is Y_k = log Z − log X_k, which does not depend on k, and the others are
    Gumbels cut off there, Y_j = −log(X_j·exp(−α_j) + X_k/Z). In logarithms, as Z overflows for large
    logits. Differentiable in α at fixed X. logits [..., K] may lack leading dimensions of log X [..., K].

    log_z: log Z [..., 1] where it is known, as the 0 of logits that are log-probabilities.

    Source: Maddison et al. 2014 (arXiv 1411.0030), section 3; docs/gradients.md, eq. (17).
    """
    chosen = index.unsqueeze(-1)
    if log_z is None:
        log_z = torch.logsumexp(logits, dim=-1, keepdim=True)
    below = log_x.gather(-1, chosen) - log_z  # −Y_k
    others = -torch.logaddexp(log_x - logits, below)
    return others.scatter(-1, chosen, -below)
