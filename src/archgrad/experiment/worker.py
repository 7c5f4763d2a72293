"""A process that does jobs: ``python -m archgrad.experiment.worker THREADS``, spoken to by `runner`.

A line of standard input is a job (`network.Job`), one of standard output what became of it: ``{"failed":
sentence}``, ``{"done": true}``, ``{"stopped": true}``, or ``{"at": how far}`` on the way. The end of standard
input asks for a stop, as a signal would: a checkpoint is written, and the process ends. So it ends, too,
when the process that started it is gone.
"""

from __future__ import annotations

import _thread
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from typing import Any, TextIO

SAY_EVERY_SECONDS = 1.0


class _Reporter:
    """Progress as lines for the process that started this one."""

    def __init__(self, out: TextIO) -> None:
        self._out, self._title, self._total, self._said = out, "", 1, 0.0

    def tell(self, **message: Any) -> None:
        """Write a line."""
        self._out.write(json.dumps(message) + "\n")
        self._out.flush()

    def start(self, title: str, total: int, done: int = 0) -> None:
        """Remember what is being done."""
        self._title, self._total = title, max(1, total)

    def update(self, done: int, numbers: str) -> None:
        """At most a line a second."""
        if time.monotonic() - self._said >= SAY_EVERY_SECONDS:
            self._said = time.monotonic()
            self.tell(at=f"{self._title} {done / self._total:.0%}")

    def finish(self) -> None:
        """Nothing."""

    def say(self, line: str) -> None:
        """To the log."""
        print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Do the jobs of standard input until it ends."""
    # what a library prints must not be taken for a message
    reporter = _Reporter(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)
    signal.signal(signal.SIGTERM, _stop)
    jobs: queue.Queue[str | None] = queue.Queue()
    busy = threading.Event()
    threading.Thread(target=_read, args=(jobs, busy), daemon=True).start()
    try:
        _do_all(jobs, busy, reporter, int(sys.argv[1]))
    except KeyboardInterrupt:
        reporter.tell(stopped=True)


def _do_all(jobs: queue.Queue[str | None], busy: threading.Event, reporter: _Reporter, threads: int) -> None:
    import torch

    from archgrad.errors import Stopped, UserError, WorkError
    from archgrad.experiment.network import Job, Worker

    torch.set_num_threads(threads)
    worker = Worker()
    while (line := jobs.get()) is not None:
        busy.set()
        try:
            worker.do(Job(**json.loads(line)), reporter)
        except Stopped:
            raise KeyboardInterrupt from None
        except (UserError, WorkError) as error:
            reporter.tell(failed=str(error))
        except Exception as error:  # a part of the user's own may raise anything; the other runs go on
            traceback.print_exc()
            reporter.tell(failed=f"{type(error).__name__}: {error}")
        else:
            reporter.tell(done=True)
        busy.clear()


def _read(jobs: queue.Queue[str | None], busy: threading.Event) -> None:
    """Hand over the lines of standard input; at its end ask for a stop."""
    for line in sys.stdin:
        jobs.put(line)
    jobs.put(None)
    if busy.is_set():
        _thread.interrupt_main(signal.SIGTERM)


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
