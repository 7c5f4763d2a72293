"""Planted: each choice counts by itself. E choices × K candidates."""

from __future__ import annotations

import torch

from archgrad.landscapes.tensor_train import TensorTrain, check_size
from archgrad.randomness import Streams


def separable(choices: int = 6, candidates: int = 5, seed: int = 0) -> TensorTrain:
    """T[a] = Σ_e u[e, a_e], u uniform, shifted and scaled to losses from 0 to 1.

    Every method should find the optimum: the gradient of a choice does not depend on the others.

    Raises:
        UserError: no choice, or fewer than two candidates.
    """
    check_size("separable", choices, candidates)
    generator = Streams(seed).generator("landscape/separable")
    losses = torch.rand(choices, candidates, generator=generator, dtype=torch.float64)
    losses -= losses.amin(dim=1, keepdim=True)
    losses /= losses.amax(dim=1).sum()
    return TensorTrain(summing_cores(losses), losses.argmin(dim=1).tolist(), worst=1.0)


def summing_cores(losses: torch.Tensor) -> list[torch.Tensor]:
    """Cores of Σ_e u[e, a_e], u [E, K]; remembered is (1, the sum so far)."""
    cores = []
    for e, row in enumerate(losses):
        core = torch.zeros(2, len(row), 2, dtype=torch.float64)
        core[0, :, 0] = core[1, :, 1] = 1
        core[0, :, 1] = row
        first, last = e == 0, e == len(losses) - 1
        cores.append(core[: 1 if first else 2, :, 1 if last else 0 :])
    return cores
