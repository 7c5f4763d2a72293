"""What every verb of the command line shares: arguments, progress, and how a result is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from archgrad.progress import Progress

RUN = click.argument("run", type=click.Path(path_type=Path))
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
OVERRIDES = click.argument("overrides", nargs=-1, metavar="[SECTION.KEY=VALUE]...")


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
