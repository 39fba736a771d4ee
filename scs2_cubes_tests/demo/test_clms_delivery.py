from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import httpx
import pytest

from scs2_cubes.demo.clms_delivery import Deliveries, FileArchive
from scs2_cubes.demo.faults import CutBody, GarbledBody, Status
from scs2_cubes.demo.server import DemoServer
from scs2_cubes.errors import ConfigurationError
from scs2_cubes_tests.demo.clms_client import BLOCK, Client, request, unpack


@pytest.fixture
def client(server: DemoServer) -> Client:
    server.clms.queue_seconds = 0.0
    return Client(server.clms.api_url, server.clms.credentials())


def get(url: str, **headers: str) -> httpx.Response:
    return request("GET", url, headers={name.replace("_", "-"): value for name, value in headers.items()})


def link(client: Client, name: str = BLOCK) -> str:
    return str(client.wait(client.order_file(name))["DownloadURL"])


def test_the_link_needs_no_account(server: DemoServer, client: Client) -> None:
    url = link(client)
    server.clms.revoke_tokens()
    reply = get(url, User_Agent="Mozilla/5.0", Referer="https://land.example/")
    assert reply.status_code == 200
    assert reply.headers["Content-Type"] == "application/zip"
    assert url.startswith(f"{server.url}/clms/results/")
    head = request("HEAD", url)
    assert head.content == b""
    for field in ("Content-Length", "ETag", "Accept-Ranges", "Last-Modified"):
        assert head.headers[field] == reply.headers[field]


def test_a_delivery_can_be_continued(client: Client) -> None:
    url = link(client)
    whole = get(url)
    size = len(whole.content)
    for asked, part in (("1000-", slice(1000, None)), ("0-0", slice(0, 1)), ("-5", slice(size - 5, None))):
        reply = get(url, Range=f"bytes={asked}", If_Range=whole.headers["ETag"])
        assert (reply.status_code, reply.content) == (206, whole.content[part])
        start, stop, _ = part.indices(size)
        assert reply.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{size}"
    assert get(url, Range="bytes=7-", If_Range=whole.headers["Last-Modified"]).status_code == 206
    assert get(url, Range="bytes=7-").status_code == 206
    beyond = get(url, Range=f"bytes={size}-")
    assert (beyond.status_code, beyond.headers["Content-Range"]) == (416, f"bytes */{size}")


def test_a_changed_delivery_is_sent_whole(client: Client) -> None:
    url = link(client)
    reply = get(url, Range="bytes=1000-", If_Range='"another"')
    assert reply.status_code == 200
    assert "Content-Range" not in reply.headers
    assert unpack(reply.content)


def test_ranges_can_be_switched_off(server: DemoServer, client: Client) -> None:
    server.clms.ranges = False
    reply = get(link(client), Range="bytes=1000-")
    assert reply.status_code == 200
    assert "Accept-Ranges" not in reply.headers
    assert unpack(reply.content)


def test_two_servers_deliver_the_same_bytes(client: Client) -> None:
    ours = get(link(client)).content
    other = Deliveries().archive([BLOCK])
    assert other is not None
    assert hashlib.sha256(other.read(0, other.size)).digest() == hashlib.sha256(ours).digest()


@pytest.mark.parametrize("status", [404, 410])
def test_links_expire(server: DemoServer, client: Client, status: int) -> None:
    task_id = client.order_file()
    url = client.wait(task_id)["DownloadURL"]
    server.clms.queue_seconds = 600
    pending = client.order_file()
    server.clms.expire_links(status)
    assert get(url).status_code == status
    # The account doesn't tell.
    assert client.task(task_id)["DownloadURL"] == url
    assert client.task(task_id)["Status"] == "Finished_ok"
    server.clms.queue_seconds = 0.0
    assert get(client.wait(pending)["DownloadURL"]).status_code == 200


def test_links_that_never_were(server: DemoServer, client: Client) -> None:
    link(client)
    for name in ("4049.zip", "4050", "x.zip", f"{'9' * 5000}.zip", ""):
        assert get(f"{server.url}/clms/results/{name}").status_code == 404


def test_a_planted_archive_is_delivered_as_it_is(server: DemoServer, client: Client, tmp_path: Path) -> None:
    body = bytes(range(256)) * 1000
    path = tmp_path / "own.zip"
    path.write_bytes(body)
    server.clms.deliver(BLOCK, path)
    task = client.wait(client.order_file())
    assert task["FileSize"] == len(body)
    whole = get(task["DownloadURL"])
    assert whole.content == body
    part = get(task["DownloadURL"], Range="bytes=300-309", If_Range=whole.headers["ETag"])
    assert (part.status_code, part.content) == (206, body[300:310])
    path.write_bytes(body[1:])
    assert get(task["DownloadURL"]).headers["ETag"] != whole.headers["ETag"]
    # Files of which the demonstration has nothing of its own, too.
    server.clms.deliver("TREE_COVER_DENSITY_2018_20m_eu_03035", path)
    assert get(link(client, "TREE_COVER_DENSITY_2018_20m_eu_03035")).content == body[1:]


def test_only_the_part_that_was_asked_for_is_read(
    server: DemoServer, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.zip"
    with path.open("wb") as file:
        file.truncate(2**30)
    server.clms.deliver(BLOCK, path)
    asked: list[tuple[int, int]] = []
    read = FileArchive.read

    def noted(archive: FileArchive, start: int, stop: int) -> bytes:
        asked.append((start, stop))
        return read(archive, start, stop)

    monkeypatch.setattr(FileArchive, "read", noted)
    assert get(link(client), Range="bytes=1000000-1000099").content == bytes(100)
    assert asked == [(1000000, 1000100)]


def test_what_cannot_be_planted(server: DemoServer, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no archive"):
        server.clms.deliver(BLOCK, tmp_path / "missing.zip")
    (tmp_path / "own.zip").touch()
    for name in ("FTY_1815", ""):
        with pytest.raises(ConfigurationError, match=f"lists no file '{name}'"):
            server.clms.deliver(name, tmp_path / "own.zip")
    with pytest.raises(ConfigurationError, match="lists no file"):
        server.clms.add_old_task("FTY_1815")


def test_faults_apply_to_deliveries(server: DemoServer, client: Client) -> None:
    url = link(client)
    server.faults.add(CutBody(0.5), "/clms/results/", times=1)
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete"):
        get(url)
    server.faults.add(GarbledBody(), "/clms/results/", times=1)
    with pytest.raises(zipfile.BadZipFile):
        zipfile.ZipFile(io.BytesIO(get(url).content))
    server.faults.add(Status(502), "/clms/results/", times=1)
    assert [get(url).status_code for _ in range(2)] == [502, 200]
    server.faults.add(CutBody(0.5), "/clms/results/", times=1)
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete"):
        get(url, Range="bytes=1000-")
