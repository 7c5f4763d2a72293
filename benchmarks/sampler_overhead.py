"""What a sampler adds to a search step: its draw and its part of the backward pass, over the whole step.

For every sampler with a gradient: seconds of drawing the weights of all choices and of differentiating them
by the logits, beside the seconds of one search step (both halves: weights and logits) with that sampler,
measured in turns in one process on one thread, by the processor's time of that process, so that other work on
the machine is not counted. A step draws twice and differentiates once.

Counted: the generator of each draw (made afresh from seed, epoch and step, whatever the sampler), the
policy's call, the draw, and the way back from dL/dz, which the network hands over, to the logits. Not counted
is the start of a backward pass: in a search the network's pass goes on to the logits, so it is measured by
itself, from a copy of the logits to the logits, and taken off (`pass_seconds`).
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


def work_of(parts: Parts) -> tuple[Callable[[], object], Callable[[], object], Callable[[], object]]:
    """(one step of the search, the draws of one step, a backward pass that does nothing)."""
    network = parts.supernet()
    task, state, plan = parts.task(network), parts.state(network), parts.plan(network.groups)
    network.train()
    records = search(task, state, plan, parts.streams)
    counter = itertools.count()
    ones = [torch.ones_like(a) for a in state.logits]

    def draws() -> None:
        step = next(counter)
        for purpose in ("weights", "architecture"):
            noise = parts.streams.generator(purpose, step)
            learned = state.logits if purpose == "architecture" else [a.detach() for a in state.logits]
            samples = plan.policy.draw(learned, 1.0, noise)
            if purpose == "architecture":
                torch.autograd.grad([s.weights for s in samples], learned, ones)

    leaves = [a.detach().requires_grad_() for a in state.logits]
    views = [a.view_as(a) for a in leaves]

    def empty_pass() -> None:
        torch.autograd.grad(views, leaves, ones, retain_graph=True)

    return lambda: next(records), draws, empty_pass


def seconds_of(work: Callable[[], object], times: int) -> float:
    start = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - start) / times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--samplers", nargs="*", help="these alone, without a record; all where none is given"
    )
    parser.add_argument("--case", help="the cases whose name has this in it, without a record")
    given = parser.parse_args()
    rounds = given.rounds
    torch.set_num_threads(1)
    results: dict[str, dict[str, object]] = {}
    for case, (space, shape, channels, cells) in CASES.items():
        if (given.case or "") not in case:
            continue
        results[case] = {}
        for name in given.samplers or [n for n in SAMPLERS if n not in WITHOUT_GRADIENT]:
            parts = parts_of(space, shape, channels, cells, "gdas", sampler=name)
            step, draws, empty_pass = work_of(parts)
            for _ in range(3):
                step()
                draws()
                empty_pass()
            seconds, passes, shares = [], [], []
            for _ in range(rounds):
                step_seconds = seconds_of(step, 5)
                passes.append(seconds_of(empty_pass, 20))
                seconds.append(seconds_of(draws, 20) - passes[-1])
                shares.append(seconds[-1] / step_seconds)
            found = {"seconds": seconds, "pass_seconds": passes, "share_of_step": shares}
            results[case][name] = {key: summary(values) for key, values in found.items()}
            print(
                f"{case}: {name:<28} {1e6 * statistics.median(seconds):6.0f} µs, "
                f"{statistics.median(shares):.2%} of a step",
                flush=True,
            )
    if not (given.samplers or given.case):
        record("sampler_overhead", {"rounds": rounds, "cases": results})


if __name__ == "__main__":
    main()
