"""Planted: neighbouring choices depend on each other. E choices × K candidates."""

from __future__ import annotations

import torch
from torch import Tensor

from archgrad.landscapes.tensor_train import TensorTrain, check_size
from archgrad.randomness import Streams


def pairwise(choices: int = 6, candidates: int = 5, seed: int = 0) -> TensorTrain:
    """T[a] = Σ_e u[e, a_e] + Σ_e W_e[a_e, a_{e+1}], all standard normal, scaled to losses from 0 to 1.

    What is best at one choice depends on its neighbours, and through them on all. Optimum and worst
    are exact, by dynamic programming along the chain (Viterbi 1967).

    Raises:
        UserError: no choice, or fewer than two candidates.
    """
    check_size("pairwise", choices, candidates)
    generator = Streams(seed).generator("landscape/pairwise")
    single = torch.randn(choices, candidates, generator=generator, dtype=torch.float64)
    pairs = torch.randn(choices - 1, candidates, candidates, generator=generator, dtype=torch.float64)
    optimum, least = best_path(single, pairs)
    _, most = best_path(-single, -pairs)
    single[0] -= least
    scale = -most - least
    return TensorTrain(_cores(single / scale, pairs / scale), optimum, worst=1.0)


def best_path(single: Tensor, pairs: Tensor) -> tuple[list[int], float]:
    """The path a of least Σ_e single[e, a_e] + Σ_e pairs[e, a_e, a_{e+1}], and that sum.

    single: [E, K]; pairs: [E − 1, K, K].
    """
    total, origins = single[0], []
    for row, pair in zip(single[1:], pairs, strict=True):
        total, origin = (total[:, None] + pair).min(dim=0)
        total = total + row
        origins.append(origin)
    path = [int(total.argmin())]
    for origin in reversed(origins):
        path.append(int(origin[path[-1]]))
    return path[::-1], float(total.min())


def _cores(single: Tensor, pairs: Tensor) -> list[Tensor]:
    """Remembered is (the sum so far, the last candidate as a one-hot row)."""
    choices, candidates = single.shape
    cores = []
    for e in range(choices):
        core = torch.zeros(1 + candidates, candidates, 1 + candidates, dtype=torch.float64)
        core[0, :, 0] = 1
        for k in range(candidates):
            core[1:, k, 1 + k] = 1
            core[1:, k, 0] = single[e, k] + (pairs[e - 1, :, k] if e else 0)
        rows = core[1:2] if e == 0 else core  # before the first choice: any one last candidate
        cores.append(rows[:, :, :1] if e == choices - 1 else rows)
    return cores
