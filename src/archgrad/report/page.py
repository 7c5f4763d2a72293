"""The page: one HTML file that opens offline, from the numbers of a run folder."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from archgrad import atomic
from archgrad.errors import MissingExtra
from archgrad.report.palette import candidate_colours
from archgrad.report.reading import RunRecord, read_run
from archgrad.report.sections import candidate_names, page_content


def write_report(run_folder: Path, out: Path | None = None) -> Path:
    """Write the report of a run, finished or not, as one HTML file; return its path.

    The file needs no network: script, styles and data are in it. It is replaced in one step.

    Args:
        run_folder: what ``archgrad search`` wrote.
        out: where to write; by default ``report.html`` in the run folder.

    Raises:
        UserError: `run_folder` is no run folder.
        MissingExtra: plotly or jinja2 is not installed.
    """
    run = read_run(run_folder)
    target = out or run_folder / "report.html"
    atomic.write_text(target, page_html(run, str(run_folder)))
    return target


def page_html(run: RunRecord, folder: str, *, live: str = "", whole: bool = True) -> str:
    """The page as text.

    Args:
        run: what was read.
        folder: as it was given, so that the commands on the page can be typed as they stand.
        live: the page asks the server that it came from for news (`archgrad.watch`); this names its state.
        whole: with styles and scripts; without them it is what a page that is already open needs.

    Raises:
        MissingExtra: plotly or jinja2 is not installed.
    """
    template, style, script, library = _parts(bool(live))
    colours = candidate_colours(candidate_names(run))
    variables = {name: f"var(--candidate-{i})" for i, name in enumerate(colours)}
    page: str = template.render(
        **page_content(run, variables),
        folder=folder,
        style=style if whole else "",
        light=_declarations([c.light for c in colours.values()]),
        dark=_declarations([c.dark for c in colours.values()]),
        colours=variables,
        plotly=library if whole else "",
        script=script if whole else "",
        # Only these two scripts may run: one that slipped into the page would be refused.
        script_hashes=" ".join(map(_script_hash, (library, script))) if whole else "'none'",
        live=live,
    )
    return page


@lru_cache
def _parts(live: bool) -> tuple[Any, str, str, str]:
    """Template, styles, script and plotly."""
    try:
        import jinja2
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise MissingExtra("report", error.name or "plotly", "the report page") from None
    files = resources.files("archgrad.report")
    style, script, template = (
        (files / name).read_text(encoding="utf-8") for name in ("page.css", "page.js", "page.html.jinja")
    )
    if live:
        script += (files / "live.js").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(template), style, script, get_plotlyjs()


def _script_hash(script: str) -> str:
    """The source expression that allows one inline script (Content Security Policy 3, section 2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _declarations(colours: Sequence[str]) -> str:
    return "".join(f"--candidate-{i}:{colour};" for i, colour in enumerate(colours))
