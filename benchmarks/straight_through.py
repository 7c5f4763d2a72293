"""Straight-through step against one concrete network drawn from the same logits: time and peak memory.

DARTS cells, C=16, 8 cells, batch 64, 3×32×32, forward and backward. Three steps are compared with the
concrete network built with the supernet's own settings (BatchNorm without scale and shift):
the weight step, the architecture step (gradient to the logits only), and both gradients at once.
Times: alternating rounds in one process; the ratio is the median of the rounds' ratios. Memory: peak of
resident memory above that before the step, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from record import record, summary
from torch import nn
from torch.nn import functional as F

from archgrad.architecture import Architecture
from archgrad.choice import concrete, supernet
from archgrad.randomness import Streams
from archgrad.samplers.straight_through import StraightThrough
from archgrad.spaces.cell import DARTS

SHAPE, CLASSES, BATCH, TAU = (3, 32, 32), 10, 64, 1.0
STEPS = ("weights", "architecture", "joint")


def steps(draw: int, channels_last: bool) -> dict[str, Callable[[], None]]:
    """The compared steps, for one draw of the logits; "concrete" is the network of that draw."""
    streams = Streams(0)
    network = supernet(DARTS.builder, SHAPE, CLASSES, **DARTS.search)
    alpha = network.initial_logits(streams.generator("logits"))
    sampler = StraightThrough()
    names, candidates = network.groups[0].names, network.groups[0].candidates

    def sample(tensors: list[torch.Tensor]) -> list:
        return [sampler(a, TAU, streams.generator("sampler", draw)) for a in tensors]

    active = sample(alpha)[0].active
    assert active is not None
    architecture = Architecture({n: candidates[k[0]] for n, k in zip(names, active, strict=True)})
    alone: nn.Module = concrete(DARTS.builder, architecture, SHAPE, CLASSES, **DARTS.search)
    x = torch.randn(BATCH, *SHAPE, generator=streams.generator("images"))
    y = torch.randint(CLASSES, (BATCH,), generator=streams.generator("labels"))
    if channels_last:
        x = x.to(memory_format=torch.channels_last)
        network.to(memory_format=torch.channels_last)
        alone.to(memory_format=torch.channels_last)
    weights = list(network.parameters())

    def weight_step() -> None:
        loss = F.cross_entropy(network(x, sample([a.detach() for a in alpha])), y)
        torch.autograd.grad(loss, weights, allow_unused=True)

    def architecture_step() -> None:
        torch.autograd.grad(F.cross_entropy(network(x, sample(alpha)), y), alpha)

    def joint_step() -> None:
        loss = F.cross_entropy(network(x, sample(alpha)), y)
        torch.autograd.grad(loss, [*weights, *alpha], allow_unused=True)

    def concrete_step() -> None:
        loss = F.cross_entropy(alone(x), y)
        torch.autograd.grad(loss, list(alone.parameters()), allow_unused=True)

    return {
        "concrete": concrete_step,
        "weights": weight_step,
        "architecture": architecture_step,
        "joint": joint_step,
    }


def high_water_mark() -> float:
    """Peak resident memory of this process, MB. (getrusage's peak would include the parent's.)"""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


def peak_memory(step: str, draw: int, channels_last: bool) -> float:
    """MB above the memory before the step, in a fresh process."""
    command = [sys.executable, __file__, "--memory-of", step, "--draw", str(draw)]
    if channels_last:
        command.append("--channels-last")
    return float(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory-of", choices=("concrete", *STEPS))
    parser.add_argument("--draw", type=int, default=0)
    parser.add_argument("--channels-last", action="store_true")
    options = parser.parse_args()
    if options.memory_of:
        work = steps(options.draw, options.channels_last)[options.memory_of]
        before = high_water_mark()
        work()
        print(high_water_mark() - before)
        return
    results = {}
    for layout in ("contiguous", "channels_last"):
        ratios: dict[str, list[float]] = {step: [] for step in STEPS}
        memory: dict[str, list[float]] = {step: [] for step in STEPS}
        seconds = []
        for draw in range(options.draws):
            work = steps(draw, layout == "channels_last")
            for step in work.values():
                step()
            for _ in range(options.rounds):
                took = {}
                for name, step in work.items():
                    start = time.perf_counter()
                    step()
                    took[name] = time.perf_counter() - start
                seconds.append(took["concrete"])
                for name in STEPS:
                    ratios[name].append(took[name] / took["concrete"])
            base = peak_memory("concrete", draw, layout == "channels_last")
            for name in STEPS:
                memory[name].append(peak_memory(name, draw, layout == "channels_last") / base)
        results[layout] = {
            "concrete_seconds": summary(seconds),
            "time_ratio": {name: summary(values) for name, values in ratios.items()},
            "memory_ratio": {name: summary(values) for name, values in memory.items()},
        }
        for name in STEPS:
            print(
                f"{layout:<14} {name:<13} time ×{statistics.median(ratios[name]):.2f}  "
                f"memory ×{statistics.median(memory[name]):.2f}"
            )
    record("straight_through", {"draws": options.draws, "rounds": options.rounds, "layouts": results})


if __name__ == "__main__":
    main()
