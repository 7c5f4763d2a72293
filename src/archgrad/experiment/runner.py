"""Jobs in parallel processes of one machine, each with its share of the cores; a stop loses nothing."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from archgrad.errors import Stopped, UserError
from archgrad.experiment.network import Job
from archgrad.progress import Progress, Shown
from archgrad.runs import StopRequest

STOP_SECONDS = 120.0
"""How long a process may take for its last step and checkpoint before it is ended."""
LOG = "workers.log"
_LOOK_SECONDS = 0.2


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def shares(jobs: int | None, runs: int, accelerator: bool, threads: int | None = None) -> tuple[int, int]:
    """(processes, threads of each): together no more than there are cores.

    Args:
        jobs: processes that are wanted; None: one a core, on an accelerator one.
        runs: how many there are to do.
        accelerator: whether the runs compute on one, which they would share.
        threads: of each run, where its configuration says so.

    Raises:
        UserError: fewer than one process.
    """
    if jobs is not None and jobs < 1:
        raise UserError(f"--jobs is a number of processes, at least 1; got {jobs}")
    wanted = jobs or (1 if accelerator else max(1, cores() // (threads or 1)))
    processes = max(1, min(wanted, runs))
    return processes, threads or max(1, cores() // processes)


class _Process:
    """A worker, and a thread that passes its messages on."""

    def __init__(self, number: int, threads: int, log: Path, messages: queue.Queue[tuple[int, Any]]) -> None:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(
                path or str(Path.cwd()) for path in sys.path
            ),  # parts of the user's own
            **{name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")},
        }
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "archgrad.experiment.worker", str(threads)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                env=environment,
                text=True,
                start_new_session=True,  # Ctrl-C reaches this process only, which asks for a stop in order
            )
        self.number, self.job = number, -1
        threading.Thread(target=self._listen, args=(messages,), daemon=True).start()

    def _listen(self, messages: queue.Queue[tuple[int, Any]]) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                messages.put((self.number, json.loads(line)))
            except ValueError:  # half a line of a process that was ended
                break
        messages.put((self.number, {"ended": self._process.wait()}))

    def give(self, index: int, job: Job) -> None:
        """Hand over a job."""
        self.job = index
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(job.document()) + "\n")
            self._process.stdin.flush()
        except OSError:  # it is gone, and `_listen` says so
            pass

    def stop(self) -> None:
        """Ask it to end."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def kill(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def run_all(
    jobs: Mapping[str, Job], processes: int, threads: int, folder: Path, progress: Progress, done: int = 0
) -> dict[str, str]:
    """Do the jobs, in their order; returns a sentence for each that failed.

    Args:
        jobs: by a name for a person.
        processes: how many at once. threads: of each.
        folder: for the log of what they print.
        progress: where to show it.
        done: how many others were done before.

    Raises:
        Stopped: Ctrl-C or SIGTERM; what was running has written a checkpoint. A second one ends it at once.
    """
    if not jobs:
        return {}
    names, waiting = list(jobs), deque(range(len(jobs)))
    failed: dict[str, str] = {}
    messages: queue.Queue[tuple[int, Any]] = queue.Queue()
    running: dict[int, _Process] = {}
    began, finished = 0, 0

    def begin() -> None:
        nonlocal began
        process = _Process(began, threads, folder / LOG, messages)
        running[began] = process
        began += 1
        process.give(index := waiting.popleft(), jobs[names[index]])

    try:
        with StopRequest() as stop, Shown(progress, "runs", done + len(jobs), done):
            while waiting and len(running) < processes:
                begin()
            while running:
                if stop.requested:
                    _end(running, messages)
                    raise Stopped(f"stopped by {stop.requested}; the same command goes on")
                try:
                    number, message = messages.get(timeout=_LOOK_SECONDS)
                except queue.Empty:
                    continue
                process = running.get(number)
                if process is None or "stopped" in message:  # one that was not needed any more has ended
                    continue
                name = names[process.job]
                if "at" in message:
                    progress.update(done + finished, f"{name}: {message['at']}")
                    continue
                finished += 1
                if "failed" in message:
                    failed[name] = message["failed"]
                    progress.say(f"  {name} failed: {message['failed'].splitlines()[0]}")
                elif "ended" in message:
                    del running[number]
                    failed[name] = f"the process ended with code {message['ended']}; see {LOG}"
                    progress.say(f"  {name} failed: {failed[name]}")
                    if waiting:
                        begin()
                    continue
                progress.update(done + finished, name)
                if waiting:
                    process.give(index := waiting.popleft(), jobs[names[index]])
                else:
                    del running[number]
                    process.stop()
    finally:
        for process in running.values():
            process.kill()
    return failed


def _end(running: dict[int, _Process], messages: queue.Queue[tuple[int, Any]]) -> None:
    """Ask all for a stop, and wait for their checkpoints."""
    for process in running.values():
        process.stop()
    until = time.monotonic() + STOP_SECONDS
    while running and time.monotonic() < until:
        try:
            number, message = messages.get(timeout=_LOOK_SECONDS)
        except queue.Empty:
            continue
        if "ended" in message:
            running.pop(number, None)
