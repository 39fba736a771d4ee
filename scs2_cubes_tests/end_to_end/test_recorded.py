"""Cubes from what was recorded of the real catalogue: its own JSON, and stores made by its own writers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import yaml

from scs2_cubes import open_cube
from scs2_cubes.config import load_case
from scs2_cubes.errors import CubeIdentityError
from scs2_cubes.pipeline.compute import ThreadCompute
from scs2_cubes.pipeline.cubes import describe_source, plan_partition
from scs2_cubes.pipeline.materialize import PartitionReport, materialize_partition, prepare_cube
from scs2_cubes_tests.core import oracles

GAMI_HREF = "https://s3.gfz-potsdam.de/dog.atlaseo-glm.eo-gridded-data/collections/GAMI/GAMI_v3.1.zarr"
#: In the store's corner of the world, shifted against its pixels and of the same size.
GAMI_BBOX = [-179.9503, 89.8007, -179.9003, 89.8507]
GENUS_BBOX = [3401404, 2534003, 3403804, 2536403]


def _make(folder: Path, document: dict[str, Any], name: str) -> tuple[Path, PartitionReport]:
    config = folder / "config.yml"
    config.write_text(yaml.safe_dump(document), encoding="utf-8")
    case = load_case(config)
    dataset = case.dataset(name)
    planned = plan_partition(dataset, case.storage, describe_source(dataset), "corner")
    prepare_cube(planned.plan, planned.store)
    return config, materialize_partition(
        planned.plan, planned.partition, planned.store, ThreadCompute(2), lambda _: None
    )


def _document(root: Path, url: str, rewrite: dict[str, str], grid: dict[str, Any], data_id: str) -> dict[str, Any]:
    return {
        "data_stores": [
            {"identifier": "storage", "store_id": "file", "store_params": {"root": str(root)}},
            {"identifier": "catalogue", "store_id": "stac", "store_params": {"url": url, "href_rewrite": rewrite}},
        ],
        "grid_mappings": [{"identifier": "corner", **grid}],
        "datasets": [{"identifier": "cube", "store": "catalogue", "data_id": data_id, "grid_mapping": "corner"}],
    }


def _gami(archive: Path, folder: Path) -> dict[str, Any]:
    return _document(
        folder / "cubes",
        str(archive / "collections/public/catalog.json"),
        {GAMI_HREF: str(archive / "stores/gami.zarr")},
        {"bbox": GAMI_BBOX, "crs": "EPSG:4326", "spatial_res": 1 / 1125, "tile_size": 32},
        "structure-demography/GAMI/GAMI_v3.1/GAMI_v3.1.json",
    )


def test_gami_from_the_recorded_item_and_store(recorded: Path, tmp_path: Path) -> None:
    archive = recorded / "eoforest"
    document = _gami(archive, tmp_path)
    config, report = _make(tmp_path, document, "cube")
    assert report.made == 4

    with xr.open_zarr(archive / "stores/gami.zarr") as source:
        age = source.forest_age.isel(time=-1).mean("members").transpose("latitude", "longitude").to_numpy()
        lat, lon = source.latitude.to_numpy(), source.longitude.to_numpy()
    dx, dy = lon[1] - lon[0], lat[1] - lat[0]
    cube = open_cube(config, "cube")
    values = cube.forest_age.to_numpy()
    assert values.dtype == np.float32
    assert str(cube.time.to_numpy()) == "2020-01-01T00:00:00.000000000"
    expected = np.full(values.shape, np.nan)
    for row, y in enumerate(cube.lat.to_numpy()):
        for col, x in enumerate(cube.lon.to_numpy()):
            u, v = (x - lon[0]) / dx + 0.5, (y - lat[0]) / dy + 0.5
            number = oracles.bilinear(age, u, v, None)
            expected[row, col] = np.nan if number is None else number
    assert np.isfinite(expected).any()
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_genus_from_the_recorded_store(recorded: Path, tmp_path: Path) -> None:
    item = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": "FORESTPATHS_GENUS_v0.0.1",
        "properties": {},
        "links": [],
        "assets": {"zarr": {"href": "https://real.example/genus.zarr", "type": "application/vnd.zarr"}},
    }
    folder = tmp_path / "FORESTPATHS_GENUS/FORESTPATHS_GENUS_v0.0.1"
    folder.mkdir(parents=True)
    (folder / "FORESTPATHS_GENUS_v0.0.1.json").write_text(json.dumps(item), encoding="utf-8")
    store = recorded / "eoforest/stores/genus.zarr"
    document = _document(
        tmp_path / "cubes",
        str(tmp_path / "catalog.json"),
        {"https://real.example/genus.zarr": str(store)},
        {"bbox": GENUS_BBOX, "crs": "EPSG:3035", "spatial_res": 30, "tile_size": 32},
        "FORESTPATHS_GENUS/FORESTPATHS_GENUS_v0.0.1/FORESTPATHS_GENUS_v0.0.1.json",
    )
    config, report = _make(tmp_path, document, "cube")
    assert report.made == 9

    with xr.open_zarr(store, mask_and_scale=False) as source:
        genus, left, top = source.genus.to_numpy(), float(source.x[0]) - 5, float(source.y[0]) + 5
    cube = open_cube(config, "cube")
    values = cube.genus.to_numpy()
    assert values.dtype == np.uint8
    assert cube.genus.attrs["flag_meanings"].split()[0] == "larix"
    for row, y in enumerate(cube.y.to_numpy()):
        for col, x in enumerate(cube.x.to_numpy()):
            number = oracles.majority(genus, (x - left) / 10, (top - y) / 10, (3.0, 3.0), 255)
            assert values[row, col] == (255 if number is None else number)
    assert len(np.unique(values)) > 2


def test_a_cube_of_another_configuration_isnt_handed_out(recorded: Path, tmp_path: Path) -> None:
    archive = recorded / "eoforest"
    document = _gami(archive, tmp_path)
    config, _ = _make(tmp_path, document, "cube")
    document["grid_mappings"][0]["bbox"] = [GAMI_BBOX[0] + 1, *GAMI_BBOX[1:2], GAMI_BBOX[2] + 1, GAMI_BBOX[3]]
    config.write_text(yaml.safe_dump(document), encoding="utf-8")
    with pytest.raises(CubeIdentityError, match="another cube lies at"):
        open_cube(config, "cube")
