"""From what a user gives to a configuration without gaps, where the data are a text.

The layers are those of `settings`: defaults, the method's preset, the space's published recipe, sizes
chosen by rule for the text at hand, what the user gave. In the sections ``search`` and ``architecture``
the method is stronger than the space; in all others, above all ``weights``, the space.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from archgrad.config import Config
from archgrad.config_layers import layered, merge
from archgrad.errors import ConfigError, UserError
from archgrad.language import check_batch
from archgrad.method_problems import momentum_problems, warmup_problems
from archgrad.methods import METHODS
from archgrad.network_features import network_features
from archgrad.spaces import SPACES
from archgrad.spaces.space import Space, as_space
from archgrad.stopping.needs import with_needs

WARMUP_NOTE = {
    True: "candidates are compared once their weights are trained",
    False: "so few epochs leave none before candidates are compared",
}


class TextSize(NamedTuple):
    """What the rules for sizes look at: words to learn from and words of the vocabulary."""

    name: str
    words: int
    vocabulary: int


_SMALL_WORDS, _PUBLISHED_WORDS = 20_000, 900_000  # sizes for small texts; published ones (Penn Treebank)
_SMALL_SEARCH_STEPS, _SMALL_TRAIN_STEPS = 1_000, 2_000  # on the weights
_LEAST_WINDOWS = 20  # an epoch
_SMALL_RATE = 5.0  # of the weights in a search: 20, as published, makes a small normalised cell diverge
_UNROLLED, _UNROLLED_RATE = ("unrolled", "unrolled_exact"), 1.0
_FASTEST_LOGITS = 0.03  # learning rate of Adam on the logits
_PUBLISHED_WINDOWS = 103  # of an epoch of the published search: 929,589 words in 256 texts, 35 a window


def resolve_text(first: Config, given: Mapping[str, Any], size: TextSize, keys: set[str]) -> ResolvedText:
    """The full configuration for a text of this size.

    first: what was given, laid over the defaults and the preset, checked. keys: what was given, dotted.

    Raises:
        ConfigError: everything that is wrong with what was given.
    """
    preset, space = METHODS[first.method].settings, as_space(SPACES[first.space.name])
    sized = _published(first, preset, space)
    notes = [
        f"derive.rule = {space.rule}: the space's own",
        "the text's validation part drives the architecture, as in DARTS' own search",
    ]
    share = published_share(size.words)
    if share < 1:
        published = Config.model_validate(layered(preset, sized))
        sized = merge(sized, _smaller(first, published, size, space, share, keys, notes))
    if first.hypergradient.name in _UNROLLED:
        sized = merge(
            sized, {"weights": {"learning_rate": _UNROLLED_RATE, "final_learning_rate": _UNROLLED_RATE}}
        )
        notes = [note for note in notes if not note.startswith("weights.learning_rate")]
        notes.append(
            f"weights.learning_rate = {_UNROLLED_RATE}: the step that {first.hypergradient.name} looks ahead "
            "is not clipped"
        )
    phases = {*space.search, *space.train, *space.small_search, *space.small_train}
    shared = {key: value for key, value in first.space.settings().items() if key not in phases}
    sized = merge(sized, {"train": {"space": shared}})
    config = Config.model_validate(layered(preset, sized, given))
    problems = [*momentum_problems(config), *warmup_problems(config), *_problems(config, space, size)]
    if problems:
        raise ConfigError(problems)
    config, needed = with_needs(config)
    return ResolvedText(config, (*(n for n in notes if n.split(" ")[0] not in keys), *needed))


class ResolvedText(NamedTuple):
    """A configuration without gaps, and one sentence for each size that a rule chose."""

    config: Config
    notes: tuple[str, ...]


def published_share(words: int) -> float:
    """How far the published sizes count, from 0 for 20,000 words to 1 for 900,000, by the logarithm.

    >>> published_share(20_000), published_share(929_589)
    (0.0, 1.0)
    """
    part = math.log(max(words, 1) / _SMALL_WORDS) / math.log(_PUBLISHED_WORDS / _SMALL_WORDS)
    return min(1.0, max(0.0, part))


def _published(config: Config, preset: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """What the space's authors used; a method's own loop and optimizer of the logits are kept."""
    return merge(
        space.recipe(preset),
        {
            "space": {"name": config.space.name, **space.search},
            "train": {**space.training, "space": dict(space.train)},
            "derive": {"rule": space.rule},
            "cost": {"name": "none", "strength": 0.0},  # all architectures of a recurrent space cost the same
        },
    )


def _smaller(
    config: Config,
    published: Config,
    size: TextSize,
    space: Space,
    share: float,
    keys: set[str],
    notes: list[str],
) -> dict[str, Any]:
    """Sizes for texts smaller than Penn Treebank, by rule; one note each."""
    window = config.text.window
    batch = config.search.batch_size
    if "search.batch_size" not in keys:
        batch = _texts(size.words, window, published.search.batch_size)
    steps = max(1, (size.words // batch - 1) // window)
    epochs = config.search.epochs
    if "search.epochs" not in keys:
        epochs = round(
            _between(max(10, math.ceil(_SMALL_SEARCH_STEPS / steps)), published.search.epochs, share)
        )
    warmup = config.search.warmup_epochs
    if "search.warmup_epochs" not in keys:
        warmup = round(_between(epochs // 4, published.search.warmup_epochs, share))
    # how far Adam can move a logit in the published search
    travel = published.architecture.learning_rate * _PUBLISHED_WINDOWS * published.search.epochs
    learning = max(1, steps * max(epochs - warmup, 1) // config.search.architecture_every)
    rate = float(f"{min(_FASTEST_LOGITS, travel / learning):.2g}")
    travels = config.architecture.optimizer == "adam" and config.controller.name == "independent"
    fast = round(_between(_SMALL_RATE, published.weights.learning_rate, share), 1)
    train_batch = config.train.batch_size
    if "train.batch_size" not in keys:
        train_batch = _texts(size.words, window, published.train.batch_size)
    few = math.ceil(_SMALL_TRAIN_STEPS / max(1, (size.words // train_batch - 1) // window))
    train_epochs = round(_between(max(20, min(600, few)), published.train.epochs, share))
    network = _between_all(space.small_search, published.space.settings(), share)
    trained = _between_all(space.small_train, published.train.space, share)
    notes += [
        f"search.batch_size = {batch}: at least {_LEAST_WINDOWS} windows an epoch",
        f"search.epochs = {epochs}: about {epochs * steps:,} steps",
        f"search.warmup_epochs = {warmup}: " + WARMUP_NOTE[warmup > 0],
        *(
            [f"architecture.learning_rate = {rate}: logits move as published, at most by {_FASTEST_LOGITS}"]
            if travels
            else []
        ),
        f"weights.learning_rate = {fast}: smaller than published, for a smaller cell",
        f"train.batch_size = {train_batch}: at least {_LEAST_WINDOWS} windows an epoch",
        f"train.epochs = {train_epochs}: training keeps the epoch that is best on the validation part",
        *(f"space.{k} = {v}: a small text" for k, v in network.items()),
        *(f"train.space.{k} = {v}: a small text" for k, v in trained.items()),
    ]
    return {
        "space": {"name": config.space.name, **network},
        "search": {"batch_size": batch, "epochs": epochs, "warmup_epochs": warmup},
        "architecture": {"learning_rate": rate} if travels else {},
        "weights": {"learning_rate": fast, "final_learning_rate": fast},
        "train": {"epochs": train_epochs, "batch_size": train_batch, "space": trained},
    }


def _texts(words: int, window: int, most: int) -> int:
    """The power of two of texts side by side that gives 20 windows an epoch, from 2 to `most`."""
    return min(most, 1 << int(math.log2(max(2.0, words / (window * _LEAST_WINDOWS)))))


def _between(small: float, published: float, share: float) -> float:
    """From `small` at a share of 0 to `published` at 1: as powers, or as a line where one of them is 0."""
    if small > 0 and published > 0:
        return float(small ** (1 - share) * published**share)
    return small + (published - small) * share


def _between_all(small: Mapping[str, Any], published: Mapping[str, Any], share: float) -> dict[str, Any]:
    """A space's settings for small texts brought as near to the published as `share` says."""
    return {
        key: round(_between(value, published[key], share))
        if isinstance(value, int)
        else round(_between(value, published[key], share), 3)
        for key, value in small.items()
    }


def _problems(config: Config, space: Space, size: TextSize) -> list[str]:
    """Settings that the networks cannot take, or that the text is too short for."""
    problems = []
    if config.cost.name != "none":
        problems.append(
            f"cost.name: every architecture of the space {config.space.name!r} costs the same, so a cost has "
            "no effect; leave it out"
        )
    searched, trained = (
        network_features(space.builder, cast(Any, (2,)), 2, settings).choices
        for settings in (config.space.settings(), config.train.space)
    )
    if all(len(candidates) < 2 for candidates in searched.values()):
        problems.append("space.candidates: every choice has one candidate, so there is nothing to search")
    if searched != trained:
        problems.append(
            "train.space: the network that is trained has other choices than the one that is searched: give "
            "settings such as nodes or candidates for both, in space and in train.space"
        )
    for section, texts in (("search", config.search.batch_size), ("train", config.train.batch_size)):
        try:
            check_batch(size.words, texts, config.text.window, section)
        except UserError as error:
            problems.append(str(error))
    return problems
