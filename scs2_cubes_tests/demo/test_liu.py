from __future__ import annotations

import json

import numpy as np
import pyproj
import pytest

from scs2_cubes.demo import canopy, region, world
from scs2_cubes.demo.catalogue import Catalogue
from scs2_cubes.demo.server import DemoServer
from scs2_cubes_tests.demo.conftest import BASE, ask, open_store
from scs2_cubes_tests.demo.test_disturbance import single_agent

LIU = "LIU_BIOMASS/LIU_BIOMASS_v0.1.zarr"
NAMES = ["aboveground_biomass", "canopy_cover", "canopy_height"]
WEST, NORTH = 2_635_021.5, 5_427_988.0
CHUNK = 2048 * 30.0


def expected_at(x: float, y: float, edition: int = 1) -> dict[str, np.floating | np.integer]:
    """Stored values at one point, from the world's forest and age and the patches."""
    if not world.forest(x, y):
        return {"aboveground_biomass": np.float32(0), "canopy_cover": np.uint8(0), "canopy_height": np.float32(0)}
    last = next((year for year in range(2019, 1984, -1) if single_agent(x, y, year)), None)
    age = float(np.float32(world.age(x, y, 2019) if last is None else max(2019 - last, 1)))
    site = float(canopy.fertility(x, y, edition))
    return {
        "aboveground_biomass": np.float32(site * 350 * age / (age + 60) * 90),
        "canopy_cover": np.uint8(min(round(site * 95 * age / (age + 6)), 100)),
        "canopy_height": np.float32(site * 36 * age / (age + 25)),
    }


def test_it_opens_with_its_traps(shared_server: DemoServer) -> None:
    liu = open_store(shared_server, LIU)
    assert sorted(map(str, liu.data_vars)) == NAMES
    assert set(liu.coords) == {"x", "y", "time", "spatial_ref"}
    for name, stored, unit in zip(NAMES, ("float32", "uint8", "float32"), ("kg", "percent", "m"), strict=True):
        layer = liu[name]
        assert layer.dims == ("y", "x")
        assert layer.dtype == np.float64, "scale_factor and add_offset make doubles of everything"
        assert layer.encoding["dtype"] == stored
        assert layer.encoding["chunks"] == (2048, 2048)
        assert layer.encoding["_FillValue"] == 0
        assert (layer.encoding["scale_factor"], layer.encoding["add_offset"]) == (1.0, 0.0)
        assert layer.attrs["grid_mapping"] == "spatial_ref"
        assert layer.attrs["units"] == unit
        assert layer.attrs["description"]
    assert str(liu.time.values)[:10] == "2019-01-01"
    assert pyproj.CRS.from_cf(liu.spatial_ref.attrs).to_epsg() == 3035


def test_its_lattice_lies_across_the_targets(shared_server: DemoServer) -> None:
    liu = open_store(shared_server, LIU)
    x, y = liu.x.values, liu.y.values
    assert (x[0], y[0]) == (WEST + 15, NORTH - 15)
    assert set(np.diff(x)) == {30.0}
    assert set(np.diff(y)) == {-30.0}
    # Europe-wide, and no whole number of chunks.
    assert x[0] < 2.7e6
    assert x[-1] > 6.5e6
    assert y[-1] < 1.5e6
    assert y[0] > 5.4e6
    assert len(x) % 2048
    assert len(y) % 2048
    grid = region.demo_region().grid
    assert (x[0] - grid.lattice.x_centres()[0]) % 30 not in {0, 15}
    assert (y[0] - grid.lattice.y_centres()[0]) % 30 not in {0, 15}
    transform = [float(part) for part in liu.spatial_ref.attrs["GeoTransform"].split()]
    assert transform == [WEST, 30, 0, NORTH, 0, -30]


def test_it_holds_the_world(shared_server: DemoServer) -> None:
    west, south, east, north = region.BBOX
    area = open_store(shared_server, LIU, mask_and_scale=False)[NAMES].sel(x=slice(west, east), y=slice(north, south))
    area = area.isel(x=slice(None, None, 41), y=slice(None, None, 37)).load()
    seen = 0
    for i, y in enumerate(area.y.values):
        for j, x in enumerate(area.x.values):
            for name, value in expected_at(x, y).items():
                found = area[name].values[i, j]
                assert found.dtype == value.dtype
                # The formula may be rounded in another order.
                assert found == pytest.approx(value, rel=1e-6)
                seen += found > 0
    assert 0.2 < seen / area.sizes["x"] / area.sizes["y"] / 3 < 0.8


def test_decoded_it_says_nothing_outside_the_forest(shared_server: DemoServer) -> None:
    area = open_store(shared_server, LIU).sel(x=slice(3_430_000, 3_436_000), y=slice(2_455_000, 2_450_000)).load()
    trees = world.forest(area.x.values[np.newaxis, :], area.y.values[:, np.newaxis])
    assert 0.1 < trees.mean() < 0.95
    for name in NAMES:
        np.testing.assert_array_equal(np.isfinite(area[name].values), trees)
    assert float(area.canopy_cover.max()) <= 100


def test_chunks_exist_where_the_window_is(shared_server: DemoServer) -> None:
    west, south, east, north = region.WINDOW
    rows = sorted({int((NORTH - y) // CHUNK) for y in (north, south)})
    cols = sorted({int((x - WEST) // CHUNK) for x in (west, east)})
    for name in NAMES:
        for row in rows:
            for col in cols:
                assert ask(shared_server, f"{LIU}/{name}/{row}.{col}", "HEAD").status == 200
        for key in ("0.0", f"{rows[0] - 1}.{cols[0]}", f"{rows[-1] + 1}.{cols[0]}", f"{rows[0]}.{cols[-1] + 1}"):
            assert ask(shared_server, f"{LIU}/{name}/{key}").status == 404
    assert ask(shared_server, "LIU_BIOMASS/LIU_BIOMASS_v0.2.zarr/.zmetadata").status == 404


def test_the_structure_is_that_of_the_recorded_writer(shared_server: DemoServer) -> None:
    metadata = json.loads(ask(shared_server, f"{LIU}/.zmetadata").body)["metadata"]
    for name, dtype in zip(NAMES, ("<f4", "|u1", "<f4"), strict=True):
        array = metadata[f"{name}/.zarray"]
        assert (array["dtype"], array["fill_value"], array["chunks"]) == (dtype, 0, [2048, 2048])
        assert array["compressor"] == {"blocksize": 0, "clevel": 3, "cname": "zstd", "id": "blosc", "shuffle": 2}
        assert metadata[f"{name}/.zattrs"]["coordinates"] == "spatial_ref time"
    for key, value in metadata.items():
        assert json.loads(ask(shared_server, f"{LIU}/{key}").body) == value


def test_two_catalogues_and_any_order_give_the_same_bytes(shared_server: DemoServer) -> None:
    other, forgetful = Catalogue(), Catalogue(memory=0)
    for name in reversed(NAMES):
        path = f"{BASE}/{LIU}/{name}/48.13"
        bodies = {ask(shared_server, path).body}
        for catalogue in (other, forgetful):
            resource = catalogue.read(path)
            assert resource is not None
            bodies.add(resource.body)
        assert len(bodies) == 1


def test_a_second_edition_has_other_pixels_in_the_same_forest(server: DemoServer) -> None:
    keys = [f"{LIU}/.zmetadata", *(f"{LIU}/{name}/48.13" for name in NAMES)]
    old = [ask(server, key).body for key in keys]
    box = {"x": slice(3_440_000, 3_442_000), "y": slice(2_452_000, 2_450_000)}
    first = open_store(server, LIU).sel(box).load()
    server.catalogue.publish("LIU_BIOMASS")
    assert all(ask(server, key).body != body for key, body in zip(keys, old, strict=True))
    second = open_store(server, LIU).sel(box).load()
    for name in NAMES:
        np.testing.assert_array_equal(np.isnan(first[name]), np.isnan(second[name]))
    raw = open_store(server, LIU, mask_and_scale=False).sel(box).isel(x=slice(None, None, 9), y=slice(None, None, 9))
    for i, y in enumerate(raw.y.values):
        for j, x in enumerate(raw.x.values):
            wanted = expected_at(x, y, 2)["aboveground_biomass"]
            assert raw.aboveground_biomass.values[i, j] == pytest.approx(wanted, rel=1e-6)
    server.catalogue.publish("LIU_BIOMASS", 1)
    assert [ask(server, key).body for key in keys] == old
