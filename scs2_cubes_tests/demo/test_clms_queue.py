from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from scs2_cubes.demo.faults import Status
from scs2_cubes.demo.server import DemoServer
from scs2_cubes_tests.demo.clms_client import BLOCK, JSON, Client, all_items, entry_of, item_of, request

PLACEHOLDER = "dry-matter-productivity-global-2020"
BOX = [-1.2, 44.0, -1.0, 44.2]


@pytest.fixture
def client(server: DemoServer) -> Client:
    server.clms.queue_seconds = 0.0
    return Client(server.clms.api_url, server.clms.credentials())


def uid(client: Client, identifier: str) -> str:
    return str(item_of(client.api, identifier)["UID"])


def refusal(reply: httpx.Response) -> tuple[int, str]:
    document = reply.json()
    assert set(document) == {"status", "msg"}
    assert document["status"] == "error"
    return reply.status_code, document["msg"]


def test_a_task_goes_through_the_queue(server: DemoServer, client: Client) -> None:
    server.clms.queue_seconds = 600
    task_id = client.order_file()
    without_end = {"Status", "UserID", "RegistrationDateTime", "FMETaskId", "Datasets"}
    # A clock that can be turned: the task was ordered some seconds earlier.
    for earlier, status in ((0, "Queued"), (280, "Queued"), (100, "In_progress"), (180, "In_progress")):
        server.clms.queue._tasks[task_id].registered -= earlier
        task = client.task(task_id)
        assert task["Status"] == status
        assert task.keys() == without_end
        assert client.tasks(status).keys() == {task_id}
    assert client.tasks("Queued") == {}
    server.clms.queue._tasks[task_id].registered -= 100
    assert client.task(task_id)["Status"] == "Finished_ok"
    assert client.tasks("Finished_ok").keys() == {task_id}


def test_a_new_waiting_time_holds_for_pending_tasks(server: DemoServer, client: Client) -> None:
    server.clms.queue_seconds = 600
    task_id = client.order_file()
    assert client.task(task_id)["Status"] == "Queued"
    server.clms.queue_seconds = 0.0
    assert client.task(task_id)["Status"] == "Finished_ok"
    # What has ended has ended.
    server.clms.queue_seconds = 600
    assert client.task(task_id)["Status"] == "Finished_ok"


def test_the_same_file_ordered_twice_is_two_tasks_with_two_links(client: Client) -> None:
    first, second = client.wait(client.order_file()), client.wait(client.order_file())
    assert len(client.tasks()) == 2
    assert first["DownloadURL"] != second["DownloadURL"]


@pytest.mark.parametrize("status", ["Finished_nok", "Rejected", "Cancelled", "Under_review"])
def test_tasks_end_as_they_are_told(server: DemoServer, client: Client, status: str) -> None:
    server.clms.next_outcome(status, "no tape")
    task = client.wait(client.order_file())
    assert (task["Status"], task["Message"]) == (status, "no tape")
    assert "FinalizationDateTime" in task
    assert not {"DownloadURL", "FileSize"} & set(task)
    assert client.wait(client.order_file())["Status"] == "Finished_ok"


def test_tasks_of_others_are_hidden(server: DemoServer, client: Client) -> None:
    task_id = client.order_file()
    other = Client(server.clms.api_url, server.clms.credentials("n0000002"))
    assert other.tasks() == {}
    reply = other.ask("GET", "@datarequest_status_get", params={"TaskID": task_id})
    assert refusal(reply) == (404, "Error, the task does not exist")
    assert refusal(other.ask("DELETE", "@datarequest_delete", json={"TaskID": task_id})) == (
        404,
        "Error, permission denied",
    )
    assert client.task(task_id)["UserID"] == "n00015mf"


def test_status_errors(client: Client) -> None:
    reply = client.ask("GET", "@datarequest_search", params={"status": "Sleeping"})
    assert refusal(reply) == (400, "Error, status not recognized")
    reply = client.ask("GET", "@datarequest_status_get")
    assert refusal(reply) == (400, "Error, TaskID not defined")


def test_a_task_is_cancelled(server: DemoServer, client: Client) -> None:
    server.clms.queue_seconds = 600
    task_id = client.order_file()
    reply = client.ask("DELETE", "@datarequest_delete", json={"TaskID": task_id})
    assert (reply.status_code, reply.content) == (204, b"")
    assert "Content-Length" not in reply.headers
    assert client.task(task_id)["Status"] == "Cancelled"
    unknown = client.ask("DELETE", "@datarequest_delete", json={"TaskID": "1"})
    assert refusal(unknown) == (403, "Error, TaskID not registered")


def test_orders_that_are_refused(client: Client) -> None:
    entry = entry_of(client.api, BLOCK)
    file_id, dataset_id = entry["FileID"], entry["DatasetID"]
    no_path: tuple[str, str] = next(
        (item["UID"], file["@id"])
        for item in all_items(client.api)
        for file in item["downloadable_files"]["items"]
        if file.get("file") and not file["path"]
    )
    placeholder = item_of(client.api, PLACEHOLDER)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"FileID": file_id}, "Error, DatasetID is not defined"),
        ({"DatasetID": "0" * 32, "FileID": file_id}, "Error, the DatasetID is not valid"),
        ({"DatasetID": dataset_id, "FileID": "nothing"}, "Error, the FileID is not valid"),
        ({"DatasetID": no_path[0], "FileID": no_path[1]}, "Error, the FileID is not valid"),
        (
            {"DatasetID": placeholder["UID"], "FileID": placeholder["downloadable_files"]["items"][0]["@id"]},
            "Error, the FileID is not valid",
        ),
    ]
    for wrong, message in cases:
        assert refusal(client.order(wrong)) == (400, message)
    # One wrong entry spoils the whole order.
    assert client.order(entry, {"DatasetID": dataset_id, "FileID": "nothing"}).status_code == 400
    status, message = refusal(client.order({"DatasetID": dataset_id}))
    assert status == 400
    assert "pre-packaged data collection" in message
    assert client.tasks() == {}


def test_bodies_that_are_no_order(client: Client) -> None:
    for body in (b"{", b"[]", b"\xff"):
        assert client.ask("POST", "@datarequest_post", content=body).status_code == 400
    for body in (b"", b"{}", b'{"Datasets": []}', b'{"Datasets": [1]}'):
        reply = client.ask("POST", "@datarequest_post", content=body)
        assert refusal(reply) == (400, "Error, DatasetID is not defined")


def test_an_order_needs_an_account(client: Client) -> None:
    entry = entry_of(client.api, BLOCK)
    reply = request("POST", f"{client.api}/@datarequest_post", headers=JSON, json={"Datasets": [entry]})
    assert reply.status_code == 401


def test_limits_hold_for_orders_by_area_alone(server: DemoServer, client: Client) -> None:
    server.clms.queue_seconds = 600
    dataset = uid(client, "urban-atlas-2018")
    areas = [{"DatasetID": dataset, "BoundingBox": [*BOX[:3], 44.2 + i]} for i in range(6)]
    status, message = refusal(client.order(*areas))
    assert status == 400
    assert message == "The download queue can only process 5 items at a time. Please try again with fewer items."
    assert client.order(*areas[:5]).status_code == 201
    for again in (areas[:1], [areas[5], areas[5]]):
        status, message = refusal(client.order(*again))
        assert status == 400
        assert message.startswith("You have requested to download the same thing at least twice.")
    files = [
        {"DatasetID": item["UID"], "FileID": file["@id"]}
        for item in [item_of(client.api, "forest-type-2015")]
        for file in item["downloadable_files"]["items"]
    ]
    assert len(files) > 5
    assert client.order(*files, files[0]).status_code == 201


def test_files_and_areas_of_one_order_are_two_tasks(server: DemoServer, client: Client) -> None:
    server.clms.queue_seconds = 600
    area = {"DatasetID": uid(client, "urban-atlas-2018"), "NUTS": "FR10"}
    reply = client.order(entry_of(client.api, BLOCK), area)
    first, second = (client.task(task["TaskID"])["Datasets"] for task in reply.json()["TaskIds"])
    assert "FileID" in first[0]
    assert "FileID" not in second[0]
    assert second[0]["NUTSID"] == "FR10"


def test_data_of_other_providers_is_ordered_without_an_area(client: Client) -> None:
    assert client.order({"DatasetID": uid(client, PLACEHOLDER)}).status_code == 201


def test_what_stands_behind_the_queue_may_refuse(server: DemoServer, client: Client) -> None:
    server.clms.refuse_orders = True
    assert refusal(client.order(entry_of(client.api, BLOCK))) == (500, "Error, all requests failed")
    assert client.tasks() == {}


def test_dates_without_an_offset(server: DemoServer, client: Client) -> None:
    server.clms.queue.naive_dates = True
    task = client.wait(client.order_file())
    for name in ("RegistrationDateTime", "FinalizationDateTime"):
        naive = datetime.fromisoformat(task[name])
        assert naive.tzinfo is None
        assert abs(naive.replace(tzinfo=UTC) - datetime.now(UTC)) < timedelta(minutes=5)


def test_orders_by_area_in_the_account(server: DemoServer, client: Client) -> None:
    task = client.task(server.clms.add_custom_task())
    assert "FileID" not in task["Datasets"][0]
    assert task["Datasets"][0]["BoundingBox"] == BOX


def test_old_tasks_in_the_account(server: DemoServer, client: Client) -> None:
    server.clms.queue_seconds = 1e9
    server.clms.next_outcome("Rejected")
    task = client.task(server.clms.add_old_task(BLOCK, hours=30))
    ended = datetime.fromisoformat(task["FinalizationDateTime"])
    assert timedelta(hours=29.9) < datetime.now(UTC) - ended < timedelta(hours=30.1)
    assert task["Status"] == "Finished_ok"
    assert task["Datasets"][0]["FileID"] == entry_of(client.api, BLOCK)["FileID"]
    assert request("GET", task["DownloadURL"]).status_code == 200
    # What the next order was told is still to come.
    server.clms.queue_seconds = 0.0
    assert client.wait(client.order_file())["Status"] == "Rejected"


def test_a_file_without_data_ends_without_a_delivery(client: Client) -> None:
    task = client.wait(client.order_file("TREE_COVER_DENSITY_2018_20m_eu_03035"))
    assert task["Status"] == "Finished_nok"
    assert "no data" in task["Message"]


def test_requests_are_counted_and_faults_apply(server: DemoServer, client: Client) -> None:
    client.order_file()
    assert server.requests.count("@datarequest_post", method="POST", status=201) == 1
    server.faults.add(Status(503, retry_after="1"), "@datarequest_search", times=1)
    reply = client.ask("GET", "@datarequest_search")
    assert (reply.status_code, reply.headers["Retry-After"]) == (503, "1")
    assert len(client.tasks()) == 1
