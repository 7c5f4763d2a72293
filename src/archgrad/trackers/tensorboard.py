"""Event files for TensorBoard, written by tensorboardX."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from archgrad.errors import MissingExtra


class TensorBoard:
    """Writes ``tensorboard/`` in the run folder, each time anew, with the epochs that there are already."""

    def __init__(self) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise MissingExtra("tensorboard", "tensorboardX", "writing TensorBoard events") from None
        self._make = SummaryWriter
        self._writer: Any = None

    def begin(self, folder: Path, config: Mapping[str, Any]) -> None:
        """Begin an event file; those of this run before it are removed, as it repeats what they hold."""
        target = folder / "tensorboard"
        for old in target.glob("events.out.tfevents.*"):
            old.unlink()
        self._writer = self._make(logdir=str(target))

    def epoch(self, epoch: int, numbers: Mapping[str, float]) -> None:
        """A scalar for each number."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def finish(self, done: bool) -> None:
        """Close the file."""
        self._writer.close()
