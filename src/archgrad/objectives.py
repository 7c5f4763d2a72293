"""A supernet on data as the search sees it: a pair of objectives for every step.

B C H W: images; E choices × K candidates.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from archgrad.choice import Group, Sample, Supernet
from archgrad.flat_buffers import flatten_buffers
from archgrad.penalties.penalty import Penalty
from archgrad.problem import Objective, Outcome, preserved
from archgrad.randomness import Streams
from archgrad.spaces.drop_path import draws_by_itself, set_drop_path
from archgrad.spaces.skip_dropout import set_skip_dropout

if TYPE_CHECKING:
    from archgrad.datasets.batches import Batches


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Mixed precision for the forward pass: ``"bf16"`` runs matrix products in bfloat16."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


@dataclass(frozen=True)
class NetworkObjective:
    """Cross-entropy of a supernet on one batch, with the price on the cost of the drawn weights.

    images: [B, C, H, W]; labels: [B]. `penalty` is given the weights of all groups. `mask_stream` gives drop
    path, and whatever else draws in the network, the same numbers at every call; None where nothing draws.
    """

    network: Supernet
    images: Tensor
    labels: Tensor
    penalty: Penalty | None = None
    precision: str = "fp32"
    drop_path: float = 0.0
    skip_dropout: float = 0.0
    mask_stream: Callable[[], torch.Generator] | None = None

    def __call__(self, samples: Sequence[Sample]) -> Outcome:
        """Evaluate at samples (one per group) and the network's current weights."""
        if self.mask_stream is not None:
            set_drop_path(self.network, self.drop_path, self.mask_stream())
            set_skip_dropout(self.network, self.skip_dropout)
        with autocast(self.images.device, self.precision):
            logits = self.network(self.images, samples)
        if self.precision == "bf16":
            logits = logits.float()
        task = F.cross_entropy(logits, self.labels)
        correct = (logits.detach().argmax(dim=1) == self.labels).sum()
        loss = task
        if self.penalty is not None:
            loss = self.penalty(task, correct / len(self.labels), [s.weights for s in samples])
        return Outcome(loss, task.detach(), correct, len(self.labels))


class NetworkTask:
    """A supernet, its weight-training batches and its architecture-validation batches.

    Args:
        network: the supernet, on its device.
        train: batches of the weight-training part.
        valid: batches of the architecture-validation part.
        streams: the run's random streams (drop path masks).
        penalty: the price on the cost in the architecture's loss, or None.
        precision: "fp32" or "bf16".
        drop_path: probability of dropping an edge per sample during search (SNAS: 0.3).
        joint: the logits' gradient is that of the training objective, so that one has the penalty, too.
            Otherwise weights are trained on the task alone.
        skip_dropout: probability by epoch, where the network has dropout on skip connections.
    """

    def __init__(
        self,
        network: Supernet,
        train: Batches,
        valid: Batches,
        streams: Streams,
        penalty: Penalty | None = None,
        precision: str = "fp32",
        drop_path: float = 0.0,
        joint: bool = False,
        skip_dropout: Callable[[int], float] | None = None,
    ):
        self.network, self.train, self.valid, self.streams = network, train, valid, streams
        self.penalty, self.precision, self.drop_path = penalty, precision, drop_path
        self.joint, self.skip_dropout = joint, skip_dropout
        self.groups: tuple[Group, ...] = network.groups
        self.draws = drop_path > 0 or draws_by_itself(network)
        self.weights = list(network.parameters())
        self.buffers = flatten_buffers(network)
        self.steps_per_epoch = train.steps

    def steps(self, epoch: int, start: int) -> Iterator[tuple[Objective, Objective]]:
        """(training, validation) objectives of the steps from `start`; a function of its arguments."""
        for step, (images, labels) in enumerate(self.train.epoch(epoch, start), start=start):
            yield self._objective(images, labels, epoch, step, 0), self._validation(epoch, step)

    def _validation(self, epoch: int, step: int) -> Objective:
        """The validation objective of a step; its batch is made when it is first evaluated."""
        passes, position = divmod(epoch * self.steps_per_epoch + step, self.valid.steps)

        @functools.cache
        def made() -> NetworkObjective:
            return self._objective(*self.valid.batch(passes, position), epoch, step, 1)

        return lambda samples: made()(samples)

    def _objective(
        self, images: Tensor, labels: Tensor, epoch: int, step: int, part: int
    ) -> NetworkObjective:
        def masks() -> torch.Generator:
            return self.streams.generator("drop path", epoch, step, part)

        return NetworkObjective(
            self.network,
            images,
            labels,
            self.penalty if part == 1 or self.joint else None,
            self.precision,
            self.drop_path,
            self.skip_dropout(epoch) if self.skip_dropout else 0.0,
            masks if self.draws else None,
        )

    def evaluate(self, draw: Callable[[int], list[Sample]]) -> tuple[float, float]:
        """(loss, accuracy) on the whole validation part, batch statistics, one draw per batch, no drop path.

        Nothing changes: BatchNorm's running statistics are put back.
        """
        loss, correct, images = 0.0, 0, 0
        # the modules still have the probability of the last training step
        set_drop_path(self.network, 0.0, self.streams.generator("drop path"))
        set_skip_dropout(self.network, 0.0)
        with torch.no_grad(), preserved(self.buffers):
            for step, (x, y) in enumerate(self.valid.epoch(0)):
                outcome = NetworkObjective(self.network, x, y, None, self.precision)(draw(step))
                loss += float(outcome.task_loss) * outcome.images
                correct += int(outcome.correct)
                images += outcome.images
        return loss / images, correct / images
