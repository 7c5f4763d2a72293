"""How undecided the choices are. K candidates a choice."""

from __future__ import annotations

import math
from collections.abc import Sequence

from archgrad.diagnostics.line import Line, Reading, decided, mean, shares


def entropy(line: Line, before: Sequence[Line] = ()) -> Reading:
    """Shannon's entropy H of the probabilities of every choice; of gates, of their shares.

    Fields: `mean`, of H in nats; `relative`, the mean of H / log K, 1 where all candidates are as probable
    (0 where there is one alone); `effective`, the mean of exp(H), the number of equally probable candidates
    that would be as undecided; `relative_by_choice`, `effective_by_choice`. No pass through the network.

    >>> reading = entropy({"probabilities": {"a": [0.5, 0.5, 0.0, 0.0], "b": [1.0, 0.0]}})
    >>> reading["relative_by_choice"], reading["effective"]
    ({'a': 0.5, 'b': 0.0}, 1.5)
    """
    rows = decided(line)
    if not rows:
        return {}
    nats = {name: _nats(shares(row)) for name, row in rows.items()}
    relative = {
        name: h / math.log(len(rows[name])) if len(rows[name]) > 1 else 0.0 for name, h in nats.items()
    }
    effective = {name: math.exp(h) for name, h in nats.items()}
    return {
        "mean": mean(list(nats.values())),
        "relative": mean(list(relative.values())),
        "effective": mean(list(effective.values())),
        "relative_by_choice": relative,
        "effective_by_choice": effective,
    }


def _nats(row: Sequence[float]) -> float:
    return sum(-p * math.log(p) for p in row if p > 0)
