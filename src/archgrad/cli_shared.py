"""What every verb of the command line shares: arguments, progress, and how a result is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from archgrad.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from archgrad.progress import Progress

RUN = click.argument("run", type=click.Path(path_type=Path))
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
OVERRIDES = click.argument("overrides", nargs=-1, metavar="[SECTION.KEY=VALUE]...")


_OF_SEARCH = (
    click.option(
        "--method", help="Preset, e.g. darts, darts-2nd, snas, gdas, random (archgrad list methods)."
    ),
    click.option("--space", help="Search space, or 'module:object' of your own."),
    click.option("--data", help="Data set by name; without it --data-path is looked at."),
    click.option("--data-path", help="Where the data are."),
    click.option("--seed", type=int, help="Root of all random streams."),
    click.option("--config", type=click.Path(path_type=Path), help="A YAML or TOML file of settings."),
)


def of_search(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say what is searched, and how; `searched` reads them."""
    for option in reversed(_OF_SEARCH):
        command = option(command)
    return command


def searched(
    method: str | None,
    space: str | None,
    data: str | None,
    data_path: str | None,
    seed: int | None,
    config: Path | None,
    overrides: tuple[str, ...],
    budgets: tuple[str, ...] = (),
) -> dict[str, Any]:
    """The settings that the options of `of_search`, budgets, a file and SECTION.KEY=VALUE pairs give."""
    from archgrad.budgets.budget import as_setting
    from archgrad.config_layers import merge, read
    from archgrad.config_layers import overrides as parse

    named = {key: value for key, value in (("name", data), ("path", data_path)) if value is not None}
    return merge(
        read(config) if config else {},
        {key: value for key, value in (("method", method), ("seed", seed)) if value is not None},
        {"space": {"name": space}} if space else {},
        {"data": named} if named else {},
        {"budget": as_setting(budgets)} if budgets else {},
        parse(list(overrides)),
    )


def refuse_given(context: click.Context, names: tuple[str, ...], why: str) -> None:
    """Options that have no effect here.

    Raises:
        UserError: one of the parameters `names` was given.
    """
    from click.core import ParameterSource

    given = [
        parameter.opts[0] if isinstance(parameter, click.Option) else "SECTION.KEY=VALUE"
        for parameter in context.command.params
        if parameter.name in names
        and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
    ]
    if given:
        raise UserError(f"{', '.join(given)}: {why}")


def progress() -> Progress:
    """A bar on a terminal, lines elsewhere, on standard error."""
    from archgrad.progress import for_this_terminal

    return for_this_terminal()


def show(document: Any, as_json: bool, text: str) -> None:
    """The result on standard output: one JSON document, or text for a person."""
    if as_json:
        from archgrad.runs import finite

        click.echo(json.dumps(finite(document), indent=2, ensure_ascii=False))
    else:
        click.echo(text)


def exported_text(exported: Any) -> str:
    """What `export_run` wrote, for a person."""
    lines = []
    if exported.onnx:
        onnx = exported.onnx
        lines.append(
            f"{onnx.path}: {onnx.size_bytes / 1e6:.2f} MB, opset {onnx.opset}; largest difference to PyTorch "
            f"on {onnx.inputs} inputs {onnx.largest_difference:.2e}"
        )
    standalone = exported.standalone
    lines.append(
        f"{standalone.folder}: runs without archgrad; largest difference {standalone.largest_difference:.2e}"
    )
    return "\n".join(lines)
