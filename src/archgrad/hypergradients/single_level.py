"""Single level: logits and weights descend the same loss on the same batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from archgrad.problem import ArchitectureGradient, Problem, evaluate, gradients, preserved


@dataclass(frozen=True)
class SingleLevel:
    """∇_α L_train(w, α). One forward and one backward pass.

    The search loop takes both gradients from one backward pass of the weight step instead of calling
    this; the value is the same.

    Source: Xie et al. 2019, SNAS (arXiv 1812.09926), section 2.2; docs/gradients.md, eq. (37).
    """

    joint: ClassVar[bool] = True

    def __call__(self, problem: Problem, alpha: Sequence[Tensor]) -> ArchitectureGradient:
        """dL_train/dα [E, K] per group."""
        with preserved(problem.buffers):
            outcome = evaluate(problem, problem.train, alpha)
            return ArchitectureGradient(gradients(outcome.loss, alpha), outcome)
