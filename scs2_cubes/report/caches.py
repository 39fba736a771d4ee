"""What lies in the stores' caches, and making room there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from types import MappingProxyType
from typing import Protocol

from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from scs2_cubes.core.specification import StorageSpec, StoreSpec
from scs2_cubes.errors import ConfigurationError, NotPreloadedError, redact
from scs2_cubes.preload import ARCHIVES
from scs2_cubes.preload.archive_cache import ArchiveCache, CacheEntry
from scs2_cubes.preload.claims import held
from scs2_cubes.preload.window_cache import WindowCache
from scs2_cubes.sources.missing import nearest_hint

__all__ = [
    "CACHES",
    "Cache",
    "cache_places",
    "cache_table",
    "clear_entries",
    "entries_of",
    "has_cache",
    "open_cache",
    "what_follows",
]


_LOGGER = logging.getLogger(__name__)

#: Seconds that clearing waits for a run which is at it; one that died on another host is thought to live for a minute.
_MAX_WAIT = 90.0


class Cache(Protocol):
    """What every kind of cache offers to people."""

    def entries(self) -> tuple[CacheEntry, ...]:
        """Everything that lies there, also what is unfinished. Reads the cache."""
        ...

    def clear(self, data_id: str) -> int:
        """Remove what belongs to ``data_id``; returns the bytes that are free now."""
        ...


#: ``store_id`` of the configuration → its kind of cache.
CACHES: Mapping[str, Callable[[StorageSpec], Cache]] = MappingProxyType(
    {"cciodp": WindowCache.open, "clms": ArchiveCache.open}
)


def has_cache(store: StoreSpec) -> bool:
    """Whether what ``store`` offers lies in a cache that can be looked at."""
    return store.protocol in CACHES and store.cache is not None


def open_cache(store: StoreSpec) -> Cache:
    """The cache of ``store``; no I/O. Raises ConfigurationError for a store that has none."""
    kind = CACHES.get(store.protocol)
    if kind is None or store.cache is None:
        raise ConfigurationError(
            f"data store {store.identifier!r} has no cache to look at; stores with store_id "
            f"{', '.join(sorted(CACHES))} have one"
        )
    return kind(store.cache)


def entries_of(store: StoreSpec, data_id: str | None = None) -> tuple[CacheEntry, ...]:
    """What lies in the cache of ``store``, of all data ids or of one, with or without ``.zarr``. Reads the cache.

    Raises NotPreloadedError, naming the nearest, where nothing of ``data_id`` lies there.
    """
    entries = open_cache(store).entries()
    if data_id is None:
        return entries
    wanted = data_id.removesuffix(".zarr")
    chosen = tuple(entry for entry in entries if entry.data_id == wanted)
    if not chosen:
        names = sorted({entry.data_id for entry in entries})
        hint = nearest_hint(wanted, names) or (f"; there are: {', '.join(names[:3])}" if names else "; it is empty")
        place = redact(store.cache.root) if store.cache else ""
        raise NotPreloadedError(f"data store {store.identifier!r}: nothing of {wanted!r} lies in {place}{hint}")
    return chosen


def what_follows(store: StoreSpec) -> str:
    """What it costs to clear the cache of ``store``, for people."""
    if store.protocol in ARCHIVES:
        return "The next run orders it anew, which may take hours"
    return "What cubes need of it is fetched anew when tiles are made"


def clear_entries(store: StoreSpec, entries: Iterable[CacheEntry], *, max_wait: float = _MAX_WAIT) -> int:
    """Remove ``entries`` from the cache of ``store``; returns the bytes that are free now.

    Waits for a run that is fetching one of them, at most ``max_wait`` seconds. Raises PreloadError where that is too
    short, and StorageError.
    """
    cache = open_cache(store)
    freed = 0
    for data_id in dict.fromkeys(entry.data_id for entry in entries):
        with _claimed(cache, data_id, max_wait):
            freed += cache.clear(data_id)
    return freed


def _claimed(cache: Cache, data_id: str, max_wait: float) -> AbstractContextManager[object]:
    """The claim that a run has which fetches ``data_id``, so that nothing goes while it is being written."""
    if isinstance(cache, ArchiveCache):
        return held(cache.objects, data_id, tell=_LOGGER.warning, max_wait=max_wait)
    # Of windows each piece is good or absent by itself: a run that misses one says so.
    return nullcontext()


def cache_table(entries: Iterable[tuple[str, CacheEntry]]) -> Table:
    """Store, data id, whether complete, size, version, of (store, entry)."""
    table = Table(title="Caches", title_justify="left")
    for name in ("store", "data id", "status", "size", "version"):
        # Broken rather than shortened: these are for copying.
        table.add_column(name, overflow="fold")
    for store, entry in entries:
        status = Text("complete", "green") if entry.complete else Text("unfinished", "yellow")
        table.add_row(Text(store), Text(entry.data_id), status, decimal(entry.bytes), Text(entry.version or ""))
    return table


def cache_places(entries: Iterable[tuple[str, CacheEntry]]) -> Iterator[str]:
    """A line for each of (store, entry): where it lies, in one piece, without secrets."""
    return (f"{entry.data_id}: {redact(entry.url)}" for _, entry in entries)
