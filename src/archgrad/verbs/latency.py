"""Measure the candidates of a space on this machine, or write what another device needs to do it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from archgrad.architecture import Architecture
from archgrad.config_layers import overrides
from archgrad.config_problems import check
from archgrad.datasets.text import TextData
from archgrad.derive import random_derivation
from archgrad.errors import UserError, WorkError
from archgrad.latency import device_script
from archgrad.latency.candidates import Found, Target, find
from archgrad.latency.device_script import Calls, kit_calls, onnx_backend, table_of, write_json
from archgrad.latency.kit import write_kit
from archgrad.latency.models import PREDICTORS
from archgrad.latency.report import validation
from archgrad.latency.table import LatencyTable
from archgrad.latency.timing import Plan, TimingError
from archgrad.latency.torch_backend import DTYPES, inference, torch_backend, torch_calls
from archgrad.parts import data_size, load_any_data
from archgrad.progress import Progress, Shown, Silent
from archgrad.randomness import Streams
from archgrad.runs import Run
from archgrad.settings import resolve
from archgrad.spaces import SPACES
from archgrad.spaces.space import as_space
from archgrad.table import nearest
from archgrad.verbs.contents import read_architecture, read_config

BACKENDS = ("torch", "onnxruntime")
_PROVIDER = "CPUExecutionProvider"


@dataclass(frozen=True)
class How:
    """How networks are run while they are measured.

    backend: of `BACKENDS`. threads: a number, or "all", one a core. batch: images at once.
    precision: "fp32", or with torch also "bf16", of weights and activations.
    device: "cpu", or with torch also "cuda". rounds: readings of each piece.
    clock: "wall", or on a busy machine "processor": the time that it gives to the one thread.
    drift: rounds count in which the speed of the machine is within this share of the usual.
    """

    backend: str = "torch"
    threads: str = "1"
    batch: int = 1
    precision: str = "fp32"
    device: str = "cpu"
    clock: str = "wall"
    rounds: int = 20
    drift: float = 0.1

    def check(self) -> tuple[int, Plan]:
        """Number of threads, and the plan.

        Raises:
            UserError: a value is none of those that there are.
        """
        for name, value, known in (
            ("backend", self.backend, BACKENDS),
            ("precision", self.precision, tuple(DTYPES)),
            ("device", self.device, ("cpu", "cuda")),
        ):
            if value not in known:
                raise UserError(f"unknown {name} {value!r}{nearest(value, known)}; known: {', '.join(known)}")
        if self.batch < 1:
            raise UserError(f"wanted a batch of at least one image, got {self.batch}")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise UserError("PyTorch finds no GPU here: leave out --device cuda")
        if self.backend == "onnxruntime" and self.device != "cpu":
            raise UserError("networks are measured on a GPU by --backend torch")
        if self.device == "cuda" and self.clock != "wall":
            raise UserError("a GPU is timed by its own events: leave out --clock")
        try:
            threads = device_script.threads_of(self.threads)
            device_script.check_clock(self.clock, threads)
            return threads, Plan(self.rounds, drift=self.drift)
        except ValueError as error:
            raise UserError(str(error)) from None


def target_of_run(folder: Path | str) -> Target:
    """The networks that ``archgrad train`` builds for a run.

    Raises:
        UserError: no run, or one on a text.
    """
    run = Run.open(folder)
    config = read_config(run)
    if config.reads_text:
        raise UserError(f"{run.folder} is a run on a text; latency is measured of networks on images")
    data = run.read_json("data.json")
    with run.reading("data.json"):
        channels, height, width = data["shape"]
        classes = len(data["classes"])
    return Target.of(config.space.name, (channels, height, width), classes, config.train.space)


def target_of_data(settings: Mapping[str, Any]) -> Target:
    """The networks that a search with these settings would train: image size and classes are the data's.

    Args:
        settings: as for `archgrad.verbs.search_run`, with ``data`` by name or path.

    Raises:
        UserError: anything wrong with the settings or the data, or the data are a text.
    """
    first = check(settings)
    data = load_any_data(first)
    if isinstance(data, TextData):
        raise UserError(f"{data.name} is a text; latency is measured of networks on images")
    config = resolve(settings, data_size(data, first)).config
    return Target.of(config.space.name, data.shape, len(data.classes), config.train.space)


def target_of_words(space: str, size: str | None, classes: int | None, pairs: list[str]) -> Target:
    """The networks that a command line names.

    Raises:
        UserError: a size that is none, or a key of another section than ``space``.
    """
    given = overrides(pairs)
    settings = given.pop("space", {})
    if given or not isinstance(settings, dict):
        raise UserError(f"settings of the space read space.KEY=VALUE, got {' '.join(pairs)}")
    numbers = (size or "32").replace("×", "x").split("x")
    if len(numbers) not in (1, 3) or not all(n.isdigit() and int(n) for n in numbers):
        raise UserError(
            f"--size: wanted pixels as in 32, or channels, height and width as in 1x28x28, got {size}"
        )
    shape = [int(n) for n in numbers] if len(numbers) == 3 else [3, int(numbers[0]), int(numbers[0])]
    return Target.of(space, (shape[0], shape[1], shape[2]), classes or 10, settings)


def measure_latency(
    target: Target,
    out: Path,
    how: How | None = None,
    *,
    validate: int = 0,
    predictor: str | None = None,
    again: bool = False,
    progress: Progress | None = None,
) -> LatencyTable:
    """Measure every distinct candidate of a space, and so many random networks whole; write the table.

    What was measured is not measured again: a table that is there is gone on with, and so is one that was
    stopped, from ``<out>.partial``.

    Args:
        target: the networks.
        out: the table's file.
        how: backend, threads and so on.
        validate: random networks to measure whole, 5 or more; 0 for none.
        predictor: one of `models.PREDICTORS`, to be used where the sum is not enough.
        again: whether to measure anew what is there.
        progress: where to show it.

    Raises:
        UserError: wrong settings, or `out` is a table of something else.
        WorkError: the machine cannot be measured on now.
    """
    how, progress = how or How(), progress or Silent()
    threads, _ = how.check()
    if 0 < validate < 5:
        raise UserError(f"wanted at least 5 networks to compare the table with, got --validate {validate}")
    if not out.parent.is_dir():
        raise UserError(f"there is no folder {out.parent} for the table: make it, or give another --out")
    found = find(target, how.batch, how.precision)
    before = None if again else _before(out, found, how, threads)
    kept = [] if before is None else before.architectures
    if validate:
        streams, rule = Streams(0), as_space(SPACES[target.space]).rule
        groups = target.supernet().groups
        wanted = [
            random_derivation(groups, rule, streams, "latency", i).architecture for i in range(validate)
        ]
    else:
        wanted = kept
    if predictor is not None:
        _check_predictor(predictor, len(wanted))
    document: dict[str, Any]
    if before is not None and wanted == kept:
        document = dict(before.document)
    else:
        found.manifest["whole"] = [{"architecture": dict(a)} for a in wanted]
        document = measured(target, found, how, before, _partial(out), progress)
    document["predictor"] = predictor or document.get("predictor")
    table = LatencyTable(document, str(out))
    document["validation"] = validation(table)
    write_json(out, document)
    _partial(out).unlink(missing_ok=True)
    return table


def _random(target: Target, found: Found, count: int) -> list[Architecture]:
    """So many architectures as the space's own rule derives them from noise, the same at every call."""
    streams, rule = Streams(0), as_space(SPACES[target.space]).rule
    return [random_derivation(found.groups, rule, streams, "latency", i).architecture for i in range(count)]


def _check_predictor(predictor: str, networks: int) -> None:
    if predictor not in PREDICTORS:
        raise UserError(
            f"unknown predictor {predictor!r}{nearest(predictor, PREDICTORS)}; known: {', '.join(PREDICTORS)}"
        )
    if networks < 20:
        raise UserError(
            f"a predictor learns from networks measured whole, at least 20; there are {networks}: add "
            "--validate 50"
        )


def _partial(out: Path) -> Path:
    return out.with_name(out.name + ".partial")


def _before(out: Path, found: Found, how: How, threads: int) -> LatencyTable | None:
    """The table that is there already, if it is of the same."""
    if not out.exists():
        return None
    table = LatencyTable.read(out)
    there = table.document
    problems = [
        f"{name}: it has {was}, you gave {now}"
        for name, was, now in (
            ("space", there["space"]["name"], found.manifest["space"]["name"]),
            ("shape", there["space"]["shape"], found.manifest["space"]["shape"]),
            ("settings", there["space"]["settings"], found.manifest["space"]["settings"]),
            ("pieces", there["space"]["digest"], found.manifest["space"]["digest"]),
            ("backend", there["backend"]["name"], how.backend),
            ("batch", there["batch"], how.batch),
            ("precision", there["precision"], how.precision),
            ("clock", there["clock"], how.clock),
            ("threads", there["device"]["threads"], threads),
            ("GPU", there["device"]["accelerator"] is not None, how.device == "cuda"),
        )
        if was != now
    ]
    if problems:
        shown = "".join(f"\n  - {problem}" for problem in problems)
        raise UserError(f"{out} is a latency table of something else; give another --out, or --again:{shown}")
    table.check_device()
    return table


def measured(
    target: Target, found: Found, how: How, before: LatencyTable | None, partial: Path, progress: Progress
) -> dict[str, Any]:
    """Measure the pieces and whole networks of a manifest on this machine.

    Args:
        target: the networks.
        found: what to measure.
        how: backend, threads and so on.
        before: a table whose pieces are then not measured again.
        partial: rounds that are done are kept here.
        progress: where to show it.

    Returns:
        The document of a table.

    Raises:
        UserError: wrong settings.
        WorkError: the machine cannot be measured on now.
    """
    threads, plan = how.check()
    device = torch.device(how.device)
    gpu = torch.cuda.get_device_name() if how.device == "cuda" else None
    backend = torch_backend() if how.backend == "torch" else onnx_backend(_PROVIDER)
    where = {"device": device_script.device(threads, gpu), "backend": backend, "clock": how.clock}
    there = None if before is None else before.document
    started: list[str] = []

    def show(what: str, done: int, wanted: int, numbers: str) -> None:
        if what not in started:
            progress.finish()
            progress.start(f"measure {what}", wanted)
            started.append(what)
        progress.update(done, numbers)

    def table(manifest: Mapping[str, Any], calls: Calls) -> dict[str, Any]:
        return table_of(manifest, calls, plan, where, partial, show, there)

    try:
        if how.backend == "torch":

            def networks() -> list[nn.Module]:
                return [target.network(Architecture(one["architecture"])) for one in found.manifest["whole"]]

            with inference(threads):
                return table(
                    found.manifest, torch_calls(found.manifest, found.modules, networks, device, how.clock)
                )
        with tempfile.TemporaryDirectory() as name:
            kit = write_latency_kit(target, Path(name), found, progress=progress)
            return table(kit, kit_calls(Path(name), kit, threads, _PROVIDER, how.clock))
    except TimingError as error:
        raise WorkError(str(error)) from None
    finally:
        progress.finish()


def write_latency_kit(
    target: Target,
    folder: Path,
    found: Found | None = None,
    *,
    batch: int = 1,
    validate: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write a folder that measures a space where there is only Python, numpy and ONNX Runtime.

    ``python measure.py --out table.json`` there writes the table.

    Args:
        target: the networks.
        folder: made where it is not there.
        found: the pieces, where they are known already; then `batch` and `validate` say nothing.
        batch: images at once.
        validate: random networks to measure whole.
        progress: where to show it.

    Returns:
        The manifest.

    Raises:
        UserError, MissingExtra, WorkError: as `kit.write_kit`.
    """
    if found is None:
        found = find(target, batch)
        found.manifest["whole"] = [{"architecture": dict(a)} for a in _random(target, found, validate)]
    progress = progress or Silent()
    total = len(found.manifest["pieces"]) + 1 + len(found.manifest["whole"])
    with Shown(progress, "export", total):
        path = write_kit(found, target, folder, lambda done, total, what: progress.update(done, what))
    manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return manifest


def derived(folder: Path | str) -> Architecture | None:
    """The architecture that a run derived, if it has."""
    run = Run.open(folder)
    return read_architecture(run) if run.exists("architecture.json") else None
