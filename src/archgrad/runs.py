"""Run folders: the only file that writes them. A folder is readable at every moment.

Files are written to a temporary name, synced and renamed; metrics are appended a line at a time;
a checkpoint counts only while its digest matches, and loading one executes nothing from it.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import platform
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import yaml

import archgrad
from archgrad import atomic
from archgrad.errors import UserError

CHECKPOINTS_KEPT = 2


class Run:
    """A run folder. Formats of its files: docs/architecture.md."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    @classmethod
    def create(cls, folder: Path | str) -> Run:
        """A new run in `folder`, which must not hold one yet.

        Raises:
            UserError: the folder holds another run, or cannot be written.
        """
        run = cls(folder)
        if run.exists("config.yaml"):
            raise UserError(
                f"{run.folder} already holds a run: continue it with --resume, or choose another --run folder"
            )
        if run.folder.is_file():
            raise UserError(f"{run.folder} is a file: choose a folder with --run")
        with run._writing(run.folder):
            run.folder.mkdir(parents=True, exist_ok=True)
            atomic.write_text(run.folder / "environment.json", json.dumps(environment(), indent=2) + "\n")
        return run

    @classmethod
    def open(cls, folder: Path | str) -> Run:
        """An existing run.

        Raises:
            UserError: `folder` holds no run.
        """
        run = cls(folder)
        if not run.exists("config.yaml"):
            raise UserError(f"{run.folder} holds no run: make one with  archgrad search --run {run.folder}")
        return run

    def path(self, name: str) -> Path:
        """The path of a file of the run."""
        return self.folder / name

    def exists(self, name: str) -> bool:
        """Whether the run has that file."""
        return self.path(name).exists()

    def write_text(self, name: str, text: str) -> None:
        """Write a text file, whole or not at all."""
        with self._writing(self.path(name)):
            self.path(name).parent.mkdir(parents=True, exist_ok=True)
            atomic.write_text(self.path(name), text)

    def write_bytes(self, name: str, data: bytes) -> None:
        """Write a binary file, whole or not at all."""
        with self._writing(self.path(name)):
            self.path(name).parent.mkdir(parents=True, exist_ok=True)
            atomic.write_bytes(self.path(name), data)

    def write_json(self, name: str, document: Any) -> None:
        """Write a JSON file; numbers that are not finite become null."""
        self.write_text(name, json.dumps(finite(document), indent=2, ensure_ascii=False) + "\n")

    def read_json(self, name: str) -> Any:
        """Read a JSON file of the run.

        Raises:
            UserError: it is missing or damaged.
        """
        try:
            return json.loads(self.path(name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"{self.folder} has no {name}") from None
        except ValueError as error:
            raise UserError(f"{self.path(name)} is damaged: {error}") from None

    def write_config(self, document: Mapping[str, Any]) -> None:
        """Write the resolved configuration."""
        self.write_text("config.yaml", yaml.safe_dump(dict(document), sort_keys=False))

    def read_config(self) -> dict[str, Any]:
        """The resolved configuration, as plain values."""
        try:
            document = yaml.safe_load(self.path("config.yaml").read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise UserError(f"{self.path('config.yaml')} is damaged: {error}") from None
        if not isinstance(document, dict):
            raise UserError(f"{self.path('config.yaml')} is damaged: it holds no sections")
        return document

    def append(self, name: str, line: Mapping[str, Any]) -> None:
        """Append one JSON line and flush it to the disk."""
        with self._writing(self.path(name)):
            self.path(name).parent.mkdir(parents=True, exist_ok=True)
            with self.path(name).open("a", encoding="utf-8") as file:
                file.write(json.dumps(finite(line), ensure_ascii=False) + "\n")
                file.flush()
                os.fsync(file.fileno())

    def read_lines(self, name: str) -> list[dict[str, Any]]:
        """The JSON lines of a file up to the first damaged one; empty when there is no file."""
        lines: list[dict[str, Any]] = []
        if not self.exists(name):
            return lines
        for text in self.path(name).read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:
                break
        return lines

    def cut_lines(self, name: str, epoch: int) -> None:
        """Keep the lines of epochs before `epoch`: a resumed run writes the later ones again."""
        kept = [line for line in self.read_lines(name) if line["epoch"] < epoch]
        if self.exists(name):
            self.write_text(name, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept))

    def log(self, text: str) -> None:
        """Append a line with the time to ``log.txt``."""
        with self._writing(self.path("log.txt")), self.path("log.txt").open("a", encoding="utf-8") as file:
            file.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {text}\n")

    def save_checkpoint(self, step: int, state: Mapping[str, Any], folder: str = "checkpoints") -> Path:
        """Write a checkpoint with its digest and drop all but the newest two."""
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        data = buffer.getvalue()
        path = self.path(folder) / f"step-{step:08d}.pt"
        with self._writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic.write_bytes(path, data)
            atomic.write_text(path.with_suffix(".sha256"), hashlib.sha256(data).hexdigest() + "\n")
            for old in sorted(path.parent.glob("step-*.pt"))[:-CHECKPOINTS_KEPT]:
                old.with_suffix(".sha256").unlink(missing_ok=True)
                old.unlink()
        return path

    def load_checkpoint(self, folder: str = "checkpoints") -> tuple[dict[str, Any] | None, list[str]]:
        """The newest checkpoint that is whole (None without one), and a warning for each that is not."""
        warnings = []
        for path in sorted(self.path(folder).glob("step-*.pt"), reverse=True):
            data = path.read_bytes()
            digest = path.with_suffix(".sha256")
            wanted = digest.read_text().strip() if digest.exists() else "none"
            if hashlib.sha256(data).hexdigest() != wanted:
                warnings.append(
                    f"checkpoint {path} is damaged (its SHA-256 differs): using the one before it"
                )
                continue
            state = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
            return dict(state), warnings
        return None, warnings

    @contextmanager
    def _writing(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"cannot write {error.filename or path}: {error.strerror or error}. What was saved before is "
                f"intact in {self.folder}; make room or choose a folder that can be written with --run"
            ) from error


def finite(value: Any) -> Any:
    """The same document with null in place of numbers that JSON cannot hold.

    >>> finite({"a": [1.0, float("nan")]})
    {'a': [1.0, None]}
    """
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def environment() -> dict[str, Any]:
    """Versions and machine, for the record."""
    return {
        "archgrad": archgrad.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


class StopRequest:
    """Ctrl-C and SIGTERM ask for a stop after the running step; a second one stops at once.

    Use as a context manager; `requested` names the signal that came, or is empty.
    """

    def __init__(self) -> None:
        self.requested = ""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # signals can be set nowhere else
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            signal.signal(number, self._before[number])
            signal.raise_signal(number)
        self.requested = signal.Signals(number).name

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
