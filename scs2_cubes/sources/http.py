"""One retry policy for all that goes over the network, and the transport for documents.

Documents (JSON, XML) are fetched by :class:`Documents`. Array bytes go through
:class:`scs2_cubes.sources.array_store.RetryingStore`, which uses the same policy and the same reading of answers.
"""

from __future__ import annotations

import email.utils
import logging
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx
import tenacity

from scs2_cubes.core.native import RetryPolicy
from scs2_cubes.errors import AccessDeniedError, DataIdNotFoundError, SourceError, SourceUnavailableError, redact

__all__ = ["Documents", "TransientAnswerError", "is_local", "local_path", "refuse_status", "retry_arguments", "rewrite"]

_LOGGER = logging.getLogger(__name__)

_DENIED = frozenset({401, 403})
_MISSING = frozenset({404, 410})
#: Answers after which asking again makes sense: RFC 9110 (408, 425, 429) and every server error.
_TRANSIENT = frozenset({408, 425, 429})
_SERVER_ERROR = 500
_CLIENT_ERROR = 400


class TransientAnswerError(Exception):
    """An attempt failed in a way that may pass; never leaves this package's retry loops."""

    def __init__(self, what: str, retry_after: float | None = None) -> None:
        super().__init__(what)
        self.retry_after = retry_after
        """Seconds for which the server asks to be left alone, or None."""


def is_local(url: str) -> bool:
    """True for paths and ``file:`` URLs."""
    return urlsplit(url).scheme in {"", "file"}


def local_path(url: str) -> Path:
    """The path behind a path or a ``file:`` URL."""
    return Path(unquote(urlsplit(url).path)) if url.startswith("file:") else Path(url)


def rewrite(url: str, prefixes: Sequence[tuple[str, str]]) -> str:
    """Replace the first prefix of ``prefixes`` (longest first) that ``url`` starts with."""
    for prefix, replacement in prefixes:
        if url.startswith(prefix):
            return replacement + url[len(prefix) :]
    return url


def retry_after_seconds(value: str | None, now: float) -> float | None:
    """Read ``Retry-After`` (RFC 9110, 10.2.3): seconds or an HTTP date, compared with ``now`` (POSIX seconds)."""
    if value is None:
        return None
    if value.isascii() and value.strip().isdigit():
        return float(value)
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    # The obsolete form of asctime names no zone, and means UTC all the same.
    utc = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, utc.timestamp() - now)


def refuse_status(status: int, headers: Mapping[str, str], url: str) -> None:
    """Raise what an HTTP status means, other than success and "not found".

    Raises AccessDeniedError (401, 403), TransientAnswerError (408, 425, 429, 5xx), or SourceUnavailableError (other
    4xx).
    """
    if status in _DENIED:
        raise AccessDeniedError(
            f"HTTP {status}: access denied. Where a server doesn't let anybody list a bucket, it says this of objects "
            "that don't exist, too: check the address, the credentials and the right to list",
            url=url,
        )
    if status in _TRANSIENT or status >= _SERVER_ERROR:
        raise TransientAnswerError(f"HTTP {status}", retry_after_seconds(headers.get("Retry-After"), time.time()))
    if status >= _CLIENT_ERROR:
        raise SourceUnavailableError(f"HTTP {status}: the server refuses the request", url=url)


def retry_arguments(policy: RetryPolicy, url: str) -> dict[str, Any]:
    """Arguments for ``tenacity.Retrying`` and ``tenacity.AsyncRetrying``.

    Only TransientAnswerError is retried. Past the policy's limits SourceUnavailableError is raised.
    """
    backoff = tenacity.wait_random_exponential(multiplier=policy.initial_wait, max=policy.max_wait)

    def wait(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, TransientAnswerError) else None
        return max(asked or 0.0, backoff(state))

    def give_up(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, TransientAnswerError) else None
        hint = f" (the server asks to wait {asked:.0f} s)" if asked else ""
        raise SourceUnavailableError(
            f"no answer after {state.attempt_number} attempts in {state.seconds_since_start or 0:.1f} s, "
            f"last: {error}{hint}. Run again when the source is back; finished tiles are kept",
            url=url,
        ) from error

    def tell(state: tenacity.RetryCallState) -> None:
        # The first failure is nobody's business; after the second, silence looks like a hang.
        if state.attempt_number > 1 and state.next_action is not None:
            error = state.outcome.exception() if state.outcome else None
            wait_seconds = state.next_action.sleep
            _LOGGER.warning("%s: %s; asking again in %.0f s", redact(url), error, wait_seconds)

    return {
        "before_sleep": tell,
        "retry": tenacity.retry_if_exception_type(TransientAnswerError),
        "wait": wait,
        "stop": tenacity.stop_any(
            tenacity.stop_after_attempt(policy.max_attempts), tenacity.stop_before_delay(policy.deadline)
        ),
        "retry_error_callback": give_up,
    }


@dataclass(frozen=True)
class Documents:
    """Fetches documents from http(s) URLs and local paths, with one connection pool.

    ``rewrites`` are (prefix, replacement) pairs, longest first: absolute links are followed at the replacement.
    I/O happens in :meth:`get` alone.
    """

    policy: RetryPolicy
    rewrites: tuple[tuple[str, str], ...] = ()

    @cached_property
    def _client(self) -> httpx.Client:
        # Made when it is first needed: it loads certificates, and every definition of an asset has its own.
        client = httpx.Client(
            timeout=httpx.Timeout(self.policy.timeout),
            follow_redirects=True,
            headers={"User-Agent": f"scs2_cubes/{version('scs2-cubes')}"},
        )
        # Connections end with their owner, not whenever the garbage collector comes upon an open socket.
        weakref.finalize(self, client.close)
        return client

    def resolve(self, url: str) -> str:
        """The address at which ``url`` is really asked for."""
        return rewrite(url, self.rewrites)

    def get(self, url: str) -> bytes:
        """The document's bytes.

        Raises DataIdNotFoundError where there is none, AccessDeniedError, or SourceUnavailableError after retries.
        """
        address = self.resolve(url)
        if is_local(address):
            return _read_local(address)
        content: bytes = tenacity.Retrying(**retry_arguments(self.policy, address))(self._get_once, address)
        return content

    def _get_once(self, address: str) -> bytes:
        try:
            answer = self._client.get(address)
        except (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.TooManyRedirects) as error:
            raise SourceUnavailableError(f"can't be asked for: {type(error).__name__}", url=address) from error
        except httpx.RequestError as error:
            raise TransientAnswerError(f"{type(error).__name__}: {error}") from error
        if answer.status_code in _MISSING:
            raise DataIdNotFoundError(f"HTTP {answer.status_code}: there is no such document", url=address)
        refuse_status(answer.status_code, answer.headers, address)
        return answer.content


def _read_local(address: str) -> bytes:
    try:
        return local_path(address).read_bytes()
    except FileNotFoundError as error:
        raise DataIdNotFoundError("there is no such file", url=address) from error
    except PermissionError as error:
        raise AccessDeniedError("no permission to read the file", url=address) from error
    except OSError as error:
        raise SourceError(f"the file can't be read: {error}", url=address) from error
