"""Grids, windows, tiles and partitions: integers and floats, nothing else.

A :class:`Lattice` is any axis-parallel raster (a source's or a target's). A :class:`Grid` is a target lattice: it is
anchored at the lower-left corner of a bounding box, its rows run from north to south, and it is cut into
:class:`Tile` blocks, the unit of work. A :class:`Partition` is a block of tiles, the unit that Dagster sees.

Index order is always (row, column), that is (y, x), with row 0 in the first stored row. Distances are in units of the
CRS.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scs2_cubes.errors import GridError

__all__ = ["Grid", "Lattice", "Partition", "Region", "Tile", "Window", "partitions_of"]

#: Relative slack below which a count of pixels is taken for a whole number: (E - W) / res in float64 is off by a few
#: ulp (1e-16 each), while a real fraction of a pixel that anybody asks for is far larger.
_COUNT_SLACK = 1e-9

#: Largest edge of a partition in pixels: minutes of work for one Dagster run, which costs seconds to start.
MAX_PARTITION_PIXELS = 8192

#: Largest grid that can be meant: the world at 10 m has 8e12 pixels. A slip in spatial_res gives more, and a list of
#: partitions that no memory holds.
_MAX_PIXELS = 10**13


@dataclass(frozen=True, slots=True)
class Window:
    """Half-open block of rows and columns of a lattice."""

    row_start: int
    """First row."""
    row_stop: int
    """One past the last row."""
    col_start: int
    """First column."""
    col_stop: int
    """One past the last column."""

    def __post_init__(self) -> None:
        if self.row_start > self.row_stop or self.col_start > self.col_stop:
            msg = f"window has a negative size: {self!r}"
            raise GridError(msg)

    @property
    def height(self) -> int:
        return self.row_stop - self.row_start

    @property
    def width(self) -> int:
        return self.col_stop - self.col_start

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.height, self.width

    @property
    def is_empty(self) -> bool:
        return self.height == 0 or self.width == 0

    @property
    def slices(self) -> tuple[slice, slice]:
        """(rows, columns) as slices."""
        return slice(self.row_start, self.row_stop), slice(self.col_start, self.col_stop)

    def intersection(self, other: Window) -> Window | None:
        """The common block, or None where there is none."""
        row_start, row_stop = max(self.row_start, other.row_start), min(self.row_stop, other.row_stop)
        col_start, col_stop = max(self.col_start, other.col_start), min(self.col_stop, other.col_stop)
        if row_start >= row_stop or col_start >= col_stop:
            return None
        return Window(row_start, row_stop, col_start, col_stop)

    def relative_to(self, other: Window) -> Window:
        """The same block, counted from the upper-left corner of ``other``."""
        return Window(
            self.row_start - other.row_start,
            self.row_stop - other.row_start,
            self.col_start - other.col_start,
            self.col_stop - other.col_start,
        )


@dataclass(frozen=True, slots=True)
class Lattice:
    """Axis-parallel raster.

    Pixel (row, col) covers x_origin + [col, col + 1] * dx and y_origin + [row, row + 1] * dy.
    """

    crs: str
    """Anything that ``pyproj.CRS.from_user_input`` understands, usually ``EPSG:<code>`` or WKT."""
    x_origin: float
    """x of the outer corner of pixel (0, 0)."""
    y_origin: float
    """y of the outer corner of pixel (0, 0)."""
    dx: float
    """Signed step from one column to the next."""
    dy: float
    """Signed step from one row to the next; negative where rows run from north to south."""
    nx: int
    """Number of columns."""
    ny: int
    """Number of rows."""

    def __post_init__(self) -> None:
        if self.nx < 1 or self.ny < 1:
            msg = f"a lattice needs at least one row and one column, not {self.ny} x {self.nx}"
            raise GridError(msg)
        if not (math.isfinite(self.dx) and math.isfinite(self.dy)) or self.dx == 0 or self.dy == 0:
            msg = f"a lattice needs finite steps other than zero, not dx={self.dx}, dy={self.dy}"
            raise GridError(msg)

    @classmethod
    def from_centres(cls, crs: str, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> Lattice:
        """Lattice whose pixel centres are ``x`` (nx,) and ``y`` (ny,), in units of ``crs``.

        Raises GridError where the coordinates aren't evenly spaced to within 0.0005 of a step.
        """
        dx, dy = _even_step("x", x), _even_step("y", y)
        return cls(crs, float(x[0]) - dx / 2, float(y[0]) - dy / 2, dx, dy, len(x), len(y))

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.ny, self.nx

    @property
    def window(self) -> Window:
        """All of it."""
        return Window(0, self.ny, 0, self.nx)

    @property
    def bbox(self) -> tuple[float, float, float, float]:
        """(west, south, east, north) of the outer edges."""
        x_far, y_far = self.x_origin + self.nx * self.dx, self.y_origin + self.ny * self.dy
        return (
            min(self.x_origin, x_far),
            min(self.y_origin, y_far),
            max(self.x_origin, x_far),
            max(self.y_origin, y_far),
        )

    def x_centres(self, start: int = 0, stop: int | None = None) -> npt.NDArray[np.float64]:
        """X of the centres of columns ``start`` to ``stop`` (exclusive; default: all), shape (stop - start,)."""
        index = np.arange(start, self.nx if stop is None else stop, dtype=np.float64)
        return self.x_origin + (index + 0.5) * self.dx

    def y_centres(self, start: int = 0, stop: int | None = None) -> npt.NDArray[np.float64]:
        """Y of the centres of rows ``start`` to ``stop`` (exclusive; default: all), shape (stop - start,)."""
        index = np.arange(start, self.ny if stop is None else stop, dtype=np.float64)
        return self.y_origin + (index + 0.5) * self.dy


@dataclass(frozen=True, slots=True)
class Tile:
    """One chunk-aligned block of a grid: the unit of work, of completion and of resume."""

    row: int
    """Row of tiles, 0 in the north."""
    col: int
    """Column of tiles, 0 in the west."""
    key: str
    """Name within its grid, ``y03x01``: zero-padded so that names sort row-major."""
    window: Window
    """The tile's pixels on the whole grid; smaller than a tile at the southern and eastern edge."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The target lattice: CRS, anchor, resolution, shape, tile."""

    crs: str
    """Anything that ``pyproj.CRS.from_user_input`` understands."""
    west: float
    """x of the anchor, the lower-left corner."""
    south: float
    """y of the anchor, the lower-left corner."""
    x_res: float
    """Pixel width in units of the CRS."""
    y_res: float
    """Pixel height in units of the CRS."""
    nx: int
    """Number of columns."""
    ny: int
    """Number of rows."""
    tile_nx: int
    """Columns of a tile, which is also one chunk of the cube."""
    tile_ny: int
    """Rows of a tile."""

    def __post_init__(self) -> None:
        if not (self.x_res > 0 and self.y_res > 0 and math.isfinite(self.x_res) and math.isfinite(self.y_res)):
            msg = f"spatial_res must be positive, not {self.x_res} x {self.y_res}"
            raise GridError(msg)
        if self.tile_nx < 1 or self.tile_ny < 1:
            msg = f"tile_size must be positive, not {self.tile_nx} x {self.tile_ny}"
            raise GridError(msg)
        if self.nx < 1 or self.ny < 1:
            msg = f"a grid needs at least one row and one column, not {self.ny} x {self.nx}"
            raise GridError(msg)

    @classmethod
    def from_bbox(
        cls,
        bbox: Sequence[float],
        crs: str,
        spatial_res: float | tuple[float, float],
        tile_size: int | tuple[int, int] = 1024,
    ) -> Grid:
        """Grid anchored at the lower-left corner of ``bbox`` (west, south, east, north), in units of ``crs``.

        ``spatial_res`` and ``tile_size`` are one number, or a pair in the order (x, y). The number of pixels is rounded
        up, so the grid may grow beyond ``bbox`` to the east and to the north, by less than one pixel.
        """
        west, south, east, north = (float(edge) for edge in bbox)
        if not all(math.isfinite(edge) for edge in (west, south, east, north)) or east <= west or north <= south:
            msg = f"bbox must be finite and in the order west, south, east, north, not {[west, south, east, north]}"
            raise GridError(msg)
        x_res, y_res = spatial_res if isinstance(spatial_res, tuple) else (spatial_res, spatial_res)
        tile_nx, tile_ny = tile_size if isinstance(tile_size, tuple) else (tile_size, tile_size)
        if not (x_res > 0 and y_res > 0):
            msg = f"spatial_res must be positive, not {x_res} x {y_res}"
            raise GridError(msg)
        nx, ny = _count(east - west, x_res), _count(north - south, y_res)
        if nx * ny > _MAX_PIXELS:
            msg = f"spatial_res {x_res} x {y_res} makes {ny} x {nx} pixels of this bbox, which can't be meant"
            raise GridError(msg)
        return cls(crs, west, south, float(x_res), float(y_res), nx, ny, tile_nx, tile_ny)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.ny, self.nx

    @property
    def lattice(self) -> Lattice:
        """The pixels: rows from north to south."""
        north = self.south + self.ny * self.y_res
        return Lattice(self.crs, self.west, north, self.x_res, -self.y_res, self.nx, self.ny)

    @property
    def bbox(self) -> tuple[float, float, float, float]:
        """(west, south, east, north) of the outer edges."""
        return self.lattice.bbox

    @property
    def tile_rows(self) -> int:
        return -(-self.ny // self.tile_ny)

    @property
    def tile_cols(self) -> int:
        return -(-self.nx // self.tile_nx)

    def tile(self, row: int, col: int) -> Tile:
        """The tile in that row and column of tiles. Raises GridError where there is none."""
        if not (0 <= row < self.tile_rows and 0 <= col < self.tile_cols):
            msg = f"no tile in row {row}, column {col}: the grid has {self.tile_rows} x {self.tile_cols} tiles"
            raise GridError(msg)
        row_start, col_start = row * self.tile_ny, col * self.tile_nx
        window = Window(
            row_start,
            min(row_start + self.tile_ny, self.ny),
            col_start,
            min(col_start + self.tile_nx, self.nx),
        )
        return Tile(row, col, _block_name(row, self.tile_rows, col, self.tile_cols), window)

    def tiles(self) -> Iterator[Tile]:
        """All tiles, row-major."""
        for row in range(self.tile_rows):
            for col in range(self.tile_cols):
                yield self.tile(row, col)


@dataclass(frozen=True, slots=True)
class Region:
    """A named area with its grid."""

    name: str
    """Name in the configuration."""
    grid: Grid
    """Its pixels."""


@dataclass(frozen=True, slots=True)
class Partition:
    """A block of tiles of one region: Dagster's unit of materialization."""

    key: str
    """``landes`` for a region in one piece, ``france-y01x03`` for one of several."""
    region: Region
    """The region that it belongs to."""
    tile_row_start: int
    """First row of tiles."""
    tile_row_stop: int
    """One past the last row of tiles."""
    tile_col_start: int
    """First column of tiles."""
    tile_col_stop: int
    """One past the last column of tiles."""

    def tiles(self) -> Iterator[Tile]:
        """Its tiles, row-major."""
        for row in range(self.tile_row_start, self.tile_row_stop):
            for col in range(self.tile_col_start, self.tile_col_stop):
                yield self.region.grid.tile(row, col)

    @property
    def window(self) -> Window:
        """Its pixels on the region's grid."""
        grid = self.region.grid
        first = grid.tile(self.tile_row_start, self.tile_col_start).window
        last = grid.tile(self.tile_row_stop - 1, self.tile_col_stop - 1).window
        return Window(first.row_start, last.row_stop, first.col_start, last.col_stop)


def partitions_of(region: Region, max_pixels: int = MAX_PARTITION_PIXELS) -> tuple[Partition, ...]:
    """Cut a region into partitions of at most ``max_pixels`` in each direction, row-major.

    A region that fits is one partition with the region's own name. A tile larger than ``max_pixels`` is a partition.
    """
    grid = region.grid
    rows, cols = max(1, max_pixels // grid.tile_ny), max(1, max_pixels // grid.tile_nx)
    n_rows, n_cols = -(-grid.tile_rows // rows), -(-grid.tile_cols // cols)
    single = n_rows == 1 and n_cols == 1
    return tuple(
        Partition(
            region.name if single else f"{region.name}-{_block_name(row, n_rows, col, n_cols)}",
            region,
            row * rows,
            min((row + 1) * rows, grid.tile_rows),
            col * cols,
            min((col + 1) * cols, grid.tile_cols),
        )
        for row in range(n_rows)
        for col in range(n_cols)
    )


def _block_name(row: int, rows: int, col: int, cols: int) -> str:
    row_digits, col_digits = max(2, len(str(rows - 1))), max(2, len(str(cols - 1)))
    return f"y{row:0{row_digits}d}x{col:0{col_digits}d}"


def _count(length: float, resolution: float) -> int:
    ratio = length / resolution
    nearest = round(ratio)
    if nearest >= 1 and abs(ratio - nearest) <= _COUNT_SLACK * nearest:
        return nearest
    return math.ceil(ratio)


def _even_step(axis: str, centres: npt.NDArray[np.float64]) -> float:
    if centres.ndim != 1 or len(centres) <= 1:
        msg = f"coordinate {axis} needs one dimension and at least two values, not shape {centres.shape}"
        raise GridError(msg)
    step = float(centres[-1] - centres[0]) / (len(centres) - 1)
    even = centres[0] + np.arange(len(centres)) * step
    # Written so that NaN fails too.
    if step == 0 or not bool(np.all(np.abs(centres - even) <= abs(step) * 5e-4)):
        msg = f"coordinate {axis} isn't evenly spaced (from {centres[0]} to {centres[-1]}, {len(centres)} values)"
        raise GridError(msg)
    return step
