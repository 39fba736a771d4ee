"""Several runs at once, and runs that are killed: what was ordered or fetched once isn't ordered or fetched again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scs2_cubes.core.specification import PreloadSpec, StorageSpec
from scs2_cubes.demo.server import DemoServer
from scs2_cubes.errors import PreloadError
from scs2_cubes.preload.base import ArchiveReport
from scs2_cubes.preload.claims import Contender
from scs2_cubes_tests.preload.clms_house import DATA_ID, NAME, House


@pytest.fixture
def house(demo_server: DemoServer, tmp_path: Path) -> House:
    return House.make(demo_server, tmp_path)


#: Fetches; where it gets to the place that is named, it kills itself.
PROGRAM = """
import os, signal, sys
from scs2_cubes.core.native import RetryPolicy
from scs2_cubes.core.specification import PreloadSpec, StorageSpec, StoreSpec
from scs2_cubes.preload import archive, archive_cache, clms_delivery, orders
from scs2_cubes.preload.clms import ClmsPreload
from scs2_cubes.preload.clms_orders import Polling
api_url, credentials, root, data_id, place = sys.argv[1:6]
params = {"api_url": api_url, "credentials": credentials}
policy = RetryPolicy(deadline=20.0, max_attempts=4, initial_wait=0.01, max_wait=0.02, timeout=5.0)
store = StoreSpec("clms", "clms", params, (), policy, StorageSpec(root))

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def dying(owner, name, call, after=False):
    real, calls = getattr(owner, name), []
    def replacement(*args, **kwargs):
        calls.append(args)
        if len(calls) == call:
            if after:
                real(*args, **kwargs)
            die()
        return real(*args, **kwargs)
    setattr(owner, name, replacement)

def tell(line):
    print(line, flush=True)
    if place == "waiting" and "is Queued" in line:
        die()

if place == "ordered, not remembered":
    dying(orders.Journal, "put", 1)
if place == "downloading":
    def lines(*_):
        return lambda done, total: die() if done > 300_000 else None
    clms_delivery.progress_lines = lines
if place == "downloaded":
    dying(clms_delivery, "unpack", 1)
if place == "extracting":
    dying(archive, "_extract", 2)
if place == "half extracted":
    dying(archive, "_read", 2, after=True)
if place == "converting":
    dying(archive_cache.ArchiveCache, "_put", 2, after=True)
if place == "recording":
    dying(archive_cache, "_encode", 1)
if place == "forgetting":
    dying(orders.Journal, "remove", 1)
if place == "tidying":
    dying(archive_cache.ArchiveCache, "clear_downloads", 1)
opened = ClmsPreload.open(store)
preload = ClmsPreload(opened.source, opened.cache, Polling(0.02, 0.05))
report = preload.fetch(PreloadSpec(store, data_id), tell)
print("fresh", report.is_fresh, report.downloaded)
"""


def started(house: House, place: str = "") -> subprocess.Popen[str]:
    arguments = [house.server.clms.api_url, str(house.folder / "key.json"), house.place.root, DATA_ID, place]
    return subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], stdout=subprocess.PIPE, text=True)


def killed(house: House, place: str) -> str:
    with started(house, place) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    return output


def undisturbed(house: House, folder: str = "other") -> dict[str, bytes]:
    """What a run that nobody kills leaves, in another cache."""
    other = replace(house, place=StorageSpec(str(house.folder / folder)), told=[])
    other.fetch()
    return other.content()


class TestKilled:
    @pytest.mark.parametrize(
        ("place", "downloads"),
        [
            ("waiting", (0, 1)),
            ("ordered, not remembered", (0, 1)),
            ("downloading", (1, 2)),
            ("downloaded", (1, 1)),
            ("extracting", (1, 1)),
            ("half extracted", (1, 1)),
            ("converting", (1, 1)),
            ("recording", (1, 1)),
        ],
    )
    def test_the_next_run_goes_on(self, house: House, place: str, downloads: tuple[int, int]) -> None:
        values = house.plant(ballast=3_000_000)
        size = (house.folder / "planted" / "delivery.zip").stat().st_size
        house.server.clms.queue_seconds = 1000 if place == "waiting" else 0.05
        killed(house, place)
        assert (house.orders, house.downloads) == (1, downloads[0])
        # Nothing lies: what isn't finished isn't said to be.
        assert house.preload().cache.record(DATA_ID) is None
        house.server.clms.queue_seconds = 0.05
        report = house.fetch()
        assert (house.orders, house.downloads) == (1, downloads[1])
        assert (report.is_fresh, report.is_reused) == (True, True)
        np.testing.assert_array_equal(house.pixels(), values)
        assert house.is_tidy()
        if place == "downloading":
            assert house.server.requests.entries("/results/")[-1].status == 206
            assert 0 < report.downloaded <= size - 300_000
        elif downloads == (1, 1):
            assert report.downloaded == 0
        assert house.content() == undisturbed(house)

    @pytest.mark.parametrize("place", ["forgetting", "tidying"])
    def test_after_the_cache_was_good(self, house: House, place: str) -> None:
        house.plant()
        killed(house, place)
        report = house.fetch()
        assert (report.is_fresh, report.task_id) == (False, None)
        assert (house.orders, house.downloads) == (1, 1)
        assert house.journal() is None
        assert house.is_tidy()

    @pytest.mark.parametrize("place", ["downloaded", "converting"])
    def test_what_was_downloaded_needs_no_service(self, house: House, place: str) -> None:
        values = house.plant()
        killed(house, place)
        house.server.requests.clear()
        house.fetch(params={"credentials": None})
        assert house.server.requests.count() == house.server.requests.count("@search")
        np.testing.assert_array_equal(house.pixels(), values)

    def test_a_run_that_waits_for_a_killed_one_goes_on(self, house: House) -> None:
        house.server.clms.queue_seconds = 1000
        with started(house) as first:
            assert first.stdout is not None
            while "is Queued" not in first.stdout.readline():
                pass
            second = threading.Thread(target=house.fetch)
            second.start()
            while "is busy with it" not in house.text:
                second.join(0.01)
            house.server.clms.queue_seconds = 0
            first.kill()
            second.join(20)
        assert not second.is_alive()
        assert house.orders == 1
        assert house.is_tidy()


class TestAtOnce:
    def test_threads(self, house: House) -> None:
        reports: list[ArchiveReport] = []
        gate = threading.Barrier(3)
        preload = house.preload()

        def run() -> None:
            gate.wait()
            reports.append(preload.fetch(PreloadSpec(preload.source.store, DATA_ID), house.told.append))

        threads = [threading.Thread(target=run) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert house.orders == 1
        assert sorted(report.is_fresh for report in reports) == [False, False, True]
        assert len({report.version for report in reports}) == 1
        assert "is busy with it (since " in house.text
        assert house.is_tidy()

    def test_processes(self, house: House) -> None:
        house.server.clms.queue_seconds = 2.0
        runs: Sequence[subprocess.Popen[str]] = [started(house), started(house)]
        outputs = [run.communicate(timeout=60)[0] for run in runs]
        assert [run.returncode for run in runs] == [0, 0]
        assert house.orders == 1
        assert sorted("fresh True" in output for output in outputs) == [False, True]

    def test_two_data_ids_do_not_wait_for_each_other(self, house: House) -> None:
        claim = Contender(house.preload().cache.objects, DATA_ID).take()
        assert claim is not None
        with claim:
            house.fetch(DATA_ID.replace("E30N20", "E30N10"), max_wait=5)
            with pytest.raises(PreloadError, match="has been busy with"):
                house.fetch(max_wait=0.1)

    def test_left_overs_of_a_run_that_is_still_at_it_are_kept(self, house: House) -> None:
        house.fetch(cleanup=False)
        journal = house.folder / "cache" / "orders" / f"{NAME}.json"
        order = {"data_id": DATA_ID, "version": "", "task_id": "1", "since": "", "forced": True}
        journal.write_text(json.dumps(order))
        claim = Contender(house.preload().cache.objects, DATA_ID).take()
        assert claim is not None
        with claim:
            assert not house.fetch().is_fresh
            assert house.journal() is not None
        assert not house.fetch().is_fresh
        assert house.is_tidy()
