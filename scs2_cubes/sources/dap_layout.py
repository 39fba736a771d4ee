"""A NetCDF file behind OPeNDAP as arrays on a lattice, as CF says, with what real files leave out.

Whether coordinates are the centres of cells or their edges is found out from the numbers that the file holds, never
computed from its header:

1. Where the axis has CF bounds (CF 1.11, section 7.1), the first cell's say it.
2. Otherwise CF's rule holds that coordinates are centres, except on axes in degrees with steps below 0.1 degree whose
   outer edges would then miss whole degrees, while they meet them if each number is the edge of its cell: 157500 rows
   of 1/1125 degree that begin at 80 are edges, those that begin at 79.99956 are centres. Coarser steps meet whole
   degrees too easily to tell anything.

For the 100 m product it isn't established which of both its files have.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cftime
import numpy as np
import numpy.typing as npt
from pyproj import CRS

from scs2_cubes.core.grid import Lattice
from scs2_cubes.core.native import NativeArray, NativeCoordinate
from scs2_cubes.errors import GridError, SourceFormatError
from scs2_cubes.sources.dap import DapArray, DapClient, DapFile
from scs2_cubes.sources.reference_system import normal_crs

__all__ = [
    "FileHeader",
    "Layout",
    "agreeing_array",
    "native_arrays",
    "read_header",
    "read_layout",
    "read_times",
    "steps_of",
]

Array = npt.NDArray[Any]

_AXIS_PAIRS = (("lat", "lon"), ("latitude", "longitude"), ("y", "x"))
_TIME = "time"
#: Rows and columns of the windows in which the cache holds what was read.
_CHUNK = 512
#: The same sets as for Zarr: what describes the encoding is no concern of a cube's.
_ENCODING_ATTRS = frozenset(
    {"_FillValue", "missing_value", "scale_factor", "add_offset", "coordinates", "grid_mapping"}
)
#: Degrees; see the module's docstring.
_FINE_STEP = 0.1
#: Part of a step by which an edge may miss a whole degree: headers with steps of twelve digits miss by 4e-6.
_EDGE_SLACK = 0.02


@dataclass(frozen=True, slots=True)
class Layout:
    """How a file's arrays lie."""

    lattice: Lattice
    """Its pixels, rows and columns in stored order."""
    y_dim: str
    """Name of the rows' dimension."""
    x_dim: str
    """Name of the columns' dimension."""
    steps: int
    """Time steps in the file."""
    arrays: tuple[DapArray, ...]
    """Those with the dimensions (y, x) or (time, y, x)."""
    corner: Mapping[str, tuple[float, float]]
    """Dimension → the first two coordinates as stored, with which other files are compared."""
    scalars: tuple[NativeCoordinate, ...]
    """The grid mapping, and what else has no dimension, a time excepted."""
    edges: tuple[str, ...]
    """Dimensions whose coordinates are the edges of cells, not their centres."""


@dataclass(frozen=True, slots=True, eq=False)
class _Axis:
    """A coordinate, as it was read."""

    name: str
    """Its name, which is its dimension's, too."""
    stored: npt.NDArray[np.float64]
    """All its numbers (n,)."""
    cell: Array | None
    """The CF bounds of its first cell (1, 2), where it has bounds."""

    @property
    def step(self) -> float:
        """Mean distance from one number to the next; 0 where there is only one, which the lattice refuses."""
        return float(self.stored[-1] - self.stored[0]) / max(1, len(self.stored) - 1)


def read_layout(client: DapClient, file: DapFile) -> Layout:
    """Layout of ``file``: one request, which reads both coordinates whole, scalars and the first cell's bounds.

    Raises SourceFormatError where there are no axes, no arrays on them, or axes that aren't evenly spaced, and what
    asking raised.
    """
    named = _axes(file)
    arrays = _gridded(file, *(axis.name for axis in named))
    (y, x), scalars = _read_coordinates(client, file, named)
    crs = _crs(file, arrays, y.name)
    in_degrees = CRS.from_user_input(crs).is_geographic
    y_offset, x_offset = (_offset_of_centres(file, axis, in_degrees=in_degrees) for axis in (y, x))
    try:
        lattice = Lattice.from_centres(crs, x.stored + x_offset, y.stored + y_offset)
    except GridError as error:
        raise SourceFormatError(str(error), url=file.url) from error
    return Layout(
        lattice=lattice,
        y_dim=y.name,
        x_dim=x.name,
        steps=_steps(arrays),
        arrays=arrays,
        corner={axis.name: (float(axis.stored[0]), float(axis.stored[1])) for axis in (y, x)},
        scalars=scalars,
        edges=tuple(axis.name for axis, offset in ((y, y_offset), (x, x_offset)) if offset),
    )


def steps_of(file: DapFile) -> int:
    """Time steps of the arrays that :func:`read_layout` would find in ``file``, of which its structure is enough.

    A time axis that no such array has counts for nothing. No I/O. Raises SourceFormatError as that does.
    """
    return _steps(_gridded(file, *(axis.name for axis in _axes(file))))


def _steps(arrays: tuple[DapArray, ...]) -> int:
    return max(array.shape[0] if array.dims[0] == _TIME else 1 for array in arrays)


def _read_coordinates(
    client: DapClient, file: DapFile, named: tuple[DapArray, DapArray]
) -> tuple[list[_Axis], tuple[NativeCoordinate, ...]]:
    """Both axes, and the scalars of the file, which are its grid mapping at least; by one request."""
    bounds = {axis.name: found for axis in named if (found := _bounds(file, axis.name)) is not None}
    # A file's own time, and an axis, are what the lattice and the steps say.
    told = {_TIME, *(axis.name for axis in named)}
    scalars = [
        part
        for part in file.structure
        if part.path == part.name and not part.shape and part.dtype != "str" and part.name not in told
    ]
    parts: list[tuple[DapArray, tuple[slice, ...]]] = [
        *((axis, (slice(0, axis.shape[0]),)) for axis in named),
        *((found, (slice(0, 1), slice(0, 2))) for found in bounds.values()),
        *((scalar, ()) for scalar in scalars),
    ]
    values = dict(zip([part.name for part, _ in parts], client.read(file.url, parts), strict=True))
    axes = [
        _Axis(
            axis.name,
            values[axis.name].astype(np.float64),
            values.get(bounds[axis.name].name) if axis.name in bounds else None,
        )
        for axis in named
    ]
    read = (
        NativeCoordinate(part.name, (), values[part.name], _plain(file.attributes_of(part.name))) for part in scalars
    )
    return axes, tuple(read)


def native_arrays(file: DapFile, layout: Layout, steps: int) -> tuple[NativeArray, ...]:
    """The arrays of ``layout`` over all ``steps`` of a stack of such files, dimensions (time, y, x). No I/O.

    Their ``metadata`` says how the array lies in one file, for :func:`agreeing_array`. Raises SourceFormatError for
    attributes that should be numbers and aren't.
    """
    described = []
    for array in layout.arrays:
        attrs = file.attributes_of(array.name)
        fill = _number(file, array, attrs.get("_FillValue", attrs.get("missing_value")))
        if fill is not None and fill < 0 and array.dtype.startswith("uint"):
            # NetCDF's signed bytes travel as unsigned ones; their fill value doesn't.
            fill += 2.0 ** np.iinfo(array.dtype).bits
        sizes = layout.lattice.shape
        described.append(
            NativeArray(
                name=array.name,
                dims=(_TIME, layout.y_dim, layout.x_dim),
                shape=(steps, *sizes),
                chunks=(1, min(_CHUNK, sizes[0]), min(_CHUNK, sizes[1])),
                dtype=array.dtype,
                fill=fill,
                scale=_number(file, array, attrs.get("scale_factor")) or 1.0,
                offset=_number(file, array, attrs.get("add_offset")) or 0.0,
                attrs={key: value for key, value in _plain(attrs).items() if key not in _ENCODING_ATTRS},
                encoding={key: attrs[key] for key in sorted(_ENCODING_ATTRS & attrs.keys())},
                metadata=json.dumps(
                    {"dims": array.dims, "shape": array.shape, "corner": dict(layout.corner)}, sort_keys=True
                ),
            )
        )
    return tuple(described)


@dataclass(frozen=True, slots=True)
class FileHeader:
    """What tells whether a file is like the one that was described."""

    file: DapFile
    """Its structure, without attributes."""
    corner: Mapping[str, tuple[float, ...]]
    """Axis → its first two coordinates as stored; empty where there are no axes."""


def read_header(client: DapClient, url: str) -> FileHeader:
    """Header of the file at ``url``. Two requests: structure, and the first two coordinates of both axes.

    Raises what asking raised.
    """
    file = DapFile(url, client.structure(url), {})
    axes = _axis_pair(file)
    if axes is None:
        return FileHeader(file, {})
    values = client.read(url, [(axis, (slice(0, min(2, axis.shape[0])),)) for axis in axes])
    return FileHeader(file, {axis.name: tuple(pair.tolist()) for axis, pair in zip(axes, values, strict=True)})


def agreeing_array(header: FileHeader, array: NativeArray) -> DapArray:
    """The declaration of ``array`` in the file of ``header``, which lies there as in the file that was described.

    No I/O. Raises SourceFormatError where name, dimensions, shape, dtype or coordinates differ.
    """
    expected = json.loads(array.metadata)
    file = header.file
    found = file.find(array.name)
    if found is None:
        names = ", ".join(sorted({part.name for part in file.structure}))
        raise SourceFormatError(f"the file has no variable {array.name!r}; it has {names}", url=file.url)
    has = (list(found.dims), list(found.shape), found.dtype)
    needs = (expected["dims"], expected["shape"], array.dtype)
    if has != needs:
        raise SourceFormatError(
            f"{array.name} has dimensions, shape and dtype {has}, {needs} in the collection's first file", url=file.url
        )
    _require_corner(header, expected["corner"])
    return found


def _require_corner(header: FileHeader, expected: Mapping[str, list[float]]) -> None:
    for name, (first, second) in expected.items():
        pair = header.corner.get(name, ())
        if len(pair) != 2:  # noqa: PLR2004  (a pair)
            raise SourceFormatError(f"the file has no coordinates {', '.join(expected)}", url=header.file.url)
        if not np.allclose(pair, (first, second), rtol=0, atol=abs(second - first) * 0.01):
            raise SourceFormatError(
                f"{name} begins with {list(pair)}, with {[first, second]} in the collection's first file",
                url=header.file.url,
            )


def read_times(client: DapClient, file: DapFile) -> tuple[str, ...]:
    """The file's time stamps, ISO 8601 to the second: the middle of the steps' bounds, or its times. One request.

    Raises SourceFormatError where there is no time axis that can be understood, and what asking raised.
    """
    axis = file.find(_TIME)
    if axis is None or len(axis.shape) != 1:
        raise SourceFormatError("the file has several steps and no coordinate time", url=file.url)
    attrs = file.attributes_of(_TIME)
    bounds = _bounds(file, _TIME)
    part = axis if bounds is None else bounds
    (values,) = client.read(file.url, [(part, tuple(slice(0, size) for size in part.shape))])
    numbers = values.astype(np.float64) if bounds is None else values.astype(np.float64).mean(axis=1)
    units, calendar = str(attrs.get("units", "")), str(attrs.get("calendar", "standard"))
    try:
        moments = cftime.num2pydate(numbers, units, calendar)
    except (ValueError, OverflowError) as error:
        raise SourceFormatError(f"time axis, units {units!r}, calendar {calendar!r}: {error}", url=file.url) from error
    # Rounded, because days as floats are off by microseconds.
    rounded = np.asarray(moments, dtype="datetime64[ms]") + np.timedelta64(500, "ms")
    return tuple(str(stamp) for stamp in rounded.astype("datetime64[s]"))


def _axis_pair(file: DapFile) -> tuple[DapArray, DapArray] | None:
    for names in _AXIS_PAIRS:
        y, x = (file.find(name) for name in names)
        if y is not None and x is not None and len(y.shape) == len(x.shape) == 1:
            return y, x
    return None


def _axes(file: DapFile) -> tuple[DapArray, DapArray]:
    axes = _axis_pair(file)
    if axes is not None:
        return axes
    known = ", ".join(f"{y}/{x}" for y, x in _AXIS_PAIRS)
    raise SourceFormatError(f"the file has no pair of coordinates {known}", url=file.url)


def _gridded(file: DapFile, y_dim: str, x_dim: str) -> tuple[DapArray, ...]:
    arrays = []
    for name in dict.fromkeys(part.path.partition(".")[0] for part in file.structure):
        array = file.find(name)
        if array is not None and array.dims in {(y_dim, x_dim), (_TIME, y_dim, x_dim)} and array.dtype != "str":
            arrays.append(array)
    if not arrays:
        raise SourceFormatError(f"the file has no variable with the dimensions {y_dim} and {x_dim}", url=file.url)
    lengths = {array.shape[0] for array in arrays if array.dims[0] == _TIME}
    several = {length for length in lengths if length != 1}
    # Beside variables with several steps, one without a time axis isn't a layer of each of them.
    return tuple(array for array in arrays if not several or array.dims[0] == _TIME)


def _bounds(file: DapFile, name: str) -> DapArray | None:
    named = file.attributes_of(name).get("bounds")
    for candidate in (named, f"{name}_bnds", f"{name}_bounds"):
        found = file.find(candidate) if isinstance(candidate, str) else None
        if found is not None and found.dims[:1] == (name,) and found.shape[1:] == (2,):
            return found
    return None


def _offset_of_centres(file: DapFile, axis: _Axis, *, in_degrees: bool) -> float:
    """What must be added to the stored coordinates to have centres: 0, or half a step in either direction."""
    step = axis.step
    if axis.cell is not None:
        return _offset_by_bounds(file, axis, axis.cell)
    if not in_degrees or not abs(step) < _FINE_STEP:
        return 0.0
    for offset in (0.0, step / 2, -step / 2):
        outer = np.array([axis.stored[0] + offset - step / 2, axis.stored[-1] + offset + step / 2])
        if np.all(np.abs(outer - np.round(outer)) <= _EDGE_SLACK * abs(step)):
            return offset
    return 0.0


def _offset_by_bounds(file: DapFile, axis: _Axis, cell: Array) -> float:
    step = abs(axis.step)
    low, high = sorted(float(edge) for edge in cell.ravel())
    offset = (low + high) / 2 - float(axis.stored[0])
    if abs(high - low - step) > _EDGE_SLACK * step or abs(offset) > step * (0.5 + _EDGE_SLACK):
        raise SourceFormatError(
            f"the bounds of {axis.name}'s first cell, {low} to {high}, don't fit its first coordinate "
            f"{axis.stored[0]} and step {axis.step}",
            url=file.url,
        )
    return 0.0 if abs(offset) <= _EDGE_SLACK * step else offset


def _crs(file: DapFile, arrays: tuple[DapArray, ...], y_dim: str) -> str:
    mappings = [str(file.attributes_of(array.name).get("grid_mapping", "")) for array in arrays]
    names = [text.split()[0].rstrip(":") for text in mappings if text.split()]
    for name in [*names, "crs", "spatial_ref"]:
        attrs = file.attributes_of(name)
        for text in (attrs.get("crs_wkt"), attrs.get("spatial_ref")):
            if isinstance(text, str) and (known := normal_crs(text)):
                return known
    if y_dim.startswith("lat"):
        # The portal's data standard has latitudes and longitudes on WGS 84.
        return "EPSG:4326"
    raise SourceFormatError("no coordinate reference system found in the grid mapping", url=file.url)


def _plain(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """``attrs`` without what the server adds about its storage (``_ChunkSizes``, ``_Netcdf4Dimid`` …)."""
    return {key: value for key, value in attrs.items() if not key.startswith("_") or key in _ENCODING_ATTRS}


def _number(file: DapFile, array: DapArray, value: Any) -> float | None:
    single = value[0] if isinstance(value, list) and value else value
    if single is None:
        return None
    try:
        return float(single)
    except (TypeError, ValueError) as error:
        raise SourceFormatError(f"an attribute of {array.name} is {value!r}, not a number", url=file.url) from error
