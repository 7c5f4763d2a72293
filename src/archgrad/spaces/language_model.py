"""A language model around a recurrent core: tied embedding and decoder, dropout that a window shares.

T words a window, B texts side by side, V words of the vocabulary, H units, S numbers of state a text.
The dropouts are those of Merity et al. 2017, AWD-LSTM (arXiv 1708.02182), section 4, with the masks of
Gal & Ghahramani 2016 (arXiv 1512.05287): one mask for all words of a window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from archgrad.errors import UserError

INITIAL_RANGE = 0.04
"""Weights begin uniform in ±this (DARTS' recurrent networks)."""


class Window(NamedTuple):
    """T words of B texts, and where the model was before them.

    words: int64 [T, B]. state: [B, S], of the window before, or zeros.
    generator: draws the dropout masks, on the host; without it there is no dropout.
    """

    words: Tensor
    state: Tensor
    generator: torch.Generator | None = None


class Reading(NamedTuple):
    """What a model makes of a window.

    logits: [T, B, V], of the word that follows each. outputs: [T, B, H] of the core, before dropout.
    state: [B, S] after the last word.
    """

    logits: Tensor
    outputs: Tensor
    state: Tensor


class Masks(NamedTuple):
    """Masks of a window, each 0 or 1/(1 − p); None: nothing is dropped.

    x: [B, H] of the core's input. hidden: [B, H] of what goes from step to step and from node to node.
    weight: [H, ·] of the matrix from the state before to the state after.
    """

    x: Tensor | None = None
    hidden: Tensor | None = None
    weight: Tensor | None = None


class Core(Protocol):
    """The recurrent part: H numbers in and out a word, S numbers of state between two words."""

    state_size: int
    recurrent_shape: tuple[int, int]  # of the matrix that weight dropout is for

    def __call__(self, x: Tensor, state: Tensor, masks: Masks) -> tuple[Tensor, Tensor]:
        """[T, B, H] and [B, S] -> outputs [T, B, H] and the state [B, S] after the last word."""

    def macs(self) -> int:
        """Multiply-adds a word."""


@dataclass(frozen=True)
class Dropouts:
    """Probabilities of dropping.

    embedding: a word's whole embedding, wherever it stands in the window. input: an embedding's number.
    x: a number of the core's input, on top of that. hidden: a number of the state and of every node.
    output: a number that the decoder sees. weight: an entry of the recurrent matrix.
    """

    embedding: float = 0.0
    input: float = 0.0
    x: float = 0.0
    hidden: float = 0.0
    output: float = 0.0
    weight: float = 0.0

    def __post_init__(self) -> None:
        for name, p in vars(self).items():
            if not 0 <= p < 1:
                raise UserError(f"dropout_{name}: a probability of at least 0 and below 1; got {p}")

    @property
    def any(self) -> bool:
        """Whether anything is dropped."""
        return any(vars(self).values())


class LanguageModel(nn.Module):
    """Embedding, recurrent core, and a decoder whose matrix is the embedding's (Press & Wolf 2017).

    Called with words [B, T] it reads them from a zero state and returns logits [B, T, V]; called with a
    `Window` it returns a `Reading`.

    Args:
        core: the recurrent part.
        vocabulary: V.
        hidden: H, the length of an embedding, too.
        dropouts: used in training, where a window brings a generator.
    """

    def __init__(self, core: nn.Module, vocabulary: int, hidden: int, dropouts: Dropouts):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, hidden)
        self.core = core
        self.decoder_bias = nn.Parameter(torch.zeros(vocabulary))
        self.hidden, self.vocabulary, self.dropouts = hidden, vocabulary, dropouts
        nn.init.uniform_(self.embedding.weight, -INITIAL_RANGE, INITIAL_RANGE)

    @property
    def state_size(self) -> int:
        """S."""
        size: int = self.core.state_size  # type: ignore[assignment]
        return size

    def zero_state(self, texts: int) -> Tensor:
        """The state [B, S] before the first word."""
        return self.embedding.weight.new_zeros(texts, self.state_size)

    def forward(self, x: Tensor | Window) -> Tensor | Reading:
        """See the class."""
        if isinstance(x, Window):
            return self._read(x)
        words = x.long().t()
        return self._read(Window(words, self.zero_state(words.shape[1]))).logits.transpose(0, 1)

    def _read(self, window: Window) -> Reading:
        words, dropouts = window.words, self.dropouts
        texts, like = words.shape[1], self.embedding.weight
        generator = window.generator if self.training and dropouts.any else None

        def mask(p: float, *shape: int) -> Tensor | None:
            if generator is None or p == 0:
                return None
            # drawn on the host: the same mask on any device
            kept = (torch.rand(*shape, generator=generator) < 1 - p).to(like.device, like.dtype)
            return kept / (1 - p)

        rows = mask(dropouts.embedding, self.vocabulary, 1)
        numbers = mask(dropouts.input, texts, self.hidden)
        masks = Masks(
            mask(dropouts.x, texts, self.hidden),
            mask(dropouts.hidden, texts, self.hidden),
            mask(dropouts.weight, *self.core.recurrent_shape),  # type: ignore[misc]
        )
        last = mask(dropouts.output, texts, self.hidden)
        embedded = self.embedding(words) if rows is None else self.embedding(words) * rows[words]
        outputs, state = self.core(times(embedded, numbers), window.state, masks)
        logits = F.linear(times(outputs, last), self.embedding.weight, self.decoder_bias)
        return Reading(logits, outputs, state)

    def macs(self) -> int:
        """Multiply-adds a word: the core's, and those of the decoder."""
        of_core: int = self.core.macs()  # type: ignore[operator]
        return of_core + self.vocabulary * self.hidden


def times(x: Tensor, mask: Tensor | None) -> Tensor:
    """x · mask; x itself where nothing is dropped."""
    return x if mask is None else x * mask
