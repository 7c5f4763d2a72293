"""What the laboratory says of estimators whose bias and variance are known."""

import dataclasses
import itertools

import pytest
import torch

from archgrad.lab import verdict
from archgrad.lab.contenders import line_up
from archgrad.lab.estimators import burn_in, estimate, no_bias, points
from archgrad.landscapes.build import build
from archgrad.landscapes.landscape import exact_gradient
from archgrad.landscapes.multilinear import MultilinearLandscape

LOGITS = torch.tensor([[0.3, -0.4], [0.1, 0.8]], dtype=torch.float64)


def one(sampler, hypergradient="first_order"):
    (contender,) = line_up(samplers=[sampler], hypergradients=[hypergradient], steps=1).contenders
    return contender


def two_by_two():
    """A landscape of four losses, their probabilities at LOGITS, and the scores ∇ log p of each."""
    table = torch.rand(2, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    p = torch.softmax(LOGITS, dim=-1)
    all_ = list(itertools.product(range(2), repeat=2))
    chances = torch.stack([p[0, a] * p[1, b] for a, b in all_])
    scores = torch.stack([torch.nn.functional.one_hot(torch.tensor(ab), 2) - p for ab in all_]).flatten(1)
    return MultilinearLandscape(table), table.flatten(), chances, scores


def test_of_few_draws_the_bias_is_free_of_their_noise():
    land, losses, chances, scores = two_by_two()
    exact = exact_gradient(land, LOGITS).flatten()
    noise = float(chances @ ((losses[:, None] * scores - exact) ** 2).sum(dim=1)) / float(exact @ exact)
    score = one("gumbel_max", "score_function(baseline=none)")
    found = [estimate(score, land, LOGITS, draws=20, seed=seed) for seed in range(150)]
    variance = sum(e.variance for e in found) / len(found)
    assert variance == pytest.approx(noise, rel=0.1)
    without = sum(e.bias == 0 for e in found) / len(found)
    assert 0.4 < without < 0.8  # its square has mean 0 and is skewed, cut off at 0
    assert sum(e.bias**2 for e in found) / len(found) < 0.6 * noise / 20


def test_a_moving_average_weighs_its_first_reward_no_more():
    """The variance is that of a baseline which is the mean reward and its stationary fluctuation."""
    land, losses, chances, scores = two_by_two()
    exact = exact_gradient(land, LOGITS).flatten()
    mean = float(chances @ losses)
    spread = float(chances @ (losses - mean) ** 2)
    for decay in (0.9, 0.99):
        average = spread * (1 - decay) / (1 + decay)
        second = chances @ (((losses - mean) ** 2 + average) * scores.square().sum(dim=1))
        wanted = float(second - exact @ exact) / float(exact @ exact)
        moving = one("gumbel_max", f"score_function(baseline=moving_average,decay={decay})")
        found = estimate(moving, land, LOGITS, draws=60_000)
        assert found.variance == pytest.approx(wanted, rel=0.03)
        assert decay ** burn_in(decay) < 0.0068
    assert burn_in(None) == burn_in(0.99) == 500


def test_the_error_of_a_bias_is_its_spread_over_seeds():
    land = build("pairwise", choices=3, candidates=3)
    logits = points(land, 0)["leaning"]
    biased = one("straight_through")
    found = [estimate(biased, land, logits, tau=0.5, draws=1_000, seed=seed) for seed in range(120)]
    bias = torch.tensor([e.bias for e in found])
    stated = sum(e.bias_error for e in found) / len(found)
    assert float(bias.mean()) > 5 * stated
    assert float(bias.std()) == pytest.approx(stated, rel=0.2)  # of 120: 6 %


def test_without_a_bias_the_test_of_it_is_as_rare_as_it_says():
    land = build("pairwise", choices=3, candidates=3)
    logits = points(land, 0)["leaning"]
    unbiased = one("reinmax")
    p = torch.tensor([estimate(unbiased, land, logits, draws=500, seed=s).bias_p for s in range(300)])
    for level in (0.05, 0.25, 0.5):
        assert abs(float((p <= level).double().mean()) - level) < 4 * (level * (1 - level) / 300) ** 0.5


def test_a_bias_below_the_noise_of_all_directions_is_found():
    land = build("nasbench201")
    logits = points(land, 0)["leaning"]
    slightly = estimate(one("decoupled_straight_through(backward_tau=1.05)"), land, logits, draws=20_000)
    assert slightly.bias < 2 * 1.96 * (slightly.variance / slightly.draws) ** 0.5 * 2
    assert slightly.bias_p < 1e-6
    assert not verdict.is_unbiased(dataclasses.asdict(slightly))
    exact = estimate(one("softmax"), land, logits, draws=10)
    assert exact.bias_p == 1.0


def test_the_p_value_of_a_distance_is_that_of_a_sum_of_squares():
    generator = torch.Generator().manual_seed(0)
    scales = torch.tensor([2.0, 1.0, 1.0, 0.5, 0.5, 0.5], dtype=torch.float64)
    drawn = scales * torch.randn(200_000, 6, generator=generator, dtype=torch.float64)
    distances = drawn.square().sum(dim=1)
    for share in (0.5, 0.1, 0.01, 0.001):
        at = float(distances.quantile(1 - share))
        assert no_bias(at, torch.diag(scales**2)) == pytest.approx(share, rel=0.1)
    assert no_bias(1e-8, torch.zeros(3, 3)) == 0.0
    assert no_bias(0.0, torch.zeros(3, 3)) == 1.0


def test_draws_at_another_temperature_are_measured_against_what_they_are_drawn_from():
    """With equal temperatures it is unbiased for softmax(α/τ) where the loss is linear in each choice."""
    land = build("separable", choices=3, candidates=3)
    logits = points(land, 0)["leaning"]
    same = estimate(one("decoupled_straight_through(backward_tau=3)"), land, logits, tau=3.0)
    assert same.bias_p > 0.01
    assert same.bias < 1e-5
    other = estimate(one("decoupled_straight_through(backward_tau=1)"), land, logits, tau=3.0)
    assert other.bias_p < 1e-9
