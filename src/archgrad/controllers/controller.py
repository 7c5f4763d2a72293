"""The contract of a controller. E choices × K candidates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from archgrad.choice import Group

Choose = Callable[[Tensor], Tensor]
"""Logits [..., E', K] of one or more choices -> their weights [..., E', K]."""


class Controller(Protocol):
    """Turns learned tensors θ into the logits of every choice, in order, given the choices before.

    All tensors may carry leading dimensions [...] of independent searches, θ too.
    """

    def initial(
        self, groups: Sequence[Group], generator: torch.Generator, scale: float, mean: float
    ) -> list[Tensor]:
        """θ before the first step, as leaves that require grad."""

    def logits(self, groups: Sequence[Group], theta: Sequence[Tensor], choose: Choose) -> list[Tensor]:
        """[..., E, K] per group; `choose` is handed every choice's logits once, in order."""

    def shapes(self, groups: Sequence[Group]) -> list[tuple[int, ...]]:
        """The shapes of θ, without leading dimensions."""
