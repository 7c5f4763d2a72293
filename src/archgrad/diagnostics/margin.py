"""By how much the winners win. K candidates a choice."""

from __future__ import annotations

from collections.abc import Sequence

from archgrad.diagnostics.line import Line, Reading, decided, mean


def margin(line: Line, before: Sequence[Line] = ()) -> Reading:
    """The greatest probability of a choice minus the second greatest; 1 where there is one candidate alone.

    All K candidates compete, `none` included, whatever the derivation's rule leaves out.

    Fields: `mean`, `least`, `by_choice`. No pass through the network.

    >>> margin({"probabilities": {"a": [0.25, 0.75], "b": [0.5, 0.5]}})["by_choice"]
    {'a': 0.5, 'b': 0.0}
    """
    margins = {}
    for name, row in decided(line).items():
        first, *rest = sorted(row, reverse=True)
        margins[name] = first - rest[0] if rest else 1.0
    if not margins:
        return {}
    values = list(margins.values())
    return {"mean": mean(values), "least": min(values), "by_choice": margins}
