"""The target's side of a kernel: where its pixels lie on the source, centres and footprints."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from scs2_cubes.core.kernels.compilation import compiled
from scs2_cubes.core.transform import EDGE_TOLERANCE

__all__ = ["Floats", "Mapping", "box_around", "box_of", "expand_row", "snapped", "table_size"]

Floats = npt.NDArray[np.float64]


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


@compiled
def snapped(edge: float) -> float:
    """The source edge within EDGE_TOLERANCE of ``edge``, or ``edge``."""
    nearest_edge = np.rint(edge)
    if abs(edge - nearest_edge) < EDGE_TOLERANCE:
        return nearest_edge  # type: ignore[no-any-return]  # np.rint is untyped for scalars
    return edge


@compiled
def expand_row(nodes: Floats, mapping: Mapping, row: int, line: Floats) -> None:
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


@compiled
def box_around(x: float, y: float, half_width: float, half_height: float) -> tuple[float, float, float, float]:
    """West, east, north and south edge of a footprint."""
    return snapped(x - half_width), snapped(x + half_width), snapped(y - half_height), snapped(y + half_height)


@compiled
def box_of(mapping: Mapping, r: int, c: int, u: float, v: float) -> tuple[float, float, float, float]:
    """West, east, north and south edge of the footprint of ``out[r, c]``, whose centre lies at (u, v)."""
    i = (mapping.row + r) // mapping.step - mapping.row // mapping.step
    j = (mapping.col + c) // mapping.step - mapping.col // mapping.step
    return box_around(u, v, mapping.half_width[i, j], mapping.half_height[i, j])


@compiled
def table_size(mapping: Mapping) -> int:
    """Most source pixels that a footprint can touch."""
    width, height = 0.0, 0.0
    for i in range(mapping.half_width.shape[0]):
        for j in range(mapping.half_width.shape[1]):
            if mapping.half_width[i, j] > width:  # noqa: PLR1730  # max() would let NaN through
                width = mapping.half_width[i, j]
            if mapping.half_height[i, j] > height:  # noqa: PLR1730  # as above
                height = mapping.half_height[i, j]
    return (int(2 * width) + 3) * (int(2 * height) + 3)
