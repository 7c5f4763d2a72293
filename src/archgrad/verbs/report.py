"""Report a run."""

from __future__ import annotations

from pathlib import Path

from archgrad.runs import Run


def report_run(folder: Path | str, out: Path | None = None) -> Path:
    """Write the HTML report of a run, finished or not; returns its path."""
    from archgrad.report.page import write_report

    return write_report(Run.open(folder).folder, out)
