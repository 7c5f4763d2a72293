"""Parameters and multiply-adds of a language model before any training.

1 MAC is one multiplication and one addition of a matrix product; activations, gates and the look-up of
an embedding are not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from torch import nn

from archgrad.randomness import seeded_modules
from archgrad.spaces.language_model import LanguageModel


class LanguageCounts(NamedTuple):
    """parameters: all; the decoder's matrix is the embedding's and counts once. macs: for one word."""

    parameters: int
    macs: int


def count_language(build: Callable[[], nn.Module]) -> LanguageCounts:
    """Count the language model that `build` makes, without allocating it."""
    with seeded_modules(0), torch.device("meta"):
        network = cast(LanguageModel, build())
    return LanguageCounts(sum(p.numel() for p in network.parameters()), network.macs())
