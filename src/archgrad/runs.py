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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import yaml
from safetensors import SafetensorError

import archgrad
from archgrad import atomic
from archgrad.errors import UserError

CHECKPOINTS_KEPT = 2
CHECKPOINT_SECONDS = 20.0
"""Time between two checkpoints of a step that is under way."""


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
        run.check_free()
        with run._writing(run.folder):
            run.folder.mkdir(parents=True, exist_ok=True)
            atomic.write_text(run.folder / "environment.json", json.dumps(environment(), indent=2) + "\n")
        return run

    def check_free(self) -> None:
        """Nothing is there yet that a new run would overwrite or mix with.

        Raises:
            UserError: the folder holds another run or what is left of one, or is a file.
        """
        if self.exists("config.yaml"):
            raise UserError(
                f"{self.folder} already holds a run: continue it with --resume, or choose another --run "
                "folder"
            )
        if any(part.is_file() for part in (self.folder, *self.folder.parents)):
            raise UserError(f"{self.folder} is a file or inside one: choose a folder with --run")
        if left := [name for name in ("metrics.jsonl", "checkpoints") if self.exists(name)]:
            raise UserError(
                f"{self.folder} holds {' and '.join(left)} of a run that lost its config.yaml: put that "
                "back, or choose another --run folder"
            )

    @classmethod
    def open(cls, folder: Path | str) -> Run:
        """An existing run.

        Raises:
            UserError: `folder` holds no run.
        """
        run = cls(folder)
        if not run.path("config.yaml").is_file():
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
        """Read a JSON file of the run, which holds an object.

        Raises:
            UserError: it is missing or damaged.
        """
        with self.reading(name):
            document = json.loads(self.path(name).read_text(encoding="utf-8"))
            if not isinstance(document, dict):
                raise ValueError(f"it should hold an object, holds a {type(document).__name__}")
            return document

    def write_config(self, document: Mapping[str, Any]) -> None:
        """Write the resolved configuration."""
        self.write_text("config.yaml", yaml.safe_dump(dict(document), sort_keys=False))

    def read_config(self) -> dict[str, Any]:
        """The resolved configuration, as plain values.

        Raises:
            UserError: it is missing or damaged.
        """
        with self.reading("config.yaml"):
            document = yaml.safe_load(self.path("config.yaml").read_text(encoding="utf-8"))
            if not isinstance(document, dict):
                raise ValueError("it holds no sections")
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
        with self.reading(name):
            texts = self.path(name).read_text(encoding="utf-8", errors="replace").splitlines()
        for text in texts:
            try:
                line = json.loads(text)
            except ValueError:
                break
            if not isinstance(line, dict) or "epoch" not in line:
                break
            lines.append(line)
        return lines

    def cut_lines(self, name: str, epoch: int) -> None:
        """Keep the lines of epochs before `epoch`: a resumed run writes the later ones again."""
        kept = [line for line in self.read_lines(name) if line["epoch"] < epoch]
        if self.exists(name):
            self.write_lines(name, kept)

    def write_lines(self, name: str, lines: Sequence[Mapping[str, Any]]) -> None:
        """Write a file of JSON lines anew."""
        self.write_text(name, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))

    def delete(self, pattern: str) -> None:
        """Remove the files that match a pattern such as ``train/derived/checkpoints/step-*``."""
        with self._writing(self.folder):
            for path in sorted(self.folder.glob(pattern)):
                path.unlink()

    def log(self, text: str) -> None:
        """Append a line with the time to ``log.txt``."""
        with self._writing(self.path("log.txt")), self.path("log.txt").open("a", encoding="utf-8") as file:
            file.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {text}\n")

    def save_checkpoint(
        self,
        step: int,
        state: Mapping[str, Any],
        folder: str = "checkpoints",
        kept: int = CHECKPOINTS_KEPT,
    ) -> Path:
        """Write a checkpoint with its digest and drop all but the newest `kept`.

        Those of later steps, of which there are some where a search was rolled back, go first.
        """
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        data = buffer.getvalue()
        path = self.path(folder) / f"step-{step:08d}.pt"
        with self._writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic.write_bytes(path, data)
            atomic.write_text(path.with_suffix(".sha256"), hashlib.sha256(data).hexdigest() + "\n")
            every = sorted(path.parent.glob("step-*.pt"))
            place = every.index(path) + 1
            for old in (*every[place:], *every[: max(0, place - kept)]):
                old.with_suffix(".sha256").unlink(missing_ok=True)
                old.unlink()
        return path

    def load_checkpoint(self, folder: str = "checkpoints") -> tuple[dict[str, Any] | None, list[str]]:
        """The newest checkpoint that is whole (None without one), and a warning for each that is not.

        Raises:
            UserError: all are damaged, or the newest whole one holds something else than tensors and
                plain values; nothing in it is executed.
        """
        warnings: list[str] = []
        paths = sorted(self.path(folder).glob("step-*.pt"), reverse=True)
        for path in paths:
            with self.reading(str(path.relative_to(self.folder))):
                data = path.read_bytes()
                digest = path.with_suffix(".sha256")
                wanted = digest.read_text(encoding="utf-8").strip() if digest.exists() else "none"
            if hashlib.sha256(data).hexdigest() != wanted:
                warnings.append(
                    f"checkpoint {path} is damaged (its SHA-256 differs): using the one before it"
                )
                continue
            try:
                state = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
                return dict(state), warnings
            except Exception as error:  # whatever the bytes of a foreign file provoke
                raise UserError(
                    f"checkpoint {path} is not one of archgrad's; nothing in it was executed. Delete it to "
                    f"use the one before it ({type(error).__name__}: {str(error).splitlines()[0]})"
                ) from None
        if paths:
            raise UserError(
                f"every checkpoint in {self.path(folder)} is damaged ({', '.join(p.name for p in paths)}): "
                "delete that folder to begin again"
            )
        return None, warnings

    def last_checkpoint(self, folder: str = "checkpoints") -> str:
        """Half a sentence that names the newest checkpoint, for a message about failed work."""
        newest = sorted(self.path(folder).glob("step-*.pt"))
        return f"the last good checkpoint is {newest[-1]}" if newest else "no checkpoint was written yet"

    @contextmanager
    def reading(self, name: str) -> Iterator[None]:
        """Turn what goes wrong while a file of the run is read and understood into a `UserError`."""
        try:
            yield
        except FileNotFoundError:
            raise UserError(f"{self.folder} has no {name}") from None
        except OSError as error:
            raise UserError(f"cannot read {self.path(name)}: {error.strerror or error}") from None
        except (ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError, SafetensorError) as error:
            if isinstance(error, UserError):
                raise
            shown = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            raise UserError(f"{self.path(name)} is damaged: {shown}") from None

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
