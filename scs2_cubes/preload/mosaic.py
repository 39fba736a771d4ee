"""One or several single-band GeoTIFFs as one raster, put together by their own georeferencing.

Where files overlap, nodata gives way to values, and two values must be the same: nobody says which file is right.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import rasterio
from pyproj import CRS
from pyproj.exceptions import CRSError
from rasterio.enums import MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from scs2_cubes.core.grid import Lattice, Window
from scs2_cubes.errors import GridError, SourceFormatError

__all__ = ["Mosaic"]

#: Fraction of a pixel by which files may lie off the common lattice: rounding of coordinates, no shift anybody meant.
_ALIGNMENT = 5e-4
#: Largest strip or tile of a file in bytes: it is decoded whole, whatever is asked of it.
_MAX_BLOCK = 256 << 20
#: Largest row band in bytes; a wider mosaic is cut into columns, too.
_MAX_BAND = 256 << 20
#: Bytes of decoded strips and tiles that GDAL keeps. Its own default is a share of the machine's memory.
_GDAL_CACHE = 48 << 20
_ROWS_COMPARED = 256
#: How many times larger than its files a mosaic may be: blocks of a country are, a file in the wrong place isn't.
_MAX_EMPTINESS = 256


@dataclass(frozen=True, slots=True)
class _Raster:
    """One file, as its header describes it."""

    path: Path
    lattice: Lattice
    dtype: str
    nodata: float | None
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Part:
    """One file, and where it lies on the mosaic."""

    path: Path
    window: Window


@dataclass(frozen=True)
class Mosaic:
    """Rasters on one lattice, rows from north to south. I/O happens in :meth:`open`, :meth:`read`, :meth:`bands`."""

    lattice: Lattice
    """The smallest one that all files lie on; ``crs`` is ``EPSG:<code>`` where it has a code, else WKT."""
    dtype: str
    """numpy name of the files' dtype."""
    nodata: float | None
    """Stored number that means "none", also between the files; None for a single file that declares none."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """The files' and their bands' tags that all of them have, with the same text."""
    parts: tuple[_Part, ...] = ()
    """Sorted by path, so that it doesn't matter in which order they were named."""

    @classmethod
    def open(cls, paths: Sequence[Path]) -> Mosaic:
        """Mosaic of the GeoTIFFs at ``paths``: reads their headers.

        Raises SourceFormatError, which names file and value, where one isn't a GeoTIFF with a single numeric band in a
        CRS, north up and without rotation, scale or mask; and where CRS, dtype, nodata or lattice differ.
        """
        if not paths:
            raise SourceFormatError("a mosaic needs at least one GeoTIFF", url="")
        rasters = [_describe(path) for path in sorted(paths)]
        first = rasters[0]
        for raster in rasters[1:]:
            _check_same(first, raster)
        if len(rasters) > 1 and first.nodata is None:
            raise SourceFormatError(
                f"one of {len(rasters)} files declares no nodata, so what lies between them has no value",
                url=str(first.path),
            )
        lattice = _common_lattice(rasters)
        parts = tuple(_Part(raster.path, _window(raster.lattice, lattice)) for raster in rasters)
        tags = dict(frozenset.intersection(*(frozenset(raster.tags.items()) for raster in rasters)))
        return cls(lattice, first.dtype, first.nodata, dict(sorted(tags.items())), parts)

    @property
    def crs(self) -> str:
        """The lattice's CRS."""
        return self.lattice.crs

    def read(self, window: Window) -> npt.NDArray[Any]:
        """Pixels of ``window``, shape (rows, columns), in the files' dtype; nodata where no file lies.

        Whoever reads all of it reads :meth:`bands`, which decode each strip once. Raises GridError where the window
        isn't within the mosaic, and SourceFormatError where a file can't be decoded or overlapping files differ.
        """
        with _Files() as files:
            return self._read(window, files)

    def bands(self, rows: int) -> Iterator[tuple[Window, npt.NDArray[Any]]]:
        """All pixels from north to south, in blocks of ``rows`` rows that start at multiples of ``rows``.

        Each block is (window, pixels of shape (rows, columns)), as wide as the mosaic or, where that would be more
        than 256 MiB, as a multiple of ``rows``. The last ones of a row or column may be smaller. So files that are
        stored in strips, or in tiles, are decoded once, but for what lies across two blocks. Raises as :meth:`read`.
        """
        widest = max(1, _MAX_BAND // (rows * rows * np.dtype(self.dtype).itemsize)) * rows
        with _Files() as files:
            for row in range(0, self.lattice.ny, rows):
                for col in range(0, self.lattice.nx, widest):
                    row_stop, col_stop = min(row + rows, self.lattice.ny), min(col + widest, self.lattice.nx)
                    window = Window(row, row_stop, col, col_stop)
                    yield window, self._read(window, files)
                files.close({part.path for part in self.parts if part.window.row_stop <= row + rows})

    def _read(self, window: Window, files: _Files) -> npt.NDArray[Any]:
        if window.is_empty or window.intersection(self.lattice.window) != window:
            raise GridError(f"{window!r} isn't within the mosaic's {self.lattice.ny} x {self.lattice.nx} pixels")
        found = [(part, common) for part in self.parts if (common := part.window.intersection(window)) is not None]
        if len(found) == 1 and found[0][1] == window:
            return files.read(found[0][0].path, window.relative_to(found[0][0].window))
        values = np.full(window.shape, 0 if self.nodata is None else self.nodata, self.dtype)
        for part, common in found:
            # A few rows at a time, because comparing takes several arrays of their size.
            for start in range(common.row_start, common.row_stop, _ROWS_COMPARED):
                stop = min(start + _ROWS_COMPARED, common.row_stop)
                rows = Window(start, stop, common.col_start, common.col_stop)
                given = files.read(part.path, rows.relative_to(part.window))
                self._lay(values[rows.relative_to(window).slices], given, part, rows)
        return values

    def _lay(self, target: npt.NDArray[Any], given: npt.NDArray[Any], part: _Part, common: Window) -> None:
        """Put ``given`` where ``target`` has no value yet. Raises SourceFormatError where both have, and differ."""
        free, nothing = self._is_nodata(target), self._is_nodata(given)
        differs = ~free & ~nothing & (target != given)
        if differs.any():
            row, col = (int(index) for index in np.argwhere(differs)[0])
            x = self.lattice.x_centres(common.col_start + col, common.col_start + col + 1)[0]
            y = self.lattice.y_centres(common.row_start + row, common.row_start + row + 1)[0]
            raise SourceFormatError(
                f"at x={x:.12g}, y={y:.12g} it has {given[row, col]}, where a file before it has {target[row, col]}: "
                "files that overlap must agree",
                url=str(part.path),
            )
        np.copyto(target, given, where=free)

    def _is_nodata(self, values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        if self.nodata is None:
            return np.zeros(values.shape, bool)
        return np.isnan(values) if math.isnan(self.nodata) else np.asarray(values == values.dtype.type(self.nodata))


class _Files:
    """Opened files: GDAL forgets what it decoded of a file that is closed."""

    def __init__(self) -> None:
        self._opened: dict[Path, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close(set(self._opened))

    def read(self, path: Path, window: Window) -> npt.NDArray[Any]:
        """Pixels of a window of the file's own. Raises SourceFormatError."""
        with _gdal(path):
            if path not in self._opened:
                self._opened[path] = _open(path)
            rows, cols = (window.row_start, window.row_stop), (window.col_start, window.col_stop)
            values: npt.NDArray[Any] = self._opened[path].read(1, window=(rows, cols))
        return values

    def close(self, paths: set[Path]) -> None:
        for path in paths & self._opened.keys():
            self._opened.pop(path).close()


@contextmanager
def _gdal(path: Path) -> Iterator[None]:
    """GDAL with little memory of its own, which reads this file and none beside it."""
    with rasterio.Env(GDAL_CACHEMAX=_GDAL_CACHE, GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
        try:
            yield
        except RasterioError as error:
            raise SourceFormatError(f"the file can't be read as GeoTIFF: {error}", url=str(path)) from error


def _open(path: Path) -> Any:
    with warnings.catch_warnings():
        # What lacks a georeference is refused below, by an error.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        # Not whatever GDAL takes it for: some formats are texts that name other files.
        return rasterio.open(path, driver="GTiff")


def _describe(path: Path) -> _Raster:
    with _gdal(path), _open(path) as dataset:
        for problem in _problems(dataset):
            raise SourceFormatError(problem, url=str(path))
        steps = dataset.transform
        lattice = Lattice(_crs(dataset, path), steps.c, steps.f, steps.a, steps.e, dataset.width, dataset.height)
        return _Raster(path, lattice, dataset.dtypes[0], dataset.nodata, {**dataset.tags(), **dataset.tags(1)})


def _problems(dataset: Any) -> Iterator[str]:
    """Why the file can't be part of a mosaic: each reason supposes that those before it don't hold."""
    if dataset.count != 1:
        yield f"it has {dataset.count} bands, not one"
    dtype, nodata, steps = dataset.dtypes[0], dataset.nodata, dataset.transform
    if not _is_numeric(dtype):
        yield f"its pixels are {dtype}, not integers or floats"
    if nodata is not None and not _can_hold(dtype, nodata):
        yield f"its nodata {nodata} is no {dtype}"
    if dataset.crs is None or steps.is_identity:
        yield "it isn't georeferenced: CRS or transform is missing"
    if steps.b != 0 or steps.d != 0:
        yield f"it is rotated: transform {tuple(steps)[:6]}"
    if steps.a <= 0 or steps.e >= 0:
        yield f"its steps are {steps.a} and {steps.e}, but columns should run eastwards and rows southwards"
    if dataset.scales != (1.0,) or dataset.offsets != (0.0,):
        yield f"its values are scaled: scale {dataset.scales[0]}, offset {dataset.offsets[0]}"
    if {MaskFlags.per_dataset, MaskFlags.alpha} & set(dataset.mask_flag_enums[0]):
        yield "it has a mask beside its values; only nodata is understood"
    rows, cols = dataset.block_shapes[0]
    if rows * cols * np.dtype(dtype).itemsize > _MAX_BLOCK:
        yield f"its blocks of {rows} x {cols} pixels are more than {_MAX_BLOCK >> 20} MiB, and are decoded at once"


def _is_numeric(dtype: str) -> bool:
    try:
        return np.dtype(dtype).kind in "iuf"
    except TypeError:
        # GDAL's complex integers, which numpy doesn't have.
        return False


def _can_hold(dtype: str, value: float) -> bool:
    if np.dtype(dtype).kind == "f":
        return True
    limits = np.iinfo(dtype)
    return float(value).is_integer() and limits.min <= value <= limits.max


def _crs(dataset: Any, path: Path) -> str:
    wkt: str = dataset.crs.to_wkt()
    try:
        code = CRS.from_wkt(wkt).to_epsg()
    except CRSError as error:
        raise SourceFormatError(f"its CRS can't be understood: {error}", url=str(path)) from error
    return wkt if code is None else f"EPSG:{code}"


def _check_same(first: _Raster, other: _Raster) -> None:
    """Raise SourceFormatError where two files can't be parts of one raster."""
    mine, theirs = first.lattice, other.lattice
    cols, rows = (theirs.x_origin - mine.x_origin) / mine.dx, (theirs.y_origin - mine.y_origin) / mine.dy
    # By how much the far edge of the file leaves the lattice, if its steps aren't quite the same.
    drift = max(abs(theirs.dx / mine.dx - 1) * theirs.nx, abs(theirs.dy / mine.dy - 1) * theirs.ny)
    for what, differs, values in (
        ("CRS", theirs.crs != mine.crs, (theirs.crs, mine.crs)),
        ("dtype", other.dtype != first.dtype, (other.dtype, first.dtype)),
        ("nodata", not _is_same_number(other.nodata, first.nodata), (other.nodata, first.nodata)),
        ("resolution", drift > _ALIGNMENT, ((theirs.dx, theirs.dy), (mine.dx, mine.dy))),
        (
            "alignment",
            max(abs(cols - round(cols)), abs(rows - round(rows))) > _ALIGNMENT,
            ((theirs.x_origin, theirs.y_origin), (mine.x_origin, mine.y_origin)),
        ),
    ):
        if differs:
            raise SourceFormatError(
                f"its {what} differs from that of {first.path.name}: {values[0]} and {values[1]}", url=str(other.path)
            )


def _is_same_number(one: float | None, other: float | None) -> bool:
    return one == other or (one is not None and other is not None and math.isnan(one) and math.isnan(other))


def _common_lattice(rasters: Sequence[_Raster]) -> Lattice:
    """The smallest lattice that holds all of them. Raises SourceFormatError where it would be all but empty."""
    first = rasters[0].lattice
    west = min(raster.lattice.x_origin for raster in rasters)
    north = max(raster.lattice.y_origin for raster in rasters)
    placed = Lattice(first.crs, west, north, first.dx, first.dy, 1, 1)
    windows = [_window(raster.lattice, placed) for raster in rasters]
    nx, ny = max(window.col_stop for window in windows), max(window.row_stop for window in windows)
    covered = sum(raster.lattice.nx * raster.lattice.ny for raster in rasters)
    if nx * ny > covered * _MAX_EMPTINESS:
        raise SourceFormatError(
            f"the {len(rasters)} files lie so far apart that {ny} x {nx} pixels would hold {covered} of theirs",
            url=str(rasters[-1].path),
        )
    return Lattice(first.crs, west, north, first.dx, first.dy, nx, ny)


def _window(lattice: Lattice, whole: Lattice) -> Window:
    col = round((lattice.x_origin - whole.x_origin) / whole.dx)
    row = round((lattice.y_origin - whole.y_origin) / whole.dy)
    return Window(row, row + lattice.ny, col, col + lattice.nx)
