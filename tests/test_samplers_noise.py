"""Noisy Gumbel-softmax: nothing is perturbed at 0, and exact laws of each perturbation."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor, nn

from archgrad.choice import Pick, supernet
from archgrad.errors import UserError
from archgrad.samplers.gumbel_softmax import GumbelSoftmax
from archgrad.samplers.noisy_gumbel_softmax import NoisyGumbelSoftmax
from archgrad.samplers.sampler import law_of
from archgrad.testing import check_sampler

DOUBLE = torch.float64
ALPHA = torch.tensor([0.4, -0.3, 0.8, 0.1], dtype=DOUBLE)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn_p(sampler: NoisyGumbelSoftmax, alpha: Tensor, law: Tensor, tau: float, seed: int = 0) -> float:
    """p-value of 20,000 argmaxes against the law [K]."""
    from scipy.stats import chisquare

    index = sampler(alpha.expand(20_000, len(alpha)), tau, seeded(seed)).weights.argmax(-1)
    counts = torch.bincount(index, minlength=len(alpha)).double()
    return float(chisquare(counts.numpy(), 20_000 * law.numpy()).pvalue)


def dropout_law(alpha: Tensor, probability: float) -> Tensor:
    """P(argmax z = k) [K]: the softmax over what is kept, over the 2^K sets; of none, one uniformly."""
    total = torch.zeros_like(alpha)
    for kept in product((False, True), repeat=len(alpha)):
        chance = torch.tensor([1 - probability if k else probability for k in kept], dtype=DOUBLE).prod()
        if any(kept):
            total += chance * torch.softmax(alpha.masked_fill(~torch.tensor(kept), -torch.inf), dim=-1)
        else:
            total += chance / len(alpha)
    return total


def noise_law(gap: float, deviation: float) -> Tensor:
    """P(argmax z = k) [2] for K = 2: the mean of σ(gap + s√2·N), by Gauss-Hermite quadrature."""
    import numpy as np

    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    values = torch.sigmoid(gap + deviation * 2**0.5 * torch.from_numpy(nodes))
    first = float((values * torch.from_numpy(weights)).sum()) / float(weights.sum())
    return torch.tensor([first, 1 - first], dtype=DOUBLE)


@pytest.mark.parametrize("dtype", [DOUBLE, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tau", [0.2, 1.0, 5.0])
def test_without_perturbation_it_is_gumbel_softmax(dtype: torch.dtype, tau: float) -> None:
    found, gradients, states = [], [], []
    for sampler in (NoisyGumbelSoftmax(), NoisyGumbelSoftmax(0, 0), GumbelSoftmax()):
        logits, generator = ALPHA.to(dtype).expand(6, 4).clone().requires_grad_(), seeded(3)
        sample = sampler(logits, tau, generator)
        assert sample.active is None
        assert law_of(sampler) == "argmax"
        found.append(sample.weights)
        gradients += torch.autograd.grad((sample.weights * ALPHA.to(dtype)).sum(), logits)
        states.append(generator.get_state())
    for results in (found, gradients, states):
        assert torch.equal(results[0], results[2])
        assert torch.equal(results[1], results[2])


@pytest.mark.parametrize("settings", [(0.5, 0.0), (0.0, 0.3), (0.5, 0.3)])
def test_perturbed_it_keeps_the_contract_under_its_own_law(settings: tuple[float, float]) -> None:
    sampler = NoisyGumbelSoftmax(*settings)
    assert law_of(sampler) == "perturbed"
    check_sampler(sampler)
    assert torch.equal(sampler.probabilities(ALPHA), torch.softmax(ALPHA, dim=-1))


@pytest.mark.parametrize("tau", [0.3, 2.0])
@pytest.mark.parametrize("probability", [0.2, 0.9])
def test_the_law_with_dropped_candidates(probability: float, tau: float) -> None:
    sampler = NoisyGumbelSoftmax(candidate_dropout=probability)
    assert drawn_p(sampler, 2 * ALPHA, dropout_law(2 * ALPHA, probability), tau) > 1e-3
    assert drawn_p(sampler, 2 * ALPHA, torch.softmax(2 * ALPHA, dim=-1), tau) < 1e-12


@pytest.mark.parametrize("tau", [0.3, 2.0])
@pytest.mark.parametrize("deviation", [1.0, 3.0])
def test_the_law_with_noise_on_the_logits(deviation: float, tau: float) -> None:
    sampler = NoisyGumbelSoftmax(logit_noise=deviation)
    alpha = torch.tensor([1.2, 0.0], dtype=DOUBLE)
    assert drawn_p(sampler, alpha, noise_law(1.2, deviation), tau) > 1e-3
    assert drawn_p(sampler, alpha, torch.softmax(alpha, dim=-1), tau) < 1e-12


def test_dropped_candidates_are_not_active_and_at_least_one_is_kept() -> None:
    """Every candidate is dropped as often as it is told, but for the choices that would be empty."""
    from scipy.stats import binomtest

    probability, rows = 0.6, 5000
    sample = NoisyGumbelSoftmax(candidate_dropout=probability)(ALPHA.expand(rows, 4), 10.0, seeded(1))
    assert sample.active is not None
    assert all(sample.active)
    carrying = tuple(tuple(k for k, z in enumerate(row) if z) for row in sample.weights.tolist())
    assert carrying == sample.active  # at τ = 10 no kept weight rounds to 0
    kept = 1 - probability + probability**4 / 4
    for k in range(4):
        assert binomtest(sum(k in row for row in sample.active), rows, kept).pvalue > 1e-3
    alone = binomtest(sum(len(row) == 1 for row in sample.active), rows, 4 * 0.4 * 0.6**3 + 0.6**4)
    assert alone.pvalue > 1e-3


def test_dropped_candidates_do_not_run_and_have_no_gradient() -> None:
    calls: list[int] = []

    class Times(nn.Module):
        def __init__(self, factor: int) -> None:
            super().__init__()
            self.factor = factor

        def forward(self, x: Tensor) -> Tensor:
            calls.append(self.factor)
            return x * self.factor

    def space(pick: Pick) -> nn.Module:
        return pick("op", {str(k): lambda k=k: Times(k) for k in range(4)})

    network, sizes = supernet(space), set()
    for seed in range(120):
        calls.clear()
        alpha = ALPHA[None].clone().requires_grad_()
        sample = NoisyGumbelSoftmax(0.5, 0.5)(alpha, 1.0, seeded(seed))
        output = network(torch.ones(2, dtype=DOUBLE), [sample])
        assert sample.active == (tuple(calls),)
        (found,) = torch.autograd.grad(output.sum(), alpha)
        dropped = [k for k in range(4) if k not in calls]
        assert not bool(found[0, dropped].any())
        assert bool(found[0, calls].all()) == (len(calls) > 1)  # alone a candidate has weight 1 whatever α
        sizes.add(len(calls))
    assert sizes == {1, 2, 3, 4}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"logit_noise": -0.1}, r"logit_noise is a finite number from 0, got -0\.1"),
        ({"logit_noise": float("inf")}, "logit_noise is a finite number from 0, got inf"),
        ({"logit_noise": float("nan")}, "logit_noise is a finite number from 0, got nan"),
        ({"logit_noise": True}, "logit_noise is a finite number from 0, got True"),
        ({"candidate_dropout": 1.0}, r"candidate_dropout is a number from 0 and below 1, got 1\.0"),
        ({"candidate_dropout": -0.5}, "candidate_dropout is a number from 0 and below 1, got"),
        ({"candidate_dropout": "0.5"}, "candidate_dropout is a number from 0 and below 1, got '0.5'"),
    ],
    ids=str,
)
def test_the_settings_are_checked(settings: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        NoisyGumbelSoftmax(**settings)
