"""Counts of all published cells on CIFAR-10 and ImageNet, how long a count takes, and drawings of the cells.

Writes benchmarks/results/genotype_counts.json; with --draw only the drawings in docs/images/cells, with
--write only the table in docs/genotypes.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from record import RESULTS, record, summary

from archgrad.choice import concrete
from archgrad.costs.network_counts import count_module, count_network
from archgrad.genotypes import published
from archgrad.spaces.cell import DartsNetwork
from archgrad.verbs.count import NETWORKS, count_genotype
from archgrad.verbs.draw import draw_genotype

DOCUMENT = RESULTS.parent.parent / "docs" / "genotypes.md"
DRAWINGS = DOCUMENT.parent / "images" / "cells"
BEGIN, END = "<!-- results: begin", "<!-- results: end -->"
PARTS = ("parameters", "parameters_with_auxiliary", "macs", "traffic_bytes", "notes")


def counts() -> dict[str, Any]:
    """By cell and network."""
    return {
        name: {
            network: {key: value for key, value in count_genotype(name, network).items() if key in PARTS}
            for network, known in NETWORKS.items()
            if known.space == cell.genotype.space and not set(cell.genotype.settings()) & {"concat"}
        }
        for name, cell in published().items()
    }


def measure(work: Callable[[], object], repeats: int) -> dict[str, float | int]:
    """Processor seconds of `work()` on one thread, after a call that fills the memory of candidates."""
    work()
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return summary(seconds)


def speed(repeats: int) -> dict[str, Any]:
    """Processor seconds of a count of DARTS_V2 in a warm process, and of a dry run of the whole network."""
    genotype = published()["DARTS_V2"].genotype.architecture()
    found: dict[str, Any] = {}
    for network in ("cifar", "imagenet"):
        known = NETWORKS[network]
        arguments = ((3, known.size, known.size), known.classes)
        whole = partial(concrete, DartsNetwork, genotype, *arguments, **known.settings)
        found[network] = {
            "count_network": measure(
                partial(count_network, DartsNetwork, genotype, *arguments, known.settings), repeats
            ),
            "dry_run": measure(partial(count_module, whole, arguments[0]), max(5, repeats // 4)),
        }
    return found


def table(result: dict[str, Any]) -> list[str]:
    """The counts as lines of Markdown."""
    lines = [
        "| | CIFAR-10 parameters | M MACs | MB moved | ImageNet parameters | M MACs | MB moved |",
        "|---" * 7 + "|",
    ]
    for name, networks in result["counts"].items():
        if "cifar" not in networks:
            continue
        cells = []
        for network in ("cifar", "imagenet"):
            row = networks[network]
            cells += [
                f"{row['parameters']:,}",
                f"{row['macs'] / 1e6:.2f}",
                f"{row['traffic_bytes'] / 1e6:.1f}",
            ]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    lines += [
        "",
        (
            "C=36 and 20 cells on CIFAR-10, C=48 and 14 cells on ImageNet; parameters without the auxiliary "
            "head, which has 476,426 and 1,260,776 where four nodes are joined."
        ),
        "",
    ]
    for name, networks in result["counts"].items():
        lines += [
            f"- `{name}`, {network}: {note}." for network, row in networks.items() for note in row["notes"]
        ]
    for network, row in result["processor_seconds"].items():
        fast, slow = row["count_network"], row["dry_run"]
        lines.append(
            f"- A count of `DARTS_V2`, {network}, processor time: median {1000 * fast['median']:.0f} ms "
            f"(least {1000 * fast['min']:.0f}, n={fast['n']}), a dry run of the whole network "
            f"{1000 * slow['median']:.0f} ms (n={slow['n']}), one thread."
        )
    source = (
        f"[genotype_counts.json](../benchmarks/results/genotype_counts.json), {result['date']}, commit "
        f"{result['commit'][:7]}, {result['hardware']['cores']} cores {result['hardware']['cpu']}, load "
        f"average {result['hardware']['load_average']}"
    )
    return [*lines, "", f"From {source}."]


def block() -> str:
    """What stands between the marks of docs/genotypes.md."""
    return "\n".join(table(json.loads((RESULTS / "genotype_counts.json").read_text("utf-8"))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=31)
    parser.add_argument("--write", action="store_true", help="only put the kept result into the document")
    parser.add_argument("--show", action="store_true", help="only print what --write would put there")
    parser.add_argument("--draw", action="store_true", help="only draw the cells")
    given = parser.parse_args()
    if given.draw:
        for name in published():
            draw_genotype(name, DRAWINGS / f"{name}.svg")
    elif given.show:
        print(block())
    elif not given.write:
        import torch

        torch.set_num_threads(1)
        record("genotype_counts", {"counts": counts(), "processor_seconds": speed(given.repeats)})
    if given.write:
        text = DOCUMENT.read_text(encoding="utf-8")
        head, rest = text.split(BEGIN, 1)
        opening, rest = rest.split("-->", 1)
        _, tail = rest.split(END, 1)
        DOCUMENT.write_text(f"{head}{BEGIN}{opening}-->\n{block()}\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
