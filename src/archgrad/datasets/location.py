"""Where a data set's files are: a given path, or a sub-folder of the folder ARCHGRAD_DATA names."""

from __future__ import annotations

import os
from pathlib import Path

from archgrad.errors import UserError

VARIABLE = "ARCHGRAD_DATA"


def locate(name: str, path: Path | None) -> Path:
    """`path` where given, else ``$ARCHGRAD_DATA/<name>``; it exists and is not empty.

    Raises:
        UserError: there is no such path, it is empty, or neither path nor variable is given.
    """
    if path is None:
        root = os.environ.get(VARIABLE)
        if not root:
            raise UserError(
                f"data set {name!r} needs its files: give a path to them, or set {VARIABLE} to a folder "
                f"that has {name}/ inside, e.g. export {VARIABLE}=~/data"
            )
        path = Path(root) / name
        if not path.expanduser().exists():
            raise UserError(
                f"data set {name!r} is not in {VARIABLE}={root}: there is no {path}; put its files there "
                "or give a path to them"
            )
    path = path.expanduser()
    if not path.exists():
        raise UserError(f"no file or folder {path}; give the path of the data, absolute or from {Path.cwd()}")
    if path.is_dir() and not any(path.iterdir()):
        raise UserError(f"the folder {path} is empty; give one that has the data in it")
    if path.is_file() and path.stat().st_size == 0:
        raise UserError(f"the file {path} is empty; copy or download it again")
    return path
