"""Disturbances of the synthetic forest: patches that are felled, blown down or burnt in one year.

Each square kilometre has at most one patch a year, placed and shaped by hashed numbers. Pure functions of EPSG:3035
coordinates in metres, under the rules of :mod:`scs2_cubes.demo.world`. They know nothing of the forest's extent.

Stand ages of :func:`scs2_cubes.demo.world.age`, and with them GAMI, don't follow: on GAMI's lattice in degrees no row
of pixels has one northing, so every patch of 35 years would have to be compared with every pixel. Recovery looks at
GAMI only where nothing was disturbed, and there they agree.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from scs2_cubes.demo import world

__all__ = ["FIRE", "FIRST_YEAR", "HARVEST", "NONE", "WIND_OR_BARK_BEETLE", "Patch", "agent", "latest_year", "patches"]

NONE: Final = 0
WIND_OR_BARK_BEETLE: Final = 1
FIRE: Final = 2
HARVEST: Final = 3

#: First year with disturbances.
FIRST_YEAR: Final = 1985

#: Edge of the squares that have at most one patch a year, in metres.
_CELL: Final = 1_000.0
#: Half-axes in metres: from the smallest to the smallest plus the spread, and once more by the aspect below.
_SMALLEST: Final = 20.0
_SPREAD: Final = 260.0
#: Height over width, from the flattest to 1 more than it.
_FLATTEST: Final = 0.5
#: No patch reaches further from its centre than this; less than a cell, so that a point has few patches to ask.
_REACH: Final = (_SMALLEST + _SPREAD) * (1 + _FLATTEST)

#: Years after great storms: more patches, and most of them by wind.
_STORM_YEARS: Final = frozenset({2000, 2009})
_FREQUENCY: Final = 0.06
_STORM_FREQUENCY: Final = 0.15
_SHARE_OF_WIND: Final = 0.2
_STORM_SHARE_OF_WIND: Final = 0.8
_SHARE_OF_FIRE: Final = 0.05

_SEED: Final = 8_000
#: Hashed numbers that one patch takes: whether, where (2), how large (2), by what.
_DRAWS: Final = 6

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Patch:
    """A rectangle where trees were felled, otherwise an ellipse; axes run along x and y."""

    x: float
    y: float
    half_width: float
    half_height: float
    agent: int

    def covers(self, x: Floats, y: Floats) -> npt.NDArray[np.bool_]:
        across, along = (x - self.x) / self.half_width, (y - self.y) / self.half_height
        if self.agent == HARVEST:
            return (np.abs(across) < 1.0) & (np.abs(along) < 1.0)
        return np.asarray(across * across + along * along < 1.0)


def agent(x: npt.ArrayLike, y: npt.ArrayLike, year: int, edition: int = 1) -> npt.NDArray[np.int16]:
    """What disturbs a stand in ``year``: 0 nothing, 1 wind or bark beetle, 2 fire, 3 harvest.

    Of the broadcast shape of ``x`` and ``y``. Where patches of a year overlap, that of the northern cell counts, in a
    row of cells the eastern one's.
    """
    x, y, out = _prepare(x, y)
    for patch in patches(x, y, year, edition):
        _paint(out, x, y, patch, patch.agent)
    return out


def latest_year(x: npt.ArrayLike, y: npt.ArrayLike, until: int, edition: int = 1) -> npt.NDArray[np.int16]:
    """Year of the latest disturbance up to and including ``until``, of the broadcast shape; 0 where there was none."""
    x, y, out = _prepare(x, y)
    for year in range(FIRST_YEAR, until + 1):
        for patch in patches(x, y, year, edition):
            _paint(out, x, y, patch, year)
    return out


def _prepare(x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[Floats, Floats, npt.NDArray[np.int16]]:
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    return x, y, np.zeros(np.broadcast_shapes(x.shape, y.shape), dtype=np.int16)


def patches(x: Floats, y: Floats, year: int, edition: int) -> Iterator[Patch]:
    """Patches of a year that may reach one of the points, by rows of cells from the south, in each from the west."""
    cols, rows = np.meshgrid(_cells(x), _cells(y))
    seed = _SEED + _DRAWS * (year - FIRST_YEAR) + world.SEED_EDITION * (edition - 1)
    stormy = year in _STORM_YEARS
    happens = world.node_value(cols, rows, seed) < (_STORM_FREQUENCY if stormy else _FREQUENCY)
    cols, rows = cols[happens], rows[happens]
    right, up, size, aspect, cause = (world.node_value(cols, rows, seed + draw) for draw in range(1, _DRAWS))
    wind = _STORM_SHARE_OF_WIND if stormy else _SHARE_OF_WIND
    agents = np.where(cause < wind, WIND_OR_BARK_BEETLE, np.where(cause < wind + _SHARE_OF_FIRE, FIRE, HARVEST))
    half_width = _SMALLEST + _SPREAD * size * size
    half_height = half_width * (_FLATTEST + aspect)
    described = ((cols + right) * _CELL, (rows + up) * _CELL, half_width, half_height, agents)
    for values in zip(*(column.tolist() for column in described), strict=True):
        yield Patch(*values)


def _cells(coordinate: Floats) -> npt.NDArray[np.int64]:
    first = math.floor((float(coordinate.min()) - _REACH) / _CELL)
    last = math.floor((float(coordinate.max()) + _REACH) / _CELL)
    return np.arange(first, last + 1)


def _paint(out: npt.NDArray[np.int16], x: Floats, y: Floats, patch: Patch, value: int) -> None:
    block: Any = ...
    if x.shape == (1, x.size) and y.shape == (y.size, 1):
        # On a mesh only few rows and columns are near, which makes this a hundred times faster.
        cols = np.flatnonzero(np.abs(x[0] - patch.x) < patch.half_width)
        rows = np.flatnonzero(np.abs(y[:, 0] - patch.y) < patch.half_height)
        block = np.ix_(rows, cols)
        x, y = x[:, cols], y[rows]
    out[block] = np.where(patch.covers(x, y), np.int16(value), out[block])
