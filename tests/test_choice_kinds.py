"""Choices that may be dropped, weights of which nothing is chosen, nested choices, several inputs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from archgrad.architecture import Architecture
from archgrad.choice import Blend, Droppable, Group, Pick, Sample, concrete, supernet
from archgrad.controllers.lstm import LSTM
from archgrad.derive import derive
from archgrad.errors import UserError
from archgrad.policy import Policy
from archgrad.samplers.gumbel_max import GumbelMax
from archgrad.samplers.softmax import Softmax
from archgrad.samplers.straight_through import StraightThrough
from archgrad.samplers.two_path import TwoPath


class Times(nn.Module):
    """x · factor."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class Zeros(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


class Second(nn.Module):
    """Its i-th input."""

    def __init__(self, i: int):
        super().__init__()
        self.i = i

    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[self.i]


def factors(*values: float) -> dict[str, Callable[[], nn.Module]]:
    return {f"x{v:g}": partial(Times, v) for v in values}


X = torch.tensor([[1.0, -2.0]], dtype=torch.float64)


class Cell(nn.Module):
    """One node of two droppable edges, weighed."""

    def __init__(self, pick: Pick):
        super().__init__()
        self.edges = nn.ModuleList(
            pick(f"cell/2<-{i}", Droppable(factors(2, 3), dropped=Zeros)) for i in range(2)
        )
        self.blend = pick("cell/2", Blend({"0": partial(Second, 0), "1": partial(Second, 1)}))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.blend(*(edge(x) for edge in self.edges))
        return y


def row(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def test_a_blend_is_a_group_of_its_own_and_weighs_its_inputs() -> None:
    network = supernet(Cell)
    assert network.groups == (
        Group(("x2", "x3"), ("cell/2<-0", "cell/2<-1"), "droppable"),
        Group(("0", "1"), ("cell/2",), "blend"),
    )
    samples = [Sample(torch.tensor([[0.5, 0.5], [1.0, 0.0]], dtype=torch.float64)), Sample(row(0.25, 0.75))]
    assert torch.allclose(network(X, samples), X * (0.25 * 2.5 + 0.75 * 2.0), atol=1e-12, rtol=0)


@pytest.mark.parametrize("chosen", [("x2", "x3"), ("none", "x3"), ("none", "none")])
def test_at_one_hot_weights_a_blend_is_a_sum_and_dropped_edges_are_zero(chosen: tuple[str, str]) -> None:
    architecture = Architecture({"cell/2<-0": chosen[0], "cell/2<-1": chosen[1]})
    network, built = supernet(Cell), concrete(Cell, architecture)
    samples = network.one_hot(architecture)
    wanted = X * sum({"x2": 2.0, "x3": 3.0, "none": 0.0}[c] for c in chosen)
    assert torch.equal(network(X, samples), wanted)
    assert torch.equal(built(X), wanted)
    everything = [Sample(s.weights) for s in samples]  # nothing is active by itself
    assert torch.equal(network(X, everything), wanted)
    assert len(list(built.parameters())) == sum(c != "none" for c in chosen)


def test_none_is_refused_where_a_choice_is_not_droppable() -> None:
    with pytest.raises(UserError, match="has no candidate 'none'"):
        concrete(lambda pick: pick("a", factors(2, 3)), Architecture({"a": "none"}))
    network = supernet(lambda pick: pick("a", factors(2, 3)))
    with pytest.raises(UserError, match="has no candidate 'none'"):
        network.one_hot(Architecture({"a": "none"}))


def test_a_name_is_of_one_kind() -> None:
    def space(pick: Pick) -> nn.Module:
        return nn.Sequential(pick("a", factors(2, 3)), pick("a", Droppable(factors(2, 3), dropped=Zeros)))

    with pytest.raises(UserError, match="used as a choice and as a droppable"):
        supernet(space)
    with pytest.raises(UserError, match="made no choice"):
        supernet(lambda pick: pick("a", Blend(factors(2, 3))))


def test_whatever_the_sampler_a_blends_weights_are_the_softmax_and_have_its_gradient() -> None:
    groups = supernet(Cell).groups
    theta = [torch.zeros(2, 2, requires_grad=True), torch.tensor([[0.3, -1.0]], requires_grad=True)]
    for sampler in (Softmax(), StraightThrough(), GumbelMax()):
        policy = Policy(groups, sampler)
        drawn = policy.draw(theta, 0.1, torch.Generator().manual_seed(0))[1]
        assert drawn.active is None
        assert not drawn.one_hot
        assert torch.equal(drawn.weights, torch.softmax(theta[1], dim=-1))
        assert torch.equal(policy.probabilities(theta)[1], torch.softmax(theta[1], dim=-1))
        (gradient,) = torch.autograd.grad(drawn.weights[0, 0], theta[1])
        p = torch.softmax(theta[1], dim=-1)[0, 0]
        assert torch.allclose(gradient, torch.stack([p * (1 - p), -p * (1 - p)])[None])


def test_what_cannot_learn_a_blend_says_so() -> None:
    groups = supernet(Cell).groups
    with pytest.raises(UserError, match="controller 'independent'"):
        Policy(groups, GumbelMax(), LSTM())
    policy = Policy(groups, GumbelMax())
    theta = [torch.zeros(2, 2), torch.zeros(1, 2)]
    samples = policy.draw(theta, 1.0, torch.Generator().manual_seed(0))
    with pytest.raises(UserError, match="edge normalisation"):
        policy.log_prob(theta, 1.0, samples)
    with pytest.raises(UserError, match="independent"):
        Policy(groups, TwoPath(), LSTM())


def test_the_darts_rule_ranks_edges_by_probability_times_weight() -> None:
    """Edges 0..2 of one node with α-probabilities 0.6, 0.7, 0.8; the weights turn the order round."""
    groups = (
        Group(("skip_connect", "sep_conv_3x3"), tuple(f"cell/4<-{i}" for i in range(3)), "droppable"),
        Group(("0", "1", "2"), ("cell/4",), "blend"),
    )
    alpha = torch.tensor([[0.6, 0.4], [0.7, 0.3], [0.2, 0.8]])
    by_alpha = derive(groups, [alpha, torch.tensor([[1 / 3, 1 / 3, 1 / 3]])], "darts").architecture
    assert [by_alpha[f"cell/4<-{i}"] for i in range(3)] == ["none", "skip_connect", "sep_conv_3x3"]
    weighed = derive(groups, [alpha, torch.tensor([[0.6, 0.3, 0.1]])], "darts").architecture  # .36 .21 .08
    assert [weighed[f"cell/4<-{i}"] for i in range(3)] == ["skip_connect", "skip_connect", "none"]
    assert "cell/4" not in derive(groups, [alpha, torch.tensor([[0.6, 0.3, 0.1]])], "argmax").architecture


# --- nested choices, the same choice in several places, several inputs


class Nested(nn.Module):
    """An outer choice, one candidate of which makes an inner choice, used twice."""

    def __init__(self, pick: Pick):
        super().__init__()
        inner = factors(5, 7)
        self.outer = pick(
            "outer",
            {
                "plain": partial(Times, 2.0),
                "deep": lambda: nn.Sequential(pick("inner", inner), Times(1.0), pick("inner", inner)),
            },
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.outer(x)
        return y


def test_nested_choices_mix_and_derive_and_build() -> None:
    network = supernet(Nested)
    assert [g.names for g in network.groups] in ([("inner",), ("outer",)], [("outer",), ("inner",)])
    weights = {"outer": row(0.25, 0.75), "inner": row(0.5, 0.5)}
    samples = [Sample(weights[g.names[0]]) for g in network.groups]
    assert torch.allclose(network(X, samples), X * (0.25 * 2 + 0.75 * 36), atol=1e-12, rtol=0)
    for outer, inner, factor in (("plain", "x5", 2.0), ("deep", "x5", 25.0), ("deep", "x7", 49.0)):
        architecture = Architecture({"outer": outer, "inner": inner})
        assert torch.equal(concrete(Nested, architecture)(X), X * factor)
        assert torch.equal(network(X, network.one_hot(architecture)), X * factor)


def test_an_architecture_may_leave_out_or_name_choices_that_are_not_built_but_no_others() -> None:
    assert torch.equal(concrete(Nested, Architecture({"outer": "plain"}))(X), X * 2)
    with pytest.raises(UserError, match="makes no choice called 'inmer'"):
        concrete(Nested, Architecture({"outer": "plain", "inmer": "x5"}))
    with pytest.raises(UserError, match="has no choice 'inner'"):
        concrete(Nested, Architecture({"outer": "deep"}))


def test_a_choice_of_input() -> None:
    class Space(nn.Module):
        def __init__(self, pick: Pick):
            super().__init__()
            self.source = pick("source", {"left": partial(Second, 0), "right": partial(Second, 1)})

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.source(x, 10 * x)
            return y

    network = supernet(Space)
    assert torch.allclose(network(X, [Sample(row(0.5, 0.5))]), 5.5 * X)
    assert torch.equal(concrete(Space, Architecture({"source": "right"}))(X), 10 * X)
