"""The expected cost of the network that a rule would derive. E choices × K candidates.

A rule that drops edges leaves a network that is far cheaper than the expectation over all edges: of a DARTS
cell it keeps 8 of 14. What a budget holds is therefore the expectation after the rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from archgrad.architecture import Architecture
from archgrad.architecture_warnings import NONE
from archgrad.choice import Group, of_choices
from archgrad.rules import RULES

EDGES_KEPT = {"darts": 2, "rnn": 1}
"""Rule -> incoming edges that a node keeps; `none` may not win on them. Other rules keep every choice."""


class CostModel(Protocol):
    """A cost of every architecture: `costs.cost_table.CostTable` or `landscapes.cost.LandscapeCost`."""

    @property
    def name(self) -> str:
        """Of the cost."""

    @property
    def unit(self) -> str:
        """Of its numbers."""

    def expected(self, weights: Sequence[Tensor]) -> Tensor:
        """Weights [..., E, K] per group -> expected cost [...], differentiable."""

    def of(self, architecture: Architecture) -> float:
        """Cost of one architecture."""

    def bounds(self) -> tuple[float, float]:
        """Costs of the cheapest and of the dearest architecture."""


def derived_weights(
    groups: Sequence[Group],
    probabilities: Sequence[Tensor],
    rule: str,
    *,
    gates: bool = False,
    sharpness: float = 1.0,
) -> list[Tensor]:
    """The weights whose expected cost is that of the network that the rule derives.

    Of kept edges the probabilities of the candidates but `none`, made to sum to 1; dropped edges
    are `none`. With a rule that drops nothing, the probabilities. Which edges are kept has no gradient.

    Args:
        groups: the space's choices, blends among them.
        probabilities: [..., E, K] per group.
        rule: an entry of `RULES`.
        gates: each probability is of a gate of its own; their shares count.
        sharpness: s > 1 takes p^s / Σ p^s in the place of p: nearer to the winner, which is what is derived.

    Returns:
        [..., E, K] per group of choices, blends left out, as cost tables have them.
    """
    rows = of_choices(groups, probabilities)
    if gates:
        rows = [p / p.sum(dim=-1, keepdim=True).clamp_min(1e-12) for p in rows]
    if rule not in EDGES_KEPT:
        return [_sharpened(p, sharpness) for p in rows]
    if rows[0].dim() > 2:  # a rule looks at one search at a time
        each = [
            derived_weights(groups, one, rule, gates=gates, sharpness=sharpness)
            for one in zip(*probabilities, strict=True)
        ]
        return [torch.stack(part) for part in zip(*each, strict=True)]
    kept = {d.name: d.kept for d in RULES[rule](groups, [p.detach() for p in probabilities]).decisions}
    found = []
    for group, p in zip((g for g in groups if g.chosen), rows, strict=True):
        stays = torch.tensor([[kept[name]] for name in group.names], device=p.device)
        allowed = torch.tensor([candidate != NONE for candidate in group.candidates]).to(p)
        q = p * allowed
        q = q / q.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(p.dtype).tiny)
        found.append(torch.where(stays, _sharpened(q, sharpness), (1 - allowed).expand_as(q)))
    return found


def _sharpened(p: Tensor, sharpness: float) -> Tensor:
    if sharpness == 1.0:
        return p
    return torch.softmax(sharpness * p.clamp_min(torch.finfo(p.dtype).tiny).log(), dim=-1)
