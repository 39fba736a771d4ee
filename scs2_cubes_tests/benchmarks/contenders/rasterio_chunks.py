"""rasterio's ``reproject`` for each output chunk, reading windows and writing chunks with zarr-python."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from rasterio.enums import Resampling
from rasterio.transform import Affine
from rasterio.warp import reproject

from scs2_cubes.core.grid import Tile
from scs2_cubes.core.methods import Method
from scs2_cubes.pipeline.layers import LayerPlan
from scs2_cubes.pipeline.plan import CubePlan
from scs2_cubes_tests.benchmarks.contenders.base import (
    Contender,
    Outcome,
    create_cube,
    member_mean,
    nodata_of,
    open_source_group,
    read_window,
    window_affine,
)
from scs2_cubes_tests.benchmarks.tasks import Task, plan_of

__all__ = ["RASTERIO"]

_METHODS = {
    Method.COPY: Resampling.nearest,
    Method.NEAREST: Resampling.nearest,
    Method.BILINEAR: Resampling.bilinear,
    Method.MAJORITY: Resampling.mode,
    Method.MEAN: Resampling.average,
    Method.STD_CORRELATED: Resampling.average,
}


def _run(task: Task, plan: CubePlan) -> Outcome:
    source, cube = open_source_group(task.source), create_cube(task, plan)

    def make(work: tuple[Tile, LayerPlan, int]) -> None:
        tile, layer, step = work
        target: Any = cube[layer.variable.name]
        selection = (*((step,) if plan.schema.time_is_dim else ()), *tile.window.slices)
        target[selection] = _plane(plan, source, tile, layer, plan.source_steps[step])

    steps = range(plan.schema.n_steps)
    work = [(tile, layer, step) for tile in plan.region.grid.tiles() for layer in plan.layers for step in steps]
    with ThreadPoolExecutor(task.threads) as pool:
        list(pool.map(make, work))
    return Outcome()


def _plane(plan: CubePlan, source: zarr.Group, tile: Tile, layer: LayerPlan, step: int) -> npt.NDArray[Any]:
    variable = layer.variable
    out = np.full(tile.window.shape, variable.fill, variable.dtype)
    window = plan.index_map.source_window(tile.window)
    if window is None:
        return out
    stored: Any = source[layer.array]
    values = read_window(stored, plan.native, plan.native.array(layer.array), window, step)
    nodata = nodata_of(layer)
    if layer.statistic is not None:
        values, nodata = member_mean(values, nodata), None
    if layer.method is Method.MAJORITY and np.can_cast(values.dtype, variable.dtype, "same_kind"):
        # GDAL's mode is six times slower with 16 bits than with 8.
        values = values.astype(variable.dtype)
    lattice = plan.region.grid.lattice
    x = lattice.x_origin + tile.window.col_start * lattice.dx
    y = lattice.y_origin + tile.window.row_start * lattice.dy
    reproject(
        values,
        out,
        src_transform=Affine(*window_affine(plan, window)),
        src_crs=plan.native.lattice.crs,
        src_nodata=np.nan if values.dtype.kind == "f" and nodata is None else nodata,
        dst_transform=Affine(lattice.dx, 0.0, x, 0.0, lattice.dy, y),
        dst_crs=lattice.crs,
        dst_nodata=variable.fill,
        resampling=_METHODS[layer.method],
    )
    return out


RASTERIO = Contender(
    "rasterio",
    _run,
    lambda _: True,
    "GDAL's approximating transformer, its rule for gaps and its mode; else the same",
    prepare=plan_of,
)
