"""The verb ``archgrad track``, and the option ``--track`` of a search."""

from __future__ import annotations

from pathlib import Path

import click

from archgrad.cli_shared import AS_JSON, RUN, show


def tracker_names(text: str) -> tuple[str, ...]:
    """The names in ``tensorboard,mlflow``; none in an empty text.

    Raises:
        UserError: a name is not known.
    """
    from archgrad.trackers.tracker import check_names

    return check_names(name.strip() for name in text.split(",") if name.strip())


@click.command()
@RUN
@click.option("--to", default="tensorboard", show_default=True, help="E.g. tensorboard,mlflow.")
@AS_JSON
def track(run: Path, to: str, as_json: bool) -> None:
    """Give the recorded numbers of a run to TensorBoard or MLflow.

    \b
    Example:
      archgrad track runs/first --to tensorboard
    """
    from archgrad.verbs.track import track_run

    names = tracker_names(to)
    count = track_run(run, names)
    document = {"run": str(run), "trackers": list(names), "epochs": count}
    show(document, as_json, f"gave {count} epochs to {', '.join(names)}")
