"""How many pixels differ from the exact ones: each pixel transformed by pyproj on its own, rules from the definitions.

Nothing of the package's resampling is used here. Pixels are judged in one block of every tile, in the first and the
last step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from pyproj import Transformer

from scs2_cubes.core.grid import Grid, Lattice, Window
from scs2_cubes.core.methods import Method
from scs2_cubes.core.native import NativeDataset
from scs2_cubes.pipeline.layers import LayerPlan
from scs2_cubes.pipeline.plan import CubePlan
from scs2_cubes_tests.benchmarks.contenders.base import nodata_of, read_window

__all__ = ["Exactness", "exact_block", "judge", "source_of"]

Floats = npt.NDArray[np.float64]

#: Edge of the block that is judged in each tile, in pixels.
_BLOCK = 256
#: Two quantities are the same within this share of the range of the exact ones: what 0.01 source pixel makes.
_TOLERANCE = 1e-3
#: A point this close to an edge (in source pixels) lies on it, a share this small is none.
_ON_EDGE = 1e-6


@dataclass(frozen=True, slots=True)
class Exactness:
    """The result of comparing."""

    pixels: int
    """How many were judged."""
    different: int
    """How many differ: in their class, in their validity, or by more than the tolerance."""

    @property
    def share(self) -> float:
        return self.different / self.pixels if self.pixels else 0.0


def judge(plan: CubePlan, source: Path, cube: Path) -> Exactness:
    """Compare the Zarr ``cube`` with what the Zarr ``source`` gives exactly. Reads both."""
    source_group = zarr.open_group(str(source), mode="r", zarr_format=2)
    cube_group = zarr.open_group(str(cube), mode="r", zarr_format=2)
    pixels = different = 0
    for layer in plan.layers:
        stored: Any = source_group[layer.array]
        made: Any = cube_group[layer.variable.name]
        for step in sorted({0, plan.schema.n_steps - 1}):
            for window in _blocks(plan.region.grid):
                expected = exact_block(plan, layer, stored, step, window)
                values = np.asarray(made[(*((step,) if made.ndim == 3 else ()), *window.slices)])
                pixels += expected.size
                different += _count_different(values, expected, layer)
    return Exactness(pixels, different)


def exact_block(plan: CubePlan, layer: LayerPlan, stored: Any, step: int, window: Window) -> Floats:
    """The exact values of a window of the target, shape (rows, columns), NaN where there is none. Reads the source."""
    native, grid = plan.native, plan.region.grid
    u, v = _positions(native.lattice, grid, window)
    read = _surroundings(native.lattice, u, v)
    raw = read_window(stored, native, native.array(layer.array), read, plan.source_steps[step])
    nodata = nodata_of(layer)
    values = np.where(raw == nodata, np.nan, raw.astype(np.float64)) if nodata is not None else raw.astype(np.float64)
    if values.ndim == 3:
        values = _mean_of_members(values)
    u, v = u - read.col_start, v - read.row_start
    if layer.method is Method.BILINEAR:
        return _bilinear(values, u, v)
    if layer.method is Method.MAJORITY:
        lattice = native.lattice
        return _majority(values, u, v, grid.x_res / abs(lattice.dx), grid.y_res / abs(lattice.dy))
    if layer.method in {Method.NEAREST, Method.COPY}:
        return _nearest(values, u, v)
    raise NotImplementedError(f"no exact rule is written down for {layer.method}")


def _blocks(grid: Grid) -> Iterator[Window]:
    """One block of each tile, never at the same place of the tile."""
    for number, tile in enumerate(grid.tiles()):
        height, width = (min(_BLOCK, size) for size in tile.window.shape)
        row = tile.window.row_start + (number * 397) % (tile.window.height - height + 1)
        col = tile.window.col_start + (number * 911) % (tile.window.width - width + 1)
        yield Window(row, row + height, col, col + width)


def _positions(source: Lattice, grid: Grid, window: Window) -> tuple[Floats, Floats]:
    """Fractional source (column, row) of the centre of each target pixel; pixel i covers i … i + 1."""
    lattice = grid.lattice
    x, y = np.meshgrid(
        lattice.x_centres(window.col_start, window.col_stop), lattice.y_centres(window.row_start, window.row_stop)
    )
    if source.crs != grid.crs:
        x, y = Transformer.from_crs(grid.crs, source.crs, always_xy=True).transform(x, y)
    return (x - source.x_origin) / source.dx, (y - source.y_origin) / source.dy


def _surroundings(source: Lattice, u: Floats, v: Floats) -> Window:
    pad = 6
    return Window(
        max(0, int(v.min()) - pad),
        min(source.ny, int(v.max()) + pad),
        max(0, int(u.min()) - pad),
        min(source.nx, int(u.max()) + pad),
    )


def _mean_of_members(members: Floats) -> Floats:
    count = np.sum(~np.isnan(members), axis=0)
    total = np.nansum(members, axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _take(values: Floats, rows: npt.NDArray[np.int64], cols: npt.NDArray[np.int64]) -> Floats:
    """Values at indices, NaN outside."""
    inside = (rows >= 0) & (rows < values.shape[0]) & (cols >= 0) & (cols < values.shape[1])
    found = values[np.clip(rows, 0, values.shape[0] - 1), np.clip(cols, 0, values.shape[1] - 1)]
    return np.where(inside, found, np.nan)


def _floor(numbers: Floats) -> npt.NDArray[np.int64]:
    return np.floor(numbers + _ON_EDGE).astype(np.int64)


def _nearest(values: Floats, u: Floats, v: Floats) -> Floats:
    return _take(values, _floor(v), _floor(u))


def _bilinear(values: Floats, u: Floats, v: Floats) -> Floats:
    col, row = np.floor(u - 0.5).astype(np.int64), np.floor(v - 0.5).astype(np.int64)
    total, weights = np.zeros_like(u), np.zeros_like(u)
    for down in (0, 1):
        for right in (0, 1):
            weight = (1 - np.abs(v - (row + down + 0.5))) * (1 - np.abs(u - (col + right + 0.5)))
            number = _take(values, row + down, col + right)
            valid = ~np.isnan(number)
            total += np.where(valid, weight * number, 0)
            weights += np.where(valid, weight, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / weights
    return np.where(np.isnan(_nearest(values, u, v)), np.nan, mean)


def _majority(values: Floats, u: Floats, v: Floats, width: float, height: float) -> Floats:
    codes = np.unique(values[~np.isnan(values)])
    votes = np.zeros((len(codes), *u.shape))
    missing = np.zeros_like(u)
    for row, tall in _overlaps(v, height):
        for col, wide in _overlaps(u, width):
            area, number = tall * wide, _take(values, row, col)
            missing += np.where(np.isnan(number), area, 0)
            for place, code in enumerate(codes):
                votes[place] += np.where(number == code, area, 0)
    if not len(codes):
        return np.full_like(u, np.nan)
    whole = width * height
    tied = votes >= votes.max(axis=0) - _ON_EDGE * whole
    # Codes ascend, so the first one that is tied is the smallest.
    winner = codes[np.argmax(tied, axis=0)]
    centre = _nearest(values, u, v)
    for place, code in enumerate(codes):
        winner = np.where((centre == code) & tied[place], code, winner)
    return np.where((missing > (0.5 + _ON_EDGE) * whole) | (votes.max(axis=0) == 0), np.nan, winner)


def _overlaps(centre: Floats, size: float) -> Iterator[tuple[npt.NDArray[np.int64], Floats]]:
    """(source index, shared length) of each source pixel that an interval of ``size`` may touch."""
    first, last = centre - size / 2, centre + size / 2
    start = np.floor(first).astype(np.int64)
    for offset in range(int(np.ceil(size)) + 1):
        shared = np.minimum(start + offset + 1, last) - np.maximum(start + offset, first)
        yield start + offset, np.where(shared > _ON_EDGE, shared, 0)


def _count_different(values: npt.NDArray[Any], expected: Floats, layer: LayerPlan) -> int:
    made = values.astype(np.float64)
    # A contender that writes floats has NaN where there is no value.
    made = np.where(made == layer.variable.fill, np.nan, made)
    both_missing = np.isnan(made) & np.isnan(expected)
    if layer.method in {Method.MAJORITY, Method.NEAREST, Method.COPY}:
        return int(np.count_nonzero((made != expected) & ~both_missing))
    valid = expected[~np.isnan(expected)]
    tolerance = _TOLERANCE * (float(np.ptp(valid)) if valid.size else 1.0)
    same = np.abs(made - expected) <= tolerance
    return int(np.count_nonzero(~same & ~both_missing))


def source_of(native: NativeDataset, root: Path) -> Path:
    """The local folder behind a source that was described over http."""
    return root / native.location.url.rstrip("/").rpartition("/")[2]
