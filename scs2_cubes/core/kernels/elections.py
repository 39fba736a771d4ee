"""Class codes under a footprint elect one of them, by area."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from scs2_cubes.core.kernels.compilation import compiled
from scs2_cubes.core.kernels.mapping import Floats, Mapping, box_around, box_of, expand_row, snapped, table_size
from scs2_cubes.core.kernels.planes import SourcePlane, is_valid
from scs2_cubes.core.transform import EDGE_TOLERANCE

__all__ = ["majority"]


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


@compiled
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


@compiled
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
        count += (slots[slot] > 0) & is_valid(met[k], plane.nodata, plane.has_nodata)
        slots[slot] = 0.0
    return _count_one_by_one(plane, box, ballot) if collision else count


@compiled
def _count_one_by_one(plane: SourcePlane, box: tuple[float, float, float, float], ballot: _Ballot) -> int:
    values, top, left = plane.values, plane.top, plane.left
    codes, votes = ballot.codes, ballot.votes
    west, east, north, south = box
    count = 0
    for i in range(max(math.floor(north), top), min(math.ceil(south), top + values.shape[0])):
        height = min(i + 1.0, south) - max(float(i), north)
        for j in range(max(math.floor(west), left), min(math.ceil(east), left + values.shape[1])):
            code = values[i - top, j - left]
            if is_valid(code, plane.nodata, plane.has_nodata):
                k = 0
                while k < count and codes[k] != code:
                    k += 1
                if k == count:
                    codes[k], votes[k] = code, 0.0
                    count += 1
                votes[k] += height * (min(j + 1.0, east) - max(float(j), west))
    return count


@compiled
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


@compiled
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
            return is_valid(under, plane.nodata, plane.has_nodata), under
    count = _count_votes(plane, (west, east, north, south), ballot)
    total = 0.0
    for k in range(count):
        total += ballot.votes[k]
    if count == 0 or total < (0.5 - EDGE_TOLERANCE) * area:
        return False, under
    centre = under if centred else ballot.codes[0]
    return True, _winner(ballot.codes, ballot.votes, count, EDGE_TOLERANCE * area, centre)


@compiled
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
        edges[0][c], edges[1][c] = snapped(line[c] - half), snapped(line[c] + half)
        first[c] = math.floor(edges[0][c]) - origin
        last[c] = math.ceil(edges[1][c]) - 1 - origin


@compiled
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


@compiled
def majority(plane: SourcePlane, mapping: Mapping, bounds: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
    """The code with the largest share of the footprint's area.

    A tie goes to the code under the centre if it is among the tied, else to the smallest. No value where more than
    half of the footprint is nodata or outside. ``plane.values`` are integers; ``bounds`` as in ``kernels.nearest``.
    """
    values = plane.values
    rows, columns = values.shape
    us, vs = np.empty(out.shape[1]), np.empty(out.shape[1])
    wests, easts = np.empty(out.shape[1]), np.empty(out.shape[1])
    firsts, lasts = np.empty(out.shape[1], np.int64), np.empty(out.shape[1], np.int64)
    even, changes = np.empty(columns, np.bool_), np.empty(columns, np.int32)
    # A footprint holds no more codes than source pixels, however large the range of codes.
    size = table_size(mapping)
    codes, met, owners = np.empty(size, values.dtype), np.empty(size, values.dtype), np.empty(256, values.dtype)
    ballot = _Ballot(codes, np.empty(size), met, np.zeros(256), owners)
    low, high = bounds[0], bounds[1]
    for r in range(out.shape[0]):
        expand_row(mapping.u, mapping, mapping.row + r, us)
        expand_row(mapping.v, mapping, mapping.row + r, vs)
        # Forests and fields are wide: most footprints hold one code. Where all footprints of a row lie on the same
        # source rows, those are found by comparing whole rows, which the compiler vectorises.
        i0, quick = 0, False
        north, south = 0.0, 0.0
        if mapping.separable:
            if r == 0:
                _spans(us, mapping.half_width[0, 0], plane.left, (wests, easts), firsts, lasts)
            _, _, north, south = box_around(us[0], vs[0], mapping.half_width[0, 0], mapping.half_height[0, 0])
            i0, i1 = math.floor(north) - plane.top, math.ceil(south) - 1 - plane.top
            quick = i0 >= 0 and i1 < rows
            if quick:
                j0, j1 = max(0, min(firsts[0], firsts[-1])), min(columns - 1, max(lasts[0], lasts[-1]))
                _count_changes(values, i0, i1, j0, j1, even, changes)
        for c in range(out.shape[1]):
            first, last = firsts[c], lasts[c]
            if quick and first >= 0 and last < columns and even[first] and changes[first] == changes[last]:
                code = values[i0, first]
                found = is_valid(code, plane.nodata, plane.has_nodata)
            elif mapping.separable:
                found, code = _elect(plane, us[c], vs[c], (wests[c], easts[c], north, south), ballot)
            else:
                found, code = _elect(plane, us[c], vs[c], box_of(mapping, r, c, us[c], vs[c]), ballot)
            if found:
                low, high = min(low, code), max(high, code)
                out[r, c] = code
    bounds[0], bounds[1] = low, high
