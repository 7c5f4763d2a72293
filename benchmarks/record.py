"""Keep a measurement with what is needed to read it later: date, commit, hardware, versions.

`record("data_path", {...})` writes benchmarks/results/data_path.json. `measure` repeats a function
and summarises the repeats.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from archgrad.atomic import write_text

RESULTS = Path(__file__).resolve().parent / "results"


def measure(work: Callable[[], object], repeats: int, warm_up: int = 1) -> dict[str, float | int]:
    """Wall seconds of `work()`: n (repeats), median, and spread as quartiles, least and largest.

    repeats: at least 2; `warm_up` calls before them are not counted.
    """
    for _ in range(warm_up):
        work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return summary(seconds)


def summary(values: list[float]) -> dict[str, float | int]:
    """n, median, lower and upper quartile, least and largest of at least two values."""
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
    return {
        "n": len(values),
        "median": median,
        "lower_quartile": lower,
        "upper_quartile": upper,
        "min": min(values),
        "max": max(values),
    }


def record(name: str, payload: Mapping[str, Any], folder: Path = RESULTS) -> Path:
    """Write `payload` with date, commit and machine to ``<folder>/<name>.json``; returns the path.

    The commit gets "+changes" when tracked files differ from it, so that a number cannot be taken for
    one of that commit. No host or user name is written.
    """
    import torch

    kept = {
        "date": datetime.date.today().isoformat(),
        "commit": _commit(),
        "hardware": {
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "load_average": round(os.getloadavg()[0], 2),
            "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "threads": torch.get_num_threads(),
        **payload,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    write_text(path, json.dumps(kept, indent=2) + "\n")
    print(f"wrote {path.name}", file=sys.stderr)
    return path


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def _commit() -> str | None:
    """The commit's hash; None outside a git checkout."""
    try:
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":/src", ":/benchmarks/*.py")
        return _git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _cpu() -> str:
    """The processor's model name, where the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
