"""The verb ``archgrad channels``."""

from __future__ import annotations

from pathlib import Path

import click

from archgrad.cli_shared import AS_JSON, OVERRIDES, progress, show


@click.command()
@click.option("--run", "folder", type=click.Path(path_type=Path), required=True, help="The run folder.")
@click.option("--data", help="Data set by name; without it --data-path is looked at.")
@click.option("--data-path", help="Where the data are.")
@click.option("--keep", type=int, help="Keep so many channels: the likeliest to be open.")
@click.option("--threshold", type=float, help="Or: keep those open with this probability or more.")
@click.option("--strength", type=float, help="Nats that an open gate costs; default 0.03.")
@click.option(
    "--controls",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Random subsets to compare with, beside four other controls; 0 for no control.",
)
@click.option("--seed", type=int, help="Root of all random streams.")
@click.option("--onnx", is_flag=True, help="Also write export/model.onnx of the selected channels' network.")
@click.option("--again", is_flag=True, help="Forget what the folder holds and begin anew.")
@AS_JSON
@OVERRIDES
def channels(
    folder: Path,
    data: str | None,
    data_path: str | None,
    keep: int | None,
    threshold: float | None,
    strength: float | None,
    controls: int,
    seed: int | None,
    onnx: bool,
    again: bool,
    as_json: bool,
    overrides: tuple[str, ...],
) -> None:
    """Learn which frequencies of the images matter, and train a network on these alone, beside controls.

    Images become block-DCT channels with a random gate each; what stays open is kept. The same command goes
    on after a stop; with another --keep it trains the static networks only.

    \b
    Example:
      archgrad channels --data digits --run runs/frequencies --keep 12 train.epochs=20
      archgrad channels --data cifar10 --run runs/dct --keep 24 --controls 3 frequency.width=32
    """
    from archgrad.config_layers import merge
    from archgrad.config_layers import overrides as parse
    from archgrad.frequency.page import table
    from archgrad.verbs.channels import channels_run

    given = merge(
        {} if seed is None else {"seed": seed},
        {"data": {k: v for k, v in (("name", data), ("path", data_path)) if v is not None}},
        {} if strength is None else {"frequency": {"strength": strength}},
        parse(list(overrides)),
    )
    if not given["data"]:
        del given["data"]
    document = channels_run(
        folder,
        given,
        keep=keep,
        threshold=threshold,
        controls=controls,
        onnx=onnx,
        again=again,
        progress=progress(),
    )
    page = folder / f"selection-{len(document['channels'])}.html"
    show(document, as_json, f"{table(document)}\nwrote {page}, the same as .json and its heat map as .svg")
