"""A folder to measure a space from where there is no archgrad: ONNX models, a manifest, and a script."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from archgrad import atomic
from archgrad.architecture import Architecture
from archgrad.errors import UserError, WorkError
from archgrad.export.onnx import export_onnx, require_onnx
from archgrad.latency import device_script, timing
from archgrad.latency.candidates import Found, Target
from archgrad.latency.device_script import EMPTY, write_json

_IMPORT = "from archgrad.latency.timing import"


def write_kit(
    found: Found,
    target: Target,
    folder: Path,
    show: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> Path:
    """Export every piece and every whole network; returns the manifest's path.

    ONNX Runtime drops operations that hand their input on, so those are no pieces and cost nothing. What a
    call costs by itself is measured with a model that does nothing, and taken off each piece when a table is
    read.

    Args:
        found: pieces; precision fp32. A whole network that names its `file` is not exported again.
        target: the space they were found in.
        folder: made where it is not there.
        show: called with the number of models written, of all, and what the last one was.

    Raises:
        UserError: the precision is not fp32, a candidate takes several inputs, or the folder holds
            something else.
        MissingExtra: the libraries for ONNX are not installed.
        WorkError: a model computes something else in ONNX Runtime than in PyTorch.
    """
    require_onnx()
    manifest = found.manifest
    if manifest["precision"] != "fp32":
        raise UserError(
            f"models for ONNX Runtime are measured in fp32, not {manifest['precision']}: leave out "
            "--precision, or take --backend torch"
        )
    if (
        folder.exists()
        and (not folder.is_dir() or any(folder.iterdir()))
        and not (folder / "manifest.json").exists()
    ):
        raise UserError(f"{folder} is there and no kit: choose another folder")
    (folder / "models").mkdir(parents=True, exist_ok=True)
    pieces = {key: piece for key, piece in manifest["pieces"].items() if not piece["handed_on"]}
    total, done = len(pieces) + 1 + len(manifest["whole"]), 0

    def export(module: nn.Module, shape: list[int], name: str, what: str) -> str:
        nonlocal done
        file = f"models/{name}.onnx"
        channels, height, width = shape
        try:
            with torch.random.fork_rng(devices=[]):
                export_onnx(module, (channels, height, width), folder / file, None)
        except WorkError as error:
            raise WorkError(f"{what}: {error}") from None
        done += 1
        show(done, total, what)
        return file

    written = {}
    uncounted = set(manifest["uncounted"])
    for number, (key, piece) in enumerate(pieces.items()):
        shapes = piece["inputs"]
        if len(shapes) != 1 or len(shapes[0]) != 3:
            if key not in manifest["fixed"]:
                raise UserError(
                    f"{piece['what']}: ONNX models are made of pieces with one input [B, C, H, W]; take "
                    "--backend torch"
                )
            uncounted.add(f"{piece['what']} (its input is no image)")
            continue
        file = export(found.modules[key], shapes[0], f"{number:03}", piece["what"])
        written[key] = {**piece, "file": file}
    empty = {
        "inputs": [[1, 1, 1]],
        "file": export(nn.Identity(), [1, 1, 1], EMPTY, "a model that does nothing"),
    }
    whole = [
        {
            **one,
            "file": one.get("file")
            or export(
                target.network(Architecture(one["architecture"])),
                list(target.shape),
                f"network-{i}",
                f"network {i}",
            ),
        }
        for i, one in enumerate(manifest["whole"])
    ]
    document = {
        **manifest,
        "groups": [
            {
                **group,
                "entries": [
                    [{k: n for k, n in cell.items() if k in written} for cell in row]
                    for row in group["entries"]
                ],
            }
            for group in manifest["groups"]
        ],
        "nested": [
            {
                "names": joint["names"],
                "cells": [
                    {"at": cell["at"], "pieces": {k: n for k, n in cell["pieces"].items() if k in written}}
                    for cell in joint["cells"]
                ],
            }
            for joint in manifest["nested"]
        ],
        "fixed": {k: n for k, n in manifest["fixed"].items() if k in written},
        "uncounted": sorted(uncounted),
        "pieces": written,
        EMPTY: empty,
        "whole": whole,
    }
    source = inspect.getsource(device_script)
    assert source.count(_IMPORT) == 1
    atomic.write_text(folder / "measure.py", source.replace(_IMPORT, "from timing import"))
    atomic.write_text(folder / "timing.py", inspect.getsource(timing))
    write_json(folder / "manifest.json", document)  # last: a folder with it is complete
    return folder / "manifest.json"
