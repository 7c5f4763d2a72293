"""Unrolled: the validation loss after one step of SGD on the weights, differentiated through the step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from archgrad.problem import ArchitectureGradient, Problem, WeightStep, evaluate, gradients, preserved


@dataclass(frozen=True)
class Unrolled:
    """DARTS' second-order gradient, its Hessian-vector product by central difference.

    w' = w − η(μ·b + ∇_w L_train(w, α) + λw)                                    (one SGD step)
    dα = ∇_α L_val(w', α) − η · [∇_α L_train(w⁺, α) − ∇_α L_train(w⁻, α)] / (2ε)
    with v = ∇_{w'} L_val(w', α), w± = w ± εv, ε = epsilon/‖v‖₂. The error of the second term is
    O(ε²). Four forward and four backward passes, one copy of the weights.

    Source: Liu et al. 2019 (arXiv 1806.09055), eq. 6-8, ε = 0.01/‖v‖; weight decay and momentum in the
    virtual step as in the authors' code.
    """

    epsilon: float = 0.01

    def __call__(self, problem: Problem, alpha: Sequence[Tensor]) -> ArchitectureGradient:
        """dL_val(w'(α), α)/dα [E, K] per group."""
        weights, step = list(problem.weights), problem.weight_step
        with preserved(problem.buffers), preserved(weights) as before:
            inner = gradients(evaluate(problem, problem.train, alpha).loss, weights)
            _take(weights, inner, step)
            outcome = evaluate(problem, problem.valid, alpha)
            both = gradients(outcome.loss, [*alpha, *weights])
            direct, vector = both[: len(alpha)], both[len(alpha) :]
            norm = float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(vector))))
            if norm == 0.0:
                return ArchitectureGradient(direct, outcome)
            if not math.isfinite(norm):  # diverged: say so in the gradient, for the loop to skip the step
                return ArchitectureGradient([torch.full_like(d, norm) for d in direct], outcome)
            epsilon = self.epsilon / norm
            plus = self._training_gradient(problem, alpha, before, vector, epsilon)
            minus = self._training_gradient(problem, alpha, before, vector, -epsilon)
        # ∂w'/∂g: Nesterov's step holds the gradient once by itself and once, times μ, in the velocity
        reach = step.learning_rate * (1 + step.momentum if step.nesterov else 1)
        scale = reach / (2 * epsilon)
        total = [d - scale * (p - m) for d, p, m in zip(direct, plus, minus, strict=True)]
        return ArchitectureGradient(total, outcome)

    @staticmethod
    def _training_gradient(
        problem: Problem, alpha: Sequence[Tensor], before: list[Tensor], vector: list[Tensor], epsilon: float
    ) -> list[Tensor]:
        """∇_α L_train(w + εv, α)."""
        with torch.no_grad():
            torch._foreach_copy_(list(problem.weights), torch._foreach_add(before, vector, alpha=epsilon))
        return gradients(evaluate(problem, problem.train, alpha).loss, alpha)


def _take(weights: list[Tensor], gradient: list[Tensor], step: WeightStep) -> None:
    """w ← w − η·b', b' = μ·b + g + λw, in place; no clipping, as in the published code.

    With Nesterov's momentum w ← w − η(g + λw + μ·b'). Before the first step b is 0 (as in PyTorch).
    """
    with torch.no_grad():
        descent = torch._foreach_add(gradient, weights, alpha=step.weight_decay)
        update = [d.clone() for d in descent] if step.nesterov else descent
        for u, velocity in zip(update, step.velocities or [None] * len(update), strict=True):
            if velocity is not None:
                u.add_(velocity, alpha=step.momentum)
        if step.nesterov:
            update = torch._foreach_add(descent, update, alpha=step.momentum)
        torch._foreach_add_(weights, update, alpha=-step.learning_rate)
