from __future__ import annotations

import json

import numpy as np
import pyproj
import pytest
from numcodecs import Blosc

from scs2_cubes.demo import region, world
from scs2_cubes.demo.catalogue import Catalogue
from scs2_cubes.demo.server import DemoServer
from scs2_cubes_tests.demo.conftest import BASE, ask, open_store
from scs2_cubes_tests.demo.test_disturbance import single_agent

EFDA = "EFDA/EFDA_v2.1.1.zarr"
OLDER = "EFDA/EFDA_v2.0.0.zarr"
NAMES = ["disturbance_agent", "disturbance_occurrence"]
WEST, NORTH = 2_032_000, 5_631_430
BOX = {"x": slice(3_430_000, 3_440_000), "y": slice(2_457_000, 2_449_000)}


def chunk(server: DemoServer, key: str) -> np.ndarray:
    """Decoded pixels of one chunk, without zarr."""
    reply = ask(server, key)
    assert reply.status == 200, key
    return np.frombuffer(Blosc().decode(reply.body), dtype="<i2").reshape(1000, 1000)


def test_it_opens_with_its_traps(shared_server: DemoServer) -> None:
    efda = open_store(shared_server, EFDA)
    assert sorted(map(str, efda.data_vars)) == [*NAMES, "spatial_ref"], "nothing makes a coordinate of spatial_ref"
    assert set(efda.coords) == {"time", "y", "x"}
    for name in NAMES:
        layer = efda[name]
        assert layer.dims == ("time", "y", "x")
        assert layer.shape == (39, 158_202, 158_129)
        assert layer.dtype == np.float32
        assert layer.encoding["dtype"] == np.int16
        assert layer.encoding["chunks"] == (1, 1000, 1000)
        assert layer.encoding["_FillValue"] == -9999
        assert layer.attrs["grid_mapping"] == "spatial_ref"
        assert "coordinates" not in layer.encoding
    assert [str(stamp)[:10] for stamp in efda.time.values] == [f"{year}-01-01" for year in range(1985, 2024)]
    assert pyproj.CRS.from_cf(efda.spatial_ref.attrs).to_epsg() == 3035


def test_its_axes_are_those_that_were_seen(shared_server: DemoServer) -> None:
    efda = open_store(shared_server, EFDA)
    x, y = efda.x.values, efda.y.values
    # As the published run prints them, with four digits.
    assert [f"{value:.3e}" for value in (x[0], x[-1], y[0], y[-1])] == [
        "2.032e+06",
        "6.776e+06",
        "5.631e+06",
        "8.854e+05",
    ]
    assert set(np.diff(x)) == {30.0}
    assert set(np.diff(y)) == {-30.0}
    grid = region.demo_region().grid
    assert (x[0] - grid.lattice.x_centres()[0]) % 30 not in {0, 15}
    assert (y[0] - grid.lattice.y_centres()[0]) % 30 not in {0, 15}


@pytest.mark.parametrize("year", [1985, 2009, 2023])
def test_it_holds_the_world(shared_server: DemoServer, year: int) -> None:
    efda = open_store(shared_server, EFDA, mask_and_scale=False).sel(BOX).sel(time=f"{year}-01-01").load()
    agents, occurrences = efda.disturbance_agent.values, efda.disturbance_occurrence.values
    rows, cols = np.nonzero(agents > 0)
    random = np.random.default_rng(year)
    some = random.integers(0, len(rows), 40)
    points = [*zip(rows[some], cols[some], strict=True), *random.integers(0, agents.shape, (80, 2)).tolist()]
    for row, col in points:
        x, y = efda.x.values[col], efda.y.values[row]
        assert agents[row, col] == (single_agent(x, y, year) if world.forest(x, y) else -9999)
    np.testing.assert_array_equal(occurrences, np.where(agents > 0, 1, agents))
    trees = world.forest(efda.x.values[np.newaxis, :], efda.y.values[:, np.newaxis])
    np.testing.assert_array_equal(agents != -9999, trees)
    assert set(np.unique(agents)) <= {-9999, 0, 1, 2, 3}
    assert 0 < (agents[trees] > 0).mean() < 0.05


def test_decoded_nothing_and_undisturbed_are_different(shared_server: DemoServer) -> None:
    agents = open_store(shared_server, EFDA).disturbance_agent.sel(BOX).sel(time="2009-01-01").load()
    trees = world.forest(agents.x.values[np.newaxis, :], agents.y.values[:, np.newaxis])
    np.testing.assert_array_equal(agents.notnull(), trees)
    assert {0.0, 1.0} <= set(np.unique(agents.values[trees])) <= {0.0, 1.0, 2.0, 3.0}


def test_chunks_exist_where_and_when_it_has_data(shared_server: DemoServer) -> None:
    west, south, east, north = region.WINDOW
    rows = sorted({int((NORTH - y) // 30_000) for y in (north, south)})
    cols = sorted({int((x - WEST) // 30_000) for x in (west, east)})
    there = f"{rows[0]}.{cols[0]}"
    for name in NAMES:
        for year in (0, 17, 38):
            for row in rows:
                for col in cols:
                    assert ask(shared_server, f"{EFDA}/{name}/{year}.{row}.{col}", "HEAD").status == 200
        elsewhere = ("0.0.0", f"0.{rows[0] - 1}.{cols[0]}", f"0.{rows[0]}.{cols[-1] + 1}", f"39.{there}", there)
        for key in elsewhere:
            assert ask(shared_server, f"{EFDA}/{name}/{key}").status == 404
    assert ask(shared_server, f"{EFDA}/time/38").status == 200
    assert ask(shared_server, f"{EFDA}/time/39").status == 404
    assert ask(shared_server, f"{EFDA}/latitude/0").status == 404
    assert ask(shared_server, f"{EFDA}/efda_agent/0.{there}").status == 404


@pytest.mark.parametrize("store", [EFDA, OLDER])
def test_single_documents_agree_with_the_consolidated_ones(shared_server: DemoServer, store: str) -> None:
    consolidated = json.loads(ask(shared_server, f"{store}/.zmetadata").body)["metadata"]
    assert not any("coordinates" in document for document in consolidated.values())
    for key, value in consolidated.items():
        assert json.loads(ask(shared_server, f"{store}/{key}").body) == value


def test_the_older_version_differs_in_names_only(shared_server: DemoServer) -> None:
    older, today = open_store(shared_server, OLDER), open_store(shared_server, EFDA)
    assert sorted(map(str, older.data_vars)) == ["efda_agent", "efda_disturbance", "spatial_ref"]
    assert older.efda_agent.dims == older.efda_disturbance.dims == ("time", "latitude", "longitude")
    assert set(older.coords) == {"time", "latitude", "longitude"}
    assert older.latitude.attrs["units"] == older.longitude.attrs["units"] == "m"
    np.testing.assert_array_equal(older.latitude, today.y)
    np.testing.assert_array_equal(older.longitude, today.x)
    assert older.attrs["version"] == "2.0.0"
    for old, new in [("efda_agent", "disturbance_agent"), ("efda_disturbance", "disturbance_occurrence")]:
        bodies = [ask(shared_server, f"{key}/24.105.46").body for key in (f"{OLDER}/{old}", f"{EFDA}/{new}")]
        assert bodies[0] == bodies[1]
        assert ask(shared_server, f"{OLDER}/{new}/24.105.46").status == 404


def test_two_catalogues_and_any_order_give_the_same_bytes(shared_server: DemoServer) -> None:
    other, forgetful = Catalogue(), Catalogue(memory=0)
    for key in ("disturbance_occurrence/24.105.46", "disturbance_agent/24.105.46", "disturbance_agent/0.106.47"):
        path = f"{BASE}/{EFDA}/{key}"
        bodies = {ask(shared_server, path).body}
        for catalogue in (other, forgetful):
            resource = catalogue.read(path)
            assert resource is not None
            bodies.add(resource.body)
        assert len(bodies) == 1


KEYS = [f"{EFDA}/.zmetadata", *(f"{EFDA}/{name}/{year}.105.46" for name in NAMES for year in (0, 24, 38))]


def test_the_second_edition_has_other_disturbances_in_the_same_forest(server: DemoServer) -> None:
    old = [ask(server, key).body for key in KEYS]
    first = chunk(server, f"{EFDA}/disturbance_agent/24.105.46")
    server.catalogue.publish("EFDA")
    assert all(ask(server, key).body != body for key, body in zip(KEYS, old, strict=True))
    second = chunk(server, f"{EFDA}/disturbance_agent/24.105.46")
    np.testing.assert_array_equal(first == -9999, second == -9999)
    for row, col in np.argwhere(second > 0)[::500]:
        x, y = WEST + 30 * (46_000 + col) + 15, NORTH - 30 * (105_000 + row) - 15
        assert second[row, col] == single_agent(x, y, 2009, 2)
    assert open_store(server, EFDA).sizes["time"] == 39
    server.catalogue.publish("EFDA", 1)
    assert [ask(server, key).body for key in KEYS] == old


def test_the_third_edition_appends_a_year_to_the_first(server: DemoServer) -> None:
    old = [ask(server, key).body for key in KEYS]
    added = f"{EFDA}/disturbance_agent/39.105.46"
    assert ask(server, added).status == 404
    server.catalogue.publish("EFDA", 3)
    new = [ask(server, key).body for key in KEYS]
    assert new[0] != old[0], "the metadata tell of it"
    assert new[1:] == old[1:], "chunks that were there keep their bytes"
    efda = open_store(server, EFDA)
    assert efda.disturbance_agent.shape == efda.disturbance_occurrence.shape == (40, 158_202, 158_129)
    assert str(efda.time.values[-1])[:10] == "2024-01-01"
    assert open_store(server, OLDER).sizes["time"] == 40
    agents = chunk(server, added)
    for row, col in np.argwhere(agents > 0)[::500]:
        x, y = WEST + 30 * (46_000 + col) + 15, NORTH - 30 * (105_000 + row) - 15
        assert agents[row, col] == single_agent(x, y, 2024)
    server.catalogue.publish("EFDA", 1)
    assert ask(server, added).status == 404
    assert [ask(server, key).body for key in KEYS] == old


def test_later_editions_keep_the_year_and_change_the_pixels(server: DemoServer) -> None:
    first = ask(server, KEYS[1]).body
    server.catalogue.publish("EFDA", 4)
    assert open_store(server, EFDA).sizes["time"] == 40
    assert ask(server, KEYS[1]).body != first
