"""A server on the loopback address: the page of one run for who knows the token, and nothing else."""

from __future__ import annotations

import errno
import hmac
import secrets
import socket
import socketserver
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from archgrad.errors import UserError
from archgrad.watch.page import WatchedPage

HOST = "127.0.0.1"


class WatchServer(ThreadingHTTPServer):
    """Serves the page of `folder` at `address`; `serve_forever` runs it, `shutdown` from elsewhere ends it.

    Args:
        folder: the run folder.
        port: where to listen; None: any that is free.

    Raises:
        UserError: the port cannot be had, or the folder holds no run.
        MissingExtra: plotly or jinja2 is not installed.
    """

    daemon_threads = True

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.page = WatchedPage(folder)
        self.page.whole()  # what is wrong is said now, not to the browser
        self.token = secrets.token_urlsafe(16)
        try:
            super().__init__((HOST, port or 0), _Handler)
        except OSError as error:
            if port is None or error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            why = "is in use" if error.errno == errno.EADDRINUSE else "may not be used by you"
            raise UserError(
                f"port {port} {why}: type --port {_free_port()}, or leave --port out for any that is free"
            ) from None

    def server_bind(self) -> None:
        """Bind without asking anyone for the name of this machine."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    @property
    def address(self) -> str:
        """Where the page is, token included."""
        return f"http://{HOST}:{self.server_port}/{self.token}/"


def watch_run(folder: Path | str, port: int | None = None, *, ready: Callable[[str], None]) -> None:
    """Serve the page of a run until Ctrl-C.

    Not among `archgrad.verbs`, whose other functions bring PyTorch with them.

    Args:
        folder: the run folder, finished or not; it is only read.
        port: where to listen; None: any that is free.
        ready: called with the page's address once it can be opened.

    Raises:
        UserError: the folder holds no run, or the port cannot be had.
        MissingExtra: plotly or jinja2 is not installed.
    """
    with WatchServer(Path(folder), port) as server:
        ready(server.address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


def _free_port() -> int:
    with socket.socket() as free:
        free.bind((HOST, 0))
        return int(free.getsockname()[1])


class _Handler(BaseHTTPRequestHandler):
    """``/TOKEN/`` is the page, ``/TOKEN/update`` its newest state; no file is ever served by its name."""

    server: WatchServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "archgrad", ""
    timeout = 60  # seconds that an idle connection is kept

    def do_GET(self) -> None:
        """Answer a page."""
        try:
            self._answer()
        except UserError as error:  # the folder went away
            self._send(410, f"{error}\n".encode())
        except (BrokenPipeError, ConnectionResetError):  # the window was closed meanwhile
            self.close_connection = True

    def do_HEAD(self) -> None:
        """Answer without the page itself."""
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Nothing: requests come every other second."""

    def _answer(self) -> None:
        # A page elsewhere could have its name lead here; it cannot make the browser say another host.
        hosts = {f"{name}:{self.server.server_port}" for name in (HOST, "localhost")}
        path = urlsplit(self.path).path
        token, slash, name = path.lstrip("/").partition("/")
        if self.headers.get("Host") not in hosts or not hmac.compare_digest(
            token.encode(), self.server.token.encode()
        ):
            self._send(403, b"Open the address that archgrad watch printed, token included.\n")
        elif not slash:
            self._send(308, b"", {"Location": f"/{token}/"})
        elif not name:
            self._send(200, self.server.page.whole(), {"Content-Type": "text/html; charset=utf-8"})
        elif name == "update":
            self._update()
        else:
            self._send(404, b"There is nothing here but the page.\n")

    def _update(self) -> None:
        known = self.headers.get("If-None-Match", "").strip('"')
        page = self.server.page
        if known and page.known(known):
            self._send(304, b"", {"ETag": f'"{known}"'})
            return
        news = page.news()
        tag = {"ETag": f'"{news.tag}"'}
        if news.tag == known:
            self._send(304, b"", tag)
        else:
            self._send(200, news.body, {**tag, "Content-Type": "text/html; charset=utf-8"})

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        sent = {"Content-Type": "text/plain; charset=utf-8", **(headers or {}), "Cache-Control": "no-store"}
        sent |= {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
        if status != 304:
            sent["Content-Length"] = str(len(body))
        for name, value in sent.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
