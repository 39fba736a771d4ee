"""CF attributes of a cube's layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from scs2_cubes.core.methods import Method
from scs2_cubes.core.variables import Kind, Statistic, Variable

__all__ = ["layer_attributes"]

#: Of a source's attributes, what doesn't hold any more for the cube: how the source was stored, and on which lattice.
_DROPPED = frozenset({"AREA_OR_POINT", "valid_min", "valid_max", "flag_values", "flag_meanings", "dtype"})

_DESCRIPTIONS = {
    Method.COPY: "none: the source's pixels are the cube's pixels",
    Method.NEAREST: "nearest: the source pixel that contains the centre",
    Method.BILINEAR: "bilinear over the valid ones of four source pixels, valid where the pixel under the centre is",
    Method.MEAN: "area-weighted mean over the valid part, valid where at least half of the area is",
    Method.MAJORITY: "area-weighted majority; ties go to the class under the centre, then to the smallest code",
    Method.STD_CORRELATED: "area-weighted mean: errors taken as fully correlated",
    Method.STD_INDEPENDENT: "root of the area-weighted sum of squares: errors taken as independent",
    Method.MIN: "smallest value under the footprint",
    Method.MAX: "largest value under the footprint",
    Method.MEDIAN: "area-weighted median of the values under the footprint",
    Method.SUM: "area-weighted sum: totals are preserved",
    Method.STD: "area-weighted standard deviation of the values under the footprint",
    Method.VAR: "area-weighted variance of the values under the footprint",
    Method.COUNT: "number of source pixels with a value under the footprint, as area",
    Method.PROD: "product of the values under the footprint, each to the power of its share",
    Method.FIRST: "first source pixel with a value under the footprint, row by row",
    Method.LAST: "last source pixel with a value under the footprint, row by row",
}
#: What a standard deviation's method takes for granted; the others interpolate or average it as a field.
_ERROR_MODELS = {
    Method.COPY: "none is needed: the source's pixels are the cube's pixels",
    Method.NEAREST: "none is needed: each pixel is one of the source's",
    Method.STD_INDEPENDENT: "independent from one source pixel to the next",
}


def layer_attributes(
    variable: Variable,
    source: Mapping[str, Any],
    *,
    method: Method,
    coarsening: bool,
    statistic: Statistic | None,
    assumed: str | None,
) -> dict[str, Any]:
    """Attributes of a layer: the source's own, then what the product description knows better.

    ``coarsening``: whether target pixels are larger than source pixels, which the attribute ``resampling`` tells.
    """
    attrs = {name: value for name, value in source.items() if name not in _DROPPED}
    attrs["long_name"] = variable.long_name or attrs.get("long_name", variable.name)
    if variable.units is not None:
        attrs["units"] = variable.units
    attrs["kind"] = str(variable.kind)
    attrs["resampling"] = _DESCRIPTIONS[method]
    attrs["resampling_direction"] = _direction(method, coarsening=coarsening)
    if variable.valid_range is not None:
        attrs["valid_min"], attrs["valid_max"] = (_stored(limit, variable) for limit in variable.valid_range)
    if variable.kind is Kind.STANDARD_DEVIATION:
        attrs["error_model"] = _ERROR_MODELS.get(method, "fully correlated from one source pixel to the next")
    if variable.kind is Kind.CATEGORICAL:
        attrs |= _flags(variable, source)
    if statistic is not None:
        attrs["cell_methods"] = f"{variable.ensemble_dim}: {_cell_method(statistic)}"
    if assumed is not None:
        attrs["assumed"] = f"no product description; taken for {assumed}"
    return attrs


def _cell_method(statistic: Statistic) -> str:
    """CF's name, from its appendix E; quantiles have none, so they are said in a comment, as CF provides."""
    if statistic is Statistic.STD:
        return "standard_deviation"
    if statistic in {Statistic.MEAN, Statistic.MEDIAN}:
        return str(statistic)
    return f"point (comment: quantile {statistic.quantile})"


def _direction(method: Method, *, coarsening: bool) -> str:
    if method is Method.COPY:
        return "none"
    return "coarsening" if coarsening else "refining or shifting"


def _flags(variable: Variable, source: Mapping[str, Any]) -> dict[str, Any]:
    if variable.legend:
        return {
            "flag_values": [entry.code for entry in variable.legend],
            "flag_meanings": " ".join(entry.name for entry in variable.legend),
            "flag_colors": " ".join(entry.colour for entry in variable.legend),
        }
    return {name: source[name] for name in ("flag_values", "flag_meanings") if name in source}


def _stored(limit: float, variable: Variable) -> float | int:
    return int(limit) if np.dtype(variable.dtype).kind in "iu" else float(limit)
