from __future__ import annotations

import json
import pickle
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scs2_cubes.core.grid import Window
from scs2_cubes.core.specification import StoreSpec
from scs2_cubes.demo.faults import Delay, GarbledBody, Status
from scs2_cubes.demo.server import DemoServer
from scs2_cubes.errors import (
    ConfigurationError,
    DataIdNotFoundError,
    GridError,
    SourceFormatError,
    SourceUnavailableError,
)
from scs2_cubes.sources.base import DescribedSource
from scs2_cubes.sources.esa_cci import EsaCciSource, listing_version
from scs2_cubes_tests.sources.dap_worlds import (
    DATA_ID,
    ORIGIN,
    OTHER_ID,
    SEARCH,
    UUID,
    HandFile,
    HandPortal,
    HandService,
    Variable,
    axis,
    biomass_file,
    description,
    granule,
    hand_server,
)
from scs2_cubes_tests.sources.worlds import QUICK

YEARS = (2007, 2010, 2016)


@dataclass
class World:
    server: DemoServer
    service: HandService
    portal: HandPortal

    def source(self, **params: Any) -> EsaCciSource:
        defaults = {
            "endpoint_url": f"{ORIGIN}{SEARCH}",
            "endpoint_description_url": f"{ORIGIN}/opensearch/description.xml",
            "max_connections": 4,
        }
        store = StoreSpec("cci", "cciodp", defaults | params, ((ORIGIN, self.server.url),), QUICK)
        return EsaCciSource.open(store)

    def put(self, year: int, file: HandFile) -> None:
        self.service.put_file(f"/thredds/dodsC/ESACCI-BIOMASS-L4-AGB-MERGED-100m-{year}-fv6.0.nc", file)

    def asked(self, part: str) -> list[str]:
        return [query for query in self.service.asked if part in query]


@pytest.fixture
def world() -> Iterator[World]:
    # The portal lists by folder and name, so not in the order of time.
    with hand_server() as (server, service):
        made = World(server, service, HandPortal(service, server.url, [granule(year) for year in (2016, 2007, 2010)]))
        for year in YEARS:
            made.put(year, biomass_file(year=year, rows=50, cols=75))
        yield made


class TestListing:
    def test_data_ids(self, world: World) -> None:
        assert list(world.source().data_ids()) == [DATA_ID, OTHER_ID]
        assert isinstance(world.source(), DescribedSource)

    def test_one_data_id(self, world: World) -> None:
        world.service.documents["/opensearch/description.xml"] = description(DATA_ID)
        assert list(world.source().data_ids()) == [DATA_ID]

    def test_the_description_has_an_address_of_its_own(self, world: World) -> None:
        world.service.documents["/elsewhere.xml"] = description(OTHER_ID)
        assert list(world.source(endpoint_description_url=f"{ORIGIN}/elsewhere.xml").data_ids()) == [OTHER_ID]

    @pytest.mark.parametrize("document", [b"no xml", b"<a/>", description()])
    def test_another_description(self, world: World, document: bytes) -> None:
        world.service.documents["/opensearch/description.xml"] = document
        with pytest.raises(SourceFormatError, match="description"):
            list(world.source().data_ids())

    def test_newer_editions(self, world: World) -> None:
        newer = [DATA_ID.replace("6-0", version) for version in ("6-1", "10-0")]
        others = [OTHER_ID.replace("6-0", "7-0"), DATA_ID.replace("6-0", "5-01"), DATA_ID.replace("yr", "mon")]
        world.service.documents["/opensearch/description.xml"] = description(newer[1], *others, DATA_ID, newer[0])
        assert world.source().newer_editions(DATA_ID) == tuple(newer)
        assert world.source().newer_editions(f"{DATA_ID}~dodsC") == tuple(f"{one}~dodsC" for one in newer)
        assert len(world.service.asked) == 2

    def test_newer_editions_of_what_the_description_leaves_out(self, world: World) -> None:
        newer = DATA_ID.replace("6-0", "7-0")
        world.service.documents["/opensearch/description.xml"] = description(newer)
        assert world.source().newer_editions(DATA_ID) == (newer,)
        assert len(world.service.asked) == 2
        with pytest.raises(DataIdNotFoundError, match="nearest"):
            world.source().newer_editions(DATA_ID.replace("6-0", "8-0"))
        with pytest.raises(DataIdNotFoundError, match="isn't of the portal's form"):
            world.source().newer_editions("forest")

    def test_steps_in_the_order_of_time(self, world: World) -> None:
        granules = world.source().granules(DATA_ID)
        # The middle of each year, as observed of the real portal's users: half a day later in leap years.
        assert [item.stamp for item in granules] == [
            "2007-07-02T11:59:59",
            "2010-07-02T11:59:59",
            "2016-07-01T23:59:59",
        ]
        first = granules[0]
        name = "ESACCI-BIOMASS-L4-AGB-MERGED-100m-2007-fv6.0.nc"
        assert (first.name, first.start, first.end) == (name, "2007-01-01T00:00:00", "2007-12-31T23:59:59")
        assert (first.size, first.updated, first.step) == (17_000_002_007, "2025-04-17T00:00:00", 0)
        assert first.opendap_href == f"{ORIGIN}/thredds/dodsC/{name}"
        assert first.download_href == f"{ORIGIN}/thredds/fileServer/{name}"

    def test_no_step_without_need(self, world: World) -> None:
        world.source().probe(DATA_ID)
        # The first page is complete, so its link isn't followed.
        assert len(world.service.asked) == 2

    @pytest.mark.parametrize("count", [999, 1000, 1001, 2000, 2345])
    @pytest.mark.parametrize("total", ["honest", None])
    def test_pages(self, world: World, count: int, total: Any) -> None:
        world.portal.entries = [
            granule(2000, identifier=f"d{day}", title=f"{day}.nc", date=f"{day:04d}-01-01/{day:04d}-12-31")
            for day in range(count, 0, -1)
        ]
        world.portal.total = total
        granules = world.source().catalogue.granules(UUID, DATA_ID)
        assert [item.name for item in granules] == [f"{day}.nc" for day in range(1, count + 1)]

    def test_a_total_that_is_capped(self, world: World) -> None:
        # Search engines stop counting somewhere.
        world.portal.entries = [granule(2000, identifier=f"d{number}") for number in range(1500)]
        world.portal.total = 1000
        assert len(world.source().catalogue.granules(UUID, DATA_ID)) == 1500

    def test_a_smaller_page_than_asked_for(self, world: World) -> None:
        world.portal.page_size = 2
        assert len(world.source().granules(DATA_ID)) == 3

    @pytest.mark.parametrize("scheme", ["file://", "ftp://host.test"])
    def test_no_page_is_read_from_this_machine(self, world: World, tmp_path: Path, scheme: str) -> None:
        stolen = tmp_path / "page.json"
        stolen.write_text(json.dumps({"features": [granule(2011)], "totalResults": 4}), encoding="utf-8")
        links = {"next": [{"href": f"{scheme}{stolen}"}]}
        usual = world.portal.search

        def search(query: str) -> tuple[int, bytes]:
            status, body = usual(query)
            page = json.loads(body)
            return status, json.dumps(
                page if "parentIdentifier=cci" in query else page | {"links": links, "totalResults": 4}
            ).encode()

        world.service.documents[SEARCH] = search
        with pytest.raises(SourceFormatError, match=r"'next'.*isn't an http\(s\) address"):
            world.source().probe(DATA_ID)

    def test_an_entry_that_is_listed_twice(self, world: World) -> None:
        version = world.source().probe(DATA_ID)
        world.portal.entries.append(granule(2010))
        assert world.source().probe(DATA_ID) == version
        world.portal.entries.append(granule(2010, updated="2026-01-01T00:00:00"))
        world.portal.entries.append(granule(2010))
        assert [item.updated[:4] for item in world.source().granules(DATA_ID)] == ["2025", "2026", "2025"]

    def test_a_list_that_ends_too_early(self, world: World) -> None:
        world.portal.total = 4
        with pytest.raises(SourceFormatError, match="3 entries are listed of 4"):
            world.source().probe(DATA_ID)

    def test_two_files_of_one_year(self, world: World) -> None:
        links = {"related": [{"title": "Opendap", "href": f"{ORIGIN}/other/2010.nc"}]}
        world.portal.entries.append(granule(2010, identifier="other", title="other-2010.nc", links=links))
        with pytest.raises(SourceFormatError, match=r"other-2010\.nc.*2010-07-02T11:59:59.*~"):
            world.source().granules(DATA_ID)
        assert len(world.source().granules(f"{DATA_ID}~dodsC")) == 3
        with pytest.raises(DataIdNotFoundError, match="none of its 4 NetCDF files has 'nowhere'"):
            world.source().granules(f"{DATA_ID}~nowhere")

    def test_dates_with_zones_and_fractions(self, world: World) -> None:
        dates = ("2007-01-01T00:00:00Z/2007-12-31T23:59:59.999999Z", "2010-01-01/2010-12-31", None)
        world.portal.entries = [granule(year, date=date) for year, date in zip(YEARS, dates, strict=True)]
        granules = world.source().granules(DATA_ID)
        assert [item.stamp for item in granules] == [
            "2007-07-02T11:59:59",
            "2010-07-02T00:00:00",
            "2016-07-01T23:59:59",
        ]

    @pytest.mark.parametrize(
        "changes",
        [
            {"date": "2010"},
            {"date": "2010-01-01/2010-13-01"},
            {"date": "2010-12-31/2010-01-01"},
            {"date": "a/b"},
            {"date": None, "title": "2010-2012.nc"},
            {"date": None, "title": "biomass.nc"},
            {"title": None},
            {"title": 3},
        ],
    )
    def test_an_entry_that_is_none(self, world: World, changes: dict[str, Any]) -> None:
        world.portal.entries.append(granule(2011, **changes))
        with pytest.raises(SourceFormatError, match=r"date|title"):
            world.source().probe(DATA_ID)

    @pytest.mark.parametrize("document", [b"<html/>", b"[]", b"{}", b'{"features": 3}', b'{"features": [3]}', b"\xff"])
    def test_another_catalogue(self, world: World, document: bytes) -> None:
        world.service.documents[SEARCH] = document
        with pytest.raises(SourceFormatError, match="the answer to a search") as refused:
            world.source().probe(DATA_ID)
        assert refused.value.url.startswith(f"{ORIGIN}{SEARCH}")

    def test_files_without_opendap(self, world: World) -> None:
        download = {"related": [{"title": "Download", "href": f"{ORIGIN}/x.nc"}]}
        world.portal.entries[0] = granule(2016, links=download)
        with pytest.raises(SourceFormatError, match=r"no OPeNDAP address for .*2016.*1 of 3"):
            world.source().describe(DATA_ID)
        world.portal.entries = [granule(year, links=download) for year in YEARS]
        with pytest.raises(SourceFormatError, match="none of its 3 files"):
            world.source().granules(DATA_ID)

    def test_a_collection_without_files(self, world: World) -> None:
        world.portal.entries = []
        with pytest.raises(DataIdNotFoundError, match="no NetCDF files"):
            world.source().probe(DATA_ID)


class TestIds:
    def test_unknown(self, world: World) -> None:
        with pytest.raises(DataIdNotFoundError, match=rf"nearest: {DATA_ID}") as refused:
            world.source().describe(DATA_ID.replace("6-0", "7-0"))
        assert "7-0" in str(refused.value)
        assert not world.asked("dodsC")

    def test_unknown_where_nothing_can_be_listed(self, world: World) -> None:
        del world.service.documents["/opensearch/description.xml"]
        with pytest.raises(DataIdNotFoundError, match="has no data_id"):
            world.source().probe(OTHER_ID)

    @pytest.mark.parametrize(
        ("data_id", "problem"),
        [
            ("biomass", "it has 1 parts"),
            (DATA_ID.removesuffix(".100m"), "it has 9 parts"),
            (DATA_ID.replace("6-0", "6.0"), "it has 11 parts"),
            (DATA_ID.replace("esacci", "esa"), "first part is 'esa'"),
            (DATA_ID.replace(".L4.", ".."), "without processing level"),
        ],
    )
    def test_malformed(self, world: World, data_id: str, problem: str) -> None:
        for ask in (world.source().probe, world.source().describe, world.source().granules):
            with pytest.raises(DataIdNotFoundError, match=problem):
                ask(data_id)
        assert not world.service.asked

    def test_public_address(self, world: World) -> None:
        href = world.source(endpoint_url="https://me:secret@portal.test/request?key=1").public_href(f"{DATA_ID}~2010")
        assert href == (
            f"https://portal.test/request?parentIdentifier=cci&drsId={DATA_ID}&httpAccept=application%2Fgeo%2Bjson"
        )

    def test_a_wrong_search_address(self, world: World) -> None:
        with pytest.raises(DataIdNotFoundError, match="search address"):
            world.source(endpoint_url=f"{ORIGIN}/nowhere").probe(DATA_ID)


class TestVersion:
    @pytest.mark.parametrize(
        "changes",
        [{"filesize": 1}, {"updated": "2026-01-01"}, {"date": "2010-01-01/2010-12-30"}, {"title": "other.nc"}],
    )
    def test_changes_with_the_list(self, world: World, changes: dict[str, Any]) -> None:
        before = world.source().probe(DATA_ID)
        world.portal.entries[2] = granule(2010, **changes)
        assert world.source().probe(DATA_ID) != before

    def test_a_missing_year(self, world: World) -> None:
        before = world.source().probe(DATA_ID)
        del world.portal.entries[1]
        assert world.source().probe(DATA_ID) != before

    def test_addresses_and_order_do_not_count(self, world: World) -> None:
        before = world.source().probe(DATA_ID)
        links = {"related": [{"title": "Opendap", "href": f"{ORIGIN}/moved/2010.nc"}]}
        world.portal.entries[2] = granule(2010, links=links)
        world.portal.entries.reverse()
        assert world.source().probe(DATA_ID) == before

    def test_is_that_of_the_description_and_of_the_steps(self, world: World) -> None:
        source = world.source()
        version = source.probe(DATA_ID)
        assert source.describe(DATA_ID).version == version
        assert listing_version(source.granules(DATA_ID)) == version


class TestDescription:
    def test_arrays(self, world: World) -> None:
        native = world.source().describe(DATA_ID)
        assert [array.name for array in native.arrays] == ["agb", "agb_sd"]
        array = native.array("agb")
        assert array.dims == ("time", "lat", "lon")
        assert array.shape == (3, 50, 75)
        assert array.chunks == (1, 50, 75)
        assert (array.dtype, array.fill, array.scale, array.offset) == ("int16", -32768.0, 1.0, 0.0)
        assert array.attrs == {"units": "Mg/ha"}
        assert array.encoding == {"_FillValue": -32768}
        assert native.time_dim == "time"
        assert native.times == ("2007-07-02T11:59:59", "2010-07-02T11:59:59", "2016-07-01T23:59:59")
        assert native.attrs == {"title": 'Biomass, "all" of it'}
        assert (
            native.location.url == f"{world.server.url}/thredds/dodsC/ESACCI-BIOMASS-L4-AGB-MERGED-100m-2007-fv6.0.nc"
        )
        assert native.href.startswith(f"{ORIGIN}{SEARCH}?")
        crs = next(item for item in native.coordinates if item.name == "crs")
        assert crs.attrs == {"grid_mapping_name": "latitude_longitude"}
        # Coordinates by one request, and nothing of the arrays.
        assert len(world.asked(".dods?")) == 1
        assert not world.asked("agb.agb")

    def test_large_arrays_have_chunks_of_512(self, world: World) -> None:
        world.put(2007, biomass_file(rows=600, cols=525))
        assert world.source().describe(DATA_ID).array("agb").chunks == (1, 512, 512)

    @pytest.mark.parametrize("edges", [False, True])
    def test_centres_and_edges(self, world: World, edges: bool) -> None:
        world.put(2007, biomass_file(rows=50, cols=75, edges=edges))
        native = world.source().describe(DATA_ID)
        assert native.lattice.bbox == pytest.approx((-180, 78, -177, 80), abs=1e-9)
        assert native.lattice.dy == pytest.approx(-0.04)
        assert native.lattice.crs == "EPSG:4326"
        assert native.provenance.get("source_coordinates", "") == (
            "edges of cells, not centres: lat, lon" if edges else ""
        )

    def test_edges_of_the_far_side(self, world: World) -> None:
        file = biomass_file(rows=50, cols=75, edges=True)
        file.variables["lat"].values = axis(79.96, -0.04, 50)
        world.put(2007, file)
        assert world.source().describe(DATA_ID).lattice.bbox == pytest.approx((-180, 78, -177, 80), abs=1e-9)

    def test_ascending_latitudes(self, world: World) -> None:
        world.put(2007, biomass_file(rows=50, cols=75, ascending=True))
        lattice = world.source().describe(DATA_ID).lattice
        assert lattice.dy == pytest.approx(0.04)
        assert lattice.y_origin == pytest.approx(78)

    def test_a_header_with_twelve_digits(self, world: World) -> None:
        step = 0.00088888888888
        file = biomass_file(rows=4, cols=6)
        file.variables["lat"].values = axis(80, -step, 15750)
        file.variables["lon"].values = axis(-180, step, 40500)
        for name in ("agb", "agb_sd"):
            file.variables[name].values = np.broadcast_to(np.int16(0), (1, 15750, 40500))
        world.put(2007, file)
        assert world.source().describe(DATA_ID).lattice.bbox == pytest.approx((-180, 66, -144, 80), abs=1e-6)

    def test_centres_that_meet_no_whole_degree(self, world: World) -> None:
        file = biomass_file(rows=33, cols=41)
        world.put(2007, file)
        native = world.source().describe(DATA_ID)
        np.testing.assert_allclose(native.lattice.y_centres(), file.variables["lat"].values)

    def test_coarse_coordinates_are_centres(self, world: World) -> None:
        file = biomass_file(rows=10, cols=10)
        file.variables["lat"].values, file.variables["lon"].values = axis(80, -0.5, 10), axis(-180, 0.5, 10)
        world.put(2007, file)
        assert world.source().describe(DATA_ID).lattice.bbox == pytest.approx((-180.25, 75.25, -175.25, 80.25))

    @pytest.mark.parametrize(("shift", "south"), [(0.0, 75.5), (-0.25, 75.25)])
    def test_bounds_say_it(self, world: World, shift: float, south: float) -> None:
        file = biomass_file(rows=9, cols=10)
        lat = axis(80, -0.5, 9)
        bounds = np.stack([lat + 0.25 + shift, lat - 0.25 + shift], axis=1)
        file.variables["lat"] = Variable("Float64", ("lat",), lat, {"bounds": 'String "lat_bnds"'})
        file.variables["lat_bnds"] = Variable("Float64", ("lat", "nv"), bounds)
        file.variables["lon"].values = axis(-180, 0.5, 10)
        world.put(2007, file)
        lattice = world.source().describe(DATA_ID).lattice
        assert lattice.bbox[1] == pytest.approx(south + 0.25)

    def test_bounds_that_fit_nothing(self, world: World) -> None:
        file = biomass_file(rows=9, cols=10)
        lat = file.variables["lat"].values
        file.variables["lat_bnds"] = Variable("Float64", ("lat", "nv"), np.stack([lat + 3, lat + 4], axis=1))
        world.put(2007, file)
        with pytest.raises(SourceFormatError, match="bounds of lat's first cell"):
            world.source().describe(DATA_ID)

    def test_uneven_coordinates(self, world: World) -> None:
        file = biomass_file()
        file.variables["lat"].values = file.variables["lat"].values ** 2
        world.put(2007, file)
        with pytest.raises(SourceFormatError, match="evenly"):
            world.source().describe(DATA_ID)

    def test_the_crs_of_the_grid_mapping(self, world: World) -> None:
        wkt = (
            'GEOGCS[\\"WGS 84\\",DATUM[\\"WGS_1984\\",SPHEROID[\\"WGS 84\\",6378137,298.257223563]],'
            'PRIMEM[\\"Greenwich\\",0],UNIT[\\"degree\\",0.0174532925199433],AUTHORITY[\\"EPSG\\",\\"4326\\"]]'
        )
        file = biomass_file()
        file.variables["crs"].attrs["crs_wkt"] = f'String "{wkt}"'
        file.variables["agb"].attrs["grid_mapping"] = 'String "crs"'
        world.put(2007, file)
        native = world.source().describe(DATA_ID)
        assert native.lattice.crs == "EPSG:4326"
        assert native.array("agb").encoding["grid_mapping"] == "crs"

    def test_fill_values(self, world: World) -> None:
        file = biomass_file()
        byte = Variable("Byte", ("lat", "lon"), np.zeros((30, 40), "uint8"), {"_FillValue": "Byte -1"})
        file.variables["quality"] = byte
        file.variables["scaled"] = Variable(
            "Int16", ("lat", "lon"), np.zeros((30, 40), "int16"),
            {"scale_factor": "Float64 0.5", "add_offset": "Float64 2.0"},
        )  # fmt: skip
        world.put(2007, file)
        native = world.source().describe(DATA_ID)
        assert native.array("quality").fill == 255
        scaled = native.array("scaled")
        assert (scaled.fill, scaled.scale, scaled.offset) == (None, 0.5, 2.0)
        assert scaled.shape == (3, 30, 40)
        file.variables["quality"].attrs["_FillValue"] = 'String "none"'
        world.put(2007, file)
        with pytest.raises(SourceFormatError, match="quality is 'none'"):
            world.source().describe(DATA_ID)

    @pytest.mark.parametrize("missing", ["lat", "agb"])
    def test_files_that_cannot_be_used(self, world: World, missing: str) -> None:
        file = biomass_file(grid=False)
        for name in {missing, "agb_sd"}:
            del file.variables[name]
        world.put(2007, file)
        with pytest.raises(SourceFormatError, match="lat"):
            world.source().describe(DATA_ID)


class TestTime:
    """What a file says of time, however it says it, means the same in the description and for the steps."""

    def put(self, world: World, time: Variable) -> None:
        for year in YEARS:
            file = biomass_file(year=year, rows=50, cols=75)
            for name in ("agb", "agb_sd"):
                known = file.variables[name]
                file.variables[name] = Variable("Int16", ("lat", "lon"), known.values[0], known.attrs)
            file.variables["time"] = time
            world.put(year, file)

    @pytest.mark.parametrize(
        "time",
        [
            Variable("Float64", (), np.array(7305.0), {"units": 'String "days since 1990-01-01"'}),
            Variable("Float64", ("time",), np.array([7305.0, 7400, 7500]), {"units": 'String "days since 1990-01-01"'}),
        ],
        ids=["scalar", "axis that the arrays don't have"],
    )
    def test_beside_arrays_without_it(self, world: World, time: Variable) -> None:
        self.put(world, time)
        source = world.source()
        native, granules = source.describe(DATA_ID), source.granules(DATA_ID)
        assert native.times == tuple(item.stamp for item in granules)
        assert native.array("agb").shape == (3, 50, 75)
        assert [coordinate.name for coordinate in native.coordinates] == ["time", "crs"]
        assert source.described(DATA_ID) == (native, granules)

    def test_both_from_one_listing(self, world: World) -> None:
        source = world.source()
        _, granules = source.described(DATA_ID)
        assert len(world.asked(SEARCH)) == 2
        assert len(world.asked(".dds")) == 1
        assert granules == source.granules(DATA_ID)


class TestParameters:
    @pytest.mark.parametrize("name", ["endpoint_url", "endpoint_description_url", "max_connections"])
    def test_none_has_a_default_here(self, world: World, name: str) -> None:
        with pytest.raises(ConfigurationError, match=rf"'cci'.*store_params\.{name}"):
            world.source(**{name: None})


class TestFilesWithSeveralSteps:
    @pytest.fixture
    def steps(self, world: World) -> World:
        file = biomass_file(rows=6, cols=7)
        days = [7305.0, 7670.0, 8035.0]
        file.variables["time"].values = np.array(days)
        file.variables["agb"].values = np.arange(3 * 42).reshape(3, 6, 7).astype("int16")
        del file.variables["agb_sd"]
        world.put(2010, file)
        world.portal.entries = [granule(2010, date="2010-01-01/2012-12-31")]
        return world

    def test_have_the_file_s_time(self, steps: World) -> None:
        source = steps.source()
        native = source.describe(DATA_ID)
        assert native.times == ("2010-01-01T00:00:00", "2011-01-01T00:00:00", "2012-01-01T00:00:00")
        assert native.array("agb").shape == (3, 6, 7)
        assert native.attrs["tracking_id"] == "1"
        granules = source.granules(DATA_ID)
        assert [item.stamp for item in granules] == list(native.times)
        values = source.read_window(granules[2], native.array("agb"), Window(1, 3, 2, 5))
        np.testing.assert_array_equal(values, np.arange(84, 126).reshape(6, 7)[1:3, 2:5])

    def test_or_the_middle_of_its_bounds(self, steps: World) -> None:
        file = biomass_file(rows=6, cols=7)
        del file.variables["agb_sd"]
        # 1 January to 31 December of 2015 and 2016: as the portal's coarse product was observed to be stamped.
        file.variables["time"].values = np.array([9131.0, 9496.0])
        file.variables["agb"].values = np.zeros((2, 6, 7), "int16")
        file.variables["time_bnds"] = Variable(
            "Float64", ("time", "bnds"), np.array([[9131.0, 9131.0 + 364], [9496.0, 9496.0 + 365]])
        )
        steps.put(2010, file)
        assert steps.source().describe(DATA_ID).times == ("2015-07-02T00:00:00", "2016-07-01T12:00:00")

    def test_units_that_are_none(self, steps: World) -> None:
        file = biomass_file(rows=6, cols=7)
        file.variables["time"] = Variable("Float64", ("time",), np.array([1.0, 2.0]), {"units": 'String "weeks"'})
        file.variables["agb"].values = np.zeros((2, 6, 7), "int16")
        del file.variables["agb_sd"]
        steps.put(2010, file)
        with pytest.raises(SourceFormatError, match="units 'weeks'"):
            steps.source().describe(DATA_ID)


class TestWindows:
    def test_equal_the_files(self, world: World) -> None:
        source = world.source()
        native, granules = source.describe(DATA_ID), source.granules(DATA_ID)
        window = Window(1, 30, 3, 60)
        for year, item in zip(YEARS, granules, strict=True):
            for name in ("agb", "agb_sd"):
                expected = biomass_file(year=year, rows=50, cols=75).variables[name].values[0][window.slices]
                values = source.read_window(item, native.array(name), window)
                assert values.dtype == np.dtype("int16")
                np.testing.assert_array_equal(values, expected)

    def test_requests(self, world: World) -> None:
        source = world.source()
        native, granules = source.describe(DATA_ID), source.granules(DATA_ID)
        world.service.asked.clear()
        windows = [Window(row, row + 5, 0, 75) for row in range(0, 50, 5)]
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda window: source.read_window(granules[1], native.array("agb"), window), windows))
        assert len(world.asked("agb.agb[")) == 10
        # What makes sure that the file is like the first one: once, however many threads.
        assert len(world.service.asked) == 12
        # Nor again for another variable of the same file.
        source.read_window(granules[1], native.array("agb_sd"), Window(0, 5, 0, 5))
        assert len(world.service.asked) == 13

    def test_files_do_not_wait_for_each_other(self, world: World) -> None:
        """What one file's server is slow to tell holds up nobody who reads another file."""
        source = world.source()
        native, granules = source.describe(DATA_ID), source.granules(DATA_ID)
        world.server.faults.add(Delay(2), "2007", times=1)
        window = Window(0, 5, 0, 5)
        with ThreadPoolExecutor(1) as pool:
            slow = pool.submit(source.read_window, granules[0], native.array("agb"), window)
            time.sleep(0.2)
            source.read_window(granules[1], native.array("agb"), window)
            assert not slow.done()
            assert slow.result()[0, 0] == 7000

    @pytest.mark.parametrize(
        "file",
        [
            biomass_file(rows=50, cols=74),
            biomass_file(rows=49, cols=75),
            biomass_file(rows=50, cols=75, ascending=True),
            biomass_file(rows=50, cols=75, edges=True),
            HandFile({"lat": biomass_file().variables["lat"]}),
        ],
    )
    def test_a_file_unlike_the_first(self, world: World, file: HandFile) -> None:
        source = world.source()
        native, granules = source.describe(DATA_ID), source.granules(DATA_ID)
        world.put(2016, file)
        with pytest.raises(SourceFormatError, match=r"first file|no variable") as refused:
            source.read_window(granules[2], native.array("agb"), Window(0, 5, 0, 5))
        assert "2016" in refused.value.url
        assert not world.asked("agb.agb[")
        assert source.read_window(granules[1], native.array("agb"), Window(0, 5, 0, 5)).shape == (5, 5)

    def test_another_dtype(self, world: World) -> None:
        source = world.source()
        native, granules = source.describe(DATA_ID), source.granules(DATA_ID)
        file = biomass_file(rows=50, cols=75)
        file.variables["agb"].kind = "Int32"
        world.put(2016, file)
        with pytest.raises(SourceFormatError, match="int32"):
            source.read_window(granules[2], native.array("agb"), Window(0, 5, 0, 5))

    def test_outside(self, world: World) -> None:
        source = world.source()
        native, granules = source.describe(DATA_ID), source.granules(DATA_ID)
        with pytest.raises(GridError):
            source.read_window(granules[0], native.array("agb"), Window(0, 51, 0, 5))

    def test_a_missing_file_and_a_burst(self, world: World) -> None:
        source = world.source()
        native, granules = source.describe(DATA_ID), source.granules(DATA_ID)
        world.server.requests.clear()
        world.server.faults.add(Status(404), "2010")
        with pytest.raises(DataIdNotFoundError):
            source.read_window(granules[1], native.array("agb"), Window(0, 5, 0, 5))
        assert world.server.requests.count() == 1
        world.server.faults.add(GarbledBody(), ".dods", times=3)
        assert source.read_window(granules[2], native.array("agb"), Window(0, 5, 0, 5)).shape == (5, 5)
        world.server.faults.clear()
        world.server.faults.add(Status(503), ".dods")
        with pytest.raises(SourceUnavailableError, match="4 attempts"):
            source.read_window(granules[2], native.array("agb"), Window(0, 5, 0, 5))

    def test_a_copy_in_another_process(self, world: World) -> None:
        source = world.source()
        native, granules = source.describe(DATA_ID), source.granules(DATA_ID)
        source.read_window(granules[1], native.array("agb"), Window(0, 5, 0, 5))
        copied, there, items = pickle.loads(pickle.dumps((source, native, granules)))
        values = copied.read_window(items[1], there.array("agb"), Window(0, 5, 0, 5))
        assert values[0, 0] == 10_000
