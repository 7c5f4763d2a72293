"""Choose frequency channels of an image set: gates, a static subset, and networks that compare it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from archgrad.config_layers import merge
from archgrad.config_problems import GIVEN
from archgrad.costs.network_counts import count_module
from archgrad.datasets.augmentation import Augmentation
from archgrad.datasets.batches import Batches
from archgrad.datasets.images import ImageData
from archgrad.errors import ConfigError, UserError
from archgrad.frequency.block_dct import BLOCK, BlockDCT, channel_names, colours, map_size
from archgrad.frequency.channel_gates import GatePenalty, gates_of, set_gate_noise
from archgrad.frequency.network import FrequencyNetwork, LearnedFilterNetwork
from archgrad.frequency.page import heat_map, page
from archgrad.frequency.selection import (
    GateStatistics,
    check_amount,
    coefficient_statistics,
    gate_statistics,
    lowest,
    random_channels,
    ranking,
    select,
)
from archgrad.frequency.settings import Selection, check_of, frequency_of, problems_of, resolve_selection
from archgrad.parts import Parts, differences, load_data
from archgrad.progress import Progress, Silent
from archgrad.runs import Run, environment
from archgrad.train import TrainPlan, TrainState, evaluate
from archgrad.verbs.contents import check_same_data, load_network, read_tensors, write_tensors
from archgrad.verbs.saved_training import SavedTraining

_PIXELS_AT_ONCE = 2**23  # bounds the memory, however large the images
_STATISTICS_IMAGES = 5_000  # of them mean and deviation of a coefficient are known to about a percent


def channels_run(
    folder: Path | str,
    settings: Mapping[str, Any] | None = None,
    *,
    keep: int | None = None,
    threshold: float | None = None,
    controls: int = 1,
    onnx: bool = False,
    data: ImageData | None = None,
    again: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Learn which frequency channels matter, keep some, and train a network on these beside its controls.

    Called again on the same folder it goes on where it stopped; with another `keep` or `threshold` the
    gates are not trained again.

    Args:
        folder: the folder of the run, new or of an earlier call.
        settings: keys of the sections seed, data, train, device and frequency (`frequency.settings`); on an
            existing folder they may be left out.
        keep: so many channels, those whose gates are likeliest to be open; or
        threshold: all that are open with at least this probability, in the mean over the images.
        controls: with N > 0 also networks on N random subsets of the same size, on the lowest frequencies, on
            all channels, and with as many learned filters in place of the fixed ones.
        onnx: also write ``export/model.onnx`` of the network on the selected channels, checked.
        data: the images, instead of those that ``data.name`` names.
        again: forget what the folder holds of an earlier call.
        progress: where to show it.

    Returns:
        The content of ``selection-<n>.json``, n being the number of channels kept.

    Raises:
        UserError: anything wrong with the settings, the data, the amount or the folder.
        WorkError: training diverged.
        Stopped: Ctrl-C or SIGTERM; the same call goes on.
    """
    progress = progress or Silent()
    if controls < 0:
        raise UserError(f"controls is a number of random subsets, at least 0; got {controls}")
    if onnx:
        from archgrad.export.onnx import require_onnx

        require_onnx()  # before the work, not after it
    run, before = _opened(folder)
    given = dict(settings or {})
    if data is not None:
        given = merge(given, {"data": {"name": f"{GIVEN}{data.name}"}})
    full = given if again and "data" in given else merge(before, given)
    if problems := problems_of(full, own_test=False):
        raise ConfigError(problems)
    first = check_of(full)
    frequency = frequency_of(full)
    data = data or load_data(first)
    check_amount(BLOCK**2 * len(colours(data.shape[0])), keep, threshold)
    map_size(data.shape, frequency.stride or BLOCK)  # before sizes are sought for images that cannot be used
    selection = resolve_selection(full, data)
    if before and not again and (changed := differences(before, selection.document())):
        raise UserError(
            f"{run.folder} was made with other settings; leave these out, choose another folder, or begin "
            "anew with --again:\n" + "\n".join(f"  - {line}" for line in changed)
        )
    work = _Work(run, Parts.of(selection.config, data), selection, progress)
    work.begin(again, fresh=not before)
    statistics = work.gates()
    chosen = select(statistics, keep, threshold)
    document = work.compare(chosen, statistics, controls)
    if onnx:
        document["onnx"] = work.export(chosen)
    n = len(chosen)
    run.write_text(f"selection-{n}.svg", heat_map(document))
    run.write_text(f"selection-{n}.html", page(document))
    run.write_json(f"selection-{n}.json", document)
    return document


def _opened(folder: Path | str) -> tuple[Run, dict[str, Any]]:
    """The run and its settings, empty if it is new."""
    run = Run(folder)
    if run.exists("settings.json"):
        return run, run.read_json("settings.json")
    run.check_free()
    if run.folder.is_dir() and any(run.folder.iterdir()):
        raise UserError(f"{run.folder} holds something else than a channel selection; give another --run")
    return run, {}


def _drawing_nothing(network: nn.Module) -> nn.Module:
    """The network with gates that evaluation does not draw: counting it needs no random stream."""
    for gates in gates_of(network):
        gates.noise_in_evaluation = False
    return network


def _open_gates(network: nn.Module) -> dict[str, float]:
    """Of a network with gates the expected number of open ones, the mean over its last batch."""
    seen = [float(g.expected_open.detach()) for g in gates_of(network) if g.expected_open is not None]
    return {"open_gates": sum(seen)} if seen else {}


class _Network(NamedTuple):
    """A network to be trained; settings: what rebuilds it."""

    name: str
    kind: str
    build: Callable[[], nn.Module]
    settings: dict[str, Any]


class _Work:
    """What every step of a channel selection shares."""

    def __init__(self, run: Run, parts: Parts, selection: Selection, progress: Progress) -> None:
        self.run, self.parts, self.progress = run, parts, progress
        self.selection, self.frequency = selection, selection.frequency
        assert self.frequency.stride is not None
        self.base = {
            "stride": int(self.frequency.stride),
            "width": self.frequency.width,
            "blocks": self.frequency.blocks,
        }
        parts.train_batches("gates")  # a batch size that does not fit fails now

    def begin(self, again: bool, fresh: bool) -> None:
        """Record what is known before the first step; the settings last, as they make the run."""
        run = self.run
        if not fresh and again:
            run.delete("settings.json")
            for pattern in (
                "train/*/result.json",
                "train/**/*.*",
                "statistics.json",
                "selection-*",
                "export/*",
            ):
                run.delete(pattern)
            fresh = True
        if not fresh:
            check_same_data(run, self.parts)
            return
        run.write_json("environment.json", environment())
        run.write_json("data.json", self.parts.description())
        for note in self.selection.notes:
            self.progress.say(f"  {note}")
            run.log(f"rule: {note}")
        run.write_json("settings.json", self.selection.document())

    def gates(self) -> GateStatistics:
        """Train the network with gates, and look how often each is open on the images it learned from."""
        parts, frequency = self.parts, self.frequency
        network = self._frequency("gates", "gates", None, frequency.gates())
        epochs = round(frequency.warmup * parts.config.train.epochs)
        plan = replace(
            parts.train_plan(),
            penalty=GatePenalty(frequency.strength, epochs),
            before_step=lambda net, epoch, step: set_gate_noise(
                net, parts.streams.generator("gates", epoch, step)
            ),
        )
        result = self._train(network, plan, {"strength": frequency.strength, "warmup": epochs})
        with self.run.reading("train/gates/result.json"):
            return GateStatistics(
                tuple(result["probability"]), tuple(result["opened"]), int(result["gate_images"])
            )

    def compare(self, chosen: Sequence[int], statistics: GateStatistics, controls: int) -> dict[str, Any]:
        """Train a network on the chosen channels, and its controls; the content of the JSON file."""
        parts, total, n = self.parts, len(statistics.probability), len(chosen)
        selected = self._train(self._frequency(f"selected-{n}", "selected", chosen))
        networks = []
        if controls:
            for index in range(controls):
                stream = parts.streams.generator("channels", index)
                networks.append(
                    self._frequency(f"random-{n}-{index}", "random", random_channels(total, n, stream))
                )
            networks.append(self._frequency(f"lowest-{n}", "lowest", lowest(total, n)))
            networks.append(self._frequency("all", "all", None))
            shape, classes, base = parts.data.shape, parts.classes, self.base
            networks.append(
                _Network(
                    f"learned-{n}",
                    "learned",
                    lambda: LearnedFilterNetwork(shape, classes, **base, filters=n),
                    {**base, "filters": n},
                )
            )
        names = channel_names(parts.data.shape[0])
        return {
            "data": parts.data.name,
            "shape": list(parts.data.shape),
            "colours": list(colours(parts.data.shape[0])),
            "settings": self.selection.document(),
            "channels": list(chosen),
            "names": [names[c] for c in chosen],
            "ranking": list(ranking(statistics.probability)),
            "probability": list(statistics.probability),
            "opened": list(statistics.opened),
            "gate_images": statistics.images,
            "gates": self.run.read_json("train/gates/result.json"),
            "selected": selected,
            "controls": [self._train(network) for network in networks],
        }

    def export(self, chosen: Sequence[int]) -> dict[str, Any]:
        """Write ``export/model.onnx`` of the network on the chosen channels."""
        from archgrad.export.onnx import export_onnx

        made = self._frequency(f"selected-{len(chosen)}", "selected", chosen)
        network, file = made.build(), f"train/{made.name}/weights.safetensors"
        load_network(network, read_tensors(self.run, file), str(self.run.path(file)))
        target = self.run.path("export/model.onnx")
        target.parent.mkdir(parents=True, exist_ok=True)
        check = export_onnx(network.eval(), self.parts.data.shape, target, self.parts.sample_images(16))
        return {**check._asdict(), "path": str(check.path)}

    def _frequency(
        self,
        name: str,
        kind: str,
        channels: Sequence[int] | None,
        gates: Mapping[str, Any] | None = None,
    ) -> _Network:
        parts, base = self.parts, self.base
        return _Network(
            name,
            kind,
            lambda: FrequencyNetwork(
                parts.data.shape,
                parts.classes,
                parts.train_normalisation,
                **base,
                channels=channels,
                gates=gates,
            ),
            {
                **base,
                "channels": None if channels is None else list(channels),
                "gates": None if gates is None else dict(gates),
            },
        )

    def _train(
        self, made: _Network, plan: TrainPlan | None = None, more: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Train a network, or go on with it, or return its result if it is there already."""
        run, parts, config = self.run, self.parts, self.parts.config
        identity = {
            "kind": made.kind,
            "settings": made.settings,
            "train": self.selection.document()["train"],
            "precision": config.device.precision,
            **(more or {}),
        }
        training = SavedTraining(run, made.name, identity, f"archgrad channels --run {run.folder} …")
        if (kept := training.result()) is not None:
            self.progress.say(f"{made.name}: trained already, result kept")
            return kept
        counts = count_module(lambda: _drawing_nothing(made.build()), parts.data.shape)
        network = parts.built(made.build, made.name)
        if isinstance(network, FrequencyNetwork):
            network.set_statistics(*self._statistics(network))
        state = TrainState(parts.train_optimizer(network))
        lines = training.train(
            network,
            state,
            parts.train_batches(made.name),
            plan or parts.train_plan(),
            parts.streams,
            self.progress,
            lambda: _open_gates(network),
        )
        extra: dict[str, Any] = {}
        if made.kind == "gates":
            set_gate_noise(network, parts.streams.generator("gates/evaluation"))
            seen = gate_statistics(network, self._images(parts.learning(), "gates/statistics"))
            extra = {**seen._asdict(), "gate_images": seen.images, "expected_open": sum(seen.probability)}
            del extra["images"]
            extra["drawn_accuracy"] = self._drawn_accuracy(network)
        test = evaluate(network, parts.test_batches(), config.device.precision)
        mean, std = parts.train_normalisation
        result = {
            "name": made.name,
            "kind": made.kind,
            "architecture": None,
            "parameters": counts.parameters_without_auxiliary,
            "macs": counts.macs,
            "epochs": config.train.epochs,
            "seed": config.seed,
            "seconds": sum(line["seconds"] for line in lines),
            "train_accuracy": lines[-1]["train_accuracy"],
            "test_accuracy": test.accuracy,
            "test_loss": test.loss,
            "test_images": test.images,
            "settings": made.settings,
            "shape": list(parts.data.shape),
            "classes": list(parts.data.classes),
            "mean": list(mean),
            "std": list(std),
            **extra,
        }
        write_tensors(run, training.weights, network.state_dict())
        training.finish(result)
        return result

    def _drawn_accuracy(self, network: nn.Module) -> float:
        """Test accuracy with gates that are drawn, as in training."""
        (gates,) = gates_of(network)
        gates.noise_in_evaluation = True
        accuracy = evaluate(network, self.parts.test_batches(), self.parts.config.device.precision).accuracy
        gates.noise_in_evaluation = self.frequency.noise_in_evaluation
        return accuracy

    def _statistics(self, network: FrequencyNetwork) -> tuple[Tensor, Tensor]:
        """Mean and deviation [all channels] of the coefficients, over images that are learned from."""
        run, parts = self.run, self.parts
        if not run.exists("statistics.json"):
            full = BlockDCT(parts.data.shape, parts.train_normalisation, self.base["stride"])
            learning = parts.learning()
            some = learning[:: max(1, len(learning) // _STATISTICS_IMAGES)]
            mean, deviation = coefficient_statistics(full.to(parts.device), self._images(some, "statistics"))
            run.write_json(
                "statistics.json",
                {"mean": mean.tolist(), "deviation": deviation.tolist(), "images": len(some)},
            )
        document = run.read_json("statistics.json")
        with run.reading("statistics.json"):
            return torch.tensor(document["mean"]), torch.tensor(document["deviation"])

    def _images(self, indices: Tensor, name: str) -> Iterator[Tensor]:
        """The images at `indices` as networks see them, not augmented, in batches."""
        parts = self.parts
        batches = Batches(
            parts.data.train,
            indices,
            max(1, min(500, len(indices), _PIXELS_AT_ONCE // math.prod(parts.data.shape))),
            normalisation=parts.train_normalisation,
            augmentation=Augmentation(),
            streams=parts.streams,
            name=name,
            shuffle=False,
            drop_last=False,
            device=parts.device,
            channels_last=parts.config.device.channels_last,
        )
        return (x for x, _ in batches.epoch(0))
