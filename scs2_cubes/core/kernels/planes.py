"""The source's side of a kernel: a window of pixels, and which of them are valid."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from scs2_cubes.core.kernels.compilation import compiled

__all__ = ["SourcePlane", "holds_one_number", "is_valid"]


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


@compiled
def is_valid(value: Any, nodata: Any, has_nodata: bool) -> bool:
    """Whether ``value`` is neither NaN nor, where there is one, ``nodata``."""
    return (value == value) & ~(has_nodata & (value == nodata))  # type: ignore[no-any-return]  # noqa: PLR0124  # NaN


@compiled
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
