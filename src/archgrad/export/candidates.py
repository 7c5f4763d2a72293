"""Which entries of tables a concrete network is really made of.

A space may look a candidate up without building it (``partial(OPS[name], …)`` for every name, of which
`pick` builds one). The stand-alone file is to hold the code of those that were built, so building is
watched rather than the look-ups.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, NamedTuple

from torch import nn

from archgrad.table import Table


class Lookups(NamedTuple):
    """The names looked up in one table: those called, and those only looked up."""

    called: tuple[str, ...]
    only_looked_up: tuple[str, ...]


class Candidates:
    """Runs a function and notes the tables' entries that it looks up and calls."""

    def __init__(self) -> None:
        self._tables: dict[int, tuple[Table, dict[str, None]]] = {}
        self._codes: set[CodeType] = set()
        self._types: set[type] = set()

    def watch(self, run: Callable[[], Any]) -> Any:
        """Return ``run()``; only what this thread does meanwhile is noted."""
        before = sys.getprofile()
        sys.setprofile(self._note)
        try:
            return run()
        finally:
            sys.setprofile(before)

    def _note(self, frame: FrameType, event: str, argument: object) -> None:
        if event != "call":
            return
        code = frame.f_code
        self._codes.add(code)
        if code is Table.__getitem__.__code__:
            table = frame.f_locals["self"]
            names = self._tables.setdefault(id(table), (table, {}))[1]
            names[frame.f_locals["name"]] = None
        elif code.co_name == "__init__" and code.co_varnames:
            self._types.add(type(frame.f_locals.get(code.co_varnames[0])))

    def lookups(self, table: Table) -> Lookups:
        """What was looked up in `table`, in the order of the first look-up."""
        _, names = self._tables.get(id(table), (table, dict[str, None]()))
        called = tuple(name for name in names if self._was_called(table[name]))
        return Lookups(called, tuple(name for name in names if name not in called))

    def _was_called(self, part: object) -> bool:
        if isinstance(part, type) and issubclass(part, nn.Module):
            return part in self._types
        code = getattr(part, "__code__", None)
        return code in self._codes if code is not None else True  # cannot tell: keep it


def entry_target(table: Table, name: str) -> tuple[str, str]:
    """(module, attribute) of a table's entry, or of a name of the form ``module:attribute``."""
    target = table.entries[name].target if name in table.entries else name
    module, _, attribute = target.partition(":")
    return module, attribute
