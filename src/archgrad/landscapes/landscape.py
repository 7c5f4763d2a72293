"""The contract of a landscape: a loss for every architecture, extended to the points between them.

T[a] is the loss of the architecture that takes candidate a_e at choice e. The multilinear extension
f(z) = Σ_a Π_e z[e, a_e] · T[a] agrees with it at one-hot z and is linear in each row of z. For
independent rows a_e ~ p_e it is an expectation, f(p) = E[T[a]], so ∇_α f(p(α)) is the exact gradient
of the expected loss: what a score-function estimator (Williams 1992, Machine Learning 8) is right on
average about. Shapes: E choices × K candidates; leading dimensions are independent
searches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from archgrad.architecture import Architecture
from archgrad.choice import Group
from archgrad.errors import UserError


class Landscape(Protocol):
    """A loss, to be minimised, of E choices with K candidates each; there is one group.

    Law (`archgrad.testing.check_landscape`): `value` at one-hot rows is `values`; it is linear in each
    row; its gradient equals finite differences; nothing is below `best`, which the optimum attains;
    members of a batch do not touch each other.
    """

    @property
    def groups(self) -> tuple[Group, ...]:
        """One `Group`: K candidates, E names."""

    @property
    def optimum(self) -> tuple[int, ...]:
        """The candidate's index at each of the E choices of one best architecture."""

    @property
    def best(self) -> float:
        """The least loss of an architecture."""

    @property
    def worst(self) -> float:
        """The greatest loss of an architecture."""

    @property
    def truth(self) -> Landscape:
        """What a found architecture is scored on; the landscape itself unless it is a noisy one."""

    def value(self, z: Tensor) -> Tensor:
        """f(z) [...] for weights z [..., E, K], differentiable; in z's precision and on its device."""

    def values(self, index: Tensor) -> Tensor:
        """Losses [...] of architectures index [..., E] (int64), in float64 on the host."""


def plain_group(choices: int, candidates: int) -> Group:
    """The group of a landscape that stands for no network.

    >>> plain_group(2, 3)
    Group(candidates=('0', '1', '2'), names=('choice 0', 'choice 1'), kind='choice')

    Raises:
        UserError: fewer than one choice or candidate.
    """
    if choices < 1 or candidates < 1:
        raise UserError(
            f"a landscape needs at least one choice and one candidate, got choices={choices}, "
            f"candidates={candidates}: give two positive numbers"
        )
    return Group(tuple(map(str, range(candidates))), tuple(f"choice {e}" for e in range(choices)))


def architecture_at(landscape: Landscape, index: Sequence[int]) -> Architecture:
    """The architecture of E candidate indices, such as `Landscape.optimum`."""
    (group,) = landscape.groups
    check_index(torch.tensor(list(index)), group)
    return Architecture({name: group.candidates[k] for name, k in zip(group.names, index, strict=True)})


def index_in(landscape: Landscape, architecture: Architecture) -> tuple[int, ...]:
    """The E candidate indices of an architecture.

    Raises:
        UserError: the architecture is not one of this landscape.
    """
    (group,) = landscape.groups
    if set(architecture) != set(group.names):
        raise UserError(
            f"the landscape's choices are {', '.join(group.names)}; the architecture has "
            f"{', '.join(architecture)}: derive it from a search on this landscape"
        )
    for name in group.names:
        if architecture[name] not in group.candidates:
            raise UserError(
                f"choice {name!r} has no candidate {architecture[name]!r}; it has "
                f"{', '.join(group.candidates)}"
            )
    return tuple(group.candidates.index(architecture[name]) for name in group.names)


def _softmax(logits: Tensor) -> Tensor:
    return torch.softmax(logits, dim=-1)


def exact_gradient(
    landscape: Landscape, logits: Tensor, probabilities: Callable[[Tensor], Tensor] = _softmax
) -> Tensor:
    """d E_{a ~ p(α)}[T[a]] / dα [..., E, K], exactly: by multilinearity it is ∇_α f(p(α)).

    Args:
        landscape: the losses T.
        logits: α [..., E, K].
        probabilities: α -> p [..., E, K], rows that sum to 1; each row is drawn on its own.
    """
    alpha = logits.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(landscape.value(probabilities(alpha)).sum(), alpha)
    return gradient


def mean_loss(landscape: Landscape) -> float:
    """Of an architecture drawn at random, each as probable as any other: f at uniform weights."""
    (group,) = landscape.groups
    uniform = torch.full((len(group.names), len(group.candidates)), 1 / len(group.candidates)).double()
    return float(landscape.value(uniform))


def check_weights(z: Tensor, group: Group) -> None:
    """Raise `UserError` unless z is a floating-point [..., E, K] of the group."""
    wanted = (len(group.names), len(group.candidates))
    if tuple(z.shape[-2:]) != wanted or not z.is_floating_point():
        raise UserError(
            f"a landscape of {wanted[0]} choices × {wanted[1]} candidates needs weights [..., {wanted[0]}, "
            f"{wanted[1]}] of floating point, got {list(z.shape)} {z.dtype}"
        )


def check_index(index: Tensor, group: Group) -> None:
    """Raise `UserError` unless index is an integer [..., E] with entries in [0, K)."""
    choices, candidates = len(group.names), len(group.candidates)
    fits = index.shape[-1:] == (choices,) and not index.is_floating_point() and index.dtype != torch.bool
    if not fits or bool(((index < 0) | (index >= candidates)).any()):
        raise UserError(
            f"wanted candidate indices [..., {choices}] of integers from 0 to {candidates - 1}, got "
            f"{list(index.shape)} {index.dtype}, first {index.flatten()[:8].tolist()}"
        )
