"""The preload of the land monitoring service where something goes wrong: right, or an error that says what."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scs2_cubes.demo.answers import Answer
from scs2_cubes.demo.faults import CutBody, GarbledBody, Status
from scs2_cubes.demo.server import DemoServer
from scs2_cubes.errors import (
    AccessDeniedError,
    ArchiveLayoutError,
    ConfigurationError,
    DataIdNotFoundError,
    OrderFailedError,
    OrderPendingError,
    PreloadError,
    Scs2CubesError,
    SourceFormatError,
    SourceUnavailableError,
    StorageError,
)
from scs2_cubes_tests.demo.clms_client import Client
from scs2_cubes_tests.preload.clms_house import DATA_ID, FILE, NAME, House
from scs2_cubes_tests.preload.files import write_zip


@pytest.fixture
def house(demo_server: DemoServer, tmp_path: Path) -> House:
    return House.make(demo_server, tmp_path)


def refused(house: House, kind: type[Scs2CubesError], *parts: str, force: bool = False) -> str:
    """The message of what fetching raises, which names all ``parts``."""
    with pytest.raises(kind) as caught:
        house.fetch(force=force)
    for part in parts:
        assert part in str(caught.value)
    return str(caught.value)


class TestQueue:
    def test_slower_than_this_run_may_wait(self, house: House) -> None:
        house.server.clms.queue_seconds = 1000
        with pytest.raises(OrderPendingError) as caught:
            house.fetch(max_wait=0.2)
        known = house.journal()
        assert known is not None
        message = str(caught.value)
        assert f"task {known['task_id']} of {DATA_ID} is still Queued" in message
        assert f"{house.server.clms.api_url}/@datarequest_status_get?TaskID={known['task_id']}" in message
        assert "the next run goes on waiting" in message
        house.server.clms.queue_seconds = 0
        report = house.fetch()
        assert (report.task_id, report.is_reused, report.is_fresh) == (known["task_id"], True, True)
        assert house.orders == 1
        assert f"going on with task {known['task_id']}" in house.text
        assert house.is_tidy()

    def test_the_journal_names_the_order(self, house: House) -> None:
        house.server.clms.queue_seconds = 1000
        with pytest.raises(OrderPendingError):
            house.fetch(max_wait=0)
        known = house.journal()
        assert known is not None
        (task,) = house.preload().source.tasks()
        assert (known["data_id"], known["task_id"], known["forced"]) == (DATA_ID, task.task_id, False)
        assert known["version"] == house.preload().source.probe(DATA_ID)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", known["since"])

    def test_a_journal_that_is_lost_or_damaged(self, house: House) -> None:
        """The account's tasks are a second memory."""
        house.server.clms.queue_seconds = 1000
        file = house.folder / "cache" / "orders" / f"{NAME}.json"
        for content in (b"", b"{", b"[]", b'{"task_id": 7}', None):
            with pytest.raises(OrderPendingError):
                house.fetch(max_wait=0)
            file.unlink() if content is None else file.write_bytes(content)
        house.server.clms.queue_seconds = 0
        house.fetch()
        assert house.orders == 1

    def test_a_journal_of_another_version(self, house: House) -> None:
        house.server.clms.queue_seconds = 1000
        with pytest.raises(OrderPendingError):
            house.fetch(max_wait=0)
        known = house.journal()
        assert known is not None
        file = house.folder / "cache" / "orders" / f"{NAME}.json"
        file.write_text(json.dumps({**known, "version": "older", "task_id": "1"}))
        house.server.clms.queue_seconds = 0
        assert house.fetch().task_id == known["task_id"]

    @pytest.mark.parametrize("status", ["Finished_nok", "Rejected", "Cancelled"])
    def test_ends_without_delivery(self, house: House, status: str) -> None:
        house.server.clms.next_outcome(status, "The area is\n too large")
        message = refused(house, OrderFailedError, f"has ended as {status}: The area is too large.", DATA_ID)
        (task,) = house.preload().source.tasks()
        assert f"task {task.task_id} of" in message
        assert f"{house.server.clms.api_url}/@datarequest_status_get?TaskID={task.task_id}" in message
        assert "Run again to order anew" in message
        assert house.journal() is None
        assert house.preload().cache.record(DATA_ID) is None
        report = house.fetch()
        assert report.task_id != task.task_id
        assert house.orders == 2
        assert house.is_tidy()

    def test_withdrawn_while_waiting(self, house: House) -> None:
        house.server.clms.queue_seconds = 1000
        with pytest.raises(OrderPendingError):
            house.fetch(max_wait=0)
        client = Client(house.server.clms.api_url, house.server.clms.credentials())
        ((task_id, _),) = client.tasks().items()
        assert client.ask("DELETE", "@datarequest_delete", json={"TaskID": task_id}).status_code == 204
        refused(house, OrderFailedError, f"task {task_id}", "Cancelled: the service gives no reason")
        house.server.clms.queue_seconds = 0
        house.fetch()
        assert house.orders == 2

    def test_a_status_that_nobody_knows(self, house: House) -> None:
        house.server.clms.queue_seconds = 0
        house.server.clms.next_outcome("On_hold", "")
        with pytest.raises(OrderPendingError, match="is still On_hold"):
            house.fetch(max_wait=0.1)
        ((_, task),) = house.server.clms.queue._tasks.items()
        task.status, task.outcome = "Queued", ("Finished_ok", "")
        assert house.fetch().is_reused
        assert house.orders == 1

    def test_a_task_that_vanished(self, house: House) -> None:
        house.server.clms.queue_seconds = 1000
        with pytest.raises(OrderPendingError):
            house.fetch(max_wait=0)
        house.server.clms.queue._tasks.clear()
        house.server.clms.queue_seconds = 0
        report = house.fetch()
        assert (report.is_reused, house.orders) == (False, 2)

    def test_tasks_that_always_vanish(self, house: House) -> None:
        house.server.faults.add(Status(404), "@datarequest_status_get")
        refused(house, OrderFailedError, "although it was ordered anew", "HTTP 404", "@datarequest_status_get")
        assert house.orders == 2
        assert house.journal() is None


class TestService:
    def test_a_token_that_ends_in_the_middle(self, house: House) -> None:
        house.server.faults.add(RevokeOnce(house), "@datarequest_status_get", 1)
        house.fetch()
        assert house.server.requests.count("oauth2-token", method="POST") == 2
        assert house.server.requests.count("@datarequest", status=401) == 1
        assert house.orders == 1

    @pytest.mark.parametrize("where", ["@search", "@datarequest_search", "@datarequest_status_get", "/results/"])
    def test_two_server_errors(self, house: House, where: str) -> None:
        house.server.faults.add(Status(500), where, 2)
        house.fetch()
        assert house.orders == 1

    def test_server_errors_without_end(self, house: House) -> None:
        house.server.faults.add(Status(500), "@datarequest_status_get")
        refused(house, SourceUnavailableError, "@datarequest_status_get", "HTTP 500")
        house.server.faults.clear()
        assert house.fetch().is_reused
        assert house.orders == 1

    def test_orders_refused(self, house: House) -> None:
        house.server.clms.refuse_orders = True
        refused(house, SourceUnavailableError, "Error, all requests failed", "@datarequest_post")
        assert house.journal() is None

    def test_an_order_whose_answer_is_lost(self, house: House) -> None:
        house.server.faults.add(CutBody(), "@datarequest_post", 1)
        house.fetch()
        assert house.orders == 1


class RevokeOnce:
    def __init__(self, house: House) -> None:
        self._house = house

    def __call__(self, path: str, make: Callable[[], Answer]) -> Answer:
        # The answer to this one is already right: the next one meets the revoked token.
        answer = make()
        self._house.server.clms.revoke_tokens()
        self._house.server.clms.queue_seconds = 0.2
        return answer


class TestDownload:
    def test_a_cut_connection(self, house: House) -> None:
        values = house.plant(ballast=500_000)
        size = (house.folder / "planted" / "delivery.zip").stat().st_size
        house.server.faults.add(CutBody(), "/results/", 1)
        report = house.fetch()
        assert [request.status for request in house.server.requests.entries("/results/")] == [200, 206]
        assert report.downloaded == size
        np.testing.assert_array_equal(house.pixels(), values)

    def test_a_server_that_stays_away(self, house: House) -> None:
        house.plant(ballast=500_000)
        house.server.faults.add(CutBody(), "/results/", 1)
        house.server.faults.add(Status(503), "/results/", 6)
        message = refused(house, SourceUnavailableError, "HTTP 503", "/results/")
        known = house.journal()
        assert known is not None
        assert f"the delivery of task {known['task_id']} of {DATA_ID} (Finished_ok)" in message
        house.server.faults.clear()
        report = house.fetch()
        assert house.server.requests.entries("/results/")[-1].status == 206
        assert 0 < report.downloaded < (house.folder / "planted" / "delivery.zip").stat().st_size
        assert house.orders == 1

    def test_damaged_once(self, house: House) -> None:
        values = house.plant()
        house.server.faults.add(GarbledBody(), "/results/", 1)
        report = house.fetch()
        np.testing.assert_array_equal(house.pixels(), values)
        assert (house.orders, house.downloads) == (1, 2)
        assert report.downloaded == 2 * (house.folder / "planted" / "delivery.zip").stat().st_size
        assert "fetching it once more" in house.text

    @pytest.mark.parametrize("force", [False, True])
    def test_damaged_always(self, house: House, force: bool) -> None:
        values = house.plant()
        good = (house.folder / "planted" / "delivery.zip").read_bytes()
        house.damage()
        parts = ("(Finished_ok)", "was fetched twice", "run again to order anew", house.server.clms.api_url)
        message = refused(house, SourceFormatError, *parts, force=force)
        (bad,) = house.preload().source.tasks()
        assert f"task {bad.task_id} of {DATA_ID}" in message
        assert house.journal() is None
        assert (house.orders, house.downloads) == (1, 2)
        assert not [key for key in house.files() if key.endswith(".zip") or ".zarr" in key]
        (house.folder / "planted" / "delivery.zip").write_bytes(good)
        report = house.fetch(force=force)
        np.testing.assert_array_equal(house.pixels(), values)
        assert (house.orders, house.downloads) == (2, 3)
        assert report.task_id != bad.task_id
        assert not report.is_reused
        assert house.is_tidy()

    @pytest.mark.parametrize("force", [False, True])
    def test_damaged_in_every_order(self, house: House, force: bool) -> None:
        house.plant()
        house.damage()
        for number in (1, 2, 3):
            refused(house, SourceFormatError, "was fetched twice", force=force)
            assert (house.orders, house.downloads) == (number, 2 * number)

    @pytest.mark.parametrize("content", [b"", b"{", b"{}", b"[7]", b"\xff"])
    def test_a_list_of_bad_ones_that_cannot_be_read(self, house: House, content: bytes) -> None:
        house.plant()
        house.damage()
        refused(house, SourceFormatError, "was fetched twice")
        (house.folder / "cache" / "orders" / "damaged" / f"{NAME}.json").write_bytes(content)
        refused(house, SourceFormatError, "was fetched twice")
        assert house.orders == 1

    @pytest.mark.parametrize("force", [False, True])
    def test_another_layout(self, house: House, force: bool) -> None:
        """It isn't fetched again in vain: neither by this run nor by later ones, but for one that forces."""
        values = house.plant()
        archive = house.folder / "planted" / "delivery.zip"
        good = archive.read_bytes()
        write_zip(archive, {"Elsewhere/delivery.zip": b"x"})
        message = refused(house, ArchiveLayoutError, "should hold one Results/", "force_preload", force=force)
        assert "again later" not in message
        assert "(Finished_ok)" in message
        assert (house.orders, house.downloads) == (1, 1)
        refused(house, ArchiveLayoutError, "should hold one Results/")
        assert (house.orders, house.downloads) == (1, 1)
        archive.write_bytes(good)
        house.fetch(force=True)
        assert (house.orders, house.downloads) == (2, 2)
        np.testing.assert_array_equal(house.pixels(), values)
        assert house.is_tidy()

    def test_a_size_that_was_not_told(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        house.plant()
        document = house.server.clms.queue._document

        def told(task: object) -> dict[str, object]:
            made = document(task)  # type: ignore[arg-type]  # what the queue gives is what it takes
            return {**made, "FileSize": 17} if "FileSize" in made else made

        monkeypatch.setattr(house.server.clms.queue, "_document", told)
        refused(house, SourceFormatError, "of task", "(Finished_ok)", "not 17 as was told", "/results/")

    @pytest.mark.parametrize("status", [403, 404, 410])
    def test_a_link_that_expired(self, house: House, status: int) -> None:
        client = Client(house.server.clms.api_url, house.server.clms.credentials())
        old = client.order_file(FILE)
        client.wait(old)
        house.server.clms.expire_links(status)
        report = house.fetch()
        assert (report.is_reused, house.orders) == (False, 2)
        assert report.task_id != old
        assert f"task {old} (Finished_ok) is of no use: HTTP {status}" in house.text
        assert house.is_tidy()

    def test_a_link_that_expired_since_the_last_run(self, house: House) -> None:
        house.server.clms.queue_seconds = 1000
        with pytest.raises(OrderPendingError):
            house.fetch(max_wait=0)
        house.server.clms.queue_seconds = 0
        house.server.clms.expire_links()
        assert not house.fetch().is_reused
        assert house.orders == 2

    @pytest.mark.parametrize("status", [403, 404, 410])
    def test_links_that_are_always_expired(self, house: House, status: int) -> None:
        house.server.faults.add(Status(status), "/results/")
        message = refused(house, OrderFailedError, "(Finished_ok)", "ordered anew", f"HTTP {status}", "/results/")
        assert house.orders == 2
        tasks = {task.task_id for task in house.preload().source.tasks()}
        assert any(f"task {task_id} of {DATA_ID}" in message for task_id in tasks)
        assert house.journal() is None

    def test_no_link_at_all(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        document = house.server.clms.queue._document
        monkeypatch.setattr(
            house.server.clms.queue,
            "_document",
            lambda task: {name: value for name, value in document(task).items() if name != "DownloadURL"},
        )
        refused(house, OrderFailedError, "is Finished_ok, but has no link", "@datarequest_status_get")
        assert house.orders == 2

    def test_a_disk_that_is_full(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        usage = shutil.disk_usage(house.folder)
        monkeypatch.setattr("scs2_cubes.preload.download.shutil.disk_usage", lambda _: usage._replace(free=1000))
        refused(house, StorageError, "has 1000 bytes free")
        monkeypatch.undo()
        assert house.fetch().is_reused
        assert house.orders == 1


class TestBeforeAnythingIsOrdered:
    @pytest.mark.parametrize(
        ("data_id", "kind", "part"),
        [
            (f"{DATA_ID[:-1]}", DataIdNotFoundError, f"nearest: .*{FILE}"),
            ("forest-type-2051|x", DataIdNotFoundError, "has no data_id 'forest-type-2051|x'"),
            ("soil-water-index-global-2020|x", DataIdNotFoundError, "is served by CDSE"),
            ("grassland-2018|GRASSLAND_2018_lines", DataIdNotFoundError, "offered as GDB"),
        ],
    )
    def test_ids(self, house: House, data_id: str, kind: type[Scs2CubesError], part: str) -> None:
        with pytest.raises(kind, match=part.replace("|", r"\|")):
            house.fetch(data_id)
        assert house.server.requests.count("oauth2") == house.orders == 0
        assert house.files() == {}

    def test_credentials(self, house: House) -> None:
        key = json.loads((house.folder / "key.json").read_text())
        foreign = json.dumps({**key, "client_id": "0" * 32})
        for given, kind in (
            (None, ConfigurationError),
            ("/nowhere/key.json", ConfigurationError),
            ("{", ConfigurationError),
            (json.dumps({**key, "private_key": "x"}), ConfigurationError),
            (foreign, AccessDeniedError),
        ):
            with pytest.raises(kind):
                house.fetch(params={"credentials": given})
            assert house.orders == 0
            assert house.files() == {}

    def test_a_file_that_was_withdrawn(self, house: House) -> None:
        with pytest.raises(OrderFailedError, match="FileID is not valid"):
            house.fetch("grassland-2018|GRASSLAND_2018_withdrawn")
        assert house.files() == {}

    def test_no_data_for_the_order(self, house: House) -> None:
        with pytest.raises(OrderFailedError, match="has ended as Finished_nok: The demonstration has no data"):
            house.fetch("grassland-2018|GRASSLAND_2018_10m_eu_03035")


class TestLostClaim:
    def test_stops_before_it_orders(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        def lost(_: object) -> None:
            raise PreloadError("the claim is lost")

        monkeypatch.setattr("scs2_cubes.preload.claims.Claim.check", lost)
        refused(house, PreloadError, "the claim is lost")
        assert house.orders == 0

    def test_stops_while_it_waits(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        house.server.clms.queue_seconds = 1000
        tell = house.told.append

        class Ear(list[str]):
            def append(self, line: str) -> None:
                tell(line)
                if "is Queued" in line:
                    claims = house.folder / "cache" / "claims"
                    (document,) = claims.iterdir()
                    document.unlink()

        house.told = Ear()
        monkeypatch.setattr("scs2_cubes.preload.claims.Timing.__init__.__defaults__", (0.02, 60.0, 0.02))
        refused(house, PreloadError, "the claim on")
        assert house.orders == 1
