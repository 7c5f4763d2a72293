"""Training a recurrent network on a text: truncated back-propagation, averaged once it stops improving.

T words a window, B texts, S numbers of state. As the authors' code of Liu et al. 2019 (arXiv 1806.09055),
which follows Merity et al. 2017, AWD-LSTM (arXiv 1708.02182): SGD on windows of random length, the
learning rate in proportion; from the epoch on in which the validation loss is above its least up to
`switch_after` epochs before, the mean of all weights since then is what is evaluated and kept.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from archgrad.gradient_step import add, count_skipped, descend, gradient_norm, mean
from archgrad.language import EVALUATION_TEXTS, at_least_single, losses, passage, side_by_side, slowness
from archgrad.objectives import autocast
from archgrad.randomness import Streams
from archgrad.spaces.language_model import LanguageModel, Reading, Window

_HALF_WINDOWS = 0.05  # so many windows are half as long, before the normal variation
_DEVIATION, _SHORTEST, _LONGER = 5.0, 5, 20  # words


@dataclass(frozen=True)
class LanguagePlan:
    """How a network is trained on a text.

    texts: B. window: mean length of a window. learning_rate: of a window of that length.
    switch_after: epochs that may pass without a better validation loss before weights are averaged.
    """

    epochs: int
    texts: int
    window: int
    learning_rate: float
    clip: float | None = None
    slowness: float = 0.0
    switch_after: int = 5
    precision: str = "fp32"


@dataclass
class LanguageState:
    """What changes during training, except the network.

    epoch: epochs done. step: windows done in the running epoch. reached: state [B, S] after the last.
    valid_losses: of the epochs before averaging began. averages: mean of the weights since then, over
    `averaged` steps; None before. best, best_loss: the weights that were best on the validation part.
    """

    optimizer: torch.optim.SGD
    reached: Tensor
    epoch: int = 0
    step: int = 0
    skipped_in_a_row: int = 0
    totals: dict[str, float] = field(default_factory=dict)
    valid_losses: list[float] = field(default_factory=list)
    averages: list[Tensor] | None = None
    averaged: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    best_loss: float = math.inf

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values only."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "reached": self.reached,
            "position": [self.epoch, self.step, self.skipped_in_a_row, self.averaged],
            "totals": dict(self.totals),
            "valid_losses": list(self.valid_losses),
            "averages": self.averages,
            "best": dict(self.best),
            "best_loss": self.best_loss,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        device = self.reached.device
        self.optimizer.load_state_dict(state["optimizer"])
        self.reached.copy_(state["reached"])
        self.epoch, self.step, self.skipped_in_a_row, self.averaged = state["position"]
        self.totals, self.valid_losses = dict(state["totals"]), list(state["valid_losses"])
        averages = state["averages"]
        self.averages = None if averages is None else [a.to(device) for a in averages]
        self.best = {name: tensor.to(device) for name, tensor in state["best"].items()}
        self.best_loss = state["best_loss"]


class LanguageStep(NamedTuple):
    """Progress after a window; loss and accuracy are means over the epoch so far. steps: of this epoch."""

    epoch: int
    step: int
    steps: int
    loss: float
    accuracy: float


class LanguageRecord(NamedTuple):
    """One line of ``train/<name>/metrics.jsonl``. averaged: whether the mean of the weights was evaluated."""

    epoch: int
    seconds: float
    learning_rate: float
    train_loss: float
    train_accuracy: float
    valid_loss: float
    valid_accuracy: float
    valid_perplexity: float
    averaged: bool
    skipped_steps: int


class TextEvaluation(NamedTuple):
    """Mean cross-entropy in nats and accuracy (a fraction) over words."""

    loss: float
    accuracy: float
    words: int

    @property
    def perplexity(self) -> float:
        """exp(loss)."""
        return perplexity(self.loss)


def perplexity(loss: float) -> float:
    """exp(loss), the loss in nats a word; infinite where that is too large a number.

    >>> perplexity(0.0)
    1.0
    """
    return math.exp(loss) if loss < 700 else math.inf


def windows(rows: int, window: int, generator: torch.Generator) -> list[tuple[int, int]]:
    """(start, length) of an epoch's windows in a text of `rows` rows.

    Length ~ N(T, 5²) cut to whole words, at least 5 and at most T + 20; every twentieth is of T/2 in the
    mean. The last is shorter where the text ends.
    """
    found, start = [], 0
    while start < rows - 1:
        draw = float(torch.rand((), generator=generator, dtype=torch.float64))
        expected = window / 2 if draw < _HALF_WINDOWS else float(window)
        varied = expected + _DEVIATION * float(torch.randn((), generator=generator, dtype=torch.float64))
        length = min(max(_SHORTEST, int(varied)), window + _LONGER, rows - 1 - start)
        found.append((start, length))
        start += length
    return found


def train_language(
    network: LanguageModel,
    train: Tensor,
    valid: Tensor,
    state: LanguageState,
    plan: LanguagePlan,
    streams: Streams,
    name: str,
) -> Iterator[LanguageStep | LanguageRecord]:
    """Train on the words `train` [N] to the last epoch, yielding after each window and each epoch.

    Between two yields network and state are complete: a checkpoint of them resumes bit for bit. At the end
    `state.best` has the weights to keep.

    Raises:
        WorkError: the loss or its gradient was not finite in several steps in a row; such a step is
            skipped and counted.
    """
    parameters = list(network.parameters())
    rows = side_by_side(train, plan.texts).to(state.reached.device)
    network.train()
    while state.epoch < plan.epochs:
        epoch, started = state.epoch, time.perf_counter()
        spans = windows(len(rows), plan.window, streams.generator(f"train/{name}/windows", epoch))
        for step in range(state.step, len(spans)):
            if step == 0:
                state.reached.zero_()
            start, length = spans[step]
            for group in state.optimizer.param_groups:
                group["lr"] = plan.learning_rate * length / plan.window
            generator = streams.generator(f"train/{name}/dropout", epoch, step)
            _step(network, parameters, passage(rows, start, length), state, plan, generator)
            state.step += 1
            add(state.totals, seconds=time.perf_counter() - started)
            yield LanguageStep(epoch, state.step, len(spans), *_means(state.totals))
            started = time.perf_counter()
        with averaged(network, state):
            found = evaluate_language(network, valid, plan.window, plan.precision)
            _judge(network, state, found.loss)
        record = _record(state, plan, found, time.perf_counter() - started)
        _switch(network, state, plan, found.loss)
        state.epoch, state.step, state.totals = epoch + 1, 0, {}
        yield record


def _step(
    network: LanguageModel,
    parameters: list[torch.nn.Parameter],
    words: Any,
    state: LanguageState,
    plan: LanguagePlan,
    generator: torch.Generator,
) -> None:
    """One step of SGD, or none where the loss or its gradient is not finite."""
    with autocast(state.reached.device, plan.precision):
        reading = network(Window(words.words, state.reached.clone(), generator))
    assert isinstance(reading, Reading)
    task, correct = losses(reading, words.following)
    loss = task + plan.slowness * slowness(at_least_single(reading.outputs)) if plan.slowness else task
    gradient = torch.autograd.grad(loss, parameters, allow_unused=True)
    norm = gradient_norm(gradient)
    finite = math.isfinite(norm + float(loss.detach()))
    if finite:
        descend(state.optimizer, parameters, gradient, norm, plan.clip)
        state.reached.copy_(reading.state.detach())
        count = words.words.numel()
        add(state.totals, loss=float(task.detach()) * count, correct=float(correct), words=count)
        if state.averages is not None:
            state.averaged += 1
            with torch.no_grad():
                torch._foreach_lerp_(state.averages, [p.detach() for p in parameters], 1 / state.averaged)
    else:
        state.reached.zero_()
    count_skipped(state, finite, "training steps", "lower train.learning_rate or set train.clip")


def _means(totals: dict[str, float]) -> tuple[float, float]:
    return mean(totals, "loss", "words"), mean(totals, "correct", "words")


def _record(
    state: LanguageState, plan: LanguagePlan, found: TextEvaluation, seconds: float
) -> LanguageRecord:
    return LanguageRecord(
        state.epoch,
        state.totals["seconds"] + seconds,
        plan.learning_rate,
        *_means(state.totals),
        found.loss,
        found.accuracy,
        found.perplexity,
        state.averages is not None,
        int(state.totals.get("skipped_steps", 0)),
    )


def _judge(network: LanguageModel, state: LanguageState, loss: float) -> None:
    """Keep a copy of the weights where they are the best so far; of the first epoch in any case."""
    if loss < state.best_loss or not state.best:
        state.best_loss = loss
        state.best = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def _switch(network: LanguageModel, state: LanguageState, plan: LanguagePlan, loss: float) -> None:
    """Begin to average where the loss is above the least of all but the last `switch_after` epochs."""
    if state.averages is not None:
        return
    earlier = state.valid_losses[: -plan.switch_after]
    if earlier and loss > min(earlier):
        state.averages = [p.detach().clone() for p in network.parameters()]
    state.valid_losses.append(loss)


@contextmanager
def averaged(network: LanguageModel, state: LanguageState) -> Iterator[None]:
    """The mean of the weights in their place, once there is one; put back on leaving."""
    if state.averages is None or not state.averaged:
        yield
        return
    parameters = [p.data for p in network.parameters()]
    kept = [p.clone() for p in parameters]
    torch._foreach_copy_(parameters, state.averages)
    try:
        yield
    finally:
        torch._foreach_copy_(parameters, kept)


def evaluate_language(
    network: LanguageModel,
    words: Tensor,
    window: int,
    precision: str = "fp32",
    texts: int = EVALUATION_TEXTS,
) -> TextEvaluation:
    """Loss and accuracy on a text [N] in evaluation mode, the state carried through; the mode is put back.

    texts: pieces that the text is cut into and read side by side, fewer where it is short.
    """
    mode = network.training
    network.eval()
    rows = side_by_side(words, max(1, min(texts, len(words) // 2))).to(network.embedding.weight.device)
    reached = network.zero_state(rows.shape[1])
    loss, correct, count = 0.0, 0.0, 0
    with torch.no_grad():
        for start in range(0, len(rows) - 1, window):
            part = passage(rows, start, window)
            with autocast(reached.device, precision):
                reading = network(Window(part.words, reached))
            assert isinstance(reading, Reading)
            task, right = losses(reading, part.following)
            reached = reading.state.to(reached.dtype)
            loss += float(task) * part.words.numel()
            correct += float(right)
            count += part.words.numel()
    network.train(mode)
    return TextEvaluation(loss / count, correct / count, count)
