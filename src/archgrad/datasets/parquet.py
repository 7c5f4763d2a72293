"""Image data sets as parquet files, the way Hugging Face stores them.

One row an image: a column `image` (or `img`) with the encoded file, as bytes or as a struct with
`bytes`; an integer column `label` (or `labels`, `fine_label`); class names in the schema's metadata.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from archgrad.datasets.arrays import labels_from, numbered_classes
from archgrad.datasets.decoding import common_shape, decode_all
from archgrad.datasets.images import ImageData, MemoryImages
from archgrad.datasets.parts import arrange
from archgrad.errors import MissingExtra, UserError

_IMAGE_COLUMNS = ("image", "img")
_LABEL_COLUMNS = ("label", "labels", "fine_label")
_PARTS = {"train": ("train",), "validation": ("validation", "valid", "val"), "test": ("test",)}


class _Rows(NamedTuple):
    """Encoded images of one part, a name for each, labels int64 [N], and class names if known."""

    encoded: list[bytes]
    names: list[str]
    labels: Tensor
    classes: tuple[str, ...] | None


def parquet_files(path: Path) -> list[Path]:
    """The parquet files at `path`: itself, those in the folder, or those of its sub-folders."""
    if path.is_file():
        return [path] if path.suffix == ".parquet" else []
    return sorted(path.glob("*.parquet")) or sorted(path.rglob("*.parquet"))


def read_parquet(name: str, path: Path, resize: tuple[int, int] | None) -> ImageData:
    """Read train*, validation* and test* .parquet files; a single file of any name is all training.

    They are taken for photographs, whose mirror images are of the same class.

    A validation part joins the training part where there is a test part too, else it is the test part.

    Raises:
        MissingExtra: pyarrow is not installed.
        UserError: no training file, shards missing, other columns, damaged files or images, images of
            several sizes and no `resize`, labels out of range.
    """
    files = parquet_files(path)
    by_part: dict[str, list[Path]] = {
        part: [f for f in files if re.match(rf"({'|'.join(prefixes)})(?![a-z])", f.name.lower())]
        for part, prefixes in _PARTS.items()
    }
    if not by_part["train"]:
        if len(files) != 1:
            raise UserError(
                f"no training part in {path}: wanted are train*.parquet and test*.parquet, or one file; "
                f"got {', '.join(f.name for f in files[:6]) or 'no .parquet file'}"
            )
        by_part = {"train": files, "validation": [], "test": []}
    rows = {part: _rows(found) for part, found in by_part.items() if found}
    train, test = arrange(rows["train"], rows.get("validation"), rows.get("test"), _join)
    classes = train.classes or numbered_classes(train.labels, str(path))
    sources = [None if part is None else _decoded(part, resize) for part in (train, test)]
    assert sources[0] is not None
    return ImageData(name, sources[0], sources[1], classes, f"{name}: parquet files of {path}", mirror=True)


def _decoded(rows: _Rows, resize: tuple[int, int] | None) -> MemoryImages:
    shape = common_shape(rows.encoded, rows.names.__getitem__, resize)
    return MemoryImages(decode_all(rows.encoded, rows.names.__getitem__, shape, resize), rows.labels)


def _join(a: _Rows, b: _Rows) -> _Rows:
    return _Rows(a.encoded + b.encoded, a.names + b.names, torch.cat([a.labels, b.labels]), a.classes)


def _rows(files: list[Path]) -> _Rows:
    """All rows of one part, in the order of the file names."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtra("parquet", "pyarrow", f"reading {files[0].name}") from None
    _check_shards(files)
    encoded: list[bytes] = []
    names: list[str] = []
    labels: list[Tensor] = []
    classes: tuple[str, ...] | None = None
    for file in files:
        try:
            schema = pq.read_schema(file)
            image = _column(file, schema.names, _IMAGE_COLUMNS)
            label = _column(file, schema.names, _LABEL_COLUMNS)
            table = pq.read_table(file, columns=[image, label])
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"cannot read {file}: {error}; download it again") from None
        column = table[image].combine_chunks()
        if pa.types.is_struct(column.type):
            column = column.field("bytes")
        values = column.to_pylist()
        for row, value in enumerate(values):
            if not isinstance(value, bytes):
                raise UserError(
                    f"{file}, row {row}: column {image!r} holds {type(value).__name__}, not the bytes of an "
                    "image file; embed the files when writing the parquet"
                )
        if table[label].null_count or not pa.types.is_integer(table[label].type):
            raise UserError(
                f"{file}: column {label!r} must be an integer in every row; it is {table[label].type} with "
                f"{table[label].null_count} empty"
            )
        encoded += values
        names += [f"in row {row} of {file}" for row in range(len(values))]
        labels.append(labels_from(table[label].to_numpy(), len(values), f"column {label!r} of {file}"))
        classes = classes or _class_names(schema.metadata, label)
    if not encoded:
        raise UserError(f"{files[0]} has no row")
    return _Rows(encoded, names, torch.cat(labels), classes)


def _column(file: Path, present: list[str], wanted: tuple[str, ...]) -> str:
    for name in wanted:
        if name in present:
            return name
    raise UserError(f"{file} has columns {present}; one of {', '.join(wanted)} is wanted")


def _class_names(metadata: dict[bytes, bytes] | None, label: str) -> tuple[str, ...] | None:
    """The names in Hugging Face's metadata; None where there are none in the known form."""
    try:
        described: Any = json.loads((metadata or {})[b"huggingface"])
        names = described["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return tuple(str(name) for name in names) if isinstance(names, list) and names else None


def _check_shards(files: list[Path]) -> None:
    """Of shards ``…-00000-of-00002.parquet`` all must be there."""
    for file in files:
        match = re.fullmatch(r"(.*)-\d{5}-of-(\d{5})\.parquet", file.name)
        if match is None:
            continue
        for shard in range(int(match[2])):
            sibling = f"{match[1]}-{shard:05d}-of-{match[2]}.parquet"
            if not (file.parent / sibling).is_file():
                raise UserError(f"{file.parent} lacks {sibling}, a part of the same data; download it too")
