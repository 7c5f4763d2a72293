"""Export the trained network of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, cast

from archgrad.architecture import Architecture
from archgrad.choice import concrete
from archgrad.config import Config
from archgrad.datasets.images import ImageData
from archgrad.datasets.text import TextData
from archgrad.errors import UserError
from archgrad.language import side_by_side
from archgrad.language_parts import TextParts
from archgrad.parts import Parts, load_any_data, load_data
from archgrad.runs import Run
from archgrad.spaces.language_model import LanguageModel
from archgrad.verbs.contents import check_same_data, load_network, read_config, read_tensors


class Exported(NamedTuple):
    """What `export_run` wrote and checked; see `export.onnx` and `export.standalone`."""

    onnx: Any
    standalone: Any


def export_run(folder: Path | str, data: ImageData | TextData | None = None, onnx: bool = True) -> Exported:
    """Export the trained network: ``export/model.onnx`` and a folder that runs without archgrad.

    Args:
        folder: a run that has trained.
        data: the images or the text, where the search was given them directly.
        onnx: whether to write ONNX, too.

    Raises:
        UserError: the run has no trained network.
        WorkError: an export does not compute what the network computes.
        MissingExtra: ONNX is asked for and not installed.
    """
    from archgrad.export.onnx import export_onnx, require_onnx
    from archgrad.export.standalone import export_standalone

    if onnx:
        require_onnx()  # before the work, not after half of it
    run = Run.open(folder)
    config = read_config(run)
    if not run.exists("train/derived/result.json"):
        raise UserError(f"{run.folder} has no trained network: archgrad train {run.folder}")
    result = run.read_json("train/derived/result.json")
    with run.reading("train/derived/result.json"):
        architecture = Architecture(result["architecture"])
        settings = dict(result["settings"])
    if config.reads_text:
        text = data if isinstance(data, TextData) else None
        return _export_text(run, config, architecture, settings, text, onnx)
    if isinstance(data, TextData):
        raise UserError(f"{data.name} is a text, and the run in {run.folder} searched on images")
    with run.reading("train/derived/result.json"):
        channels, height, width = result["shape"]
        classes, mean, std = result["classes"], result["mean"], result["std"]
    data = data or load_data(config)
    parts = Parts.of(config, data)
    check_same_data(run, parts)
    if settings.get("auxiliary"):
        settings["auxiliary"] = False  # a training aid; evaluation does not use it
    shape = (channels, height, width)
    network = concrete(parts.space.builder, architecture, shape, len(classes), **settings)
    tensors = read_tensors(run, "train/derived/weights.safetensors")
    wanted = set(network.state_dict())
    kept = {key: tensor for key, tensor in tensors.items() if key in wanted}
    load_network(network, kept, f"{run.path('train/derived/weights.safetensors')}")
    network.eval()
    images = parts.sample_images(16)
    target = run.path("export")
    target.mkdir(parents=True, exist_ok=True)
    standalone = export_standalone(
        network,
        parts.space.builder,
        architecture,
        shape,
        classes,
        settings,
        mean,
        std,
        target / "standalone",
        images,
    )
    check_onnx = export_onnx(network, shape, target / "model.onnx", images) if onnx else None
    run.log("exported")
    return Exported(check_onnx, standalone)


_COMPARED = (12, 4)  # words, texts


def _export_text(
    run: Run,
    config: Config,
    architecture: Architecture,
    settings: dict[str, Any],
    data: TextData | None,
    onnx: bool,
) -> Exported:
    """A recurrent network: ``export/model.onnx`` is one step of it."""
    from archgrad.export.language import export_language, export_step

    loaded = data or load_any_data(config)
    if not isinstance(loaded, TextData):
        raise UserError(f"{loaded.name} is no text, and the run in {run.folder} searched on one")
    parts = TextParts.of(config, loaded)
    check_same_data(run, parts)
    network = cast(
        LanguageModel, concrete(parts.space.builder, architecture, parts.shape, parts.classes, **settings)
    )
    name = "train/derived/weights.safetensors"
    load_network(network, read_tensors(run, name), str(run.path(name)))
    network.eval()
    words = side_by_side(loaded.valid, min(_COMPARED[1], len(loaded.valid) // 2))[: _COMPARED[0]]
    target = run.path("export")
    target.mkdir(parents=True, exist_ok=True)
    standalone = export_language(
        network, architecture, settings, loaded.vocabulary, words, target / "standalone"
    )
    step = export_step(network, words, target / "model.onnx") if onnx else None
    run.log("exported")
    return Exported(step, standalone)
