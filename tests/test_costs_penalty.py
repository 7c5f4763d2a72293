"""The penalty on the expected cost."""

from __future__ import annotations

import math

import pytest
import torch

from archgrad.choice import Group
from archgrad.costs.cost_table import CostTable
from archgrad.costs.penalty import STRENGTHS, Penalty
from archgrad.errors import UserError


def table(scale: float = 1.0) -> CostTable:
    return CostTable(
        name="macs",
        unit="MACs",
        fixed=10.0 * scale,
        choices=(Group(("a", "b"), ("x", "y")), Group(("c",), ("z",))),
        groups=(
            torch.tensor([[0.0, 30.0], [5.0, 20.0]], dtype=torch.float64) * scale,
            torch.tensor([[40.0]], dtype=torch.float64) * scale,
        ),
    )


WEIGHTS = [
    torch.tensor([[0.25, 0.75], [0.5, 0.5]], dtype=torch.float64),
    torch.tensor([[1.0]], dtype=torch.float64),
]


def test_value_by_hand() -> None:
    # 10 + 22.5 + 12.5 + 40 of at most 100
    assert float(Penalty(table(), 0.3)(WEIGHTS)) == pytest.approx(0.3 * 0.85)


def test_the_dearest_architecture_pays_the_strength() -> None:
    dearest = [torch.tensor([[0.0, 1.0], [0.0, 1.0]]), torch.tensor([[1.0]])]
    assert float(Penalty(table(), 0.7)(dearest)) == pytest.approx(0.7)


def test_it_has_no_unit() -> None:
    assert float(Penalty(table(1e6), 0.3)(WEIGHTS)) == pytest.approx(float(Penalty(table(), 0.3)(WEIGHTS)))


def test_its_gradient_is_the_cost_of_each_candidate() -> None:
    z = [w.clone().requires_grad_() for w in WEIGHTS]
    Penalty(table(), 0.5)(z).backward()
    for weight, costs in zip(z, table().groups, strict=True):
        assert torch.allclose(weight.grad, 0.5 * costs / 100)


def test_strengths_are_three_and_rise() -> None:
    assert list(STRENGTHS) == ["mild", "moderate", "aggressive"]
    assert sorted(STRENGTHS.values()) == list(STRENGTHS.values())
    assert len(set(STRENGTHS.values())) == 3


@pytest.mark.parametrize("strength", [-0.1, math.nan, math.inf])
def test_a_strength_is_a_number_of_at_least_zero(strength: float) -> None:
    with pytest.raises(UserError, match="named ones: mild"):
        Penalty(table(), strength)


def test_a_cost_that_all_architectures_share_is_refused() -> None:
    same = CostTable("macs", "MACs", 7.0, (Group(("a", "b"), ("x",)),), (torch.ones(1, 2).double(),))
    with pytest.raises(UserError, match="every architecture of this space costs 8 MACs"):
        Penalty(same, 0.1)
