"""Stop when what would be derived no longer changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from archgrad.metric_lines import Line, epoch_of, learned, reading
from archgrad.stopping.rule import Reason


@dataclass(frozen=True)
class Stability:
    """Fires when what would be derived has been the same for `epochs` epochs; keeps this epoch.

    Only epochs that trained the logits count: in a warm-up nothing can change.

    Source: Liang et al. 2019, DARTS+ (arXiv 1909.06035), criterion 1*: 10 epochs. There the ranking of the
    operations with weights is looked at; here all that the derivation looks at.
    """

    epochs: int = 10

    def __call__(self, lines: Sequence[Line]) -> Reason | None:
        """The reason, or None."""
        still = reading(lines[-1], "stability", "architecture_unchanged")
        if still is None or still < self.epochs or not learned(lines[-1]):
            return None
        if sum(map(learned, lines)) <= self.epochs:
            return None
        epoch = epoch_of(lines[-1])
        return Reason(
            f"the architecture that would be derived is the same since epoch {epoch - int(still)}, for "
            f"{int(still)} epochs",
            epoch,
        )
