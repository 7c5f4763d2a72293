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
from archgrad.config_problems import check, search_problems
from archgrad.datasets import DATASETS
from archgrad.errors import ConfigError
from archgrad.language_settings import WARMUP_NOTE, TextSize, resolve_text
from archgrad.method_problems import momentum_problems, schedule_problems, warmup_problems
from archgrad.methods import METHODS
from archgrad.network_features import network_features
from archgrad.spaces import SPACES
from archgrad.spaces.space import Space, as_space
from archgrad.stopping.needs import with_needs


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
    mirror: whether a mirror image is of the same class (`ImageData.mirror`).
    """

    name: str
    images: int
    shape: tuple[int, int, int]
    own_test: bool = False
    mirror: bool = False

    @property
    def side(self) -> int:
        """The shorter of height and width, in pixels."""
        return min(self.shape[1:])


_SMALL_IMAGES, _SMALL_SIDE = 3_000, 16  # up to here the sizes for small data hold
_PUBLISHED_IMAGES, _PUBLISHED_SIDE = 20_000, 28  # from here on the published ones; between, both count
_SMALL_SEARCH_STEPS, _SMALL_TRAIN_STEPS = 1_500, 800  # on the weights
_FASTEST_LOGITS = 0.03  # learning rate of Adam on the logits
_LARGE_SIDE, _GOOD_SIDE = 96, 64  # pixels: the spaces are published for images of up to 64


def resolve(given: Mapping[str, Any], size: DataSize | TextSize) -> Resolved:
    """The full configuration for data of this size; of a text see `language_settings`.

    Raises:
        ConfigError: everything that is wrong with what was given.
        UserError: the space cannot be built for images of this size.
    """
    first = check(given)
    if isinstance(size, TextSize):
        return Resolved(*resolve_text(first, given, size, set(dotted(given))))
    preset, space, keys = METHODS[first.method].settings, _space(first), set(dotted(given))
    sized = _published(first, preset, space, size)
    notes = _kind_notes(size, sized["data"]["flip"])
    share = published_share(size)
    if share < 1:
        published = Config.model_validate(layered(preset, sized))
        sized = merge(sized, _smaller(first, published, size, share, keys, notes))
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
        *schedule_problems(config),
        *warmup_problems(config),
        *search_problems(config, searched, trained),
    ]
    if config.data.crop > size.side // 2:
        problems.append(
            f"data.crop: {config.data.crop} pixels of padding could leave more padding than image of "
            f"{size.shape[1]}×{size.shape[2]}; give at most {size.side // 2}; an eighth of the side is usual"
        )
    if size.own_test and "data.test" in keys:
        problems.append(f"data.test: {size.name} has test images of its own, so none are held out")
    if problems:
        raise ConfigError(problems)
    silent = keys | set(unused(config))
    config, needed = with_needs(config)
    told = (*(n for n in notes if n.split(" ")[0] not in silent), *needed)
    return Resolved(config, told, size.own_test)


def published_share(size: DataSize) -> float:
    """How far the published sizes count: 0 for small data, 1 for data like CIFAR-10, between them in between.

    By the logarithm of images and side, whichever is smaller, so that twice the data never changes the
    sizes by a leap.
    """

    def part(value: int, small: int, published: int) -> float:
        return min(1.0, max(0.0, math.log(max(value, 1) / small) / math.log(published / small)))

    return min(
        part(size.images, _SMALL_IMAGES, _PUBLISHED_IMAGES), part(size.side, _SMALL_SIDE, _PUBLISHED_SIDE)
    )


def _between(small: float, published: float, share: float) -> float:
    """From `small` at a share of 0 to `published` at 1: as powers, or as a line where one of them is 0."""
    if small > 0 and published > 0:
        return float(small ** (1 - share) * published**share)
    return small + (published - small) * share


def _published(config: Config, preset: Mapping[str, Any], space: Space, size: DataSize) -> dict[str, Any]:
    """What the space's authors used, whatever the method; by rule what depends on the data's kind."""
    return {
        **space.recipe(preset),
        "space": {"name": config.space.name, **space.search},
        "train": {**space.training, "space": dict(space.train)},
        "derive": {"rule": config.derive.rule if "derive" in preset else space.rule},
        "data": {
            "flip": size.mirror,
            "crop": _crop(size),
        },
    }


def _crop(size: DataSize) -> int:
    """Padding for the random crop: an eighth of the side as published (4 for 32), at most half of it."""
    if size.side > 32:
        return size.side // 8
    return min(round(_between(max(1, size.side // 8), 4, published_share(size))), size.side // 2)


def _kind_notes(size: DataSize, flip: bool) -> list[str]:
    """What follows from the kind of the data, whatever their number."""
    height, width = size.shape[1:]
    notes = []
    if size.name not in DATASETS:  # of those it is known
        why = (
            "a mirrored image is taken to be of the same class; of a letter, say, it is not"
            if flip
            else "a mirrored image may be of another class; of a photograph it is not"
        )
        notes.append(f"data.flip = {flip}: {why}")
    if _crop(size) != 4:
        notes.append(f"data.crop = {_crop(size)}: an eighth of the image's side")
    if size.side >= _LARGE_SIDE:
        times = height * width / _GOOD_SIDE**2
        notes.append(
            f"data.resize = null: a step on images of {height}×{width} takes {times:.2g} times the work of "
            f"one on {_GOOD_SIDE}×{_GOOD_SIDE}, and the space is made for those: try data.resize={_GOOD_SIDE}"
        )
    return notes


def _smaller(
    config: Config, published: Config, size: DataSize, share: float, keys: set[str], notes: list[str]
) -> dict[str, Any]:
    """Sizes for data smaller than CIFAR-10, by rule; one note each.

    config: with what the user gave, whose names are in `keys`. share: see `published_share`.
    """
    space, validation = _space(config), config.data.validation
    learning_images = int(size.images * (1 - validation))
    batch = round(_between(_eighth(learning_images, 64), published.search.batch_size, share))
    if "search.batch_size" in keys:
        batch = config.search.batch_size
    steps = max(1, learning_images // batch)
    few = max(10, math.ceil(_SMALL_SEARCH_STEPS / steps))
    epochs = round(_between(few, published.search.epochs, share))
    if "search.epochs" in keys:
        epochs = config.search.epochs
    warmup = round(_between(epochs // 4, published.search.warmup_epochs, share))
    if "search.warmup_epochs" in keys:
        warmup = config.search.warmup_epochs
    every = config.search.architecture_every
    # how far Adam can move a logit in the published search: learning rate times steps
    preset = layered(METHODS[config.method].settings)
    loop = preset["search"]
    learned = (loop["epochs"] - loop["warmup_epochs"]) / loop["architecture_every"]  # epochs
    published_steps = learned * 50_000 * (1 - preset["data"]["validation"]) / 64
    travel = preset["architecture"]["learning_rate"] * published_steps
    travel = _between(travel, published.architecture.learning_rate * steps * published.search.epochs, share)
    rate = float(f"{min(_FASTEST_LOGITS, travel / (steps * max(epochs - warmup, 1) / every)):.2g}")
    # an LSTM's parameters are no logits
    travels = config.architecture.optimizer == "adam" and config.controller.name == "independent"
    train_batch = round(_between(_eighth(size.images, 96), published.train.batch_size, share))
    if "train.batch_size" in keys:
        train_batch = config.train.batch_size
    few = math.ceil(_SMALL_TRAIN_STEPS * train_batch / max(size.images, 1))
    train_epochs = round(_between(max(20, min(600, few)), published.train.epochs, share))
    network = _between_all(space.small_search, published.space.settings(), space, share)
    trained = _between_all(space.small_train, published.train.space, space, share)
    small: dict[str, Any] = {
        "space": {"name": config.space.name, **network},
        "search": {"batch_size": batch, "epochs": epochs, "warmup_epochs": warmup},
        "architecture": {"learning_rate": rate} if travels else {},
        "train": {
            "epochs": train_epochs,
            "batch_size": train_batch,
            "cutout": 0 if size.side < 16 else min(published.train.cutout, size.side // 2),
            "auxiliary_weight": 0.0,
            "drop_path": round(_between(0.0, published.train.drop_path, share), 3),
            "space": trained,
        },
    }
    train_steps = train_epochs * max(1, size.images // train_batch)
    notes += [
        f"search.batch_size = {batch}: at least 8 batches an epoch",
        f"search.epochs = {epochs}: about {epochs * steps:,} steps",
        f"search.warmup_epochs = {warmup}: " + WARMUP_NOTE[warmup > 0],
        *(
            [f"architecture.learning_rate = {rate}: logits move as published, at most by {_FASTEST_LOGITS}"]
            if travels
            else []
        ),
        f"train.batch_size = {train_batch}: at least 8 batches an epoch",
        f"train.epochs = {train_epochs}: about {train_steps:,} steps",
        *(f"space.{k} = {v}: small data" for k, v in network.items()),
        *(f"train.space.{k} = {v}: small data" for k, v in trained.items()),
    ]
    return small


def _eighth(images: int, most: int) -> int:
    """The power of two that makes 8 batches or more of the images, at most `most`, at least 2."""
    return min(most, 1 << int(math.log2(max(images / 8, 2))))


def _between_all(
    small: Mapping[str, Any], published: Mapping[str, Any], space: Space, share: float
) -> dict[str, Any]:
    """A space's settings for small data brought as near to the published as `share` says; flags stay."""
    defaults = {**{key: known.default for key, known in space.settings().items()}, **published}
    return {
        key: value if isinstance(value, bool) else round(_between(value, defaults[key], share))
        for key, value in small.items()
    }


def _space(config: Config) -> Space:
    return as_space(SPACES[config.space.name])
