"""Size of a network's weights in a file, in bytes: what `state_dict` holds, at a precision.

Parameters and buffers (the statistics of BatchNorm), but not the auxiliary head, which evaluation never
runs; a tensor that is shared is stored once. Names, shapes and headers are left out: some tens of bytes a
tensor in safetensors. With 32 or 16 bits every floating-point tensor has that many bits a number, and
counters keep theirs. With 8 bits the weights of convolutions and linear layers have one byte a number and a
32-bit scale an output channel, and everything else stays in 32 bits: the usual weight quantisation per
channel (Jacob et al. 2018, arXiv 1712.05877).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from torch import nn

from archgrad.costs.counting import Cost, Count, DryRun

_QUANTISED = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.Linear,
)


def count_file_size(part: Iterable[nn.Module], run: DryRun, bits: int) -> Count:
    """Bytes of the tensors that the modules of `part` own, at 32, 16 or 8 bits (see above)."""
    stored: dict[int, int] = {}
    for module in part:
        if module in run.training_only:
            continue
        for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
            if tensor is None or name in module._non_persistent_buffers_set:
                continue
            if bits == 8 and name == "weight" and isinstance(module, _QUANTISED):
                stored[id(tensor)] = tensor.numel() + 4 * _channels(module)
            elif tensor.is_floating_point():
                stored[id(tensor)] = tensor.numel() * (2 if bits == 16 else 4)
            else:
                stored[id(tensor)] = tensor.numel() * tensor.element_size()
    return Count(float(sum(stored.values())))


def _channels(module: nn.Module) -> int:
    """Output channels of a convolution or linear layer."""
    channels = module.out_features if isinstance(module, nn.Linear) else module.out_channels
    assert isinstance(channels, int)
    return channels


FILE_SIZE = Cost("bytes", partial(count_file_size, bits=32))
FILE_SIZE_16 = Cost("bytes", partial(count_file_size, bits=16))
FILE_SIZE_8 = Cost("bytes", partial(count_file_size, bits=8))
