"""REBAR: the score function, its noise reduced by a relaxation whose bias is taken out again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from archgrad.choice import Sample
from archgrad.errors import UserError
from archgrad.problem import ArchitectureGradient, Problem, gradients, observe, preserved
from archgrad.samplers.gumbel_noise import gumbel_given, gumbel_noise
from archgrad.samplers.sampler import active_rows, draws_from_softmax


@dataclass(frozen=True)
class Rebar:
    """[f(b) − η f(z̃)] ∇_α log p(b) + η ∇_α f(z) − η ∇_α f(z̃),  f = L_val: an unbiased ∇_α E[f(b)].

    b = one-hot(argmax(α + G)) is the draw, z = softmax((α + G)/τ) its relaxation, and z̃ = softmax(Y/τ) with
    Y ~ α + G given b, which is a function of α and of noise X that does not depend on b (`gumbel_given`). The
    nearer f(z̃) is to f(b), the less of the score function's noise is left.
    That the mean is exact needs nothing of how X and G depend on one another, so X is computed from G such
    that z̃ = z (`noise_given`). Only their derivatives by α differ, and f(z) and f(z̃) are one evaluation:
    two forward passes, of the draw and of all candidates mixed, and one backward pass, of the latter.
    With X drawn afresh they would be three and two, for a variance that differs by a few percent.

    Draws for itself, at the problem's τ. Any τ > 0 and any η leave the expectation as it is; the variance
    has a minimum in both. With losses [S] of S independent searches each has an estimate of its own.

    scale: η.

    Source: Tucker et al. 2017 (arXiv 1703.07370), section 3, and its appendix for more than two
    candidates; docs/gradients.md, eq. (27).
    """

    scale: float = 1.0

    score: ClassVar[bool] = True
    uses_temperature: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not math.isfinite(self.scale) or self.scale <= 0:
            raise UserError(
                f"rebar: scale is a finite number above 0, got {self.scale!r}; without the relaxation it is "
                "the score function: set hypergradient.name to score_function"
            )

    def __call__(self, problem: Problem, alpha: Sequence[Tensor]) -> ArchitectureGradient:
        """The estimate of dE[L_val]/dα [..., E, K] per group; the outcome is that of the draw.

        Raises:
            UserError: the problem has no noise to draw with, or its policy does not draw every choice by
                itself from softmax(α).
        """
        generator = _generator(problem)
        logits = [a.to(torch.promote_types(a.dtype, torch.float32)) for a in alpha]
        perturbed = [a + gumbel_noise(a, generator) for a in logits]
        index = [y.detach().argmax(dim=-1) for y in perturbed]
        again = [
            gumbel_given(a, noise_given(a.detach(), y.detach(), i), i)
            for a, y, i in zip(logits, perturbed, index, strict=True)
        ]
        relaxed = [torch.softmax(y / problem.tau, dim=-1) for y in perturbed]
        leaves = [z.detach().requires_grad_() for z in relaxed]
        with preserved(problem.buffers):
            with torch.no_grad():
                outcome = observe(
                    problem, problem.valid, [_hard(i, a) for i, a in zip(index, alpha, strict=True)]
                )
            mixed = observe(
                problem, problem.valid, [Sample(z.to(a)) for z, a in zip(leaves, alpha, strict=True)]
            )
            slopes = gradients(mixed.loss, leaves)
        gain = (outcome.loss - self.scale * mixed.loss).detach() * _log_prob(logits, index)
        for z, y, slope in zip(relaxed, again, slopes, strict=True):
            difference = z - torch.softmax(y / problem.tau, dim=-1)
            gain = gain + self.scale * (slope * difference).sum(dim=(-2, -1))
        return ArchitectureGradient(gradients(gain, alpha), outcome)


def noise_given(logits: Tensor, perturbed: Tensor, index: Tensor) -> Tensor:
    """log X [..., K] with ``gumbel_given(logits, log X, index) == perturbed``, as far as rounding goes.

    X are standard exponentials, whatever the index. logits, perturbed: α and α + G [..., K]; index: the
    latter's argmax [...].
    """
    chosen = index.unsqueeze(-1)
    top = perturbed.gather(-1, chosen)
    gap = (perturbed - top).clamp(max=-torch.finfo(perturbed.dtype).eps)  # a tie would make X zero
    others = logits - perturbed + torch.log1p(-gap.exp())
    return others.scatter(-1, chosen, torch.logsumexp(logits, dim=-1, keepdim=True) - top)


def _hard(index: Tensor, like: Tensor) -> Sample:
    weights = torch.nn.functional.one_hot(index, like.shape[-1]).to(like)
    return Sample(weights, active_rows(index) if index.dim() == 1 else None, one_hot=True)


def _log_prob(logits: Sequence[Tensor], index: Sequence[Tensor]) -> Tensor:
    """log p(b) [...] over all choices."""
    rows = [
        torch.log_softmax(a, dim=-1).gather(-1, i.unsqueeze(-1)).squeeze(-1).sum(dim=-1)
        for a, i in zip(logits, index, strict=True)
    ]
    return torch.stack(rows).sum(dim=0)


def _generator(problem: Problem) -> torch.Generator:
    """The noise to draw with, where the policy draws as this hypergradient does."""
    policy = problem.policy
    if policy is None or problem.noise is None:
        raise UserError("rebar: the problem has no policy, or no noise, to draw with")
    if not policy.independent:
        raise UserError(
            f"rebar: the controller {type(policy.controller).__name__} makes choices depend on one another; "
            "set controller.name to independent, or hypergradient.name to score_function"
        )
    sampler = policy.sampler
    if not draws_from_softmax(sampler):
        raise UserError(
            f"rebar: it draws one-hot rows from softmax(α), and the sampler {type(sampler).__name__} does "
            "not declare (draws_from_softmax) that it does; set sampler.name to gumbel_max or "
            "straight_through"
        )
    return problem.noise(0)
