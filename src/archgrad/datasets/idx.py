"""The idx layout of MNIST and Fashion-MNIST: four files, plain or gzip.

A file is a magic number (two zero bytes, a type, a number of axes), the length of each axis as a
32-bit big-endian integer, then the values. Images are type 8 (uint8) with three axes, labels with one.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from archgrad.datasets.arrays import labels_from, numbered_classes, resized
from archgrad.datasets.images import ImageData, MemoryImages
from archgrad.datasets.location import locate
from archgrad.errors import UserError

FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_FILES = "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte"


def fashion_mnist(path: Path | None = None, resize: tuple[int, int] | None = None) -> ImageData:
    """Fashion-MNIST: 60,000 + 10,000 grey images (1, 28, 28), ten classes.

    Raises:
        UserError: files missing, of another kind, truncated, or out of range.
    """
    data = read_idx("fashion-mnist", locate("fashion-mnist", path), resize, FASHION_CLASSES)
    return replace(data, mirror=True)


def read_idx(
    name: str, folder: Path, resize: tuple[int, int] | None, classes: tuple[str, ...] | None = None
) -> ImageData:
    """The four idx files of `folder`, plain or .gz; the two of the test (t10k) may be absent.

    classes: names in order of the labels; None numbers them.

    Raises:
        UserError: files missing, of another kind, truncated, or out of range.
    """
    train = _part(folder, "train", resize)
    if train is None:
        raise UserError(f"no train-images-idx3-ubyte in {folder}; wanted are {_FILES}, plain or .gz")
    test = _part(folder, "t10k", resize)
    if classes is None:
        classes = numbered_classes(train.labels, str(folder))
    return ImageData(name, train, test, classes, f"{name}: idx files of {folder}")


def find(folder: Path, part: str, kind: str) -> Path | None:
    """The file of `part` ("train", "t10k") and `kind` ("images-idx3", "labels-idx1"), if there."""
    for stem in (f"{part}-{kind}-ubyte", f"{part}-{kind.replace('-', '.')}-ubyte"):
        for suffix in ("", ".gz"):
            if (folder / (stem + suffix)).is_file():
                return folder / (stem + suffix)
    return None


def _part(folder: Path, part: str, resize: tuple[int, int] | None) -> MemoryImages | None:
    images, labels = find(folder, part, "images-idx3"), find(folder, part, "labels-idx1")
    if images is None and labels is None:
        return None
    if images is None or labels is None:
        lacking = "labels-idx1" if labels is None else "images-idx3"
        raise UserError(f"{folder} lacks {part}-{lacking}-ubyte; wanted are {_FILES}, plain or .gz")
    pixels = torch.from_numpy(read_array(images, 3))[:, None]
    if pixels.numel() == 0:
        raise UserError(f"{images} has no image: its shape is {list(pixels.shape)}")
    return MemoryImages(resized(pixels, resize), labels_from(read_array(labels, 1), len(pixels), str(labels)))


def read_array(path: Path, axes: int) -> NDArray[np.uint8]:
    """The uint8 array with `axes` axes that an idx file holds.

    Raises:
        UserError: wrong magic number, truncated or damaged file, or bytes left over.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"cannot read {path}: {error}; download it again") from None
    magic = bytes([0, 0, 8, axes])
    if data[:4] != magic:
        raise UserError(
            f"{path} begins with {data[:4].hex()}, not {magic.hex()}: no idx file of uint8 with {axes} "
            "axes; is it the right file, and is its name right about .gz?"
        )
    head = 4 + 4 * axes
    shape: tuple[Any, ...] = struct.unpack(f">{axes}I", data[4:head]) if len(data) >= head else ()
    wanted = head + math.prod(shape)
    if not shape or len(data) != wanted:
        raise UserError(
            f"{path} is truncated or damaged: its header {shape} makes {wanted} bytes, it has {len(data)}; "
            "download it again"
        )
    return np.frombuffer(data, np.uint8, offset=head).reshape(shape).copy()
