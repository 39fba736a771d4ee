"""GeoTIFFs, zips and a file server, made without the code under test."""

from __future__ import annotations

import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.transform import Affine

LAEA = "EPSG:3035"
#: Takes a claim in the cache that is its argument, and dies with it.
_DYING = """
import os, signal, sys
from scs2_cubes.preload.claims import Contender
from scs2_cubes.storage.objects import open_objects
Contender(open_objects(sys.argv[1], {}), "what was complete already").take()
os.kill(os.getpid(), signal.SIGKILL)
"""


def claim_of_the_dead(cache: Path) -> Path:
    """The claim that a process left in ``cache`` which was killed just before it would have released it."""
    before = set(cache.glob("claims/*"))
    subprocess.run([sys.executable, "-c", _DYING, str(cache)], check=False, timeout=60)
    (document,) = set(cache.glob("claims/*")) - before
    return document


def write_tif(
    path: Path,
    values: npt.NDArray[Any],
    *,
    west: float = 3_000_000,
    north: float = 3_000_000,
    tags: Mapping[str, str] | None = None,
    **profile: Any,
) -> Path:
    """A GeoTIFF of 20 m pixels at (``west``, ``north``), in strips and LZW as CLMS delivers them."""
    bands = values if values.ndim == 3 else values[np.newaxis]
    settings = {
        "crs": LAEA,
        "transform": Affine(20, 0, west, 0, -20, north),
        "nodata": 255,
        "compress": "lzw",
        "dtype": values.dtype.name,
    } | profile
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", count=len(bands), height=bands.shape[1], width=bands.shape[2], **settings
    ) as file:
        file.write(bands)
        file.update_tags(**(tags or {}))
    return path


def write_zip(path: Path, members: Mapping[str, bytes], **settings: Any) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **settings) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def deliver(folder: Path, members: Mapping[str, bytes], inner: str = "Results/delivery.zip") -> Path:
    """A delivery as CLMS makes them: ``members`` in a zip, in the folder ``Results`` of a zip."""
    folder.mkdir(parents=True, exist_ok=True)
    content = write_zip(folder / "inner.zip", members).read_bytes()
    return write_zip(folder / "delivery.zip", {"Results/": b"", inner: content})


@dataclass
class FileServer:
    """One file, and how it is served. Understands single ranges to the end, and ``If-Range``."""

    body: bytes
    etag: str | None = '"one"'
    modified: str | None = None
    ranges: bool = True
    #: Whether ``If-Range`` is honoured; some servers send the part of whatever they have now.
    conditional: bool = True
    announce: bool = True
    #: Whether parts come without validators.
    bare_parts: bool = False
    #: Bytes that come after the file's end, where no size is announced.
    padding: int = 0
    #: Bytes after which the connection ends, one for each request; afterwards whole bodies.
    cuts: list[int] = field(default_factory=list)
    #: Statuses instead of the file, one for each request; 0 is the file.
    statuses: list[int] = field(default_factory=list)
    extra: dict[str, str] = field(default_factory=dict)
    #: Bytes after which the body goes on only when the event is set.
    pause: tuple[int, threading.Event] | None = None
    seen: list[dict[str, str]] = field(default_factory=list)
    sent: int = 0
    url: str = ""

    def respond(self, handler: BaseHTTPRequestHandler) -> None:
        self.seen.append({name.lower(): value for name, value in handler.headers.items()})
        status = self.statuses.pop(0) if self.statuses else 0
        if status:
            handler.send_response(status)
            for name, value in self.extra.items():
                handler.send_header(name, value)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        self._send(handler, self._start(self.seen[-1]))

    def _start(self, headers: Mapping[str, str]) -> int:
        if not self.ranges or "range" not in headers:
            return 0
        if self.conditional and headers.get("if-range") not in {None, self.etag, self.modified}:
            return 0
        return int(headers["range"].removeprefix("bytes=").removesuffix("-"))

    def _send(self, handler: BaseHTTPRequestHandler, start: int) -> None:
        size = len(self.body)
        if start and start >= size:
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{size}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        # Before the client has an answer: one that leaves early must not take the cut of the next request.
        cut = self.cuts.pop(0) if self.cuts else None
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        for name, value in {"ETag": self.etag, "Last-Modified": self.modified, **self.extra}.items():
            if value is not None and not (start and self.bare_parts):
                handler.send_header(name, value)
        if self.announce:
            handler.send_header("Content-Length", str(size - start))
        handler.end_headers()
        handler.close_connection = True
        part = (self.body[start:] + bytes(self.padding))[:cut]
        if self.pause is not None:
            length, go = self.pause
            handler.wfile.write(part[:length])
            handler.wfile.flush()
            self.sent += len(part[:length])
            part = part[length:]
            go.wait(20)
        handler.wfile.write(part)
        self.sent += len(part)


@contextmanager
def serving(server: FileServer) -> Iterator[FileServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.respond(self)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
            """Say nothing."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    # A client that is killed leaves in the middle of an answer.
    http.handle_error = lambda *_: None  # type: ignore[method-assign]  # one line instead of a class
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_address[1]}/delivery.zip"
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def ignore_progress(done: int, total: int | None) -> None:
    """Nobody looks."""


#: Signature of what is told about progress.
Progress = Callable[[int, int | None], None]
