"""A small archive on this computer, written by xarray: stores in the layouts of the real ones, with values of its own.

Rasters are (crs, x_origin, y_origin, dx, dy), as :mod:`scs2_cubes_tests.core.oracles` takes them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from pyproj import CRS

from scs2_cubes_tests.core.oracles import Raster

LAEA = "EPSG:3035"
GAMI_ID = "structure-demography/GAMI/GAMI_v3.1/GAMI_v3.1.json"
GENUS_ID = "structure-demography/FORESTPATHS_GENUS/FORESTPATHS_GENUS_v0.0.1/FORESTPATHS_GENUS_v0.0.1.json"
LIU_ID = "biomass-carbon/LIU_BIOMASS/LIU_BIOMASS_v0.1/LIU_BIOMASS_v0.1.json"
EFDA_ID = "disturbance-change/EFDA/EFDA_v2.1.1/EFDA_v2.1.1.json"

#: West, south, east, north of the region: 32 rows x 40 columns of 30 m.
BBOX = (3_432_000, 2_450_000, 3_433_200, 2_450_960)
GRID: Raster = (LAEA, 3_432_000.0, 2_450_960.0, 30.0, -30.0)
SHAPE = (32, 40)

GAMI: Raster = ("EPSG:4326", -1.235, 44.582, 0.0009, -0.0009)
EFDA: Raster = (LAEA, 3_431_706.0, 2_451_397.0, 30.0, -30.0)
LIU: Raster = (LAEA, 3_431_751.5, 2_451_358.0, 30.0, -30.0)
GENUS: Raster = (LAEA, 3_431_804.0, 2_451_203.0, 10.0, -10.0)

YEARS = range(1985, 1990)
OUTSIDE = -9999

Array = npt.NDArray[Any]


def write_store(
    folder: Path, data_id: str, dataset: xr.Dataset, chunks: dict[str, tuple[int, ...]] | None = None
) -> Path:
    """Write ``dataset`` as a Zarr store with a STAC item ``data_id``; the encoding is that of its variables."""
    path = folder / "stores" / f"{Path(data_id).stem}.zarr"
    encoding = {name: {"chunks": shape} for name, shape in (chunks or {}).items()}
    dataset.to_zarr(path, zarr_format=2, consolidated=True, encoding=encoding)
    item = {
        "type": "Feature",
        "id": path.stem,
        "links": [],
        "assets": {"zarr": {"href": str(path), "type": "application/vnd.zarr"}},
    }
    place = folder / data_id
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(item), encoding="utf-8")
    return path


def centres(raster: Raster, shape: tuple[int, int]) -> tuple[Array, Array]:
    """(y, x) of the pixels' centres."""
    rows, cols = np.arange(shape[0]), np.arange(shape[1])
    return raster[2] + (rows + 0.5) * raster[4], raster[1] + (cols + 0.5) * raster[3]


def grid_mapping(raster: Raster) -> xr.Variable:
    return xr.Variable((), 0, {"crs_wkt": CRS.from_user_input(raster[0]).to_wkt(), "spatial_ref": raster[0]})


def gami() -> xr.Dataset:
    """(members 4, latitude, longitude, time 2) of int16; smooth, with a hole, and with members missing here and there.

    Smooth, because pixels may be located a thousandth of a pixel off.
    """
    rows, cols = np.mgrid[:44, :50]
    field = 120 + 60 * np.sin(rows / 9) + 40 * np.cos(cols / 11)
    members = np.arange(4)[:, None, None, None]
    steps = np.arange(2)
    ages = np.rint(field[None, :, :, None] + (members * 7) ** 1.2 + 10 * steps).astype(np.int16)
    ages[:, 22:28, 25:33] = OUTSIDE
    ages[1, ::5, ::3] = OUTSIDE
    latitude, longitude = centres(GAMI, (44, 50))
    dataset = xr.Dataset(
        {
            "forest_age": (
                ("members", "latitude", "longitude", "time"),
                ages,
                {"units": "years", "long_name": "Age", "_FillValue": OUTSIDE},
            )
        },
        coords={
            "members": np.arange(4),
            "latitude": ("latitude", latitude, {"units": "degrees_north"}),
            "longitude": ("longitude", longitude, {"units": "degrees_east"}),
            "time": np.array(["2010-01-01", "2020-01-01"], dtype="datetime64[ns]"),
            "crs": grid_mapping(GAMI),
        },
        attrs={"title": "Ages", "spatial_ref": GAMI[0]},
    )
    dataset["forest_age"].encoding["grid_mapping"] = "crs"
    return dataset


def efda_values() -> Array:
    """(year, row, column): agents in patches, -9999 outside the forest, which is the same in all years."""
    rng = np.random.default_rng(5)
    patches = rng.choice([0, 0, 0, 1, 2, 3], size=(len(YEARS), 17, 19)).astype(np.int16)
    values = patches.repeat(4, axis=1).repeat(4, axis=2)[:, :64, :72]
    forest = rng.random((64, 72)) < 0.7
    forest[24:36, 20:40] = False
    return np.where(forest, values, np.int16(OUTSIDE))


def efda() -> xr.Dataset:
    """Agents and occurrences of five years; the grid mapping is a data variable."""
    agents = efda_values()
    y, x = centres(EFDA, agents.shape[1:])
    attrs = {"_FillValue": OUTSIDE, "grid_mapping": "spatial_ref", "description": "made up"}
    return xr.Dataset(
        {
            "disturbance_agent": (("time", "y", "x"), agents, attrs | {"long_name": "Agent"}),
            "disturbance_occurrence": (("time", "y", "x"), np.minimum(agents, 1), attrs),
            "spatial_ref": grid_mapping(EFDA),
        },
        coords={
            "time": np.array([f"{year}-01-01" for year in YEARS], dtype="datetime64[ns]"),
            "y": ("y", y, {"axis": "Y", "units": "m"}),
            "x": ("x", x, {"axis": "X", "units": "m"}),
        },
        attrs={"title": "Disturbances", "_FillValue": OUTSIDE},
    )


def liu_values() -> dict[str, Array]:
    """(row, column) of three quantities, 0 where there is none and here and there within."""
    rows, cols = np.mgrid[:60, :70]
    height = (12 + 9 * np.sin(rows / 7.3) * np.cos(cols / 5.1)).astype(np.float32)
    height[20:30, 15:33] = 0
    height[::11, ::7] = 0
    cover = np.rint(np.minimum(height * 4, 100)).astype(np.uint8)
    return {"aboveground_biomass": height * np.float32(700), "canopy_cover": cover, "canopy_height": height}


def liu() -> xr.Dataset:
    values = liu_values()
    y, x = centres(LIU, (60, 70))
    attrs = {"scale_factor": 1.0, "add_offset": 0.0, "_FillValue": 0}
    units = {"aboveground_biomass": "kg", "canopy_cover": "percent", "canopy_height": "m"}
    dataset = xr.Dataset(
        {name: (("y", "x"), array, attrs | {"units": units[name]}) for name, array in values.items()},
        coords={"y": y, "x": x, "spatial_ref": grid_mapping(LIU), "time": np.datetime64("2019-01-01", "ns")},
        attrs={"title": "Canopies"},
    )
    for name in values:
        dataset[name].encoding["grid_mapping"] = "spatial_ref"
    return dataset


def genus_values() -> Array:
    """(row, column): patches of 3 x 3 with some noise; 255 in a corner, which nobody declares."""
    rng = np.random.default_rng(8)
    patches = rng.integers(0, 8, (56, 64)).repeat(3, axis=0).repeat(3, axis=1)[:160, :180]
    codes = np.where(rng.random(patches.shape) < 0.2, rng.integers(0, 8, patches.shape), patches)
    codes[60:100, 40:90] = 255
    return codes.astype(np.uint16)


def genus() -> xr.Dataset:
    codes = genus_values()
    y, x = centres(GENUS, (160, 180))
    attrs = {"scale_factor": 1.0, "add_offset": 0.0, "flag_values": list(range(8)), "flag_meanings": "a b c d e f g h"}
    dataset = xr.Dataset(
        {"genus": (("y", "x"), codes, attrs)},
        coords={"y": y, "x": x, "spatial_ref": grid_mapping(GENUS), "time": np.datetime64("2020-01-01", "ns")},
    )
    dataset["genus"].encoding["grid_mapping"] = "spatial_ref"
    return dataset


def write_archive(folder: Path) -> None:
    """All four, in several chunks each."""
    write_store(folder, GAMI_ID, gami(), {"forest_age": (2, 20, 20, 2)})
    layer = (1, 20, 20)
    write_store(folder, EFDA_ID, efda(), {"disturbance_agent": layer, "disturbance_occurrence": layer})
    write_store(folder, LIU_ID, liu(), dict.fromkeys(liu_values(), (32, 32)))
    write_store(folder, GENUS_ID, genus(), {"genus": (64, 64)})
