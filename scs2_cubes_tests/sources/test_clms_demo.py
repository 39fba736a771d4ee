"""The client against the embedded service, which was written by others from the same facts."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from scs2_cubes.core.specification import StoreSpec
from scs2_cubes.demo.faults import CutBody, GarbledBody, Status
from scs2_cubes.demo.server import DemoServer
from scs2_cubes.errors import AccessDeniedError, DataIdNotFoundError, OrderFailedError, SourceFormatError
from scs2_cubes.sources.clms import ClmsSource, Task
from scs2_cubes_tests.sources.worlds import QUICK

FILE = "FTY_2015_020m_eu_03035_d04_E30N20"
DATA_ID = f"forest-type-2015|{FILE}"


@pytest.fixture
def source(demo_server: DemoServer, tmp_path: Path) -> ClmsSource:
    demo_server.clms.queue_seconds = 0.05
    demo_server.clms.write_credentials(tmp_path / "key.json")
    params = {"api_url": demo_server.clms.api_url, "credentials": str(tmp_path / "key.json")}
    return ClmsSource.open(StoreSpec("clms", "clms", params, (), QUICK))


def waited(source: ClmsSource, task_id: str) -> Task:
    for _ in range(100):
        task = source.task(task_id)
        if not task.pending:
            return task
        time.sleep(0.02)
    raise TimeoutError(task_id)


def test_the_listing(demo_server: DemoServer, source: ClmsSource) -> None:
    ids = list(source.data_ids())
    assert DATA_ID in ids
    assert len(ids) == len(set(ids))
    assert demo_server.requests.count("@search") > 1
    assert demo_server.requests.count("oauth2") == 0
    with pytest.raises(DataIdNotFoundError, match="served by CDSE"):
        source.find("soil-water-index-global-2020|x")
    with pytest.raises(DataIdNotFoundError, match=rf"nearest: .*{FILE}"):
        source.find(DATA_ID.replace("E30N20", "E30N2"))


def test_an_order_to_its_end(demo_server: DemoServer, source: ClmsSource) -> None:
    old = demo_server.clms.add_old_task(FILE)
    custom = demo_server.clms.add_custom_task()
    file = source.find(f"{DATA_ID}.zarr")
    made = source.order(file)
    assert {task.task_id for task in source.tasks()} == {old, custom, made}
    done = waited(source, made)
    assert done.finished
    assert done.download_url is not None
    assert done.size
    assert (done.dataset_uid, done.file_id) == (file.dataset_uid, file.file_id)
    assert done.registered is not None
    assert done.finalized is not None
    assert done.registered <= done.finalized
    assert next(task for task in source.tasks() if task.task_id == custom).file_id is None


@pytest.mark.parametrize("status", ["Finished_nok", "Rejected", "Cancelled"])
def test_every_other_end(demo_server: DemoServer, source: ClmsSource, status: str) -> None:
    demo_server.clms.next_outcome(status, "No space left")
    task = waited(source, source.order(source.find(DATA_ID)))
    assert task.failed
    assert (task.status, task.message) == (status, "No space left")


@pytest.mark.parametrize("how", ["expire_tokens", "revoke_tokens"])
def test_tokens_that_end_early(demo_server: DemoServer, source: ClmsSource, how: str) -> None:
    source.tasks()
    getattr(demo_server.clms, how)()
    assert source.tasks() == ()
    assert demo_server.requests.count("oauth2") == 2


def test_a_withdrawn_file(demo_server: DemoServer, source: ClmsSource) -> None:
    withdrawn = next(data_id for data_id in source.data_ids() if "withdrawn" in data_id)
    with pytest.raises(OrderFailedError, match="Error, the FileID is not valid"):
        source.order(source.find(withdrawn))
    assert demo_server.requests.count("_post") == 1


def test_an_unknown_task(source: ClmsSource) -> None:
    with pytest.raises(DataIdNotFoundError, match=r"task 1: .*the task does not exist"):
        source.task("1")


def test_the_key_of_another_user(demo_server: DemoServer, source: ClmsSource, tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    path.write_text(path.read_text(encoding="utf-8").replace("n00015mf", "n00016mf"), encoding="utf-8")
    with pytest.raises(AccessDeniedError, match="invalid_grant: JWT subject doesn't match user_id of service key"):
        source.tasks()


def test_a_service_that_lost_the_key(source: ClmsSource) -> None:
    with DemoServer() as other:
        params = dict(source.store.params)
        document = other.clms.credentials() | {"client_id": "f" * 32}
        path = Path(params["credentials"]).with_name("other.json")
        path.write_text(json.dumps(document), encoding="utf-8")
        stranger = ClmsSource.open(StoreSpec("clms", "clms", {**params, "credentials": str(path)}, (), QUICK))
        with pytest.raises(AccessDeniedError, match="No associated key found"):
            stranger.tasks()


@pytest.mark.parametrize("where", ["@search", "oauth2-token", "@datarequest_search", "@datarequest_post"])
@pytest.mark.parametrize("fault", [Status(503), CutBody(0.5), Status(429, "0")], ids=lambda fault: f"{fault}")
def test_what_passes(demo_server: DemoServer, source: ClmsSource, where: str, fault: Status) -> None:
    demo_server.faults.add(fault, where, times=2)
    made = source.order(source.find(DATA_ID))
    # A cut answer's order did arrive, a refused one's didn't: one task either way.
    demo_server.faults.clear()
    assert [task.task_id for task in source.tasks()] == [made]


@pytest.mark.parametrize("where", ["@search", "oauth2-token", "@datarequest_search"])
def test_what_is_garbled(demo_server: DemoServer, source: ClmsSource, where: str) -> None:
    demo_server.faults.add(GarbledBody(), where)
    with pytest.raises(SourceFormatError, match="JSON object"):
        source.order(source.find(DATA_ID))
    assert demo_server.requests.count("_post") == 0
