"""The verb ``archgrad latency``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from archgrad.cli_shared import AS_JSON, progress, show
from archgrad.errors import UserError


@click.command()
@click.argument("words", nargs=-1, metavar="[RUN] [SECTION.KEY=VALUE]...")
@click.option("--space", help="The networks of a space, as they are trained; or give a run.")
@click.option("--data", help="A data set: its image size and classes, and networks as `search` sizes them.")
@click.option("--data-path", help="Likewise, where the data are.")
@click.option("--config", type=click.Path(path_type=Path), help="Likewise, a file of settings.")
@click.option("--size", help="Of an image in pixels, or C×H×W as in 1x28x28; default 32.")
@click.option("--classes", type=click.IntRange(min=1), help="Default 10.")
@click.option("--backend", default="torch", show_default=True, help="torch or onnxruntime.")
@click.option("--device", default="cpu", show_default=True, help="cpu, or cuda with --backend torch.")
@click.option("--threads", default="1", show_default=True, help="A number, or all.")
@click.option(
    "--clock", default="wall", show_default=True, help="wall, or processor on a busy machine (one thread)."
)
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Images at once.")
@click.option("--precision", default="fp32", show_default=True, help="fp32, or bf16 with --backend torch.")
@click.option("--rounds", type=click.IntRange(min=4), default=20, show_default=True, help="Of readings.")
@click.option(
    "--drift", type=float, default=0.1, show_default=True, help="Share that the machine's speed may be off."
)
@click.option(
    "--validate", type=click.IntRange(min=0), default=0, help="Compare with N random networks measured whole."
)
@click.option("--predictor", help="ridge or boosting: learned from the networks measured whole.")
@click.option("--out", type=click.Path(path_type=Path), help="The table's file.")
@click.option("--again", is_flag=True, help="Measure anew what the file holds.")
@click.option("--kit", type=click.Path(path_type=Path), help="Write a folder to measure on another device.")
@click.option("--check", help="Read a table back, or nasbench201:DEVICE.")
@click.option("--derived", is_flag=True, help="Measure the derived network of RUN whole, as its table was.")
@AS_JSON
@click.pass_context
def latency(
    context: click.Context,
    words: tuple[str, ...],
    space: str | None,
    data: str | None,
    data_path: str | None,
    config: Path | None,
    size: str | None,
    classes: int | None,
    backend: str,
    device: str,
    threads: str,
    clock: str,
    batch: int,
    precision: str,
    rounds: int,
    drift: float,
    validate: int,
    predictor: str | None,
    out: Path | None,
    again: bool,
    kit: Path | None,
    check: str | None,
    derived: bool,
    as_json: bool,
) -> None:
    """Measure each candidate of a space on this machine once, and write a table of them.

    What was measured is kept, also by a stop: the same command goes on. A table is of one device, one space
    and one image size, and is refused elsewhere.

    With --data, --data-path or --config the words are those of archgrad search, and the networks those that
    it would train; with --space alone space.KEY=VALUE are their settings.

    \b
    Example:
      archgrad latency --space nasbench201 --size 32 --validate 50 --out table.json
      archgrad latency --config photos.yaml --validate 30 --out table.json
      archgrad latency runs/first --backend onnxruntime --threads all --out table.json
      archgrad latency --space mobile --size 224 space.reductions=5 --kit kit
      archgrad latency --check nasbench201:pixel3
      archgrad latency runs/first --derived
    """
    from archgrad.latency.published import PREFIX
    from archgrad.latency.report import latency_document, latency_text, published_document, published_text
    from archgrad.latency.table import LatencyTable
    from archgrad.verbs import latency as verb

    runs = [word for word in words if "=" not in word]
    pairs = [word for word in words if "=" in word]
    of_data = (data, data_path, config) != (None, None, None)
    if sum((bool(runs), space is not None or of_data, check is not None)) != 1 or len(runs) > 1:
        raise UserError(
            "give a run folder, a space, data or a table, one of them:  archgrad latency RUN --out table.json"
            "  ,  archgrad latency --space nasbench201 --out table.json  ,  archgrad latency --data-path "
            "photos --out table.json  ,  archgrad latency --check table.json"
        )
    if check is not None:
        if pairs:
            raise UserError(f"a table has its settings: leave out {' '.join(pairs)}")
        if check.startswith(PREFIX):
            document = published_document(check)
            show(document, as_json, published_text(document))
            return
        document = latency_document(LatencyTable.read(check))
        show(document, as_json, latency_text(document))
        return
    if derived:
        from archgrad.verbs.latency_whole import derived_text, measure_derived

        if not runs or {size, classes, out, kit, predictor} != {None} or pairs or validate or again:
            raise UserError(
                "--derived measures the network of a run:  archgrad latency RUN --derived  , with at most "
                "--backend, --device, --threads, --clock, --batch, --precision, --rounds and --drift"
            )
        document = measure_derived(runs[0], _given(context), progress())
        show(document, as_json, derived_text(document))
        return
    if (out is None) == (kit is None):
        raise UserError("say where to:  --out table.json  to measure here, or  --kit FOLDER  for elsewhere")
    if runs and (size, classes, pairs) != (None, None, []):
        raise UserError(
            "a run says its own sizes and settings: leave out --size, --classes and space.KEY=VALUE"
        )
    if of_data and (size, classes) != (None, None):
        raise UserError("the data say their own sizes: leave out --size and --classes")
    if runs:
        target = verb.target_of_run(runs[0])
    elif of_data:
        target = verb.target_of_data(_as_search(space, data, data_path, config, pairs))
    else:
        target = verb.target_of_words(str(space), size, classes, pairs)
    how = verb.How(backend, threads, batch, precision, device, clock, rounds, drift)
    if kit is not None:
        manifest = verb.write_latency_kit(target, kit, batch=batch, validate=validate, progress=progress())
        count = len(manifest["pieces"]) + len(manifest["whole"])
        show(
            {"kit": str(kit), "models": count},
            as_json,
            f"wrote {kit}: {count} models\n"
            "on the device, with onnxruntime and numpy:  python measure.py --out table.json",
        )
        return
    assert out is not None
    table = verb.measure_latency(
        target, out, how, validate=validate, predictor=predictor, again=again, progress=progress()
    )
    document = latency_document(table, verb.derived(runs[0]) if runs else None)
    show(document, as_json, f"{latency_text(document)}\nwrote {out}")


def _as_search(
    space: str | None, data: str | None, data_path: str | None, config: Path | None, pairs: list[str]
) -> dict[str, Any]:
    """The settings that ``archgrad search`` makes of the same words."""
    from archgrad.config_layers import merge, overrides, read

    where = {key: value for key, value in (("name", data), ("path", data_path)) if value is not None}
    return merge(
        read(config) if config else {},
        {"space": {"name": space}} if space else {},
        {"data": where} if where else {},
        overrides(pairs),
    )


def _given(context: click.Context) -> dict[str, Any]:
    """What the command line says of how to measure, without defaults."""
    names = ("backend", "device", "threads", "clock", "batch", "precision", "rounds", "drift")
    typed = click.core.ParameterSource.DEFAULT
    return {name: context.params[name] for name in names if context.get_parameter_source(name) != typed}
