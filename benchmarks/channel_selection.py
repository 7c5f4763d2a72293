"""Frequency channels of CIFAR-10: a kept subset beside random, lowest, all channels and learned filters.

Each seed is one `archgrad channels`, in a process of its own on one thread, on the first training images of
each class and the whole test part. The heat map of the first seed goes to docs/images.

    ARCHGRAD_DATA=DIR python benchmarks/channel_selection.py
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from record import record

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
KINDS = ("selected", "random", "lowest", "all", "learned", "gates")


def one(arguments: argparse.Namespace, seed: int) -> dict[str, Any]:
    """One selection with its controls, in this process; printed as JSON."""
    from archgrad.config_layers import merge, overrides
    from archgrad.datasets.images import MemoryImages
    from archgrad.datasets.loading import load
    from archgrad.verbs.channels import channels_run

    data = load(arguments.data)
    labels = data.train.labels
    each = arguments.images // len(data.classes)
    chosen = (
        torch.cat([(labels == c).nonzero().flatten()[:each] for c in range(len(data.classes))]).sort().values
    )
    data = replace(data, train=MemoryImages(data.train.fetch(chosen), labels[chosen]))
    settings = merge(
        {"seed": seed, "device": {"threads": 1}, "frequency": {"strength": arguments.strength}},
        overrides(arguments.overrides),
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(arguments.runs or temporary) / f"seed-{seed}"
        return channels_run(folder, settings, keep=arguments.keep, controls=arguments.controls, data=data)


def rows_of(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and deviation of each kind of network, and by seed how much better the selected one is."""
    rows: dict[str, Any] = {}
    for kind in KINDS:
        found = [[r for r in (d["selected"], *d["controls"], d["gates"]) if r["kind"] == kind] for d in runs]
        accuracies = [statistics.mean(r["test_accuracy"] for r in mine) for mine in found]
        against = [d["selected"]["test_accuracy"] - a for d, a in zip(runs, accuracies, strict=True)]
        flat = [r for mine in found for r in mine]
        rows[kind] = {
            "networks": len(flat),
            "test_accuracy": [r["test_accuracy"] for r in flat],
            "mean": statistics.mean(accuracies),
            "std": statistics.stdev(r["test_accuracy"] for r in flat),
            "selected_minus_this_by_seed": against,
            "parameters": flat[0]["parameters"],
            "macs": flat[0]["macs"],
            "train_seconds": statistics.mean(r["seconds"] for r in flat),
        }
    rows["gates"]["drawn_accuracy"] = [d["gates"]["drawn_accuracy"] for d in runs]
    rows["gates"]["expected_open"] = [d["gates"]["expected_open"] for d in runs]
    return rows


def line(kind: str, row: Mapping[str, Any]) -> str:
    better = statistics.mean(row["selected_minus_this_by_seed"])
    return (
        f"{kind:<10} {row['mean']:.2%} ± {row['std']:.2%} (n={row['networks']})  "
        f"{row['macs'] / 1e6:.2f} M MACs  selected − this {better:+.2%}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--images", type=int, default=4000, help="training images")
    parser.add_argument("--keep", type=int, default=24)
    parser.add_argument("--strength", type=float, default=0.03)
    parser.add_argument("--controls", type=int, default=2, help="random subsets a seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--runs", help="keep the run folders there; the next time go on with what they hold")
    parser.add_argument("--one", type=int, metavar="SEED", help=argparse.SUPPRESS)
    arguments, rest = parser.parse_known_args()
    arguments.overrides = rest or ["train.epochs=10", "train.batch_size=64"]
    if arguments.one is not None:
        print(json.dumps(one(arguments, arguments.one)))
        return

    def launch(seed: int) -> dict[str, Any]:
        command = [sys.executable, __file__, *sys.argv[1:], "--one", str(seed)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise SystemExit(f"seed {seed}: {done.stderr}")
        result: dict[str, Any] = json.loads(done.stdout)
        accuracy = result["selected"]["test_accuracy"]
        print(f"seed {seed}  selected {accuracy:.2%}", file=sys.stderr, flush=True)
        return result

    with ThreadPoolExecutor(arguments.jobs) as pool:
        runs = list(pool.map(launch, arguments.seeds))
    from archgrad.frequency.page import heat_map

    rows = rows_of(runs)
    for kind, row in rows.items():
        print(line(kind, row))
    IMAGES.mkdir(parents=True, exist_ok=True)
    (IMAGES / "frequency-channels.svg").write_text(heat_map(runs[0]), encoding="utf-8")
    record(
        "channel_selection",
        {
            "data": arguments.data,
            "training_images": arguments.images,
            "seeds": arguments.seeds,
            "keep": arguments.keep,
            "jobs_at_once": arguments.jobs,
            "settings": runs[0]["settings"],
            "rows": rows,
            "selections": [
                {k: d[k] for k in ("channels", "names", "ranking")}
                | {"probability": [round(p, 4) for p in d["probability"]]}
                for d in runs
            ],
        },
    )


if __name__ == "__main__":
    main()
