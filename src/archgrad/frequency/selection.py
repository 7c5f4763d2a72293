"""From gates that depend on the image to a fixed set of channels, and the sets it has to be better than.

n channels: 64·colour + 8·u + v, see `block_dct`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from archgrad.errors import UserError
from archgrad.frequency.block_dct import BLOCK, zigzag
from archgrad.frequency.channel_gates import gates_of

_COLOUR = BLOCK * BLOCK


class GateStatistics(NamedTuple):
    """How the gates of a trained network stand over images, one number a channel.

    probability: mean of P(open). opened: share of the images in which it is above ½. images: how many.
    """

    probability: tuple[float, ...]
    opened: tuple[float, ...]
    images: int


def coefficient_statistics(transform: nn.Module, images: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [n] of each channel over images ([B, C, H, W] each), in float64.

    A channel of one value throughout gets a deviation of 1.
    """
    count, mean, squares = 0, torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    with torch.no_grad():
        for x in images:
            y = transform(x).transpose(0, 1).flatten(1).cpu().double()  # [n, B·h·w]
            own, here = y.mean(1), y.shape[1]
            # Chan, Golub & LeVeque 1979: two parts' means and sums of squares put together
            shift = own - mean
            squares = (
                squares + (y - own[:, None]).square().sum(1) + shift**2 * (count * here / (count + here))
            )
            count += here
            mean = mean + shift * (here / count)
    deviation = (squares / count).sqrt()
    return mean, torch.where(deviation > 0, deviation, torch.ones_like(deviation))


def gate_statistics(network: nn.Module, images: Iterable[Tensor]) -> GateStatistics:
    """How the gates of a network stand over images, in evaluation mode; the mode is put back."""
    (gates,) = gates_of(network)
    mode, noise = network.training, gates.noise_in_evaluation
    network.eval()
    gates.noise_in_evaluation = False  # the probabilities are the same, and nothing has to be drawn
    count, probability, opened = 0, torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    with torch.no_grad():
        for x in images:
            network(x)
            assert gates.logits is not None
            alpha = gates.logits.cpu().double()
            probability = probability + torch.sigmoid(alpha).sum(0)
            opened = opened + (alpha > 0).sum(0)
            count += len(alpha)
    gates.noise_in_evaluation = noise
    network.train(mode)
    return GateStatistics(tuple((probability / count).tolist()), tuple((opened / count).tolist()), count)


def ranking(probability: Sequence[float]) -> tuple[int, ...]:
    """All channels, the most often open first; of equal ones the lower frequency, then the first colour.

    >>> ranking([0.5] * 64)[:3]
    (0, 1, 8)
    """
    order = {index: place for place, index in enumerate(zigzag())}
    return tuple(
        sorted(range(len(probability)), key=lambda c: (-probability[c], order[c % _COLOUR], c // _COLOUR))
    )


def select(
    statistics: GateStatistics, keep: int | None = None, threshold: float | None = None
) -> tuple[int, ...]:
    """The channels to keep, ascending: the `keep` likeliest to be open, or all that are likely enough.

    threshold: the least mean probability, above 0 and at most 1.

    Raises:
        UserError: both or neither given, more than there are, or a threshold that keeps none.
    """
    total = len(statistics.probability)
    check_amount(total, keep, threshold)
    if keep is not None:
        return tuple(sorted(ranking(statistics.probability)[:keep]))
    assert threshold is not None
    chosen = tuple(c for c, share in enumerate(statistics.probability) if share >= threshold)
    if not chosen:
        raise UserError(
            f"threshold: no channel is open with a probability of {threshold:g}, the likeliest with "
            f"{max(statistics.probability):.2g}; give a lower threshold or a lower strength, or keep a number"
        )
    return chosen


def check_amount(total: int, keep: int | None, threshold: float | None) -> None:
    """Refuse an amount to keep of `total` channels that cannot be.

    Raises:
        UserError: both or neither given, or out of range.
    """
    if (keep is None) == (threshold is None):
        raise UserError(
            "say how many channels to keep: either keep (a number, --keep 24) or threshold (a probability of "
            "being open, --threshold 0.5)"
        )
    if keep is not None and not 1 <= keep <= total:
        raise UserError(f"keep: 1 to {total} channels, as these images have {total}; got {keep}")
    if threshold is not None and not 0 < threshold <= 1:
        raise UserError(f"threshold: a probability above 0, at most 1; got {threshold}")


def lowest(total: int, count: int) -> tuple[int, ...]:
    """The control of no selection: the `count` lowest frequencies in JPEG's zigzag order, colours in turn.

    >>> lowest(192, 4)
    (0, 1, 64, 128)
    """
    order = [64 * colour + index for index in zigzag() for colour in range(total // _COLOUR)]
    return tuple(sorted(order[:count]))


def random_channels(total: int, count: int, generator: torch.Generator) -> tuple[int, ...]:
    """The control of chance: `count` of `total` channels, every set equally likely."""
    return tuple(sorted(torch.randperm(total, generator=generator)[:count].tolist()))
