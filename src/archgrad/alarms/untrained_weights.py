"""The logits move while the network guesses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from archgrad.alarms.alarm import About, Found
from archgrad.metric_lines import Line, learned, number


@dataclass(frozen=True)
class UntrainedWeights:
    """Rings when training accuracy is near chance in each of the last `epochs` epochs that moved the logits.

    What the logits learn of a network that guesses is which candidates train fast. Silent on texts, where
    guessing has no one accuracy.

    times: near chance is below so many times 1 / number of classes.
    """

    times: float = 1.5
    epochs: int = 3

    def __call__(self, lines: Sequence[Line], about: About) -> Found | None:
        """The alarm, or None."""
        last = [number(line.get("train_accuracy")) for line in lines[-self.epochs :] if learned(line)]
        known = [accuracy for accuracy in last if accuracy is not None]
        if len(known) < self.epochs or not about.classes or about.classes < 2:
            return None
        # of two classes 1.5 times chance is 75 %, which is learned: half of the way is the most
        near = min(self.times * about.chance, about.chance + (1 - about.chance) / 4)
        if max(known) >= near:
            return None
        return Found(
            f"the weights are not trained yet, and the logits move: training accuracy is {known[-1]:.1%}, "
            f"that of guessing {about.chance:.1%}",
            f"set search.warmup_epochs={max(about.warmup * 2, 5)} or more, or another weights.learning_rate",
        )
