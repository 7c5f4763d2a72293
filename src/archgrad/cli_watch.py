"""The verb ``archgrad watch``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from archgrad.cli_shared import AS_JSON, RUN, show

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
    from archgrad.verbs.watch import watch_run

    def ready(address: str) -> None:
        show(
            {"run": str(run), "address": address}, as_json, f"watching {run} at  {address}  (Ctrl-C ends it)"
        )
        if opened:
            import webbrowser

            webbrowser.open(address)
        if hasattr(os, "nice"):
            os.nice(_KINDNESS)

    watch_run(run, port, ready=ready)
