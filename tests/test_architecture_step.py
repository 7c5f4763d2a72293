"""Regularizers, clipping and the step on the logits. S searches, E choices × K candidates."""

import math
from dataclasses import replace

import pytest
import torch

from archgrad.architecture_step import architecture_step
from archgrad.choice import Group
from archgrad.policy import Policy
from archgrad.regularizers import REGULARIZERS, decisiveness_penalty, exploration_bonus, zero_one
from archgrad.samplers.softmax import Softmax
from archgrad.search_state import SearchPlan, SearchState

GROUP = Group(("a", "b", "c"), ("0", "1"))
PLAN = SearchPlan(Policy((GROUP,), Softmax()), None, 1, lambda e: 1.0, lambda e: 0.1)


def state_of(logits):
    theta = [logits.clone().requires_grad_()]
    return SearchState(theta, None, torch.optim.SGD(theta, lr=1.0))


def test_the_two_entropies_are_opposite_and_say_their_direction():
    sure, unsure = torch.tensor([[0.98, 0.01, 0.01]]), torch.full((1, 3), 1 / 3)
    assert exploration_bonus([unsure]) < exploration_bonus([sure])
    assert decisiveness_penalty([unsure]) > decisiveness_penalty([sure])
    assert float(decisiveness_penalty([unsure])) == pytest.approx(math.log(3))
    assert len(REGULARIZERS) == 3


def test_zero_one_pulls_gates_apart():
    alpha = torch.tensor([[0.4, -0.4]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(zero_one([torch.sigmoid(alpha)]), alpha)
    s = torch.sigmoid(alpha.detach())
    torch.testing.assert_close(gradient, -(s - 0.5) * s * (1 - s), atol=1e-15, rtol=0)  # N = 2
    assert gradient[0, 0] < 0 < gradient[0, 1]  # a step of descent: up where open, down where closed


@pytest.mark.parametrize("name", REGULARIZERS)
@pytest.mark.parametrize("searches", [None, 4])
def test_a_regularizer_adds_its_gradient(name, searches):
    shape = (2, 3) if searches is None else (searches, 2, 3)
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    state = state_of(logits)
    plan = replace(PLAN, regularizer=lambda p: 0.7 * REGULARIZERS[name](p), searches=searches)
    architecture_step(state, plan, [torch.zeros_like(logits)])
    moved = state.logits[0].detach() - logits
    alpha = logits.clone().requires_grad_()
    rows = alpha if searches is None else alpha.unbind()
    total = 0.7 * sum(
        REGULARIZERS[name]([torch.softmax(a, dim=-1)]) for a in ([rows] if searches is None else rows)
    )
    (wanted,) = torch.autograd.grad(total, alpha)
    torch.testing.assert_close(moved, -wanted, atol=1e-14, rtol=0)
    assert float(wanted.abs().max()) > 1e-3


def test_each_search_is_clipped_by_its_own_norm():
    gradient = torch.zeros(3, 2, 3)
    gradient[0, 0, 0], gradient[1, 1, 2], gradient[2, 0, 1] = 0.5, 4.0, 30.0
    state = state_of(torch.zeros(3, 2, 3))
    norm = architecture_step(state, replace(PLAN, architecture_clip=2.0, searches=3), [gradient])
    assert norm == pytest.approx((0.5 + 4 + 30) / 3)
    assert state.logits[0].detach().flatten(1).norm(dim=1).tolist() == pytest.approx(
        [0.5, 2.0, 2.0], rel=1e-5
    )


def test_a_relative_clip_follows_the_scale_of_the_logits():
    gradient = [torch.full((2, 3), 10.0)]
    for scale in (1.0, 10.0):
        logits = torch.full((2, 3), scale)
        state = state_of(logits)
        architecture_step(state, replace(PLAN, relative_clip=0.1), gradient)
        step = (state.logits[0].detach() - logits).norm()
        assert float(step) == pytest.approx(0.1 * scale * math.sqrt(6), rel=1e-4)
    state = state_of(torch.zeros(2, 3))  # at zero it does not freeze
    architecture_step(state, replace(PLAN, relative_clip=0.1), gradient)
    assert float(state.logits[0].detach().norm()) == pytest.approx(1e-4, rel=1e-2)


def test_both_clips_take_the_smaller():
    gradient = [torch.full((2, 3), 10.0)]
    for most, wanted in ((0.01, 0.01), (100.0, 0.1 * math.sqrt(6))):
        state = state_of(torch.ones(2, 3))
        architecture_step(state, replace(PLAN, relative_clip=0.1, architecture_clip=most), gradient)
        assert float((state.logits[0].detach() - 1).norm()) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("searches", [None, 2])
def test_a_gradient_that_is_not_finite_moves_nothing(searches):
    shape = (2, 3) if searches is None else (2, 2, 3)
    gradient = torch.zeros(shape)
    gradient.view(-1)[1] = math.nan
    state = state_of(torch.ones(shape))
    assert architecture_step(state, replace(PLAN, searches=searches), [gradient]) is None
    assert torch.equal(state.logits[0].detach(), torch.ones(shape))


def test_a_sampler_may_rescale_after_the_step():
    class Rescaling(Softmax):
        def after_step(self, before, after):
            return after - (after - before).mean(dim=-1, keepdim=True)

    state = state_of(torch.zeros(2, 3))
    plan = replace(PLAN, policy=Policy((GROUP,), Rescaling()))
    architecture_step(state, plan, [torch.tensor([[3.0, 0, 0], [0, 0, 0]])])
    assert state.logits[0].tolist() == [[-2.0, 1.0, 1.0], [0.0, 0.0, 0.0]]
