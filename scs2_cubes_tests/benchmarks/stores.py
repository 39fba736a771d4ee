"""Writes the sources, once: stores that declare their global shapes and hold only the chunks around a window.

Zarr format 2, consolidated, Blosc zstd level 3 with bit shuffle, as the catalogue's writers leave them. What isn't
stored reads as fill, so the number of chunks that a client has to reckon with is the real one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import numpy.typing as npt
import zarr
from pyproj import CRS

from scs2_cubes.core.grid import Grid, Window
from scs2_cubes.core.transform import index_map
from scs2_cubes_tests.benchmarks.layouts import ArrayLayout, SourceLayout
from scs2_cubes_tests.benchmarks.pixels import PIXELS, Pixels
from scs2_cubes_tests.benchmarks.products import data_id

__all__ = ["ensure_source", "needed_window", "step_numbers", "write_catalogue"]

#: Pixels around the window that are there as well: other contenders read with wider margins than ours.
_SURROUNDINGS = 64
_COORDINATE_CHUNK = 50_625


def write_catalogue(root: Path, layouts: tuple[SourceLayout, ...]) -> None:
    """Write a static STAC catalogue of one item with one Zarr asset for each source."""
    root.mkdir(parents=True, exist_ok=True)
    links = [{"rel": "item", "href": f"./{data_id(layout)}", "type": "application/geo+json"} for layout in layouts]
    catalogue = {"type": "Catalog", "stac_version": "1.1.0", "id": "benchmark", "description": "Synthetic sources"}
    (root / "catalog.json").write_text(json.dumps(catalogue | {"links": links}))
    for layout in layouts:
        (root / data_id(layout)).write_text(json.dumps(_item(layout)))


def needed_window(layout: SourceLayout, grid: Grid) -> Window:
    """The source pixels that a target grid needs. Raises ValueError where there are none."""
    window = index_map(layout.lattice, grid.lattice).source_window(grid.lattice.window)
    if window is None:
        raise ValueError(f"the target {grid.bbox} lies outside {layout.item}: choose another --scale")
    return window


def step_numbers(layout: SourceLayout, steps: int | None) -> tuple[int, ...]:
    """Positions on the source's time axis of the last ``steps``; without a time axis (0,)."""
    if layout.time_dim is None:
        return (0,)
    count = len(layout.times)
    return tuple(range(max(0, count - (steps or count)), count))


def ensure_source(root: Path, layout: SourceLayout, grid: Grid, steps: tuple[int, ...]) -> None:
    """Write whatever of a source's store isn't there yet for ``grid`` and the time ``steps``."""
    group = zarr.open_group(str(root / f"{layout.item}.zarr"), mode="a", zarr_format=2)
    if "complete" not in group.attrs:
        _write_metadata(group, layout)
    for array in layout.arrays:
        make = PIXELS.get(array.name)
        if make is not None:
            folder = root / f"{layout.item}.zarr" / array.name
            _write_pixels(folder, group[array.name], layout, array, make, needed_window(layout, grid), steps)


def _item(layout: SourceLayout) -> dict[str, Any]:
    asset = {"href": f"./{layout.item}.zarr", "type": "application/vnd.zarr", "roles": ["data"]}
    stamps = [f"{stamp[:10]}T00:00:00Z" for stamp in layout.times] or ["2015-01-01T00:00:00Z"]
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": layout.item,
        "geometry": None,
        "properties": {"datetime": stamps[-1]},
        "links": [],
        "assets": {"zarr": asset},
    }


def _write_metadata(group: zarr.Group, layout: SourceLayout) -> None:
    for array in layout.arrays:
        attrs = {"_ARRAY_DIMENSIONS": list(array.dims), "grid_mapping": layout.crs_variable, **array.attrs}
        group.create_array(
            array.name,
            shape=array.shape,
            chunks=array.chunks,
            dtype=array.dtype,
            fill_value=array.fill,
            compressors=numcodecs.Blosc("zstd", 3, numcodecs.Blosc.BITSHUFFLE),
            attributes=attrs,
            config={"write_empty_chunks": True},
            overwrite=True,
        )
    for name, values, attrs in _coordinates(layout):
        chunks = tuple(min(size, _COORDINATE_CHUNK) for size in values.shape)
        written = group.create_array(
            name,
            shape=values.shape,
            chunks=chunks,
            dtype=values.dtype,
            fill_value=None,
            attributes=attrs,
            overwrite=True,
        )
        written[...] = values
    group.attrs.update({"title": f"Synthetic {layout.item}", "complete": 1})
    zarr.consolidate_metadata(group.store)


def _coordinates(layout: SourceLayout) -> Iterator[tuple[str, npt.NDArray[Any], dict[str, Any]]]:
    lattice = layout.lattice
    crs = CRS.from_user_input(lattice.crs)
    axes = {str(axis["axis"]): axis for axis in crs.cs_to_cf()}
    y_axis, x_axis = axes.get("Y", {}), axes.get("X", {})
    yield layout.y_dim, lattice.y_centres(), {"_ARRAY_DIMENSIONS": [layout.y_dim], **y_axis}
    yield layout.x_dim, lattice.x_centres(), {"_ARRAY_DIMENSIONS": [layout.x_dim], **x_axis}
    wkt = {"crs_wkt": crs.to_wkt(), "spatial_ref": crs.to_wkt()}
    yield layout.crs_variable, np.array(0), {"_ARRAY_DIMENSIONS": [], **crs.to_cf(), **wkt}
    if layout.times:
        seconds = np.array(layout.times, "datetime64[s]").astype(np.int64)
        attrs = {"units": "seconds since 1970-01-01", "calendar": "proleptic_gregorian"}
        dims = ["time"] if layout.time_dim else []
        yield "time", seconds if dims else seconds[0].reshape(()), {"_ARRAY_DIMENSIONS": dims, **attrs}
    for dim, size in {d: n for a in layout.arrays for d, n in zip(a.dims, a.shape, strict=True)}.items():
        if dim == "members":
            yield dim, np.arange(size), {"_ARRAY_DIMENSIONS": [dim]}


def _write_pixels(
    folder: Path,
    stored: Any,
    layout: SourceLayout,
    array: ArrayLayout,
    make: Pixels,
    window: Window,
    steps: tuple[int, ...],
) -> None:
    for index in product(*_chunk_numbers(layout, array, window, steps)):
        if (folder / ".".join(map(str, index))).exists():
            continue
        block = {
            dim: slice(number * size, min((number + 1) * size, length))
            for dim, number, size, length in zip(array.dims, index, array.chunks, array.shape, strict=True)
        }
        stored[tuple(block[dim] for dim in array.dims)] = _chunk(layout, array, make, block)


def _chunk_numbers(
    layout: SourceLayout, array: ArrayLayout, window: Window, steps: tuple[int, ...]
) -> Iterator[range | list[int]]:
    """Chunk numbers along each dimension."""
    spans = {
        layout.y_dim: (window.row_start - _SURROUNDINGS, window.row_stop + _SURROUNDINGS),
        layout.x_dim: (window.col_start - _SURROUNDINGS, window.col_stop + _SURROUNDINGS),
    }
    for dim, size, length in zip(array.dims, array.chunks, array.shape, strict=True):
        if dim in spans:
            start, stop = max(0, spans[dim][0]), min(length, spans[dim][1])
            yield range(start // size, -(-stop // size))
        elif dim == "time":
            yield sorted({step // size for step in steps})
        else:
            yield range(-(-length // size))


def _chunk(layout: SourceLayout, array: ArrayLayout, make: Pixels, block: dict[str, slice]) -> npt.NDArray[Any]:
    """Values of one chunk, in the array's own order of dimensions."""
    pixels = (block[layout.y_dim], block[layout.x_dim])
    steps = block.get("time", slice(0, 1))
    members = block.get("members", slice(0, 1))
    planes = np.stack(
        [make(pixels, step, range(members.start, members.stop)) for step in range(steps.start, steps.stop)]
    )
    have = ["time", *(["members"] if "members" in block else []), layout.y_dim, layout.x_dim]
    if "time" not in block:
        planes, have = planes[0], have[1:]
    return planes.transpose([have.index(dim) for dim in array.dims])
