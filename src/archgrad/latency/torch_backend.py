"""Timing pieces and networks in PyTorch, on the processor or on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from archgrad.errors import UserError
from archgrad.latency.device_script import Calls
from archgrad.latency.timing import CLOCKS, Call, ClockTimer
from archgrad.randomness import Streams

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
"""Precisions: of weights and of activations."""


class CudaTimer:
    """Time on the GPU between two events: what the host does meanwhile is not counted."""

    def resolution(self) -> float:
        """Half a microsecond, as CUDA's documentation of events says."""
        return 5e-7

    def seconds(self, call: Call, times: int) -> float:
        """Seconds that the GPU takes for `times` calls."""
        event: Any = torch.cuda.Event  # not typed in PyTorch
        start, end = event(enable_timing=True), event(enable_timing=True)
        torch.cuda.synchronize()
        start.record()
        for _ in range(times):
            call()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3


def torch_calls(
    manifest: Mapping[str, Any],
    modules: Mapping[str, nn.Module],
    networks: Callable[[], Sequence[nn.Module]],
    device: torch.device,
    clock: str = "wall",
) -> Calls:
    """The calls of a manifest's pieces and whole networks, on random inputs, without gradients.

    Raises:
        UserError: the precision is none, or a piece does not run in it.
    """
    dtype = DTYPES[manifest["precision"]]
    batch = manifest["batch"]

    def call(module: nn.Module, shapes: Sequence[Sequence[int]], what: str) -> Call:
        generator = Streams(0).generator("latency")
        inputs = [torch.randn(batch, *s, generator=generator).to(device, dtype) for s in shapes]
        module.to(device, dtype).eval()
        try:
            with torch.inference_mode():
                module(*inputs)
        except RuntimeError as error:
            raise UserError(
                f"{what} does not run on {device} in {manifest['precision']}: {str(error).splitlines()[0]}"
            ) from None
        return lambda: module(*inputs)

    pieces = {
        key: call(modules[key], piece["inputs"], piece["what"]) for key, piece in manifest["pieces"].items()
    }
    shape = manifest["space"]["shape"]
    timer = CudaTimer() if device.type == "cuda" else ClockTimer(CLOCKS[clock])
    return Calls(pieces, lambda: [call(network, [shape], "the network") for network in networks()], timer)


@contextmanager
def inference(threads: int) -> Iterator[None]:
    """Inside: no gradients, and so many threads. Afterwards: as it was."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before)


def torch_backend() -> dict[str, Any]:
    """The backend, as a table keeps it."""
    return {"name": "torch", "versions": {"torch": torch.__version__}}
