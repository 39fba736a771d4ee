"""A Zarr group that holds arrays on one lattice: described from its metadata, read chunk by chunk.

Metadata and coordinates are read as CF says: ``grid_mapping`` names the variable with the CRS, ``_FillValue``,
``scale_factor`` and ``add_offset`` describe the stored numbers. What real writers leave out is looked for where they
put it: the CRS may be in a coordinate, in a data variable, or in a global attribute ``spatial_ref``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import lzma
import zlib
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cftime
import numpy as np
import numpy.typing as npt
import zarr
from numcodecs import Blosc
from zarr.codecs import BloscCodec
from zarr.core.metadata import ArrayV2Metadata, ArrayV3Metadata
from zarr.core.sync import sync
from zarr.errors import GroupNotFoundError
from zarr.storage import MemoryStore, StorePath

from scs2_cubes.core.grid import Lattice
from scs2_cubes.core.native import Location, NativeArray, NativeCoordinate, NativeDataset
from scs2_cubes.errors import GridError, NotPreloadedError, SourceFormatError, redact
from scs2_cubes.sources.array_store import KnownStore, RetryingStore, open_store
from scs2_cubes.sources.reference_system import normal_crs

__all__ = ["METADATA_KEYS", "ZarrChunkReader", "content_version", "describe_group"]

_V2 = 2
#: Documents that begin a store, the most telling first.
METADATA_KEYS = (".zmetadata", "zarr.json", ".zgroup")
#: Largest array beside the lattice that is read for users' functions: time axes and members, not another product.
_COORDINATE_SIZE = 10_000
_AXIS_PAIRS = (("y", "x"), ("latitude", "longitude"), ("lat", "lon"))
#: What xarray itself reads from the attributes, or what only describes the encoding: no concern of a cube's.
_ENCODING_ATTRS = frozenset(
    {"_ARRAY_DIMENSIONS", "_FillValue", "missing_value", "scale_factor", "add_offset", "coordinates", "grid_mapping"}
)
#: What zarr, its codecs and CF's decoders raise at bytes that they can't decode.
_UNDECODABLE = (
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    EOFError,
    OverflowError,
    lzma.LZMAError,
    zlib.error,
)
#: Where a Blosc buffer's header says how many bytes it has in all, and the header's size.
_BLOSC_SIZE, _BLOSC_HEADER = slice(12, 16), 16


def content_version(location: Location) -> str:
    """Fingerprint of the group's own metadata document: one request.

    Where metadata aren't consolidated, it is that of the arrays' documents, too, for which the store has to be listed.
    The content is hashed, not the ETag or the date, because those differ between a store and its mirror.
    Raises SourceFormatError where there is no Zarr group, or where the document isn't one of Zarr's: what a proxy says,
    or half a document, would be another version otherwise.
    """
    store = open_store(location)
    key, document = _root_document(store, location)
    _require_metadata(key, document, location)
    return _version(store, location, key, document)


def describe_group(
    location: Location, *, href: str, provenance: Mapping[str, str], version: str | None = None
) -> NativeDataset:
    """Describe the Zarr group at ``location``: reads metadata and coordinates, no pixels.

    ``version``: None takes that of :func:`content_version`. Raises SourceFormatError where
    there is no Zarr group, no pair of spatial axes or no CRS, where something can't be decoded, and with GridError's
    message within it where the coordinates aren't evenly spaced.
    """
    try:
        return _describe(location, href, version, provenance)
    except _UNDECODABLE as error:
        raise SourceFormatError(
            f"metadata or coordinates can't be decoded: {type(error).__name__}: {error}", url=location.url
        ) from error


def _describe(location: Location, href: str, version: str | None, provenance: Mapping[str, str]) -> NativeDataset:
    store = open_store(location)
    key, document = _root_document(store, location)
    group = _open_group(store, location, key, document)
    arrays = dict(group.arrays())
    y_dim, x_dim = _spatial_dims(arrays, location)
    gridded = {name: array for name, array in arrays.items() if {y_dim, x_dim} <= set(_dims(array))}
    if not gridded:
        raise SourceFormatError(f"no array has the dimensions {y_dim} and {x_dim}", url=location.url)
    crs = _find_crs(group, arrays, gridded)
    if crs is None:
        raise SourceFormatError("no coordinate reference system found in grid_mapping or spatial_ref", url=location.url)
    try:
        lattice = Lattice.from_centres(crs, _values(arrays[x_dim]), _values(arrays[y_dim]))
    except GridError as error:
        raise SourceFormatError(str(error), url=location.url) from error
    time_dim, times = _time_axis(arrays, gridded, location.url)
    return NativeDataset(
        location=location,
        href=href,
        arrays=tuple(_native_array(name, array) for name, array in sorted(gridded.items())),
        lattice=lattice,
        y_dim=y_dim,
        x_dim=x_dim,
        version=_version(store, location, key, document) if version is None else version,
        time_dim=time_dim,
        times=times,
        coordinates=tuple(_native_coordinates(arrays, gridded.keys() | {y_dim, x_dim})),
        attrs={name: value for name, value in group.attrs.items() if name not in _ENCODING_ATTRS},
        provenance=provenance,
    )


@dataclass(frozen=True)
class ZarrChunkReader:
    """Chunks of a Zarr group's arrays. Opens each array from the description, so opening costs no request."""

    store: RetryingStore
    url: str
    complete: bool = False
    """See :attr:`scs2_cubes.core.native.Location.complete`."""

    @classmethod
    def open(cls, location: Location) -> ZarrChunkReader:
        """Reader for ``location``; nothing is asked for yet."""
        return cls(open_store(location), location.url, location.complete)

    def fetch_chunk(self, array: NativeArray, index: tuple[int, ...]) -> bytes | None:
        """See :class:`scs2_cubes.sources.base.ChunkReader`.

        Where every chunk is stored, NotPreloadedError is raised for one that isn't there.
        """
        key = _chunk_key(_parsed(array.metadata), array.name, index)
        try:
            found = sync(self.store.get(key, zarr.core.buffer.default_buffer_prototype()))
        except SourceFormatError as error:
            # The whole group is gone.
            if self.complete:
                raise self._replaced(key) from error
            raise
        if found is None and self.complete:
            raise self._replaced(key)
        return None if found is None else found.to_bytes()

    def _replaced(self, key: str) -> NotPreloadedError:
        return NotPreloadedError(
            f"{key} isn't in {redact(self.url)} any more: the cache was replaced or cleared since it was described. "
            "Run again, which reads what is there now, or fetches what is missing"
        )

    def decode_chunk(self, array: NativeArray, index: tuple[int, ...], encoded: bytes) -> npt.NDArray[Any]:
        """See :class:`scs2_cubes.sources.base.ChunkReader`."""
        metadata = _parsed(array.metadata)
        part = tuple(
            slice(0, min(size, length - number * size))
            for number, size, length in zip(index, array.chunks, array.shape, strict=True)
        )
        try:
            if isinstance(metadata, ArrayV2Metadata):
                return _decode_v2(metadata, encoded)[part]
            return _decode_v3(metadata, array.chunks, encoded)[part]
        # OSError is what bz2 raises at bytes that aren't its own; nothing is read here.
        except (*_UNDECODABLE, OSError) as error:
            key = _chunk_key(metadata, array.name, index)
            raise SourceFormatError(f"chunk can't be decoded: {error}", url=f"{self.url}/{key}") from error


@lru_cache(maxsize=64)
def _parsed(document: str) -> ArrayV2Metadata | ArrayV3Metadata:
    """An array's metadata from its document. Kept, because each of its chunks asks for it."""
    metadata = json.loads(document)
    return (ArrayV2Metadata if metadata["zarr_format"] == _V2 else ArrayV3Metadata).from_dict(metadata)


def _chunk_key(metadata: ArrayV2Metadata | ArrayV3Metadata, name: str, index: tuple[int, ...]) -> str:
    return f"{name}/{metadata.encode_chunk_key(index)}"


def _decode_v2(metadata: ArrayV2Metadata, encoded: bytes) -> npt.NDArray[Any]:
    """A whole chunk by its codecs alone: zarr-python would copy it once more into an array of its own."""
    if isinstance(metadata.compressor, Blosc):
        _require_whole_buffer(encoded)
    values: Any = encoded
    for codec in (metadata.compressor, *reversed(metadata.filters or ())):
        values = values if codec is None else codec.decode(values)
    dtype = metadata.dtype.to_native_dtype()
    pixels = np.asarray(values).view(dtype) if isinstance(values, np.ndarray) else np.frombuffer(values, dtype)
    return pixels.reshape(metadata.chunks, order=metadata.order)


def _require_whole_buffer(encoded: bytes) -> None:
    """Raise ValueError where a Blosc buffer isn't as long as it says: numcodecs would read what lies behind it."""
    size = int.from_bytes(encoded[_BLOSC_SIZE], "little")
    if len(encoded) < _BLOSC_HEADER or size != len(encoded):
        raise ValueError(f"{len(encoded)} bytes of a Blosc buffer that says it has {size}")


def _decode_v3(metadata: ArrayV3Metadata, chunks: tuple[int, ...], encoded: bytes) -> npt.NDArray[Any]:
    """A whole chunk, or shard, as an array of just one."""
    if not encoded:
        # To zarr-python an empty shard is one that isn't there.
        raise ValueError("no bytes at all")
    if isinstance(metadata.codecs[-1], BloscCodec):
        _require_whole_buffer(encoded)
    origin = tuple(0 for _ in chunks)
    stored = {metadata.encode_chunk_key(origin): zarr.core.buffer.default_buffer_prototype().buffer.from_bytes(encoded)}
    alone = ArrayV3Metadata.from_dict({**metadata.to_dict(), "shape": list(chunks)})
    array = zarr.Array(zarr.AsyncArray(metadata=alone, store_path=StorePath(MemoryStore(stored))))
    return np.asarray(array[...])


def _root_document(store: RetryingStore, location: Location) -> tuple[str, bytes]:
    """(key, content) of the document that tells most about the group: one request where metadata are consolidated."""
    for key in METADATA_KEYS:
        document = sync(store.get(key, zarr.core.buffer.default_buffer_prototype()))
        if document is not None:
            return key, document.to_bytes()
    raise SourceFormatError("there is no Zarr group: none of " + ", ".join(METADATA_KEYS), url=location.url)


def _version(store: RetryingStore, location: Location, key: str, document: bytes) -> str:
    """Fingerprint of the root ``document``, and where it doesn't tell everything of the arrays' documents as well."""
    return _fingerprint(document if _is_consolidated(key, document) else _documents(store, location, key, document))


def _is_consolidated(key: str, document: bytes) -> bool:
    """Whether one document tells everything; one that can't be read is told by whoever takes it apart."""
    try:
        return key == ".zmetadata" or bool(json.loads(document).get("consolidated_metadata"))
    except (ValueError, AttributeError):
        return True


def _documents(store: RetryingStore, location: Location, key: str, document: bytes) -> bytes:
    """The documents of group and arrays, as one text."""
    try:
        group = _open_group(store, location, key, document)
        found = {name: [_metadata_document(array), dict(array.attrs)] for name, array in group.arrays()}
    except _UNDECODABLE as error:
        raise SourceFormatError(
            f"metadata can't be decoded: {type(error).__name__}: {error}", url=location.url
        ) from error
    if not found:
        raise SourceFormatError(
            "its metadata aren't consolidated, and no array is listed in it: consolidate them", url=location.url
        )
    return json.dumps([dict(group.attrs), found], sort_keys=True, default=str).encode()


def _require_metadata(key: str, document: bytes, location: Location) -> None:
    """Raise unless ``document`` is what Zarr's specifications call for under ``key``."""
    try:
        content = json.loads(document)
    except ValueError as error:
        raise SourceFormatError(f"{key} isn't JSON: {error}", url=location.url) from error
    wanted = {".zmetadata": "metadata", "zarr.json": "node_type"}.get(key, "zarr_format")
    if not isinstance(content, dict) or not content.get(wanted):
        raise SourceFormatError(f"{key} isn't metadata of a Zarr group: it has no {wanted!r}", url=location.url)


def _fingerprint(document: bytes) -> str:
    return hashlib.sha256(document).hexdigest()


def _open_group(store: RetryingStore, location: Location, key: str, document: bytes) -> zarr.Group:
    # zarr asks for each of these by itself, although the consolidated metadata hold them.
    known = {key: document}
    if key == ".zmetadata":
        inner = json.loads(document)["metadata"]
        known |= {name: json.dumps(inner.get(name, {})).encode() for name in (".zgroup", ".zattrs")}
    try:
        return zarr.open_group(KnownStore(store, known), mode="r", zarr_format=3 if key == "zarr.json" else 2)
    except (GroupNotFoundError, FileNotFoundError) as error:
        raise SourceFormatError("there is no Zarr group", url=location.url) from error


def _native_array(name: str, array: zarr.Array[Any]) -> NativeArray:
    attrs: dict[str, Any] = dict(array.attrs)
    declared = attrs.get("_FillValue", attrs.get("missing_value"))
    return NativeArray(
        name=name,
        dims=_dims(array),
        shape=array.shape,
        # What is stored as one object: a shard, where there are shards.
        chunks=array.shards or array.chunks,
        dtype=array.dtype.name,
        fill=_number(declared if declared is not None else _declared_fill(array)),
        absent=_number(array.metadata.fill_value),
        scale=float(attrs.get("scale_factor", 1.0)),
        offset=float(attrs.get("add_offset", 0.0)),
        attrs={key: value for key, value in attrs.items() if key not in _ENCODING_ATTRS},
        encoding={key: attrs[key] for key in _ENCODING_ATTRS & attrs.keys() if key != "_ARRAY_DIMENSIONS"},
        metadata=_metadata_document(array),
    )


def _native_coordinates(arrays: Mapping[str, zarr.Array[Any]], known: AbstractSet[str]) -> Iterator[NativeCoordinate]:
    for name, array in sorted(arrays.items()):
        if name not in known and array.size <= _COORDINATE_SIZE:
            attrs: dict[str, Any] = dict(array.attrs)
            attrs.pop("_ARRAY_DIMENSIONS", None)
            yield NativeCoordinate(name, _dims(array), np.asarray(array[...]), attrs)


def _declared_fill(array: zarr.Array[Any]) -> Any:
    # In format 2 the array's fill_value is CF's _FillValue, by xarray's convention. In format 3 it is only what an
    # absent chunk reads as, and _FillValue is an attribute.
    return array.metadata.fill_value if array.metadata.zarr_format == _V2 else None


def _metadata_document(array: zarr.Array[Any]) -> str:
    buffers = array.metadata.to_buffer_dict(zarr.core.buffer.default_buffer_prototype())
    document = json.loads(buffers[".zarray" if ".zarray" in buffers else "zarr.json"].to_bytes())
    return json.dumps(document, sort_keys=True)


def _number(value: Any) -> float | None:
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, str) and value.endswith("="):
        # xarray's spelling of _FillValue in format 3: base64 of a little-endian double.
        return float(np.frombuffer(base64.b64decode(value), "<f8")[0])
    return None if value is None else float(value)


def _dims(array: zarr.Array[Any]) -> tuple[str, ...]:
    if isinstance(array.metadata, ArrayV2Metadata):
        names: Sequence[str] = array.attrs.get("_ARRAY_DIMENSIONS", ())  # type: ignore[assignment]  # JSON
    else:
        names = [name or "" for name in array.metadata.dimension_names or ()]
    return tuple(names)


def _spatial_dims(arrays: Mapping[str, zarr.Array[Any]], location: Location) -> tuple[str, str]:
    for y_dim, x_dim in _AXIS_PAIRS:
        if y_dim in arrays and x_dim in arrays:
            return y_dim, x_dim
    known = ", ".join(f"{y}/{x}" for y, x in _AXIS_PAIRS)
    raise SourceFormatError(f"no spatial coordinates {known} among {', '.join(sorted(arrays))}", url=location.url)


def _find_crs(
    group: zarr.Group, arrays: Mapping[str, zarr.Array[Any]], gridded: Mapping[str, zarr.Array[Any]]
) -> str | None:
    names = [str(array.attrs["grid_mapping"]) for array in gridded.values() if "grid_mapping" in array.attrs]
    candidates: list[Any] = []
    for name in [*names, "spatial_ref", "crs"]:
        if name in arrays:
            attrs = arrays[name].attrs
            candidates += [attrs.get("crs_wkt"), attrs.get("spatial_ref")]
    candidates += [group.attrs.get("spatial_ref"), group.attrs.get("crs")]
    for candidate in candidates:
        if isinstance(candidate, str) and (text := normal_crs(candidate)):
            return text
    return None


def _values(array: zarr.Array[Any]) -> npt.NDArray[np.float64]:
    return np.asarray(array[...], dtype=np.float64)


def _time_axis(
    arrays: Mapping[str, zarr.Array[Any]], gridded: Mapping[str, zarr.Array[Any]], url: str
) -> tuple[str | None, tuple[str, ...]]:
    if "time" not in arrays:
        return None, ()
    array = arrays["time"]
    units, calendar = str(array.attrs.get("units", "")), str(array.attrs.get("calendar", "standard"))
    try:
        moments = cftime.num2pydate(np.atleast_1d(np.asarray(array[...])), units, calendar)
    except ValueError as error:
        raise SourceFormatError(f"time axis, units {units!r}, calendar {calendar!r}: {error}", url=url) from error
    stamps = np.asarray(moments, dtype="datetime64[s]")
    is_dim = any("time" in _dims(variable) for variable in gridded.values())
    return ("time" if is_dim else None), tuple(str(stamp) for stamp in stamps)
