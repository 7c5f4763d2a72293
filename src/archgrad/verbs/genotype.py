"""A run folder for a genotype that was not searched here, as if it had just been derived."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from archgrad.choice import supernet
from archgrad.config_layers import merge
from archgrad.config_problems import GIVEN, check
from archgrad.datasets.images import ImageData
from archgrad.errors import UserError
from archgrad.genotype import DECIDED
from archgrad.genotypes import Published, find
from archgrad.language_parts import parts_of
from archgrad.parts import data_size, differences, load_any_data
from archgrad.progress import Progress, Silent
from archgrad.runs import Run
from archgrad.settings import Resolved, resolve
from archgrad.spaces import SPACES
from archgrad.spaces.space import as_space
from archgrad.verbs.contents import read_document

FILE = "genotype.json"
"""In a run folder: what is trained there, and that nothing was searched."""


def genotype_run(
    genotype: str,
    settings: Mapping[str, Any],
    folder: Path | str | None = None,
    *,
    data: ImageData | None = None,
    progress: Progress | None = None,
) -> Run:
    """Make a run folder in which `train`, `export` and `report` find a genotype; or find it there again.

    Args:
        genotype: a published one by name, a text, or a file.
        settings: configuration keys (nested) of the sections of training, on top of the space's recipe and
            the rules for sizes.
        folder: the run folder; by default ``runs/<name>-<data>``.
        data: images to use instead of those that ``data.name`` names.
        progress: where the sizes chosen by rule are shown.

    Raises:
        UserError: no such genotype, one that its space cannot build, wrong settings, or a folder that holds
            another run.
    """
    cell = find(genotype)
    given = _given(cell, settings, data)
    first = check(given)
    loaded = data or load_any_data(first)
    resolved = resolve(given, data_size(loaded, first))
    name = first.data.name.removeprefix(GIVEN).replace("/", "-") or "data"
    title = cell.name if cell.source else f"genotype-{cell.genotype.architecture().digest}"
    run = Run(folder if folder is not None else Path("runs") / f"{title}-{name}")
    if run.exists("config.yaml"):
        _check_same(run, cell, resolved)
        return run
    parts = parts_of(resolved.config, loaded)
    space = as_space(SPACES[resolved.config.space.name])
    with torch.device("meta"):
        shape, classes = (loaded.shape, len(loaded.classes)) if isinstance(loaded, ImageData) else ((1,), 2)
        groups = supernet(space.builder, shape, classes, **resolved.config.space.settings()).groups
    run = Run.create(run.folder)
    run.write_json("data.json", parts.description())
    run.write_json("choices.json", {"groups": [group._asdict() for group in groups]})
    run.write_text("architecture.json", cell.genotype.architecture().to_json())
    run.write_json(FILE, {"name": title, "source": cell.source, "text": cell.text, "notes": dict(cell.notes)})
    for remark in cell.genotype.remarks():
        (progress or Silent()).say(f"  note: {remark}")
    for note in resolved.notes:
        if not note.startswith(_OF_SEARCH):
            run.log(f"rule: {note}")
            (progress or Silent()).say(f"  {note}")
    run.write_config(resolved.document())  # last, as it makes the run
    run.log(
        f"genotype {title}: space {resolved.config.space.name}, data {first.data.name}; nothing was searched"
    )
    return run


_OF_SEARCH = ("search.", "architecture.", "space.", "weights.")
_SECTIONS = ("seed", "data", "train", "device", "text")  # the others are of a search


def _given(cell: Published, settings: Mapping[str, Any], data: ImageData | None) -> dict[str, Any]:
    """The settings on top of what the genotype needs; the method is the one that trains no logits."""
    genotype = cell.genotype
    if fixed := [key for key in ("method", "space") if key in settings]:
        raise UserError(
            f"a genotype decides {' and '.join(fixed)}; give sizes as train.space.channels=36, say"
        )
    if strange := [key for key in settings if key not in _SECTIONS]:
        raise UserError(
            f"nothing is searched for a genotype, so {', '.join(strange)} would do nothing; give settings of "
            f"{', '.join(_SECTIONS)}, e.g. train.epochs=5"
        )
    check_sizes(settings)
    needs = genotype.settings()
    if unknown := as_space(SPACES[genotype.space]).unknown_settings(needs):
        raise UserError(
            f"the space {genotype.space} cannot build {cell.name}: it has no setting {unknown[0]}"
        )
    given = merge({"method": "random", "space": {"name": genotype.space, **needs}}, settings)
    return merge(given, {"data": {"name": f"{GIVEN}{data.name}"}}) if data is not None else given


def check_sizes(settings: Mapping[str, Any]) -> None:
    """The settings leave the cells of a genotype as they are.

    Raises:
        UserError: those of the network to be trained change more than sizes.
    """
    train = settings.get("train")
    space = train.get("space") if isinstance(train, Mapping) else None
    if decided := [f"train.space.{key}" for key in DECIDED if isinstance(space, Mapping) and key in space]:
        raise UserError(
            f"a genotype decides {', '.join(decided)}: leave it out, or give the text of another genotype; "
            "sizes are yours, e.g. train.space.channels=36"
        )


def check_searched(run: Run) -> None:
    """The run is that of a search.

    Raises:
        UserError: its cells are those of a genotype, which another one must not replace.
    """
    if run.exists(FILE):
        name = run.read_json(FILE).get("name")
        raise UserError(
            f"{run.folder} holds the genotype {name}: nothing was searched here; train it with\n"
            f"  archgrad train {run.folder}\nor search in another folder:  archgrad search --run FOLDER …"
        )


def _check_same(run: Run, cell: Published, resolved: Resolved) -> None:
    if not run.exists(FILE):
        raise UserError(
            f"{run.folder} holds the run of a search; train what it derived with\n"
            f"  archgrad train {run.folder}\nor give another --run folder"
        )
    if (there := run.read_json(FILE).get("text")) != cell.text:
        raise UserError(f"{run.folder} holds another genotype, {there}; give another --run folder")
    if changed := differences(read_document(run), resolved.document()):
        raise UserError(
            f"{run.folder} was begun with other settings; put them back or give another --run folder:\n"
            + "\n".join(f"  - {line}" for line in changed[:8])
        )
