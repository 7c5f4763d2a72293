"""The result of training beside its controls, in words and numbers."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any


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
    if not random:
        return "no controls were trained: add --controls N to see whether the search was worth it"
    mean = statistics.mean(random)
    spread = f" ± {statistics.stdev(random):.2%}" if len(random) > 1 else ""
    best = max(random)
    mine = derived["test_accuracy"]
    shown = f"{len(random)} random architecture(s): {mean:.2%}{spread}, best {best:.2%}"
    images = derived["test_images"]
    # one standard error of the difference of two accuracies measured on the same number of images
    error = ((mine * (1 - mine) + mean * (1 - mean)) / images) ** 0.5
    if mine - mean > 2 * error and mine > best:
        return f"the search beat its controls: {mine:.2%} against {shown}"
    if mine < mean:
        return f"the search did NOT beat its controls: {mine:.2%} against {shown}"
    return (
        f"no clear difference to the controls: {mine:.2%} against {shown} "
        f"(two standard errors of the difference are {2 * error:.2%} on {images} test images)"
    )
