"""Training a concrete network from scratch, and evaluating it. B C H W: images."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from archgrad.flat_buffers import flatten_buffers
from archgrad.gradient_step import add, count_skipped, descend, gradient_norm, mean
from archgrad.objectives import autocast
from archgrad.randomness import Streams
from archgrad.spaces.drop_path import set_drop_path

if TYPE_CHECKING:
    from archgrad.datasets.batches import Batches


@dataclass(frozen=True)
class TrainPlan:
    """How a network is trained.

    learning_rate, drop_path: functions of the epoch.
    clip: largest L2 norm of the gradient, or None.
    auxiliary_weight: weight of the auxiliary head's loss (DARTS: 0.4).
    penalty: (network, epoch) -> a scalar that joins the loss, called after each forward pass.
    before_step: (network, epoch, step), called before each; gives modules that draw their random stream.
    """

    epochs: int
    learning_rate: Callable[[int], float]
    drop_path: Callable[[int], float]
    clip: float | None = None
    label_smoothing: float = 0.0
    auxiliary_weight: float = 0.0
    precision: str = "fp32"
    penalty: Callable[[nn.Module, int], Tensor] | None = None
    before_step: Callable[[nn.Module, int, int], None] | None = None


@dataclass
class TrainState:
    """What changes during training, except the network.

    epoch: epochs done. step: steps done in the running epoch. totals: sums over the running epoch.
    """

    optimizer: torch.optim.SGD
    epoch: int = 0
    step: int = 0
    skipped_in_a_row: int = 0
    totals: dict[str, float] = field(default_factory=dict)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values only."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "position": [self.epoch, self.step, self.skipped_in_a_row],
            "totals": dict(self.totals),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.step, self.skipped_in_a_row = state["position"]
        self.totals = dict(state["totals"])


class TrainStep(NamedTuple):
    """Progress after a step; loss and accuracy are means over the epoch so far."""

    epoch: int
    step: int
    loss: float
    accuracy: float


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
) -> Iterator[TrainStep | TrainRecord]:
    """Train from `state` to the last epoch, yielding after each step and after each epoch.

    Between two yields network and state are complete: a checkpoint of them resumes bit for bit.

    Raises:
        WorkError: the loss or its gradient was not finite in several steps in a row; such a step is
            skipped (weights and buffers as before it) and counted.
    """
    parameters, buffers = list(network.parameters()), flatten_buffers(network)
    network.train()
    while state.epoch < plan.epochs:
        epoch, started = state.epoch, time.perf_counter()
        rate = plan.learning_rate(epoch)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        for x, y in batches.epoch(epoch, state.step):
            set_drop_path(network, plan.drop_path(epoch), streams.generator("drop path", epoch, state.step))
            if plan.before_step is not None:
                plan.before_step(network, epoch, state.step)
            _step(network, parameters, buffers, x, y, state, plan)
            state.step += 1
            add(state.totals, seconds=time.perf_counter() - started)
            yield TrainStep(epoch, state.step, *_means(state.totals))
            started = time.perf_counter()
        totals = state.totals
        state.epoch, state.step, state.totals = epoch + 1, 0, {}
        skipped = int(totals.get("skipped_steps", 0))
        yield TrainRecord(epoch, totals["seconds"], rate, *_means(totals), skipped)


def _step(
    network: nn.Module,
    parameters: list[nn.Parameter],
    buffers: list[Tensor],
    x: Tensor,
    y: Tensor,
    state: TrainState,
    plan: TrainPlan,
) -> None:
    """One step of SGD, or none where the loss or its gradient is not finite."""
    before = [buffer.clone() for buffer in buffers]
    loss, logits = _loss(network, x, y, plan)
    if plan.penalty is not None:
        loss = loss + plan.penalty(network, state.epoch)
    gradient = torch.autograd.grad(loss, parameters, allow_unused=True)
    norm = gradient_norm(gradient)
    finite = math.isfinite(norm + float(loss.detach()))
    if finite:
        descend(state.optimizer, parameters, gradient, norm, plan.clip)
        add(
            state.totals,
            loss=float(loss.detach()) * len(y),
            correct=float((logits.detach().argmax(dim=1) == y).sum()),
            images=len(y),
        )
    else:
        with torch.no_grad():
            for buffer, saved in zip(buffers, before, strict=True):
                buffer.copy_(saved)  # BatchNorm statistics saw the bad batch
    count_skipped(state, finite, "training steps", "lower train.learning_rate or set train.clip")


def _means(totals: dict[str, float]) -> tuple[float, float]:
    return mean(totals, "loss", "images"), mean(totals, "correct", "images")


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
