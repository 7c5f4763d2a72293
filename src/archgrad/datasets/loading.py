"""A data set by name or by path."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from archgrad.datasets import DATASETS
from archgrad.datasets.cifar import binary_kind
from archgrad.datasets.folder import has_class_folders
from archgrad.datasets.idx import find, read_idx
from archgrad.datasets.images import ImageData
from archgrad.datasets.location import locate
from archgrad.datasets.parquet import parquet_files, read_parquet
from archgrad.datasets.text import TextData, is_text
from archgrad.datasets.torch_datasets import from_torch
from archgrad.errors import UserError

__all__ = ["from_torch", "load"]

_LOG = logging.getLogger(__name__)


def load(
    name: str | None = None,
    path: str | Path | None = None,
    resize: int | tuple[int, int] | None = None,
) -> ImageData:
    """Load the images of data set `name`; as `load_any`.

    Raises:
        UserError: as `load_any`, or the data are a text.
    """
    data = load_any(name, path, resize)
    if isinstance(data, TextData):
        raise UserError(f"{data.name} is a text, and images are wanted; with a text use space.name=darts_rnn")
    return data


def load_any(
    name: str | None = None,
    path: str | Path | None = None,
    resize: int | tuple[int, int] | None = None,
) -> ImageData | TextData:
    """Load the data set `name`, from `path` or from ``$ARCHGRAD_DATA/<name>``.

    name: one of `DATASETS` or ``"module:function"``; empty or None with a path guesses from what is
        there, and without a path is "digits". What was guessed is in `ImageData.note` and in the log.
    resize: (H, W), or one number for a square; images are stretched to it, bilinear, antialiased.

    Raises:
        UserError: unknown name, no such path, or files that are not a data set (see each loader).
        MissingExtra: parquet files without pyarrow.
    """
    size = (resize, resize) if isinstance(resize, int) else resize
    if size is not None and min(size) < 1:
        raise UserError(f"resize is a number of pixels, or height and width; got {resize}")
    where = None if path is None or path == "" else Path(path)
    if name or where is None:
        data = DATASETS[name or "digits"](where, size)
    else:
        data = _guess(locate("data", where), size)
    if not isinstance(data, ImageData | TextData):
        raise UserError(
            f"data set {name!r} returned {type(data).__name__}; it must return an ImageData, or for a text a "
            "TextData"
        )
    _LOG.info(data.note)
    return data


def _guess(path: Path, resize: tuple[int, int] | None) -> ImageData | TextData:
    """Read `path` as what it looks like."""
    binary = binary_kind(path)
    data: ImageData | TextData
    if path.suffix == ".npz" or (path.is_dir() and any(path.glob("*.npz"))):
        kind, data = "an .npz file", DATASETS["npz"](path, resize)
    elif parquet_files(path):
        kind, data = "parquet files", read_parquet(path.stem, path, resize)
    elif find(path, "train", "images-idx3"):
        kind, data = "idx files", read_idx(path.name, path, resize)
    elif binary is not None:
        kind, data = f"{binary}'s binary layout", DATASETS[binary](path, resize)
    elif is_text(path):
        kind, data = "a text", DATASETS["text"](path, resize)
    elif has_class_folders(path):
        kind, data = "a folder of images by class", DATASETS["folder"](path, resize)
    else:
        raise UserError(
            f"{path} is none of: a folder with one sub-folder of images a class, an .npz file, parquet "
            "files, idx files (train-images-idx3-ubyte), CIFAR's binary files (data_batch_1.bin, train.bin), "
            "a text (train.txt, valid.txt and test.txt, or one .txt file)"
        )
    return replace(data, note=f"{data.note} (guessed from {path}: {kind})")
