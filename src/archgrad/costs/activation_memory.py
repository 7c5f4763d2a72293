"""Memory of activations: an upper bound that a search can use, and the exact peak of a network.

The peak of a pass is a maximum over time, so it is no sum over choices. What is a sum is the size of all
tensors that the pass makes, as if none were freed; it is at least the peak, and it is what
`COSTS["activation_memory"]` counts, in bytes for one image in evaluation. In a table of a supernet it is an
upper bound of that of the derived network too (additions of edges that were dropped are billed), and
`CostTable.bound` says so.

`peak_activations` is exact for a network: bytes of the tensors that are alive at the worst moment of a pass
as PyTorch runs it, operation by operation and without gradients. A tensor is alive from the operation that
makes it until Python lets go of it; a view is part of its tensor, work in place makes none, the image is
alive throughout. Parameters and buffers are not counted, nor is what an operation uses inside (workspace of
convolutions), nor do fusing compilers keep to it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from archgrad.choice import Choice
from archgrad.costs.counting import COPYING, Cost, Count, DryRun, Recorder, recorded, tensors_in
from archgrad.randomness import seeded_modules


@dataclass(frozen=True, eq=False)
class MemoryRun(DryRun):
    """A dry run in evaluation that knows its memory.

    made: bytes of the tensors that each module made itself, outside its submodules, the image by the network.
    peak: bytes alive at the worst moment.
    """

    made: dict[nn.Module, int] = field(default_factory=dict, repr=False)
    peak: int = 0


def memory_run(build: Callable[[], nn.Module], shape: tuple[int, ...], batch: int = 1) -> MemoryRun:
    """Build a network and pass `batch` images of `shape` (C, H, W) through it, on meta where that works."""
    with seeded_modules(0), torch.no_grad():
        try:
            with torch.device("meta"):
                return _watched(build(), shape, COPYING, batch)
        except (RuntimeError, TypeError):  # as in `counting.dry_run`
            return _watched(build(), shape, {}, batch)


def peak_activations(build: Callable[[], nn.Module], shape: tuple[int, ...], batch: int = 1) -> int:
    """Bytes of activations alive at the worst moment of one pass in evaluation; exact in the sense above.

    Args:
        build: makes the network.
        shape: of one image, (C, H, W).
        batch: images at once.

    >>> peak_activations(lambda: nn.Sequential(nn.Conv2d(1, 8, 1), nn.ReLU(inplace=True)), (1, 4, 4), batch=2)
    1152
    """
    return memory_run(build, shape, batch).peak


def count_activations(part: Iterable[nn.Module], run: DryRun) -> Count:
    """Bytes of all tensors that the modules of `part` made, not of what mixes candidates in a supernet."""
    assert isinstance(run, MemoryRun)
    return Count(float(sum(run.made.get(module, 0) for module in part if not isinstance(module, Choice))))


def _watched(
    network: nn.Module, shape: tuple[int, ...], stand_ins: Mapping[type, Any], batch: int
) -> MemoryRun:
    watcher = _Watcher(network)
    run = recorded(network, shape, stand_ins, watcher, batch)
    return MemoryRun(run.network, run.calls, run.training_only, made=watcher.bytes_of, peak=watcher.peak)


class _Watcher(Recorder):  # type: ignore[no-untyped-call]
    """Follows every storage from the operation that makes it until nobody holds it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.running: list[nn.Module] = []
        self.bytes_of: dict[nn.Module, int] = {}
        self.known: set[int] = set()
        self.alive = self.peak = 0

    def watch(self, module: nn.Module, itself: bool = True) -> None:
        """Note the calls of `module`, and what it makes."""
        super().watch(module, itself)
        forward = module.__dict__["forward"]

        def watched(*inputs: Any, **named: Any) -> Any:
            if self.ended:
                return forward(*inputs, **named)
            self.running.append(module)
            try:
                return forward(*inputs, **named)
            finally:
                self.running.pop()

        module.__dict__["forward"] = watched

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = super().__torch_dispatch__(func, types, args, kwargs)
        if self.ended:
            return output
        before = {x.untyped_storage()._cdata for x in tensors_in((args, kwargs))}
        if not self.running and self.alive:
            return output  # what a supernet is called with beside the image
        module = self.running[-1] if self.running else self.network
        for x in tensors_in(output):
            storage = x.untyped_storage()
            if storage._cdata in before or storage._cdata in self.known:
                continue
            size = storage.nbytes()
            self.known.add(storage._cdata)
            self.bytes_of[module] = self.bytes_of.get(module, 0) + size
            self.alive += size
            weakref.finalize(storage, self._freed, storage._cdata, size).atexit = False
        self.peak = max(self.peak, self.alive)
        return output

    def _freed(self, number: int, size: int) -> None:
        self.known.discard(number)
        self.alive -= size


ACTIVATION_MEMORY = Cost("bytes", count_activations, run=memory_run, bound=True)
