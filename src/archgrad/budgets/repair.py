"""The most probable architecture within budgets, by an integer program. E choices × K candidates.

x[e, k] ∈ {0, 1} says that choice e takes candidate k. Maximised is Σ x[e, k]·log p[e, k], the log-probability
of what is taken, under the structure of the rule and least ≤ fixed + Σ x·c ≤ most for every budget:

    argmax, snas    Σ_k x[e, k] = 1 for every choice
    darts, rnn      Σ over the edges into a node of Σ_k x[e, k] = 2 (rnn: 1), at most 1 an edge, never `none`

Without budgets its solution is what the rule derives. Where choices stand in one another, a product of
x that costs something becomes a variable of its own (McCormick 1976, Math. Programming 10). Solved by HiGHS
(Huangfu & Hall 2018, Math. Prog. Comp. 10) through `scipy.optimize.milp`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from archgrad.architecture import Architecture, Edge
from archgrad.architecture_warnings import NONE, is_connected
from archgrad.budgets.budget import Budget
from archgrad.budgets.expectation import EDGES_KEPT
from archgrad.choice import Group
from archgrad.costs.cost_table import CostTable
from archgrad.derive import edge_weights
from archgrad.errors import UserError, WorkError

ALL_KEPT = ("argmax", "snas")
_CUTS = 200  # solutions that may be refused one after another
_SECONDS = 120.0

Floats = NDArray[np.float64]


@dataclass
class Program:
    """The variables and the structure of a rule; rows of A·x between two numbers.

    at: position of x[e, k] by choice and candidate. none: candidates that stand for a dropped edge cost this.
    """

    groups: tuple[Group, ...]
    rule: str
    at: dict[tuple[str, str], int] = field(default_factory=dict)
    rows: list[tuple[dict[int, float], float, float]] = field(default_factory=list)
    size: int = 0

    def __post_init__(self) -> None:
        chosen = [(name, group) for group in self.groups if group.chosen for name in group.names]
        nodes: dict[tuple[str, int], list[int]] = {}
        kept = EDGES_KEPT.get(self.rule)
        for name, group in chosen:
            candidates = [c for c in group.candidates if kept is None or c != NONE]
            mine = {self._variable((name, c)): 1.0 for c in candidates}
            self.rows.append((mine, 1.0 if kept is None else 0.0, 1.0))
            if kept is not None:
                edge = Edge.parse(name)
                assert edge is not None  # the rule has refused it before
                nodes.setdefault((edge.cell, edge.node), []).extend(mine)
        for (cell, node), variables in nodes.items():
            edges = sum(1 for n, _ in chosen if (e := Edge.parse(n)) and (e.cell, e.node) == (cell, node))
            keep = float(min(kept or 0, edges))
            self.rows.append((dict.fromkeys(variables, 1.0), keep, keep))

    def _variable(self, key: tuple[str, str]) -> int:
        self.at[key] = self.size
        self.size += 1
        return self.at[key]

    def cost(self, table: CostTable) -> tuple[dict[int, float], float]:
        """(coefficients, constant) of a cost; products of nested choices get variables of their own."""
        constant, found = table.fixed, dict[int, float]()
        for group, costs in zip(table.choices, table.groups, strict=True):
            for name, row in zip(group.names, costs.tolist(), strict=True):
                dropped = 0.0
                if self.rule in EDGES_KEPT and NONE in group.candidates:
                    dropped = row[group.candidates.index(NONE)]
                    constant += dropped
                for candidate, value in zip(group.candidates, row, strict=True):
                    if (name, candidate) in self.at:
                        found[self.at[name, candidate]] = value - dropped
        candidates = {name: group.candidates for group in table.choices for name in group.names}
        for joint in table.nested:
            for index in itertools.product(*(range(k) for k in joint.costs.shape)):
                value = float(joint.costs[index])
                names = list(zip(joint.names, index, strict=True))
                keys = [(name, candidates[name][k]) for name, k in names]
                if value == 0.0 or any(key not in self.at for key in keys):
                    continue
                product, factors = self.size, [self.at[key] for key in keys]
                self.size += 1
                for factor in factors:
                    self.rows.append(({product: 1.0, factor: -1.0}, -math.inf, 0.0))
                self.rows.append(
                    ({product: -1.0, **dict.fromkeys(factors, 1.0)}, -math.inf, len(factors) - 1.0)
                )
                found[product] = value
        return found, constant

    def solve(self, objective: dict[int, float], extra: int = 0) -> Floats | None:
        """x that minimises the objective, or None where no x fits; the last `extra` variables are real."""
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import coo_array

        size = self.size + extra
        entries = [(r, i, v) for r, (row, _, _) in enumerate(self.rows) for i, v in row.items()]
        r, i, v = zip(*entries, strict=True)
        weights = np.zeros(size)
        for position, value in objective.items():
            weights[position] = value
        upper = np.ones(size)
        upper[self.size :] = np.inf
        result: Any = milp(
            weights,
            integrality=np.array([1] * self.size + [0] * extra),
            bounds=Bounds(np.zeros(size), upper),
            constraints=LinearConstraint(
                coo_array((v, (r, i)), shape=(len(self.rows), size)).tocsr(),
                [low for _, low, _ in self.rows],
                [high for _, _, high in self.rows],
            ),
            options={"mip_rel_gap": 0.0, "time_limit": _SECONDS},
        )
        if result.status == 2:
            return None
        if result.status != 0:
            raise WorkError(f"the integer program of the budgets was not solved: {result.message}")
        return np.asarray(result.x)

    def architecture(self, x: Floats) -> Architecture:
        """What x stands for; an edge without a candidate is `none`."""
        taken = {name: candidate for (name, candidate), i in self.at.items() if x[i] > 0.5}
        names = [name for group in self.groups if group.chosen for name in group.names]
        return Architecture({name: taken.get(name, NONE) for name in names})


def known(rule: str) -> bool:
    """Whether the structure of a rule is known here."""
    return rule in EDGES_KEPT or rule in ALL_KEPT


def limits(groups: Sequence[Group], rule: str, table: CostTable) -> tuple[float, float]:
    """Costs of the cheapest and of the dearest architecture that the rule can derive."""
    if not known(rule):
        return table.bounds()
    program = Program(tuple(groups), rule)
    cost, constant = program.cost(table)
    low = program.solve(cost)
    high = program.solve({i: -value for i, value in cost.items()})
    assert low is not None
    assert high is not None
    cheapest, dearest = (constant + sum(v * float(x[i]) for i, v in cost.items()) for x in (low, high))
    return cheapest, dearest


def check_possible(
    groups: Sequence[Group], rule: str, budgets: Sequence[Budget], tables: Sequence[CostTable]
) -> None:
    """Refuse budgets that no architecture of the rule meets.

    Raises:
        UserError: one below the cheapest or above the dearest, both of which are named; or budgets that
            can only be met one by one, with what comes nearest.
    """
    for budget, table in zip(budgets, tables, strict=True):
        cheapest, dearest = limits(groups, rule, table)
        slack = 1e-9 * budget.target
        if budget.most < cheapest - slack or (budget.least or 0.0) > dearest + slack:
            raise UserError(
                f"budget {budget}: no architecture of this space meets it; the cheapest costs "
                f"{budget.show(cheapest)}, the dearest {budget.show(dearest)}; change the budget, or the "
                "network (train.space.channels and the like)"
            )
    if known(rule):
        uniform = [torch.full((len(g.names), len(g.candidates)), 1 / len(g.candidates)) for g in groups]
        most_probable(groups, uniform, rule, budgets, tables)


def most_probable(
    groups: Sequence[Group],
    probabilities: Sequence[Tensor],
    rule: str,
    budgets: Sequence[Budget],
    tables: Sequence[CostTable],
) -> tuple[Architecture, float]:
    """(architecture, log-probability): the most probable one that meets all budgets and is connected.

    Args:
        groups: the space's choices.
        probabilities: [E, K] per group.
        rule: that derives.
        budgets: what has to be met.
        tables: the cost of each.

    Raises:
        UserError: nothing meets them, with what comes nearest; or a rule of the user's own.
    """
    if not known(rule):
        raise UserError(
            f"the derived network misses its budget, and rule {rule!r} says nothing of its structure, so it "
            f"cannot be repaired: use one of {', '.join([*ALL_KEPT, *EDGES_KEPT])}"
        )
    program = Program(tuple(groups), rule)
    score = _scores(program, groups, probabilities)
    _bind(program, budgets, tables)
    cut_off = False
    for _ in range(_CUTS):
        x = program.solve({i: -value for i, value in score.items()})
        if x is None and cut_off:
            raise UserError(
                f"every architecture of this space that meets {' and '.join(map(str, budgets))} leaves its "
                "output without an input: widen a budget"
            )
        if x is None:
            raise UserError(_nearest(groups, rule, budgets, tables))
        architecture = program.architecture(x)
        if not is_connected(architecture):
            # whoever adds nothing to these edges is as disconnected
            dropped = {n for n, c in architecture.items() if c == NONE}
            cut = {i: 1.0 for (n, c), i in program.at.items() if n in dropped and c != NONE}
            program.rows.append((cut, 1.0, math.inf))
            cut_off = True
        elif all(b.met(t.of(architecture)) for b, t in zip(budgets, tables, strict=True)):
            return architecture, sum(score[i] for i in score if x[i] > 0.5)
        else:  # within the solver's tolerance, but not within the budget
            taken = {i: 1.0 for i in program.at.values() if x[i] > 0.5}
            program.rows.append((taken, -math.inf, len(taken) - 1.0))
    raise UserError(f"{_CUTS} solutions in a row join no input to the output: widen the budgets")


def log_probability(
    groups: Sequence[Group], probabilities: Sequence[Tensor], rule: str, architecture: Architecture
) -> float:
    """Σ log p of what an architecture takes, as `most_probable` maximises it."""
    program = Program(tuple(groups), rule)
    score = _scores(program, groups, probabilities)
    return sum(score[program.at[key]] for key in architecture.items() if key in program.at)


def _scores(program: Program, groups: Sequence[Group], probabilities: Sequence[Tensor]) -> dict[int, float]:
    """log p of every variable, under edge normalisation times the edge's weight."""
    weight = edge_weights(groups, probabilities)
    found = {}
    for group, rows in zip(groups, probabilities, strict=True):
        for name, row in zip(group.names, rows.detach().cpu().double().tolist(), strict=True):
            for candidate, p in zip(group.candidates, row, strict=True):
                if (name, candidate) in program.at:
                    share = p * (weight.get(name, 1.0) if program.rule in EDGES_KEPT else 1.0)
                    found[program.at[name, candidate]] = math.log(max(share, 1e-30))
    return found


def _bind(program: Program, budgets: Sequence[Budget], tables: Sequence[CostTable]) -> None:
    """Add the budgets, each divided by its target."""
    for budget, table in zip(budgets, tables, strict=True):
        cost, constant = program.cost(table)
        low = -math.inf if budget.least is None else (budget.least - constant) / budget.target
        row = {i: value / budget.target for i, value in cost.items()}
        program.rows.append((row, low, (budget.most - constant) / budget.target))


def _nearest(
    groups: Sequence[Group], rule: str, budgets: Sequence[Budget], tables: Sequence[CostTable]
) -> str:
    """A sentence on the architecture with the least sum of relative misses."""
    program = Program(tuple(groups), rule)
    costs = [program.cost(table) for table in tables]
    objective = {}
    for b, (budget, (cost, constant)) in enumerate(zip(budgets, costs, strict=True)):
        miss = program.size + b
        row = {i: value / budget.target for i, value in cost.items()}
        program.rows.append(({**row, miss: -1.0}, -math.inf, (budget.most - constant) / budget.target))
        if budget.least is not None:
            low = (budget.least - constant) / budget.target
            program.rows.append(({**row, miss: 1.0}, low, math.inf))
        objective[miss] = 1.0
    x = program.solve(objective, extra=len(budgets))
    assert x is not None  # any architecture fits when misses are allowed
    architecture = program.architecture(x)
    nearest = ", ".join(
        f"{b.cost} {b.show(t.of(architecture))}" for b, t in zip(budgets, tables, strict=True)
    )
    listed = " and ".join(map(str, budgets))
    return f"no architecture of this space meets {listed}; the nearest has {nearest}: widen a budget"
