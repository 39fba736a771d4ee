"""One protocol a file. Lists what there is, tells its version, describes it and reads windows of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from scs2_cubes.core.native import Location
from scs2_cubes.core.specification import StoreSpec
from scs2_cubes.errors import ConfigurationError
from scs2_cubes.sources.base import ChunkReader, Source, read_chunk
from scs2_cubes.sources.stac import StacSource
from scs2_cubes.sources.zarr_group import ZarrChunkReader

__all__ = ["PROTOCOLS", "ChunkReader", "Source", "open_reader", "open_source", "read_chunk"]

#: ``store_id`` of the configuration → client.
PROTOCOLS: Mapping[str, Callable[[StoreSpec], Source]] = MappingProxyType({"stac": StacSource.open})


def open_source(store: StoreSpec) -> Source:
    """Client for ``store``; no I/O. Raises ConfigurationError for a protocol that nobody speaks here."""
    try:
        client = PROTOCOLS[store.protocol]
    except KeyError:
        known = ", ".join(sorted(PROTOCOLS))
        message = f"data store {store.identifier!r}: store_id {store.protocol!r} isn't one of {known}"
        raise ConfigurationError(message) from None
    return client(store)


def open_reader(location: Location) -> ChunkReader:
    """Reader of the arrays at ``location``; no I/O."""
    return ZarrChunkReader.open(location)
