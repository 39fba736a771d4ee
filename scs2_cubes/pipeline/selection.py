"""Which part of a source a dataset uses: its window and its time steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from pyproj import Transformer

from scs2_cubes.core.grid import Window
from scs2_cubes.core.native import NativeArray, NativeDataset
from scs2_cubes.core.specification import DatasetSpec
from scs2_cubes.errors import PlanError, ProcessingError
from scs2_cubes.pipeline.layers import LayerPlan

__all__ = ["select_steps", "time_axis", "used_window", "with_zeros"]


def with_zeros(dataset: DatasetSpec, native: NativeDataset) -> NativeDataset:
    """``native`` without the declaration that 0 is nodata, for the variables whose 0 is a value: ``zero: value``.

    So a user's function sees their zeros, too.
    """
    names = set(dataset.zero_is_value)
    for variable in dataset.product.variables if dataset.product else ():
        if variable.zero_is_value or variable.name in names:
            names |= {variable.name, *variable.aliases}
    return replace(
        native,
        arrays=tuple(
            _without_fill(array) if array.name in names and array.fill == 0 else array for array in native.arrays
        ),
    )


def _without_fill(array: NativeArray) -> NativeArray:
    encoding = {key: value for key, value in array.encoding.items() if key not in {"_FillValue", "missing_value"}}
    return replace(array, fill=None, encoding=encoding)


def used_window(dataset: DatasetSpec, native: NativeDataset) -> Window:
    """The pixels whose centres lie in ``open_params.bbox``; all where there is none.

    Raises PlanError where none does, or where the box can't be transformed to the source's CRS.
    """
    lattice = native.lattice
    if dataset.bbox is None:
        return lattice.window
    crs = dataset.bbox_crs or lattice.crs
    bounds = Transformer.from_crs(crs, lattice.crs, always_xy=True).transform_bounds(*dataset.bbox)
    if not np.isfinite(bounds).all():
        raise PlanError(
            f"dataset {dataset.identifier!r}: open_params.bbox {list(dataset.bbox)} can't be transformed from {crs} to "
            f"{lattice.crs}; are its numbers in units of {crs}? open_params.crs says which CRS they are in"
        )
    west, south, east, north = bounds
    cols = _between((west, east), lattice.x_origin, lattice.dx, lattice.nx)
    rows = _between((south, north), lattice.y_origin, lattice.dy, lattice.ny)
    if cols[0] >= cols[1] or rows[0] >= rows[1]:
        raise PlanError(
            f"dataset {dataset.identifier!r}: open_params.bbox {list(dataset.bbox)} in {crs} lies outside the source "
            f"{native.href}, bbox {list(lattice.bbox)} in {lattice.crs}"
        )
    return Window(*rows, *cols)


def select_steps(dataset: DatasetSpec, native: NativeDataset) -> tuple[int, ...]:
    """Positions on the source's time axis within ``open_params.time_range``; (0,) where time is no dimension.

    Raises PlanError where no step, or not the scalar time, lies in it.
    """
    if dataset.time_range is None or not native.times:
        return tuple(range(len(native.times))) if native.time_dim is not None else (0,)
    within = _steps_within(dataset, native, dataset.time_range)
    return within if native.time_dim is not None else (0,)


def _steps_within(
    dataset: DatasetSpec, native: NativeDataset, time_range: tuple[str | None, str | None]
) -> tuple[int, ...]:
    first, last = time_range
    stamps = np.array(native.times, dtype="datetime64[s]")
    chosen = np.ones(len(stamps), dtype=bool)
    if first is not None:
        chosen &= stamps >= np.datetime64(first)
    if last is not None:
        # A date means the whole day.
        chosen &= stamps.astype("datetime64[D]") <= np.datetime64(last, "D")
    if not chosen.any():
        raise PlanError(
            f"dataset {dataset.identifier!r}: open_params.time_range: no step between {first} and {last}; "
            f"{native.href} has {native.times[0]} to {native.times[-1]}"
        )
    return tuple(int(step) for step in np.flatnonzero(chosen))


def time_axis(
    dataset: DatasetSpec, native: NativeDataset, layers: Sequence[LayerPlan], selected: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[str, ...], bool]:
    """(source steps, the cube's time stamps, whether time is a dimension of the cube).

    Raises ProcessingError where a function returns variables with different times.
    """
    if layers[0].output is not None:
        times, is_dim = _times_of_outputs(dataset, layers)
        return selected, times, is_dim
    if native.time_dim is None:
        return selected, native.times, False
    if dataset.time_range is None and all(layer.variable.time == "last" for layer in layers):
        return selected[-1:], native.times[-1:], False
    return selected, tuple(native.times[step] for step in selected), True


def _times_of_outputs(dataset: DatasetSpec, layers: Sequence[LayerPlan]) -> tuple[tuple[str, ...], bool]:
    axes = {(layer.output.times, layer.output.has_time) for layer in layers if layer.output is not None}
    if len(axes) > 1:
        found = "; ".join(f"{len(times)} {'steps' if is_dim else 'scalar time'}" for times, is_dim in sorted(axes))
        spec = dataset.processing
        where = f"{spec.name} in {spec.path}" if spec else "a function"
        raise ProcessingError(
            f"custom_processing: {where} returned variables with different times ({found}); one cube has one time axis"
        )
    return axes.pop()


def _between(limits: tuple[float, float], origin: float, step: float, count: int) -> tuple[int, int]:
    """First and one past the last pixel whose centre lies between ``limits``."""
    edges = sorted((limit - origin) / step - 0.5 for limit in limits)
    return max(0, int(np.ceil(edges[0]))), min(count, int(np.floor(edges[1])) + 1)
