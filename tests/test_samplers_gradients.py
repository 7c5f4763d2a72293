"""Samplers with a gradient of their own against exact values: enumerations, quadrature, known laws."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from archgrad.errors import UserError
from archgrad.samplers import SAMPLERS
from archgrad.samplers.decoupled_straight_through import DecoupledStraightThrough
from archgrad.samplers.dirichlet import Dirichlet, log_concentration
from archgrad.samplers.gumbel_max import GumbelMax
from archgrad.samplers.gumbel_noise import gumbel_noise
from archgrad.samplers.gumbel_rao import GumbelRao, conditional_gumbel
from archgrad.samplers.hard_draw import hard_draw, softmax_pull_back
from archgrad.samplers.reinmax import ReinMax
from archgrad.samplers.sampler import Sampler
from archgrad.samplers.score_gate import ScoreGate
from archgrad.samplers.straight_through import StraightThrough
from archgrad.samplers.two_path import TwoPath
from archgrad.testing.samplers import chi_square_p

DOUBLE = torch.float64
ALPHA = torch.tensor([0.4, -0.3, 0.8, 0.1], dtype=DOUBLE)
Objective = Callable[[Tensor], Tensor]  # one-hot rows [N, E, K] -> [N]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def quadratic(choices: int, candidates: int) -> Objective:
    """xᵀAx + b·x of all weights together, A not symmetric and without structure."""
    size = choices * candidates
    a = torch.randn(size, size, generator=seeded(1), dtype=DOUBLE)
    b = torch.randn(size, generator=seeded(2), dtype=DOUBLE)
    return lambda z: ((z.flatten(1) @ a) * z.flatten(1)).sum(-1) + z.flatten(1) @ b


def exact_gradient(objective: Objective, alpha: Tensor) -> Tensor:
    """d E[f(D)]/dα [E, K] as the sum over all K^E outcomes."""
    leaf = alpha.clone().requires_grad_()
    log_p = torch.log_softmax(leaf, dim=-1)
    total = torch.zeros((), dtype=DOUBLE)
    for outcome in product(range(alpha.shape[1]), repeat=alpha.shape[0]):
        drawn = torch.nn.functional.one_hot(torch.tensor(outcome), alpha.shape[1]).double()
        total = total + (log_p * drawn).sum().exp() * objective(drawn[None])[0]
    return torch.autograd.grad(total, leaf)[0]


def gradients(
    sampler: Sampler, objective: Objective, alpha: Tensor, tau: float, draws: int, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """For each draw the estimate df(z)/dα and the drawn weights, both [N, E, K]."""
    rows = alpha.expand(draws, *alpha.shape).clone().requires_grad_()
    weights = sampler(rows, tau, seeded(seed)).weights
    (found,) = torch.autograd.grad(objective(weights).sum(), rows)
    return found, weights.detach()


def expected_gradient(
    sampler: Sampler, objective: Objective, alpha: Tensor, tau: float, law: Tensor
) -> Tensor:
    """E of an estimator that is a function of the draw alone, summed over all outcomes.

    law: the distribution of each choice's draw [E, K]. Every outcome has to turn up in 4,000 draws,
    and all draws of one outcome have to give one gradient.
    """
    found, drawn = gradients(sampler, objective, alpha, tau, 4000)
    index = drawn.argmax(-1)
    total = torch.zeros_like(alpha)
    for outcome in product(range(alpha.shape[1]), repeat=alpha.shape[0]):
        mine = found[(index == torch.tensor(outcome)).all(-1)]
        assert len(mine) > 0
        torch.testing.assert_close(mine, mine[:1].expand_as(mine), rtol=0, atol=1e-13)
        probability = torch.stack([law[e, k] for e, k in enumerate(outcome)]).prod()
        total += probability * mine[0]
    return total


# --- ReinMax -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("choices", "candidates"), [(1, 2), (1, 3), (1, 4), (2, 3)])
def test_reinmax_is_exact_for_quadratics_and_straight_through_is_not(choices: int, candidates: int) -> None:
    alpha = torch.stack([ALPHA, ALPHA.flip(0)])[:choices, :candidates]
    objective, law = quadratic(choices, candidates), torch.softmax(alpha, dim=-1)
    exact = exact_gradient(objective, alpha)
    reinmax = expected_gradient(ReinMax(), objective, alpha, 1.0, law)
    torch.testing.assert_close(reinmax, exact, rtol=0, atol=1e-13)
    first_order = expected_gradient(DecoupledStraightThrough(), objective, alpha, 1.0, law)
    assert float((first_order - exact).abs().max()) > 0.05 * float(exact.abs().max())
    at_two = expected_gradient(ReinMax(), objective, alpha, 2.0, law)
    assert float((at_two - exact).abs().max()) > 0.01 * float(exact.abs().max())


def test_straight_through_gumbel_is_biased_for_a_quadratic_too() -> None:
    """What ReinMax is compared with in its paper: by Monte Carlo, 20 standard errors off."""
    alpha, objective = ALPHA[None, :3], quadratic(1, 3)
    found, _ = gradients(StraightThrough(), objective, alpha, 1.0, 20_000)
    error = found.mean(0) - exact_gradient(objective, alpha)
    assert float((error.abs() / (found.std(0) / 20_000**0.5)).max()) > 20


def test_reinmax_is_of_second_order() -> None:
    """f(z) = exp(h·c·z): the error of ReinMax falls as h³, that of straight-through as h²."""
    alpha, c = ALPHA[None], torch.tensor([0.9, -0.5, 0.2, -1.1], dtype=DOUBLE)
    law, steps = torch.softmax(alpha, dim=-1), torch.tensor([0.2, 0.1, 0.05, 0.025], dtype=DOUBLE)

    def order(sampler: Sampler) -> float:
        errors = []
        for h in steps:

            def objective(z: Tensor, h: Tensor = h) -> Tensor:
                return torch.exp(h * (z[:, 0] @ c))

            found = expected_gradient(sampler, objective, alpha, 1.0, law)
            errors.append((found - exact_gradient(objective, alpha)).norm())
        x, y = steps.log(), torch.stack(errors).log()
        return float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())

    assert order(ReinMax()) == pytest.approx(3, abs=0.2)
    assert order(DecoupledStraightThrough()) == pytest.approx(2, abs=0.2)


def test_reinmax_with_one_candidate_run_is_half_the_score_function() -> None:
    """With dL/dz = g on the drawn candidate k alone: dL/dα = g·(e_k − π)/2."""
    g = torch.tensor([1.3, -2.0, 0.4, 0.7], dtype=DOUBLE)
    pi = torch.softmax(ALPHA, dim=-1)
    rows = ALPHA.expand(200, 1, 4).clone().requires_grad_()
    weights = ReinMax()(rows, 1.0, seeded()).weights
    drawn = weights.detach()
    (found,) = torch.autograd.grad((weights * drawn * g).sum(), rows)
    torch.testing.assert_close(found, (drawn * g).sum(-1, keepdim=True) * (drawn - pi) / 2)
    assert len(set(drawn.argmax(-1).flatten().tolist())) == 4


@pytest.mark.parametrize("dtype", [DOUBLE, torch.float32, torch.bfloat16])
def test_a_hard_draw_has_the_jacobian_at_the_point_it_is_given(dtype: torch.dtype) -> None:
    """Logits of ±1e4 do not touch the digits of p, in low precision either."""
    logits = torch.tensor([1e4, -1e4, 0.3], dtype=dtype)
    at = torch.tensor([0.0, 0.25, 0.75], dtype=torch.promote_types(dtype, torch.float32))

    def weights(a: Tensor) -> Tensor:
        return hard_draw(a, torch.tensor([1]), lambda _, v: softmax_pull_back(at, v)).weights

    assert torch.equal(weights(logits), torch.tensor([0.0, 1.0, 0.0], dtype=dtype))
    jacobian = torch.autograd.functional.jacobian(weights, logits)
    wanted = (torch.diag(at) - torch.outer(at, at)).to(dtype)
    torch.testing.assert_close(jacobian, wanted, rtol=0, atol=4 * torch.finfo(dtype).eps)


def second_derivative(weights: Tensor, leaf: Tensor, v: Tensor, u: Tensor) -> Tensor:
    """d(u·d(f(z))/dα)/dα with f(z) = Σ v·z²/2: through z and, where it is live, through the Jacobian."""
    (first,) = torch.autograd.grad((v * weights.square()).sum() / 2, leaf, create_graph=True)
    return torch.autograd.grad((u * first).sum(), leaf)[0]


@pytest.mark.parametrize("unselected", ["nothing", "scalar"])
def test_second_derivatives_of_straight_through(unselected: Any) -> None:
    """As of z = soft − soft held + D, written out: what an unrolled hypergradient differentiates twice."""
    v, u = (torch.randn(1, 4, generator=seeded(s), dtype=DOUBLE) for s in (3, 4))
    found = []
    for tau in (0.5, 2.0):
        leaf = ALPHA[None].clone().requires_grad_()
        found.append(second_derivative(StraightThrough(unselected)(leaf, tau, seeded()).weights, leaf, v, u))
        leaf = ALPHA[None].clone().requires_grad_()
        soft = torch.softmax((leaf + gumbel_noise(leaf, seeded())) / tau, dim=-1)
        drawn = torch.nn.functional.one_hot(soft.argmax(-1), 4)
        wanted = second_derivative(soft - soft.detach() + drawn, leaf, v, u)
        torch.testing.assert_close(found[-1], wanted, rtol=1e-12, atol=1e-14)
    assert not torch.equal(*found)


@pytest.mark.parametrize(
    "sampler", [ScoreGate(), ReinMax(), GumbelRao(), DecoupledStraightThrough(0.7), TwoPath()], ids=repr
)
def test_second_derivatives_of_the_other_hard_samplers(sampler: Sampler) -> None:
    """Those of z = D + M(α − α held) with M the first Jacobian held; of score_gate with M live."""
    v, u = (torch.randn(1, 4, generator=seeded(s), dtype=DOUBLE) for s in (3, 4))
    leaf = ALPHA[None].clone().requires_grad_()
    weights = sampler(leaf, 1.3, seeded()).weights
    found = second_derivative(weights, leaf, v, u)
    rows = [torch.autograd.grad(sampler(leaf, 1.3, seeded()).weights[0, k], leaf)[0][0] for k in range(4)]
    again = ALPHA[None].clone().requires_grad_()
    drawn = weights.detach()
    if isinstance(sampler, ScoreGate):
        log_p = torch.log_softmax(again, dim=-1)
        stand_in = drawn * (1 + log_p - log_p.detach())
    else:
        stand_in = drawn + (again - again.detach()) @ torch.stack(rows).T
    torch.testing.assert_close(found, second_derivative(stand_in, again, v, u), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_draw_is_the_same_with_and_without_a_gradient(name: str) -> None:
    """And so are those after it: what is random for the gradient alone is drawn in both cases."""
    sampler, both = SAMPLERS[name](), []
    for wanted in (True, False):
        generator = seeded(6)
        alpha = ALPHA.expand(3, 4).clone().requires_grad_(wanted)
        both.append([sampler(alpha, 0.8, generator).weights.detach() for _ in range(3)])
    for with_gradient, without in zip(*both, strict=True):
        assert torch.equal(with_gradient, without)


# --- Gumbel-max and decoupled straight-through ---------------------------------------------------


def test_gumbel_max_draws_what_straight_through_draws_and_has_no_gradient() -> None:
    logits = ALPHA.expand(500, 4).clone().requires_grad_()
    sample = GumbelMax()(logits, 1.0, seeded(4))
    other = StraightThrough()(logits, 0.1, seeded(4))
    assert not sample.weights.requires_grad
    assert torch.equal(sample.weights, other.weights.detach())
    assert sample.active == other.active
    assert sample.one_hot


@pytest.mark.parametrize("tau", [0.5, 1.0, 3.0])
def test_decoupled_draws_at_the_schedule_s_temperature(tau: float) -> None:
    """Its draws at τ are those of Gumbel-max from α/τ; from α they would be another distribution."""
    rows = ALPHA.expand(20_000, 4)
    drawn = DecoupledStraightThrough()(rows, tau, seeded(6)).weights
    assert torch.equal(drawn, GumbelMax()(rows / tau, 1.0, seeded(6)).weights)
    if tau != 1.0:
        assert not torch.equal(drawn, GumbelMax()(rows, 1.0, seeded(6)).weights)


@pytest.mark.parametrize("backward_tau", [0.4, 1.0, 2.5])
def test_decoupled_gradient_by_hand(backward_tau: float) -> None:
    """∂z_j/∂α_k = q_j(δ_jk − q_k)/τ_b, whatever is drawn and at whatever temperature."""
    q = torch.softmax(ALPHA / backward_tau, dim=-1)
    wanted = (torch.diag(q) - torch.outer(q, q)) / backward_tau
    sampler = DecoupledStraightThrough(backward_tau=backward_tau)
    for tau in (0.3, 5.0):
        jacobian = torch.autograd.functional.jacobian(
            lambda a, tau=tau: sampler(a[None], tau, seeded(9)).weights[0], ALPHA
        )
        torch.testing.assert_close(jacobian, wanted, rtol=0, atol=1e-14)


def test_decoupled_is_unbiased_where_the_objective_is_linear_in_each_choice() -> None:
    a = torch.randn(3, 3, generator=seeded(1), dtype=DOUBLE)
    alpha = torch.stack([ALPHA, ALPHA.flip(0)])[:, :3]

    def bilinear(z: Tensor) -> Tensor:
        return ((z[:, 0] @ a) * z[:, 1]).sum(-1)

    exact = exact_gradient(bilinear, alpha)
    law = torch.softmax(alpha, dim=-1)
    found = expected_gradient(DecoupledStraightThrough(), bilinear, alpha, 1.0, law)
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-14)
    other = expected_gradient(DecoupledStraightThrough(backward_tau=2.0), bilinear, alpha, 1.0, law)
    assert float((other - exact).abs().max()) > 0.1 * float(exact.abs().max())


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("inf"), float("nan"), "1", True])
def test_backward_tau_is_checked(wrong: float) -> None:
    with pytest.raises(UserError, match=r"backward_tau is a finite number above 0, got"):
        DecoupledStraightThrough(backward_tau=wrong)


@pytest.mark.parametrize("wrong", [0, -3, 2.0, True])
def test_the_number_of_conditional_samples_is_checked(wrong: int) -> None:
    with pytest.raises(UserError, match=r"samples is a whole number from 1, got"):
        GumbelRao(samples=wrong)


# --- score gate ----------------------------------------------------------------------------------


def multilinear(choices: int, candidates: int) -> Objective:
    """The table of a value for every outcome, extended so that it is linear in each choice's weights."""
    table = torch.randn([candidates] * choices, generator=seeded(3), dtype=DOUBLE)

    def objective(z: Tensor) -> Tensor:
        total = table.expand(len(z), *table.shape)
        for e in range(choices):
            total = torch.einsum("nk...,nk->n...", total, z[:, e])
        return total

    return objective


@pytest.mark.parametrize(("choices", "candidates"), [(1, 4), (2, 3), (3, 3)])
def test_score_gate_is_unbiased_where_the_objective_is_linear_in_each_choice(
    choices: int, candidates: int
) -> None:
    """All K^E draws, weighted exactly. For a quadratic it is biased, and the softmax's law is needed."""
    alpha = torch.stack([ALPHA, ALPHA.flip(0), 2 * ALPHA])[:choices, :candidates]
    law, objective = torch.softmax(alpha, dim=-1), multilinear(choices, candidates)
    found = expected_gradient(ScoreGate(), objective, alpha, 1.0, law)
    torch.testing.assert_close(found, exact_gradient(objective, alpha), rtol=0, atol=1e-14)
    other = quadratic(choices, candidates)
    biased = expected_gradient(ScoreGate(), other, alpha, 1.0, law) - exact_gradient(other, alpha)
    assert float(biased.abs().max()) > 0.1


@pytest.mark.parametrize("tau", [0.3, 1.0])
def test_score_gate_is_twice_reinmax_when_only_the_drawn_gate_has_a_gradient(tau: float) -> None:
    """At ReinMax's τ = 1; score_gate itself has no temperature."""
    g = torch.tensor([1.3, -2.0, 0.4, 0.7], dtype=DOUBLE)
    pi = torch.softmax(ALPHA, dim=-1)
    found = []
    for sampler in (ScoreGate(), ReinMax()):
        rows = ALPHA.expand(200, 1, 4).clone().requires_grad_()
        weights = sampler(rows, tau if sampler == ScoreGate() else 1.0, seeded()).weights
        drawn = weights.detach()
        found += torch.autograd.grad((weights * drawn * g).sum(), rows)
    torch.testing.assert_close(found[0], 2 * found[1], rtol=0, atol=1e-14)
    wanted = (drawn * g).sum(-1, keepdim=True) * (drawn - pi)
    torch.testing.assert_close(found[0], wanted, rtol=0, atol=1e-14)
    assert len(set(drawn.argmax(-1).flatten().tolist())) == 4


def test_score_gate_hears_only_the_drawn_gate() -> None:
    """dL/dz of a candidate that was not drawn makes no difference."""
    logits = ALPHA[None].clone().requires_grad_()
    weights = ScoreGate()(logits, 1.0, seeded()).weights
    closed = 1 - weights.detach()
    (found,) = torch.autograd.grad((weights * closed * 7).sum(), logits)
    assert torch.equal(found, torch.zeros_like(found))


# --- two paths -----------------------------------------------------------------------------------


def published_law(p: Tensor) -> Tensor:
    """P(k is chosen) [K] by the procedure: a first from p, a second from the rest, one of the two by p."""
    chosen = torch.zeros_like(p)
    for i in range(len(p)):
        for j in range(len(p)):
            if i != j:
                ordered = p[i] * p[j] / (1 - p[i])
                chosen[i] += ordered * p[i] / (p[i] + p[j])
                chosen[j] += ordered * p[j] / (p[i] + p[j])
    return chosen


@pytest.mark.parametrize("candidates", [1, 2, 3, 4])
def test_two_path_s_law_is_that_of_the_procedure(candidates: int) -> None:
    alpha = 1.5 * ALPHA[:candidates]
    p = torch.softmax(alpha, dim=-1)
    wanted = published_law(p) if candidates > 1 else p
    found = TwoPath().probabilities(alpha)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-14)
    assert torch.equal(found.argsort(), p.argsort())
    distance = float((found - p).abs().max())
    assert distance > 0.02 if candidates > 2 else distance < 1e-15


def test_two_path_s_law_where_probabilities_round_to_one() -> None:
    """α = (0, −60, −61): 1 − p_0 is 0 in floats, but the second of the pair still comes from the others."""
    found = TwoPath().log_prob(
        torch.tensor([0.0, -60.0, -61.0], dtype=DOUBLE).expand(3, 3), 1.0, torch.eye(3, dtype=DOUBLE)
    )
    second = torch.log_softmax(torch.tensor([-60.0, -61.0], dtype=DOUBLE), dim=-1)
    wanted = torch.tensor([0.0, -60.0, -61.0], dtype=DOUBLE) + torch.cat([torch.zeros(1), second])
    torch.testing.assert_close(found, wanted, rtol=1e-14, atol=1e-14)


def test_two_path_draws_pairs_without_replacement_and_one_of_them_by_q() -> None:
    """Chi-square of (chosen, other) over the 12 ordered pairs against exact probabilities."""
    from scipy.stats import chisquare

    p, draws = torch.softmax(ALPHA, dim=-1), 20_000
    active = TwoPath()(ALPHA.expand(draws, 4).clone().requires_grad_(), 1.0, seeded(2)).active
    assert active is not None
    index = torch.tensor(active)
    counts = torch.bincount(index[:, 0] * 4 + index[:, 1], minlength=16).double()
    wanted = torch.zeros(4, 4, dtype=DOUBLE)
    for i, j in product(range(4), repeat=2):
        if i != j:
            pair = p[i] * p[j] * (1 / (1 - p[i]) + 1 / (1 - p[j]))
            wanted[i, j] = pair * p[i] / (p[i] + p[j])
    assert float(wanted.sum()) == pytest.approx(1, abs=1e-14)
    apart = ~torch.eye(4, dtype=torch.bool).flatten()
    assert not bool(counts[~apart].any())
    assert chisquare(counts[apart].numpy(), draws * wanted.flatten()[apart].numpy()).pvalue > 1e-3


def test_two_path_gradient_by_hand() -> None:
    """dα_i = Σ_j g_j q_j (δ_ij − q_i) over the pair; the chosen one is first, of weight 1."""
    g = torch.tensor([1.3, -2.0, 0.4, 0.7], dtype=DOUBLE)
    seen = set()
    for seed in range(150):
        logits = ALPHA[None].clone().requires_grad_()
        sample = TwoPath()(logits, 0.4, seeded(seed))
        (found,) = torch.autograd.grad((sample.weights * g).sum(), logits)
        assert sample.active is not None
        ((i, j),) = sample.active
        assert sample.weights[0].tolist() == [float(k == i) for k in range(4)]
        q = ALPHA[[i, j]].exp() / ALPHA[[i, j]].exp().sum()
        wanted = torch.zeros(4, dtype=DOUBLE)
        wanted[i] = g[i] * q[0] * (1 - q[0]) - g[j] * q[1] * q[0]
        wanted[j] = g[j] * q[1] * (1 - q[1]) - g[i] * q[0] * q[1]
        torch.testing.assert_close(found[0], wanted, rtol=0, atol=1e-15)
        seen.add((i, j))
    assert len(seen) == 12


def test_two_path_runs_the_chosen_one_alone_where_no_gradient_is_wanted() -> None:
    with_gradient = TwoPath()(ALPHA.expand(50, 4).clone().requires_grad_(), 1.0, seeded(5))
    without = TwoPath()(ALPHA.expand(50, 4), 1.0, seeded(5))
    assert torch.equal(with_gradient.weights, without.weights)
    assert with_gradient.active is not None
    assert without.active == tuple((chosen,) for chosen, _ in with_gradient.active)


def test_after_step_leaves_the_probabilities_of_unmoved_candidates() -> None:
    before = torch.randn(3, 4, 6, generator=seeded(1), dtype=DOUBLE)
    moved = torch.rand(3, 4, 6, generator=seeded(2)) < 0.4
    moved[0, 0], moved[0, 1] = False, True  # a row without moves, and one where all moved
    step = torch.randn(3, 4, 6, generator=seeded(3), dtype=DOUBLE)
    after = torch.where(moved, before + step, before)
    kept, kept_before = after.clone(), before.clone()
    found = TwoPath().after_step(before, after)
    assert torch.equal(after, kept)
    assert torch.equal(before, kept_before)
    assert torch.equal(found[~moved], before[~moved])
    assert torch.equal(found[0, 0], before[0, 0])
    p, q, raw = (torch.softmax(a, dim=-1) for a in (before, found, after))
    torch.testing.assert_close(q[~moved], p[~moved], rtol=4e-16, atol=0)
    assert float((raw - p)[~moved].abs().max()) > 0.01  # what is corrected
    shift = torch.where(moved, found - after, torch.nan)
    spread = shift.nan_to_num(-torch.inf).amax(-1) - shift.nan_to_num(torch.inf).amin(-1)
    assert float(spread[moved.any(-1)].max()) < 1e-15  # one offset a row: the step's differences stay
    torch.testing.assert_close(found.logsumexp(-1), before.logsumexp(-1), rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("settings", "protected"),
    [
        ({"betas": (0.0, 0.999)}, True),
        ({"betas": (0.5, 0.999)}, False),
        ({"betas": (0.0, 0.999), "weight_decay": 1e-3}, False),
    ],
)
def test_after_step_protects_where_steps_are_plain(settings: dict[str, Any], protected: bool) -> None:
    """What `needs_plain_steps` asks for: ten steps of Adam, the unsampled of each step watched."""
    alpha = torch.randn(3, 6, generator=seeded(1), dtype=DOUBLE, requires_grad=True)
    slope = torch.randn(3, 6, generator=seeded(2), dtype=DOUBLE)
    optimizer = torch.optim.Adam([alpha], lr=0.1, **settings)
    drift = 0.0
    for step in range(10):
        sample = TwoPath()(alpha, 1.0, seeded(step))
        alpha.grad = torch.autograd.grad((slope * sample.weights).sum(), alpha)[0]
        before = alpha.detach().clone()
        optimizer.step()
        after = TwoPath().after_step(before, alpha.detach())
        with torch.no_grad():
            alpha.copy_(after)
        change = (torch.softmax(after, dim=-1) - torch.softmax(before, dim=-1)).abs()
        assert sample.active is not None
        for row, pair in zip(change, sample.active, strict=True):
            row[list(pair)] = 0.0
        drift = max(drift, float(change.max()))
    assert drift < 1e-15 if protected else drift > 1e-6


def test_after_step_at_large_logits() -> None:
    before = torch.tensor([[1e4, -1e4, 3.0]])
    found = TwoPath().after_step(before, before + torch.tensor([[1.0, -2.0, 0.0]]))
    torch.testing.assert_close(found, torch.tensor([[1e4, -1e4 - 3, 3.0]]), rtol=0, atol=2e-3)


# --- Gumbel-Rao ----------------------------------------------------------------------------------


def test_conditional_gumbels_have_the_law_of_gumbels() -> None:
    """With the index drawn too each α_k + G_k is Gumbel; the largest is Gumbel(log Z) for any index."""
    from scipy.stats import gumbel_r, kstest

    rows = ALPHA.expand(5000, 4)
    index = (rows + gumbel_noise(rows, seeded(1))).argmax(-1)
    drawn = conditional_gumbel(rows, index, 2, seeded(2))
    assert drawn.shape == (2, 5000, 4)
    assert torch.equal(drawn.argmax(-1), index.expand(2, -1))
    log_z = float(torch.logsumexp(ALPHA, 0))
    for s in range(2):
        for k in range(4):
            assert kstest(drawn[s, :, k].numpy(), gumbel_r(loc=float(ALPHA[k])).cdf).pvalue > 1e-3
            largest = drawn[s, index == k, k].numpy()
            assert kstest(largest, gumbel_r(loc=log_z).cdf).pvalue > 1e-3


def two_candidate_moments(tau: float, slopes: tuple[float, float]) -> tuple[float, float, float]:
    """Mean of dL/dα_0 for K = 2, its variance, and the variance of its mean given the draw.

    Y_0 − Y_1 = α_0 − α_1 + L with L logistic, the first is drawn where that is positive, and the estimate is
    c_D·h with h = σ(1 − σ)/τ, σ = sigmoid((Y_0 − Y_1)/τ), c_D = g_0 − g_1 at the draw. Midpoint rule.
    """
    u = (torch.arange(400_000, dtype=DOUBLE) + 0.5) / 400_000
    gap = ALPHA[0] - ALPHA[1] + torch.log(u) - torch.log1p(-u)
    sigma = torch.sigmoid(gap / tau)
    h = sigma * (1 - sigma) / tau
    mean = torch.zeros((), dtype=DOUBLE)
    square, between = mean.clone(), mean.clone()
    for c, mine in zip(slopes, (h[gap > 0], h[gap <= 0]), strict=True):
        share = len(mine) / len(h)
        mean += share * c * mine.mean()
        square += share * c**2 * mine.square().mean()
        between += share * c**2 * mine.mean() ** 2
    return float(mean), float(square - mean**2), float(between - mean**2)


@pytest.mark.parametrize("tau", [0.3, 1.0])
def test_gumbel_rao_has_the_mean_of_straight_through_and_the_variance_of_theory(tau: float) -> None:
    """Var_S = Var(E[·|D]) + (Var_1 − Var(E[·|D]))/S: within 3.5 standard errors of the exact numbers.

    Six numbers with |z| < 3.5 each: all hold with probability 0.997 over seeds; the seed is fixed.
    """
    slopes, draws = (2.0, -0.5), 20_000

    def objective(z: Tensor) -> Tensor:  # c_D = 2 where the first is drawn, −½ where the second
        return 1.0 * z[:, 0, 0].square() + 0.25 * z[:, 0, 1].square()

    mean, variance, between = two_candidate_moments(tau, slopes)
    samplers: list[tuple[Sampler, int]] = [(StraightThrough(), 1)]
    samplers += [(GumbelRao(samples=s), s) for s in (1, 16)]
    for sampler, samples in samplers:
        found = gradients(sampler, objective, ALPHA[None, :2], tau, draws, seed=samples)[0][:, 0, 0]
        wanted = between + (variance - between) / samples
        assert abs(float(found.mean()) - mean) < 3.5 * (wanted / draws) ** 0.5
        squares = (found - mean).square()
        assert abs(float(squares.mean()) - wanted) < 3.5 * float(squares.std()) / draws**0.5


def test_gumbel_rao_has_lower_variance_than_straight_through() -> None:
    """K = 4, total variance over the logits: the difference is 10 standard errors, the means agree."""
    alpha, objective, tau, draws = ALPHA[None], quadratic(1, 4), 0.3, 8000
    found = [
        gradients(sampler, objective, alpha, tau, draws, seed)[0][:, 0]
        for seed, sampler in enumerate((StraightThrough(), GumbelRao(samples=16)))
    ]
    spread = [(g - g.mean(0)).square().sum(-1) for g in found]
    error = (sum(s.var() for s in spread) / draws) ** 0.5
    assert float((spread[0].mean() - spread[1].mean()) / error) > 10
    apart = (found[0].mean(0) - found[1].mean(0)).abs()
    assert float((apart / ((found[0].var(0) + found[1].var(0)) / draws).sqrt()).max()) < 3.5


# --- Dirichlet -----------------------------------------------------------------------------------


def test_the_concentration_is_elu_plus_one() -> None:
    alpha = torch.tensor([-25.0, -3.0, -0.5, 0.0, 0.5, 9e3], dtype=DOUBLE)
    elu = torch.nn.functional.elu(alpha) + 1
    torch.testing.assert_close(log_concentration(alpha).exp(), elu, rtol=1e-4, atol=0)
    torch.testing.assert_close(log_concentration(alpha)[1:].exp(), elu[1:], rtol=1e-13, atol=0)
    torch.testing.assert_close(Dirichlet().probabilities(alpha), elu / elu.sum(), rtol=1e-4, atol=1e-15)
    assert torch.equal(log_concentration(torch.tensor([-1e4])), torch.tensor([-30.0]))


def test_each_dirichlet_weight_is_a_beta_variable() -> None:
    from scipy.stats import beta, kstest

    alpha = torch.tensor([-1.0, 0.0, 2.5], dtype=DOUBLE)
    concentration = torch.nn.functional.elu(alpha) + 1
    drawn = Dirichlet()(alpha.expand(5000, 3), 1.0, seeded(3)).weights
    for k in range(3):
        mine = float(concentration[k])
        assert kstest(drawn[:, k].numpy(), beta(mine, float(concentration.sum()) - mine).cdf).pvalue > 1e-3


def test_dirichlet_gradient_of_a_second_moment() -> None:
    """E[z_0²] = β_0(β_0 + 1)/(s(s + 1)), s = Σβ: its gradient is the mean of 20,000, to 3.5 errors."""
    alpha = torch.tensor([0.5, -1.0, 1.5], dtype=DOUBLE, requires_grad=True)
    beta = torch.nn.functional.elu(alpha) + 1
    s = beta.sum()
    (exact,) = torch.autograd.grad(beta[0] * (beta[0] + 1) / (s * (s + 1)), alpha)
    found, _ = gradients(Dirichlet(), lambda z: z[:, 0, 0].square(), alpha.detach()[None], 1.0, 20_000)
    error = found[:, 0].std(0) / 20_000**0.5
    assert float(((found[:, 0].mean(0) - exact).abs() / error).max()) < 3.5
    assert float((exact.abs() / error).min()) > 20  # so that a gradient wrong by a fifth would show


def test_the_gamma_gradient_is_that_of_the_quantile() -> None:
    """PyTorch's dY/dβ against differences of the inverse distribution function; it is good to 1e-3."""
    from scipy.special import gammainc, gammaincinv

    for shape in (1.05, 1.7, 12.0):
        concentration = torch.full((500,), shape, dtype=DOUBLE, requires_grad=True)
        drawn = torch._standard_gamma(concentration, seeded(5))
        (found,) = torch.autograd.grad(drawn.sum(), concentration)
        level = gammainc(shape, drawn.detach().numpy())
        wanted = (gammaincinv(shape + 1e-5, level) - gammaincinv(shape - 1e-5, level)) / 2e-5
        torch.testing.assert_close(found, torch.from_numpy(wanted), rtol=1e-3, atol=0)


def test_small_concentrations_give_one_hot_draws_in_their_proportion() -> None:
    """As β → 0 the draw tends to one-hot(k) with probability β_k/Σβ: chi-square, 20,000 draws."""
    from scipy.stats import chisquare

    share = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=DOUBLE)
    alpha = share.log() - 20
    drawn = Dirichlet()(alpha.expand(20_000, 4), 1.0, seeded(7)).weights
    assert float(drawn.max(-1).values.min()) > 1 - 1e-9
    counts = torch.bincount(drawn.argmax(-1), minlength=4).numpy()
    assert chisquare(counts, 20_000 * share.numpy()).pvalue > 1e-3


def test_the_argmax_of_a_dirichlet_draw_does_not_follow_its_probabilities() -> None:
    """Hence its law; the larger the concentrations, the less."""
    assert chi_square_p(Dirichlet(), 1.0, 20_000) < 1e-12
    alpha = torch.tensor([9000.0, 11_000.0], dtype=DOUBLE).expand(1000, 2)
    assert bool((Dirichlet()(alpha, 1.0, seeded()).weights.argmax(-1) == 1).all())
