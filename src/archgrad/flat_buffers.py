"""All buffers of a network as views of a few flat tensors, so that saving them is one copy.

A DARTS supernet has about 3,000 BatchNorm buffers; copying them one by one at every step costs more than
some of its convolutions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def flatten_buffers(network: nn.Module) -> list[Tensor]:
    """Make every buffer a view of one flat tensor per dtype and device; returns the flat tensors.

    Values, names and `state_dict` stay as they are. Moving the network to another device or dtype
    undoes it (buffers are replaced), so call this last.
    """
    places: dict[tuple[torch.dtype, torch.device], dict[int, list[tuple[nn.Module, str]]]] = {}
    for module in network.modules():
        for name, buffer in module.named_buffers(recurse=False):
            group = places.setdefault((buffer.dtype, buffer.device), {})
            group.setdefault(id(buffer), []).append((module, name))  # a shared buffer stays shared
    flats = []
    for owners in places.values():
        buffers = [getattr(*first) for first, *_ in owners.values()]
        flat = torch.cat([buffer.reshape(-1) for buffer in buffers])
        views = torch.split(flat, [buffer.numel() for buffer in buffers])
        for buffer, view, places_of in zip(buffers, views, owners.values(), strict=True):
            for module, name in places_of:
                setattr(module, name, view.view(buffer.shape))
        flats.append(flat)
    return flats
