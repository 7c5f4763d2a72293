"""Clip a gradient by its norm and let an optimizer take the step; sums over an epoch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

MOST_SKIPPED_IN_A_ROW = 5
"""So many steps in a row that are not finite end the work."""


def gradient_norm(gradient: Sequence[Tensor | None]) -> float:
    """L2 norm over all tensors; None counts as zero."""
    present = [g for g in gradient if g is not None]
    return float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(present)))) if present else 0.0


def descend(
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[Tensor],
    gradient: Sequence[Tensor | None],
    norm: float,
    clip: float | None,
) -> None:
    """Scale the gradient of L2 norm `norm` down to at most `clip`, in place, and take the step.

    A parameter whose gradient is None is left alone by the optimizer.
    """
    if clip is not None and norm > clip:
        torch._foreach_mul_([g for g in gradient if g is not None], clip / (norm + 1e-6))
    for parameter, g in zip(parameters, gradient, strict=True):
        parameter.grad = g
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def add(totals: dict[str, float], **values: float) -> None:
    """Add each value to its total."""
    for key, value in values.items():
        totals[key] = totals.get(key, 0.0) + value


def mean(totals: dict[str, float], total: str, count: str) -> float:
    """``totals[total] / totals[count]``; NaN when nothing was counted."""
    return totals[total] / totals[count] if totals.get(count) else float("nan")
