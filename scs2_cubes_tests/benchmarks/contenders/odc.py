"""odc-geo's ``xr_reproject`` on a Dask array over the window, as its experienced users have it: crop, then chunk."""

from __future__ import annotations

from functools import partial
from typing import Any

import cloudpickle
import dask
import dask.array
import dask.base
import numpy as np
import xarray as xr
import zarr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import assign_crs, xr_reproject

from scs2_cubes.core.methods import Method
from scs2_cubes.pipeline.layers import LayerPlan
from scs2_cubes.pipeline.plan import CubePlan
from scs2_cubes_tests.benchmarks.contenders.base import (
    Contender,
    GraphSize,
    Outcome,
    create_cube,
    nodata_of,
)
from scs2_cubes_tests.benchmarks.tasks import Task, plan_of

__all__ = ["ODC"]

#: Source pixels around the window: its own margin is a few pixels.
_MARGIN = 16

_METHODS = {
    Method.COPY: "nearest",
    Method.NEAREST: "nearest",
    Method.BILINEAR: "bilinear",
    Method.MAJORITY: "mode",
    Method.MEAN: "average",
    Method.STD_CORRELATED: "average",
}


def _run(task: Task, plan: CubePlan) -> Outcome:
    cube = create_cube(task, plan)
    source = xr.open_zarr(task.source, chunks=None, mask_and_scale=False, consolidated=True)
    stored = [
        dask.array.store(
            _reprojected(plan, source, layer).data, _array(cube, layer.variable.name), lock=False, compute=False
        )
        for layer in plan.layers
    ]
    with dask.config.set(scheduler="threads", num_workers=task.threads):
        dask.base.compute(*stored)
    return Outcome(partial(_graph_size, stored))


def _graph_size(stored: list[Any]) -> GraphSize:
    tasks = {key: task for one in stored for key, task in dict(one.__dask_graph__()).items()}
    return GraphSize(len(tasks), len(cloudpickle.dumps(tasks)))


def _reprojected(plan: CubePlan, source: xr.Dataset, layer: LayerPlan) -> xr.DataArray:
    native, grid = plan.native, plan.region.grid
    array = _cropped(plan, source[layer.array])
    chunks = dict(zip(native.array(layer.array).dims, native.array(layer.array).chunks, strict=True))
    array = array.chunk({dim: chunks[dim] for dim in array.dims if dim in chunks})
    nodata = nodata_of(layer)
    if layer.statistic is not None:
        array = array.where(array != nodata).mean(layer.variable.ensemble_dim, dtype="float32")
        nodata = None
    array = assign_crs(array.assign_attrs(nodata=nodata), native.lattice.crs)
    lattice = grid.lattice
    geobox = GeoBox(
        lattice.shape, Affine(lattice.dx, 0.0, lattice.x_origin, 0.0, lattice.dy, lattice.y_origin), lattice.crs
    )
    variable = layer.variable
    casts = np.can_cast(array.dtype, variable.dtype, "same_kind")
    made: xr.DataArray = xr_reproject(
        array,
        geobox,
        resampling=_METHODS[layer.method],
        dst_nodata=variable.fill if casts else nodata,
        dtype=variable.dtype if casts else array.dtype,
        chunks=(grid.tile_ny, grid.tile_nx),
    )
    if not casts:
        # It casts before it resamples, so signed codes become unsigned ones here.
        made = made.where(made != nodata, variable.fill).astype(variable.dtype)
    return made


def _cropped(plan: CubePlan, array: xr.DataArray) -> xr.DataArray:
    native = plan.native
    window = plan.index_map.source_window(plan.region.grid.lattice.window)
    if window is None:
        raise ValueError("the target lies outside the source")
    place: dict[str, Any] = {
        native.y_dim: slice(max(0, window.row_start - _MARGIN), window.row_stop + _MARGIN),
        native.x_dim: slice(max(0, window.col_start - _MARGIN), window.col_stop + _MARGIN),
    }
    if native.time_dim in array.dims:
        steps = plan.source_steps
        place[str(native.time_dim)] = slice(steps[0], steps[-1] + 1) if plan.schema.time_is_dim else steps[0]
    return array.isel(place)


def _array(group: zarr.Group, name: str) -> Any:
    array = group[name]
    if not isinstance(array, zarr.Array):
        raise TypeError(f"{name} is a group, not an array")
    return array


ODC = Contender(
    "odc-geo",
    _run,
    lambda _: True,
    "GDAL's approximating transformer, its rule for gaps and its mode; else the same",
    prepare=plan_of,
)
