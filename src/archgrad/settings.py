"""From what a user gives to a configuration without gaps.

`resolve` lays, from weakest to strongest: defaults, the method's preset, sizes chosen by rule for the
data at hand, what the user gave. Unknown keys, wrong types and keys that the chosen method does not
use are reported together. The resolved document is written into the run folder and can be fed back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from archgrad.config import Config, unused
from archgrad.config_layers import dotted, layered, merge
from archgrad.config_problems import check, momentum_problems, search_problems, warmup_problems
from archgrad.errors import ConfigError
from archgrad.methods import METHODS
from archgrad.network_features import network_features
from archgrad.spaces import SPACES
from archgrad.spaces.space import Space, as_space


class Resolved(NamedTuple):
    """A configuration without gaps, and one sentence for each size that a rule chose.

    own_test: whether the data have test images of their own, so that ``data.test`` says nothing.
    """

    config: Config
    notes: tuple[str, ...]
    own_test: bool = False

    def document(self) -> dict[str, Any]:
        """The content of ``config.yaml``: plain values, without the keys that nothing reads."""
        document = self.config.document()
        if self.own_test:
            document["data"].pop("test", None)
        return document


class DataSize(NamedTuple):
    """What the rules for sizes look at.

    images: those to learn from, test part excluded. shape: (C, H, W) of one.
    own_test: whether the data have test images of their own.
    """

    name: str
    images: int
    shape: tuple[int, int, int]
    own_test: bool = False


_FLIPPABLE = {"cifar10", "cifar100", "fashion-mnist", "folder"}  # a mirror image is of the same class
_PUBLISHED_IMAGES, _PUBLISHED_SIDE = 20_000, 28  # from here on the published sizes hold
_SMALL_SEARCH_STEPS, _SMALL_TRAIN_STEPS = 1_500, 800  # on the weights
_FASTEST_LOGITS = 0.03  # learning rate of Adam on the logits


def resolve(given: Mapping[str, Any], size: DataSize) -> Resolved:
    """The full configuration for data of this size.

    Raises:
        ConfigError: everything that is wrong with what was given.
        UserError: the space cannot be built for images of this size.
    """
    first = check(given)
    preset, space, keys = METHODS[first.method].settings, _space(first), set(dotted(given))
    notes: list[str] = []
    sized = _published(first, preset, space, size)
    if size.images < _PUBLISHED_IMAGES or min(size.shape[1:]) < _PUBLISHED_SIDE:
        sized = merge(sized, _small(first, size, keys, notes))
    # what changes the choices themselves, such as nodes or candidates, has to be the same in training
    phases = {*space.search, *space.train, *space.small_search, *space.small_train}
    shared = {key: value for key, value in first.space.settings().items() if key not in phases}
    sized = merge(sized, {"train": {"space": shared}})
    config = Config.model_validate(layered(preset, sized, given))
    # two classes, as the number of classes changes nothing that is looked at here
    searched = network_features(space.builder, size.shape, 2, config.space.settings())
    trained = network_features(space.builder, size.shape, 2, config.train.space)
    aids = {
        "search.drop_path": searched.drop_path,
        "train.drop_path": trained.drop_path,
        "train.auxiliary_weight": trained.auxiliary,
    }
    for key, there in aids.items():
        section, _, name = key.partition(".")
        if not there and key not in keys:  # it came from the preset or the space's recipe
            if getattr(getattr(config, section), name):
                notes.append(f"{key} = 0: this network has none")
            sized = merge(sized, {section: {name: 0.0}})
    config = Config.model_validate(layered(preset, sized, given))
    problems = [
        *momentum_problems(config),
        *warmup_problems(config),
        *search_problems(config, searched, trained),
    ]
    if size.own_test and "data.test" in keys:
        problems.append(f"data.test: {size.name} has test images of its own, so none are held out")
    if problems:
        raise ConfigError(problems)
    silent = keys | set(unused(config))
    return Resolved(config, tuple(n for n in notes if n.split(" ")[0] not in silent), size.own_test)


def _published(config: Config, preset: Mapping[str, Any], space: Space, size: DataSize) -> dict[str, Any]:
    """What the space's authors used, whatever the method."""
    return {
        "space": {"name": config.space.name, **space.search},
        "train": {**space.training, "space": dict(space.train)},
        "derive": {"rule": config.derive.rule if "derive" in preset else space.rule},
        "data": {"flip": bool({size.name, config.data.name} & _FLIPPABLE)},
    }


def _small(config: Config, size: DataSize, keys: set[str], notes: list[str]) -> dict[str, Any]:
    """Sizes for data smaller than CIFAR-10, by rule; one note each. keys: what the user gave."""
    space, validation = _space(config), config.data.validation
    side = min(size.shape[1:])
    learning_images = int(size.images * (1 - validation))
    batch = min(64, max(2, 2 ** int(math.log2(max(learning_images / 8, 2)))))
    if "search.batch_size" in keys:
        batch = config.search.batch_size
    steps = max(1, learning_images // batch)
    epochs = max(10, math.ceil(_SMALL_SEARCH_STEPS / steps))
    if "search.epochs" in keys:
        epochs = config.search.epochs
    warmup = config.search.warmup_epochs if "search.warmup_epochs" in keys else epochs // 4
    # how far Adam can move a logit in the published search: learning rate times steps
    preset = layered(METHODS[config.method].settings)
    published_steps = preset["search"]["epochs"] * 50_000 * (1 - preset["data"]["validation"]) / 64
    travel = preset["architecture"]["learning_rate"] * published_steps
    rate = float(f"{min(_FASTEST_LOGITS, travel / (steps * max(epochs - warmup, 1))):.2g}")
    train_batch = min(96, max(2, 2 ** int(math.log2(max(size.images / 8, 2)))))
    train_epochs = max(20, min(600, math.ceil(_SMALL_TRAIN_STEPS * train_batch / max(size.images, 1))))
    small: dict[str, Any] = {
        "data": {"crop": min(4, max(1, side // 8))},
        "space": {"name": config.space.name, **space.small_search},
        "search": {"batch_size": batch, "epochs": epochs, "warmup_epochs": warmup},
        "architecture": {"learning_rate": rate} if config.architecture.optimizer == "adam" else {},
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
        f"search.epochs = {epochs}: about {_SMALL_SEARCH_STEPS} steps",
        f"search.warmup_epochs = {warmup}: candidates are compared once their weights are trained",
        f"architecture.learning_rate = {rate}: logits move as far as published, at most {_FASTEST_LOGITS}",
        f"train.epochs = {train_epochs}: about {_SMALL_TRAIN_STEPS} steps",
        *(f"space.{k} = {v}: small data" for k, v in space.small_search.items()),
        *(f"train.space.{k} = {v}: small data" for k, v in space.small_train.items()),
    ]
    return small


def _space(config: Config) -> Space:
    return as_space(SPACES[config.space.name])
