"""Bias and variance of gradient estimators, against the exact gradient of the expected loss.

D draws at once: the logits [E, K] are expanded to [D, E, K], D independent searches that stand at the
same point, and a hypergradient gives each its own estimate.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from archgrad.choice import Sample
from archgrad.controllers.independent import Independent
from archgrad.errors import UserError
from archgrad.hypergradients import HYPERGRADIENTS
from archgrad.lab.contenders import Contender
from archgrad.landscapes.landscape import Landscape, exact_gradient
from archgrad.landscapes.task import LandscapeTask, Observe, shares
from archgrad.method_parts import policy_of
from archgrad.problem import Hypergradient, Problem
from archgrad.randomness import Streams
from archgrad.samplers.sampler import check_call, law_of

CHUNK = 5_000
"""Draws at once: bounds memory, and is large enough that the loop costs nothing."""
WARMED = 500
"""Searches whose memory is warmed; the draws take turns with them."""
_DECAY = 0.99
"""Of a memory whose hypergradient does not say how fast it forgets (`decay`); that of its default."""
_ROUNDING = 1e-5
"""A distance from the exact gradient, relative to it, that single precision explains."""


def burn_in(decay: float | None) -> int:
    """Calls that warm the memory of a hypergradient before it is measured: 5/(1 − decay).

    What a moving average began with then weighs decay^(5/(1 − decay)), less than e⁻⁵ = 0.7 %.

    >>> burn_in(0.9), burn_in(None)
    (50, 500)
    """
    return round(5 / (1 - (_DECAY if decay is None else decay)))


@dataclass(frozen=True)
class Estimate:
    """What one estimator gives at one point.

    With g the exact gradient of E_{a ~ p(α)}[T[a]] and ĝ one draw of the estimator, all relative to g; with
    a sampler under the law "tempered argmax" g is that of p(α/τ), from which it draws:
    bias: ‖E ĝ − g‖/‖g‖, the part of it that sampling error explains taken off (so it may be 0).
    bias_error: standard error of the mean of the draws in the direction of the bias. Where the bias is 0, or
        nearly, it says nothing about whether there is one: bias_p does.
    bias_p: how probable a mean so far from g is if there is no bias (`no_bias`).
    variance: E‖ĝ − E ĝ‖²/‖g‖².
    mse: E‖ĝ − g‖²/‖g‖², of a single draw.
    cosine: mean over the draws of cos(ĝ, g). mean_cosine: cos(E ĝ, g).
    tau: temperature, None where the sampler has none. point: name of the logits.
    seconds: for all draws.
    """

    name: str
    point: str
    tau: float | None
    draws: int
    bias: float
    bias_error: float
    bias_p: float
    variance: float
    mse: float
    cosine: float
    mean_cosine: float
    seconds: float


def points(landscape: Landscape, seed: int) -> dict[str, Tensor]:
    """Logits [E, K] of three stages of a search: undecided, leaning, nearly decided (towards the optimum)."""
    (group,) = landscape.groups
    shape = (len(group.names), len(group.candidates))
    noise = torch.randn(shape, generator=Streams(seed).generator("lab/points"), dtype=torch.float64)
    towards = torch.nn.functional.one_hot(torch.tensor(landscape.optimum), shape[1]).double()
    return {"undecided": 0.1 * noise, "leaning": noise, "nearly decided": noise + 3.0 * towards}


def estimate(
    contender: Contender,
    landscape: Landscape,
    logits: Tensor,
    *,
    point: str = "",
    tau: float = 1.0,
    draws: int = 20_000,
    seed: int = 0,
    observe: Observe = "all",
) -> Estimate:
    """Measure one estimator at logits α [E, K].

    Args:
        contender: gives sampler and hypergradient; its schedule is not looked at.
        landscape: the losses.
        logits: α [E, K].
        point: a name for α.
        tau: the temperature of the draws.
        draws: how many.
        seed: of the draws.
        observe: "all", or "active": only candidates that ran have a gradient, as in a network.

    Raises:
        UserError: fewer than two draws, logits or τ that cannot be drawn from, or a controller that has no
            logits.
    """
    check_call(logits, tau)
    if draws < 2:
        raise UserError(f"a variance needs at least 2 draws, got {draws}")
    config = contender.config
    policy = policy_of(config, landscape.groups)
    if not isinstance(policy.controller, Independent):
        raise UserError(f"{contender.name}: bias and variance are of independent choices' logits")
    part = config.hypergradient
    hypergradient: Hypergradient = HYPERGRADIENTS[part.name](**part.settings())
    streams = Streams(seed)
    tempered = law_of(policy.sampler) == "tempered argmax"

    def probabilities(alpha: Tensor) -> Tensor:
        p = policy.sampler.probabilities(alpha / tau if tempered else alpha)
        return shares(p) if policy.gates else p

    exact = exact_gradient(landscape, logits.double(), probabilities).flatten()
    scale = float(exact.norm())
    count, total, squares, cosines = 0, torch.zeros_like(exact), 0.0, 0.0
    products = torch.zeros(len(exact), len(exact), dtype=exact.dtype)
    began = time.perf_counter()
    chunks = [min(CHUNK, draws - start) for start in range(0, draws, CHUNK)]

    def at(size: int) -> tuple[Problem, list[Tensor]]:
        """The problem and α of so many searches."""
        task = LandscapeTask(landscape, size, observe, gates=policy.gates)
        (train, valid), *_ = task.steps(0, 0)
        alpha = [logits.float().expand(size, *logits.shape).clone().requires_grad_()]
        return Problem(train, valid, lambda theta, repeat=0: [], policy=policy, tau=tau), alpha

    warm = _warm(hypergradient, *at(min(WARMED, draws)), streams)
    for index, size in enumerate(chunks):
        problem, alpha = at(size)
        turns = torch.arange(size) % min(WARMED, draws)
        problem = replace(
            _seeded(problem, streams, "lab/estimate", index),
            memory=tuple(m[turns] if m.dim() else m for m in warm),
        )
        found = hypergradient(problem, alpha).gradients[0].detach().double().flatten(1)
        count += size
        total += found.sum(dim=0)
        products += (found - exact).T @ (found - exact)
        squares += float((found - exact).square().sum())
        cosines += float(torch.nn.functional.cosine_similarity(found, exact[None], dim=1).sum())
    mean, mse = total / count, squares / count
    distance = float((mean - exact).square().sum())
    variance = max(0.0, (mse - distance) * count / (count - 1))
    squared_bias = max(0.0, distance - variance / count)
    off = mean - exact
    covariance = (products / count - torch.outer(off, off)) * (count / (count - 1))
    along = off / off.norm().clamp_min(1e-300)
    error = float((along @ covariance @ along).clamp_min(0.0)) / count
    return Estimate(
        contender.name,
        point,
        tau if contender.uses_temperature else None,
        count,
        bias=squared_bias**0.5 / scale,
        bias_error=error**0.5 / scale,
        bias_p=1.0 if distance**0.5 <= _ROUNDING * scale else no_bias(distance, covariance / count),
        variance=variance / scale**2,
        mse=mse / scale**2,
        cosine=cosines / count,
        mean_cosine=float(torch.nn.functional.cosine_similarity(mean, exact, dim=0)),
        seconds=time.perf_counter() - began,
    )


def no_bias(distance: float, covariance: Tensor) -> float:
    """p-value of a squared distance ‖x‖² of a mean x ~ N(0, Σ): P(‖x‖² ≥ distance); covariance: Σ [N, N].

    ‖x‖² is a sum of squares of N(0, λ_i), λ_i the eigenvalues of Σ; in its place stands the shifted multiple
    of a χ² that has its mean, variance and skewness, functions of c_j = Σ λ_i^j.

    Source: Imhof 1961 (doi 10.1093/biomet/48.3-4.419), after Pearson 1959.
    """
    from scipy.stats import chi2

    if float(covariance.norm()) == 0.0:
        return 0.0 if distance > 0 else 1.0
    eigenvalues = torch.linalg.eigvalsh(covariance / covariance.trace()).clamp_min(0.0)
    c1, c2, c3 = (float((eigenvalues**j).sum()) for j in (1, 2, 3))
    degrees = c2**3 / c3**2
    return float(
        chi2.sf((distance / float(covariance.trace()) - c1) * (degrees / c2) ** 0.5 + degrees, degrees)
    )


def _warm(
    hypergradient: Hypergradient, problem: Problem, alpha: list[Tensor], streams: Streams
) -> tuple[Tensor, ...]:
    """The memory after `burn_in` steps at this point; empty for a hypergradient that keeps none."""
    memory: tuple[Tensor, ...] = ()
    for call in range(burn_in(getattr(hypergradient, "decay", None))):
        at = replace(_seeded(problem, streams, "lab/warm", call), memory=memory)
        memory = hypergradient(at, alpha).memory
        if not memory:
            break
    return memory


def _seeded(problem: Problem, streams: Streams, name: str, index: int) -> Problem:
    """The problem with the draws of the stream (name, index)."""
    policy, tau = problem.policy, problem.tau
    assert policy is not None

    def noise(repeat: int) -> torch.Generator:
        return streams.generator(name, index, repeat)

    def draw(alpha: Sequence[Tensor], repeat: int = 0) -> list[Sample]:
        return policy.draw(alpha, tau, noise(repeat))

    return replace(problem, draw=draw, noise=noise)
