"""channels-last and bfloat16 against contiguous float32: one weight step of a supernet, and of a network.

Forward and backward, batch 64, 3×32×32. Alternating rounds in one process; ratios to contiguous float32, so
below 1 is faster.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from record import record, summary
from torch.nn import functional as F

from archgrad.choice import supernet
from archgrad.objectives import autocast
from archgrad.randomness import Streams
from archgrad.samplers import SAMPLERS
from archgrad.spaces import SPACES

CASES = {
    "nasbench201 C=16, 1 cell a stage, softmax": ("nasbench201", {"channels": 16, "cells": 1}, "softmax"),
    "nasbench201 C=16, 1 cell a stage, straight-through": (
        "nasbench201",
        {"channels": 16, "cells": 1},
        "straight_through",
    ),
    "darts C=16, 3 cells, softmax": ("darts", {"channels": 16, "cells": 3}, "softmax"),
    "darts C=16, 3 cells, straight-through": ("darts", {"channels": 16, "cells": 3}, "straight_through"),
}
VARIANTS = {
    "contiguous fp32": (False, "fp32"),
    "channels-last fp32": (True, "fp32"),
    "contiguous bf16": (False, "bf16"),
    "channels-last bf16": (True, "bf16"),
}


def step_of(case: tuple, channels_last: bool, precision: str) -> Callable[[], None]:
    """A weight step of the case in one layout and precision; every call draws anew."""
    space, settings, sampler_name = case
    streams = Streams(0)
    part = SPACES[space]
    network = supernet(part.builder, (3, 32, 32), 10, **{**part.search, **settings})
    alpha = [a.detach() for a in network.initial_logits(streams.generator("logits"))]
    sampler = SAMPLERS[sampler_name]()
    x = torch.randn(64, 3, 32, 32, generator=streams.generator("images"))
    y = torch.randint(10, (64,), generator=streams.generator("labels"))
    if channels_last:
        x, network = x.to(memory_format=torch.channels_last), network.to(memory_format=torch.channels_last)
    weights, calls = list(network.parameters()), [0]

    def step() -> None:
        calls[0] += 1
        samples = [sampler(a, 1.0, streams.generator("sampler", calls[0])) for a in alpha]
        with autocast(x.device, precision):
            logits = network(x, samples)
        torch.autograd.grad(F.cross_entropy(logits.float(), y), weights, allow_unused=True)

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    results = {}
    for name, case in CASES.items():
        works = {variant: step_of(case, *options) for variant, options in VARIANTS.items()}
        for work in works.values():
            work()
        seconds: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
        for _ in range(rounds):
            for variant, work in works.items():
                start = time.perf_counter()
                work()
                seconds[variant].append(time.perf_counter() - start)
        base = seconds["contiguous fp32"]
        ratios = {v: [a / b for a, b in zip(s, base, strict=True)] for v, s in seconds.items()}
        results[name] = {
            "contiguous_fp32_seconds": summary(base),
            "ratio": {v: summary(r) for v, r in ratios.items()},
        }
        print(name, {v: round(statistics.median(r), 2) for v, r in ratios.items()}, flush=True)
    record("layout_precision", {"rounds": rounds, "cases": results})


if __name__ == "__main__":
    main()
