"""Train the derived recurrent network of a run from scratch on its text, beside controls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from archgrad.architecture import Architecture
from archgrad.choice import concrete
from archgrad.config import Config
from archgrad.datasets.text import TextData
from archgrad.derive import random_derivation
from archgrad.errors import UserError
from archgrad.language_counts import LanguageCounts, count_language
from archgrad.language_parts import TextParts
from archgrad.language_train import (
    LanguageRecord,
    LanguageState,
    LanguageStep,
    evaluate_language,
    perplexity,
    train_language,
)
from archgrad.parts import load_any_data
from archgrad.progress import Progress, Shown
from archgrad.runs import Run
from archgrad.spaces.language_model import Dropouts, LanguageModel
from archgrad.spaces.lstm import LstmCore, lstm_size
from archgrad.verbs.contents import check_same_data, read_groups, write_tensors
from archgrad.verbs.saved_training import SavedTraining


class _Candidate(NamedTuple):
    """A network to be trained; settings: of its builder."""

    name: str
    kind: str
    architecture: Architecture | None
    build: Callable[[], nn.Module]
    settings: Mapping[str, Any]


def train_text(
    run: Run,
    config: Config,
    architecture: Architecture,
    controls: int,
    data: TextData | None,
    again: bool,
    progress: Progress,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """``result.json`` of the derived network and of its controls.

    The controls are `controls` random cells of the space and, with any, an LSTM of about the same number of
    parameters, all with the same recipe.

    Raises:
        UserError: the data are not those of the run, or a network was trained otherwise.
        WorkError: training diverged.
        Stopped: Ctrl-C or SIGTERM; a checkpoint was written.
    """
    if data is None:
        loaded = load_any_data(config)
        if not isinstance(loaded, TextData):
            raise UserError(f"{loaded.name} is no text, and the run in {run.folder} searched on one")
        data = loaded
    parts = TextParts.of(config, data)
    check_same_data(run, parts)

    def of_space(name: str, kind: str, chosen: Architecture) -> _Candidate:
        settings = dict(config.train.space)
        return _Candidate(
            name,
            kind,
            chosen,
            lambda: concrete(parts.space.builder, chosen, parts.shape, parts.classes, **settings),
            settings,
        )

    derived = _train_one(run, parts, of_space("derived", "derived", architecture), again, progress)
    groups, rule = read_groups(run), config.derive.rule
    candidates = [
        of_space(
            f"random-{index}",
            "random",
            random_derivation(groups, rule, parts.streams, "control", index).architecture,
        )
        for index in range(controls)
    ]
    if controls:
        candidates.append(_lstm(parts, derived["parameters"]))
    return derived, [_train_one(run, parts, c, again, progress) for c in candidates]


def _lstm(parts: TextParts, parameters: int) -> _Candidate:
    """An LSTM of about so many parameters, with the dropouts of the derived network."""
    hidden = lstm_size(parts.classes, parameters)
    known = parts.config.train.space
    dropouts = {name: known.get(f"dropout_{name}", 0.0) for name in vars(Dropouts())}

    def build() -> nn.Module:
        return LanguageModel(LstmCore(hidden), parts.classes, hidden, Dropouts(**dropouts))

    return _Candidate("lstm", "lstm", None, build, {"hidden": hidden, **dropouts})


def _train_one(
    run: Run, parts: TextParts, candidate: _Candidate, again: bool, progress: Progress
) -> dict[str, Any]:
    """Train one network, or go on with it, or return its result if it is there already."""
    config, name = parts.config, candidate.name
    identity = {
        "train": config.train.model_dump(mode="json"),
        "text": config.text.model_dump(mode="json"),
        "precision": config.device.precision,
        "architecture": None if candidate.architecture is None else dict(candidate.architecture),
        "space": dict(candidate.settings),
    }
    saved = SavedTraining(run, name, identity, f"archgrad train {run.folder} …")
    if again:
        saved.forget()
    if (kept := saved.result()) is not None:
        progress.say(f"{name}: trained already, result kept (--again trains anew)")
        return kept
    counts = count_language(candidate.build)
    network = parts.built(candidate.build, name)
    state = LanguageState(
        parts.train_optimizer(network), network.zero_state(config.train.batch_size).to(torch.float32)
    )
    saved.begin(network, state, progress)
    _train_on(parts, saved, network, state, progress)
    network.load_state_dict(state.best)
    result = _result(run, parts, candidate, network, state, counts)
    write_tensors(run, saved.weights, network.state_dict())
    saved.finish(result)
    return result


def _train_on(
    parts: TextParts, saved: SavedTraining, network: LanguageModel, state: LanguageState, progress: Progress
) -> None:
    """Train from `state` to the end, recording and saving on the way."""
    plan, data = parts.train_plan(), parts.data
    rows = len(data.train) // plan.texts  # more than an epoch has windows
    windows = -(-rows // plan.window)  # of an epoch in the mean

    def show(record: LanguageStep | LanguageRecord) -> bool:
        if isinstance(record, LanguageRecord):
            return False
        progress.update(
            record.epoch * windows + windows * record.step // record.steps,
            f"epoch {record.epoch + 1}/{plan.epochs}  loss {record.loss:.3f}  "
            f"perplexity {perplexity(record.loss):.1f}",
        )
        return True

    records = train_language(network, data.train, data.valid, state, plan, parts.streams, saved.name)
    with Shown(progress, f"train {saved.name}", plan.epochs * windows, state.epoch * windows):
        saved.follow(records, network, state, rows, show)


def _result(
    run: Run,
    parts: TextParts,
    candidate: _Candidate,
    network: LanguageModel,
    state: LanguageState,
    counts: LanguageCounts,
) -> dict[str, Any]:
    """The content of ``result.json``. The only place where the test part is looked at."""
    config = parts.config
    test = evaluate_language(network, parts.data.test, config.text.window, config.device.precision)
    lines = run.read_lines(f"train/{candidate.name}/metrics.jsonl")
    return {
        "name": candidate.name,
        "kind": candidate.kind,
        "architecture": None if candidate.architecture is None else dict(candidate.architecture),
        "parameters": counts.parameters,
        "macs": counts.macs,
        "epochs": config.train.epochs,
        "seed": config.seed,
        "seconds": sum(line["seconds"] for line in lines),
        "train_accuracy": lines[-1]["train_accuracy"],
        "valid_loss": state.best_loss,
        "valid_perplexity": perplexity(state.best_loss),
        "test_accuracy": test.accuracy,
        "test_loss": test.loss,
        "test_perplexity": test.perplexity,
        "test_words": test.words,
        "settings": dict(candidate.settings),
        "shape": list(parts.shape),
        "vocabulary": parts.classes,
    }
