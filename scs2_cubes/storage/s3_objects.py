"""Objects on S3, each of whose requests ends, and is sent as often as the policy says and no more.

s3fs sends with aiobotocore, which announces each body with ``Expect: 100-continue``, and aiohttp counts the seconds
without a byte from the end of that body on. So a server that accepts a connection and is silent then, or stops to read,
would be waited for without an end. And s3fs makes attempts of its own, around botocore's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import aiohttp
import fsspec
import tenacity
from aiobotocore.httpsession import AIOHTTPSession  # type: ignore[import-untyped]  # ships no type information
from botocore.exceptions import (  # type: ignore[import-untyped]  # ships no type information
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from zarr.storage import FsspecStore

from scs2_cubes.errors import StorageError
from scs2_cubes.storage.objects import FsspecObjects

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

__all__ = ["BoundedSession", "S3Objects", "S3Store", "s3_store"]

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


class S3Store(FsspecStore):
    """A Zarr store in a bucket, each of whose requests is sent as those of :class:`S3Objects`. Made by s3_store."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickled by itself, s3fs would make attempts of its own again.
        return s3_store, (f"s3://{self.path}", self.fs.storage_options)

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """The bytes under ``key``, or None where there are none. Raises what s3fs and its libraries do."""
        patiently = tenacity.AsyncRetrying(**_repetition(self.fs.storage_options["config_kwargs"]))
        value: Buffer | None = await patiently(super().get, key, prototype, byte_range)
        return value


def s3_store(url: str, options: Mapping[str, Any]) -> S3Store:
    """The Zarr store at ``url``, read-only; it can be pickled. ``options`` are s3fs's. No I/O."""
    filesystem, path = _filesystem(url, {**_bounded(options), "asynchronous": True})
    return S3Store(filesystem, path=path, read_only=True)


class S3Objects(FsspecObjects):
    """Objects in a bucket. Each is put by one request, so that nothing is ever left half-written."""

    def __init__(self, root: str, options: Mapping[str, Any]) -> None:
        super().__init__(root, _bounded(options))
        self._config = dict(options.get("config_kwargs", {}))

    def _open(self, root: str, options: Mapping[str, Any]) -> tuple[Any, str]:
        return _filesystem(root, options)

    def _read(self, path: str) -> bytes:
        return tenacity.Retrying(**_repetition(self._config))(super()._read, path)

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


def _filesystem(url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    filesystem, path = fsspec.core.url_to_fs(url, **options)
    # Botocore's attempts are the policy's. s3fs would make 5 of each of them, and 25 of one that reads.
    filesystem.retries = 1
    return filesystem, path


def _bounded(options: Mapping[str, Any]) -> dict[str, Any]:
    return {**options, "config_kwargs": {**options.get("config_kwargs", {}), "http_session_cls": BoundedSession}}


def _repetition(config: Mapping[str, Any]) -> dict[str, Any]:
    """How tenacity repeats reads of an object, by botocore's ``config``.

    Botocore's attempts end with the head of an answer: a body that breaks off is left to whoever reads it. Each further
    read has botocore's attempts again, so that there's none after the time that those of one may take.
    """
    attempts = int(config.get("retries", {}).get("total_max_attempts", 1))
    # Botocore's own default is a minute.
    seconds = config.get("read_timeout", 60.0)
    ends = tenacity.stop_after_attempt(attempts)
    return {
        "stop": ends if seconds is None else ends | tenacity.stop_after_delay(attempts * seconds),
        "wait": tenacity.wait_random_exponential(multiplier=0.5, max=_LONGEST_WAIT),
        "retry": tenacity.retry_if_exception(_is_broken_off),
        "reraise": True,
    }


def _is_broken_off(error: BaseException) -> bool:
    """Whether ``error`` is that of a body of which not all came."""
    if isinstance(error, ReadTimeoutError):
        # That of a body is a TimeoutError, too; for a head without an end botocore has asked often enough.
        return isinstance(error, TimeoutError)
    return isinstance(error, IncompleteReadError | ResponseStreamingError | aiohttp.ClientPayloadError)
