"""CIFAR-10 and CIFAR-100: parquet files, or the official binary layout.

A binary row is one label byte (CIFAR-10) or two (CIFAR-100: coarse, fine), then 3,072 bytes: the red,
green and blue planes of 32×32, row by row.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from archgrad.datasets.arrays import labels_from, resized
from archgrad.datasets.images import ImageData, MemoryImages
from archgrad.datasets.location import locate
from archgrad.datasets.parquet import parquet_files, read_parquet
from archgrad.errors import UserError

_PIXELS = 3 * 32 * 32


class _Layout(NamedTuple):
    """How one of the two names and writes its files; `label_bytes` a row, the last one counts."""

    name: str
    folder: str
    train: str  # a regular expression
    test: str
    names: str
    label_bytes: int
    classes: int


_CIFAR10 = _Layout(
    "cifar10", "cifar-10-batches-bin", r"data_batch_(\d+)\.bin", "test_batch.bin", "batches.meta.txt", 1, 10
)
_CIFAR100 = _Layout("cifar100", "cifar-100-binary", r"train\.bin", "test.bin", "fine_label_names.txt", 2, 100)


def cifar10(path: Path | None = None, resize: tuple[int, int] | None = None) -> ImageData:
    """CIFAR-10, images (3, 32, 32), ten classes: parquet files or data_batch_*.bin.

    Raises:
        UserError: files missing, truncated or damaged, labels out of range.
        MissingExtra: parquet files without pyarrow.
    """
    return _read(_CIFAR10, path, resize)


def cifar100(path: Path | None = None, resize: tuple[int, int] | None = None) -> ImageData:
    """CIFAR-100, images (3, 32, 32), a hundred (fine) classes: parquet files or train.bin, test.bin.

    Raises:
        UserError: files missing, truncated or damaged, labels out of range.
        MissingExtra: parquet files without pyarrow.
    """
    return _read(_CIFAR100, path, resize)


def binary_kind(path: Path) -> str | None:
    """The name of the data set whose binary layout is in the folder `path`, if it is one of the two."""
    for layout in (_CIFAR10, _CIFAR100):
        if path.is_dir() and _train_files(_binary_folder(layout, path), layout):
            return layout.name
    return None


def _read(layout: _Layout, path: Path | None, resize: tuple[int, int] | None) -> ImageData:
    path = locate(layout.name, path)
    if parquet_files(path):
        data = read_parquet(layout.name, path, resize)
        if len(data.classes) != layout.classes:
            raise UserError(
                f"{path} has {len(data.classes)} classes, {layout.name} has {layout.classes}; is it another "
                "data set? Leave out the name to read it as it is"
            )
        return data
    folder = _binary_folder(layout, path)
    files = _train_files(folder, layout)
    if not files:
        hint = ""
        if any(folder.glob("*.meta")) or (folder / "data_batch_1").is_file():
            hint = ". Its Python version is pickled and not read: take the binary version"
        raise UserError(
            f"{path} has neither train*.parquet nor {layout.train.replace(chr(92), '')} and "
            f"{layout.test} of {layout.name}{hint}"
        )
    _check_numbers(files, layout)
    train = _rows(files, layout, resize)
    test_file = folder / layout.test
    test = _rows([test_file], layout, resize) if test_file.is_file() else None
    return ImageData(
        layout.name,
        train,
        test,
        _class_names(folder, layout),
        f"{layout.name}: binary files of {folder}",
        mirror=True,
    )


def _binary_folder(layout: _Layout, path: Path) -> Path:
    """The archive's own folder where `path` is its parent."""
    return path / layout.folder if (path / layout.folder).is_dir() else path


def _train_files(folder: Path, layout: _Layout) -> list[Path]:
    """The training files in numeric order; data_batch_10 comes after data_batch_9."""
    if not folder.is_dir():
        return []
    found = [(re.fullmatch(layout.train, f.name), f) for f in folder.iterdir()]
    return [
        f for _, f in sorted((tuple(map(int, match.groups())), f) for match, f in found if match is not None)
    ]


def _check_numbers(files: list[Path], layout: _Layout) -> None:
    if layout is _CIFAR10:
        for number in range(1, len(files) + 1):
            if files[number - 1].name != f"data_batch_{number}.bin":
                raise UserError(f"{files[0].parent} lacks data_batch_{number}.bin; download it again")


def _rows(files: list[Path], layout: _Layout, resize: tuple[int, int] | None) -> MemoryImages:
    width = layout.label_bytes + _PIXELS
    blocks = []
    for file in files:
        data = np.fromfile(file, np.uint8)
        if data.size == 0 or data.size % width:
            raise UserError(
                f"{file} has {data.size} bytes, not a multiple of {width}, the bytes of an image of "
                f"{layout.name}: truncated, or another file; download it again"
            )
        blocks.append(data.reshape(-1, width))
    rows = np.concatenate(blocks)
    labels = labels_from(rows[:, layout.label_bytes - 1], len(rows), str(files[0]))
    pixels = torch.from_numpy(rows[:, layout.label_bytes :].reshape(-1, 3, 32, 32).copy())
    return MemoryImages(resized(pixels, resize), labels)


def _class_names(folder: Path, layout: _Layout) -> tuple[str, ...]:
    """The names in the archive's text file, or numbers where it is not there."""
    file = folder / layout.names
    if not file.is_file():
        return tuple(str(i) for i in range(layout.classes))
    names = tuple(line.strip() for line in file.read_text("utf-8").splitlines() if line.strip())
    if len(names) != layout.classes:
        raise UserError(
            f"{file} has {len(names)} names, {layout.name} has {layout.classes} classes; remove the file to "
            "number the classes"
        )
    return names
