"""First order: the weights are taken as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from archgrad.problem import ArchitectureGradient, Problem, evaluate, gradients, preserved


@dataclass(frozen=True)
class FirstOrder:
    """∇_α L_val(w, α). One forward and one backward pass.

    Source: Liu et al. 2019 (arXiv 1806.09055), section 2.3, ξ = 0; docs/gradients.md, eq. (37).
    """

    def __call__(self, problem: Problem, alpha: Sequence[Tensor]) -> ArchitectureGradient:
        """dL_val/dα [E, K] per group."""
        with preserved(problem.buffers):
            outcome = evaluate(problem, problem.valid, alpha)
            return ArchitectureGradient(gradients(outcome.loss, alpha), outcome)
