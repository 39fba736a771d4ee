"""What lies at the centre of a target pixel: its nearest source pixel, or between the four nearest centres."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from scs2_cubes.core.kernels.compilation import compiled
from scs2_cubes.core.kernels.mapping import Floats, Mapping, expand_row
from scs2_cubes.core.kernels.planes import SourcePlane, is_valid
from scs2_cubes.core.transform import EDGE_TOLERANCE

__all__ = ["bilinear", "nearest"]


@compiled
def nearest(plane: SourcePlane, mapping: Mapping, bounds: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
    """The source pixel that contains the centre of the target pixel.

    ``bounds`` (2,), in the source's dtype, holds smallest and largest value written; the caller starts it with the
    largest and the smallest number of that dtype.
    """
    values = plane.values
    top, left = plane.top, plane.left
    west, east = float(left), float(left + values.shape[1])
    north, south = float(top), float(top + values.shape[0])
    us, vs = np.empty(out.shape[1]), np.empty(out.shape[1])
    low, high = bounds[0], bounds[1]
    for r in range(out.shape[0]):
        expand_row(mapping.u, mapping, mapping.row + r, us)
        expand_row(mapping.v, mapping, mapping.row + r, vs)
        for c in range(out.shape[1]):
            x, y = us[c] + EDGE_TOLERANCE, vs[c] + EDGE_TOLERANCE
            if west <= x < east and north <= y < south:
                value = values[np.uint64(int(y) - top), np.uint64(int(x) - left)]
                if is_valid(value, plane.nodata, plane.has_nodata):
                    low, high = min(low, value), max(high, value)
                    out[r, c] = value
    bounds[0], bounds[1] = low, high


@compiled
def _renormalised(
    plane: SourcePlane, j0: np.int64, j1: np.int64, i0: np.int64, i1: np.int64, fx: float, fy: float
) -> float:
    """Bilinear over the valid ones of four pixels, of which at least one is."""
    values = plane.values
    total, weights = 0.0, 0.0
    for i, wy in ((i0, 1.0 - fy), (i1, fy)):
        for j, wx in ((j0, 1.0 - fx), (j1, fx)):
            if 0 <= i < values.shape[0] and 0 <= j < values.shape[1] and wx * wy > 0:
                value = values[i, j]
                if is_valid(value, plane.nodata, plane.has_nodata):
                    total += wx * wy * value
                    weights += wx * wy
    return total / weights


@compiled
def _split_line(line: Floats, origin: int, index: npt.NDArray[np.int32]) -> None:
    """Split source indices into the last centre before them and the fraction of the way to the next centre.

    ``line`` (columns,) becomes the fraction; ``index`` is counted from ``origin`` and negative for NaN. A loop of its
    own, because the compiler vectorises it.
    """
    for c in range(line.size):
        x = line[c]
        # Truncation is floor, as nothing inside the source is negative here.
        after = np.int32(x + (0.5 + EDGE_TOLERANCE)) if -0.5 < x < 2e9 else np.int32(-1)
        fraction = (x + 0.5) - after
        line[c] = fraction if fraction > EDGE_TOLERANCE else 0.0
        index[c] = after - 1 - origin


@compiled
def bilinear(plane: SourcePlane, mapping: Mapping, out: npt.NDArray[Any]) -> None:
    """Bilinear interpolation between pixel centres, nodata-aware.

    A target pixel has a value iff the source pixel that contains its centre is valid; the weights are renormalised
    over the valid ones of the four. ``out`` is of a floating dtype.
    """
    values, nodata, has_nodata = plane.values, plane.nodata, plane.has_nodata
    rows, columns = values.shape
    us, vs = np.empty(out.shape[1]), np.empty(out.shape[1])
    js, ks = np.empty(out.shape[1], np.int32), np.empty(out.shape[1], np.int32)
    for r in range(out.shape[0]):
        expand_row(mapping.u, mapping, mapping.row + r, us)
        expand_row(mapping.v, mapping, mapping.row + r, vs)
        _split_line(us, plane.left, js)
        _split_line(vs, plane.top, ks)
        for c in range(out.shape[1]):
            j0, i0, fx, fy = np.int64(js[c]), np.int64(ks[c]), us[c], vs[c]
            # On a centre line the neighbour has no weight, and need not even be in the plane.
            j1, i1 = j0 + (fx > 0), i0 + (fy > 0)
            if j0 >= 0 and i0 >= 0 and j1 < columns and i1 < rows:
                a, b = values[np.uint64(i0), np.uint64(j0)], values[np.uint64(i0), np.uint64(j1)]
                d, e = values[np.uint64(i1), np.uint64(j0)], values[np.uint64(i1), np.uint64(j1)]
                # One branch for all four: a processor guesses it better than four.
                if (
                    is_valid(a, nodata, has_nodata)
                    & is_valid(b, nodata, has_nodata)
                    & is_valid(d, nodata, has_nodata)
                    & is_valid(e, nodata, has_nodata)
                ):
                    upper = np.float64(a) + fx * (np.float64(b) - np.float64(a))
                    lower = np.float64(d) + fx * (np.float64(e) - np.float64(d))
                    out[r, c] = upper + fy * (lower - upper)
                    continue
            # The point lies in the further pixel from the middle on; on an edge, in the one with the greater index.
            j, i = j1 if fx >= 0.5 - EDGE_TOLERANCE else j0, i1 if fy >= 0.5 - EDGE_TOLERANCE else i0
            if 0 <= i < rows and 0 <= j < columns and is_valid(values[i, j], nodata, has_nodata):
                out[r, c] = _renormalised(plane, j0, j1, i0, i1, fx, fy)
