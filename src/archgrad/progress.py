"""Progress of long steps: a bar on a terminal, plain lines elsewhere, nothing for a library caller.

Everything goes to standard error; standard output belongs to results.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Protocol

LINE_EVERY_SECONDS = 2.0


class Progress(Protocol):
    """Shows how far a step of `total` units is."""

    def start(self, title: str, total: int, done: int = 0) -> None:
        """A new step begins, `done` units of it already done."""

    def update(self, done: int, numbers: str) -> None:
        """`done` units are done; `numbers` is a short text such as ``loss 1.20 acc 61 %``."""

    def finish(self) -> None:
        """The step is over."""

    def say(self, line: str) -> None:
        """A line that stays."""


class Silent:
    """Shows nothing."""

    def start(self, title: str, total: int, done: int = 0) -> None:
        """Nothing."""

    def update(self, done: int, numbers: str) -> None:
        """Nothing."""

    def finish(self) -> None:
        """Nothing."""

    def say(self, line: str) -> None:
        """Nothing."""


class Lines:
    """Plain lines, at most one every two seconds and one at the end of a step."""

    def __init__(self) -> None:
        self._title, self._total, self._started, self._first = "", 1, 0.0, 0
        self._printed, self._last = 0.0, ""

    def start(self, title: str, total: int, done: int = 0) -> None:
        """Remember what is being done."""
        self._title, self._total, self._first = title, total, done
        self._started = time.monotonic()
        self._printed, self._last = 0.0, ""

    def update(self, done: int, numbers: str) -> None:
        """Print unless a line came less than two seconds ago."""
        now = time.monotonic()
        left = (now - self._started) / max(done - self._first, 1) * (self._total - done)
        self._last = f"{self._title}: {done}/{self._total}  {numbers}  {clock(left)} left"
        if now - self._printed >= LINE_EVERY_SECONDS:
            self._flush(now)

    def finish(self) -> None:
        """Print the last state if it was not printed."""
        if self._last:
            self._flush(time.monotonic())

    def say(self, line: str) -> None:
        """Print the line."""
        print(line, file=sys.stderr, flush=True)

    def _flush(self, now: float) -> None:
        print(self._last, file=sys.stderr, flush=True)
        self._printed, self._last = now, ""


class Bar:
    """A bar at the foot of the terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._console = Console(stderr=True)
        self._progress = RichProgress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(compact=True),
            console=self._console,
        )
        self._task: int | None = None

    def start(self, title: str, total: int, done: int = 0) -> None:
        """Show a bar."""
        self._progress.start()
        self._task = self._progress.add_task(title, total=total, completed=done, numbers="")

    def update(self, done: int, numbers: str) -> None:
        """Move the bar."""
        if self._task is not None:
            self._progress.update(self._task, completed=done, numbers=numbers)  # type: ignore[arg-type]

    def finish(self) -> None:
        """Leave the bar where it is and stop drawing."""
        self._progress.stop()
        if self._task is not None:
            self._progress.remove_task(self._task)  # type: ignore[arg-type]
            self._task = None

    def say(self, line: str) -> None:
        """Print the line above the bar."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class Shown:
    """Context that ends a step's display also when the step raises."""

    def __init__(self, progress: Progress, title: str, total: int, done: int = 0) -> None:
        self._progress, self._arguments = progress, (title, total, done)

    def __enter__(self) -> Progress:
        self._progress.start(*self._arguments)
        return self._progress

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.finish()


def clock(seconds: float) -> str:
    """Minutes and seconds, with hours from one hour on.

    >>> clock(75), clock(3725)
    ('1:15', '1:02:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def for_this_terminal() -> Progress:
    """A bar when standard error is a terminal, lines otherwise."""
    return Bar() if sys.stderr.isatty() else Lines()
