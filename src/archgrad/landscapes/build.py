"""A landscape from names and settings, as a configuration or a command line gives them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from archgrad.errors import UserError
from archgrad.landscapes import LANDSCAPES, NOISES
from archgrad.landscapes.landscape import Landscape
from archgrad.table import nearest


def build(name: str, noise: Mapping[str, Any] | None = None, **settings: Any) -> Landscape:
    """``build("separable", choices=4, noise={"name": "additive", "sigma": 0.1})``.

    Args:
        name: an entry of `LANDSCAPES`, or ``"module:object"``.
        noise: ``{"name": an entry of NOISES, its settings …}``, or None.
        settings: of the landscape.

    Raises:
        UserError: an unknown name, or a setting that the part does not take or lacks.
    """
    made: Landscape = _call(f"landscape {name!r}", LANDSCAPES[name], settings)
    if noise is None:
        return made
    if "name" not in noise:
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
    return part(*given, **settings)
