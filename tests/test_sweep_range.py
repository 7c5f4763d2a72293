"""Ranges of targets, and budgets written back as a configuration has them."""

from __future__ import annotations

import pytest

from archgrad.budgets.budget import Budget, Range
from archgrad.errors import UserError
from archgrad.verbs.sweep import sweep_landscape


@pytest.mark.parametrize("text", ["macs=20M..80M±5%", "macs=20M..80M+-5%", "macs=20M..80M+/-5%"])
def test_a_range_of_targets(text: str) -> None:
    targets = Range.parse(text).limits(3)
    assert [b.target for b in targets] == pytest.approx([20e6, 40e6, 80e6])
    assert [b.most for b in targets] == pytest.approx([21e6, 42e6, 84e6])
    assert [b.least for b in targets] == pytest.approx([19e6, 38e6, 76e6])


@pytest.mark.parametrize("share", ["", "5", "5M", "0%", "100%", "-5%", "five%"])
def test_tolerances_that_are_none(share: str) -> None:
    with pytest.raises(UserError, match="share of each target"):
        Range.parse(f"macs=20M..80M±{share}")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("macs=60M±3%", "60M±1.8M"),
        ("params=1234567", None),
        ("params=0.5M", "500k"),
        ("params=20", None),
        ("params=0.02k", "0.02k"),
        ("latency=2ms@phone.json", "2ms@phone.json"),
        ("latency=0.25ms@phone.json", "250us@phone.json"),
        ("traffic=3.5MB±500kB", "3.5MB±0.5MB"),
        ("file_size=12B", "12B"),
        ("macs=1.23456789G", "1.23457G"),
    ],
)
def test_budgets_as_a_configuration_has_them(text: str, written: str | None) -> None:
    if written is None:  # no unit
        with pytest.raises(UserError):
            Budget.parse(text)
        return
    budget = Budget.parse(text)
    assert budget.written() == (budget.cost, written)
    again = Budget.parse("=".join(budget.written()))
    assert again.most == pytest.approx(budget.most, rel=5e-6)
    assert again.table == budget.table
    assert (again.least is None) == (budget.least is None)


def test_the_ends_of_a_range_stay_what_was_given() -> None:
    for text in ("macs=0.5M..3M", "params=120.5k..1.25M", "latency=0.7ms..12ms@t.json"):
        limits = Range.parse(text).limits(4)
        for limit in (limits[0], limits[-1]):
            assert Budget.parse("=".join(limit.written())).most == pytest.approx(limit.most, rel=1e-12)


def test_a_landscape_has_limits_from_above(tmp_path) -> None:
    with pytest.raises(UserError, match="leave the tolerance out"):
        sweep_landscape("macs=20M..200M±5%", tmp_path / "out", points=2)
