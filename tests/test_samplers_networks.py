"""Samplers inside a supernet: which candidates run, and the logits' gradients written out by hand."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from archgrad.choice import Pick, Supernet, supernet
from archgrad.errors import UserError
from archgrad.samplers.gumbel_noise import gumbel_noise
from archgrad.samplers.straight_through import StraightThrough

DOUBLE = torch.float64
ALPHA = torch.tensor([[0.4, -0.3, 0.8], [0.1, 0.6, -0.2]], dtype=DOUBLE)
X = torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def space(pick: Pick) -> nn.Module:
    """Two choices in a row with the same three candidates."""
    options = {
        "linear": lambda: nn.Linear(3, 3),
        "tanh": lambda: nn.Sequential(nn.Linear(3, 3), nn.Tanh()),
        "identity": nn.Identity,
    }
    return nn.Sequential(pick("first", options), pick("second", options))


@pytest.fixture
def network() -> Supernet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return supernet(space).double()


# --- straight-through: the two published gradients -----------------------------------------------


@pytest.mark.parametrize("unselected", ["nothing", "scalar"])
@pytest.mark.parametrize("seed", range(4))
def test_straight_through_has_both_published_gradients(
    network: Supernet, unselected: Literal["nothing", "scalar"], seed: int
) -> None:
    """dL/dα_i = Σ_j dL/dz_j · s_j(δ_ij − s_i)/τ with dL/dz written out: s the soft sample."""
    tau = 0.7
    alpha = ALPHA.clone().requires_grad_()
    sample = StraightThrough(unselected)(alpha, tau, seeded(seed))
    (found,) = torch.autograd.grad(network(X, [sample]).pow(3).sum(), alpha)

    assert sample.active is not None
    (k,), (m,) = sample.active
    first, second = (choice.options for choice in network.choices())
    y1 = first[k](X).detach().requires_grad_()
    y2 = second[m](y1)
    to_y2 = 3 * y2.detach().square()
    (to_y1,) = torch.autograd.grad(y2, y1, to_y2)
    soft = torch.softmax((ALPHA + gumbel_noise(ALPHA, seeded(seed))) / tau, dim=-1)
    for e, (drawn, y, to_y) in enumerate(((k, y1, to_y1), (m, y2, to_y2))):
        to_z = [(to_y * y).sum() if j == drawn else to_y.sum() for j in range(3)]
        if unselected == "nothing":
            to_z = [g if j == drawn else torch.zeros_like(g) for j, g in enumerate(to_z)]
        to_z = torch.stack(to_z).detach()
        wanted = soft[e] * (to_z - (soft[e] * to_z).sum()) / tau
        torch.testing.assert_close(found[e], wanted, rtol=1e-12, atol=1e-13)


def test_the_two_gradients_of_straight_through_differ_and_the_outputs_do_not(network: Supernet) -> None:
    found: list[Tensor] = []
    outputs: list[Tensor] = []
    for sampler in (StraightThrough(), StraightThrough("scalar")):
        alpha = ALPHA.clone().requires_grad_()
        outputs.append(network(X, [sampler(alpha, 1.0, seeded())]))
        found += torch.autograd.grad(outputs[-1].pow(3).sum(), alpha)
    assert torch.equal(*outputs)
    assert float((found[0] - found[1]).abs().max()) > 0.1


@pytest.mark.parametrize("wrong", ["all", "", None, True])
def test_what_the_unselected_add_is_checked(wrong: str) -> None:
    with pytest.raises(UserError, match=r"unselected is 'nothing' or 'scalar', got"):
        StraightThrough(wrong)  # type: ignore[arg-type]
