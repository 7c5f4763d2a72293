"""Timing many short calls fairly: interleaved rounds, a reference between them, medians and their spread.

Needs Python's standard library only, as it also runs on devices without archgrad (see `kit`). Times are in
seconds. A reading is several calls in a row, as many as the timer needs to see them; a round is one reading
of every call, in an order of its own, so that a machine that slows down slows all of them. Between them one
of the calls, the reference, is read again and again: rounds in which it is off are measured anew.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

Call = Callable[[], object]

SUBSTANTIAL = 0.01
"""Calls that take less than this share of the longest are not looked at when the noise is judged."""
ALIKE = 0.05
"""Calls whose medians differ by less than this share need not be told apart."""
NOISY_SPREAD, NOISY_TAU = 0.25, 0.8
"""From this interquartile range (share of the median) on, or below this Kendall τ, a machine is too noisy."""
_OUTLIER = 5 * 1.4826  # times the median absolute deviation: five standard deviations of a normal law
_MOST_READS, _MOST_CALLS = 2_000_000, 1_000_000
_REFERENCES = 5  # readings of the reference in a round, at least


CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "processor": time.thread_time}
"""What is read: the time that passes, or the time that the processor gives to this thread alone. On a quiet
machine one thread takes as long by both; on a busy one the second leaves out what others do meanwhile."""


class TimingError(Exception):
    """The timer does not see what it should time."""


class Timer(Protocol):
    """Measures calls in a row."""

    def resolution(self) -> float:
        """The smallest difference, in seconds, that two readings can have."""

    def seconds(self, call: Call, times: int) -> float:
        """Seconds that `times` calls in a row take."""


class ClockTimer:
    """A timer that reads a clock of the host before and after."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock

    def resolution(self) -> float:
        """The smallest step that the clock is seen to make.

        Raises:
            TimingError: it makes none.
        """
        steps = []
        for _ in range(5):
            before = now = self._clock()
            reads = 0
            while now <= before:
                now, reads = self._clock(), reads + 1
                if reads > _MOST_READS:
                    raise TimingError(f"the timer stood still while it was read {_MOST_READS:,} times")
            steps.append(now - before)
        return min(steps)

    def seconds(self, call: Call, times: int) -> float:
        """Seconds by the clock."""
        before = self._clock()
        for _ in range(times):
            call()
        return self._clock() - before


@dataclass(frozen=True)
class Plan:
    """How calls are timed.

    rounds: readings of every call that count.
    reading_seconds: a reading is at least so long; longer where the timer is coarse.
    resolution_share: one step of the timer is at most this share of a reading.
    longest_reading: seconds; a timer that needs longer readings of a short call is refused.
    drift: a round counts while its reference is within this share of the usual.
    extra: at most so many times `rounds` are measured to find `rounds` that count.
    """

    rounds: int = 20
    reading_seconds: float = 5e-3
    resolution_share: float = 0.02
    longest_reading: float = 0.5
    drift: float = 0.1
    extra: int = 3

    def __post_init__(self) -> None:
        if self.rounds < 4:
            raise ValueError(f"wanted at least 4 rounds, for quartiles of the readings, got {self.rounds}")
        if not self.drift > 0:
            raise ValueError(f"wanted a drift above 0, as in 0.1 for 10 %, got {self.drift}")


class Spread(NamedTuple):
    """What the readings of one call say, in seconds a call.

    mad: median absolute deviation from the median. n: readings. outliers: those more than five robust
    standard deviations away; they are counted, and the median and the quartiles do not mind them.
    """

    median: float
    lower_quartile: float
    upper_quartile: float
    mad: float
    n: int
    outliers: int


class Summary(NamedTuple):
    """What the rounds say.

    spreads: of each call. reference: which call was read between the others.
    rounds, dropped: those that count, and those in which the machine was slower or faster.
    drift: how far the reference went over all rounds, (largest − least) / median of the rounds' medians.
    noise: interquartile range over median, the median of it over the calls that matter.
    tau: Kendall's τ between the even and the odd rounds, over calls that differ.
    warnings: sentences.
    """

    spreads: dict[str, Spread]
    reference: str
    rounds: int
    dropped: int
    drift: float
    noise: float
    tau: float
    warnings: tuple[str, ...]


def measure(
    calls: Mapping[str, Call],
    plan: Plan,
    timer: Timer | None = None,
    *,
    session: Mapping[str, Any] | None = None,
    keep: Callable[[dict[str, Any]], None] = lambda session: None,
    show: Callable[[int, str], None] = lambda done, numbers: None,
    seed: int = 0,
) -> dict[str, Any]:
    """Time calls in rounds; returns the session, plain values that JSON holds, for `summary`.

    Args:
        calls: by name; each is warmed up first.
        plan: how many rounds, and so on.
        timer: of the host's clock where none is given.
        session: an earlier one of the same calls that was stopped; it is gone on with.
        keep: called with the session after each round.
        show: called with the number of rounds that count, and the share of them in the rounds so far.
        seed: of the order of the calls in each round.

    Raises:
        TimingError: a call is so short, or the timer so coarse, that it takes too many calls to see it.
    """
    timer = timer or ClockTimer()
    reading = max(plan.reading_seconds, timer.resolution() / plan.resolution_share)
    if reading > plan.longest_reading:
        raise TimingError(
            f"the timer is too coarse: it moves in steps of {1e3 * timer.resolution():.3g} ms, so a reading "
            f"would have to take {reading:.2g} s for an error of {plan.resolution_share:.0%}, more than the "
            f"{plan.longest_reading:g} s that are sensible; measure where there is a finer one"
        )
    warm = {name: _calls_a_reading(name, call, timer, reading) for name, call in calls.items()}
    state: dict[str, Any]
    if session is None:
        by_length = sorted(calls, key=lambda name: warm[name][1])
        state = {
            "reference": by_length[3 * (len(by_length) - 1) // 4],
            "times": {name: times for name, (times, _) in warm.items()},
            "rounds": [],
        }
    else:
        state = {**session, "rounds": list(session["rounds"])}
    good = len(steady(state["rounds"], plan.drift))
    while good < plan.rounds and len(state["rounds"]) < plan.extra * plan.rounds:
        order = random.Random(f"{seed}:{len(state['rounds'])}")
        state["rounds"].append(_round(calls, state, timer, order))
        good = len(steady(state["rounds"], plan.drift))
        keep(state)
        show(good, f"{good} of {len(state['rounds'])} rounds steady")
    return state


def _calls_a_reading(name: str, call: Call, timer: Timer, reading: float) -> tuple[int, float]:
    """Warm a call up: how many of them make a reading, and the seconds of one."""
    timer.seconds(call, 2)  # allocations, choices of kernels: not what is wanted
    times = 1
    while True:
        took = timer.seconds(call, times)
        if took >= reading:
            return times, took / times
        if times >= _MOST_CALLS:
            raise TimingError(f"{name}: {times:,} calls take {took:.3g} s; the timer cannot see a call")
        more = 1.1 * reading / took if took > 0 else 10.0
        times = min(_MOST_CALLS, math.ceil(times * min(max(more, 1.2), 10.0)))


def _round(
    calls: Mapping[str, Call], state: Mapping[str, Any], timer: Timer, order: random.Random
) -> dict[str, Any]:
    """One reading of every call, and of the reference before, between and after."""
    reference, times = state["reference"], state["times"]
    names = list(calls)
    order.shuffle(names)
    every = max(1, len(names) // (_REFERENCES - 1))

    def read(name: str) -> float:
        n: int = times[name]
        return timer.seconds(calls[name], n) / n

    seconds: dict[str, float] = {}
    references = [read(reference)]
    for place, name in enumerate(names, start=1):
        seconds[name] = read(name)
        if place % every == 0:
            references.append(read(reference))
    return {"reference": references, "seconds": seconds}


def steady(rounds: Sequence[Mapping[str, Any]], drift: float) -> list[int]:
    """Indices of the rounds whose reference is as usual, that is, near what most rounds have."""
    speeds = [statistics.median(r["reference"]) for r in rounds]
    near: list[int] = []
    for usual in sorted(speeds):  # of equally many the fastest: what disturbs makes a machine slower
        here = [i for i, speed in enumerate(speeds) if abs(speed - usual) <= drift * usual]
        if len(here) > len(near):
            near = here
    return near


def spread(readings: Sequence[float]) -> Spread:
    """Median, quartiles, median absolute deviation and outliers of at least two readings."""
    lower, median, upper = statistics.quantiles(readings, n=4, method="inclusive")
    mad = statistics.median(abs(r - median) for r in readings)
    far = max(_OUTLIER * mad, 1e-3 * median)  # equal readings are no reason to call a hair's breadth far
    return Spread(median, lower, upper, mad, len(readings), sum(abs(r - median) > far for r in readings))


def summary(session: Mapping[str, Any], plan: Plan) -> Summary:
    """Medians, spread, and what is to be said of the machine."""
    rounds = session["rounds"]
    kept = steady(rounds, plan.drift)
    speeds = [statistics.median(r["reference"]) for r in rounds]
    moved = (max(speeds) - min(speeds)) / statistics.median(speeds)
    readings = {name: [rounds[i]["seconds"][name] for i in kept] for name in session["times"]}
    warnings = []
    if len(kept) < plan.rounds:
        warnings.append(
            f"the machine's speed changed while it was measured: in {len(rounds) - len(kept)} of "
            f"{len(rounds)} rounds the reference was more than {plan.drift:.0%} off, so {len(kept)} rounds "
            f"count instead of {plan.rounds}; close other programs and measure again"
        )
    if len(kept) < 4:
        raise TimingError(
            f"the machine's speed changes all the time: of {len(rounds)} rounds no 4 agree within "
            f"{plan.drift:.0%} on the reference ({moved:.0%} between the slowest and the fastest); nothing "
            "can be measured on it now"
        )
    spreads = {name: spread(values) for name, values in readings.items()}
    least = SUBSTANTIAL * max(s.median for s in spreads.values())
    matter = [name for name, s in spreads.items() if s.median >= least]
    noise = statistics.median(
        (spreads[n].upper_quartile - spreads[n].lower_quartile) / spreads[n].median for n in matter
    )
    tau = _halves(readings, {name: spreads[name].median for name in matter})
    if noise > NOISY_SPREAD or tau < NOISY_TAU:
        warnings.append(
            f"the machine is too noisy to rank the candidates: readings of one spread by {noise:.0%} of "
            f"their median (interquartile range), and the even and the odd rounds rank them with a Kendall τ "
            f"of {tau:.2f}; close other programs, or give more --rounds"
        )
    return Summary(
        spreads, session["reference"], len(kept), len(rounds) - len(kept), moved, noise, tau, tuple(warnings)
    )


def _halves(readings: Mapping[str, Sequence[float]], medians: Mapping[str, float]) -> float:
    """Kendall's τ between the two halves of the readings, over pairs whose medians are not alike."""
    even = {name: statistics.median(readings[name][::2]) for name in medians}
    odd = {name: statistics.median(readings[name][1::2]) for name in medians}
    names = sorted(medians)
    signs = []
    for i, a in enumerate(names):
        for b in names[:i]:
            if abs(medians[a] - medians[b]) > ALIKE * max(medians[a], medians[b]):
                product = (even[a] - even[b]) * (odd[a] - odd[b])
                signs.append((product > 0) - (product < 0))
    return float(sum(signs) / len(signs)) if signs else 1.0
