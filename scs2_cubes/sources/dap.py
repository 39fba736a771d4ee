"""A client for files behind OPeNDAP: structure and attributes, and windows of arrays, by DAP2 over HTTP.

Why a reader of its own and not pydap (3.5.9): both were measured with windows of 512 x 512 and 2000 x 2600 Int16 from
one server of ready-made bytes on loopback, alone and with 4 threads.

- Speed: pydap takes 3 to 4 times as long alone, and 2 to 3 times with 4 threads, at twice the processor time. Either is
  far faster than the portal, so this alone would decide nothing.
- Memory: pydap's peak is 8 times the decoded window, this reader's 3.2 times: the encoded reply, which has twice the
  window's size, and the window.
- Errors: a body that was cut, with a length that agrees, is a bare ValueError of pydap's without an address; numbers
  beyond 16 bits, which only a garbled reply has, are wrapped around without a word. Neither is asked for again, and
  there is no place for the one retry policy, its ``Retry-After``, or a limit of connections.

pydap remains what the tests of the embedded server are held against.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import numpy as np
import numpy.typing as npt
import tenacity

from scs2_cubes.core.grid import Window
from scs2_cubes.core.native import RetryPolicy
from scs2_cubes.errors import DataIdNotFoundError, GridError, SourceFormatError, SourceUnavailableError
from scs2_cubes.sources.dap_format import (
    DapArray,
    DapSyntaxError,
    decode_reply,
    find_array,
    parse_das,
    parse_dds,
    reported_error,
)
from scs2_cubes.sources.http import TransientAnswerError, refuse_status, retry_arguments, rewrite
from scs2_cubes.sources.transport import http_client, read_body

__all__ = ["DapArray", "DapClient", "DapFile"]

_T = TypeVar("_T")

_OK = 200
_MISSING = frozenset({404, 410})
#: Bytes that a structure, an attribute table or an error document may have.
_MAX_DOCUMENT = 4 * 2**20
#: Bytes that a reply may have beside its values: a few lines of structure.
_MAX_HEADER = 65_536
#: Codes of error documents that are HTTP's; others are the server's own.
_HTTP_ERRORS = range(400, 600)


@dataclass(frozen=True, slots=True)
class DapFile:
    """What a file says of itself."""

    url: str
    """Its OPeNDAP address, without suffix, before it is rewritten."""
    structure: tuple[DapArray, ...]
    """Its arrays and scalars; those of a Grid with its name before theirs."""
    attributes: Mapping[str, Any]
    """Attributes by variable, as :func:`parse_das` has them."""

    def find(self, name: str) -> DapArray | None:
        """The array of that name; None where there is none."""
        return find_array(self.structure, name)

    def attributes_of(self, name: str) -> dict[str, Any]:
        """Attributes of a variable: those of a Grid and of the array in it."""
        entry = self.attributes.get(name)
        if not isinstance(entry, dict):
            return {}
        inner = entry.get(name)
        own = {key: value for key, value in entry.items() if not isinstance(value, dict)}
        return {**own, **(inner if isinstance(inner, dict) else {})}


@dataclass(frozen=True)
class DapClient:
    """Asks OPeNDAP servers, with at most ``max_connections`` at a time. Safe to share between threads.

    I/O happens in the methods alone. Every one of them raises DataIdNotFoundError at once where there is no such file,
    AccessDeniedError, SourceFormatError where the answer is sound but another one than was asked for, and
    SourceUnavailableError after retries: by ``policy``, for what may pass, which a cut, garbled, shorter or longer
    reply is, too. What failed never becomes fill.
    """

    policy: RetryPolicy
    """For every request."""
    rewrites: tuple[tuple[str, str], ...] = ()
    """(prefix, replacement), longest first: addresses are asked for at the replacement."""
    max_connections: int = 4
    """How many requests are under way at once; further threads wait for their turn."""
    _made: dict[str, httpx.Client] = field(default_factory=dict, init=False, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    def __reduce__(self) -> tuple[object, ...]:
        # A copy in another process has connections of its own.
        return type(self), (self.policy, self.rewrites, self.max_connections)

    def structure(self, url: str) -> tuple[DapArray, ...]:
        """The file's arrays and scalars: one request for ``.dds``."""
        return self._ask(f"{url}.dds", lambda reply: parse_dds(_text(reply)), _MAX_DOCUMENT)

    def open(self, url: str) -> DapFile:
        """Structure and attributes: one request for ``.dds`` and one for ``.das``."""
        structure = self.structure(url)
        return DapFile(url, structure, self._ask(f"{url}.das", lambda reply: parse_das(_text(reply)), _MAX_DOCUMENT))

    def read(self, url: str, parts: Sequence[tuple[DapArray, tuple[slice, ...]]]) -> list[npt.NDArray[Any]]:
        """The chosen parts of arrays, each in its native dtype and rank, by one request for ``.dods``.

        The slices (start and stop, in the order of ``DapArray.dims``; no steps) must lie within the array and not be
        empty. Memory: the encoded reply (twice the size of Int16) and the values.
        """
        wanted = [_part(array, slices) for array, slices in parts]
        projection = ",".join(_projected(array, slices) for array, slices in parts)
        address = f"{url}.dods?{quote(projection, safe=':,.%~')}"
        if any(part.dtype == "str" for part in wanted):
            raise SourceFormatError(f"{projection}: text isn't read, numbers are", url=address)
        limit = _MAX_HEADER + sum(part.encoded_size for part in wanted)

        def decode(reply: bytearray) -> list[npt.NDArray[Any]]:
            try:
                return _matched(decode_reply(reply), wanted, address)
            except DapSyntaxError as error:
                raise DapSyntaxError(f"{projection}: {error}") from error

        return self._ask(address, decode, limit)

    def read_window(self, url: str, array: DapArray, window: Window, step: int = 0) -> npt.NDArray[Any]:
        """``window`` of a step of ``array`` (y, x) or (one other dimension, y, x), shape (rows, columns).

        One request; native dtype, undecoded: the number for "no value" is in it as the file has it. Raises GridError
        for an empty window, or one that isn't within the array.
        """
        rows, cols = window.slices
        extra = len(array.shape) - 2
        if extra not in {0, 1} or window.is_empty or not _within(window, step, array):
            raise GridError(f"{window!r} of step {step} isn't a part of {array.path}, shape {array.shape}")
        leading = (slice(step, step + 1),) * extra
        (values,) = self.read(url, [(array, (*leading, rows, cols))])
        plane: npt.NDArray[Any] = values.reshape(window.shape)
        return plane

    def _ask(self, url: str, understand: Callable[[bytearray], _T], limit: int) -> _T:
        address = rewrite(url, self.rewrites)
        result: _T = tenacity.Retrying(**retry_arguments(self.policy, address))(
            self._ask_once, address, understand, limit
        )
        return result

    def _ask_once(self, address: str, understand: Callable[[bytearray], _T], limit: int) -> _T:
        reply = self._fetch(address, limit)
        try:
            return understand(reply)
        except DapSyntaxError as error:
            refused = reported_error(reply)
            if refused is None:
                raise TransientAnswerError(f"the reply isn't sound: {error}") from error
            # Servers also send their errors with the status of success.
            code, said = refused
            if code is not None and code in _HTTP_ERRORS:
                _refuse(code, {}, address, said)
            raise TransientAnswerError(f"error {code} instead of data: {said}") from error

    def _fetch(self, address: str, limit: int) -> bytearray:
        """The body of a successful answer."""
        try:
            with self._client().stream("GET", address) as answer:
                if answer.status_code != _OK:
                    body = read_body(answer, _MAX_DOCUMENT, self.policy.deadline)
                    refused = reported_error(body)
                    _refuse(answer.status_code, answer.headers, address, refused[1] if refused else "")
                    raise TransientAnswerError(f"HTTP {answer.status_code}")
                return read_body(answer, limit, self.policy.deadline)
        except (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.TooManyRedirects) as error:
            raise SourceUnavailableError(f"can't be asked for: {type(error).__name__}", url=address) from error
        except httpx.RequestError as error:
            raise TransientAnswerError(f"{type(error).__name__}: {error}") from error

    def _client(self) -> httpx.Client:
        with self._lock:
            if not self._made:
                self._made["client"] = client = http_client(self.policy, max_connections=self.max_connections)
                weakref.finalize(self, client.close)
            return self._made["client"]


def _refuse(status: int, headers: Mapping[str, str], address: str, said: str) -> None:
    if status in _MISSING:
        reason = f": {said}" if said else ""
        raise DataIdNotFoundError(f"HTTP {status}: there is no such file or variable{reason}", url=address)
    refuse_status(status, headers, address, said)


def _text(reply: bytearray) -> str:
    try:
        return reply.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DapSyntaxError("it isn't text") from error


def _within(window: Window, step: int, array: DapArray) -> bool:
    n_rows, n_cols = array.shape[-2:]
    steps = array.shape[0] if len(array.shape) > 2 else 1  # noqa: PLR2004  (rows and columns)
    return (
        0 <= step < steps
        and window.row_start >= 0
        and window.col_start >= 0
        and window.row_stop <= n_rows
        and window.col_stop <= n_cols
    )


def _part(array: DapArray, slices: tuple[slice, ...]) -> DapArray:
    """What a reply must declare for a part of ``array``."""
    shape = tuple(part.stop - part.start for part in slices)
    return DapArray(array.path, array.dtype, array.dims, shape)


def _projected(array: DapArray, slices: tuple[slice, ...]) -> str:
    """``agb.agb[0:1:0][100:1:611][0:1:511]``: start, stride and inclusive stop (DAP 2.0, section 5.2)."""
    return array.path + "".join(f"[{part.start}:1:{part.stop - 1}]" for part in slices)


def _matched(
    values: Mapping[str, npt.NDArray[Any]], wanted: Sequence[DapArray], address: str
) -> list[npt.NDArray[Any]]:
    """``values`` in the order of ``wanted``.

    Servers wrap the array of a Grid into a Structure, or don't: only the last part of the path counts. Raises
    SourceFormatError where other arrays, shapes or dtypes came than were asked for.
    """
    by_name = {path.rpartition(".")[2]: array for path, array in values.items()}
    found = {name: (array.dtype.name, array.shape) for name, array in by_name.items()}
    asked = {part.name: (np.dtype(part.dtype).name, part.shape) for part in wanted}
    if found != asked or len(values) != len(wanted):
        raise SourceFormatError(f"the reply holds {found}, asked was for {asked}; has the file changed?", url=address)
    return [by_name[part.name] for part in wanted]
