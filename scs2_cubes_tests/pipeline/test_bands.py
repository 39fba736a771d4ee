"""What is assumed of an unknown product from the bands that its catalogue describes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from scs2_cubes.core.grid import Grid, Region
from scs2_cubes.core.specification import DatasetSpec, StoreSpec
from scs2_cubes.core.variables import Kind
from scs2_cubes.pipeline.plan import make_plan
from scs2_cubes.sources import open_described

BANDS = [{"name": "height", "unit": "m", "nodata": 0}, {"name": "stored", "unit": "km", "nodata": 7}, {"no": "name"}]


def test_bands_say_what_the_store_leaves_out_and_nothing_else(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "unknown.zarr", zarr_format=2, attributes={"crs": "EPSG:3035"})
    for name, values in (("y", 1000.0 - 30 * np.arange(8)), ("x", 30.0 * np.arange(8))):
        array = group.create_array(name, data=values)
        array.attrs["_ARRAY_DIMENSIONS"] = [name]
    described: dict[str, dict[str, Any]] = {"height": {}, "stored": {"units": "m", "_FillValue": 3}, "classes": {}}
    for name, attrs in described.items():
        array = group.create_array(name, data=np.ones((8, 8), "uint16"), fill_value=None)
        array.attrs.update({"_ARRAY_DIMENSIONS": ["y", "x"], **attrs})
    asset = {"href": "./unknown.zarr", "type": "application/vnd.zarr", "raster:bands": BANDS}
    item = {"type": "Feature", "id": "unknown", "links": [], "assets": {"zarr": asset}}
    (tmp_path / "unknown.json").write_text(json.dumps(item), encoding="utf-8")

    store = StoreSpec("catalogue", "stac", {"url": str(tmp_path / "catalog.json")})
    grid = Grid.from_bbox([30, 820, 150, 940], "EPSG:3035", 30, 4)
    spec = DatasetSpec("cube", store, "unknown.json", (Region("here", grid),), region_folders=False, product=None)
    plan = make_plan(spec, spec.regions[0], open_described(store).describe("unknown.json"))
    by_name = {layer.variable.name: layer for layer in plan.layers}
    told = {name: (layer.variable.kind, layer.variable.units, layer.nodata) for name, layer in by_name.items()}
    assert told == {
        "classes": (Kind.CATEGORICAL, None, None),
        "height": (Kind.CONTINUOUS, "m", 0),
        "stored": (Kind.CONTINUOUS, "m", 3),
    }
    assert by_name["height"].assumed == "a continuous quantity, from the unit of its STAC band"
    assert by_name["stored"].assumed == "a continuous quantity, from units"
