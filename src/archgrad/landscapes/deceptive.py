"""Planted: averages point away from the optimum. E choices × K candidates."""

from __future__ import annotations

import torch

from archgrad.errors import UserError
from archgrad.landscapes.separable import summing_cores
from archgrad.landscapes.tensor_train import TensorTrain, check_size
from archgrad.randomness import Streams

_MARGIN = 0.5  # how far a block's optimum is below its decoy


def deceptive(choices: int = 6, candidates: int = 5, seed: int = 0) -> TensorTrain:
    """Traps: the candidates of the optimum are the worst of their choice unless a whole block has them.

    The choices are cut into blocks of three (up to five where E is no multiple of three; two if E = 2).
    T[a] = Σ_blocks (Σ_e u[e, a_e] − D·[a = a* in all of the block]), scaled to losses from 0 to 1. In each
    choice u is 0 for a decoy, 1 for the optimum's candidate and in between for the others, and D is
    the size of the block plus ½: the block's optimum is better than all decoys, but with the others
    drawn uniformly it happens too seldom to show, D < K^(size − 1), so in every choice the decoy has
    the best mean. After the concatenated traps of Deb & Goldberg (1993, FOGA 2).

    Raises:
        UserError: too small for a trap: it takes two choices of three candidates, or three of two.
    """
    check_size("deceptive", choices, candidates, least_choices=2)
    if choices == 2 and candidates == 2:
        raise UserError(
            "two choices of two candidates are too few to deceive: take candidates=3, or choices=3"
        )
    generator = Streams(seed).generator("landscape/deceptive")
    order = torch.stack([torch.randperm(candidates, generator=generator) for _ in range(choices)])
    optimum, decoy = order[:, 0], order[:, 1]
    losses = 0.2 + 0.6 * torch.rand(choices, candidates, generator=generator, dtype=torch.float64)
    rows = torch.arange(choices)
    losses[rows, optimum], losses[rows, decoy] = 1.0, 0.0

    blocks = [block.tolist() for block in torch.tensor_split(rows, max(1, choices // 3))]
    second = losses.topk(2, dim=1).values[:, 1]
    best = -_MARGIN * len(blocks)
    # the worst of a block: all of the optimum's candidates but one, where the next worst costs least
    worst = sum(len(block) - 1 + float(second[block].max()) for block in blocks)
    losses[0] -= best
    scale = worst - best
    cores = summing_cores(losses / scale)
    rewards = [(len(block) + _MARGIN) / scale for block in blocks]
    return TensorTrain(_with_rewards(cores, optimum.tolist(), blocks, rewards), optimum.tolist(), worst=1.0)


def _with_rewards(
    cores: list[torch.Tensor], optimum: list[int], blocks: list[list[int]], rewards: list[float]
) -> list[torch.Tensor]:
    """Add −reward for each block whose choices are all those of the optimum.

    Remembered is (1, the sum so far, whether this block has agreed up to here).
    """
    found = []
    for block, reward in zip(blocks, rewards, strict=True):
        for e in block:
            old, k = cores[e], optimum[e]
            first, last = e == 0, e == len(cores) - 1
            core = torch.zeros(3, old.shape[1], 3, dtype=torch.float64)
            core[: 1 if first else 2, :, 1 if last else 0 : 2] = old
            agreed = 0 if e == block[0] else 2  # a block begins agreed
            if e == block[-1]:
                core[agreed, k, 1] -= reward
            else:
                core[agreed, k, 2] = 1
            found.append(core[: 1 if first else 3, :, slice(1, 2) if last else slice(0, 3)])
    return found
