"""Bilevel problems that know their answer: hypergradients in closed form, in float64.

The logits are two groups, [2, 3] and [1, 4]; z (n_z = 10 numbers) are the drawn weights in a row, their
softmax or, on demand, one-hot rows drawn from it. The
weights w (n_w = 7 numbers) are two tensors, [3] and [2, 2]; a third, [2], is in no loss, like the
parameters of a candidate that did not run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from archgrad.choice import Group, Sample
from archgrad.policy import Policy
from archgrad.problem import Objective, Outcome, Problem, WeightStep
from archgrad.samplers.gumbel_max import GumbelMax
from archgrad.samplers.softmax import Softmax

_GROUPS = ((2, 3), (1, 4))
_WEIGHTS = ((3,), (2, 2), (2,))
_USED = 7  # numbers in the first two weights
_N_Z = 10

_Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Planted:
    """A problem with the exact answers of the hypergradients, one [E, K] per group each.

    The answers at z are those of z = softmax(α), whatever `problem` draws.

    problem: see `archgrad.problem.Problem`.
    alpha: the logits, leaves that require grad.
    expected: ∇_α E[L_val(w, z)] over one-hot rows z drawn from softmax(α).
    first_order: ∇_α L_val(w, α).
    single_level: ∇_α L_train(w, α).
    unrolled: dL_val(w'(α), α)/dα, w' one step of `problem.weight_step` from w.
    implicit: ∇_α L_val + (∂w*/∂α)ᵀ ∇_w L_val at the given w, ∂w*/∂α = −[∂²L_train/∂w²]⁻¹ ∂²L_train/∂w∂α
        (Lorraine et al. 2020, arXiv 1911.02590, theorem 1); weight decay is not part of L_train. The
        Hessian is that of the weights in the loss.
    implicit_with: the same with another matrix in place of the inverse; it is handed the Hessian.
    """

    problem: Problem
    alpha: list[Tensor]
    first_order: list[Tensor]
    single_level: list[Tensor]
    unrolled: list[Tensor]
    expected: list[Tensor]
    implicit_with: Callable[[Callable[[Tensor], Tensor]], list[Tensor]]

    @property
    def implicit(self) -> list[Tensor]:
        """See the class."""
        return self.implicit_with(torch.linalg.inv)


def quadratic_problem(
    seed: int = 0,
    *,
    learning_rate: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 0.03,
    one_hot: bool = False,
) -> Planted:
    """Quadratic in w on both levels, so central differences along w are exact.

    L_train = ½wᵀAw − wᵀ(Bz + b) + pᵀz,   L_val = ½wᵀHw − cᵀw + zᵀMw + qᵀz + ½zᵀSz, A positive definite.

    Args:
        seed: seed of all coefficients, weights, logits and velocities.
        learning_rate: of the inner step.
        momentum: of the inner step; the velocities are not zero.
        weight_decay: of the inner step.
        one_hot: the problem draws one-hot rows from softmax(α), without gradient (`GumbelMax`); its
            draws are otherwise softmax(α) itself.
    """
    normal = _Normal(seed)
    A, H, S = normal.definite(_USED), normal.definite(_USED), normal.definite(_N_Z)
    B, M = normal(_USED, _N_Z), normal(_N_Z, _USED)
    b, c, p, q = normal(_USED), normal(_USED), normal(_N_Z), normal(_N_Z)

    def train(w: Tensor, z: Tensor) -> Tensor:
        return 0.5 * w @ A @ w - w @ (B @ z + b) + p @ z

    def valid(w: Tensor, z: Tensor) -> Tensor:
        return 0.5 * w @ H @ w - c @ w + z @ M @ w + q @ z + 0.5 * z @ S @ z

    inner = WeightStep(learning_rate, momentum, weight_decay)
    problem, alpha, w, z = _assemble(normal, train, valid, inner, one_hot)
    stepped = _stepped(w, A @ w - B @ z - b, problem.weight_step)

    def direct(w: Tensor) -> Tensor:
        return M @ w + q + S @ z

    def slope(w: Tensor) -> Tensor:
        return H @ w - c + M.T @ z

    # one-hot rows: z_k² = z_k, two of one row are never both 1, those of different rows are independent
    row = torch.cat([torch.arange(e).repeat_interleave(k) + 10 * g for g, (e, k) in enumerate(_GROUPS)])
    pairs = (row != row[:, None]) * S

    return Planted(
        problem,
        alpha,
        first_order=_to_logits(direct(w), z),
        single_level=_to_logits(p - B.T @ w, z),
        unrolled=_to_logits(direct(stepped) + learning_rate * B.T @ slope(stepped), z),
        expected=_to_logits(M @ w + q + 0.5 * S.diagonal() + pairs @ z, z),
        implicit_with=lambda inverse: _to_logits(direct(w) + B.T @ (inverse(A) @ slope(w)), z),
    )


def exponential_problem(
    seed: int = 0,
    *,
    learning_rate: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 0.03,
    one_hot: bool = False,
) -> Planted:
    """Not quadratic in w: the error of a finite difference shows.

    L_train = Σ_i z_i·exp(u_i·w) + ½wᵀAw, L_val = ½‖w − t‖² + qᵀz, A positive definite.

    Args:
        seed: seed of all coefficients, weights, logits and velocities.
        learning_rate: of the inner step.
        momentum: of the inner step; the velocities are not zero.
        weight_decay: of the inner step.
        one_hot: the problem draws one-hot rows from softmax(α), without gradient (`GumbelMax`); its
            draws are otherwise softmax(α) itself.
    """
    normal = _Normal(seed)
    A, U, t, q = normal.definite(_USED), 0.5 * normal(_N_Z, _USED), normal(_USED), normal(_N_Z)

    def train(w: Tensor, z: Tensor) -> Tensor:
        return z @ torch.exp(U @ w) + 0.5 * w @ A @ w

    def valid(w: Tensor, z: Tensor) -> Tensor:
        return 0.5 * (w - t) @ (w - t) + q @ z

    inner = WeightStep(learning_rate, momentum, weight_decay)
    problem, alpha, w, z = _assemble(normal, train, valid, inner, one_hot)
    grown = torch.exp(U @ w)
    stepped = _stepped(w, U.T @ (z * grown) + A @ w, problem.weight_step)
    hessian = U.T @ ((z * grown)[:, None] * U) + A
    return Planted(
        problem,
        alpha,
        first_order=_to_logits(q, z),
        single_level=_to_logits(grown, z),
        unrolled=_to_logits(q - learning_rate * grown * (U @ (stepped - t)), z),
        expected=_to_logits(q, z),
        implicit_with=lambda inverse: _to_logits(q - grown * (U @ (inverse(hessian) @ (w - t))), z),
    )


class _Normal:
    """Standard normal float64 tensors from one generator."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def definite(self, size: int) -> Tensor:
        """Symmetric, eigenvalues at least ½."""
        root = self(size, size)
        return root @ root.T / size + 0.5 * torch.eye(size, dtype=torch.float64)


def _noise(repeat: int) -> torch.Generator:
    return torch.Generator().manual_seed(1_000 + repeat)


def _assemble(
    normal: _Normal, train: _Loss, valid: _Loss, step: WeightStep, one_hot: bool
) -> tuple[Problem, list[Tensor], Tensor, Tensor]:
    """The problem, its logits, and the values of w and of z = softmax(α) in a row."""
    alpha = [normal(*shape).requires_grad_() for shape in _GROUPS]
    weights = [normal(*shape).requires_grad_() for shape in _WEIGHTS]
    velocities = [normal(*_WEIGHTS[0]), normal(*_WEIGHTS[1]), None]

    def objective(loss: _Loss) -> Objective:
        def evaluate(samples: Sequence[Sample]) -> Outcome:
            value = loss(_flat(weights[:2]), _flat([s.weights for s in samples]))
            return Outcome(value, value.detach(), torch.tensor(0), 1)

        return evaluate

    groups = tuple(
        Group(tuple(map(str, range(k))), tuple(f"{g}.{i}" for i in range(e)))
        for g, (e, k) in enumerate(_GROUPS)
    )
    policy = Policy(groups, GumbelMax() if one_hot else Softmax())

    def draw(alpha: Sequence[Tensor], repeat: int = 0) -> list[Sample]:
        return policy.draw(alpha, 1.0, _noise(repeat))

    problem = Problem(
        objective(train),
        objective(valid),
        draw,
        weights,
        weight_step=step._replace(velocities=velocities),
        policy=policy,
        noise=_noise,
    )
    z = _flat([torch.softmax(a.detach(), dim=-1) for a in alpha])
    return problem, alpha, _flat(weights[:2]).detach(), z


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([t.reshape(-1) for t in tensors])


def _stepped(w: Tensor, gradient: Tensor, step: WeightStep) -> Tensor:
    """w − η(μ·b + g + λw)."""
    velocity = _flat([v for v in step.velocities if v is not None])
    return w - step.learning_rate * (step.momentum * velocity + gradient + step.weight_decay * w)


def _to_logits(by_z: Tensor, z: Tensor) -> list[Tensor]:
    """Through the softmax: dα_k = z_k (g_k − Σ_j z_j g_j) in every row; one [E, K] per group."""
    found, start = [], 0
    for choices, candidates in _GROUPS:
        end = start + choices * candidates
        g, row = (v[start:end].view(choices, candidates) for v in (by_z, z))
        found.append(row * (g - (row * g).sum(dim=-1, keepdim=True)))
        start = end
    return found
