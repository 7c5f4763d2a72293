"""A recurrent supernet on a text as the search sees it: truncated back-propagation through time.

T words a window, B texts side by side, S numbers of state. The state after a window is where the next one
begins. The text is cut as in the authors' code of Liu et al. 2019 (arXiv 1806.09055): the training part
trains the weights, the validation part drives the architecture.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from archgrad.choice import Group, Sample, Supernet
from archgrad.errors import UserError
from archgrad.objectives import autocast
from archgrad.problem import Objective, Outcome, preserved
from archgrad.randomness import Streams
from archgrad.spaces.language_model import LanguageModel, Reading, Window

EVALUATION_TEXTS = 10
"""Texts side by side in an evaluation (DARTS: 10 on the validation part, 1 on the test part)."""


def side_by_side(words: Tensor, texts: int) -> Tensor:
    """A text [N] cut into B texts of equal length, [N // B, B]; the rest is left out.

    >>> side_by_side(torch.arange(7), 2).tolist()
    [[0, 3], [1, 4], [2, 5]]
    """
    rows = len(words) // texts
    return words[: rows * texts].view(texts, rows).t().contiguous()


def texts_of(part: Tensor, wanted: int, least_rows: int = 2) -> int:
    """How many texts of at least `least_rows` words a part is cut into: `wanted`, or as many as it gives.

    Raises:
        UserError: not even two, which a batch needs.
    """
    texts = min(wanted, len(part) // least_rows)
    if texts < 2:
        raise UserError(
            f"a part of the text has {len(part)} words: too few for two texts of {least_rows}; "
            "give more text, or a smaller text.window"
        )
    return texts


class Passage(NamedTuple):
    """A window's words [T, B] and those that follow each [T, B]."""

    words: Tensor
    following: Tensor


def passage(rows: Tensor, start: int, length: int) -> Passage:
    """The window of `rows` [N, B] from `start`, shorter where the text ends."""
    end = min(start + length, len(rows) - 1)
    return Passage(rows[start:end], rows[start + 1 : end + 1])


def slowness(outputs: Tensor) -> Tensor:
    """Mean square of an output's change from word to word, [T, B, H] -> scalar (Merity et al. 2017, 4.3)."""
    if len(outputs) < 2:
        return outputs.new_zeros(())
    return (outputs[1:] - outputs[:-1]).square().mean()


def at_least_single(x: Tensor) -> Tensor:
    """`x`, or where it is of half precision the same in single."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def losses(reading: Reading, following: Tensor) -> tuple[Tensor, Tensor]:
    """(mean cross-entropy of the following words in nats, how many were the most probable)."""
    logits, wanted = at_least_single(reading.logits).flatten(0, 1), following.flatten()
    return F.cross_entropy(logits, wanted), (logits.detach().argmax(dim=1) == wanted).sum()


@dataclass(frozen=True)
class LanguageObjective:
    """Cross-entropy of a supernet on one window, from a state that stays the same however often it is called.

    start: [B, S]. keep: is handed the state after the window. masks: a generator of the dropout masks, the
    same at every call. slowness: its weight in the loss, which the task's loss does not have.
    """

    network: Supernet
    passage: Passage
    start: Tensor
    keep: Callable[[Tensor], None]
    masks: Callable[[], torch.Generator | None]
    slowness: float = 0.0
    precision: str = "fp32"

    def __call__(self, samples: Sequence[Sample]) -> Outcome:
        """Evaluate at samples (one per group) and the network's current weights."""
        window = Window(self.passage.words, self.start, self.masks())
        with autocast(self.start.device, self.precision):
            reading = cast(Reading, self.network(cast(Tensor, window), samples))
        task, correct = losses(reading, self.passage.following)
        self.keep(reading.state.detach())
        loss = task + self.slowness * slowness(at_least_single(reading.outputs)) if self.slowness else task
        return Outcome(loss, task.detach(), correct, self.passage.words.numel())


class LanguageTask:
    """A recurrent supernet, the text that trains its weights, and the text that drives its architecture.

    The states that the two texts have reached are buffers of the supernet, so checkpoints hold them. That of
    the training text is among `buffers`: an architecture step looks at the text and leaves it where it was.
    That of the validation text moves on with every architecture step.

    Args:
        network: the supernet, on its device.
        train, valid: the numbers of the words, [N].
        texts: B of the training text; the validation text has as many, or fewer where it is short.
        window: T.
        streams: the run's random streams (dropout masks, where an epoch's first window begins).
        slowness: weight of `slowness` in the training loss.
        precision: "fp32" or "bf16".

    Raises:
        UserError: a part too short for one window.
    """

    def __init__(
        self,
        network: Supernet,
        train: Tensor,
        valid: Tensor,
        texts: int,
        window: int,
        streams: Streams,
        slowness: float = 0.0,
        precision: str = "fp32",
    ):
        check_batch(len(train), texts, window, "search")
        like = next(network.parameters())
        self.network, self.streams, self.window = network, streams, window
        self.slowness, self.precision = slowness, precision
        self.train = side_by_side(train, texts).to(like.device)
        self.valid = side_by_side(valid, texts_of(valid, texts, min(window + 1, 8))).to(like.device)
        self.groups: tuple[Group, ...] = network.groups
        model = cast(LanguageModel, network.network)
        self.buffers = list(network.buffers())
        self.reached, self.reached_valid = (
            model.zero_state(rows.shape[1]) for rows in (self.train, self.valid)
        )
        network.register_buffer("reached", self.reached)
        network.register_buffer("reached_valid", self.reached_valid)
        self.buffers.append(self.reached)
        self.weights: list[nn.Parameter] = list(network.parameters())
        self.steps_per_epoch = (len(self.train) - 1) // window
        self.valid_windows = -(-(len(self.valid) - 1) // window)

    def steps(self, epoch: int, start: int) -> Iterator[tuple[Objective, Objective]]:
        """(training, validation) objectives of the steps from `start`, at the states reached so far."""
        spare = len(self.train) - 1 - self.steps_per_epoch * self.window
        draw = self.streams.generator("text/shift", epoch)
        shift = int(torch.randint(spare + 1, (), generator=draw))
        for step in range(start, self.steps_per_epoch):
            if step == 0:
                self.reached.zero_()
            words = passage(self.train, shift + step * self.window, self.window)
            train = LanguageObjective(
                self.network,
                words,
                self.reached.clone(),
                _keeper(self.reached),
                functools.partial(self.streams.generator, "dropout", epoch, step, 0),
                self.slowness,
                self.precision,
            )
            yield train, self._validation(epoch, step)

    def _validation(self, epoch: int, step: int) -> Objective:
        """The validation objective of a step; its state is looked at when it is first evaluated."""
        position = (epoch * self.steps_per_epoch + step) % self.valid_windows

        @functools.cache
        def made() -> LanguageObjective:
            if position == 0:
                self.reached_valid.zero_()
            return LanguageObjective(
                self.network,
                passage(self.valid, position * self.window, self.window),
                self.reached_valid.clone(),
                _keeper(self.reached_valid),
                functools.partial(self.streams.generator, "dropout", epoch, step, 1),
                0.0,
                self.precision,
            )

        return lambda samples: made()(samples)

    def evaluate(self, draw: Callable[[int], list[Sample]]) -> tuple[float, float]:
        """(loss, accuracy) on the validation text, batch statistics, one draw a window, no dropout.

        Nothing changes: BatchNorm's running statistics are put back.
        """
        reached = torch.zeros_like(self.reached_valid)
        loss, correct, words = 0.0, 0.0, 0
        with torch.no_grad(), preserved(self.buffers):
            for index in range(self.valid_windows):
                objective = LanguageObjective(
                    self.network,
                    passage(self.valid, index * self.window, self.window),
                    reached.clone(),
                    _keeper(reached),
                    lambda: None,
                    0.0,
                    self.precision,
                )
                outcome = objective(draw(index))
                loss += float(outcome.task_loss) * outcome.images
                correct += float(outcome.correct)
                words += outcome.images
        return loss / words, correct / words


def _keeper(place: Tensor) -> Callable[[Tensor], None]:
    """Puts a state into `place`, or zeros where it is not finite: so that the next window can be."""

    def keep(state: Tensor) -> None:
        place.copy_(torch.where(state.isfinite().all(), state, torch.zeros_like(state)))

    return keep


def check_batch(words: int, texts: int, window: int, section: str) -> None:
    """A text of so many words gives a whole window of `texts` texts.

    Raises:
        UserError: it does not; the text names the key in `section` to change.
    """
    if words // texts < window + 1:
        most = words // (window + 1)
        remedy = f"give at most {most}" if most >= 2 else "give a smaller text.window, or more text"
        raise UserError(
            f"{section}.batch_size: {words:,} words cut into {texts} texts give none a window of {window} "
            f"words and the one that follows; {remedy}"
        )
