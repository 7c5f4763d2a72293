"""A folder of images by class: ``cat/*.png``, ``dog/*.png``, alone or inside train/ and test/."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from archgrad.datasets.decoding import SUFFIXES, common_shape, decode_all
from archgrad.datasets.images import FolderImages, ImageData, ImageSource, MemoryImages
from archgrad.datasets.location import locate
from archgrad.datasets.memory import refuse_too_large
from archgrad.datasets.parts import arrange
from archgrad.errors import UserError

MEMORY_LIMIT = 2**30
"""Bytes of decoded pixels up to which a folder is held in memory; a larger one is decoded on demand."""

_BATCH = 256  # images decoded on demand at a time; as bytes, of which numbers take four

_PARTS = {"train": ("train", "training"), "validation": ("val", "valid", "validation"), "test": ("test",)}


class _Files(NamedTuple):
    """The image files of one part and their labels, int64 [N]."""

    files: list[Path]
    labels: Tensor


def folder(path: Path | None = None, resize: tuple[int, int] | None = None) -> ImageData:
    """Images in one sub-folder a class (at any depth in it), classes in alphabetical order.

    Such folders may be inside train/ and test/ (and val/, which joins train/ where there is a test/,
    else is the test part). Grey images stay grey when all are. Other files are passed over. The
    images are taken for photographs, whose mirror images are of the same class.

    Up to `MEMORY_LIMIT` bytes of pixels are decoded once into memory; a larger folder is decoded on
    demand by threads.

    Raises:
        UserError: no path, no or one class, a class without images, an unreadable or truncated image,
            images of several sizes and no `resize`, or images too large for the memory.
    """
    if path is None:
        raise UserError("data set 'folder' needs the path of a folder that has one sub-folder a class")
    path = locate("folder", path)
    if not path.is_dir():
        raise UserError(f"{path} is a file; give the folder that has one sub-folder of images a class")
    roots = {part: _sub_folder(path, names) for part, names in _PARTS.items()}
    train_root = roots["train"]
    if train_root is None:
        train_root, roots = path, {}
    classes = [entry.name for entry in _folders(train_root)]
    if len(classes) < 2:
        raise UserError(
            f"{train_root} has {len(classes)} sub-folder(s) {classes}; give a folder with at least two, one "
            "for each class of images"
        )
    parts = {"train": _files(train_root, classes)}
    for part in ("validation", "test"):
        root = roots.get(part)
        if root is not None:
            parts[part] = _files(root, classes)
    train, test = arrange(parts["train"], parts.get("validation"), parts.get("test"), _join)
    everything = train.files + (test.files if test is not None else [])
    shape = common_shape(everything, lambda i: str(everything[i]), resize)
    in_memory = len(everything) * math.prod(shape) <= MEMORY_LIMIT
    refuse_too_large(len(everything) if in_memory else min(len(everything), _BATCH), shape)
    sources = [None if p is None else _source(p, shape, resize, in_memory) for p in (train, test)]
    assert sources[0] is not None
    held = "decoded in memory" if in_memory else "decoded on demand"
    note = f"{path.name}: {len(everything)} image files of {len(classes)} classes, {held}"
    return ImageData(path.name, sources[0], sources[1], tuple(classes), note, mirror=True)


def has_class_folders(path: Path) -> bool:
    """Whether `path` is a folder with an image somewhere in a sub-folder."""
    return path.is_dir() and any(True for entry in _folders(path) for _ in _images(entry))


def _source(
    part: _Files, shape: tuple[int, int, int], resize: tuple[int, int] | None, in_memory: bool
) -> ImageSource:
    if not in_memory:
        return FolderImages(part.files, part.labels, shape, resize)
    return MemoryImages(decode_all(part.files, lambda i: str(part.files[i]), shape, resize), part.labels)


def _sub_folder(path: Path, names: tuple[str, ...]) -> Path | None:
    return next((entry for entry in _folders(path) if entry.name.lower() in names), None)


def _folders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _images(path: Path) -> list[Path]:
    """Image files below `path`, sorted; hidden ones (as some systems leave beside a file) are not."""
    return sorted(
        file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
    )


def _files(root: Path, classes: list[str]) -> _Files:
    files: list[Path] = []
    labels: list[int] = []
    for entry in _folders(root):
        if entry.name not in classes:
            raise UserError(f"{entry} is a class that the training images do not have: {', '.join(classes)}")
        found = _images(entry)
        if not found:
            raise UserError(
                f"{entry} has no image ({' '.join(sorted(SUFFIXES))}); add some or remove the folder"
            )
        files += found
        labels += [classes.index(entry.name)] * len(found)
    if not files:
        raise UserError(f"{root} has no sub-folder; wanted is one for each class: {', '.join(classes)}")
    return _Files(files, torch.tensor(labels, dtype=torch.int64))


def _join(a: _Files, b: _Files) -> _Files:
    return _Files(a.files + b.files, torch.cat([a.labels, b.labels]))
