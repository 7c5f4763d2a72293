"""Watch a run: its report in a browser, up to date while the search goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def watch_run(
    folder: Path | str,
    port: int | None = None,
    *,
    ready: Callable[[str], None],
) -> None:
    """Serve the page of a run on the loopback address until Ctrl-C.

    Args:
        folder: the run folder, finished or not; it is only read.
        port: where to listen; None: any that is free.
        ready: called with the page's address once it can be opened.

    Raises:
        UserError: the folder holds no run, or the port cannot be had.
        MissingExtra: plotly or jinja2 is not installed.
    """
    from archgrad.watch.server import WatchServer

    with WatchServer(Path(folder), port) as server:
        ready(server.address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return
