"""From what a user gives to a configuration without gaps.

`resolve` lays, from weakest to strongest: defaults, the method's preset, sizes chosen by rule for the
data at hand, what the user gave. Unknown keys, wrong types and keys that the chosen method does not
use are reported together. The resolved document is written into the run folder and can be fed back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError

from archgrad.config import Config, unused
from archgrad.errors import ConfigError, UserError
from archgrad.hypergradients import HYPERGRADIENTS
from archgrad.methods import METHODS
from archgrad.samplers import SAMPLERS
from archgrad.spaces import SPACES
from archgrad.spaces.space import Space, as_space
from archgrad.table import Table, nearest


class Resolved(NamedTuple):
    """A configuration without gaps, and one sentence for each size that a rule chose."""

    config: Config
    notes: tuple[str, ...]


class DataSize(NamedTuple):
    """What the rules for sizes look at: images to learn from (test part excluded), and (C, H, W)."""

    name: str
    images: int
    shape: tuple[int, int, int]


_FLIPPABLE = ("cifar10", "cifar100", "fashion-mnist", "folder")  # a mirror image is of the same class
_PUBLISHED_IMAGES, _PUBLISHED_SIDE = 20_000, 28  # from here on the published sizes hold
_PUBLISHED_STEPS = 50 * 390  # α steps of a DARTS search: 50 epochs of 25,000 / 64
_SMALL_STEPS = 1_500


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
        place = document
        for part in path:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise UserError(f"{pair!r}: {part!r} was given a value before; it cannot hold keys, too")
        place[last] = parsed
    return document


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
        document = yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise UserError(f"{path} should hold sections (a mapping), holds a {type(document).__name__}")
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


_PART_SECTIONS = ("space", "sampler", "hypergradient")


def check(given: Mapping[str, Any]) -> Config:
    """Validate what the user gave against defaults and preset, before any data is read.

    Raises:
        ConfigError: everything that is wrong with it.
    """
    method = given.get("method", Config().method)
    problems = []
    if not isinstance(method, str) or method not in METHODS:
        problems.append(
            f"method: unknown {method!r}{nearest(str(method), METHODS)}; known: {', '.join(METHODS)}"
        )
    preset = METHODS[method].settings if not problems else {}
    try:
        config = Config.model_validate(_tuples(merge(_defaults(), preset, given)))
    except ValidationError as error:
        raise ConfigError([*problems, *(_sentence(e) for e in error.errors())]) from None
    problems += _part_problems(config)
    if not problems:
        given_keys = set(_dotted(given))
        problems += [f"{key}: {why}" for key, why in unused(config).items() if key in given_keys]
    if config.search.warmup_epochs >= config.search.epochs and "search.epochs" in set(_dotted(given)):
        problems.append(
            f"search.warmup_epochs: {config.search.warmup_epochs} leaves no epoch of "
            f"{config.search.epochs} for the architecture"
        )
    if problems:
        raise ConfigError(problems)
    return config


def resolve(given: Mapping[str, Any], size: DataSize) -> Resolved:
    """The full configuration for data of this size.

    Raises:
        ConfigError: everything that is wrong with what was given.
    """
    first = check(given)
    space = _space(first)
    sized: dict[str, Any] = {
        "space": {"name": first.space.name, **space.search},
        "train": {**space.training, "space": dict(space.train)},
        "derive": {"rule": first.derive.rule if "derive" in METHODS[first.method].settings else space.rule},
        "data": {"flip": size.name in _FLIPPABLE},
    }
    notes: list[str] = []
    if size.images < _PUBLISHED_IMAGES or min(size.shape[1:]) < _PUBLISHED_SIDE:
        sized = merge(sized, _small(first, size, notes))
    config = Config.model_validate(_tuples(merge(_defaults(), METHODS[first.method].settings, sized, given)))
    given_keys = set(_dotted(given))
    notes = [note for note in notes if note.split(" ")[0] not in given_keys]
    return Resolved(config, tuple(notes))


def _small(config: Config, size: DataSize, notes: list[str]) -> dict[str, Any]:
    """Sizes for data smaller than CIFAR-10, by rule; one note each."""
    space, validation = _space(config), config.data.validation
    side = min(size.shape[1:])
    learning_images = int(size.images * (1 - validation))
    batch = min(64, max(2, 2 ** int(math.log2(max(learning_images / 8, 2)))))
    batch = config.search.batch_size if config.search.batch_size < batch else batch
    steps = max(1, learning_images // batch)
    epochs = max(10, math.ceil(_SMALL_STEPS / steps))
    rate = round(min(0.05, 3e-4 * _PUBLISHED_STEPS / (steps * epochs)), 5)
    train_batch = min(96, max(2, 2 ** int(math.log2(max(size.images / 8, 2)))))
    train_epochs = max(20, min(600, math.ceil(2_000 * train_batch / max(size.images, 1))))
    small: dict[str, Any] = {
        "data": {"crop": max(1, side // 8)},
        "space": {"name": config.space.name, **space.small_search},
        "search": {"batch_size": batch, "epochs": epochs},
        "architecture": {"learning_rate": rate},
        "train": {
            "epochs": train_epochs,
            "batch_size": train_batch,
            "cutout": 0 if side < 16 else min(int(space.training.get("cutout", 0)), side // 2),
            "auxiliary_weight": 0.0,
            "drop_path": 0.0,
            "space": dict(space.small_train),
        },
    }
    notes += [
        f"data.crop = {small['data']['crop']}: an eighth of the image's side",
        f"search.batch_size = {batch}: at least 8 batches an epoch",
        f"search.epochs = {epochs}: about {_SMALL_STEPS} architecture steps",
        f"architecture.learning_rate = {rate}: the logits can travel as far as in the published search",
        f"train.epochs = {train_epochs}: about 2000 steps",
        *(f"space.{k} = {v}: small data" for k, v in space.small_search.items()),
        *(f"train.space.{k} = {v}: small data" for k, v in space.small_train.items()),
    ]
    return small


def _part_problems(config: Config) -> list[str]:
    """Unknown parts, and settings that a part does not take."""
    from archgrad.costs import COSTS
    from archgrad.datasets import DATASETS
    from archgrad.rules import RULES

    problems = []
    tables: list[tuple[str, Table | Mapping[str, object], str]] = [
        ("space.name", SPACES, config.space.name),
        ("sampler.name", SAMPLERS, config.sampler.name),
        ("data.name", DATASETS, config.data.name),
        ("derive.rule", RULES, config.derive.rule),
    ]
    if config.hypergradient.name != "none":
        tables.append(("hypergradient.name", HYPERGRADIENTS, config.hypergradient.name))
    if config.cost.name != "none":
        tables.append(("cost.name", COSTS, config.cost.name))
    for key, table, name in tables:
        if name not in table and not (":" in name and isinstance(table, Table)):
            problems.append(f"{key}: unknown {name!r}{nearest(name, table)}; known: {', '.join(table)}")
    if problems:
        return problems
    space = _space(config)
    problems += [f"space: unknown setting {p}" for p in space.unknown_settings(config.space.settings())]
    problems += [f"train.space: unknown setting {p}" for p in space.unknown_settings(config.train.space)]
    for key, table, part in (
        ("sampler", SAMPLERS, config.sampler),
        ("hypergradient", HYPERGRADIENTS, config.hypergradient),
    ):
        if part.name == "none":
            known: list[str] = []
        else:
            kind = table[part.name]
            known = [f.name for f in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []
        problems += [
            f"{key}.{name}: {part.name!r} has no such setting{nearest(name, known)}; "
            f"it has {', '.join(known) or 'none'}"
            for name in part.settings()
            if name not in known
        ]
    return problems


def _space(config: Config) -> Space:
    return as_space(SPACES[config.space.name])


def _defaults() -> dict[str, Any]:
    return Config().model_dump()


def _tuples(document: dict[str, Any]) -> dict[str, Any]:
    """Lists from YAML where the schema has tuples."""
    for section, key in (("architecture", "betas"), ("data", "resize")):
        place = document.get(section)
        if isinstance(place, dict) and isinstance(place.get(key), list):
            place[key] = tuple(place[key])
    return document


def _dotted(document: Mapping[str, Any], prefix: str = "") -> list[str]:
    keys = []
    for key, value in document.items():
        keys += _dotted(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [f"{prefix}{key}"]
    return keys


def _sentence(error: Any) -> str:
    """One of pydantic's errors in our words."""
    *where, last = (str(part) for part in error["loc"])
    key = ".".join([*where, last])
    if error["type"] == "extra_forbidden":
        model: Any = Config
        for part in where:
            model = model.model_fields[part].annotation
        return (
            f"{key}: unknown key{nearest(last, model.model_fields)}; known: {', '.join(model.model_fields)}"
        )
    return f"{key}: {error['msg'].lower()}, got {error['input']!r}"
