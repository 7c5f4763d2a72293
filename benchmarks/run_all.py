"""Every measurement, one after another; results are kept in benchmarks/results. Takes about two hours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SMALL = [
    "--images", "1000", "--seeds", "1", "--controls", "2",
    "search.epochs=6", "search.warmup_epochs=1", "train.epochs=10", "train.space.channels=8",
]  # fmt: skip
JOBS: list[list[str]] = [
    ["lab.py"],
    ["schedule_figure.py"],
    ["lab_speed.py"],
    ["gumbel_figures.py"],
    ["sampler_overhead.py"],
    ["genotype_counts.py"],
    ["latency_devices.py"],
    ["cost_strengths.py"],
    ["budgets_landscape.py"],
    ["budgets_digits.py"],
    ["budgets_cifar10.py"],
    ["sweep_digits.py"],
    ["rnn_speed.py"],
    ["wikitext2.py"],
    ["channel_selection.py", "--data", "cifar10"],
    ["straight_through.py"],
    ["loop_overhead.py"],
    ["diagnostics_overhead.py"],
    ["experiment_statistics.py"],
    ["layout_precision.py"],
    ["data_path.py"],
    ["accuracy.py", "--data", "digits", "--controls", "2", "--once", "darts-2nd"],
    [
        "accuracy.py", "--data", "digits", "--seeds", "2", "--controls", "2",
        "--record", "accuracy_digits_more",
        "--methods", "enas", "dsnas", "proxyless", "drnas", "fairdarts", "reinmax",
    ],
    ["accuracy.py", "--data", "fashion-mnist", *SMALL],
    [
        "accuracy.py", "--data", "cifar10", "--images", "3000", "--seeds", "2", "--controls", "2",
        "search.epochs=12", "search.warmup_epochs=3", "train.epochs=15", "train.space.channels=8",
    ],
]  # fmt: skip


def main() -> None:
    for job in JOBS:
        real = {"cifar10", "fashion-mnist", "wikitext2.py", "budgets_cifar10.py"}
        if set(job) & real and "ARCHGRAD_DATA" not in os.environ:
            print(f"left out, as ARCHGRAD_DATA is not set: {' '.join(job)}")
            continue
        print(f"== {' '.join(job)}", flush=True)
        subprocess.run([sys.executable, str(HERE / job[0]), *job[1:]], check=True)


if __name__ == "__main__":
    main()
