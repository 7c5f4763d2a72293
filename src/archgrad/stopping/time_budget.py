"""Stop when the time is up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from archgrad.errors import UserError
from archgrad.metric_lines import Line, epoch_of, number
from archgrad.stopping.rule import Reason


@dataclass(frozen=True)
class TimeBudget:
    """Fires when another epoch as long as the last would go beyond `seconds` of search; keeps this epoch.

    Counted is the time of the epochs, those included that a roll-back gave up; not that of loading the data.

    Raises:
        UserError: no number of seconds.
    """

    seconds: float | None = None

    of_logits: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.seconds is None:
            raise UserError("seconds: say how long the search may take, e.g. seconds=3600")

    def __call__(self, lines: Sequence[Line]) -> Reason | None:
        """The reason, or None."""
        assert self.seconds is not None
        spent = sum(number(line.get(key)) or 0.0 for line in lines for key in ("seconds", "given_up_seconds"))
        if spent + (number(lines[-1].get("seconds")) or 0.0) <= self.seconds:
            return None
        return Reason(
            f"the search took {spent:.0f} s, and another epoch would go beyond its {self.seconds:g} s",
            epoch_of(lines[-1]),
        )
