"""How strongly the search is pulled, and how far it moves."""

from __future__ import annotations

from collections.abc import Sequence

from archgrad.diagnostics.line import Line, Reading, number

_FIELDS = {
    "architecture_gradient": "alpha_gradient_norm",
    "weight_gradient": "weight_gradient_norm",
    "relative_step": "alpha_relative_step",
}


def motion(line: Line, before: Sequence[Line] = ()) -> Reading:
    """Norms of the epoch's gradients and the size of its steps on the logits.

    Fields: `architecture_gradient`, `weight_gradient`, mean L2 norms before clipping; `relative_step`, the
    mean over the epoch's steps of ‖α_after − α_before‖ / ‖α_before‖, all groups together: of what the
    optimizer made of the gradient, which ``architecture.relative_clip`` limits on the same scale. A field is
    left out where no such step was taken (warm-up) or recorded. No pass through the network.
    """
    found = {field: number(line, key) for field, key in _FIELDS.items()}
    reading: Reading = {field: value for field, value in found.items() if value is not None}
    return reading
