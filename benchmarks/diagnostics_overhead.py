"""What diagnostics cost a search: the records, which are always on, and a look of every probe.

Steps of the search loop and looks alternate in one process of one thread, timed by the processor's time, as
the machine may be shared. The records are those of the last of 50 epochs, with all lines before it; what they
add to a step is the measure of how far it moved the logits. A look is set against the epoch of the data's
true size (11 steps on the digits, 390 on CIFAR-10), not the random images that are timed. Images of CIFAR's
size come in batches of 16 in place of 64, for steps and looks alike, to have a measurement in minutes.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable

import torch
from loop_overhead import parts_of
from record import record, summary

from archgrad.architecture_step import _relative
from archgrad.diagnostics import PROBES, record_diagnostics
from archgrad.diagnostics.subject import Subject, untouched
from archgrad.parts import Parts
from archgrad.search import search
from archgrad.search_records import EpochRecord, epoch_record

# name: space, shape, channels, cells, method, steps of an epoch
CASES = {
    "digits, darts": ("nasbench201", (1, 8, 8), 8, 1, "darts", 11),
    "digits, gdas": ("nasbench201", (1, 8, 8), 8, 1, "gdas", 11),
    "CIFAR size, darts": ("nasbench201", (3, 32, 32), 16, 1, "darts", 390),
    "CIFAR size, gdas": ("nasbench201", (3, 32, 32), 16, 1, "gdas", 390),
}
SHARE = 0.03
"""Of search time, at most."""
LINES = 50


def seconds(work: Callable[[], object], times: int = 1) -> float:
    """Processor seconds of a call, the mean over `times`."""
    start = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - start) / times


def measure(case: str, rounds: int) -> dict[str, object]:
    space, shape, channels, cells, method, steps = CASES[case]
    parts = parts_of(space, shape, channels, cells, method)
    batch = {"search": parts.config.search.model_copy(update={"batch_size": 64 if steps < 100 else 16})}
    parts = Parts.of(parts.config.model_copy(update=batch), parts.data)
    network = parts.supernet()
    task, state, plan = parts.task(network), parts.state(network), parts.plan(network.groups)
    network.train()
    records = search(task, state, plan, parts.streams)

    def step() -> None:
        while isinstance(next(records), EpochRecord):
            pass

    subject = Subject(task, state, plan, parts.streams, 0)
    probes = {name: PROBES[name]() for name in PROBES}
    step()
    line = {**epoch_record(task.groups, state, plan, steps, (1.0, 0.5)).line(), "epoch": LINES - 1}
    before = [{**line, "epoch": epoch} for epoch in range(LINES - 1)]
    logits = [a.detach() for a in state.logits]

    def moved() -> None:
        _relative([a.clone() for a in logits], logits, None)

    def look(name: str) -> None:
        with untouched(subject):
            probes[name](subject)

    work: dict[str, Callable[[], object]] = {
        "step": step,
        "records of an epoch": lambda: record_diagnostics(line, before),
        "records of a step": moved,
        **{name: lambda name=name: look(name) for name in probes},
    }
    often = {"step": 4 if steps < 100 else 2, "records of an epoch": 20, "records of a step": 200}
    found: dict[str, list[float]] = {name: [] for name in work}
    for name in work:
        work[name]()
    for _ in range(rounds):
        for name, one in work.items():
            found[name].append(seconds(one, often.get(name, 1)))
    times = {name: summary(values) for name, values in found.items()}
    epoch = steps * float(times["step"]["median"])
    always = float(times["records of an epoch"]["median"]) + steps * float(
        times["records of a step"]["median"]
    )
    result = {
        "steps_per_epoch": steps,
        "seconds": times,
        "share_of_the_records": always / epoch,
        "look_in_epochs": {name: float(times[name]["median"]) / epoch for name in probes},
    }
    result["every_for_3_percent"] = {
        name: max(1, math.ceil(cost / SHARE)) for name, cost in result["look_in_epochs"].items()
    }
    print(
        f"{case}: step {times['step']['median'] * 1e3:.1f} ms, records {always / epoch:.2%}; epochs a look: "
        + ", ".join(f"{name} {cost:.3f}" for name, cost in result["look_in_epochs"].items())
    )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    record("diagnostics_overhead", {"rounds": rounds, "cases": {c: measure(c, rounds) for c in CASES}})


if __name__ == "__main__":
    main()
