"""A window of a source as xarray decodes it, and what a function made of it, as planes with the source's validity."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from scs2_cubes.core.grid import Window
from scs2_cubes.core.native import NativeArray, NativeDataset
from scs2_cubes.core.specification import FunctionSpec
from scs2_cubes.errors import ProcessingError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Output", "decode_window", "learn_outputs", "narrow_times", "output_planes", "sample_window"]

Array = npt.NDArray[Any]

#: Rows and columns of the window on which a function's outputs are learnt.
_SAMPLE = 8


@dataclass(frozen=True, slots=True)
class Output:
    """A variable that a function returns."""

    name: str
    """Its name."""
    dtype: str
    """numpy name of its dtype, as returned."""
    has_time: bool
    """True where time is a dimension of it."""
    times: tuple[str, ...]
    """Its time stamps, ISO 8601; one where time is a scalar coordinate, empty where it has none."""
    attrs: Mapping[str, Any]
    """Its attributes."""


def decode_window(native: NativeDataset, arrays: Mapping[str, Array], window: Window) -> xr.Dataset:
    """The dataset that ``xarray.open_zarr`` would show of ``window``, in memory.

    ``arrays``: name → stored numbers over the window, dimensions in stored order.
    """
    import xarray as xr  # noqa: PLC0415  (a second of import, for datasets with a function only)

    lattice = native.lattice
    variables: dict[str, xr.Variable] = {
        native.y_dim: xr.Variable((native.y_dim,), lattice.y_centres(window.row_start, window.row_stop)),
        native.x_dim: xr.Variable((native.x_dim,), lattice.x_centres(window.col_start, window.col_stop)),
    }
    # Copies of everything: a function may write into what it gets, the source's validity is read from ``arrays``
    # afterwards, and ``native`` is there for the next tiles.
    for coordinate in native.coordinates:
        attrs = copy.deepcopy(dict(coordinate.attrs))
        variables[coordinate.name] = xr.Variable(coordinate.dims, coordinate.values.copy(), attrs)
    for name, values in arrays.items():
        array = native.array(name)
        attrs = copy.deepcopy({**array.attrs, **array.encoding})
        if array.fill is not None:
            attrs.setdefault("_FillValue", np.dtype(array.dtype).type(array.fill))
        variables[name] = xr.Variable(array.dims, values.copy(), attrs)
    decoded: xr.Dataset = xr.decode_cf(xr.Dataset(variables, attrs=copy.deepcopy(dict(native.attrs))))
    # Otherwise each look at a variable would decode it anew, and what a function writes into it would be lost.
    return decoded.load()


def narrow_times(native: NativeDataset, steps: tuple[int, ...]) -> NativeDataset:
    """``native`` with these steps of its time axis alone; the same where time is no dimension."""
    if native.time_dim is None or len(steps) == len(native.times):
        return native
    dim = native.time_dim
    chosen = list(steps)
    return replace(
        native,
        times=tuple(native.times[step] for step in steps),
        arrays=tuple(
            replace(
                array,
                shape=tuple(
                    len(steps) if name == dim else length for name, length in zip(array.dims, array.shape, strict=True)
                ),
            )
            for array in native.arrays
        ),
        coordinates=tuple(
            # Wherever it has the dimension: bounds of the steps have a second one.
            replace(coordinate, values=coordinate.values.take(chosen, axis=coordinate.dims.index(dim)))
            if dim in coordinate.dims
            else coordinate
            for coordinate in native.coordinates
        ),
    )


def sample_window(native: NativeDataset) -> tuple[Window, dict[str, Array]]:
    """A small window in the middle of the source, with ones for values and "no value" in its last column.

    Made up rather than read: to learn names, dimensions and dtypes isn't worth a request.
    """
    lattice = native.lattice
    row, col = max(0, lattice.ny // 2 - _SAMPLE), max(0, lattice.nx // 2 - _SAMPLE)
    window = Window(row, min(row + _SAMPLE, lattice.ny), col, min(col + _SAMPLE, lattice.nx))
    sizes = {native.y_dim: window.height, native.x_dim: window.width}
    arrays = {}
    for array in native.arrays:
        shape = [sizes.get(dim, length) for dim, length in zip(array.dims, array.shape, strict=True)]
        values = np.ones(shape, dtype=array.dtype)
        if array.fill is not None:
            last: list[slice | int] = [slice(None)] * len(shape)
            last[array.dims.index(native.x_dim)] = -1
            values[tuple(last)] = array.fill
        arrays[array.name] = values
    return window, arrays


def learn_outputs(spec: FunctionSpec, native: NativeDataset, result: xr.Dataset, window: Window) -> tuple[Output, ...]:
    """What a function returns, from its result on ``window``. Raises ProcessingError where that can't be a cube."""
    outputs = []
    for name, variable in result.data_vars.items():
        if not {native.y_dim, native.x_dim} & set(variable.dims):
            # Grid mappings and other scalars that some stores hold as data variables.
            continue
        _require_lattice(spec, native, result, str(name), window)
        _require_numbers(spec, variable)
        has_time = native.time_dim is not None and native.time_dim in variable.dims
        times = _times(spec, variable, native.time_dim)
        outputs.append(Output(str(name), variable.dtype.name, has_time, times, dict(variable.attrs)))
    if not outputs:
        raise ProcessingError(
            f"custom_processing: {spec.name} in {spec.path} returned no variable with the dimensions {native.y_dim} "
            f"and {native.x_dim}; it has {', '.join(map(str, result.variables)) or 'nothing at all'}"
        )
    return tuple(outputs)


def output_planes(
    spec: FunctionSpec,
    native: NativeDataset,
    result: xr.Dataset,
    window: Window,
    output: Output,
    arrays: Mapping[str, Array],
    nodata: float | None,
) -> tuple[Array, npt.NDArray[np.bool_]]:
    """(values, valid) of one output, both (step, row, column) in the source's order of rows and columns.

    ``valid`` is the source's validity carried past the function, where a variable of that name is in ``arrays``: a
    function that casts to an integer can't turn "outside" into a class. ``nodata`` is that variable's number for "no
    value"; None: the one that the store declares. Raises ProcessingError where the result isn't
    what :func:`learn_outputs` learnt.
    """
    if output.name not in result:
        raise ProcessingError(f"custom_processing: {spec.name} in {spec.path} returned no {output.name!r} this time")
    _require_lattice(spec, native, result, output.name, window)
    variable = result[output.name]
    if variable.dtype.name != output.dtype:
        raise ProcessingError(
            f"custom_processing: {spec.name} in {spec.path} returned {output.name!r} as {variable.dtype.name} this "
            f"time, {output.dtype} before"
        )
    if _times(spec, variable, native.time_dim) != output.times:
        raise ProcessingError(f"custom_processing: {spec.name} in {spec.path} returned other times of {output.name!r}")
    dims = ([native.time_dim] if output.has_time else []) + [native.y_dim, native.x_dim]
    values = variable.transpose(*dims).to_numpy()
    values = values if output.has_time else values[np.newaxis]
    return values, _carried_validity(native, output, values.shape, arrays, nodata)


def _require_lattice(spec: FunctionSpec, native: NativeDataset, result: xr.Dataset, name: str, window: Window) -> None:
    variable = result[name]
    allowed = {native.y_dim, native.x_dim} | ({native.time_dim} if native.time_dim else set())
    extra = [str(dim) for dim in variable.dims if dim not in allowed]
    if extra or not {native.y_dim, native.x_dim} <= set(variable.dims):
        raise ProcessingError(
            f"custom_processing: {spec.name} in {spec.path} returned {name!r} with dimensions "
            f"{tuple(map(str, variable.dims))}; a cube takes {native.y_dim} and {native.x_dim}, and time"
        )
    lattice = native.lattice
    for dim, centres in (
        (native.y_dim, lattice.y_centres(window.row_start, window.row_stop)),
        (native.x_dim, lattice.x_centres(window.col_start, window.col_stop)),
    ):
        there = variable[dim].to_numpy() if dim in variable.coords else None
        if variable.sizes[dim] != len(centres) or (there is not None and not np.array_equal(there, centres)):
            raise ProcessingError(
                f"custom_processing: {spec.name} in {spec.path} returned {name!r} on another lattice: {dim} has "
                f"{variable.sizes[dim]} values instead of {len(centres)}, or others. A function must keep the window's "
                "pixels; grids are the configuration's business"
            )


def _require_numbers(spec: FunctionSpec, variable: xr.DataArray) -> None:
    if variable.dtype.kind not in "biuf":
        raise ProcessingError(
            f"custom_processing: {spec.name} in {spec.path} returned {variable.name!r} as {variable.dtype.name}; a "
            "cube takes integers, floating-point numbers and booleans"
        )


def _times(spec: FunctionSpec, variable: xr.DataArray, time_dim: str | None) -> tuple[str, ...]:
    name = time_dim or "time"
    if name not in variable.coords:
        if name in variable.dims:
            raise ProcessingError(
                f"custom_processing: {spec.name} in {spec.path} returned {variable.name!r} with the dimension {name} "
                "but without its coordinate, so that nobody knows what its steps are; keep the coordinate"
            )
        return ()
    stamps = np.atleast_1d(variable[name].to_numpy())
    if stamps.dtype.kind != "M" or np.isnat(stamps).any():
        raise ProcessingError(
            f"custom_processing: {spec.name} in {spec.path} returned {variable.name!r} with other than dates as its "
            f"{name} ({stamps.dtype.name}: {stamps[0]} …); keep the source's, or make datetime64 of them"
        )
    return tuple(str(stamp) for stamp in stamps.astype("datetime64[s]"))


def _carried_validity(
    native: NativeDataset,
    output: Output,
    shape: tuple[int, ...],
    arrays: Mapping[str, Array],
    nodata: float | None,
) -> npt.NDArray[np.bool_]:
    if output.name not in arrays:
        return np.ones(shape, dtype=bool)
    valid = _validity(native, native.array(output.name), arrays[output.name], nodata)
    steps = [native.times.index(time) for time in output.times if time in native.times]
    if len(valid) == 1:
        return np.broadcast_to(valid, shape)
    if steps and len(steps) == shape[0]:
        return valid[steps]
    # The times are other ones now (an aggregate, say): what is valid in no step at all stays invalid.
    return np.broadcast_to(valid.any(axis=0), shape)


def _validity(native: NativeDataset, array: NativeArray, values: Array, nodata: float | None) -> npt.NDArray[np.bool_]:
    """(step, row, column): True where the source has a value; a member's is enough."""
    valid = np.ones(values.shape, dtype=bool)
    nothing = array.fill if nodata is None else nodata
    if nothing is not None:
        valid &= values != nothing
    if values.dtype.kind == "f":
        valid &= ~np.isnan(values)
    kept = [dim for dim in (native.time_dim, native.y_dim, native.x_dim) if dim in array.dims]
    others = tuple(axis for axis, dim in enumerate(array.dims) if dim not in kept)
    reduced = np.asarray(valid.any(axis=others)) if others else valid
    remaining = [dim for dim in array.dims if dim in kept]
    ordered: npt.NDArray[np.bool_] = reduced.transpose([remaining.index(dim) for dim in kept])
    return ordered if native.time_dim in kept else ordered[np.newaxis]
