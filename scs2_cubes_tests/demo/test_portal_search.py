"""The portal's search and documents, as a client meets them that asks step by step."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from typing import Any
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree as ET

import pytest

from scs2_cubes.demo.portal_archive import Portal
from scs2_cubes.demo.server import DemoServer
from scs2_cubes.errors import ConfigurationError
from scs2_cubes_tests.demo.conftest import Reply, ask

UUID = "95913ffb6467447ca72c4e9d8cf30501"
DRS_ID = "esacci.BIOMASS.yr.L4.AGB.multi-sensor.multi-platform.MERGED.6-0.100m"
COARSE = DRS_ID.replace("100m", "50000m")
YEARS = [2007, 2010, *range(2015, 2023)]
NAME = "ESACCI-BIOMASS-L4-AGB-MERGED-100m-{}-fv6.0.nc"
OS = "{http://a9.com/-/spec/opensearch/1.1/}"
PARAM = "{http://a9.com/-/spec/opensearch/extensions/parameters/1.0/}"
NS = {
    "gmd": "http://www.isotc211.org/2005/gmd",
    "gco": "http://www.isotc211.org/2005/gco",
    "gml": "http://www.opengis.net/gml/3.2",
}


def request(server: DemoServer, query: str, accept: str = "application/geo%2Bjson") -> Reply:
    return ask(server, f"/opensearch/request?{query}&httpAccept={accept}")


def find(server: DemoServer, query: str) -> dict[str, Any]:
    reply = request(server, query)
    assert reply.status == 200, reply.body
    assert reply.headers["Content-Type"] == "application/geo+json"
    found: dict[str, Any] = json.loads(reply.body)
    return found


def granules(server: DemoServer, query: str = "") -> dict[str, Any]:
    return find(server, f"parentIdentifier={UUID}&drsId={DRS_ID}&maximumRecords=1000{query}")


def names(found: dict[str, Any]) -> list[str]:
    return [feature["properties"]["title"] for feature in found["features"]]


def path_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def options(document: bytes) -> dict[str, dict[str, str]]:
    """Values and labels of every parameter that has options."""
    found: dict[str, dict[str, str]] = {}
    for parameter in ET.fromstring(document).findall(f"{OS}Url/{PARAM}Parameter"):
        for option in parameter.findall(f"{PARAM}Option"):
            found.setdefault(parameter.attrib["name"], {})[option.attrib["value"]] = option.attrib["label"]
    return found


def test_the_call_sequence_of_todays_client(shared_server: DemoServer) -> None:
    server = shared_server
    listed = options(ask(server, "/opensearch/description.xml?parentIdentifier=cci").body)["drsId"]
    assert listed == {DRS_ID: f"{DRS_ID} (10)", COARSE: f"{COARSE} (1)"}

    found = find(server, f"parentIdentifier=cci&drsId={DRS_ID}&startPage=1&maximumRecords=1000")
    assert (found["totalResults"], found["links"]) == (1, {})
    (collection,) = found["features"]
    assert collection["id"].endswith(f"uuid={UUID}")
    links = collection["properties"]["links"]

    facets = options(ask(server, path_of(links["search"][0]["href"])).body)
    assert list(facets["ecv"]) == ["BIOMASS"]
    assert any(DRS_ID.startswith(listed) for listed in facets["drsId"])

    iso = next(link["href"] for link in links["describedby"] if link["title"] == "ISO19115")
    record = ET.fromstring(ask(server, path_of(iso)).body)
    extent = "gmd:identificationInfo/gmd:MD_DataIdentification/gmd:extent/gmd:EX_Extent/"
    box = extent + "gmd:geographicElement/gmd:EX_GeographicBoundingBox/"
    sides = ("westBoundLongitude", "southBoundLatitude", "eastBoundLongitude", "northBoundLatitude")
    found_box = [float(record.findtext(f"{box}gmd:{side}/gco:Decimal", "", NS)) for side in sides]
    assert found_box == [-180, -60, 180, 80]
    period = extent + "gmd:temporalElement/gmd:EX_TemporalExtent/gmd:extent/gml:TimePeriod/"
    assert record.findtext(f"{period}gml:beginPosition", "", NS) == "2007-01-01T00:00:00"
    assert record.findtext(f"{period}gml:endPosition", "", NS) == "2022-12-31T23:59:59"
    identification = "gmd:identificationInfo/gmd:MD_DataIdentification/"
    for path in (
        "gmd:abstract/gco:CharacterString",
        "gmd:citation/gmd:CI_Citation/gmd:title/gco:CharacterString",
        "gmd:resourceConstraints/gmd:MD_Constraints/gmd:useLimitation/gco:CharacterString",
    ):
        assert record.findtext(identification + path, "", NS)

    manifest = next(link["href"] for link in links["via"] if link["title"] == "Dataset Manifest")
    assert json.loads(ask(server, path_of(manifest)).body)[DRS_ID] == [{"var_id": "agb"}, {"var_id": "agb_sd"}]

    probe = f"parentIdentifier={UUID}&drsId={DRS_ID}&startPage=1&maximumRecords=5&fileFormat="
    for suffix in (".shp", ".gz", ".tif"):
        nothing = find(server, probe + suffix)
        assert (nothing["features"], nothing["totalResults"], nothing["links"]) == ([], 0, {})
    sample = find(server, probe + ".nc")
    assert (sample["totalResults"], len(sample["features"])) == (10, 5)
    related = sample["features"][2]["properties"]["links"]["related"]
    opendap = path_of(next(link["href"] for link in related if link["title"] == "Opendap"))
    assert b"Grid" in ask(server, f"{opendap}.dds").body
    assert b"_FillValue -32768" in ask(server, f"{opendap}.das").body

    dated = granules(server, "&fileFormat=.nc&startPage=1&startDate=2007-01-01T00:00:00&endDate=2022-12-31T23:59:59")
    assert names(dated) == [NAME.format(year) for year in YEARS]
    assert ask(server, f"{opendap}.dods?lat[0:1:157499]").status == 200
    assert ask(server, f"{opendap}.dods?agb.agb[0:1:0][0:1:1874][0:1:1874]").status == 200


def test_an_unescaped_plus_is_understood(shared_server: DemoServer) -> None:
    assert request(shared_server, "parentIdentifier=cci", "application/geo+json").status == 200


def test_the_envelope(shared_server: DemoServer) -> None:
    found = granules(shared_server)
    assert {key: found[key] for key in ("type", "totalResults", "itemsPerPage", "startRecord", "startPage")} == {
        "type": "FeatureCollection",
        "totalResults": 10,
        "itemsPerPage": 1000,
        "startRecord": 1,
        "startPage": 1,
    }
    assert found["subtitle"] == "Showing 10 results (10 total)"
    assert found["queries"]["request"][0]["eo:parentIdentifier"] == UUID
    assert found["queries"]["request"][0]["count"] == "1000"


def test_a_granule_tells_what_clients_need(shared_server: DemoServer) -> None:
    properties = granules(shared_server)["features"][YEARS.index(2020)]["properties"]
    assert properties["title"] == NAME.format(2020)
    assert properties["date"] == "2020-01-01T00:00:00/2020-12-31T23:59:59"
    assert properties["filesize"] == 17_302_200_000
    date.fromisoformat(properties["updated"][:10])
    folder = "esacci/biomass/data/agb/maps/v6.0/netcdf"
    assert {link["title"]: link["href"] for link in properties["links"]["related"]} == {
        "Download": f"{shared_server.url}/thredds/fileServer/{folder}/{NAME.format(2020)}",
        "Opendap": f"{shared_server.url}/thredds/dodsC/{folder}/{NAME.format(2020)}",
    }


def test_the_next_link_is_there_once_more_than_it_should(shared_server: DemoServer) -> None:
    found = granules(shared_server)
    (following,) = found["links"]["next"]
    after = json.loads(ask(shared_server, path_of(following["href"])).body)
    assert (after["features"], after["links"], after["totalResults"]) == ([], {}, 10)


def pages(server: DemoServer, found: dict[str, Any]) -> Iterator[list[str]]:
    yield names(found)
    while "next" in found["links"]:
        found = json.loads(ask(server, path_of(found["links"]["next"][0]["href"])).body)
        yield names(found)


def test_following_next_gives_each_file_once(shared_server: DemoServer) -> None:
    found = find(shared_server, f"parentIdentifier={UUID}&drsId={DRS_ID}&maximumRecords=4")
    assert [len(page) for page in pages(shared_server, found)] == [4, 4, 2, 0]
    assert sum(pages(shared_server, found), []) == [NAME.format(year) for year in YEARS]  # noqa: RUF017 - four pages


def test_pages_by_number(shared_server: DemoServer) -> None:
    query = f"parentIdentifier={UUID}&drsId={DRS_ID}&maximumRecords=4&startPage="
    assert [len(names(find(shared_server, f"{query}{page}"))) for page in (1, 2, 3, 4)] == [4, 4, 2, 0]
    assert find(shared_server, f"{query}3")["startRecord"] == 9
    assert request(shared_server, f"{query}2501").status == 500
    assert request(shared_server, f"{query}0").status == 400
    assert len(find(shared_server, f"parentIdentifier={UUID}")["features"]) == 10, "of eleven"


@pytest.mark.parametrize(
    ("start", "end", "years"),
    [
        ("2016-01-01", "2017-06-01", [2016, 2017]),
        ("2015-12-31T23:59:59", "2016-01-01T00:00:00", [2015, 2016]),
        ("2008-01-01", "2009-12-31T23:59:59Z", []),
        ("2021-05-05", "", [2021, 2022]),
        ("", "2010-01-01", [2007, 2010]),
    ],
)
def test_dates_overlap(shared_server: DemoServer, start: str, end: str, years: list[int]) -> None:
    found = granules(shared_server, f"&startDate={quote(start)}&endDate={quote(end)}")
    assert names(found) == [NAME.format(year) for year in years]


def test_facets_are_exact_and_repeated_ones_alternatives(shared_server: DemoServer) -> None:
    base = f"parentIdentifier={UUID}&maximumRecords=50"
    assert find(shared_server, f"{base}&drsId={DRS_ID}&drsId={COARSE}")["totalResults"] == 11
    assert find(shared_server, f"{base}&drsId={DRS_ID[:-1]}")["totalResults"] == 0
    assert find(shared_server, f"{base}&ecv=BIOMASS&frequency=month")["totalResults"] == 0
    assert find(shared_server, "parentIdentifier=cci&drsId=nothing")["features"] == []
    assert find(shared_server, f"parentIdentifier=cci&uuid={UUID}")["totalResults"] == 1
    one = find(shared_server, base)["features"][3]
    assert find(shared_server, f"{base}&uuid={one['properties']['identifier']}")["features"] == [one]


def test_refusals(shared_server: DemoServer) -> None:
    assert request(shared_server, "parentIdentifier=nobody").status == 404
    assert request(shared_server, "parentIdentifier=cci", "text/html").status == 406
    assert ask(shared_server, "/opensearch/request?parentIdentifier=cci").status == 406
    assert request(shared_server, f"parentIdentifier={UUID}&startDate=soon").status == 400
    assert request(shared_server, f"parentIdentifier={UUID}&maximumRecords=-1").status == 400
    for path in (
        "/opensearch/description.xml?parentIdentifier=nobody",
        "/opensearch/nothing",
        "/manifest/nobody/manifest.json",
        "/export/xml/gemini2.3/nobody.xml",
        "/thredds/catalog.xml",
        "/thredds/fileServer/nothing.nc",
    ):
        assert ask(shared_server, path).status == 404, path
    assert ask(shared_server, "/opensearch/request", "POST").status == 405


def test_atom_names_the_same_files(shared_server: DemoServer) -> None:
    query = f"parentIdentifier={UUID}&drsId={DRS_ID}"
    feed = ET.fromstring(request(shared_server, query, "application/atom%2Bxml").body)
    atom = "{http://www.w3.org/2005/Atom}"
    titles = [entry.findtext(f"{atom}title") for entry in feed.iter(f"{atom}entry")]
    assert titles == [NAME.format(year) for year in YEARS]


def test_an_edition_is_told_by_date_and_size(server: DemoServer) -> None:
    first = granules(server)["features"]
    server.portal.publish(3, 2016)
    second = granules(server)["features"]
    changed = [before != after for before, after in zip(first, second, strict=True)]
    assert changed == [year == 2016 for year in YEARS]
    for key in ("updated", "filesize"):
        assert first[3]["properties"][key] < second[3]["properties"][key]
    server.portal.publish()
    assert granules(server)["features"][0] != first[0]
    server.portal.publish(1)
    assert granules(server)["features"] == first


def test_a_withdrawn_year_is_gone(server: DemoServer) -> None:
    opendap = granules(server)["features"][2]["properties"]["links"]["related"][1]["href"]
    server.portal.withdraw(2015)
    found = granules(server)
    assert found["totalResults"] == 9
    assert NAME.format(2015) not in names(found)
    assert ask(server, f"{path_of(opendap)}.dds").status == 404
    server.portal.restore()
    assert ask(server, f"{path_of(opendap)}.dds").status == 200


def test_what_the_portal_has_not_is_named() -> None:
    portal = Portal()
    with pytest.raises(ConfigurationError, match="counted from 1, not 0"):
        portal.publish(0)
    with pytest.raises(ConfigurationError, match="no year 2008, only 2007, 2010"):
        portal.publish(2, 2008)
    with pytest.raises(ConfigurationError, match="no year 2011"):
        portal.withdraw(2011)


class TestEditionsOfTheProduct:
    NEWER = DRS_ID.replace("6-0", "7-0")

    def test_a_collection_more(self, server: DemoServer) -> None:
        before = granules(server), find(server, f"parentIdentifier=cci&drsId={DRS_ID}")
        server.portal.publish_edition("7.0")
        listed = options(ask(server, "/opensearch/description.xml?parentIdentifier=cci").body)
        assert set(listed["drsId"]) == {DRS_ID, COARSE, self.NEWER, COARSE.replace("6-0", "7-0")}
        assert set(listed["productVersion"]) == {"6-0", "7-0"}
        assert list(listed["ecv"]) == ["BIOMASS"]
        assert (granules(server), find(server, f"parentIdentifier=cci&drsId={DRS_ID}")) == before
        both = find(server, "parentIdentifier=cci&ecv=BIOMASS")
        assert [one["properties"]["title"][-4:] for one in both["features"]] == ["v6.0", "v7.0"]
        pages = [find(server, f"parentIdentifier=cci&maximumRecords=1&startPage={page}") for page in (1, 2, 3)]
        assert [len(page["features"]) for page in pages] == [1, 1, 0]

    def test_the_call_sequence_leads_to_its_files(self, server: DemoServer) -> None:
        server.portal.publish_edition("7.0")
        (collection,) = find(server, f"parentIdentifier=cci&drsId={self.NEWER}")["features"]
        uuid, links = collection["properties"]["identifier"], collection["properties"]["links"]
        assert uuid != UUID
        facets = options(ask(server, path_of(links["search"][0]["href"])).body)
        assert set(facets["drsId"]) == {self.NEWER, COARSE.replace("6-0", "7-0")}
        assert uuid.encode() in ask(server, path_of(links["describedby"][0]["href"])).body
        assert self.NEWER in json.loads(ask(server, path_of(links["via"][0]["href"])).body)
        found = find(server, f"parentIdentifier={uuid}&drsId={self.NEWER}&maximumRecords=100")
        assert names(found) == [NAME.replace("6.0", "7.0").format(year) for year in YEARS]
        assert not set(names(found)) & set(names(granules(server)))
        opendap = path_of(found["features"][0]["properties"]["links"]["related"][1]["href"])
        assert "/v7.0/" in opendap
        assert b'product_version "7.0"' in ask(server, f"{opendap}.das").body
        window = "agb.agb[0:1:0][39900:1:39903][201400:1:201403]"
        assert ask(server, f"{opendap}.dods?{window}").status == 200
        assert find(server, f"parentIdentifier={UUID}&drsId={self.NEWER}")["features"] == []

    def test_publishing_content_is_another_thing(self, server: DemoServer) -> None:
        server.portal.publish_edition("7.0")
        uuid = find(server, f"parentIdentifier=cci&drsId={self.NEWER}")["features"][0]["properties"]["identifier"]
        before = find(server, f"parentIdentifier={uuid}&maximumRecords=100")["features"]
        server.portal.publish(3)
        server.portal.withdraw(2015)
        assert find(server, f"parentIdentifier={uuid}&maximumRecords=100")["features"] == before
        assert len(before) == 11

    @pytest.mark.parametrize("version", ["6.0", "v7", "", "7."])
    def test_what_cannot_be_one(self, version: str) -> None:
        with pytest.raises(ConfigurationError, match=r"numbers with dots between them, and there are 6\.0 already"):
            Portal().publish_edition(version)
