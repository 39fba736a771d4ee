"""Lattices and fields that several tests of the core share."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from scs2_cubes.core.grid import Grid, Lattice, Window
from scs2_cubes.core.methods import Method
from scs2_cubes.core.resample import resample
from scs2_cubes.core.transform import IndexMap
from scs2_cubes_tests.core import oracles

LAEA = "EPSG:3035"
LANDES = Grid.from_bbox([3401404, 2346797, 3556068, 2539337], LAEA, 30, 2048)
#: GAMI's lattice: 1/1125 degree over the whole world, latitude descending.
GAMI = Lattice("EPSG:4326", -180.0, 90.0, 1 / 1125, -1 / 1125, 405000, 202500)

#: Fractions of a pixel of shift and sizes of a source pixel, all against 30 m.
SOURCES = {
    "10 m aligned": Lattice(LAEA, 0.0, 3000.0, 10.0, -10.0, 300, 300),
    "10 m shifted": Lattice(LAEA, -4.0, 3003.0, 10.0, -10.0, 300, 300),
    "20 m aligned": Lattice(LAEA, 0.0, 3000.0, 20.0, -20.0, 150, 150),
    "20 m shifted, ascending": Lattice(LAEA, 7.0, 1.0, 20.0, 20.0, 150, 150),
    "30 m half a pixel": Lattice(LAEA, -15.0, 3015.0, 30.0, -30.0, 101, 101),
    "30 m shifted": Lattice(LAEA, 8.0, 2990.0, 30.0, -30.0, 100, 100),
    "100 m": Lattice(LAEA, 3.0, 2950.0, 100.0, -100.0, 28, 28),
}
#: Reaches beyond each source on every side.
TARGET = Lattice(LAEA, -60.0, 3060.0, 30.0, -30.0, 104, 104)


def raster(lattice: Lattice) -> oracles.Raster:
    return lattice.crs, lattice.x_origin, lattice.y_origin, lattice.dx, lattice.dy


def footprint(index_map: IndexMap) -> tuple[float, float]:
    """Of two rasters with one CRS: the ratio of their pixels."""
    source, target = index_map.source, index_map.target
    return abs(target.dx / source.dx), abs(target.dy / source.dy)


def run(
    plane: npt.NDArray[Any],
    index_map: IndexMap,
    method: Method,
    dtype: str,
    *,
    nodata: float | None = None,
    fill: float = np.nan,
    window: Window | None = None,
) -> npt.NDArray[Any]:
    """Resample a whole source to ``window`` of the target (default: all of it), reading only what it asks for."""
    window = window or index_map.target.window
    needed = index_map.source_window(window) or Window(0, 0, 0, 0)
    return resample(plane[needed.slices], needed, index_map, window, method, nodata=nodata, dtype=dtype, fill=fill)
