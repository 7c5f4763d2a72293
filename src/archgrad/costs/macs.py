"""Multiply-adds of a network for one image; 1 MAC is one multiplication and one addition.

The convention of the DARTS literature: convolutions and linear layers, nothing else. Biases,
normalisation, activations, pooling and additions are not counted. The FLOPs column of NAS-Bench-201
follows it too, but adds the bias of the classifier: its numbers are larger by the number of classes.
A count of FLOPs that takes a multiply-add as two operations is twice as large.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch import nn

from archgrad.costs.counting import Call, Cost, Count, DryRun, own_parameters

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
# They have parameters, and no multiply-adds by the convention above.
_FREE = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
    nn.PReLU,
    nn.Embedding,
)


def count_macs(part: Iterable[nn.Module], run: DryRun) -> Count:
    """Multiply-adds of the modules of `part` for one image.

    Conv1d/2d/3d: output elements x kernel elements x C_in/groups. ConvTranspose1d/2d/3d: input
    elements x kernel elements x C_out/groups. Linear: output elements x C_in. Subclasses count as what
    they derive from. A module that multiplies in its own forward pass (attention, a matrix product) and
    a module type with parameters but no rule are reported as uncounted.
    """
    total = 0
    uncounted: set[str] = set()
    for module in part:
        if module in run.training_only:
            continue
        name = type(module).__name__
        calls = run.calls.get(module, [])
        ruled = isinstance(module, (*_CONVOLUTIONS, *_TRANSPOSED, nn.Linear))
        if ruled:
            total += sum(_macs(module, call) for call in calls)
        elif not isinstance(module, _FREE) and own_parameters(module):
            uncounted.add(name)
            continue
        for call in calls:
            # the rule stands for the first multiplication of a layer, not for what a subclass adds
            beyond = call.multiplications[1:] if ruled else call.multiplications
            uncounted.update(f"{operation} in {name}" for operation in beyond)
    return Count(float(total), tuple(sorted(uncounted)))


def _macs(module: nn.Module, call: Call) -> int:
    if isinstance(module, nn.Linear):
        return 0 if call.output is None else call.output.numel() * module.in_features
    if isinstance(module, _TRANSPOSED):
        kernel = math.prod(module.kernel_size) * module.out_channels // module.groups
        return call.inputs[0].numel() * kernel
    if isinstance(module, _CONVOLUTIONS) and call.output is not None:
        kernel = math.prod(module.kernel_size) * module.in_channels // module.groups
        return call.output.numel() * kernel
    return 0


MACS = Cost("MACs", count_macs)
