"""The page of a run that may be growing: made again when its files changed, and not too often."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from archgrad.report.page import page_html
from archgrad.report.reading import read_run

LARGEST_SHARE = 0.02
"""Of the time of one core that making the page may take while a run grows."""
_FILES = ("*.json", "*.jsonl", "config.yaml", "logits.safetensors", "train/*/*.json", "train/*/*.jsonl")


class News(NamedTuple):
    """What an open page needs to be as the run is. tag: names this state of the run's files."""

    tag: str
    body: bytes


class WatchedPage:
    """The page of the run in `folder`; safe to ask from several threads.

    Args:
        folder: the run folder.
        seconds: a clock of the processor time of the calling thread.
        now: a clock.
    """

    def __init__(
        self,
        folder: Path,
        seconds: Callable[[], float] = time.thread_time,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder
        self._seconds, self._now = seconds, now
        self._lock = threading.Lock()
        self._news: News | None = None
        self._not_before = -float("inf")

    def whole(self) -> bytes:
        """The page with scripts and styles, for a window that opens.

        Raises:
            UserError: the folder holds no run (any more).
        """
        with self._lock:
            return self._made(self._state(), whole=True)

    def news(self) -> News:
        """The newest state of the page: made again if files changed and enough time has gone by.

        Raises:
            UserError: the folder holds no run (any more).
        """
        with self._lock:
            state = self._state()
            old = self._news
            if old is not None and (old.tag == state or self._now() < self._not_before):
                return old
            began = self._seconds()
            self._news = News(state, self._made(state, whole=False))
            self._not_before = self._now() + (self._seconds() - began) / LARGEST_SHARE
            return self._news

    def known(self, tag: str) -> bool:
        """Whether a page of this tag is as new as it can be had now; nothing is made for the answer."""
        with self._lock:
            return tag == self._state() or (
                self._news is not None and self._news.tag == tag and self._now() < self._not_before
            )

    def _made(self, state: str, whole: bool) -> bytes:
        return page_html(read_run(self.folder), str(self.folder), live=state, whole=whole).encode()

    def _state(self) -> str:
        """A digest of names, sizes and times of the files that the report reads."""
        digest = hashlib.sha256()
        for pattern in _FILES:
            for path in sorted(self.folder.glob(pattern)):
                try:
                    at = path.stat()
                except OSError:  # replaced in this moment
                    continue
                digest.update(f"{path.name}/{at.st_ino}/{at.st_size}/{at.st_mtime_ns}\n".encode())
        return digest.hexdigest()[:24]
