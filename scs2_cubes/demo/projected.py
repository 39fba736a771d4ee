"""What the catalogue's stores in EPSG:3035 have in common: axes in metres, and the chunks that exist."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from scs2_cubes.core.grid import Lattice
from scs2_cubes.demo import region
from scs2_cubes.demo.store import SHUFFLED_LZ4, ArraySpec, Block

__all__ = ["chunks_in_window", "mesh", "x_axis", "y_axis"]


def chunks_in_window(lattice: Lattice, chunk: int) -> tuple[range, range]:
    """(rows, columns) of the square chunks that touch the demonstration's window; ``lattice`` is in its CRS."""
    west, south, east, north = region.WINDOW
    rows = [(y - lattice.y_origin) / lattice.dy / chunk for y in (north, south)]
    cols = [(x - lattice.x_origin) / lattice.dx / chunk for x in (west, east)]
    return range(math.floor(rows[0]), math.ceil(rows[1])), range(math.floor(cols[0]), math.ceil(cols[1]))


def mesh(lattice: Lattice, rows: slice, cols: slice) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Centres of a block: x of shape (1, columns) and y of shape (rows, 1), in metres."""
    x, y = lattice.x_centres(cols.start, cols.stop), lattice.y_centres(rows.start, rows.stop)
    return x[np.newaxis, :], y[:, np.newaxis]


def x_axis(lattice: Lattice, chunk: int, name: str = "x") -> ArraySpec:
    """Coordinate of the columns, stored in chunks of ``chunk`` values."""

    def values(block: Block, _edition: int) -> npt.NDArray[np.float64]:
        return lattice.x_centres(block[0].start, block[0].stop)

    return ArraySpec(name, (name,), (lattice.nx,), (chunk,), "<f8", "NaN", SHUFFLED_LZ4, _attrs("x"), values)


def y_axis(lattice: Lattice, chunk: int, name: str = "y") -> ArraySpec:
    """Coordinate of the rows, stored in chunks of ``chunk`` values."""

    def values(block: Block, _edition: int) -> npt.NDArray[np.float64]:
        return lattice.y_centres(block[0].start, block[0].stop)

    return ArraySpec(name, (name,), (lattice.ny,), (chunk,), "<f8", "NaN", SHUFFLED_LZ4, _attrs("y"), values)


def _attrs(axis: str) -> dict[str, str]:
    return {
        "axis": axis.upper(),
        "long_name": f"Projected {axis} coordinate (ETRS89 / LAEA Europe)",
        "standard_name": f"projection_{axis}_coordinate",
        "units": "m",
    }
