"""From a window of a source to a window of the target: the kind of a variable decides how.

Kernels are imported inside the functions that call them: numba takes half a second to import, which every command
line would pay.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from scs2_cubes.core.grid import Window
from scs2_cubes.core.methods import AVERAGING, IDEMPOTENT, SELECTING, Method
from scs2_cubes.core.transform import EDGE_TOLERANCE, CopyOffset, IndexMap, Nodes
from scs2_cubes.core.variables import Statistic
from scs2_cubes.errors import GridError, PlanError

if TYPE_CHECKING:
    from scs2_cubes.core.kernels import Mapping as PixelMapping
    from scs2_cubes.core.kernels import SourcePlane

__all__ = ["aggregate", "aggregate_each", "resample"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class _Task:
    """What :func:`resample` is asked for, its arguments checked; by their names there."""

    plane: Array
    plane_window: Window
    nodata: float | None
    index_map: IndexMap
    target: Window
    nodes: Nodes
    method: Method

    def __str__(self) -> str:
        return f"{self.method} of {self.plane_window!r}"


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
    nodes: Nodes | None = None,
) -> Array:
    """Values of the ``target`` window, shape (rows, columns), in ``dtype``, with ``fill`` where there is no value.

    ``plane`` (rows, columns) covers ``plane_window`` of the source lattice, at least the part of
    ``index_map.source_window(target)`` that counts: source pixels outside ``plane_window`` are outside. ``nodata`` is
    the source's number for "no value"; NaN is one always. Quantities are rounded to the nearest where ``dtype`` is an
    integer. ``nodes``: ``index_map.nodes(target)``, which several planes of one tile may share.

    Raises GridError where ``plane`` doesn't have the shape of its window, the window leaves the source or ``nodes``
    aren't those of ``target``, and PlanError where a number (a class code, ``fill``, a rounded quantity) doesn't fit
    ``dtype``.
    """
    _require_window(plane, plane_window, index_map)
    out = _filled(target, np.dtype(dtype), fill)
    if out.size == 0 or plane.size == 0:
        return out
    nodes = index_map.nodes(target) if nodes is None else _required_nodes(nodes, index_map, target)
    task = _Task(_machine_plane(plane), plane_window, nodata, index_map, target, nodes, method)
    if not _spread(task, out):
        _run_kernel(task, out)
    return out


def aggregate(members: Array, statistic: Statistic, *, nodata: float | None) -> npt.NDArray[np.float32]:
    """One layer (y, x) from ``members`` (member, y, x), over the valid members of each pixel; NaN where none is.

    Any strides will do, so a transposed view needs no copy. Arithmetic is float64. Raises PlanError for other than
    three dimensions or no member.
    """
    return aggregate_each(members, (statistic,), nodata=nodata)[statistic]


def aggregate_each(
    members: Array, statistics: Iterable[Statistic], *, nodata: float | None
) -> dict[Statistic, npt.NDArray[np.float32]]:
    """Several layers, as :func:`aggregate` makes them; all quantiles in one pass over the members."""
    if members.ndim != 3 or len(members) == 0:  # noqa: PLR2004  # the three dimensions of the message
        msg = f"an ensemble needs the dimensions (member, y, x) and at least one member, not shape {members.shape}"
        raise PlanError(msg)
    from scs2_cubes.core import kernels  # noqa: PLC0415  # numba takes half a second to import

    members = _machine_array(members)
    none, has_none = _nodata_of(members.dtype, nodata)
    wanted = tuple(dict.fromkeys(statistics))
    layers = {statistic: np.empty(members.shape[1:], np.float32) for statistic in wanted}
    fractions = {statistic: statistic.quantile for statistic in wanted if statistic.quantile is not None}
    if fractions:
        quantiles = np.empty((len(fractions), *members.shape[1:]), np.float32)
        kernels.ensemble_quantiles(members, none, has_none, np.array(list(fractions.values())), quantiles)
        layers |= zip(fractions, quantiles, strict=True)
    if Statistic.STD in layers:
        kernels.ensemble_std(members, none, has_none, np.empty(members.shape[2]), layers[Statistic.STD])
    if Statistic.MEAN in layers:
        total = np.empty(members.shape[2], _accumulator(members))
        kernels.ensemble_mean(members, none, has_none, total, layers[Statistic.MEAN])
    return layers


def _spread(task: _Task, out: Array) -> bool:
    """Where the plane holds one number and that settles every pixel, fill ``out`` and return True.

    Sea, and what lies outside a forest mask, is most of a country's tiles. Where the number is nodata, ``out`` stays
    as it is. Otherwise one pixel is made by the kernel and repeated; that all would be the same is sure where no
    footprint, and no neighbour in an interpolation, leaves the plane, and where the method doesn't round.
    """
    from scs2_cubes.core import kernels  # noqa: PLC0415  # numba takes half a second to import

    if not kernels.holds_one_number(task.plane):
        return False
    none, has_none = _nodata_of(task.plane.dtype, task.nodata)
    value = task.plane[0, 0]
    if np.isnan(value) or (has_none and value == none):
        # A count is 0 there.
        return task.method is not Method.COUNT
    if not _repeats(task.method, float(value), out.dtype) or not _covers(task):
        return False
    first = Window(task.target.row_start, task.target.row_start + 1, task.target.col_start, task.target.col_start + 1)
    needed = task.index_map.source_window(first)
    if needed is None:
        return False
    # Any part of the plane is as good as the one that the pixel needs.
    plane = np.ascontiguousarray(task.plane[: needed.height, : needed.width])
    pixel = out[:1, :1].copy()
    nodes = task.index_map.nodes(first)
    _run_kernel(replace(task, plane=plane, plane_window=needed, target=first, nodes=nodes), pixel)
    out[...] = pixel
    return True


def _repeats(method: Method, value: float, dtype: np.dtype[Any]) -> bool:
    """Whether ``method`` gives the same number in ``dtype`` wherever all that it needs is ``value``."""
    if method in IDEMPOTENT:
        return True
    # A mean of n equal numbers is off by at most 2 n ulp of float64, each 2**-29 ulp of float32: it rounds to the same
    # number unless a footprint has millions of pixels. A mean of zeros is zero.
    same = dtype == np.float32 and abs(value) <= np.finfo(np.float32).max and float(np.float32(value)) == value
    return method in AVERAGING and (same or value == 0)


def _covers(task: _Task) -> bool:
    """Whether all that any pixel of the target may need lies in the plane."""
    needed = task.index_map.source_window(task.target)
    if needed is None or needed.intersection(task.plane_window) != needed:
        return False
    # What needs a pixel at the source's edge may need one beyond it too: the window has been clipped.
    rows, columns = task.index_map.source.shape
    if not (needed.row_start > 0 and needed.col_start > 0 and needed.row_stop < rows and needed.col_stop < columns):
        return False
    # A footprint that snaps to nothing has no value. Nor has one next to a node that lies nowhere: its size is NaN,
    # which compares false.
    return all(bool((size > 4 * EDGE_TOLERANCE).all()) for size in task.index_map.footprints(task.nodes))


def _run_kernel(task: _Task, out: Array) -> None:
    if task.method in SELECTING:
        _select(task, out)
    else:
        _average(task, out)


def _select(task: _Task, out: Array) -> None:
    """Write numbers that occur in the plane into ``out``."""
    method = task.method
    if task.plane.dtype.kind == "f" and (method is Method.MAJORITY or out.dtype.kind != "f"):
        plane, nodata = _whole_codes(task.plane, task.nodata)
        task = replace(task, plane=plane, nodata=nodata)
    if method is Method.COPY:
        bounds = _copy(task.plane, task.plane_window, _offset_of(task.index_map), task.target, task.nodata, out)
    else:
        bounds = np.array(_extremes(task.plane.dtype)[::-1], task.plane.dtype)
        _run_selecting(task, bounds, out)
    _require_fit(bounds, out.dtype, str(task))


def _run_selecting(task: _Task, bounds: Array, out: Array) -> None:
    from scs2_cubes.core import kernels  # noqa: PLC0415  # numba takes half a second to import

    source, mapping = _source_plane(task), _mapping(task)
    if task.method is Method.MAJORITY:
        kernels.majority(source, mapping, bounds, out)
    elif task.method is Method.NEAREST:
        kernels.nearest(source, mapping, bounds, out)
    else:
        kernels.footprint_end(source, mapping, task.method is Method.LAST, bounds, out)


def _average(task: _Task, out: Array) -> None:
    """Write interpolated, averaged or otherwise summarised quantities into ``out``."""
    values = out if out.dtype in (np.float32, np.float64) else np.full(out.shape, np.nan)
    _run_averaging(task, values)
    if values is not out:
        valid = ~np.isnan(values)
        numbers = np.rint(values[valid]) if out.dtype.kind != "f" else values[valid]
        if numbers.size:
            _require_fit(np.array([numbers.min(), numbers.max()]), out.dtype, str(task))
        out[valid] = numbers


def _run_averaging(task: _Task, values: Array) -> None:
    from scs2_cubes.core import kernels  # noqa: PLC0415  # numba takes half a second to import

    source, mapping = _source_plane(task), _mapping(task)
    if task.method is Method.BILINEAR:
        kernels.bilinear(source, mapping, values)
    elif task.method in AVERAGING or task.method is Method.STD_INDEPENDENT:
        kernels.area_weighted(source, mapping, task.method is Method.STD_INDEPENDENT, values)
    else:
        kernels.footprint_summary(source, mapping, kernels.Summary[task.method.name], values)


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


def _source_plane(task: _Task) -> SourcePlane:
    from scs2_cubes.core.kernels import SourcePlane  # noqa: PLC0415  # numba takes half a second to import

    none, has_none = _nodata_of(task.plane.dtype, task.nodata)
    return SourcePlane(task.plane, task.plane_window.row_start, task.plane_window.col_start, none, has_none)


def _mapping(task: _Task) -> PixelMapping:
    from scs2_cubes.core.kernels import Mapping as PixelMapping  # noqa: PLC0415  # as above

    nodes = task.nodes
    width, height = task.index_map.footprints(nodes)
    row, col = task.target.row_start, task.target.col_start
    return PixelMapping(nodes.u, nodes.v, width / 2, height / 2, nodes.step, row, col, task.index_map.same_crs)


def _required_nodes(nodes: Nodes, index_map: IndexMap, target: Window) -> Nodes:
    step = index_map.step
    row, col = target.row_start // step * step, target.col_start // step * step
    shape = (target.row_stop - 1 - row) // step + 2, (target.col_stop - 1 - col) // step + 2
    found = (nodes.row, nodes.col, nodes.step, nodes.u.shape)
    if found != (row, col, step, shape):
        msg = f"nodes from {found[:2]} with step {found[2]} and shape {found[3]} aren't those of {target!r}"
        raise GridError(msg)
    return nodes


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
        msg = (
            f"{plane[bad][0]} isn't a class code: codes are whole numbers of at most 32 bits; is the kind right? "
            "A quantity that is picked (not averaged) needs a float dtype, and has no mode"
        )
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
