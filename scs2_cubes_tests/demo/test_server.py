from __future__ import annotations

import http.client
import json
import logging
import re
import socket
import struct
import threading
import time
from functools import partial
from urllib.parse import urlsplit

import pytest

from scs2_cubes.demo.faults import CutBody, Delay, GarbledBody, Status
from scs2_cubes.demo.memo import BoundedMemo
from scs2_cubes.demo.server import DemoServer, serve
from scs2_cubes.errors import ConfigurationError, Scs2CubesError
from scs2_cubes_tests.demo.conftest import BASE, ask

ROOT = "public/catalog.json"
CHUNK = "GAMI/GAMI_v3.1.zarr/latitude/0"


def test_get_has_the_fields_that_clients_count_on(server: DemoServer) -> None:
    reply = ask(server, ROOT)
    assert reply.status == 200
    assert int(reply.headers["Content-Length"]) == len(reply.body)
    assert re.fullmatch(r'"[0-9a-f]{32}"', reply.headers["ETag"])
    assert reply.headers["Last-Modified"] == "Thu, 15 Jan 2026 08:00:00 GMT"
    assert json.loads(reply.body)["id"] == "EOForestSTAC"


def test_head_says_the_same_without_a_body(server: DemoServer) -> None:
    get, head = ask(server, CHUNK), ask(server, CHUNK, "HEAD")
    assert head.body == b""
    for field in ("Content-Length", "ETag", "Last-Modified", "Content-Type"):
        assert head.headers[field] == get.headers[field]
    assert ask(server, "nothing", "HEAD").status == 404


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [("bytes=0-9", 0, 10), ("bytes=100-", 100, None), ("bytes=-7", -7, None), ("bytes=5-999999999", 5, None)],
)
def test_ranges(server: DemoServer, asked: str, start: int, stop: int | None) -> None:
    whole = ask(server, CHUNK).body
    reply = ask(server, CHUNK, headers={"Range": asked})
    assert reply.status == 206
    assert reply.body == whole[start:stop]
    first = start % len(whole)
    assert reply.headers["Content-Range"] == f"bytes {first}-{first + len(reply.body) - 1}/{len(whole)}"


@pytest.mark.parametrize(
    ("asked", "status"), [("bytes=999999999-", 416), ("bytes=-0", 416), ("bytes=0-1,4-5", 200), ("pages=1-2", 200)]
)
def test_ranges_that_cannot_be_given(server: DemoServer, asked: str, status: int) -> None:
    assert ask(server, CHUNK, headers={"Range": asked}).status == status


def test_an_unchanged_object_is_not_sent_again(server: DemoServer) -> None:
    tag = ask(server, "GAMI/GAMI_v3.1.zarr/.zmetadata").headers["ETag"]
    again = {"If-None-Match": tag}
    reply = ask(server, "GAMI/GAMI_v3.1.zarr/.zmetadata", headers=again)
    assert (reply.status, reply.body) == (304, b"")
    server.catalogue.publish("GAMI")
    assert ask(server, "GAMI/GAMI_v3.1.zarr/.zmetadata", headers=again).status == 200


def test_a_connection_stays_open(server: DemoServer) -> None:
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=20)
    connection.connect()
    port = connection.sock.getsockname()[1]
    for key in (ROOT, "nothing", CHUNK):
        connection.request("GET", f"{BASE}/{key}")
        connection.getresponse().read()
        assert connection.sock.getsockname()[1] == port
    connection.close()


def test_paths_are_decoded(server: DemoServer) -> None:
    assert ask(server, "public/catalog%2Ejson?versionId=null").status == 200


def test_the_log_counts(server: DemoServer) -> None:
    ask(server, ROOT)
    ask(server, ROOT, "HEAD")
    ask(server, "nothing")
    assert server.requests.count() == 3
    assert server.requests.count(ROOT) == 2
    assert server.requests.count(ROOT, method="HEAD") == 1
    assert [request.path for request in server.requests.entries(status=404)] == [f"{BASE}/nothing"]
    assert server.requests.count(re.compile(r"/n.thing$")) == 1
    server.requests.clear()
    assert server.requests.count() == 0


@pytest.mark.parametrize("code", [403, 404, 429, 500, 503])
def test_status_fault_hits_where_and_as_often_as_it_should(server: DemoServer, code: int) -> None:
    server.faults.add(Status(code), "catalog.json", times=2)
    assert ask(server, CHUNK).status == 200
    assert [ask(server, ROOT).status for _ in range(4)] == [code, code, 200, 200]
    assert server.requests.count(status=code) == 2


@pytest.mark.parametrize("value", ["2", "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_status_fault_can_ask_to_wait(server: DemoServer, value: str) -> None:
    server.faults.add(Status(503, retry_after=value))
    reply = ask(server, ROOT)
    assert reply.headers["Retry-After"] == value
    server.faults.clear()
    assert ask(server, ROOT).headers["Retry-After"] is None


def test_faults_go_by_pattern_and_in_order(server: DemoServer) -> None:
    server.faults.add(Status(500), re.compile(r"/catalog\.json$"), times=1)
    server.faults.add(Status(503), ROOT, times=1)
    assert [ask(server, ROOT).status for _ in range(3)] == [500, 503, 200]


def test_cut_body_breaks_off(server: DemoServer) -> None:
    whole = ask(server, CHUNK).body
    server.faults.add(CutBody(keep=0.25), CHUNK, times=1)
    with pytest.raises(http.client.IncompleteRead) as caught:
        ask(server, CHUNK)
    assert caught.value.partial == whole[: len(whole) // 4]
    assert ask(server, CHUNK).body == whole


def test_garbled_body_has_its_length_and_nothing_else(server: DemoServer) -> None:
    whole = ask(server, ROOT).body
    server.faults.add(GarbledBody(), ROOT)
    garbled = ask(server, ROOT)
    assert garbled.status == 200
    assert garbled.body == bytes(255 - byte for byte in whole)
    with pytest.raises(UnicodeDecodeError):
        garbled.body.decode()


def test_delays_add_up_and_leave_the_answer_alone(server: DemoServer) -> None:
    server.faults.latency = 0.1
    server.faults.add(Delay(0.2), ROOT, times=1)
    server.faults.add(Status(503), ROOT, times=1)
    start = time.monotonic()
    assert ask(server, ROOT).status == 503
    assert 0.3 <= time.monotonic() - start < 5
    start = time.monotonic()
    assert ask(server, ROOT).status == 200
    assert 0.1 <= time.monotonic() - start < 5


def test_a_delayed_answer_holds_up_nobody_else(server: DemoServer) -> None:
    server.faults.add(Delay(30), CHUNK)

    def wait() -> None:
        # The connection is cut when the server stops.
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            ask(server, CHUNK)

    waiting = threading.Thread(target=wait)
    waiting.start()
    start = time.monotonic()
    assert ask(server, ROOT).status == 200
    server.stop()
    waiting.join(timeout=5)
    assert not waiting.is_alive()
    assert time.monotonic() - start < 10


def test_a_stopped_server_refuses_and_comes_back_at_the_same_address() -> None:
    server = DemoServer()
    with pytest.raises(Scs2CubesError, match=r"call start\(\)"):
        _ = server.url
    server.start()
    url = server.url
    kept = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    kept.request("GET", f"{BASE}/{ROOT}")
    kept.getresponse().read()
    server.catalogue.publish("GAMI", 3)
    server.stop()
    server.stop()
    # The connection that stayed open is cut too: end of file.
    assert kept.sock.recv(1) == b""
    kept.close()
    with pytest.raises(ConnectionRefusedError):
        ask(server, ROOT)
    with server:
        assert server.url == url
        assert ask(server, ROOT).status == 200
        assert server.catalogue.edition("GAMI") == 3


def test_a_taken_port_is_named(server: DemoServer) -> None:
    port = int(server.url.rpartition(":")[2])
    with pytest.raises(ConfigurationError, match=rf"127\.0\.0\.1:{port} .*choose another port"):
        DemoServer(port).start()


def test_a_client_that_leaves_is_no_error(
    server: DemoServer, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    host, port = urlsplit(server.url).hostname, urlsplit(server.url).port
    server.faults.latency = 0.2
    for _ in range(3):
        client = socket.create_connection((host, port))
        client.sendall(f"GET {BASE}/{CHUNK} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        # Reset instead of a polite goodbye.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    ask(server, ROOT)
    time.sleep(0.3)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    assert ask(server, ROOT).status == 200


def test_starting_costs_nothing_and_a_probe_is_answered_at_once() -> None:
    start = time.monotonic()
    with DemoServer() as server:
        for key in (
            ROOT,
            "GAMI/GAMI_v3.1.zarr/.zmetadata",
            "FORESTPATHS_GENUS/FORESTPATHS_GENUS_v0.0.1.zarr/.zmetadata",
        ):
            assert ask(server, key).status == 200
    assert time.monotonic() - start < 2


def test_serve_tells_its_addresses() -> None:
    server, addresses = serve()
    try:
        assert server.catalogue_url == addresses["EO Forest catalogue"]
        assert ask(server, ROOT).status == 200
        assert server.href_rewrite == {"https://s3.gfz-potsdam.de": server.url}
    finally:
        server.stop()


def test_memo_stays_within_its_bounds() -> None:
    memo = BoundedMemo(100)
    made = []

    def make(key: str) -> bytes:
        made.append(key)
        return key.encode() * 40

    for key in ("a", "b", "a", "c", "a", "b"):
        assert memo.get(key, partial(make, key)) == key.encode() * 40
        assert memo.size <= 100
    assert made == ["a", "b", "c", "b"], "the least recently used one goes"
