"""The verb ``archgrad sweep``."""

from __future__ import annotations

from pathlib import Path

import click

from archgrad.cli_shared import AS_JSON, progress, show


@click.command()
@click.option("--budget", required=True, help="A range, e.g. macs=20M..200M or latency_ms_fpga=2ms..6ms.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("sweep"), show_default=True)
@click.option("--landscape", default="nasbench201", show_default=True, help="Whose true front is known.")
@click.option("--points", type=click.IntRange(min=2), default=8, show_default=True, help="Limits.")
@click.option("--method", default="snas", show_default=True, help="Preset.")
@click.option("--seeds", type=click.IntRange(min=1), default=20, show_default=True, help="Searches a limit.")
@click.option("--steps", type=click.IntRange(min=1), default=300, show_default=True, help="Of each search.")
@click.option(
    "--candidates",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    help="Cells evaluated at the end of a search: the most probable ones within the limit.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Root of all random streams.")
@AS_JSON
def sweep(
    budget: str,
    out: Path,
    landscape: str,
    points: int,
    method: str,
    seeds: int,
    steps: int,
    candidates: int,
    seed: int,
    as_json: bool,
) -> None:
    """Search under a range of budgets on a landscape, and measure the distance to its true front.

    \b
    Example:
      archgrad sweep --budget latency_ms_raspi4=10ms..60ms --points 6 --out sweeps/raspi4
      archgrad sweep --budget macs=20M..200M
    """
    from archgrad.verbs.sweep import sweep_landscape, text

    document = sweep_landscape(
        budget,
        out,
        landscape=landscape,
        points=points,
        method=method,
        seeds=seeds,
        steps=steps,
        candidates=candidates,
        seed=seed,
        progress=progress(),
    )
    show(document, as_json, f"{text(document)}\nwrote sweep.json, sweep.csv and sweep.svg to {out}")
