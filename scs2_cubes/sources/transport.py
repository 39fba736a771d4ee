"""Connections of every HTTP client here: made alike, discreet in logs, and with limits to what a body may take."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from importlib.metadata import version

import httpx

from scs2_cubes.core.native import RetryPolicy
from scs2_cubes.errors import redact

__all__ = ["TooLongAnswerError", "TransientAnswerError", "http_client", "read_body"]

#: Bytes in a second that a large body must bring to be read for longer than the policy's deadline.
_LEAST_RATE = 16_384


class TransientAnswerError(Exception):
    """An attempt failed in a way that may pass; never leaves this package's retry loops."""

    def __init__(self, what: str, retry_after: float | None = None) -> None:
        super().__init__(what)
        self.retry_after = retry_after
        """Seconds for which the server asks to be left alone, or None."""


class TooLongAnswerError(TransientAnswerError):
    """A body is longer than it may be."""


def http_client(
    policy: RetryPolicy, *, headers: Mapping[str, str] | None = None, max_connections: int | None = None
) -> httpx.Client:
    """A client with the policy's time-out, which follows redirections; ``headers`` go along with every request.

    At most ``max_connections`` at a time, where that isn't None; further threads wait for their turn. From then on
    httpx logs addresses without their secrets. No I/O; whoever asks for a client closes it.
    """
    # The same function isn't added twice. It stays: clients of other packages lose no more than secrets by it.
    logging.getLogger("httpx").addFilter(_discreet)
    return httpx.Client(
        # No limit to waiting for a connection: the requests before have theirs.
        timeout=httpx.Timeout(policy.timeout, pool=None),
        limits=httpx.Limits(max_connections=max_connections, max_keepalive_connections=max_connections or 20),
        follow_redirects=True,
        headers={**(headers or {}), "User-Agent": f"scs2_cubes/{version('scs2-cubes')}"},
    )


def read_body(answer: httpx.Response, limit: int, seconds: float) -> bytearray:
    """The decoded body of ``answer``: at most ``limit`` bytes, within ``seconds`` and what its size allows beyond.

    A time-out alone bounds nothing, because a server may send a byte now and then. Raises TooLongAnswerError and
    TransientAnswerError, in either case without reading on, and httpx's errors.
    """
    body = bytearray()
    started = time.monotonic()
    for piece in answer.iter_bytes():
        body += piece
        if len(body) > limit:
            raise TooLongAnswerError(f"the reply is longer than the {limit} bytes that it may have")
        passed = time.monotonic() - started
        if passed > seconds + len(body) / _LEAST_RATE:
            raise TransientAnswerError(f"the reply is too slow: {len(body)} bytes in {passed:.1f} s")
    return body


def _discreet(record: logging.LogRecord) -> bool:
    """Keep users, passwords and queries, which may hold signatures, out of what httpx logs of its requests."""
    if isinstance(record.args, tuple):
        record.args = tuple(redact(str(arg)) if isinstance(arg, httpx.URL) else arg for arg in record.args)
    return True
