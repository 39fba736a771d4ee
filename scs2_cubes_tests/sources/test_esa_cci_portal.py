"""The client against the embedded portal: windows of the real product's layout, and everything that goes wrong."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from scs2_cubes.core.grid import Window
from scs2_cubes.core.native import NativeDataset
from scs2_cubes.core.specification import StoreSpec
from scs2_cubes.demo.faults import CutBody, GarbledBody, Status
from scs2_cubes.demo.portal_files import Layout
from scs2_cubes.demo.portal_stands import Stands
from scs2_cubes.demo.server import DemoServer
from scs2_cubes.errors import DataIdNotFoundError, SourceError, SourceUnavailableError
from scs2_cubes.sources.esa_cci import EsaCciSource, Granule
from scs2_cubes_tests.sources.dap_worlds import DATA_ID
from scs2_cubes_tests.sources.worlds import QUICK

YEARS = (2007, 2010, 2015, 2016, 2017, 2018, 2019, 2020, 2021, 2022)
ROWS, COLS = 157_500, 405_000
#: In the middle of the demonstration's region.
WINDOW = Window(39_900, 39_960, 201_400, 201_480)


def source_of(server: DemoServer) -> EsaCciSource:
    params = {
        "endpoint_url": f"{server.url}/opensearch/request",
        "endpoint_description_url": f"{server.url}/opensearch/description.xml?parentIdentifier=cci",
        "max_connections": 4,
    }
    return EsaCciSource.open(StoreSpec("cci", "cciodp", params, tuple(server.href_rewrite.items()), QUICK))


@pytest.fixture(scope="module")
def stands() -> Stands:
    return Stands()


def expected(stands: Stands, year: int, window: Window = WINDOW, edition: int = 1) -> tuple[npt.NDArray[Any], ...]:
    rows = np.arange(window.row_start, window.row_stop)
    cols = np.arange(window.col_start, window.col_stop)
    return stands.biomass(rows, cols, year, edition)


def test_ids(demo_server: DemoServer) -> None:
    assert DATA_ID in list(source_of(demo_server).data_ids())
    assert len(list(source_of(demo_server).data_ids())) > 1


@pytest.mark.parametrize("grids", [True, False])
@pytest.mark.parametrize("edges", [True, False])
def test_north_up(demo_server: DemoServer, stands: Stands, edges: bool, grids: bool) -> None:
    demo_server.portal.layout = Layout(edges=edges, grids=grids)
    source = source_of(demo_server)
    native, granules = source.describe(DATA_ID), source.granules(DATA_ID)
    assert native.lattice.shape == (ROWS, COLS)
    assert native.lattice.bbox == pytest.approx((-180, -60, 180, 80), abs=1e-9)
    assert native.lattice.dy < 0
    assert native.array("agb").shape == (10, ROWS, COLS)
    assert [item.stamp for item in granules] == list(native.times)
    assert [int(stamp[:4]) for stamp in native.times] == list(YEARS)
    assert native.times[0] == "2007-07-02T11:59:59"
    assert native.times[3] == "2016-07-01T23:59:59"
    for step in (0, 4, 9):
        for name, values in zip(("agb", "agb_sd"), expected(stands, YEARS[step]), strict=True):
            read = source.read_window(granules[step], native.array(name), WINDOW)
            assert read.dtype == np.dtype("int16")
            np.testing.assert_array_equal(read, values)
            assert read.max() > 0


@pytest.mark.parametrize("edges", [True, False])
def test_south_up(demo_server: DemoServer, stands: Stands, edges: bool) -> None:
    demo_server.portal.layout = Layout(edges=edges, south_up=True)
    source = source_of(demo_server)
    native, granules = source.describe(DATA_ID), source.granules(DATA_ID)
    assert native.lattice.dy > 0
    assert native.lattice.bbox == pytest.approx((-180, -60, 180, 80), abs=1e-9)
    mirrored = Window(ROWS - WINDOW.row_stop, ROWS - WINDOW.row_start, WINDOW.col_start, WINDOW.col_stop)
    read = source.read_window(granules[2], native.array("agb"), mirrored)
    np.testing.assert_array_equal(read, expected(stands, 2015)[0][::-1])


def test_the_sea_and_far_away(demo_server: DemoServer) -> None:
    source = source_of(demo_server)
    native, granules = source.describe(DATA_ID), source.granules(DATA_ID)
    for window in (Window(0, 3, 0, 4), Window(ROWS - 2, ROWS, COLS - 3, COLS)):
        read = source.read_window(granules[0], native.array("agb"), window)
        assert read.shape == window.shape
        assert (read == native.array("agb").fill).all()


def test_a_file_of_all_years(demo_server: DemoServer) -> None:
    coarse = next(data_id for data_id in source_of(demo_server).data_ids() if data_id != DATA_ID)
    source = source_of(demo_server)
    native, granules = source.describe(coarse), source.granules(coarse)
    assert native.times[:4] == (
        "2007-07-02T00:00:00",
        "2010-07-02T00:00:00",
        "2015-07-02T00:00:00",
        "2016-07-01T12:00:00",
    )
    assert len({item.opendap_href for item in granules}) == 1
    first, last = (source.read_window(granules[step], native.array("agb"), native.lattice.window) for step in (0, 9))
    assert first.shape == native.lattice.shape
    assert (first != last).any()


class TestEditions:
    def test_another_edition_is_another_version(self, demo_server: DemoServer, stands: Stands) -> None:
        source = source_of(demo_server)
        native, granules = source.describe(DATA_ID), source.granules(DATA_ID)
        assert source.probe(DATA_ID) == native.version
        demo_server.portal.publish(2, 2016)
        assert source.probe(DATA_ID) != native.version
        read = source.read_window(source.granules(DATA_ID)[3], native.array("agb"), WINDOW)
        np.testing.assert_array_equal(read, expected(stands, 2016, edition=2)[0])
        demo_server.portal.publish(1)
        assert source.probe(DATA_ID) == native.version
        assert source.granules(DATA_ID) == granules

    def test_a_missing_year(self, demo_server: DemoServer) -> None:
        source = source_of(demo_server)
        native, granules = source.describe(DATA_ID), source.granules(DATA_ID)
        demo_server.portal.withdraw(2015)
        fewer = source.granules(DATA_ID)
        assert [item.stamp for item in fewer] == [stamp for stamp in native.times if not stamp.startswith("2015")]
        assert source.probe(DATA_ID) != native.version
        demo_server.requests.clear()
        with pytest.raises(DataIdNotFoundError, match="HTTP 404"):
            source.read_window(granules[2], native.array("agb"), WINDOW)
        assert demo_server.requests.count() == 1


class TestFaults:
    @pytest.fixture
    def ready(self, demo_server: DemoServer) -> tuple[EsaCciSource, NativeDataset, Granule]:
        source = source_of(demo_server)
        native, granules = source.describe(DATA_ID), source.granules(DATA_ID)
        source.read_window(granules[0], native.array("agb"), Window(0, 1, 0, 1))
        demo_server.requests.clear()
        return source, native, granules[0]

    @pytest.mark.parametrize(
        "behaviour", [Status(503), Status(429, "0"), Status(500), CutBody(0.3), CutBody(0.999), GarbledBody()]
    )
    def test_pass(self, demo_server: DemoServer, stands: Stands, ready: Any, behaviour: Any) -> None:
        source, native, granule = ready
        demo_server.faults.add(behaviour, ".dods", times=3)
        read = source.read_window(granule, native.array("agb"), WINDOW)
        np.testing.assert_array_equal(read, expected(stands, 2007)[0])
        assert demo_server.requests.count(".dods") == 4

    @pytest.mark.parametrize(
        ("behaviour", "last"),
        [
            (Status(503), "HTTP 503"),
            (Status(429, "0"), "HTTP 429"),
            (CutBody(0.5), "RemoteProtocolError"),
            (GarbledBody(), "isn't sound"),
        ],
    )
    def test_or_are_told(self, demo_server: DemoServer, ready: Any, behaviour: Any, last: str) -> None:
        source, native, granule = ready
        demo_server.faults.add(behaviour)
        with pytest.raises(SourceUnavailableError, match=f"4 attempts.*{last}") as refused:
            source.read_window(granule, native.array("agb"), WINDOW)
        assert refused.value.url.startswith(granule.opendap_href)
        assert demo_server.requests.count() == 4

    @pytest.mark.parametrize("where", ["request", ".dds", ".das", ".dods"])
    def test_while_describing(self, demo_server: DemoServer, where: str) -> None:
        calm = source_of(demo_server).describe(DATA_ID)
        demo_server.faults.add(Status(503), where, times=2)
        demo_server.faults.add(CutBody(0.5), where, times=1)
        assert source_of(demo_server).describe(DATA_ID) == calm
        demo_server.faults.add(Status(404), where)
        with pytest.raises(DataIdNotFoundError):
            source_of(demo_server).describe(DATA_ID)

    def test_nothing_garbled_is_believed(self, demo_server: DemoServer) -> None:
        for where in ("request", ".dds", ".das", ".dods"):
            demo_server.faults.clear()
            demo_server.faults.add(GarbledBody(), where)
            with pytest.raises(SourceError):
                source_of(demo_server).describe(DATA_ID)

    def test_threads(self, demo_server: DemoServer, stands: Stands, ready: Any) -> None:
        source, native, granule = ready
        windows = [Window(39_900 + 10 * i, 39_910 + 10 * i, 201_400, 201_480) for i in range(6)]
        demo_server.faults.add(Status(503), ".dods", times=3)
        with ThreadPoolExecutor(6) as pool:
            read = list(pool.map(lambda window: source.read_window(granule, native.array("agb"), window), windows))
        np.testing.assert_array_equal(np.concatenate(read), expected(stands, 2007)[0])
        assert demo_server.requests.count(".dods") == 9
