"""The seam to the archives: what every protocol client offers.

A protocol is one file in this room and one line in :data:`scs2_cubes.sources.PROTOCOLS`. Clients run where Dagster
runs; the :class:`ChunkReader` runs on the workers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy.typing as npt

from scs2_cubes.core.native import NativeArray, NativeDataset

__all__ = ["ChunkReader", "Source"]


class Source(Protocol):
    """A client for one store. Making it does no I/O."""

    def data_ids(self) -> Iterator[str]:
        """The ids of everything that the store holds, as users write them. Asks the network while it is iterated."""
        ...

    def probe(self, data_id: str) -> str:
        """The source version: what the source says about its present content. Asks for metadata, never for pixels.

        Raises DataIdNotFoundError (naming the nearest ids), AccessDeniedError, SourceFormatError or
        SourceUnavailableError.
        """
        ...

    def describe(self, data_id: str) -> NativeDataset:
        """Arrays, lattice and time axis of ``data_id``, from metadata and coordinates. Raises as :meth:`probe` does."""
        ...

    def public_href(self, data_id: str) -> str:
        """Public address of ``data_id``'s description, for people. No I/O."""
        ...


class ChunkReader(Protocol):
    """Reads whole chunks of a location's arrays; safe to share between threads."""

    def read_chunk(self, array: NativeArray, index: tuple[int, ...]) -> npt.NDArray[Any] | None:
        """The chunk at ``index`` (chunk numbers, in the order of ``array.dims``), in native dtype, undecoded.

        Its shape is ``array.chunks``, less what hangs over the array's end. None where the store doesn't hold that
        chunk, which means fill. Raises AccessDeniedError, SourceFormatError where it can't be decoded, or
        SourceUnavailableError after retries.
        """
        ...
