"""The verb ``archgrad doctor``."""

from __future__ import annotations

from pathlib import Path

import click

from archgrad.cli_shared import AS_JSON, RUN, show


@click.command()
@RUN
@AS_JSON
def doctor(run: Path, as_json: bool) -> None:
    """Explain a finished or running search from its metrics: has it converged, what is wrong, what to do.

    \b
    Example:
      archgrad doctor runs/first
    """
    from archgrad.verbs.doctor import doctor_run, text

    document = doctor_run(run)
    show(document, as_json, text(document))
