"""How the store of the European Forest Disturbance Atlas is laid out: one layer a year at 30 m in EPSG:3035.

Traps that it keeps: ``spatial_ref`` is a data variable when opened, because no array names it in ``coordinates``;
-9999 outside the forest becomes 0, "undisturbed", when cast to bytes; the store grew year by year, so its time axis
has a chunk for each; and older versions have other names of variables and axes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from scs2_cubes.core.grid import Lattice
from scs2_cubes.demo import disturbance, world
from scs2_cubes.demo.memo import BoundedMemo
from scs2_cubes.demo.projected import chunks_in_window, mesh, x_axis, y_axis
from scs2_cubes.demo.spatial_reference import grid_mapping
from scs2_cubes.demo.store import BITSHUFFLED_ZSTD, SHUFFLED_LZ4, ArraySpec, Block, StoreSpec, Values, whole

__all__ = ["LATTICE", "LEGEND", "LONGER_EDITION", "efda_store", "years_of"]

#: 6 m off the target grid in x, 7 m in y.
LATTICE: Final = Lattice("EPSG:3035", 2_032_000.0, 5_631_430.0, 30.0, -30.0, 158_129, 158_202)

#: Agents and what they are.
LEGEND: Final = {
    disturbance.NONE: "undisturbed",
    disturbance.WIND_OR_BARK_BEETLE: "wind or bark beetle",
    disturbance.FIRE: "fire",
    disturbance.HARVEST: "harvest",
}

#: Edition that appends a year and leaves the pixels of the others as they are in edition 1.
LONGER_EDITION: Final = 3

_LAST_YEAR: Final = 2023
_FILL: Final = -9999
_CHUNK: Final = 1000
#: What zarr chooses for arrays of this length and eight bytes when nobody says otherwise.
_X_CHUNK: Final = 39_533
_Y_CHUNK: Final = 39_551
#: Forest masks of eight chunks: the same in all years.
_MEMORY: Final = 8 * _CHUNK * _CHUNK

Mask = Callable[[slice, slice], npt.NDArray[np.bool_]]


@dataclass(frozen=True, slots=True)
class _Names:
    """What a version calls its arrays."""

    agent: str
    occurrence: str
    y: str
    x: str


_TODAY: Final = _Names("disturbance_agent", "disturbance_occurrence", "y", "x")
#: Until January 2026; the axes are in metres all the same. The real ones weren't masked yet; here they are, so that
#: nothing but names tells the versions apart.
_BEFORE_2026: Final = _Names("efda_agent", "efda_disturbance", "latitude", "longitude")
_OLDER_VERSIONS: Final = ("2.0.0",)


def years_of(edition: int) -> range:
    """Years that an edition has."""
    return range(disturbance.FIRST_YEAR, _LAST_YEAR + (2 if edition >= LONGER_EDITION else 1))


def efda_store(version: str, created: Callable[[int], datetime]) -> StoreSpec:
    """Description of the store of a version, with the moment at which each edition was created (UTC)."""
    names = _BEFORE_2026 if version in _OLDER_VERSIONS else _TODAY
    mask = _remembered_forest()
    unchanging = (
        grid_mapping("spatial_ref", LATTICE, geo_transform=True),
        x_axis(LATTICE, _X_CHUNK, names.x),
        y_axis(LATTICE, _Y_CHUNK, names.y),
    )

    def arrays(edition: int) -> tuple[ArraySpec, ...]:
        years = years_of(edition)
        return _agent(names, years, mask), _occurrence(names, years, mask), _time(years), *unchanging

    def attrs(edition: int) -> dict[str, Any]:
        return {
            "_FillValue": _FILL,
            "creation_date": f"{created(edition):%Y-%m-%d %H:%M}",
            "description": "Synthetic forest disturbances of the demonstration, in the layout of the European atlas.",
            "institution": "scs2_cubes demonstration (synthetic data)",
            "product_name": "Synthetic stand-in for the European Forest Disturbance Atlas (EFDA)",
            "spatial_ref": LATTICE.crs,
            "spatial_resolution": "30 m",
            "title": f"Synthetic forest disturbances in the layout of EFDA v{version}",
            "version": version,
        }

    return StoreSpec(arrays, attrs)


def _agent(names: _Names, years: range, mask: Mask) -> ArraySpec:
    def values(block: Block, edition: int) -> npt.NDArray[np.int16]:
        return _agents(block, edition, mask)

    meanings = ", ".join(f"{code} {meaning}" for code, meaning in LEGEND.items())
    attrs = {"description": f"Synthetic agent of disturbance: {meanings}.", "long_name": "Disturbance agent"}
    return _layer(names.agent, names, years, attrs, values)


def _occurrence(names: _Names, years: range, mask: Mask) -> ArraySpec:
    def values(block: Block, edition: int) -> npt.NDArray[np.int16]:
        return np.minimum(_agents(block, edition, mask), np.int16(1))

    attrs = {"description": "1 where there is an agent, otherwise 0.", "long_name": "Disturbance occurrence"}
    return _layer(names.occurrence, names, years, attrs, values)


def _layer(name: str, names: _Names, years: range, attrs: dict[str, str], values: Values) -> ArraySpec:
    return ArraySpec(
        name=name,
        dims=("time", names.y, names.x),
        shape=(len(years), *LATTICE.shape),
        chunks=(1, _CHUNK, _CHUNK),
        dtype="<i2",
        fill=_FILL,
        codec=BITSHUFFLED_ZSTD,
        attrs={**attrs, "grid_mapping": "spatial_ref"},
        values=values,
        present=(range(len(years)), *chunks_in_window(LATTICE, _CHUNK)),
    )


def _time(years: range) -> ArraySpec:
    days = np.array([(date(year, 1, 1) - date(years[0], 1, 1)).days for year in years])
    attrs = {"calendar": "proleptic_gregorian", "units": f"days since {years[0]}-01-01"}
    return ArraySpec("time", ("time",), (len(years),), (1,), "<i8", None, SHUFFLED_LZ4, attrs, whole(days))


def _agents(block: Block, edition: int, mask: Mask) -> npt.NDArray[np.int16]:
    """Agents in a block (time, rows, columns), -9999 outside the forest."""
    times, rows, cols = block
    x, y = mesh(LATTICE, rows, cols)
    pixels = 1 if edition == LONGER_EDITION else edition
    layers = [disturbance.agent(x, y, year, pixels) for year in years_of(edition)[times]]
    return np.where(mask(rows, cols), np.stack(layers), np.int16(_FILL))


def _remembered_forest() -> Mask:
    """Where a block (rows, columns) has forest: the one thing that costs time, and the same in every year."""
    memo = BoundedMemo(_MEMORY)

    def make(rows: slice, cols: slice) -> bytes:
        return world.forest(*mesh(LATTICE, rows, cols)).tobytes()

    def mask(rows: slice, cols: slice) -> npt.NDArray[np.bool_]:
        made = memo.get(f"{rows.start} {cols.start}", lambda: make(rows, cols))
        return np.frombuffer(made, dtype=np.bool_).reshape(rows.stop - rows.start, cols.stop - cols.start)

    return mask
