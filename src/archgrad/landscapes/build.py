"""A landscape from names and settings, as a configuration or a command line gives them."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from archgrad.errors import UserError
from archgrad.landscapes import LANDSCAPES, NOISES
from archgrad.landscapes.landscape import Landscape
from archgrad.table import nearest


def build(name: str, noise: Mapping[str, Any] | None = None, /, **settings: Any) -> Landscape:
    """``build("separable", {"name": "additive", "sigma": 0.1}, choices=4)``.

    Args:
        name: an entry of `LANDSCAPES`, or ``"module:object"``.
        noise: ``{"name": an entry of NOISES, its settings …}``, or None.
        settings: of the landscape; any key may be asked for, so the two above are by position only.

    Raises:
        UserError: an unknown name, a setting that the part does not take or lacks, or one of another type
            than the part annotates.
    """
    made: Landscape = _call(f"landscape {name!r}", LANDSCAPES[name], settings)
    if noise is None:
        return made
    if not isinstance(noise.get("name"), str):
        raise UserError(f"noise needs a name, one of {', '.join(NOISES)}; got {dict(noise)}")
    rest = {key: value for key, value in noise.items() if key != "name"}
    noisy: Landscape = _call(f"noise {noise['name']!r}", NOISES[noise["name"]], rest, made)
    return noisy


def _call(label: str, part: Callable[..., Any], settings: Mapping[str, Any], *given: Any) -> Any:
    """``part(*given, **settings)``, a setting that does not fit being a `UserError`."""
    parameters = list(inspect.signature(part).parameters.values())[len(given) :]
    names = [parameter.name for parameter in parameters]
    listed = ", ".join(names) or "no settings"
    for key in settings:
        if key not in names:
            raise UserError(f"{label} has no setting {key!r}{nearest(key, names)}; it takes {listed}")
    for parameter in parameters:
        if parameter.default is parameter.empty and parameter.name not in settings:
            raise UserError(f"{label} needs the setting {parameter.name!r}; it takes {listed}")
    _check_types(label, part, settings)
    return part(*given, **settings)


def _check_types(label: str, part: Callable[..., Any], settings: Mapping[str, Any]) -> None:
    """Raise `UserError` unless every setting has the type that `part` annotates, if it does."""
    function = vars(part).get("__init__") if isinstance(part, type) else part
    written = getattr(function, "__annotations__", {})
    for name, value in settings.items():
        try:
            # one by one: what it returns may have a name that only a type checker knows
            only = types.SimpleNamespace(__annotations__={name: written[name]})
            hint = typing.get_type_hints(only, getattr(function, "__globals__", {}))[name]
        except (KeyError, NameError, TypeError):  # no annotation, or one that cannot be resolved here
            continue
        adapter: TypeAdapter[Any] = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
        try:
            adapter.validate_python(value, strict=True)
        except ValidationError as error:
            wanted = error.errors()[0]["msg"].lower().removeprefix("input ")
            raise UserError(f"{label}: {name} {wanted}, got {value!r}") from None
