"""The temperature is low too early."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from archgrad.alarms.alarm import About, Found
from archgrad.metric_lines import Line, number, reading


@dataclass(frozen=True)
class LowTau:
    """Rings when τ is below a value in the first part of the search, the choices still open.

    Samples at a low τ are nearly one-hot, their gradients of great variance, so the first preferences stay.

    below: τ. until: the first part, a share of the epochs that train the logits.
    entropy: open is a mean entropy above so much of its maximum.

    Source: Maddison et al. 2017 (arXiv 1611.00712), section 2: variance grows as τ falls.
    """

    below: float = 0.25
    until: float = 0.5
    entropy: float = 0.5

    def __call__(self, lines: Sequence[Line], about: About) -> Found | None:
        """The alarm, or None."""
        line = lines[-1]
        tau, open_, done = number(line.get("tau")), reading(line, "entropy", "relative"), about.progress(line)
        if not about.temperature or tau is None or open_ is None or done is None:
            return None
        if tau >= self.below or done > self.until or open_ <= self.entropy:
            return None
        return Found(
            f"the temperature is too low too early: τ is {tau:.3g} after {done:.0%} of the search, and the "
            f"entropy of the choices is {open_:.0%} of its maximum",
            "set a higher temperature.start, or a schedule that falls later (temperature.schedule=linear)",
        )
