"""How a search was held to its budgets: expected cost beside the target, and its price, by epoch."""

from __future__ import annotations

from typing import NamedTuple

from archgrad.budgets.budget import Budget, parse_all
from archgrad.errors import UserError
from archgrad.report.points import Series, finite
from archgrad.report.reading import RunRecord


class BudgetPoints(NamedTuple):
    """One budget of a run.

    cost: its name. limit: as written, for a person.
    expected: as it is held, of the network that would have been derived.
    target: what the search aimed at, the same in every epoch. above, below: the prices (`budgets.hold`), in
        nats for 100 % of the target, of exceeding the budget and of falling short of it.
    value, met: of the derived network; None before there is one.
    """

    cost: str
    limit: str
    expected: Series
    target: Series
    above: Series
    below: Series
    value: str | None
    met: bool | None

    @property
    def note(self) -> str:
        """The budget, and what the derived network has."""
        if self.value is None:
            return f"{self.limit}; not derived yet"
        return f"{self.limit}; derived: {self.value}, {'met' if self.met else 'missed'}"


def budget_points(run: RunRecord) -> tuple[BudgetPoints, ...]:
    """Every budget that the configuration and the recorded epochs have."""
    texts = run.setting("budget")
    if not isinstance(texts, dict):
        return ()
    try:
        budgets = parse_all({str(cost): str(text) for cost, text in texts.items()})
    except UserError:  # written by a newer archgrad, or by hand
        return ()
    return tuple(_points(run, budget) for budget in budgets)


def _points(run: RunRecord, budget: Budget) -> BudgetPoints:
    epochs = [e for e in run.epochs if budget.cost in e.budgets]
    numbers = tuple(e.epoch for e in epochs)

    def series(name: str, key: str) -> Series:
        return Series(name, numbers, tuple(finite(e.budgets[budget.cost].get(key)) for e in epochs))

    checks = run.derivation.budgets if run.derivation else ()
    check = next((one for one in checks if one.cost == budget.cost), None)
    return BudgetPoints(
        budget.cost,
        str(budget),
        series("expected", "held"),
        Series("target", numbers, (budget.target,) * len(numbers)),
        series("of exceeding it", "price_above"),
        series("of falling short", "price_below"),
        None if check is None or check.value is None else budget.show(check.value),
        None if check is None else check.met,
    )
