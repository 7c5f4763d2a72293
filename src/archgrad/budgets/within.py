"""Budgets of a run: their tables, the hold of its search, and the check and repair of what it derives."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from archgrad.architecture import Architecture
from archgrad.architecture_warnings import NONE, architecture_warnings, skip_share
from archgrad.budgets.budget import Budget
from archgrad.budgets.expectation import EDGES_KEPT
from archgrad.budgets.repair import log_probability, most_probable
from archgrad.choice import Group, concrete
from archgrad.costs.activation_memory import peak_activations
from archgrad.costs.cost_table import CostTable, cost_table
from archgrad.costs.network_counts import count_network
from archgrad.derive import Decision, Derivation, undecided
from archgrad.errors import UserError

_COUNTED = {"parameters": "parameters_without_auxiliary", "macs": "macs"}


def table_of(
    budget: Budget,
    space: str,
    builder: Callable[..., nn.Module],
    shape: tuple[int, int, int],
    classes: int,
    settings: Mapping[str, Any],
) -> CostTable:
    """The cost of every candidate in the network that will be trained.

    Counted, or where the budget names a file, read from it: a latency table as `archgrad latency` writes
    them, also one of another device than this.

    Raises:
        UserError: no such cost, one that leaves something of this space out or is an upper bound that is to
            be reached from below, or a file that is none, or of other networks.
    """
    if budget.table is None:
        table = cost_table(budget.cost, builder, shape, classes, settings)
        table.require_counted()
        if table.bound and budget.least is not None:
            raise UserError(
                f"budget {budget}: {budget.cost} is an upper bound of what a network needs, so it can be "
                f"kept below a limit but not be reached; write {budget.cost}={budget.show(budget.most)} "
                "without a tolerance"
            )
        return table
    from archgrad.latency.candidates import Target
    from archgrad.latency.table import load_table

    target = Target.of(space, shape, classes, settings)
    return load_table(budget.table, target=target, allow_other_device=True)


def within_budgets(
    derivation: Derivation,
    groups: Sequence[Group],
    probabilities: Sequence[Tensor],
    budgets: Sequence[Budget],
    tables: Sequence[CostTable],
) -> Derivation:
    """The derivation, or where it misses a budget the most probable one that meets all of them.

    Changed decisions have the candidate that was taken as their winner and the more probable one that it
    replaces as runner-up, so their margin is negative.

    Raises:
        UserError: no architecture meets the budgets.
    """
    before = derivation.architecture
    costs = [table.of(before) for table in tables]
    missed = [
        f"{budget}: it has {budget.show(cost)}"
        for budget, cost in zip(budgets, costs, strict=True)
        if not budget.met(cost)
    ]
    if not missed:
        return derivation
    rule = derivation.rule
    after, score = most_probable(groups, probabilities, rule, budgets, tables)
    lost = log_probability(groups, probabilities, rule, before) - score
    changed = {name: (before[name], after[name]) for name in after if after[name] != before[name]}
    listed = "; ".join(f"{name}: {old} → {new}" for name, (old, new) in changed.items())
    warning = (
        f"the derived network missed its budget ({', '.join(missed)}), so the most probable one that meets "
        f"it was taken: {len(changed)} of {len(after)} choices changed ({listed}), at a probability "
        f"{math.exp(min(lost, 700.0)):.3g} times lower"
    )
    rows = {
        name: dict(zip(group.candidates, row, strict=True))
        for group, p in zip(groups, probabilities, strict=True)
        if group.chosen
        for name, row in zip(group.names, p.detach().cpu().double().tolist(), strict=True)
    }
    sizes = {name: len(row) for name, row in rows.items()}
    unsure = undecided(derivation.decisions, sizes)  # about decisions that the repair may have changed
    decisions = tuple(_decision(d, after, rows[d.name], rule in EDGES_KEPT) for d in derivation.decisions)
    return replace(
        derivation,
        architecture=after,
        decisions=decisions,
        warnings=(
            warning,
            *(w for w in derivation.warnings if w not in [*architecture_warnings(before), *unsure]),
            *undecided(decisions, sizes),
            *architecture_warnings(after),
        ),
        skip_share=skip_share(after),
        repair={
            "changed": [{"name": n, "from": old, "to": new} for n, (old, new) in changed.items()],
            "log_probability_lost": lost,
            "costs_before": {b.cost: cost for b, cost in zip(budgets, costs, strict=True)},
        },
    )


def checked(
    architecture: Architecture,
    budgets: Sequence[Budget],
    tables: Sequence[CostTable],
    builder: Callable[..., nn.Module],
    shape: tuple[int, int, int],
    classes: int,
    settings: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Of every budget what the concrete network costs, counted by itself where that can be done.

    Activations are counted at their peak, of which the table is an upper bound. What is measured, or no
    count of a network, is what the table says of the architecture.
    """
    counts = count_network(builder, architecture, shape, classes, settings)
    found = []
    for budget, table in zip(budgets, tables, strict=True):
        counted = _COUNTED.get(budget.cost) if budget.table is None else None
        value = float(getattr(counts, counted)) if counted else table.of(architecture)
        if budget.cost == "activation_memory" and budget.table is None:
            counted = "peak"
            value = float(
                peak_activations(lambda: concrete(builder, architecture, shape, classes, **settings), shape)
            )
        found.append(
            {
                "cost": budget.cost,
                "unit": table.unit,
                "least": budget.least,
                "most": budget.most,
                "value": value,
                "met": budget.met(value),
                "counted": counted is not None,
            }
        )
    return found


def _decision(decision: Decision, after: Architecture, row: Mapping[str, float], dropping: bool) -> Decision:
    """As it is after the repair; dropping: whether the rule drops edges."""
    taken = after[decision.name]
    if taken == (decision.winner if decision.kept else NONE):
        return decision
    if taken == NONE and dropping:  # the edge makes room for another
        return decision._replace(kept=False)
    if taken == decision.winner:  # it takes the place of another, with its strongest candidate
        return decision._replace(kept=True)
    probability, old = row[taken], decision.winner
    return decision._replace(
        winner=taken,
        runner_up=old,
        winner_probability=probability,
        runner_up_probability=row[old],
        margin=probability - row[old],
        kept=True,
    )
