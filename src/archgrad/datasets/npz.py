"""A NumPy archive with images and labels, as MedMNIST or Keras name them."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch

from archgrad.datasets.arrays import labels_from, numbered_classes, pixels_from, resized
from archgrad.datasets.images import ImageData, MemoryImages
from archgrad.datasets.location import locate
from archgrad.datasets.parts import arrange
from archgrad.errors import UserError

_WANTED = (
    "wanted are train_images and train_labels, and if there are any val_images, val_labels, test_images, "
    "test_labels (as MedMNIST), or x_train, y_train and x_val, y_val, x_test, y_test (as Keras)"
)
_STYLES = (("{}_images", "{}_labels"), ("x_{}", "y_{}"))


def npz(path: Path | None = None, resize: tuple[int, int] | None = None) -> ImageData:
    """An .npz file, or a folder with one: arrays as `_WANTED` above names them, classes numbered.

    Images are [N, H, W], [N, H, W, C] or [N, C, H, W], uint8 or floating point in [0, 1]; labels
    integers [N] or [N, 1]. A validation part joins the training part where there is a test part too,
    else it is the test part. Nothing is unpickled.

    Raises:
        UserError: no such file, not an archive, other arrays, or content out of range.
    """
    if path is None:
        raise UserError("data set 'npz' needs the path of an .npz file")
    path = locate("npz", path)
    if path.is_dir():
        found = sorted(path.glob("*.npz"))
        if len(found) != 1:
            raise UserError(
                f"{path} has {len(found)} .npz files{': ' if found else ''}"
                f"{', '.join(f.name for f in found)}; give the path of one file"
            )
        path = found[0]
    try:
        parts = _parts(path, resize)
    except UserError:
        raise
    except (OSError, ValueError, EOFError, TypeError, KeyError, zlib.error, zipfile.BadZipFile) as error:
        raise UserError(
            f"cannot read {path}: {error}; it must be an .npz of plain arrays, whole: {_WANTED}"
        ) from None
    train, test = arrange(parts["train"], parts.get("val"), parts.get("test"), _join)
    classes = numbered_classes(train.labels, str(path))
    return ImageData(path.stem, train, test, classes, f"{path.name}: arrays of {', '.join(parts)}")


def _parts(path: Path, resize: tuple[int, int] | None) -> dict[str, MemoryImages]:
    parts: dict[str, MemoryImages] = {}
    with np.load(path, allow_pickle=False) as archive:
        names = set(archive)
        style = next((s for s in _STYLES if s[0].format("train") in names), None)
        if style is None:
            raise UserError(f"{path} has arrays {sorted(names)}; {_WANTED}")
        for part in ("train", "val", "test"):
            x, y = (name.format(part) for name in style)
            if x not in names:
                continue
            if y not in names:
                raise UserError(f"{path} has {x} but no {y}; {_WANTED}")
            pixels = pixels_from(archive[x], f"{x} of {path.name}")
            labels = labels_from(archive[y], len(pixels), f"{y} of {path.name}")
            if len(pixels) == 0:
                raise UserError(f"{x} of {path} has no image")
            parts[part] = MemoryImages(resized(pixels, resize), labels)
    return parts


def _join(a: MemoryImages, b: MemoryImages) -> MemoryImages:
    if a.shape != b.shape:
        raise UserError(
            f"training images are (C, H, W) = {a.shape}, validation images {b.shape}; give a resize that "
            "suits both, and the same number of channels"
        )
    return MemoryImages(torch.cat([a.pixels, b.pixels]), torch.cat([a.labels, b.labels]))
