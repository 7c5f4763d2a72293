"""What the implicit hypergradients share: the weights as the optimum w*(α) of L_train, by the implicit
function theorem. How the Hessian's inverse is approached is a `Solve`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Tensor

from archgrad.errors import UserError
from archgrad.hypergradients.first_order import FirstOrder
from archgrad.hypergradients.second_order import product, training_slope
from archgrad.problem import ArchitectureGradient, Problem, evaluate, gradients, preserved

Times = Callable[[Sequence[Tensor]], list[Tensor]]
"""v -> Hv, one tensor per weight."""
Solve = Callable[[Times, list[Tensor]], list[Tensor]]
"""(v -> Hv, b) -> x with Hx ≈ b."""


def implicit_gradient(
    problem: Problem, alpha: Sequence[Tensor], damping: float, solve: Solve
) -> ArchitectureGradient:
    """dα = ∇_α L_val − ∂/∂α [∇_w L_train · x],  x ≈ (∂²L_train/∂w² + damping · I)⁻¹ ∇_w L_val.

    All at the given weights w. One forward and one backward pass of each objective, then one pass back
    through the backward pass for the mixed term and one for each product in `solve`. First order where
    there are no weights.

    Exact at w = w*(α) and damping 0. With weight decay λ the weights' optimum is that of
    L_train + λ/2 ‖w‖², whose Hessian is that of damping λ.

    Source: Lorraine et al. 2020 (arXiv 1911.02590), theorem 1; docs/gradients.md, eq. (42).
    """
    weights = list(problem.weights)
    if not weights:
        return FirstOrder()(problem, alpha)
    with preserved(problem.buffers):
        outcome = evaluate(problem, problem.valid, alpha)
        both = gradients(outcome.loss, [*alpha, *weights])
        direct, vector = both[: len(alpha)], both[len(alpha) :]
        slope = training_slope(problem, alpha)

        def times(v: Sequence[Tensor]) -> list[Tensor]:
            curved = product(slope, v, weights, keep=True)
            return [h + damping * x for h, x in zip(curved, v, strict=True)] if damping else curved

        through = product(slope, solve(times, vector), alpha)
    return ArchitectureGradient([d - t for d, t in zip(direct, through, strict=True)], outcome)


def check_settings(part: str, count: str, number: int, damping: float, **above_zero: float) -> None:
    """Raise `UserError` unless there is a whole number of products from 1, and the sizes make sense."""
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise UserError(f"{part}: {count} is a whole number from 1, got {number!r}")
    if not math.isfinite(damping) or damping < 0:
        raise UserError(f"{part}: damping is a finite number from 0, got {damping!r}")
    for name, value in above_zero.items():
        if not math.isfinite(value) or value <= 0:
            raise UserError(f"{part}: {name} is a finite number above 0, got {value!r}")
