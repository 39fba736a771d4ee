"""Lines about attempts that failed, as many of them as people can read."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["OncePerWait", "retries_told_once"]

#: Who tells of attempts: documents and array bytes by one policy.
_TELLER = "scs2_cubes.sources.http"
#: Seconds for which a host is silent at least: the first waits are drawn close to 0.
_SHORTEST = 1.0


class OncePerWait(logging.Filter):
    """Lets through one line for each host and wait: a dozen threads that wait for the same server say the same.

    Goes by what a record says of itself, ``host`` and ``wait`` (seconds); a record without them passes. Safe to share
    between threads.
    """

    def __init__(self) -> None:
        super().__init__()
        self._silent_until: dict[str, float] = {}
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        host, wait = getattr(record, "host", None), getattr(record, "wait", None)
        if not isinstance(host, str) or not isinstance(wait, int | float):
            return True
        now = time.monotonic()
        with self._lock:
            if now < self._silent_until.get(host, now):
                return False
            self._silent_until[host] = now + max(wait, _SHORTEST)
        return True


@contextmanager
def retries_told_once() -> Iterator[None]:
    """For the length of the block, one line for each host and wait in this process."""
    teller, once = logging.getLogger(_TELLER), OncePerWait()
    teller.addFilter(once)
    try:
        yield
    finally:
        teller.removeFilter(once)
