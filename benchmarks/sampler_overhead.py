"""What a sampler adds to a search step: its draw and its part of the backward pass, over the whole step.

For every sampler with a gradient: seconds of drawing the weights of all choices and of differentiating them
by the logits, beside the seconds of one search step (both halves: weights and logits) with that sampler,
measured in turns in one process on one thread. A step draws twice and differentiates once.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable

import torch
from loop_overhead import parts_of
from record import record, summary

from archgrad.parts import Parts
from archgrad.samplers import SAMPLERS
from archgrad.search import search

CASES = {
    "NAS-Bench-201 C=16, 1 cell a stage, 3×32×32": ("nasbench201", (3, 32, 32), 16, 1),
    "NAS-Bench-201 C=8, 1 cell a stage, 1×8×8": ("nasbench201", (1, 8, 8), 8, 1),
}
WITHOUT_GRADIENT = ("gumbel_max", "uniform")


def pair(parts: Parts) -> tuple[Callable[[], object], Callable[[], object]]:
    """(one step of the search, the draws of one step)."""
    network = parts.supernet()
    task, state, plan = parts.task(network), parts.state(network), parts.plan(network.groups)
    network.train()
    records = search(task, state, plan, parts.streams)
    counter = itertools.count()

    def draws() -> None:
        step = next(counter)
        for purpose in ("weights", "architecture"):
            noise = parts.streams.generator(purpose, step)
            learned = [a.detach().requires_grad_(purpose == "architecture") for a in state.logits]
            samples = plan.policy.draw(learned, 1.0, noise)
            if purpose == "architecture":
                torch.autograd.grad(sum(s.weights.square().sum() for s in samples), learned)

    return lambda: next(records), draws


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    results: dict[str, dict[str, object]] = {}
    for case, (space, shape, channels, cells) in CASES.items():
        results[case] = {}
        for name in SAMPLERS:
            if name in WITHOUT_GRADIENT:
                continue
            step, draws = pair(parts_of(space, shape, channels, cells, "gdas", sampler=name))
            for _ in range(3):
                step()
                draws()
            shares, seconds = [], []
            for _ in range(rounds):
                start = time.perf_counter()
                for _ in range(5):
                    step()
                step_seconds = (time.perf_counter() - start) / 5
                start = time.perf_counter()
                for _ in range(20):
                    draws()
                seconds.append((time.perf_counter() - start) / 20)
                shares.append(seconds[-1] / step_seconds)
            results[case][name] = {"seconds": summary(seconds), "share_of_step": summary(shares)}
            print(
                f"{case}: {name:<28} {1e6 * statistics.median(seconds):6.0f} µs, "
                f"{statistics.median(shares):.2%} of a step",
                flush=True,
            )
    record("sampler_overhead", {"rounds": rounds, "cases": results})


if __name__ == "__main__":
    main()
