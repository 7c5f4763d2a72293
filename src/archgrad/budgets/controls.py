"""What a search within budgets is compared with: random architectures within them, and a scaled network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from archgrad.architecture import Architecture
from archgrad.budgets.budget import Budget
from archgrad.budgets.repair import most_probable
from archgrad.choice import Group
from archgrad.costs.cost_table import CostTable
from archgrad.derive import random_derivation
from archgrad.errors import UserError
from archgrad.randomness import Streams

DRAWS = 500
"""Random architectures that are drawn for one within the budgets, before one is repaired."""
WIDEST = 4096
"""Channels of a scaled network, about at most: a cost need not grow with them."""


class Drawn(NamedTuple):
    """A random architecture within budgets; repaired: none was drawn that met them, so one was made to."""

    architecture: Architecture
    repaired: bool


def random_within(
    groups: Sequence[Group],
    rule: str,
    budgets: Sequence[Budget],
    tables: Sequence[CostTable],
    streams: Streams,
    name: str,
    index: int,
) -> Drawn:
    """A random architecture that meets every budget.

    The first of `DRAWS` random architectures that does: of those that meet them each is as likely. Where none
    does, so near to the cheapest or the dearest, it is the most probable one within the budgets under random
    logits.

    Args:
        groups: the space's choices.
        rule: that derives; it knows the structure.
        budgets: what has to be met.
        tables: the cost of each.
        streams: of the run; another `name` or `index` is another architecture.

    Raises:
        UserError: no architecture meets them.
    """
    for attempt in range(DRAWS):
        drawn = random_derivation(groups, rule, streams, f"within/{name}", index * DRAWS + attempt)
        values = (table.of(drawn.architecture) for table in tables)
        if all(budget.met(value) for budget, value in zip(budgets, values, strict=True)):
            return Drawn(drawn.architecture, repaired=False)
    generator = streams.generator(f"random architecture/repaired/{name}", index)
    logits = [torch.randn(len(g.names), len(g.candidates), generator=generator) for g in groups]
    p = [torch.softmax(a, dim=-1) for a in logits]
    return Drawn(most_probable(groups, p, rule, budgets, tables)[0], repaired=True)


def widest(costs: Callable[[int], Sequence[float]], budgets: Sequence[Budget], width: int) -> int | None:
    """The greatest number of channels whose network is not dearer than any budget; None if the least is.

    Args:
        costs: number of channels -> the cost of each budget, which grow with it. It raises a `UserError`
            where a network cannot have so many, for example an odd number.
        budgets: their upper ends count.
        width: a number that a network can have; others are a step or more from it.

    >>> widest(lambda c: [c * c], [Budget("macs", 1000.0)], 16)
    31
    """
    step = _step(costs, width)
    first = width % step or step

    def fits(n: int) -> bool:
        return all(cost <= b.most for cost, b in zip(costs(first + n * step), budgets, strict=True))

    if not fits(0):
        return None
    low, high = 0, 1
    while first + high * step <= WIDEST and fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return first + low * step


def _step(costs: Callable[[int], Sequence[float]], width: int) -> int:
    """By how many channels a network can be widened."""
    for step in (1, 2, 4):
        try:
            costs(width + step)
        except UserError:
            continue
        return step
    return 8
