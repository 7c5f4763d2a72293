"""Clip a gradient by its norm and take the step, or count it as skipped; sums over an epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from archgrad.errors import WorkError

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


class Progressing(Protocol):
    """Where a search or a training is: epochs done, steps done in the running epoch, and its sums."""

    epoch: int
    step: int
    skipped_in_a_row: int
    totals: dict[str, float]


def count_skipped(state: Progressing, finite: bool, steps: str, remedy: str) -> None:
    """Take note of a step that was taken because it was `finite`, or else skipped.

    steps: what the steps are called; remedy: what to type; both for the message.

    Raises:
        WorkError: this is the `MOST_SKIPPED_IN_A_ROW`-th skipped step in a row.
    """
    if finite:
        state.skipped_in_a_row = 0
        return
    add(state.totals, skipped_steps=1)
    state.skipped_in_a_row += 1
    if state.skipped_in_a_row >= MOST_SKIPPED_IN_A_ROW:
        raise WorkError(
            f"the loss or its gradient was not finite in {state.skipped_in_a_row} {steps} in a row "
            f"(epoch {state.epoch}, step {state.step}): {remedy}"
        )


def add(totals: dict[str, float], **values: float) -> None:
    """Add each value to its total."""
    for key, value in values.items():
        totals[key] = totals.get(key, 0.0) + value


def mean(totals: dict[str, float], total: str, count: str) -> float:
    """``totals[total] / totals[count]``; NaN when nothing was counted."""
    return totals[total] / totals[count] if totals.get(count) else float("nan")
