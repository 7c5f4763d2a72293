"""A cost as a table: what each candidate of each choice adds. E choices x K candidates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from archgrad.architecture import Architecture
from archgrad.architecture_warnings import NONE
from archgrad.choice import Choice, Group, Supernet, supernet
from archgrad.costs import COSTS
from archgrad.costs.counting import Cost, dry_run
from archgrad.errors import UserError
from archgrad.table import nearest


@dataclass(frozen=True, eq=False)
class CostTable:
    """The cost of every architecture of a space: fixed + Σ over choices of the chosen candidate's.

    name, unit: of the cost.
    fixed: cost of everything outside the choices.
    choices: the space's choices in groups, as `Supernet.groups` without those of which nothing is chosen.
    groups: one [E, K] per group of `choices`, float64. Where cells share a choice its places are summed.
    uncounted: what the cost has no rule for (see `counting.Count`).
    """

    name: str
    unit: str
    fixed: float
    choices: tuple[Group, ...]
    groups: tuple[Tensor, ...]
    uncounted: tuple[str, ...] = ()

    def expected(self, weights: Sequence[Tensor]) -> Tensor:
        """Expected cost fixed + Σ z·c, differentiable in the weights.

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
        return torch.stack(parts).sum(dim=0) + self.fixed

    def of(self, architecture: Architecture) -> float:
        """Cost of one architecture.

        Raises:
            UserError: the architecture lacks a choice of the table or names an unknown candidate.
        """
        total = self.fixed
        for group, costs in zip(self.choices, self.groups, strict=True):
            for name, row in zip(group.names, costs.tolist(), strict=True):
                if name not in architecture:
                    raise UserError(
                        f"the architecture has no choice {name!r}{nearest(name, architecture)}; "
                        "was it derived from another space?"
                    )
                candidate = architecture[name]
                if group.kind == "droppable" and candidate == NONE:
                    continue
                if candidate not in group.candidates:
                    raise UserError(
                        f"choice {name!r} has no candidate {candidate!r}"
                        f"{nearest(candidate, group.candidates)}; it has {', '.join(group.candidates)}"
                    )
                total += row[group.candidates.index(candidate)]
        return total

    def bounds(self) -> tuple[float, float]:
        """Costs of the cheapest and of the dearest architecture of the space."""
        cheapest = self.fixed
        for group, c in zip(self.choices, self.groups, strict=True):
            least = c.min(dim=1).values
            cheapest += float((least.clamp(max=0.0) if group.kind == "droppable" else least).sum())
        dearest = self.fixed + sum(float(c.max(dim=1).values.sum()) for c in self.groups)
        return cheapest, dearest


def cost_table(
    name: str,
    builder: Callable[..., nn.Module],
    shape: tuple[int, ...],
    classes: int,
    settings: Mapping[str, Any] | None = None,
) -> CostTable:
    """Count every candidate where it stands, in one dry run of the supernet.

    Args:
        name: a cost of `COSTS`, or ``"module:object"`` naming a `Cost`.
        builder: the space's ``(pick, shape, classes, **settings)``.
        shape: of one image, (C, H, W).
        classes: number of classes.
        settings: of the builder. With those of training the table predicts the network that will be
            trained; with those of search it describes the supernet's own parts.

    Raises:
        UserError: the name is no cost, a choice stands inside a candidate of another choice, or
            candidates share modules or parameters, so that the cost is no sum over choices.
    """
    cost = COSTS[name]
    if not isinstance(cost, Cost):
        raise UserError(f"cost {name!r} is {cost!r}; wanted an archgrad.costs.counting.Cost(unit, count)")
    run = dry_run(lambda: supernet(builder, shape, classes, **(settings or {})), shape)
    network = run.network
    assert isinstance(network, Supernet)

    parts: dict[tuple[str, str], dict[nn.Module, None]] = {}  # ordered sets: a candidate in all its places
    chosen: set[nn.Module] = set()
    for choice in network.choices():
        for candidate, option in zip(choice.candidates, choice.options, strict=True):
            modules = list(option.modules())
            inner = next((m for m in modules if isinstance(m, Choice)), None)
            if inner is not None:
                raise UserError(
                    f"choice {inner.name!r} stands inside candidate {candidate!r} of choice {choice.name!r}: "
                    f"the expected cost {name!r} of nested choices is no sum; make them one choice whose "
                    "candidates are the combinations"
                )
            parts.setdefault((choice.name, candidate), {}).update(dict.fromkeys(modules))
            chosen.update(modules)
    rest = cost.count([m for m in network.modules() if m not in chosen], run)
    counts = {part: cost.count(modules, run) for part, modules in parts.items()}

    total = cost.count(network.modules(), run).value
    summed = rest.value + sum(count.value for count in counts.values())
    if not math.isclose(total, summed, rel_tol=1e-9):
        raise UserError(
            f"cost {name!r} is no sum over the choices of this space: the whole supernet costs {total:,.0f} "
            f"{cost.unit}, its candidates one by one {summed:,.0f}; do candidates share modules or "
            "parameters? Build new ones in each candidate"
        )
    uncounted = set(rest.uncounted).union(*(count.uncounted for count in counts.values()))
    return CostTable(
        name=name,
        unit=cost.unit,
        fixed=rest.value,
        choices=tuple(g for g in network.groups if g.chosen),
        groups=tuple(
            torch.tensor([[counts[n, k].value for k in g.candidates] for n in g.names], dtype=torch.float64)
            for g in network.groups
            if g.chosen
        ),
        uncounted=tuple(sorted(uncounted)),
    )
