"""Pixels of a stored Zarr array, decoded by zarr-python from what the stored metadata say, chunk by chunk.

Bytes come from :mod:`scs2_cubes.storage.objects`, so that a failure to read is told from bytes that can't be decoded,
and so that what numcodecs doesn't survive can be refused before it gets there.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numcodecs
import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import BloscCodec
from zarr.core.metadata import ArrayV2Metadata
from zarr.storage import MemoryStore

from scs2_cubes.errors import StorageError

__all__ = ["RegionReader"]

#: What zarr and its codecs raise at metadata and bytes that they can't decode.
_UNDECODABLE = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, EOFError, OverflowError)
#: Documents of Zarr format 2.
_CONSOLIDATED, _GROUP = ".zmetadata", ".zgroup"
#: Where a Blosc buffer's header says how many bytes it has in all, and the header's size: c-blosc's README_HEADER.
_BLOSC_SIZE, _BLOSC_HEADER = slice(12, 16), 16


@dataclass(frozen=True)
class RegionReader:
    """Reads regions of a cube's arrays; its metadata were read once. For one thread."""

    group: zarr.Group
    """The cube as zarr-python sees it."""
    stored: dict[str, Any]
    """What zarr-python reads from: the metadata and, while it is decoded, one chunk."""
    get: Callable[[str], bytes | None]
    """Gives the bytes of a key, or None."""
    show: Callable[[str], str]
    """Gives a key's URL, for people."""
    root: str
    """Name of the consolidated metadata."""

    @classmethod
    def open(
        cls, root: tuple[str, bytes], get: Callable[[str], bytes | None], show: Callable[[str], str]
    ) -> RegionReader:
        """A reader that goes by ``root``: name and bytes of the consolidated metadata, as all readers do.

        Raises StorageError where they can't be decoded.
        """
        stored: dict[str, Any] = {root[0]: _buffer(root[1])}
        try:
            if root[0] == _CONSOLIDATED:
                # Beside the consolidated metadata zarr-python wants to see the group's own.
                stored[_GROUP] = _buffer(json.dumps(json.loads(root[1])["metadata"][_GROUP]).encode())
            group = zarr.open_group(MemoryStore(stored), mode="r", use_consolidated=True)
        except (*_UNDECODABLE, FileNotFoundError) as error:
            raise _undescribed(show(root[0]), "a cube", error) from error
        return cls(group, stored, get, show, root[0])

    def read(self, layer: str, region: tuple[slice, ...]) -> npt.NDArray[Any]:
        """``region`` of the array ``layer``, as it is stored; the array's fill where no chunk is.

        Raises StorageError where a chunk or what the metadata say of the array can't be decoded, and what getting
        bytes raises.
        """
        array = self._array(layer)
        values = np.empty([part.stop - part.start for part in region], array.dtype)
        for index in product(
            *(range(part.start // size, -(-part.stop // size)) for part, size in zip(region, array.chunks, strict=True))
        ):
            part, place = _part_of(index, array.chunks, region)
            values[place] = self._decoded(array, f"{layer}/{array.metadata.encode_chunk_key(index)}", part)
        return values

    def _array(self, layer: str) -> zarr.Array[Any]:
        try:
            array = self.group[layer]
        except (*_UNDECODABLE, FileNotFoundError) as error:
            raise _undescribed(self.show(self.root), repr(layer), error) from error
        if not isinstance(array, zarr.Array):
            raise StorageError(f"{layer!r} in {self.show(self.root)} is a group. Move the cube aside and run again")
        return array

    def _decoded(self, array: zarr.Array[Any], key: str, part: tuple[slice, ...]) -> Any:
        """``part`` of ``array``, which lies in the chunk ``key``."""
        encoded = self.get(key)
        if encoded is not None:
            self.stored[key] = _buffer(encoded)
        try:
            _require_whole_buffer(array, encoded)
            return array[part]
        except _UNDECODABLE as error:
            raise StorageError(
                f"chunk {self.show(key)} can't be decoded: {type(error).__name__}: {error}. Remove the tile's record, "
                "with `scs2-cubes check --forget`, and run again"
            ) from error
        finally:
            self.stored.pop(key, None)


def _undescribed(url: str, what: str, error: Exception) -> StorageError:
    return StorageError(
        f"{url} doesn't describe {what}: {type(error).__name__}: {error}. Move the cube aside with "
        "`scs2-cubes retire` and run again"
    )


def _part_of(
    index: tuple[int, ...], chunks: tuple[int, ...], region: tuple[slice, ...]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """(the part of ``region`` that lies in the chunk ``index``, the same counted from the region's start)."""
    parts = [
        slice(max(number * size, part.start), min((number + 1) * size, part.stop))
        for number, size, part in zip(index, chunks, region, strict=True)
    ]
    places = [slice(part.start - own.start, part.stop - own.start) for part, own in zip(parts, region, strict=True)]
    return tuple(parts), tuple(places)


def _buffer(value: bytes) -> Any:
    return zarr.core.buffer.default_buffer_prototype().buffer.from_bytes(value)


def _require_whole_buffer(array: zarr.Array[Any], encoded: bytes | None) -> None:
    """Raise ValueError where a Blosc buffer is shorter than it says: numcodecs would read what lies behind it."""
    metadata = array.metadata
    if isinstance(metadata, ArrayV2Metadata):
        is_blosc = isinstance(metadata.compressor, numcodecs.Blosc)
    else:
        is_blosc = isinstance(metadata.codecs[-1], BloscCodec)
    if encoded is None or not is_blosc:
        return
    size = int.from_bytes(encoded[_BLOSC_SIZE], "little")
    if len(encoded) < max(size, _BLOSC_HEADER):
        raise ValueError(f"{len(encoded)} bytes of a Blosc buffer that says it has {size}")
