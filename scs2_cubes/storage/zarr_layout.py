"""A cube as Zarr: the documents that describe it, and the bytes of one chunk. Pure: nothing is read or written here.

zarr-python makes every byte, in a memory store, so that what lies in storage is what zarr-python would have written,
while how it gets there (atomic puts of whole objects) is :mod:`scs2_cubes.storage.objects`' business.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numcodecs
import numpy as np
import numpy.typing as npt
import zarr
from pyproj import CRS
from zarr.codecs import BloscCodec, BloscShuffle, ZstdCodec
from zarr.storage import MemoryStore

from scs2_cubes.core.cube import CubeLayer, CubeSchema
from scs2_cubes.core.grid import Tile

__all__ = [
    "GRID_MAPPING",
    "chunk_key",
    "chunks_of_tile",
    "describe",
    "encode_chunk",
    "is_metadata",
    "spatial_dims",
    "with_attributes",
]

#: Name of the CF grid-mapping coordinate.
GRID_MAPPING = "spatial_ref"

_V2 = 2
_TIME_UNITS = "seconds since 1970-01-01"
#: Time grows at its end without a second chunk until then.
_TIME_CHUNK = 512


def spatial_dims(crs: str) -> tuple[str, str]:
    """(row, column) dimension names: ``lat``, ``lon`` for a geographic CRS, else ``y``, ``x``."""
    return ("lat", "lon") if CRS.from_user_input(crs).is_geographic else ("y", "x")


def describe(schema: CubeSchema) -> dict[str, bytes]:
    """Key → bytes of everything but pixels: metadata, coordinates, and the consolidated metadata last.

    The same schema gives the same bytes, whoever creates the cube, however often.
    """
    store: dict[str, Any] = {}
    memory = MemoryStore(store)
    group = zarr.create_group(memory, zarr_format=_format(schema), attributes=dict(schema.attrs))
    for layer in schema.layers:
        _create_layer(group, schema, layer)
    _create_coordinates(group, schema)
    return _consolidated(memory, store)


def with_attributes(schema: CubeSchema, attrs: Mapping[str, Any]) -> dict[str, bytes]:
    """The metadata documents of :func:`describe` with ``attrs`` added to the global attributes; no coordinates."""
    whole = replace(schema, attrs={**schema.attrs, **attrs})
    return {key: value for key, value in describe(whole).items() if is_metadata(key)}


def chunk_key(schema: CubeSchema, layer: CubeLayer, index: tuple[int, ...]) -> str:
    """Key of the chunk ``index`` = (step, chunk row, chunk column), or without the step where there is no time axis."""
    if schema.zarr_format == _V2:
        return f"{layer.name}/{'.'.join(str(number) for number in index)}"
    return f"{layer.name}/c/{'/'.join(str(number) for number in index)}"


def chunks_of_tile(schema: CubeSchema, step: int, tile: Tile) -> Iterator[tuple[tuple[int, ...], tuple[slice, slice]]]:
    """(chunk index, its rows and columns within the tile) of the chunks that make one plane of ``tile``."""
    rows, cols = schema.chunk_shape
    window = tile.window
    time = (step,) if schema.time_is_dim else ()
    for row in range(window.row_start // rows, -(-window.row_stop // rows)):
        for col in range(window.col_start // cols, -(-window.col_stop // cols)):
            first_row, first_col = row * rows - window.row_start, col * cols - window.col_start
            yield (*time, row, col), (slice(first_row, first_row + rows), slice(first_col, first_col + cols))


def encode_chunk(schema: CubeSchema, layer: CubeLayer, values: npt.NDArray[Any]) -> bytes:
    """Bytes of one chunk. ``values`` (rows, columns) may be smaller than a chunk at the southern and eastern edge."""
    shape = schema.chunk_shape
    if schema.zarr_format == _V2:
        # What zarr-python does, without the copy into a chunk of its own.
        encoded: bytes = _compressor(schema, layer).encode(_padded(values, shape, layer.fill))
        return encoded
    store: dict[str, Any] = {}
    # A chunk's bytes don't depend on where it lies, so an array of just one chunk stands for the real one.
    array = zarr.create_array(
        MemoryStore(store),
        name=layer.name,
        zarr_format=_format(schema),
        shape=shape,
        chunks=shape,
        dtype=layer.numpy_dtype,
        fill_value=layer.numpy_dtype.type(layer.fill),
        compressors=_compressor(schema, layer),
        config={"write_empty_chunks": True},
    )
    array[: values.shape[0], : values.shape[1]] = values
    key = f"{layer.name}/{array.metadata.encode_chunk_key((0, 0))}"
    whole: bytes = store[key].to_bytes()
    return whole


def _padded(values: npt.NDArray[Any], shape: tuple[int, int], fill: float) -> npt.NDArray[Any]:
    """A whole chunk, in C order."""
    if values.shape == shape:
        return np.ascontiguousarray(values)
    chunk = np.full(shape, fill, values.dtype)
    chunk[: values.shape[0], : values.shape[1]] = values
    return chunk


def _create_layer(group: zarr.Group, schema: CubeSchema, layer: CubeLayer) -> None:
    grid = schema.grid
    time: tuple[int, ...] = (len(schema.times),) if schema.time_is_dim else ()
    dims = (("time",) if schema.time_is_dim else ()) + spatial_dims(grid.crs)
    scalars = [GRID_MAPPING] + (["time"] if schema.times and not schema.time_is_dim else [])
    _create(
        group,
        schema,
        layer.name,
        dims,
        shape=(*time, grid.ny, grid.nx),
        chunks=(*((1,) if time else ()), *schema.chunk_shape),
        dtype=layer.numpy_dtype,
        fill_value=layer.numpy_dtype.type(layer.fill),
        compressors=_compressor(schema, layer),
        # In format 2 the array's fill_value is CF's _FillValue; in format 3 it must be said.
        attributes={
            **({} if schema.zarr_format == _V2 else {"_FillValue": _encoded_fill(layer)}),
            **layer.attrs,
            "coordinates": " ".join(scalars),
            "grid_mapping": GRID_MAPPING,
        },
    )


def _encoded_fill(layer: CubeLayer) -> Any:
    # As xarray encodes the attribute in format 3: base64 of the little-endian double for floats.
    import xarray.backends.zarr as xarray_zarr  # noqa: PLC0415  (heavy, and needed for format 3 only)

    return xarray_zarr.FillValueCoder.encode(layer.numpy_dtype.type(layer.fill), layer.numpy_dtype)


def _create_coordinates(group: zarr.Group, schema: CubeSchema) -> None:
    lattice = schema.grid.lattice
    crs = CRS.from_user_input(schema.grid.crs)
    y_dim, x_dim = spatial_dims(schema.grid.crs)
    axes = {(axis["standard_name"]): axis for axis in crs.cs_to_cf()}
    names = ("latitude", "longitude") if y_dim == "lat" else ("projection_y_coordinate", "projection_x_coordinate")
    for dim, name, centres in (
        (y_dim, names[0], lattice.y_centres()),
        (x_dim, names[1], lattice.x_centres()),
    ):
        _fill(group, schema, dim, (dim,), centres, axes.get(name, {"standard_name": name}))
    _fill(group, schema, GRID_MAPPING, (), np.array(0, dtype="int64"), _grid_mapping(schema, crs))
    if schema.times:
        stamps = np.array(schema.times, dtype="datetime64[s]").astype("int64")
        values = stamps if schema.time_is_dim else stamps[0]
        attrs = {"standard_name": "time", "units": _TIME_UNITS, "calendar": "proleptic_gregorian"}
        _fill(group, schema, "time", ("time",) if schema.time_is_dim else (), np.asarray(values), attrs)


def _grid_mapping(schema: CubeSchema, crs: CRS) -> dict[str, Any]:
    lattice = schema.grid.lattice
    numbers = (lattice.x_origin, lattice.dx, 0.0, lattice.y_origin, 0.0, lattice.dy)
    wkt = crs.to_wkt()
    # GDAL and rioxarray read spatial_ref and GeoTransform beside CF's crs_wkt.
    return {**crs.to_cf(), "crs_wkt": wkt, "spatial_ref": wkt, "GeoTransform": " ".join(repr(n) for n in numbers)}


def _fill(
    group: zarr.Group,
    schema: CubeSchema,
    name: str,
    dims: tuple[str, ...],
    values: npt.NDArray[Any],
    attrs: Mapping[str, Any],
) -> None:
    chunks = (_TIME_CHUNK,) if name == "time" and dims else values.shape
    array = _create(
        group,
        schema,
        name,
        dims,
        shape=values.shape,
        chunks=chunks,
        dtype=values.dtype,
        # Coordinates have no fill: xarray would mask the value that equals it.
        fill_value=None if schema.zarr_format == _V2 else values.dtype.type(0),
        compressors=None,
        attributes=dict(attrs),
        config={"write_empty_chunks": True},
    )
    array[...] = values


def _create(
    group: zarr.Group,
    schema: CubeSchema,
    name: str,
    dims: tuple[str, ...],
    *,
    attributes: dict[str, Any],
    **kwargs: Any,
) -> zarr.Array[Any]:
    if schema.zarr_format == _V2:
        return group.create_array(name, attributes={"_ARRAY_DIMENSIONS": list(dims), **attributes}, **kwargs)
    return group.create_array(name, attributes=attributes, dimension_names=dims, **kwargs)


def _compressor(schema: CubeSchema, layer: CubeLayer) -> Any:
    # Measured: for class codes plain zstd is faster than Blosc at the same size; quantities gain from the shuffle.
    classes = layer.numpy_dtype.kind in "iu"
    if schema.zarr_format == _V2:
        return numcodecs.Zstd(level=1) if classes else numcodecs.Blosc("zstd", 1, numcodecs.Blosc.SHUFFLE)
    if classes:
        return ZstdCodec(level=1)
    return BloscCodec(cname="zstd", clevel=1, shuffle=BloscShuffle.shuffle, typesize=layer.numpy_dtype.itemsize)


def _consolidated(memory: MemoryStore, store: dict[str, Any]) -> dict[str, bytes]:
    with warnings.catch_warnings():
        # Consolidated metadata isn't yet part of Zarr format 3's specification; xarray reads and writes it anyway.
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        zarr.consolidate_metadata(memory)
    documents = {key: value.to_bytes() for key, value in store.items()}
    root = ".zmetadata" if ".zmetadata" in documents else "zarr.json"
    return {**{key: documents[key] for key in sorted(documents) if key != root}, root: documents[root]}


def _format(schema: CubeSchema) -> Any:
    return schema.zarr_format


def is_metadata(key: str) -> bool:
    """True for keys of metadata documents, False for those of chunks."""
    return key.rsplit("/", 1)[-1] in {".zgroup", ".zattrs", ".zarray", ".zmetadata", "zarr.json"}
