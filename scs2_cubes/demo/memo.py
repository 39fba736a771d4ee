"""Bytes that are made once and kept as long as there is room."""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Final

__all__ = ["BoundedMemo"]

_STRIPES: Final = 16


class BoundedMemo:
    """Least-recently-used memory of at most ``max_bytes``; safe to use from several threads."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._size = 0
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._lock = Lock()
        # Two that ask for the same thing at once must not both make it; sixteen others need not wait for them.
        self._making = tuple(Lock() for _ in range(_STRIPES))

    @property
    def size(self) -> int:
        """Bytes kept at present."""
        with self._lock:
            return self._size

    def get(self, key: str, make: Callable[[], bytes]) -> bytes:
        """The bytes under ``key``, made by ``make`` unless they are kept."""
        with self._making[zlib.crc32(key.encode()) % _STRIPES]:
            kept = self._find(key)
            if kept is None:
                kept = make()
                self._keep(key, kept)
            return kept

    def _find(self, key: str) -> bytes | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def _keep(self, key: str, made: bytes) -> None:
        with self._lock:
            self._kept[key] = made
            self._size += len(made)
            while self._size > self._max_bytes:
                self._size -= len(self._kept.popitem(last=False)[1])
