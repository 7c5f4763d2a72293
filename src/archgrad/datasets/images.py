"""Images and their labels, decoded in memory or decoded on demand.

Shapes: N images of C channels, H×W pixels; a batch has B. Pixels are uint8, 0 to 255.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from archgrad.datasets.decoding import decode
from archgrad.errors import UserError


class ImageSource(Protocol):
    """N labelled images of one shape, read by index."""

    @property
    def labels(self) -> Tensor:
        """int64 [N], on the host."""
        ...

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        ...

    def __len__(self) -> int:
        """N."""
        ...

    def fetch(self, indices: Tensor) -> Tensor:
        """The images at `indices` (int64 [B]), as uint8 [B, C, H, W]."""
        ...


class MemoryImages:
    """Decoded images in memory: pixels uint8 [N, C, H, W], labels int64 [N].

    Raises:
        UserError: wrong type or shape, or not one label an image.
    """

    def __init__(self, pixels: Tensor, labels: Tensor) -> None:
        if pixels.dtype != torch.uint8 or pixels.ndim != 4:
            raise UserError(
                f"pixels must be uint8 [N, C, H, W]; got {pixels.dtype} {list(pixels.shape)}; "
                "scale to 0..255 and call .to(torch.uint8)"
            )
        if labels.dtype != torch.int64 or labels.shape != pixels.shape[:1]:
            raise UserError(
                f"labels must be int64 [N], one for each of {len(pixels)} images; "
                f"got {labels.dtype} {list(labels.shape)}"
            )
        self.pixels = pixels
        self.labels = labels
        self._copies: dict[torch.device, MemoryImages] = {}

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        _, c, h, w = self.pixels.shape
        return c, h, w

    def __len__(self) -> int:
        """N."""
        return len(self.pixels)

    def fetch(self, indices: Tensor) -> Tensor:
        """The images at `indices` (int64 [B]), as uint8 [B, C, H, W] on the device of the pixels."""
        return self.pixels.index_select(0, indices.to(self.pixels.device))

    def to(self, device: torch.device | str) -> MemoryImages:
        """The same images with their pixels on `device`.

        The copy is made once: the parts of a split share it.
        """
        target = torch.empty(0, device=device).device  # "cuda" -> "cuda:0", so that both are one key
        if target == self.pixels.device:
            return self
        if target not in self._copies:
            self._copies[target] = MemoryImages(self.pixels.to(target), self.labels)
        return self._copies[target]


class FolderImages:
    """Image files decoded each time they are fetched, by a pool of threads (Pillow frees the GIL).

    labels: int64 [N]; shape: (C, H, W) that every file is brought to, by `resize` (H, W) where given.

    Raises:
        UserError: not one label a file; at `fetch`, a file that cannot be decoded, by name.
    """

    def __init__(
        self,
        files: Sequence[Path],
        labels: Tensor,
        shape: tuple[int, int, int],
        resize: tuple[int, int] | None = None,
        workers: int | None = None,
    ) -> None:
        if labels.dtype != torch.int64 or labels.shape != (len(files),):
            raise UserError(
                f"labels must be int64 [N], one for each of {len(files)} files; "
                f"got {labels.dtype} {list(labels.shape)}"
            )
        self.files = tuple(files)
        self.labels = labels
        self.shape = shape
        self._resize = resize
        self._pool = ThreadPoolExecutor(workers or os.cpu_count(), thread_name_prefix="decode")

    def __len__(self) -> int:
        """N."""
        return len(self.files)

    def fetch(self, indices: Tensor) -> Tensor:
        """The images at `indices` (int64 [B]), decoded to uint8 [B, C, H, W] on the host."""

        def one(index: int) -> Tensor:
            path = self.files[index]
            image = decode(path, str(path), self.shape[0], self._resize)
            if image.shape != self.shape:
                raise UserError(
                    f"{path} has become {image.shape[2]}×{image.shape[1]} pixels; it was "
                    f"{self.shape[2]}×{self.shape[1]} when the folder was read"
                )
            return torch.from_numpy(image)

        return torch.stack(list(self._pool.map(one, indices.tolist())))


@dataclass(frozen=True)
class ImageData:
    """A data set: training images, test images if it has its own, and the names of its classes.

    note: a sentence about where it came from, for the log; says what was guessed, if anything.
    mirror: whether an image mirrored left and right is of the same class, so that training may flip it. True
        for clothing and photographs; False for digits, and where nobody can tell, as for arrays from a
        file or from Python: a flip that is missing costs little, one that makes a wrong label costs more.

    Raises:
        UserError: one class only, labels out of range, parts of different shape, an empty part, or
            fewer training images than classes.
    """

    name: str
    train: ImageSource
    test: ImageSource | None
    classes: tuple[str, ...]
    note: str = ""
    mirror: bool = False

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise UserError(
                f"{self.name}: {len(self.classes)} class(es) {list(self.classes)}; telling classes apart "
                "needs at least two, each with images of its own"
            )
        for part, source in (("training", self.train), ("test", self.test)):
            if source is None:
                continue
            if len(source) == 0:
                raise UserError(f"{self.name}: the {part} part has no image")
            low, high = int(source.labels.min()), int(source.labels.max())
            if low < 0 or high >= len(self.classes):
                raise UserError(
                    f"{self.name}: {part} labels go from {low} to {high}, but there are "
                    f"{len(self.classes)} classes; labels must be 0 to {len(self.classes) - 1}"
                )
        if self.test is not None and self.test.shape != self.train.shape:
            raise UserError(
                f"{self.name}: training images are (C, H, W) = {self.train.shape}, test images "
                f"{self.test.shape}; give a resize that suits both, and the same number of channels"
            )
        if len(self.train) < len(self.classes):
            raise UserError(
                f"{self.name}: {len(self.train)} training images for {len(self.classes)} classes; at least "
                "one a class is needed"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        return self.train.shape
