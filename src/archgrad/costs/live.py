"""What of a network matters: the calls that lie on a way from the image to the output.

A cell may have nodes that nothing arrives at or that nothing leads out of. They are built, and counts as
published bill them, so two cells that are one function can differ in cost (NAS-Bench-201, arXiv 2001.00326).
Here every operation of a pass is followed: one is live if its values depend on the image's, and the output's
on them. What gives the same for every image (a convolution of zeros with its BatchNorm) is a constant, and
not live. Whether a dependence can be seen in the numbers (a ReLU that is always zero) is not asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from archgrad.costs.counting import (
    COPYING,
    VALUELESS,
    Call,
    DryRun,
    Recorder,
    own_parameters,
    recorded,
    tensors_in,
)
from archgrad.costs.macs import count_macs
from archgrad.costs.traffic import count_traffic
from archgrad.randomness import seeded_modules

_EMPTY = frozenset({"empty", "new_empty", "empty_like"})


class LiveCounts(NamedTuple):
    """Parameters, multiply-adds and bytes moved (as in `NetworkCounts`) of what is live, in evaluation."""

    parameters: int
    macs: int
    traffic: int


def count_live(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> LiveCounts:
    """Count what matters for the output of the network that `build` makes, for one image of `shape`.

    A parameter counts if a live operation reads it, or its module has one.
    """
    with seeded_modules(0), torch.no_grad():
        try:
            with torch.device("meta"):
                return _counted(build(), shape, COPYING)
        except (RuntimeError, TypeError):  # as in `dry_run`
            return _counted(build(), shape, {})


def _counted(network: nn.Module, shape: tuple[int, ...], stand_ins: Mapping[type, Any]) -> LiveCounts:
    recorder = _Follower(network)
    run = recorded(network, shape, stand_ins, recorder)
    live = recorder.live()
    calls: dict[nn.Module, list[Call]] = {}
    parameters: dict[int, int] = {}
    for operation in live:
        parameters |= {id(p): p.numel() for p in operation.parameters}
    for frame in {id(operation.frame): operation.frame for operation in live}.values():
        assert frame.call is not None
        calls.setdefault(frame.module, []).append(frame.call)
        parameters |= {id(p): p.numel() for p in own_parameters(frame.module)}
    kept: DryRun = replace(run, calls=calls)
    return LiveCounts(
        parameters=sum(parameters.values()),
        macs=round(count_macs(calls, kept).value),
        traffic=round(count_traffic(calls, kept).value),
    )


@dataclass(eq=False)
class _Frame:
    """A forward call of a module; `call` is known when it has ended."""

    module: nn.Module
    call: Call | None = None


@dataclass(eq=False)
class _Operation:
    """One operation: the call that it ran in, those before it whose results it read, parameters that it read.

    fed: whether its result depends on the image.
    """

    frame: _Frame
    before: list[_Operation]
    parameters: list[nn.Parameter]
    fed: bool


class _Follower(Recorder):  # type: ignore[no-untyped-call]
    """Notes which operation each stored tensor comes from. Views are their tensor."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.frames: list[_Frame] = []
        self.last: dict[int, _Operation] = {}  # the operation that wrote to a storage last
        self.kept: list[Any] = []  # so that no storage's number is given to another
        self.owned = {self._number(p): p for p in network.parameters()}
        self.outputs: list[_Operation] = []

    def watch(self, module: nn.Module, itself: bool = True) -> None:
        """Note the calls of `module`, and what runs in each of them."""
        super().watch(module, itself)
        forward = module.__dict__["forward"]

        def framed(*inputs: Any, **named: Any) -> Any:
            if self.ended:
                return forward(*inputs, **named)
            frame = _Frame(module)
            self.frames.append(frame)
            try:
                output = forward(*inputs, **named)
            finally:
                self.frames.pop()
            frame.call = self.calls[module][-1]
            if module is self.network:
                made = [self.last.get(self._number(x)) for x in tensors_in(output)]
                self.outputs = [operation for operation in made if operation is not None]
            return output

        module.__dict__["forward"] = framed

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = super().__torch_dispatch__(func, types, args, kwargs)
        name = func.overloadpacket.__name__
        read = {self._number(x): x for x in tensors_in((args, kwargs))}
        changed = func._schema.is_mutable
        made = [x for x in tensors_in(output) if changed or self._number(x) not in read]
        if not made:
            return output
        values = () if name in VALUELESS | _EMPTY else read
        before = [self.last[number] for number in values if number in self.last]
        parameters = [self.owned[number] for number in values if number in self.owned]
        if self.frames:
            operation = _Operation(self.frames[-1], before, parameters, any(o.fed for o in before))
        else:  # the image
            operation = _Operation(_Frame(self.network), [], [], True)
        for x in made:
            self.last[self._number(x)] = operation
        return output

    def live(self) -> list[_Operation]:
        """The operations on a way from the image to the output, in modules."""
        found: dict[int, _Operation] = {}
        left = [operation for operation in self.outputs if operation.fed]
        while left:
            operation = left.pop()
            if id(operation) not in found:
                found[id(operation)] = operation
                left += [o for o in operation.before if o.fed]
        return [operation for operation in found.values() if operation.frame.call is not None]

    def _number(self, x: Tensor) -> int:
        storage = x.untyped_storage()
        self.kept.append(storage)
        return int(storage._cdata)
