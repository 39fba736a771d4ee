"""What was asked of the server, for tests that count."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from threading import Lock
from typing import Final

__all__ = ["Request", "RequestLog"]

_KEPT: Final = 100_000


@dataclass(frozen=True, slots=True)
class Request:
    """One request and how it was answered."""

    method: str
    """GET, HEAD, POST, DELETE."""
    path: str
    """Decoded URL path."""
    status: int
    """Status code of the answer."""
    query: str = ""
    """Query string without its question mark, as it was sent."""


class RequestLog:
    """The latest 100 000 requests. A request is in it before its answer is sent. Safe to use from several threads."""

    def __init__(self) -> None:
        self._requests: deque[Request] = deque(maxlen=_KEPT)
        self._lock = Lock()

    def add(self, request: Request) -> None:
        with self._lock:
            self._requests.append(request)

    def clear(self) -> None:
        with self._lock:
            self._requests.clear()

    def entries(
        self, where: str | re.Pattern[str] = "", *, method: str | None = None, status: int | None = None
    ) -> tuple[Request, ...]:
        """Requests in order of arrival, of paths that contain the string ``where`` or match the pattern."""
        with self._lock:
            requests = tuple(self._requests)
        return tuple(
            request
            for request in requests
            if (where in request.path if isinstance(where, str) else where.search(request.path) is not None)
            and method in {None, request.method}
            and status in {None, request.status}
        )

    def count(self, where: str | re.Pattern[str] = "", *, method: str | None = None, status: int | None = None) -> int:
        """How many :meth:`entries` there are."""
        return len(self.entries(where, method=method, status=status))
