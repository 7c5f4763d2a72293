"""What a network of a genotype, or of a run, costs: parameters, multiply-adds, memory traffic."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from archgrad.architecture import Architecture
from archgrad.choice import concrete
from archgrad.costs.network_counts import NetworkCounts, count_network
from archgrad.errors import UserError
from archgrad.genotype import Genotype
from archgrad.genotypes import find
from archgrad.network_features import network_features
from archgrad.runs import Run
from archgrad.spaces import SPACES
from archgrad.spaces.space import as_space
from archgrad.verbs.contents import read_architecture, read_config


class Network(NamedTuple):
    """A network of the literature: its space, the builder's settings, and what it is made for.

    width: the setting that ``--channels`` sets. size: side of an image; of a text 0.
    """

    space: str
    settings: Mapping[str, Any]
    classes: int
    size: int
    width: str = "channels"


NETWORKS = {
    "cifar": Network("darts", {"channels": 36, "cells": 20, "auxiliary": True}, 10, 32),
    "imagenet": Network(
        "darts", {"channels": 48, "cells": 14, "auxiliary": True, "stem": "imagenet"}, 1000, 224
    ),
    "nasbench201": Network("nasbench201", {"channels": 16, "cells": 5}, 10, 32),
    "ptb": Network("darts_rnn", {"hidden": 850}, 10_000, 0, "hidden"),
}
"""The networks that genotypes are counted in, with the sizes of the papers."""


def count_genotype(
    genotype: str | Genotype,
    network: str | None = None,
    *,
    channels: int | None = None,
    cells: int | None = None,
    classes: int | None = None,
    size: int | None = None,
) -> dict[str, Any]:
    """Count the network of a genotype; sizes that are not given are those of the papers.

    Args:
        genotype: a published one by name, a text or a file, or the genotype itself.
        network: one of `NETWORKS`; by default the first that fits the genotype.
        channels: of the first cells; of a recurrent network its units.
        cells: all cells of a DARTS network, those of a stage of a NAS-Bench-201 network.
        classes: of images; of a recurrent network the words of its vocabulary.
        size: side of an image in pixels.

    Raises:
        UserError: the genotype does not fit the network, or a size does not.
    """
    cell = None if isinstance(genotype, Genotype) else find(genotype)
    found = genotype if isinstance(genotype, Genotype) else find(genotype).genotype
    fitting = [name for name, known in NETWORKS.items() if known.space == found.space]
    network = network or fitting[0]
    if network not in fitting:
        raise UserError(
            f"cells of the space {found.space} are counted in {' or '.join(fitting)}, not in {network}"
        )
    known = NETWORKS[network]
    given = {known.width: channels, "cells": cells}
    sizes = {key: value for key, value in given.items() if value is not None}
    text = known.size == 0
    if text and (cells, size) != (None, None):
        raise UserError("a recurrent network has no cells and no image size; give --channels or --classes")
    settings = {**known.settings, **sizes, **found.settings()}
    if unknown := as_space(SPACES[known.space]).unknown_settings(settings):
        raise UserError(f"the space {known.space} cannot build this genotype: it has no setting {unknown[0]}")
    classes, size = classes or known.classes, size or known.size
    if text:
        counts = _recurrent(known.space, found.architecture(), classes, settings)
    else:
        builder = as_space(SPACES[known.space]).builder
        counts = count_network(builder, found.architecture(), (3, size, size), classes, settings)
        if size < known.size:
            _check_size(network, found, size)
    note = cell.notes.get(network) if cell is not None else None
    document: dict[str, Any] = {
        "genotype": cell.name if cell is not None else "genotype",
        "source": cell.source if cell is not None else "",
        "network": network,
        known.width: settings[known.width],
        **({} if text else {"cells": settings["cells"], "size": size}),
        "classes": classes,
    }
    kept = {"notes": [note] if note else [], "remarks": list(found.remarks())}
    return {**document, **_counted(counts), **kept}


def _check_size(network: str, genotype: Genotype, size: int) -> None:
    """Whether a search would take images of this size, asked of the smallest network with these reductions.

    Raises:
        UserError: a layer would halve a single pixel.
    """
    known = NETWORKS[network]
    space = as_space(SPACES[known.space])
    settings = {**known.settings, **genotype.settings(), **space.small_train}
    settings.pop("auxiliary", None)
    try:
        network_features(space.builder, (3, size, size), 2, settings)
    except UserError:
        raise UserError(
            f"images of {size}×{size} pixels are too small for the reductions of the network {network}; "
            f"give a larger --size (published: {known.size})"
        ) from None


def count_run(folder: Path | str) -> dict[str, Any]:
    """Count the network that ``archgrad train`` builds for a run that has derived.

    Raises:
        UserError: the run has not derived.
    """
    run = Run.open(folder)
    architecture, config = read_architecture(run), read_config(run)
    data = run.read_json("data.json")
    settings = config.train.space
    document = {"run": str(run.folder), "space": config.space.name, "settings": dict(settings)}
    builder = as_space(SPACES[config.space.name]).builder
    if config.reads_text:
        with run.reading("data.json"):
            words = int(data["vocabulary"])
        counts = _recurrent(config.space.name, architecture, words, settings)
        return {**document, "classes": words, **_counted(counts), "notes": []}
    with run.reading("data.json"):
        channels, height, width = data["shape"]
        classes = len(data["classes"])
    shape = (channels, height, width)
    counts = count_network(builder, architecture, shape, classes, settings)
    return {**document, "shape": list(shape), "classes": classes, **_counted(counts), "notes": []}


def _counted(counts: NetworkCounts) -> dict[str, Any]:
    return {
        "parameters": counts.parameters_without_auxiliary,
        "parameters_with_auxiliary": counts.parameters,
        "macs": counts.macs,
        "traffic_bytes": counts.traffic,
        "uncounted": list(counts.uncounted),
    }


def _recurrent(
    space: str, architecture: Architecture, words: int, settings: Mapping[str, Any]
) -> NetworkCounts:
    """Parameters and multiply-adds a word; memory traffic is not counted."""
    with torch.device("meta"):
        network = concrete(as_space(SPACES[space]).builder, architecture, (1,), words, **settings)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    macs: int = network.macs()  # type: ignore[operator]
    return NetworkCounts(parameters, parameters, macs, ("memory traffic of a recurrent network",), 0)


def count_text(document: Mapping[str, Any]) -> str:
    """The document of `count_genotype` or `count_run` as lines for a person."""
    skipped = (
        "parameters",
        "parameters_with_auxiliary",
        "macs",
        "traffic_bytes",
        "uncounted",
        "notes",
        "remarks",
    )
    head = ", ".join(
        f"{key} {value}" for key, value in document.items() if key not in skipped and value != ""
    )
    unit = "a word" if document.get("network") == "ptb" else "an image"
    rows = [
        ("parameters", f"{document['parameters']:,}"),
        ("with the auxiliary head", f"{document['parameters_with_auxiliary']:,}"),
        (f"multiply-adds {unit}", f"{document['macs'] / 1e6:,.2f} M"),
        ("memory traffic, fp32", f"{document['traffic_bytes'] / 1e6:,.1f} MB"),
    ]
    if document["parameters_with_auxiliary"] == document["parameters"]:
        del rows[1]
    if not document["traffic_bytes"]:
        del rows[-1]
    lines = [head, *(f"  {name:<26} {value:>14}" for name, value in rows)]
    lines += [f"  not counted: {name}" for name in document["uncounted"]]
    notes = [*document["notes"], *document.get("remarks", [])]
    return "\n".join([*lines, *(f"  note: {note}" for note in notes)])
