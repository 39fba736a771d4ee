"""Area-weighted means of what lies under a footprint, and their standard deviations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from scs2_cubes.core.kernels.compilation import compiled
from scs2_cubes.core.kernels.mapping import Mapping, expand_row, snapped
from scs2_cubes.core.kernels.planes import SourcePlane, is_valid
from scs2_cubes.core.transform import EDGE_TOLERANCE

__all__ = ["area_weighted"]


@compiled
def _weighted_sums(
    plane: SourcePlane, west: float, east: float, north: float, south: float, squared: bool
) -> tuple[float, float]:
    """(area, total) of the valid source pixels in a box: total of w * value, or of (w * value)² if ``squared``."""
    values, top, left = plane.values, plane.top, plane.left
    area, total = 0.0, 0.0
    for i in range(max(math.floor(north), top), min(math.ceil(south), top + values.shape[0])):
        height = min(i + 1.0, south) - max(float(i), north)
        for j in range(max(math.floor(west), left), min(math.ceil(east), left + values.shape[1])):
            value = values[np.uint64(i - top), np.uint64(j - left)]
            if is_valid(value, plane.nodata, plane.has_nodata):
                weight = height * (min(j + 1.0, east) - max(float(j), west))
                weighted = weight * value
                area += weight
                total += weighted * weighted if squared else weighted
    return area, total


@compiled
def area_weighted(plane: SourcePlane, mapping: Mapping, independent: bool, out: npt.NDArray[Any]) -> None:
    """Mean over the valid part of the footprint, each source pixel weighted with the area w that it shares with it.

    With ``independent``, the standard deviation of that mean where the errors s of the source pixels are uncorrelated:
    sqrt(sum((w s)²)) / sum(w) (JCGM 100:2008, equation 10). A target pixel has a value iff at least half of its
    footprint is valid. ``out`` is of a floating dtype.
    """
    top, left = plane.top, plane.left
    bottom, right = top + plane.values.shape[0], left + plane.values.shape[1]
    us, vs = np.empty(out.shape[1]), np.empty(out.shape[1])
    for r in range(out.shape[0]):
        expand_row(mapping.u, mapping, mapping.row + r, us)
        expand_row(mapping.v, mapping, mapping.row + r, vs)
        cell_row = (mapping.row + r) // mapping.step - mapping.row // mapping.step
        for c in range(out.shape[1]):
            cell = (mapping.col + c) // mapping.step - mapping.col // mapping.step
            half_width, half_height = mapping.half_width[cell_row, cell], mapping.half_height[cell_row, cell]
            west, east = snapped(us[c] - half_width), snapped(us[c] + half_width)
            north, south = snapped(vs[c] - half_height), snapped(vs[c] + half_height)
            if west < right and east > left and north < bottom and south > top:
                area, total = _weighted_sums(plane, west, east, north, south, independent)
                if area > 0 and area >= (0.5 - EDGE_TOLERANCE) * (east - west) * (south - north):
                    out[r, c] = math.sqrt(total) / area if independent else total / area
