"""Zarr bytes from anywhere, read-only, with the one retry policy.

Three different things are kept apart: a key that isn't there (fill, by Zarr's definition), a read that failed (an
error, never fill), and zero.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

import aiohttp
import tenacity
from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore, WrapperStore

from scs2_cubes.errors import AccessDeniedError, SourceFormatError, SourceUnavailableError
from scs2_cubes.sources.http import TransientAnswerError, is_local, local_path, refuse_status, retry_arguments
from scs2_cubes.sources.s3_answers import open_filesystem, refuse_answer, s3_failures

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

    from scs2_cubes.core.native import Location, RetryPolicy

__all__ = ["KnownStore", "RetryingStore", "open_store"]

_CONNECT_TIMEOUT = 15.0
_RUN_AGAIN = "Run again when the source is back; finished tiles are kept"
_DENIED = (
    "Where a server doesn't let anybody list a bucket, it says this of objects that don't exist, too: check the "
    "address, the credentials and the right to list"
)


class RetryingStore(WrapperStore[Store]):
    """Read-only store that asks again by the policy."""

    def __init__(self, store: Store, url: str, policy: RetryPolicy) -> None:
        super().__init__(store)
        self._url = url
        self._policy = policy

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """The bytes under ``key``, or None where there are none.

        Raises AccessDeniedError, SourceFormatError where a local store isn't there at all, or SourceUnavailableError
        after retries.
        """
        url = f"{self._url.rstrip('/')}/{key}"
        retrying = tenacity.AsyncRetrying(**retry_arguments(self._policy, url, _RUN_AGAIN))
        value: Buffer | None = await retrying(self._get_once, url, key, prototype, byte_range)
        return value

    async def _get_once(
        self, url: str, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None
    ) -> Buffer | None:
        try:
            return await self._store.get(key, prototype, byte_range)
        except s3_failures() as error:
            refuse_answer(error, url)
            raise TransientAnswerError(type(error).__name__) from error
        except aiohttp.ClientResponseError as error:
            refuse_status(error.status, error.headers or {}, url, hint=_DENIED)
            raise TransientAnswerError(f"HTTP {error.status}") from error
        except FileNotFoundError as error:
            # Not just this key: zarr says it of a folder that isn't there, or isn't there any more.
            raise SourceFormatError(f"there is no Zarr group: {error}", url=self._url) from error
        except PermissionError as error:
            refuse_answer(error, url)
            raise AccessDeniedError(f"no permission to read: {error}", url=url) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            refuse_answer(error, url)
            # Among them: a body that is shorter than announced, a reset connection, a refused one.
            raise TransientAnswerError(f"{type(error).__name__}: {error}") from error

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Names in the folder ``prefix``. Raises AccessDeniedError, and SourceFormatError where nothing is listed."""
        url = f"{self._url.rstrip('/')}/{prefix}"
        failures: tuple[type[Exception], ...] = (*s3_failures(), aiohttp.ClientError, OSError)
        try:
            async for name in self._store.list_dir(prefix):
                yield name
        except failures as error:
            try:
                refuse_answer(error, url)
            except TransientAnswerError as transient:
                raise SourceUnavailableError(f"can't be listed: {transient}. {_RUN_AGAIN}", url=url) from error
            raise SourceFormatError(
                f"its metadata aren't consolidated, and it can't be listed: {type(error).__name__}", url=url
            ) from error


class KnownStore(WrapperStore[Store]):
    """A store some of whose objects are known already, so that nobody is asked for them."""

    def __init__(self, store: Store, known: Mapping[str, bytes]) -> None:
        super().__init__(store)
        self._known = known

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """The bytes under ``key``. Raises as the store within does."""
        if key in self._known and byte_range is None:
            return prototype.buffer.from_bytes(self._known[key])
        return await self._store.get(key, prototype, byte_range)


def open_store(location: Location) -> RetryingStore:
    """Store at ``location``; nothing is asked for yet."""
    return RetryingStore(_plain_store(location), location.url, location.retry)


def _plain_store(location: Location) -> Store:
    if is_local(location.url):
        return LocalStore(local_path(location.url), read_only=True)
    options: dict[str, Any] = dict(location.options)
    if location.url.startswith(("http://", "https://")):
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT, sock_read=location.retry.timeout)
        options = {"client_kwargs": {"timeout": timeout}} | options
    filesystem, path = open_filesystem(location.url, {**options, "asynchronous": True})
    return FsspecStore(filesystem, path=path, read_only=True)
