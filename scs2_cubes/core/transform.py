"""Where the pixels of a target lattice lie on a source lattice.

A fractional source index counts pixels from the outer corner of pixel (0, 0): pixel i covers [i, i + 1) and its centre
is i + 0.5. ``u`` is the fractional column, ``v`` the fractional row; arrays of them have the axis order (row, column)
of the target. Points that can't be transformed are NaN, which lies outside every source.

Ties: a target centre on the edge between two source pixels belongs to the one with the greater index, and an edge of a
footprint within :data:`EDGE_TOLERANCE` of a source edge lies on it. So ties that recur systematically (10 or 20 m to
30 m, half a pixel of shift) are decided the same everywhere, whatever the rounding of the coordinates.

Longitudes are used as pyproj gives them, -180 to 180. A source must have its columns in that range, and a target that
crosses the antimeridian as seen from the source isn't supported: nothing is wrapped around.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError, ProjError

from scs2_cubes.core.grid import Lattice, Window
from scs2_cubes.errors import GridError

__all__ = ["EDGE_TOLERANCE", "CopyOffset", "IndexMap", "Nodes", "index_map"]

Floats = npt.NDArray[np.float64]

#: Distance in source pixels below which two edges, two sizes or two origins are the same. Coordinates of 1e7 m in
#: float64 are off by 1e-10 of a pixel; nobody shifts a raster by a millionth of a pixel on purpose.
EDGE_TOLERANCE = 1e-6

#: Largest distance between nodes in target pixels that is tried; a power of two, so that fractions are exact.
_LARGEST_STEP = 64

#: Largest error of the interpolation between nodes in source pixels: a quarter of the geolocation goal of 0.001.
_NODE_TOLERANCE = 2.5e-4

#: Points per direction at which a pair of lattices is examined. Map projections bend slowly: their extremes over a
#: region lie at its edges, which are always among the points.
_SAMPLES = 33


@dataclass(frozen=True, slots=True)
class CopyOffset:
    """Target pixel (row, col) is source pixel (row_offset + row_sign * row, col_offset + col_sign * col)."""

    row_offset: int
    """Source row of target row 0; may lie outside the source."""
    col_offset: int
    """Source column of target column 0; may lie outside the source."""
    row_sign: int
    """1, or -1 where the rows of the two run in opposite directions."""
    col_sign: int
    """1, or -1 where the columns of the two run in opposite directions."""

    def source_window(self, target: Window) -> Window:
        """The source pixels of a target window, not clipped: indices may be negative."""
        row_start, row_stop = _images(target.row_start, target.row_stop, self.row_offset, self.row_sign)
        col_start, col_stop = _images(target.col_start, target.col_stop, self.col_offset, self.col_sign)
        return Window(row_start, row_stop, col_start, col_stop)


@dataclass(frozen=True, slots=True, eq=False)
class Nodes:
    """Fractional source indices at the centres of every ``step``-th target pixel; between them they are bilinear."""

    u: Floats
    """Fractional source column, shape (node rows, node columns), at least (2, 2)."""
    v: Floats
    """Fractional source row, same shape."""
    step: int
    """Distance between nodes in target pixels: a power of two."""
    row: int
    """Target row of the first row of nodes: a multiple of ``step``."""
    col: int
    """Target column of the first column of nodes: a multiple of ``step``."""

    def at(self, rows: npt.NDArray[np.int64], cols: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
        """(u, v) at the centres of the target pixels ``rows`` x ``cols``, each of shape (len(rows), len(cols)).

        Indices count on the whole target and must lie between the first and the last node.
        """
        return self._interpolated(self.u, rows, cols), self._interpolated(self.v, rows, cols)

    def _interpolated(self, nodes: Floats, rows: npt.NDArray[np.int64], cols: npt.NDArray[np.int64]) -> Floats:
        above, row_rest = np.divmod(rows - self.row, self.step)
        left, col_rest = np.divmod(cols - self.col, self.step)
        row_fraction, col_rest = (row_rest / self.step)[:, np.newaxis], col_rest[np.newaxis, :]
        below = np.where(row_rest > 0, above + 1, above)
        right = np.where(col_rest[0] > 0, left + 1, left)
        upper, lower = nodes[above], nodes[below]
        lines = upper + row_fraction * (lower - upper)
        first, last = lines[:, left], lines[:, right]
        values: Floats = first + (last - first) / self.step * col_rest
        return values


@dataclass(frozen=True, slots=True)
class IndexMap:
    """Maps the pixel centres of a target to fractional indices of a source. Small, and travels to workers."""

    source: Lattice
    """Where pixels come from."""
    target: Lattice
    """Where pixels go."""
    same_crs: bool
    """True where the map is affine: no projection in between."""
    step: int
    """Distance between nodes in target pixels, chosen once per pair of lattices: a power of two; 1 is exact."""
    coarsening: bool
    """True where the footprint of a target pixel is larger than a source pixel, in either direction, anywhere."""
    copy: CopyOffset | None
    """Set where each target pixel is a source pixel, so that pixels are copied instead of resampled."""

    def nodes(self, window: Window) -> Nodes:
        """Exact source indices around ``window`` of the target, on a mesh that doesn't depend on the window.

        Nodes lie at target indices that are multiples of ``step``, one beyond the window's end included. So a tile
        that is computed alone equals the same tile cut from the whole, bit for bit. Raises GridError for an empty
        window.
        """
        if window.is_empty:
            msg = f"an empty window has no nodes: {window!r}"
            raise GridError(msg)
        rows = _mesh(window.row_start, window.row_stop, self.step)
        cols = _mesh(window.col_start, window.col_stop, self.step)
        u, v = _source_indices(self.source, self.target, rows, cols, affine=self.same_crs)
        return Nodes(u, v, self.step, int(rows[0]), int(cols[0]))

    def footprints(self, nodes: Nodes) -> tuple[Floats, Floats]:
        """(width, height) in source pixels of the footprint of one target pixel, per cell between four nodes.

        A target pixel is a parallelogram on the source, from the Jacobian of the map. Its footprint is the
        axis-parallel box that has the same second moments along each axis: (hypot(du/dcol, du/drow),
        hypot(dv/dcol, dv/drow)), which is the parallelogram itself where the axes of the two are parallel.
        """
        if self.same_crs:
            # One number for all cells: differences of nodes would scatter in the last digits.
            cells = nodes.u.shape[0] - 1, nodes.u.shape[1] - 1
            width, height = abs(self.target.dx / self.source.dx), abs(self.target.dy / self.source.dy)
            return np.full(cells, width), np.full(cells, height)
        return _extent(nodes.u, nodes.step), _extent(nodes.v, nodes.step)

    def source_window(self, window: Window) -> Window | None:
        """The source pixels that ``window`` of the target needs, whatever the method.

        It includes the neighbours of bilinear interpolation and whole footprints, and is clipped to the source. None
        where the target window is empty or lies wholly outside the source.
        """
        if window.is_empty:
            return None
        if self.copy is not None:
            return self.copy.source_window(window).intersection(self.source.window)
        nodes = self.nodes(window)
        # A bilinear function takes its extremes at the corners of its domain: here, of the cells cut by the window.
        rows = _corners(window.row_start, window.row_stop, self.step)
        cols = _corners(window.col_start, window.col_stop, self.step)
        (u, v), (width, height) = nodes.at(rows, cols), self.footprints(nodes)
        columns, lines = _needed(u, width), _needed(v, height)
        if columns is None or lines is None:
            return None
        return Window(*lines, *columns).intersection(self.source.window)


def index_map(source: Lattice, target: Lattice) -> IndexMap:
    """Find out how ``target`` lies on ``source``: mesh, coarsening, copy.

    Where the CRS differ, the mesh is the widest whose bilinear interpolation is off by at most 0.00025 source pixels
    from pyproj, judged at cell centres over the whole target. Raises GridError where a CRS isn't known to PROJ, where
    PROJ knows no transformation between the two, or where the target lies across the 180° meridian or a pole.
    """
    same = _same_crs(source, target)
    if not same and _crs(source.crs).is_geographic:
        _require_no_seam(source, target)
    step = _LARGEST_STEP if same else _widest_step(source, target)
    copy = _copy_offset(source, target) if same else None
    return IndexMap(source, target, same, step, copy is None and _coarsens(source, target, affine=same), copy)


def _require_no_seam(source: Lattice, target: Lattice) -> None:
    """Refuse a target within which longitude jumps from 180° to -180°: between nodes it would pass through 0°."""
    u, _ = _source_indices(source, target, _sampled(target.ny), _sampled(target.nx), affine=False)
    half_turn = 180 / abs(source.dx)
    jumps = [np.abs(np.diff(u, axis=axis)) for axis in (0, 1)]
    if any(bool((jump[np.isfinite(jump)] > half_turn).any()) for jump in jumps):
        msg = f"the target {target.bbox} in {target.crs} lies across the 180° meridian or a pole, which isn't supported"
        raise GridError(msg)


# Building a transformer takes 50 ms, and every plane of every tile needs the same one. A pure function of its
# arguments; pyproj's transformers may be shared between threads since 3.1.
@lru_cache(maxsize=32)
def _transformer(from_crs: str, to_crs: str) -> Transformer:
    try:
        return Transformer.from_crs(_crs(from_crs), _crs(to_crs), always_xy=True)
    except ProjError as error:
        msg = f"PROJ knows no transformation from {from_crs!r} to {to_crs!r}: {error}"
        raise GridError(msg) from error


def _crs(text: str) -> CRS:
    try:
        return CRS.from_user_input(text)
    except CRSError as error:
        msg = f"PROJ can't understand the CRS {text!r}: use EPSG:<code> or WKT ({error})"
        raise GridError(msg) from error


def _source_indices(
    source: Lattice, target: Lattice, rows: Floats, cols: Floats, *, affine: bool
) -> tuple[Floats, Floats]:
    """(u, v) at fractional target pixels ``rows`` x ``cols``, where pixel i has its centre at i (not i + 0.5)."""
    x, y = np.meshgrid(target.x_origin + (cols + 0.5) * target.dx, target.y_origin + (rows + 0.5) * target.dy)
    if not affine:
        x, y = _transformer(target.crs, source.crs).transform(x, y)
        # PROJ says inf for "can't be transformed"; NaN passes through differences without a warning.
        valid = np.isfinite(x) & np.isfinite(y)
        x, y = np.where(valid, x, np.nan), np.where(valid, y, np.nan)
    return (x - source.x_origin) / source.dx, (y - source.y_origin) / source.dy


def _same_crs(source: Lattice, target: Lattice) -> bool:
    """True where the CRS are equal, or where PROJ's transformation between them changes nothing on the target.

    The latter because GDAL's WKT 1 of EPSG:3035 names another axis order and an older datum than PROJ's own
    description, so ``CRS.equals`` calls them different, and ``to_epsg`` finds no code of enough confidence.
    """
    if _crs(source.crs).equals(_crs(target.crs), ignore_axis_order=True):
        return True
    rows, cols = _sampled(target.ny), _sampled(target.nx)
    projected = _source_indices(source, target, rows, cols, affine=False)
    affine = _source_indices(source, target, rows, cols, affine=True)
    # NaN compares false, so a point that can't be transformed makes them different.
    return all(
        bool(np.all(np.abs(one - other) <= EDGE_TOLERANCE)) for one, other in zip(projected, affine, strict=True)
    )


def _widest_step(source: Lattice, target: Lattice) -> int:
    step = _LARGEST_STEP
    while step > 1 and _interpolation_error(source, target, step) > _NODE_TOLERANCE:
        step //= 2
    return step


def _interpolation_error(source: Lattice, target: Lattice, step: int) -> float:
    """Largest distance in source pixels between interpolated and exact, at the centres of sampled cells."""
    rows, cols = _sampled(-(-target.ny // step)) * step, _sampled(-(-target.nx // step)) * step
    corners = [
        np.stack(_source_indices(source, target, rows + row, cols + col, affine=False))
        for row in (0, step)
        for col in (0, step)
    ]
    exact = np.stack(_source_indices(source, target, rows + step / 2, cols + step / 2, affine=False))
    error = np.abs(sum(corners) / 4 - exact)
    # A cell of which no point can be transformed is right at any step; one of which some can, only point by point.
    nowhere = np.isnan(exact) & np.all(np.isnan(corners), axis=0)
    return float(np.max(np.where(nowhere, 0, np.where(np.isnan(error), np.inf, error))))


def _coarsens(source: Lattice, target: Lattice, *, affine: bool) -> bool:
    rows, cols = _sampled(target.ny), _sampled(target.nx)
    left, right = (_source_indices(source, target, rows, cols + half, affine=affine) for half in (-0.5, 0.5))
    above, below = (_source_indices(source, target, rows + half, cols, affine=affine) for half in (-0.5, 0.5))
    extents = [np.hypot(right[axis] - left[axis], below[axis] - above[axis]) for axis in (0, 1)]
    return any(bool(np.any(extent > 1 + EDGE_TOLERANCE)) for extent in extents)


def _copy_offset(source: Lattice, target: Lattice) -> CopyOffset | None:
    columns = _whole_shift(source.x_origin, source.dx, target.x_origin, target.dx, target.nx)
    rows = _whole_shift(source.y_origin, source.dy, target.y_origin, target.dy, target.ny)
    if columns is None or rows is None:
        return None
    return CopyOffset(rows[0], columns[0], rows[1], columns[1])


def _whole_shift(
    source_origin: float, source_step: float, target_origin: float, target_step: float, count: int
) -> tuple[int, int] | None:
    """(source index of the first target pixel, sign), or None where a pixel of one isn't a pixel of the other."""
    sign = 1 if (source_step > 0) == (target_step > 0) else -1
    centres = target_origin + np.array([0.5, count - 0.5]) * target_step
    first, last = (centres - source_origin) / source_step - 0.5
    offset = round(float(first))
    # Judged at both ends, so that a small difference of pixel size can't add up along the axis.
    same_step = abs(abs(target_step / source_step) - 1) <= EDGE_TOLERANCE
    ends_fit = abs(first - offset) <= EDGE_TOLERANCE and abs(last - (offset + sign * (count - 1))) <= EDGE_TOLERANCE
    return (offset, sign) if same_step and ends_fit else None


def _extent(nodes: Floats, step: int) -> Floats:
    along_cols, along_rows = np.diff(nodes, axis=1) / step, np.diff(nodes, axis=0) / step
    per_col = (along_cols[:-1] + along_cols[1:]) / 2
    per_row = (along_rows[:, :-1] + along_rows[:, 1:]) / 2
    extent: Floats = np.hypot(per_col, per_row)
    return extent


def _images(start: int, stop: int, offset: int, sign: int) -> tuple[int, int]:
    if sign > 0:
        return offset + start, offset + stop
    return offset - stop + 1, offset - start + 1


def _mesh(start: int, stop: int, step: int) -> Floats:
    return np.arange(start // step, (stop - 1) // step + 2, dtype=np.float64) * step


def _corners(start: int, stop: int, step: int) -> npt.NDArray[np.int64]:
    return np.unique(np.array([start, *range(-(-start // step) * step, stop, step), stop - 1], dtype=np.int64))


def _sampled(count: int) -> Floats:
    """At most _SAMPLES whole numbers, evenly spread over 0 … count - 1, both ends included."""
    return np.unique(np.round(np.linspace(0, count - 1, _SAMPLES)))


def _needed(centres: Floats, extents: Floats) -> tuple[int, int] | None:
    """First and one past the last source pixel along one axis that targets at ``centres`` touch."""
    centres, extents = centres[np.isfinite(centres)], extents[np.isfinite(extents)]
    if centres.size == 0:
        return None
    margin = max(0.5, float(np.max(extents, initial=0)) / 2)
    # Half of the tolerance by which the kernels snap edges, so that rounding can't drop a pixel that they need.
    low, high = float(np.min(centres)) - margin, float(np.max(centres)) + margin
    return int(np.floor(low + EDGE_TOLERANCE / 2)), int(np.ceil(high - EDGE_TOLERANCE / 2))
