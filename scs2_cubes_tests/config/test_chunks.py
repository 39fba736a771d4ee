"""``chunksize``, and the ``tile_size`` that today's resampling takes."""

# Messages are quoted whole, whatever their length.
# ruff: noqa: E501

from __future__ import annotations

from typing import Any

import pytest

from scs2_cubes_tests.config.conftest import World


@pytest.mark.parametrize(
    ("chunksize", "chunks"),
    [
        ({"y": 512, "x": 1024}, (512, 1024)),
        ({"lat": 512, "lon": 1024}, (512, 1024)),
        ({"y": 512, "x": 1024, "time": 1}, (512, 1024)),
        ({"y": 2048, "x": 2048}, (2048, 2048)),
        ({"y": 1, "x": 1}, (1, 1)),
        ({"y": 512}, (512, 2048)),
        ({"lon": 512}, (2048, 512)),
        ({"y": "${ROWS:-64}", "x": 2048}, (64, 2048)),
        ({"time": 1}, None),
        ({}, None),
        ({"y": None, "x": None}, None),
    ],
)
def test_chunks(world: World, chunksize: dict[str, Any], chunks: tuple[int, int] | None) -> None:
    world.data["datasets"][0]["chunksize"] = chunksize
    gami, genus = world.load().datasets
    assert gami.chunks == chunks
    assert genus.chunks is None


def test_of_tiles_that_arent_square(world: World) -> None:
    world.data["grid_mappings"][0]["tile_size"] = [300, 200]  # x, y
    world.data["datasets"][0]["chunksize"] = {"x": 300, "y": 200}
    assert world.load().datasets[0].chunks == (200, 300)
    world.data["datasets"][0]["chunksize"] = {"x": 200, "y": 300}
    assert len(world.lines()) == 2


@pytest.mark.parametrize(
    ("chunksize", "lines"),
    [
        ({"y": 500, "x": 512}, ["y: 500 doesn't divide the tile of 2048 rows in region 'landes': a tile is the unit of writing, so it has to be a multiple of the chunk"]),
        ({"y": 512, "x": 4096}, ["x: 4096 doesn't divide the tile of 2048 columns in region 'landes': a tile is the unit of writing, so it has to be a multiple of the chunk"]),
        ({"lat": 3}, ["lat: 3 doesn't divide the tile of 2048 rows in region 'landes': a tile is the unit of writing, so it has to be a multiple of the chunk"]),
        ({"y": 0, "x": 512}, ["y: should be greater than or equal to 1, not 0"]),
        ({"y": -512, "x": 512}, ["y: should be greater than or equal to 1, not -512"]),
        ({"y": 512.5, "x": 512}, ["y: should be a valid integer, got a number with a fractional part, not 512.5"]),
        ({"y": True, "x": 512}, ["y: should be a number, not True"]),
        ({"y": 512, "x": 512, "time": 4}, ["time: chunks of several time steps aren't supported; say 1, not 4"]),
        ({"y": 512, "lat": 512, "x": 512}, ["lat: can't stand together with 'y'; leave one of the two out"]),
        ({"y": 512, "longitude": 512}, ["longitude: unknown key; did you mean 'lon'?"]),
        ({"y": 512, "band": 1}, ["band: unknown key; known: lat, lon, time, x, y"]),
    ],
)  # fmt: skip
def test_refused(world: World, chunksize: dict[str, Any], lines: list[str]) -> None:
    world.data["datasets"][0]["chunksize"] = chunksize
    assert world.lines() == [f"datasets[0].chunksize.{line}" for line in lines]


def test_every_region_counts(world: World) -> None:
    world.data["datasets"][0] |= {"grid_mapping": ["landes", "corner"], "chunksize": {"y": 2, "x": 1}}
    assert world.lines() == [
        "datasets[0].chunksize.y: 2 doesn't divide the tile of 5 rows in region 'corner': a tile is the unit of writing, so it has to be a multiple of the chunk"
    ]
    world.data["datasets"][0]["chunksize"] = {"x": 1}
    assert world.lines() == [
        "datasets[0].chunksize: should also say y, since there isn't one tile_size to take"
    ]  # fmt: skip
    world.data["datasets"][0]["chunksize"] = {"x": 1, "y": 1}
    assert world.load().datasets[0].chunks == (1, 1)


def test_many_regions_with_one_tile_are_one_line(world: World) -> None:
    text = "name,west,south,east,north\na,0,0,60,60\nb,0,0,90,90\n"
    (world.folder / "sites.csv").write_text(text, encoding="utf-8")
    world.data["grid_mappings"].append(
        {"identifier": "sites", "table": "sites.csv", "crs": "EPSG:3035", "spatial_res": 30, "tile_size": 8}
    )
    world.data["datasets"][0] |= {"grid_mapping": "sites", "chunksize": {"y": 3, "x": 4}}
    (line,) = world.lines()
    assert line.startswith("datasets[0].chunksize.y: 3 doesn't divide the tile of 8 rows in region 'a': ")


def test_the_sources_own_grid_has_no_tiles(world: World) -> None:
    del world.data["datasets"][0]["grid_mapping"]
    world.data["datasets"][0]["chunksize"] = {"y": 500, "x": 700}
    assert world.load().datasets[0].chunks == (500, 700)


@pytest.mark.parametrize("tile_size", [2048, [2048, 2048]])
def test_tile_size_of_the_grid(world: World, tile_size: object) -> None:
    world.data["datasets"][0]["spatial_resample_params"] = {"tile_size": tile_size}
    assert world.load().datasets[0].regions[0].grid.tile_nx == 2048


@pytest.mark.parametrize(
    ("tile_size", "line"),
    [
        (1024, "1024 isn't the tile_size [2048, 2048] (x, y) of region 'landes'; the tile belongs to the grid: say it in grid_mappings, and leave it out here"),
        ([2048, 1024], "[2048, 1024] isn't the tile_size [2048, 2048] (x, y) of region 'landes'; the tile belongs to the grid: say it in grid_mappings, and leave it out here"),
        (0, "should be greater than or equal to 1, not 0"),
    ],
)  # fmt: skip
def test_another_tile_size(world: World, tile_size: object, line: str) -> None:
    world.data["datasets"][0]["spatial_resample_params"] = {"tile_size": tile_size}
    assert world.lines() == [f"datasets[0].spatial_resample_params.tile_size: {line}"]


def test_tile_size_without_a_grid(world: World) -> None:
    del world.data["datasets"][0]["grid_mapping"]
    world.data["datasets"][0]["spatial_resample_params"] = {"tile_size": 1024}
    assert world.lines() == [
        "datasets[0].spatial_resample_params.tile_size: the tile belongs to the grid, and there is no grid_mapping; leave it out"
    ]


def test_order_of_tile_size_is_x_then_y(world: World) -> None:
    world.data["grid_mappings"][0]["tile_size"] = [300, 200]
    world.data["datasets"][0]["spatial_resample_params"] = {"tile_size": [300, 200]}
    world.load()
    world.data["datasets"][0]["spatial_resample_params"] = {"tile_size": [200, 300]}
    assert len(world.lines()) == 1
