"""One layer from the members of an ensemble: pixel by pixel, on the source's own lattice."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from scs2_cubes.core.kernels.compilation import compiled
from scs2_cubes.core.kernels.planes import is_valid

__all__ = ["ensemble_mean", "ensemble_quantiles", "ensemble_std"]

Floats = npt.NDArray[np.float64]


@compiled
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
                valid = is_valid(value, nodata, has_nodata)
                total[c] += value if valid else 0
                count[c] += 1 if valid else 0
        for c in range(out.shape[1]):
            out[r, c] = total[c] / count[c] if count[c] > 0 else np.nan


@compiled
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
                if is_valid(members[m, r, c], nodata, has_nodata):
                    total[c] += members[m, r, c]
                    count[c] += 1
        for m in range(members.shape[0]):
            for c in range(out.shape[1]):
                if is_valid(members[m, r, c], nodata, has_nodata):
                    difference = members[m, r, c] - total[c] / count[c]
                    squares[c] += difference * difference
        for c in range(out.shape[1]):
            out[r, c] = math.sqrt(squares[c] / count[c]) if count[c] > 0 else np.nan


@compiled
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
                if is_valid(value, nodata, has_nodata):
                    # Insertion: an ensemble is small, and a call to sort would allocate for each pixel.
                    k = count
                    while k > 0 and ordered[k - 1] > value:
                        ordered[k] = ordered[k - 1]
                        k -= 1
                    ordered[k] = value
                    count += 1
            for q in range(fractions.size):
                out[q, r, c] = _quantile(ordered, count, fractions[q])


@compiled
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
