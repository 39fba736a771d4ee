"""Windows of the ESA CCI Open Data Portal: described by the portal, read from the cache, fetched into it once.

A granule is known by what the portal says of its content (name, path, size, date of change, step), so that a new
edition of one year is fetched, and the other years aren't.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.pool import ThreadPool
from typing import Any
from urllib.parse import urlsplit

import numpy.typing as npt

from scs2_cubes.core.grid import Window
from scs2_cubes.core.native import NativeArray, NativeDataset
from scs2_cubes.core.specification import StoreSpec
from scs2_cubes.core.wording import counted
from scs2_cubes.errors import ConfigurationError, PreloadError, Scs2CubesError, SourceError
from scs2_cubes.preload.base import Tell, WantedWindow, WindowReport
from scs2_cubes.preload.claims import bury
from scs2_cubes.preload.telling import decimal
from scs2_cubes.preload.window_cache import Pieces, WindowCache
from scs2_cubes.preload.window_fetch import Layer, Missing, Tally, WindowFetch, layers_of, missing_of
from scs2_cubes.sources.esa_cci import EsaCciSource, Granule, listing_version
from scs2_cubes.storage import sweep

__all__ = ["EsaCciWindows"]


@dataclass(frozen=True)
class EsaCciWindows:
    """See :class:`scs2_cubes.preload.base.WindowPreload`. One for many calls: it knows files that it has looked at."""

    store: StoreSpec
    source: EsaCciSource
    cache: WindowCache

    @classmethod
    def open(cls, store: StoreSpec) -> EsaCciWindows:
        """Windows of ``store``, in its cache. No I/O. Raises ConfigurationError where the store has no cache.

        Parameters: those of :meth:`EsaCciSource.open`, and ``cache_size`` in bytes.
        """
        if store.cache is None:
            raise ConfigurationError(
                f"data store {store.identifier!r} has no cache, without which windows of a portal can't be read: name "
                "a folder as its store_params.cache"
            )
        return cls(store, EsaCciSource.open(store), WindowCache.open(store.cache))

    def describe(self, data_id: str) -> NativeDataset:
        """What the portal says of ``data_id``, to be read from the cache: arrays have the cache's pieces as chunks.

        Asks for the list of files, and for one file's structure, attributes and coordinates. Raises what
        :meth:`EsaCciSource.describe` raises.
        """
        native, granules = self.source.described(data_id)
        return replace(native, location=self.cache.location(data_id, [_fingerprint(one) for one in granules]))

    def fetch(self, native: NativeDataset, wanted: Sequence[WantedWindow], tell: Tell) -> WindowReport:
        """See :meth:`scs2_cubes.preload.base.WindowPreload.fetch`.

        Reads what the cache holds of ``wanted``, and asks the portal for nothing where that is all and good. Memory:
        one and a half times a reply of up to 64 MiB, for each of ``max_connections``.

        Raises PreloadError where ``wanted`` takes more room than the cache may have, or where the portal's list of
        files isn't that of ``native`` any more: both before any pixels are asked for.
        """
        started = time.monotonic()
        bury(self.cache.objects)
        pieces, layers = Pieces.at(native.location), layers_of(native, wanted)
        # By their size in memory: what they take once they are compressed isn't known yet.
        self.cache.require_fits(sum(layer.size for layer in layers), self._limit)
        with ThreadPool(self.source.files.max_connections) as pool:
            missing = [one for one in pool.map(partial(missing_of, pieces), layers) if one.blocks]
            pool.map(pieces.note_use, _shelves(pieces, layers))
        held = sum(len(layer.places) for layer in layers) - sum(len(one.layer.places) for one in missing)
        tally = self._download(native, pieces, layers, missing, tell) if missing else Tally(0, 0)
        return WindowReport(tally.requests, tally.fetched, held, time.monotonic() - started)

    @property
    def _limit(self) -> int:
        return int(self.store.params["cache_size"])

    def _download(
        self, native: NativeDataset, pieces: Pieces, layers: Sequence[Layer], missing: Sequence[Missing], tell: Tell
    ) -> Tally:
        data_id = _data_id(native)
        granules = self.source.granules(data_id)
        if listing_version(granules) != native.version or tuple(map(_fingerprint, granules)) != pieces.granules:
            raise self._changed(data_id)
        sweep(self.cache.spec)
        self._make_room(pieces, layers, sum(one.stored_bytes for one in missing), tell)
        self.cache.note_source(data_id, native.version)
        tally = Tally(len(missing), sum(one.wire_bytes for one in missing))

        def read(array: NativeArray, step: int, window: Window) -> npt.NDArray[Any]:
            return self.source.read_window(granules[step], array, window)

        tell(f"{data_id}: {_fields(native, missing)} to be fetched, {decimal(tally.bytes)} before compression")
        try:
            WindowFetch(pieces, read, self.source.files.max_connections, tell).run(missing, tally)
        except Scs2CubesError:
            # That the portal can't be asked now is the failure already.
            with suppress(SourceError):
                self._discard_replaced(data_id, pieces, missing)
            raise
        if self._discard_replaced(data_id, pieces, missing):
            raise self._changed(data_id)
        return tally

    def _make_room(self, pieces: Pieces, layers: Sequence[Layer], needed: int, tell: Tell) -> None:
        shelves, freed = self.cache.make_room(needed, _shelves(pieces, layers), self._limit)
        if shelves:
            tell(
                f"{shelves} windows ({decimal(freed)}) that weren't used for longest were dropped from "
                f"{self.cache.objects.shown('')}, which may have {decimal(self._limit)}"
            )

    def _discard_replaced(self, data_id: str, pieces: Pieces, fetched: Sequence[Missing]) -> bool:
        """Remove what was fetched of files that were replaced meanwhile: it may be of the one edition or the other.

        True where there were such files. Asks for the list of files.
        """
        present = set(map(_fingerprint, self.source.granules(data_id)))
        replaced = {one.layer.step for one in fetched if pieces.granules[one.layer.step] not in present}
        for step in replaced:
            pieces.discard(step)
        return bool(replaced)

    def _changed(self, data_id: str) -> PreloadError:
        return PreloadError(
            f"data store {self.store.identifier!r}, data_id {data_id!r}: the portal's list of files has changed since "
            f"it was described [{self.source.public_href(data_id)}]. Run again, which takes the new one"
        )


def _data_id(native: NativeDataset) -> str:
    return str(native.location.options["data_id"])


def _fields(native: NativeDataset, missing: Sequence[Missing]) -> str:
    """``20 fields (10 years x 2 variables)``, for people."""
    steps, names = {one.layer.step for one in missing}, {one.layer.array.name for one in missing}
    years = {native.times[step][:4] for step in steps}
    spans = counted(len(steps), "year" if len(years) == len(steps) else "time step")
    # Not a product where the cache holds some of them.
    sign = " x " if len(missing) == len(steps) * len(names) else ", "
    return f"{counted(len(missing), 'field')} ({spans}{sign}{counted(len(names), 'variable')})"


def _shelves(pieces: Pieces, layers: Sequence[Layer]) -> frozenset[str]:
    return frozenset(pieces.shelf(layer.array, layer.step, place) for layer in layers for place in layer.places)


def _fingerprint(granule: Granule) -> str:
    """What the portal says of a step's content; the path, because files in several folders may have one name."""
    said = [granule.name, urlsplit(granule.opendap_href).path, granule.size, granule.updated, granule.step]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]
