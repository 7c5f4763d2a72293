"""The measuring loop on clocks that are made up: drift, outliers, coarse steps, noise, and a stop."""

from __future__ import annotations

import json
import math
import random
import statistics
from collections.abc import Callable

import pytest

from archgrad.latency.timing import ClockTimer, Plan, Spread, TimingError, measure, spread, steady, summary

MICRO = 1e-6
PLAN = Plan(rounds=12)


class World:
    """A machine: its clock moves with every call and a little with every look.

    speed: factor on all calls at a time; noise: standard deviation of the logarithm of a call's time.
    step: of the clock, 0 for a fine one.
    """

    def __init__(
        self, speed: Callable[[float], float] = lambda now: 1.0, noise: float = 0.0, step: float = 0.0
    ) -> None:
        self.now, self.speed, self.noise, self.step = 0.0, speed, noise, step
        self.random = random.Random(1)

    def clock(self) -> float:
        self.now += 0.05 * MICRO
        return math.floor(self.now / self.step) * self.step if self.step else self.now

    def call(self, seconds: float) -> Callable[[], None]:
        def run() -> None:
            factor = math.exp(self.random.gauss(0, self.noise)) if self.noise else 1.0
            self.now += seconds * factor * self.speed(self.now)

        return run

    def timer(self) -> ClockTimer:
        return ClockTimer(self.clock)


def calls(world: World, **seconds: float) -> dict[str, Callable[[], None]]:
    return {name: world.call(value) for name, value in seconds.items()}


TIMES = {"identity": 1 * MICRO, "pool": 40 * MICRO, "conv": 500 * MICRO, "large": 9_000 * MICRO}


def test_a_quiet_machine_is_measured_exactly():
    world = World()
    found = summary(measure(calls(world, **TIMES), PLAN, world.timer()), PLAN)
    for name, seconds in TIMES.items():
        assert found.spreads[name].median == pytest.approx(seconds, rel=1e-3)
        assert found.spreads[name].n == 12
        assert found.spreads[name].outliers == 0
    assert (found.rounds, found.dropped, found.tau) == (12, 0, 1.0)
    assert found.drift < 1e-3
    assert found.warnings == ()
    assert found.reference == "conv"


def test_short_calls_are_batched_until_a_reading_can_be_seen():
    world = World()
    session = measure(calls(world, **TIMES), PLAN, world.timer())
    assert session["times"]["large"] == 1
    assert 5000 <= session["times"]["identity"] <= 6500
    coarse = World(step=1e-3)  # readings have to be fifty steps long
    session = measure(calls(coarse, **TIMES), PLAN, coarse.timer())
    assert session["times"]["large"] >= 5
    assert session["times"]["conv"] >= 0.05 / TIMES["conv"]
    found = summary(session, PLAN)
    for name, seconds in TIMES.items():
        assert found.spreads[name].median == pytest.approx(seconds, rel=0.025)


def test_a_timer_that_is_too_coarse_is_refused():
    world = World(step=15.6e-3)
    with pytest.raises(TimingError, match=r"too coarse: it moves in steps of 15\.6 ms"):
        measure(calls(world, **TIMES), PLAN, world.timer())
    stuck = ClockTimer(lambda: 7.0)
    with pytest.raises(TimingError, match="stood still"):
        measure(calls(World(), **TIMES), PLAN, stuck)


def test_a_call_that_takes_no_time_is_refused():
    world = World()
    with pytest.raises(TimingError, match=r"nothing: .*cannot see a call"):
        measure({"nothing": lambda: None, **calls(world, **TIMES)}, PLAN, world.timer())


def test_rounds_in_which_the_machine_is_slow_are_measured_anew():
    slow = World(speed=lambda now: 1.5 if 0.1 < now < 0.3 else 1.0)
    session = measure(calls(slow, **TIMES), PLAN, slow.timer())
    found = summary(session, PLAN)
    assert found.dropped >= 2
    assert found.rounds == 12
    assert found.drift == pytest.approx(0.5, abs=0.05)
    assert found.warnings == ()
    for name, seconds in TIMES.items():
        assert found.spreads[name].median == pytest.approx(seconds, rel=1e-2)
        assert found.spreads[name].n == 12


def test_a_machine_that_gets_slower_for_good_is_not_measured_half_and_half():
    """After three rounds it stays 30 % slower: those three do not count, and the others agree."""
    world = World(speed=lambda now: 1.0 if now < 0.25 else 1.3)
    session = measure(calls(world, **TIMES), PLAN, world.timer())
    found = summary(session, PLAN)
    assert 1 <= found.dropped < 12
    assert found.spreads["conv"].median == pytest.approx(1.3 * TIMES["conv"], rel=1e-3)
    assert found.spreads["large"].median == pytest.approx(1.3 * TIMES["large"], rel=1e-3)


def test_a_machine_that_drifts_all_the_time_is_refused():
    falling = World(speed=lambda now: 1.5**now)  # every round is another speed
    plan = Plan(rounds=12, drift=1e-3)
    session = measure(calls(falling, **TIMES), plan, falling.timer())
    assert len(session["rounds"]) == plan.extra * plan.rounds
    with pytest.raises(TimingError, match="speed changes all the time: of 36 rounds no 4 agree"):
        summary(session, plan)


def test_too_few_steady_rounds_are_said():
    shaky = World(speed=lambda now: 1.0 + 2.0 * (int(now / 0.0137) % 3 == 0))
    plan = Plan(rounds=12, extra=1)
    found = summary(measure(calls(shaky, conv=TIMES["conv"], pool=TIMES["pool"]), plan, shaky.timer()), plan)
    assert 4 <= found.rounds < 12
    assert f"so {found.rounds} rounds count instead of 12" in found.warnings[0]


def test_outliers_are_counted_and_do_not_move_the_median():
    readings = [1.0, 1.01, 0.99, 1.02, 0.98, 1.0, 1.01, 0.99, 40.0]
    assert spread(readings) == Spread(1.0, 0.99, 1.01, pytest.approx(0.01), 9, 1)
    for far, outliers in ((1.07, 0), (1.08, 1)):  # five times 1.4826 times 0.01 is 0.074
        assert spread([*readings[:-1], far]).outliers == outliers
    assert spread([2.0] * 5).outliers == 0
    assert spread([2.0] * 5 + [2.001]).outliers == 0
    assert spread([2.0] * 5 + [2.1]).outliers == 1


def test_quartiles_and_deviation_are_those_of_the_definition():
    readings = [random.Random(3).gauss(10, 1) for _ in range(101)]
    ordered = sorted(readings)
    found = spread(readings)
    assert (found.lower_quartile, found.median, found.upper_quartile) == (
        ordered[25],
        ordered[50],
        ordered[75],
    )
    assert found.mad == statistics.median(abs(r - ordered[50]) for r in readings)


def test_a_machine_too_noisy_to_rank_says_so_with_the_spread():
    close = {f"op{i}": (100 + 8 * i) * MICRO for i in range(8)}
    plan = Plan(rounds=12, drift=3.0, reading_seconds=1e-5)
    quiet = World(noise=0.002)
    assert summary(measure(calls(quiet, **close), plan, quiet.timer()), plan).warnings == ()
    noisy = World(noise=1.0)
    found = summary(measure(calls(noisy, **close), plan, noisy.timer()), plan)
    assert found.tau < 0.8
    assert found.noise > 0.25
    (warning,) = found.warnings
    assert "too noisy to rank the candidates" in warning
    assert f"spread by {found.noise:.0%}" in warning


def test_calls_that_are_equal_or_negligible_do_not_count_as_noise():
    same = {f"op{i}": 100 * MICRO for i in range(6)} | {"tiny": 0.2 * MICRO, "tinier": 0.19 * MICRO}
    world = World(noise=0.05)
    found = summary(measure(calls(world, **same), PLAN, world.timer()), PLAN)
    assert found.tau == 1.0
    assert found.warnings == ()


def test_noise_averages_out_in_the_median():
    world = World(noise=0.1)
    plan = Plan(rounds=40, reading_seconds=1e-5)
    found = summary(measure(calls(world, **TIMES), plan, world.timer()), plan)
    # the median of n readings of deviation s has deviation 1.25 s / √n: 0.02 here, and four of those
    assert found.spreads["large"].median == pytest.approx(TIMES["large"], rel=0.08)


def test_rounds_are_interleaved_in_changing_order():
    world, order = World(), []
    named = {
        name: (lambda name=name, run=run: (order.append(name), run()))
        for name, run in calls(world, a=6e-3, b=7e-3, c=8e-3, d=9e-3).items()
    }
    session = measure(named, Plan(rounds=4), world.timer())
    # the warm-up is three calls of each; then each round has four, and the reference five times more
    rounds = [order[12 + 9 * i : 12 + 9 * (i + 1)] for i in range(4)]
    reference = session["reference"]
    assert all(sorted(r) == sorted([*"abcd", *[reference] * 5]) for r in rounds)
    assert all(r[0] == r[-1] == reference for r in rounds)
    assert len({tuple(r) for r in rounds}) > 1


def test_a_stopped_session_goes_on_where_it_was():
    whole = World()
    wanted = measure(calls(whole, **TIMES), PLAN, whole.timer())

    class Stop(Exception):
        pass

    kept: list[str] = []

    def keep(session: dict) -> None:
        kept.append(json.dumps(session))
        if len(kept) == 5:
            raise Stop

    first = World()
    with pytest.raises(Stop):
        measure(calls(first, **TIMES), PLAN, first.timer(), keep=keep)
    second = World()
    shown: list[int] = []
    session = measure(
        calls(second, **TIMES),
        PLAN,
        second.timer(),
        session=json.loads(kept[-1]),
        show=lambda done, numbers: shown.append(done),
    )
    assert shown == list(range(6, 13))
    assert session["rounds"][:5] == json.loads(kept[-1])["rounds"]
    assert len(session["rounds"]) == 12
    assert summary(session, PLAN).spreads["conv"].median == pytest.approx(
        summary(wanted, PLAN).spreads["conv"].median, rel=1e-3
    )


def test_steady_rounds_are_those_most_agree_with_and_of_two_halves_the_faster():
    def rounds(*speeds: float) -> list[dict]:
        return [{"reference": [speed]} for speed in speeds]

    assert steady(rounds(1.0, 1.05, 2.0, 0.98), 0.1) == [0, 1, 3]
    assert steady(rounds(2.0, 1.0, 2.0, 1.0), 0.1) == [1, 3]
    assert steady(rounds(2.0, 1.0, 2.0, 1.0, 2.0), 0.1) == [0, 2, 4]
    assert steady([], 0.1) == []


@pytest.mark.parametrize(("settings", "message"), [({"rounds": 3}, "at least 4"), ({"drift": 0.0}, "drift")])
def test_plans_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        Plan(**settings)
