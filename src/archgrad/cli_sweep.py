"""The verb ``archgrad sweep``."""

from __future__ import annotations

from pathlib import Path

import click

from archgrad.cli_shared import AS_JSON, OVERRIDES, of_search, progress, refuse_given, searched, show
from archgrad.errors import UserError

_OF_LANDSCAPES = ("landscape", "out", "seeds", "steps", "candidates")
_OF_NETWORKS = ("space", "data", "data_path", "config", "controls", "inherit", "resume", "overrides")


@click.command()
@click.option(
    "--budget",
    "budgets",
    multiple=True,
    help="A range, e.g. macs=20M..200M or latency_ms_fpga=2ms..6ms; with --run others may hold besides.",
)
@click.option("--points", type=click.IntRange(min=2), help="Limits (8 on a landscape, 4 with --run).")
@click.option("--run", "folder", type=click.Path(path_type=Path), help="Train networks, in this folder.")
@of_search
@click.option("--controls", type=click.IntRange(min=0), help="With --run: random networks a limit (2).")
@click.option("--inherit", is_flag=True, help="With --run: train from the supernet's weights, at its size.")
@click.option("--resume", is_flag=True, help="With --run: go on; what is not given is as it was.")
@click.option("--landscape", help="Without --run: whose true front is known (nasbench201).")
@click.option("--out", type=click.Path(path_type=Path), default=Path("sweep"), show_default=True)
@click.option("--seeds", type=click.IntRange(min=1), default=20, show_default=True, help="Searches a limit.")
@click.option("--steps", type=click.IntRange(min=1), default=300, show_default=True, help="Of each search.")
@click.option(
    "--candidates",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    help="Cells evaluated at the end of a search: the most probable ones within the limit.",
)
@AS_JSON
@OVERRIDES
@click.pass_context
def sweep(
    context: click.Context,
    budgets: tuple[str, ...],
    points: int | None,
    folder: Path | None,
    method: str | None,
    space: str | None,
    data: str | None,
    data_path: str | None,
    seed: int | None,
    config: Path | None,
    controls: int | None,
    inherit: bool,
    resume: bool,
    landscape: str | None,
    out: Path,
    seeds: int,
    steps: int,
    candidates: int,
    as_json: bool,
    overrides: tuple[str, ...],
) -> None:
    """Search under a range of budgets, and show the front: of networks, or on a landscape.

    With --run networks are searched and trained, all from one warm-up of the supernet, beside random and
    scaled ones. Else it is NAS-Bench-201, where the true front is known.

    \b
    Example:
      archgrad sweep --data digits --budget macs=0.5M..3M --points 4 --run runs/front
      archgrad sweep --run runs/front --resume
      archgrad sweep --budget latency_ms_raspi4=10ms..60ms --points 6 --out sweeps/raspi4
      archgrad sweep --budget macs=20M..200M
    """
    if folder is not None:
        refuse_given(context, _OF_LANDSCAPES, "of a landscape; with --run networks are trained: leave it out")
        from archgrad.verbs import sweep_networks as networks

        document = networks.sweep_networks(
            budgets,
            folder,
            searched(method, space, data, data_path, seed, config, overrides),
            points=points,
            controls=controls,
            inherit=inherit or None,
            resume=resume,
            progress=progress(),
        )
        from archgrad.verbs.sweep_results import text as networks_text

        wrote = f"wrote sweep.json, sweep.csv and sweep.svg to {folder}"
        best = f"next: archgrad report {folder / document['limits'][-1]['run']}"
        show(document, as_json, f"{networks_text(document)}\n{wrote}\n{best}")
        return
    refuse_given(context, _OF_NETWORKS, "for networks that are trained; say where to with --run FOLDER")
    from archgrad.verbs.sweep import sweep_landscape, text

    if len(budgets) != 1:
        raise UserError("give one range of a cost, e.g. --budget macs=20M..200M")
    document = sweep_landscape(
        budgets[0],
        out,
        landscape=landscape or "nasbench201",
        points=points or 8,
        method=method or "snas",
        seeds=seeds,
        steps=steps,
        candidates=candidates,
        seed=seed or 0,
        progress=progress(),
    )
    show(document, as_json, f"{text(document)}\nwrote sweep.json, sweep.csv and sweep.svg to {out}")
