"""The derivation rule of P-DARTS: that of DARTS, with a limit on skip connections."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from archgrad.architecture import Edge
from archgrad.choice import Group
from archgrad.derive import Decision, Ruling, darts

SKIP = "skip_connect"
MOST_SKIPS = 2
"""In the normal cell of the derived network, as published."""


def pdarts(groups: Sequence[Group], probabilities: Sequence[Tensor]) -> Ruling:
    """The rule `darts`, with at most 2 skip connections in the normal cell.

    While there are more, the least probable skip connection that is kept loses its probability and the rule
    is applied again: its edge may keep its next candidate, or make room for another edge.

    Source: Chen et al. 2019, P-DARTS (arXiv 1904.12760), section 3.3, "search space regularization".

    Raises:
        UserError: as the rule `darts`.
    """
    left = [p.detach().clone() for p in probabilities]
    plain = darts(groups, left)
    ruling, removed = plain, list[str]()
    places = {name: (g, e) for g, group in enumerate(groups) for e, name in enumerate(group.names)}
    while len(skips := [d for d in ruling.decisions if _is_skip(d)]) > MOST_SKIPS:
        weakest = min(skips, key=lambda d: d.winner_probability)
        g, e = places[weakest.name]
        left[g][e, groups[g].candidates.index(SKIP)] = 0.0
        removed.append(weakest.name)
        ruling = darts(groups, left)
    if not removed:
        return plain
    entropies = {d.name: d.entropy for d in plain.decisions}
    decisions = tuple(d._replace(entropy=entropies[d.name]) for d in ruling.decisions)
    remark = (
        f"{len(removed)} skip connection(s) above the limit of {MOST_SKIPS} in the normal cell were not "
        f"kept: {', '.join(removed)}"
    )
    return Ruling(decisions, (remark, *ruling.warnings))


def _is_skip(decision: Decision) -> bool:
    edge = Edge.parse(decision.name)
    return decision.kept and decision.winner == SKIP and edge is not None and edge.cell == "normal"
