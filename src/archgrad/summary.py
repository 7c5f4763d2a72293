"""The result of training beside its controls, in words and numbers."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from archgrad.derive import Derivation

_LARGEST_LOSS = 700.0  # nats; exp of more is no number


def searched_text(line: Mapping[str, Any], text: bool) -> str:
    """How a search ended, of the last line of ``metrics.jsonl``; text: whether it read one.

    >>> searched_text({"valid_accuracy": 0.5, "entropy_mean": 1.25, "valid_loss": 0.0}, text=True)
    'accuracy of the supernet on the validation part 50.0% (perplexity 1.0), mean entropy 1.250 nats'
    """
    loss = line["valid_loss"]
    known = text and loss is not None and loss < _LARGEST_LOSS
    perplexity = f" (perplexity {math.exp(loss):.1f})" if known else ""
    return (
        f"accuracy of the supernet on the validation part {line['valid_accuracy']:.1%}{perplexity}, "
        f"mean entropy {line['entropy_mean']:.3f} nats"
    )


def derived_text(derivation: Derivation) -> str:
    """What the derived network costs, and how far that is from what the search expected."""
    macs = (derivation.macs or 0) / 1e6
    lines = [f"the network to train: {derivation.parameters:,} parameters, {macs:,.2f} M multiply-adds"]
    live = derivation.live
    if live and (live["parameters"], live["macs"]) != (derivation.parameters, derivation.macs):
        lines.append(
            f"of these its output depends on {live['parameters']:,} parameters and "
            f"{live['macs'] / 1e6:,.2f} M multiply-adds; the rest is in nodes that lead nowhere"
        )
    for gap in derivation.gaps:
        change = "" if gap["relative"] is None else f" ({gap['relative']:+.1%})"
        lines.append(
            f"{gap['cost']}: {gap['expected']:,.4g} {gap['unit']} expected under the probabilities of the "
            f"search, {gap['derived']:,.4g} derived{change}"
        )
    return "\n".join(lines)


def trained_table(derived: Mapping[str, Any], controls: Sequence[Mapping[str, Any]]) -> str:
    """A line per network, mean and spread of the random controls, and whether the search beat them.

    `derived` and `controls` are the documents of ``train/<name>/result.json``.
    """
    if "test_perplexity" in derived:
        return _text_table(derived, controls)
    lines = [f"{'network':<12} {'test accuracy':>13} {'parameters':>12} {'M MACs':>9} {'seconds':>8}"]
    lines += [
        f"{r['name']:<12} {r['test_accuracy']:>13.2%} {r['parameters']:>12,} {r['macs'] / 1e6:>9.2f} "
        f"{r['seconds']:>8.0f}"
        for r in (derived, *controls)
    ]
    return "\n".join([*lines, verdict(derived, controls)])


def _text_table(derived: Mapping[str, Any], controls: Sequence[Mapping[str, Any]]) -> str:
    """The same of networks that read a text: perplexity is what counts, less is better."""
    lines = [
        (
            f"{'network':<12} {'test perplexity':>15} {'validation':>11} {'parameters':>12} "
            f"{'M MACs/word':>12} {'seconds':>8}"
        )
    ]
    lines += [
        f"{r['name']:<12} {r['test_perplexity']:>15.2f} {r['valid_perplexity']:>11.2f} "
        f"{r['parameters']:>12,} {r['macs'] / 1e6:>12.2f} {r['seconds']:>8.0f}"
        for r in (derived, *controls)
    ]
    return "\n".join([*lines, verdict(derived, controls)])


def verdict(derived: Mapping[str, Any], controls: Sequence[Mapping[str, Any]]) -> str:
    """One sentence: how the derived network stands to its controls."""
    text = "test_perplexity" in derived
    random, others = (
        [_quality(c) for c in controls if (c["kind"] == "random") == wanted] for wanted in (True, False)
    )
    if not random:
        return "no controls were trained: add --controls N to compare with random architectures"
    comparison = compare(_quality(derived), random, others)
    if text:  # exp of the mean loss is the geometric mean of the perplexities
        mean, best = math.exp(-statistics.mean(random)), math.exp(-max(random + others))
        deviation = f" ×/÷ {math.exp(statistics.stdev(random)):.3f}" if len(random) > 1 else ""
        shown = (
            f"perplexity {derived['test_perplexity']:.2f} against {mean:.2f}{deviation} of {len(random)} "
            f"random cell(s), best control {best:.2f}"
        )
    else:
        deviation = f" ± {statistics.stdev(random):.2%}" if len(random) > 1 else ""
        shown = (
            f"{_quality(derived):.2%} against {statistics.mean(random):.2%}{deviation} of {len(random)} "
            f"random architecture(s), best control {max(random + others):.2%}"
        )
    return {
        "beaten": f"the search beat its controls: {shown}",
        "unclear": f"the search did not clearly beat its controls: {shown}",
        "lost": f"the search did NOT beat its controls: {shown}",
    }[comparison.outcome]


def _quality(result: Mapping[str, Any]) -> float:
    """What is compared, more being better: accuracy, or on a text the log-likelihood of a word in nats."""
    return float(-result["test_loss"] if "test_perplexity" in result else result["test_accuracy"])


class Comparison(NamedTuple):
    """The derived network against its random controls: outcome, difference of qualities, its noise."""

    outcome: Literal["beaten", "unclear", "lost"]
    difference: float
    noise: float | None


def compare(derived: float, random: Sequence[float], others: Sequence[float] = ()) -> Comparison:
    """Whether a network of accuracy `derived` beat random architectures (at least one) and other controls.

    Of networks that read a text the log-likelihood of a word stands in the accuracy's place.

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
