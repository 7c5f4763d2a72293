"""Export to ONNX, checked by running ONNX Runtime beside PyTorch.

B C H W throughout; the batch size B stays free in the exported graph.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from archgrad.atomic import write_bytes
from archgrad.errors import MissingExtra, UserError
from archgrad.export.evaluation import comparison_images, evaluation, outputs, refuse_difference

TOLERANCE = 1e-4
"""Largest allowed difference, relative to the largest absolute output (float32 rounds at 6e-8)."""

_ONE_FILE_LIMIT = 2**31 - 1  # bytes; a protocol buffer cannot be larger


class OnnxCheck(NamedTuple):
    """What was written and how far ONNX Runtime is from PyTorch.

    path: the file.
    largest_difference: of any output, absolute, over all inputs compared.
    inputs: number of images compared.
    opset: version of the ONNX operator set that the file needs.
    size_bytes: size of the file.
    """

    path: Path
    largest_difference: float
    inputs: int
    opset: int
    size_bytes: int


def require_onnx() -> None:
    """Raise `MissingExtra` unless everything that the export needs is installed."""
    for library in ("onnx", "onnxscript", "onnxruntime"):
        try:
            importlib.import_module(library)
        except ImportError:
            raise MissingExtra("onnx", library, "exporting to ONNX (which --no-onnx leaves out)") from None


def export_onnx(
    network: nn.Module, shape: tuple[int, int, int], path: Path, real_images: Tensor | None
) -> OnnxCheck:
    """Write `network` to `path` as one ONNX file and compare it with PyTorch, at batch size 1 and larger.

    The input is called ``images`` [B, C, H, W], the output ``logits`` [B, classes]. The network's
    training flags and device are left as they were.

    Args:
        network: a network that returns one tensor in evaluation mode.
        shape: (C, H, W) of an image.
        path: the file; its folder exists.
        real_images: normalised images [N, C, H, W] to compare on besides random ones, or None.

    Raises:
        MissingExtra: onnx, onnxscript or onnxruntime is not installed.
        UserError: the network has 2 GB of weights or more, or gives more than one output.
        WorkError: ONNX Runtime's output differs from PyTorch's by more than `TOLERANCE`; nothing is
            written then.
    """
    require_onnx()
    images = comparison_images(shape, real_images)
    size = sum(t.numel() * t.element_size() for t in (*network.parameters(), *network.buffers()))
    if size > _ONE_FILE_LIMIT:
        raise UserError(f"an ONNX file holds less than 2 GB of weights, this network has {size / 1e9:.1f} GB")
    with evaluation(network):
        expected = outputs(network, images)
        data, opset = _convert(network, images[:2])
        difference = _largest_difference(data, network, images, expected)
    refuse_difference(difference, TOLERANCE * float(expected.abs().max()), "ONNX Runtime", path)
    write_bytes(path, data)
    return OnnxCheck(path, difference, len(images), opset, len(data))


def _convert(network: nn.Module, example: Tensor) -> tuple[bytes, int]:
    """The ONNX file for a network in evaluation mode, and its operator set version."""
    # An example batch of 1 would be taken for a constant, hence at least two images.
    with quiet():
        program: Any = torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            input_names=["images"],
            output_names=["logits"],
            external_data=False,
            verbose=False,
        )
        model = program.model_proto
    strip_metadata(model)
    opset = next(entry.version for entry in model.opset_import if entry.domain == "")
    return model.SerializeToString(), opset


def strip_metadata(model: Any) -> None:
    """Drop the exporter's notes: stack traces, with the paths of this machine, on every node."""
    graphs = [model.graph, *model.functions]
    for graph in graphs:
        del graph.metadata_props[:]
        for node in graph.node:
            del node.metadata_props[:]
            node.doc_string = ""
        for value in graph.value_info:
            del value.metadata_props[:]
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]


def _largest_difference(data: bytes, network: nn.Module, images: Tensor, expected: Tensor) -> float:
    """Largest absolute difference over the whole batch, a batch of one and a batch of three."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    differences = []
    for batch, wanted in (
        (images, expected),
        (images[:1], outputs(network, images[:1])),
        (images[-3:], outputs(network, images[-3:])),
    ):
        (found,) = session.run(None, {"images": batch.numpy()})
        differences.append((torch.from_numpy(found) - wanted).abs().max())
    return float(torch.stack(differences).max())  # unlike Python's max, this one passes NaN on


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporter's remarks on its own internals (torchvision missing, deprecated calls)."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
