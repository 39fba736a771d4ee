"""One protocol a file. Lists what there is, tells its version, describes it and reads windows of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from scs2_cubes.core.native import Location
from scs2_cubes.core.specification import StoreSpec
from scs2_cubes.errors import ConfigurationError
from scs2_cubes.sources.base import ChunkReader, DescribedSource, Source, read_chunk
from scs2_cubes.sources.clms import ClmsSource
from scs2_cubes.sources.esa_cci import EsaCciSource
from scs2_cubes.sources.files import FileSource
from scs2_cubes.sources.geotiff import FORM, TiffChunkReader
from scs2_cubes.sources.stac import StacSource
from scs2_cubes.sources.zarr_group import ZarrChunkReader

__all__ = [
    "PROTOCOLS",
    "READERS",
    "ChunkReader",
    "DescribedSource",
    "Source",
    "open_described",
    "open_reader",
    "open_source",
    "read_chunk",
]

#: ``store_id`` of the configuration → client.
PROTOCOLS: Mapping[str, Callable[[StoreSpec], Source]] = MappingProxyType(
    {
        "cciodp": EsaCciSource.open,
        "clms": ClmsSource.open,
        "file": FileSource.open,
        "https": FileSource.open,
        "s3": FileSource.open,
        "stac": StacSource.open,
    }
)

#: :attr:`scs2_cubes.core.native.Location.form` → what reads it, of what is read where it is.
READERS: Mapping[str, Callable[[Location], ChunkReader]] = MappingProxyType(
    {"zarr": ZarrChunkReader.open, FORM: TiffChunkReader.open}
)


def open_source(store: StoreSpec) -> Source:
    """Client for ``store``; no I/O. Raises ConfigurationError for a protocol that nobody speaks here."""
    try:
        client = PROTOCOLS[store.protocol]
    except KeyError:
        known = ", ".join(sorted(PROTOCOLS))
        message = f"data store {store.identifier!r}: store_id {store.protocol!r} isn't one of {known}"
        raise ConfigurationError(message) from None
    return client(store)


def open_described(store: StoreSpec) -> DescribedSource:
    """Client for ``store``, which is read where it is; no I/O.

    Raises ConfigurationError for a protocol that nobody speaks here, or whose datasets must be fetched first.
    """
    source = open_source(store)
    if not isinstance(source, DescribedSource):
        raise ConfigurationError(
            f"data store {store.identifier!r} can't be read where it is: what store_id {store.protocol!r} offers is "
            "ordered and fetched first. Name its data ids under preload_datasets, and read them from the cache"
        )
    return source


def open_reader(location: Location) -> ChunkReader:
    """Reader of the arrays at ``location``; no I/O."""
    return READERS[location.form](location)
