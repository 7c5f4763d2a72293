"""Implicit differentiation of the weights' optimum, the inverse Hessian by a Neumann series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from archgrad.hypergradients.implicit import Times, check_settings, implicit_gradient
from archgrad.problem import ArchitectureGradient, Problem


@dataclass(frozen=True)
class ImplicitNeumann:
    """∇_α L_val − ∂/∂α [∇_w L_train · x],  x = step · Σ_{i<terms} (I − step · H)^i ∇_w L_val.

    H = ∂²L_train/∂w² + damping · I. The series goes to H⁻¹ where every eigenvalue of H is in (0, 2/step):
    what is missing falls with the number of terms n as ρⁿ, ρ the largest |1 − step · eigenvalue|. Outside
    it diverges (lower `step`, raise `damping`). One term is one unrolled step of plain SGD with learning
    rate `step`, taken at w itself; n terms are n such steps around the optimum.
    Two forward and two backward passes, `terms` passes back through a backward pass; its graph in memory,
    and two copies of the weights. See `implicit_gradient`.

    Source: Lorraine et al. 2020 (arXiv 1911.02590), section 4 and algorithms 2-3; for architectures Zhang
    et al. 2021, iDARTS (arXiv 2106.10784); docs/gradients.md, eq. (43).
    """

    terms: int = 10
    step: float = 0.01
    damping: float = 0.0

    def __post_init__(self) -> None:
        check_settings("implicit_neumann", "terms", self.terms, self.damping, step=self.step)

    def __call__(self, problem: Problem, alpha: Sequence[Tensor]) -> ArchitectureGradient:
        """dα [E, K] per group; first order where there are no weights."""
        return implicit_gradient(problem, alpha, self.damping, self._solve)

    def _solve(self, times: Times, vector: list[Tensor]) -> list[Tensor]:
        term = [self.step * v for v in vector]
        total = term
        for _ in range(self.terms - 1):
            term = [t - self.step * h for t, h in zip(term, times(term), strict=True)]
            total = [x + t for x, t in zip(total, term, strict=True)]
        return total
