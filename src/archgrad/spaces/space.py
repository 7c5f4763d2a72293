"""What a space is: a builder, and the settings it takes in search and in training."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, Literal

from torch import nn

from archgrad.errors import UserError
from archgrad.table import nearest

Shape = tuple[int, int, int]
"""(C, H, W) of one input image."""


@dataclass(frozen=True)
class Space:
    """A builder ``(pick, shape, classes, **settings) -> nn.Module`` with its settings by phase.

    builder: a function or class; `shape` is (C, H, W) of an image, `classes` the number of classes.
    search: settings of the published supernet, on top of the builder's defaults.
    train: settings of the published final network, likewise.
    training: the published recipe for training it: the configuration's section ``train``.
    searching: the published recipe for searching it, by section of the configuration; in the sections
        ``search`` and ``architecture`` a method's own settings are stronger.
    small_search, small_train: settings that replace them for data smaller than the published.
    rule: the derivation rule of the space's authors.
    reads: what its networks are for. Of a text `shape` is (T,), the words of a window, and `classes` the
        number of words in the vocabulary.
    """

    builder: Callable[..., nn.Module]
    search: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    searching: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    small_search: Mapping[str, Any] = field(default_factory=dict)
    small_train: Mapping[str, Any] = field(default_factory=dict)
    rule: str = "argmax"
    reads: Literal["images", "text"] = "images"

    def settings(self) -> dict[str, inspect.Parameter]:
        """The builder's parameters after ``pick, shape, classes``."""
        parameters = list(inspect.signature(self.builder).parameters.values())
        return {p.name: p for p in parameters[3:]}

    def recipe(self, preset: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """`searching`, but for what a method's preset says of the loop and of the optimizer of the logits."""
        return {
            section: {**values, **(preset.get(section, {}) if section in ("search", "architecture") else {})}
            for section, values in self.searching.items()
        }

    def unknown_settings(self, given: Mapping[str, Any]) -> list[str]:
        """One sentence for each given setting that the builder does not take."""
        known = self.settings()
        return [
            f"{key!r}{nearest(key, known)}; it takes {', '.join(known)}" for key in given if key not in known
        ]


def check_counts(**settings: object) -> None:
    """Settings of a builder that count something.

    Raises:
        UserError: one is no whole number of at least 1.
    """
    for name, value in settings.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
            raise UserError(f"space.{name}: wanted a whole number of at least 1, got {value!r}")


def check_different(candidates: Sequence[str], where: str = "") -> None:
    """Candidates of a choice; `where` says of which, as in ``" of the edge 'normal/2<-0'"``.

    Raises:
        UserError: one is given twice.
    """
    if twice := [name for name in dict.fromkeys(candidates) if list(candidates).count(name) > 1]:
        raise UserError(
            f"space.candidates: wanted different ones{where}, got {', '.join(twice)} more than once; "
            "give each once"
        )


def as_space(part: object) -> Space:
    """A `Space` from a table entry or from a user's own builder.

    Raises:
        UserError: the object cannot be called as ``(pick, shape, classes)``.
    """
    if isinstance(part, Space):
        return part
    if not callable(part):
        raise UserError(f"a space is a function or class (pick, shape, classes, …), got {part!r}")
    names = list(inspect.signature(part).parameters)
    if names[:3] != ["pick", "shape", "classes"]:
        raise UserError(
            f"the first parameters of a space are (pick, shape, classes), those of {part!r} are "
            f"({', '.join(names[:3])}); shape is (C, H, W) of an image"
        )
    return Space(part)
