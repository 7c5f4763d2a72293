"""Training a concrete network from scratch, and evaluating it. B C H W: images."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from archgrad.errors import WorkError
from archgrad.flat_buffers import flatten_buffers
from archgrad.objectives import autocast
from archgrad.randomness import Streams
from archgrad.search import MOST_SKIPPED_IN_A_ROW
from archgrad.spaces.drop_path import set_drop_path

if TYPE_CHECKING:
    from archgrad.datasets.batches import Batches


@dataclass(frozen=True)
class TrainPlan:
    """How a network is trained.

    learning_rate, drop_path: functions of the epoch.
    clip: largest L2 norm of the gradient, or None.
    auxiliary_weight: weight of the auxiliary head's loss (DARTS: 0.4).
    """

    epochs: int
    learning_rate: Callable[[int], float]
    drop_path: Callable[[int], float]
    clip: float | None = None
    label_smoothing: float = 0.0
    auxiliary_weight: float = 0.0
    precision: str = "fp32"


@dataclass
class TrainState:
    """What changes during training, except the network."""

    optimizer: torch.optim.SGD
    epoch: int = 0

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values only."""
        return {"optimizer": self.optimizer.state_dict(), "epoch": self.epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch = state["epoch"]


class TrainRecord(NamedTuple):
    """One line of ``train/<name>/metrics.jsonl``."""

    epoch: int
    seconds: float
    learning_rate: float
    train_loss: float
    train_accuracy: float
    skipped_steps: int


class Evaluation(NamedTuple):
    """Mean cross-entropy and accuracy (a fraction) over images."""

    loss: float
    accuracy: float
    images: int


def train(
    network: nn.Module, batches: Batches, state: TrainState, plan: TrainPlan, streams: Streams
) -> Iterator[TrainRecord]:
    """Train from `state` to the last epoch, yielding after each.

    Raises:
        WorkError: the gradient was not finite in several steps in a row.
    """
    parameters, buffers = list(network.parameters()), flatten_buffers(network)
    skipped_in_a_row = 0
    while state.epoch < plan.epochs:
        epoch, started = state.epoch, time.perf_counter()
        rate = plan.learning_rate(epoch)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        network.train()
        set_drop_path(network, plan.drop_path(epoch), streams.generator("drop path", epoch))
        loss_sum, correct, images, skipped = 0.0, 0, 0, 0
        for x, y in batches.epoch(epoch):
            before = [buffer.clone() for buffer in buffers]
            loss, logits = _loss(network, x, y, plan)
            state.optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            norm = torch.nn.utils.clip_grad_norm_(parameters, plan.clip or float("inf"), foreach=True)
            if not torch.isfinite(norm):
                skipped, skipped_in_a_row = skipped + 1, skipped_in_a_row + 1
                for buffer, saved in zip(buffers, before, strict=True):
                    buffer.copy_(saved)  # BatchNorm statistics saw the bad batch
                if skipped_in_a_row >= MOST_SKIPPED_IN_A_ROW:
                    raise WorkError(
                        f"the gradient was not finite in {skipped_in_a_row} training steps in a row "
                        f"(epoch {epoch}): lower train.learning_rate or set train.clip"
                    )
                continue
            skipped_in_a_row = 0
            state.optimizer.step()
            loss_sum += float(loss.detach()) * len(y)
            correct += int((logits.detach().argmax(dim=1) == y).sum())
            images += len(y)
        state.epoch = epoch + 1
        seconds = time.perf_counter() - started
        yield TrainRecord(epoch, seconds, rate, loss_sum / max(images, 1), correct / max(images, 1), skipped)


def _loss(network: nn.Module, x: Tensor, y: Tensor, plan: TrainPlan) -> tuple[Tensor, Tensor]:
    """(loss, logits [B, classes]); with an auxiliary head its weighted loss is added."""
    with autocast(x.device, plan.precision):
        output = network(x)
    logits, side = output if isinstance(output, tuple) else (output, None)
    loss = F.cross_entropy(logits.float(), y, label_smoothing=plan.label_smoothing)
    if side is not None and plan.auxiliary_weight:
        loss = loss + plan.auxiliary_weight * F.cross_entropy(
            side.float(), y, label_smoothing=plan.label_smoothing
        )
    return loss, logits


def evaluate(network: nn.Module, batches: Batches, precision: str = "fp32") -> Evaluation:
    """Loss and accuracy in evaluation mode; the network's mode is put back."""
    mode = network.training
    network.eval()
    loss, correct, images = 0.0, 0, 0
    with torch.no_grad():
        for x, y in batches.epoch(0):
            with autocast(x.device, precision):
                logits = network(x)
            loss += float(F.cross_entropy(logits.float(), y, reduction="sum"))
            correct += int((logits.argmax(dim=1) == y).sum())
            images += len(y)
    network.train(mode)
    return Evaluation(loss / images, correct / images, images)
