"""The verbs ``archgrad count`` and ``archgrad draw``: cells of the literature, or those of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from archgrad.cli_shared import AS_JSON, progress, show
from archgrad.errors import UserError

_RUN = click.argument("run", type=click.Path(path_type=Path), required=False)
_GENOTYPE = click.option("--genotype", help="A published cell by name, the text of one, or a file.")


def _one_of(run: Path | None, genotype: str | None, verb: str) -> None:
    if (run is None) == (genotype is None):
        raise UserError(
            f"give a run folder or a genotype, one of them:  archgrad {verb} RUN  or  archgrad {verb} "
            "--genotype DARTS_V2  (archgrad list genotypes)"
        )


@click.command()
@_RUN
@_GENOTYPE
@click.option(
    "--network", type=click.Choice(["cifar", "imagenet", "nasbench201", "ptb"]), help="Default: cifar."
)
@click.option("--channels", type=click.IntRange(min=1), help="Of the first cells; published: 36, 48, 16.")
@click.option("--cells", type=click.IntRange(min=1), help="Published: 20, 14, 5 a stage.")
@click.option("--classes", type=click.IntRange(min=1), help="Published: 10, 1000, 10; of a text its words.")
@click.option(
    "--size", type=click.IntRange(min=1), help="Side of an image in pixels; published: 32, 224, 32."
)
@AS_JSON
def count(
    run: Path | None,
    genotype: str | None,
    network: str | None,
    channels: int | None,
    cells: int | None,
    classes: int | None,
    size: int | None,
    as_json: bool,
) -> None:
    """Count parameters, multiply-adds and memory traffic of a network, without computing anything.

    Multiply-adds are those of convolutions and linear layers for one image. Memory traffic is what every
    layer reads and writes for one image, 4 bytes a number: inputs, output and weights.

    \b
    Example:
      archgrad count --genotype DARTS_V2 --network imagenet --json
    """
    from archgrad.verbs.count import count_genotype, count_run, count_text

    _one_of(run, genotype, "count")
    sizes = {"network": network, "channels": channels, "cells": cells, "classes": classes, "size": size}
    if run is not None and (given := [f"--{key}" for key, value in sizes.items() if value is not None]):
        raise UserError(f"a run says its own sizes: leave out {', '.join(given)}")
    if run is not None:
        document = count_run(run)
    else:
        assert genotype is not None
        document = count_genotype(
            genotype, network, channels=channels, cells=cells, classes=classes, size=size
        )
    show(document, as_json, count_text(document))


@click.command()
@_RUN
@_GENOTYPE
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The SVG file.")
@AS_JSON
def draw(run: Path | None, genotype: str | None, out: Path, as_json: bool) -> None:
    """Draw the cells of a genotype, or those that a run derived, as one SVG picture.

    \b
    Example:
      archgrad draw --genotype DARTS_V2 --out cell.svg
    """
    from archgrad.verbs.draw import draw_genotype, draw_run

    _one_of(run, genotype, "draw")
    path = draw_run(run, out) if run is not None else draw_genotype(str(genotype), out, progress())
    show({"drawing": str(path)}, as_json, f"wrote {path}")


def genotype_folder(
    genotype: str,
    settings: dict[str, Any],
    data: str | None,
    data_path: str | None,
    folder: Path | None,
    seed: int | None,
    inherit: bool = False,
) -> Path:
    """The run folder of ``archgrad train --genotype``, made or found."""
    from archgrad.config_layers import merge
    from archgrad.verbs.genotype import genotype_run

    if inherit:  # before a folder is made
        raise UserError("a genotype was not searched here, so there is no supernet: leave --inherit out")
    named = {key: value for key, value in (("name", data), ("path", data_path)) if value is not None}
    if not named and "data" not in settings:
        raise UserError(f"say what to train on:  archgrad train --genotype {genotype} --data cifar10")
    given = merge({"seed": seed} if seed is not None else {}, {"data": named} if named else {}, settings)
    return genotype_run(genotype, given, folder, progress=progress()).folder
