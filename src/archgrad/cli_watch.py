"""The verb ``archgrad watch``."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from archgrad.cli_shared import AS_JSON, RUN

_KINDNESS = 10
"""How much a search goes before this process where both want the processor (``nice``)."""


@click.command()
@RUN
@click.option("--port", type=click.IntRange(1, 65535), help="Where to listen; default: any that is free.")
@click.option("--open/--no-open", "opened", default=False, show_default=True, help="Open a browser on it.")
@AS_JSON
def watch(run: Path, port: int | None, opened: bool, as_json: bool) -> None:
    """Watch a search: its report on an address of this machine alone, up to date by itself. Ctrl-C ends it.

    \b
    Example:
      archgrad watch runs/first
      archgrad watch runs/first --port 8800 --open
    """
    from archgrad.watch.server import watch_run

    def ready(address: str) -> None:
        text = f"watching {run} at  {address}  (Ctrl-C ends it)"
        document = {"run": str(run), "address": address}
        click.echo(json.dumps(document, indent=2) if as_json else text)  # `show` would load PyTorch
        if opened:
            import webbrowser

            webbrowser.open(address)
        if hasattr(os, "nice"):
            os.nice(_KINDNESS)

    watch_run(run, port, ready=ready)
