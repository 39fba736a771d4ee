"""Cubes of GeoTIFFs: wherever the file lies, the cube holds its pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from scs2_cubes.demo.server import DemoServer
from scs2_cubes.errors import PlanError
from scs2_cubes_tests.pipeline.editions import TILES, Archive, World
from scs2_cubes_tests.s3.server import OWNER, Bucket
from scs2_cubes_tests.sources.file_worlds import NORTH, WEST, files, pixels, write_tif

#: First row and column of the cube on the file's lattice, and its size: two by three tiles of 16 pixels.
ROW, COL, ROWS, COLS = 120, 40, 32, 48
PART = (slice(ROW, ROW + ROWS), slice(COL, COL + COLS))


def world_of(folder: Path, store_id: str, params: dict[str, Any]) -> World:
    """On the file's own lattice, so that pixels are copied."""
    world = World(folder / "world", Archive(folder))
    world.data["data_stores"][1] = {"identifier": "archive", "store_id": store_id, "store_params": params}
    world.data["grid_mappings"][0]["bbox"] = [
        WEST + 30 * COL,
        NORTH - 30 * (ROW + ROWS),
        WEST + 30 * (COL + COLS),
        NORTH - 30 * ROW,
    ]
    world.dataset["data_id"] = "deep/map.tif"
    world.data["general"] = {"retry": {"max_attempts": 2, "initial_wait": 0.01, "max_wait": 0.05, "timeout": 20}}
    return world


def check(world: World, values: np.ndarray[Any, Any], nodata: int) -> None:
    assert world.make().made == TILES
    cube = world.plan().store.open()
    for band, expected in enumerate(values, 1):
        made = cube[f"band_{band}"].to_numpy()
        valid = expected[PART] != nodata
        np.testing.assert_array_equal(made[valid], expected[PART][valid])
        assert not valid.all()
        assert len(np.unique(made[~valid])) == 1
        assert "assumed" in cube[f"band_{band}"].attrs
    assert world.make().made == 0


@pytest.fixture
def values(tmp_path: Path) -> np.ndarray[Any, Any]:
    """Two bands of classes, which a file has with 77 for "no value"."""
    found = pixels(bands=2)
    found[:, ::5, ::3] = 77
    write_tif(tmp_path / "shelf/deep/map.tif", found, nodata=77)
    return found


def test_on_disk(tmp_path: Path, values: np.ndarray[Any, Any]) -> None:
    check(world_of(tmp_path, "file", {"root": str(tmp_path / "shelf")}), values, 77)


def test_behind_a_web_server(tmp_path: Path, values: np.ndarray[Any, Any]) -> None:
    with DemoServer(catalogue=files(tmp_path)) as server:
        check(world_of(tmp_path, "https", {"root": f"{server.url}/shelf"}), values, 77)


def test_in_a_bucket(tmp_path: Path, bucket: Bucket, values: np.ndarray[Any, Any]) -> None:
    content = (tmp_path / "shelf/deep/map.tif").read_bytes()
    bucket.client.put_object(Bucket=bucket.name, Key="shelf/deep/map.tif", Body=content)
    options = {**OWNER, "endpoint_url": bucket.server.url}
    check(world_of(tmp_path, "s3", {"root": f"{bucket.name}/shelf", "storage_options": options}), values, 77)


def test_another_file_is_another_version(tmp_path: Path, values: np.ndarray[Any, Any]) -> None:
    world = world_of(tmp_path, "file", {"root": str(tmp_path / "shelf")})
    world.make()
    write_tif(tmp_path / "shelf/deep/map.tif", values + 1, nodata=77)
    check(world, values + 1, 77)


def test_scaled_numbers_are_refused(tmp_path: Path) -> None:
    """As of any source: what a number means would be lost."""
    path = write_tif(tmp_path / "shelf/deep/map.tif", pixels("int16"))
    with rasterio.open(path, "r+") as raster:
        raster.scales = (0.1,)
    with pytest.raises(PlanError, match="scale_factor"):
        world_of(tmp_path, "file", {"root": str(tmp_path / "shelf")}).make()
