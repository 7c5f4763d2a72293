"""Budgets as they are written."""

from __future__ import annotations

import doctest

import pytest

from archgrad.budgets import budget
from archgrad.budgets.budget import Budget, Range, as_setting, parse_all
from archgrad.errors import UserError


@pytest.mark.parametrize(
    ("text", "cost", "least", "most"),
    [
        ("macs=60M", "macs", None, 60e6),
        ("macs = 60 M", "macs", None, 60e6),
        ("params=1M", "parameters", None, 1e6),
        ("macs=60M±3%", "macs", 58.2e6, 61.8e6),
        ("macs=60M+-3%", "macs", 58.2e6, 61.8e6),
        ("macs=60M+/-3%", "macs", 58.2e6, 61.8e6),
        ("macs=.5G±20M", "macs", 480e6, 520e6),
        ("latency=2ms", "latency", None, 2.0),
        ("latency=1.5s±100ms", "latency", 1400.0, 1600.0),
        ("latency=250us", "latency", None, 0.25),
        ("latency=250µs", "latency", None, 0.25),
        ("latency_ms_raspi4=20ms", "latency_ms_raspi4", None, 20.0),
        ("my_module:ENERGY=3k", "my_module:ENERGY", None, 3e3),
    ],
)
def test_what_is_read(text: str, cost: str, least: float | None, most: float) -> None:
    found = Budget.parse(text)
    assert (found.cost, found.table) == (cost, None)
    assert found.most == pytest.approx(most)
    assert (found.least is None) == (least is None)
    assert found.least is None or found.least == pytest.approx(least)


def test_a_table_is_named_behind_the_value() -> None:
    found = Budget.parse("latency=2ms±5%@tables/phone.json")
    assert found.table == "tables/phone.json"
    assert found.target == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("macs", "wanted cost=value"),
        ("=60M", "wanted cost=value"),
        ("macs=60", "has no unit; write one of k, M, G"),
        ("latency=2", "has no unit; write one of us, ms, s"),
        ("macs=60X", "unknown unit 'X'; known here: k, M, G"),
        ("macs=60ms", "unknown unit 'ms'; known here: k, M, G"),
        ("latency=2M", "unknown unit 'M'; known here: us, ms, s"),
        ("macs=60m", "unknown unit 'm'"),
        ("mcas=60M", "unknown cost 'mcas'"),
        ("macs=M", "is no number with a unit"),
        ("macs=-60M", "is no number with a unit"),
        ("macs=nanM", "is no number with a unit"),
        ("macs=0M", "above 0"),
        ("macs=1e400M", "finite number"),
        ("macs=60M±0%", "a tolerance is above 0"),
        ("macs=60M±100%", "below the value"),
        ("macs=60M±", "is no number"),
        ("macs=60M±3", "has no unit"),
        ("macs=20M..200M", "a range is for a sweep"),
        ("latency=2ms@", "after @"),
    ],
)
def test_what_is_refused(text: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        Budget.parse(text)


def test_excess_is_relative_to_the_target() -> None:
    limit, band = Budget.parse("macs=100M"), Budget.parse("macs=100M±10%")
    assert (limit.excess(1e6), limit.met(1e6)) == (0.0, True)
    assert limit.excess(120e6) == pytest.approx(0.2)
    assert band.excess(120e6) == pytest.approx(0.1)
    assert band.excess(80e6) == pytest.approx(-0.1)
    assert band.met(90e6)
    assert band.met(110e6)
    assert not band.met(110.1e6)
    assert not band.met(89.9e6)
    assert not limit.met(float("nan"))


def test_a_range_is_cut_into_equal_factors() -> None:
    limits = Range.parse("latency=2ms..18ms").limits(3)
    assert [b.most for b in limits] == pytest.approx([2.0, 6.0, 18.0])
    assert all(b.least is None for b in limits)


@pytest.mark.parametrize(
    ("text", "says"),
    [("macs=20M", "two ends"), ("macs=20M..10M", "below the second"), ("macs=20..200M", "no unit")],
)
def test_ranges_that_are_none(text: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        Range.parse(text)


def test_a_sweep_has_two_points() -> None:
    with pytest.raises(UserError, match="two points or more, got 1"):
        Range.parse("macs=20M..200M").limits(1)


def test_one_budget_a_cost() -> None:
    assert parse_all({"macs": "1M", "params": "2k"})[1].cost == "parameters"
    with pytest.raises(UserError, match="two budgets for 'parameters'"):
        parse_all({"params": "1M", "parameters": "2k"})
    with pytest.raises(UserError, match="two budgets for 'macs'"):
        as_setting(("macs=1M", "macs=2M"))
    with pytest.raises(UserError, match="wanted cost=value"):
        as_setting(("macs",))


def test_examples() -> None:
    assert doctest.testmod(budget).failed == 0
