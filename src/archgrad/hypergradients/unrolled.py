"""Unrolled: the validation loss after one step of SGD on the weights, differentiated through the step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from archgrad.errors import UserError
from archgrad.gradient_step import gradient_norm
from archgrad.hypergradients.first_order import FirstOrder
from archgrad.hypergradients.virtual_step import reach, take, without
from archgrad.problem import ArchitectureGradient, Problem, evaluate, gradients, preserved


@dataclass(frozen=True)
class Unrolled:
    """DARTS' second-order gradient, its Hessian-vector product by central difference.

    w' = w − η(μ·b + ∇_w L_train(w, α) + λw)                                    (one SGD step)
    dα = ∇_α L_val(w', α) − η · [∇_α L_train(w⁺, α) − ∇_α L_train(w⁻, α)] / (2ε)
    with v = ∇_{w'} L_val(w', α), w± = w ± εv, ε = epsilon/‖v‖₂. The error of the second term is
    O(ε²) where L_train is smooth; a kink of a ReLU or a maximum between w⁻ and w⁺ adds its jump over 2ε, so
    in such networks a smaller ε is not a better one (`unrolled_exact` has none). Four forward and four
    backward passes, one copy of the weights.

    epsilon: ε times ‖v‖₂. momentum, weight_decay: whether the virtual step has those of the weights'
        optimizer.

    Source: Liu et al. 2019 (arXiv 1806.09055), eq. 6-8, ε = 0.01/‖v‖; weight decay and momentum in the
    virtual step as in the authors' code; docs/gradients.md, eq. (38)-(40).
    """

    epsilon: float = 0.01
    momentum: bool = True
    weight_decay: bool = True

    def __post_init__(self) -> None:
        if not math.isfinite(self.epsilon) or self.epsilon <= 0:
            raise UserError(f"unrolled: epsilon is a number above 0, got {self.epsilon!r}")

    def __call__(self, problem: Problem, alpha: Sequence[Tensor]) -> ArchitectureGradient:
        """dL_val(w'(α), α)/dα [E, K] per group; first order where there are no weights."""
        weights = list(problem.weights)
        if not weights:
            return FirstOrder()(problem, alpha)
        step = without(problem.weight_step, momentum=self.momentum, weight_decay=self.weight_decay)
        with preserved(problem.buffers), preserved(weights) as before:
            inner = gradients(evaluate(problem, problem.train, alpha).loss, weights)
            take(weights, inner, step)
            outcome = evaluate(problem, problem.valid, alpha)
            both = gradients(outcome.loss, [*alpha, *weights])
            direct, vector = both[: len(alpha)], both[len(alpha) :]
            norm = gradient_norm(vector)
            if norm == 0.0:
                return ArchitectureGradient(direct, outcome)
            if not math.isfinite(norm):  # diverged: say so in the gradient, for the loop to skip the step
                return ArchitectureGradient([torch.full_like(d, norm) for d in direct], outcome)
            epsilon = self.epsilon / norm
            plus = self._training_gradient(problem, alpha, before, vector, epsilon)
            minus = self._training_gradient(problem, alpha, before, vector, -epsilon)
        scale = reach(step) / (2 * epsilon)
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
