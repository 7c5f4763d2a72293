# ruff: noqa: E501 - the lines are sentences of the README
"""The result tables of the documents, from benchmarks/results: prints them, or puts them there with --write."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
README = Path(__file__).resolve().parent.parent / "README.md"
CHOOSING = README.parent / "docs" / "choosing.md"
BEGIN, END = "<!-- results: begin", "<!-- results: end -->"
NAMES = {
    "digits": "digits",
    "digits_more": "digits, more methods",
    "fashion-mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10",
}


def percent(row: dict[str, Any]) -> str:
    """Mean ± standard deviation (n) of fractions."""
    value = row["test_accuracy"]
    spread = f" ± {100 * value['std']:.2f}" if value["n"] > 1 else ""
    return f"{100 * value['mean']:.2f}{spread} ({value['n']})"


def _controls_last(row: str) -> bool:
    return row.startswith("control")


def load(name: str) -> dict[str, Any] | None:
    """A kept result, or None."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def source(name: str, result: dict[str, Any]) -> str:
    """Where a number comes from."""
    return (
        f"[{name}.json](benchmarks/results/{name}.json), {result['date']}, commit {result['commit'][:7]}, "
        f"{result['hardware']['cores']} cores {result['hardware']['cpu']}"
    )


def accuracy() -> list[str]:
    """Methods × data sets."""
    results = {data: r for data in NAMES if (r := load(f"accuracy_{data}"))}
    if not results:
        return []
    rows = sorted(dict.fromkeys(row for r in results.values() for row in r["rows"]), key=_controls_last)
    lines = [
        "Test accuracy of the derived network, trained from scratch, in percent: mean ± standard deviation (n)."
    ]
    lines += ["", "| | " + " | ".join(NAMES[d] for d in results) + " |", "|---" * (len(results) + 1) + "|"]
    for row in rows:
        cells = [percent(r["rows"][row]) if row in r["rows"] else "" for r in results.values()]
        lines.append(f"| `{row}` | " if not row.startswith("control") else f"| {row} | ")
        lines[-1] += " | ".join(cells) + " |"
    lines.append("")
    for data, result in results.items():
        run = result["runs"][0]
        space = {k: v for k, v in run["space"].items() if k in ("name", "channels", "cells")}
        lines.append(
            f"- {NAMES[data]}: {result['training_images']} training images, space {space['name']} with "
            f"C={space['channels']} and {space['cells']} cell(s) a stage in the search, C={run['train']['space']['channels']} "
            f"in training, {run['train']['epochs']} epochs; {source(f'accuracy_{data}', result)}."
        )
    return lines


def costs() -> list[str]:
    """Search step and memory by method; of results that were measured two runs at a time."""
    results = {data: r for data in NAMES if (r := load(f"accuracy_{data}")) and r["jobs_at_once"] == 2}
    methods = dict.fromkeys(m for r in results.values() for m in r["rows"] if not _controls_last(m))
    lines = ["", "A search step on one thread, two runs at a time, and the peak memory of the process:", ""]
    lines += ["| | " + " | ".join(NAMES[data] for data in results) + " |", "|---" * (len(results) + 1) + "|"]
    for method in methods:
        rows = [r["rows"].get(method) for r in results.values()]
        cells = [
            f"{1000 * r['search_step_seconds']['mean']:.0f} ms, {r['search_peak_mb']['mean']:.0f} MB"
            if r
            else ""
            for r in rows
        ]
        lines.append(f"| `{method}` | " + " | ".join(cells) + " |")
    return lines if results else []


def laboratory() -> list[str]:
    """Regret of methods on landscapes."""
    if not (result := load("lab_methods")):
        return []
    columns = {name: kept["searches"]["outcomes"] for name, kept in result["landscapes"].items()}
    methods = [row["name"] for row in next(iter(columns.values()))]
    lines = [
        "",
        f"`archgrad lab`: regret of the derived cell in points of accuracy, mean ± standard error of {result['seeds']} searches of {result['steps']} steps, Adam with learning rate 0.05; {source('lab_methods', result)}.",
        "",
        "| | " + " | ".join(columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for method in methods:
        rows = [next(r for r in outcomes if r["name"] == method) for outcomes in columns.values()]
        cells = [f"{100 * r['regret']:.3f} ± {100 * r['regret_error']:.3f}" for r in rows]
        lines.append(f"| `{method}` | " + " | ".join(cells) + " |")
    control = [kept["landscape"].get("regret_of_random") for kept in result["landscapes"].values()]
    if None not in control:
        lines.append("| control: random | " + " | ".join(f"{100 * c:.3f}" for c in control) + " |")
    return lines


def speed() -> list[str]:
    """Ratios measured side by side."""
    lines = [""]
    if result := load("straight_through"):
        for layout, r in result["layouts"].items():
            time, memory = r["time_ratio"], r["memory_ratio"]
            lines.append(
                f"- Straight-through step against one concrete network (DARTS C=16, 8 cells, batch 64, "
                f"{layout.replace('_', '-')}): weights ×{time['weights']['median']:.2f} time, "
                f"×{memory['weights']['median']:.2f} memory; architecture ×{time['architecture']['median']:.2f} and "
                f"×{memory['architecture']['median']:.2f} (medians, n={time['weights']['n']}); "
                f"{source('straight_through', result)}."
            )
    if result := load("loop_overhead"):
        for name, r in result["cases"].items():
            lines.append(
                f"- The search loop against bare steps, {name}: ×{r['loop_over_bare']['median']:.3f} "
                f"(quartiles {r['loop_over_bare']['lower_quartile']:.3f}-{r['loop_over_bare']['upper_quartile']:.3f}, "
                f"n={r['loop_over_bare']['n']}); {source('loop_overhead', result)}."
            )
    if result := load("layout_precision"):
        for name, r in result["cases"].items():
            shown = ", ".join(f"{v} ×{q['median']:.2f}" for v, q in list(r["ratio"].items())[1:])
            lines.append(
                f"- Time against contiguous float32, {name}: {shown}; {source('layout_precision', result)}."
            )
    return lines if len(lines) > 1 else []


def searches_by_sampler() -> list[str]:
    """Regret of samplers on landscapes."""
    if not (result := load("lab_samplers")):
        return []
    columns = {name: kept["searches"]["outcomes"] for name, kept in result["landscapes"].items()}
    first = sorted(next(iter(columns.values())), key=lambda row: row["regret"])
    lines = [
        f"Regret of the derived cell in points of 0.01 loss, mean ± standard error of {result['seeds']} searches of {result['steps']} steps; {link('lab_samplers')}.",
        "",
        "| | " + " | ".join(columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for name in (row["name"] for row in first):
        rows = [next((r for r in outcomes if r["name"] == name), None) for outcomes in columns.values()]
        cells = [f"{100 * r['regret']:.3f} ± {100 * r['regret_error']:.3f}" if r else "" for r in rows]
        lines.append(f"| {named(name)} | " + " | ".join(cells) + " |")
    return [*lines, ""]


SHOWN = ("constant:1", "linear:1:0.03", "linear:10:0.1", "cosine:10:0.1", "exponential:10:0.1")


def schedules() -> list[str]:
    """The best schedule by landscape and sampler, beside some of interest."""
    if not (result := load("lab_schedules")):
        return []
    lines = [
        f"Regret as above by schedule of τ, {result['seeds']} searches each; the best of 17 schedules and five of interest; {link('lab_schedules')}.",
        "",
        "| landscape | sampler | best | regret | " + " | ".join(f"`{s}`" for s in SHOWN) + " |",
        "|---" * (4 + len(SHOWN)) + "|",
    ]
    for landscape, kept in result["landscapes"].items():
        outcomes = {tuple(o["name"].split(" · ")): o for o in kept["schedules"]["outcomes"]}
        for sampler in dict.fromkeys(name[0] for name in outcomes):
            mine = {name[1]: o for name, o in outcomes.items() if name[0] == sampler}
            best = min(mine, key=lambda schedule: mine[schedule]["regret"])
            cells = [
                f"{100 * mine[s]['regret']:.3f} ± {100 * mine[s]['regret_error']:.3f}" for s in (best, *SHOWN)
            ]
            lines.append(f"| {landscape} | `{sampler}` | `{best}` | " + " | ".join(cells) + " |")
    return [*lines, ""]


def estimators() -> list[str]:
    """Bias, variance and cosine at leaning logits."""
    if not (result := load("lab_estimators")):
        return []
    views = {
        "all gates": "NAS-Bench-201, CIFAR-10",
        "gates of what ran": "NAS-Bench-201, CIFAR-10, gates of what ran",
    }
    columns = {
        view: {r["name"]: r for r in result["landscapes"][name]["estimators"] if r["point"] == "leaning"}
        for view, name in views.items()
    }
    lines = [
        f"Bias, variance and cosine of a single draw against the exact gradient, at standard normal logits and τ = 1 on NAS-Bench-201, {result['draws']:,} draws; {link('lab_estimators')}.",
        "",
        "| | " + " | ".join(columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for name in next(iter(columns.values())):
        rows = [column.get(name) for column in columns.values()]
        cells = [f"{r['bias']:.2f}, {r['variance']:.3g}, {r['cosine']:.2f}" if r else "" for r in rows]
        lines.append(f"| {named(name)} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def link(name: str) -> str:
    """A result as the documents link it."""
    return f"[{name}.json](../benchmarks/results/{name}.json)"


def named(contender: str) -> str:
    """A contender's name as code, its parts apart."""
    return " · ".join(f"`{part}`" for part in contender.split(" · "))


def blocks() -> dict[Path, str]:
    """What stands between the marks, by document."""
    return {
        README: "\n".join([*accuracy(), *costs(), *laboratory(), *speed()]),
        CHOOSING: "\n".join([*searches_by_sampler(), *schedules(), *estimators()]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    write = parser.parse_args().write
    for document, block in blocks().items():
        if not write:
            print(f"==> {document.name}\n{block}")
            continue
        text = document.read_text(encoding="utf-8")
        head, rest = text.split(BEGIN, 1)
        opening, rest = rest.split("-->", 1)
        _, tail = rest.split(END, 1)
        document.write_text(f"{head}{BEGIN}{opening}-->\n{block}\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
