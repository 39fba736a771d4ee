"""The numeric loops of the embedded portal: compiled by numba, serial, without the GIL.

The portal's pixels lie on a lattice in degrees, so they are no mesh in metres, where :mod:`scs2_cubes.demo.world`
takes a microsecond for each of them, and a window has five million. Importing this module imports numba, which takes
half a second: import it inside the function that calls a kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["Patches", "noise", "paint"]

Floats = npt.NDArray[np.float64]
_P = ParamSpec("_P")
_R = TypeVar("_R")


def _compiled(function: Callable[_P, _R]) -> Callable[_P, _R]:
    compiled: Callable[_P, _R] = njit(cache=True, nogil=True)(function)
    return compiled


class Patches(NamedTuple):
    """Disturbed patches, each an entry of every array."""

    x: Floats
    """Easting of the centre."""
    y: Floats
    """Northing of the centre."""
    half_width: Floats
    """Half of the axis along x, in metres."""
    half_height: Floats
    """Half of the axis along y, in metres."""
    bit: npt.NDArray[np.uint64]
    """What is set in the pixels that it covers."""
    is_rectangle: npt.NDArray[np.bool_]
    """Otherwise it is an ellipse."""


def noise(x: Floats, y: Floats, scale: float, octaves: int, seed: int) -> Floats:
    """The same numbers, bit for bit, as :func:`scs2_cubes.demo.world.noise` at points ``x`` and ``y`` of shape (n,)."""
    starts = [(seed + octave) * 0x9E3779B97F4A7C15 % 2**64 for octave in range(octaves)]
    weights = np.array([0.5**octave for octave in range(octaves)], dtype=np.float64)
    total = np.zeros(x.shape)
    _add_octaves(total, x, y, np.multiply(scale, weights), weights, np.array(starts, dtype=np.uint64))
    return np.asarray(total / weights.sum())


@_compiled
def _node_value(col: int, row: int, start: int) -> float:
    # World.node_value, whose constants and order of operations these are.
    state = np.uint64(col) * np.uint64(0xD1B54A32D192ED03) + np.uint64(row) * np.uint64(0x8CB92BA72F3D8DD7) + start
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    return np.float64(state >> np.uint64(11)) * 2.0**-53


@_compiled
def _add_octaves(
    total: Floats, x: Floats, y: Floats, scales: Floats, weights: Floats, starts: npt.NDArray[np.uint64]
) -> None:
    for k in range(len(scales)):
        scale, weight, start = scales[k], weights[k], starts[k]
        last_col, last_row = 2**62, 2**62
        first = second = third = fourth = 0.0
        for i in range(len(x)):
            across, along = x[i] / scale, y[i] / scale
            col, row = math.floor(across), math.floor(along)
            if col != last_col or row != last_row:
                # A neighbour mostly lies between the same nodes.
                first, second = _node_value(col, row, start), _node_value(col + 1, row, start)
                third, fourth = _node_value(col, row + 1, start), _node_value(col + 1, row + 1, start)
                last_col, last_row = col, row
            fx, fy = across - col, along - row
            wx, wy = fx * fx * (3.0 - 2.0 * fx), fy * fy * (3.0 - 2.0 * fy)
            upper = first + (second - first) * wx
            lower = third + (fourth - third) * wx
            total[i] += weight * (upper + (lower - upper) * wy)


@_compiled
def paint(
    events: npt.NDArray[np.uint64], x: Floats, y: Floats, inverse: Floats, slack: float, patches: Patches
) -> None:
    """Set the bits of the patches in ``events``, at the places ``x`` and ``y``, all of shape (rows, columns).

    ``inverse`` of shape (2, 3) turns (x, y, 1) into (row, column) to within ``slack`` metres; only pixels near a
    patch are looked at.
    """
    rows, cols = x.shape
    for p in range(len(patches.x)):
        px, py = patches.x[p], patches.y[p]
        width, height = patches.half_width[p], patches.half_height[p]
        row = inverse[0, 0] * px + inverse[0, 1] * py + inverse[0, 2]
        col = inverse[1, 0] * px + inverse[1, 1] * py + inverse[1, 2]
        reach_rows = abs(inverse[0, 0]) * (width + slack) + abs(inverse[0, 1]) * (height + slack)
        reach_cols = abs(inverse[1, 0]) * (width + slack) + abs(inverse[1, 1]) * (height + slack)
        for r in range(max(math.floor(row - reach_rows), 0), min(math.ceil(row + reach_rows) + 1, rows)):
            for c in range(max(math.floor(col - reach_cols), 0), min(math.ceil(col + reach_cols) + 1, cols)):
                across, along = (x[r, c] - px) / width, (y[r, c] - py) / height
                if patches.is_rectangle[p]:
                    covered = abs(across) < 1.0 and abs(along) < 1.0
                else:
                    covered = across * across + along * along < 1.0
                if covered:
                    events[r, c] |= patches.bit[p]
