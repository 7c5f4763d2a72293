"""What the search loop adds to bare forward, backward and optimizer steps.

The loop is `search.search` as a run uses it: data path, draws, gradient norms, finiteness checks, preserved
BatchNorm statistics, records. The bare steps do the same mathematics on one batch held in memory, with the
same draws: weight gradient, clipping, SGD, architecture gradient, Adam. Alternating in one process; the
overhead is the median of the rounds' ratios minus 1.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable

import torch
from record import record, summary
from torch.nn import functional as F

from archgrad.config import Config
from archgrad.config_layers import layered
from archgrad.datasets.images import ImageData, MemoryImages
from archgrad.methods import METHODS
from archgrad.parts import Parts
from archgrad.search import search

CASES = {
    "digits size: NAS-Bench-201 C=8, 1 cell a stage, 1×8×8": ("nasbench201", (1, 8, 8), 8, 1),
    "CIFAR size: NAS-Bench-201 C=16, 1 cell a stage, 3×32×32": ("nasbench201", (3, 32, 32), 16, 1),
    "CIFAR size: DARTS C=16, 8 cells, 3×32×32": ("darts", (3, 32, 32), 16, 8),
}


def parts_of(
    space: str,
    shape: tuple[int, int, int],
    channels: int,
    cells: int,
    method: str,
    sampler: str | None = None,
) -> Parts:
    """A search on random images of `shape`, with the method's sampler or another."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (4000, *shape), generator=generator, dtype=torch.uint8)
    labels = torch.arange(4000) % 10
    data = ImageData("random", MemoryImages(pixels, labels), None, tuple(map(str, range(10))))
    settings = {
        "space": {"name": space, "channels": channels, "cells": cells, "affine": False},
        "search": {"epochs": 1000, "drop_path": 0.0, "order": "weights_first"},
    }
    if sampler is not None:
        settings["sampler"] = {"name": sampler}
    config = Config.model_validate(layered(METHODS[method].settings, settings))
    return Parts.of(config, data)


def pair(parts: Parts) -> tuple[Callable[[], object], Callable[[], object]]:
    """(one step of the loop, one bare step), each on a supernet of its own."""
    network = parts.supernet()
    task, state, plan = parts.task(network), parts.state(network), parts.plan(network.groups)
    network.train()
    records = search(task, state, plan, parts.streams)
    bare_network = parts.supernet()
    bare_task, bare, _ = parts.task(bare_network), parts.state(bare_network), None
    bare_network.train()
    x, y = bare_task.train.batch(0, 0)
    x_valid, y_valid = bare_task.valid.batch(0, 0)
    counter = itertools.count()
    assert bare.architecture_optimizer is not None

    def bare_step() -> None:
        step, tau = next(counter), plan.temperature(0)

        def samples(alpha: list[torch.Tensor], purpose: str) -> list:
            # the loop's own draws: which candidates run decides how long a step takes
            epoch, position = divmod(step, bare_task.steps_per_epoch)
            noise = parts.streams.generator(f"sampler/{purpose}", epoch, position)
            return plan.policy.draw(alpha, tau, noise)

        bare.weight_optimizer.zero_grad(set_to_none=True)
        weights = samples([a.detach() for a in bare.logits], "weights")
        F.cross_entropy(bare_network(x, weights), y).backward()
        torch.nn.utils.clip_grad_norm_(bare_task.weights, 5.0, foreach=True)
        bare.weight_optimizer.step()
        loss = F.cross_entropy(bare_network(x_valid, samples(bare.logits, "architecture")), y_valid)
        for a, g in zip(bare.logits, torch.autograd.grad(loss, bare.logits), strict=True):
            a.grad = g
        bare.architecture_optimizer.step()

    return lambda: next(records), bare_step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--method", default="gdas", help="the cheaper the step, the larger the overhead")
    rounds, method = parser.parse_args().rounds, parser.parse_args().method
    results = {}
    for name, (space, shape, channels, cells) in CASES.items():
        loop, bare = pair(parts_of(space, shape, channels, cells, method))
        loop()
        bare()
        start = time.perf_counter()
        bare()
        steps = max(1, round(1.0 / (time.perf_counter() - start)))
        ratios, seconds = [], []
        for _ in range(rounds):
            took = []
            for work in (loop, bare):
                start = time.perf_counter()
                for _ in range(steps):
                    work()
                took.append((time.perf_counter() - start) / steps)
            ratios.append(took[0] / took[1])
            seconds.append(took[1])
        results[name] = {"bare_step_seconds": summary(seconds), "loop_over_bare": summary(ratios)}
        print(f"{name}: bare {statistics.median(seconds):.3f} s, loop ×{statistics.median(ratios):.3f}")
    record("loop_overhead", {"method": method, "rounds": rounds, "cases": results})


if __name__ == "__main__":
    main()
