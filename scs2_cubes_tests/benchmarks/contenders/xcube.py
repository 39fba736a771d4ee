"""xcube-resampling on a Dask array over the whole store, as its users have it: with its defaults, and with nearest."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import cloudpickle
import dask
import numcodecs
import xarray as xr
from xcube_resampling import resample_in_space
from xcube_resampling.gridmapping import GridMapping

from scs2_cubes.pipeline.plan import CubePlan
from scs2_cubes_tests.benchmarks.contenders.base import Contender, GraphSize, Outcome, has_classes
from scs2_cubes_tests.benchmarks.tasks import Task, plan_of

__all__ = ["XCUBE", "XCUBE_NEAREST"]

#: Source pixels around the window, where the store isn't wrapped as a whole.
_MARGIN = 256


def _run(task: Task, plan: CubePlan, *, nearest: bool) -> Outcome:
    grid = plan.region.grid
    # By default the dataset is decoded, which makes floats of everything that has a fill value or a scale.
    source = xr.open_zarr(task.source, chunks=None if task.wraps_window else {}, consolidated=True, decode_coords="all")
    source = _processed(plan, source, crop=task.wraps_window)
    target = GridMapping.regular(
        (grid.nx, grid.ny), (grid.west, grid.south), (grid.x_res, grid.y_res), grid.crs, tile_size=grid.tile_nx
    )
    methods: dict[str, Any] = {"interp_methods": "nearest", "agg_methods": "center"} if nearest else {}
    cube = resample_in_space(source, target_gm=target, **methods)
    stored = _write(task, plan, cube)
    with dask.config.set(scheduler="threads", num_workers=task.threads):
        stored.compute()
    graph = cube.__dask_graph__()
    return Outcome(lambda: GraphSize(len(graph or {}), len(cloudpickle.dumps(graph))))


def _processed(plan: CubePlan, source: xr.Dataset, *, crop: bool) -> xr.Dataset:
    """Variables and steps of the cube; members averaged, as the science case's own function does."""
    native = plan.native
    chosen = source[[layer.array for layer in plan.layers]]
    if native.time_dim is not None:
        steps = plan.source_steps
        step = slice(steps[0], steps[-1] + 1) if plan.schema.time_is_dim else steps[0]
        chosen = chosen.isel({native.time_dim: step})
    if crop:
        window = plan.index_map.source_window(plan.region.grid.lattice.window)
        if window is None:
            raise ValueError("the target lies outside the source")
        rows = slice(max(0, window.row_start - _MARGIN), window.row_stop + _MARGIN)
        cols = slice(max(0, window.col_start - _MARGIN), window.col_stop + _MARGIN)
        stored = native.arrays[0]
        chunks = {dim: size for dim, size in zip(stored.dims, stored.chunks, strict=True) if dim in chosen.dims}
        chosen = chosen.isel({native.y_dim: rows, native.x_dim: cols}).chunk(chunks)
    members = [layer.variable.ensemble_dim for layer in plan.layers if layer.variable.ensemble_dim]
    return chosen.mean(members, keep_attrs=True) if members else chosen


def _write(task: Task, plan: CubePlan, cube: xr.Dataset) -> Any:
    grid = plan.region.grid
    encoding = {}
    for name, array in cube.data_vars.items():
        array.encoding.clear()
        if {"y", "x"} <= set(array.dims):
            sizes = {"y": grid.tile_ny, "x": grid.tile_nx}
            encoding[name] = {
                "chunks": tuple(min(sizes.get(str(dim), 1), size) for dim, size in array.sizes.items()),
                "compressors": (numcodecs.Blosc("zstd", 1, numcodecs.Blosc.SHUFFLE),),
            }
    rechunked = cube.chunk({"y": grid.tile_ny, "x": grid.tile_nx})
    path = Path(task.output) / f"{task.cube}.zarr"
    return rechunked.to_zarr(path, mode="w", zarr_format=2, encoding=encoding, compute=False)


XCUBE = Contender(
    "xcube",
    partial(_run, nearest=False),
    lambda _: True,
    "its defaults: everything as floats, class codes blended; a Dask array over the whole store",
    prepare=plan_of,
)
XCUBE_NEAREST = Contender(
    "xcube-nearest",
    partial(_run, nearest=True),
    has_classes,
    "nearest instead of majority, as floats; a Dask array over the whole store",
    prepare=plan_of,
)
