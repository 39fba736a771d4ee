"""Many regions from one table."""

# Messages are quoted whole, whatever their length.
# ruff: noqa: E501

from __future__ import annotations

import json
import math
from typing import Any

import pyproj
import pytest

from scs2_cubes_tests.config.conftest import World

CSV = """identifier,country,west,south,east,north
site 1, FR, 3401404, 2346797, 3401704, 2347097
site 2, FR, 3501404, 2346797, 3501705, 2347100.5
"""


def _use(world: World, name: str, text: str) -> None:
    (world.folder / name).write_text(text, encoding="utf-8")
    world.data["grid_mappings"].append(
        {"identifier": "sites", "table": name, "crs": "EPSG:3035", "spatial_res": 30, "tile_size": 8}
    )
    world.data["datasets"][0]["grid_mapping"] = "sites"


def _feature(name: object, ring: list[list[float]], **properties: object) -> dict[str, Any]:
    return {
        "type": "Feature",
        "properties": {"name": name, **properties},
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }


def _collection(*features: dict[str, Any], **members: object) -> str:
    return json.dumps({"type": "FeatureCollection", "features": features, **members})


SQUARE = [[-1.0, 44.0], [-0.5, 44.0], [-0.5, 44.5], [-1.0, 44.5], [-1.0, 44.0]]


def test_csv(world: World) -> None:
    _use(world, "sites.csv", CSV)
    gami = world.load().datasets[0]
    assert gami.region_folders
    assert [region.name for region in gami.regions] == ["site 1", "site 2"]
    first, second = (region.grid for region in gami.regions)
    assert (first.west, first.south, first.nx, first.ny, first.tile_nx) == (3401404, 2346797, 10, 10, 8)
    # 301 m and 303.5 m are eleven pixels of 30 m.
    assert (second.nx, second.ny) == (11, 11)
    assert gami.partition_keys == ("site 1", "site 2")


def test_one_row_is_still_a_table(world: World) -> None:
    _use(world, "sites.csv", "\ufeffname,west,south,east,north\nonly,0,0,60,60\n")
    gami = world.load().datasets[0]
    assert gami.region_folders
    assert gami.partition_keys == ("only",)


def test_tables_lie_beside_the_configuration(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    _use(world, "sites.csv", CSV)
    elsewhere = world.folder / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert len(world.load().datasets[0].regions) == 2


def test_geojson_names(world: World) -> None:
    other = [[lon + 1, lat] for lon, lat in SQUARE]
    _use(world, "sites.geojson", _collection(_feature("a", SQUARE), _feature("b", other, identifier=17)))
    assert [region.name for region in world.load().datasets[0].regions] == ["a", "17"]


# The wide box spans the central meridian of EPSG:3035: its southern edge lies deepest in the middle, far from a corner.
@pytest.mark.parametrize(("lon_west", "lon_east"), [(-1.0, -0.5), (9.0, 11.0)])
def test_geojson_covers_the_geometry(world: World, lon_west: float, lon_east: float) -> None:
    ring = [[lon_west, 44.0], [lon_east, 44.0], [lon_east, 44.5], [lon_west, 44.5], [lon_west, 44.0]]
    _use(world, "sites.geojson", _collection(_feature("a", ring)))
    west, south, east, north = world.load().datasets[0].regions[0].grid.bbox
    # Oracle: the box's outline, point by point; the meridians and parallels are curves in EPSG:3035.
    transformer = pyproj.Transformer.from_crs(4326, 3035, always_xy=True)
    steps = [index / 2000 for index in range(2001)]
    outline = [(lon_west + (lon_east - lon_west) * t, lat) for t in steps for lat in (44.0, 44.5)]
    outline += [(lon, 44 + 0.5 * t) for t in steps for lon in (lon_west, lon_east)]
    x, y = zip(*(transformer.transform(lon, lat) for lon, lat in outline), strict=True)
    assert math.isclose(west, min(x), abs_tol=1)
    assert math.isclose(south, min(y), abs_tol=1)
    # The grid grows by less than a pixel.
    assert max(x) - 1 <= east < max(x) + 30
    assert max(y) - 1 <= north < max(y) + 30


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("sites.csv", "name,west,south,east\na,1,2,3\n", "the table sites.csv has no column 'north'; its columns: name, west, south, east"),
        ("sites.csv", "idenifier,west,south,east,north\na,1,2,3,4\n", "the table sites.csv has no column 'identifier'; its columns: idenifier, west, south, east, north"),
        ("sites.csv", "name,west,south,east,north\na,1,2,3,4\nb,1,x,3,4\n", "sites.csv, line 3: south should be a number, not 'x'"),
        ("sites.csv", "name,west,south,east,north\na,1,2,3\n", "sites.csv, line 2: north should be a number, not None"),
        ("sites.csv", "name,west,south,east,north\n,1,2,3,4\n", "sites.csv, line 2: no identifier (a property or column called identifier or name)"),
        ("sites.csv", "name,west,south,east,north\na,3,2,1,4\n", "sites.csv, line 2: bbox must be finite and in the order west, south, east, north, not [3.0, 2.0, 1.0, 4.0]"),
        ("sites.csv", "name,west,south,east,north\na,1,2,3,nan\n", "sites.csv, line 2: bbox must be finite and in the order west, south, east, north, not [1.0, 2.0, 3.0, nan]"),
        ("sites.csv", "name,west,south,east,north\n", "the table sites.csv has no regions"),
        ("sites.csv", "name,west,south,east,north\na,0,0,9,9\na,0,0,9,9\n", "duplicate region 'a'"),
        ("sites.csv", "name,west,south,east,north\nlandes,0,0,9,9\n", "duplicate region 'landes', already in grid_mappings[0]"),
        ("sites.csv", "name,west,south,east,north\n../a,0,0,9,9\n", "the region '../a' names a folder and a partition, so it can't begin with '.' or hold '/', '\\', '|', '...' or a line break"),
        ("sites.txt", "", "the table sites.txt should be a .csv, .geojson or .json file"),
        ("sites.json", "{", "the table sites.json isn't valid JSON: line 1, column 2: Expecting property name enclosed in double quotes"),
        ("sites.json", "[]", "the table sites.json should be a GeoJSON FeatureCollection"),
        ("sites.json", _collection(), "the table sites.json has no regions"),
        ("sites.json", _collection(_feature(None, SQUARE)), "sites.json, feature 0: no identifier (a property or column called identifier or name)"),
        ("sites.json", _collection(_feature("a", [[1, 2]])), "sites.json, feature 0: the geometry has no area (box [1.0, 2.0, 1.0, 2.0])"),
        ("sites.json", _collection(_feature("a", [])), "sites.json, feature 0: no geometry with coordinates"),
        ("sites.json", _collection(_feature("a", [[3401404, 2346797], [3401504, 2346997]])), "sites.json, feature 0: coordinates should be longitude and latitude in degrees"),
        ("sites.json", _collection(_feature("a", SQUARE), crs={"properties": {"name": "EPSG:3035"}}), "the table sites.json has a CRS of its own; GeoJSON is longitude and latitude (EPSG:4326)"),
    ],
)  # fmt: skip
def test_refused_table(world: World, name: str, text: str, line: str) -> None:
    _use(world, name, text)
    assert world.lines() == [f"grid_mappings[2].table: {line}"]


def test_no_such_table(world: World) -> None:
    _use(world, "sites.csv", CSV)
    (world.folder / "sites.csv").unlink()
    (line,) = world.lines()
    assert line.startswith("grid_mappings[2].table: the table sites.csv can't be read: No such file")
