"""Samplers inside a supernet: which candidates run, and the logits' gradients written out by hand."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from archgrad.choice import Pick, Supernet, supernet
from archgrad.errors import UserError
from archgrad.samplers.gumbel_noise import gumbel_noise
from archgrad.samplers.score_gate import ScoreGate
from archgrad.samplers.straight_through import StraightThrough
from archgrad.samplers.two_path import TwoPath

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


# --- two paths and the score gate ----------------------------------------------------------------


def test_the_second_of_two_paths_runs_for_its_gradient_alone(network: Supernet) -> None:
    """The output is the chosen candidate's; dα_i = Σ_j (dL/dg_j) q_j (δ_ij − q_i), both g known."""
    for seed in range(8):
        alpha = ALPHA.clone().requires_grad_()
        sample = TwoPath()(alpha, 1.0, seeded(seed))
        (found,) = torch.autograd.grad(network(X, [sample]).pow(3).sum(), alpha)
        assert sample.active is not None
        (k, j), (m, n) = sample.active
        first, second = (choice.options for choice in network.choices())
        y1 = first[k](X).detach().requires_grad_()
        y2 = second[m](y1)
        to_y2 = 3 * y2.detach().square()
        (to_y1,) = torch.autograd.grad(y2, y1, to_y2)
        pairs = ((k, j, to_y1, y1, first[j](X)), (m, n, to_y2, y2, second[n](y1)))
        for e, (chosen, other, to_y, y, y_other) in enumerate(pairs):
            p = torch.softmax(ALPHA[e], dim=-1)
            q = p[chosen] / (p[chosen] + p[other])
            push = q * (1 - q) * ((to_y * y).sum() - (to_y * y_other).sum()).detach()
            wanted = torch.zeros(3, dtype=DOUBLE)
            wanted[chosen], wanted[other] = push, -push
            torch.testing.assert_close(found[e], wanted, rtol=1e-12, atol=1e-13)
        with torch.no_grad():
            assert torch.equal(network(X, [sample]), second[m](first[k](X)))


def test_a_step_on_the_weights_runs_one_of_two_paths(network: Supernet) -> None:
    calls: list[int] = []
    for choice in network.choices():
        for option in choice.options:
            option.register_forward_hook(lambda *_: calls.append(1))
    network(X, [TwoPath()(ALPHA, 1.0, seeded())])
    assert len(calls) == 2
    network(X, [TwoPath()(ALPHA.clone().requires_grad_(), 1.0, seeded())])
    assert len(calls) == 2 + 4


def test_score_gate_rewards_the_log_probability_by_the_gradient_of_the_gate(network: Supernet) -> None:
    """dL/dα = (Σ dL/dy · y)·(e_k − p): the gate's gradient of the drawn candidate k as its reward."""
    alpha = ALPHA.clone().requires_grad_()
    sample = ScoreGate()(alpha, 1.0, seeded(1))
    (found,) = torch.autograd.grad(network(X, [sample]).pow(3).sum(), alpha)
    assert sample.active is not None
    (k,), (m,) = sample.active
    first, second = (choice.options for choice in network.choices())
    y1 = first[k](X).detach().requires_grad_()
    y2 = second[m](y1)
    to_y2 = 3 * y2.detach().square()
    (to_y1,) = torch.autograd.grad(y2, y1, to_y2)
    p = torch.softmax(ALPHA, dim=-1)
    for e, (drawn, reward) in enumerate(((k, (to_y1 * y1).sum()), (m, (to_y2 * y2).sum()))):
        wanted = reward.detach() * (torch.eye(3, dtype=DOUBLE)[drawn] - p[e])
        torch.testing.assert_close(found[e], wanted, rtol=1e-12, atol=1e-13)
