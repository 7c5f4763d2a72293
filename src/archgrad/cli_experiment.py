"""The verbs ``archgrad experiment`` and ``archgrad compare``."""

from __future__ import annotations

from pathlib import Path

import click

from archgrad.cli_shared import AS_JSON, OVERRIDES, progress, show


@click.command()
@click.option("--methods", required=True, help="Presets, e.g. darts,gdas or early=darts(search.epochs=10).")
@click.option("--schedules", default="", help="Of τ, e.g. constant:1,exponential:10:0.1; default: their own.")
@click.option("--seeds", type=click.IntRange(min=1), default=5, show_default=True, help="Runs of each.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The first.")
@click.option("--landscape", help="Search a landscape instead of networks, e.g. nasbench201.")
@click.option("--steps", type=click.IntRange(min=1), help="Of a search on a landscape.  [default: 400]")
@click.option("--observe", type=click.Choice(["all", "active"]), help="On a landscape; see archgrad lab.")
@click.option("--step-noise", type=click.FloatRange(min=0), help="On a landscape; see archgrad lab.")
@click.option("--data", help="Data set by name; without it --data-path is looked at.")
@click.option("--data-path", help="Where the data are.")
@click.option("--space", help="Search space, or 'module:object' of your own.")
@click.option("--train", is_flag=True, help="Train what is derived from scratch, and test it.")
@click.option("--jobs", type=click.IntRange(min=1), help="Processes at once; default: one a core.")
@click.option("--control/--no-control", default=True, help="Random search of equal budget as an arm.")
@click.option("--entropy", type=float, default=0.5, show_default=True, help="Of a converged run, at most.")
@click.option("--within", type=float, default=0.01, show_default=True, help="Of the best, for a success.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("experiment"), show_default=True)
@AS_JSON
@OVERRIDES
def experiment(
    methods: str,
    schedules: str,
    seeds: int,
    seed: int,
    landscape: str | None,
    steps: int | None,
    observe: str | None,
    step_noise: float | None,
    data: str | None,
    data_path: str | None,
    space: str | None,
    train: bool,
    jobs: int | None,
    control: bool,
    entropy: float,
    within: float,
    out: Path,
    as_json: bool,
    overrides: tuple[str, ...],
) -> None:
    """Compare methods: methods × schedules × seeds as one set of runs, with statistics and a control.

    Stop it as you like: the same command goes on, and does nothing twice. More seeds or methods can be
    added later.

    \b
    Example:
      archgrad experiment --methods darts,gdas,snas --landscape nasbench201 --seeds 20 --out experiments/table
      archgrad experiment --methods darts,gdas --data digits --seeds 3 search.epochs=10
    """
    from archgrad.errors import UserError
    from archgrad.experiment.plan import Plan
    from archgrad.experiment.sentences import text
    from archgrad.lab.contenders import names
    from archgrad.verbs.experiment import experiment_run

    of_landscape = {"--steps": steps, "--observe": observe, "--step-noise": step_noise}
    of_networks = {"--data": data, "--data-path": data_path, "--space": space, "--train": train or None}
    wrong = of_networks if landscape is not None else of_landscape
    given = [name for name, value in wrong.items() if value is not None]
    if given:
        other = "of networks" if landscape is not None else "of a landscape; give --landscape, too"
        raise UserError(f"{', '.join(given)}: an option of experiments {other}, or leave it out")
    settings, sections = _settings(overrides, landscape, data, data_path, space)
    plan = Plan(
        methods=names(methods),
        schedules=names(schedules),
        seeds=seeds,
        seed=seed,
        landscape=landscape,
        landscape_settings=sections["landscape"],
        noise=sections["noise"] or None,
        observe="active" if observe == "active" else "all",
        step_noise=step_noise or 0.0,
        **({} if steps is None else {"steps": steps}),
        settings=settings,
        train=train,
        control=control,
        entropy=entropy,
        within=within,
    )
    document = experiment_run(plan, out, jobs=jobs, progress=progress())
    show(document, as_json, f"{text(document)}\n\nwrote {out / 'experiment.html'}, experiment.json and CSV")


def _settings(
    overrides: tuple[str, ...],
    landscape: str | None,
    data: str | None,
    data_path: str | None,
    space: str | None,
) -> tuple[dict[str, object], dict[str, dict[str, object]]]:
    """The configuration's keys, and those of the landscape."""
    from archgrad.config_layers import merge
    from archgrad.config_layers import overrides as parse
    from archgrad.errors import UserError

    given = parse(list(overrides))
    sections = {key: given.pop(key, {}) for key in ("landscape", "noise")}
    for key, value in sections.items():
        if not isinstance(value, dict):
            raise UserError(f"write --{key} NAME, or {key}.KEY=VALUE for a setting; got {key}={value}")
        if value and landscape is None:
            raise UserError(f"{key}.{next(iter(value))}: a setting of a landscape; give --landscape, too")
    if landscape is not None:
        return given, sections
    named = {key: value for key, value in (("name", data), ("path", data_path)) if value is not None}
    given = merge(
        {"data": named} if named else {}, {"space": {"name": space}} if space is not None else {}, given
    )
    if not given.get("data"):
        raise UserError("what is to be searched? give --landscape nasbench201, or --data, e.g. --data digits")
    return given, sections


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@AS_JSON
def compare(folders: tuple[Path, ...], as_json: bool) -> None:
    """Compare runs: speed, accuracy and stability, with intervals where there are several seeds.

    A folder is that of a run, one that holds runs of several seeds, or that of an experiment, whose arms are
    then compared.

    \b
    Example:
      archgrad compare runs/first runs/second
      archgrad compare experiments/digits
    """
    from archgrad.verbs.compare import compare_folders, text

    document = compare_folders(folders)
    show(document, as_json, text(document))
