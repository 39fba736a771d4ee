"""The numeric loops: compiled by numba, serial, without the GIL.

Serial because Dask runs tiles in threads already, and numba's own threads under them can abort the process. Importing
this module imports numba, which takes half a second: import it inside the function that calls a kernel.

Every kernel takes a :class:`SourcePlane` and a :class:`Mapping`, and writes into ``out`` (row, column) of the target
window, which the caller has filled with "no value"; pixels without a value aren't touched. Arithmetic is float64.
Whatever lies outside the plane is invalid, as nodata is. A result depends on the pixels that it needs and on the mesh
of nodes, never on the extent of plane or window, so that tiles equal the whole bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt
from numba import njit

from scs2_cubes.core.transform import EDGE_TOLERANCE

__all__ = [
    "Mapping",
    "SourcePlane",
    "Summary",
    "area_weighted",
    "bilinear",
    "ensemble_mean",
    "ensemble_quantiles",
    "ensemble_std",
    "footprint_end",
    "footprint_summary",
    "holds_one_number",
    "majority",
    "nearest",
]

_P = ParamSpec("_P")
_R = TypeVar("_R")
Floats = npt.NDArray[np.float64]


def _compiled(function: Callable[_P, _R]) -> Callable[_P, _R]:
    compiled: Callable[_P, _R] = njit(cache=True, nogil=True)(function)
    return compiled


class SourcePlane(NamedTuple):
    """A window of a source, on its native grid."""

    values: npt.NDArray[Any]
    """Shape (rows, columns), integer or floating point, in machine byte order."""
    top: int
    """Row of the source that ``values[0]`` is; not negative."""
    left: int
    """Column of the source that ``values[:, 0]`` is; not negative."""
    nodata: np.generic
    """The number that means "no value", in the dtype of ``values``; NaN always does."""
    has_nodata: bool
    """False where only NaN does."""


class Mapping(NamedTuple):
    """Where the pixels of a target window lie on the source: see ``scs2_cubes.core.transform.Nodes``."""

    u: Floats
    """Fractional source column at the nodes, shape (node rows, node columns)."""
    v: Floats
    """Fractional source row at the nodes, same shape."""
    half_width: Floats
    """Half the width of the footprint in source pixels, per cell: one row and one column less than the nodes."""
    half_height: Floats
    """Half the height of the footprint in source pixels, same shape."""
    step: int
    """Distance between nodes in target pixels: a power of two."""
    row: int
    """Target row of ``out[0]``."""
    col: int
    """Target column of ``out[:, 0]``."""
    separable: bool
    """True where u depends on the column alone and v on the row alone: one CRS, axes parallel."""


class Summary(IntEnum):
    """What :func:`footprint_summary` makes of the n valid source pixels x under a footprint.

    w is the area that a pixel shares with the footprint, in source pixels; m is sum(w x) / sum(w).
    """

    COUNT = 0
    """sum(w)."""
    SUM = 1
    """sum(w x)."""
    PROD = 2
    """product(x ** w)."""
    MIN = 3
    MAX = 4
    MEDIAN = 5
    """The smallest x for which the pixels not greater than it have at least half of sum(w)."""
    VAR = 6
    """sum(w (x - m)²) / sum(w)."""
    STD = 7
    """Root of that."""


class _Ballot(NamedTuple):
    """Scratch of one election, allocated once per call."""

    codes: npt.NDArray[Any]
    """The codes met in a footprint, each once."""
    votes: Floats
    """Their areas."""
    met: npt.NDArray[Any]
    """The codes met, as often as they are."""
    slots: Floats
    """Area by the last eight bits of a code; all zero between elections."""
    owners: npt.NDArray[Any]
    """The code that used a slot last."""


@_compiled
def _is_valid(value: Any, nodata: Any, has_nodata: bool) -> bool:
    return (value == value) & ~(has_nodata & (value == nodata))  # type: ignore[no-any-return]  # noqa: PLR0124  # NaN


@_compiled
def _snapped(edge: float) -> float:
    """The source edge within EDGE_TOLERANCE of ``edge``, or ``edge``."""
    nearest_edge = np.rint(edge)
    if abs(edge - nearest_edge) < EDGE_TOLERANCE:
        return nearest_edge  # type: ignore[no-any-return]  # np.rint is untyped for scalars
    return edge


@_compiled
def _expand_row(nodes: Floats, mapping: Mapping, row: int, line: Floats) -> None:
    """Interpolate ``nodes`` along target row ``row`` of the whole target into ``line`` (columns,)."""
    step = mapping.step
    above = row // step - mapping.row // step
    fraction = (row % step) / step
    first = mapping.col // step * step
    stop = mapping.col + line.size
    for cell in range(nodes.shape[1] - 1):
        left, right = nodes[above, cell], nodes[above, cell + 1]
        # A node that isn't needed may be NaN; it must not spread to pixels that lie on the other.
        if fraction > 0:
            left += fraction * (nodes[above + 1, cell] - left)
            right += fraction * (nodes[above + 1, cell + 1] - right)
        slope = (right - left) / step
        start = first + cell * step
        if start >= mapping.col:
            line[start - mapping.col] = left
        for col in range(max(start + 1, mapping.col), min(start + step, stop)):
            line[col - mapping.col] = left + slope * (col - start)


@_compiled
def nearest(plane: SourcePlane, mapping: Mapping, bounds: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
    """The source pixel that contains the centre of the target pixel.

    ``bounds`` (2,), in the source's dtype, holds smallest and largest value written; the caller starts it with the
    largest and the smallest number of that dtype.
    """
    values = plane.values
    top, left = plane.top, plane.left
    west, east = float(left), float(left + values.shape[1])
    north, south = float(top), float(top + values.shape[0])
    us, vs = np.empty(out.shape[1]), np.empty(out.shape[1])
    low, high = bounds[0], bounds[1]
    for r in range(out.shape[0]):
        _expand_row(mapping.u, mapping, mapping.row + r, us)
        _expand_row(mapping.v, mapping, mapping.row + r, vs)
        for c in range(out.shape[1]):
            x, y = us[c] + EDGE_TOLERANCE, vs[c] + EDGE_TOLERANCE
            if west <= x < east and north <= y < south:
                value = values[np.uint64(int(y) - top), np.uint64(int(x) - left)]
                if _is_valid(value, plane.nodata, plane.has_nodata):
                    low, high = min(low, value), max(high, value)
                    out[r, c] = value
    bounds[0], bounds[1] = low, high


@_compiled
def _renormalised(
    plane: SourcePlane, j0: np.int64, j1: np.int64, i0: np.int64, i1: np.int64, fx: float, fy: float
) -> float:
    """Bilinear over the valid ones of four pixels, of which at least one is."""
    values = plane.values
    total, weights = 0.0, 0.0
    for i, wy in ((i0, 1.0 - fy), (i1, fy)):
        for j, wx in ((j0, 1.0 - fx), (j1, fx)):
            if 0 <= i < values.shape[0] and 0 <= j < values.shape[1] and wx * wy > 0:
                value = values[i, j]
                if _is_valid(value, plane.nodata, plane.has_nodata):
                    total += wx * wy * value
                    weights += wx * wy
    return total / weights


@_compiled
def _split_line(line: Floats, origin: int, index: npt.NDArray[np.int32]) -> None:
    """Split source indices into the last centre before them and the fraction of the way to the next centre.

    ``line`` (columns,) becomes the fraction; ``index`` is counted from ``origin`` and negative for NaN. A loop of its
    own, because the compiler vectorises it.
    """
    for c in range(line.size):
        x = line[c]
        # Truncation is floor, as nothing inside the source is negative here.
        after = np.int32(x + (0.5 + EDGE_TOLERANCE)) if -0.5 < x < 2e9 else np.int32(-1)
        fraction = (x + 0.5) - after
        line[c] = fraction if fraction > EDGE_TOLERANCE else 0.0
        index[c] = after - 1 - origin


@_compiled
def bilinear(plane: SourcePlane, mapping: Mapping, out: npt.NDArray[Any]) -> None:
    """Bilinear interpolation between pixel centres, nodata-aware.

    A target pixel has a value iff the source pixel that contains its centre is valid; the weights are renormalised
    over the valid ones of the four. ``out`` is of a floating dtype.
    """
    values, nodata, has_nodata = plane.values, plane.nodata, plane.has_nodata
    rows, columns = values.shape
    us, vs = np.empty(out.shape[1]), np.empty(out.shape[1])
    js, ks = np.empty(out.shape[1], np.int32), np.empty(out.shape[1], np.int32)
    for r in range(out.shape[0]):
        _expand_row(mapping.u, mapping, mapping.row + r, us)
        _expand_row(mapping.v, mapping, mapping.row + r, vs)
        _split_line(us, plane.left, js)
        _split_line(vs, plane.top, ks)
        for c in range(out.shape[1]):
            j0, i0, fx, fy = np.int64(js[c]), np.int64(ks[c]), us[c], vs[c]
            # On a centre line the neighbour has no weight, and need not even be in the plane.
            j1, i1 = j0 + (fx > 0), i0 + (fy > 0)
            if j0 >= 0 and i0 >= 0 and j1 < columns and i1 < rows:
                a, b = values[np.uint64(i0), np.uint64(j0)], values[np.uint64(i0), np.uint64(j1)]
                d, e = values[np.uint64(i1), np.uint64(j0)], values[np.uint64(i1), np.uint64(j1)]
                # One branch for all four: a processor guesses it better than four.
                if (
                    _is_valid(a, nodata, has_nodata)
                    & _is_valid(b, nodata, has_nodata)
                    & _is_valid(d, nodata, has_nodata)
                    & _is_valid(e, nodata, has_nodata)
                ):
                    upper = np.float64(a) + fx * (np.float64(b) - np.float64(a))
                    lower = np.float64(d) + fx * (np.float64(e) - np.float64(d))
                    out[r, c] = upper + fy * (lower - upper)
                    continue
            # The point lies in the further pixel from the middle on; on an edge, in the one with the greater index.
            j, i = j1 if fx >= 0.5 - EDGE_TOLERANCE else j0, i1 if fy >= 0.5 - EDGE_TOLERANCE else i0
            if 0 <= i < rows and 0 <= j < columns and _is_valid(values[i, j], nodata, has_nodata):
                out[r, c] = _renormalised(plane, j0, j1, i0, i1, fx, fy)


@_compiled
def _weighted_sums(
    plane: SourcePlane, west: float, east: float, north: float, south: float, squared: bool
) -> tuple[float, float]:
    """(area, total) of the valid source pixels in a box: total of w * value, or of (w * value)² if ``squared``."""
    values, top, left = plane.values, plane.top, plane.left
    area, total = 0.0, 0.0
    for i in range(max(math.floor(north), top), min(math.ceil(south), top + values.shape[0])):
        height = min(i + 1.0, south) - max(float(i), north)
        for j in range(max(math.floor(west), left), min(math.ceil(east), left + values.shape[1])):
            value = values[np.uint64(i - top), np.uint64(j - left)]
            if _is_valid(value, plane.nodata, plane.has_nodata):
                weight = height * (min(j + 1.0, east) - max(float(j), west))
                weighted = weight * value
                area += weight
                total += weighted * weighted if squared else weighted
    return area, total


@_compiled
def area_weighted(plane: SourcePlane, mapping: Mapping, independent: bool, out: npt.NDArray[Any]) -> None:
    """Mean over the valid part of the footprint, each source pixel weighted with the area w that it shares with it.

    With ``independent``, the standard deviation of that mean where the errors s of the source pixels are uncorrelated:
    sqrt(sum((w s)²)) / sum(w) (JCGM 100:2008, equation 10). A target pixel has a value iff at least half of its
    footprint is valid. ``out`` is of a floating dtype.
    """
    top, left = plane.top, plane.left
    bottom, right = top + plane.values.shape[0], left + plane.values.shape[1]
    us, vs = np.empty(out.shape[1]), np.empty(out.shape[1])
    for r in range(out.shape[0]):
        _expand_row(mapping.u, mapping, mapping.row + r, us)
        _expand_row(mapping.v, mapping, mapping.row + r, vs)
        cell_row = (mapping.row + r) // mapping.step - mapping.row // mapping.step
        for c in range(out.shape[1]):
            cell = (mapping.col + c) // mapping.step - mapping.col // mapping.step
            half_width, half_height = mapping.half_width[cell_row, cell], mapping.half_height[cell_row, cell]
            west, east = _snapped(us[c] - half_width), _snapped(us[c] + half_width)
            north, south = _snapped(vs[c] - half_height), _snapped(vs[c] + half_height)
            if west < right and east > left and north < bottom and south > top:
                area, total = _weighted_sums(plane, west, east, north, south, independent)
                if area > 0 and area >= (0.5 - EDGE_TOLERANCE) * (east - west) * (south - north):
                    out[r, c] = math.sqrt(total) / area if independent else total / area


@_compiled
def _share(
    values: npt.NDArray[Any], code: Any, i0: int, i1: int, j0: int, j1: int, parts: tuple[float, float, float, float]
) -> float:
    """Area of ``code`` in a box that lies in ``values``: rows i0 … i1 and columns j0 … j1, both ends included.

    ``parts``: how much of the first column, the last column, the first row and the last row is in the box.
    """
    first_col, last_col, first_row, last_row = parts
    share = 0.0
    start, stop = np.uint64(j0), np.uint64(j1)
    for i in range(np.uint64(i0), np.uint64(i1 + 1)):
        # Whole pixels are counted as integers: a chain of float additions is what this loop would wait for.
        inner = 0
        for j in range(np.uint64(j0 + 1), stop):
            inner += values[i, j] == code
        line = inner + first_col * (values[i, start] == code)
        if j1 > j0:
            line += last_col * (values[i, stop] == code)
        if i == i0:
            line *= first_row
        elif i == i1:
            line *= last_row
        share += line
    return share


@_compiled
def _count_votes(plane: SourcePlane, box: tuple[float, float, float, float], ballot: _Ballot) -> int:
    """Fill the ballot's ``codes`` and ``votes`` with the valid codes in the box and their areas; return their number.

    Without a branch for each pixel, because a processor can't guess the codes of a mixed footprint: areas are added by
    the last eight bits of the code. Where two codes have these in common, they are looked up one by one instead.
    """
    values, top, left = plane.values, plane.top, plane.left
    west, east, north, south = box
    met, slots, owners = ballot.met, ballot.slots, ballot.owners
    size = 0
    for i in range(max(math.floor(north), top), min(math.ceil(south), top + values.shape[0])):
        height = min(i + 1.0, south) - max(float(i), north)
        for j in range(max(math.floor(west), left), min(math.ceil(east), left + values.shape[1])):
            code = values[np.uint64(i - top), np.uint64(j - left)]
            slot = np.uint64(code & 255)
            slots[slot] += height * (min(j + 1.0, east) - max(float(j), west))
            owners[slot] = code
            met[size] = code
            size += 1
    count = 0
    collision = False
    for k in range(size):
        slot = np.uint64(met[k] & 255)
        collision |= owners[slot] != met[k]
        ballot.codes[count], ballot.votes[count] = met[k], slots[slot]
        count += (slots[slot] > 0) & _is_valid(met[k], plane.nodata, plane.has_nodata)
        slots[slot] = 0.0
    return _count_one_by_one(plane, box, ballot) if collision else count


@_compiled
def _count_one_by_one(plane: SourcePlane, box: tuple[float, float, float, float], ballot: _Ballot) -> int:
    values, top, left = plane.values, plane.top, plane.left
    codes, votes = ballot.codes, ballot.votes
    west, east, north, south = box
    count = 0
    for i in range(max(math.floor(north), top), min(math.ceil(south), top + values.shape[0])):
        height = min(i + 1.0, south) - max(float(i), north)
        for j in range(max(math.floor(west), left), min(math.ceil(east), left + values.shape[1])):
            code = values[i - top, j - left]
            if _is_valid(code, plane.nodata, plane.has_nodata):
                k = 0
                while k < count and codes[k] != code:
                    k += 1
                if k == count:
                    codes[k], votes[k] = code, 0.0
                    count += 1
                votes[k] += height * (min(j + 1.0, east) - max(float(j), west))
    return count


@_compiled
def _winner(codes: npt.NDArray[Any], votes: Floats, count: int, slack: float, centre: Any) -> Any:
    """The code with most votes; in a tie (within ``slack``) ``centre`` if among them, else the smallest."""
    most = 0.0
    for k in range(count):
        most = max(most, votes[k])
    best = codes[0]
    found = False
    for k in range(count):
        if votes[k] >= most - slack:
            if codes[k] == centre:
                return codes[k]
            if not found or codes[k] < best:
                best = codes[k]
                found = True
    return best


@_compiled
def _table_size(mapping: Mapping) -> int:
    """Most source pixels that a footprint can touch."""
    width, height = 0.0, 0.0
    for i in range(mapping.half_width.shape[0]):
        for j in range(mapping.half_width.shape[1]):
            if mapping.half_width[i, j] > width:  # noqa: PLR1730  # max() would let NaN through
                width = mapping.half_width[i, j]
            if mapping.half_height[i, j] > height:  # noqa: PLR1730  # as above
                height = mapping.half_height[i, j]
    return (int(2 * width) + 3) * (int(2 * height) + 3)


@_compiled
def _box(x: float, y: float, half_width: float, half_height: float) -> tuple[float, float, float, float]:
    """West, east, north and south edge of a footprint."""
    return _snapped(x - half_width), _snapped(x + half_width), _snapped(y - half_height), _snapped(y + half_height)


@_compiled
def _elect(
    plane: SourcePlane, u: float, v: float, box: tuple[float, float, float, float], ballot: _Ballot
) -> tuple[bool, Any]:
    """(True, the code that wins the footprint ``box`` around (u, v)), or (False, anything) where no value does."""
    values, top, left = plane.values, plane.top, plane.left
    bottom, right = top + values.shape[0], left + values.shape[1]
    under = values[0, 0]
    west, east, north, south = box
    if not (west < right and east > left and north < bottom and south > top):
        return False, under
    area = (east - west) * (south - north)
    j0, j1 = math.floor(west), math.ceil(east) - 1
    i0, i1 = math.floor(north), math.ceil(south) - 1
    x, y = u + EDGE_TOLERANCE, v + EDGE_TOLERANCE
    centred = left <= x < right and top <= y < bottom
    if centred:
        under = values[int(y) - top, int(x) - left]
    if left <= j0 and j1 < right and top <= i0 and i1 < bottom:
        # Mostly the code under the centre has more than half, and none can win against it, "no value" included.
        parts = (min(j0 + 1.0, east) - west, east - j1, min(i0 + 1.0, south) - north, south - i1)
        if _share(values, under, i0 - top, i1 - top, j0 - left, j1 - left, parts) > (0.5 + EDGE_TOLERANCE) * area:
            return _is_valid(under, plane.nodata, plane.has_nodata), under
    count = _count_votes(plane, (west, east, north, south), ballot)
    total = 0.0
    for k in range(count):
        total += ballot.votes[k]
    if count == 0 or total < (0.5 - EDGE_TOLERANCE) * area:
        return False, under
    centre = under if centred else ballot.codes[0]
    return True, _winner(ballot.codes, ballot.votes, count, EDGE_TOLERANCE * area, centre)


@_compiled
def _spans(
    line: Floats,
    half: float,
    origin: int,
    edges: tuple[Floats, Floats],
    first: npt.NDArray[np.int64],
    last: npt.NDArray[np.int64],
) -> None:
    """Both ``edges`` of the footprints of half size ``half`` around ``line``; their first and last source pixel.

    Pixels are counted from ``origin``.
    """
    for c in range(line.size):
        edges[0][c], edges[1][c] = _snapped(line[c] - half), _snapped(line[c] + half)
        first[c] = math.floor(edges[0][c]) - origin
        last[c] = math.ceil(edges[1][c]) - 1 - origin


@_compiled
def _count_changes(
    values: npt.NDArray[Any], i0: int, i1: int, j0: int, j1: int, even: npt.NDArray[np.bool_], changes: npt.NDArray[Any]
) -> None:
    """Write into ``changes`` (columns,) how often rows i0 … i1 change from one column to the next, from j0 to j1.

    A column that doesn't hold one number in these rows counts as a change, so that columns a to b hold one number
    together iff column a holds one, which is what ``even`` (columns,) says, and ``changes[a] == changes[b]``.
    """
    even[j0 : j1 + 1] = True
    for i in range(np.uint64(i0 + 1), np.uint64(i1 + 1)):
        for j in range(np.uint64(j0), np.uint64(j1 + 1)):
            even[j] &= values[i, j] == values[np.uint64(i0), j]
    changes[j0] = 0
    count = 0
    for j in range(np.uint64(j0 + 1), np.uint64(j1 + 1)):
        before = j - np.uint64(1)
        count += (values[np.uint64(i0), j] != values[np.uint64(i0), before]) | (not even[j])
        changes[j] = count


@_compiled
def majority(plane: SourcePlane, mapping: Mapping, bounds: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
    """The code with the largest share of the footprint's area.

    A tie goes to the code under the centre if it is among the tied, else to the smallest. No value where more than
    half of the footprint is nodata or outside. ``plane.values`` are integers; ``bounds`` as in :func:`nearest`.
    """
    values = plane.values
    rows, columns = values.shape
    us, vs = np.empty(out.shape[1]), np.empty(out.shape[1])
    wests, easts = np.empty(out.shape[1]), np.empty(out.shape[1])
    firsts, lasts = np.empty(out.shape[1], np.int64), np.empty(out.shape[1], np.int64)
    even, changes = np.empty(columns, np.bool_), np.empty(columns, np.int32)
    # A footprint holds no more codes than source pixels, however large the range of codes.
    size = _table_size(mapping)
    codes, met, owners = np.empty(size, values.dtype), np.empty(size, values.dtype), np.empty(256, values.dtype)
    ballot = _Ballot(codes, np.empty(size), met, np.zeros(256), owners)
    low, high = bounds[0], bounds[1]
    for r in range(out.shape[0]):
        _expand_row(mapping.u, mapping, mapping.row + r, us)
        _expand_row(mapping.v, mapping, mapping.row + r, vs)
        # Forests and fields are wide: most footprints hold one code. Where all footprints of a row lie on the same
        # source rows, those are found by comparing whole rows, which the compiler vectorises.
        i0, quick = 0, False
        north, south = 0.0, 0.0
        if mapping.separable:
            if r == 0:
                _spans(us, mapping.half_width[0, 0], plane.left, (wests, easts), firsts, lasts)
            _, _, north, south = _box(us[0], vs[0], mapping.half_width[0, 0], mapping.half_height[0, 0])
            i0, i1 = math.floor(north) - plane.top, math.ceil(south) - 1 - plane.top
            quick = i0 >= 0 and i1 < rows
            if quick:
                j0, j1 = max(0, min(firsts[0], firsts[-1])), min(columns - 1, max(lasts[0], lasts[-1]))
                _count_changes(values, i0, i1, j0, j1, even, changes)
        for c in range(out.shape[1]):
            first, last = firsts[c], lasts[c]
            if quick and first >= 0 and last < columns and even[first] and changes[first] == changes[last]:
                code = values[i0, first]
                found = _is_valid(code, plane.nodata, plane.has_nodata)
            elif mapping.separable:
                found, code = _elect(plane, us[c], vs[c], (wests[c], easts[c], north, south), ballot)
            else:
                found, code = _elect(plane, us[c], vs[c], _box_of(mapping, r, c, us[c], vs[c]), ballot)
            if found:
                low, high = min(low, code), max(high, code)
                out[r, c] = code
    bounds[0], bounds[1] = low, high


@_compiled
def holds_one_number(values: npt.NDArray[Any]) -> bool:
    """Whether all pixels are equal, or all NaN. ``values`` (rows, columns) isn't empty."""
    first = values[0, 0]
    for i in range(values.shape[0]):
        # Counted without a branch, so that the compiler vectorises the row; mixed windows end with their first one.
        others = 0
        for j in range(values.shape[1]):
            value = values[i, j]
            others += (value != first) & ((value == value) | (first == first))  # noqa: PLR0124  # false for NaN alone
        if others:
            return False
    return True


@_compiled
def _box_of(mapping: Mapping, r: int, c: int, u: float, v: float) -> tuple[float, float, float, float]:
    """West, east, north and south edge of the footprint of ``out[r, c]``, whose centre lies at (u, v)."""
    i = (mapping.row + r) // mapping.step - mapping.row // mapping.step
    j = (mapping.col + c) // mapping.step - mapping.col // mapping.step
    return _box(u, v, mapping.half_width[i, j], mapping.half_height[i, j])


@_compiled
def _gather(
    plane: SourcePlane, box: tuple[float, float, float, float], numbers: npt.NDArray[Any], areas: Floats
) -> tuple[int, float]:
    """Write the valid source pixels in the box and the areas that they share with it, row by row.

    Returns (their number, their area); (0, -1.0) where the box lies outside the plane. Snapped edges leave no pixel
    that shares less than EDGE_TOLERANCE with the box in either direction.
    """
    values, top, left = plane.values, plane.top, plane.left
    bottom, right = top + values.shape[0], left + values.shape[1]
    west, east, north, south = box
    if not (west < right and east > left and north < bottom and south > top):
        return 0, -1.0
    count, total = 0, 0.0
    for i in range(max(math.floor(north), top), min(math.ceil(south), bottom)):
        height = min(i + 1.0, south) - max(float(i), north)
        for j in range(max(math.floor(west), left), min(math.ceil(east), right)):
            value = values[np.uint64(i - top), np.uint64(j - left)]
            if _is_valid(value, plane.nodata, plane.has_nodata):
                area = height * (min(j + 1.0, east) - max(float(j), west))
                numbers[count], areas[count] = value, area
                count += 1
                total += area
    return count, total


@_compiled
def _is_half_valid(area: float, box: tuple[float, float, float, float]) -> bool:
    west, east, north, south = box
    return area > 0 and area >= (0.5 - EDGE_TOLERANCE) * (east - west) * (south - north)


@_compiled
def _sort_pairs(numbers: npt.NDArray[Any], areas: Floats, count: int) -> None:
    """Shell's sort of the first ``count`` numbers, with their areas (Knuth, TAOCP volume 3, 5.2.1).

    In place: a call to argsort would allocate for each target pixel.
    """
    gap = 1
    while gap < count // 3:
        gap = 3 * gap + 1
    while gap > 0:
        for k in range(gap, count):
            number, area = numbers[k], areas[k]
            place = k
            while place >= gap and numbers[place - gap] > number:
                numbers[place], areas[place] = numbers[place - gap], areas[place - gap]
                place -= gap
            numbers[place], areas[place] = number, area
        gap //= 3


@_compiled
def _weighted_median(numbers: npt.NDArray[Any], areas: Floats, count: int, half: float) -> float:
    _sort_pairs(numbers, areas, count)
    below = 0.0
    for k in range(count):
        below += areas[k]
        if below >= half:
            return np.float64(numbers[k])
    return np.float64(numbers[count - 1])


@_compiled
def _weighted_variance(numbers: npt.NDArray[Any], areas: Floats, count: int, area: float) -> float:
    # Differences from one of the numbers, so that equal numbers have no variance, and large ones keep their digits.
    origin = np.float64(numbers[0])
    mean = 0.0
    for k in range(count):
        mean += areas[k] * (numbers[k] - origin)
    mean /= area
    total = 0.0
    for k in range(count):
        difference = (numbers[k] - origin) - mean
        total += areas[k] * difference * difference
    return total / area


@_compiled
def _summarised(summary: Summary, numbers: npt.NDArray[Any], areas: Floats, count: int, area: float) -> float:
    """The summary of ``count`` > 0 numbers; it may be NaN. Their order may change."""
    if summary == Summary.MEDIAN:
        return _weighted_median(numbers, areas, count, (0.5 - EDGE_TOLERANCE) * area)
    if summary == Summary.VAR:
        return _weighted_variance(numbers, areas, count, area)
    if summary == Summary.STD:
        return math.sqrt(_weighted_variance(numbers, areas, count, area))
    result = np.float64(numbers[0])
    if summary == Summary.SUM:
        result *= areas[0]
    elif summary == Summary.PROD:
        result = result ** areas[0]
    for k in range(1, count):
        number = np.float64(numbers[k])
        if summary == Summary.SUM:
            result += areas[k] * number
        elif summary == Summary.PROD:
            result *= number ** areas[k]
        elif summary == Summary.MIN:
            result = min(result, number)
        else:
            result = max(result, number)
    return result


@_compiled
def footprint_summary(plane: SourcePlane, mapping: Mapping, summary: Summary, out: npt.NDArray[Any]) -> None:
    """One number for the valid source pixels under the footprint, by the rule of ``summary``.

    A target pixel has a value iff at least half of its footprint is valid; a count, iff any of it lies in the plane.
    ``out`` is of a floating dtype.
    """
    us, vs = np.empty(out.shape[1]), np.empty(out.shape[1])
    size = _table_size(mapping)
    numbers, areas = np.empty(size, plane.values.dtype), np.empty(size)
    for r in range(out.shape[0]):
        _expand_row(mapping.u, mapping, mapping.row + r, us)
        _expand_row(mapping.v, mapping, mapping.row + r, vs)
        for c in range(out.shape[1]):
            box = _box_of(mapping, r, c, us[c], vs[c])
            count, area = _gather(plane, box, numbers, areas)
            if summary == Summary.COUNT:
                if area >= 0:
                    out[r, c] = area
            elif _is_half_valid(area, box):
                value = _summarised(summary, numbers, areas, count, area)
                if not math.isnan(value):
                    out[r, c] = value


@_compiled
def footprint_end(
    plane: SourcePlane, mapping: Mapping, last: bool, bounds: npt.NDArray[Any], out: npt.NDArray[Any]
) -> None:
    """The first valid source pixel under the footprint in the order of rows, then columns; with ``last``, the last.

    A target pixel has a value iff at least half of its footprint is valid. ``bounds`` as in :func:`nearest`.
    """
    us, vs = np.empty(out.shape[1]), np.empty(out.shape[1])
    size = _table_size(mapping)
    numbers, areas = np.empty(size, plane.values.dtype), np.empty(size)
    low, high = bounds[0], bounds[1]
    for r in range(out.shape[0]):
        _expand_row(mapping.u, mapping, mapping.row + r, us)
        _expand_row(mapping.v, mapping, mapping.row + r, vs)
        for c in range(out.shape[1]):
            box = _box_of(mapping, r, c, us[c], vs[c])
            count, area = _gather(plane, box, numbers, areas)
            if _is_half_valid(area, box):
                value = numbers[count - 1] if last else numbers[0]
                low, high = min(low, value), max(high, value)
                out[r, c] = value
    bounds[0], bounds[1] = low, high


@_compiled
def ensemble_mean(
    members: npt.NDArray[Any], nodata: Any, has_nodata: bool, total: npt.NDArray[Any], out: npt.NDArray[np.float32]
) -> None:
    """Mean over the valid members: ``members`` (member, y, x) to ``out`` (y, x), NaN where none is valid.

    ``total`` (x,) is scratch: float64, or an integer dtype that holds the sum of all members.
    """
    count = np.empty(out.shape[1], np.int32)
    for r in range(out.shape[0]):
        total[:] = 0
        count[:] = 0
        for m in range(members.shape[0]):
            for c in range(out.shape[1]):
                value = members[m, r, c]
                valid = _is_valid(value, nodata, has_nodata)
                total[c] += value if valid else 0
                count[c] += 1 if valid else 0
        for c in range(out.shape[1]):
            out[r, c] = total[c] / count[c] if count[c] > 0 else np.nan


@_compiled
def ensemble_std(
    members: npt.NDArray[Any], nodata: Any, has_nodata: bool, total: Floats, out: npt.NDArray[np.float32]
) -> None:
    """Population standard deviation (ddof = 0) over the valid members, in two passes. Shapes as in the mean.

    ``total`` (x,) is float64 scratch.
    """
    count = np.empty(out.shape[1], np.int32)
    squares = np.empty(out.shape[1])
    for r in range(out.shape[0]):
        total[:] = 0
        count[:] = 0
        squares[:] = 0
        for m in range(members.shape[0]):
            for c in range(out.shape[1]):
                if _is_valid(members[m, r, c], nodata, has_nodata):
                    total[c] += members[m, r, c]
                    count[c] += 1
        for m in range(members.shape[0]):
            for c in range(out.shape[1]):
                if _is_valid(members[m, r, c], nodata, has_nodata):
                    difference = members[m, r, c] - total[c] / count[c]
                    squares[c] += difference * difference
        for c in range(out.shape[1]):
            out[r, c] = math.sqrt(squares[c] / count[c]) if count[c] > 0 else np.nan


@_compiled
def ensemble_quantiles(
    members: npt.NDArray[Any], nodata: Any, has_nodata: bool, fractions: Floats, out: npt.NDArray[np.float32]
) -> None:
    """Quantiles over the valid members: ``members`` (member, y, x) to ``out`` (fraction, y, x), NaN where none is.

    Linear between the ordered members: quantile f of n lies at position f (n - 1), counted from 0 (Hyndman & Fan 1996,
    definition 7), so that f = 0.5 is the median, and the mean of the two middle ones where n is even.
    """
    ordered = np.empty(members.shape[0])
    for r in range(out.shape[1]):
        for c in range(out.shape[2]):
            count = 0
            for m in range(members.shape[0]):
                value = members[m, r, c]
                if _is_valid(value, nodata, has_nodata):
                    # Insertion: an ensemble is small, and a call to sort would allocate for each pixel.
                    k = count
                    while k > 0 and ordered[k - 1] > value:
                        ordered[k] = ordered[k - 1]
                        k -= 1
                    ordered[k] = value
                    count += 1
            for q in range(fractions.size):
                out[q, r, c] = _quantile(ordered, count, fractions[q])


@_compiled
def _quantile(ordered: Floats, count: int, fraction: float) -> float:
    if count == 0:
        return np.nan
    position = fraction * (count - 1)
    below = int(position)
    rest = position - below
    # Where a member is hit, its neighbour has no say: it may be infinite, or not be there.
    if rest == 0:
        return ordered[below]  # type: ignore[no-any-return]  # an element of an array
    return ordered[below] * (1 - rest) + ordered[below + 1] * rest  # type: ignore[no-any-return]  # as above
