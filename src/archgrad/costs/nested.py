"""Costs that several choices make together: choices inside candidates of others.

A candidate that is chosen brings its own choices with it, so the cost of nested choices is no sum but
multilinear: Σ over joint decisions of their cost times the product of their weights. With independent
choices its expectation is the same polynomial at the probabilities, so it stays exact and differentiable.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from archgrad.errors import UserError

_LARGEST = 1 << 22  # numbers in one table of `extremes`


class Nested(NamedTuple):
    """What some choices cost together: C(z) = Σ_{k1…kn} costs[k1, …, kn] · z1[k1] ⋯ zn[kn].

    names: the n choices, outer ones before those inside their candidates.
    costs: [K1, …, Kn], float64.
    """

    names: tuple[str, ...]
    costs: Tensor

    def at(self, rows: Sequence[Tensor]) -> Tensor:
        """C(z) [...] of one row of weights [..., K] per choice; differentiable."""
        total = self.costs.to(rows[0])
        total = total.expand(*rows[0].shape[:-1], *total.shape)
        for row in reversed(rows):
            between = (1,) * (total.dim() - row.dim())
            total = (total * row.reshape(*row.shape[:-1], *between, row.shape[-1])).sum(dim=-1)
        return total


def extremes(rows: Mapping[str, Tensor], joint: Sequence[Nested]) -> tuple[float, float]:
    """The least and the greatest Σ_i rows[i][k_i] + Σ of joint costs over all decisions k.

    Exact: choices are decided one after another, each for every decision of those that it shares a joint
    cost with (variable elimination). For choices inside candidates that is as cheap as the nesting is deep.

    Args:
        rows: what each choice costs by itself, [K].
        joint: what choices cost together, over the names of `rows`.

    Raises:
        UserError: so many choices depend on one another that it would take too long.
    """
    tables = [Nested((name,), row) for name, row in rows.items()] + list(joint)
    return _least(tables), -_least([Nested(t.names, -t.costs) for t in tables])


def moments(rows: Mapping[str, Tensor], joint: Sequence[Nested]) -> tuple[float, float]:
    """Mean and standard deviation of Σ_i rows[i][k_i] + Σ of joint costs, each k_i drawn uniformly by itself.

    Exact: the variance is the sum of the covariances of all pairs of terms. Two terms without a choice in
    common have none; of others it is that of their means given the choices that they share.

    Args:
        rows: what each choice costs by itself, [K].
        joint: what choices cost together, over the names of `rows`.

    >>> moments({"a": torch.tensor([0.0, 4.0]), "b": torch.tensor([1.0, 7.0])}, [])
    (6.0, 3.605551275463989)
    """
    tables = [Nested((name,), row) for name, row in rows.items()] + list(joint)
    tables = [Nested(t.names, t.costs.detach().to("cpu", torch.float64)) for t in tables]
    means = [float(t.costs.mean()) for t in tables]
    variance = 0.0
    for i, one in enumerate(tables):
        for j, other in enumerate(tables[: i + 1]):
            shared = sorted(set(one.names) & set(other.names))
            if shared:
                product = (_given(one, shared) - means[i]) * (_given(other, shared) - means[j])
                variance += float(product.mean()) * (1 if i == j else 2)
    return sum(means), math.sqrt(max(0.0, variance))


def _given(table: Nested, names: Sequence[str]) -> Tensor:
    """Its mean cost for every decision of `names`, which are some of its choices; uniform over the others."""
    order = (*names, *(name for name in table.names if name not in names))
    costs = _aligned(table, order)
    return costs.mean(dim=tuple(range(len(names), len(order)))) if len(order) > len(names) else costs


def _least(tables: Sequence[Nested]) -> float:
    """The least sum of tables over all decisions."""
    left, fixed = list(tables), 0.0
    while left:
        names = {name for table in left for name in table.names}
        around = {name: {n for table in left if name in table.names for n in table.names} for name in names}
        name = min(sorted(names), key=lambda n: len(around[n]))
        mine = [table for table in left if name in table.names]
        order = (*sorted(around[name] - {name}), name)
        sizes = {n: table.costs.shape[i] for table in mine for i, n in enumerate(table.names)}
        if math.prod(sizes.values()) > _LARGEST:
            raise UserError(
                f"the cheapest and the dearest architecture are hard to find: {len(order)} choices, such as "
                f"{name!r}, depend on one another through their cost; give them fewer candidates"
            )
        total = torch.zeros([sizes[n] for n in order], dtype=torch.float64)
        for table in mine:
            total = total + _aligned(table, order)
        left = [table for table in left if name not in table.names]
        if len(order) == 1:
            fixed += float(total.min())
        else:
            left.append(Nested(order[:-1], total.min(dim=-1).values))
    return fixed


def _aligned(table: Nested, order: Sequence[str]) -> Tensor:
    """Its costs with one dimension per name of `order`, of size 1 where it has no such choice."""
    places = sorted(range(len(table.names)), key=lambda i: order.index(table.names[i]))
    costs = table.costs.detach().to("cpu", torch.float64).permute(places)
    sizes = iter(costs.shape)
    return costs.reshape([next(sizes) if name in table.names else 1 for name in order])
