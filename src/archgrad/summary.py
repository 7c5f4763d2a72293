"""The result of training beside its controls, in words and numbers."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple


def trained_table(derived: Mapping[str, Any], controls: Sequence[Mapping[str, Any]]) -> str:
    """A line per network, mean and spread of the random controls, and whether the search beat them.

    `derived` and `controls` are the documents of ``train/<name>/result.json``.
    """
    lines = [f"{'network':<12} {'test accuracy':>13} {'parameters':>12} {'M MACs':>9} {'seconds':>8}"]
    lines += [
        f"{r['name']:<12} {r['test_accuracy']:>13.2%} {r['parameters']:>12,} {r['macs'] / 1e6:>9.2f} "
        f"{r['seconds']:>8.0f}"
        for r in (derived, *controls)
    ]
    return "\n".join([*lines, verdict(derived, controls)])


def verdict(derived: Mapping[str, Any], controls: Sequence[Mapping[str, Any]]) -> str:
    """One sentence: how the derived network stands to its controls."""
    random = [c["test_accuracy"] for c in controls if c["kind"] == "random"]
    others = [c["test_accuracy"] for c in controls if c["kind"] != "random"]
    if not random:
        return "no controls were trained: add --controls N to see whether the search was worth it"
    comparison = compare(derived["test_accuracy"], random, others)
    deviation = f" ± {statistics.stdev(random):.2%}" if len(random) > 1 else ""
    shown = (
        f"{derived['test_accuracy']:.2%} against {statistics.mean(random):.2%}{deviation} of {len(random)} "
        f"random architecture(s), best control {max(random + others):.2%}"
    )
    return {
        "beaten": f"the search beat its controls: {shown}",
        "unclear": f"the search did not clearly beat its controls: {shown}",
        "lost": f"the search did NOT beat its controls: {shown}",
    }[comparison.outcome]


class Comparison(NamedTuple):
    """The derived network against its random controls: outcome, difference of accuracies, its noise."""

    outcome: Literal["beaten", "unclear", "lost"]
    difference: float
    noise: float | None


def compare(derived: float, random: Sequence[float], others: Sequence[float] = ()) -> Comparison:
    """Whether a network of accuracy `derived` beat random architectures (at least one) and other controls.

    "beaten" asks for more than twice the noise of a difference between one network and the mean of n,
    s·√(1 + 1/n) with s the controls' standard deviation, and for more than every single control.
    "lost" means below the mean. All else, and any comparison with one random control, is "unclear".

    >>> compare(0.95, [0.90, 0.91, 0.905]).outcome
    'beaten'
    >>> compare(0.95, [0.90]).outcome
    'unclear'
    """
    difference = derived - statistics.mean(random)
    noise = statistics.stdev(random) * (1 + 1 / len(random)) ** 0.5 if len(random) > 1 else None
    if difference < 0:
        return Comparison("lost", difference, noise)
    clear = noise is not None and difference > 2 * noise and derived > max([*random, *others])
    return Comparison("beaten" if clear else "unclear", difference, noise)
