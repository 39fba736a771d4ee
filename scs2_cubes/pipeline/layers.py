"""Which layers a cube has, and what is known or assumed of their values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from scs2_cubes.core.native import NativeArray, NativeDataset
from scs2_cubes.core.resample import Method, choose_method
from scs2_cubes.core.specification import DatasetSpec
from scs2_cubes.core.transform import IndexMap
from scs2_cubes.core.variables import Kind, Statistic, Variable
from scs2_cubes.errors import PlanError

__all__ = ["LayerPlan", "plan_layers"]


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """How one layer of a cube comes from one array of the source."""

    variable: Variable
    """What its values mean."""
    array: str
    """Name of the source's array."""
    statistic: Statistic | None
    """How members become one layer; None where there are no members."""
    method: Method
    """How pixels become pixels."""
    nodata: float | None
    """The source's number for "no value"."""
    assumed: str | None = None
    """Where no product description exists: what was taken for granted, and from which signs."""


def plan_layers(dataset: DatasetSpec, native: NativeDataset, index_map: IndexMap) -> tuple[LayerPlan, ...]:
    """The layers of ``dataset``'s cube, in the order of the product description, or of the names.

    Raises PlanError where a variable that was asked for isn't there, or where an array can't be understood.
    """
    found = tuple(_described(dataset, native) if dataset.product else _assumed(native))
    names = [variable.name for variable, _, _ in found]
    wanted = dataset.variable_names or tuple(names)
    missing = [name for name in wanted if name not in names]
    if missing:
        raise PlanError(
            f"dataset {dataset.identifier!r}: open_params.variable_names: no variable {', '.join(missing)} in "
            f"{native.href}; there are: {', '.join(names)}"
        )
    return tuple(
        _layer(variable, array, native, index_map, assumed)
        for variable, array, assumed in found
        if variable.name in wanted
    )


def _described(dataset: DatasetSpec, native: NativeDataset) -> Iterator[tuple[Variable, NativeArray, str | None]]:
    product = dataset.product
    variables = product.variables if product else ()
    arrays = {array.name: array for array in native.arrays}
    for variable in variables:
        name = next((name for name in (variable.name, *variable.aliases) if name in arrays), None)
        if name is None:
            raise PlanError(
                f"dataset {dataset.identifier!r}: no variable {variable.name!r} (or an older name of it) in "
                f"{native.href}; there are: {', '.join(arrays)}"
            )
        yield variable, arrays[name], None


def _assumed(native: NativeDataset) -> Iterator[tuple[Variable, NativeArray, str | None]]:
    """Fall back on CF flags and dtypes. What looks like classes is never blended; what can't be judged is refused."""
    for array in native.arrays:
        dtype = np.dtype(array.dtype)
        units = array.attrs.get("units")
        if dtype.kind in "iu" and ("flag_values" in array.attrs or units is None):
            sign = "flag_values" if "flag_values" in array.attrs else "an integer dtype without units"
            limits = np.iinfo(dtype)
            nodata = array.fill if array.fill is not None else float(limits.max)
            variable = Variable(array.name, Kind.CATEGORICAL, array.dtype, nodata, nodata)
            yield variable, array, f"class codes, from {sign}"
        else:
            long_name = str(array.attrs.get("long_name", ""))
            variable = Variable(
                array.name, Kind.CONTINUOUS, "float32", float("nan"), array.fill, units=units, long_name=long_name
            )
            yield variable, array, "a continuous quantity, from its dtype and units"


def _layer(
    variable: Variable, array: NativeArray, native: NativeDataset, index_map: IndexMap, assumed: str | None
) -> LayerPlan:
    _require_dims(variable, array, native)
    if (array.scale, array.offset) != (1.0, 0.0):
        raise PlanError(
            f"variable {array.name!r} is packed (scale_factor {array.scale}, add_offset {array.offset}), which isn't "
            "supported yet"
        )
    nodata = variable.nodata if variable.nodata is not None else array.fill
    statistic = Statistic.MEAN if variable.kind is Kind.ENSEMBLE else None
    return LayerPlan(variable, array.name, statistic, choose_method(variable.kind, index_map), nodata, assumed)


def _require_dims(variable: Variable, array: NativeArray, native: NativeDataset) -> None:
    """Refuse a dimension that nobody knows what to do with: its first element must not pass for the whole."""
    others = tuple(dim for dim in array.dims if dim not in {native.y_dim, native.x_dim, native.time_dim})
    expected = (variable.ensemble_dim or (others or ("members",))[0],) if variable.kind is Kind.ENSEMBLE else ()
    if others != expected:
        raise PlanError(
            f"variable {array.name!r} in {native.href} has the dimensions {', '.join(array.dims)}; beside time and "
            f"space {', '.join(expected) or 'none'} can be understood. Describe it in a product"
        )
