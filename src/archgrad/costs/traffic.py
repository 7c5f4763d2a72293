"""Memory traffic of a network for one image: bytes that its layers read and write in 32-bit floats.

Every layer reads its inputs and its parameters and writes its output, 4 bytes each, and nothing stays in a
cache between two layers. A layer is a module without submodules, or with parameters of its own. One that
hands its input on (identity, drop path in evaluation), only looks at it in another shape, or gives the same
whatever its input is (`none`) moves nothing; what a module computes outside layers (additions and
concatenations in a cell) is left out. So the number compares networks; what a device moves depends on what it
fuses.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from archgrad.costs.counting import KEEP_SHAPE, Cost, Count, DryRun, own_parameters

BYTES = 4
_VIEWS = (nn.Flatten, nn.Unflatten)


def count_traffic(part: Iterable[nn.Module], run: DryRun) -> Count:
    """Bytes moved by the layers among the modules of `part`, for one image in evaluation."""
    elements = 0
    for module in part:
        owned = sum(parameter.numel() for parameter in own_parameters(module))
        if module in run.training_only or isinstance(module, _VIEWS):
            continue
        if not owned and next(module.children(), None) is not None:
            continue
        for call in run.calls.get(module, []):
            if call.handed_on and not getattr(module, "inplace", False) and type(module) not in KEEP_SHAPE:
                continue
            if call.constant and not owned and type(module) not in KEEP_SHAPE:
                continue
            written = 0 if call.output is None else call.output.numel()
            elements += owned + written + sum(shape.numel() for shape in call.inputs)
    return Count(float(BYTES * elements))


TRAFFIC = Cost("bytes", count_traffic)
