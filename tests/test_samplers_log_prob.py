"""log_prob: densities that integrate to 1, probabilities that sum to 1, and what they are of the draws."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from archgrad.samplers import SAMPLERS
from archgrad.samplers.gumbel_softmax import GumbelSoftmax
from archgrad.samplers.log_prob import concrete_log_prob, one_hot_log_prob
from archgrad.samplers.sampler import law_of

DOUBLE = torch.float64
ALPHA = torch.tensor([0.4, -0.3, 0.8, 0.1], dtype=DOUBLE)
KNOWN = [name for name in SAMPLERS if hasattr(SAMPLERS[name], "log_prob")]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_who_knows_the_probability_of_a_draw() -> None:
    assert KNOWN == [
        "gumbel_softmax",
        "straight_through",
        "gumbel_max",
        "reinmax",
        "gumbel_rao",
        "decoupled_straight_through",
        "score_gate",
        "two_path",
    ]


def test_who_draws_from_softmax_and_whose_probability_depends_on_the_temperature() -> None:
    """That each declares the truth of itself is the contract's business."""
    plain = {name for name in SAMPLERS if getattr(SAMPLERS[name], "draws_from_softmax", False)}
    assert plain == {"straight_through", "gumbel_max", "reinmax", "gumbel_rao", "score_gate"}
    warm = {name for name in KNOWN if SAMPLERS[name].log_prob_uses_temperature}
    assert warm == {"gumbel_softmax", "decoupled_straight_through"}
    steps = {name for name in SAMPLERS if getattr(SAMPLERS[name], "needs_plain_steps", False)}
    assert steps == {name for name in SAMPLERS if hasattr(SAMPLERS[name], "after_step")} == {"two_path"}


# --- one-hot draws -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in KNOWN if name != "gumbel_softmax"])
@pytest.mark.parametrize("tau", [0.5, 1.0, 3.0])
def test_the_probability_of_a_one_hot_draw_is_what_the_law_says(name: str, tau: float) -> None:
    """exp(log_prob(e_k)) = probabilities(α)_k, of α/τ under the tempered law; shapes [..., E]."""
    sampler = SAMPLERS[name]()
    logits = torch.stack([ALPHA, ALPHA.flip(0)]).expand(3, 2, 4)
    followed = logits / tau if law_of(sampler) == "tempered argmax" else logits
    found = torch.stack(
        [sampler.log_prob(logits, tau, torch.eye(4, dtype=DOUBLE)[k].expand(3, 2, 4)) for k in range(4)], -1
    )
    torch.testing.assert_close(found.exp(), sampler.probabilities(followed), rtol=0, atol=1e-15)
    drawn = sampler(logits, tau, seeded(1)).weights
    assert sampler.log_prob(logits, tau, drawn).shape == (3, 2)


def test_the_gradient_is_the_score_and_none_goes_to_the_draw() -> None:
    """∇ log p_k = e_k − p, also for weights that carry a graph of their own."""
    logits = ALPHA[None].clone().requires_grad_()
    for name in ("straight_through", "score_gate", "reinmax"):
        sampler = SAMPLERS[name]()
        weights = sampler(logits, 0.5, seeded(2)).weights
        (found,) = torch.autograd.grad(sampler.log_prob(logits, 0.5, weights).sum(), logits)
        wanted = weights.detach() - torch.softmax(ALPHA, dim=-1)
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-15)


# --- the Concrete distribution -------------------------------------------------------------------


@pytest.mark.parametrize("tau", [0.3, 1.0, 2.5])
def test_the_density_integrates_to_one_for_two_candidates(tau: float) -> None:
    """Over z_0 in (0, 1), by the substitution z_0 = σ(t): dz = z(1 − z) dt, trapezoids in t."""
    t = torch.linspace(-60, 60, 400_001, dtype=DOUBLE) / tau
    z = torch.stack([torch.sigmoid(t), torch.sigmoid(-t)], dim=-1)
    density = concrete_log_prob(ALPHA[:2].expand_as(z), tau, z).exp()
    assert float(torch.trapezoid(density * z.prod(-1), t)) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("tau", [0.7, 1.0, 2.0])
def test_the_density_integrates_to_one_for_three_candidates(tau: float) -> None:
    """Over (z_0, z_1), z = softmax(s, t, 0), of Jacobian z_0·z_1·z_2: a sum over a grid of steps of 0.05."""
    s = torch.arange(-40, 40, 0.05, dtype=DOUBLE) / tau
    logits = torch.stack([*torch.meshgrid(s, s, indexing="ij"), torch.zeros(len(s), len(s))], dim=-1)
    z = torch.softmax(logits, dim=-1)
    density = (concrete_log_prob(ALPHA[:3].expand_as(z), tau, z) + z.log().sum(-1)).exp()
    assert float(density.sum() * (0.05 / tau) ** 2) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("tau", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("candidates", [2, 5, 40])
def test_the_density_is_that_of_torch_and_so_is_its_gradient(tau: float, candidates: int) -> None:
    logits = torch.randn(3, 4, candidates, generator=seeded(1), dtype=DOUBLE, requires_grad=True)
    z = GumbelSoftmax()(logits, tau, seeded(2)).weights.detach()
    # inside the simplex, where no weight has rounded to 0 and the reference is finite
    z = 0.999 * z + 0.001 / candidates
    reference = torch.distributions.RelaxedOneHotCategorical(
        torch.tensor(tau, dtype=DOUBLE), logits=logits, validate_args=False
    )
    ours, theirs = GumbelSoftmax().log_prob(logits, tau, z), reference.log_prob(z)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-10)
    found, wanted = (torch.autograd.grad(v.sum(), logits, retain_graph=True)[0] for v in (ours, theirs))
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("tau", [0.2, 1.0])
def test_the_score_of_the_density_estimates_the_gradient_of_a_mean(tau: float) -> None:
    """E[f(z)·∇ log p(z)] = ∇ E[f(z)], f(z) = z_0², K = 2, exact by quadrature: 3.5 standard errors."""
    u = (torch.arange(200_000, dtype=DOUBLE) + 0.5) / 200_000
    z = torch.sigmoid((ALPHA[0] - ALPHA[1] + torch.log(u) - torch.log1p(-u)) / tau)
    exact = float((2 * z * z * (1 - z) / tau).mean())
    rows = ALPHA[:2].expand(20_000, 2).clone().requires_grad_()
    weights = GumbelSoftmax()(rows, tau, seeded(3)).weights
    (score,) = torch.autograd.grad(GumbelSoftmax().log_prob(rows, tau, weights).sum(), rows)
    found = weights.detach()[:, 0].square() * score[:, 0]
    assert abs(float(found.mean()) - exact) < 3.5 * float(found.std()) / 20_000**0.5


@pytest.mark.parametrize("dtype", [DOUBLE, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tau", [1e-3, 0.03, 1.0, 1e3])
def test_log_probabilities_and_their_gradients_are_finite(dtype: torch.dtype, tau: float) -> None:
    """Of draws, which round to exactly 0 at low temperatures, and of logits of ±1e4."""
    for candidates in (1, 2, 7, 1000):
        ramp = torch.linspace(-1, 1, candidates) if candidates > 1 else torch.ones(1)
        for scale in (1.0, 1e4):
            for name in KNOWN:
                logits = (scale * ramp).to(dtype).expand(2, candidates).clone().requires_grad_()
                sampler = SAMPLERS[name]()
                weights = sampler(logits, tau, seeded(4)).weights
                value = sampler.log_prob(logits, tau, weights)
                assert value.dtype == (DOUBLE if dtype == DOUBLE else torch.float32)
                (found,) = torch.autograd.grad(value.sum(), logits)
                assert bool(value.isfinite().all()), (name, candidates, scale)
                assert bool(found.isfinite().all()), (name, candidates, scale)


def test_a_lone_candidate_is_certain() -> None:
    one = torch.ones(3, 1, dtype=DOUBLE)
    assert torch.equal(concrete_log_prob(7 * one, 0.3, one), torch.zeros(3, dtype=DOUBLE))
    assert torch.equal(one_hot_log_prob(7 * one, one), torch.zeros(3, dtype=DOUBLE))


def test_the_density_by_the_formula() -> None:
    """(K − 1)! τ^(K−1) Π exp(α_k) z_k^(−τ−1) / (Σ exp(α_j) z_j^(−τ))^K, multiplied out."""
    tau = 0.8
    z: Tensor = torch.tensor([0.2, 0.5, 0.05, 0.25], dtype=DOUBLE)
    odds = ALPHA.exp()
    wanted = math.factorial(3) * tau**3 * (odds * z ** (-tau - 1)).prod() / (odds * z**-tau).sum() ** 4
    torch.testing.assert_close(concrete_log_prob(ALPHA, tau, z).exp(), wanted, rtol=1e-13, atol=0)
