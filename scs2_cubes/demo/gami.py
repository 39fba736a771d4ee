"""How the store of GAMI is laid out: a global ensemble of forest age at about 100 m in EPSG:4326.

Traps that it keeps: ``members`` first and ``time`` last, latitude from north to south, the CRS in a coordinate ``crs``
while the group has an attribute ``spatial_ref`` that is a mere string, and 1.3 million chunks of which 24 exist.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pyproj import Transformer

from scs2_cubes.core.grid import Lattice
from scs2_cubes.demo import region, world
from scs2_cubes.demo.spatial_reference import grid_mapping
from scs2_cubes.demo.store import BITSHUFFLED_ZSTD, SHUFFLED_LZ4, ArraySpec, Block, StoreSpec, unchanging, whole

__all__ = ["LATTICE", "MEMBERS", "YEARS", "gami_store"]

LATTICE: Final = Lattice("EPSG:4326", -180.0, 90.0, 1 / 1125, -1 / 1125, 405_000, 202_500)
MEMBERS: Final = 20
YEARS: Final[tuple[int, ...]] = (2010, 2020)

_CHUNKS: Final = (5, 500, 500, 2)
#: What zarr chooses for arrays of this length and eight bytes when nobody says otherwise.
_COORDINATE_CHUNK: Final = 50_625
#: Rows computed at once; their intermediate arrays stay in the processor's cache.
_STRIP: Final = 50


def gami_store(version: str, created: Callable[[int], datetime]) -> StoreSpec:
    """Description of the store of a version, with the moment at which each edition was created (UTC)."""

    def attrs(edition: int) -> dict[str, Any]:
        return {
            "_FillValue": -9999,
            "contact": "nobody: these data are synthetic",
            "created_by": "scs2_cubes demonstration",
            "creation_date": f"{created(edition):%Y-%m-%d %H:%M}",
            "institution": "scs2_cubes demonstration (synthetic data)",
            "product_name": "Synthetic stand-in for the Global Age Mapping Integration (GAMI)",
            "spatial_ref": LATTICE.crs,
            "spatial_resolution": "100 m",
            "title": f"Synthetic forest age in the layout of GAMI v{version}",
            "version": version,
        }

    days = np.array([(date(year, 1, 1) - date(2010, 1, 1)).days for year in YEARS])
    return StoreSpec(
        arrays=unchanging(
            _forest_age(),
            grid_mapping("crs", LATTICE, geo_transform=False),
            _centres("latitude", LATTICE.ny, LATTICE.y_centres),
            _centres("longitude", LATTICE.nx, LATTICE.x_centres),
            _labels("members", np.arange(MEMBERS), {}),
            _labels("time", days, {"calendar": "proleptic_gregorian", "units": "days since 2010-01-01"}),
        ),
        attrs=attrs,
    )


def _forest_age() -> ArraySpec:
    return ArraySpec(
        name="forest_age",
        dims=("members", "latitude", "longitude", "time"),
        shape=(MEMBERS, LATTICE.ny, LATTICE.nx, len(YEARS)),
        chunks=_CHUNKS,
        dtype="<i2",
        fill=-9999,
        codec=BITSHUFFLED_ZSTD,
        attrs={
            "coordinates": "crs",
            "grid_mapping": "crs",
            "long_name": "Synthetic forest age, an ensemble of estimates",
            "units": "years",
            "valid_max": world.MAX_AGE,
            "valid_min": world.MIN_AGE,
        },
        values=_ages,
        present=_present(),
    )


def _present() -> tuple[range, ...]:
    """Chunks that touch the demonstration's window."""
    to_degrees = Transformer.from_crs(region.CRS, LATTICE.crs, always_xy=True)
    west, south, east, north = to_degrees.transform_bounds(*region.WINDOW)
    rows = [(latitude - LATTICE.y_origin) / LATTICE.dy / _CHUNKS[1] for latitude in (north, south)]
    cols = [(longitude - LATTICE.x_origin) / LATTICE.dx / _CHUNKS[2] for longitude in (west, east)]
    return (
        range(MEMBERS // _CHUNKS[0]),
        range(math.floor(rows[0]), math.ceil(rows[1])),
        range(math.floor(cols[0]), math.ceil(cols[1])),
        range(len(YEARS) // _CHUNKS[3]),
    )


def _ages(block: Block, edition: int) -> npt.NDArray[np.int16]:
    members, rows, cols, times = block
    to_metres = Transformer.from_crs(LATTICE.crs, region.CRS, always_xy=True)
    longitude = LATTICE.x_centres(cols.start, cols.stop)
    strips = []
    for start in range(rows.start, rows.stop, _STRIP):
        latitude = LATTICE.y_centres(start, min(start + _STRIP, rows.stop))
        x, y = to_metres.transform(*np.meshgrid(longitude, latitude))
        strips.append(world.age_of_members(x, y, range(members.start, members.stop), YEARS[times], edition))
    return np.concatenate(strips, axis=1)


def _centres(name: str, size: int, centres: Callable[[int, int], npt.NDArray[np.float64]]) -> ArraySpec:
    def values(block: Block, _edition: int) -> npt.NDArray[np.float64]:
        return centres(block[0].start, block[0].stop)

    return ArraySpec(name, (name,), (size,), (_COORDINATE_CHUNK,), "<f8", "NaN", SHUFFLED_LZ4, {}, values)


def _labels(name: str, values: npt.NDArray[np.int64], attrs: Mapping[str, str]) -> ArraySpec:
    size = len(values)
    return ArraySpec(name, (name,), (size,), (size,), "<i8", None, SHUFFLED_LZ4, attrs, whole(values))
