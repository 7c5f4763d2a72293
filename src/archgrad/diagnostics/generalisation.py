"""How much better the supernet does on what its weights were trained on."""

from __future__ import annotations

from collections.abc import Sequence

from archgrad.diagnostics.line import Line, Reading, number


def generalisation(line: Line, before: Sequence[Line] = ()) -> Reading:
    """The search's generalisation gap: of the supernet, on the two parts of the data.

    Fields: `loss`, validation loss minus training loss; `accuracy`, training accuracy minus validation
    accuracy. Both are above 0 where the weights know their own images better. On a landscape, whose two
    objectives are one, they are 0 up to its noise. No pass through the network.
    """
    reading = Reading()
    for field, greater, less in (
        ("loss", "valid_loss", "train_loss"),
        ("accuracy", "train_accuracy", "valid_accuracy"),
    ):
        above, below = number(line, greater), number(line, less)
        if above is not None and below is not None:
            reading[field] = above - below
    return reading
