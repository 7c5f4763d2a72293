"""The verbs as Python functions: search, derive, train, export and report a run.

Each works on a run folder and on what the verbs before it left there, so each can be called in another
process, or from the command line.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from archgrad.architecture import Architecture
from archgrad.architecture_warnings import is_connected
from archgrad.choice import Group, concrete
from archgrad.config import Config
from archgrad.costs.network_counts import NetworkCounts, count_module, count_network
from archgrad.datasets.images import ImageData
from archgrad.derive import Derivation, derive
from archgrad.errors import Stopped, UserError, WorkError
from archgrad.parts import Parts, data_size, differences, load_data
from archgrad.progress import Progress, Shown, Silent
from archgrad.randomness import Streams
from archgrad.rules import RULES
from archgrad.runs import Run, StopRequest
from archgrad.samplers import SAMPLERS
from archgrad.search import EpochRecord, SearchState, StepRecord, search
from archgrad.settings import check, merge, resolve
from archgrad.spaces.residual import ResidualNetwork, residual_size
from archgrad.train import TrainState, evaluate, train

CHECKPOINT_SECONDS = 20.0


def search_run(
    settings: Mapping[str, Any],
    folder: Path | str,
    *,
    data: ImageData | None = None,
    space: Callable[..., nn.Module] | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Run:
    """Search an architecture and record everything in a run folder.

    Args:
        settings: configuration keys (nested), on top of preset and rules; see `config`.
        folder: the run folder, new unless `resume`.
        data: images to use instead of those that ``data.name`` names.
        space: a builder ``(pick, shape, classes, …)`` instead of ``space.name``.
        resume: go on from the newest whole checkpoint; `settings` must then be empty or the same.
        progress: where to show it.

    Raises:
        UserError: anything wrong with the settings, the data or the folder.
        WorkError: the search diverged.
        Stopped: Ctrl-C or SIGTERM; a checkpoint was written.
    """
    progress = progress or Silent()
    given = merge(settings)
    if space is not None:
        given = merge(given, {"space": {"name": f"{space.__module__}:{space.__qualname__}"}})
    if data is not None:
        given = merge(given, {"data": {"name": data.name}})
    if resume:
        run = Run.open(folder)
        before = run.read_config()
        given_now, given = given, before
    first = _check(given, data)
    data = data or load_data(first)
    config, notes = resolve(given, data_size(data, first))
    if resume and given_now:
        changed = differences(
            before, resolve(merge(before, given_now), data_size(data, first)).config.document()
        )
        if changed:
            raise UserError(
                "a run can only be resumed with its own configuration; leave these out, or start a new run:\n"
                + "\n".join(f"  - {line}" for line in changed)
            )
    parts = Parts.of(config, data)
    network = parts.supernet()
    _dry_run(parts, network)
    task, state, plan = parts.task(network), parts.state(network), parts.plan()
    best = -math.inf
    if resume:
        checkpoint, warnings = run.load_checkpoint()
        for warning in warnings:
            progress.say(f"warning: {warning}")
        if checkpoint is not None:
            network.load_state_dict(checkpoint["network"])
            state.load_state_dict(checkpoint["search"])
            best = checkpoint["best"]
        run.cut_lines("metrics.jsonl", state.epoch)
        run.log(f"resumed at epoch {state.epoch}, step {state.step}")
    else:
        run = Run.create(folder)
        run.write_json("data.json", parts.description())
        run.write_json("choices.json", {"groups": [group._asdict() for group in network.groups]})
        for note in notes:
            run.log(f"rule: {note}")
        run.write_config(config.document())
        run.log(
            f"search: method {config.method}, space {config.space.name}, data {data.name}, seed {config.seed}"
        )
    for note in notes if not resume else ():
        progress.say(f"  {note}")

    def checkpoint_now() -> None:
        step = state.epoch * task.steps_per_epoch + state.step
        run.save_checkpoint(
            step, {"network": network.state_dict(), "search": state.state_dict(), "best": best}
        )

    network.train()
    saved = time.monotonic()
    total = plan.epochs * task.steps_per_epoch
    done = state.epoch * task.steps_per_epoch + state.step
    with StopRequest() as stop, Shown(progress, "search", total, done):
        try:
            for record in search(task, state, plan, parts.streams):
                if isinstance(record, StepRecord):
                    progress.update(
                        record.epoch * task.steps_per_epoch + record.step, _step_text(record, plan.epochs)
                    )
                else:
                    run.append("metrics.jsonl", record._asdict())
                    if record.valid_accuracy > best:
                        best = record.valid_accuracy
                        _write_best(run, record, state)
                    if time.monotonic() - saved > CHECKPOINT_SECONDS:
                        checkpoint_now()
                        saved = time.monotonic()
                if stop.requested:
                    checkpoint_now()
                    run.log(f"stopped by {stop.requested} at epoch {state.epoch}, step {state.step}")
                    raise Stopped(
                        f"stopped by {stop.requested} in epoch {state.epoch}, step {state.step}; go on with\n"
                        f"  archgrad search --run {run.folder} --resume"
                    )
        except WorkError as error:
            run.log(f"failed: {error}")
            newest = sorted(run.path("checkpoints").glob("step-*.pt"))
            last = f"the last good checkpoint is {newest[-1]}" if newest else "no checkpoint was written yet"
            raise WorkError(f"{error}; {last}") from None
    checkpoint_now()
    run.write_json("choices.json", {"groups": [group._asdict() for group in network.groups]})
    _write_tensors(run, "logits.safetensors", _named(state.logits))
    run.log("search finished")
    return run


def derive_run(
    folder: Path | str, rule: str | None = None, best: bool = False, data: ImageData | None = None
) -> Derivation:
    """Derive the architecture of a run: from the final logits, or from those of the best epoch.

    An unfinished search is derived from its newest checkpoint, with a warning.

    Raises:
        UserError: nothing to derive from, or a rule that does not fit the space.
    """
    run = Run.open(folder)
    config = _config_of(run)
    if rule is not None:
        RULES.check(rule)
    groups = _groups(run)
    rule = rule or config.derive.rule
    remarks: list[str] = []
    if config.hypergradient.name == "none":
        derivation = random_derivation(groups, rule, Streams(config.seed), "derived", 0)
        remarks.append(f"drawn uniformly at random: the method {config.method!r} trains no logits")
        epoch = None
    else:
        logits, epoch, remarks = _logits(run, best)
        sampler = SAMPLERS[config.sampler.name](**config.sampler.settings())
        derivation = derive(groups, [sampler.probabilities(a) for a in logits], rule)
    counts = _counts(run, config, derivation.architecture)
    derivation = Derivation(
        rule=derivation.rule,
        architecture=derivation.architecture,
        decisions=derivation.decisions,
        warnings=(*remarks, *derivation.warnings),
        skip_share=derivation.skip_share,
        parameters=counts.parameters_without_auxiliary,
        macs=counts.macs,
        epoch=epoch,
    )
    run.write_text("architecture.json", derivation.architecture.to_json())
    run.write_json("derivation.json", derivation.document())
    run.log(f"derived {derivation.architecture.digest} by rule {rule}")
    return derivation


class Trained(NamedTuple):
    """``train/<name>/result.json`` of every network that was trained."""

    derived: dict[str, Any]
    controls: list[dict[str, Any]]


def train_run(
    folder: Path | str,
    settings: Mapping[str, Any] | None = None,
    *,
    controls: int = 0,
    data: ImageData | None = None,
    again: bool = False,
    progress: Progress | None = None,
) -> Trained:
    """Train the derived network from scratch and evaluate it on the test part.

    Args:
        folder: a run that has derived.
        settings: changes to the configuration's section ``train``, e.g. ``{"train": {"epochs": 5}}``.
        controls: with N > 0 also N random architectures of the space and a residual network of about
            the same number of parameters, on the same budget.
        data: the images, where the search was given them directly.
        again: train anew what is there already.
        progress: where to show it.

    Raises:
        UserError: the run has not derived, or holds a network trained with other settings.
        WorkError: training diverged.
        Stopped: Ctrl-C or SIGTERM; finished epochs are kept and training goes on from them.
    """
    progress = progress or Silent()
    run = Run.open(folder)
    architecture = _architecture(run)
    other = sorted(set(settings or {}) - {"train", "device"})
    if other:
        raise UserError(f"train takes settings of the sections train and device, got {', '.join(other)}")
    config = _config_of(run, settings)
    data = data or load_data(config)
    parts = Parts.of(config, data)
    groups = _groups(run)
    builder, shape, settings_now = parts.space.builder, data.shape, parts.train_settings()

    def one(
        name: str, kind: str, chosen: Architecture | None, build: Callable[[], nn.Module]
    ) -> dict[str, Any]:
        counts = count_module(build, shape)
        return _train_one(run, parts, name, kind, chosen, build, counts, again, progress)

    derived = one(
        "derived",
        "derived",
        architecture,
        lambda: concrete(builder, architecture, shape, parts.classes, **settings_now),
    )
    results = []
    for index in range(controls):
        drawn = random_derivation(groups, config.derive.rule, parts.streams, "control", index).architecture
        results.append(
            one(
                f"random-{index}",
                "random",
                drawn,
                lambda drawn=drawn: concrete(builder, drawn, shape, parts.classes, **settings_now),  # type: ignore[misc]
            )
        )
    if controls:
        channels, blocks = residual_size(shape, parts.classes, derived["parameters"])
        results.append(
            one("residual", "residual", None, lambda: ResidualNetwork(shape, parts.classes, channels, blocks))
        )
    return Trained(derived, results)


def _train_one(
    run: Run,
    parts: Parts,
    name: str,
    kind: str,
    architecture: Architecture | None,
    build: Callable[[], nn.Module],
    counts: NetworkCounts,
    again: bool,
    progress: Progress,
) -> dict[str, Any]:
    """Train one network, or go on with it, or return its result if it is there already."""
    config, place = parts.config, f"train/{name}"
    identity = {
        "train": config.train.model_dump(mode="json"),
        "architecture": None if architecture is None else dict(architecture),
    }
    if run.exists(f"{place}/settings.json") and not again:
        changed = differences(run.read_json(f"{place}/settings.json"), identity)
        if changed:
            raise UserError(
                f"{run.path(place)} holds a network trained otherwise; --again trains it anew:\n"
                + "\n".join(f"  - {line}" for line in changed[:8])
            )
        if run.exists(f"{place}/result.json"):
            progress.say(f"{name}: trained already, result kept (--again trains anew)")
            result: dict[str, Any] = run.read_json(f"{place}/result.json")
            return result
    network = parts.built(build, name)
    batches, plan = parts.train_batches(name), parts.train_plan()
    state = TrainState(parts.train_optimizer(network))
    checkpoint, warnings = (None, []) if again else run.load_checkpoint(f"{place}/checkpoints")
    for warning in warnings:
        progress.say(f"warning: {warning}")
    if checkpoint is not None:
        network.load_state_dict(checkpoint["network"])
        state.load_state_dict(checkpoint["train"])
    run.write_json(f"{place}/settings.json", identity)
    run.cut_lines(f"{place}/metrics.jsonl", state.epoch)

    def checkpoint_now() -> None:
        run.save_checkpoint(
            state.epoch,
            {"network": network.state_dict(), "train": state.state_dict()},
            f"{place}/checkpoints",
        )

    saved = time.monotonic()
    with StopRequest() as stop, Shown(progress, f"train {name}", plan.epochs, state.epoch):
        record = None
        for record in train(network, batches, state, plan, parts.streams):
            run.append(f"{place}/metrics.jsonl", record._asdict())
            progress.update(
                state.epoch, f"loss {record.train_loss:.3f}  accuracy {record.train_accuracy:.1%}"
            )
            if time.monotonic() - saved > CHECKPOINT_SECONDS or stop.requested:
                checkpoint_now()
                saved = time.monotonic()
            if stop.requested:
                raise Stopped(
                    f"stopped by {stop.requested} after epoch {state.epoch} of {name}; go on with\n"
                    f"  archgrad train {run.folder}"
                )
    test = evaluate(network, parts.test_batches(), plan.precision)
    lines = run.read_lines(f"{place}/metrics.jsonl")
    mean, std = parts.train_normalisation
    result = {
        "name": name,
        "kind": kind,
        "architecture": identity["architecture"],
        "parameters": counts.parameters_without_auxiliary,
        "macs": counts.macs,
        "epochs": plan.epochs,
        "seed": config.seed,
        "seconds": sum(line["seconds"] for line in lines),
        "train_accuracy": lines[-1]["train_accuracy"],
        "test_accuracy": test.accuracy,
        "test_loss": test.loss,
        "test_images": test.images,
        "settings": parts.train_settings() if kind != "residual" else _residual_settings(network),
        "shape": list(parts.data.shape),
        "classes": list(parts.data.classes),
        "mean": list(mean),
        "std": list(std),
    }
    _write_tensors(run, f"{place}/weights.safetensors", network.state_dict())
    run.write_json(f"{place}/result.json", result)
    for old in run.path(f"{place}/checkpoints").glob("step-*"):
        old.unlink()
    run.log(f"trained {name}: test accuracy {test.accuracy:.4f}")
    return result


class Exported(NamedTuple):
    """What `export_run` wrote and checked; see `export.onnx` and `export.standalone`."""

    onnx: Any
    standalone: Any


def export_run(folder: Path | str, data: ImageData | None = None, onnx: bool = True) -> Exported:
    """Export the trained network: ``export/model.onnx`` and a folder that runs without archgrad.

    Raises:
        UserError: the run has no trained network.
        WorkError: an export does not compute what the network computes.
    """
    from archgrad.export.onnx import export_onnx
    from archgrad.export.standalone import export_standalone

    run = Run.open(folder)
    if not run.exists("train/derived/result.json"):
        raise UserError(f"{run.folder} has no trained network: archgrad train {run.folder}")
    result = run.read_json("train/derived/result.json")
    config = _config_of(run)
    data = data or load_data(config)
    parts = Parts.of(config, data)
    architecture = Architecture(result["architecture"])
    settings = dict(result["settings"])
    if settings.get("auxiliary"):
        settings["auxiliary"] = False  # a training aid; evaluation does not use it
    shape = (result["shape"][0], result["shape"][1], result["shape"][2])
    network = concrete(parts.space.builder, architecture, shape, len(result["classes"]), **settings)
    tensors = load_tensors(run.path("train/derived/weights.safetensors").read_bytes())
    wanted = set(network.state_dict())
    network.load_state_dict({key: tensor for key, tensor in tensors.items() if key in wanted})
    network.eval()
    images = parts.test_batches().batch(0, 0)[0][:16].cpu().contiguous()
    target = run.path("export")
    target.mkdir(parents=True, exist_ok=True)
    standalone = export_standalone(
        network,
        parts.space.builder,
        architecture,
        shape,
        result["classes"],
        settings,
        result["mean"],
        result["std"],
        target / "standalone",
        images,
    )
    check_onnx = export_onnx(network, shape, target / "model.onnx", images) if onnx else None
    run.log("exported")
    return Exported(check_onnx, standalone)


def report_run(folder: Path | str, out: Path | None = None) -> Path:
    """Write the HTML report of a run, finished or not; returns its path."""
    from archgrad.report.page import write_report

    return write_report(Run.open(folder).folder, out)


def random_derivation(
    groups: tuple[Group, ...], rule: str, streams: Streams, name: str, index: int
) -> Derivation:
    """A random architecture: the rule applied to standard normal logits, so each counts alike.

    A draw whose output does not depend on its input is drawn again: it could not be trained.
    """
    for attempt in range(1000):
        generator = streams.generator(f"random architecture/{name}", index, attempt)
        logits = [torch.randn(len(g.names), len(g.candidates), generator=generator) for g in groups]
        derivation = derive(groups, [torch.softmax(a, dim=-1) for a in logits], rule)
        if is_connected(derivation.architecture):
            return derivation
    raise UserError("1000 random architectures in a row join no input to the output: check the space")


def _check(given: Mapping[str, Any], data: ImageData | None) -> Config:
    """`check`, for data that is not named in the table."""
    if data is None:
        return check(given)
    return check(merge(given, {"data": {"name": "digits"}}))


def _config_of(run: Run, settings: Mapping[str, Any] | None = None) -> Config:
    """The resolved configuration of a run, with changes."""
    return check(merge(run.read_config(), settings or {}))


def _architecture(run: Run) -> Architecture:
    if not run.exists("architecture.json"):
        raise UserError(f"{run.folder} has not derived an architecture yet: archgrad derive {run.folder}")
    return Architecture.from_json(run.path("architecture.json").read_text(encoding="utf-8"))


def _groups(run: Run) -> tuple[Group, ...]:
    return tuple(
        Group(tuple(g["candidates"]), tuple(g["names"])) for g in run.read_json("choices.json")["groups"]
    )


def _counts(run: Run, config: Config, architecture: Architecture) -> NetworkCounts:
    from archgrad.spaces import SPACES
    from archgrad.spaces.space import as_space

    data = run.read_json("data.json")
    space = as_space(SPACES[config.space.name])
    shape = tuple(data["shape"])
    return count_network(space.builder, architecture, shape, len(data["classes"]), config.train.space)


def _logits(run: Run, best: bool) -> tuple[list[Tensor], int, list[str]]:
    """(logits, epoch, remarks): the best epoch's, the final ones, or those of the newest checkpoint."""
    if best:
        if not run.exists("best.json"):
            raise UserError(f"{run.folder} has no finished epoch yet")
        epoch = int(run.read_json("best.json")["epoch"])
        return _read_logits(run, "best.safetensors"), epoch, []
    if run.exists("logits.safetensors"):
        return _read_logits(run, "logits.safetensors"), len(run.read_lines("metrics.jsonl")) - 1, []
    checkpoint, warnings = run.load_checkpoint()
    if checkpoint is None:
        raise UserError(
            f"the search in {run.folder} has saved nothing to derive from yet; go on with\n"
            f"  archgrad search --run {run.folder} --resume"
        )
    epoch = int(checkpoint["search"]["position"][0])
    remark = f"the search is not finished: derived from its checkpoint in epoch {epoch}"
    return checkpoint["search"]["logits"], epoch, [*warnings, remark]


def _read_logits(run: Run, name: str) -> list[Tensor]:
    tensors = load_tensors(run.path(name).read_bytes())
    return [tensors[f"group{g}"] for g in range(len(tensors))]


def _named(logits: list[Tensor]) -> dict[str, Tensor]:
    return {f"group{g}": a.detach() for g, a in enumerate(logits)}


def _write_tensors(run: Run, name: str, tensors: Mapping[str, Tensor]) -> None:
    run.write_bytes(name, save_tensors({k: t.detach().cpu().contiguous() for k, t in tensors.items()}))


def _write_best(run: Run, record: EpochRecord, state: SearchState) -> None:
    _write_tensors(run, "best.safetensors", _named(state.logits))
    run.write_json(
        "best.json",
        {
            "epoch": record.epoch,
            "valid_accuracy": record.valid_accuracy,
            "architecture": record.architecture,
        },
    )


def _residual_settings(network: nn.Module) -> dict[str, Any]:
    assert isinstance(network, ResidualNetwork)
    return {"channels": network.stem[0].out_channels, "blocks": len(network.body) // 3}


def _dry_run(parts: Parts, network: nn.Module) -> None:
    """One forward pass of two images on the meta device, so that what does not fit fails before any work."""
    count_module(
        lambda: parts.space.builder(
            _first_candidate, parts.data.shape, parts.classes, **parts.config.space.settings()
        ),
        parts.data.shape,
    )


def _first_candidate(name: str, options: Mapping[str, Callable[[], nn.Module]]) -> nn.Module:
    return next(iter(options.values()))()


def _step_text(record: StepRecord, epochs: int) -> str:
    return (
        f"epoch {record.epoch + 1}/{epochs}  loss {record.loss:.3f}  accuracy {record.accuracy:.1%}  "
        f"τ {record.tau:.3g}  entropy {record.entropy:.3f}"
    )
