"""Exact products of vectors with the second derivatives of L_train, by a backward pass of a backward pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from archgrad.problem import Problem, evaluate


def training_slope(problem: Problem, alpha: Sequence[Tensor]) -> list[Tensor]:
    """∇_w L_train(w, α) with its graph, one tensor per weight. One forward and one backward pass."""
    weights, loss = list(problem.weights), evaluate(problem, problem.train, alpha).loss
    if not loss.requires_grad:
        return [torch.zeros_like(w) for w in weights]
    return list(
        torch.autograd.grad(loss.sum(), weights, create_graph=True, allow_unused=True, materialize_grads=True)
    )


def product(
    slope: Sequence[Tensor], vector: Sequence[Tensor], inputs: Sequence[Tensor], *, keep: bool = False
) -> list[Tensor]:
    """∂(slope · vector)/∂inputs: with inputs w the Hessian times the vector, with α the mixed term.

    One backward pass through the slope's; `keep` its graph for another product.
    """
    pairs = [(s, v) for s, v in zip(slope, vector, strict=True) if s.requires_grad]
    if not pairs:  # the loss is linear in the weights, and what multiplies them is constant
        return [torch.zeros_like(x) for x in inputs]
    slopes, vectors = zip(*pairs, strict=True)
    return list(
        torch.autograd.grad(
            slopes, list(inputs), vectors, retain_graph=keep, allow_unused=True, materialize_grads=True
        )
    )
