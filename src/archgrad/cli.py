"""The command line: verbs named after the files. Results on standard output, progress on standard error.

Exit codes: 0 done, 1 failed while working (or stopped by a signal), 2 wrong input.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from archgrad import __version__
from archgrad.cli_cells import count, draw
from archgrad.cli_channels import channels
from archgrad.cli_derive import derive
from archgrad.cli_doctor import doctor
from archgrad.cli_experiment import compare, experiment
from archgrad.cli_latency import latency
from archgrad.cli_shared import AS_JSON, OVERRIDES, RUN, exported_text, of_search, searched
from archgrad.cli_shared import progress as _progress
from archgrad.cli_shared import show as _result
from archgrad.cli_sweep import sweep
from archgrad.cli_track import track, tracker_names
from archgrad.cli_watch import watch
from archgrad.errors import Stopped, UserError, WorkError


class Verbs(click.Group):
    """Turns our errors into messages and exit codes."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a verb."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            _fail(str(error), 2)
        except (WorkError, Stopped) as error:
            _fail(str(error), 1)
        except OSError as error:
            if error.filename is None:  # not about a file that the user could name otherwise
                raise
            _fail(f"cannot read or write {error.filename}: {error.strerror}", 2)
        except KeyboardInterrupt:
            _fail("stopped", 1)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of use."""
        return list(self.commands)


def _fail(message: str, code: int) -> NoReturn:
    click.echo(f"archgrad: {message}", err=True)
    sys.exit(code)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="archgrad")
def main() -> None:
    """Differentiable neural architecture search on PyTorch.

    A search makes a run folder; every other verb works on one. Start with:  archgrad demo
    """


@main.command()
@click.option("--run", "folder", type=click.Path(path_type=Path), required=True, help="The run folder.")
@of_search
@click.option("--budget", "budgets", multiple=True, help="E.g. macs=60M±3%, params=1M; may be repeated.")
@click.option("--resume", is_flag=True, help="Go on with the run from its newest checkpoint.")
@click.option("--track", "trackers", default="", help="Give each epoch to tensorboard,mlflow, too.")
@AS_JSON
@OVERRIDES
def search(
    folder: Path,
    method: str | None,
    space: str | None,
    data: str | None,
    data_path: str | None,
    seed: int | None,
    config: Path | None,
    budgets: tuple[str, ...],
    resume: bool,
    trackers: str,
    as_json: bool,
    overrides: tuple[str, ...],
) -> None:
    """Search an architecture: relax every choice, train the supernet, follow the gradient.

    \b
    Example:
      archgrad search --data digits --space nasbench201 --method gdas --run runs/first
      archgrad search --run runs/first --resume
      archgrad search --data cifar10 --space darts --method snas cost.strength=aggressive --run runs/small
      archgrad search --data digits --budget macs=1M±5% --budget params=50k --run runs/budget
    """
    from archgrad.summary import searched_text
    from archgrad.verbs import search_run

    given = searched(method, space, data, data_path, seed, config, overrides, budgets)
    names = tracker_names(trackers)
    run = search_run(given, folder, resume=resume, progress=_progress(), track=names)
    lines = run.read_lines("metrics.jsonl")
    last = lines[-1]
    document = {
        "run": str(run.folder),
        "epochs": len(lines),
        "valid_accuracy": last["valid_accuracy"],
        "entropy_mean": last["entropy_mean"],
        "architecture": last["architecture"],
        "best": run.read_json("best.json") if run.exists("best.json") else None,  # ended in its warm-up
        "seconds": sum(line["seconds"] for line in lines),
        "stopped": run.read_json("stopped.json") if run.exists("stopped.json") else None,
    }
    _result(
        document,
        as_json,
        f"searched {len(lines)} epochs in {document['seconds']:.0f} s: "
        f"{searched_text(last, text='text' in run.read_config())}\n"
        f"next: archgrad derive {run.folder}",
    )


main.add_command(derive)


@main.command()
@click.argument("run", required=False)
@click.option("--genotype", help="Not what a run derived, but a published cell, the text of one, or a file.")
@click.option("--data", help="With --genotype: data set by name; without it --data-path is looked at.")
@click.option("--data-path", help="With --genotype: where the data are.")
@click.option("--run", "folder", type=click.Path(path_type=Path), help="With --genotype: the run folder.")
@click.option("--seed", type=int, help="With --genotype: root of all random streams.")
@click.option(
    "--controls",
    type=click.IntRange(min=0),
    default=0,
    help="Also train N random architectures and a ResNet, on a text an LSTM.",
)
@click.option("--again", is_flag=True, help="Train anew what is trained already.")
@click.option("--inherit", is_flag=True, help="Begin with the supernet's weights, at the size of the search.")
@AS_JSON
@OVERRIDES
def train(
    run: str | None,
    genotype: str | None,
    data: str | None,
    data_path: str | None,
    folder: Path | None,
    seed: int | None,
    controls: int,
    again: bool,
    inherit: bool,
    as_json: bool,
    overrides: tuple[str, ...],
) -> None:
    """Train the derived network from scratch and test it, beside controls; or the network of a genotype.

    \b
    Example:
      archgrad train runs/first --controls 3 train.epochs=40
      archgrad train --genotype DARTS_V2 --data cifar10 --run runs/darts
    """
    from archgrad.cli_cells import genotype_folder
    from archgrad.config_layers import overrides as parse
    from archgrad.summary import trained_table
    from archgrad.verbs import train_run

    if genotype is None:
        if run is None or {data, data_path, folder, seed} != {None}:
            raise UserError(
                "give the run folder,  archgrad train RUN  , or a genotype with --genotype and --data"
            )
        place, given = Path(run), parse(list(overrides))
    else:
        pairs = [*([run] if run is not None else []), *overrides]
        place, given = genotype_folder(genotype, parse(pairs), data, data_path, folder, seed, inherit), {}
    trained = train_run(place, given, controls=controls, again=again, inherit=inherit, progress=_progress())
    text = f"{trained_table(trained.derived, trained.controls)}\nnext: archgrad export {place}"
    _result({"derived": trained.derived, "controls": trained.controls}, as_json, text)


@main.command()
@RUN
@click.option("--onnx/--no-onnx", default=True, help="Whether to write model.onnx, too.")
@AS_JSON
def export(run: Path, onnx: bool, as_json: bool) -> None:
    """Write the trained network as ONNX and as a folder that needs only PyTorch; check both.

    \b
    Example:
      archgrad export runs/first
    """
    from archgrad.verbs import export_run

    exported = export_run(run, onnx=onnx)
    _result(
        {
            "onnx": exported.onnx and {**exported.onnx._asdict(), "path": str(exported.onnx.path)},
            "standalone": {
                "folder": str(exported.standalone.folder),
                "files": [str(file) for file in exported.standalone.files],
                "largest_difference": exported.standalone.largest_difference,
            },
        },
        as_json,
        exported_text(exported),
    )


@main.command()
@RUN
@click.option("--out", type=click.Path(path_type=Path), help="Another file than RUN/report.html.")
@AS_JSON
def report(run: Path, out: Path | None, as_json: bool) -> None:
    """Write the report of a run, finished or not, as one HTML page that opens offline.

    \b
    Example:
      archgrad report runs/first
    """
    from archgrad.verbs import report_run

    path = report_run(run, out)
    _result({"report": str(path)}, as_json, f"wrote {path}")


main.add_command(doctor)
main.add_command(watch)
main.add_command(track)
main.add_command(channels)
main.add_command(count)
main.add_command(draw)
main.add_command(sweep)
main.add_command(experiment)
main.add_command(compare)
main.add_command(latency)


@main.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("lab"), show_default=True)
@click.option("--landscape", default="nasbench201", show_default=True, help="What is searched.")
@click.option("--methods", default="", help="Presets, e.g. snas,gdas,enas.")
@click.option("--samplers", default="", help="Samplers, e.g. reinmax,gumbel_rao(samples=5),my_module:Mine.")
@click.option("--hypergradients", default="", help="Combined with every sampler; default: first_order.")
@click.option("--schedules", default="", help="Of τ, e.g. constant:1,exponential:10:0.1.")
@click.option("--study", "studies", default="estimators,searches", show_default=True, help="Or schedules.")
@click.option("--seeds", type=click.IntRange(min=1), default=256, show_default=True, help="Searches each.")
@click.option("--steps", type=click.IntRange(min=1), default=400, show_default=True, help="Of each search.")
@click.option("--draws", type=click.IntRange(min=2), default=20_000, show_default=True, help="Per estimate.")
@click.option("--seed", type=int, default=0, show_default=True, help="Root of all random streams.")
@click.option(
    "--observe",
    type=click.Choice(["all", "active"]),
    default="all",
    show_default=True,
    help="Which gates have a gradient; active: those that ran, as in a network, the losses centred.",
)
@click.option(
    "--step-noise", type=click.FloatRange(min=0), default=0.0, help="Error of the loss at every step."
)
@AS_JSON
@OVERRIDES
def lab(
    out: Path,
    landscape: str,
    methods: str,
    samplers: str,
    hypergradients: str,
    schedules: str,
    studies: str,
    seeds: int,
    steps: int,
    draws: int,
    seed: int,
    observe: str,
    step_noise: float,
    as_json: bool,
    overrides: tuple[str, ...],
) -> None:
    """Measure estimators and searches on a landscape, where the exact gradient and the best are known.

    Keys of the sections landscape and noise are settings of these; those of architecture, regularizer and
    controller go to every contender that reads them.

    \b
    Example:
      archgrad lab --samplers straight_through,reinmax,gumbel_rao --seeds 1000
      archgrad lab --methods snas,gdas,enas noise.name=correlated noise.kendall_tau=0.5
      archgrad lab --study schedules --samplers straight_through --landscape deceptive landscape.choices=8
    """
    from archgrad.config_layers import overrides as parse
    from archgrad.lab.contenders import names
    from archgrad.lab.studies import LabSettings
    from archgrad.lab.tables import text
    from archgrad.verbs.lab import lab_run

    given = parse(list(overrides))
    sections = {key: given.pop(key, {}) for key in ("landscape", "noise")}
    for key, value in sections.items():
        if not isinstance(value, dict):
            raise UserError(f"write --{key} NAME, or {key}.KEY=VALUE for a setting; got {key}={value}")
    settings = LabSettings(
        methods=names(methods),
        samplers=names(samplers),
        hypergradients=names(hypergradients),
        schedules=names(schedules),
        landscape=landscape,
        landscape_settings=sections["landscape"],
        noise=sections["noise"] or None,
        seeds=seeds,
        steps=steps,
        draws=draws,
        seed=seed,
        studies=names(studies),
        observe="active" if observe == "active" else "all",
        step_noise=step_noise,
        overrides=given,
    )
    document = lab_run(settings, out, _progress())
    _result(
        document, as_json, f"{text(document)}\n\nwrote {out / 'lab.html'}, lab.json and the tables as CSV"
    )


@main.command(name="list")
@click.argument("family", required=False)
@AS_JSON
def list_(family: str | None, as_json: bool) -> None:
    """Name every method, space, sampler, hypergradient, landscape, cost, data set, rule, alarm and operation.

    \b
    Example:
      archgrad list samplers
    """
    from archgrad.catalogue import FAMILIES
    from archgrad.table import nearest

    if family is not None and family not in FAMILIES:
        raise UserError(f"unknown family {family!r}{nearest(family, FAMILIES)}; known: {', '.join(FAMILIES)}")
    chosen = {name: rows for name, rows in FAMILIES.items() if family in (None, name)}
    document = {
        name: [{"name": key, "sentence": row.sentence, "source": row.source} for key, row in rows.items()]
        for name, rows in chosen.items()
    }
    lines = []
    for name, rows in chosen.items():
        lines.append(f"{name}")
        for key, row in rows.items():
            lines.append(
                f"  {key:<18} {row.sentence}" + (f"\n  {'':<18} [{row.source}]" if row.source else "")
            )
    _result(document, as_json, "\n".join(lines))


@main.command()
@click.option(
    "--run", "folder", type=click.Path(path_type=Path), default=Path("runs/demo"), show_default=True
)
@click.option("--seed", type=int, default=0, show_default=True)
@AS_JSON
def demo(folder: Path, seed: int, as_json: bool) -> None:
    """The main job on real images (digits), two to three minutes: search, derive, train, export, report.

    An existing demo run is moved aside, not overwritten.

    \b
    Example:
      archgrad demo
    """
    from archgrad.demo import run_demo

    document, text = run_demo(folder, seed, _progress())
    _result(document, as_json, text)
