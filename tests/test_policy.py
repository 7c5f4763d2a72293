"""Controllers, and the probability of what they draw. E choices × K candidates."""

import itertools
import math

import pytest
import torch

from archgrad.choice import Group, Sample
from archgrad.controllers import CONTROLLERS
from archgrad.controllers.independent import Independent
from archgrad.controllers.lstm import LSTM
from archgrad.errors import UserError
from archgrad.policy import Policy
from archgrad.samplers.binary_concrete import BinaryConcrete
from archgrad.samplers.gumbel_max import GumbelMax
from archgrad.samplers.straight_through import StraightThrough
from archgrad.samplers.uniform import Uniform

GROUPS = (Group(("a", "b", "c"), ("0", "1")), Group(("a", "b"), ("2",)))
SMALL = LSTM(hidden=5, layers=2)
CONTROLLED = {"independent": Independent(), "lstm": SMALL}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def policy(name="lstm", sampler=None):
    return Policy(GROUPS, sampler or GumbelMax(), CONTROLLED[name])


def theta_of(p, scale=2.0, dtype=torch.float64):
    found = p.controller.initial(GROUPS, generator(), scale, 0.0)
    return [t.detach().to(dtype).requires_grad_() for t in found]


def one_hot_samples(index):
    """Samples of an architecture, as indices in a row."""
    eye3, eye2 = torch.eye(3, dtype=torch.float64), torch.eye(2, dtype=torch.float64)
    return [Sample(torch.stack([eye3[index[0]], eye3[index[1]]])), Sample(eye2[index[2]].unsqueeze(0))]


ALL = list(itertools.product(range(3), range(3), range(2)))


def test_there_are_two_controllers():
    assert list(CONTROLLERS) == ["independent", "lstm"]


@pytest.mark.parametrize("name", CONTROLLED)
def test_theta_has_the_stated_shapes(name):
    controller = CONTROLLED[name]
    theta = controller.initial(GROUPS, generator(), 0.1, 0.0)
    assert [tuple(t.shape) for t in theta] == controller.shapes(GROUPS)
    assert all(t.requires_grad and t.is_leaf for t in theta)


@pytest.mark.parametrize("name", CONTROLLED)
def test_probabilities_of_all_architectures_sum_to_one(name):
    p = policy(name)
    theta = theta_of(p)
    total = sum(float(p.log_prob(theta, 1.0, one_hot_samples(a)).detach().exp()) for a in ALL)
    assert total == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("name", CONTROLLED)
def test_draws_are_as_probable_as_log_prob_says(name):
    from scipy.stats import chisquare

    p = policy(name)
    theta = [t.detach() for t in theta_of(p, scale=3.0)]
    # 20,000 draws at once: a leading dimension of independent searches
    many = [t.expand(20_000, *t.shape) for t in theta]
    drawn = p.draw(many, 1.0, generator(1))
    index = torch.cat([s.weights.argmax(dim=-1) for s in drawn], dim=-1)
    code = index[:, 0] * 6 + index[:, 1] * 2 + index[:, 2]
    observed = torch.bincount(code, minlength=18).double()
    wanted = torch.stack([p.log_prob(theta, 1.0, one_hot_samples(a)).exp() for a in ALL]) * 20_000
    assert chisquare(observed.numpy(), (wanted * 20_000 / wanted.sum()).numpy()).pvalue > 1e-4


def test_later_choices_of_an_lstm_depend_on_earlier_ones():
    p = policy("lstm")
    theta = theta_of(p, scale=3.0)
    given = {
        first: [float(p.log_prob(theta, 1.0, one_hot_samples((first, k, 0))).detach()) for k in range(3)]
        for first in (0, 1)
    }
    ratio = [given[first][0] - given[first][1] for first in (0, 1)]
    assert abs(ratio[0] - ratio[1]) > 1e-3
    independent = policy("independent")
    theta = theta_of(independent)
    ratio = [
        float(
            independent.log_prob(theta, 1.0, one_hot_samples((f, 0, 0)))
            - independent.log_prob(theta, 1.0, one_hot_samples((f, 1, 0)))
        )
        for f in (0, 1)
    ]
    assert ratio[0] == pytest.approx(ratio[1], abs=1e-12)


@pytest.mark.parametrize("name", CONTROLLED)
def test_a_batch_of_searches_is_each_search_alone(name):
    p = policy(name)
    alone = [theta_of(Policy(GROUPS, GumbelMax(), CONTROLLED[name]), scale=s) for s in (1.0, 2.0, 3.0)]
    batch = [torch.stack(tensors).detach() for tensors in zip(*alone, strict=True)]
    samples = p.draw(batch, 1.0, generator(3))
    together = p.log_prob(batch, 1.0, samples)
    assert together.shape == (3,)
    for s, theta in enumerate(alone):
        mine = [Sample(x.weights[s]) for x in samples]
        assert float(together[s]) == pytest.approx(float(p.log_prob(theta, 1.0, mine)), abs=1e-12)
        for a, b in zip(p.probabilities(batch), p.probabilities(theta), strict=True):
            torch.testing.assert_close(a[s], b.detach(), atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", CONTROLLED)
def test_probabilities_are_those_along_the_likeliest_architecture(name):
    p = policy(name)
    theta = theta_of(p, scale=3.0)
    rows = p.probabilities(theta)
    likeliest = [int(k) for r in rows for k in r.argmax(dim=-1)]
    product = math.prod(float(row.max()) for r in rows for row in r)
    assert float(p.log_prob(theta, 1.0, one_hot_samples(likeliest)).exp()) == pytest.approx(
        product, abs=1e-12
    )


@pytest.mark.parametrize("name", CONTROLLED)
def test_entropy_averages_to_that_of_the_architectures(name):
    p = policy(name)
    theta = theta_of(p, scale=3.0)
    probability = {a: float(p.log_prob(theta, 1.0, one_hot_samples(a)).exp()) for a in ALL}
    wanted = -sum(q * math.log(q) for q in probability.values())
    # the chain rule of entropy: E over draws of the sum of conditional entropies
    found = sum(q * float(p.entropy(theta, one_hot_samples(a))) for a, q in probability.items())
    assert found == pytest.approx(wanted, abs=1e-10)


def test_the_gradient_of_log_prob_through_the_lstm_equals_finite_differences():
    p = policy("lstm")
    theta = theta_of(p, scale=1.0)
    samples = one_hot_samples((2, 0, 1))
    found = torch.autograd.grad(
        p.log_prob(theta, 1.0, samples), theta, allow_unused=True, materialize_grads=True
    )
    for tensor, gradient in zip(theta, found, strict=True):
        flat = tensor.detach().view(-1)
        for i in range(0, flat.numel(), max(1, flat.numel() // 5)):
            values = []
            for sign in (1, -1):
                with torch.no_grad():
                    flat[i] += sign * 1e-6
                    values.append(float(p.log_prob(theta, 1.0, samples)))
                    flat[i] -= sign * 1e-6
            wanted = (values[0] - values[1]) / 2e-6
            assert float(gradient.view(-1)[i]) == pytest.approx(wanted, abs=1e-8)


def test_a_hard_sampler_keeps_one_candidate_active_under_an_lstm():
    p = policy("lstm", StraightThrough())
    theta = theta_of(p)
    first, second = p.draw(theta, 1.0, generator())
    assert first.one_hot
    assert first.active == tuple((int(k),) for k in first.weights.argmax(dim=-1))
    assert second.weights.shape == (1, 2)
    gradient = torch.autograd.grad(first.weights[1].square().sum(), theta, allow_unused=True)
    assert float(gradient[0].abs().sum()) > 0  # the second choice reaches back to what the LSTM began with


def test_what_ran_of_a_batch_is_joined_row_by_row():
    p = policy("lstm", BinaryConcrete(hard=True))
    theta = [torch.stack([t.detach(), t.detach()]) for t in theta_of(p)]
    first, second = p.draw(theta, 1.0, generator())
    assert first.ran.shape == first.weights.shape == (2, 2, 3)
    assert second.ran.shape == (2, 1, 2)
    assert bool(first.ran[first.weights > 0].all())


def test_a_sampler_without_log_prob_is_named():
    p = policy("independent", Uniform())
    theta = theta_of(p)
    if hasattr(Uniform, "log_prob"):
        pytest.skip("uniform knows its probability")
    with pytest.raises(UserError, match="Uniform does not say how probable"):
        p.log_prob(theta, 1.0, one_hot_samples((0, 0, 0)))


@pytest.mark.parametrize("setting", [{"hidden": 0}, {"temperature": math.nan}, {"layers": True}])
def test_bad_settings_of_the_lstm_are_named(setting):
    with pytest.raises(UserError, match=f"lstm: {next(iter(setting))} is a number above 0"):
        LSTM(**setting)
