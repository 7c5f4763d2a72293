"""Implicit differentiation of the weights' optimum, the inverse Hessian by conjugate gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from archgrad.hypergradients.implicit import Times, check_settings, implicit_gradient
from archgrad.problem import ArchitectureGradient, Problem

_Tensors = list[Tensor] | tuple[Tensor, ...]


@dataclass(frozen=True)
class ImplicitCG:
    """∇_α L_val − ∂/∂α [∇_w L_train · x],  x from `iterations` of conjugate gradients on Hx = ∇_w L_val.

    H = ∂²L_train/∂w² + damping · I, meant to be positive definite. n weights need at most n iterations, and
    fewer where few eigenvalues differ. The iteration stops early where ‖∇_w L_val − Hx‖ has fallen below
    tolerance · ‖∇_w L_val‖, and where a search direction has no positive curvature (x is then what it was;
    0 at the first: first order): raise `damping`.
    Two forward and two backward passes, at most iterations + 1 passes back through a backward pass; its
    graph in memory, and four copies of the weights. See `implicit_gradient`.

    Source: Rajeswaran et al. 2019 (arXiv 1909.04630), section 3; Hestenes & Stiefel 1952;
    docs/gradients.md, eq. (44).
    """

    iterations: int = 10
    damping: float = 0.1
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        check_settings("implicit_cg", "iterations", self.iterations, self.damping, tolerance=self.tolerance)

    def __call__(self, problem: Problem, alpha: Sequence[Tensor]) -> ArchitectureGradient:
        """dα [E, K] per group; first order where there are no weights."""
        return implicit_gradient(problem, alpha, self.damping, self._solve)

    def _solve(self, times: Times, vector: list[Tensor]) -> list[Tensor]:
        x: _Tensors = [torch.zeros_like(v) for v in vector]
        residual: _Tensors = vector
        direction: _Tensors = vector
        left = _dot(residual, residual)
        enough = self.tolerance**2 * left
        for _ in range(self.iterations):
            if left <= enough:
                break
            curved = times(direction)
            curvature = _dot(direction, curved)
            if curvature <= 0:
                break
            x = torch._foreach_add(x, direction, alpha=left / curvature)
            residual = torch._foreach_add(residual, curved, alpha=-left / curvature)
            before, left = left, _dot(residual, residual)
            direction = torch._foreach_add(residual, direction, alpha=left / before)
        return list(x)


def _dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    return float(torch.stack([(u * v).sum() for u, v in zip(a, b, strict=True)]).sum())
