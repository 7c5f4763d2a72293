"""Over the whole table: numbers at the edges, many searches at once, calls that nobody can answer."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from archgrad.errors import UserError
from archgrad.samplers import SAMPLERS
from archgrad.samplers.binary_concrete import BinaryConcrete
from archgrad.samplers.noisy_gumbel_softmax import NoisyGumbelSoftmax
from archgrad.samplers.sampler import Sampler, check_call, law_of
from archgrad.samplers.straight_through import StraightThrough

DOUBLE = torch.float64
EVERY: dict[str, Sampler] = {name: SAMPLERS[name]() for name in SAMPLERS}
EVERY |= {
    "straight_through, scalar": StraightThrough("scalar"),
    "binary_concrete, hard": BinaryConcrete(hard=True),
    "noisy_gumbel_softmax, perturbed": NoisyGumbelSoftmax(0.5, 0.5),
}
HARD = {"two_path", "binary_concrete, hard"} | {n for n, s in EVERY.items() if s.one_active}
DETERMINISTIC = ("softmax", "sigmoid")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_entry_of_the_table_is_here() -> None:
    assert len(SAMPLERS) == 14
    assert len(EVERY) == 14 + 3
    assert len(HARD) == 10


# --- numbers at the edges ------------------------------------------------------------------------


def edges(candidates: int) -> Iterator[Tensor]:
    """Logits [2, K] within ±1e4: a ramp, one candidate far above, far below, all equal at either end."""
    ramp = torch.linspace(-1e4, 1e4, candidates) if candidates > 1 else torch.full((1,), 1e4)
    peak, pit = torch.full((candidates,), -1e4), torch.full((candidates,), 1e4)
    peak[0], pit[-1] = 1e4, -1e4
    yield torch.stack([ramp, ramp.flip(0)])
    yield torch.stack([peak, pit])
    yield torch.stack([torch.full((candidates,), 1e4), torch.zeros(candidates)])


def worst_sum(rows: Tensor) -> float:
    """Largest |Σ z − 1| of rows [N, K], summed here without rounding."""
    return max(abs(math.fsum(row) - 1) for row in rows.tolist())


def slack(dtype: torch.dtype, candidates: int) -> float:
    """How far a row's sum may be from 1: every term is rounded, and so is the softmax's denominator.

    That one is summed up term by term in at least float32, half an epsilon an addition. The errors add
    up where all have one sign: 1 and 999 terms of exp(−20) give a denominator 41 epsilon too large.
    """
    additions = torch.finfo(torch.promote_types(dtype, torch.float32)).eps * candidates / 2
    return 4 * torch.finfo(dtype).eps + additions


@pytest.mark.parametrize("dtype", [DOUBLE, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", EVERY)
def test_numbers_stay_finite_at_the_edges(name: str, dtype: torch.dtype) -> None:
    sampler = EVERY[name]
    for candidates in (1, 2, 7, 1000):
        for rows in edges(candidates):
            for tau in (1e-3, 1.0, 1e3):
                logits = rows.to(dtype).requires_grad_()
                weights = sampler(logits, tau, seeded()).weights
                for values in (weights, sampler.probabilities(logits)):
                    assert bool(((values >= 0) & (values <= 1)).all())
                    gates = law_of(sampler) == "gates"
                    assert gates or worst_sum(values.detach()) <= slack(dtype, candidates)
                if name in HARD:
                    assert bool(((weights == 0) | (weights == 1)).all())
                if weights.requires_grad:
                    cotangent = torch.linspace(-1, 1, candidates).to(dtype)
                    (found,) = torch.autograd.grad((weights * cotangent).sum(), logits)
                    assert bool(found.isfinite().all())


# --- many searches at once -----------------------------------------------------------------------

SEARCHES = torch.tensor(
    [
        [[0.0, 0.5, 1.0, -1.0], [0.2, 0.1, -0.3, 0.6]],
        [[1.0, 1.0, -0.5, 0.3], [0.0, -1.2, 0.4, 0.5]],
        [[-0.7, 0.3, 0.0, 0.9], [0.8, 0.8, 0.1, -0.2]],
    ],
    dtype=DOUBLE,
)  # [S = 3, E = 2, K = 4]
TAU, DRAWS = 0.7, 8000


def outcomes(sampler: Sampler, weights: Tensor) -> Tensor:
    """What was drawn [N], as a whole number: the argmax or, of gates, the set of the open ones."""
    if law_of(sampler) == "gates":
        return ((weights > 0.5) * 2 ** torch.arange(weights.shape[-1])).sum(-1)
    return weights.argmax(-1)


def outcome_law(sampler: Sampler, alpha: Tensor) -> Tensor:
    """The distribution of the outcomes at logits [K]."""
    p = sampler.probabilities(alpha / TAU if law_of(sampler) == "tempered argmax" else alpha)
    if law_of(sampler) != "gates":
        return p
    law = torch.ones(1, dtype=DOUBLE)
    for gate in p:
        law = torch.cat([law * (1 - gate), law * gate])
    return law


@pytest.mark.parametrize("name", [n for n in EVERY if n != "noisy_gumbel_softmax, perturbed"])
def test_every_row_of_a_batch_of_searches_has_its_own_law(name: str) -> None:
    """Logits [S, E, K]: each of the 3 × 2 rows by chi-square or a normal test; smallest of 6 p above 1e-4."""
    from scipy.stats import chisquare, norm

    sampler = EVERY[name]
    drawn = sampler(SEARCHES.repeat(DRAWS, 1, 1), TAU, seeded(5)).weights.detach()
    drawn = drawn.view(DRAWS, 3, 2, 4)
    p_values = []
    for s in range(3):
        for e in range(2):
            alpha, mine = SEARCHES[s, e], drawn[:, s, e]
            if name in DETERMINISTIC:
                # a vectorised exp may round another way than that of a short row
                alone = sampler(alpha[None], TAU, seeded()).weights.expand_as(mine)
                torch.testing.assert_close(mine, alone, rtol=4e-16, atol=0)
            elif law_of(sampler) == "mean":
                score = (mine.mean(0) - sampler.probabilities(alpha)) / (mine.std(0) / DRAWS**0.5)
                p_values.append(float(2 * norm.sf(float(score.abs().max())) * 4))
            else:
                law = outcome_law(sampler, alpha)
                counts = torch.bincount(outcomes(sampler, mine), minlength=len(law)).double()
                p_values.append(float(chisquare(counts.numpy(), (DRAWS * law / law.sum()).numpy()).pvalue))
    assert min(p_values, default=1.0) > 1e-4


@pytest.mark.parametrize("name", [n for n in EVERY if n not in DETERMINISTIC])
def test_rows_of_a_batch_are_independent(name: str) -> None:
    """Between choices of one search, and between searches: chi-square of the table of joint outcomes."""
    from scipy.stats import chi2_contingency

    sampler = EVERY[name]
    drawn = sampler(SEARCHES.repeat(DRAWS, 1, 1), TAU, seeded(6)).weights.detach()
    index = outcomes(sampler, drawn).view(DRAWS, 6)
    kinds = int(index.max()) + 1
    for first, second in ((0, 1), (0, 2), (3, 4)):
        joint = torch.bincount(index[:, first] * kinds + index[:, second], minlength=kinds**2)
        assert chi2_contingency(joint.view(kinds, kinds).numpy()).pvalue > 1e-4


@pytest.mark.parametrize("name", [n for n in EVERY if n not in ("gumbel_max", "uniform")])
def test_a_row_s_gradient_goes_to_its_own_logits(name: str) -> None:
    logits = SEARCHES.clone().requires_grad_()
    weights = EVERY[name](logits, TAU, seeded(3)).weights
    cotangent = torch.tensor([0.7, -1.1, 0.4, 2.0], dtype=DOUBLE)
    for s in range(3):
        for e in range(2):
            value = (weights[s, e] * cotangent).sum()
            (found,) = torch.autograd.grad(value, logits, retain_graph=True)
            mine = torch.zeros(3, 2, dtype=torch.bool)
            mine[s, e] = True
            assert not bool(found[~mine].any())
            alone = bool((weights[s, e] == 1).any()) and name.endswith("perturbed")
            assert alone or bool(found[mine].any())


# --- calls that nobody can answer ----------------------------------------------------------------


@pytest.mark.parametrize("tau", [0.0, -1.0, math.inf, math.nan])
def test_a_temperature_that_is_none_is_refused(tau: float) -> None:
    with pytest.raises(UserError, match=r"temperature is a finite number above 0, got .*temperature\.start"):
        check_call(SEARCHES, tau)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_logits_that_are_not_finite_are_refused(wrong: float) -> None:
    logits = SEARCHES.clone()
    logits[1, 0, 2] = wrong
    with pytest.raises(UserError, match=r"logits are finite, got 1 of 24 .*architecture\.learning_rate"):
        check_call(logits, 1.0)


@pytest.mark.parametrize(
    "logits", [torch.zeros(3, 0), torch.zeros(()), torch.zeros(2, 3, dtype=torch.long)], ids=str
)
def test_logits_of_no_candidates_or_whole_numbers_are_refused(logits: Tensor) -> None:
    with pytest.raises(UserError, match="at least one candidate, got"):
        check_call(logits, 1.0)


@pytest.mark.parametrize("dtype", [DOUBLE, torch.float32, torch.bfloat16, torch.float16])
def test_good_calls_pass(dtype: torch.dtype) -> None:
    for tau in (1e-3, 1, 1e3):
        check_call(torch.full((2, 5), 1e4, dtype=dtype), tau)
        check_call(torch.zeros(0, 5, dtype=dtype), tau)  # no choice: nothing to draw
