"""One run of an experiment on a network: search, derive, evaluate with shared weights, and perhaps train.

Each run is an ordinary run folder, which every other verb can read. Any of these steps that is done is not
done again. The control is random search with shared weights (Li & Talwalkar 2019, arXiv 1902.07638).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from archgrad.architecture import Architecture
from archgrad.choice import Supernet, concrete
from archgrad.config import Config
from archgrad.datasets.images import ImageData
from archgrad.derive import random_derivation
from archgrad.experiment.measures import SHARED
from archgrad.inheritance import inherit
from archgrad.objectives import autocast
from archgrad.parts import Parts, load_data
from archgrad.progress import Progress
from archgrad.runs import Run
from archgrad.spaces.drop_path import set_drop_path
from archgrad.verbs.contents import check_same_data, load_network, read_architecture, read_config, read_groups
from archgrad.verbs.derive import derive_run
from archgrad.verbs.search import search_run
from archgrad.verbs.select import RESULT as SELECTED
from archgrad.verbs.staged import PLAN as STAGES
from archgrad.verbs.train import train_run

EVALUATED = "random_search.json"
"""File of the control's runs: the architectures that were looked at, and how accurate they were."""


@dataclass(frozen=True)
class Job:
    """A run that is to be done.

    folder: of the run. settings: its configuration, with the seed. train: whether the derived network is
    trained from scratch. evaluations: of the control, how many random architectures are looked at; 0
    for a method's own search.
    """

    folder: str
    settings: Mapping[str, Any]
    train: bool = False
    evaluations: int = 0

    def document(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        run = Run(self.folder)
        return (
            run.exists("logits.safetensors")
            and run.exists("architecture.json")
            and run.exists(SHARED)
            and (not self.train or run.exists("train/derived/result.json"))
        )


class Worker:
    """Does jobs one after another, and keeps the images of the last."""

    def __init__(self) -> None:
        self._data: tuple[Any, ImageData] | None = None

    def do(self, job: Job, progress: Progress) -> None:
        """Do what is left of a job.

        Raises:
            UserError: anything wrong with the configuration or the folder.
            WorkError: search or training diverged.
            Stopped: a signal asked for it; the job goes on from there when it is done again.
        """
        run = Run(job.folder)
        if not _searched(run):
            Path(job.folder).parent.mkdir(parents=True, exist_ok=True)
            begun = run.exists("config.yaml") or run.exists(STAGES)
            search_run({} if begun else job.settings, job.folder, resume=begun, progress=progress)
        config = read_config(run)
        data = self._images(config)
        if not run.exists("architecture.json") or not run.exists(SHARED):
            derive_run(job.folder)
            _evaluate(run, Parts.of(config, data), job.evaluations)
        if job.train:
            train_run(job.folder, data=data, progress=progress)

    def _images(self, config: Config) -> ImageData:
        key = (config.data.name, config.data.path, config.data.resize)
        if self._data is None or self._data[0] != key:
            self._data = key, load_data(config)
        return self._data[1]


def _searched(run: Run) -> bool:
    """Whether the search has ended, and the selection after it, if there is one."""
    if not run.exists("logits.safetensors"):
        return False
    return read_config(run).selection.name == "none" or run.exists(SELECTED)


def _evaluate(run: Run, parts: Parts, evaluations: int) -> None:
    """Write the accuracy of the derived architecture with shared weights; of the control, choose it first."""
    check_same_data(run, parts)
    network = searched_supernet(run, parts)
    began = time.perf_counter()
    if evaluations:
        rule, groups = parts.config.derive.rule, read_groups(run)
        drawn = [
            random_derivation(groups, rule, parts.streams, "experiment", index)
            for index in range(evaluations)
        ]
        found = [shared_accuracy(parts, network, d.architecture) for d in drawn]
        best = max(range(evaluations), key=found.__getitem__)
        run.write_json(
            EVALUATED,
            {
                "evaluated": [
                    {"architecture": dict(d.architecture), "accuracy": accuracy}
                    for d, accuracy in zip(drawn, found, strict=True)
                ],
                "best": best,
            },
        )
        run.write_text("architecture.json", drawn[best].architecture.to_json())
        run.write_json("derivation.json", drawn[best].document())
        run.log(f"random search: the best of {evaluations} by shared weights")
        accuracy = found[best]
    else:
        accuracy = shared_accuracy(parts, network, read_architecture(run))
    # of the control it is a part of the search
    seconds = time.perf_counter() - began if evaluations else 0.0
    run.write_json(SHARED, {"accuracy": accuracy, "seconds": seconds})


def searched_supernet(run: Run, parts: Parts) -> Supernet:
    """The supernet as the search left it."""
    checkpoint, _ = run.load_checkpoint()
    network = parts.supernet()
    with run.reading("checkpoints"):
        if checkpoint is None:
            raise ValueError("it holds no checkpoint of the search")
        load_network(network, checkpoint["network"], "the newest checkpoint")
    return network


def shared_accuracy(parts: Parts, network: Supernet, architecture: Architecture) -> float:
    """Accuracy of the architecture with the supernet's weights, on the part that drives the architecture.

    As the search sees it: BatchNorm by the batch, no drop path. The supernet stays what it is.
    """
    settings = parts.config.space.settings()
    alone = parts.built(
        lambda: concrete(parts.space.builder, architecture, parts.data.shape, parts.classes, **settings),
        "shared",
    )
    inherit(network, alone, architecture)
    alone.train()
    set_drop_path(alone, 0.0, parts.streams.generator("drop path"))
    correct, images = 0, 0
    with torch.no_grad():
        for x, y in parts.task(network).valid.epoch(0):
            with autocast(x.device, parts.config.device.precision):
                output = alone(x)
            logits = output[0] if isinstance(output, tuple) else output
            correct += int((logits.argmax(dim=1) == y).sum())
            images += len(y)
    return correct / images
