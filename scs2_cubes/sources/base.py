"""The seam to the archives: what every protocol client offers.

A protocol is one file in this room and one line in :data:`scs2_cubes.sources.PROTOCOLS`. Clients run where Dagster
runs; the :class:`ChunkReader` runs on the workers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import numpy.typing as npt

from scs2_cubes.core.native import NativeArray, NativeDataset

__all__ = ["ChunkReader", "DescribedSource", "Source", "read_chunk"]


class Source(Protocol):
    """A client for one store. Making it does no I/O."""

    def data_ids(self) -> Iterator[str]:
        """The ids of everything that the store holds, as users write them. Asks the network while it is iterated."""
        ...

    def probe(self, data_id: str) -> str:
        """The source version: what the source says about its present content. Asks for metadata, never for pixels.

        A source that doesn't answer, or not with what can be understood, is an error, never another version. Raises
        DataIdNotFoundError (naming the nearest ids), AccessDeniedError, SourceFormatError or SourceUnavailableError.
        """
        ...

    def newer_editions(self, data_id: str) -> tuple[str, ...]:
        """Data ids of newer editions of the same product that the source offers beside ``data_id``, the newest last.

        An edition is a product's own version number (GAMI v3.1); each has a data id of its own. New content under
        ``data_id`` itself isn't one: that is another source version, which :meth:`probe` tells. Asks for metadata, a
        few requests at most. Raises as :meth:`probe` does.
        """
        ...

    def public_href(self, data_id: str) -> str:
        """Public address of ``data_id``'s description, for people. No I/O."""
        ...


@runtime_checkable
class DescribedSource(Source, Protocol):
    """A source that can be read where it is, so that it also tells what its arrays look like.

    What another source holds can be described only once it has been fetched: that is ``preload``'s business.
    """

    def describe(self, data_id: str) -> NativeDataset:
        """Arrays, lattice and time axis of ``data_id``, from metadata and coordinates. Raises as :meth:`probe` does."""
        ...


class ChunkReader(Protocol):
    """Reads whole chunks of a location's arrays; safe to share between threads.

    Fetching waits, decoding computes: whoever reads may do the one ahead and side by side, and keep what was fetched.
    """

    def fetch_chunk(self, array: NativeArray, index: tuple[int, ...]) -> bytes | None:
        """The stored bytes of the chunk at ``index`` (chunk numbers, in the order of ``array.dims``): one request.

        None where the store doesn't hold that chunk, which means fill. Raises AccessDeniedError, or
        SourceUnavailableError after retries.
        """
        ...

    def decode_chunk(self, array: NativeArray, index: tuple[int, ...], encoded: bytes) -> npt.NDArray[Any]:
        """The chunk in native dtype from its stored bytes; numbers as stored, no scale applied. No I/O.

        Its shape is ``array.chunks``, less what hangs over the array's end. Raises SourceFormatError where the bytes
        can't be decoded.
        """
        ...


def read_chunk(reader: ChunkReader, array: NativeArray, index: tuple[int, ...]) -> npt.NDArray[Any] | None:
    """Fetch and decode one chunk; None where the store doesn't hold it. Raises as the two steps do."""
    encoded = reader.fetch_chunk(array, index)
    return None if encoded is None else reader.decode_chunk(array, index, encoded)
