"""Stop when validation no longer improves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from archgrad.metric_lines import Line, epoch_of, learned, number
from archgrad.stopping.rule import Reason

_NAMES = {"valid_loss": "validation loss", "valid_accuracy": "validation accuracy"}


@dataclass(frozen=True)
class Plateau:
    """Fires when no epoch of the last `epochs` was better than the best before; goes back to the best.

    Only epochs that trained the logits count.

    least: by how much an epoch has to be better, in nats or as a fraction.
    """

    epochs: int = 10
    of: Literal["valid_loss", "valid_accuracy"] = "valid_loss"
    least: float = 0.0

    @property
    def reach(self) -> int:
        """How many epochs back the rule may go."""
        return self.epochs

    def __call__(self, lines: Sequence[Line]) -> Reason | None:
        """The reason, or None."""
        sign = -1 if self.of == "valid_loss" else 1
        known = [
            (epoch_of(line), sign * value)
            for line in lines
            if learned(line) and (value := number(line.get(self.of))) is not None
        ]
        if not known or not learned(lines[-1]):
            return None
        best, most = known[0]
        for epoch, value in known[1:]:
            if value > most + self.least:
                best, most = epoch, value
        since = epoch_of(lines[-1]) - best
        if since < self.epochs:
            return None
        by = f" by more than {self.least:g}" if self.least else ""
        return Reason(
            f"the {_NAMES[self.of]} of epoch {best}, {sign * most:.4g}, has not been bettered{by} for "
            f"{since} epoch{'s' * (since != 1)}",
            best,
        )
