"""A cost as a table: what each candidate of each choice adds. E choices x K candidates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from archgrad.architecture import Architecture
from archgrad.architecture_warnings import NONE
from archgrad.choice import Group
from archgrad.costs import COSTS
from archgrad.costs.counting import Cost, TabledCost
from archgrad.costs.nested import Nested, extremes, moments
from archgrad.costs.tabulate import Term, find_terms
from archgrad.errors import UserError
from archgrad.table import nearest


@dataclass(frozen=True, eq=False)
class CostTable:
    """The cost of every architecture of a space: fixed + Σ over choices of the chosen candidate's.

    Where a choice stands in a candidate of another, what they cost together is added (`nested.Nested`): the
    cost is multilinear then, and everything below is exact all the same.

    name, unit: of the cost.
    fixed: cost of everything outside the choices.
    choices: the space's choices in groups, as `Supernet.groups` without those of which nothing is chosen.
    groups: one [E, K] per group of `choices`, float64. Where cells share a choice its places are summed.
    uncounted: what the cost has no rule for (see `counting.Count`).
    nested: what several choices cost together.
    bound: whether the table is an upper bound of the cost, and not the cost itself.

    Raises:
        UserError: a table of another shape than its group, or a cost that is negative, infinite or NaN.
    """

    name: str
    unit: str
    fixed: float
    choices: tuple[Group, ...]
    groups: tuple[Tensor, ...]
    uncounted: tuple[str, ...] = ()
    nested: tuple[Nested, ...] = ()
    bound: bool = False

    def __post_init__(self) -> None:
        wanted = [(len(g.names), len(g.candidates)) for g in self.choices]
        found = [tuple(c.shape) for c in self.groups]
        if found != wanted:
            raise UserError(
                f"cost table {self.name!r}: its choices need tensors [E, K] of shapes {wanted}, got {found}"
            )
        for group, costs in zip(self.choices, self.groups, strict=True):
            for e, k in (~(costs.isfinite() & (costs >= 0))).nonzero().tolist():
                raise UserError(
                    f"cost table {self.name!r}: candidate {group.candidates[k]!r} of choice "
                    f"{group.names[e]!r} costs {float(costs[e, k])} {self.unit}; wanted a finite number "
                    "of at least 0: measure or count it again"
                )
        sizes = {name: len(group.candidates) for group in self.choices for name in group.names}
        for names, costs in self.nested:
            if tuple(costs.shape) != tuple(sizes.get(name, -1) for name in names) or not bool(
                (costs.isfinite() & (costs >= 0)).all()
            ):
                raise UserError(
                    f"cost table {self.name!r}: what {', '.join(names)} cost together has shape "
                    f"{tuple(costs.shape)}; wanted one finite number of at least 0 for each of their "
                    "candidates, in this order, of choices that the table has"
                )
        if not (0 <= self.fixed < float("inf")):
            raise UserError(
                f"cost table {self.name!r}: everything outside the choices costs {self.fixed} {self.unit}; "
                "wanted a finite number of at least 0"
            )

    def expected(self, weights: Sequence[Tensor]) -> Tensor:
        """Expected cost fixed + Σ z·c + Σ nested, differentiable in the weights.

        Args:
            weights: one [..., E, K] per group; leading dimensions (many searches at once) stay.

        Returns:
            [...], a scalar for weights [E, K]; in the weights' dtype and on their device.

        Raises:
            UserError: the weights do not have the shapes of `groups`.
        """
        shapes = [tuple(z.shape[-2:]) for z in weights]
        if shapes != [tuple(c.shape) for c in self.groups]:
            raise UserError(
                f"weights [E, K] of shapes {shapes} do not fit the {self.name} table, which has "
                f"{[tuple(c.shape) for c in self.groups]}: give one tensor per group, in the supernet's order"
            )
        parts = [(z * c.to(z)).sum(dim=(-2, -1)) for z, c in zip(weights, self.groups, strict=True)]
        if self.nested:
            named = zip(self.choices, weights, strict=True)
            rows = {n: row for g, z in named for n, row in zip(g.names, z.unbind(dim=-2), strict=True)}
            parts += [joint.at([rows[name] for name in joint.names]) for joint in self.nested]
        return torch.stack(parts).sum(dim=0) + self.fixed

    def of(self, architecture: Architecture) -> float:
        """Cost of one architecture.

        A choice that stands in a candidate need not be named where that candidate is not chosen.

        Raises:
            UserError: the architecture lacks a choice of the table or names an unknown candidate.
        """
        inside = {name for joint in self.nested for name in joint.names[1:]}
        total = self.fixed
        for group, costs in zip(self.choices, self.groups, strict=True):
            for name, row in zip(group.names, costs.tolist(), strict=True):
                if name in inside and name not in architecture and not any(row):
                    continue
                k = _index(architecture, name, group)
                total += 0.0 if k is None else row[k]
        groups = {name: group for group in self.choices for name in group.names}
        for joint in self.nested:
            costs = joint.costs
            for name in joint.names:
                if not bool(costs.any()):
                    break  # whatever is chosen inside
                k = _index(architecture, name, groups[name])
                costs = torch.zeros(()).expand(costs.shape[1:]) if k is None else costs[k]
            total += float(costs.sum())  # a single number, or zeros
        return total

    def bounds(self) -> tuple[float, float]:
        """Costs of the cheapest and of the dearest architecture of the space, exact.

        Raises:
            UserError: as `nested.extremes`.
        """
        rows: dict[str, Tensor] = {}
        nested = list(self.nested)
        for group, costs in zip(self.choices, self.groups, strict=True):
            padded = torch.cat([costs, costs.new_zeros(len(costs), 1)], dim=1)
            droppable = group.kind == "droppable"
            rows |= dict(zip(group.names, (padded if droppable else costs).double().cpu(), strict=True))
            if droppable:  # `none` costs nothing, and nothing stands in it
                nested = [_padded(joint, group.names) for joint in nested]
        cheapest, dearest = extremes(rows, nested)
        return self.fixed + cheapest, self.fixed + dearest

    def moments(self) -> tuple[float, float]:
        """Mean and standard deviation of the cost over architectures drawn uniformly, exact.

        Every choice is drawn by itself from its candidates, those inside a candidate that is not drawn, too.
        """
        rows = {
            name: row
            for group, costs in zip(self.choices, self.groups, strict=True)
            for name, row in zip(group.names, costs, strict=True)
        }
        mean, deviation = moments(rows, self.nested)
        return self.fixed + mean, deviation

    def require_counted(self) -> None:
        """Refuse a table that leaves something out, where a limit is to be kept.

        Raises:
            UserError: naming what the cost has no rule for.
        """
        if self.uncounted:
            raise UserError(
                f"cost {self.name!r} has no rule for {', '.join(self.uncounted)}, so a network may cost more "
                "than it says and no limit on it can be kept; take another cost (parameters counts "
                "everything), or give one of your own as 'module:object'"
            )


def _index(architecture: Architecture, name: str, group: Group) -> int | None:
    """Which candidate an architecture has at a choice of the group; None where the choice is left out."""
    if name not in architecture:
        raise UserError(
            f"the architecture has no choice {name!r}{nearest(name, architecture)}; "
            "was it derived from another space?"
        )
    candidate = architecture[name]
    if group.kind == "droppable" and candidate == NONE:
        return None
    if candidate not in group.candidates:
        raise UserError(
            f"choice {name!r} has no candidate {candidate!r}"
            f"{nearest(candidate, group.candidates)}; it has {', '.join(group.candidates)}"
        )
    return group.candidates.index(candidate)


def _padded(joint: Nested, names: Sequence[str]) -> Nested:
    """With one more candidate, which costs nothing, for those of its choices that are among `names`."""
    costs = joint.costs
    for i, name in enumerate(joint.names):
        if name in names:
            shape = [*costs.shape]
            shape[i] = 1
            costs = torch.cat([costs, costs.new_zeros(shape)], dim=i)
    return Nested(joint.names, costs)


def cost_table(
    name: str,
    builder: Callable[..., nn.Module],
    shape: tuple[int, ...],
    classes: int,
    settings: Mapping[str, Any] | None = None,
) -> CostTable:
    """Count every candidate where it stands, in dry runs of the supernet and of a few networks (`tabulate`).

    Args:
        name: a cost of `COSTS`, or ``"module:object"`` naming a `Cost`.
        builder: the space's ``(pick, shape, classes, **settings)``.
        shape: of one image, (C, H, W).
        classes: number of classes.
        settings: of the builder. With those of training the table predicts the network that will be
            trained; with those of search it describes the supernet's own parts.

    Raises:
        UserError: the name is no cost, or the table would not agree with the count of derived networks:
            candidates share modules or parameters and run them again, or too many choices change what is
            built around them.
    """
    cost = COSTS[name]
    if isinstance(cost, TabledCost):
        made = cost.table(builder, shape, classes, dict(settings or {}))
        assert isinstance(made, CostTable)
        return made
    if not isinstance(cost, Cost):
        raise UserError(f"cost {name!r} is {cost!r}; wanted an archgrad.costs.counting.Cost(unit, count)")
    found = find_terms(name, cost, builder, shape, classes, dict(settings or {}))
    groups = {n: (g, e) for g, group in enumerate(found.groups) for e, n in enumerate(group.names)}
    tables = [torch.zeros(len(g.names), len(g.candidates), dtype=torch.float64) for g in found.groups]
    fixed, nested = 0.0, dict[tuple[str, ...], Tensor]()
    for term in found.terms:
        names = tuple(n for n, _ in term.where)
        if not names:
            fixed += term.value
            continue
        candidates = [found.groups[groups[n][0]].candidates for n in names]
        if len(names) == 1:
            costs = tables[groups[names[0]][0]][groups[names[0]][1]]
        else:
            costs = nested.setdefault(names, torch.zeros([len(c) for c in candidates], dtype=torch.float64))
        _add(costs, term, candidates)
    return CostTable(
        name=name,
        unit=cost.unit,
        fixed=fixed,
        choices=found.groups,
        groups=tuple(tables),
        uncounted=found.uncounted,
        nested=tuple(Nested(names, costs) for names, costs in nested.items()),
        bound=cost.bound,
    )


def _add(costs: Tensor, term: Term, candidates: Sequence[Sequence[str]]) -> None:
    """Add a term to the table of its choices, in place."""
    places = [
        torch.tensor([k for k, candidate in enumerate(known) if candidate in allowed])
        for known, (_, allowed) in zip(candidates, term.where, strict=True)
    ]
    costs[torch.meshgrid(*places, indexing="ij")] += term.value
