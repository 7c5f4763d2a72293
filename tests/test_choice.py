"""Choices and supernets: what runs, what gets a gradient, what is refused."""

from __future__ import annotations

import copy
from collections import Counter

import pytest
import torch
from torch import Tensor, nn

from archgrad.architecture import Architecture
from archgrad.choice import Choice, Group, Pick, Sample, Supernet, concrete, supernet
from archgrad.errors import UserError


def pair(pick: Pick) -> nn.Module:
    """Two choices with the same candidates, one of them used twice, and one with others."""
    options = {"narrow": lambda: nn.Linear(3, 3), "deep": lambda: nn.Sequential(nn.Linear(3, 3), nn.Tanh())}
    return nn.Sequential(
        pick("first", options),
        pick("second", options),
        pick("first", options),
        pick("third", {"in": nn.Identity, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh}),
    )


@pytest.fixture
def network() -> Supernet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return supernet(pair).double()


X = torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def mixed(network: Supernet) -> list[Sample]:
    generator = torch.Generator().manual_seed(2)
    logits = [torch.randn(len(g.names), len(g.candidates), generator=generator) for g in network.groups]
    return [Sample(torch.softmax(a.double(), dim=-1).requires_grad_()) for a in logits]


def calls_of(network: Supernet) -> Counter[str]:
    """Counts forward calls of candidates by ``choice/candidate``, from now on."""
    calls: Counter[str] = Counter()
    for choice in network.choices():
        for name, option in zip(choice.candidates, choice.options, strict=True):
            key = f"{choice.name}/{name}"
            option.register_forward_hook(lambda *_, key=key: calls.update([key]))
    return calls


def test_choices_with_the_same_candidates_are_one_group(network: Supernet) -> None:
    assert network.groups == (
        Group(("narrow", "deep"), ("first", "second")),
        Group(("in", "sigmoid", "tanh"), ("third",)),
    )
    assert [c.name for c in network.choices()] == ["first", "second", "first", "third"]
    assert [tuple(a.shape) for a in network.initial_logits(torch.Generator())] == [(2, 2), (1, 3)]


def test_choices_of_one_name_share_logits_but_not_parameters(network: Supernet) -> None:
    first, _, again, _ = network.choices()
    assert not torch.equal(first.options[0].weight, again.options[0].weight)
    assert len(list(network.parameters())) == 3 * 4


def test_logits_are_no_parameters_and_start_as_told(network: Supernet) -> None:
    logits = network.initial_logits(torch.Generator().manual_seed(0), scale=1e-3, mean=1.0)
    assert all(a.is_leaf and a.requires_grad for a in logits)
    everything = torch.cat([a.detach().flatten() for a in logits])
    assert 0 < float((everything - 1).abs().max()) < 5e-3
    again = network.initial_logits(torch.Generator().manual_seed(0), scale=1e-3, mean=1.0)
    assert all(torch.equal(a, b) for a, b in zip(logits, again, strict=True))


def test_a_choice_is_the_literal_sum(network: Supernet) -> None:
    samples = mixed(network)
    (z1, z2), (z3,) = (s.weights for s in samples)
    c1, c2, c3, _ = network.choices()
    h = z1[0] * c1.options[0](X) + z1[1] * c1.options[1](X)
    h = z2[0] * c2.options[0](h) + z2[1] * c2.options[1](h)
    h = z1[0] * c3.options[0](h) + z1[1] * c3.options[1](h)
    wanted = z3[0] * h + z3[1] * torch.sigmoid(h) + z3[2] * torch.tanh(h)
    torch.testing.assert_close(network(X, samples), wanted, rtol=0, atol=1e-15)
    leaves = [s.weights for s in samples] + list(network.parameters())
    ours = torch.autograd.grad(network(X, samples).square().sum(), leaves)
    for got, expected in zip(ours, torch.autograd.grad(wanted.square().sum(), leaves), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-14)


def test_inactive_candidates_are_not_executed(network: Supernet) -> None:
    calls = calls_of(network)
    architecture = Architecture({"first": "deep", "second": "narrow", "third": "sigmoid"})
    network(X, network.one_hot(architecture))
    assert calls == {"first/deep": 2, "second/narrow": 1, "third/sigmoid": 1}
    calls.clear()
    network(X, mixed(network))
    assert sum(calls.values()) == 2 * 3 + 3


def test_inactive_candidates_get_no_gradient(network: Supernet) -> None:
    samples = network.one_hot(Architecture({"first": "deep", "second": "narrow", "third": "sigmoid"}))
    samples = [s._replace(weights=s.weights.requires_grad_()) for s in samples]
    network(X, samples).sum().backward()
    for choice in network.choices():
        kept = {"first": "deep", "second": "narrow", "third": "sigmoid"}[choice.name]
        for name, option in zip(choice.candidates, choice.options, strict=True):
            assert all((p.grad is not None) == (name == kept) for p in option.parameters())
    for sample in samples:
        assert sample.weights.grad is not None
        assert torch.equal(sample.weights.grad != 0, sample.weights != 0)


def test_a_choice_outside_a_supernets_pass_is_refused(network: Supernet) -> None:
    choice = network.choices()[0]
    message = "choice 'first' ran outside Supernet.forward"
    with pytest.raises(RuntimeError, match=message):
        choice(X)
    network(X, mixed(network))
    with pytest.raises(RuntimeError, match=message):
        choice(X)  # no stale weights after a pass
    with pytest.raises(RuntimeError):
        network(X[:, :2], mixed(network))
    with pytest.raises(RuntimeError, match=message):
        choice(X)  # nor after one that failed


def test_samples_that_do_not_fit_are_refused_and_leave_nothing_behind(network: Supernet) -> None:
    good = mixed(network)
    wrong = [
        good[:1],
        [*good, good[0]],
        good[::-1],
        [Sample(good[0].weights[:1]), good[1]],
        [good[0], Sample(torch.ones(1, 4))],  # more weights than candidates
    ]
    for samples in wrong:
        with pytest.raises(UserError, match=r"need samples of shapes \[\(2, 2\), \(1, 3\)\] \(E, K\), got"):
            network(X, samples)
    with pytest.raises(ValueError, match="zip"):  # candidates for one choice of two
        network(X, [good[0]._replace(active=((0,),)), good[1]])
    with pytest.raises(RuntimeError, match=r"outside Supernet\.forward"):
        network.choices()[0](X)


def test_no_active_candidate_is_refused(network: Supernet) -> None:
    samples = mixed(network)
    with pytest.raises(RuntimeError, match="no active candidate for choice 'first'"):
        network(X, [samples[0]._replace(active=((), (0,))), samples[1]])


def test_a_copy_is_independent(network: Supernet) -> None:
    twin = copy.deepcopy(network)
    samples = mixed(network)
    torch.testing.assert_close(twin(X, samples), network(X, samples), rtol=0, atol=0)
    with torch.no_grad():
        next(twin.parameters()).add_(1.0)
    assert not torch.equal(twin(X, samples), network(X, samples))


def test_candidates_of_different_shapes_are_named() -> None:
    def space(pick: Pick) -> nn.Module:
        return pick("width", {"three": lambda: nn.Linear(3, 3), "four": lambda: nn.Linear(3, 4)})

    network = supernet(space)
    with pytest.raises(UserError) as caught:
        network(torch.ones(2, 3), [Sample(torch.full((1, 2), 0.5))])
    for part in ("'width'", "'four'", "(2, 4)", "(2, 3)"):
        assert part in str(caught.value)


def test_broadcasting_is_no_agreement() -> None:
    def space(pick: Pick) -> nn.Module:
        return pick("width", {"three": lambda: nn.Linear(3, 3), "one": lambda: nn.Linear(3, 1)})

    with pytest.raises(UserError, match="every candidate must give the same shape"):
        supernet(space)(torch.ones(2, 3), [Sample(torch.full((1, 2), 0.5))])


def test_a_name_with_other_candidates_is_refused() -> None:
    def space(pick: Pick) -> nn.Module:
        pick("op", {"a": nn.Identity, "b": nn.Tanh})
        return pick("op", {"a": nn.Identity, "c": nn.Tanh})

    with pytest.raises(
        UserError, match=r"choice 'op' is used with candidates \['a', 'b'\] and with \['a', 'c'\]"
    ):
        supernet(space)


def test_a_choice_without_candidates_and_a_space_without_choices() -> None:
    with pytest.raises(UserError, match="choice 'op' has no candidates"):
        supernet(lambda pick: pick("op", {}))
    with pytest.raises(UserError, match="the space made no choice"):
        supernet(lambda pick: nn.Identity())


def test_one_hot_needs_an_architecture_of_this_space(network: Supernet) -> None:
    with pytest.raises(UserError, match="no choice 'third'"):
        network.one_hot(Architecture({"first": "deep", "second": "deep"}))
    with pytest.raises(
        UserError, match="choice 'third' has no candidate 'sigmoids' - did you mean 'sigmoid'"
    ):
        network.one_hot(Architecture({"first": "deep", "second": "deep", "third": "sigmoids"}))


def test_one_hot_has_the_networks_dtype_and_works_without_parameters(network: Supernet) -> None:
    architecture = Architecture({"first": "deep", "second": "narrow", "third": "in"})
    samples = network.one_hot(architecture)
    assert [s.weights.dtype for s in samples] == [torch.float64] * 2
    assert samples[0].weights.tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert samples[0].active == ((1,), (0,))
    bare = supernet(lambda pick: pick("op", {"a": nn.Identity, "b": nn.Tanh}))
    assert torch.equal(bare(X, bare.one_hot(Architecture({"op": "b"}))), torch.tanh(X))


def test_concrete_builds_the_chosen_candidates_alone() -> None:
    network = concrete(pair, Architecture({"first": "deep", "second": "narrow", "third": "tanh"}))
    assert [type(m).__name__ for m in network] == ["Sequential", "Linear", "Sequential", "Tanh"]
    assert not any(isinstance(m, Choice) for m in network.modules())


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"first": "deep", "second": "deep"}, "has no choice 'third'"),
        ({"first": "deep", "second": "dep", "third": "in"}, "no candidate 'dep' - did you mean 'deep'"),
        ({"first": "deep", "second": "deep", "third": "in", "forth": "in"}, "no choice called 'forth'"),
    ],
)
def test_concrete_refuses_what_does_not_fit(choices: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        concrete(pair, Architecture(choices))


def test_printing_a_network_names_the_decision(network: Supernet) -> None:
    assert "'first', candidates=['narrow', 'deep']" in repr(network)


def test_scalar_weights_do_not_promote_the_activations() -> None:
    """bfloat16 activations with float32 weights stay bfloat16."""

    class Cast(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.bfloat16()

    network = supernet(lambda pick: nn.Sequential(Cast(), pick("op", {"a": nn.Identity, "b": nn.Tanh})))
    assert network(torch.ones(2, 3), [Sample(torch.full((1, 2), 0.5))]).dtype == torch.bfloat16


def test_a_one_hot_sample_has_the_gradients_of_the_product_to_second_order(network: Supernet) -> None:
    def derivatives(one_hot: bool) -> list[Tensor]:
        hard = [
            torch.nn.functional.one_hot(torch.zeros(len(g.names), dtype=torch.long), len(g.candidates))
            .double()
            .requires_grad_()
            for g in network.groups
        ]
        samples = [Sample(h, ((0,),) * len(h), one_hot) for h in hard]
        loss = network(X, samples).pow(3).sum()
        weights = [p for p in network.parameters() if p.requires_grad]
        first = torch.autograd.grad(
            loss, [*hard, *weights], create_graph=True, allow_unused=True, materialize_grads=True
        )
        length = sum(g.pow(2).sum() for g in first)
        second = torch.autograd.grad(length, [*hard, *weights], allow_unused=True, materialize_grads=True)
        return [loss, *first, *second]

    for ours, product in zip(derivatives(True), derivatives(False), strict=True):
        torch.testing.assert_close(ours, product, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("one_hot", [True, False])
def test_inactive_weights_are_added_as_scalars(network: Supernet, one_hot: bool) -> None:
    """z_k·op_k(x) + Σ_{j≠k} z_j with z_j exactly 0: the output of the drawn candidates alone, by value."""
    hard = [torch.eye(2, 2, dtype=torch.float64), torch.eye(3, dtype=torch.float64)[1:2]]
    z1, z2 = hard = [h.requires_grad_() for h in hard]
    active = [((0,), (1,)), ((1,),)]
    samples = [Sample(h, a, one_hot, True) for h, a in zip(hard, active, strict=True)]
    c1, c2, c3, _ = network.choices()
    h = z1[0, 0] * c1.options[0](X) + z1[0, 1]
    h = z1[1, 0] + z1[1, 1] * c2.options[1](h)
    h = z1[0, 0] * c3.options[0](h) + z1[0, 1]
    wanted = z2[0, 0] + z2[0, 1] * torch.sigmoid(h) + z2[0, 2]
    output = network(X, samples)
    assert torch.equal(output, wanted)
    assert torch.equal(output, network(X, [Sample(h.detach(), a, one_hot) for h, a, *_ in samples]))
    ours = torch.autograd.grad(output.pow(3).sum(), hard)
    for got, expected in zip(ours, torch.autograd.grad(wanted.pow(3).sum(), hard), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-14)
        assert bool((got != 0).all())


def test_scalars_run_nothing_more_and_cost_nothing_without_a_gradient(network: Supernet) -> None:
    calls = calls_of(network)
    samples = network.one_hot(Architecture({"first": "deep", "second": "narrow", "third": "sigmoid"}))
    marked = [s._replace(weights=s.weights.requires_grad_(), inactive_as_scalars=True) for s in samples]
    network(X, marked).sum().backward()
    assert calls == {"first/deep": 2, "second/narrow": 1, "third/sigmoid": 1}
    for sample in marked:
        assert bool((sample.weights.grad != 0).all())
