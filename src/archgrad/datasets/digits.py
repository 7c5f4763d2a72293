"""scikit-learn's handwritten digits: the data set that is always there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from archgrad.datasets.arrays import resized
from archgrad.datasets.images import ImageData, MemoryImages
from archgrad.errors import UserError


def digits(path: Path | None = None, resize: tuple[int, int] | None = None) -> ImageData:
    """1,797 grey images (1, 8, 8) of the digits 0 to 9, embedded in scikit-learn; no test part.

    Source values 0 to 16 become round(v·255/16), halves to even: 0, 16, 32, 48, 64, 80, 96, 112,
    128, 143, 159, 175, 191, 207, 223, 239, 255.

    Raises:
        UserError: a path is given.
    """
    from sklearn.datasets import load_digits

    if path is not None:
        raise UserError(
            f"'digits' comes with scikit-learn and reads no files; leave out the path {path}, or name the "
            "kind of data that is there"
        )
    images, labels = load_digits(return_X_y=True)
    pixels = np.rint(images.reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
    train = MemoryImages(resized(torch.from_numpy(pixels), resize), torch.from_numpy(labels.astype(np.int64)))
    return ImageData("digits", train, None, tuple("0123456789"), "digits: embedded in scikit-learn")
