"""The cells that the literature published, by name: data in ``published.json``, and how to find one.

CNN cells are those of the DARTS authors' collection and of the papers' own code; recurrent ones begin with
``RNN_``. `notes` says by network where a number that a paper prints does not follow from its published code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from archgrad.errors import UserError
from archgrad.genotype import Genotype
from archgrad.table import nearest


class Published(NamedTuple):
    """A cell: its name, a sentence, its paper, remarks by network (``cifar``, ``imagenet``)."""

    name: str
    sentence: str
    source: str
    text: str
    notes: Mapping[str, str] = {}

    @property
    def genotype(self) -> Genotype:
        """The cell."""
        return Genotype.parse(self.text)


@cache
def published() -> dict[str, Published]:
    """Every published cell by name.

    >>> published()["DARTS_V2"].genotype.space
    'darts'
    """
    file = resources.files("archgrad.genotypes") / "published.json"
    return {name: Published(name, **row) for name, row in json.loads(file.read_text("utf-8")).items()}


def find(given: str) -> Published:
    """A published cell by name, or the one that a text or a file describes (then without source and notes).

    Raises:
        UserError: no such name or file, or it holds no genotype.
    """
    known = published()
    if given in known:
        return known[given]
    if not any(sign in given for sign in "(|{"):
        given = _read(given, known)
    return Published("genotype", "", "", Genotype.parse(given).to_text())


def _read(given: str, known: Mapping[str, Published]) -> str:
    path = Path(given)
    if not path.is_file():
        if not given.strip():
            raise UserError("the genotype is empty; give a name (archgrad list genotypes), a text or a file")
        raise UserError(
            f"no genotype and no file called {given!r}{nearest(given, known)}; archgrad list genotypes names "
            "all; or give the text of one, Genotype(normal=[…], …)"
        )
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path} is no text in UTF-8, so no genotype") from None
