"""Reading a run folder as far as it got: missing files are missing data, damaged ones are warnings.

The files and their keys: docs/architecture.md, "A run folder".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from archgrad.architecture import Architecture
from archgrad.errors import UserError

_KNOWN_FILES = ("config.yaml", "choices.json", "metrics.jsonl", "environment.json", "train")


class _Row(BaseModel):
    # Unknown keys are passed over: a newer archgrad may write more than this one reads.
    model_config = ConfigDict(extra="ignore", frozen=True)


class AlarmRow(_Row):
    """What an alarm said after an epoch, and what to do."""

    text: str
    remedy: str


class SearchEpoch(_Row):
    """One line of ``metrics.jsonl``. Accuracies are fractions, entropies nats, seconds per epoch."""

    epoch: int
    step: int | None = None
    seconds: float | None = None
    tau: float | None = None
    train_loss: float | None = None
    train_accuracy: float | None = None
    valid_loss: float | None = None
    valid_accuracy: float | None = None
    cost: float | None = None
    cost_unit: str | None = None
    budgets: dict[str, dict[str, float | None]] = {}
    entropy: dict[str, float | None] = {}
    entropy_mean: float | None = None
    probabilities: dict[str, tuple[float | None, ...]] = {}
    alpha_gradient_norm: float | None = None
    weight_gradient_norm: float | None = None
    skipped_steps: int = 0
    architecture: dict[str, str] = {}
    alpha_relative_step: float | None = None
    diagnostics: dict[str, Any] = {}
    alarms: dict[str, AlarmRow] = {}
    given_up_seconds: float | None = None


class StopRecord(_Row):
    """``stopped.json``: which rules ended the search after which epoch, why, and whose logits count."""

    epoch: int
    rules: tuple[str, ...] = ()
    because: str
    rolled_back_to: int


class ActionRecord(_Row):
    """A line of ``actions.jsonl``: what rules did to the search instead of ending it."""

    epoch: int
    rules: tuple[str, ...] = ()
    because: str
    action: str
    did: str
    rolled_back_to: int | None = None
    given_up: int = 0


class TrainEpoch(_Row):
    """One line of ``train/<name>/metrics.jsonl``."""

    epoch: int
    seconds: float | None = None
    train_loss: float | None = None
    train_accuracy: float | None = None


class TrainResult(_Row):
    """``train/<name>/result.json``: a network trained from scratch and tested once."""

    name: str
    kind: str
    parameters: int | None = None
    macs: float | None = None
    epochs: int | None = None
    seed: int | None = None
    seconds: float | None = None
    train_accuracy: float | None = None
    test_accuracy: float | None = None
    test_loss: float | None = None
    test_images: int | None = None
    test_perplexity: float | None = None


class Decision(_Row):
    """How one choice was decided; probabilities are the sampler's, entropy is in nats."""

    name: str
    winner: str
    winner_probability: float | None = None
    runner_up: str | None = None
    runner_up_probability: float | None = None
    margin: float | None = None
    entropy: float | None = None
    kept: bool = True


class BudgetCheck(_Row):
    """What the derived network costs, of one budget."""

    cost: str
    value: float | None = None
    met: bool | None = None


class Gap(_Row):
    """A cost as the search expected it, and as the derived network has it."""

    cost: str
    expected: float | None = None
    derived: float | None = None
    relative: float | None = None


class Live(_Row):
    """What of the derived network its output depends on."""

    parameters: float | None = None
    macs: float | None = None


class DerivationRecord(_Row):
    """``derivation.json``: the rule, each decision, and what it warned about."""

    rule: str = ""
    choices: tuple[Decision, ...] = ()
    warnings: tuple[str, ...] = ()
    parameters: float | None = None
    macs: float | None = None
    live: Live | None = None
    skip_share: float | None = None
    epoch: int | None = None
    budgets: tuple[BudgetCheck, ...] = ()
    gaps: tuple[Gap, ...] = ()


class Best(_Row):
    """``best.json``: the epoch with the highest validation accuracy so far."""

    epoch: int
    valid_accuracy: float | None = None


class _ChoiceGroup(_Row):
    candidates: tuple[str, ...]
    names: tuple[str, ...]


class _Choices(_Row):
    groups: tuple[_ChoiceGroup, ...]


_Model = TypeVar("_Model", bound=_Row)


@dataclass(frozen=True)
class Training:
    """One folder of ``train/``: its epochs, and its result once it is there."""

    name: str
    kind: str
    epochs: tuple[TrainEpoch, ...]
    result: TrainResult | None


@dataclass(frozen=True)
class RunRecord:
    """What a run folder holds. None or empty: not written yet, or not readable (see `warnings`).

    candidates: choice -> names of its K candidates, in the order of the probabilities.
    finished: the search wrote its final logits.
    stopped: what ended the search before its last epoch; None where no rule did.
    actions: what rules did to it.
    warnings: a sentence for everything that could not be read.
    genotype: what is trained here without a search, by name; None after a search.
    """

    name: str
    config: Mapping[str, Any]
    config_text: str | None
    environment: Mapping[str, Any]
    data: Mapping[str, Any]
    candidates: Mapping[str, tuple[str, ...]]
    epochs: tuple[SearchEpoch, ...]
    best: Best | None
    finished: bool
    architecture: Architecture | None
    derivation: DerivationRecord | None
    trainings: tuple[Training, ...]
    warnings: tuple[str, ...]
    genotype: str | None = None
    stopped: StopRecord | None = None
    actions: tuple[ActionRecord, ...] = ()

    def setting(self, *paths: str) -> Any:
        """The first setting that `config.yaml` has among dotted paths, e.g. ``"search.epochs"``; or None."""
        for path in paths:
            value: Any = self.config
            for key in path.split("."):
                value = value.get(key) if isinstance(value, Mapping) else None
            if value is not None:
                return value
        return None

    @property
    def planned_epochs(self) -> int | None:
        """How many epochs the search was to take, from the configuration."""
        value = self.setting("search.epochs", "epochs")
        return value if isinstance(value, int) and not isinstance(value, bool) else None


def _rows(path: Path, model: type[_Model], label: str, warnings: list[str]) -> list[_Model]:
    """The readable lines of a JSON-lines file; a warning names the others."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        warnings.append(f"{label} could not be read: {error.strerror}.")
        return []
    rows: list[_Model] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            rows.append(model.model_validate(json.loads(line)))
        except (ValueError, RecursionError):  # ValueError covers JSON, encoding and pydantic errors
            last = not any(rest.strip() for rest in lines[number:])
            reason = "is incomplete or damaged"
            warnings.append(
                f"Line {number} of {label} {reason}"
                + ("; the page shows the run up to it." if last else "; that line is left out.")
            )
    return rows


def _document(path: Path, model: type[_Model], label: str, warnings: list[str]) -> _Model | None:
    """A JSON document of the given form, or None with a warning when it has another."""
    content = _json(path, label, warnings)
    if content is None:
        return None
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        warnings.append(f"{label} is not of the documented form ({where}: {first['msg']}); it is left out.")
        return None


def _json(path: Path, label: str, warnings: list[str]) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        warnings.append(f"{label} could not be read: {error.strerror}.")
    except (ValueError, RecursionError):
        warnings.append(f"{label} is no valid JSON; it is left out.")
    return None


def _mapping(path: Path, label: str, warnings: list[str]) -> dict[str, Any]:
    content = _json(path, label, warnings)
    if content is None or isinstance(content, dict):
        return content or {}
    warnings.append(f"{label} is not a JSON object; it is left out.")
    return {}


def _config(path: Path, warnings: list[str]) -> tuple[dict[str, Any], str | None]:
    try:
        text = path.read_bytes().decode(errors="replace")
    except OSError:
        return {}, None
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError:
        warnings.append("config.yaml is no valid YAML; it is shown as it stands, its settings are not used.")
        return {}, text
    return (content if isinstance(content, dict) else {}), text


def _architecture(path: Path, warnings: list[str]) -> Architecture | None:
    try:
        return Architecture.from_json(path.read_bytes().decode(errors="replace"))
    except OSError:
        return None
    except (UserError, RecursionError) as error:
        warnings.append(f"architecture.json: {error}.")
        return None


def _genotype(path: Path, warnings: list[str]) -> str | None:
    """The genotype's name with its source, as far as they are known."""
    if not path.exists():
        return None
    content = _mapping(path, "genotype.json", warnings)
    name, source = (content.get(key) for key in ("name", "source"))
    return f"{name or 'a genotype'}" + (f" ({source})" if source else "")


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key that puts random-2 before random-10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _trainings(folder: Path, warnings: list[str]) -> tuple[Training, ...]:
    trainings = []
    names = [p.name for p in folder.iterdir() if p.is_dir()] if folder.is_dir() else []
    for name in sorted(names, key=_natural):
        label = f"train/{name}/metrics.jsonl"
        rows = {row.epoch: row for row in _rows(folder / name / "metrics.jsonl", TrainEpoch, label, warnings)}
        result = _document(folder / name / "result.json", TrainResult, f"train/{name}/result.json", warnings)
        if rows or result:
            kind = result.kind if result else re.sub(r"-\d+$", "", name)
            trainings.append(Training(name, kind, tuple(rows[e] for e in sorted(rows)), result))
    return tuple(trainings)


def read_run(folder: Path) -> RunRecord:
    """Read a run folder in whatever state it is; nothing in it is executed or changed.

    Raises:
        UserError: there is no such folder, or it holds none of the files of a run.
    """
    if not folder.is_dir():
        raise UserError(f"wanted a run folder, but {str(folder)!r} is none; type: archgrad report RUN_FOLDER")
    if not any((folder / name).exists() for name in _KNOWN_FILES):
        raise UserError(
            f"{str(folder)!r} is no run folder: it has none of {', '.join(_KNOWN_FILES)}. "
            "Give the folder that `archgrad search` wrote"
        )
    warnings: list[str] = []
    config, config_text = _config(folder / "config.yaml", warnings)
    choices = _document(folder / "choices.json", _Choices, "choices.json", warnings)
    # A resumed search may write an epoch twice; the later line is the one that the search went on from.
    epochs = {r.epoch: r for r in _rows(folder / "metrics.jsonl", SearchEpoch, "metrics.jsonl", warnings)}
    return RunRecord(
        name=folder.resolve().name,
        config=config,
        config_text=config_text,
        environment=_mapping(folder / "environment.json", "environment.json", warnings),
        data=_mapping(folder / "data.json", "data.json", warnings),
        candidates={name: g.candidates for g in (choices.groups if choices else ()) for name in g.names},
        epochs=tuple(epochs[e] for e in sorted(epochs)),
        best=_document(folder / "best.json", Best, "best.json", warnings),
        finished=(folder / "logits.safetensors").exists(),
        architecture=_architecture(folder / "architecture.json", warnings),
        derivation=_document(folder / "derivation.json", DerivationRecord, "derivation.json", warnings),
        trainings=_trainings(folder / "train", warnings),
        stopped=_document(folder / "stopped.json", StopRecord, "stopped.json", warnings),
        actions=tuple(_rows(folder / "actions.jsonl", ActionRecord, "actions.jsonl", warnings)),
        warnings=tuple(warnings),
        genotype=_genotype(folder / "genotype.json", warnings),
    )
