"""From a configuration to the objects it names, where a text is read; `parts` is its like for images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from archgrad.choice import Group, Supernet, supernet
from archgrad.config import Config
from archgrad.datasets.images import ImageData
from archgrad.datasets.text import PARTS, TextData
from archgrad.language import LanguageTask
from archgrad.language_train import LanguagePlan
from archgrad.method_parts import search_plan
from archgrad.parts import Parts, torch_device
from archgrad.randomness import Streams, seeded_modules
from archgrad.restriction import check_names, restricted
from archgrad.search_parts import derivation_of, state_of
from archgrad.search_state import SearchPlan, SearchState
from archgrad.spaces import SPACES
from archgrad.spaces.language_model import LanguageModel
from archgrad.spaces.space import Space, as_space


def parts_of(config: Config, data: ImageData | TextData) -> Parts | TextParts:
    """What every stage of a run on these data shares."""
    return TextParts.of(config, data) if isinstance(data, TextData) else Parts.of(config, data)


@dataclass(frozen=True, eq=False)
class TextParts:
    """What every stage of a run on a text shares."""

    config: Config
    data: TextData
    streams: Streams
    space: Space
    device: torch.device

    @classmethod
    def of(cls, config: Config, data: TextData) -> TextParts:
        """Find the space and the device, set the number of threads."""
        if config.device.threads is not None:
            torch.set_num_threads(config.device.threads)
        space = as_space(SPACES[config.space.name])
        return cls(config, data, Streams(config.seed), space, torch_device(config.device.name))

    @property
    def shape(self) -> tuple[int]:
        """(T,): words of a window."""
        return (self.config.text.window,)

    @property
    def classes(self) -> int:
        """Words of the vocabulary."""
        return len(self.data.vocabulary)

    def description(self) -> dict[str, Any]:
        """The content of ``data.json``."""
        return {
            "name": self.data.name,
            "shape": list(self.shape),
            "words": {part: len(getattr(self.data, part)) for part in PARTS},
            "vocabulary": self.classes,
            "digests": self.data.digests(),
        }

    def supernet(self) -> Supernet:
        """The supernet on its device, initialised from the run's seed."""
        settings, kept = self.config.space.settings(), self.config.restrict
        check_names(self.space.builder, kept, self.shape, self.classes, **settings)
        builder = restricted(self.space.builder, kept)
        with seeded_modules(self.streams.seed_of("supernet")):
            network = supernet(builder, self.shape, self.classes, **settings)
        return network.to(self.device)

    def task(self, network: Supernet) -> LanguageTask:
        """The supernet on the training part and, for the architecture, the validation part."""
        config = self.config
        return LanguageTask(
            network,
            self.data.train,
            self.data.valid,
            config.search.batch_size,
            config.text.window,
            self.streams,
            config.text.slowness,
            config.device.precision,
        )

    def plan(self, groups: Sequence[Group]) -> SearchPlan:
        """The method's parts, for a supernet with these groups of choices."""
        return search_plan(self.config, groups, derive=derivation_of(self.config, self.streams))

    def state(self, network: Supernet) -> SearchState:
        """Logits and optimizers before the first step."""
        return state_of(self.config, self.streams, self.device, network)

    # ---- train

    def built(self, build: Callable[[], nn.Module], name: str) -> LanguageModel:
        """A network on its device, initialised from the run's seed and its name."""
        with seeded_modules(self.streams.seed_of(f"train/{name}")):
            network = build()
        return cast(LanguageModel, network.to(self.device))

    def train_plan(self) -> LanguagePlan:
        """How a concrete network is trained."""
        train, text = self.config.train, self.config.text
        return LanguagePlan(
            epochs=train.epochs,
            texts=train.batch_size,
            window=text.window,
            learning_rate=train.learning_rate,
            clip=train.clip,
            slowness=text.slowness,
            switch_after=text.switch_after,
            precision=self.config.device.precision,
        )

    def train_optimizer(self, network: nn.Module) -> torch.optim.SGD:
        """SGD without momentum."""
        train = self.config.train
        return torch.optim.SGD(
            network.parameters(), lr=train.learning_rate, weight_decay=train.weight_decay, foreach=True
        )
