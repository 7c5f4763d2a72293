"""Schedules: exact ends, shape, and the trap of compounding."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archgrad.schedules import SCHEDULES, constant, cosine, epoch_progress, exponential, linear

positive = st.floats(1e-4, 1e4)


def test_the_table_has_four_schedules() -> None:
    assert dict(SCHEDULES) == {
        "constant": constant,
        "linear": linear,
        "exponential": exponential,
        "cosine": cosine,
    }


@pytest.mark.parametrize("name", ["linear", "exponential", "cosine"])
@given(start=positive, end=positive)
def test_both_ends_are_exact(name: str, start: float, end: float) -> None:
    assert SCHEDULES[name](start, end, 0.0) == start
    assert SCHEDULES[name](start, end, 1.0) == end


@pytest.mark.parametrize("name", ["linear", "exponential", "cosine"])
@given(start=positive, end=positive, a=st.floats(0, 1), b=st.floats(0, 1))
def test_monotone_between_the_ends(name: str, start: float, end: float, a: float, b: float) -> None:
    low, high = sorted((a, b))
    first, second = (SCHEDULES[name](start, end, p) for p in (low, high))
    rounding = 1e-12 * max(start, end)
    assert (second - first) * math.copysign(1, end - start) >= -rounding


def test_values_by_hand() -> None:
    assert constant(1.0, 0.1, 1.0) == 1.0
    assert linear(10.0, 0.1, 0.25) == pytest.approx(10 - 9.9 / 4)
    assert exponential(10.0, 0.1, 0.25) == pytest.approx(10**0.5)
    assert cosine(0.025, 0.001, 1 / 3) == pytest.approx(0.001 + 0.024 * 0.75)


def test_exponential_is_one_factor_per_epoch() -> None:
    values = [exponential(5.0, 0.2, epoch_progress(e, 50)) for e in range(50)]
    ratios = [b / a for a, b in itertools.pairwise(values)]
    assert max(ratios) - min(ratios) < 1e-12


def test_progress_reaches_both_ends() -> None:
    assert epoch_progress(0, 50) == 0.0
    assert epoch_progress(49, 50) == 1.0
    assert epoch_progress(0, 1) == 1.0
    assert [linear(10.0, 0.1, epoch_progress(e, 250)) for e in (0, 249)] == [10.0, 0.1]  # GDAS


def test_the_compounding_trap() -> None:
    """τ ← τ·(1 − e/E) at every epoch is the product Π(1 − i/E), not the straight line it is taken for."""
    epochs, tau = 50, 10.0
    compounded = []
    for epoch in range(epochs):
        tau *= 1 - epoch / epochs
        compounded.append(tau)
    ours = [linear(10.0, 0.0, e / epochs) for e in range(epochs)]
    assert ours[10] == pytest.approx(10.0 * (1 - 10 / 50))
    assert compounded[10] < ours[10] / 2  # already less than half at a fifth of the search
    assert compounded[25] < 1e-2 * ours[25]
    product = math.prod(1 - i / epochs for i in range(26))
    assert compounded[25] == pytest.approx(10.0 * product)
    # and asking twice for the same epoch gives the same value here
    assert linear(10.0, 0.1, 0.5) == linear(10.0, 0.1, 0.5)
