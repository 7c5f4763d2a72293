"""The contract of a sampler: ``(logits [..., E, K], tau, generator) -> Sample`` and its probabilities.

E choices × K candidates.
"""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from archgrad.choice import Sample
from archgrad.errors import MissingExtra
from archgrad.samplers.sampler import Law, Sampler, draws_from_softmax, law_of
from archgrad.testing.law import require, require_close, require_identical

SIMPLEX = "rows of a sample are non-negative and sum to 1"
GATES = "under the law 'gates' every weight and every probability is between 0 and 1"
FORM = "weights have the shape and dtype of the logits, which stay as they were"
PROBABILITIES = "probabilities are a distribution over candidates"
REPEATABLE = "a draw is a function of its arguments and the generator alone"
GLOBAL = "the global random state is untouched"
FREQUENCIES = "argmax frequencies of a random sampler pass a chi-square test against its probabilities"
LAW = "the law that a sampler declares is one of those there are"
GATE_FREQUENCIES = "open gates of a random sampler are independent, each with its probability"
PERTURBED = "argmax frequencies under the law 'perturbed' follow the probabilities where logits are equal"
MEAN = "draws of a random sampler with the law 'mean' average to its probabilities"
MEAN_GRADIENT = "gradients of a random sampler with the law 'mean' average to that of its probabilities"
ONE_HOT = "a sampler with one_active is exactly one-hot in the forward pass"
ACTIVE = "every candidate with weight is active, and with one_active no other"
SOFTMAX_DRAWS = "a sampler with draws_from_softmax has one_active, the law 'argmax' and softmax probabilities"
LOG_PROB_TEMPERATURE = "log_prob_uses_temperature says whether the temperature changes log_prob"
BATCH_ACTIVE = "of a batch of searches the same candidates run as of one search by itself"
TEMPERATURE = "uses_temperature says whether the temperature changes weights or gradients"
FINITE_GRADIENT = "gradients are finite"
PATHWISE = "the gradient of a soft sampler equals finite differences with the same noise"
SURROGATE = "the gradient of a hard sampler equals its surrogate's, restricted to the drawn candidate"

_LOGITS = ((0.0, 0.5, 1.0, -1.0, 0.2), (0.3, -0.4, 0.0, 0.9, -0.2))
_TEMPERATURES = (0.1, 1.0, 10.0)


def check_sampler(
    sampler: Sampler,
    *,
    surrogate: Sampler | None = None,
    draws: int = 20_000,
    significance: float = 1e-4,
    seed: int = 0,
) -> None:
    """Check a sampler's laws, in float64, float32 and bfloat16.

    How a random sampler's draws are compared with its probabilities its class attribute `law` says
    (`archgrad.samplers.sampler.Law`): the argmax or the set of open gates by chi-square or, under the law
    "mean", the mean of draws and of gradients, which then takes the place of finite differences at a
    fixed generator.

    Args:
        sampler: the part.
        surrogate: for a hard sampler (its weights are exactly 0 or 1) the soft one whose gradient it
            borrows, drawing the same noise from the same generator; without it only the gradient's
            finiteness is checked.
        draws: draws of the statistical tests, per temperature.
        significance: smallest p-value accepted; the draws are fixed by `seed`, so it is no flaky test.
        seed: seed of all draws.

    Raises:
        BrokenLaw: with the law's name and the numbers.
        MissingExtra: SciPy is not installed.
    """
    law = law_of(sampler)
    require(law in get_args(Law), LAW, f"declared {law!r}, there are {get_args(Law)}")
    _check_declared(sampler, law, seed)
    _check_form(sampler, seed)
    _check_repeatable(sampler, seed)
    _check_batch(sampler, seed)
    _check_extremes(sampler, seed)
    _check_temperature(sampler, seed)
    averaged = law == "mean" and _is_random(sampler, seed)
    if _is_random(sampler, seed):
        for tau in _TEMPERATURES:
            if averaged:
                of_draws, of_gradients = mean_p(sampler, tau, draws, seed)
                found = {MEAN: of_draws, MEAN_GRADIENT: of_gradients}
            else:
                name = {"gates": GATE_FREQUENCIES, "perturbed": PERTURBED}.get(law, FREQUENCIES)
                found = {name: chi_square_p(sampler, tau, draws, seed)}
            for name, p in found.items():
                detail = f"p = {p:.2e} < {significance:.0e} at τ = {tau}, {draws} draws"
                require(p >= significance, name, detail)
    _check_gradient(sampler, surrogate, seed, averaged=averaged)


def chi_square_p(sampler: Sampler, tau: float, draws: int, seed: int = 0) -> float:
    """p-value of `draws` draws at temperature `tau` against the sampler's probabilities (K = 5).

    Of the argmaxes against the probabilities of α, under the law "tempered argmax" of α/τ, under
    "perturbed" at equal logits. Under the law "gates" of the 2^K sets of open gates, z_k > ½, against
    the product of the gates' probabilities.

    Raises:
        MissingExtra: SciPy is not installed.
    """
    try:
        from scipy.stats import chisquare
    except ImportError:
        raise MissingExtra("dev", "SciPy", "the chi-square test of a sampler") from None
    law = law_of(sampler)
    row = torch.tensor(_LOGITS[:1], dtype=torch.float64)
    if law == "perturbed":
        row = torch.zeros_like(row)
    weights = sampler(row.expand(draws, -1), tau, _generator(seed)).weights.detach()
    expected = sampler.probabilities(row / tau if law == "tempered argmax" else row)[0].double()
    if law == "gates":
        powers = 2 ** torch.arange(row.shape[1])
        opened = (torch.arange(2 ** row.shape[1]).unsqueeze(-1) & powers) > 0
        expected = torch.where(opened, expected, 1 - expected).prod(dim=-1)
        drawn = ((weights > 0.5) * powers).sum(dim=-1)
    else:
        drawn = weights.argmax(dim=-1)
    observed = torch.bincount(drawn, minlength=len(expected)).double()
    return float(chisquare(observed.numpy(), (draws * expected / expected.sum()).numpy()).pvalue)


def mean_p(sampler: Sampler, tau: float, draws: int, seed: int = 0) -> tuple[float, float]:
    """p-values of the mean of `draws` draws against probabilities(α), and of that of their gradients.

    K = 5. The gradient is that of a weighted sum of the K weights. Both by a normal test of each of
    the K numbers, the smallest p-value times K (Bonferroni).

    Raises:
        MissingExtra: SciPy is not installed.
    """
    row = torch.tensor(_LOGITS[:1], dtype=torch.float64, requires_grad=True)
    cotangent = _cotangent()[0]
    wanted = sampler.probabilities(row)[0]
    slope = _gradient((cotangent * wanted).sum(), row)[0]
    rows = row.detach().expand(draws, -1).clone().requires_grad_()
    weights = sampler(rows, tau, _generator(seed)).weights
    gradients = _gradient((cotangent * weights).sum(), rows)
    return _normal_p(weights.detach(), wanted.detach()), _normal_p(gradients, slope)


def _normal_p(drawn: Tensor, mean: Tensor) -> float:
    """p-value of the draws [N, K] having the mean [K]."""
    try:
        from scipy.stats import norm
    except ImportError:
        raise MissingExtra("dev", "SciPy", "the test of a sampler's mean") from None
    error = drawn.std(dim=0) / len(drawn) ** 0.5
    # a number that never varies has no error: the tiny term makes it equal or infinitely wrong
    score = (drawn.mean(dim=0) - mean).abs() / (error + torch.finfo(drawn.dtype).eps)
    return min(1.0, float(2 * norm.sf(float(score.max())) * len(mean)))


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _logits(dtype: torch.dtype = torch.float64) -> Tensor:
    """A leaf [E = 2, K = 5]."""
    return torch.tensor(_LOGITS, dtype=dtype, requires_grad=True)


def _is_random(sampler: Sampler, seed: int) -> bool:
    logits = torch.zeros(64, 5)
    first, second = (sampler(logits, 1.0, _generator(seed + i)).weights for i in (0, 1))
    return not torch.equal(first, second)


def _check_form(sampler: Sampler, seed: int) -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        for shape in ((1, 1), (2, 5), (3, 2, 5)):
            logits = torch.randn(shape, generator=_generator(seed)).to(dtype)
            before = logits.clone()
            where = f"logits {shape} {dtype}"
            sample = sampler(logits, 1.0, _generator(seed))
            weights = sample.weights
            require(
                weights.shape == logits.shape and weights.dtype == dtype,
                FORM,
                f"{where}: weights {tuple(weights.shape)} {weights.dtype}",
            )
            require_identical(FORM, logits, before, f"{where}: the logits")
            _check_range(sampler, weights, where)
            _check_active(sampler, sample, where)
            probabilities = sampler.probabilities(logits)
            if law_of(sampler) == "gates":
                _check_gates(probabilities, f"{where}: probabilities")
                continue
            total = probabilities.double().sum(-1)
            require_close(PROBABILITIES, total, torch.ones_like(total), _slack(dtype), where)
            require(bool((probabilities >= 0).all()), PROBABILITIES, f"{where}: a negative probability")


def _check_declared(sampler: Sampler, law: str, seed: int) -> None:
    """What a hypergradient or a configuration takes a sampler's word for."""
    logits = _logits().detach()
    if draws_from_softmax(sampler):
        declared = f"one_active is {sampler.one_active}, the law {law!r}"
        require(sampler.one_active and law == "argmax", SOFTMAX_DRAWS, declared)
        wanted = torch.softmax(logits, dim=-1)
        require_close(SOFTMAX_DRAWS, sampler.probabilities(logits), wanted, 1e-12, "probabilities")
    log_prob = getattr(sampler, "log_prob", None)
    if log_prob is not None:
        weights = sampler(logits, 1.0, _generator(seed)).weights
        changed = not torch.equal(log_prob(logits, 0.5, weights), log_prob(logits, 2.0, weights))
        declares = bool(getattr(sampler, "log_prob_uses_temperature", False))
        found = "another number" if changed else "the same"
        detail = f"log_prob_uses_temperature is {declares}, at τ = 0.5 and at τ = 2 it is {found}"
        require(changed == declares, LOG_PROB_TEMPERATURE, detail)


def _slack(dtype: torch.dtype) -> float:
    """How far a row's sum may be from 1: every term is rounded to half an epsilon of itself."""
    return 4 * torch.finfo(dtype).eps


def _check_range(sampler: Sampler, weights: Tensor, where: str) -> None:
    """Rows on the simplex or, under the law "gates", numbers between 0 and 1."""
    weights = weights.detach()
    if law_of(sampler) == "gates":
        _check_gates(weights, where)
        return
    total = weights.double().sum(-1)
    require_close(SIMPLEX, total, torch.ones_like(total), _slack(weights.dtype), f"{where}: row sums")
    require(bool((weights >= 0).all()), SIMPLEX, f"{where}: a negative weight, {float(weights.min()):.3e}")


def _check_gates(gates: Tensor, where: str) -> None:
    inside = bool(((gates >= 0) & (gates <= 1)).all())  # also false for NaN
    require(inside, GATES, f"{where}: from {float(gates.min()):.3e} to {float(gates.max()):.3e}")


def _check_active(sampler: Sampler, sample: Sample, where: str) -> None:
    weights = sample.weights.detach()
    if sampler.one_active:
        values = sorted(set(weights.flatten().tolist()))
        exact = bool(((weights == 0) | (weights == 1)).all()) and bool(((weights == 1).sum(-1) == 1).all())
        require(exact, ONE_HOT, f"{where}: weights take the values {values[:5]}")
    require(
        sampler.one_active or not sample.one_hot,
        ONE_HOT,
        f"{where}: Sample.one_hot is set, but the sampler's one_active is not",
    )
    if weights.dim() != 2 or sample.active is None:
        require(
            weights.dim() != 2 or not sampler.one_active,
            ACTIVE,
            f"{where}: active is None, so every candidate would run",
        )
        return
    for row, active in zip(weights.tolist(), sample.active, strict=True):
        carrying = {k for k, z in enumerate(row) if z != 0}
        require(
            carrying == set(active) if sampler.one_active else carrying <= set(active),
            ACTIVE,
            f"{where}: active {active}, weights on {sorted(carrying)}",
        )


def _check_batch(sampler: Sampler, seed: int) -> None:
    """Where logits [1, E, K] draw the same as [E, K]. Not all gates of these are open."""
    logits = (_logits() - 1.5).detach().repeat(20, 1).requires_grad_()
    one, batch = (sampler(a, 1.0, _generator(seed)) for a in (logits, logits.unsqueeze(0)))
    if one.active is None or not torch.equal(one.weights, batch.weights[0]):
        return
    runs = (batch.weights != 0) if batch.ran is None else batch.ran
    require(
        runs.shape == batch.weights.shape and runs.dtype == torch.bool,
        BATCH_ACTIVE,
        f"ran is {tuple(runs.shape)} {runs.dtype}, weights are {tuple(batch.weights.shape)}",
    )
    for active, row in zip(one.active, runs[0].tolist(), strict=True):
        found = {k for k, here in enumerate(row) if here}
        require(set(active) == found, BATCH_ACTIVE, f"alone {sorted(active)}, in a batch {sorted(found)}")


@contextmanager
def _global_state_watched(where: str) -> Iterator[None]:
    """Require that PyTorch's, NumPy's and Python's global generators are where they were."""
    states = _global_states()
    yield
    for name, before, after in zip(("torch", "numpy", "random"), states, _global_states(), strict=True):
        require(before == after, GLOBAL, f"{where}: the global generator of {name} has moved")


def _global_states() -> tuple[bytes, bytes, bytes]:
    numpy_state = np.random.get_state()  # noqa: NPY002 - the legacy global state is what is watched
    python_state = random.getstate()
    return torch.get_rng_state().numpy().tobytes(), pickle.dumps(numpy_state), pickle.dumps(python_state)


def _check_repeatable(sampler: Sampler, seed: int) -> None:
    logits = torch.zeros(64, 5)
    for tau in _TEMPERATURES:
        where = f"τ = {tau}"
        with _global_state_watched(where):
            first = sampler(logits, tau, _generator(seed))
            sampler.probabilities(logits)
        with torch.random.fork_rng(devices=[]):
            torch.rand(1)  # another global state may make no difference
            again = sampler(logits, tau, _generator(seed))
        require_identical(REPEATABLE, again.weights, first.weights, where)
        require(again.active == first.active, REPEATABLE, f"{where}: other candidates are active")


def _check_extremes(sampler: Sampler, seed: int) -> None:
    """No NaN for τ from 1e-3 to 1e3, logits from −1e4 to 1e4, K from 1 to 1000, in three precisions."""
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        for candidates in (1, 2, 7, 1000):
            spread = torch.linspace(-1e4, 1e4, candidates) if candidates > 1 else torch.full((1,), 1e4)
            peak = torch.full((candidates,), -1e4)
            peak[-1] = 1e4
            rows = torch.stack([spread, peak, torch.zeros(candidates), torch.full((candidates,), -1e4)])
            for tau in (1e-3, 1.0, 1e3):
                logits = rows.to(dtype).requires_grad_()
                where = f"{dtype}, K = {candidates}, τ = {tau}, logits within ±1e4"
                sample = sampler(logits, tau, _generator(seed))
                _check_range(sampler, sample.weights, where)
                _check_active(sampler, sample, where)
                if sample.weights.requires_grad:
                    ramp = torch.linspace(-1, 1, candidates).to(dtype)
                    (found,) = torch.autograd.grad((sample.weights * ramp).sum(), logits)
                    require(bool(found.isfinite().all()), FINITE_GRADIENT, where)


def _pull_back(
    sampler: Callable[[Tensor, float, torch.Generator], Sample], cotangent: Tensor, tau: float, seed: int
) -> Tensor:
    """d(Σ cotangent·weights)/dα [E, K]; zeros where the sampler has no gradient."""
    logits = _logits()
    return _gradient((cotangent * sampler(logits, tau, _generator(seed)).weights).sum(), logits)


def _gradient(value: Tensor, of: Tensor) -> Tensor:
    """d value/d of; zeros where the value has no graph."""
    return torch.autograd.grad(value, of)[0] if value.requires_grad else torch.zeros_like(of)


def _cotangent() -> Tensor:
    return torch.tensor([[0.7, -1.1, 0.4, 2.0, -0.3], [-0.6, 0.8, 1.5, -1.7, 0.1]], dtype=torch.float64)


def _check_temperature(sampler: Sampler, seed: int) -> None:
    cold, warm = (
        torch.cat(
            [sampler(_logits(), t, _generator(seed)).weights, _pull_back(sampler, _cotangent(), t, seed)]
        )
        for t in (0.5, 2.0)
    )
    changed = not torch.equal(cold, warm)
    require(
        changed == sampler.uses_temperature,
        TEMPERATURE,
        f"uses_temperature is {sampler.uses_temperature}, from τ = 0.5 to τ = 2 "
        f"{'something' if changed else 'nothing'} changes",
    )


def _check_gradient(sampler: Sampler, surrogate: Sampler | None, seed: int, *, averaged: bool) -> None:
    """Against the surrogate or finite differences; neither where the mean gradient was checked."""
    for tau in (0.3, 1.0, 3.0):
        where = f"τ = {tau}"
        cotangent = _cotangent()
        sample = sampler(_logits(), tau, _generator(seed))
        if sampler.one_active:
            cotangent = cotangent * sample.weights.detach()  # candidates that did not run get none
        found = _pull_back(sampler, cotangent, tau, seed)
        hard = bool(((sample.weights == 0) | (sample.weights == 1)).all())
        if surrogate is not None:
            wanted = _pull_back(surrogate, cotangent, tau, seed)
            require_close(SURROGATE, found, wanted, 1e-12, where)
        elif not hard and not averaged:
            wanted = _finite_differences(sampler, cotangent, tau, seed)
            require_close(PATHWISE, found, wanted, 1e-7, where)


def _finite_differences(sampler: Sampler, cotangent: Tensor, tau: float, seed: int) -> Tensor:
    """Central differences of Σ cotangent·weights in float64, step 1e-5 (error about 1e-9)."""
    step, base = 1e-5, _logits().detach()
    wanted = torch.zeros_like(base)
    for index in range(base.numel()):
        values = []
        for sign in (1, -1):
            moved = base.clone()
            moved.view(-1)[index] += sign * step
            values.append(float((cotangent * sampler(moved, tau, _generator(seed)).weights).sum()))
        wanted.view(-1)[index] = (values[0] - values[1]) / (2 * step)
    return wanted
