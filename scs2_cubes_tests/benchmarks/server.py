"""A static file server on loopback that counts, and may answer late.

The first part of a path names a session, the rest the file: ``/<session>/<file>``. What each session asked for is
tallied by itself, so that a warm-up and a measurement don't mix.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from types import TracebackType
from typing import Any, Self, cast

__all__ = ["FileServer", "Tally"]

#: Chunks of arrays of more than one dimension; those of coordinates are metadata here.
_CHUNK = re.compile(r"/\d+(?:\.\d+)+$")


@dataclass
class Tally:
    """What one session asked for."""

    chunk_gets: int = 0
    """GET requests for chunks of pixels, absent ones included."""
    chunk_heads: int = 0
    """HEAD requests for them."""
    chunk_bytes: int = 0
    """Bytes of pixels sent."""
    chunks_absent: int = 0
    """Requests for chunks that aren't stored."""
    other_requests: int = 0
    """Metadata and coordinates."""
    keys: set[str] = field(default_factory=set)
    """Distinct chunks."""


class FileServer:
    """Serves the files below ``root``, as a context manager. ``latency``: seconds before each answer."""

    def __init__(self, root: Path, latency: float = 0.0) -> None:
        self._root = root
        self._latency = latency
        self._tallies: dict[str, Tally] = {}
        self._lock = Lock()
        self._http: _Http | None = None

    def __enter__(self) -> Self:
        self._http = _Http(("127.0.0.1", 0), self)
        Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()

    def url(self, session: str) -> str:
        """Address of the files for ``session``. Raises RuntimeError where the server doesn't run."""
        if self._http is None:
            raise RuntimeError("the server has no address before it is started: use it in a with block")
        return f"http://127.0.0.1:{self._http.server_address[1]}/{session}"

    def tally(self, session: str) -> Tally:
        """What ``session`` asked for so far."""
        with self._lock:
            return self._tallies.setdefault(session, Tally())

    def answer(self, method: str, path: str) -> Path | None:
        """The file behind a request, which is counted; None where there is none. Waits for the latency."""
        session, _, name = path.lstrip("/").partition("/")
        file = self._root / name
        found = file.is_file() and ".." not in name
        tally = self.tally(session)
        with self._lock:
            if _CHUNK.search(path) is None:
                tally.other_requests += 1
            elif method == "HEAD":
                tally.chunk_heads += 1
            else:
                tally.chunk_gets += 1
                tally.keys.add(name)
                tally.chunks_absent += not found
                tally.chunk_bytes += file.stat().st_size if found else 0
        if self._latency:
            time.sleep(self._latency)
        return file if found else None


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], files: FileServer) -> None:
        self.files = files
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a contender's process that ends with open connections is no error."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body are two packets: without this the second waits 40 ms for the first one's acknowledgement.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._send(with_body=True)

    def do_HEAD(self) -> None:
        self._send(with_body=False)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Say nothing: the tally has it."""

    def _send(self, *, with_body: bool) -> None:
        file = cast("_Http", self.server).files.answer(self.command, self.path)
        body = b"" if file is None else file.read_bytes() if with_body else b""
        size = len(body) if with_body or file is None else file.stat().st_size
        self.send_response(HTTPStatus.NOT_FOUND if file is None else HTTPStatus.OK)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(size))
        self.end_headers()
        self.wfile.write(body)
