"""From probabilities to an architecture, and how decided each choice was.

The derived network hides how sure the search was: [0.3, 0.3, 0.4] and [0.0, 0.0, 1.0] give the same
cell. So every derivation states the runner-up, the margin and the entropy of each choice, and warns.
Shapes: E choices x K candidates.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from archgrad.architecture import Architecture, Edge
from archgrad.architecture_warnings import NONE, architecture_warnings, is_connected, skip_share
from archgrad.choice import Group
from archgrad.errors import UserError
from archgrad.randomness import Streams
from archgrad.rules import RULES

WEAK_MARGIN = 0.05
"""A decision by less than this probability is weak."""
WEAK_ENTROPY = 0.9
"""A decision among probabilities with more than this share of the greatest entropy, log K, is weak."""

_EDGES_KEPT = 2  # per node, by the DARTS rule
_SHOWN = 3  # examples in a warning
_ROUNDING = 1e-3  # how far from 1 probabilities may sum


class Decision(NamedTuple):
    """How one choice was made.

    winner, runner_up: the two strongest candidates that the rule considers; no runner-up when there
        is one candidate only. Equal probabilities: the first in the order of the candidates.
    winner_probability, runner_up_probability, margin: of all K candidates' distribution; the margin is
        winner minus runner-up.
    entropy: of all K probabilities, in nats.
    kept: whether the architecture has the winner; a dropped edge has `none`.
    """

    name: str
    winner: str
    runner_up: str | None
    winner_probability: float
    runner_up_probability: float
    margin: float
    entropy: float
    kept: bool


class Ruling(NamedTuple):
    """What a rule returns: one decision per choice, and remarks of its own as sentences."""

    decisions: tuple[Decision, ...]
    warnings: tuple[str, ...] = ()


Rule = Callable[[Sequence[Group], Sequence[Tensor]], Ruling]
"""``rule(groups, probabilities [E, K] per group) -> Ruling``; nothing is decided about a blend."""


@dataclass(frozen=True)
class Derivation:
    """An architecture, the decisions that made it, and what to be wary of.

    rule: name of the rule.
    architecture: the result.
    decisions: one per choice.
    warnings: sentences.
    skip_share: skip connections among the choices that are not `none`, in [0, 1].
    parameters, macs: of the network that training would build (see `costs.network_counts`), or None.
    live: the same two of what matters for its output (`costs.live`): dead nodes are not billed; or None.
    epoch: of the search whose logits these are, or None.
    budgets: of every budget what the network costs and whether that meets it (see `budgets.within`).
    repair: what was changed to meet them and how much log-probability that took; None: nothing was.
    gaps: of every cost that the search charged the expectation beside the derived network's
        (`costs.forms.ExpectationGap`).
    """

    rule: str
    architecture: Architecture
    decisions: tuple[Decision, ...]
    warnings: tuple[str, ...]
    skip_share: float
    parameters: int | None = None
    macs: int | None = None
    live: dict[str, int] | None = None
    epoch: int | None = None
    budgets: tuple[dict[str, Any], ...] = ()
    repair: dict[str, Any] | None = None
    gaps: tuple[dict[str, Any], ...] = ()

    def document(self) -> dict[str, Any]:
        """The content of ``derivation.json``: everything but the architecture, which has its own file."""
        return {
            "rule": self.rule,
            "choices": [decision._asdict() for decision in self.decisions],
            "warnings": list(self.warnings),
            "parameters": self.parameters,
            "macs": self.macs,
            "live": self.live,
            "skip_share": self.skip_share,
            "epoch": self.epoch,
            **({"budgets": list(self.budgets), "repair": self.repair} if self.budgets else {}),
            **({"gaps": list(self.gaps)} if self.gaps else {}),
        }

    def to_json(self) -> str:
        """`document` as JSON text."""
        return json.dumps(self.document(), indent=2) + "\n"

    def __str__(self) -> str:
        """A table, one line a choice, and the warnings below it."""
        rows = [("choice", "winner", "p", "runner-up", "p", "margin", "entropy", "")]
        rows += [
            (
                d.name,
                d.winner,
                f"{d.winner_probability:.3f}",
                d.runner_up or "-",
                f"{d.runner_up_probability:.3f}",
                f"{d.margin:.3f}",
                f"{d.entropy:.3f}",
                "" if d.kept else "dropped",
            )
            for d in self.decisions
        ]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        return "\n".join([*lines, *(f"warning: {warning}" for warning in self.warnings)])


def derive(
    groups: Sequence[Group], probabilities: Sequence[Tensor], rule: str = "argmax", *, gates: bool = False
) -> Derivation:
    """Choose one candidate per choice.

    Args:
        groups: the space's choices, as `Supernet.groups`.
        probabilities: [E, K] per group, the distribution that the search's sampler reports; rows sum
            to 1. Logits are refused: ranking edges by them is not ranking by probability.
        rule: an entry of `RULES`, or ``"module:object"`` naming a `Rule`.
        gates: each probability is of a gate of its own, so rows need not sum to 1.

    Raises:
        UserError: unknown rule, probabilities that are none or do not fit the groups, or a rule that
            drops a choice which has no candidate `none`.
    """
    decide_all: Rule = RULES[rule]
    _check(groups, probabilities, gates)
    decisions, remarks = decide_all(groups, probabilities)
    candidates = {name: group.candidates for group in groups for name in group.names}
    droppable = {name for group in groups for name in group.names if group.kind == "droppable"}
    for decision in decisions:
        if not decision.kept and NONE not in candidates[decision.name] and decision.name not in droppable:
            raise UserError(
                f"rule {rule!r} drops {decision.name!r}, but that choice has no candidate {NONE!r} to put "
                f"in its place (it has {', '.join(candidates[decision.name])}): use rule 'argmax'"
            )
    architecture = Architecture({d.name: d.winner if d.kept else NONE for d in decisions})
    sizes = {name: len(known) for name, known in candidates.items()}
    warnings = [*remarks, *undecided(decisions, sizes), *architecture_warnings(architecture)]
    return Derivation(rule, architecture, tuple(decisions), tuple(warnings), skip_share(architecture))


def random_derivation(
    groups: Sequence[Group], rule: str, streams: Streams, name: str, index: int
) -> Derivation:
    """A random architecture: the rule applied to standard normal logits, so each counts alike.

    A draw whose output does not depend on its input is drawn again: it could not be trained.
    """
    for attempt in range(1000):
        generator = streams.generator(f"random architecture/{name}", index, attempt)
        logits = [torch.randn(len(g.names), len(g.candidates), generator=generator) for g in groups]
        derivation = derive(groups, [torch.softmax(a, dim=-1) for a in logits], rule)
        if is_connected(derivation.architecture):
            return derivation
    raise UserError("1000 random architectures in a row join no input to the output: check the space")


def decide(
    name: str,
    candidates: Sequence[str],
    probabilities: Sequence[float],
    excluded: Collection[str] = (),
    kept: bool = True,
) -> Decision:
    """The decision of one choice: K candidates, their K probabilities, those that may not win.

    Raises:
        UserError: nothing is left to choose from.
    """
    # sorted is stable, so of equal probabilities the first candidate comes first
    ranked = sorted(
        (k for k, candidate in enumerate(candidates) if candidate not in excluded),
        key=lambda k: -probabilities[k],
    )
    if not ranked:
        raise UserError(
            f"choice {name!r} has no candidate but {', '.join(candidates)}, which the rule leaves out of "
            "account: use rule 'argmax'"
        )
    first, second = ranked[0], ranked[1] if len(ranked) > 1 else None
    below = 0.0 if second is None else probabilities[second]
    return Decision(
        name=name,
        winner=candidates[first],
        runner_up=None if second is None else candidates[second],
        winner_probability=probabilities[first],
        runner_up_probability=below,
        margin=probabilities[first] - below,
        entropy=sum(-p * math.log(p) for p in _shares(probabilities) if p > 0),
        kept=kept,
    )


def _shares(row: Sequence[float]) -> list[float]:
    """The row itself, or for independent gates, which need not sum to 1, their shares of the sum."""
    total = sum(row)
    return list(row) if abs(total - 1) < _ROUNDING or not total else [p / total for p in row]


def argmax(groups: Sequence[Group], probabilities: Sequence[Tensor]) -> Ruling:
    """The most probable candidate of every choice, `none` included (NAS-Bench-201, SNAS)."""
    return Ruling(
        tuple(
            decide(name, group.candidates, row)
            for group, rows in zip(groups, probabilities, strict=True)
            if group.chosen
            for name, row in zip(group.names, _floats(rows), strict=True)
        )
    )


def darts(groups: Sequence[Group], probabilities: Sequence[Tensor]) -> Ruling:
    """The DARTS rule: a node keeps its two strongest incoming edges, each with its strongest operation.

    The strength of an edge is the greatest probability among its candidates but `none`; where the space
    weighs the edges of a node (a blend called ``cell/node``), times that weight over the equal one (PC-DARTS,
    arXiv 1907.05737, section 3.3). All other edges get `none`. Of equal edges the one from the earlier node
    is kept.

    Raises:
        UserError: a choice is no edge (``cell/node<-source``).
    """
    nodes: dict[tuple[str, int], list[tuple[Edge, Decision]]] = {}
    none_probability: dict[str, float] = {}
    weight = edge_weights(groups, probabilities)
    for group, rows in zip(groups, probabilities, strict=True):
        if not group.chosen:
            continue
        for name, row in zip(group.names, _floats(rows), strict=True):
            edge = Edge.parse(name)
            if edge is None:
                raise UserError(
                    f"the darts rule ranks the edges of cells, named like 'normal/2<-0'; {name!r} is no "
                    "edge: use rule 'argmax'"
                )
            decision = decide(name, group.candidates, row, excluded=(NONE,))
            nodes.setdefault((edge.cell, edge.node), []).append((edge, decision))
            if NONE in group.candidates:
                none_probability[name] = row[group.candidates.index(NONE)]

    def strength(decision: Decision) -> float:
        return decision.winner_probability * weight.get(decision.name, 1.0)

    dropped: set[str] = set()
    close: list[tuple[float, str]] = []
    for incoming in nodes.values():
        ranked = [d for _, d in sorted(incoming, key=lambda pair: (-strength(pair[1]), pair[0].source))]
        dropped.update(d.name for d in ranked[_EDGES_KEPT:])
        if len(ranked) > _EDGES_KEPT:
            last, first = ranked[_EDGES_KEPT - 1], ranked[_EDGES_KEPT]
            gap = strength(last) - strength(first)
            if gap < WEAK_MARGIN:
                verb = "ties with" if gap == 0 else "beats"
                text = f"{last.name} ({strength(last):.3f}) {verb} {first.name} "
                close.append((gap, f"{text}({strength(first):.3f})"))
    decisions = tuple(
        decision._replace(kept=decision.name not in dropped)
        for incoming in nodes.values()
        for _, decision in incoming
    )
    warnings = []
    if close:
        shown = "; ".join(text for _, text in sorted(close)[:_SHOWN])
        warnings.append(
            f"which edges to keep was decided by less than {WEAK_MARGIN} at {len(close)} node(s): {shown}"
        )
    kept = [d for d in decisions if d.kept]
    beaten = [d for d in kept if none_probability.get(d.name, 0.0) > d.winner_probability]
    if beaten:
        warnings.append(
            f"`none` is the most probable candidate of {len(beaten)} of {len(kept)} kept edges; the darts "
            "rule leaves it out of account"
        )
    return Ruling(decisions, tuple(warnings))


def edge_weights(groups: Sequence[Group], probabilities: Sequence[Tensor]) -> dict[str, float]:
    """The weight of every edge in its node's blend, relative to equal weights, by the edge's name.

    A blend's candidates are the sources.
    """
    return {
        f"{name}<-{source}": weight * len(group.candidates)
        for group, rows in zip(groups, probabilities, strict=True)
        if not group.chosen
        for name, row in zip(group.names, _floats(rows), strict=True)
        for source, weight in zip(group.candidates, row, strict=True)
    }


def _floats(rows: Tensor) -> list[list[float]]:
    """[E, K] as lists: one transfer from the device, and comparisons in one precision."""
    values: list[list[float]] = rows.detach().to("cpu", torch.float64).tolist()
    return values


def _check(groups: Sequence[Group], probabilities: Sequence[Tensor], gates: bool) -> None:
    wanted = [(len(g.names), len(g.candidates)) for g in groups]
    got = [tuple(p.shape) for p in probabilities]
    if got != wanted:
        raise UserError(f"wanted probabilities [E, K] of shapes {wanted}, one per group; got {got}")
    for group, rows in zip(groups, probabilities, strict=True):
        for name, row in zip(group.names, _floats(rows), strict=True):
            if all(0 <= p <= 1 + _ROUNDING for p in row) and (gates or abs(sum(row) - 1) < _ROUNDING):
                continue
            law = "are from 0 to 1" if gates else "are at least 0 and sum to 1"
            raise UserError(
                f"choice {name!r}: {[round(p, 4) for p in row]} are no probabilities, which {law}; "
                "are they logits? Give the sampler's probabilities"
            )


def undecided(decisions: Sequence[Decision], candidates: Mapping[str, int]) -> list[str]:
    """Warnings about ties and weak decisions among the choices kept; candidates: K of every choice."""
    kept = [decision for decision in decisions if decision.kept]
    return [*_ties(kept), *_weak(kept, candidates)]


def _ties(kept: Sequence[Decision]) -> list[str]:
    ties = [d for d in kept if d.runner_up is not None and d.margin == 0]
    if not ties:
        return []
    shown = "; ".join(f"{d.name}: {d.winner} and {d.runner_up}" for d in ties[:_SHOWN])
    return [f"{len(ties)} of {len(kept)} decisions are ties, the first candidate was taken ({shown})"]


def _weak(kept: Sequence[Decision], candidates: Mapping[str, int]) -> list[str]:
    weak: list[tuple[float, str]] = []
    for d in kept:
        greatest = math.log(candidates[d.name])
        share = d.entropy / greatest if greatest > 0 else 0.0
        if d.margin != 0 and (d.margin < WEAK_MARGIN or share > WEAK_ENTROPY):
            over = "" if d.runner_up is None else f" over {d.runner_up}"
            weak.append(
                (d.margin, f"{d.name}: {d.winner}{over} by {d.margin:.3f}, entropy {share:.0%} of uniform")
            )
    if not weak:
        return []
    shown = "; ".join(text for _, text in sorted(weak)[:_SHOWN])
    sentence = (
        f"{len(weak)} of {len(kept)} decisions are weak, by a margin below {WEAK_MARGIN} or an entropy above "
        f"{WEAK_ENTROPY:.0%} of uniform ({shown})"
    )
    return [sentence]
