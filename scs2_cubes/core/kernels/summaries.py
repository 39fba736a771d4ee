"""One number, by a rule, or the first or last of the valid source pixels under a footprint."""

from __future__ import annotations

import math
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from scs2_cubes.core.kernels.compilation import compiled
from scs2_cubes.core.kernels.mapping import Floats, Mapping, box_of, expand_row, table_size
from scs2_cubes.core.kernels.planes import SourcePlane, is_valid
from scs2_cubes.core.transform import EDGE_TOLERANCE

__all__ = ["Summary", "footprint_end", "footprint_summary"]


class Summary(IntEnum):
    """What :func:`footprint_summary` makes of the n valid source pixels x under a footprint.

    w is the area that a pixel shares with the footprint, in source pixels; m is sum(w x) / sum(w).
    """

    COUNT = 0
    """sum(w)."""
    SUM = 1
    """sum(w x)."""
    PROD = 2
    """product(x ** w)."""
    MIN = 3
    MAX = 4
    MEDIAN = 5
    """The smallest x for which the pixels not greater than it have at least half of sum(w)."""
    VAR = 6
    """sum(w (x - m)²) / sum(w)."""
    STD = 7
    """Root of that."""


@compiled
def _gather(
    plane: SourcePlane, box: tuple[float, float, float, float], numbers: npt.NDArray[Any], areas: Floats
) -> tuple[int, float]:
    """Write the valid source pixels in the box and the areas that they share with it, row by row.

    Returns (their number, their area); (0, -1.0) where the box lies outside the plane. Snapped edges leave no pixel
    that shares less than EDGE_TOLERANCE with the box in either direction.
    """
    values, top, left = plane.values, plane.top, plane.left
    bottom, right = top + values.shape[0], left + values.shape[1]
    west, east, north, south = box
    if not (west < right and east > left and north < bottom and south > top):
        return 0, -1.0
    count, total = 0, 0.0
    for i in range(max(math.floor(north), top), min(math.ceil(south), bottom)):
        height = min(i + 1.0, south) - max(float(i), north)
        for j in range(max(math.floor(west), left), min(math.ceil(east), right)):
            value = values[np.uint64(i - top), np.uint64(j - left)]
            if is_valid(value, plane.nodata, plane.has_nodata):
                area = height * (min(j + 1.0, east) - max(float(j), west))
                numbers[count], areas[count] = value, area
                count += 1
                total += area
    return count, total


@compiled
def _is_half_valid(area: float, box: tuple[float, float, float, float]) -> bool:
    west, east, north, south = box
    return area > 0 and area >= (0.5 - EDGE_TOLERANCE) * (east - west) * (south - north)


@compiled
def _sort_pairs(numbers: npt.NDArray[Any], areas: Floats, count: int) -> None:
    """Shell's sort of the first ``count`` numbers, with their areas (Knuth, TAOCP volume 3, 5.2.1).

    In place: a call to argsort would allocate for each target pixel.
    """
    gap = 1
    while gap < count // 3:
        gap = 3 * gap + 1
    while gap > 0:
        for k in range(gap, count):
            number, area = numbers[k], areas[k]
            place = k
            while place >= gap and numbers[place - gap] > number:
                numbers[place], areas[place] = numbers[place - gap], areas[place - gap]
                place -= gap
            numbers[place], areas[place] = number, area
        gap //= 3


@compiled
def _weighted_median(numbers: npt.NDArray[Any], areas: Floats, count: int, half: float) -> float:
    _sort_pairs(numbers, areas, count)
    below = 0.0
    for k in range(count):
        below += areas[k]
        if below >= half:
            return np.float64(numbers[k])
    return np.float64(numbers[count - 1])


@compiled
def _weighted_variance(numbers: npt.NDArray[Any], areas: Floats, count: int, area: float) -> float:
    # Differences from one of the numbers, so that equal numbers have no variance, and large ones keep their digits.
    origin = np.float64(numbers[0])
    mean = 0.0
    for k in range(count):
        mean += areas[k] * (numbers[k] - origin)
    mean /= area
    total = 0.0
    for k in range(count):
        difference = (numbers[k] - origin) - mean
        total += areas[k] * difference * difference
    return total / area


@compiled
def _summarised(summary: Summary, numbers: npt.NDArray[Any], areas: Floats, count: int, area: float) -> float:
    """The summary of ``count`` > 0 numbers; it may be NaN. Their order may change."""
    if summary == Summary.MEDIAN:
        return _weighted_median(numbers, areas, count, (0.5 - EDGE_TOLERANCE) * area)
    if summary == Summary.VAR:
        return _weighted_variance(numbers, areas, count, area)
    if summary == Summary.STD:
        return math.sqrt(_weighted_variance(numbers, areas, count, area))
    result = np.float64(numbers[0])
    if summary == Summary.SUM:
        result *= areas[0]
    elif summary == Summary.PROD:
        result = result ** areas[0]
    for k in range(1, count):
        number = np.float64(numbers[k])
        if summary == Summary.SUM:
            result += areas[k] * number
        elif summary == Summary.PROD:
            result *= number ** areas[k]
        elif summary == Summary.MIN:
            result = min(result, number)
        else:
            result = max(result, number)
    return result


@compiled
def footprint_summary(plane: SourcePlane, mapping: Mapping, summary: Summary, out: npt.NDArray[Any]) -> None:
    """One number for the valid source pixels under the footprint, by the rule of ``summary``.

    A target pixel has a value iff at least half of its footprint is valid; a count, iff any of it lies in the plane.
    ``out`` is of a floating dtype.
    """
    us, vs = np.empty(out.shape[1]), np.empty(out.shape[1])
    size = table_size(mapping)
    numbers, areas = np.empty(size, plane.values.dtype), np.empty(size)
    for r in range(out.shape[0]):
        expand_row(mapping.u, mapping, mapping.row + r, us)
        expand_row(mapping.v, mapping, mapping.row + r, vs)
        for c in range(out.shape[1]):
            box = box_of(mapping, r, c, us[c], vs[c])
            count, area = _gather(plane, box, numbers, areas)
            if summary == Summary.COUNT:
                if area >= 0:
                    out[r, c] = area
            elif _is_half_valid(area, box):
                value = _summarised(summary, numbers, areas, count, area)
                if not math.isnan(value):
                    out[r, c] = value


@compiled
def footprint_end(
    plane: SourcePlane, mapping: Mapping, last: bool, bounds: npt.NDArray[Any], out: npt.NDArray[Any]
) -> None:
    """The first valid source pixel under the footprint in the order of rows, then columns; with ``last``, the last.

    A target pixel has a value iff at least half of its footprint is valid. ``bounds`` as in ``kernels.nearest``.
    """
    us, vs = np.empty(out.shape[1]), np.empty(out.shape[1])
    size = table_size(mapping)
    numbers, areas = np.empty(size, plane.values.dtype), np.empty(size)
    low, high = bounds[0], bounds[1]
    for r in range(out.shape[0]):
        expand_row(mapping.u, mapping, mapping.row + r, us)
        expand_row(mapping.v, mapping, mapping.row + r, vs)
        for c in range(out.shape[1]):
            box = box_of(mapping, r, c, us[c], vs[c])
            count, area = _gather(plane, box, numbers, areas)
            if _is_half_valid(area, box):
                value = numbers[count - 1] if last else numbers[0]
                low, high = min(low, value), max(high, value)
                out[r, c] = value
    bounds[0], bounds[1] = low, high
