"""How the store of the European tree genus map is laid out: class codes at 10 m in EPSG:3035.

Traps that it keeps: ``scale_factor`` 1 and ``add_offset`` 0 turn codes into floats when decoded, and no fill value is
declared, so 255 reads as if it were a class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from scs2_cubes.core.grid import Lattice
from scs2_cubes.demo import world
from scs2_cubes.demo.projected import chunks_in_window, mesh, x_axis, y_axis
from scs2_cubes.demo.spatial_reference import grid_mapping
from scs2_cubes.demo.store import BITSHUFFLED_ZSTD, ArraySpec, Block, StoreSpec, unchanging, whole

__all__ = ["LATTICE", "LEGEND", "genus_store"]

#: Corners at whole multiples of 10 m: 4 m off the target grid in x, 7 m in y.
LATTICE: Final = Lattice("EPSG:3035", 2_600_000.0, 5_450_000.0, 10.0, -10.0, 400_000, 415_000)

#: Class codes and their CF flag meanings.
LEGEND: Final[Mapping[int, str]] = {
    0: "larix",
    1: "picea",
    2: "pinus",
    3: "fagus",
    4: "quercus",
    5: "other_needleleaf",
    6: "other_broadleaf",
    7: "no_trees",
}

_CHUNK: Final = 2048
#: What zarr chooses for arrays of this length and eight bytes when nobody says otherwise.
_X_CHUNK: Final = 50_000
_Y_CHUNK: Final = 51_875
#: Rows computed at once; their intermediate arrays stay in the processor's cache.
_STRIP: Final = 64


def genus_store(version: str, created: Callable[[int], datetime]) -> StoreSpec:
    """Description of the store of a version, with the moment at which each edition was created (UTC)."""

    def attrs(edition: int) -> dict[str, Any]:
        return {
            "_FillValue": 255,
            "creation_date": f"{created(edition):%Y-%m-%d %H:%M}",
            "description": "Synthetic tree genera of the demonstration, in the layout of the European map at 10 m.",
            "institution": "scs2_cubes demonstration (synthetic data)",
            "product_name": "Synthetic stand-in for the EU Tree Genus map",
            "references": "https://doi.org/10.5281/zenodo.13341104",
            "spatial_ref": LATTICE.crs,
            "spatial_resolution": "10 m",
            "title": "Synthetic tree genera (10 m, 2020)",
            "version": version,
        }

    time_attrs = {"calendar": "proleptic_gregorian", "units": "days since 2020-01-01 00:00:00"}
    return StoreSpec(
        arrays=unchanging(
            _genus(),
            grid_mapping("spatial_ref", LATTICE, geo_transform=True),
            ArraySpec("time", (), (), (), "<i8", None, None, time_attrs, whole(np.array(0))),
            x_axis(LATTICE, _X_CHUNK),
            y_axis(LATTICE, _Y_CHUNK),
        ),
        attrs=attrs,
    )


def _genus() -> ArraySpec:
    return ArraySpec(
        name="genus",
        dims=("y", "x"),
        shape=LATTICE.shape,
        chunks=(_CHUNK, _CHUNK),
        dtype="<u2",
        fill=None,
        codec=BITSHUFFLED_ZSTD,
        attrs={
            "AREA_OR_POINT": "Area",
            "add_offset": 0.0,
            "coordinates": "spatial_ref time",
            "description": "Synthetic dominant tree genus or group of genera in 2020.",
            "flag_meanings": " ".join(LEGEND.values()),
            "flag_values": list(LEGEND),
            "grid_mapping": "spatial_ref",
            "long_name": "Tree genus",
            "reference_year": 2020,
            "scale_factor": 1.0,
            "source": "Synthetic forest of the scs2_cubes demonstration",
            "valid_max": max(LEGEND),
            "valid_min": min(LEGEND),
        },
        values=_codes,
        present=chunks_in_window(LATTICE, _CHUNK),
    )


def _codes(block: Block, edition: int) -> npt.NDArray[np.uint16]:
    rows, cols = block
    x, y = mesh(LATTICE, rows, cols)
    strips = [world.genus(x, y[start : start + _STRIP], edition) for start in range(0, len(y), _STRIP)]
    return np.concatenate(strips)
