"""Extreme eigenvalues and the trace of symmetric matrices that are known by their products with vectors.

S independent matrices of n rows at once; vectors are [S, n] in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]
"""Vectors [S, n] -> each matrix times its vector, [S, n]."""


class Extremes(NamedTuple):
    """largest, smallest: [S], the extreme eigenvalues. residual: [S], ‖A·x − λ·x‖ of the largest's unit
    vector x, the distance to an eigenvalue at most. iterations: products taken."""

    largest: Tensor
    smallest: Tensor
    residual: Tensor
    iterations: int


def lanczos(
    product: Product, shape: tuple[int, int], iterations: int, tolerance: float, generator: torch.Generator
) -> Extremes:
    """Lanczos with full reorthogonalisation, so that no eigenvalue appears twice by rounding.

    Ends after `iterations` products, after n of them (then it is exact), or when every residual is at most
    `tolerance` times the largest absolute eigenvalue found. Where a subspace is exhausted, it goes on from a
    fresh vector.

    Source: Golub & Van Loan 2013, Matrix Computations, section 10.1 and 10.3.
    """
    vectors = [_orthonormal(torch.randn(shape, generator=generator, dtype=torch.float64), [])]
    diagonal: list[Tensor] = []
    beside: list[Tensor] = []
    most = min(iterations, shape[1])
    while True:
        image = product(vectors[-1])
        diagonal.append((image * vectors[-1]).sum(dim=-1))
        rest = _without(image, vectors)
        length = torch.linalg.vector_norm(rest, dim=-1)
        values, states = torch.linalg.eigh(_tridiagonal(diagonal, beside))
        residual = length * states[:, -1, -1].abs()
        scale = values.abs().amax(dim=-1)
        if len(diagonal) == most or bool((residual <= tolerance * scale).all() and len(diagonal) > 1):
            return Extremes(values[:, -1], values[:, 0], residual, len(diagonal))
        exhausted = length <= 1e-12 * scale
        beside.append(torch.where(exhausted, torch.zeros_like(length), length))
        fresh = torch.randn(shape, generator=generator, dtype=torch.float64)
        rest = torch.where(exhausted[:, None], fresh, rest)
        vectors.append(_orthonormal(rest, vectors))


def hutchinson(
    product: Product, shape: tuple[int, int], samples: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """(trace [S], its standard error [S]): the mean of vᵀAv over vectors v of random signs.

    The error is NaN of a single sample.

    Source: Hutchinson 1989, Communications in Statistics 18, 1059-1076.
    """
    found = []
    for _ in range(samples):
        signs = torch.randint(2, shape, generator=generator).double() * 2 - 1
        found.append((signs * product(signs)).sum(dim=-1))
    values = torch.stack(found)
    error = values.std(dim=0) / samples**0.5 if samples > 1 else torch.full_like(values[0], float("nan"))
    return values.mean(dim=0), error


def _without(vector: Tensor, basis: list[Tensor]) -> Tensor:
    """Minus its parts along the basis; twice, as once leaves rounding of the size of what was taken off."""
    for _ in range(2):
        for other in basis:
            vector = vector - (vector * other).sum(dim=-1, keepdim=True) * other
    return vector


def _orthonormal(vector: Tensor, basis: list[Tensor]) -> Tensor:
    rest = _without(vector, basis)
    unit: Tensor = rest / torch.linalg.vector_norm(rest, dim=-1, keepdim=True)
    return unit


def _tridiagonal(diagonal: list[Tensor], beside: list[Tensor]) -> Tensor:
    """[S, m, m] from m diagonals [S] and m − 1 numbers beside them [S]."""
    matrix = torch.diag_embed(torch.stack(diagonal, dim=-1))
    if beside:
        off = torch.stack(beside, dim=-1)
        matrix = matrix + torch.diag_embed(off, offset=1) + torch.diag_embed(off, offset=-1)
    return matrix
