"""Truncated: the validation loss after K steps of SGD on the weights, differentiated through all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from archgrad.errors import UserError
from archgrad.hypergradients.first_order import FirstOrder
from archgrad.hypergradients.second_order import product, training_slope
from archgrad.hypergradients.virtual_step import take
from archgrad.problem import ArchitectureGradient, Problem, WeightStep, evaluate, gradients, preserved


@dataclass(frozen=True)
class Truncated:
    """dL_val(w_K(α), α)/dα, w_K reached from w by K steps of the weights' optimizer on L_train(·, α).

    All K steps take this step's training objective, hence one batch and one draw, and the learning rate,
    momentum and weight decay of the optimizer's next step; its momentum buffers move along. One step is
    `unrolled_exact`. The derivative goes back through the steps one by one, each evaluated again at its own
    weights: 2K + 1 forward and backward passes and K passes back through a backward pass, the graph of one
    backward pass in memory at a time, and a copy of the weights for every step.

    steps: K.

    Source: Shaban et al. 2019 (arXiv 1810.10667), section 2; reverse mode as in Franceschi et al. 2017
    (arXiv 1703.01785), algorithm 1; docs/gradients.md, eq. (41).
    """

    steps: int = 3

    def __post_init__(self) -> None:
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 1:
            raise UserError(f"truncated: steps is a whole number from 1, got {self.steps!r}")

    def __call__(self, problem: Problem, alpha: Sequence[Tensor]) -> ArchitectureGradient:
        """dL_val(w_K(α), α)/dα [E, K] per group; first order where there are no weights."""
        weights, step = list(problem.weights), problem.weight_step
        if not weights:
            return FirstOrder()(problem, alpha)
        with preserved(problem.buffers), preserved(weights):
            path = []
            for _ in range(self.steps):
                path.append([w.detach().clone() for w in weights])
                slope = gradients(evaluate(problem, problem.train, alpha).loss, weights)
                step = step._replace(velocities=take(weights, slope, step))
            outcome = evaluate(problem, problem.valid, alpha)
            both = gradients(outcome.loss, [*alpha, *weights])
            total, by_weights = both[: len(alpha)], both[len(alpha) :]
            by_velocity = [torch.zeros_like(w) for w in by_weights]
            for before in reversed(path):
                with torch.no_grad():
                    torch._foreach_copy_(weights, before)
                by_descent, by_velocity = _back(step, by_weights, by_velocity)
                moved = product(training_slope(problem, alpha), by_descent, [*alpha, *weights])
                total = [t + m for t, m in zip(total, moved[: len(alpha)], strict=True)]
                by_weights = [
                    w + h + step.weight_decay * d
                    for w, h, d in zip(by_weights, moved[len(alpha) :], by_descent, strict=True)
                ]
        return ArchitectureGradient(total, outcome)


def _back(
    step: WeightStep, by_weights: Sequence[Tensor], by_velocity: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """From derivatives by w' and b' to those by d = g + λw, and by b.

    b' = μb + d, and w' = w − ηb' or, with Nesterov's momentum, w − η(d + μb').
    """
    rate, momentum = step.learning_rate, step.momentum
    reach = rate * momentum if step.nesterov else rate
    by_new = [b - reach * w for b, w in zip(by_velocity, by_weights, strict=True)]
    by_descent = by_new
    if step.nesterov:
        by_descent = [n - rate * w for n, w in zip(by_new, by_weights, strict=True)]
    return by_descent, [momentum * n for n in by_new]
