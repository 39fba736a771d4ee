from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from scs2_cubes.demo.server import DemoServer
from scs2_cubes.errors import ConfigurationError
from scs2_cubes_tests.demo.clms_client import JSON, all_items, item_of, request


@pytest.fixture(scope="module")
def api() -> Iterator[str]:
    with DemoServer() as running:
        yield running.clms.api_url


def page(api: str, query: str) -> dict[str, Any]:
    reply = request("GET", f"{api}/@search/?{query}", headers=JSON)
    assert reply.status_code == 200
    assert reply.headers["Content-Type"] == "application/json"
    document: dict[str, Any] = reply.json()
    return document


def test_pages_follow_each_other_until_the_last(api: str) -> None:
    first = page(api, "portal_type=DataSet&fullobjects=1")
    assert len(first["items"]) == 25
    assert first["items_total"] > 50
    assert "prev" not in first["batching"]
    assert first["batching"]["next"].startswith(f"{api}/@search/?")
    assert parse_qs(urlsplit(first["batching"]["next"]).query) == {
        "portal_type": ["DataSet"],
        "fullobjects": ["1"],
        "b_start": ["25"],
    }
    second = request("GET", first["batching"]["next"], headers=JSON).json()
    assert parse_qs(urlsplit(second["batching"]["prev"]).query)["b_start"] == ["0"]
    last = request("GET", first["batching"]["last"], headers=JSON).json()
    assert "next" not in last["batching"]
    items = all_items(api)
    assert len(items) == first["items_total"]
    assert len({item["UID"] for item in items}) == len(items)
    assert len({item["id"] for item in items}) == len(items)
    assert items[-len(last["items"]) :] == last["items"]


def test_the_size_of_a_page_can_be_chosen(api: str) -> None:
    ten = page(api, "b_size=10&b_start=20&fullobjects=1")
    assert [item["id"] for item in ten["items"]] == [item["id"] for item in all_items(api)[20:30]]
    following = parse_qs(urlsplit(ten["batching"]["next"]).query)
    assert (following["b_size"], following["b_start"]) == (["10"], ["30"])


def test_one_page_for_all_has_no_batching(api: str) -> None:
    everything = page(api, "b_size=1000")
    assert len(everything["items"]) == everything["items_total"]
    assert "batching" not in everything


@pytest.mark.parametrize("query", ["b_size=0", "b_size=-1", "b_start=x", f"b_start={'9' * 5000}"])
def test_pages_that_cannot_be(api: str, query: str) -> None:
    assert request("GET", f"{api}/@search?{query}", headers=JSON).status_code == 400


def test_nothing_but_data_sets_is_listed(api: str) -> None:
    assert page(api, "portal_type=News")["items"] == []


def test_the_light_form_has_only_what_was_asked_for(api: str) -> None:
    (item, *_) = page(api, "portal_type=DataSet&metadata_fields=UID&metadata_fields=downloadable_files")["items"]
    assert {"UID", "downloadable_files", "@id", "title"} <= set(item)
    assert not {"id", "dataset_download_information"} & set(item)


def test_the_data_set_of_the_demonstration_is_not_on_the_first_page(api: str) -> None:
    assert "forest-type-2015" not in [item["id"] for item in page(api, "fullobjects=1")["items"]]
    item = item_of(api, "forest-type-2015")
    assert re.fullmatch("[0-9a-f]{32}", item["UID"])
    assert item["coordinateReferenceSystemList"] == ["EPSG:3035"]
    assert item["temporalExtentStart"] == "2014-01-01"
    assert item["temporalExtentEnd"] == "2016-12-31"
    (box,) = item["geographicBoundingBox"]["items"]
    assert [float(box[side]) for side in ("west", "south", "east", "north")] == [-31.2684, 27.6375, 44.8212, 71.1855]
    assert item["dataset_download_information"]["items"][0]["full_source"] == "EEA"
    assert "clip" in item["description"]
    files = item["downloadable_files"]["items"]
    assert len({file["@id"] for file in files}) == len(files)
    assert set(files[0]) == {
        *("@id", "area", "file", "format", "path", "resolution", "size", "source", "title", "type", "version", "year")
    }


def test_the_irregularities_of_the_real_listing_are_there(api: str) -> None:
    items = all_items(api)
    files = [file for item in items for file in item["downloadable_files"]["items"]]
    downloads = [item["dataset_download_information"]["items"][0] for item in items]
    assert {download["full_source"] for download in downloads} == {"EEA", "CDSE"}
    assert {type(download["full_format"]) for download in downloads} == {str, dict}
    assert any("file" not in file and file["format"] == "Geotiff" for file in files)
    assert any(file.get("file") == file["format"] == file["path"] == "" for file in files)
    assert any(file["format"] == "Geotiff" and file.get("file") and not file["path"] for file in files)
    assert any(file["format"] not in {"Geotiff", ""} and file.get("file") for file in files)


def test_without_accepting_json_there_is_no_api(api: str) -> None:
    for accepted in ("text/html", "*/*"):
        reply = request("GET", f"{api}/@search", headers={"Accept": accepted})
        assert reply.status_code == 404
        assert "html" in reply.headers["Content-Type"]


def test_unknown_endpoints(api: str) -> None:
    for method, path in (("GET", "@elsewhere"), ("GET", "@datarequest_post"), ("POST", "@search")):
        assert request(method, f"{api}/{path}", headers=JSON).status_code == 404


def test_another_version_of_a_file_changes_nothing_else() -> None:
    with DemoServer() as server:
        api = server.clms.api_url
        name = "FTY_2015_020m_eu_03035_d04_E30N20"
        before = item_of(api, "forest-type-2015")["downloadable_files"]["items"]
        server.clms.publish(name, "V1_2")
        after = item_of(api, "forest-type-2015")["downloadable_files"]["items"]
        changed = [(one, other) for one, other in zip(before, after, strict=True) if one != other]
        assert changed == [(one, {**one, "version": "V1_2"}) for one in before if one["file"] == name]
        with pytest.raises(ConfigurationError, match="lists no file 'nothing'"):
            server.clms.publish("nothing")


def test_another_delivery_lies_beside_the_first_one() -> None:
    with DemoServer() as server:
        api = server.clms.api_url
        before = item_of(api, "forest-type-2015")["downloadable_files"]["items"]
        server.clms.publish_edition(5)
        after = item_of(api, "forest-type-2015")["downloadable_files"]["items"]
        assert after[: len(before)] == before
        expected = {file["file"].replace("d04", "d05") for file in before if "_d04_" in file["file"]}
        assert {file["file"] for file in after[len(before) :]} == expected
        assert len({file["@id"] for file in after}) == len(after)
        server.clms.publish_edition(5)
        assert item_of(api, "forest-type-2015")["downloadable_files"]["items"] == after
