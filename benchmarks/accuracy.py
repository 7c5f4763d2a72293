"""Test accuracy of every method beside its controls, on one data set, with seeds.

Each (method, seed) is a whole run in a process of its own, on one thread: search, derive, train from
scratch, test. The controls (random architectures of the space, a residual network of about equal
parameters) are trained once a seed, on the same budget. Larger data sets are cut to a stratified subset
of the training images (--images), the test part stays whole.

    python benchmarks/accuracy.py --data digits
    python benchmarks/accuracy.py --data cifar10 --data-path DIR --images 4000 search.epochs=8 …
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import record

METHODS = ("snas", "darts", "gdas", "random", "darts-2nd")


def subset(name: str, path: str | None, images: int, target: Path) -> None:
    """The first `images` training images, as many of each class, and the whole test part, as .npz."""
    from archgrad.datasets.loading import load

    data = load(name, path)
    assert data.test is not None
    labels = data.train.labels
    each = images // len(data.classes)
    chosen = torch.cat([(labels == c).nonzero().flatten()[:each] for c in range(len(data.classes))])

    def arrays(source: Any, indices: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        pixels = source.fetch(indices).permute(0, 2, 3, 1).numpy()
        return pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels, source.labels[indices].numpy()

    x, y = arrays(data.train, chosen.sort().values)
    x_test, y_test = arrays(data.test, torch.arange(len(data.test)))
    np.savez(target, x_train=x, y_train=y, x_test=x_test, y_test=y_test)


def one(arguments: argparse.Namespace, method: str, seed: int, controls: int) -> dict[str, Any]:
    """One run, in this process; printed as JSON."""
    from archgrad.config_layers import merge, overrides
    from archgrad.verbs import derive_run, search_run, train_run

    settings = merge(
        {"method": method, "seed": seed, "device": {"threads": 1}, "space": {"name": arguments.space}},
        {"data": {"name": arguments.data}}
        if arguments.subset is None
        else {"data": {"name": "npz", "path": arguments.subset, "flip": arguments.data != "digits"}},
        overrides(arguments.overrides),
    )
    if method == "random":  # it trains no logits, so it refuses what only they need
        settings.get("cost", {}).pop("strength", None)
        settings.get("search", {}).pop("warmup_epochs", None)
    with tempfile.TemporaryDirectory() as folder:
        run = search_run(settings, Path(folder) / "run")
        peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
        lines = run.read_lines("metrics.jsonl")
        derivation = derive_run(run.folder)
        trained = train_run(run.folder, controls=controls)
        config = run.read_config()
    steps = lines[-1]["step"]
    return {
        "method": method,
        "seed": seed,
        "test_accuracy": trained.derived["test_accuracy"],
        "parameters": trained.derived["parameters"],
        "macs": trained.derived["macs"],
        "architecture": dict(derivation.architecture),
        "entropy_start": lines[0]["entropy_mean"],
        "entropy_end": lines[-1]["entropy_mean"],
        "skip_share": derivation.skip_share,
        "search_seconds": sum(line["seconds"] for line in lines),
        "search_step_seconds": sum(line["seconds"] for line in lines) / steps,
        "search_peak_mb": int(peak.split()[1]) / 1024,
        "train_seconds": trained.derived["seconds"],
        "controls": [
            {key: c[key] for key in ("name", "kind", "test_accuracy", "parameters", "seconds")}
            for c in trained.controls
        ],
        "search": config["search"],
        "train": config["train"],
        "space": config["space"],
    }


def spread(values: list[float]) -> dict[str, float | int]:
    """n, mean and standard deviation."""
    return {
        "n": len(values),
        "mean": statistics.mean(values),
        "std": statistics.stdev(values) if len(values) > 1 else 0.0,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--data-path")
    parser.add_argument("--images", type=int, help="cut the training images to this many")
    parser.add_argument("--space", default="nasbench201")
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--controls", type=int, default=3, help="random architectures a seed")
    parser.add_argument("--once", nargs="*", default=[], help="methods that get one seed only")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--record", help="name of the result; default accuracy_<data>")
    parser.add_argument("--one", nargs=3, metavar=("METHOD", "SEED", "CONTROLS"), help=argparse.SUPPRESS)
    parser.add_argument("--subset", help=argparse.SUPPRESS)
    arguments, rest = parser.parse_known_args()
    arguments.overrides = rest
    if arguments.one:
        method, seed, controls = arguments.one
        print(json.dumps(one(arguments, method, int(seed), int(controls))))
        return

    with tempfile.TemporaryDirectory() as folder:
        base = [sys.executable, __file__, "--data", arguments.data, "--space", arguments.space]
        if arguments.images:
            file = Path(folder) / "subset.npz"
            subset(arguments.data, arguments.data_path, arguments.images, file)
            base += ["--subset", str(file)]

        def launch(job: tuple[str, int]) -> dict[str, Any]:
            method, seed = job
            controls = arguments.controls if method == arguments.methods[0] else 0
            command = [*base, "--one", method, str(seed), str(controls), *rest]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
            if done.returncode:
                raise SystemExit(f"{method}, seed {seed}: {done.stderr}")
            result: dict[str, Any] = json.loads(done.stdout)
            print(f"{method:<10} seed {seed}  {result['test_accuracy']:.2%}", file=sys.stderr, flush=True)
            return result

        jobs = [
            (method, seed)
            for seed in range(arguments.seeds)
            for method in arguments.methods
            if seed == 0 or method not in arguments.once
        ]
        with ThreadPoolExecutor(arguments.jobs) as pool:
            runs = list(pool.map(launch, jobs))

    controls = [c for run in runs for c in run["controls"]]
    rows = {}
    for method in arguments.methods:
        mine = [run for run in runs if run["method"] == method]
        rows[method] = {
            key: spread([run[key] for run in mine])
            for key in (
                "test_accuracy",
                "parameters",
                "entropy_start",
                "entropy_end",
                "skip_share",
                "search_seconds",
                "search_step_seconds",
                "search_peak_mb",
                "train_seconds",
            )
        }
    for kind in ("random", "residual"):
        mine = [c for c in controls if c["kind"] == kind]
        if mine:
            rows[f"control: {kind}"] = {
                key: spread([c[key] for c in mine]) for key in ("test_accuracy", "parameters", "seconds")
            }
    for name, row in rows.items():
        accuracy = row["test_accuracy"]
        print(
            f"{name:<18} {accuracy['mean']:.2%} ± {accuracy['std']:.2%} (n={accuracy['n']})"
            f"  {row['parameters']['mean']:,.0f} parameters"
        )
    record(
        arguments.record or f"accuracy_{arguments.data}",
        {
            "data": arguments.data,
            "training_images": arguments.images or "all",
            "jobs_at_once": arguments.jobs,
            "overrides": rest,
            "rows": rows,
            "runs": runs,
        },
    )


if __name__ == "__main__":
    main()
