"""From a window of a source to a window of the target: the kind of a variable decides how.

Kernels are imported inside the functions that call them: numba takes half a second to import, which every command
line would pay.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from scs2_cubes.core.grid import Window
from scs2_cubes.core.transform import CopyOffset, IndexMap
from scs2_cubes.core.variables import Kind, Statistic
from scs2_cubes.errors import GridError, PlanError

if TYPE_CHECKING:
    from scs2_cubes.core.kernels import Mapping, SourcePlane

__all__ = ["Method", "aggregate", "choose_method", "resample"]

Array = npt.NDArray[Any]


class Method(StrEnum):
    """How the value of a target pixel is made from source pixels. See ``scs2_cubes.core.kernels`` for each rule."""

    COPY = "copy"
    """The lattices coincide: the source pixel itself."""
    NEAREST = "nearest"
    """The source pixel that contains the target's centre."""
    BILINEAR = "bilinear"
    """Bilinear between the four nearest centres, nodata-aware."""
    MAJORITY = "majority"
    """The class with the largest share of the footprint's area."""
    MEAN = "mean"
    """Area-weighted mean over the valid part of the footprint."""
    STD_CORRELATED = "std_correlated"
    """Standard deviation of the mean where errors are fully correlated: the area-weighted mean of the field."""
    STD_INDEPENDENT = "std_independent"
    """Standard deviation of the mean where errors are independent: root of the weighted sum of squares."""


#: Methods whose results are numbers that occur in the source.
_SELECTING = frozenset({Method.COPY, Method.NEAREST, Method.MAJORITY})


def choose_method(kind: Kind, index_map: IndexMap, error_model: str = "correlated") -> Method:
    """The method for values of ``kind``; the dtype has no say.

    An ensemble is aggregated first and is continuous from then on. ``error_model``, ``correlated`` or
    ``independent``, matters for standard deviations that are coarsened. Raises PlanError for another error model.
    """
    if error_model not in {"correlated", "independent"}:
        msg = f"error_model must be 'correlated' or 'independent', not {error_model!r}"
        raise PlanError(msg)
    if index_map.copy is not None:
        return Method.COPY
    if kind is Kind.CATEGORICAL:
        return Method.MAJORITY if index_map.coarsening else Method.NEAREST
    if not index_map.coarsening:
        return Method.BILINEAR
    if kind is Kind.STANDARD_DEVIATION:
        return Method.STD_INDEPENDENT if error_model == "independent" else Method.STD_CORRELATED
    return Method.MEAN


def resample(
    plane: Array,
    plane_window: Window,
    index_map: IndexMap,
    target: Window,
    method: Method,
    *,
    nodata: float | None,
    dtype: npt.DTypeLike,
    fill: float,
) -> Array:
    """Values of the ``target`` window, shape (rows, columns), in ``dtype``, with ``fill`` where there is no value.

    ``plane`` (rows, columns) covers ``plane_window`` of the source lattice, at least the part of
    ``index_map.source_window(target)`` that counts: source pixels outside ``plane_window`` are outside. ``nodata`` is
    the source's number for "no value"; NaN is one always. Quantities are rounded to the nearest where ``dtype`` is an
    integer. Raises GridError where ``plane`` doesn't have the shape of its window or the window leaves the source,
    and PlanError where a number (a class code, ``fill``, a rounded quantity) doesn't fit ``dtype``.
    """
    _require_window(plane, plane_window, index_map)
    out = _filled(target, np.dtype(dtype), fill)
    if out.size == 0 or plane.size == 0:
        return out
    plane = _machine_plane(plane)
    if method in _SELECTING:
        _select(plane, plane_window, index_map, target, method, nodata, out)
    else:
        _average(plane, plane_window, index_map, target, method, nodata, out)
    return out


def aggregate(members: Array, statistic: Statistic, *, nodata: float | None) -> npt.NDArray[np.float32]:
    """One layer (y, x) from ``members`` (member, y, x), over the valid members of each pixel; NaN where none is.

    Any strides will do, so a transposed view needs no copy. Arithmetic is float64. Raises PlanError for other than
    three dimensions or no member.
    """
    if members.ndim != 3 or len(members) == 0:  # noqa: PLR2004  # the three dimensions of the message
        msg = f"an ensemble needs the dimensions (member, y, x) and at least one member, not shape {members.shape}"
        raise PlanError(msg)
    from scs2_cubes.core import kernels  # noqa: PLC0415  # numba takes half a second to import

    members = _machine_array(members)
    none, has_none = _nodata_of(members.dtype, nodata)
    out = np.empty(members.shape[1:], np.float32)
    if statistic is Statistic.MEDIAN:
        kernels.ensemble_median(members, none, has_none, out)
    elif statistic is Statistic.STD:
        kernels.ensemble_std(members, none, has_none, np.empty(members.shape[2]), out)
    else:
        total = np.empty(members.shape[2], _accumulator(members))
        kernels.ensemble_mean(members, none, has_none, total, out)
    return out


def _select(
    plane: Array,
    plane_window: Window,
    index_map: IndexMap,
    target: Window,
    method: Method,
    nodata: float | None,
    out: Array,
) -> None:
    """Write numbers that occur in the plane into ``out``."""
    if plane.dtype.kind == "f" and (method is Method.MAJORITY or out.dtype.kind != "f"):
        plane, nodata = _whole_codes(plane, nodata)
    if method is Method.COPY:
        bounds = _copy(plane, plane_window, _offset_of(index_map), target, nodata, out)
    else:
        from scs2_cubes.core import kernels  # noqa: PLC0415  # numba takes half a second to import

        bounds = np.array(_extremes(plane.dtype)[::-1], plane.dtype)
        kernel = kernels.majority if method is Method.MAJORITY else kernels.nearest
        kernel(_source_plane(plane, plane_window, nodata), _mapping(index_map, target), bounds, out)
    _require_fit(bounds, out.dtype, f"{method} of {plane_window!r}")


def _average(
    plane: Array,
    plane_window: Window,
    index_map: IndexMap,
    target: Window,
    method: Method,
    nodata: float | None,
    out: Array,
) -> None:
    """Write interpolated or averaged quantities into ``out``."""
    from scs2_cubes.core import kernels  # noqa: PLC0415  # numba takes half a second to import

    values = out if out.dtype in (np.float32, np.float64) else np.full(out.shape, np.nan)
    source, mapping = _source_plane(plane, plane_window, nodata), _mapping(index_map, target)
    if method is Method.BILINEAR:
        kernels.bilinear(source, mapping, values)
    else:
        kernels.area_weighted(source, mapping, method is Method.STD_INDEPENDENT, values)
    if values is not out:
        valid = ~np.isnan(values)
        numbers = np.rint(values[valid]) if out.dtype.kind != "f" else values[valid]
        if numbers.size:
            _require_fit(np.array([numbers.min(), numbers.max()]), out.dtype, f"{method} of {plane_window!r}")
        out[valid] = numbers


def _copy(
    plane: Array, plane_window: Window, offset: CopyOffset, target: Window, nodata: float | None, out: Array
) -> Array:
    """Copy pixels, and return the smallest and the largest number copied, shape (2,); the other way round if none."""
    bounds = np.array(_extremes(plane.dtype)[::-1], plane.dtype)
    wanted = offset.source_window(target)
    window = wanted.intersection(plane_window)
    if window is None:
        return bounds
    flips = (slice(None, None, offset.row_sign), slice(None, None, offset.col_sign))
    # The target as the source sees it, cut to what the plane holds.
    place = out[flips][window.relative_to(wanted).slices]
    numbers = plane[window.relative_to(plane_window).slices]
    none, has_none = _nodata_of(plane.dtype, nodata)
    valid = ~np.isnan(numbers) if plane.dtype.kind == "f" else np.ones(numbers.shape, bool)
    if has_none:
        valid &= numbers != none
    np.copyto(place, numbers, where=valid, casting="unsafe")
    if valid.any() and not np.can_cast(plane.dtype, out.dtype, "safe"):
        bounds[:] = numbers[valid].min(), numbers[valid].max()
    return bounds


def _offset_of(index_map: IndexMap) -> CopyOffset:
    if index_map.copy is None:
        msg = "pixels can be copied only where the lattices coincide: choose the method with choose_method"
        raise PlanError(msg)
    return index_map.copy


def _source_plane(plane: Array, plane_window: Window, nodata: float | None) -> SourcePlane:
    from scs2_cubes.core.kernels import SourcePlane  # noqa: PLC0415  # numba takes half a second to import

    none, has_none = _nodata_of(plane.dtype, nodata)
    return SourcePlane(plane, plane_window.row_start, plane_window.col_start, none, has_none)


def _mapping(index_map: IndexMap, target: Window) -> Mapping:
    from scs2_cubes.core.kernels import Mapping  # noqa: PLC0415  # numba takes half a second to import

    nodes = index_map.nodes(target)
    width, height = index_map.footprints(nodes)
    row, col = target.row_start, target.col_start
    return Mapping(nodes.u, nodes.v, width / 2, height / 2, nodes.step, row, col, index_map.same_crs)


def _require_window(plane: Array, plane_window: Window, index_map: IndexMap) -> None:
    if plane.shape != plane_window.shape:
        msg = f"the plane has shape {plane.shape}, but its window {plane_window!r} has {plane_window.shape}"
        raise GridError(msg)
    if plane.size and index_map.source.window.intersection(plane_window) != plane_window:
        msg = f"the plane's window {plane_window!r} leaves the source of shape {index_map.source.shape}"
        raise GridError(msg)


def _filled(target: Window, dtype: np.dtype[Any], fill: float) -> Array:
    if dtype.kind not in "iuf":
        msg = f"a cube holds integers or floats, not {dtype}"
        raise PlanError(msg)
    if dtype.kind != "f":
        low, high = _extremes(dtype)
        # Written so that NaN fails too.
        if not (low <= fill <= high and float(fill).is_integer()):
            msg = f"fill value {fill} doesn't fit {dtype}: use a whole number from {low} to {high}"
            raise PlanError(msg)
    return np.full(target.shape, fill, dtype)


def _machine_array(array: Array) -> Array:
    """The array in a dtype that numba knows: machine byte order, no half floats, no booleans."""
    if array.dtype.kind == "b":
        return array.view(np.uint8)
    if array.dtype == np.float16:
        return array.astype(np.float32)
    if array.dtype.kind not in "iuf" or array.dtype.itemsize > 8:  # noqa: PLR2004  # bytes of the widest numbers
        msg = f"pixels must be integers or floats of at most 64 bits, not {array.dtype}"
        raise PlanError(msg)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _machine_plane(plane: Array) -> Array:
    # Contiguous, so that each kernel is compiled for one layout a dtype; a window cut from a chunk is copied fast.
    return np.ascontiguousarray(_machine_array(plane))


def _nodata_of(dtype: np.dtype[Any], nodata: float | None) -> tuple[np.generic, bool]:
    """``nodata`` in ``dtype``, and False where no pixel of that dtype can be it."""
    zero: np.generic = dtype.type(0)
    if nodata is None or np.isnan(nodata):
        return zero, False
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return dtype.type(nodata), True
    low, high = _extremes(dtype)
    if low <= nodata <= high and float(nodata).is_integer():
        return dtype.type(int(nodata)), True
    return zero, False


def _whole_codes(plane: Array, nodata: float | None) -> tuple[Array, float]:
    """Class codes that arrive as floats, as int32, and the int32 that stands for "no value" in them.

    Raises PlanError where a valid number isn't whole or doesn't fit.
    """
    low, high = _extremes(np.dtype(np.int32))
    none, has_none = _nodata_of(plane.dtype, nodata)
    valid = ~np.isnan(plane)
    if has_none:
        valid &= plane != none
    bad = valid & ~((plane == np.rint(plane)) & (plane > low) & (plane <= high))
    if bad.any():
        msg = f"{plane[bad][0]} isn't a class code: codes are whole numbers of at most 32 bits; is the kind right?"
        raise PlanError(msg)
    return np.where(valid, plane, low).astype(np.int32), low


def _extremes(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """Smallest and largest number of a dtype."""
    info = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    return info.min, info.max


def _require_fit(bounds: Array, dtype: np.dtype[Any], where: str) -> None:
    """Raise PlanError where the smallest or largest number written doesn't fit; ``bounds`` are reversed if none was."""
    if dtype.kind == "f" or bounds[0] > bounds[1]:
        return
    low, high = _extremes(dtype)
    for number in bounds.tolist():
        if not low <= number <= high:
            msg = f"{number:g} doesn't fit {dtype} ({low} to {high}), {where}: give the variable a wider dtype"
            raise PlanError(msg)


def _accumulator(members: Array) -> npt.DTypeLike:
    # Sums of short integers are exact in int32 and twice as fast; 2**15 members of 16 bits still fit.
    short = members.dtype.kind in "iu" and members.dtype.itemsize <= 2 and len(members) < 2**15  # noqa: PLR2004  # bytes
    return np.int32 if short else np.float64
