"""Which layers a cube has, and what is known or assumed of their values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scs2_cubes.core.methods import Method, choose_method
from scs2_cubes.core.native import NativeArray, NativeDataset
from scs2_cubes.core.specification import DatasetSpec, VariableOptions
from scs2_cubes.core.transform import IndexMap
from scs2_cubes.core.variables import Kind, Statistic, Variable
from scs2_cubes.errors import PlanError
from scs2_cubes.processing import Output

__all__ = ["LayerPlan", "plan_layers"]


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """How one layer of a cube comes from one array of the source, or from what a function makes of it."""

    variable: Variable
    """What its values mean."""
    array: str
    """Name of the source's array, or of the function's output."""
    statistic: Statistic | None
    """How members become one layer; None where there are no members."""
    method: Method
    """How pixels become pixels."""
    nodata: float | None
    """The source's number for "no value"."""
    attrs: Mapping[str, Any]
    """Attributes that the source, or the function, gives it."""
    assumed: str | None = None
    """Where no product description exists: what was taken for granted, and from which signs."""
    output: Output | None = None
    """The function's output that it comes from, where there is a function."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A variable that could become a layer."""

    variable: Variable
    array: str
    dtype: str
    nodata: float | None
    attrs: Mapping[str, Any]
    assumed: str | None = None
    output: Output | None = None


def plan_layers(
    dataset: DatasetSpec, native: NativeDataset, index_map: IndexMap, outputs: tuple[Output, ...] | None
) -> tuple[LayerPlan, ...]:
    """The layers of ``dataset``'s cube, in the order of the product description, or of the names.

    ``outputs``: what the dataset's function returns; None without a function. Raises PlanError where a variable that
    was asked for isn't there, where an array can't be understood, or where a method isn't fit for its kind.
    """
    candidates = tuple(_of_outputs(dataset, native, outputs) if outputs is not None else _of_arrays(dataset, native))
    names = [candidate.variable.name for candidate in candidates]
    wanted = _choose(dataset, native, names)
    chosen = [candidate for candidate in candidates if candidate.variable.name in wanted]
    for candidate in chosen:
        if candidate.output is None:
            # Only now: what nobody asks for needn't be understood.
            array = native.array(candidate.array)
            _require_unpacked(array)
            _require_dims(candidate.variable, array, native)
    return tuple(layer for candidate in chosen for layer in _layers(dataset, candidate, index_map))


def _of_arrays(dataset: DatasetSpec, native: NativeDataset) -> Iterator[_Candidate]:
    if dataset.product is None:
        yield from _assumed(native.arrays)
        return
    arrays = {array.name: array for array in native.arrays}
    for variable in dataset.product.variables:
        name = next((name for name in (variable.name, *variable.aliases) if name in arrays), None)
        if name is None:
            raise PlanError(
                f"dataset {dataset.identifier!r}: no variable {variable.name!r} (or an older name of it) in "
                f"{native.href}; there are: {', '.join(arrays)}"
            )
        array = arrays[name]
        yield _Candidate(variable, name, array.dtype, _nodata(dataset, variable, array), array.attrs)


def _of_outputs(dataset: DatasetSpec, native: NativeDataset, outputs: Iterable[Output]) -> Iterator[_Candidate]:
    described = {
        name: variable
        for variable in (dataset.product.variables if dataset.product else ())
        for name in (variable.name, *variable.aliases)
    }
    arrays = {array.name: array for array in native.arrays}
    for output in outputs:
        variable = described.get(output.name)
        array = arrays.get(output.name)
        if variable is None:
            candidate = next(_assumed([_as_array(output)]))
            yield replace(candidate, output=output, nodata=array.fill if array else None)
            continue
        if variable.kind is Kind.ENSEMBLE:
            # The function has made one layer of the members.
            variable = replace(variable, kind=Kind.CONTINUOUS, ensemble_dim=None)
        nodata = _nodata(dataset, variable, array) if array else variable.nodata
        attrs = {name: value for name, value in output.attrs.items() if name != "grid_mapping"}
        yield _Candidate(variable, output.name, output.dtype, nodata, attrs, output=output)


def _as_array(output: Output) -> NativeArray:
    """A function's output in the words of a source's array, so that the same signs are read."""
    attrs = {name: value for name, value in output.attrs.items() if name != "grid_mapping"}
    return NativeArray(output.name, ("y", "x"), (1, 1), (1, 1), output.dtype, fill=None, attrs=attrs)


def _assumed(arrays: Iterable[NativeArray]) -> Iterator[_Candidate]:
    """Fall back on CF flags, STAC bands and dtypes. What looks like classes is never blended."""
    for stored in arrays:
        array = _with_band(stored)
        dtype = np.dtype(array.dtype)
        units = array.attrs.get("units")
        sign = _sign_of_classes(array.attrs, dtype)
        if sign is not None:
            yield _assumed_classes(array, dtype, sign)
        else:
            long_name = str(array.attrs.get("long_name", ""))
            variable = Variable(
                array.name, Kind.CONTINUOUS, "float32", float("nan"), array.fill, units=units, long_name=long_name
            )
            sign = "a floating-point dtype" if units is None else _sign_of_units(stored)
            yield _Candidate(
                variable, array.name, array.dtype, array.fill, array.attrs, f"a continuous quantity, from {sign}"
            )


def _with_band(array: NativeArray) -> NativeArray:
    """``array`` with what its STAC band says where the store says nothing."""
    unit, nodata = array.band.get("unit"), array.band.get("nodata")
    if array.fill is None and isinstance(nodata, int | float):
        array = replace(array, fill=float(nodata))
    if isinstance(unit, str) and "units" not in array.attrs:
        array = replace(array, attrs={**array.attrs, "units": unit})
    return array


def _sign_of_units(stored: NativeArray) -> str:
    return "units" if "units" in stored.attrs else "the unit of its STAC band"


def _sign_of_classes(attrs: Mapping[str, Any], dtype: np.dtype[Any]) -> str | None:
    if "flag_values" in attrs:
        return "flag_values"
    if dtype.kind == "b":
        # Whatever its units, which a comparison leaves as they were.
        return "a boolean dtype"
    return "an integer dtype without units" if dtype.kind in "iu" and attrs.get("units") is None else None


def _assumed_classes(array: NativeArray, dtype: np.dtype[Any], sign: str) -> _Candidate:
    codes = _flag_values(array)
    if dtype.kind not in "iu":
        # Codes that arrive as float or bool: the smallest dtype that holds them, and one more that means "no value".
        dtype = np.promote_types(np.min_scalar_type(max([*codes, 0]) + 1), np.min_scalar_type(min([*codes, 0])))
    fill = array.fill
    if fill is None or not _fits(fill, dtype):
        fill = float(np.iinfo(dtype).max)
    variable = Variable(array.name, Kind.CATEGORICAL, dtype.name, fill, array.fill)
    return _Candidate(variable, array.name, array.dtype, array.fill, array.attrs, f"class codes, from {sign}")


def _flag_values(array: NativeArray) -> list[int]:
    """CF's ``flag_values``, which some writers leave as text. Raises PlanError where they aren't numbers."""
    flags = array.attrs.get("flag_values", [])
    parts = flags.replace(",", " ").split() if isinstance(flags, str) else np.atleast_1d(flags).tolist()
    try:
        return [int(float(part)) for part in parts]
    except (TypeError, ValueError) as error:
        raise PlanError(
            f"variable {array.name!r}: its flag_values {flags!r} aren't numbers; describe it in a product"
        ) from error


def _require_unpacked(array: NativeArray) -> None:
    if (array.scale, array.offset) != (1.0, 0.0):
        raise PlanError(
            f"variable {array.name!r} is packed (scale_factor {array.scale}, add_offset {array.offset}), which isn't "
            "supported yet"
        )


def _require_dims(variable: Variable, array: NativeArray, native: NativeDataset) -> None:
    """Refuse a dimension that nobody knows what to do with: its first element must not pass for the whole."""
    others = tuple(dim for dim in array.dims if dim not in {native.y_dim, native.x_dim, native.time_dim})
    expected = (variable.ensemble_dim or (others or ("members",))[0],) if variable.kind is Kind.ENSEMBLE else ()
    if others != expected:
        raise PlanError(
            f"variable {array.name!r} in {native.href} has the dimensions {', '.join(array.dims)}; beside time and "
            f"space {', '.join(expected) or 'none'} can be understood. Describe it in a product, or let a function of "
            "yours (custom_processing) make one layer of it"
        )


def _nodata(dataset: DatasetSpec, variable: Variable, array: NativeArray) -> float | None:
    nodata = variable.nodata if variable.nodata is not None else array.fill
    is_value = variable.name in dataset.zero_is_value or variable.zero_is_value
    return None if is_value and nodata == 0 else nodata


def _choose(dataset: DatasetSpec, native: NativeDataset, names: list[str]) -> frozenset[str]:
    chosen = set(names)
    for key, wanted in (
        ("open_params.variable_names", dataset.variable_names),
        ("spatial_resample_params.variables", dataset.resampling.only),
        ("statistics", tuple(dataset.statistics)),
        ("zero", tuple(dataset.zero_is_value)),
    ):
        missing = [name for name in wanted or () if name not in names]
        if missing:
            raise PlanError(
                f"dataset {dataset.identifier!r}: {key}: no variable {', '.join(missing)} in {native.href}; there are: "
                f"{', '.join(names)}"
            )
        if wanted and key not in {"statistics", "zero"}:
            chosen &= set(wanted)
    return frozenset(chosen)


def _layers(dataset: DatasetSpec, candidate: _Candidate, index_map: IndexMap) -> Iterator[LayerPlan]:
    options = dataset.resampling.variables.get(candidate.variable.name, dataset.resampling.default)
    variable = _with_fill(dataset, candidate.variable, options)
    if variable.kind is not Kind.ENSEMBLE:
        yield _layer(dataset, candidate, variable, None, index_map, options)
        return
    for statistic in dataset.statistics.get(variable.name) or (Statistic.MEAN,):
        yield _layer(dataset, candidate, _of_statistic(variable, statistic), statistic, index_map, options)


def _layer(
    dataset: DatasetSpec,
    candidate: _Candidate,
    variable: Variable,
    statistic: Statistic | None,
    index_map: IndexMap,
    options: VariableOptions,
) -> LayerPlan:
    kind = Kind.STANDARD_DEVIATION if statistic is Statistic.STD else variable.kind
    try:
        method = choose_method(kind, index_map, dataset.resampling.error_model, options.refine, options.coarsen)
    except PlanError as error:
        raise PlanError(f"dataset {dataset.identifier!r}, variable {variable.name!r}: {error}") from error
    return LayerPlan(
        variable,
        candidate.array,
        statistic,
        method,
        candidate.nodata,
        candidate.attrs,
        candidate.assumed,
        candidate.output,
    )


def _of_statistic(variable: Variable, statistic: Statistic) -> Variable:
    """The layer of one statistic: the mean keeps the variable's name, the others add theirs."""
    if statistic is Statistic.MEAN:
        return variable
    long_name = f"{variable.long_name or variable.name}, {statistic} of the ensemble"
    # A spread has another range than the quantity.
    valid_range = None if statistic is Statistic.STD else variable.valid_range
    return replace(variable, name=f"{variable.name}_{statistic}", long_name=long_name, valid_range=valid_range)


def _with_fill(dataset: DatasetSpec, variable: Variable, options: VariableOptions) -> Variable:
    if options.fill is None:
        return variable
    dtype = np.dtype(variable.dtype)
    codes = [entry.code for entry in variable.legend]
    if dtype.kind in "iu" and not _fits(options.fill, dtype):
        raise PlanError(
            f"dataset {dataset.identifier!r}: fill_values: {options.fill:g} doesn't fit {dtype.name} of "
            f"{variable.name!r}"
        )
    if options.fill in codes:
        raise PlanError(
            f"dataset {dataset.identifier!r}: fill_values: {options.fill:g} is a class of {variable.name!r}; choose a "
            "number that isn't"
        )
    return replace(variable, fill=options.fill)


def _fits(number: float, dtype: np.dtype[Any]) -> bool:
    """Whether an integer ``dtype`` can hold ``number``."""
    limits = np.iinfo(dtype)
    return bool(np.isfinite(number) and number == round(number) and limits.min <= number <= limits.max)
