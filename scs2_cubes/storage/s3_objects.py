"""Objects on S3, each of whose requests ends, and is sent as often as the policy says and no more.

s3fs sends with aiobotocore, which announces each body with ``Expect: 100-continue``, and aiohttp counts the seconds
without a byte from the end of that body on. So a server that accepts a connection and is silent then, or stops to read,
would be waited for without an end. And s3fs makes attempts of its own, around botocore's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import aiohttp
import fsspec
import tenacity
from aiobotocore.httpsession import AIOHTTPSession  # type: ignore[import-untyped]  # ships no type information
from botocore.exceptions import (  # type: ignore[import-untyped]  # ships no type information
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from scs2_cubes.errors import StorageError
from scs2_cubes.storage.objects import FsspecObjects

__all__ = ["BoundedSession", "S3Objects"]

#: Bytes of which S3 takes less in a single put: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html.
_LARGEST_PUT = 5 * 2**30
#: Bytes in a second that a line is trusted with, for what is more than the time-out alone allows for.
_SLOWEST_LINE = 500_000
#: Longest wait between two reads of the same object, in seconds, as botocore's between two attempts.
_LONGEST_WAIT = 20.0


class BoundedSession(AIOHTTPSession):  # type: ignore[misc]  # aiobotocore ships no type information
    """aiobotocore's HTTP, in which an attempt has an end."""

    def __init__(self, *, timeout: tuple[float | None, float | None], **given: Any) -> None:
        super().__init__(timeout=timeout, **given)
        self._seconds = timeout

    async def send(self, request: Any) -> Any:
        """The answer to ``request``: its head, and its body unless that is streamed.

        Raises ReadTimeoutError, which botocore makes another attempt after, where that takes longer than the time-outs
        and the size of what is sent allow for.
        """
        connect, read = self._seconds
        size = int(request.headers.get("Content-Length") or 0)
        # botocore's None: no time-out.
        patience = None if connect is None or read is None else max(connect, read) + size / _SLOWEST_LINE
        try:
            async with asyncio.timeout(patience):
                return await super().send(request)
        except TimeoutError as error:
            raise ReadTimeoutError(endpoint_url=request.url, error=error) from error


class S3Objects(FsspecObjects):
    """Objects in a bucket. Each is put by one request, so that nothing is ever left half-written."""

    def __init__(self, root: str, options: Mapping[str, Any]) -> None:
        config = dict(options.get("config_kwargs", {}))
        super().__init__(root, {**options, "config_kwargs": {**config, "http_session_cls": BoundedSession}})
        self._attempts = int(config.get("retries", {}).get("total_max_attempts", 1))

    def _open(self, root: str, options: Mapping[str, Any]) -> tuple[Any, str]:
        filesystem, path = fsspec.core.url_to_fs(root, **options)
        # Botocore's attempts are the policy's. s3fs would make 5 of each of them, and 25 of one that reads.
        filesystem.retries = 1
        return filesystem, path

    def _read(self, path: str) -> bytes:
        # Botocore's attempts end with the head of an answer: a body that breaks off is left to whoever reads it.
        patiently = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self._attempts),
            wait=tenacity.wait_random_exponential(multiplier=0.5, max=_LONGEST_WAIT),
            retry=tenacity.retry_if_exception(_is_broken_off),
            reraise=True,
        )
        return patiently(super()._read, path)

    def _write(self, path: str, value: bytes) -> None:
        # From twice the chunk size on, s3fs would send several parts.
        self._filesystem.pipe_file(path, value, chunksize=_LARGEST_PUT)

    def put(self, key: str, value: bytes) -> None:
        """See :class:`scs2_cubes.storage.objects.Objects`. Raises StorageError also for more than one put takes."""
        if len(value) >= _LARGEST_PUT:
            raise StorageError(
                f"can't write {self.shown(key)}: it has {len(value)} bytes, and S3 takes less than {_LARGEST_PUT} at "
                "once. Choose a smaller tile_size or chunksize"
            )
        super().put(key, value)


def _is_broken_off(error: BaseException) -> bool:
    """Whether ``error`` is that of a body of which not all came."""
    if isinstance(error, ReadTimeoutError):
        # That of a body is a TimeoutError, too; for a head without an end botocore has asked often enough.
        return isinstance(error, TimeoutError)
    return isinstance(error, IncompleteReadError | ResponseStreamingError | aiohttp.ClientPayloadError)
