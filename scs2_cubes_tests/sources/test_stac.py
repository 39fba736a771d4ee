from __future__ import annotations

import json
import pickle
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from scs2_cubes.core.native import RetryPolicy
from scs2_cubes.core.specification import StoreSpec
from scs2_cubes.demo.catalogue import Catalogue
from scs2_cubes.demo.faults import CutBody, GarbledBody, Status
from scs2_cubes.demo.server import DemoServer
from scs2_cubes.errors import (
    AccessDeniedError,
    ConfigurationError,
    DataIdNotFoundError,
    SourceError,
    SourceFormatError,
    SourceUnavailableError,
)
from scs2_cubes.sources import Source, open_reader, open_source, read_chunk
from scs2_cubes.sources.missing import unknown_data_id
from scs2_cubes.sources.stac import StacSource
from scs2_cubes_tests.sources.worlds import (
    DATA_ID,
    QUICK,
    ZARR_TYPE,
    forest,
    item,
    served,
    source,
    write_catalogue,
    write_store,
)

GAMI = "structure-demography/GAMI/GAMI_v3.1/GAMI_v3.1.json"
LIU = "biomass-carbon/LIU_BIOMASS/LIU_BIOMASS_v0.1/LIU_BIOMASS_v0.1.json"
EFDA = "disturbance-change/EFDA/EFDA_v2.1.1/EFDA_v2.1.1.json"
GENUS = "structure-demography/FORESTPATHS_GENUS/FORESTPATHS_GENUS_v0.0.1/FORESTPATHS_GENUS_v0.0.1.json"
ORIGIN = "https://s3.gfz-potsdam.de"
NO_LINKS: tuple[Any, ...] = (None, {}, ["a"])
NO_ASSETS: tuple[Any, ...] = (None, [], {"zarr": "a.zarr"})


def demo_source(server: DemoServer, retry: RetryPolicy = QUICK) -> StacSource:
    return source(server.catalogue_url, server.href_rewrite, retry)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DemoServer]:
    """A server of the files that a test writes."""
    with served(tmp_path) as running:
        yield running


class TestEmbeddedCatalogue:
    def test_ids(self, demo_server: DemoServer) -> None:
        expected = {GAMI, GENUS, GAMI.replace("3.1", "3.0"), LIU, EFDA, EFDA.replace("2.1.1", "2.0.0")}
        assert set(demo_source(demo_server).data_ids()) == expected

    def test_ids_at_the_original_address(self, demo_server: DemoServer) -> None:
        original = demo_server.catalogue_url.replace(demo_server.url, ORIGIN)
        assert GAMI in set(source(original, demo_server.href_rewrite).data_ids())

    def test_gami(self, demo_server: DemoServer) -> None:
        native = demo_source(demo_server).describe(GAMI)
        age = native.array("forest_age")
        assert age.dims == ("members", "latitude", "longitude", "time")
        assert (age.shape, age.chunks, age.dtype, age.fill) == (
            (20, 202500, 405000, 2),
            (5, 500, 500, 2),
            "int16",
            -9999,
        )
        assert native.lattice.crs == "EPSG:4326"
        assert native.lattice.bbox == pytest.approx((-180, -90, 180, 90))
        assert native.times == ("2010-01-01T00:00:00", "2020-01-01T00:00:00")
        assert native.time_dim == "time"

    def test_genus(self, demo_server: DemoServer) -> None:
        native = demo_source(demo_server).describe(GENUS)
        genus = native.array("genus")
        assert (genus.dims, genus.dtype, genus.fill) == (("y", "x"), "uint16", None)
        assert native.lattice.crs == "EPSG:3035"
        assert (native.time_dim, native.times) == (None, ("2020-01-01T00:00:00",))

    def test_addresses_for_people_are_the_original_ones(self, demo_server: DemoServer) -> None:
        native = demo_source(demo_server).describe(GAMI)
        assert native.href.startswith(f"{ORIGIN}/")
        assert native.href.endswith("GAMI_v3.1.zarr")
        assert native.location.url == native.href.replace(ORIGIN, demo_server.url)
        assert native.provenance["stac_item_id"] == "GAMI_v3.1"

    def test_a_probe_asks_two_small_questions(self, demo_server: DemoServer) -> None:
        client = demo_source(demo_server)
        demo_server.requests.clear()
        client.probe(GAMI)
        assert [request.path.rpartition("/")[2] for request in demo_server.requests.entries()] == [
            "GAMI_v3.1.json",
            ".zmetadata",
        ]

    def test_describing_reads_no_pixels(self, demo_server: DemoServer) -> None:
        demo_source(demo_server).describe(GAMI)
        assert demo_server.requests.count("forest_age/") == 0
        # The item; the metadata for the version and for the description; coordinates in 4 and 8 chunks, time twice
        # (once as an axis, once for users' functions), members and the grid mapping.
        assert demo_server.requests.count() <= 22

    def test_making_a_client_or_a_reader_asks_nothing(self, demo_server: DemoServer) -> None:
        client = demo_source(demo_server)
        native = client.describe(GENUS)
        demo_server.requests.clear()
        assert client.public_href(GENUS).endswith(GENUS)
        open_reader(pickle.loads(pickle.dumps(native)).location)
        demo_source(demo_server)
        assert demo_server.requests.count() == 0

    def test_chunks_outside_the_window_are_absent(self, demo_server: DemoServer) -> None:
        native = demo_source(demo_server).describe(GENUS)
        demo_server.requests.clear()
        assert read_chunk(open_reader(native.location), native.array("genus"), (0, 0)) is None
        assert [request.status for request in demo_server.requests.entries()] == [404]


class TestVersion:
    def test_a_mirror_has_the_same(self, demo_server: DemoServer) -> None:
        with DemoServer(catalogue=Catalogue()) as mirror:
            assert mirror.url != demo_server.url
            there, here = demo_source(mirror), demo_source(demo_server)
            assert there.probe(GAMI) == here.probe(GAMI)
            assert there.describe(GAMI).version == here.probe(GAMI)

    def test_it_changes_with_what_is_published(self, demo_server: DemoServer) -> None:
        client = demo_source(demo_server)
        gami, genus = client.probe(GAMI), client.probe(GENUS)
        demo_server.catalogue.publish("GAMI", 2)
        assert client.probe(GAMI) != gami
        assert client.probe(GENUS) == genus
        demo_server.catalogue.publish("GAMI", 1)
        assert client.probe(GAMI) == gami

    def test_it_changes_with_the_item_but_not_with_its_address(self, tmp_path: Path) -> None:
        write_store(forest(), tmp_path / "a.zarr")
        document = item("../a.zarr")
        client = source(str(write_catalogue(tmp_path, document)))
        before = client.probe(DATA_ID)
        document["links"][0]["href"] = "https://moved.example/forest.json"
        write_catalogue(tmp_path, document)
        assert client.probe(DATA_ID) == before
        document["properties"]["version"] = "2"
        write_catalogue(tmp_path, document)
        assert client.probe(DATA_ID) != before


def write_editions(folder: Path, *versions: str, links: list[dict[str, Any]] | None = None) -> Path:
    """A catalogue whose one collection has an item for each version, the first one with ``links`` of its own."""
    write_catalogue(folder, item("../a.zarr"))
    hrefs = [f"./{version}/{version}.json" for version in versions]
    collection = {
        "type": "Collection",
        "links": [{"rel": "item", "href": href} for href in hrefs] + [{"rel": "parent", "href": "../catalog.json"}],
    }
    (folder / "c").mkdir(exist_ok=True)
    (folder / "c/collection.json").write_text(json.dumps(collection), encoding="utf-8")
    usual = [{"rel": "collection", "href": "../collection.json"}, {"rel": "parent", "href": "../nowhere.json"}]
    for version, own in zip(versions, [links, *[None] * len(versions)], strict=False):
        (folder / "c" / version).mkdir(exist_ok=True)
        document = item("../../a.zarr", links=usual if own is None else own)
        (folder / f"c/{version}/{version}.json").write_text(json.dumps(document), encoding="utf-8")
    return folder / "catalog.json"


def edition(version: str) -> str:
    return f"c/{version}/{version}.json"


class TestEditions:
    def test_the_newest_is_the_last(self, tmp_path: Path, server: DemoServer) -> None:
        write_editions(tmp_path, "a_v3.9", "a_v4", "a_v3.8", "a_v3.10", "b_v5", "a_v3.9.1")
        newer = source(f"{server.url}/catalog.json").newer_editions(edition("a_v3.9"))
        assert newer == tuple(map(edition, ("a_v3.9.1", "a_v3.10", "a_v4")))
        asked = [request.path for request in server.requests.entries()]
        assert asked == ["/c/a_v3.9/a_v3.9.json", "/c/collection.json"]

    @pytest.mark.parametrize("form", ["path", "URL", "detour"])
    def test_on_disk(self, tmp_path: Path, form: str) -> None:
        path = write_editions(tmp_path / "a folder", "a_v1", "a_v2")
        (tmp_path / "b").mkdir()
        address = {"path": str(path), "URL": path.as_uri(), "detour": f"{tmp_path}/b/../a folder/catalog.json"}[form]
        assert source(address).newer_editions(edition("a_v1")) == (edition("a_v2"),)

    def test_a_rewritten_origin_on_disk(self, tmp_path: Path) -> None:
        write_editions(tmp_path, "a_v1", "a_v2")
        client = source("https://archive.example/catalog.json", {"https://archive.example": str(tmp_path)})
        assert client.newer_editions(edition("a_v1")) == (edition("a_v2"),)

    @pytest.mark.parametrize("form", ["{}/c/collection.json", "/c/collection.json", "s3://c/collection.json"])
    def test_absolute_links(self, tmp_path: Path, server: DemoServer, form: str) -> None:
        links = [{"rel": "collection", "href": form.format(server.url)}]
        write_editions(tmp_path, "a_v1", "a_v2", links=links)
        assert source(f"{server.url}/catalog.json").newer_editions(edition("a_v1")) == (edition("a_v2"),)

    def test_an_item_without_a_collection(self, tmp_path: Path) -> None:
        path = write_editions(tmp_path, "a_v1", "a_v2", links=[{"rel": "parent", "href": "../collection.json"}])
        assert source(str(path)).newer_editions(edition("a_v1")) == ()

    def test_a_collection_that_is_not_there(self, tmp_path: Path, server: DemoServer) -> None:
        write_editions(tmp_path, "a_v1", links=[{"rel": "collection", "href": "../other.json"}])
        for address in (str(tmp_path / "catalog.json"), f"{server.url}/catalog.json"):
            with pytest.raises(SourceFormatError, match=r"collection that isn't there.*c/other\.json"):
                source(address).newer_editions(edition("a_v1"))

    @pytest.mark.parametrize(
        "content",
        [b"", b"<html>", b"[]", b'{"type": "Collection"}', b'{"type": "Catalog", "links": []}']
        + [json.dumps({"type": "Collection", "links": links}).encode() for links in NO_LINKS],
    )
    def test_what_is_no_collection(self, tmp_path: Path, content: bytes) -> None:
        path = write_editions(tmp_path, "a_v1")
        (tmp_path / "c/collection.json").write_bytes(content)
        with pytest.raises(SourceFormatError, match=r"the collection of data_id 'c/a_v1/a_v1\.json' isn't"):
            source(str(path)).newer_editions(edition("a_v1"))

    @pytest.mark.parametrize("what", ["collection", "item"])
    def test_no_link_leads_to_files_of_this_machine(self, tmp_path: Path, server: DemoServer, what: str) -> None:
        stranger = f"file://{tmp_path}/c/collection.json"
        links = [{"rel": "collection", "href": stranger if what == "collection" else "../collection.json"}]
        write_editions(tmp_path, "a_v1", "a_v2", links=links)
        if what == "item":
            listed = {"type": "Collection", "links": [{"rel": "item", "href": stranger}]}
            (tmp_path / "c/collection.json").write_text(json.dumps(listed), encoding="utf-8")
        with pytest.raises(SourceFormatError, match=f"link '{what}' isn't an http"):
            source(f"{server.url}/catalog.json").newer_editions(edition("a_v1"))


class TestUnknownIds:
    def test_a_catalogue_that_cannot_be_listed_costs_one_attempt(self, demo_server: DemoServer) -> None:
        """The id is certainly wrong: names to suggest aren't worth the patience that pixels are."""
        patient = RetryPolicy(deadline=60, max_attempts=10, initial_wait=5, max_wait=30)
        demo_server.faults.add(Status(503), "catalog.json")
        started = time.monotonic()
        with pytest.raises(DataIdNotFoundError, match="has no data_id") as refused:
            demo_source(demo_server, patient).probe(GAMI.replace("3.1", "4.7"))
        assert time.monotonic() - started < 3
        assert "nearest" not in str(refused.value)
        assert [request.path.rpartition("/")[2] for request in demo_server.requests.entries()].count(
            "catalog.json"
        ) == 1

    def test_a_list_that_takes_long_is_cut(self, monkeypatch: pytest.MonkeyPatch) -> None:
        listed = []

        class Slow:
            def data_ids(self) -> Iterator[str]:
                for number in range(1000):
                    listed.append(number)
                    yield f"forest/{number}.json"

            def public_href(self, data_id: str) -> str:
                return f"https://h/{data_id}"

        clock = iter(range(0, 10_000, 3))
        monkeypatch.setattr("scs2_cubes.sources.missing.time.monotonic", lambda: float(next(clock)))
        error = unknown_data_id(cast("Source", Slow()), "s", "forest/2.jsn")
        assert 1 < len(listed) < 10
        assert "nearest: forest/2.json" in str(error)

    def test_the_nearest_ones_are_named(self, demo_server: DemoServer) -> None:
        with pytest.raises(DataIdNotFoundError) as refused:
            demo_source(demo_server).probe(GAMI.replace("3.1", "3.2"))
        assert GAMI in str(refused.value)
        assert GAMI.replace("3.1", "3.2") in str(refused.value)
        assert "'forests'" in str(refused.value)

    @pytest.mark.parametrize("fault", [Status(503), GarbledBody(), Status(403)], ids=["down", "garbled", "denied"])
    def test_also_where_the_catalogue_cannot_be_walked(self, demo_server: DemoServer, fault: Status) -> None:
        demo_server.faults.add(fault, "catalog.json")
        with pytest.raises(DataIdNotFoundError, match=r"no data_id 'nothing\.json'"):
            demo_source(demo_server).describe("nothing.json")

    def test_missing_store(self, tmp_path: Path) -> None:
        with pytest.raises(SourceFormatError, match="no Zarr group"):
            source(str(write_catalogue(tmp_path, item("../nothing.zarr")))).probe(DATA_ID)


class TestFaults:
    @pytest.mark.parametrize(
        ("fault", "error"),
        [
            (Status(403), AccessDeniedError),
            (Status(503), SourceUnavailableError),
            (CutBody(0.5), SourceUnavailableError),
            (GarbledBody(), SourceFormatError),
        ],
        ids=["denied", "down", "cut", "garbled"],
    )
    @pytest.mark.parametrize("where", ["catalog.json", "collection.json", "GAMI_v3.1.json"])
    def test_walking(self, demo_server: DemoServer, fault: Status, error: type[SourceError], where: str) -> None:
        demo_server.faults.add(fault, where)
        with pytest.raises(error) as failed:
            list(demo_source(demo_server).data_ids())
        assert demo_server.url in failed.value.url or ORIGIN in failed.value.url

    @pytest.mark.parametrize(
        ("fault", "error"),
        [
            (Status(403), AccessDeniedError),
            (Status(503), SourceUnavailableError),
            (CutBody(0.5), SourceUnavailableError),
            (GarbledBody(), SourceFormatError),
        ],
        ids=["denied", "down", "cut", "garbled"],
    )
    @pytest.mark.parametrize("where", ["GAMI_v3.1.json", ".zmetadata", "latitude/0"])
    def test_describing(self, demo_server: DemoServer, fault: Status, error: type[SourceError], where: str) -> None:
        demo_server.faults.add(fault, where)
        with pytest.raises(error) as failed:
            demo_source(demo_server).describe(GAMI)
        assert "GAMI_v3.1" in failed.value.url

    def test_bursts_pass(self, demo_server: DemoServer) -> None:
        demo_server.faults.add(Status(503), times=3)
        demo_server.faults.add(CutBody(0.3), "time/0", times=2)
        assert demo_source(demo_server).describe(GAMI).version

    def test_a_stopped_server(self, demo_server: DemoServer) -> None:
        client = demo_source(demo_server)
        demo_server.stop()
        with pytest.raises(SourceUnavailableError, match="4 attempts"):
            client.probe(GAMI)


class TestItems:
    def describe(self, folder: Path, document: dict[str, Any] | bytes) -> str:
        return source(str(write_catalogue(folder, document))).describe(DATA_ID).href

    @pytest.mark.parametrize("media_type", [ZARR_TYPE, "application/vnd+zarr", f"{ZARR_TYPE}; version=2", None])
    def test_media_types(self, tmp_path: Path, media_type: str | None) -> None:
        write_store(forest(), tmp_path / "a.zarr")
        assert self.describe(tmp_path, item("../a.zarr", media_type=media_type)).endswith("a.zarr")

    def test_the_asset_called_zarr_wins(self, tmp_path: Path) -> None:
        write_store(forest(), tmp_path / "a.zarr")
        assets: dict[str, Any] = {
            "old": {"href": "../old.zarr", "type": ZARR_TYPE},
            "zarr": {"href": "../a.zarr", "type": ZARR_TYPE},
            "picture": {"href": "../a.png", "type": "image/png"},
        }
        assert self.describe(tmp_path, item("", assets=assets)).endswith("a.zarr")

    def test_the_only_usable_one_wins(self, tmp_path: Path) -> None:
        write_store(forest(), tmp_path / "a.zarr")
        assets: dict[str, Any] = {
            "picture": {"href": "../a.png", "type": "image/png"},
            "data": {"href": "../a.zarr", "type": ZARR_TYPE},
        }
        assert self.describe(tmp_path, item("", assets=assets)).endswith("a.zarr")

    @pytest.mark.parametrize(
        ("assets", "message"),
        [
            ({}, "no Zarr asset; its assets: none"),
            ({"picture": {"href": "a.png", "type": "image/png"}}, r"no Zarr asset.*picture \(image/png\)"),
            ({"picture": {"href": "a.png", "type": None}}, "no Zarr asset"),
            (
                {name: {"href": f"{name}.zarr", "type": ZARR_TYPE} for name in ("one", "two")},
                "several Zarr assets.*one.*two",
            ),
            ({"zarr": {"type": ZARR_TYPE}}, "href"),
        ],
        ids=["none", "picture", "no type", "several", "no address"],
    )
    def test_without_an_asset_to_use(self, tmp_path: Path, assets: dict[str, Any], message: str) -> None:
        with pytest.raises(SourceFormatError, match=message):
            self.describe(tmp_path, item("", assets=assets))

    @pytest.mark.parametrize(
        "document",
        [b"", b"<html>", b"\xff\xfe", b"[]", b'{"type": "Catalog"}', b'{"type": "Feature", "id": "a"}']
        + [json.dumps(item("", assets=assets)).encode() for assets in NO_ASSETS]
        + [json.dumps(item("../a.zarr", links=links)).encode() for links in (None, ["a"])],
    )
    def test_what_is_no_item(self, tmp_path: Path, document: bytes) -> None:
        write_store(forest(), tmp_path / "a.zarr")
        with pytest.raises(SourceFormatError, match="forest"):
            self.describe(tmp_path, document)

    def test_absolute_paths_and_file_urls(self, tmp_path: Path) -> None:
        path = write_store(forest(), tmp_path / "a.zarr")
        assert self.describe(tmp_path, item(str(path))) == str(path)
        assert self.describe(tmp_path, item(path.as_uri())) == path.as_uri()

    def test_s3_addresses_are_read_from_the_host_of_the_catalogue(self, tmp_path: Path, server: DemoServer) -> None:
        write_store(forest(), tmp_path / "bucket" / "a.zarr")
        write_catalogue(tmp_path, item("s3://bucket/a.zarr"))
        native = source(f"{server.url}/catalog.json").describe(DATA_ID)
        assert native.location.url == f"{server.url}/bucket/a.zarr"

    def test_s3_addresses_are_rewritten_too(self, tmp_path: Path, server: DemoServer) -> None:
        write_store(forest(), tmp_path / "bucket" / "a.zarr")
        write_catalogue(tmp_path, item("s3://bucket/a.zarr"))
        original = source("https://archive.example/catalog.json", {"https://archive.example/": f"{server.url}/"})
        assert original.describe(DATA_ID).location.url == f"{server.url}/bucket/a.zarr"

    @pytest.mark.parametrize("href", ["../a.zarr", "./../a.zarr", "/a.zarr"])
    def test_relative_addresses_belong_to_the_item(self, tmp_path: Path, server: DemoServer, href: str) -> None:
        write_store(forest(), tmp_path / "a.zarr")
        write_catalogue(tmp_path, item(href))
        native = source(f"{server.url}/catalog.json").describe(DATA_ID)
        assert native.href == f"{server.url}/a.zarr"
        assert list(source(f"{server.url}/catalog.json").data_ids()) == [DATA_ID]


class TestLocalCatalogue:
    @pytest.mark.parametrize("form", ["path", "URL"])
    def test_everything_works_without_a_server(self, tmp_path: Path, form: str) -> None:
        folder = tmp_path / "a folder"
        dataset = forest()
        write_store(dataset, folder / "forest" / "a.zarr")
        path = write_catalogue(folder, item("./a.zarr"))
        client = source(str(path) if form == "path" else path.as_uri())
        assert list(client.data_ids()) == [DATA_ID]
        native = client.describe(DATA_ID)
        assert native.version == client.probe(DATA_ID)
        chunk = read_chunk(open_reader(native.location), native.array("age"), (0, 1))
        np.testing.assert_array_equal(chunk, dataset["age"][:32, 32:64])
        with pytest.raises(DataIdNotFoundError, match=f"nearest: {DATA_ID}"):
            client.probe("forest/forests.json")

    def test_a_rewritten_origin_on_disk(self, tmp_path: Path) -> None:
        write_store(forest(), tmp_path / "a.zarr")
        write_catalogue(tmp_path, item("https://archive.example/a.zarr"))
        client = source("https://archive.example/catalog.json", {"https://archive.example": str(tmp_path)})
        native = client.describe(DATA_ID)
        assert native.location.url == str(tmp_path / "a.zarr")
        assert native.href == "https://archive.example/a.zarr"


class TestRecorded:
    def test_the_real_catalogue(self, recorded: Path) -> None:
        """Its items' stores weren't recorded at their places, so one that was stands in."""
        folder = recorded / "eoforest"
        prefix = f"{ORIGIN}/dog.atlaseo-glm.eo-gridded-data/collections/"
        rewrites = {
            f"{prefix}GAMI/GAMI_v3.1.zarr": str(folder / "stores/gami.zarr"),
            prefix: f"{folder}/collections/",
        }
        client = source(f"{prefix}public/catalog.json", rewrites)
        native = client.describe(GAMI)
        assert native.href == f"{prefix}GAMI/GAMI_v3.1.zarr"
        assert native.array("forest_age").shape == (20, 300, 300, 2)
        assert native.provenance == {"stac_catalog_url": f"{prefix}public/catalog.json", "stac_item_id": "GAMI_v3.1"}
        assert native.version == client.probe(GAMI)


def test_a_protocol_that_nobody_speaks() -> None:
    with pytest.raises(ConfigurationError, match=r"'forests'.*'gopher'.*stac"):
        open_source(StoreSpec("forests", "gopher"))


def test_a_client_is_made_without_asking() -> None:
    assert isinstance(open_source(StoreSpec("forests", "stac", {"url": "https://nowhere.invalid/a.json"})), StacSource)
