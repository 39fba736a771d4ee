"""What is known of a partition beside its pixels: its plan's rules, its records, and the cube as readers open it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from pyproj import CRS
from pyproj.exceptions import CRSError

from scs2_cubes.core.cube import CubeSchema
from scs2_cubes.core.evidence import CubeSight, Evidence, LayerRule, described
from scs2_cubes.core.facts import POINTWISE
from scs2_cubes.core.grid import Partition, Window
from scs2_cubes.core.methods import Method
from scs2_cubes.core.variables import Kind
from scs2_cubes.errors import StorageError
from scs2_cubes.pipeline.layers import LayerPlan
from scs2_cubes.pipeline.plan import CubePlan
from scs2_cubes.storage import CubeStore

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["evidence_of"]

#: Attributes that say what values mean.
_MEANINGS = ("units", "flag_values", "flag_meanings")


def evidence_of(plan: CubePlan, partition: Partition, store: CubeStore) -> Evidence | tuple[str, str]:
    """What is known of ``partition``, or (check, reason) where the cube isn't one that could be judged.

    Reads metadata, coordinates and records.
    """
    if not store.exists():
        return "layout", f"there is no cube at {store.url}. Run `scs2-cubes run`"
    try:
        differences = store.differences(plan.schema)
    except StorageError as error:
        return "layout", str(error)
    if differences:
        return "layout", (
            f"another cube lies at {store.url}; it differs in {'; '.join(differences)}. Change the configuration back, "
            "or move that cube aside with `scs2-cubes retire`"
        )
    try:
        records = store.records()
    except StorageError as error:
        return "complete", str(error)
    with store.open() as cube:
        schema = _own_schema(plan.schema, cube)
        sight = _sight(schema, partition.window, cube)
    if not store.is_created(schema):
        sight = replace(sight, unfinished=("metadata are missing, older, or contradict each other",))
    return Evidence(
        data_version=plan.data_version,
        tiles=tuple(tile.key for tile in partition.tiles()),
        records=records,
        layers=tuple(_rule(layer, plan.schema) for layer in plan.layers),
        times=schema.times,
        n_steps=schema.n_steps,
        sight=sight,
        newer_times=plan.schema.times[len(schema.times) :],
    )


def _own_schema(schema: CubeSchema, cube: xr.Dataset) -> CubeSchema:
    """``schema`` without the steps that ``cube`` lacks yet: time grows at its end, and the next run adds them."""
    times = _times(cube)
    is_shorter = schema.time_is_dim and 0 < len(times) < len(schema.times) and schema.times[: len(times)] == times
    return replace(schema, times=times) if is_shorter else schema


def _rule(layer: LayerPlan, schema: CubeSchema) -> LayerRule:
    variable = layer.variable
    attrs = schema.layer(variable.name).attrs
    return LayerRule(
        name=variable.name,
        is_categorical=variable.kind is Kind.CATEGORICAL,
        dtype=variable.dtype,
        codes=frozenset(entry.code for entry in variable.legend),
        valid_range=variable.valid_range,
        is_exact=layer.method in POINTWISE,
        is_comparable=layer.method is not Method.COUNT,
        # A fill that is a value, too, turns some into none.
        at_most=not _is_safe(layer),
        attrs={name: described(attrs[name]) for name in _MEANINGS if name in attrs},
    )


def _is_safe(layer: LayerPlan) -> bool:
    """Whether no value of ``layer`` can be equal to its fill."""
    variable = layer.variable
    if np.isnan(variable.fill):
        return True
    if np.dtype(variable.dtype).kind == "f":
        return False
    if variable.legend:
        return variable.fill not in {entry.code for entry in variable.legend}
    if variable.valid_range is not None:
        return not variable.valid_range[0] <= variable.fill <= variable.valid_range[1]
    # Of what a function returned, numbers that are stored as fill aren't counted as values.
    return layer.output is not None or variable.fill == layer.nodata


def _sight(schema: CubeSchema, window: Window, cube: xr.Dataset) -> CubeSight:
    return CubeSight(
        layout=tuple(_layout_problems(schema, window, cube)),
        times=_times(cube) if schema.times else (),
        attrs=dict(cube.attrs),
        layers={str(name): dict(array.attrs) for name, array in cube.data_vars.items()},
    )


def _times(cube: xr.Dataset) -> tuple[str, ...]:
    if "time" not in cube.coords:
        return ()
    return tuple(str(stamp) for stamp in np.atleast_1d(cube["time"].to_numpy()).astype("datetime64[s]"))


def _layout_problems(schema: CubeSchema, window: Window, cube: xr.Dataset) -> Iterator[str]:
    """In what the opened ``cube`` isn't as ``schema`` has it, within ``window``."""
    for layer in schema.layers:
        if layer.name not in cube.data_vars:
            yield f"{layer.name}: not in this cube"
            continue
        array = cube[layer.name]
        chunks = (*((1,) if schema.time_is_dim else ()), *schema.chunk_shape)
        found = {
            "dtype": (array.dtype.name, layer.dtype),
            "chunks": (tuple(array.encoding.get("chunks", ())), chunks),
            "fill": (_fill_of(array), repr(float(layer.fill))),
            "shape": (array.shape[-2:], schema.grid.shape),
        }
        yield from (
            f"{layer.name} {what}: {there} there, {here} here" for what, (there, here) in found.items() if there != here
        )
    y_dim, x_dim = cube[schema.layers[0].name].dims[-2:] if schema.layers[0].name in cube.data_vars else ("y", "x")
    lattice = schema.grid.lattice
    for dim, part, centres in (
        (y_dim, window.slices[0], lattice.y_centres(window.row_start, window.row_stop)),
        (x_dim, window.slices[1], lattice.x_centres(window.col_start, window.col_stop)),
    ):
        if dim not in cube.coords or not np.array_equal(cube[dim].to_numpy()[part], centres):
            yield f"coordinate {dim} isn't that of the grid's pixel centres"
    yield from _crs_problems(schema, cube)


def _fill_of(array: xr.DataArray) -> str:
    fill: Any = array.attrs.get("_FillValue", array.encoding.get("_FillValue"))
    return "none" if fill is None else repr(float(fill))


def _crs_problems(schema: CubeSchema, cube: xr.Dataset) -> Iterator[str]:
    expected = CRS.from_user_input(schema.grid.crs)
    for name in {
        str(array.encoding.get("grid_mapping", array.attrs.get("grid_mapping"))) for array in cube.data_vars.values()
    }:
        text = cube[name].attrs.get("crs_wkt", "") if name in cube.coords else ""
        try:
            same = CRS.from_user_input(text) == expected
        except CRSError:
            same = False
        if not same:
            yield f"CRS: {text or 'none'} there, {expected.to_string()} here"
