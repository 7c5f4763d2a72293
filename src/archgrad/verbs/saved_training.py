"""Train one network of a run folder: shown, recorded, saved on the way, resumed where it stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from archgrad.datasets.batches import Batches
from archgrad.errors import Stopped, UserError, WorkError
from archgrad.parts import differences
from archgrad.progress import Progress, Shown
from archgrad.randomness import Streams
from archgrad.runs import CHECKPOINT_SECONDS, Run, StopRequest
from archgrad.train import TrainPlan, TrainState, TrainStep, train
from archgrad.verbs.contents import load_network


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
                f"{self.run.path(self.place)} holds a network trained otherwise; --again trains all anew:\n"
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
        """Train from the newest checkpoint, or from the start; returns the lines of ``metrics.jsonl``.

        watch: numbers of the network after its last step, to be shown, and recorded at the end of an epoch.

        Raises:
            WorkError: training diverged.
            Stopped: Ctrl-C or SIGTERM; a checkpoint was written.
        """
        run, place = self.run, self.place
        self._resume(network, state, progress)
        run.write_json(f"{place}/settings.json", self.identity)
        run.cut_lines(f"{place}/metrics.jsonl", state.epoch)

        def checkpoint_now() -> None:
            run.save_checkpoint(
                state.epoch * batches.steps + state.step,
                {"network": network.state_dict(), "train": state.state_dict()},
                f"{place}/checkpoints",
            )

        saved = time.monotonic()
        total, done = plan.epochs * batches.steps, state.epoch * batches.steps + state.step
        with StopRequest() as stop, Shown(progress, f"train {self.name}", total, done):
            try:
                for record in train(network, batches, state, plan, streams):
                    if isinstance(record, TrainStep):
                        more = "".join(f"  {name} {value:.3g}" for name, value in watch().items())
                        progress.update(
                            record.epoch * batches.steps + record.step,
                            f"epoch {record.epoch + 1}/{plan.epochs}  loss {record.loss:.3f}  "
                            f"accuracy {record.accuracy:.1%}{more}",
                        )
                    else:
                        run.append(f"{place}/metrics.jsonl", {**record._asdict(), **watch()})
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
        return run.read_lines(f"{place}/metrics.jsonl")

    def _resume(self, network: nn.Module, state: TrainState, progress: Progress) -> None:
        checkpoint, warnings = self.run.load_checkpoint(f"{self.place}/checkpoints")
        for warning in warnings:
            progress.say(f"warning: {warning}")
            self.run.log(f"warning: {warning}")
        if checkpoint is not None:
            with self.run.reading(f"{self.place}/checkpoints"):
                load_network(network, checkpoint["network"], f"the newest checkpoint of {self.name}")
                state.load_state_dict(checkpoint["train"])
            progress.say(f"{self.name}: resuming at epoch {state.epoch + 1}, step {state.step}")

    def finish(self, result: dict[str, Any]) -> None:
        """Write ``result.json``, which makes the network count as trained, and drop the checkpoints."""
        self.run.write_json(f"{self.place}/result.json", result)
        self.run.delete(f"{self.place}/checkpoints/step-*")
        self.run.log(f"trained {self.name}: test accuracy {result['test_accuracy']:.4f}")

    @property
    def weights(self) -> str:
        """The name of its weights file in the run."""
        return str(Path(self.place) / "weights.safetensors")
