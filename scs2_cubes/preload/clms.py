"""Preload of the Copernicus Land Monitoring Service: order, wait, download, unpack, and into the cache.

Each step begins where a killed run left off: the order is remembered beside the cache, a download goes on from its last
byte, an archive that is whole isn't fetched again, and of a cache only its record says that it is good.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from scs2_cubes.core.native import NativeDataset
from scs2_cubes.core.specification import PreloadSpec, StoreSpec
from scs2_cubes.errors import ConfigurationError, redact
from scs2_cubes.preload.archive_cache import ArchiveCache, CacheRecord
from scs2_cubes.preload.base import ArchiveReport, Tell
from scs2_cubes.preload.claims import Claim, Contender, bury, held
from scs2_cubes.preload.clms_delivery import Delivery
from scs2_cubes.preload.clms_orders import Ordering, Polling
from scs2_cubes.preload.mosaic import Mosaic
from scs2_cubes.preload.orders import Journal
from scs2_cubes.preload.telling import decimal, progress_lines
from scs2_cubes.sources.clms import ClmsSource, OfferedFile
from scs2_cubes.sources.http import is_local

__all__ = ["ClmsPreload"]


@dataclass(frozen=True)
class ClmsPreload:
    """Orders files of the service and keeps them in the store's cache. Safe to share between threads."""

    source: ClmsSource
    cache: ArchiveCache
    polling: Polling = field(default_factory=Polling)

    @classmethod
    def open(cls, store: StoreSpec) -> Self:
        """For ``store``, which has a cache. No I/O; credentials are read when something is ordered.

        Raises ConfigurationError where the store has no cache, or its address isn't one.
        """
        if store.cache is None:
            raise ConfigurationError(
                f"data store {store.identifier!r} has no folder for its cache: give store_params.cache"
            )
        return cls(ClmsSource.open(store), ArchiveCache.open(store.cache))

    def describe(self, data_id: str) -> NativeDataset:
        """What the cache holds of ``data_id``, with or without ``.zarr``: reads no pixels, and asks no network.

        Raises NotPreloadedError where it isn't there whole, and StorageError.
        """
        return self.cache.describe(data_id.removesuffix(".zarr"))

    def fetch(self, spec: PreloadSpec, tell: Tell) -> ArchiveReport:
        """Make sure that the cache holds what the service offers now; where it does, nobody needs credentials.

        Waits for other runs that fetch the same, and for the service, each for ``spec.max_wait`` at most. Archives go
        to the cache's folder ``downloads``, or to a temporary folder where the cache isn't on a disk of this machine.

        Raises OrderPendingError where the order isn't ready in time, OrderFailedError where it has no delivery,
        PreloadError where another run takes too long, ConfigurationError where the credentials can't be used,
        SourceError's children, and StorageError.
        """
        started = time.monotonic()
        data_id = spec.data_id.removesuffix(".zarr")
        file = self.source.find(data_id)
        bury(self.cache.objects)
        record = None if spec.force else self._good(file, tell)
        if record is not None:
            self._tidy(spec, data_id, tell)
            return self._report(record, started)
        with held(self.cache.objects, data_id, tell=tell, max_wait=spec.max_wait) as claim:
            # Another run may have fetched it while this one waited, and the service may offer something new by now.
            file = self.source.find(data_id)
            record = None if spec.force else self._good(file, tell)
            if record is not None:
                return self._report(record, started)
            return self._fetch(spec, file, claim, tell, started)

    def _fetch(self, spec: PreloadSpec, file: OfferedFile, claim: Claim, tell: Tell, started: float) -> ArchiveReport:
        ordering = Ordering(self.source, self._journal, file, spec, claim, self.polling, tell)
        with self._folder(file.data_id) as folder:
            delivery = Delivery(self.source, ordering, file, folder, tell)
            record = self._convert(file, delivery.rasters(), claim, tell)
        claim.check()
        self._clear(spec, file.data_id)
        return self._report(record, started, ordering, delivery.downloaded)

    def _convert(self, file: OfferedFile, rasters: tuple[Path, ...], claim: Claim, tell: Tell) -> CacheRecord:
        shown = progress_lines(tell, f"{file.data_id}: written", lambda rows: f"{rows} rows")

        def on_progress(done: int, total: int | None) -> None:
            # Two that write at once would spoil each other's work.
            claim.check()
            shown(done, total)

        claim.check()
        mosaic = Mosaic.open(rasters)
        tell(f"{file.data_id}: writing {len(rasters)} raster{'s' if len(rasters) > 1 else ''} into the cache")
        record = self.cache.write(
            file.data_id,
            file.version,
            mosaic,
            variable=file.file,
            attrs={"long_name": file.title} if file.title else {},
            provenance={
                "clms_product": file.product,
                "clms_title": file.title,
                "clms_file": file.file,
                **_institution(mosaic),
            },
            href=file.href,
            on_progress=on_progress,
        )
        tell(f"{file.data_id}: the cache is good, {decimal(record.bytes)} in {redact(self._url(file.data_id))}")
        return record

    def _good(self, file: OfferedFile, tell: Tell) -> CacheRecord | None:
        """The cache's record where the cache holds what is offered, whole."""
        record = self.cache.record(file.data_id)
        if record is None or record.version != file.version:
            return None
        fault = self.cache.fault(file.data_id)
        if fault is not None:
            tell(f"{file.data_id}: the cache is damaged ({fault}); fetching it again")
            return None
        return record

    def _tidy(self, spec: PreloadSpec, data_id: str, tell: Tell) -> None:
        """Remove what a run left that was killed after the cache was good, unless another one is at it."""
        tell(f"{data_id}: the cache is good; nothing to order")
        if self._journal.get(data_id) is None:
            return
        claim = Contender(self.cache.objects, data_id).take()
        if claim is not None:
            with claim:
                self._clear(spec, data_id)

    def _clear(self, spec: PreloadSpec, data_id: str) -> None:
        if spec.cleanup:
            self.cache.clear_downloads(data_id)
        # Last: by what is remembered the next run knows that there may be something to clear.
        self._journal.clear(data_id)

    @property
    def _journal(self) -> Journal:
        return Journal(self.cache.objects)

    def _url(self, data_id: str) -> str:
        return self.cache.location(data_id).url

    @contextmanager
    def _folder(self, data_id: str) -> Iterator[Path]:
        """Where archives go: beside the cache, where they outlive this run, or to a temporary folder."""
        place = self.cache.downloads(data_id)
        if is_local(place):
            yield Path(place)
            return
        with tempfile.TemporaryDirectory(prefix="scs2-cubes-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)

    def _report(
        self, record: CacheRecord, started: float, ordering: Ordering | None = None, downloaded: int = 0
    ) -> ArchiveReport:
        return ArchiveReport(
            data_id=record.data_id,
            version=record.version,
            is_fresh=ordering is not None,
            task_id=ordering.task_id if ordering else None,
            is_reused=ordering.is_reused if ordering else False,
            waited=ordering.waited if ordering else 0.0,
            downloaded=downloaded,
            cache_url=redact(self._url(record.data_id)),
            cache_bytes=record.bytes,
            seconds=time.monotonic() - started,
        )


def _institution(mosaic: Mosaic) -> dict[str, str]:
    """Who made the rasters (TIFF 6.0, section 8, ``Artist``) in the words of CF 1.11, 2.6.2; where they say it."""
    artist = mosaic.tags.get("TIFFTAG_ARTIST", "").strip()
    return {"institution": artist} if artist else {}
