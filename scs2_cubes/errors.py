"""Every error that scs2_cubes raises on purpose, as one tree.

::

    Scs2CubesError
    ├── ConfigurationError          the configuration can't be read or doesn't hold together
    ├── GridError                   a grid, window or CRS that can't exist
    ├── SourceError                 something about a source; names its URL
    │   ├── SourceUnavailableError  no usable answer in spite of retries
    │   ├── AccessDeniedError       the source answers 401 or 403
    │   ├── DataIdNotFoundError     the source has no such data id
    │   └── SourceFormatError       the source answers something that can't be understood
    │       └── ArchiveLayoutError  an archive is laid out in a way that is refused: fetching it again won't help
    ├── PreloadError                what must lie near before it can be read couldn't be fetched
    │   ├── OrderFailedError        the service ended an order without a delivery
    │   ├── OrderPendingError       an order wasn't ready in time; it's remembered, the next run goes on waiting
    │   └── NotPreloadedError       it hasn't been fetched yet, or what was fetched isn't good any more
    ├── PlanError                   the cube that was asked for can't be made from this source
    ├── ProcessingError             a user's function failed or returned something unusable
    ├── StorageError                the cube's store can't be read or written
    │   ├── CubeIdentityError       another cube lies at the same place
    │   └── CubeNotFoundError       no cube lies there
    └── MaterializationError        one or more partitions of a cube could not be finished
        ├── TileError               one tile could not be made
        ├── CubeBusyError           another run makes the same, and didn't end in time
        ├── ClaimLostError          this run isn't the one any more that may write
        └── ChecksFailedError       a finished partition isn't right

Beside it stand two warnings (each a UserWarning) of a cube that is opened: IncompleteCubeWarning before all of it is
made, WrongCubeWarning where a blocking check has found it to be wrong.

A message names what, where, the offending value and what to do. None of them ever holds a secret: URLs are
passed through :func:`redact` before they reach a message, and what others say through :func:`redact_text`.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

__all__ = [
    "AccessDeniedError",
    "ArchiveLayoutError",
    "ChecksFailedError",
    "ClaimLostError",
    "ConfigurationError",
    "CubeBusyError",
    "CubeIdentityError",
    "CubeNotFoundError",
    "DataIdNotFoundError",
    "GridError",
    "IncompleteCubeWarning",
    "MaterializationError",
    "NotPreloadedError",
    "OrderFailedError",
    "OrderPendingError",
    "PlanError",
    "PreloadError",
    "ProcessingError",
    "Scs2CubesError",
    "SourceError",
    "SourceFormatError",
    "SourceUnavailableError",
    "StorageError",
    "TileError",
    "WrongCubeWarning",
    "redact",
    "redact_text",
]


#: Views of Plone, which begin with one or two of them: CLMS has ``/@search`` and ``/@@oauth2-token``.
_VIEW = re.compile(r"/@@?[a-z][a-z0-9_-]*(?=/|$)")
#: A host with or without a port.
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:@\[\]]+)(:[0-9]{0,5})?")
#: A URL in a text, to the next white space: quotes and brackets may be part of a password.
_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")


def redact(url: str) -> str:
    """Return ``url`` without what may be secret in it: user, password, query and fragment."""
    try:
        parts = urlsplit(url)
    except ValueError:
        # Not a URL that could be taken apart, so nothing of it is safe to show.
        return "…"
    if not parts.netloc:
        return url
    host = parts.netloc.rpartition("@")[2]
    if "@" in _VIEW.sub("", parts.path) or ("@" in parts.path and not _HOST.fullmatch(host)):
        # A password with an unescaped slash: what looks like the path holds the rest of it.
        return f"{parts.scheme}://…"
    query = "…" if parts.query else ""
    return urlunsplit((parts.scheme, host, parts.path, query, ""))


def redact_text(text: str) -> str:
    """Return ``text``, which others wrote, with every URL in it as :func:`redact` shows it."""
    return _IN_TEXT.sub(lambda found: redact(found[0]), text)


class Scs2CubesError(Exception):
    """Root of the tree: catch it to catch everything that this package raises on purpose."""


class ConfigurationError(Scs2CubesError):
    """The configuration can't be read or doesn't hold together."""


class GridError(Scs2CubesError, ValueError):
    """A grid, window or CRS that can't exist."""


class SourceError(Scs2CubesError):
    """Something about a source. ``url`` is the address, without its secrets."""

    def __init__(self, message: str, *, url: str) -> None:
        # Both go to Exception so that the error survives pickling on its way back from a worker.
        super().__init__(message, redact(url))

    @property
    def url(self) -> str:
        return str(self.args[1])

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_source_error, (type(self), self.args[0], self.args[1])

    def __str__(self) -> str:
        return f"{self.args[0]} [{self.url}]"


def _rebuild_source_error(cls: type[SourceError], message: str, url: str) -> SourceError:
    return cls(message, url=url)


class SourceUnavailableError(SourceError):
    """No usable answer in spite of retries; the message says how many attempts and the last answer."""


class AccessDeniedError(SourceError):
    """The source answers 401 or 403."""


class DataIdNotFoundError(SourceError):
    """The source has no such data id; the message names the nearest ones."""


class SourceFormatError(SourceError):
    """The source answers something that can't be understood."""


class ArchiveLayoutError(SourceFormatError):
    """An archive is laid out in a way that is refused; the message names what. Fetching it again won't help."""


class PreloadError(Scs2CubesError):
    """What must lie near before it can be read couldn't be fetched."""


class OrderFailedError(PreloadError):
    """The service ended an order without a delivery; names task, status, the service's message and the URL asked."""


class OrderPendingError(PreloadError):
    """An order wasn't ready in time; names the task, which the next run goes on waiting for."""


class NotPreloadedError(PreloadError):
    """It hasn't been fetched yet, or what was fetched isn't good any more; says what to run."""


class PlanError(Scs2CubesError):
    """The cube that was asked for can't be made from this source."""


class ProcessingError(Scs2CubesError):
    """A user's function failed or returned something unusable."""


class StorageError(Scs2CubesError):
    """The cube's store can't be read or written."""


class CubeIdentityError(StorageError):
    """Another cube lies at the same place; the message lists what differs."""


class CubeNotFoundError(StorageError):
    """No cube lies there."""


class IncompleteCubeWarning(UserWarning):
    """A cube was opened of which tiles aren't made yet; they read as no value."""


class WrongCubeWarning(UserWarning):
    """A cube was opened that a blocking check has found to be wrong; the message holds what it found."""


class MaterializationError(Scs2CubesError):
    """One or more partitions of a cube could not be finished; the message names each with its cause."""


class TileError(MaterializationError):
    """One tile could not be made; the message holds the cause, which may have happened in another process."""


class CubeBusyError(MaterializationError):
    """Another run makes the same partition, and didn't end in time; names its process, since when, and what to do."""


class ClaimLostError(MaterializationError):
    """A run has ended, or was taken for dead, and may not write any more; nothing is harmed."""


class ChecksFailedError(MaterializationError):
    """A finished partition isn't right; the message names the checks, what they found, and what to do."""
