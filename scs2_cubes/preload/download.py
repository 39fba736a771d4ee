"""A large file from the network to the disk, in as many pieces as the connection allows.

What arrived is kept in ``<target>.part``, and what the server said of it in ``<target>.part.json``: a later call, of
this process or of another one, goes on from there (RFC 9110: ranges 14, ``If-Range`` 13.1.5). Without a validator from
the server nobody can tell whether the rest belongs to the same file, so it starts again.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from http import HTTPStatus
from pathlib import Path

import httpx
import tenacity

from scs2_cubes.core.native import RetryPolicy
from scs2_cubes.errors import DataIdNotFoundError, SourceFormatError, SourceUnavailableError, StorageError, redact
from scs2_cubes.sources.http import TransientAnswerError, refuse_status, retry_arguments
from scs2_cubes.sources.transport import http_client

__all__ = ["Progress", "download", "part_files"]

#: Called with the bytes that are there and the bytes in all, or None where nobody knows.
Progress = Callable[[int, int | None], None]

_EXPIRED = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})
_CONTENT_RANGE = re.compile(r"bytes ([0-9]+)-([0-9]+)/([0-9]+)")
#: What comes with 416: RFC 9110, 15.5.17.
_UNSATISFIED_RANGE = re.compile(r"bytes \*/([0-9]+)")
_RUN_AGAIN = "What has arrived is kept: run again when the source is back"
_LINK = "Links to deliveries end after a while, and may hold for one address: order it anew"


def part_files(target: Path) -> tuple[Path, Path]:
    """Where a download to ``target`` keeps what arrived, and what it knows of it, until it is whole."""
    return target.with_name(f"{target.name}.part"), target.with_name(f"{target.name}.part.json")


def download(
    url: str,
    target: Path,
    *,
    policy: RetryPolicy,
    expected_size: int | None,
    headers: Mapping[str, str],
    on_progress: Progress,
) -> int:
    """Fetch ``url`` to the file ``target``, and return its size in bytes. ``target`` is there whole or not at all.

    ``expected_size``: bytes, where somebody else than the server has told. ``headers`` go along with every request; no
    credentials are added to them. ``policy`` counts from the last byte that was new: a download that makes progress
    may take as long as it likes.

    Raises DataIdNotFoundError (404, 410: the link has expired), AccessDeniedError, SourceFormatError where the size
    isn't the expected one or the answer isn't a whole or partial body, SourceUnavailableError after retries, and
    StorageError where the disk has too little room or can't be written.
    """
    transfer = _Transfer(url, target, expected_size, on_progress)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Compressed transfer would make sizes and ranges those of the compressed body.
        with http_client(policy, headers={**headers, "Accept-Encoding": "identity"}) as client:
            while not transfer.is_whole():
                # A new count of attempts and seconds each time that something new has arrived.
                if tenacity.Retrying(**retry_arguments(policy, url, _RUN_AGAIN))(transfer.attempt, client):
                    time.sleep(policy.initial_wait)
        return transfer.finish()
    except OSError as error:
        raise StorageError(f"can't write {target}: {error}. What has arrived is kept; run again") from error


@dataclass(frozen=True, slots=True)
class _Note:
    """What is known of the file that the part belongs to."""

    link: str
    """Fingerprint of the URL without its secrets: validators mean something for one resource only."""
    validator: str
    """ETag or Last-Modified, as ``If-Range`` wants it; empty where the server gave none."""
    size: int | None
    """Bytes in all, as the server has said; None where it hasn't."""


class _BrokenOffError(Exception):
    """The body ended before the file did."""


class _Transfer:
    """One download: the part file on the disk, and how far it ever came."""

    def __init__(self, url: str, target: Path, expected_size: int | None, on_progress: Progress) -> None:
        self._url = url
        self._target = target
        self._expected = expected_size
        self._on_progress = on_progress
        self._part, self._note_file = part_files(target)
        self._link = hashlib.sha256(redact(url).encode()).hexdigest()
        self._farthest = 0
        # Where nobody knows the size, only the end of the stream tells that a body is whole.
        self._ended = False

    def is_whole(self) -> bool:
        """True where nothing is left to ask for."""
        note, size = self._note(), self._size()
        return note is not None and (self._have() == size if size is not None else self._ended)

    def finish(self) -> int:
        """Check the size and move the part to its place. Raises SourceFormatError."""
        size = self._have()
        if self._expected is not None and size != self._expected:
            self._forget()
            raise self._wrong_size(size, self._expected)
        self._part.replace(self._target)
        self._note_file.unlink(missing_ok=True)
        return size

    def attempt(self, client: httpx.Client) -> bool:
        """Ask for what is missing. True: the body broke off, but farther than ever before. Else whole, or an error.

        Raises TransientAnswerError where nothing new has arrived.
        """
        before = self._farthest = max(self._farthest, self._resumable())
        failure: Exception
        try:
            with client.stream("GET", self._url, headers=self._conditions()) as answer:
                self._receive(answer)
                return False
        except (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.TooManyRedirects) as error:
            failure = SourceUnavailableError(f"can't be asked for: {type(error).__name__}", url=self._url)
        except (httpx.RequestError, _BrokenOffError) as error:
            if self._farthest > before:
                return True
            failure = TransientAnswerError(f"{type(error).__name__}: {error}")
        # Not raised from httpx's errors, which hold the request and its address with all secrets.
        raise failure

    def _receive(self, answer: httpx.Response) -> None:
        if answer.status_code in _EXPIRED:
            raise DataIdNotFoundError(
                f"HTTP {answer.status_code}: there is no such file, or the link has expired", url=self._url
            )
        if answer.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            self._forget()
            told = _UNSATISFIED_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            self._check_size(int(told[1]) if told else None)
            raise TransientAnswerError("HTTP 416: what was fetched before isn't part of the file any more")
        refuse_status(answer.status_code, answer.headers, self._url, hint=_LINK)
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise SourceFormatError(
                f"the body is encoded as {answer.headers['Content-Encoding']!r}, which wasn't asked for", url=self._url
            )
        if answer.status_code == HTTPStatus.PARTIAL_CONTENT:
            size: int | None = self._continue(answer)
        elif answer.status_code == HTTPStatus.OK:
            size = self._start(answer)
        else:
            raise SourceFormatError(f"HTTP {answer.status_code} instead of a file", url=self._url)
        self._stream(answer, size)

    def _continue(self, answer: httpx.Response) -> int:
        """Check that a partial body is the rest of what is there; its size in all."""
        note, found = self._note(), _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        size = int(found[3]) if found else None
        self._check_size(size)
        # Some servers know ranges, but not If-Range: what they send may be of another file.
        if note is None or found is None or int(found[1]) != self._have() or not self._is_same(answer, note, size):
            self._forget()
            raise TransientAnswerError("the server sent a part of another file, or another part than was asked for")
        self._write_note(replace(note, size=size))
        return int(found[3])

    def _is_same(self, answer: httpx.Response, note: _Note, size: int | None) -> bool:
        """Whether a partial body is of the noted file, by its validator and size.

        A server may leave out the validators of the answer to an ``If-Range`` (RFC 9110, 15.3.7): then a known size
        has to do.
        """
        sent = answer.headers.get("ETag" if note.validator.startswith('"') else "Last-Modified")
        known = note.size if note.size is not None else self._expected
        return size == known if sent is None else sent == note.validator and note.size in {None, size}

    def _start(self, answer: httpx.Response) -> int | None:
        """Forget what is there, and note what comes now; its size in all, where the server tells."""
        announced = answer.headers.get("Content-Length", "")
        size = int(announced) if announced.isascii() and announced.isdigit() else None
        self._check_size(size)
        self._forget()
        self._part.touch()
        # Before the first byte: half a note isn't JSON, and loses nothing.
        self._write_note(_Note(self._link, _validator(answer), size))
        return size

    def _stream(self, answer: httpx.Response, size: int | None) -> None:
        limit = size if size is not None else self._expected
        have = self._have()
        _check_room(self._target, None if limit is None else limit - have)
        with self._part.open("ab") as file:
            # As it comes in: what waits in memory for more is lost where the connection or the process ends.
            for piece in answer.iter_raw():
                file.write(piece)
                file.flush()
                have += len(piece)
                if limit is not None and have > limit:
                    self._forget()
                    raise self._wrong_size(have, limit)
                self._farthest = max(self._farthest, have)
                self._on_progress(have, limit)
        if limit is not None and have < limit:
            # Without an announced length the end of the connection looks like the end of the file.
            raise _BrokenOffError(f"the connection ended after {have} of {limit} bytes")
        self._ended = True

    def _check_size(self, announced: int | None) -> None:
        if announced is not None and self._expected is not None and announced != self._expected:
            # What is there may be of the file that was meant; the rest of that can't be had any more.
            self._forget()
            raise self._wrong_size(announced, self._expected)

    def _wrong_size(self, size: int, told: int) -> SourceFormatError:
        return SourceFormatError(f"the file has {size} bytes, not {told} as was told: order it anew", url=self._url)

    def _conditions(self) -> dict[str, str]:
        note, have = self._note(), self._resumable()
        return {"Range": f"bytes={have}-", "If-Range": note.validator} if note is not None and have else {}

    def _resumable(self) -> int:
        """Bytes after which it can go on; 0 where it must start again."""
        note = self._note()
        return self._have() if note is not None and note.validator else 0

    def _have(self) -> int:
        return self._part.stat().st_size if self._part.is_file() else 0

    def _size(self) -> int | None:
        """Bytes in all, where the server or somebody else has told."""
        note = self._note()
        return note.size if note is not None and note.size is not None else self._expected

    def _write_note(self, note: _Note) -> None:
        self._note_file.write_text(json.dumps(asdict(note)))

    def _note(self) -> _Note | None:
        try:
            note = _Note(**json.loads(self._note_file.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            # None there, or not one of these: then the part is of unknown origin.
            return None
        return note if note.link == self._link else None

    def _forget(self) -> None:
        # The note first: a part without one is worth nothing, a note beside another part would be a lie.
        self._note_file.unlink(missing_ok=True)
        self._part.unlink(missing_ok=True)


def _validator(answer: httpx.Response) -> str:
    """What ``If-Range`` may hold: a strong ETag, else the date."""
    etag: str = answer.headers.get("ETag", "")
    return etag if etag.startswith('"') else answer.headers.get("Last-Modified", "")


def _check_room(target: Path, needed: int | None) -> None:
    free = shutil.disk_usage(target.parent).free
    if needed is not None and needed > free:
        raise StorageError(
            f"{target.parent} has {free} bytes free, but the rest of the download needs {needed}: make room, or choose "
            "another folder for the cache; what has arrived is kept"
        )
