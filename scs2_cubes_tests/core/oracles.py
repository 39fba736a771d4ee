"""What the kernels must give, written as loops from the definitions, without a line of ``scs2_cubes``.

A raster is (crs, x_origin, y_origin, dx, dy). Index arrays have the axis order (row, column). Sources are whole
arrays with their own indices: no windows, no meshes, no shortcuts.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from pyproj import Transformer

Raster = tuple[str, float, float, float, float]
Floats = npt.NDArray[np.float64]

#: A point this close to an edge (in source pixels) lies on it.
ON_EDGE = 1e-6


def source_index(source: Raster, target: Raster, rows: range, cols: range) -> tuple[Floats, Floats]:
    """(u, v) at the centres of target pixels, each transformed on its own."""
    x, y = np.meshgrid(target[1] + (np.array(cols) + 0.5) * target[3], target[2] + (np.array(rows) + 0.5) * target[4])
    if source[0] != target[0]:
        x, y = Transformer.from_crs(target[0], source[0], always_xy=True).transform(x, y)
    return (x - source[1]) / source[3], (y - source[2]) / source[4]


def nearest(source: npt.NDArray[Any], u: float, v: float, nodata: float | None) -> float | None:
    i, j = math.floor(v + ON_EDGE), math.floor(u + ON_EDGE)
    return _number(source, i, j, nodata)


def bilinear(source: npt.NDArray[Any], u: float, v: float, nodata: float | None) -> float | None:
    if nearest(source, u, v, nodata) is None:
        return None
    first_col, first_row = math.floor(u - 0.5), math.floor(v - 0.5)
    total, weights = 0.0, 0.0
    for i in (first_row, first_row + 1):
        for j in (first_col, first_col + 1):
            weight = (1 - abs(v - (i + 0.5))) * (1 - abs(u - (j + 0.5)))
            number = _number(source, i, j, nodata)
            if number is not None:
                total += weight * number
                weights += weight
    return total / weights


def mean(source: npt.NDArray[Any], u: float, v: float, size: tuple[float, float], nodata: float | None) -> float | None:
    """``size`` is (width, height) of the footprint in source pixels."""
    parts = [(area, number) for area, number in _parts(source, u, v, size, nodata) if number is not None]
    valid = sum(area for area, _ in parts)
    if valid == 0 or valid < (0.5 - ON_EDGE) * size[0] * size[1]:
        return None
    return sum(area * number for area, number in parts) / valid


def independent_error(
    source: npt.NDArray[Any], u: float, v: float, size: tuple[float, float], nodata: float | None
) -> float | None:
    parts = [(area, number) for area, number in _parts(source, u, v, size, nodata) if number is not None]
    valid = sum(area for area, _ in parts)
    if valid == 0 or valid < (0.5 - ON_EDGE) * size[0] * size[1]:
        return None
    return math.sqrt(sum((area * number) ** 2 for area, number in parts)) / valid


def majority(
    source: npt.NDArray[Any], u: float, v: float, size: tuple[float, float], nodata: float | None
) -> float | None:
    votes: defaultdict[float, float] = defaultdict(float)
    missing = 0.0
    for area, number in _parts(source, u, v, size, nodata):
        if number is None:
            missing += area
        else:
            votes[number] += area
    whole = size[0] * size[1]
    if not votes or missing > (0.5 + ON_EDGE) * whole:
        return None
    most = max(votes.values())
    tied = sorted(code for code, area in votes.items() if area >= most - ON_EDGE * whole)
    centre = nearest(source, u, v, nodata)
    return centre if centre in tied else tied[0]


def summary(
    name: str, source: npt.NDArray[Any], u: float, v: float, size: tuple[float, float], nodata: float | None
) -> float | None:
    """What becomes of the source pixels under a footprint, by the schema's ``name``, from the definitions in numpy."""
    parts = [(area, number) for area, number in _parts(source, u, v, size, nodata) if number is not None]
    areas, numbers = np.array([area for area, _ in parts]), np.array([number for _, number in parts])
    if name == "count":
        return float(areas.sum()) if _meets(source, u, v, size) else None
    if len(parts) == 0 or areas.sum() < (0.5 - ON_EDGE) * size[0] * size[1]:
        return None
    if name == "median":
        order = np.argsort(numbers)
        return float(numbers[order][np.cumsum(areas[order]) >= (0.5 - ON_EDGE) * areas.sum()][0])
    if name in {"var", "std"}:
        variance = np.average((numbers - np.average(numbers, weights=areas)) ** 2, weights=areas)
        return float(variance if name == "var" else np.sqrt(variance))
    simple = {
        "min": numbers.min(),
        "max": numbers.max(),
        "first": numbers[0],
        "last": numbers[-1],
        "sum": areas @ numbers,
    }
    return float(simple[name] if name in simple else np.prod(numbers**areas))


def _meets(source: npt.NDArray[Any], u: float, v: float, size: tuple[float, float]) -> bool:
    return all(
        centre + extent / 2 > ON_EDGE and centre - extent / 2 < length - ON_EDGE
        for centre, extent, length in zip((v, u), size[::-1], source.shape, strict=True)
    )


def _parts(
    source: npt.NDArray[Any], u: float, v: float, size: tuple[float, float], nodata: float | None
) -> Iterator[tuple[float, float | None]]:
    """(shared area, number or None) of each pixel under the footprint, those beyond the source's edge included."""
    west, east, north, south = u - size[0] / 2, u + size[0] / 2, v - size[1] / 2, v + size[1] / 2
    for i in range(math.floor(north), math.ceil(south)):
        for j in range(math.floor(west), math.ceil(east)):
            width, height = min(j + 1, east) - max(j, west), min(i + 1, south) - max(i, north)
            # Slivers come from rounding of edges that lie on edges.
            if width > ON_EDGE and height > ON_EDGE:
                yield width * height, _number(source, i, j, nodata)


def _number(source: npt.NDArray[Any], i: int, j: int, nodata: float | None) -> float | None:
    if not (0 <= i < source.shape[0] and 0 <= j < source.shape[1]):
        return None
    number = float(source[i, j])
    return None if math.isnan(number) or number == nodata else number
