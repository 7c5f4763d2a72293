"""Any pair of PyTorch map-style data sets, decoded once into memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from archgrad.datasets.arrays import labels_from, numbered_classes, to_uint8
from archgrad.datasets.decoding import to_pixels
from archgrad.datasets.images import ImageData, MemoryImages
from archgrad.datasets.memory import refuse_too_large
from archgrad.errors import UserError


def from_torch(
    train: Dataset[Any], test: Dataset[Any] | None = None, classes: Sequence[str] | None = None
) -> ImageData:
    """`ImageData` of data sets whose items are (image, label), label an integer from 0.

    An image is a tensor [C, H, W] or [H, W], an array [H, W, C] or [H, W], or a Pillow image: uint8,
    or floating point in [0, 1], which becomes round(255·v). Leave out random augmentation and
    normalisation there: each item is read once, here, and archgrad does both batch by batch.

    classes: names in order of the labels; else the data set's own `classes`, else numbers.

    Raises:
        UserError: no length, no item, items of another form, values out of range, NaN, images of
            several shapes, labels out of range, more pixels than fit into memory.
    """
    source = _decoded(train, "train")
    names = classes if classes is not None else getattr(train, "classes", None)
    named = tuple(map(str, names)) if names is not None else numbered_classes(source.labels, "train")
    name = type(train).__name__
    test_source = None if test is None else _decoded(test, "test")
    return ImageData(name, source, test_source, named, f"{name}: a PyTorch data set")


def _decoded(dataset: Any, part: str) -> MemoryImages:
    try:
        count = len(dataset)
    except TypeError:
        raise UserError(
            f"the {part} data set {type(dataset).__name__} has no length; give a map-style data set, with "
            "__len__ and __getitem__"
        ) from None
    if count == 0:
        raise UserError(f"the {part} data set {type(dataset).__name__} has no item")
    pixels: torch.Tensor | None = None
    labels = np.empty(count, dtype=np.int64)
    for i in range(count):
        where = f"item {i} of the {part} data set"
        item = dataset[i]
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise UserError(f"{where} must be (image, label); got {type(item).__name__}")
        image = _image(item[0], where)
        if pixels is None:
            refuse_too_large(count, (image.shape[0], image.shape[1], image.shape[2]))
            pixels = torch.empty((count, *image.shape), dtype=torch.uint8)
        if image.shape != pixels.shape[1:]:
            raise UserError(
                f"{where} is (C, H, W) = {tuple(image.shape)}, those before it {tuple(pixels.shape[1:])}; "
                "resize them to one shape in the data set"
            )
        pixels[i] = image
        labels[i] = int(labels_from(np.asarray(item[1]).reshape(-1), 1, f"the label of {where}"))
    assert pixels is not None
    return MemoryImages(pixels, torch.from_numpy(labels))


def _image(value: object, where: str) -> torch.Tensor:
    """uint8 [C, H, W]."""
    if isinstance(value, Image.Image):
        return torch.from_numpy(np.array(to_pixels(value, where, None)))
    if isinstance(value, torch.Tensor):
        array = value.detach().cpu().float().numpy() if value.is_floating_point() else value.cpu().numpy()
    elif isinstance(value, np.ndarray):
        array = value.transpose(2, 0, 1) if value.ndim == 3 else value
    else:
        raise UserError(
            f"the image of {where} must be a tensor [C, H, W], an array [H, W, C] or a Pillow image; got "
            f"{type(value).__name__}"
        )
    if array.ndim not in (2, 3):
        raise UserError(f"the image of {where} must have two or three axes; got shape {array.shape}")
    return torch.from_numpy(to_uint8(array if array.ndim == 3 else array[None], f"the image of {where}"))
