"""What a stopping rule is and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from archgrad.metric_lines import Line


class Reason(NamedTuple):
    """Why a search should not go on like this, and the epoch whose logits count.

    because: one sentence with the numbers, without a full stop.
    epoch: not later than the last line's.
    """

    because: str
    epoch: int


class Rule(Protocol):
    """Called after every epoch with all lines so far, the last being this epoch's.

    A rule may have more attributes: `needs`, {probe: every how many epochs it looks, where the configuration
    does not say}; `reach`, how many epochs back it may go (of a rule with `needs`, how many looks), 0 without
    it; `of_logits`, False where it can be asked of a method that trains no logits; and `unfit(cells)`, why it
    can never fire in a space with these kinds of cells, or None.
    """

    def __call__(self, lines: Sequence[Line]) -> Reason | None:
        """The reason, or None to go on."""
