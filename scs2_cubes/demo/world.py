"""The synthetic forest: what grows where, as pure functions of EPSG:3035 coordinates in metres.

All products are views of this one world, so where one has forest the others have it too. Coordinates may have any
shapes that broadcast against each other; ``x`` of shape (1, nx) with ``y`` of shape (ny, 1) is a mesh and fastest.
Every value depends on its own coordinates alone: neither on the other points of a call nor on the machine, since only
operations are used that IEEE 754 rounds exactly.

Randomness is value noise: hashed numbers at the nodes of a square lattice, smoothly interpolated in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = [
    "COAST_SWING",
    "COAST_X",
    "COVER_THRESHOLD",
    "GENUS_NODATA",
    "GENUS_NO_TREES",
    "LAKE_THRESHOLD",
    "MAX_AGE",
    "MIN_AGE",
    "REFERENCE_YEAR",
    "SEED_AGE",
    "SEED_COAST",
    "SEED_COVER",
    "SEED_EDITION",
    "SEED_LAKE",
    "SEED_ROTATION",
    "age",
    "age_of_members",
    "forest",
    "genus",
    "node_value",
    "noise",
    "sea",
    "value_noise",
]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

GENUS_NO_TREES: Final = 7
GENUS_NODATA: Final = 255
MIN_AGE: Final = 1
MAX_AGE: Final = 300

#: Year to which the world's stand ages refer.
REFERENCE_YEAR: Final = 2020

#: Mean easting of the coast and how far it wanders to either side, in metres.
COAST_X: Final = 3_429_500.0
COAST_SWING: Final = 6_000.0

#: Thresholds in units of the noise. They leave about two thirds of the land under trees.
COVER_THRESHOLD: Final = 0.43
LAKE_THRESHOLD: Final = 0.76

#: Upper bounds of the noise for each genus code but the last: larches and spruces are rare, pines dominate.
_GENUS_BOUNDS: Final = (0.30, 0.38, 0.44, 0.56, 0.63, 0.69)
_GENUS_CODES: Final = (0, 3, 4, 2, 6, 5, 1)

# One number for each field of noise, far enough apart for octaves and members.
SEED_COAST: Final = 1_000
SEED_COVER: Final = 2_000
SEED_LAKE: Final = 3_000
_SEED_GENUS: Final = 4_000
SEED_AGE: Final = 5_000
SEED_ROTATION: Final = 6_000
_SEED_MEMBER: Final = 7_000

#: What a further edition adds to the seeds of its own layer, never to those of the forest's extent.
SEED_EDITION: Final = 100_000


def sea(x: npt.ArrayLike, y: npt.ArrayLike) -> Bools:
    """True where there is sea: west of a winding coast."""
    x = np.asarray(x, dtype=np.float64)
    swing = noise(x, y, 16_000.0, 3, SEED_COAST) - 0.5
    return np.asarray(x + 2 * COAST_SWING * swing < COAST_X)


def forest(x: npt.ArrayLike, y: npt.ArrayLike) -> Bools:
    """True where there are trees: on land, but for clearings and lakes. The same in every edition of every product."""
    cover = noise(x, y, 3_200.0, 4, SEED_COVER) > COVER_THRESHOLD
    lake = noise(x, y, 4_000.0, 1, SEED_LAKE) > LAKE_THRESHOLD
    return np.asarray(cover & ~lake & ~sea(x, y))


def genus(x: npt.ArrayLike, y: npt.ArrayLike, edition: int = 1) -> npt.NDArray[np.uint16]:
    """Genus code: 0 to 6 where there is forest, 7 on other land, 255 in the sea."""
    field = noise(x, y, 2_500.0, 3, _SEED_GENUS + SEED_EDITION * (edition - 1))
    codes = np.array(_GENUS_CODES, dtype=np.uint16)[np.searchsorted(_GENUS_BOUNDS, field, side="right")]
    codes = np.where(forest(x, y), codes, np.uint16(GENUS_NO_TREES))
    return np.where(sea(x, y), np.uint16(GENUS_NODATA), codes).astype(np.uint16)


def age(x: npt.ArrayLike, y: npt.ArrayLike, year: int, edition: int = 1) -> Floats:
    """Age of the stand in ``year``, in years from 1 to 300; it means something where there is forest.

    A stand that is younger in the reference year than the years since ``year`` was felled or burnt in between: before,
    there was an older one of 40 to 160 years.
    """
    shift = SEED_EDITION * (edition - 1)
    field = np.clip((noise(x, y, 1_800.0, 3, SEED_AGE + shift) - 0.15) / 0.7, 0.0, 1.0)
    now = MIN_AGE + (MAX_AGE - MIN_AGE) * field * field * field
    then = now - (REFERENCE_YEAR - year)
    before = 40.0 + 120.0 * noise(x, y, 900.0, 1, SEED_ROTATION + shift) + then
    return np.asarray(np.clip(np.where(then >= MIN_AGE, then, before), MIN_AGE, MAX_AGE))


def age_of_members(
    x: npt.ArrayLike, y: npt.ArrayLike, members: Sequence[int], years: Sequence[int], edition: int = 1
) -> npt.NDArray[np.int16]:
    """Whole years of age that each member of an ensemble estimates, with -9999 where there is no forest.

    Shape (members, …, years), with the broadcast shape of ``x`` and ``y`` in the middle. The members deviate from
    :func:`age` by at most 1 year plus 30 % of it, each by a smooth field of its own, the same in all years.
    """
    shift = SEED_EDITION * (edition - 1)
    trees = forest(x, y)
    ages = [age(x, y, year, edition) for year in years]
    out = np.full((len(members), *trees.shape, len(years)), -9999, dtype=np.int16)
    for m, member in enumerate(members):
        deviation = 2.0 * noise(x, y, 1_000.0, 1, _SEED_MEMBER + member + shift) - 1.0
        for t, mean in enumerate(ages):
            estimate = np.clip(np.rint(mean + deviation * (1.0 + 0.3 * mean)), MIN_AGE, MAX_AGE)
            out[m, ..., t] = np.where(trees, estimate, -9999)
    return out


def noise(x: npt.ArrayLike, y: npt.ArrayLike, scale: float, octaves: int, seed: int) -> Floats:
    """Sum of ``octaves`` fields of value noise, each of half the scale and weight of the one before, within [0, 1).

    ``scale`` is the node distance of the coarsest in metres.
    """
    total = value_noise(x, y, scale, seed)
    weights = 1.0
    for octave in range(1, octaves):
        weight = 0.5**octave
        total = total + weight * value_noise(x, y, scale * weight, seed + octave)
        weights += weight
    return np.asarray(total / weights)


def value_noise(x: npt.ArrayLike, y: npt.ArrayLike, scale: float, seed: int) -> Floats:
    """One octave of value noise within [0, 1), of the broadcast shape of ``x`` and ``y``.

    Nodes lie at whole multiples of ``scale`` metres; between them, the weight at the fraction f is f² (3 - 2 f).
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    shape = np.broadcast_shapes(x.shape, y.shape)
    col, x_weight = _node_and_weight(np.atleast_1d(x), scale)
    row, y_weight = _node_and_weight(np.atleast_1d(y), scale)
    if x.shape == (1, x.size) and y.shape == (y.size, 1):
        return _on_mesh(col[0], x_weight[0], row[:, 0], y_weight[:, 0], seed)
    upper = _blend(node_value(col, row, seed), node_value(col + 1, row, seed), x_weight)
    lower = _blend(node_value(col, row + 1, seed), node_value(col + 1, row + 1, seed), x_weight)
    return np.asarray(_blend(upper, lower, y_weight)).reshape(shape)


def _on_mesh(
    col: npt.NDArray[np.int64], x_weight: Floats, row: npt.NDArray[np.int64], y_weight: Floats, seed: int
) -> Floats:
    """Blend along x once for every row of nodes; gives the same bits as point by point, several times faster."""
    node_rows = np.arange(row.min(), row.max() + 2)
    node_cols = np.arange(col.min(), col.max() + 2)
    nodes = node_value(node_cols[np.newaxis, :], node_rows[:, np.newaxis], seed)
    left = nodes[:, col - node_cols[0]]
    right = nodes[:, col + 1 - node_cols[0]]
    lines = _blend(left, right, x_weight)
    first = row - node_rows[0]
    return _blend(lines[first], lines[first + 1], y_weight[:, np.newaxis])


def _node_and_weight(coordinate: Floats, scale: float) -> tuple[npt.NDArray[np.int64], Floats]:
    position = coordinate / scale
    node = np.floor(position)
    fraction = position - node
    return node.astype(np.int64), fraction * fraction * (3.0 - 2.0 * fraction)


def _blend(first: Floats, second: Floats, weight: Floats) -> Floats:
    return np.asarray(first + (second - first) * weight)


def node_value(col: npt.NDArray[np.int64], row: npt.NDArray[np.int64], seed: int) -> Floats:
    """Number within [0, 1) for a node, evenly distributed: the finaliser of SplitMix64 over column, row and seed.

    Source: Steele, Lea and Flood (2014), Fast splittable pseudorandom number generators, doi:10.1145/2660193.2660195.
    Arithmetic is modulo 2⁶⁴; the multipliers of column and row are odd, so no two nodes nearby collide.
    """
    start = np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64)
    state = col.astype(np.uint64) * np.uint64(0xD1B54A32D192ED03) + row.astype(np.uint64) * np.uint64(
        0x8CB92BA72F3D8DD7
    )
    state = state + start
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    return np.asarray((state >> np.uint64(11)) * 2.0**-53)
