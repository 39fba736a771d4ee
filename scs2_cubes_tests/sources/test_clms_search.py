"""What the service offers: ids, versions, pages, and what is said of ids that aren't there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scs2_cubes.core.specification import StoreSpec
from scs2_cubes.demo.answers import Answer
from scs2_cubes.demo.services import HttpRequest
from scs2_cubes.errors import ConfigurationError, DataIdNotFoundError, SourceFormatError, SourceUnavailableError
from scs2_cubes.sources import DescribedSource, open_described, open_source
from scs2_cubes.sources.clms import ClmsSource
from scs2_cubes_tests.sources.clms_worlds import (
    DATA_ID,
    FILE,
    FILE_ID,
    UID,
    Service,
    client,
    dataset,
    entry,
    json_answer,
    provided,
    serving,
)


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    with serving(made):
        yield made


class TestIds:
    def test_geotiffs_with_a_name_of_the_one_provider(self, service: Service) -> None:
        service.pages = [
            [
                dataset(
                    "a",
                    entry("one"),
                    entry("two", format={"title": "Geotiff", "token": "Geotiff"}),
                    entry("vector", format="GDB"),
                    entry(None),
                    entry(""),
                    entry("", format="", path="", size=""),
                ),
                dataset("b", entry("elsewhere"), dataset_download_information=provided("CDSE")),
                dataset("c", entry("nowhere"), dataset_download_information=provided(None)),
                dataset("d", entry("object"), dataset_download_information=provided({"title": "EEA", "token": "EEA"})),
                dataset("e", downloadable_files=None),
                dataset("f", entry("odd"), dataset_download_information={"items": []}),
            ]
        ]
        assert list(client(service).data_ids()) == ["a|one", "a|two", "d|object"]

    def test_pages_are_followed_to_the_last(self, service: Service) -> None:
        service.pages = [[dataset(f"p{page}", entry(f"f{page}"))] for page in range(4)]
        assert list(client(service).data_ids()) == ["p0|f0", "p1|f1", "p2|f2", "p3|f3"]
        assert service.count("@search") == 4

    def test_searching_needs_no_credentials(self, service: Service) -> None:
        params = {"api_url": f"{service.url}/api/", "credentials": "/nowhere/at/all.json"}
        source = ClmsSource.open(StoreSpec("clms", "clms", params))
        assert list(source.data_ids()) == [DATA_ID]
        assert source.probe(DATA_ID)
        assert all("authorization" not in request.headers for request in service.requests)
        first = service.requests[0]
        assert (first.path, first.query) == ("/clms/api/@search/", "portal_type=DataSet&fullobjects=1")
        assert first.headers["accept"] == "application/json"

    @pytest.mark.parametrize("back", ["b_start=0", "b_start=25"])
    def test_pages_in_a_circle(self, service: Service, back: str) -> None:
        onward = f"{service.url}/api/@search/?{back}"
        first = {"items": [], "batching": {"next": f"{service.url}/api/@search/?b_start=25"}}
        service.pages = [first, {"items": [], "batching": {"next": onward}}]
        with pytest.raises(SourceFormatError, match="doesn't come to an end"):
            list(client(service).data_ids())
        assert service.count("@search") <= 4

    def test_pages_without_end(self, service: Service) -> None:
        def bend(request: HttpRequest, _: Callable[[], Answer]) -> Answer:
            onward = f"{service.url}/api/@search/?b_start={len(service.requests)}"
            return json_answer(200, {"items": [], "batching": {"next": onward}})

        service.bend = bend
        with pytest.raises(SourceFormatError, match="doesn't come to an end"):
            list(client(service).data_ids())

    @pytest.mark.parametrize("onward", ["file:///etc/hostname", "ftp://host.example/", 7])
    def test_a_next_page_that_is_no_page(self, service: Service, onward: Any) -> None:
        service.pages = [{"items": [], "batching": {"next": onward}}]
        with pytest.raises(SourceFormatError, match=r"batching\.next"):
            list(client(service).data_ids())

    @pytest.mark.parametrize("page", [{}, {"items": None}, {"items": {}}, "text", b"<html>no</html>", b"\xff{}"])
    def test_what_is_no_page(self, service: Service, page: Any) -> None:
        service.pages = [page]
        with pytest.raises(SourceFormatError, match=r"JSON object|'items'"):
            list(client(service).data_ids())

    def test_a_burst_of_errors_passes(self, service: Service) -> None:
        def bend(request: HttpRequest, make: Callable[[], Answer]) -> Answer:
            return json_answer(503, {"msg": "later"}) if len(service.requests) < 3 else make()

        service.bend = bend
        assert list(client(service).data_ids()) == [DATA_ID]

    def test_the_service_says_why(self, service: Service) -> None:
        service.bend = lambda _, __: json_answer(500, {"status": "error", "msg": "Error, all\nrequests failed"})
        with pytest.raises(SourceUnavailableError, match="HTTP 500: Error, all requests failed"):
            list(client(service).data_ids())

    def test_recorded(self, service: Service, recorded: Path) -> None:
        """A real page, from before datasets had named files: its datasets are read, and offer nothing."""
        page = json.loads((recorded / "clms/search_page1.json").read_text(encoding="utf-8"))
        service.pages = [page["items"]]
        source = client(service)
        assert list(source.data_ids()) == []
        # The address' last part stands in for the short name, and LANDCOVER serves it.
        epoch = "copernicus-global-land-service-land-cover-100m-collection-3-epoch-2019-globe"
        with pytest.raises(DataIdNotFoundError, match="served by LANDCOVER"):
            source.find(f"{epoch}|something")
        with pytest.raises(DataIdNotFoundError, match=r"no data_id 'clc2018\|"):
            source.find("clc2018|something")


class TestFinding:
    @pytest.mark.parametrize("suffix", ["", ".zarr"])
    def test_what_an_order_needs(self, service: Service, suffix: str) -> None:
        service.pages = [[dataset("other", entry("x"))], [dataset()]]
        found = client(service).find(DATA_ID + suffix)
        assert (found.data_id, found.product, found.file) == (DATA_ID, "forest-type-2015", FILE)
        assert (found.dataset_uid, found.file_id, found.size) == (UID, FILE_ID, "1 MB")
        assert found.title == "Forest Type 2015"
        assert found.href == "https://land.example/api/en/products/forest-type-2015"
        assert found.version == client(service).probe(DATA_ID + suffix)

    @pytest.mark.parametrize("name", ["file", "path", "size", "version", "format", "resolution", "year"])
    def test_the_version_changes_with_content(self, service: Service, name: str) -> None:
        before = client(service).find(DATA_ID).version
        value = {"title": "Geotiff", "token": "Geotiff"} if name == "format" else "2"
        service.pages = [[dataset("forest-type-2015", {**entry(), name: value})]]
        after = client(service).find("forest-type-2015|2" if name == "file" else DATA_ID).version
        # The same word in another form is the same content.
        assert (after == before) == (name == "format")

    def test_the_version_stays_where_only_addresses_change(self, service: Service) -> None:
        before = client(service).probe(DATA_ID)
        moved = dataset("forest-type-2015", entry(file_id="another"), **{"@id": "https://moved.example/", "UID": "9"})
        service.pages = [[dataset("new", entry("new"))], [moved]]
        assert client(service).probe(DATA_ID) == before

    @pytest.mark.parametrize(
        ("wanted", "nearest"),
        [
            (f"forest-typ-2015|{FILE}", DATA_ID),
            ("forest-type-2015|FTY_2015_020m_eu_03035_d04_E30N2O", DATA_ID),
            ("forest-type-2015", DATA_ID),
            (f"forest-type-2015/{FILE}.zarr", DATA_ID),
        ],
    )
    def test_unknown_ids_and_the_nearest(self, service: Service, wanted: str, nearest: str) -> None:
        service.pages = [[dataset(), dataset("water", entry("WAW_2015"))]]
        with pytest.raises(DataIdNotFoundError) as missing:
            client(service).find(wanted)
        assert repr(wanted.removesuffix(".zarr")) in str(missing.value)
        assert f"nearest: {nearest}" in str(missing.value)
        assert "WAW_2015" not in str(missing.value)

    def test_a_dataset_that_somebody_else_serves(self, service: Service) -> None:
        service.pages = [[dataset("soil", entry("SWI"), title="Soil", dataset_download_information=provided("CDSE"))]]
        for wanted in ("soil|SWI", "soil|anything"):
            with pytest.raises(DataIdNotFoundError, match="'Soil' is served by CDSE; only files of EEA"):
                client(service).find(wanted)

    def test_a_file_in_another_format(self, service: Service) -> None:
        service.pages = [[dataset("a", entry("lines", format="GDB"), entry("one"))]]
        with pytest.raises(DataIdNotFoundError, match="offered as GDB"):
            client(service).find("a|lines")

    def test_one_id_for_two_files(self, service: Service) -> None:
        service.pages = [[dataset("a", entry("x"), entry("x", "other", version="V2"))]]
        with pytest.raises(SourceFormatError, match="2 different files"):
            client(service).find("a|x")
        service.pages = [[dataset("a", entry("x"), entry("x", "other"))]]
        assert client(service).find("a|x").file_id == FILE_ID

    @pytest.mark.parametrize("broken", [dataset(UID=""), dataset("forest-type-2015", entry(file_id=""))])
    def test_what_cannot_be_ordered(self, service: Service, broken: dict[str, Any]) -> None:
        service.pages = [[broken]]
        with pytest.raises(SourceFormatError, match="can't be ordered"):
            client(service).find(DATA_ID)


class TestSeam:
    def test_it_is_made_without_asking(self) -> None:
        source = open_source(StoreSpec("forests", "clms", {"api_url": "https://land.example/api/"}))
        assert isinstance(source, ClmsSource)
        assert source.url == "https://land.example/api"
        assert not isinstance(source, DescribedSource)

    def test_it_cannot_be_described_where_it_is(self) -> None:
        with pytest.raises(ConfigurationError, match=r"'forests'.*preload_datasets"):
            open_described(StoreSpec("forests", "clms", {"api_url": "https://land.example/api"}))
        assert open_described(StoreSpec("forests", "stac", {"url": "https://nowhere.invalid/a.json"}))

    @pytest.mark.parametrize("address", ["/a/folder", "file:///a", "land.copernicus.eu", 7, "", None])
    def test_an_address_that_is_none(self, address: Any) -> None:
        with pytest.raises(ConfigurationError, match=r"'forests'.*api_url"):
            open_source(StoreSpec("forests", "clms", {"api_url": address}))

    def test_for_people(self) -> None:
        source = open_source(StoreSpec("a", "clms", {"api_url": "https://u:hunter2@land.example/api?k=hunter2"}))
        assert source.public_href(DATA_ID).startswith("https://land.example/api")
        assert "forest-type-2015" in source.public_href(f"{DATA_ID}.zarr")
        assert "hunter2" not in source.public_href(DATA_ID)


class TestEditions:
    def test_deliveries_of_the_same_file(self, service: Service) -> None:
        later = [FILE.replace("d04", delivery) for delivery in ("d10", "d05")]
        others = [FILE.replace("2015", "2018"), FILE.replace("E30N20", "E30N30").replace("d04", "d05"), "d05"]
        service.pages = [
            [dataset("forest-type-2018", entry(later[0]))],
            [dataset("forest-type-2015", *(entry(file) for file in (later[0], FILE, *others, later[1])))],
            [dataset("behind", entry(FILE))],
        ]
        expected = (f"forest-type-2015|{later[1]}", f"forest-type-2015|{later[0]}")
        assert client(service).newer_editions(DATA_ID) == expected
        # What lies behind the dataset isn't asked for.
        assert service.count("@search") == 2

    def test_are_spelt_as_the_configuration_spells_the_id(self, service: Service) -> None:
        """Else what people are told to write would be another spelling than that of their file."""
        service.pages = [[dataset("forest-type-2015", entry(), entry(FILE.replace("d04", "d05")))]]
        newer = DATA_ID.replace("d04", "d05")
        assert client(service).newer_editions(DATA_ID) == (newer,)
        assert client(service).newer_editions(f"{DATA_ID}.zarr") == (f"{newer}.zarr",)

    def test_what_cannot_be_ordered_is_none(self, service: Service) -> None:
        later = entry(FILE.replace("d04", "d05"), format="GDB")
        service.pages = [[dataset("forest-type-2015", entry(), later)]]
        assert client(service).newer_editions(DATA_ID) == ()
