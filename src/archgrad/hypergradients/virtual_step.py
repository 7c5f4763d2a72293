"""The step of SGD that an unrolled hypergradient takes on the weights and differentiates through."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from archgrad.problem import WeightStep


def without(step: WeightStep, *, momentum: bool, weight_decay: bool) -> WeightStep:
    """The step, its momentum or weight decay set to 0 where they are not wanted."""
    if not momentum:
        step = step._replace(momentum=0.0)
    return step if weight_decay else step._replace(weight_decay=0.0)


def take(weights: Sequence[Tensor], gradient: list[Tensor], step: WeightStep) -> list[Tensor]:
    """w ← w − η·b', b' = μ·b + g + λw, in place; returns b'. No clipping, as in DARTS' published code.

    With Nesterov's momentum w ← w − η(g + λw + μ·b'). Before the first step b is 0 (as in PyTorch).
    """
    with torch.no_grad():
        descent = torch._foreach_add(gradient, list(weights), alpha=step.weight_decay)
        update = [d.clone() for d in descent] if step.nesterov else descent
        for u, velocity in zip(update, step.velocities or [None] * len(update), strict=True):
            if velocity is not None:
                u.add_(velocity, alpha=step.momentum)
        velocities = list(update)
        if step.nesterov:
            update = torch._foreach_add(descent, update, alpha=step.momentum)
        torch._foreach_add_(list(weights), update, alpha=-step.learning_rate)
    return velocities


def reach(step: WeightStep) -> float:
    """−∂w'/∂g: Nesterov's step holds the gradient once by itself and once, times μ, in the velocity."""
    return step.learning_rate * (1 + step.momentum if step.nesterov else 1)
