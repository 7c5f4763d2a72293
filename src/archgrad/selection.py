"""Selection by perturbation: which candidate a supernet can spare least. E choices × K candidates.

The weight of a candidate in a mixture is not how much the network needs it. So after the search each choice
in turn, in random order, is decided by what the validation accuracy loses when one candidate is left out,
and the supernet is tuned around the decision before the next one.

Source: Wang et al. 2021, DARTS-PT (arXiv 2108.04392), algorithm 1: what is left is not renormalised; 5 epochs
of tuning at a tenth of the learning rate, the logits still trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from archgrad.architecture import Architecture, Edge
from archgrad.architecture_warnings import NONE, architecture_warnings, skip_share
from archgrad.choice import Group, Sample
from archgrad.derive import Decision, Derivation, decide
from archgrad.errors import UserError
from archgrad.policy import settle
from archgrad.randomness import Streams
from archgrad.search import SearchTask, search
from archgrad.search_records import StepRecord
from archgrad.search_state import SearchPlan, SearchState

EDGES_KEPT = 2
"""Incoming edges that a node of a DARTS cell keeps."""
SLOWER = 10.0
"""Tuning has the learning rate of the search over this."""

PRUNING = ("darts", "pdarts")
"""Derivation rules that keep only some edges of a node."""

Measure = Literal["accuracy", "loss"]


class Decided(NamedTuple):
    """One decision.

    choice: its name; of the second part, which edges a node keeps, the node ``cell/node``.
    scores: by candidate, or by edge, what the validation part has without it: accuracy, or minus the loss.
    chosen: the candidate that was kept; the edges, joined by a space.
    """

    choice: str
    scores: dict[str, float]
    chosen: str


Selection = tuple[Decided, ...]
"""Every decision, in the order in which they were made."""


def select(
    task: SearchTask,
    state: SearchState,
    plan: SearchPlan,
    streams: Streams,
    *,
    prune: bool,
    done: Sequence[Decided] = (),
    tune_epochs: int = 5,
    measure: Measure = "accuracy",
) -> Iterator[StepRecord | Decided]:
    """Decide every choice; yields progress of the tuning, and each decision when it is tuned for.

    Between a decision and the next step the state is complete: a checkpoint of it and the decisions resume.

    Args:
        task, state, plan, streams: of the search that has ended; weights and logits go on being trained.
        prune: whether a node keeps two of its edges, which is decided after the candidates.
        done: decisions made before an interruption.
        tune_epochs: after each decision.
        measure: what of the validation part counts.
    """
    decided = list(done)
    for name in _order(task.groups, streams, prune):
        if any(name == before.choice for before in decided):
            continue
        settled = chosen_by(decided, task.groups)
        scores = _scores(task, state, plan, name, settled, prune, measure)
        new = Decided(name, scores, _least_spared(scores, name))
        settled = chosen_by([*decided, new], task.groups)
        epochs = state.epoch + tune_epochs
        tuning = replace(
            plan,
            policy=replace(plan.policy, settled=settled),
            epochs=epochs,
            learning_rate=_constant(plan.learning_rate(0) / SLOWER),
            temperature=_constant(plan.temperature(plan.epochs - 1)),
        )
        for record in search(task, state, tuning, streams):
            if isinstance(record, StepRecord):
                yield record
        decided.append(new)
        yield new


def chosen_by(decided: Sequence[Decided], groups: Sequence[Group]) -> dict[str, str]:
    """choice -> candidate, as far as they are decided; an edge that its node does not keep has `none`."""
    choices = {name for group in groups for name in group.names}
    settled = {d.choice: d.chosen for d in decided if d.choice in choices}
    for d in decided:
        if d.choice not in choices:
            settled |= {edge: NONE for edge in d.scores if edge not in d.chosen.split(" ")}
    return settled


def selected(decided: Sequence[Decided], groups: Sequence[Group]) -> Architecture:
    """The architecture of all decisions."""
    return Architecture(chosen_by(decided, groups))


def derivation_of(
    decided: Sequence[Decided], groups: Sequence[Group], probabilities: Sequence[Tensor]
) -> Derivation:
    """The derivation by the decisions; probabilities [E, K] per group are those that the search ended with.

    The runner-up of a choice is the candidate that was spared second least, so its margin may be negative.

    Raises:
        UserError: the decisions are not those of these groups.
    """
    scores = {d.choice: d.scores for d in decided}
    final, decisions = chosen_by(decided, groups), []
    candidates_of = {d.choice: d.chosen for d in decided}
    for group, p in zip(groups, probabilities, strict=True):
        rows = p.detach().cpu().double().tolist() if group.chosen else []
        for name, row in zip(group.names, rows, strict=False):
            winner = candidates_of.get(name)
            if winner not in group.candidates:
                raise UserError(f"the selection says nothing of choice {name!r} that it has; select again")
            others = sorted((c for c in scores[name] if c != winner), key=lambda c: scores[name][c])
            of = dict(zip(group.candidates, row, strict=True))
            below = of[others[0]] if others else 0.0
            entropy = decide(name, group.candidates, row).entropy
            decisions.append(
                Decision(
                    name,
                    winner,
                    others[0] if others else None,
                    of[winner],
                    below,
                    of[winner] - below,
                    entropy,
                    kept=final[name] == winner,
                )
            )
    architecture = Architecture(final)
    warnings = tuple(architecture_warnings(architecture))
    return Derivation("perturbation", architecture, tuple(decisions), warnings, skip_share(architecture))


def _order(groups: Sequence[Group], streams: Streams, prune: bool) -> list[str]:
    """The choices, and then the nodes ``cell/node`` with more edges than they keep, each in random order."""
    names = [name for group in groups if group.chosen for name in group.names]
    nodes = [node for node, edges in _nodes(groups).items() if len(edges) > EDGES_KEPT] if prune else []
    order = []
    for part, items in (("choices", names), ("nodes", nodes)):
        shuffled = torch.randperm(len(items), generator=streams.generator(f"selection/{part}"))
        order += [items[i] for i in shuffled.tolist()]
    return order


def _nodes(groups: Sequence[Group]) -> dict[str, list[str]]:
    """``cell/node`` -> the edges into it."""
    found: dict[str, list[str]] = {}
    for group in groups:
        for name in group.names if group.chosen else ():
            if edge := Edge.parse(name):
                found.setdefault(f"{edge.cell}/{edge.node}", []).append(name)
    return found


def _scores(
    task: SearchTask,
    state: SearchState,
    plan: SearchPlan,
    name: str,
    settled: Mapping[str, str],
    prune: bool,
    measure: Measure,
) -> dict[str, float]:
    """What the validation part has without each candidate of a choice, or without each edge into a node."""
    groups = task.groups
    with torch.no_grad():
        p = plan.policy.probabilities([a.detach() for a in state.logits])

    def score(settled: Mapping[str, str], without: tuple[str, str] | None) -> float:
        samples = settle(_without(groups, p, without), groups, settled)
        loss, accuracy = task.evaluate(lambda step: samples)
        return accuracy if measure == "accuracy" else -loss

    if edges := _nodes(groups).get(name):
        return {edge: score({**settled, edge: NONE}, None) for edge in edges}
    (candidates,) = (group.candidates for group in groups if name in group.names)
    # where a rule keeps edges by their strength, `none` is no candidate for what is on them
    tried = [c for c in candidates if not (prune and c == NONE)]
    return {candidate: score(settled, (name, candidate)) for candidate in tried}


def _without(
    groups: Sequence[Group], probabilities: Sequence[Tensor], without: tuple[str, str] | None
) -> list[Sample]:
    """The mixture, one candidate of one choice left out and nothing put in its place."""
    samples = []
    for group, p in zip(groups, probabilities, strict=True):
        weights, active = p.clone(), [tuple(range(len(group.candidates)))] * len(group.names)
        if without and without[0] in group.names:
            e, k = group.names.index(without[0]), group.candidates.index(without[1])
            if len(group.candidates) > 1:
                weights[e, k] = 0.0
                active[e] = tuple(i for i in active[e] if i != k)
        samples.append(Sample(weights, tuple(active)))
    return samples


def _least_spared(scores: Mapping[str, float], name: str) -> str:
    """What is missed most: the candidate without which least is left, of equal ones the first."""
    ranked = sorted(scores, key=lambda key: scores[key])
    return " ".join(ranked[:EDGES_KEPT]) if name not in scores and "<-" in ranked[0] else ranked[0]


def _constant(value: float) -> Callable[[int], float]:
    return lambda epoch: value
