"""From ``spatial_resample_params`` to a specification: which method and fill each variable gets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from scs2_cubes.config.models import OpenParams, SingleSource, SpatialResampling
from scs2_cubes.config.problems import KeyPath, Problems
from scs2_cubes.config.products import is_storable
from scs2_cubes.config.variables import KnownVariables
from scs2_cubes.core.specification import ResampleSpec, VariableOptions
from scs2_cubes.core.variables import Kind, Variable

__all__ = ["resample_spec"]

#: The schema's key → the field of VariableOptions.
_FIELDS: Mapping[str, str] = {"interp_methods": "refine", "agg_methods": "coarsen", "fill_values": "fill"}
#: Short names that xcube has for the methods.
_SHORT_NAMES: Mapping[str, str] = {"0": "nearest", "1": "bilinear"}
#: The methods that only ever pick a code that is there.
_FOR_CLASSES: Mapping[str, tuple[str, ...]] = {
    "interp_methods": ("nearest",),
    "agg_methods": ("center", "first", "last", "mode"),
}
_NAN_KEYS = ("recover_nans", "prevent_nan_propagations")


def resample_spec(cube: SingleSource, known: KnownVariables, path: KeyPath, problems: Problems) -> ResampleSpec:
    """The section at ``path``; what can't be done with the variables that are known goes to ``problems``."""
    params = cube.spatial_resample_params
    if params is None:
        return ResampleSpec()
    only = _only(params, known, (*path, "variables"), problems)
    in_cube = known.in_cube(only, _opened(cube))
    default: dict[str, Any] = {}
    each: dict[str, dict[str, Any]] = {}
    for key, name, value, place in _settings(params, path):
        cube_name = None if name is None else known.name(name, place, problems)
        if key in _FIELDS:
            # What is said for all can't be judged where a function may add and drop variables; a name can.
            concerned = in_cube if name is None else tuple(filter(None, (known.described.get(name),)))
            _report_value(key, value, concerned, known, place, problems)
            options = default if cube_name is None else each.setdefault(cube_name, {})
            options[_FIELDS[key]] = value
    return ResampleSpec(
        default=VariableOptions(**default),
        # With what is said for all, so that nobody has to look in two places for one variable.
        variables={name: VariableOptions(**(default | options)) for name, options in each.items()},
        only=only,
        error_model=params.error_model,
    )


def _settings(params: SpatialResampling, path: KeyPath) -> Iterator[tuple[str, str | None, Any, KeyPath]]:
    """(key, variable or None for all, value, key path) of all that is set by variable or for all of them."""
    for key in (*_FIELDS, *_NAN_KEYS):
        value = getattr(params, key)
        entries = value.items() if isinstance(value, dict) else [] if value is None else [(None, value)]
        for name, entry in entries:
            place = (*path, key) if name is None else (*path, key, name)
            yield key, name, _SHORT_NAMES.get(entry, entry) if key == "interp_methods" else entry, place


def _only(
    params: SpatialResampling, known: KnownVariables, path: KeyPath, problems: Problems
) -> tuple[str, ...] | None:
    if params.variables is None:
        return None
    if isinstance(params.variables, str):
        return (known.name(params.variables, path, problems),)
    names = (known.name(name, (*path, number), problems) for number, name in enumerate(params.variables))
    return tuple(dict.fromkeys(names))


def _opened(cube: SingleSource) -> tuple[str, ...] | None:
    names = (cube.open_params or OpenParams()).variable_names
    return (names,) if isinstance(names, str) else names


def _report_value(
    key: str,
    value: Any,
    concerned: tuple[Variable, ...],
    known: KnownVariables,
    path: KeyPath,
    problems: Problems,
) -> None:
    if value == "triangular":
        problems.add(path, "the method 'triangular' isn't supported; supported: nearest (0), bilinear (1)")
        return
    for variable in concerned:
        if key in _FOR_CLASSES:
            reason = _reason_against_method(key, value, variable)
        else:
            # What a function returns may have another dtype.
            reason = _reason_against_fill(value, variable) if known.is_complete else ""
        if reason:
            problems.add(path, reason)


def _reason_against_method(key: str, method: str, variable: Variable) -> str:
    allowed = _FOR_CLASSES[key]
    if variable.kind is not Kind.CATEGORICAL or method in allowed:
        return ""
    return (
        f"{method!r} computes with the values, but those of {variable.name!r} are class codes, which must not be "
        f"blended; allowed: {', '.join(allowed)}"
    )


def _reason_against_fill(fill: float, variable: Variable) -> str:
    classes = {entry.code: entry.name for entry in variable.legend}
    if not is_storable(fill, np.dtype(variable.dtype)):
        return f"{fill:g} can't be stored in {variable.name!r}, which is {variable.dtype}"
    if fill in classes:
        return f"{fill:g} is a class of {variable.name!r} ({classes[int(fill)]}), so it can't mean that there is none"
    return ""
