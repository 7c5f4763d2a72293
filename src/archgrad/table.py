"""Tables of named parts: one line an entry, nothing imported until an entry is loaded.

Every family (samplers, spaces, costs ...) is a `Table`. Configuration names an entry, or a part of
the user's own as ``"module:object"``; no registration is needed for the latter.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from archgrad.errors import UserError


class Entry(NamedTuple):
    """A row of a table: where the part lives, one sentence about it, and its paper or source."""

    target: str  # "module:object"
    sentence: str
    source: str = ""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``" - did you mean 'x'?"`` for the known name most like `name`, or an empty string.

    >>> nearest("softmx", ["softmax", "gumbel_softmax"])
    " - did you mean 'softmax'?"
    """
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" - did you mean {close[0]!r}?" if close else ""


class Table:
    """A read-only table: ``table[name]`` imports and returns the part; `entries` describes without import.

    `name` is an entry's, or ``"module:object"`` for a part that is in no table.
    """

    def __init__(self, family: str, entries: Mapping[str, Entry]) -> None:
        self.family = family
        self.entries = dict(entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def check(self, name: str) -> None:
        """Raise `UserError` when `name` is neither an entry nor of the form ``module:object``."""
        module, _, attribute = name.partition(":")
        if name not in self.entries and not (module and attribute):
            raise UserError(
                f"unknown {self.family} {name!r}{nearest(name, self)}\n"
                f"  known: {', '.join(self)}; or your own as 'module:object'"
            )

    def __getitem__(self, name: str) -> Any:
        """Import and return the object called `name` (an entry, or ``"module:object"``).

        Raises:
            UserError: the name is unknown, or the module or object does not exist.
        """
        self.check(name)
        target = self.entries[name].target if name in self.entries else name
        module_name, _, attribute = target.partition(":")
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
                raise  # a dependency of that module is missing: its own message is the useful one
            raise UserError(
                f"{self.family} {name!r}: no module {module_name!r}; is its folder on PYTHONPATH?"
            ) from None
        if attribute not in vars(module):
            public = [n for n in vars(module) if not n.startswith("_")]
            raise UserError(
                f"{self.family} {name!r}: module {module_name!r} has no {attribute!r}"
                f"{nearest(attribute, public)}"
            )
        return vars(module)[attribute]
