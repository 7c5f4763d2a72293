"""How well an additive table describes the devices that NAS-Bench-201's networks were measured on.

For each of the 27 devices: the table of least squared error over all 15,625 networks, its Kendall τ and
errors, and the same of a table fitted to 100 networks and judged by all. Nothing is timed here.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from record import RESULTS, record

from archgrad.architecture import NASBENCH201_CANDIDATES
from archgrad.choice import Group
from archgrad.landscapes.nasbench201 import EDGES, NASBench201
from archgrad.latency.models import Additive, Pieces, Quality, fit_ridge, one_hot, predict
from archgrad.latency.published import devices, published

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "latency.md"
BEGIN, END = "<!-- devices: begin", "<!-- devices: end -->"
NETWORKS = 100


def few(device: str, architectures: list[Any], chosen: list[Any], picked: np.ndarray) -> Quality:
    """A table from `NETWORKS` networks: ridge on what is chosen, around a line in the multiply-adds."""
    table = NASBench201.open()
    measured = table.column(f"latency_ms_{device}").astype(np.float64)
    names = tuple(f"cell/{edge}" for edge in EDGES)
    group = Group(NASBENCH201_CANDIDATES, names)
    flops = table.cube("flops_cifar10").astype(np.float64)
    edges = range(flops.ndim)
    rows = np.stack([flops.mean(axis=tuple(a for a in edges if a != e)) for e in edges])
    rows = (rows - rows.min(axis=1, keepdims=True)) / flops.max()
    works = np.array([[name not in ("none", "skip_connect") for name in NASBENCH201_CANDIDATES]] * len(EDGES))
    pieces = Pieces((group,), Additive(float(flops.min() / flops.max()), (rows,)), (works,))
    found = fit_ridge(pieces, [z[picked] for z in chosen], measured[picked])
    return Quality.of(predict(found, chosen), measured)


def results() -> dict[str, Any]:
    table = NASBench201.open()
    architectures = [table.architecture(i) for i in range(15_625)]
    group = Group(NASBENCH201_CANDIDATES, tuple(f"cell/{edge}" for edge in EDGES))
    none = Pieces((group,), Additive(0.0, (np.zeros((6, 5)),)), (np.zeros((6, 5), dtype=bool),))
    chosen = one_hot(none, architectures)
    picked = np.random.default_rng(0).choice(15_625, NETWORKS, replace=False)
    found = {}
    for device in devices():
        whole = published(device)
        found[device] = {
            "bounds_ms": list(whole.table.bounds()),
            "explained": whole.explained,
            "all": whole.quality._asdict(),
            "few": few(device, architectures, chosen, picked)._asdict(),
        }
        print(device, found[device], flush=True)
    return {"networks": NETWORKS, "devices": found}


def block() -> str:
    """What stands between the marks of docs/latency.md."""
    kept = json.loads((RESULTS / "latency_devices.json").read_text("utf-8"))
    lines = [
        f"| `nasbench201:` | ms | R² | Kendall τ | median error | from {kept['networks']}: τ | error |",
        "|---|---|---|---|---|---|---|",
    ]
    for device, row in kept["devices"].items():
        low, high = row["bounds_ms"]
        lines.append(
            f"| `{device}` | {low:.1f} to {high:.1f} | {row['explained']:.3f} | {row['all']['tau']:.3f} | "
            f"{row['all']['error']:.1%} | {row['few']['tau']:.3f} | {row['few']['error']:.1%} |"
        )
    source = "From [latency_devices.json](../benchmarks/results/latency_devices.json)"
    return "\n".join([*lines, "", f"{source}, commit {kept['commit'][:7]}."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="only put the kept result into the document")
    if not parser.parse_args().write:
        record("latency_devices", results())
        return
    text = DOCUMENT.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN, 1)
    opening, rest = rest.split("-->", 1)
    DOCUMENT.write_text(
        f"{head}{BEGIN}{opening}-->\n{block()}\n{END}{rest.split(END, 1)[1]}", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
