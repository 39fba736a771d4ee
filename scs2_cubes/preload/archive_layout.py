"""A fetched raster as a Zarr group, format 2: its documents, and the bytes of its chunks. Nothing is stored here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numcodecs
import numpy as np
import numpy.typing as npt
import zarr
from pyproj import CRS
from zarr.storage import MemoryStore

from scs2_cubes.core.grid import Lattice, Window
from scs2_cubes.errors import PreloadError
from scs2_cubes.preload.mosaic import Mosaic

__all__ = ["ArchiveLayout"]

_GRID_MAPPING = "spatial_ref"
_DIMS = ("y", "x")
_CHUNK = 2048
#: Tags that become attributes. A list of those that mustn't would never end: a file's tag with a name of CF's or of
#: xarray's (scale_factor, units, calendar, flag_values, bounds …) changes what readers take its pixels for.
_TAGS = frozenset({"AREA_OR_POINT", "DataType", "LAYER_TYPE", "RepresentationType"})
#: Those of TIFF itself, by GDAL's names: copyright, software, date …
_TIFF_TAGS = "TIFFTAG_"


@dataclass(frozen=True)
class ArchiveLayout:
    """One array (y, x) in native dtype on its lattice, with CF coordinates of the pixels' centres."""

    variable: str
    lattice: Lattice
    dtype: str
    fill: float | None
    """The number that means "no value", or None. Chunks that hold nothing else are stored, too."""
    attrs: Mapping[str, Any]
    chunk: int = _CHUNK
    """Rows and columns of a chunk."""

    @classmethod
    def of(cls, mosaic: Mosaic, variable: str, attrs: Mapping[str, Any]) -> ArchiveLayout:
        """Layout of ``mosaic``, whose tags ``attrs`` are added to. No I/O.

        Raises PreloadError where ``variable`` can't be the name of an array in this group.
        """
        if not variable or "/" in variable or variable.startswith(".") or variable in {*_DIMS, _GRID_MAPPING}:
            raise PreloadError(f"{variable!r} can't be the name of the variable: it must be a plain name of its own")
        tags = {name: value for name, value in mosaic.tags.items() if name in _TAGS or name.startswith(_TIFF_TAGS)}
        return cls(variable, mosaic.lattice, mosaic.dtype, mosaic.nodata, {**tags, **attrs})

    def documents(self) -> dict[str, bytes]:
        """Key → bytes of metadata and coordinates, the consolidated metadata last."""
        store: dict[str, Any] = {}
        memory = MemoryStore(store)
        group = zarr.create_group(memory, zarr_format=2, attributes={"Conventions": "CF-1.11"})
        group.create_array(
            self.variable,
            shape=self.lattice.shape,
            chunks=(self.chunk, self.chunk),
            dtype=np.dtype(self.dtype).newbyteorder("<"),
            # In format 2 the array's fill_value is CF's _FillValue, by xarray's convention.
            fill_value=None if self.fill is None else np.dtype(self.dtype).type(self.fill),
            compressors=self._codec(),
            attributes={
                "_ARRAY_DIMENSIONS": list(_DIMS),
                **self.attrs,
                "coordinates": _GRID_MAPPING,
                "grid_mapping": _GRID_MAPPING,
            },
        )
        self._create_coordinates(group)
        zarr.consolidate_metadata(memory)
        found = {key: value.to_bytes() for key, value in store.items()}
        return {**{key: found[key] for key in sorted(found) if key != ".zmetadata"}, ".zmetadata": found[".zmetadata"]}

    def chunks(self, window: Window, values: npt.NDArray[Any]) -> Iterator[tuple[str, bytes]]:
        """Key and bytes of every chunk of ``window``, which starts where a chunk does.

        Also of those without values: they take a few bytes, and one that is absent is known to be lost.

        ``values`` (rows, columns) are those of the window, which ends where a chunk or the lattice does.
        """
        for row in range(0, window.height, self.chunk):
            for col in range(0, window.width, self.chunk):
                part = values[row : row + self.chunk, col : col + self.chunk]
                number = (window.row_start + row) // self.chunk, (window.col_start + col) // self.chunk
                yield f"{self.variable}/{number[0]}.{number[1]}", self._encode(part)

    def _encode(self, part: npt.NDArray[Any]) -> bytes:
        # Zarr stores whole chunks, also where they hang over the array's end.
        whole = np.full((self.chunk, self.chunk), 0 if self.fill is None else self.fill, self.dtype)
        whole[: part.shape[0], : part.shape[1]] = part
        return bytes(self._codec().encode(whole.astype(whole.dtype.newbyteorder("<"), copy=False)))

    @staticmethod
    def _codec() -> Any:
        # Measured on class codes: level 1 is as small as higher ones, and faster than Blosc.
        return numcodecs.Zstd(level=1, checksum=True)

    def _create_coordinates(self, group: zarr.Group) -> None:
        crs = CRS.from_user_input(self.lattice.crs)
        names = (
            ("latitude", "longitude") if crs.is_geographic else ("projection_y_coordinate", "projection_x_coordinate")
        )
        axes = {axis["standard_name"]: axis for axis in crs.cs_to_cf()}
        centres = (self.lattice.y_centres(), self.lattice.x_centres())
        for dim, name, values in zip(_DIMS, names, centres, strict=True):
            _fill(group, dim, (dim,), values, axes.get(name, {"standard_name": name}))
        _fill(group, _GRID_MAPPING, (), np.array(0, dtype="int64"), _grid_mapping(self.lattice, crs))


def _grid_mapping(lattice: Lattice, crs: CRS) -> dict[str, Any]:
    wkt = crs.to_wkt()
    numbers = (lattice.x_origin, lattice.dx, 0.0, lattice.y_origin, 0.0, lattice.dy)
    # GDAL and rioxarray read spatial_ref and GeoTransform beside CF's crs_wkt.
    return {**crs.to_cf(), "crs_wkt": wkt, "spatial_ref": wkt, "GeoTransform": " ".join(repr(n) for n in numbers)}


def _fill(
    group: zarr.Group, name: str, dims: tuple[str, ...], values: npt.NDArray[Any], attrs: Mapping[str, Any]
) -> None:
    array = group.create_array(
        name,
        shape=values.shape,
        chunks=values.shape,
        dtype=values.dtype,
        # Coordinates have no fill: xarray would mask the value that equals it.
        fill_value=None,
        compressors=None,
        attributes={"_ARRAY_DIMENSIONS": list(dims), **attrs},
        config={"write_empty_chunks": True},
    )
    array[...] = values
