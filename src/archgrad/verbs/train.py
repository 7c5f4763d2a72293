"""Train the derived network of a run from scratch, beside controls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from archgrad.architecture import Architecture
from archgrad.choice import Supernet, concrete
from archgrad.config_layers import merge
from archgrad.config_problems import training_problems
from archgrad.costs.network_counts import NetworkCounts, count_module
from archgrad.datasets.images import ImageData
from archgrad.datasets.text import TextData
from archgrad.derive import random_derivation
from archgrad.errors import ConfigError, UserError
from archgrad.inheritance import inherit as inherit_weights
from archgrad.network_features import network_features
from archgrad.parts import Parts, load_data
from archgrad.progress import Progress, Silent
from archgrad.runs import Run
from archgrad.spaces.residual import ResidualNetwork, residual_size
from archgrad.train import TrainState, evaluate
from archgrad.verbs.contents import (
    check_same_data,
    load_network,
    read_architecture,
    read_config,
    write_tensors,
)
from archgrad.verbs.genotype import FILE as GENOTYPE
from archgrad.verbs.genotype import check_sizes
from archgrad.verbs.saved_training import SavedTraining
from archgrad.verbs.staged import whole_groups


class Trained(NamedTuple):
    """``train/<name>/result.json`` of every network that was trained."""

    derived: dict[str, Any]
    controls: list[dict[str, Any]]


class Beside(NamedTuple):
    """A network of the same space that is trained like the derived one.

    kind: "random", or another word for what it is. settings: of the builder, where they differ.
    """

    name: str
    kind: str
    architecture: Architecture
    settings: Mapping[str, Any] = {}


class _Candidate(NamedTuple):
    """A network to be trained; settings: of its builder. prepare: done to it before the first step."""

    name: str
    kind: str
    architecture: Architecture | None
    build: Callable[[], nn.Module]
    settings: Mapping[str, Any]
    prepare: Callable[[nn.Module], None] | None = None


def train_run(
    folder: Path | str,
    settings: Mapping[str, Any] | None = None,
    *,
    controls: int = 0,
    data: ImageData | TextData | None = None,
    again: bool = False,
    inherit: bool = False,
    beside: Sequence[Beside] = (),
    hold_out: bool = False,
    progress: Progress | None = None,
) -> Trained:
    """Train the derived network, from scratch or from the supernet's weights, and evaluate it.

    Args:
        folder: a run that has derived.
        settings: changes to the configuration's section ``train``, e.g. ``{"train": {"epochs": 5}}``.
        controls: with N > 0 also N random architectures of the space and a residual network (on a text an
            LSTM) of about the same number of parameters, on the same budget.
        data: the images or the text, where the search was given them directly.
        again: train anew what is there already.
        inherit: build the networks of the space with the settings of the search and begin with the weights
            that the supernet has for them, instead of from scratch.
        beside: more controls, of your own; with `inherit` none of another size.
        hold_out: do not train on the images that drove the architecture, and evaluate on them, too: what is
            chosen between networks by ``valid_accuracy`` has not seen the test part.
        progress: where to show it.

    Raises:
        UserError: the run has not derived, or holds a network trained with other settings.
        WorkError: training diverged.
        Stopped: Ctrl-C or SIGTERM; a checkpoint was written and training goes on from it.
    """
    progress = progress or Silent()
    run = Run.open(folder)
    architecture = read_architecture(run)
    other = sorted(set(settings or {}) - {"train", "device"})
    if other:
        raise UserError(f"train takes settings of the sections train and device, got {', '.join(other)}")
    if run.exists(GENOTYPE):
        check_sizes(settings or {})
    if controls < 0:
        raise UserError(f"controls is a number of networks, at least 0; got {controls}")
    if inherit and read_config(run).reads_text:
        raise UserError(
            "--inherit is for networks on images: the supernet of a text normalises its states over a batch, "
            "and the network that is tested must not, so its weights would not fit; leave --inherit out"
        )
    if inherit:  # the networks of a search have no auxiliary head
        settings = merge({"train": {"auxiliary_weight": 0.0}}, settings or {})
    config = read_config(run, settings)
    if config.reads_text:
        from archgrad.verbs.train_text import train_text

        text = data if isinstance(data, TextData) else None
        return Trained(*train_text(run, config, architecture, controls, text, again, progress))
    if isinstance(data, TextData):
        raise UserError(f"{data.name} is a text, and the run in {run.folder} searched on images")
    data = data or load_data(config)
    parts = Parts.of(config, data)
    check_same_data(run, parts)
    builder, shape = parts.space.builder, data.shape
    space_settings = config.space.settings() if inherit else parts.train_settings()
    features = network_features(builder, shape, parts.classes, space_settings)
    if problems := training_problems(config, features):
        raise ConfigError(problems)

    trained_supernet = _trained_supernet(run, parts) if inherit else None

    def of_space(
        name: str, kind: str, chosen: Architecture, changes: Mapping[str, Any] | None = None
    ) -> _Candidate:
        own = {**space_settings, **(changes or {})}
        return _Candidate(
            name,
            kind,
            chosen,
            lambda: concrete(builder, chosen, shape, parts.classes, **own),
            own,
            trained_supernet and (lambda network: inherit_weights(trained_supernet, network, chosen)),
        )

    validation = None
    if hold_out:
        parts, validation = _held_out(parts)

    def trained(candidate: _Candidate) -> dict[str, Any]:
        return _train_one(run, parts, candidate, validation, again, progress)

    groups = whole_groups(run, parts)  # a damaged file is named before anything is trained
    derived = trained(of_space("derived", "derived", architecture))
    candidates = [
        of_space(
            f"random-{index}",
            "random",
            random_derivation(groups, config.derive.rule, parts.streams, "control", index).architecture,
        )
        for index in range(controls)
    ]
    candidates += [of_space(b.name, b.kind, b.architecture, b.settings) for b in beside]
    if controls:
        channels, blocks = residual_size(shape, parts.classes, derived["parameters"])
        candidates.append(
            _Candidate(
                "residual",
                "residual",
                None,
                lambda: ResidualNetwork(shape, parts.classes, channels, blocks),
                {"channels": channels, "blocks": blocks},
            )
        )
    return Trained(derived, [trained(candidate) for candidate in candidates])


def _held_out(parts: Parts) -> tuple[Parts, Parts]:
    """Parts that do not learn from the images that drove the architecture, and others whose test they are."""
    splits = parts.splits
    learning = replace(parts, splits=replace(splits, architecture=splits.architecture[:0]))
    return learning, replace(learning, splits=replace(learning.splits, test=splits.architecture))


def _train_one(
    run: Run,
    parts: Parts,
    candidate: _Candidate,
    validation: Parts | None,
    again: bool,
    progress: Progress,
) -> dict[str, Any]:
    """Train one network, or go on with it, or return its result if it is there already."""
    config, name = parts.config, candidate.name
    identity = {
        "train": config.train.model_dump(mode="json"),
        "precision": config.device.precision,
        "architecture": None if candidate.architecture is None else dict(candidate.architecture),
        "space": dict(candidate.settings),
        **({"inherit": True} if candidate.prepare else {}),
        **({"hold_out": True} if validation else {}),
    }
    saved = SavedTraining(run, name, identity, f"archgrad train {run.folder} …")
    if again:
        saved.forget()
    if (kept := saved.result()) is not None:
        progress.say(f"{name}: trained already, result kept (--again trains anew)")
        return kept
    counts = count_module(candidate.build, parts.data.shape)
    network = parts.built(candidate.build, name)
    if candidate.prepare:
        candidate.prepare(network)
    state = TrainState(parts.train_optimizer(network))
    batches, plan = parts.train_batches(name), parts.train_plan()
    lines = saved.train(network, state, batches, plan, parts.streams, progress)
    result = _result(parts, candidate, network, counts, lines)
    if validation:
        valid = evaluate(network, validation.test_batches(), config.device.precision)
        result |= {
            "valid_accuracy": valid.accuracy,
            "valid_loss": valid.loss,
            "valid_images": valid.images,
        }
    write_tensors(run, saved.weights, network.state_dict())
    saved.finish(result)
    return result


def _trained_supernet(run: Run, parts: Parts) -> Supernet:
    """The supernet as the search left it.

    Raises:
        UserError: the run has no checkpoint of its search.
    """
    checkpoint, _ = run.load_checkpoint()
    if checkpoint is None:
        raise UserError(
            f"{run.path('checkpoints')} holds no supernet to inherit weights from: leave --inherit out"
        )
    network = parts.supernet()
    with run.reading("checkpoints"):
        load_network(network, checkpoint["network"], "the newest checkpoint of the search")
    return network


def _result(
    parts: Parts,
    candidate: _Candidate,
    network: nn.Module,
    counts: NetworkCounts,
    lines: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The content of ``result.json``. The only place where the test part is looked at."""
    config = parts.config
    test = evaluate(network, parts.test_batches(), config.device.precision)
    mean, std = parts.train_normalisation
    return {
        "name": candidate.name,
        "kind": candidate.kind,
        "architecture": None if candidate.architecture is None else dict(candidate.architecture),
        "parameters": counts.parameters_without_auxiliary,
        "macs": counts.macs,
        "epochs": config.train.epochs,
        "seed": config.seed,
        "seconds": sum(line["seconds"] for line in lines),
        "train_accuracy": lines[-1]["train_accuracy"],
        "test_accuracy": test.accuracy,
        "test_loss": test.loss,
        "test_images": test.images,
        "settings": dict(candidate.settings),
        "shape": list(parts.data.shape),
        "classes": list(parts.data.classes),
        "mean": list(mean),
        "std": list(std),
    }
