"""How the six sources are laid out: global shapes, chunk grids, dtypes and fill values of the archives.

Shapes that aren't known (genus, LIU) are those of a European map at that resolution. Origins in EPSG:3035 differ from
the target's, as they do in the archives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from scs2_cubes.core.grid import Lattice

__all__ = ["LAYOUTS", "ArrayLayout", "SourceLayout"]


@dataclass(frozen=True, slots=True)
class ArrayLayout:
    """One array on the lattice."""

    name: str
    """Its name."""
    dims: tuple[str, ...]
    """Names of its dimensions, in stored order."""
    shape: tuple[int, ...]
    """Sizes, in the order of ``dims``."""
    chunks: tuple[int, ...]
    """Sizes of a chunk, in the order of ``dims``."""
    dtype: str
    """numpy name of the stored dtype."""
    fill: float | None
    """``fill_value`` of the array's metadata."""
    attrs: Mapping[str, Any] = field(default_factory=dict)
    """Attributes, grid mapping and dimensions excepted."""


@dataclass(frozen=True, slots=True)
class SourceLayout:
    """One source: a Zarr group of format 2."""

    cube: str
    """Identifier of the cube that is made from it."""
    item: str
    """Id of its STAC item, and the name of its store."""
    lattice: Lattice
    """Its pixels."""
    y_dim: str
    """Row dimension."""
    x_dim: str
    """Column dimension."""
    crs_variable: str
    """Name of the grid-mapping variable."""
    arrays: tuple[ArrayLayout, ...]
    """Arrays on the lattice."""
    times: tuple[str, ...] = ()
    """Time stamps (ISO 8601)."""
    variables: tuple[str, ...] = ()
    """Those that the cube has."""
    default_steps: int | None = None
    """How many of the last time steps a run takes unless told otherwise; None: what the product says."""

    @property
    def time_dim(self) -> str | None:
        """``time`` where it is a dimension."""
        return "time" if any("time" in array.dims for array in self.arrays) else None


_LAEA = "EPSG:3035"
_WGS84 = "EPSG:4326"
_CODES = {"scale_factor": 1.0, "add_offset": 0.0}


def _plane(
    name: str, lattice: Lattice, chunk: int, dtype: str, fill: float | None, attrs: Mapping[str, Any]
) -> ArrayLayout:
    return ArrayLayout(name, ("y", "x"), lattice.shape, (chunk, chunk), dtype, fill, attrs)


def _stack(name: str, dims: tuple[str, ...], lattice: Lattice, steps: int, chunk: int, fill: float) -> ArrayLayout:
    return ArrayLayout(name, dims, (steps, *lattice.shape), (1, chunk, chunk), "int16", fill)


def _forest_type() -> SourceLayout:
    lattice = Lattice(_LAEA, 3_000_000.0, 3_000_000.0, 20.0, -20.0, 50_000, 50_000)
    name = "FTY_2015_020m_eu_03035_d04_E30N20"
    arrays = (_plane(name, lattice, 2000, "uint8", 255, _CODES),)
    return SourceLayout(
        "forest_type_2015", "FOREST_TYPE_2015", lattice, "y", "x", "spatial_ref", arrays, variables=(name,)
    )


def _genus() -> SourceLayout:
    lattice = Lattice(_LAEA, 2_600_000.0, 5_450_000.0, 10.0, -10.0, 400_000, 415_000)
    arrays = (_plane("genus", lattice, 2048, "uint16", None, _CODES),)
    return SourceLayout(
        "forestpaths_genus",
        "FORESTPATHS_GENUS_v0.0.1",
        lattice,
        "y",
        "x",
        "spatial_ref",
        arrays,
        ("2020-01-01",),
        ("genus",),
    )


def _liu() -> SourceLayout:
    lattice = Lattice(_LAEA, 2_600_010.0, 5_450_010.0, 30.0, -30.0, 140_000, 150_000)
    arrays = (
        _plane("aboveground_biomass", lattice, 2048, "float32", 0, {"units": "kg"} | _CODES),
        _plane("canopy_cover", lattice, 2048, "uint8", 0, {"units": "percent"} | _CODES),
        _plane("canopy_height", lattice, 2048, "float32", 0, {"units": "m"} | _CODES),
    )
    names = tuple(array.name for array in arrays)
    return SourceLayout("liu", "LIU_BIOMASS_v0.1", lattice, "y", "x", "spatial_ref", arrays, ("2019-01-01",), names)


def _efda() -> SourceLayout:
    lattice = Lattice(_LAEA, 2_032_110.0, 5_631_460.0, 30.0, -30.0, 158_129, 158_202)
    times = tuple(f"{year}-01-01" for year in range(1985, 2024))
    arrays = tuple(
        _stack(name, ("time", "y", "x"), lattice, len(times), 1000, -9999)
        for name in ("disturbance_agent", "disturbance_occurrence")
    )
    return SourceLayout(
        "efda", "EFDA_v2.1.1", lattice, "y", "x", "spatial_ref", arrays, times, ("disturbance_agent",), 5
    )


def _gami() -> SourceLayout:
    lattice = Lattice(_WGS84, -180.0, 90.0, 1 / 1125, -1 / 1125, 405_000, 202_500)
    age = ArrayLayout(
        "forest_age",
        ("members", "latitude", "longitude", "time"),
        (20, 202_500, 405_000, 2),
        (5, 500, 500, 2),
        "int16",
        -9999,
        {"units": "years"},
    )
    times = ("2010-01-01", "2020-01-01")
    return SourceLayout("gami", "GAMI_v3.1", lattice, "latitude", "longitude", "crs", (age,), times, ("forest_age",))


def _cci() -> SourceLayout:
    lattice = Lattice(_WGS84, -180.0, 80.0, 1 / 1125, -1 / 1125, 405_000, 157_500)
    times = tuple(f"{year}-07-02T11:59:59" for year in (2007, 2010, *range(2015, 2023)))
    names = ("agb", "agb_sd")
    arrays = tuple(_stack(name, ("time", "lat", "lon"), lattice, len(times), 1875, -32768) for name in names)
    return SourceLayout("esa_cci_biomass", "CCI_AGB_v6.0", lattice, "lat", "lon", "crs", arrays, times, names, 3)


#: Cube → its source, in the order of the table.
LAYOUTS: Mapping[str, SourceLayout] = MappingProxyType(
    {layout.cube: layout for layout in (_forest_type(), _genus(), _liu(), _gami(), _cci(), _efda())}
)
