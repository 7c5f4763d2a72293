"""Stopping rules on sequences whose stopping epoch is counted by hand, and on some that must not stop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from archgrad.errors import UserError
from archgrad.metric_lines import complete
from archgrad.stopping import ACTIONS, STOPPING_RULES
from archgrad.stopping.actions import FreezeAlpha, Levers, RaiseTau, RaiseWeightDecay, Stop
from archgrad.stopping.entropy import Entropy
from archgrad.stopping.guard import Guard
from archgrad.stopping.lambda_max import LambdaMax
from archgrad.stopping.plateau import Plateau
from archgrad.stopping.rule import Rule
from archgrad.stopping.settings import Stopping
from archgrad.stopping.skip_count import SkipCount
from archgrad.stopping.stability import Stability
from archgrad.stopping.time_budget import TimeBudget


def line(epoch: int, *, learns: bool = True, **fields: Any) -> dict[str, Any]:
    """A line of an epoch that took 10 s; diagnostics are given as ``entropy={"relative": 0.5}``."""
    plain = {key: fields.pop(key) for key in ("valid_loss", "valid_accuracy", "seconds") if key in fields}
    gradient = {"alpha_gradient_norm": 0.1 if learns else None}
    return {"epoch": epoch, "seconds": 10.0, **gradient, **plain, "diagnostics": fields}


def first(rule: Rule, lines: Sequence[dict[str, Any]]) -> tuple[int, int] | None:
    """(epoch at which the rule first fires, epoch that it goes back to), or None."""
    for count in range(1, len(lines) + 1):
        if (reason := rule(lines[:count])) is not None:
            assert not reason.because.endswith(".")
            return lines[count - 1]["epoch"], reason.epoch
    return None


# ---- entropy


def test_entropy_fires_below_its_share_and_not_at_it() -> None:
    shares = [0.9, 0.5, 0.3, 0.1, 0.2, 0.05]
    lines = [line(e, entropy={"relative": s}) for e, s in enumerate(shares)]
    assert first(Entropy(0.3), lines) == (3, 3)
    assert first(Entropy(0.05), lines) is None


def test_entropy_is_silent_where_the_logits_are_not_trained() -> None:
    assert first(Entropy(0.3), [line(0, learns=False, entropy={"relative": 0.0})]) is None


# ---- stability


def still(values: Sequence[int], warmup: int = 0) -> list[dict[str, Any]]:
    return [
        line(e, learns=e >= warmup, stability={"architecture_unchanged": float(n)})
        for e, n in enumerate(values)
    ]


def test_stability_counts_epochs_since_the_last_change() -> None:
    lines = still([0, 1, 2, 0, 1, 2, 3, 4])
    assert first(Stability(4), lines) == (7, 7)  # last change in epoch 3
    assert first(Stability(5), lines) is None


def test_stability_does_not_count_the_warm_up() -> None:
    lines = still([0, 1, 2, 3, 4, 5, 6, 7], warmup=4)  # epochs 4, 5, 6, 7 train the logits
    assert first(Stability(3), lines) == (7, 7)  # the same after 3 further epochs, the fourth that trains
    assert first(Stability(4), lines) is None


def test_stability_is_silent_once_the_logits_are_frozen() -> None:
    lines = still([0, 1, 0, 1, 2, 3])
    for one in lines[4:]:
        one["alpha_gradient_norm"] = None
    assert first(Stability(2), lines) is None


# ---- λ_max


def sharp(values: Sequence[float | None]) -> list[dict[str, Any]]:
    return [line(e, **({} if v is None else {"sharpness": {"largest": v}})) for e, v in enumerate(values)]


def by_the_authors(values: Sequence[float], window: int, factor: float, delta: int, start: int) -> Any:
    """The rule as a plain loop over epochs: local averages in a list, the offset of the window's middle."""
    averages: list[float] = []
    for epoch in range(len(values)):
        seen = values[: epoch + 1]
        if len(seen) < -(-window // 2):
            continue
        averages.append(sum(seen[-window:]) / len(seen[-window:]))
        middle = epoch - window // 2
        if middle - delta >= start and averages[-1] / averages[-1 - delta] > factor:
            return epoch, middle - delta
    return None


def test_lambda_max_stops_at_the_epoch_counted_by_hand() -> None:
    # λ is 1 up to epoch 19, then 2. The mean of 5 is 1.2 at 20, 1.4 at 21; four epochs before it is 1:
    # 1.4 > 1.3 at epoch 21, whose window is around 19, so back to 19 - 4 = 15.
    values = [1.0] * 20 + [2.0] * 10
    assert first(LambdaMax(), sharp(values)) == (21, 15)
    assert by_the_authors(values, 5, 1.3, 4, 10) == (21, 15)
    reason = LambdaMax()(sharp(values[:22]))
    assert reason is not None
    assert "rose from 1 around epoch 15 to 1.4 around epoch 19" in reason.because


def test_lambda_max_does_not_stop_where_it_rises_by_less_or_slowly_or_falls() -> None:
    assert first(LambdaMax(), sharp([1.0] * 20 + [1.29] * 20)) is None
    assert first(LambdaMax(), sharp([1.05**e for e in range(50)])) is None  # 1.05^4 = 1.2155
    assert first(LambdaMax(), sharp([2.0 - 0.03 * e for e in range(50)])) is None
    assert first(LambdaMax(), sharp([1.07**e for e in range(50)])) == (16, 10)  # 1.07^4 = 1.3108


def test_lambda_max_waits_for_its_first_epoch() -> None:
    values = [1.0] * 5 + [3.0] * 20  # the rise is over when epoch 10 + 4 + 2 comes
    assert first(LambdaMax(), sharp(values)) is None
    assert first(LambdaMax(first=1), sharp(values)) == by_the_authors(values, 5, 1.3, 4, 1) == (7, 1)


@pytest.mark.parametrize("seed", range(20))
def test_lambda_max_is_the_plain_loop_on_random_sequences(seed: int) -> None:
    import random

    values = [random.Random(seed).uniform(0.5, 1) * 1.04**e for e in range(60)]
    values = [random.Random(100 * seed + e).uniform(0.6, 1.4) * v for e, v in enumerate(values)]
    assert first(LambdaMax(), sharp(values)) == by_the_authors(values, 5, 1.3, 4, 10)


def test_lambda_max_counts_measurements_and_not_epochs() -> None:
    values = [1.0] * 20 + [2.0] * 10
    spread = [v for value in values for v in (None, None, value)]  # measured at epochs 2, 5, 8, …
    # the 22nd measurement (index 21) is at epoch 65; index 15 at epoch 47
    assert first(LambdaMax(first=47), sharp(spread)) == (65, 47)
    assert first(LambdaMax(first=48), sharp(spread)) == (68, 50)


def test_lambda_max_has_no_ratio_to_a_curvature_that_is_not_above_zero() -> None:
    assert first(LambdaMax(), sharp([-1.0] * 30 + [5.0] * 4)) is None


# ---- skip connections


def skips(counts: Sequence[dict[str, float]]) -> list[dict[str, Any]]:
    return [line(e, operations={"skips_by_cell": c}) for e, c in enumerate(counts)]


def test_skip_count_looks_at_the_normal_cell() -> None:
    lines = skips([{"normal": 0, "reduce": 5}, {"normal": 1, "reduce": 5}, {"normal": 2, "reduce": 0}])
    assert first(SkipCount(), lines) == (2, 2)
    assert first(SkipCount(count=3), lines) is None
    assert first(SkipCount(cell="reduce"), lines) == (0, 0)


def test_skip_count_looks_at_the_only_cell_whatever_its_name() -> None:
    assert first(SkipCount(), skips([{"cell": 1}, {"cell": 2}])) == (1, 1)
    assert SkipCount().unfit(["cell"]) is None
    assert "no cells 'normal'" in str(SkipCount().unfit(["a", "b"]))
    assert "no edges" in str(SkipCount().unfit([]))


# ---- plateau


def losses(values: Sequence[float | None], warmup: int = 0) -> list[dict[str, Any]]:
    return [line(e, learns=e >= warmup, valid_loss=v) for e, v in enumerate(values)]


def test_plateau_goes_back_to_the_best_epoch() -> None:
    lines = losses([2.0, 1.0, 1.5, 0.9, 1.2, 0.95, 0.9, 0.91])
    assert first(Plateau(3), lines) == (6, 3)  # epoch 6 is as good, not better
    assert first(Plateau(5), lines) is None
    assert first(Plateau(2, least=0.2), lines) == (3, 1)


def test_plateau_of_accuracy_wants_more() -> None:
    lines = [line(e, valid_accuracy=v) for e, v in enumerate([0.1, 0.5, 0.4, 0.45])]
    assert first(Plateau(2, of="valid_accuracy"), lines) == (3, 1)


def test_plateau_begins_after_the_warm_up_and_passes_over_gaps() -> None:
    assert first(Plateau(2), losses([0.1, 0.1, 0.5, 0.4, 0.3], warmup=2)) is None
    assert first(Plateau(2), losses([0.5, None, None, 0.4])) == (2, 0)


# ---- time


def test_time_stops_before_it_is_exceeded() -> None:
    lines = [line(e) for e in range(6)]  # 10 s each
    assert first(TimeBudget(40.0), lines) == (3, 3)
    assert first(TimeBudget(39.9), lines) == (2, 2)
    assert first(TimeBudget(60.0), lines) == (5, 5)
    assert first(TimeBudget(70.0), lines) is None
    lines[1]["given_up_seconds"] = 15.0
    assert first(TimeBudget(40.0), lines) == (1, 1)


def test_time_needs_a_number() -> None:
    with pytest.raises(UserError, match="seconds=3600"):
        TimeBudget()


# ---- tables, actions, combinations


def test_every_rule_and_action_has_a_default_that_is_silent_on_an_empty_line() -> None:
    assert len(STOPPING_RULES) == 6
    for name in STOPPING_RULES:
        rule = STOPPING_RULES[name](**({"seconds": 1e9} if name == "time" else {}))
        assert rule([{"epoch": 0}]) is None, name
    assert len(ACTIONS) == 4
    assert [ACTIONS[name]().ends for name in ACTIONS] == [True, False, False, False]


@pytest.mark.parametrize(("rule", "settings"), [(Entropy, {"below": 1.0}), (LambdaMax, {"factor": 1.0})])
def test_settings_that_make_no_sense(rule: Any, settings: dict[str, float]) -> None:
    with pytest.raises(UserError):
        rule(**settings)


def test_weight_decay_is_tripled_up_to_the_published_most() -> None:
    levers, steps = Levers(3e-4), []
    while (moved := RaiseWeightDecay()(levers)) is not None:
        levers = moved.levers
        steps.append(levers.weight_decay)
    assert steps == pytest.approx([9e-4, 27e-4, 81e-4, 243e-4])


def test_tau_is_raised_up_to_its_most_and_logits_are_frozen_once() -> None:
    once = RaiseTau(factor=3.0, most=4.0)(Levers(0.0))
    assert once is not None
    assert once.levers.tau == 3.0
    twice = RaiseTau(factor=3.0, most=4.0)(once.levers)
    assert twice is not None
    assert twice.levers.tau == 4.0
    assert RaiseTau(factor=3.0, most=4.0)(twice.levers) is None
    frozen = FreezeAlpha()(Levers(0.0))
    assert frozen is not None
    assert frozen.levers.frozen
    assert FreezeAlpha()(frozen.levers) is None
    assert Stop()(Levers(0.0)) is not None


BOTH = {"entropy": {"below": 0.3}, "stability": {"epochs": 2}}


def both(shares: Sequence[float], unchanged: Sequence[int]) -> list[dict[str, Any]]:
    return [
        line(e, entropy={"relative": s}, stability={"architecture_unchanged": float(n)})
        for e, (s, n) in enumerate(zip(shares, unchanged, strict=True))
    ]


def endings(guard: Guard, lines: Sequence[dict[str, Any]]) -> list[tuple[int, tuple[str, ...]]]:
    found = ((n, guard(lines[:n])) for n in range(1, len(lines) + 1))
    return [(n - 1, firing.rules) for n, firings in found for firing in firings]


def test_any_rule_or_all_of_them() -> None:
    lines = both([0.9, 0.2, 0.4, 0.2, 0.2], [0, 1, 2, 0, 1])
    either = Guard.of(Stopping(rules=BOTH), {})
    assert endings(either, lines)[0] == (1, ("entropy",))
    together = Guard.of(Stopping(rules=BOTH, combine="all"), {})
    assert endings(together, lines) == []  # never in the same epoch
    assert endings(together, both([0.9, 0.9, 0.2], [0, 1, 2])) == [(2, ("entropy", "stability"))]
    assert not Guard.of(Stopping(rules=BOTH, combine="none"), {})


def test_rules_together_go_back_to_the_earliest_epoch_and_say_both_reasons() -> None:
    guard = Guard.of(Stopping(rules={"plateau": {"epochs": 2}, "time": {"seconds": 35.0}}, combine="all"), {})
    (firing,) = guard(losses([1.0, 2.0, 3.0]))
    assert firing.reason.epoch == 0
    assert "validation loss" in firing.reason.because
    assert "35 s" in firing.reason.because


def test_an_action_is_taken_when_a_rule_begins_to_fire_and_again_after_it_ceased() -> None:
    rules = {"entropy": {"below": 0.3, "action": "raise_tau"}}
    guard = Guard.of(Stopping(rules=rules), {})
    lines = both([0.9, 0.2, 0.2, 0.4, 0.2, 0.1], range(6))
    assert endings(guard, lines) == [(1, ("entropy",)), (4, ("entropy",))]
    assert guard.end(lines) is None


def test_the_end_comes_before_other_actions_and_a_restart_before_the_rest() -> None:
    rules: dict[str, dict[str, Any]] = {
        "entropy": {"below": 0.3, "action": {"name": "raise_tau", "factor": 3.0}},
        "stability": {"epochs": 2, "action": "raise_weight_decay"},
    }
    lines = both([0.9, 0.9, 0.9, 0.2], [0, 1, 1, 2])
    (firing,) = Guard.of(Stopping(rules=rules), {})(lines)
    assert firing.name == "raise_weight_decay"
    (firing,) = Guard.of(Stopping(rules={**rules, "time": {"seconds": 45.0}}), {})(lines)
    assert firing.name == "stop"


def test_how_far_back_the_rules_may_go() -> None:
    assert (
        Guard.of(Stopping(rules={"lambda_max": {}, "plateau": {"epochs": 5}}), {"sharpness": 3}).reach == 18
    )
    assert Guard.of(Stopping(rules={"entropy": {}}), {}).reach == 0


def test_lines_of_older_runs_are_completed() -> None:
    lines = [
        {"epoch": e, "probabilities": {"a": p}, "architecture": {"a": "x"}, "alpha_gradient_norm": 1.0}
        for e, p in enumerate([[0.5, 0.5], [0.999, 0.001]])
    ]
    assert first(Entropy(), lines) is None  # nothing is known of them
    assert first(Entropy(), complete(lines)) == (1, 1)
