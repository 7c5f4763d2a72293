"""Errors of the kind that shared weights make: fixed ones in the table, and fresh ones at every step.

E choices × K candidates.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from archgrad.errors import MissingExtra, UserError
from archgrad.landscapes.landscape import Landscape
from archgrad.landscapes.multilinear import MultilinearLandscape
from archgrad.randomness import Streams

LARGEST_TABLE = 2_000_000
"""Entries; a fixed error of every architecture has to be written down."""

_BISECTIONS = 40
_TOLERANCE = 0.01


def tabulate(landscape: Landscape) -> Tensor:
    """The losses of all architectures, [K] in each of E dimensions, float64.

    Raises:
        UserError: there are more than `LARGEST_TABLE`.
    """
    (group,) = landscape.groups
    choices, candidates = len(group.names), len(group.candidates)
    if candidates**choices > LARGEST_TABLE:
        raise UserError(
            f"{candidates}^{choices} architectures are too many for a table (at most {LARGEST_TABLE:,}): "
            "take fewer choices, or noise per step, which needs none"
        )
    flat = torch.arange(candidates**choices)
    index = torch.stack(torch.unravel_index(flat, (candidates,) * choices), dim=-1)
    return landscape.values(index).reshape((candidates,) * choices)


def additive(landscape: Landscape, sigma: float, seed: int = 0) -> MultilinearLandscape:
    """T[a] + σ·n_a, n_a standard normal: to search on; the truth stays that of `landscape`.

    Raises:
        UserError: σ is negative or not finite, or there are too many architectures.
    """
    _check_sigma(sigma)
    table = tabulate(landscape)
    generator = Streams(seed).generator("landscape noise/additive")
    noise = torch.randn(table.shape, generator=generator, dtype=torch.float64)
    return MultilinearLandscape(table + sigma * noise, landscape.groups[0], truth=landscape.truth)


def correlated(landscape: Landscape, kendall_tau: float, seed: int = 0) -> MultilinearLandscape:
    """The truth's losses dealt out anew, so that Kendall's τ (τ-b) with the truth is `kendall_tau` ± 0.01.

    Normal scores of the truth's ranks are mixed with noise, ρ·s + √(1−ρ²)·n, and the architecture whose
    mixture has rank i gets the i-th loss: the losses are the same numbers in another order. ρ is
    found by bisection.

    Args:
        landscape: what it is a wrong picture of is this landscape's `truth`.
        kendall_tau: from −1 to 1.
        seed: of the noise.

    Raises:
        UserError: no such τ, one that this table cannot have (too small, or full of equal losses),
            or too many architectures.
        MissingExtra: SciPy is not installed.
    """
    if not -1 <= kendall_tau <= 1:
        raise UserError(f"Kendall's τ is from -1 to 1, got kendall_tau={kendall_tau}")
    try:
        from scipy.stats import kendalltau
    except ImportError:
        raise MissingExtra("dev", "SciPy", "noise with a given rank correlation") from None
    truth = tabulate(landscape.truth)
    losses = truth.flatten()
    ordered, order = losses.sort(stable=True)
    places = (torch.arange(len(losses), dtype=torch.float64) + 0.5) / len(losses)
    scores = torch.empty_like(losses)
    scores[order] = torch.special.ndtri(places)
    generator = Streams(seed).generator("landscape noise/correlated")
    noise = torch.randn(len(losses), generator=generator, dtype=torch.float64)

    def dealt(rho: float) -> tuple[Tensor, float]:
        mixed = rho * scores + (1 - rho * rho) ** 0.5 * noise
        table = torch.empty_like(losses)
        table[mixed.argsort(stable=True)] = ordered
        return table, float(kendalltau(losses.numpy(), table.numpy()).statistic)

    low, high = -1.0, 1.0
    tries = [dealt(low), dealt(high)]
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        tries.append(dealt(middle))
        if tries[-1][1] < kendall_tau:
            low = middle
        else:
            high = middle
        if abs(tries[-1][1] - kendall_tau) < _TOLERANCE / 20:
            break
    table, found = min(tries, key=lambda one: abs(one[1] - kendall_tau))
    if not abs(found - kendall_tau) <= _TOLERANCE:  # also for NaN: all losses equal
        raise UserError(
            f"no order of these {len(losses)} losses with Kendall's τ = {kendall_tau} was found, the nearest "
            f"has {found:.3f}: the table is too small or has too many equal losses"
        )
    return MultilinearLandscape(table.reshape(truth.shape), landscape.groups[0], truth=landscape.truth)


def per_step(
    landscape: Landscape, sigma: float, generator: torch.Generator, searches: tuple[int, ...] = ()
) -> Callable[[Tensor], Tensor]:
    """One step's error, as a function of weights z [..., E, K] to be added to the loss [...].

    ε(z) = Σ_e Σ_k n[e, k]·z[e, k], n ~ N(0, σ²/E): at every architecture normal with deviation σ, alike at
    architectures that have candidates in common, and so with a gradient, as the choice of a batch has.
    It is fresh with every generator and costs no table, so the landscape may be of any size.

    Args:
        landscape: whose choices they are.
        sigma: standard deviation of the loss.
        generator: on the host.
        searches: leading dimensions; independent searches have errors of their own.

    Raises:
        UserError: σ is negative or not finite.
    """
    _check_sigma(sigma)
    (group,) = landscape.groups
    shape = (*searches, len(group.names), len(group.candidates))
    noise = sigma / len(group.names) ** 0.5 * torch.randn(shape, generator=generator, dtype=torch.float64)
    return lambda z: (noise.to(z) * z).sum(dim=(-2, -1))


def _check_sigma(sigma: float) -> None:
    if not 0 <= sigma < float("inf"):
        raise UserError(f"the noise's deviation is a number from 0 up, got sigma={sigma}")
