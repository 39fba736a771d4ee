"""The seam to what must lie near before it can be read: ordered archives, and windows of portals.

Both kinds describe what they hold as a source does, so that nothing downstream knows the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from scs2_cubes.core.grid import Window
from scs2_cubes.core.native import NativeDataset
from scs2_cubes.core.specification import PreloadSpec

__all__ = ["ArchivePreload", "ArchiveReport", "Tell", "WantedWindow", "WindowPreload", "WindowReport"]

#: Takes one line for people, at a human rhythm.
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ArchiveReport:
    """What preloading one archive came to."""

    data_id: str
    """Which."""
    version: str
    """Version that the source says it has, and that the cache holds now."""
    is_fresh: bool
    """True where it was fetched now; False where the cache was good already."""
    task_id: str | None
    """The service's order, where there was one."""
    is_reused: bool
    """True where an order of an earlier run, or of somebody else with this account, was used."""
    waited: float
    """Seconds until it was ready."""
    downloaded: int
    """Bytes downloaded now."""
    cache_url: str
    """Where the cache lies."""
    cache_bytes: int
    """Its size."""
    seconds: float
    """Wall time in all."""


@dataclass(frozen=True, slots=True)
class WantedWindow:
    """Pixels that a partition needs of one array."""

    array: str
    """Name of the array."""
    steps: tuple[int, ...]
    """Positions on the source's time axis."""
    window: Window
    """Rows and columns on the source's lattice."""


@dataclass(frozen=True, slots=True)
class WindowReport:
    """What fetching windows came to."""

    requests: int
    """Data requests made."""
    fetched: int
    """Bytes of pixels fetched now, as they travelled."""
    held: int
    """Pieces that the cache held already."""
    seconds: float
    """Wall time."""


class ArchivePreload(Protocol):
    """Orders and fetches whole datasets. Making it does no I/O."""

    def fetch(self, spec: PreloadSpec, tell: Tell) -> ArchiveReport:
        """Make sure that the cache holds what the source has now; nothing is ordered where it does already.

        Waits for the service. Raises PreloadError's children, SourceError's, and StorageError.
        """
        ...

    def describe(self, data_id: str) -> NativeDataset:
        """What the cache holds of ``data_id``; asks no network. Raises NotPreloadedError where it isn't there whole."""
        ...


class WindowPreload(Protocol):
    """Fetches the windows that a partition needs, each once. Making it does no I/O."""

    def describe(self, data_id: str) -> NativeDataset:
        """Arrays, lattice and time axis, from the source's metadata; its location is the cache."""
        ...

    def fetch(self, native: NativeDataset, wanted: Sequence[WantedWindow], tell: Tell) -> WindowReport:
        """Make sure that the cache holds ``wanted``; what it holds already isn't asked for again.

        Raises SourceError's children, PreloadError where the source has changed since ``native`` was described, and
        StorageError.
        """
        ...
