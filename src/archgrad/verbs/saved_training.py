"""Train one network of a run folder: shown, recorded, saved on the way, resumed where it stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from archgrad.datasets.batches import Batches
from archgrad.errors import Stopped, UserError, WorkError
from archgrad.parts import differences
from archgrad.progress import Progress, Shown
from archgrad.randomness import Streams
from archgrad.runs import CHECKPOINT_SECONDS, Run, StopRequest
from archgrad.train import TrainPlan, TrainRecord, TrainState, TrainStep, train
from archgrad.verbs.contents import load_network


class Resumable(Protocol):
    """Where a training stands: epochs done and steps of the running one, and all that changes."""

    epoch: int
    step: int

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values only."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""


class SavedTraining:
    """The folder ``train/<name>`` of a run.

    name: of the network. identity: what it is and how it is trained, as JSON; another one is refused.
    command: what goes on with it after a stop, for messages.
    """

    def __init__(self, run: Run, name: str, identity: dict[str, Any], command: str) -> None:
        self.run, self.name, self.identity, self.command = run, name, identity, command
        self.place = f"train/{name}"

    def result(self) -> dict[str, Any] | None:
        """``result.json`` of a network that was trained already, or None.

        Raises:
            UserError: what is there was trained otherwise.
        """
        if not self.run.exists(f"{self.place}/settings.json"):
            return None
        changed = differences(self.run.read_json(f"{self.place}/settings.json"), self.identity)
        if changed:
            raise UserError(
                f"{self.run.path(self.place)} holds a network trained otherwise; --again trains it anew:\n"
                + "\n".join(f"  - {line}" for line in changed[:8])
            )
        if not self.run.exists(f"{self.place}/result.json"):
            return None
        found: dict[str, Any] = self.run.read_json(f"{self.place}/result.json")
        return found

    def forget(self) -> None:
        """Remove the network. The result first: without it nothing counts as trained."""
        for file in (
            "result.json",
            "weights.safetensors",
            "checkpoints/step-*",
            "metrics.jsonl",
            "settings.json",
        ):
            self.run.delete(f"{self.place}/{file}")

    def begin(self, network: nn.Module, state: Resumable, progress: Progress) -> None:
        """Put the newest whole checkpoint, if any, into network and state, and note what is trained here."""
        checkpoint, warnings = self.run.load_checkpoint(f"{self.place}/checkpoints")
        for warning in warnings:
            progress.say(f"warning: {warning}")
            self.run.log(f"warning: {warning}")
        if checkpoint is not None:
            with self.run.reading(f"{self.place}/checkpoints"):
                load_network(network, checkpoint["network"], f"the newest checkpoint of {self.name}")
                state.load_state_dict(checkpoint["train"])
            progress.say(f"{self.name}: resuming at epoch {state.epoch + 1}, step {state.step}")
        self.run.write_json(f"{self.place}/settings.json", self.identity)
        self.run.cut_lines(f"{self.place}/metrics.jsonl", state.epoch)

    def follow(
        self,
        records: Iterable[Any],
        network: nn.Module,
        state: Resumable,
        steps: int,
        show: Callable[[Any], bool],
        line: Callable[[Any], Mapping[str, Any]] = lambda record: record._asdict(),
    ) -> None:
        """Save while `records` trains the network; a checkpoint now and then, and when a stop is asked for.

        Args:
            records: yields after every step and every epoch, network and state being complete.
            network, state: what a checkpoint holds.
            steps: of an epoch, at least; checkpoints are numbered by it.
            show: shows a step's record; False for that of an epoch.
            line: of an epoch's record what joins ``metrics.jsonl``.

        Raises:
            WorkError: training diverged.
            Stopped: Ctrl-C or SIGTERM; a checkpoint was written.
        """
        run, place = self.run, self.place

        def checkpoint_now() -> None:
            run.save_checkpoint(
                state.epoch * steps + state.step,
                {"network": network.state_dict(), "train": state.state_dict()},
                f"{place}/checkpoints",
            )

        saved = time.monotonic()
        with StopRequest() as stop:
            try:
                for record in records:
                    if not show(record):
                        run.append(f"{place}/metrics.jsonl", line(record))
                    if stop.requested or time.monotonic() - saved > CHECKPOINT_SECONDS:
                        checkpoint_now()
                        saved = time.monotonic()
                    if stop.requested:
                        raise Stopped(
                            f"stopped by {stop.requested} in epoch {state.epoch}, step {state.step} of "
                            f"{self.name}; go on with\n  {self.command}"
                        )
            except WorkError as error:
                run.log(f"failed: {error}")
                raise WorkError(f"{error}; {run.last_checkpoint(f'{place}/checkpoints')}") from None

    def train(
        self,
        network: nn.Module,
        state: TrainState,
        batches: Batches,
        plan: TrainPlan,
        streams: Streams,
        progress: Progress,
        watch: Callable[[], Mapping[str, float]] = dict,
    ) -> list[dict[str, Any]]:
        """Train on images, from the newest checkpoint or from the start; the lines of ``metrics.jsonl``.

        watch: numbers of the network after its last step, to be shown, and recorded at the end of an epoch.

        Raises:
            WorkError, Stopped: as `follow`.
        """
        self.begin(network, state, progress)

        def show(record: TrainStep | TrainRecord) -> bool:
            if isinstance(record, TrainRecord):
                return False
            more = "".join(f"  {name} {value:.3g}" for name, value in watch().items())
            progress.update(
                record.epoch * batches.steps + record.step,
                f"epoch {record.epoch + 1}/{plan.epochs}  loss {record.loss:.3f}  "
                f"accuracy {record.accuracy:.1%}{more}",
            )
            return True

        total, done = plan.epochs * batches.steps, state.epoch * batches.steps + state.step
        with Shown(progress, f"train {self.name}", total, done):
            self.follow(
                train(network, batches, state, plan, streams),
                network,
                state,
                batches.steps,
                show,
                lambda record: {**record._asdict(), **watch()},
            )
        return self.run.read_lines(f"{self.place}/metrics.jsonl")

    def finish(self, result: dict[str, Any]) -> None:
        """Write ``result.json``, which makes the network count as trained, and drop the checkpoints."""
        self.run.write_json(f"{self.place}/result.json", result)
        self.run.delete(f"{self.place}/checkpoints/step-*")
        self.run.log(f"trained {self.name}: test accuracy {result['test_accuracy']:.4f}")

    @property
    def weights(self) -> str:
        """The name of its weights file in the run."""
        return str(Path(self.place) / "weights.safetensors")
