from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
from numcodecs import Blosc, blosc

from scs2_cubes.demo import region, world
from scs2_cubes.demo.catalogue import Catalogue
from scs2_cubes.demo.server import DemoServer
from scs2_cubes.demo.store import BITSHUFFLED_ZSTD, ArraySpec, whole
from scs2_cubes.errors import ConfigurationError
from scs2_cubes_tests.demo.conftest import BASE, ask, open_store

GAMI = "GAMI/GAMI_v3.1.zarr"
GENUS = "FORESTPATHS_GENUS/FORESTPATHS_GENUS_v0.0.1.zarr"


def test_gami_opens_as_the_real_one_does(shared_server: DemoServer) -> None:
    gami = open_store(shared_server, GAMI)
    age = gami.forest_age
    assert age.dims == ("members", "latitude", "longitude", "time")
    assert dict(age.sizes) == {"members": 20, "latitude": 202_500, "longitude": 405_000, "time": 2}
    assert age.dtype == np.float32
    assert age.encoding["chunks"] == (5, 500, 500, 2)
    assert age.encoding["dtype"] == np.int16
    assert "crs" in gami.coords
    assert gami.attrs["spatial_ref"] == "EPSG:4326"
    assert list(gami.members) == list(range(20))
    assert [str(t)[:10] for t in gami.time.values] == ["2010-01-01", "2020-01-01"]
    assert float(gami.latitude[0]) == pytest.approx(90 - 180 / 202_500 / 2, abs=1e-12)
    assert float(gami.latitude[-1]) == pytest.approx(-90 + 180 / 202_500 / 2, abs=1e-9)
    assert float(gami.longitude[0]) == pytest.approx(-180 + 360 / 405_000 / 2, abs=1e-12)
    assert pyproj.CRS.from_cf(gami.crs.attrs).to_epsg() == 4326


def test_gami_holds_the_world(shared_server: DemoServer) -> None:
    west, south, east, north = pyproj.Transformer.from_crs(3035, 4326, always_xy=True).transform_bounds(*region.BBOX)
    area = open_store(shared_server, GAMI).forest_age.sel(latitude=slice(north, south), longitude=slice(west, east))
    area = area.isel(latitude=slice(None, None, 13), longitude=slice(None, None, 11)).load()
    to_metres = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:3035")
    missing = 0
    for i, latitude in enumerate(area.latitude.values):
        for j, longitude in enumerate(area.longitude.values):
            northing, easting = to_metres.transform(latitude, longitude)
            expected = world.age_of_members(easting, northing, range(20), [2010, 2020]).astype(np.float32)
            if not world.forest(easting, northing):
                missing += 1
                expected[:] = np.nan
            np.testing.assert_array_equal(area.values[:, i, j, :], expected)
    assert 0.2 < missing / (area.sizes["latitude"] * area.sizes["longitude"]) < 0.8


def test_genus_opens_with_its_traps(shared_server: DemoServer) -> None:
    genus = open_store(shared_server, GENUS)
    assert genus.genus.dims == ("y", "x")
    assert genus.genus.dtype == np.float64, "scale_factor and add_offset turn codes into floats"
    assert genus.genus.encoding["dtype"] == np.uint16
    assert genus.genus.encoding["chunks"] == (2048, 2048)
    assert "_FillValue" not in genus.genus.encoding
    assert set(genus.coords) == {"x", "y", "time", "spatial_ref"}
    assert str(genus.time.values)[:10] == "2020-01-01"
    assert float(genus.x[1] - genus.x[0]) == 10
    assert float(genus.y[1] - genus.y[0]) == -10
    assert pyproj.CRS.from_cf(genus.spatial_ref.attrs).to_epsg() == 3035
    # Half a pixel from the centre to the edge: whole multiples of 10 m, unlike the target's 4 and 7.
    assert (float(genus.x[0]) - 5) % 10 == 0
    assert (float(genus.y[0]) + 5) % 10 == 0


def test_genus_holds_the_world(shared_server: DemoServer) -> None:
    west, south, east, north = region.BBOX
    area = open_store(shared_server, GENUS).genus.sel(x=slice(west, east), y=slice(north, south))
    area = area.isel(x=slice(None, None, 71), y=slice(None, None, 67)).load()
    assert (area == 255).any(), "255 must not be masked"
    for i, y in enumerate(area.y.values):
        for j, x in enumerate(area.x.values):
            assert area.values[i, j] == world.genus(x, y)
    raw = open_store(shared_server, GENUS, mask_and_scale=False).genus
    assert raw.dtype == np.uint16
    assert list(raw.attrs["flag_values"]) == list(range(8))
    assert len(raw.attrs["flag_meanings"].split()) == 8


def test_opening_reads_metadata_and_coordinates_only(server: DemoServer) -> None:
    open_store(server, GAMI)
    open_store(server, GENUS)
    assert server.requests.count("/forest_age/0") == 0
    assert server.requests.count("/genus/0") == 0


@pytest.mark.parametrize(
    "key",
    [
        f"{GAMI}/forest_age/0.0.0.0",
        f"{GAMI}/forest_age/4.101.401.0",
        f"{GAMI}/forest_age/0.101.401",
        f"{GAMI}/forest_age/00.101.401.0",
        f"{GAMI}/forest_age/{'9' * 5000}.101.401.0",
        f"{GENUS}/genus/0.0",
        f"{GENUS}/genus/145",
        f"{GENUS}/time/0.0",
        f"{GENUS}/zarr.json",
        f"{GENUS}/genus",
        f"{GENUS}",
        f"{GENUS}/",
        "GAMI/GAMI_v9.zarr/.zmetadata",
        "public",
        "/",
        "/another-bucket/collections/catalog.json",
    ],
)
def test_nothing_else_is_there(shared_server: DemoServer, key: str) -> None:
    reply = ask(shared_server, key)
    assert reply.status == 404
    assert b"<Code>NoSuchKey</Code>" in reply.body


def test_the_whole_window_is_there(shared_server: DemoServer) -> None:
    """Corners of the window, by arithmetic of our own; one chunk further out there is nothing."""
    west, south, east, north = region.WINDOW
    for x, y in [(west, south), (west, north), (east, south), (east, north)]:
        row, col = int((5_450_000 - y) // 20_480), int((x - 2_600_000) // 20_480)
        assert ask(shared_server, f"{GENUS}/genus/{row}.{col}", "HEAD").status == 200
        latitude, longitude = pyproj.Transformer.from_crs(3035, 4326).transform(y, x)
        row, col = int((90 - latitude) * 1125 // 500), int((longitude + 180) * 1125 // 500)
        assert ask(shared_server, f"{GAMI}/forest_age/3.{row}.{col}.0", "HEAD").status == 200
    assert ask(shared_server, f"{GENUS}/genus/{int((5_450_000 - south) // 20_480) + 1}.{col}").status == 404


@pytest.mark.parametrize(("store", "name"), [(GAMI, "gami.zarr"), (GENUS, "genus.zarr")])
def test_metadata_have_the_recorded_structure(shared_server: DemoServer, recorded: Path, store: str, name: str) -> None:
    real = json.loads((recorded / "stores" / name / ".zmetadata").read_text("utf-8"))
    ours = json.loads(ask(shared_server, f"{store}/.zmetadata").body)
    assert ours["zarr_consolidated_format"] == real["zarr_consolidated_format"]
    # The live GAMI store calls its CRS coordinate so; the recorded one has the older name.
    crs = "crs" if name == "gami.zarr" else "spatial_ref"
    expected = {key.replace("spatial_ref/", f"{crs}/"): value for key, value in real["metadata"].items()}
    assert list(ours["metadata"]) == sorted(expected)
    for key, value in expected.items():
        if key.endswith(".zarray"):
            assert strip(ours["metadata"][key]) == strip(value), key
        else:
            assert list(ours["metadata"][key]) == list(value), key
    for key in ("time/.zattrs", "genus/.zattrs", "forest_age/.zattrs"):
        for attr in ("units", "calendar", "flag_values", "flag_meanings", "scale_factor", "_ARRAY_DIMENSIONS"):
            assert ours["metadata"].get(key, {}).get(attr) == expected.get(key, {}).get(attr)
    ours_crs, real_crs = ours["metadata"][f"{crs}/.zattrs"], expected[f"{crs}/.zattrs"]
    assert ours_crs | {"GeoTransform": None} == real_crs | {"GeoTransform": None}


def strip(zarray: dict[str, Any]) -> dict[str, Any]:
    """Without what depends on the size of the recorded sample."""
    return {key: value for key, value in zarray.items() if key not in {"shape", "chunks"}} | {
        "ndim": len(zarray["shape"])
    }


@pytest.mark.parametrize("store", [GAMI, GENUS])
def test_single_documents_agree_with_the_consolidated_ones(shared_server: DemoServer, store: str) -> None:
    consolidated = json.loads(ask(shared_server, f"{store}/.zmetadata").body)["metadata"]
    for key, value in consolidated.items():
        assert json.loads(ask(shared_server, f"{store}/{key}").body) == value


KEYS = [
    "public/structure-demography/GAMI/collection.json",
    f"{GAMI}/.zmetadata",
    f"{GAMI}/longitude/7",
    f"{GAMI}/forest_age/1.101.402.0",
    f"{GENUS}/genus/146.40",
]


def test_two_catalogues_give_the_same_bytes(server: DemoServer) -> None:
    other = Catalogue()
    for key in KEYS:
        reply, resource = ask(server, key), other.read(f"{BASE}/{key}")
        assert resource is not None
        assert reply.body == resource.body
        assert reply.headers["ETag"] == resource.etag


def test_bytes_survive_a_memory_that_keeps_nothing(server: DemoServer) -> None:
    forgetful = Catalogue(memory=0)
    path = f"{BASE}/{GENUS}/genus/146.40"
    first, second = forgetful.read(path), forgetful.read(path)
    assert first is not None
    assert first == second
    assert first.body == ask(server, path).body


def test_publish_changes_a_product_and_returns(server: DemoServer) -> None:
    keys = [f"{GAMI}/.zmetadata", f"{GAMI}/forest_age/1.101.402.0"]
    first = [ask(server, key) for key in keys]
    genus = ask(server, f"{GENUS}/.zmetadata")
    server.catalogue.publish("GAMI")
    assert server.catalogue.edition("GAMI") == 2
    second = [ask(server, key) for key in keys]
    for old, new in zip(first, second, strict=True):
        assert old.body != new.body
        assert old.headers["ETag"] != new.headers["ETag"]
        assert old.headers["Last-Modified"] != new.headers["Last-Modified"]
    dates = [json.loads(reply.body)["metadata"][".zattrs"]["creation_date"] for reply in (first[0], second[0])]
    assert dates[0] < dates[1]
    other = ask(server, f"{GENUS}/.zmetadata")
    assert (other.body, other.headers["ETag"]) == (genus.body, genus.headers["ETag"])
    server.catalogue.publish("GAMI", 1)
    assert [ask(server, key).body for key in keys] == [reply.body for reply in first]


def test_the_second_edition_holds_its_own_world(server: DemoServer) -> None:
    server.catalogue.publish("FORESTPATHS_GENUS", 2)
    area = open_store(server, GENUS, mask_and_scale=False).genus.sel(
        x=slice(3_440_000, 3_442_000), y=slice(2_452_000, 2_450_000)
    )
    expected = [[int(world.genus(x, y, 2)) for x in area.x.values[::20]] for y in area.y.values[::20]]
    np.testing.assert_array_equal(area.values[::20, ::20], expected)
    first = [[int(world.genus(x, y)) for x in area.x.values[::20]] for y in area.y.values[::20]]
    assert first != expected


def test_publish_refuses_what_cannot_be() -> None:
    catalogue = Catalogue()
    with pytest.raises(ConfigurationError, match=r"'GAMMI', only GAMI, FORESTPATHS_GENUS, LIU_BIOMASS, EFDA"):
        catalogue.publish("GAMMI")
    with pytest.raises(ConfigurationError, match=r"counted from 1, not 0"):
        catalogue.publish("GAMI", 0)


def test_readers_and_publishers_at_once_see_whole_editions() -> None:
    catalogue = Catalogue(memory=200_000)
    path = f"{BASE}/{GAMI}/.zattrs"
    wanted = set()
    for edition in (2, 1):
        catalogue.publish("GAMI", edition)
        resource = catalogue.read(path)
        assert resource is not None
        wanted.add((resource.body, resource.last_modified))
    seen = set()

    def read() -> None:
        for _ in range(200):
            resource = catalogue.read(path)
            if resource is not None:
                seen.add((resource.body, resource.last_modified))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for i in range(200):
        catalogue.publish("GAMI", 1 + i % 2)
    for thread in threads:
        thread.join()
    assert seen <= wanted
    assert seen


def test_a_chunk_has_the_same_bytes_however_many_threads_compress_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # zarr switches Blosc's threads off for its whole process; a server without zarr has them.
    monkeypatch.setattr(blosc, "use_threads", True)
    noise = np.random.default_rng(0).integers(0, 99, (1024, 2048)).astype("<u2")
    array = ArraySpec("a", ("y", "x"), noise.shape, noise.shape, "<u2", 0, BITSHUFFLED_ZSTD, {}, whole(noise))
    encoded = {array.chunk((0, 0), 1) for _ in range(20)}
    assert len(encoded) == 1
    decoded = np.frombuffer(Blosc().decode(encoded.pop()), dtype="<u2")
    np.testing.assert_array_equal(decoded.reshape(noise.shape), noise)


def test_a_chunk_at_the_far_edge_is_padded() -> None:
    array = ArraySpec("a", ("x",), (5,), (3,), "<i2", -1, None, {}, whole(np.arange(5)))
    assert np.frombuffer(array.chunk((1,), 1), dtype="<i2").tolist() == [3, 4, -1]
    assert array.has_chunk((1,))
    assert not array.has_chunk((2,))


class TestEditionsOfTheProduct:
    def test_an_item_more_with_a_store_of_its_own(self, server: DemoServer) -> None:
        pinned, newer = "GAMI/GAMI_v3.1.zarr", "GAMI/GAMI_v3.2.zarr"
        pixels = "forest_age/2.102.402.0"
        before = {path: ask(server, path).body for path in (f"{pinned}/.zmetadata", f"{pinned}/{pixels}")}
        folder = "public/structure-demography/GAMI"
        assert ask(server, f"{newer}/.zmetadata").status == 404
        server.catalogue.publish_edition("GAMI", "3.2")
        links = json.loads(ask(server, f"{folder}/collection.json").body)["links"]
        items = [link["href"] for link in links if link["rel"] == "item"]
        assert items == [f"./GAMI_v{version}/GAMI_v{version}.json" for version in ("3.0", "3.1", "3.2")]
        item = json.loads(ask(server, f"{folder}/GAMI_v3.2/GAMI_v3.2.json").body)
        assert item["properties"]["version"] == "3.2"
        assert item["assets"]["zarr"]["href"].endswith(newer)
        there = open_store(server, newer)
        assert there.attrs["version"] == "3.2"
        assert there.forest_age.shape == open_store(server, pinned).forest_age.shape
        assert {path: ask(server, path).body for path in before} == before
        chunk = ask(server, f"{newer}/{pixels}")
        assert chunk.status == 200
        assert chunk.body != before[f"{pinned}/{pixels}"]
        server.catalogue.withdraw_editions()
        assert ask(server, f"{newer}/.zmetadata").status == 404
        assert ask(server, f"{folder}/GAMI_v3.2/GAMI_v3.2.json").status == 404
        assert {path: ask(server, path).body for path in before} == before

    def test_its_pixels_are_others(self, server: DemoServer) -> None:
        server.catalogue.publish_edition("FORESTPATHS_GENUS", "0.0.2")
        west, _, _, north = region.BBOX
        one, other = (
            open_store(server, f"FORESTPATHS_GENUS/FORESTPATHS_GENUS_v{version}.zarr", mask_and_scale=False)
            .genus.sel(x=slice(west, west + 5000), y=slice(north, north - 5000))
            .to_numpy()
            for version in ("0.0.1", "0.0.2")
        )
        assert one.shape == other.shape
        assert (one != other).any()

    def test_publishing_content_is_another_thing(self, server: DemoServer) -> None:
        server.catalogue.publish_edition("GAMI", "3.2")
        paths = [f"GAMI/GAMI_v{version}.zarr/.zmetadata" for version in ("3.1", "3.2")]
        before = [ask(server, path).body for path in paths]
        collection = ask(server, "public/structure-demography/GAMI/collection.json").body
        server.catalogue.publish("GAMI", 2)
        assert all(ask(server, path).body != body for path, body in zip(paths, before, strict=True))
        assert ask(server, "public/structure-demography/GAMI/collection.json").body == collection
        server.catalogue.publish("GAMI", 1)
        assert [ask(server, path).body for path in paths] == before

    @pytest.mark.parametrize(
        ("collection", "version", "message"),
        [
            ("NOTHING", "3.2", "no collection 'NOTHING'"),
            ("GAMI", "3.1", "there are 3.0, 3.1 already"),
            ("GAMI", "v3.2", "numbers with dots"),
            ("GAMI", "", "numbers with dots"),
            ("GAMI", "3.", "numbers with dots"),
        ],
    )
    def test_what_cannot_be_one(self, collection: str, version: str, message: str) -> None:
        with pytest.raises(ConfigurationError, match=message):
            Catalogue().publish_edition(collection, version)
