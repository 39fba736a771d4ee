"""Windows of the embedded portal in the cache: right or a typed error, and nothing asked for twice."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scs2_cubes.core.grid import Window
from scs2_cubes.core.native import NativeDataset
from scs2_cubes.core.specification import StoreSpec
from scs2_cubes.demo.answers import Answer
from scs2_cubes.demo.faults import CutBody, Delay, GarbledBody, Status
from scs2_cubes.demo.portal_stands import Stands
from scs2_cubes.demo.server import DemoServer
from scs2_cubes.errors import (
    ConfigurationError,
    DataIdNotFoundError,
    NotPreloadedError,
    PreloadError,
    SourceUnavailableError,
)
from scs2_cubes.preload import WINDOWS, describe
from scs2_cubes.preload.base import WantedWindow, WindowReport
from scs2_cubes.preload.esa_cci import EsaCciWindows
from scs2_cubes.report.caches import entries_of
from scs2_cubes.storage.processes import Process
from scs2_cubes_tests.preload.files import claim_of_the_dead
from scs2_cubes_tests.preload.portal_worlds import (
    BESIDE,
    DATA_ID,
    VARIABLES,
    WINDOW,
    YEARS,
    asked,
    asked_twice,
    assert_held,
    expected,
    pieces_of,
    quiet,
    read,
    store_of,
    wanted,
)

CHECKOUT = Path(__file__).resolve().parents[2]
#: What a year's pixels are asked for at.
PIXELS = ".dods"
ALL = {(year, variable) for year in YEARS for variable in VARIABLES}


@pytest.fixture(scope="module")
def warm() -> Iterator[DemoServer]:
    with DemoServer() as server:
        yield server


@pytest.fixture
def portal(warm: DemoServer) -> Iterator[DemoServer]:
    with quiet(warm):
        yield warm


@pytest.fixture(scope="module")
def stands() -> Stands:
    return Stands()


def fetched(
    store: StoreSpec, what: Sequence[WantedWindow] | None = None, told: list[str] | None = None
) -> tuple[NativeDataset, WindowReport]:
    windows = WINDOWS["cciodp"](store)
    native = windows.describe(DATA_ID)
    lines: list[str] = [] if told is None else told
    return native, windows.fetch(native, wanted() if what is None else what, lines.append)


class TestOnce:
    def test_a_partition_is_one_request_for_each_year_and_variable(
        self, portal: DemoServer, stands: Stands, tmp_path: Path
    ) -> None:
        told: list[str] = []
        native, report = fetched(store_of(portal, tmp_path), told=told)
        assert {(one.year, one.variable) for one in asked(portal)} == ALL
        assert len(asked(portal)) == report.requests == 20
        assert {one.window for one in asked(portal)} == {Window(39_424, 39_936, 200_704, 201_216)}
        assert report.fetched == 20 * 512 * 512 * 4
        assert report.held == 0
        assert_held(native, stands)
        assert len(pieces_of(native.location)) == 20
        assert told[0].endswith(": 20 fields (10 years x 2 variables) to be fetched, 21.0 MB before compression")
        assert told[-1].startswith("20/20 fields, 21.0 of 21.0 MB")

    def test_the_next_run_asks_for_nothing(self, portal: DemoServer, stands: Stands, tmp_path: Path) -> None:
        store = store_of(portal, tmp_path)
        native, _ = fetched(store)
        windows = EsaCciWindows.open(store)
        portal.requests.clear()
        # Killed after the last piece was written and before the claim was released.
        document = claim_of_the_dead(tmp_path)
        report = windows.fetch(native, wanted(), lambda _: None)
        assert not document.exists()
        assert (report.requests, report.fetched, report.held) == (0, 0, 20)
        assert portal.requests.count() == 0

    def test_neighbours_share(self, portal: DemoServer, stands: Stands, tmp_path: Path) -> None:
        store, across = store_of(portal, tmp_path), Window(39_800, 40_000, 201_100, 201_300)
        fetched(store)
        fetched(store, wanted(BESIDE))
        assert len(asked(portal)) == 40
        native, report = fetched(store, wanted(across))
        # The two pieces below are left; both variables of all years.
        assert (report.requests, report.held) == (20, 40)
        assert {one.window for one in asked(portal)[40:]} == {Window(39_936, 40_448, 200_704, 201_728)}
        assert asked_twice(asked(portal)) == []
        assert_held(native, stands, across)

    def test_only_what_is_wanted(self, portal: DemoServer, stands: Stands, tmp_path: Path) -> None:
        store = store_of(portal, tmp_path)
        fetched(store, wanted(steps=(2, 9), variables=("agb",)))
        assert {(one.year, one.variable) for one in asked(portal)} == {(2015, "agb"), (2022, "agb")}
        fetched(store)
        assert {(one.year, one.variable) for one in asked(portal)} == ALL
        assert len(asked(portal)) == 20

    def test_a_few_connections(self, portal: DemoServer, tmp_path: Path) -> None:
        portal.faults.add(Delay(0.2), PIXELS)
        started = time.monotonic()
        fetched(store_of(portal, tmp_path, max_connections=1), wanted(steps=(0, 1, 2, 3), variables=("agb",)))
        # One after the other: coordinates and pixels of each.
        assert time.monotonic() - started > 4 * 2 * 0.2

    @pytest.mark.parametrize("windows", [(WINDOW, WINDOW), (WINDOW, Window(39_700, 39_900, 201_000, 201_300))])
    def test_threads_at_once(
        self, portal: DemoServer, stands: Stands, tmp_path: Path, windows: tuple[Window, ...]
    ) -> None:
        portal.faults.add(Delay(0.02), PIXELS)
        stores = [store_of(portal, tmp_path) for _ in windows]
        with ThreadPoolExecutor(2) as pool:
            done = list(pool.map(lambda store, window: fetched(store, wanted(window)), stores, windows))
        assert asked_twice(asked(portal)) == []
        assert sum(report.requests for _, report in done) == len(asked(portal))
        for (native, _), window in zip(done, windows, strict=True):
            assert_held(native, stands, window)

    def test_an_object_store(self, portal: DemoServer, stands: Stands) -> None:
        store = store_of(portal, "memory://scs2-windows")
        native, _ = fetched(store, wanted(steps=(0,)))
        fetched(store, wanted(steps=(0,)))
        assert len(asked(portal)) == 2
        np.testing.assert_array_equal(read(native, "agb_sd", 0), expected(stands, "agb_sd", 2007))

    def test_an_unknown_cache(self, portal: DemoServer) -> None:
        store = StoreSpec("esa_cci", "cciodp", {"endpoint_url": f"{portal.url}/opensearch/request"})
        with pytest.raises(ConfigurationError, match=r"'esa_cci' has no cache.*store_params\.cache"):
            EsaCciWindows.open(store)


@contextmanager
def processes(portal: DemoServer, cache: Path, windows: Sequence[Window]) -> Iterator[list[subprocess.Popen[str]]]:
    """Fetches of ``windows`` in processes of their own, described and ready to begin."""
    command = [sys.executable, "-m", "scs2_cubes_tests.preload.window_run", portal.url, str(cache)]
    started = [
        subprocess.Popen(
            [*command, *(str(n) for n in (w.row_start, w.row_stop, w.col_start, w.col_stop))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=CHECKOUT,
        )
        for w in windows
    ]
    try:
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def let_go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


class TestProcesses:
    def test_two_at_once(self, portal: DemoServer, stands: Stands, tmp_path: Path) -> None:
        portal.faults.add(Delay(0.05), PIXELS)
        right = Window(39_700, 39_900, 201_000, 201_300)
        with processes(portal, tmp_path, [WINDOW, right]) as both:
            for process in both:
                let_go(process)
            said = [process.communicate(timeout=60)[0].split() for process in both]
        assert [process.returncode for process in both] == [0, 0]
        assert asked_twice(asked(portal)) == []
        assert sum(int(requests) for requests, _ in said) == len(asked(portal))
        native = describe(store_of(portal, tmp_path), DATA_ID)
        assert_held(native, stands, right)

    def test_killed_in_the_middle(self, portal: DemoServer, stands: Stands, tmp_path: Path) -> None:
        portal.faults.add(Delay(0.1), PIXELS)
        with processes(portal, tmp_path, [WINDOW]) as (process,):
            native = describe(store_of(portal, tmp_path), DATA_ID)
            let_go(process)
            deadline = time.monotonic() + 60
            while len(pieces_of(native.location)) < 5 and time.monotonic() < deadline:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            process.wait()
        there = set(pieces_of(native.location))
        assert 5 <= len(there) < 20
        assert all(pieces_of(native.location).values())
        portal.faults.clear()
        # What was on its way when the process was killed.
        time.sleep(0.5)
        portal.requests.clear()
        started = time.monotonic()
        native, report = fetched(store_of(portal, tmp_path))
        # Nobody waits for the claims of the dead.
        assert time.monotonic() - started < 30
        assert report.held == len(there)
        assert report.requests == len(asked(portal)) == 20 - len(there)
        assert asked_twice(asked(portal)) == []
        assert there < set(pieces_of(native.location))
        assert_held(native, stands)

    def test_interrupted_while_the_portal_is_silent(self, portal: DemoServer, tmp_path: Path) -> None:
        with processes(portal, tmp_path, [WINDOW]) as (process,):
            portal.requests.clear()
            portal.faults.add(Delay(3.0), PIXELS)
            let_go(process)
            deadline = time.monotonic() + 30
            # The list of files is asked for first.
            while not portal.requests.count("opensearch") and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            started = time.monotonic()
            process.wait(timeout=30)
            assert time.monotonic() - started < 10
            assert process.returncode != 0
        portal.faults.clear()
        assert fetched(store_of(portal, tmp_path), wanted(steps=(0,)))[1].requests == 2

    def test_half_written_pieces_of_the_dead_are_removed(self, portal: DemoServer, tmp_path: Path) -> None:
        # Whose number is somebody else's by now.
        ended = replace(Process.this(), birth="1")
        partial = tmp_path / ".partial" / f"{ended.name}-{'0' * 32}"
        partial.parent.mkdir()
        partial.write_bytes(b"half")
        fetched(store_of(portal, tmp_path), wanted(steps=(0,)))
        assert list(partial.parent.iterdir()) == []


class TestFaults:
    @pytest.mark.parametrize(
        "behaviour",
        [
            Status(503),
            Status(500),
            Status(429, "0"),
            Status(429, format_datetime(datetime.now(UTC) - timedelta(seconds=5), usegmt=True)),
            CutBody(0.4),
            CutBody(0.99),
            GarbledBody(),
        ],
        ids=["503", "500", "429 seconds", "429 date", "cut", "nearly whole", "garbled"],
    )
    def test_pass(self, portal: DemoServer, stands: Stands, tmp_path: Path, behaviour: Any) -> None:
        portal.faults.add(behaviour, PIXELS, times=2)
        steps = (1, 3)
        native, _ = fetched(store_of(portal, tmp_path), wanted(steps=steps))
        for step in steps:
            for variable in VARIABLES:
                np.testing.assert_array_equal(read(native, variable, step), expected(stands, variable, YEARS[step]))

    @pytest.mark.parametrize("wait", ["1", "date"])
    def test_retry_after_is_kept(self, portal: DemoServer, tmp_path: Path, wait: str) -> None:
        native = EsaCciWindows.open(store_of(portal, tmp_path)).describe(DATA_ID)
        windows = EsaCciWindows.open(store_of(portal, tmp_path))
        soon = datetime.now(UTC) + timedelta(seconds=2)
        portal.faults.add(Status(429, wait if wait == "1" else format_datetime(soon, usegmt=True)), PIXELS, times=1)
        started = time.monotonic()
        windows.fetch(native, wanted(steps=(0,), variables=("agb",)), lambda _: None)
        # A date has whole seconds, so that of two one may have passed.
        assert 0.8 <= time.monotonic() - started < 8

    @pytest.mark.parametrize("behaviour", [Status(503), CutBody(0.5), GarbledBody()], ids=["503", "cut", "garbled"])
    def test_are_told_and_nothing_wrong_is_kept(
        self, portal: DemoServer, stands: Stands, tmp_path: Path, behaviour: Any
    ) -> None:
        store = store_of(portal, tmp_path)
        windows = EsaCciWindows.open(store)
        native = windows.describe(DATA_ID)
        portal.faults.add(behaviour, f"-2016-fv6.0.nc{PIXELS}")
        with pytest.raises(SourceUnavailableError, match="4 attempts") as refused:
            windows.fetch(native, wanted(steps=(2, 3, 4)), lambda _: None)
        assert "-2016-" in refused.value.url
        portal.faults.clear()
        portal.requests.clear()
        _, report = fetched(store, wanted(steps=(2, 3, 4)))
        # Of 2016 both variables at least; never one that was there.
        assert 2 <= report.requests == len(asked(portal)) == 6 - report.held
        for step in (2, 3, 4):
            for variable in VARIABLES:
                np.testing.assert_array_equal(read(native, variable, step), expected(stands, variable, YEARS[step]))

    def test_slow_replies(self, portal: DemoServer, stands: Stands, tmp_path: Path) -> None:
        portal.faults.add(Delay(1.0), PIXELS, times=6)
        native, report = fetched(store_of(portal, tmp_path), wanted(steps=(0, 1)))
        assert report.requests == 4
        np.testing.assert_array_equal(read(native, "agb", 1), expected(stands, "agb", 2010))

    def test_a_year_that_vanishes_is_told_before_anything_is_asked_for(
        self, portal: DemoServer, tmp_path: Path
    ) -> None:
        windows = EsaCciWindows.open(store_of(portal, tmp_path))
        native = windows.describe(DATA_ID)
        portal.portal.withdraw(2016)
        with pytest.raises(PreloadError, match=r"has changed since it was described.*Run again"):
            windows.fetch(native, wanted(), lambda _: None)
        assert asked(portal, status=None) == []
        assert pieces_of(native.location) == {}
        fewer = windows.describe(DATA_ID)
        assert [stamp[:4] for stamp in fewer.times] == [str(year) for year in YEARS if year != 2016]
        windows.fetch(fewer, wanted(steps=range(9)), lambda _: None)
        assert {one.year for one in asked(portal)} == set(YEARS) - {2016}

    def test_a_missing_file_is_asked_for_once(self, portal: DemoServer, tmp_path: Path) -> None:
        windows = EsaCciWindows.open(store_of(portal, tmp_path))
        native = windows.describe(DATA_ID)
        portal.faults.add(Status(404), f"-2016-fv6.0.nc{PIXELS}")
        portal.requests.clear()
        with pytest.raises(DataIdNotFoundError, match=r"HTTP 404.*2016"):
            windows.fetch(native, wanted(steps=(3,), variables=("agb",)), lambda _: None)
        assert portal.requests.count(status=404) == 1
        assert pieces_of(native.location) == {}


class TestEditions:
    def test_only_the_new_year_is_fetched(self, portal: DemoServer, stands: Stands, tmp_path: Path) -> None:
        store = store_of(portal, tmp_path)
        before, _ = fetched(store)
        portal.portal.publish(2, 2017)
        portal.requests.clear()
        after, report = fetched(store)
        assert {(one.year, one.variable) for one in asked(portal)} == {(2017, "agb"), (2017, "agb_sd")}
        assert (report.requests, report.held) == (2, 18)
        assert before.version != after.version
        np.testing.assert_array_equal(read(after, "agb", 4), expected(stands, "agb", 2017, edition=2))
        np.testing.assert_array_equal(read(before, "agb", 4), expected(stands, "agb", 2017))
        np.testing.assert_array_equal(read(after, "agb", 5), expected(stands, "agb", 2018))
        # And back: nothing is asked for.
        portal.portal.publish(1)
        portal.requests.clear()
        assert fetched(store)[1].requests == 0

    def test_a_new_edition_since_it_was_described(self, portal: DemoServer, tmp_path: Path) -> None:
        windows = EsaCciWindows.open(store_of(portal, tmp_path))
        native = windows.describe(DATA_ID)
        portal.portal.publish(2, 2022)
        with pytest.raises(PreloadError, match="Run again"):
            windows.fetch(native, wanted(steps=(0,)), lambda _: None)
        assert asked(portal, status=None) == []

    def test_a_new_edition_while_it_is_fetched(self, portal: DemoServer, stands: Stands, tmp_path: Path) -> None:
        """What came of that year may be of either edition: none of it stays."""
        store = store_of(portal, tmp_path, max_connections=1)
        windows = EsaCciWindows.open(store)
        native = windows.describe(DATA_ID)

        def publish(path: str, make: Any) -> Answer:
            del path
            portal.portal.publish(2, 2010)
            answer: Answer = make()
            return answer

        portal.faults.add(publish, f"-2007-fv6.0.nc{PIXELS}", times=1)
        with pytest.raises(PreloadError, match="Run again"):
            windows.fetch(native, wanted(steps=(0, 1)), lambda _: None)
        np.testing.assert_array_equal(read(native, "agb", 0), expected(stands, "agb", 2007))
        portal.requests.clear()
        after, report = fetched(store, wanted(steps=(0, 1)))
        assert {one.year for one in asked(portal)} == {2010}
        assert report.held == 2
        np.testing.assert_array_equal(read(after, "agb", 1), expected(stands, "agb", 2010, edition=2))
        # The first edition's place holds nothing of the second.
        portal.portal.publish(1)
        portal.requests.clear()
        fetched(store, wanted(steps=(0, 1)))
        np.testing.assert_array_equal(read(native, "agb", 1), expected(stands, "agb", 2010))


class TestDamage:
    def test_is_noticed_and_fetched_again(self, portal: DemoServer, stands: Stands, tmp_path: Path) -> None:
        store = store_of(portal, tmp_path)
        native, _ = fetched(store, wanted(steps=(0, 1)))
        files = sorted(path for path in tmp_path.rglob("*") if path.is_file() and path.name == "77.392")
        assert len(files) == 4
        content = bytearray(files[0].read_bytes())
        content[len(content) // 2] ^= 0x10
        files[0].write_bytes(content)
        files[1].unlink()
        portal.requests.clear()
        _, report = fetched(store, wanted(steps=(0, 1)))
        assert (report.requests, report.held) == (2, 2)
        for step in (0, 1):
            for variable in VARIABLES:
                np.testing.assert_array_equal(read(native, variable, step), expected(stands, variable, YEARS[step]))


class TestRoom:
    def test_more_than_fits_is_refused_before_anything_is_asked_for(self, portal: DemoServer, tmp_path: Path) -> None:
        windows = EsaCciWindows.open(store_of(portal, tmp_path, cache_size=20 * 512 * 512 * 2 - 1))
        native = windows.describe(DATA_ID)
        portal.requests.clear()
        # With units that fit, and what would do.
        said = (
            r"up to 10\.5 MB in the cache .*, which may have 10\.5 MB\. .*cache_size of .* at least 10485760 \(bytes\)"
        )
        with pytest.raises(PreloadError, match=said):
            windows.fetch(native, wanted(), lambda _: None)
        small = EsaCciWindows.open(store_of(portal, tmp_path, cache_size=1))
        with pytest.raises(PreloadError, match=r"which may have 1 B\. "):
            small.fetch(native, wanted(), lambda _: None)
        assert portal.requests.count() == 0

    def test_the_whole_world_is_never_asked_for(self, portal: DemoServer, tmp_path: Path) -> None:
        windows = EsaCciWindows.open(store_of(portal, tmp_path))
        native = windows.describe(DATA_ID)
        portal.requests.clear()
        with pytest.raises(PreloadError, match=r"2557\.9 GB.*20\.0 GB"):
            windows.fetch(native, wanted(native.lattice.window), lambda _: None)
        assert portal.requests.count() == 0

    def test_what_was_not_used_for_longest_is_dropped(
        self, portal: DemoServer, stands: Stands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Room for three as they are stored, at about 69 kB each, beside one as it may be.
        size = 512 * 512 * 2 + 3 * 60_000
        store = store_of(portal, tmp_path, cache_size=size)
        told: list[str] = []
        for number, step in enumerate((0, 1, 2, 0, 3)):
            monkeypatch.setattr("time.time", lambda number=number: 1_000_000.0 + number)
            native, _ = fetched(store, wanted(steps=(step,), variables=("agb",)), told)
            assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= size
        assert len(pieces_of(native.location)) == 3
        with pytest.raises(NotPreloadedError):
            read(native, "agb", 1)
        np.testing.assert_array_equal(read(native, "agb", 0), expected(stands, "agb", 2007))
        np.testing.assert_array_equal(read(native, "agb", 3), expected(stands, "agb", 2016))
        assert any("weren't used for longest were dropped" in line for line in told)

    def test_it_can_be_looked_at_and_cleared(self, portal: DemoServer, tmp_path: Path) -> None:
        store = store_of(portal, tmp_path)
        native, _ = fetched(store, wanted(steps=(0,)))
        (entry,) = entries_of(store)
        assert (entry.data_id, entry.version, entry.complete) == (DATA_ID, native.version, True)
        assert entry.bytes > sum(pieces_of(native.location).values()) > 0
        assert WINDOWS["cciodp"](store).cache.clear(DATA_ID) == entry.bytes  # type: ignore[attr-defined]  # the portal's
        assert entries_of(store) == ()


class TestDescribing:
    def test_pieces_are_the_chunks(self, portal: DemoServer, tmp_path: Path) -> None:
        native = describe(store_of(portal, tmp_path), DATA_ID)
        assert native.array("agb").chunks == (1, 512, 512)
        assert native.times[0] == "2007-07-02T11:59:59"
        assert native.location.form == "windows"
        assert len(native.location.options["granules"]) == len(native.times) == 10
        assert list(tmp_path.rglob("*")) == []

    @pytest.mark.parametrize(
        ("data_id", "message"),
        [
            (DATA_ID.replace("100m", "10m"), "nearest: .*100m"),
            (DATA_ID.replace(".yr", ""), "isn't of the portal's form: it has 9 parts"),
            (f"{DATA_ID}~2099", "none of its 10 NetCDF files has '2099'"),
        ],
    )
    def test_wrong_ids(self, portal: DemoServer, tmp_path: Path, data_id: str, message: str) -> None:
        with pytest.raises(DataIdNotFoundError, match=message):
            describe(store_of(portal, tmp_path), data_id)
        assert asked(portal, status=None) == []

    def test_part_of_the_files(self, portal: DemoServer, stands: Stands, tmp_path: Path) -> None:
        store = store_of(portal, tmp_path)
        windows = EsaCciWindows.open(store)
        native = windows.describe(f"{DATA_ID}~-2018-")
        windows.fetch(native, wanted(steps=(0,)), lambda _: None)
        np.testing.assert_array_equal(read(native, "agb", 0), expected(stands, "agb", 2018))

    def test_one_file_of_all_years(self, portal: DemoServer, tmp_path: Path) -> None:
        coarse = DATA_ID.replace("100m", "50000m")
        windows = EsaCciWindows.open(store_of(portal, tmp_path))
        native = windows.describe(coarse)
        report = windows.fetch(native, [WantedWindow("agb", (0, 9), Window(0, 280, 0, 720))], lambda _: None)
        assert report.requests == 2
        first, last = (read(native, "agb", step, Window(0, 280, 0, 720)) for step in (0, 9))
        assert (first > 0).any()
        assert (first != last).any()
