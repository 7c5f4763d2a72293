"""The derivation rule of DARTS' recurrent cells: one predecessor a node. E choices x K candidates."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from archgrad.architecture import Edge
from archgrad.architecture_warnings import NONE
from archgrad.choice import Group
from archgrad.derive import WEAK_MARGIN, Decision, Ruling, decide
from archgrad.errors import UserError

_SHOWN = 3  # examples in a warning


def rnn(groups: Sequence[Group], probabilities: Sequence[Tensor]) -> Ruling:
    """A node keeps the edge with the greatest probability of a candidate but `none`, and that candidate.

    All its other edges get `none`. Of equal edges the one from the earlier state is kept. As the authors'
    code of Liu et al. 2019 (arXiv 1806.09055).

    Raises:
        UserError: a choice is no edge (``cell/node<-source``).
    """
    nodes: dict[tuple[str, int], list[tuple[Edge, Decision]]] = {}
    beaten = 0
    none: dict[str, float] = {}
    for group, rows in zip(groups, probabilities, strict=True):
        for name, row in zip(group.names, rows.detach().to("cpu").double().tolist(), strict=True):
            edge = Edge.parse(name)
            if edge is None:
                raise UserError(
                    f"the rnn rule ranks the edges of recurrent cells, named like 'recurrent/2<-0'; {name!r} "
                    "is no edge: use rule 'argmax'"
                )
            decision = decide(name, group.candidates, row, excluded=(NONE,))
            nodes.setdefault((edge.cell, edge.node), []).append((edge, decision))
            none[name] = row[group.candidates.index(NONE)] if NONE in group.candidates else 0.0
    decisions: list[Decision] = []
    close: list[tuple[float, str]] = []
    for incoming in nodes.values():
        ranked = [d for _, d in sorted(incoming, key=lambda e: (-e[1].winner_probability, e[0].source))]
        decisions += [d._replace(kept=d.name == ranked[0].name) for _, d in incoming]
        beaten += none[ranked[0].name] > ranked[0].winner_probability
        for second in ranked[1:2]:
            gap = ranked[0].winner_probability - second.winner_probability
            if gap < WEAK_MARGIN:
                verb = "ties with" if gap == 0 else "beats"
                close.append((gap, f"{ranked[0].name} {verb} {second.name} by {gap:.3f}"))
    warnings = []
    if close:
        shown = "; ".join(text for _, text in sorted(close)[:_SHOWN])
        warnings.append(
            f"which predecessor to keep was decided by less than {WEAK_MARGIN} at {len(close)} of "
            f"{len(nodes)} nodes: {shown}"
        )
    if beaten:
        warnings.append(
            f"`none` is the most probable candidate of {beaten} of {len(nodes)} kept edges; the rnn rule "
            "leaves it out of account"
        )
    return Ruling(tuple(decisions), tuple(warnings))
