"""Servers on loopback that S3's requests are sent to, and that count them: one is silent, one answers as it's told."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Self

import s3fs
import zarr

__all__ = ["S3Double", "answer"]

#: Where a request begins, and what it asks for.
_REQUEST = re.compile(rb"(GET|PUT|HEAD|POST|DELETE) (\S+) HTTP/1\.1\r\n")
#: Longest wait for requests that were sent, and their thread hasn't noted yet, in seconds.
_HEARING = 30.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def answer(status: str, body: bytes = b"", *, length: int | None = None) -> bytes:
    """An answer; ``length``: what it says that its body has, where that isn't so."""
    said = len(body) if length is None else length
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (status.encode(), said, body)


class S3Double:
    """Accepts every connection. ``answers``: the answer to the nth request, from 0 on; None: it never gives one.

    Bodies are read to their end before an answer is given. One who never answers reads no body; ``wants_body``: but
    asks for it. A context manager.
    """

    def __init__(self, answers: Callable[[int], bytes] | None = None, *, wants_body: bool = False) -> None:
        self.requests: list[str] = []
        """Method and target of each request, in the order of their coming."""
        self._answers = answers
        self._wants_body = wants_body or answers is not None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._held: list[socket.socket] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def heard(self, number: int) -> list[str]:
        """``requests``, once there are ``number`` of them: who gave up waiting may be faster than who notes it."""
        deadline = time.monotonic() + _HEARING
        while len(self.requests) < number and time.monotonic() < deadline:
            time.sleep(0.01)
        return list(self.requests)

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        # A thread that waits in accept() isn't woken by a close alone.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for one in (self._listener, *self._held):
            one.close()
        _close_clients()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._held.append(connection)
                threading.Thread(target=self._hear, args=(connection,), daemon=True).start()

    def _hear(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            for head in self._heads(connection):
                request = _REQUEST.search(head)
                if request is None:
                    return
                number = len(self.requests)
                self.requests.append(b" ".join(request.groups()).decode())
                if self._wants_body and b"100-continue" in head.lower():
                    connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                if self._answers is None:
                    return
                length = _LENGTH.search(head)
                self._skip(connection, int(length[1]) if length else 0)
                connection.sendall(self._answers(number))
                connection.close()

    def _heads(self, connection: socket.socket) -> Iterator[bytes]:
        """Heads of requests; after each of them the connection stands at its body."""
        while True:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                byte = connection.recv(1)
                if not byte:
                    return
                head += byte
            yield head

    def _skip(self, connection: socket.socket, length: int) -> None:
        while length:
            read = len(connection.recv(min(length, 1 << 20)))
            if not read:
                return
            length -= read


def _close_clients() -> None:
    """s3fs keeps its connections, which would be told of as left open in whatever test runs when they are collected."""
    for filesystem in s3fs.S3FileSystem._cache.values():
        if filesystem._s3 is not None:
            # zarr's own loop is where a store's filesystem works.
            loop = zarr.core.sync._get_loop() if filesystem.asynchronous else filesystem.loop
            asyncio.run_coroutine_threadsafe(filesystem._s3.close(), loop).result(60)
    s3fs.S3FileSystem.clear_instance_cache()
