"""Stop when the validation loss becomes sharp in the logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from archgrad.errors import UserError
from archgrad.metric_lines import Line, epoch_of, reading
from archgrad.stopping.rule import Reason


class Rise(NamedTuple):
    """λ_max smoothed around two epochs, and the epochs."""

    before: float
    now: float
    epoch_before: int
    epoch_now: int


@dataclass(frozen=True)
class LambdaMax:
    """Fires when the smoothed largest eigenvalue of ∇²_α L_valid rose by a factor; goes back to before.

    Of the measured epochs E_0, E_1, … with eigenvalues λ_0, λ_1, …, LA_i is the mean of the last `window`
    eigenvalues up to λ_i (of all where there are fewer), and stands for epoch E_{i − ⌊window/2⌋}. Fires
    when LA_i / LA_{i − delta} > factor; goes back to E_{i − ⌊window/2⌋ − delta}, and not to before `first`.

    Source: Zela et al. 2020, RobustDARTS (arXiv 1909.09656), section 4.3. The paper says a window of 5, the
    ratio of two averages five epochs apart, and 1/0.75; the authors' program has the numbers used here.

    Raises:
        UserError: a factor that is no rise.
    """

    window: int = 5
    factor: float = 1.3
    delta: int = 4
    first: int = 10

    needs: ClassVar[dict[str, int]] = {"sharpness": 1}

    @property
    def reach(self) -> int:
        """How many measurements back the rule may go."""
        return self.window // 2 + self.delta

    def __post_init__(self) -> None:
        if self.factor <= 1:
            raise UserError(f"factor: a rise is by more than 1, got {self.factor:g}")

    def __call__(self, lines: Sequence[Line]) -> Reason | None:
        """The reason, or None."""
        risen = rise(lines, self.window, self.delta)
        if risen is None or risen.epoch_before < self.first or risen.now <= self.factor * risen.before:
            return None
        return Reason(
            f"the validation loss becomes sharp in the logits: its largest eigenvalue rose from "
            f"{risen.before:.3g} around epoch {risen.epoch_before} to {risen.now:.3g} around epoch "
            f"{risen.epoch_now}, by more than a factor of {self.factor:g}",
            risen.epoch_before,
        )


def rise(lines: Sequence[Line], window: int, delta: int) -> Rise | None:
    """The last smoothed λ_max and that of `delta` measurements before.

    None where the last line has no measurement, there are too few, or the earlier average is not above 0.
    """
    if not lines or _measured(lines[-1]) is None:
        return None
    known = [(epoch_of(line), value) for line in lines if (value := _measured(line)) is not None]
    then = len(known) - 1 - delta
    if then < window // 2:
        return None
    before, now = _average(known, then, window), _average(known, len(known) - 1, window)
    if before <= 0:
        return None
    return Rise(before, now, known[then - window // 2][0], known[len(known) - 1 - window // 2][0])


def _measured(line: Line) -> float | None:
    return reading(line, "sharpness", "largest")


def _average(known: Sequence[tuple[int, float]], index: int, window: int) -> float:
    """The mean of the last `window` eigenvalues up to `index`."""
    values = [value for _, value in known[max(0, index + 1 - window) : index + 1]]
    return sum(values) / len(values)
