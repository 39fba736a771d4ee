"""What a plane of pixels holds, as a few numbers, and the sample by which cube and source are compared.

The sample of a tile is a regular lattice of its pixels that depends on the tile's place on the grid alone: so what was
counted in the source when the tile was made can be counted in the cube whenever it is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scs2_cubes.core.checks import PlaneFacts
from scs2_cubes.core.grid import Window
from scs2_cubes.core.methods import Method
from scs2_cubes.core.transform import EDGE_TOLERANCE, IndexMap, Nodes

__all__ = ["POINTWISE", "Sample", "SourcePixels", "count_source_pixels", "plane_facts", "sample_of", "source_pixels"]

Array = npt.NDArray[Any]

#: Rows, and columns, of a tile's sample, where the tile has so many: 4096 pixels tell a share to within a percent.
_SAMPLE_SIDE = 64
#: Methods by which a pixel has a value where the source pixel under its centre has; by the others, COUNT excepted,
#: where at least half of its footprint has.
POINTWISE = frozenset({Method.COPY, Method.NEAREST, Method.BILINEAR})
#: Points per direction at which the source is looked at within a footprint: odd, so that no half of them is as many as
#: the other, and a multiple of 3, so that each pixel of 10 m has as many of 30 m as the next.
_POINTS = 9
#: Pixels that are counted at once: np.bincount needs 8 bytes for each of them.
_BLOCK_PIXELS = 2**18
#: Largest code of an unsigned dtype that is counted in a table.
_SMALL = 2


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Some pixels of a window: all combinations of ``rows`` and ``cols``."""

    rows: npt.NDArray[np.int64]
    """Rows on the whole grid, ascending, (n,)."""
    cols: npt.NDArray[np.int64]
    """Columns on the whole grid, ascending, (m,)."""

    @property
    def size(self) -> int:
        """Number of pixels."""
        return len(self.rows) * len(self.cols)


@dataclass(frozen=True, slots=True, eq=False)
class SourcePixels:
    """The source pixels under a sample: that under the centre of each, or some that are spread over its footprint."""

    rows: npt.NDArray[np.int64]
    """Row on the source's lattice, (pixel of the sample, point); -1 for what lies outside of it."""
    cols: npt.NDArray[np.int64]
    """Column on the source's lattice, same shape; -1 for what lies outside of it."""


def sample_of(window: Window) -> Sample:
    """The sample of a tile that covers ``window`` of its grid: about 64 x 64 pixels, or all where it has fewer."""
    return Sample(_every(window.row_start, window.row_stop), _every(window.col_start, window.col_stop))


def _every(start: int, stop: int) -> npt.NDArray[np.int64]:
    step = max(1, (stop - start) // _SAMPLE_SIDE)
    return np.arange(start + step // 2, stop, step, dtype=np.int64)


def source_pixels(sample: Sample, index_map: IndexMap, nodes: Nodes, *, spread: bool) -> SourcePixels:
    """Where ``sample`` lies on the source. ``nodes``: those of a window that holds the sample.

    ``spread``: 9 x 9 points evenly spread over each footprint, else the centre alone. Ties are decided as
    :mod:`scs2_cubes.core.transform` has it: as by the kernel for the nearest pixel.
    """
    if index_map.copy is not None:
        offset = index_map.copy
        rows, cols = np.meshgrid(
            offset.row_offset + offset.row_sign * sample.rows,
            offset.col_offset + offset.col_sign * sample.cols,
            indexing="ij",
        )
        return _inside(index_map, rows.astype(np.float64), cols.astype(np.float64))
    u, v = nodes.at(sample.rows, sample.cols)
    x, y = u[..., np.newaxis] + EDGE_TOLERANCE, v[..., np.newaxis] + EDGE_TOLERANCE
    if spread:
        width, height = (_at_cells(nodes, sample, size) for size in index_map.footprints(nodes))
        across, down = np.meshgrid(*2 * [(np.arange(_POINTS) + 0.5) / _POINTS - 0.5])
        x, y = x + width[..., np.newaxis] * across.ravel(), y + height[..., np.newaxis] * down.ravel()
    return _inside(index_map, y, x)


def _at_cells(nodes: Nodes, sample: Sample, sizes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Of ``sizes`` per cell between four nodes, those of the cells of ``sample``."""
    return sizes[np.ix_((sample.rows - nodes.row) // nodes.step, (sample.cols - nodes.col) // nodes.step)]


def _inside(index_map: IndexMap, y: npt.NDArray[np.float64], x: npt.NDArray[np.float64]) -> SourcePixels:
    """The source pixels that contain the points, one row for each pixel of the sample."""
    # NaN, which lies nowhere, compares false.
    inside = (x >= 0) & (x < index_map.source.nx) & (y >= 0) & (y < index_map.source.ny)
    rows, cols = (np.where(inside, number, -1).astype(np.int64) for number in (y, x))
    points = y.shape[2] if y.ndim > 2 else 1  # noqa: PLR2004  (row, column, point)
    return SourcePixels(rows.reshape(-1, points), cols.reshape(-1, points))


def count_source_pixels(values: Array, window: Window, nodata: float | None, pixels: SourcePixels) -> int:
    """Of how many pixels of a sample at least half of the points have a value in ``values`` (rows, columns).

    ``values`` cover ``window`` of the source; points outside of it have none. ``nodata`` means "no value", and NaN
    always does.
    """
    rows, cols = pixels.rows - window.row_start, pixels.cols - window.col_start
    inside = (rows >= 0) & (rows < window.height) & (cols >= 0) & (cols < window.width)
    # A negative position that is masked may be any that exists.
    found = values[np.where(inside, rows, 0), np.where(inside, cols, 0)]
    valid = inside & ~np.isnan(found) if found.dtype.kind == "f" else inside
    if nodata is not None:
        valid = valid & (found != nodata)
    return int(np.count_nonzero(2 * np.count_nonzero(valid, axis=1) >= valid.shape[1]))


def plane_facts(
    values: Array,
    window: Window,
    *,
    fill: float,
    is_categorical: bool,
    row_weights: npt.NDArray[np.float64] | None = None,
) -> PlaneFacts:
    """The facts of ``values`` (rows, columns), which cover the tile's ``window`` of the grid, ``fill`` where none is.

    ``row_weights``: what a pixel of each row counts for in sums, (rows,); None: 1. Needs a mask of the plane and no
    copy of it.
    """
    valid = _valid(values, fill)
    count = int(np.count_nonzero(valid))
    sample = sample_of(window)
    sampled = valid[np.ix_(sample.rows - window.row_start, sample.cols - window.col_start)]
    if count == 0:
        return PlaneFacts(0, None, None, 0.0, {}, 0)
    low, high = _extremes(values.dtype)
    by_row = np.count_nonzero(valid, axis=1)
    totals = np.add.reduce(values, axis=1, dtype=np.float64, where=valid)
    codes, class_weights = _codes(values, fill, row_weights) if is_categorical else ({}, {})
    return PlaneFacts(
        valid=count,
        minimum=float(values.min(where=valid, initial=high)),
        maximum=float(values.max(where=valid, initial=low)),
        total=_weighted(totals, row_weights),
        codes=codes,
        sampled_valid=int(np.count_nonzero(sampled)),
        weight=_weighted(by_row, row_weights),
        class_weights=class_weights,
    )


def _valid(values: Array, fill: float) -> npt.NDArray[np.bool_]:
    # NaN is no value whatever the fill.
    valid = ~np.isnan(values) if values.dtype.kind == "f" else np.ones(values.shape, np.bool_)
    if not np.isnan(fill):
        valid &= values != fill
    return valid


def _weighted(by_row: npt.NDArray[Any], row_weights: npt.NDArray[np.float64] | None) -> float:
    """The sum of what was found in each row, (rows,), times the row's weight."""
    return float(by_row.sum() if row_weights is None else (by_row * row_weights).sum())


def _codes(
    values: Array, fill: float, row_weights: npt.NDArray[np.float64] | None
) -> tuple[Mapping[int, int], Mapping[int, float]]:
    """(code → pixels, code → sum of their weights). Numbers that aren't whole are no codes, and not counted."""
    numbers, counts, weights = _tabulated(values, row_weights)
    found = [
        (int(number), int(count), float(weight))
        for number, count, weight in zip(numbers.tolist(), counts.tolist(), weights.tolist(), strict=True)
        if count and float(number).is_integer() and number != fill
    ]
    return {code: count for code, count, _ in found}, {code: weight for code, _, weight in found}


def _tabulated(
    values: Array, row_weights: npt.NDArray[np.float64] | None
) -> tuple[Array, npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """(numbers that may occur, pixels of each, sum of their weights), each (numbers,)."""
    is_small = values.dtype.kind == "u" and values.dtype.itemsize <= _SMALL
    numbers = np.arange(int(np.iinfo(values.dtype).max) + 1) if is_small else np.unique(values)
    counts, weights = np.zeros(len(numbers), np.int64), np.zeros(len(numbers), np.float64)
    rows = max(1, _BLOCK_PIXELS // max(1, values.shape[1]))
    for row in range(0, values.shape[0], rows):
        part = values[row : row + rows]
        # np.unique takes all NaN for one number, and sorts it behind the others.
        places = (part if is_small else np.searchsorted(numbers, part)).ravel()
        counts += np.bincount(places, minlength=len(numbers))
        if row_weights is not None:
            repeated = np.repeat(row_weights[row : row + rows], part.shape[1])
            weights += np.bincount(places, weights=repeated, minlength=len(numbers))
    return numbers, counts, weights if row_weights is not None else counts.astype(np.float64)


def _extremes(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """Smallest and largest number of ``dtype``; infinities, which are values too, for floats."""
    if dtype.kind == "f":
        return dtype.type(-np.inf), dtype.type(np.inf)
    limits = np.iinfo(dtype)
    return limits.min, limits.max
