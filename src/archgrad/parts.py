"""From a configuration to the objects it names: data, batches, space, sampler, optimizers.

The only file that turns names into objects for a run; the verbs put them to work.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from archgrad.budgets.budget import parse_all
from archgrad.budgets.hold import Hold
from archgrad.budgets.repair import check_possible
from archgrad.budgets.within import table_of
from archgrad.choice import Group, Supernet, of_choices, supernet
from archgrad.config import Config
from archgrad.config_problems import GIVEN
from archgrad.costs.cost_table import CostTable, cost_table
from archgrad.datasets.augmentation import Augmentation
from archgrad.datasets.batches import Batches
from archgrad.datasets.images import ImageData
from archgrad.datasets.loading import load_any
from archgrad.datasets.normalisation import Normalisation, normalisation_of
from archgrad.datasets.splits import Splits, split
from archgrad.datasets.text import TextData
from archgrad.errors import UserError
from archgrad.language_settings import TextSize
from archgrad.method_parts import penalty_of, policy_of, search_plan
from archgrad.objectives import NetworkTask
from archgrad.penalties.penalty import Penalty
from archgrad.randomness import Streams, seeded_modules
from archgrad.restriction import check_names, restricted
from archgrad.schedules import SCHEDULES, linear
from archgrad.search_parts import derivation_of, sgd, state_of
from archgrad.search_state import SearchPlan, SearchState
from archgrad.settings import DataSize
from archgrad.spaces import SPACES
from archgrad.spaces.skip_dropout import rate, with_skip_dropout
from archgrad.spaces.space import Space, as_space
from archgrad.train import TrainPlan


def load_data(config: Config) -> ImageData:
    """The images that the configuration names, decoded.

    Raises:
        UserError: the run was searched on data given in Python, or on a text.
    """
    data = load_any_data(config)
    if isinstance(data, TextData):
        raise UserError(f"{data.name} is a text, and images are wanted")
    return data


def load_any_data(config: Config) -> ImageData | TextData:
    """The data set that the configuration names: images, decoded, or a text.

    Raises:
        UserError: the run was searched on data given in Python.
    """
    if config.data.name.startswith(GIVEN):
        raise UserError(
            f"this run was searched on data given in Python ({config.data.name.removeprefix(GIVEN)}): call "
            "the verb from Python with data=…, see archgrad.from_torch"
        )
    return load_any(config.data.name, config.data.path, config.data.resize)


def data_size(data: ImageData | TextData, config: Config) -> DataSize | TextSize:
    """What the rules for sizes look at.

    Raises:
        UserError: a text for a space that reads images, or the other way round.
    """
    if isinstance(data, TextData) != config.reads_text:
        reads, given = ("a text", "images") if config.reads_text else ("images", "a text")
        remedy = (
            "give a text with --data, e.g. wikitext2"
            if config.reads_text
            else "search with --space darts_rnn"
        )
        raise UserError(
            f"space.name: {config.space.name!r} reads {reads}, and {data.name!r} is {given}; {remedy}"
        )
    if isinstance(data, TextData):
        return TextSize(data.name, len(data.train), len(data.vocabulary))
    images = len(data.train) if data.test is not None else int(len(data.train) * (1 - config.data.test))
    return DataSize(data.name, images, data.shape, data.test is not None, data.mirror)


def torch_device(name: str) -> torch.device:
    """The device called `name`; "auto" is the GPU where there is one.

    Raises:
        UserError: PyTorch knows no such device, or it is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda", "mps"):
            raise RuntimeError("a search needs a device that computes")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"device.name: cannot use {name!r} ({str(error).splitlines()[0]}); use auto, cpu or cuda"
        ) from None
    return device


@dataclass(frozen=True, eq=False)
class Parts:
    """What every stage of a run shares."""

    config: Config
    data: ImageData
    splits: Splits
    streams: Streams
    space: Space
    device: torch.device

    @classmethod
    def of(cls, config: Config, data: ImageData) -> Parts:
        """Split the data, find the space and the device, set the number of threads."""
        if config.device.threads is not None:
            torch.set_num_threads(config.device.threads)
        streams = Streams(config.seed)
        file = Path(config.data.split_file) if config.data.split_file else None
        splits = split(data, streams, config.data.validation, config.data.test, file)
        space = as_space(SPACES[config.space.name])
        return cls(config, data, splits, streams, space, torch_device(config.device.name))

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.data.classes)

    def learning(self) -> Tensor:
        """Indices of all images that may be learned from: everything but the test part."""
        return torch.cat([self.splits.weights, self.splits.architecture]).sort().values

    def description(self) -> dict[str, Any]:
        """The content of ``data.json``."""
        mean, std = self.search_normalisation
        test = self.data.test if self.splits.test is None else self.splits.test
        return {
            "name": self.data.name,
            "shape": list(self.data.shape),
            "classes": list(self.data.classes),
            "images": {
                "weights": len(self.splits.weights),
                "architecture": len(self.splits.architecture),
                "test": 0 if test is None else len(test),
            },
            "digests": self.splits.digests,
            "mean": list(mean),
            "std": list(std),
        }

    @functools.cached_property
    def search_normalisation(self) -> Normalisation:
        """Mean and standard deviation of the weight-training part."""
        return normalisation_of(self.data.train, self.splits.weights)

    @functools.cached_property
    def train_normalisation(self) -> Normalisation:
        """Mean and standard deviation of all images but the test part."""
        return normalisation_of(self.data.train, self.learning())

    # ---- search

    def supernet(self) -> Supernet:
        """The supernet on its device, initialised from the run's seed.

        Raises:
            UserError: images too small for the space, or candidates that do not fit together.
        """
        config, settings = self.config, self.config.space.settings()
        check_names(self.space.builder, config.restrict, self.data.shape, self.classes, **settings)
        builder = self.searched if not config.search.skip_dropout else with_skip_dropout(self.searched)
        with seeded_modules(self.streams.seed_of("supernet")):
            network = supernet(builder, self.data.shape, self.classes, **settings)
        self._place(network)
        return network

    @property
    def searched(self) -> Callable[..., nn.Module]:
        """The space's builder, with the candidates that may be chosen."""
        return restricted(self.space.builder, self.config.restrict)

    def penalty(self, groups: Sequence[Group]) -> Penalty | None:
        """The price on the cost in the architecture's loss, given the weights of these groups, or None."""
        penalty = penalty_of(self.config, self.cost_table) if self.config.penalised else None
        if penalty is None:
            return None
        return lambda task, accuracy, weights: penalty(task, accuracy, of_choices(groups, weights))

    @functools.cached_property
    def cost_table(self) -> CostTable:
        """The cost of every candidate in the network that will be trained, on the run's device."""
        table = cost_table(
            self.config.cost.name, self.searched, self.data.shape, self.classes, self.train_settings()
        )
        return replace(table, groups=tuple(g.to(self.device, torch.float32) for g in table.groups))

    def task(self, network: Supernet) -> NetworkTask:
        """The supernet on its two parts of the data."""
        config, loop = self.config, self.config.search
        augmentation = Augmentation(crop=config.data.crop, flip=config.data.flip)
        train, valid = (
            Batches(
                self.data.train,
                indices,
                config.search.batch_size,
                normalisation=self.search_normalisation,
                augmentation=augmentation,
                streams=self.streams,
                name=name,
                device=self.device,
                channels_last=config.device.channels_last,
            )
            for name, indices in (
                ("search/weights", self.splits.weights),
                ("search/architecture", self.splits.architecture),
            )
        )
        return NetworkTask(
            network,
            train,
            valid,
            self.streams,
            self.penalty(network.groups),
            config.device.precision,
            config.search.drop_path,
            config.joint,
            functools.partial(rate, loop.skip_dropout, epochs=loop.epochs, warmup=loop.warmup_epochs),
        )

    def plan(self, groups: Sequence[Group]) -> SearchPlan:
        """The method's parts, for a supernet with these groups of choices.

        Raises:
            UserError: a budget that no architecture meets.
        """
        config = self.config
        cost = None if config.cost.name == "none" else self.cost_table
        return search_plan(
            config,
            groups,
            expected_cost=None if cost is None else lambda p: float(cost.expected(of_choices(groups, p))),
            hold=self.hold(groups),
            derive=derivation_of(config, self.streams),
        )

    def hold(self, groups: Sequence[Group]) -> Hold | None:
        """What holds the search to its budgets, or None without any; the tables on the run's device.

        Raises:
            UserError: a budget that no architecture meets.
        """
        config, budgets = self.config, parse_all(self.config.budget)
        if not budgets:
            return None
        if config.restrict and (measured := [b for b in budgets if b.table]):
            raise UserError(
                f"budget {measured[0]}: a latency table has all candidates, and `restrict` or an earlier "
                "stage leaves some out; hold another cost, or search without"
            )
        tables = tuple(
            table_of(b, config.space.name, self.searched, self.data.shape, self.classes, config.train.space)
            for b in budgets
        )
        check_possible(groups, config.derive.rule, budgets, tables)
        epochs = config.search.epochs - config.search.warmup_epochs
        steps = epochs * (len(self.splits.weights) // config.search.batch_size)
        placed = tuple(
            replace(t, groups=tuple(g.to(self.device, torch.float32) for g in t.groups)) for t in tables
        )
        gates = policy_of(config, groups).gates
        every = config.search.architecture_every
        return Hold(budgets, placed, tuple(groups), max(1, steps // every), config.derive.rule, gates)

    def state(self, network: Supernet) -> SearchState:
        """Logits and optimizers before the first step."""
        return state_of(self.config, self.streams, self.device, network)

    # ---- train

    def train_settings(self) -> dict[str, Any]:
        """The builder's settings for the network that is trained."""
        return dict(self.config.train.space)

    def built(self, build: Callable[[], nn.Module], name: str) -> nn.Module:
        """A network on its device, initialised from the run's seed and its name."""
        with seeded_modules(self.streams.seed_of(f"train/{name}")):
            network = build()
        self._place(network)
        return network

    def train_batches(self, name: str) -> Batches:
        """All images but the test part, augmented."""
        config = self.config
        return Batches(
            self.data.train,
            self.learning(),
            config.train.batch_size,
            normalisation=self.train_normalisation,
            augmentation=Augmentation(
                crop=config.data.crop, flip=config.data.flip, cutout=config.train.cutout
            ),
            streams=self.streams,
            name=f"train/{name}",
            device=self.device,
            channels_last=config.device.channels_last,
        )

    def sample_images(self, count: int) -> Tensor:
        """A few images as the trained network sees them, [B, C, H, W]; of those that it learned from."""
        batches = Batches(
            self.data.train,
            self.learning()[:count],
            count,
            normalisation=self.train_normalisation,
            augmentation=Augmentation(),
            streams=self.streams,
            name="sample",
            shuffle=False,
            drop_last=False,
        )
        return batches.batch(0, 0)[0]

    def test_batches(self) -> Batches:
        """The test part, as it is; nothing but the final evaluation looks at it."""
        if self.splits.test is None:
            assert self.data.test is not None
            source, indices = self.data.test, torch.arange(len(self.data.test))
        else:
            source, indices = self.data.train, self.splits.test
        return Batches(
            source,
            indices,
            min(500, len(indices)),
            normalisation=self.train_normalisation,
            augmentation=Augmentation(),
            streams=self.streams,
            name="test",
            shuffle=False,
            drop_last=False,
            device=self.device,
            channels_last=self.config.device.channels_last,
        )

    def train_plan(self) -> TrainPlan:
        """How a concrete network is trained."""
        train = self.config.train
        return TrainPlan(
            epochs=train.epochs,
            learning_rate=lambda epoch: SCHEDULES[train.schedule](
                train.learning_rate, train.final_learning_rate, epoch / train.epochs
            ),
            drop_path=lambda epoch: linear(0.0, train.drop_path, epoch / train.epochs),
            clip=train.clip,
            label_smoothing=train.label_smoothing,
            auxiliary_weight=train.auxiliary_weight,
            precision=self.config.device.precision,
        )

    def train_optimizer(self, network: nn.Module) -> torch.optim.SGD:
        """SGD on the network."""
        return sgd(network, self.config.train)

    def _place(self, network: nn.Module) -> None:
        network.to(self.device)
        if self.config.device.channels_last:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """One line for every key in which two configurations differ.

    >>> differences({"a": {"x": 1}}, {"a": {"x": 2}})
    ['a.x: the run has 1, you gave 2']
    """
    lines = []
    for key in [*before, *(k for k in now if k not in before)]:
        old, new = before.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            lines += differences(old, new, f"{prefix}{key}.")
        elif old != new:
            lines.append(f"{prefix}{key}: the run has {old!r}, you gave {new!r}")
    return lines
