"""What the portal's satellites see: biomass of the synthetic stands and its standard deviation, on demand.

Pixels lie on a lattice in degrees (EPSG:4326); each shows the world at the EPSG:3035 place of its centre. What doesn't
change with the year is made in blocks of 256 x 256 pixels and kept. It is the world of :mod:`scs2_cubes.demo.world`,
:mod:`scs2_cubes.demo.canopy` and :mod:`scs2_cubes.demo.disturbance`, with the numbers of theirs, written for points
that are no mesh; tests hold it to their functions.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.polynomial import chebyshev
from pyproj import Transformer
from pyproj.enums import TransformDirection

from scs2_cubes.core.grid import Lattice
from scs2_cubes.demo import canopy, disturbance, region, world
from scs2_cubes.demo.disturbance import patches as disturbed_patches
from scs2_cubes.demo.memo import BoundedMemo
from scs2_cubes.demo.world import (
    COAST_SWING,
    COAST_X,
    COVER_THRESHOLD,
    LAKE_THRESHOLD,
    SEED_AGE,
    SEED_COAST,
    SEED_COVER,
    SEED_LAKE,
    SEED_ROTATION,
)

if TYPE_CHECKING:
    from scs2_cubes.demo.portal_kernels import Patches

__all__ = ["FILL", "LATTICE", "SURROUNDINGS", "Stands"]

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.int16]

LATTICE: Final = Lattice("EPSG:4326", -180.0, 80.0, 1 / 1125, -1 / 1125, 405_000, 157_500)
FILL: Final = -32768

_MARGIN: Final = 60_000.0
_WEST, _SOUTH, _EAST, _NORTH = region.BBOX
#: West, south, east, north of what is seen at all, in metres (EPSG:3035); fill lies outside.
SURROUNDINGS: Final = (_WEST - _MARGIN, _SOUTH - _MARGIN, _EAST + _MARGIN, _NORTH + _MARGIN)

#: The last one that disturbances are looked for in.
_LAST_YEAR: Final = 2022

_BLOCK: Final = 256
#: Blocks of the surroundings, without which a large window would be made anew for every year.
_MEMORY: Final = 192 * 2**20
#: Over 28 km a polynomial of degree 5 differs from the projection by less than a micrometre.
_DEGREE: Final = 5

_SEED_SPREAD: Final = 10_000
#: Standard deviation over biomass, from the least to the least plus the rest.
_LEAST_SPREAD: Final = 0.1
_MORE_SPREAD: Final = 0.2

_UNSEEN, _OPEN, _FOREST = range(3)


class _Block(NamedTuple):
    """What doesn't change with the year: ``cover`` (256, 256), the others for its pixels of forest, in their order."""

    cover: npt.NDArray[np.uint8]
    events: npt.NDArray[np.uint64]
    age: Floats
    rotation: Floats
    fertility: Floats
    spread: Floats


class Stands:
    """Pixels of every year and edition. Safe to use from several threads."""

    def __init__(self, memory: int = _MEMORY) -> None:
        self._memo = BoundedMemo(memory)

    def biomass(self, rows: Indices, cols: Indices, year: int, edition: int = 1) -> tuple[Pixels, Pixels]:
        """Biomass and its standard deviation in whole Mg/ha at rows x columns of LATTICE, both in ascending order.

        0 where there is no forest, -32768 in the sea and outside the surroundings. An edition has sites of another
        fertility. Takes a second for two million pixels that it hasn't made before, a fifth of it otherwise.
        """
        shape = len(rows), len(cols)
        biomass, deviation = np.full(shape, FILL, dtype=np.int16), np.full(shape, FILL, dtype=np.int16)
        seen_rows, seen_cols = self._seen
        for block_row, row_part in _parts(rows, seen_rows):
            for block_col, col_part in _parts(cols, seen_cols):
                block = self._block(block_row, block_col, edition)
                within = np.ix_(rows[row_part] - block_row * _BLOCK, cols[col_part] - block_col * _BLOCK)
                for whole, made in zip((biomass, deviation), _grow(block, year), strict=True):
                    whole[row_part, col_part] = made[within]
        return biomass, deviation

    def _block(self, row: int, col: int, edition: int) -> _Block:
        made = self._memo.get(f"{row} {col} {edition}", lambda: _make(*self._places(row, col), self._patches, edition))
        cover = np.frombuffer(made, dtype=np.uint8, count=_BLOCK * _BLOCK).reshape(_BLOCK, _BLOCK)
        fields = np.frombuffer(made, dtype=np.float64, offset=_BLOCK * _BLOCK).reshape(5, -1)
        return _Block(cover, fields[0].view(np.uint64), *fields[1:])

    @cached_property
    def _to_metres(self) -> Transformer:
        # Kept because it takes as long to make as a block does; several threads may use one since pyproj 3.1.
        return Transformer.from_crs(LATTICE.crs, region.CRS, always_xy=True)

    @cached_property
    def _patches(self) -> Patches:
        return _disturbances()

    @cached_property
    def _seen(self) -> tuple[range, range]:
        """Rows and columns of the lattice that the surroundings lie in."""
        west, south, east, north = self._to_metres.transform_bounds(*SURROUNDINGS, direction=TransformDirection.INVERSE)
        top, bottom = ((latitude - LATTICE.y_origin) / LATTICE.dy for latitude in (north, south))
        left, right = ((longitude - LATTICE.x_origin) / LATTICE.dx for longitude in (west, east))
        return range(math.floor(top), math.ceil(bottom)), range(math.floor(left), math.ceil(right))

    def _places(self, block_row: int, block_col: int) -> tuple[Floats, Floats]:
        """EPSG:3035 places of the pixels' centres, (256, 256) each, interpolated: pyproj takes ten times as long."""
        nodes = chebyshev.chebpts1(_DEGREE + 1)
        inside = (nodes + 1) * _BLOCK / 2
        longitude = LATTICE.x_origin + (block_col * _BLOCK + inside) * LATTICE.dx
        latitude = LATTICE.y_origin + (block_row * _BLOCK + inside) * LATTICE.dy
        x, y = self._to_metres.transform(*np.meshgrid(longitude, latitude))
        wanted = chebyshev.chebvander((2 * np.arange(_BLOCK) + 1) / _BLOCK - 1, _DEGREE)
        weights = wanted @ np.linalg.inv(chebyshev.chebvander(nodes, _DEGREE))
        return weights @ x @ weights.T, weights @ y @ weights.T


def _parts(indices: Indices, seen: range) -> list[tuple[int, slice]]:
    """Blocks that hold some of the ascending ``indices`` within ``seen``, each with the part of them that it holds."""
    parts = []
    for block in range(seen.start // _BLOCK, (seen.stop - 1) // _BLOCK + 1):
        start, stop = np.searchsorted(indices, (block * _BLOCK, (block + 1) * _BLOCK))
        if start < stop:
            parts.append((block, slice(int(start), int(stop))))
    return parts


def _make(mesh_x: Floats, mesh_y: Floats, patches: Patches, edition: int) -> bytes:
    from scs2_cubes.demo.portal_kernels import noise  # noqa: PLC0415 - half a second of numba

    x, y = mesh_x.ravel(), mesh_y.ravel()
    swing = noise(x, y, 16_000.0, 3, SEED_COAST) - 0.5
    sea = x + 2 * COAST_SWING * swing < COAST_X
    lake = noise(x, y, 4_000.0, 1, SEED_LAKE) > LAKE_THRESHOLD
    forest = (noise(x, y, 3_200.0, 4, SEED_COVER) > COVER_THRESHOLD) & ~lake
    west, south, east, north = SURROUNDINGS
    unseen = sea | (x < west) | (x > east) | (y < south) | (y > north)
    cover = np.where(unseen, _UNSEEN, np.where(forest, _FOREST, _OPEN)).astype(np.uint8)
    trees = cover == _FOREST
    events = _events(mesh_x, mesh_y, patches).ravel()[trees]
    x, y = x[trees], y[trees]
    field = np.clip((noise(x, y, 1_800.0, 3, SEED_AGE) - 0.15) / 0.7, 0.0, 1.0)
    age = world.MIN_AGE + (world.MAX_AGE - world.MIN_AGE) * field * field * field
    rotation = 40.0 + 120.0 * noise(x, y, 900.0, 1, SEED_ROTATION)
    fertility = 0.8 + 0.4 * noise(x, y, 700.0, 2, canopy.SEED_FERTILITY + world.SEED_EDITION * (edition - 1))
    spread = _LEAST_SPREAD + _MORE_SPREAD * noise(x, y, 1_500.0, 1, _SEED_SPREAD)
    return cover.tobytes() + np.stack([events.view(np.float64), age, rotation, fertility, spread]).tobytes()


def _grow(block: _Block, year: int) -> tuple[Pixels, Pixels]:
    """Biomass and standard deviation of a block in a year; both (256, 256)."""
    until = np.uint64(2 ** (year - disturbance.FIRST_YEAR + 1) - 1)
    # Position of the highest bit, counted from 1: the exponent, for there are fewer bits than a double's fraction has.
    latest = np.frexp((block.events & until).astype(np.float64))[1] + disturbance.FIRST_YEAR - 1
    then = block.age - (world.REFERENCE_YEAR - year)
    undisturbed = np.clip(np.where(then >= world.MIN_AGE, then, block.rotation + then), world.MIN_AGE, world.MAX_AGE)
    disturbed = latest >= disturbance.FIRST_YEAR
    age = np.where(disturbed, np.maximum(year - latest, world.MIN_AGE), undisturbed)
    biomass = np.rint(canopy.aboveground_biomass(age, block.fertility) * (10.0 / canopy.PIXEL_AREA))
    deviation = np.maximum(np.rint(biomass * block.spread), 1.0)
    return _spread_out(block.cover, biomass), _spread_out(block.cover, deviation)


def _spread_out(cover: npt.NDArray[np.uint8], of_forest: Floats) -> Pixels:
    pixels = np.where(cover == _UNSEEN, np.int16(FILL), np.int16(0))
    pixels[cover == _FOREST] = of_forest
    return pixels


def _disturbances() -> Patches:
    """Patches that reach into the surroundings; bit k stands for the k-th year since disturbance.FIRST_YEAR."""
    from scs2_cubes.demo.portal_kernels import Patches  # noqa: PLC0415 - half a second of numba

    west, south, east, north = SURROUNDINGS
    x, y = np.array([west, east]), np.array([south, north])
    years = range(disturbance.FIRST_YEAR, _LAST_YEAR + 1)
    found = [(2**bit, patch) for bit, year in enumerate(years) for patch in disturbed_patches(x, y, year, 1)]
    return Patches(
        x=np.array([patch.x for _, patch in found]),
        y=np.array([patch.y for _, patch in found]),
        half_width=np.array([patch.half_width for _, patch in found]),
        half_height=np.array([patch.half_height for _, patch in found]),
        bit=np.array([bit for bit, _ in found], dtype=np.uint64),
        is_rectangle=np.array([patch.agent == disturbance.HARVEST for _, patch in found]),
    )


def _events(x: Floats, y: Floats, patches: Patches) -> npt.NDArray[np.uint64]:
    """Bits of the patches that cover each place, of the shape of ``x`` and ``y``, (256, 256)."""
    from scs2_cubes.demo.portal_kernels import Patches, paint  # noqa: PLC0415 - half a second of numba

    across = (patches.x + patches.half_width >= x.min()) & (patches.x - patches.half_width <= x.max())
    along = (patches.y + patches.half_height >= y.min()) & (patches.y - patches.half_height <= y.max())
    events = np.zeros(x.shape, dtype=np.uint64)
    paint(events, x, y, *_inverse(x, y), Patches._make(field[across & along] for field in patches))
    return events


def _inverse(x: Floats, y: Floats) -> tuple[Floats, float]:
    """Affine (2, 3) from (x, y, 1) to (row, column) of a block, and by how many metres it is off at most."""
    last = _BLOCK - 1
    right = np.array([x[0, last] - x[0, 0], y[0, last] - y[0, 0]]) / last
    down = np.array([x[last, 0] - x[0, 0], y[last, 0] - y[0, 0]]) / last
    linear = np.linalg.inv(np.stack([down, right], axis=1))
    origin = np.array([x[0, 0], y[0, 0]])
    index = np.arange(_BLOCK)
    off_x = x - (origin[0] + index[:, None] * down[0] + index * right[0])
    off_y = y - (origin[1] + index[:, None] * down[1] + index * right[1])
    slack = float(max(np.abs(off_x).max(), np.abs(off_y).max()))
    return np.column_stack([linear, -linear @ origin]), slack
