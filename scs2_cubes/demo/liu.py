"""How the store of LIU_BIOMASS is laid out: biomass, height and cover of canopies at 30 m in EPSG:3035.

Traps that it keeps: the fill value is 0, so real zeros read as nothing; ``scale_factor`` 1 and ``add_offset`` 0 make
doubles of bytes when decoded; biomass is in kg per pixel here and in Mg ha-1 in the catalogue; and the lattice lies
across the target's by a fraction of a pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from scs2_cubes.core.grid import Lattice
from scs2_cubes.demo import canopy
from scs2_cubes.demo.memo import BoundedMemo
from scs2_cubes.demo.projected import chunks_in_window, mesh, x_axis, y_axis
from scs2_cubes.demo.spatial_reference import grid_mapping
from scs2_cubes.demo.store import BITSHUFFLED_ZSTD, ArraySpec, Block, StoreSpec, Values, unchanging, whole

__all__ = ["LATTICE", "liu_store"]

#: 2.5 m off the target grid in x, 11 m in y.
LATTICE: Final = Lattice("EPSG:3035", 2_635_021.5, 5_427_988.0, 30.0, -30.0, 132_000, 134_000)

_CHUNK: Final = 2048
#: What zarr chooses for arrays of this length and eight bytes when nobody says otherwise.
_X_CHUNK: Final = 33_000
_Y_CHUNK: Final = 33_500
#: Rows computed at once; their intermediate arrays stay in the processor's cache.
_STRIP: Final = 64
#: Ages in higher ones: looking for the patches of 35 years is the same work for few rows as for many.
_AGE_STRIP: Final = 256
#: Ages of two chunks, which all three layers are made from.
_MEMORY: Final = 2 * 4 * _CHUNK * _CHUNK

Floats = npt.NDArray[np.float64]
Ages = Callable[[slice, slice], npt.NDArray[np.float32]]


def liu_store(version: str, created: Callable[[int], datetime]) -> StoreSpec:
    """Description of the store of a version, with the moment at which each edition was created (UTC)."""

    def attrs(edition: int) -> dict[str, Any]:
        return {
            "_FillValue": 0,
            "creation_date": f"{created(edition):%Y-%m-%d %H:%M}",
            "description": "Synthetic canopies of the demonstration, in the layout of the European maps at 30 m.",
            "institution": "scs2_cubes demonstration (synthetic data)",
            "product_name": "Synthetic stand-in for the European canopy cover, height and biomass maps",
            "spatial_ref": LATTICE.crs,
            "spatial_resolution": "30 m",
            "title": "Synthetic canopy cover, height and biomass (30 m, 2019)",
            "version": version,
        }

    time_attrs = {"calendar": "proleptic_gregorian", "units": "days since 2019-01-01 00:00:00"}
    return StoreSpec(
        arrays=unchanging(
            *_layers(_remembered_ages()),
            grid_mapping("spatial_ref", LATTICE, geo_transform=True),
            ArraySpec("time", (), (), (), "<i8", None, None, time_attrs, whole(np.array(0))),
            x_axis(LATTICE, _X_CHUNK),
            y_axis(LATTICE, _Y_CHUNK),
        ),
        attrs=attrs,
    )


def _layers(ages: Ages) -> tuple[ArraySpec, ...]:
    return (
        _layer(
            "aboveground_biomass",
            "<f4",
            {
                "description": "Synthetic dry matter above ground, in kg on a pixel of 900 square metres.",
                "long_name": "Aboveground biomass",
                "units": "kg",
            },
            _values(ages, canopy.aboveground_biomass),
        ),
        _layer(
            "canopy_cover",
            "|u1",
            {
                "description": "Synthetic share of the ground below the canopy.",
                "long_name": "Canopy cover",
                "units": "percent",
            },
            _values(ages, canopy.cover),
        ),
        _layer(
            "canopy_height",
            "<f4",
            {"description": "Synthetic height of the canopy.", "long_name": "Canopy height", "units": "m"},
            _values(ages, canopy.height),
        ),
    )


def _layer(name: str, dtype: str, attrs: dict[str, str], values: Values) -> ArraySpec:
    return ArraySpec(
        name=name,
        dims=("y", "x"),
        shape=LATTICE.shape,
        chunks=(_CHUNK, _CHUNK),
        dtype=dtype,
        fill=0 if dtype == "|u1" else 0.0,
        codec=BITSHUFFLED_ZSTD,
        attrs={
            "AREA_OR_POINT": "Area",
            "add_offset": 0.0,
            "coordinates": "spatial_ref time",
            "grid_mapping": "spatial_ref",
            "scale_factor": 1.0,
            **attrs,
        },
        values=values,
        present=chunks_in_window(LATTICE, _CHUNK),
    )


def _values(ages: Ages, quantity: Callable[[npt.ArrayLike, Floats], Floats]) -> Values:
    def values(block: Block, edition: int) -> Floats:
        rows, cols = block
        age = ages(rows, cols)
        x, y = mesh(LATTICE, rows, cols)
        strips = _strips(len(y), _STRIP)
        return np.concatenate([quantity(age[strip], canopy.fertility(x, y[strip], edition)) for strip in strips])

    return values


def _remembered_ages() -> Ages:
    """Ages of the stands in a block, (rows, columns): made once for all three layers and editions."""
    memo = BoundedMemo(_MEMORY)

    def make(rows: slice, cols: slice) -> bytes:
        x, y = mesh(LATTICE, rows, cols)
        return b"".join(canopy.stand_age(x, y[strip]).tobytes() for strip in _strips(len(y), _AGE_STRIP))

    def ages(rows: slice, cols: slice) -> npt.NDArray[np.float32]:
        made = memo.get(f"{rows.start} {cols.start}", lambda: make(rows, cols))
        return np.frombuffer(made, dtype=np.float32).reshape(rows.stop - rows.start, cols.stop - cols.start)

    return ages


def _strips(rows: int, height: int) -> list[slice]:
    return [slice(start, start + height) for start in range(0, rows, height)]
