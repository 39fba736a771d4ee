"""Order, fetch, cache: what must lie near before it can be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from scs2_cubes.core.native import Location, NativeDataset
from scs2_cubes.core.specification import StoreSpec
from scs2_cubes.preload.base import ArchivePreload, ArchiveReport, Tell, WantedWindow, WindowPreload, WindowReport
from scs2_cubes.preload.clms import ClmsPreload
from scs2_cubes.preload.esa_cci import EsaCciWindows
from scs2_cubes.preload.window_cache import FORM, WindowCacheReader
from scs2_cubes.sources import READERS as SOURCE_READERS
from scs2_cubes.sources import ChunkReader, open_described

__all__ = [
    "ARCHIVES",
    "READERS",
    "WINDOWS",
    "ArchivePreload",
    "ArchiveReport",
    "Tell",
    "WantedWindow",
    "WindowPreload",
    "WindowReport",
    "describe",
    "open_reader",
]

#: ``store_id`` → what fetches whole datasets.
ARCHIVES: Mapping[str, Callable[[StoreSpec], ArchivePreload]] = MappingProxyType({"clms": ClmsPreload.open})
#: ``store_id`` → what fetches windows.
WINDOWS: Mapping[str, Callable[[StoreSpec], WindowPreload]] = MappingProxyType({"cciodp": EsaCciWindows.open})
#: :attr:`scs2_cubes.core.native.Location.form` → what reads it.
READERS: Mapping[str, Callable[[Location], ChunkReader]] = MappingProxyType(
    {**SOURCE_READERS, FORM: WindowCacheReader.open}
)


def describe(store: StoreSpec, data_id: str) -> NativeDataset:
    """What ``store`` holds under ``data_id``: from its cache, or from the source where that is read in place.

    Reads metadata and coordinates, no pixels. Raises NotPreloadedError, and what the source's own ``describe`` raises.
    """
    preload = ARCHIVES.get(store.protocol) or WINDOWS.get(store.protocol)
    return (preload or open_described)(store).describe(data_id)


def open_reader(location: Location) -> ChunkReader:
    """Reader of the arrays at ``location``, in a cache or at the source; no I/O."""
    return READERS[location.form](location)
