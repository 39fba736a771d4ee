"""Fetching what is missing, with a source that counts: once each, a few at a time, whatever happens on the way."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from scs2_cubes.core.grid import Lattice, Window
from scs2_cubes.core.native import NativeArray, NativeDataset
from scs2_cubes.core.specification import StorageSpec
from scs2_cubes.errors import DataIdNotFoundError, Scs2CubesError
from scs2_cubes.preload import window_fetch
from scs2_cubes.preload.base import WantedWindow
from scs2_cubes.preload.claims import Contender
from scs2_cubes.preload.window_cache import Pieces, WindowCache
from scs2_cubes.preload.window_fetch import Layer, Missing, Tally, WindowFetch, layers_of, missing_of

NY, NX = 70, 90
ARRAYS = tuple(
    NativeArray(name, ("time", "lat", "lon"), (3, NY, NX), (1, 8, 8), "int16", -32768.0) for name in ("agb", "agb_sd")
)
ALL = (0, 1, 2)
ALL_GRANULES = ("a", "b", "c")


def number(name: str, step: int, row: Any, col: Any) -> Any:
    return 10_000 * (name == "agb_sd") + 3_000 * step + 30 * row + col


@dataclass
class Portal:
    """Answers with numbers that say where they are from."""

    delay: float = 0.0
    refuse: Callable[[str, int], Scs2CubesError | None] = lambda *_: None
    asked: list[tuple[str, int, Window]] = field(default_factory=list)
    most: int = 0
    now: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, array: NativeArray, step: int, window: Window) -> npt.NDArray[np.int16]:
        with self.lock:
            self.asked.append((array.name, step, window))
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(self.delay)
        with self.lock:
            self.now -= 1
        error = self.refuse(array.name, step)
        if error is not None:
            raise error
        rows, cols = np.arange(window.row_start, window.row_stop), np.arange(window.col_start, window.col_stop)
        made: npt.NDArray[np.int16] = number(array.name, step, rows[:, np.newaxis], cols).astype(np.int16)
        return made

    @property
    def twice(self) -> list[Any]:
        return [
            pair
            for pair in itertools.combinations(self.asked, 2)
            if pair[0][:2] == pair[1][:2] and pair[0][2].intersection(pair[1][2])
        ]


def native() -> NativeDataset:
    lattice = Lattice("EPSG:4326", 0.0, 10.0, 0.01, -0.01, NX, NY)
    times = ("2007-07-02T11:59:59", "2010-07-02T11:59:59", "2015-07-02T11:59:59")
    location = WindowCache.open(StorageSpec("/nowhere")).location("id", ALL_GRANULES)
    return NativeDataset(location, "https://h/", ARRAYS, lattice, "lat", "lon", "v", "time", times)


def pieces_at(place: StorageSpec) -> Pieces:
    return Pieces.at(WindowCache.open(place).location("id", ALL_GRANULES))


def layers(window: Window, steps: tuple[int, ...] = ALL) -> tuple[Layer, ...]:
    return layers_of(native(), [WantedWindow(array.name, steps, window) for array in ARRAYS])


def fetch(
    place: StorageSpec,
    portal: Portal,
    window: Window,
    tell: Callable[[str], None] = lambda _: None,
    connections: int = 4,
) -> Tally:
    pieces = pieces_at(place)
    missing = [one for layer in layers(window) if (one := missing_of(pieces, layer)).blocks]
    tally = Tally(len(missing), sum(one.wire_bytes for one in missing))
    WindowFetch(pieces, portal.read, connections, tell).run(missing, tally)
    return tally


def assert_held(place: StorageSpec, window: Window, steps: tuple[int, ...] = ALL) -> None:
    pieces = pieces_at(place)
    for layer in layers(window, steps):
        for row, col in layer.places:
            encoded = pieces.get(layer.array, layer.step, (row, col))
            assert encoded is not None, (layer.array.name, layer.step, row, col)
            values = pieces.decode(layer.array, layer.step, (row, col), encoded)
            rows = np.arange(8 * row, min(8 * row + 8, NY))[:, np.newaxis]
            cols = np.arange(8 * col, min(8 * col + 8, NX))
            np.testing.assert_array_equal(values, number(layer.array.name, layer.step, rows, cols))


class TestLayers:
    def test_windows_of_one_layer_go_together(self) -> None:
        wanted = [
            WantedWindow("agb", (0, 2), Window(0, 9, 0, 8)),
            WantedWindow("agb", (0, 2), Window(0, 8, 4, 20)),
            WantedWindow("agb", (2,), Window(66, 200, 88, 300)),
            WantedWindow("agb_sd", (1,), Window(5, 5, 0, 9)),
        ]
        found = {(layer.array.name, layer.step): set(layer.places) for layer in layers_of(native(), wanted)}
        first = {(0, 0), (1, 0), (0, 1), (0, 2)}
        assert found == {("agb", 0): first, ("agb", 2): first | {(8, 11)}, ("agb_sd", 1): set()}

    def test_unknown_array(self) -> None:
        with pytest.raises(KeyError, match="height"):
            layers_of(native(), [WantedWindow("height", (0,), Window(0, 1, 0, 1))])

    def test_sizes(self, place: StorageSpec) -> None:
        missing = missing_of(pieces_at(place), layers(Window(60, 70, 80, 90))[0])
        assert missing.blocks == (Window(7, 9, 10, 12),)
        # 14 rows and 10 columns are left of the four pieces; numbers of 16 bits travel in 32.
        assert missing.wire_bytes == 14 * 10 * 4
        assert missing.stored_bytes == 14 * 10 * 2
        assert missing.layer.size == 4 * 64 * 2


class TestOnce:
    def test_one_request_for_each_layer(self, place: StorageSpec) -> None:
        portal, window = Portal(), Window(3, 40, 10, 61)
        tally = fetch(place, portal, window)
        assert {one[:2] for one in portal.asked} == {(array.name, step) for array in ARRAYS for step in ALL}
        assert len(portal.asked) == tally.requests == 6
        assert {one for _, _, one in portal.asked} == {Window(0, 40, 8, 64)}
        assert tally.fetched == 6 * 40 * 56 * 4
        assert_held(place, window)
        assert fetch(place, portal, window).requests == 0
        assert len(portal.asked) == 6

    def test_overlapping_windows_share(self, place: StorageSpec) -> None:
        portal = Portal()
        for window in (Window(3, 40, 10, 61), Window(20, 70, 30, 90), Window(0, 70, 0, 90)):
            fetch(place, portal, window)
            assert_held(place, window)
        assert portal.twice == []

    def test_requests_are_bounded(self, place: StorageSpec, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(window_fetch, "_MAX_REPLY", 6 * 64 * 4)
        portal = Portal()
        fetch(place, portal, Window(0, 70, 0, 90))
        assert portal.twice == []
        assert all(window.height * window.width <= 6 * 64 for _, _, window in portal.asked)
        assert len(portal.asked) <= 1.5 * 6 * (70 * 90) / (6 * 64)
        assert_held(place, Window(0, 70, 0, 90))

    def test_a_few_at_a_time(self, place: StorageSpec) -> None:
        portal = Portal(delay=0.05)
        fetch(place, portal, Window(0, 8, 0, 8), connections=2)
        assert portal.most == 2

    @pytest.mark.parametrize("windows", [(Window(0, 40, 0, 60),) * 3, (Window(0, 40, 0, 60), Window(20, 70, 30, 90))])
    def test_threads_at_once(self, place: StorageSpec, windows: tuple[Window, ...]) -> None:
        portal = Portal(delay=0.02)
        with ThreadPoolExecutor(len(windows)) as pool:
            tallies = list(pool.map(lambda window: fetch(place, portal, window), windows))
        assert portal.twice == []
        assert sum(tally.requests for tally in tallies) == len(portal.asked)
        for window in windows:
            assert_held(place, window)

    def test_what_is_damaged_is_fetched_again(self, place: StorageSpec) -> None:
        portal, window = Portal(), Window(0, 40, 0, 60)
        fetch(place, portal, window)
        pieces = pieces_at(place)
        (key,) = [key for key in pieces.objects.walk("") if "/b/agb-" in key and key.endswith("/2.3")]
        pieces.objects.put(key, (pieces.objects.get(key) or b"")[:-3])
        portal.asked.clear()
        fetch(place, portal, window)
        assert portal.asked == [("agb", 1, Window(16, 24, 24, 32))]
        assert_held(place, window)


class TestFailures:
    def refuse(self, name: str, step: int) -> Scs2CubesError | None:
        return DataIdNotFoundError("HTTP 404", url="https://h/2010.nc") if step == 1 and name == "agb" else None

    def test_the_first_failure_ends_it(self, place: StorageSpec) -> None:
        portal, window = Portal(refuse=self.refuse), Window(0, 8, 0, 8)
        with pytest.raises(DataIdNotFoundError, match="HTTP 404"):
            fetch(place, portal, window, connections=1)
        # By step and array, so that this is the third.
        assert [one[:2] for one in portal.asked] == [("agb", 0), ("agb_sd", 0), ("agb", 1)]
        assert_held(place, window, (0,))
        assert not missing_of(pieces_at(place), layers(window, (0,))[0]).blocks

    def test_the_next_run_asks_for_what_is_missing(self, place: StorageSpec) -> None:
        window, broken, portal = Window(0, 40, 0, 60), Portal(refuse=self.refuse), Portal()
        with pytest.raises(DataIdNotFoundError):
            fetch(place, broken, window)
        fetch(place, portal, window)
        answered = {one[:2] for one in broken.asked} - {("agb", 1)}
        again = {one[:2] for one in portal.asked}
        assert ("agb", 1) in again
        assert not answered & again
        assert len(answered | again) == 6
        assert_held(place, window)

    def test_claims_are_released(self, place: StorageSpec) -> None:
        with pytest.raises(DataIdNotFoundError):
            fetch(place, Portal(refuse=self.refuse), Window(0, 8, 0, 8))
        fetch(place, Portal(), Window(0, 8, 0, 8))
        assert list(pieces_at(place).objects.keys("claims")) == []


class TestWaiting:
    def test_what_another_one_fetches_is_waited_for(self, place: StorageSpec, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(window_fetch, "_TOLD_EVERY", 0.2)
        pieces, portal, window = pieces_at(place), Portal(), Window(0, 8, 0, 8)
        told: list[str] = []
        claim = Contender(pieces.objects, pieces.layer(ARRAYS[0], 2)).take()
        assert claim is not None
        with ThreadPoolExecutor(1) as pool, claim:
            fetching = pool.submit(fetch, place, portal, window, told.append)
            deadline = time.monotonic() + 20
            while not any("waiting for" in line for line in told) and time.monotonic() < deadline:
                time.sleep(0.02)
            assert not fetching.done()
            assert len(portal.asked) == 5
            # Its holder is done.
            pieces.put(ARRAYS[0], 2, (0, 0), number("agb", 2, np.arange(8)[:, np.newaxis], np.arange(8)))
            claim.release()
            tally = fetching.result(timeout=20)
        assert len(portal.asked) == 5
        assert (tally.layers_done, tally.requests) == (6, 5)
        assert any("5/6 fields" in line and "waiting for what process" in line for line in told)
        assert told[-1].startswith("6/6 fields, 0.0 of 0.0 MB")
        assert_held(place, window)

    def test_progress_while_a_reply_takes_its_time(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(window_fetch, "_TOLD_EVERY", 0.05)
        told: list[str] = []
        fetch(StorageSpec(str(tmp_path)), Portal(delay=0.4), Window(0, 8, 0, 8), told.append)
        assert told[0].startswith("0/6 fields, 0.0 of 0.0 MB")
        assert "left" not in told[0]
        # Neither silence nor a line at every turn of a loop.
        assert 5 < len(told) < 40


def test_progress_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    tally = Tally(20, 600_000_000, started=100.0)
    assert tally.text() == "0/20 fields, 0.0 of 600.0 MB, 0.00 MB/s"
    tally.add_reply(30_000_000)
    tally.add_reply(30_000_000)
    tally.add_layer(0)
    now[0] = 110.0
    assert tally.text() == "1/20 fields, 60.0 of 600.0 MB, 6.00 MB/s, about 90 s left"
    # Another run has fetched half of what is left.
    tally.add_layer(270_000_000)
    assert tally.text() == "2/20 fields, 60.0 of 330.0 MB, 6.00 MB/s, about 45 s left"


def test_nothing_missing_is_nothing_to_do(place: StorageSpec) -> None:
    portal = Portal()
    layer = layers(Window(0, 8, 0, 8))[0]
    assert missing_of(pieces_at(place), Layer(layer.array, 0, frozenset())) == Missing(
        Layer(layer.array, 0, frozenset()), ()
    )
    WindowFetch(pieces_at(place), portal.read, 1, lambda _: None).run([], Tally(0, 0))
    assert portal.asked == []
