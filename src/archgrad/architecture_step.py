"""One step of the optimizer on what the architecture is drawn from, θ. E choices × K candidates.

θ is the logits [E, K] per group, or [S, E, K] for S independent searches that descend at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from archgrad.choice import of_choices
from archgrad.gradient_step import add, descend, gradient_norm
from archgrad.search_state import SearchPlan, SearchState

_LEAST_SCALE = 1e-3
"""Norm of θ below which a relative clip no longer shrinks: logits at 0 must be able to move."""


def architecture_step(state: SearchState, plan: SearchPlan, gradient: Sequence[Tensor]) -> float | None:
    """Regularise, hold to budgets, clip, step; the norm before clipping, or None where it was not finite.

    With S searches each is clipped by its own norm, and the mean of the norms is returned. How far the step
    went relative to θ is added to the epoch's totals.
    """
    assert state.architecture_optimizer is not None
    theta = state.logits
    gradient = _held(state, plan, _regularized(theta, plan, gradient))
    norm, most = _norms(gradient, plan.searches), _largest(theta, plan)
    mean = float(norm.mean())
    if not math.isfinite(mean):
        return None
    if most is not None:
        scale = (most / (norm + 1e-6)).clamp(max=1.0)
        gradient = [g * _like(scale, g) for g in gradient]
    # it is about logits, which θ is where choices are independent
    rescale = getattr(plan.policy.sampler, "after_step", None) if plan.policy.independent else None
    before = [a.detach().clone() for a in theta]
    descend(state.architecture_optimizer, theta, gradient, mean, None)
    if rescale:
        with torch.no_grad():
            for group, a, old in zip(plan.policy.groups, theta, before, strict=True):
                if group.chosen:
                    a.copy_(rescale(old, a.detach()))
    add(state.totals, relative_steps=1, relative_step=_relative(before, theta, plan.searches))
    if plan.hold is not None:
        assert state.hold is not None
        plan.hold.update(plan.policy.probabilities([a.detach() for a in theta]), state.hold)
    return mean


def _relative(before: Sequence[Tensor], after: Sequence[Tensor], searches: int | None) -> float:
    """‖after − before‖ / ‖before‖, the mean over S searches; the scale as for a relative clip."""
    moved = [b.detach() - a for a, b in zip(before, after, strict=True)]
    return float((_norms(moved, searches) / _norms(before, searches).clamp(min=_LEAST_SCALE)).mean())


def _regularized(theta: Sequence[Tensor], plan: SearchPlan, gradient: Sequence[Tensor]) -> list[Tensor]:
    if plan.regularizer is None:
        return list(gradient)
    leaves = [a.detach().requires_grad_() for a in theta]
    term = plan.regularizer(of_choices(plan.policy.groups, plan.policy.probabilities(leaves))).sum()
    added = torch.autograd.grad(term, leaves, allow_unused=True, materialize_grads=True)
    return [g + r for g, r in zip(gradient, added, strict=True)]


def _held(state: SearchState, plan: SearchPlan, gradient: list[Tensor]) -> list[Tensor]:
    """With the gradient of the budgets' prices; where choices depend on one another it is in the loss."""
    if plan.hold is None or not plan.policy.independent:
        return gradient
    assert state.hold is not None
    leaves = [a.detach().requires_grad_() for a in state.logits]
    term = plan.hold.term(plan.policy.probabilities(leaves), state.hold).sum()
    if not term.requires_grad:  # a rule that keeps one candidate alone leaves nothing to choose
        return gradient
    added = torch.autograd.grad(term, leaves, allow_unused=True, materialize_grads=True)
    return [g + h for g, h in zip(gradient, added, strict=True)]


def _norms(tensors: Sequence[Tensor], searches: int | None) -> Tensor:
    """L2 norm over all tensors, of each of S searches: [] or [S]."""
    if searches is None:
        return torch.tensor(gradient_norm([t.detach() for t in tensors]))
    every = torch.cat([t.detach().flatten(1) for t in tensors], dim=1)
    norms: Tensor = torch.linalg.vector_norm(every, dim=1)
    return norms


def _largest(theta: Sequence[Tensor], plan: SearchPlan) -> Tensor | None:
    """The largest norm that a gradient may have, [] or [S]; None: any."""
    limits = []
    if plan.architecture_clip is not None:
        limits.append(torch.tensor(plan.architecture_clip))
    if plan.relative_clip is not None:
        limits.append(plan.relative_clip * _norms(theta, plan.searches).clamp(min=_LEAST_SCALE))
    return None if not limits else limits[0] if len(limits) == 1 else torch.minimum(*limits)


def _like(scale: Tensor, gradient: Tensor) -> Tensor:
    return scale.view(-1, *[1] * (gradient.dim() - 1)).to(gradient) if scale.dim() else scale.to(gradient)
