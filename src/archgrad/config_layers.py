"""Where a configuration comes from: files, ``section.key=value`` pairs, and layers laid over one another."""

from __future__ import annotations

import contextlib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from archgrad.config import Config
from archgrad.errors import UserError


def overrides(pairs: list[str]) -> dict[str, Any]:
    """``["search.epochs=5", …]`` as a nested dictionary; values are read as YAML.

    >>> overrides(["search.epochs=5", "device.name=cpu"])
    {'search': {'epochs': 5}, 'device': {'name': 'cpu'}}
    """
    document: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UserError(f"an override reads section.key=value, got {pair!r}")
        try:
            parsed = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UserError(f"cannot read the value of {pair!r} as YAML") from None
        if isinstance(parsed, str):  # YAML 1.1 takes 1e-3 for a string
            with contextlib.suppress(ValueError):
                parsed = float(parsed)
        *path, last = key.split(".")
        if not all((*path, last)):
            raise UserError(f"an override reads section.key=value, got {pair!r}")
        place = document
        for part in path:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise UserError(f"{pair!r}: {part!r} was given a value before; it cannot hold keys, too")
        if isinstance(place.get(last), dict):
            raise UserError(f"{pair!r}: {last!r} was given keys before; it cannot hold a value, too")
        place[last] = parsed
    return document


def _numbers(value: Any) -> Any:
    """Strings such as 3e-4 as the numbers that YAML 1.2 takes them for; PyYAML reads YAML 1.1."""
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return float(value) if isinstance(value, str) and _EXPONENT.fullmatch(value) else value


_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


def read(path: Path) -> dict[str, Any]:
    """A YAML or TOML file as a dictionary.

    Raises:
        UserError: no such file, another format, or it is not a mapping.
    """
    if not path.is_file():
        raise UserError(f"no configuration file {path}")
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".toml":
            return tomllib.loads(text)
        document = _numbers(yaml.safe_load(text))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise UserError(f"{path} should hold sections (a mapping), holds a {type(document).__name__}")
    if strange := [key for key in dotted(document) if not isinstance(key, str)]:
        raise UserError(f"{path}: keys are words; got {', '.join(map(repr, strange))}")
    return document


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dictionaries laid over one another; the last wins.

    A part named differently than in the layer below drops the settings of the part it replaces.

    >>> merge({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}})
    {'a': {'x': 1, 'y': 3}}
    """
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            below = result.get(key)
            if isinstance(value, Mapping) and isinstance(below, dict):
                renamed = "name" in value and value["name"] != below.get("name")
                result[key] = merge({} if renamed and key in _PART_SECTIONS else below, value)
            else:
                result[key] = merge(value) if isinstance(value, Mapping) else value
    return result


_PART_SECTIONS = ("space", "sampler", "controller", "hypergradient")


def dotted(document: Mapping[Any, Any], prefix: str = "") -> list[Any]:
    """All keys that hold values, as ``section.key``; a key that is no string stays what it is.

    >>> dotted({"a": {"x": 1, "y": {"z": 2}}, "b": 3})
    ['a.x', 'a.y.z', 'b']
    """
    keys: list[Any] = []
    for key, value in document.items():
        if not isinstance(key, str):
            keys.append(key)
        elif isinstance(value, Mapping):
            keys += [k if not isinstance(k, str) else f"{prefix}{key}.{k}" for k in dotted(value)]
        else:
            keys.append(f"{prefix}{key}")
    return keys


def layered(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """The layers over the defaults, as the schema wants them.

    Lists from YAML become its tuples. A data path without a name leaves the name empty: what is there is
    looked at.
    """
    document = merge(Config().model_dump(), *layers)
    data = merge(*layers).get("data")
    if isinstance(data, dict) and data.get("path") and "name" not in data:
        document["data"]["name"] = ""
    for section, key in (("architecture", "betas"), ("data", "resize")):
        place = document.get(section)
        if isinstance(place, dict) and isinstance(place.get(key), list):
            place[key] = tuple(place[key])
    return document
