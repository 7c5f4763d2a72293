"""The laboratory's page: one HTML file that opens offline, from the document of `archgrad.lab.studies`."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from archgrad import atomic
from archgrad.errors import MissingExtra
from archgrad.lab.figures import CURVES
from archgrad.lab.sections import page_content
from archgrad.report.quantities import percent
from archgrad.runs import finite


def write_page(document: Mapping[str, Any], target: Path) -> None:
    """Write the page of a laboratory's document. It needs no network, and is replaced in one step.

    Args:
        document: of `archgrad.lab.studies.study`, any of its studies, with or without "environment";
            numbers may be NaN or None.
        target: the HTML file.

    Raises:
        MissingExtra: plotly or jinja2 is not installed.
    """
    atomic.write_text(target, _render(finite(document)))


def _render(document: Mapping[str, Any]) -> str:
    try:
        import jinja2
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise MissingExtra("report", error.name or "plotly", "the laboratory's page") from None
    report, own = resources.files("archgrad.report"), resources.files("archgrad.lab")
    style = "".join(
        (folder / name).read_text(encoding="utf-8")
        for folder, name in ((report, "page.css"), (own, "lab.css"))
    )
    script = (report / "page.js").read_text(encoding="utf-8")
    template = (own / "lab.html.jinja").read_text(encoding="utf-8")
    library = get_plotlyjs()
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(template).render(
        **page_content(document),
        percent=percent,
        breakable=_breakable,
        style=style,
        light=_declarations([colour.light for colour in CURVES]),
        dark=_declarations([colour.dark for colour in CURVES]),
        plotly=library,
        script=script,
        script_hashes=" ".join(map(_source, (library, script))),
    )


def _breakable(name: str) -> str:
    """The name, escaped, which may go on in the next line after a bracket, comma, colon or underscore."""
    from markupsafe import Markup, escape

    return Markup("<wbr>").join(escape(part) for part in re.split(r"(?<=[(,_:])", name))


def _source(script: str) -> str:
    """The source expression that allows one inline script (Content Security Policy 3, section 2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _declarations(colours: Sequence[str]) -> str:
    """Each colour, and the same thin enough for a band."""
    return "".join(
        f"--curve-{i}:{colour};--curve-band-{i}:rgba({','.join(map(str, _channels(colour)))},0.15);"
        for i, colour in enumerate(colours)
    )


def _channels(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
