"""Zarr format 2 stores that exist only as descriptions: a key goes in, the bytes of that object come out.

Layout of a store after the specification of format 2 (https://zarr-specs.readthedocs.io/en/latest/v2/v2.0.html) and
its consolidated metadata; keys of chunks are their indices joined by dots.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numcodecs import Blosc

__all__ = ["BITSHUFFLED_ZSTD", "SHUFFLED_LZ4", "ArraySpec", "Block", "StoreSpec", "Values", "unchanging", "whole"]

#: Half-open block of an array: one slice per dimension, in the order of its dims, clipped to its shape.
Block = tuple[slice, ...]
Values = Callable[[Block, int], npt.NDArray[Any]]

#: Codec configurations as the catalogue's writers leave them: pixels, and coordinates.
BITSHUFFLED_ZSTD: Final[Mapping[str, Any]] = {"blocksize": 0, "clevel": 3, "cname": "zstd", "id": "blosc", "shuffle": 2}
SHUFFLED_LZ4: Final[Mapping[str, Any]] = {"blocksize": 0, "clevel": 5, "cname": "lz4", "id": "blosc", "shuffle": 1}

_CHUNK_KEY: Final = re.compile(r"(?:0|[1-9][0-9]{0,8})(?:\.(?:0|[1-9][0-9]{0,8}))*")


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """One array of a store."""

    name: str
    """Its name, which is also the first part of its keys."""
    dims: tuple[str, ...]
    """Names of its dimensions; empty for a scalar."""
    shape: tuple[int, ...]
    """Sizes, in the order of ``dims``."""
    chunks: tuple[int, ...]
    """Sizes of a chunk, in the order of ``dims``."""
    dtype: str
    """numpy type string with byte order, for example ``<i2``."""
    fill: float | str | None
    """``fill_value`` as it stands in the JSON: a number, ``"NaN"`` or None."""
    codec: Mapping[str, Any] | None
    """numcodecs configuration; None for uncompressed chunks."""
    attrs: Mapping[str, Any]
    """Attributes other than ``_ARRAY_DIMENSIONS``."""
    values: Values
    """Values of a block in a given edition, of the block's shape."""
    present: tuple[range, ...] | None = None
    """Indices of the chunks that exist, one range per dimension; None where all do."""

    @property
    def zarray(self) -> dict[str, Any]:
        """Content of ``.zarray``."""
        return {
            "chunks": list(self.chunks),
            "compressor": None if self.codec is None else dict(self.codec),
            "dtype": self.dtype,
            "fill_value": self.fill,
            "filters": None,
            "order": "C",
            "shape": list(self.shape),
            "zarr_format": 2,
        }

    @property
    def zattrs(self) -> dict[str, Any]:
        """Content of ``.zattrs``."""
        return {"_ARRAY_DIMENSIONS": list(self.dims), **self.attrs}

    def has_chunk(self, index: tuple[int, ...]) -> bool:
        """Whether the chunk of that index exists."""
        if len(index) != len(self.shape):
            return False
        present = self.present or tuple(
            range(math.ceil(n / chunk)) for n, chunk in zip(self.shape, self.chunks, strict=True)
        )
        return all(i in indices for i, indices in zip(index, present, strict=True))

    def chunk(self, index: tuple[int, ...], edition: int) -> bytes:
        """Encoded chunk. At the array's far edge it is padded with the fill value, or zero where there is none."""
        block = tuple(
            slice(i * chunk, min((i + 1) * chunk, n))
            for i, chunk, n in zip(index, self.chunks, self.shape, strict=True)
        )
        fill = 0 if self.fill is None else float(self.fill)
        full = np.full(self.chunks, fill, dtype=self.dtype)
        full[tuple(slice(0, part.stop - part.start) for part in block)] = self.values(block, edition)
        return _encode(full, self.codec)


@dataclass(frozen=True, slots=True)
class StoreSpec:
    """One store: a group with its arrays."""

    arrays: Callable[[int], tuple[ArraySpec, ...]]
    """Its arrays in a given edition; cheap, because every request asks for them."""
    attrs: Callable[[int], Mapping[str, Any]]
    """Attributes of the group in a given edition."""

    def has(self, key: str, edition: int) -> bool:
        """Whether an edition has an object of that key (without a leading slash); computes no values."""
        if key in {".zmetadata", ".zgroup", ".zattrs"}:
            return True
        array, rest = self._split(key, edition)
        if array is None:
            return False
        if rest in {".zarray", ".zattrs"}:
            return True
        index = _chunk_index(rest, array)
        return index is not None and array.has_chunk(index)

    def read(self, key: str, edition: int) -> bytes:
        """Bytes of the object of that key. Raises KeyError where there is none."""
        if not self.has(key, edition):
            raise KeyError(key)
        if key == ".zmetadata":
            return _dump({"metadata": self._metadata(edition), "zarr_consolidated_format": 1})
        array, rest = self._split(key, edition)
        if array is None or rest in {".zarray", ".zattrs"}:
            return _dump(self._metadata(edition)[key])
        index = _chunk_index(rest, array)
        if index is None:
            raise KeyError(key)
        return array.chunk(index, edition)

    def _metadata(self, edition: int) -> dict[str, dict[str, Any]]:
        documents: dict[str, dict[str, Any]] = {".zattrs": dict(self.attrs(edition)), ".zgroup": {"zarr_format": 2}}
        for array in self.arrays(edition):
            documents[f"{array.name}/.zarray"] = array.zarray
            documents[f"{array.name}/.zattrs"] = array.zattrs
        return documents

    def _split(self, key: str, edition: int) -> tuple[ArraySpec | None, str]:
        name, _, rest = key.partition("/")
        return next((array for array in self.arrays(edition) if array.name == name), None), rest


def unchanging(*arrays: ArraySpec) -> Callable[[int], tuple[ArraySpec, ...]]:
    """Arrays of a store that has the same ones, of the same shapes, in every edition."""
    return lambda _edition: arrays


def whole(values: npt.NDArray[Any]) -> Values:
    """Value function of a small array that is the same in every edition."""

    def part(block: Block, _edition: int) -> npt.NDArray[Any]:
        return np.asarray(values[block])

    return part


def _chunk_index(key: str, array: ArraySpec) -> tuple[int, ...] | None:
    if _CHUNK_KEY.fullmatch(key) is None:
        return None
    if not array.shape:
        # The only chunk of a scalar has the key "0", though it has no dimension.
        return () if key == "0" else None
    return tuple(int(part) for part in key.split("."))


def _encode(values: npt.NDArray[Any], codec: Mapping[str, Any] | None) -> bytes:
    if codec is None:
        return values.tobytes()
    # In one Blosc block: several would be compressed by several threads and stored in the order in which these finish,
    # so that the same values could give other bytes.
    blosc = Blosc(cname=codec["cname"], clevel=codec["clevel"], shuffle=codec["shuffle"], blocksize=values.nbytes)
    return bytes(blosc.encode(np.ascontiguousarray(values)))


def _dump(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=4, sort_keys=True).encode("ascii")
