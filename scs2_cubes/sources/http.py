"""One retry policy for all that goes over the network, and the transport for documents.

Documents (JSON, XML) are fetched by :class:`Documents`, which sends other requests, too: with a body, with headers,
with secrets in them. Array bytes go through :class:`scs2_cubes.sources.array_store.RetryingStore`, which uses the same
policy and the same reading of answers.
"""

from __future__ import annotations

import email.utils
import json
import logging
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import httpx
import tenacity

from scs2_cubes.core.native import RetryPolicy
from scs2_cubes.errors import (
    AccessDeniedError,
    DataIdNotFoundError,
    SourceError,
    SourceFormatError,
    SourceUnavailableError,
    redact,
)
from scs2_cubes.sources.transport import TooLongAnswerError, TransientAnswerError, http_client, read_body

__all__ = [
    "Answer",
    "Documents",
    "Request",
    "TransientAnswerError",
    "is_local",
    "json_object",
    "linked_address",
    "local_path",
    "refuse_status",
    "reported_reason",
    "retry_arguments",
    "rewrite",
]

_LOGGER = logging.getLogger(__name__)

_DENIED = frozenset({401, 403})
_MISSING = frozenset({404, 410})
#: Answers after which asking again makes sense: RFC 9110 (408, 425, 429) and every server error.
_TRANSIENT = frozenset({408, 425, 429})
_SERVER_ERROR = 500
_CLIENT_ERROR = 400
_REDIRECTION = range(300, 400)
#: Fields in which a JSON error says why: Plone's REST API, RFC 6749 (5.2), and what many others have.
_REASON_FIELDS = ("error_description", "msg", "message")
#: Characters of a server's reason that a message may hold.
_REASON_LENGTH = 300
#: Bytes that a document may have: a page of a thousand entries has a few millions.
_MAX_DOCUMENT = 64 * 2**20
_RUN_AGAIN = "Run again when the source is back"
_CHECK_ACCESS = "Check the address and the credentials"


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked, once or by the policy. Its repr shows method and address, without secrets."""

    url: str
    """Address, before it is rewritten."""
    method: str = "GET"
    """HTTP method. Only a GET without secrets is redirected: another host would see what isn't meant for it."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Header fields beside the usual ones."""
    body: bytes | None = None
    """What is sent along."""
    secrets: tuple[str, ...] = ()
    """Values in it that no message may hold, not even where the server repeats them."""
    accepted: frozenset[int] = frozenset()
    """Statuses of 300 and above that the caller wants to read for itself."""

    def __repr__(self) -> str:
        return f"Request({self.method!r}, {redact(self.url)!r})"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    url: str
    """Address that was asked, before redirections."""
    status: int
    """HTTP status."""
    headers: Mapping[str, str] = field(repr=False)
    """Header fields; their names don't depend on case."""
    content: bytes = field(repr=False)
    """The body, whole."""
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """Those of the request, which the body may repeat."""


def json_object(answer: Answer) -> dict[str, Any]:
    """The JSON object that ``answer`` holds. Raises SourceFormatError, which shows nothing of the content."""
    try:
        document = json.loads(answer.content)
    except ValueError:
        # Not raised from here: the parser's errors carry the whole document with them, which may hold a token.
        document = None
    if not isinstance(document, dict):
        kind = answer.headers.get("Content-Type", "no Content-Type")
        raise SourceFormatError(
            f"HTTP {answer.status} with {len(answer.content)} bytes ({kind}) that aren't a JSON object", url=answer.url
        )
    return document


def reported_reason(answer: Answer) -> str:
    """What a JSON error says about itself, on one line and without secrets of the request; empty: it says nothing."""
    try:
        document = json.loads(answer.content)
    except ValueError:
        return ""
    if not isinstance(document, dict):
        return ""
    reason = next((value for name in _REASON_FIELDS if isinstance(value := document.get(name), str) and value), "")
    for secret in answer.secrets:
        reason = reason.replace(secret, "…")
    line = " ".join(reason.split())
    return line if len(line) <= _REASON_LENGTH else f"{line[:_REASON_LENGTH]}…"


def linked_address(href: object, document: str, what: str) -> str:
    """The address that ``href``, found in the document at ``document`` and called ``what``, leads to.

    Raises SourceFormatError where it isn't an http(s) address: a stranger's link mustn't lead to files of this machine.
    """
    address = urljoin(document, href) if isinstance(href, str) else ""
    if not address.startswith(("https://", "http://")):
        raise SourceFormatError(f"{what} isn't an http(s) address", url=document)
    return address


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


def refuse_status(
    status: int, headers: Mapping[str, str], url: str, reason: str = "", hint: str = _CHECK_ACCESS
) -> None:
    """Raise what an HTTP status means, other than success and "not found".

    ``reason`` is what the server says; where it says nothing, ``hint`` tells what to do about an access denied.
    Raises AccessDeniedError (401, 403), TransientAnswerError (408, 425, 429, 5xx), or SourceUnavailableError (other
    4xx).
    """
    if status in _DENIED:
        raise AccessDeniedError(f"HTTP {status}: access denied" + (f": {reason}" if reason else f". {hint}"), url=url)
    said = f": {reason}" if reason else ""
    if status in _TRANSIENT or status >= _SERVER_ERROR:
        raise TransientAnswerError(f"HTTP {status}{said}", retry_after_seconds(headers.get("Retry-After"), time.time()))
    if status >= _CLIENT_ERROR:
        raise SourceUnavailableError(f"HTTP {status}: the server refuses the request{said}", url=url)


def retry_arguments(policy: RetryPolicy, url: str, hint: str = _RUN_AGAIN) -> dict[str, Any]:
    """Arguments for ``tenacity.Retrying`` and ``tenacity.AsyncRetrying``.

    Only TransientAnswerError is retried. Past the policy's limits SourceUnavailableError is raised, which ends in
    ``hint``: what to do.
    """
    backoff = tenacity.wait_random_exponential(multiplier=policy.initial_wait, max=policy.max_wait)

    def wait(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, TransientAnswerError) else None
        return max(asked or 0.0, backoff(state))

    def give_up(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, TransientAnswerError) else None
        patience = f" (the server asks to wait {asked:.0f} s)" if asked else ""
        raise SourceUnavailableError(
            f"no answer after {state.attempt_number} attempts in {state.seconds_since_start or 0:.1f} s, "
            f"last: {error}{patience}. {hint}",
            url=url,
        ) from error

    def tell(state: tenacity.RetryCallState) -> None:
        # The first failure is nobody's business; after the second, silence looks like a hang.
        if state.attempt_number > 1 and state.next_action is not None:
            error = state.outcome.exception() if state.outcome else None
            wait_seconds, shown = state.next_action.sleep, redact(url)
            _LOGGER.warning(
                "%s: %s; attempt %d of %d failed after %.0f s, asking again in %.1f s, giving up after %.0f s",
                *(shown, error, state.attempt_number, policy.max_attempts),
                *(state.seconds_since_start or 0.0, wait_seconds, policy.deadline),
                # What others go by who show these lines to people.
                extra={"host": urlsplit(shown).netloc, "wait": wait_seconds},
            )

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
    """Fetches documents from http(s) URLs and local paths, with one connection pool. Safe to share between threads.

    ``rewrites`` are (prefix, replacement) pairs, longest first: absolute links are followed at the replacement. A
    document has at most 64 MiB, and doesn't take much longer than the policy's deadline.
    I/O happens in :meth:`get`, :meth:`send` and :meth:`send_once` alone.
    """

    policy: RetryPolicy
    rewrites: tuple[tuple[str, str], ...] = ()

    @cached_property
    def _client(self) -> httpx.Client:
        # Made when it is first needed: it loads certificates, and every definition of an asset has its own.
        client = http_client(self.policy)
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
        return self.send(Request(url)).content

    def send(self, request: Request) -> Answer:
        """Send ``request``, again by the policy where that makes sense: for what may safely happen twice.

        Raises DataIdNotFoundError (404, 410), AccessDeniedError, or SourceUnavailableError after retries; none of them
        for a status that the request accepts. SourceFormatError where the answer is too long for a document.
        """
        address = self.resolve(request.url)
        answer: Answer = tenacity.Retrying(**retry_arguments(self.policy, address))(self.send_once, request)
        return answer

    def send_once(self, request: Request) -> Answer:
        """Send ``request`` a single time. Raises as :meth:`send` does, and TransientAnswerError for what may pass."""
        address = self.resolve(request.url)
        answer = self._exchange(request, address)
        if answer.status in request.accepted:
            return answer
        reason = reported_reason(answer)
        if answer.status in _MISSING:
            said = f": {reason}" if reason else ""
            raise DataIdNotFoundError(f"HTTP {answer.status}: there is no such document{said}", url=address)
        if answer.status in _REDIRECTION:
            target = redact(answer.headers.get("Location", "nowhere"))
            raise SourceUnavailableError(
                f"HTTP {answer.status}: the address has changed to {target}; configure that one", url=address
            )
        refuse_status(answer.status, answer.headers, address, reason)
        return answer

    def _exchange(self, request: Request, address: str) -> Answer:
        try:
            with self._client.stream(
                request.method,
                address,
                content=request.body,
                headers=request.headers,
                follow_redirects=request.method == "GET" and not request.secrets,
            ) as answer:
                body = bytes(read_body(answer, _MAX_DOCUMENT, self.policy.deadline))
                return Answer(address, answer.status_code, answer.headers, body, request.secrets)
        except TooLongAnswerError as error:
            cause: Exception = error
            # Another attempt would bring as much again.
            failure: Exception = SourceFormatError(f"not a document: {error}", url=address)
        except (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.TooManyRedirects) as error:
            cause = error
            failure = SourceUnavailableError(f"can't be asked for: {type(error).__name__}", url=address)
        except httpx.RequestError as error:
            cause = error
            failure = TransientAnswerError(f"{type(error).__name__}: {error}")
        # httpx's errors, and the frames in which they were raised, hold the request with all its secrets.
        raise failure from None if request.secrets else cause


def _read_local(address: str) -> bytes:
    try:
        return local_path(address).read_bytes()
    except FileNotFoundError as error:
        raise DataIdNotFoundError("there is no such file", url=address) from error
    except PermissionError as error:
        raise AccessDeniedError("no permission to read the file", url=address) from error
    except OSError as error:
        raise SourceError(f"the file can't be read: {error}", url=address) from error
