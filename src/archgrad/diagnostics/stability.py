"""Whether what would be derived, and the order of the candidates, still change."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from archgrad.diagnostics.kendall import kendall_tau
from archgrad.diagnostics.line import Line, Reading, at_epoch, decided, mean

LAG = 5
"""Epochs back that `same` looks."""


def stability(line: Line, before: Sequence[Line] = ()) -> Reading:
    """How long the choices have been what they are. The argmax is over all candidates, whatever the rule.

    Fields: `same`, the share of choices whose argmax is that of `LAG` epochs ago, `same_last` of one epoch
    ago; `unchanged`, epochs since the argmax of any choice last changed, 0 where it did in this epoch,
    counted from the first epoch; `architecture_unchanged`, the same of the derived architecture, which the
    rule may change though no argmax does (darts: which edges are kept); `kendall_tau`, the mean over the
    choices of τ-b between the probabilities of this epoch and of the one before, and `kendall_tau_by_choice`.
    Fields that need an epoch that is not there are left out. No pass through the network.
    """
    winners = _winners(line)
    if not winners:
        return {}
    epoch, reading = int(line["epoch"]), Reading()
    for field, back in (("same", LAG), ("same_last", 1)):
        other = at_epoch(before, epoch - back)
        if other is not None and (then := _winners(other)).keys() == winners.keys():
            reading[field] = mean([float(then[name] == k) for name, k in winners.items()])
    reading["unchanged"] = float(_unchanged(line, before, _winners))
    if line.get("architecture"):
        reading["architecture_unchanged"] = float(
            _unchanged(line, before, lambda one: one.get("architecture") or {})
        )
    last = at_epoch(before, epoch - 1)
    taus = _taus(decided(line), {} if last is None else decided(last))
    if taus:
        reading["kendall_tau"] = mean(list(taus.values()))
        reading["kendall_tau_by_choice"] = taus
    return reading


def _winners(line: Line) -> dict[str, int]:
    """Choice -> index of its most probable candidate, of equal ones the first."""
    return {name: row.index(max(row)) for name, row in decided(line).items()}


def _unchanged(line: Line, before: Sequence[Line], of: Callable[[Line], Mapping[str, object]]) -> int:
    """Epochs since `of` last changed."""
    now, since = of(line), int(line["epoch"])
    for other in reversed(before):
        if of(other) != now:
            break
        since = int(other["epoch"])
    return int(line["epoch"]) - since


def _taus(now: Mapping[str, list[float]], then: Mapping[str, list[float]]) -> dict[str, float]:
    """Choice -> Kendall's τ of the two rankings of its candidates, where it is defined."""
    found = {
        name: kendall_tau(row, then[name]) for name, row in now.items() if len(then.get(name, ())) == len(row)
    }
    return {name: tau for name, tau in found.items() if tau is not None}
