"""Draw the cells of a genotype, or those that a run derived, as an SVG file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from archgrad import atomic
from archgrad.architecture import Architecture, Edge
from archgrad.errors import UserError
from archgrad.genotypes import find
from archgrad.progress import Progress, Silent
from archgrad.report.cell_picture import picture
from archgrad.runs import Run
from archgrad.verbs.contents import read_architecture, read_config


def draw_genotype(genotype: str, out: Path | str, progress: Progress | None = None) -> Path:
    """Draw a published cell by name, a text or a file; returns the path of the picture.

    progress: where to say what is odd in it.

    Raises:
        UserError: no such genotype, or `out` is no SVG file.
    """
    cell = find(genotype)
    title = cell.name if cell.source else ""
    path = _draw(cell.genotype.architecture(), cell.genotype.concat, title, out)
    for remark in cell.genotype.remarks():
        (progress or Silent()).say(f"  note: {remark}")
    return path


def draw_run(folder: Path | str, out: Path | str) -> Path:
    """Draw the cells that a run has derived; returns the path of the picture.

    Raises:
        UserError: the run has not derived, or `out` is no SVG file.
    """
    run = Run.open(folder)
    architecture, settings = read_architecture(run), read_config(run).space.settings()
    joined = {
        key.removesuffix("_concat"): value
        for key, value in settings.items()
        if key.endswith("_concat") and value
    }
    return _draw(architecture, joined, run.folder.resolve().name, out)


def _draw(
    architecture: Architecture, joined: Mapping[str, Sequence[int]], title: str, out: Path | str
) -> Path:
    path = Path(out)
    if path.suffix.lower() != ".svg":
        raise UserError(f"a drawing is an SVG file: give --out {path.with_suffix('.svg')}, not {path}")
    others = {name: candidate for name, candidate in architecture.items() if Edge.parse(name) is None}
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(path, picture(architecture.cells(), joined, others, title))
    return path
