"""Unrolled, exactly: through one step of SGD on the weights, without a finite difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from archgrad.hypergradients.first_order import FirstOrder
from archgrad.hypergradients.second_order import product, training_slope
from archgrad.hypergradients.virtual_step import reach, take, without
from archgrad.problem import ArchitectureGradient, Problem, evaluate, gradients, preserved


@dataclass(frozen=True)
class UnrolledExact:
    """DARTS' second-order gradient, its second term by an exact product with second derivatives.

    w' = w − η(μ·b + ∇_w L_train(w, α) + λw)                                    (one SGD step)
    dα = ∇_α L_val(w', α) − η · ∂/∂α [∇_w L_train(w, α) · v],  v = ∇_{w'} L_val(w', α)
    What `unrolled` approaches as its ε falls. Three forward and three backward passes and one pass back
    through a backward pass, which keeps the graph of a backward pass in memory; one copy of the weights.

    momentum, weight_decay: whether the virtual step has those of the weights' optimizer.

    Source: Liu et al. 2019 (arXiv 1806.09055), eq. 6-7; the product: Pearlmutter 1994; docs/gradients.md,
    eq. (38)-(39).
    """

    momentum: bool = True
    weight_decay: bool = True

    def __call__(self, problem: Problem, alpha: Sequence[Tensor]) -> ArchitectureGradient:
        """dL_val(w'(α), α)/dα [E, K] per group; first order where there are no weights."""
        weights = list(problem.weights)
        if not weights:
            return FirstOrder()(problem, alpha)
        step = without(problem.weight_step, momentum=self.momentum, weight_decay=self.weight_decay)
        with preserved(problem.buffers), preserved(weights) as before:
            take(weights, gradients(evaluate(problem, problem.train, alpha).loss, weights), step)
            outcome = evaluate(problem, problem.valid, alpha)
            both = gradients(outcome.loss, [*alpha, *weights])
            direct, vector = both[: len(alpha)], both[len(alpha) :]
            with torch.no_grad():
                torch._foreach_copy_(weights, before)
            through = product(training_slope(problem, alpha), vector, alpha)
        total = [d - reach(step) * t for d, t in zip(direct, through, strict=True)]
        return ArchitectureGradient(total, outcome)
