"""Planted: flat but for a small region. E choices × K candidates."""

from __future__ import annotations

import torch

from archgrad.landscapes.tensor_train import TensorTrain, check_size
from archgrad.randomness import Streams


def plateau(choices: int = 6, candidates: int = 5, seed: int = 0) -> TensorTrain:
    """The loss is 1 until two thirds of the choices are those of the optimum, then falls to 0 in equal steps.

    With t = ⌈2E/3⌉ needed and m choices right, T = 1 − max(0, m − t + 1)/(E − t + 1). For E = 6, K = 5 the
    region below 1 is 1.7 % of all architectures: drawn losses have a gradient there only.

    Raises:
        UserError: no choice, or fewer than two candidates.
    """
    check_size("plateau", choices, candidates)
    generator = Streams(seed).generator("landscape/plateau")
    optimum = torch.randint(candidates, (choices,), generator=generator).tolist()
    needed = -(-2 * choices // 3)
    right = torch.arange(choices + 1, dtype=torch.float64)
    losses = 1 - (right - needed + 1).clamp(min=0) / (choices - needed + 1)
    cores = []
    for e, best in enumerate(optimum):
        # remembered is how many of the e choices so far are right, as a one-hot row [e + 1]
        core = torch.zeros(e + 1, candidates, e + 2, dtype=torch.float64)
        counts = torch.arange(e + 1)
        for k in range(candidates):
            core[counts, k, counts + (k == best)] = 1
        cores.append(core)
    cores[-1] = (cores[-1] @ losses).unsqueeze(-1)
    return TensorTrain(cores, optimum, worst=1.0)
