"""The preload of the land monitoring service where nothing goes wrong."""

from __future__ import annotations

import re
import uuid
import zipfile
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import rasterio

from scs2_cubes.core.grid import Lattice
from scs2_cubes.core.specification import StorageSpec, StoreSpec
from scs2_cubes.demo.server import DemoServer
from scs2_cubes.errors import ConfigurationError, NotPreloadedError
from scs2_cubes.preload import ARCHIVES
from scs2_cubes.preload.clms import ClmsPreload
from scs2_cubes.preload.clms_orders import reusable
from scs2_cubes.sources.clms import OfferedFile, Task
from scs2_cubes_tests.demo.clms_client import Client
from scs2_cubes_tests.demo.clms_client import unpack as unpack_delivery
from scs2_cubes_tests.preload.clms_house import DATA_ID, FILE, NAME, House
from scs2_cubes_tests.preload.files import claim_of_the_dead


@pytest.fixture
def house(demo_server: DemoServer, tmp_path: Path) -> House:
    return House.make(demo_server, tmp_path)


class TestTheWay:
    def test_from_order_to_cache(self, house: House) -> None:
        report = house.fetch(f"{DATA_ID}.zarr")
        assert house.orders == 1
        # What the service delivers, fetched and unpacked by a client that isn't ours.
        client = Client(house.server.clms.api_url, house.server.clms.credentials())
        link = client.task(str(report.task_id))["DownloadURL"]
        delivered = unpack_delivery(house.server.clms.queue.delivery(link.rsplit("/", 1)[1]).read(0, 10**9))  # type: ignore[union-attr]  # the link is good
        with rasterio.MemoryFile(delivered[f"{FILE}/{FILE}.tif"]) as memory, memory.open() as tif:
            expected, transform = tif.read(1), tif.transform
        assert set(np.unique(expected)) == {0, 1, 2, 254, 255}
        np.testing.assert_array_equal(house.pixels(), expected)
        native = house.preload().describe(DATA_ID)
        assert native.lattice == Lattice("EPSG:3035", transform.c, transform.f, 20, -20, *reversed(expected.shape))
        (array,) = native.arrays
        assert (array.name, array.dtype, array.fill) == (FILE, "uint8", 255)
        assert array.attrs["long_name"] == "Forest Type 2015"
        assert native.version == report.version == house.preload().source.probe(DATA_ID)
        assert native.provenance == {
            "clms_product": "forest-type-2015",
            "clms_title": "Forest Type 2015",
            "clms_file": FILE,
            # The rasters of the demonstration say who made them.
            "institution": "scs2_cubes demonstration (synthetic data)",
        }
        assert house.is_tidy()

    def test_the_report(self, house: House) -> None:
        house.plant(ballast=100_000)
        report = house.fetch()
        (task,) = house.preload().source.tasks()
        assert (report.data_id, report.is_fresh, report.is_reused) == (DATA_ID, True, False)
        assert report.task_id == task.task_id
        assert report.downloaded == task.size == (house.folder / "planted" / "delivery.zip").stat().st_size
        assert 0.02 < report.waited < report.seconds < 60
        assert report.cache_url == house.group
        group = {key: content for key, content in house.files().items() if ".zarr/" in key}
        assert report.cache_bytes == sum(map(len, group.values()))

    def test_what_is_told(self, house: House) -> None:
        report = house.fetch()
        said = [line.removeprefix(f"{DATA_ID}: ") for line in house.told]
        assert all(line.startswith(f"{DATA_ID}: ") for line in house.told)
        assert said[0] == f"ordered as task {report.task_id}; waiting for it, at most 120 min"
        assert re.fullmatch(rf"task {report.task_id} is Queued after 0 s", said[1])
        assert any(re.fullmatch(rf"task {report.task_id} is ready after \d+ s", line) for line in said)
        assert re.fullmatch(r"downloading [\d.]+ kB", said[-4])
        assert said[-2] == "writing 1 raster into the cache"
        assert re.fullmatch(r"the cache is good, [\d.]+ kB in .*\.zarr", said[-1])

    def test_the_second_time_nothing_is_ordered(self, house: House) -> None:
        first = house.fetch()
        before = house.files()
        house.server.requests.clear()
        # Killed after the record was written and before the claim was released.
        claim_of_the_dead(Path(house.place.root))
        # Nobody needs credentials for it.
        second = house.fetch(params={"credentials": None})
        assert (second.is_fresh, second.is_reused, second.task_id) == (False, False, None)
        assert (second.waited, second.downloaded) == (0.0, 0)
        assert (second.version, second.cache_url, second.cache_bytes) == (
            first.version,
            first.cache_url,
            first.cache_bytes,
        )
        assert house.files() == before
        assert house.server.requests.count() == house.server.requests.count("@search")
        assert house.told[-1] == f"{DATA_ID}: the cache is good; nothing to order"

    def test_force(self, house: House) -> None:
        first = house.fetch()
        second = house.fetch(force=True)
        assert house.orders == 2
        assert second.is_fresh
        assert not second.is_reused
        assert second.task_id != first.task_id
        assert house.is_tidy()

    def test_a_damaged_cache_is_fetched_again(self, house: House) -> None:
        house.fetch()
        good = house.content()
        chunk = Path(house.group) / FILE / "0.0"
        chunk.write_bytes(chunk.read_bytes()[:-1])
        report = house.fetch()
        assert house.content() == good
        # What was delivered a moment ago is fresh.
        assert (report.is_fresh, report.is_reused, house.orders) == (True, True, 1)
        assert "the cache is damaged (" in house.text

    def test_another_version_is_fetched(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        first = house.fetch()
        monkeypatch.setattr("scs2_cubes.sources.clms_offers._CONTENT", ("file", "version"))
        second = house.fetch()
        assert second.version != first.version
        assert second.is_fresh
        assert house.preload().describe(DATA_ID).version == second.version

    def test_downloads_are_kept_where_that_is_asked_for(self, house: House) -> None:
        report = house.fetch(cleanup=False)
        kept = {key for key in house.files() if "/downloads/" in key}
        folder = f"archives/{NAME}/downloads"
        assert kept == {f"{folder}/{report.task_id}.zip", f"{folder}/rasters/{FILE}.tif"}
        assert house.journal() is None
        house.record.unlink()
        again = house.fetch()
        assert (again.downloaded, house.downloads) == (0, 1)
        assert house.is_tidy()

    def test_a_cache_in_an_object_store(self, demo_server: DemoServer, tmp_path: Path) -> None:
        house = House.make(demo_server, tmp_path, StorageSpec(f"memory://scs2-{uuid.uuid4().hex}"))
        values = house.plant()
        report = house.fetch()
        np.testing.assert_array_equal(house.pixels(), values)
        assert report.is_fresh
        assert not house.fetch().is_fresh
        assert house.orders == 1
        assert house.is_tidy()

    def test_several_rasters(self, house: House) -> None:
        full = "FTY_2015_020m_eu_03035_d04_Full"
        house.fetch(f"forest-type-2015|{full}")
        assert re.search(r"writing \d+ rasters into the cache", house.text)


class TestOpening:
    def test_nothing_is_asked(self, house: House) -> None:
        store = house.store(credentials=str(house.folder / "nothing.json"))
        preload = ARCHIVES["clms"](store)
        with pytest.raises(NotPreloadedError, match=r"hasn't been fetched yet.*scs2-cubes run"):
            preload.describe(f"{DATA_ID}.zarr")
        assert house.server.requests.count() == 0
        assert house.files() == {}

    def test_without_a_cache(self) -> None:
        with pytest.raises(ConfigurationError, match="'clms' has no folder for its cache"):
            ClmsPreload.open(StoreSpec("clms", "clms"))


class TestReuse:
    def test_a_pending_order(self, house: House) -> None:
        house.server.clms.queue_seconds = 1.0
        client = Client(house.server.clms.api_url, house.server.clms.credentials())
        task_id = client.order_file(FILE)
        report = house.fetch()
        assert (report.task_id, report.is_reused, house.orders) == (task_id, True, 1)
        assert re.search(rf"re-using task {task_id} of this account, which is (Queued|In_progress)\n", house.text)

    def test_a_fresh_delivery(self, house: House) -> None:
        client = Client(house.server.clms.api_url, house.server.clms.credentials())
        task_id = client.order_file(FILE)
        client.wait(task_id)
        report = house.fetch()
        assert (report.task_id, report.is_reused, house.orders) == (task_id, True, 1)
        assert report.waited < 0.5

    @pytest.mark.parametrize("naive", [True, False])
    def test_what_is_old_or_of_something_else_is_not(self, house: House, naive: bool) -> None:
        house.server.clms.queue.naive_dates = naive
        others = {
            house.server.clms.add_old_task(FILE, 24.1),
            house.server.clms.add_old_task("FTY_2015_020m_eu_03035_d04_E30N10", 1),
            house.server.clms.add_custom_task(),
        }
        report = house.fetch()
        assert report.task_id not in others
        assert (report.is_reused, house.orders) == (False, 1)
        young = house.server.clms.add_old_task(FILE, 1)
        house.record.unlink()
        assert house.fetch().task_id == report.task_id != young

    def test_an_order_of_somebody_else_is_not(self, house: House) -> None:
        house.server.clms.add_old_task(FILE, 1, user_id="n00000zz")
        assert not house.fetch().is_reused

    def test_force_joins_what_is_pending_only(self, house: House) -> None:
        delivered = house.server.clms.add_old_task(FILE, 1)
        house.server.clms.queue_seconds = 1.0
        pending = Client(house.server.clms.api_url, house.server.clms.credentials()).order_file(FILE)
        assert house.fetch(force=True).task_id == pending != delivered

    def test_which_one(self) -> None:
        now = datetime(2026, 1, 8, 12, tzinfo=UTC)
        file = OfferedFile("p|f", "p", "f", "P", "uid", "fid", "v", "", "")

        def task(
            number: int, status: str, hours: float | None, uid: str | None = "uid", fid: str | None = "fid"
        ) -> Task:
            moment = None if hours is None else now - timedelta(hours=hours)
            ended = moment if status == "Finished_ok" else None
            return Task(str(number), status, uid, fid, moment, ended, None, None, "")

        def best(*tasks: Task, finished: bool = True, damaged: Collection[str] = ()) -> str | None:
            found = reusable(tasks, file, now, finished=finished, damaged=damaged)
            return None if found is None else found.task_id

        assert best() is None
        assert best(task(1, "Finished_ok", 23), task(2, "Finished_ok", 2), task(3, "Finished_ok", 3)) == "2"
        assert best(task(1, "Queued", 0.1), task(2, "Finished_ok", 23)) == "2"
        assert best(task(1, "Queued", 0.1), task(2, "Finished_ok", 23), finished=False) == "1"
        assert best(task(1, "Finished_ok", 2), task(2, "Finished_ok", 3), damaged={"1"}) == "2"
        assert best(task(1, "Queued", 2), damaged={"1"}) is None
        assert best(task(1, "Finished_ok", 24.1)) is None
        assert best(task(1, "Finished_ok", None)) is None
        assert best(task(1, "In_progress", 5), task(2, "Queued", 1), task(3, "Queued", 3)) == "2"
        assert best(task(1, "Queued", 24 * 7 + 1)) is None
        assert best(task(1, "Queued", None)) == "1"
        assert best(task(1, "On_hold", 1)) == "1"
        assert best(*(task(1, status, 1) for status in ("Finished_nok", "Rejected", "Cancelled"))) is None
        assert (
            best(task(1, "Queued", 1, "other"), task(2, "Queued", 1, "uid", None), task(3, "Queued", 1, None, None))
            is None
        )


def test_the_real_clip(house: House, recorded: Path, tmp_path: Path) -> None:
    clip = recorded / "clms" / "FTY_2015_020m_mt_03035_d04_clip.zip"
    if not clip.is_file():
        pytest.skip(f"{clip} isn't there")
    outer = tmp_path / "outer.zip"
    with zipfile.ZipFile(outer, "w") as archive:
        archive.write(clip, f"Results/{FILE}.zip")
    house.server.clms.deliver(FILE, outer)
    report = house.fetch()
    with zipfile.ZipFile(clip) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".tif"))
        with rasterio.MemoryFile(archive.read(name)) as memory, memory.open() as tif:
            expected, transform = tif.read(1), tif.transform
    assert set(np.unique(expected)) <= {0, 1, 2, 254, 255}
    np.testing.assert_array_equal(house.pixels(), expected)
    lattice = house.preload().describe(DATA_ID).lattice
    assert (lattice.x_origin, lattice.y_origin, lattice.dx, lattice.dy) == (transform.c, transform.f, 20, -20)
    assert report.downloaded == outer.stat().st_size
