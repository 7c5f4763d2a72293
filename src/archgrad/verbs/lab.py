"""Measure samplers, hypergradients and schedules on a landscape, and write what was found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from archgrad import atomic
from archgrad.errors import UserError
from archgrad.lab.studies import LabSettings, study
from archgrad.lab.tables import csv_files
from archgrad.progress import Progress
from archgrad.runs import environment, finite


def lab_run(settings: LabSettings, out: Path | str, progress: Progress | None = None) -> dict[str, Any]:
    """Do the studies; write ``lab.json``, a CSV file per table and ``lab.html`` into the folder `out`.

    Returns:
        The document of `archgrad.lab.studies`, with the environment.

    Raises:
        UserError: anything wrong with the settings or the folder, which may hold an earlier lab only.
        WorkError: a search diverged.
        MissingExtra: plotly or jinja2 is not installed; the JSON and CSV files are there by then.
    """
    folder = Path(out)
    _check_folder(folder)
    document = {**study(settings, progress), "environment": environment()}
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write_text(folder / "lab.json", json.dumps(finite(document), indent=1, ensure_ascii=False) + "\n")
    for name, content in csv_files(document).items():
        atomic.write_text(folder / name, content)
    from archgrad.lab.page import write_page

    write_page(document, folder / "lab.html")
    return document


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; give a folder for the laboratory's results")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "lab.json").exists():
        raise UserError(f"{folder} holds something else than a laboratory's results; give another --out")
