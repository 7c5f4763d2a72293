"""Atomic writes: a reader sees the old file or the new one, never half of one."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`, which is replaced in one step once the data is on the disk.

    Raises:
        OSError: the folder does not exist or cannot be written, or the disk is full; `path` is then
            as it was.
    """
    # In the same folder, because replacing is atomic only within one file system. Not from the
    # tempfile module, whose files nobody but their owner may read.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    r"""Write `text` to `path` as UTF-8 with ``\n`` line ends; see `write_bytes`."""
    write_bytes(path, text.encode("utf-8"))
