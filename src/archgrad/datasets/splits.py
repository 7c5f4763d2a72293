"""Which images train weights, which drive the architecture, which are kept for the test.

The split is a pure function of seed and labels, stratified by class, and recorded by hash.
"""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from archgrad.datasets.images import ImageData
from archgrad.errors import UserError
from archgrad.randomness import Streams


@dataclass(frozen=True)
class Splits:
    """Disjoint parts of a data set, as sorted int64 indices.

    weights, architecture: into `data.train`; they train operation weights and drive the architecture.
    test: into `data.train` when the data has no test images of its own; else None, meaning all of
        `data.test`.
    digests: SHA-256, in hex, of the sorted indices of "weights", "architecture" and "test" as 64-bit
        little-endian integers.
    """

    weights: Tensor
    architecture: Tensor
    test: Tensor | None
    digests: dict[str, str]


def split(
    data: ImageData,
    streams: Streams,
    validation: float = 0.5,
    test: float = 0.2,
    file: Path | None = None,
) -> Splits:
    """Split `data`, by seed or as a file says.

    By seed, within each class: `test` is the share of images kept for the test (only where the data
    has no test images of its own), `validation` the share of the rest that drives the architecture.
    A class of n gives round(share·n) (half to even), at least one and at most n − 1.

    file: a published split instead, an .npz with integer arrays `train` (trains weights) and `valid`
        (drives the architecture), and `test` where the data has no test images of its own. The two
        shares do not apply then.

    Raises:
        UserError: a share outside (0, 1), a class with too few images to be in every part, or a file
            that is no such split of this data.
    """
    if file is not None:
        return _from_file(data, file)
    for name, share in (("validation", validation), ("test", test)):
        if not 0 < share < 1:
            raise UserError(f"{name} is a share of the images, above 0 and below 1; got {share}")
    generator = streams.generator("split")
    labels = data.train.labels.cpu()
    rest, held_out = torch.arange(len(labels)), None
    if data.test is None:
        rest, held_out = _divide(data, rest, labels, test, 3, generator)
    weights, architecture = _divide(data, rest, labels, validation, 2, generator)
    return _recorded(data, weights, architecture, held_out)


def _divide(
    data: ImageData, indices: Tensor, labels: Tensor, share: float, parts: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """(the others, `share` of each class at random); every class must still fill `parts` parts."""
    keep, take = [], []
    for number, name in enumerate(data.classes):
        members = indices[labels[indices] == number]
        n = len(members)
        if n == 0:
            continue
        if n < parts:
            raise UserError(
                f"{data.name}: class {name!r} has {n} image(s), too few for one in each of {parts} parts; "
                "add images, leave the class out, or give the split as a file"
            )
        members = members[torch.randperm(n, generator=generator)]
        count = max(1, min(n - parts + 1, round(share * n)))
        take.append(members[:count])
        keep.append(members[count:])
    return torch.cat(keep), torch.cat(take)


def _recorded(data: ImageData, weights: Tensor, architecture: Tensor, test: Tensor | None) -> Splits:
    weights, architecture = weights.sort().values, architecture.sort().values
    test = None if test is None else test.sort().values
    if test is not None:
        all_test = test
    else:
        assert data.test is not None
        all_test = torch.arange(len(data.test))
    parts = {"weights": weights, "architecture": architecture, "test": all_test}
    digests = {name: _digest(indices) for name, indices in parts.items()}
    return Splits(weights, architecture, test, digests)


def _digest(indices: Tensor) -> str:
    return hashlib.sha256(indices.numpy().astype("<i8").tobytes()).hexdigest()


def _from_file(data: ImageData, file: Path) -> Splits:
    wanted = ["train", "valid"] + (["test"] if data.test is None else [])
    asked = f"a split file is an .npz with integer arrays {', '.join(map(repr, wanted))}"
    if not file.is_file():
        raise UserError(f"no split file {file}; {asked}")
    if not zipfile.is_zipfile(file):
        raise UserError(f"cannot read the split {file}: it is no .npz archive; {asked}")
    parts: dict[str, Tensor] = {}
    try:
        with np.load(file, allow_pickle=False) as archive:
            for name in wanted:
                if name not in archive:
                    raise UserError(f"{file} has arrays {sorted(archive)}, not {name!r}; {asked}")
                array = archive[name]
                if array.ndim != 1 or array.dtype.kind not in "iu" or array.size == 0:
                    raise UserError(
                        f"{file}: {name!r} must be a row of integers, one an image; "
                        f"got {array.dtype} of shape {array.shape}"
                    )
                parts[name] = torch.from_numpy(array.astype(np.int64))
    except UserError:
        raise
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise UserError(f"cannot read the split {file}: {error}; {asked}") from None
    together = torch.cat(list(parts.values()))
    if int(together.min()) < 0 or int(together.max()) >= len(data.train):
        raise UserError(
            f"{file} has indices from {int(together.min())} to {int(together.max())}; {data.name} "
            f"has {len(data.train)} training images, 0 to {len(data.train) - 1}: is it another data set's?"
        )
    if len(set(together.tolist())) != len(together):
        raise UserError(f"{file}: an image is named twice; the parts of a split have no image in common")
    return _recorded(data, parts["train"], parts["valid"], parts.get("test"))
