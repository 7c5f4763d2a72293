"""The three forms of an expected cost, and how far a derived network is from it (SNAS, arXiv 1812.09926).

C is the cost of `CostTable`: C(z) = c₀ + Σ z·c + Σ nested, multilinear in the weights z of the choices.

- `expectation`, C(p): E[C(D)] of architectures D drawn from independent choices with probabilities p. Exact.
- `sampled`, C(z): at the weights that a sampler drew; its gradient goes through the sampler.
- `score`, (C(z) − b)·log p(z): its gradient in the logits is an unbiased estimate of ∇E[C(z)] for any sampler
  that knows the probability of its draws; nothing goes through the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from archgrad.architecture import Architecture
from archgrad.costs.cost_table import CostTable
from archgrad.errors import UserError


def expectation(table: CostTable, probabilities: Sequence[Tensor]) -> Tensor:
    """C(p), the mean cost of architectures whose choices are drawn independently from `probabilities`.

    As every choice enters each term once at most, E[C(D)] = C(E[D]) = C(p): no draw is needed. Its gradient
    is ∂C/∂α_k = p_k·(c_k − Σ_j p_j c_j) for p = softmax(α), c being the cost of each candidate given the
    other choices (docs/costs.md).

    Args:
        table: of a cost.
        probabilities: [..., E, K] per group of `table.choices`, rows that sum to 1.

    Returns:
        [...], differentiable.

    Raises:
        UserError: shapes that do not fit the table.
    """
    return table.expected(probabilities)


def sampled(table: CostTable, weights: Sequence[Tensor]) -> Tensor:
    """C(z), the cost at the weights z that a sampler drew; for one-hot z that of an architecture.

    The gradient in the logits is ∂C/∂z · ∂z/∂α, the second factor being the sampler's. It has the sampler's
    bias; where C is a sum (no nested choices) and the sampler is right for what is linear in each row, there
    is none.

    Args:
        table: of a cost.
        weights: [..., E, K] per group of `table.choices`, as drawn: not detached.

    Returns:
        [...], differentiable.

    Raises:
        UserError: shapes that do not fit the table.
    """
    return table.expected(weights)


def score(
    table: CostTable, weights: Sequence[Tensor], log_prob: Tensor, baseline: float | Tensor = 0.0
) -> Tensor:
    """(C(z) − b)·log p(z), the factor C(z) − b held: its gradient is that of the score function.

    E[(C(z) − b)·∇log p(z)] = ∇E[C(z)] for every b that does not depend on the draw, as E[∇log p(z)] = 0
    (Williams 1992; SNAS, section 3.3, "policy gradient"). The value means nothing; use its gradient.

    Args:
        table: of a cost.
        weights: [..., E, K] per group of `table.choices`, as drawn; no gradient goes to them.
        log_prob: [...], log p(z) of the whole draw as by `archgrad.policy.Policy.log_prob`.
        baseline: b, a number or [...]; near the mean cost it lowers the variance.

    Returns:
        [...], differentiable in what `log_prob` depends on.

    Raises:
        UserError: a log-probability without a gradient, or of another shape than the draws.
    """
    costs = table.expected([z.detach() for z in weights])
    if not log_prob.requires_grad or log_prob.shape != costs.shape:
        raise UserError(
            f"the score function needs log p(z) of shape {tuple(costs.shape)} with a gradient, got "
            f"{tuple(log_prob.shape)}{'' if log_prob.requires_grad else ' without one'}: take it from "
            "Policy.log_prob, and sum it over all choices"
        )
    held = baseline.detach() if isinstance(baseline, Tensor) else baseline
    return (costs - held) * log_prob


class ExpectationGap(NamedTuple):
    """How far a derived network is from what the search expected; in the cost's unit.

    expected: C(p). derived: of the derived architecture, as built. live: of what of it matters for its
        output (`live.count_live`), or None.
    difference: derived − expected. relative: difference / expected; None where nothing is expected.
    """

    expected: float
    derived: float
    live: float | None
    difference: float
    relative: float | None


def expectation_gap(
    table: CostTable,
    probabilities: Sequence[Tensor],
    architecture: Architecture,
    live: float | None = None,
) -> ExpectationGap:
    """The gap between the expected cost and that of the derived network.

    It has three parts: the argmax of a distribution costs something else than its mean; a rule may drop
    edges (DARTS keeps two a node); and nodes may be dead, which `live` leaves out.

    Args:
        table: of a cost; an upper bound stays one.
        probabilities: [E, K] per group of `table.choices`.
        architecture: that was derived.
        live: the derived network's cost without dead nodes, in the same unit.

    Raises:
        UserError: probabilities or architecture are of another space.

    >>> import torch
    >>> from archgrad.choice import Group
    >>> edge, costs = Group(("none", "conv"), ("a",)), torch.tensor([[0.0, 40.0]])
    >>> table = CostTable("macs", "MACs", 10.0, (edge,), (costs,))
    >>> gap = expectation_gap(table, [torch.tensor([[0.75, 0.25]])], Architecture({"a": "none"}))
    >>> gap.expected, gap.derived, gap.difference, gap.relative
    (20.0, 10.0, -10.0, -0.5)
    """
    expected, derived = float(table.expected(probabilities).detach()), table.of(architecture)
    difference = derived - expected
    return ExpectationGap(expected, derived, live, difference, difference / expected if expected else None)
