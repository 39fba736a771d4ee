"""Servers that are silent, or break off: every call ends, after as many requests as the policy says."""

from __future__ import annotations

import pickle
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import zarr
from botocore.exceptions import IncompleteReadError  # type: ignore[import-untyped]  # ships no type information
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import FsspecStore

from scs2_cubes.config.object_stores import s3_options
from scs2_cubes.core.native import RetryPolicy
from scs2_cubes.core.specification import StorageSpec
from scs2_cubes.errors import StorageError
from scs2_cubes.preload.claims import Contender, Timing
from scs2_cubes.storage.objects import FsspecObjects, ObjectTree, open_objects
from scs2_cubes.storage.s3_objects import s3_store
from scs2_cubes.storage.zarr_cube import ZarrCube
from scs2_cubes_tests.storage.s3_servers import S3Double, answer

ATTEMPTS = 3
#: For servers that are silent: what a busy machine needs to send a request must fit in.
SHORT = RetryPolicy(max_attempts=ATTEMPTS, timeout=1.0)
#: For servers that answer, however busy the machine is.
LONG = RetryPolicy(max_attempts=ATTEMPTS, timeout=30.0)
#: Seconds: far more than anything here takes, so that "it ends" is told from "it hangs".
FOREVER = 60.0
#: What is asked → the method of its first request.
CALLS: dict[str, tuple[Callable[[ObjectTree], object], str]] = {
    "put": (lambda objects: objects.put("a", b"1"), "PUT"),
    "get": (lambda objects: objects.get("a"), "GET"),
    "delete": (lambda objects: objects.delete("a"), "DELETE"),
    "keys": (lambda objects: list(objects.keys("a")), "GET"),
    "sizes": (lambda objects: objects.sizes("a"), "GET"),
}


def objects_on(server: S3Double, policy: RetryPolicy = LONG) -> ObjectTree:
    options = s3_options({"key": "k", "secret": "s", "endpoint_url": server.url}, policy)
    return open_objects("s3://bucket/cubes", options)


def ended(action: Callable[[], object]) -> object:
    """What ``action`` returned, or raised; fails where it hangs."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(action())
        except Exception as error:  # noqa: BLE001 - whatever it is, the test looks at it
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(FOREVER)
    assert found, "it hangs"
    result: object = found[0]
    return result


class TestSilence:
    @pytest.mark.parametrize("name", CALLS)
    def test_each_attempt_is_one_request_and_the_last_one_ends(self, name: str) -> None:
        call, method = CALLS[name]
        with S3Double() as server:
            objects = objects_on(server, SHORT)
            error = ended(lambda: call(objects))
            assert isinstance(error, StorageError)
            assert "s3://bucket/cubes" in str(error)
            assert "run again when the server is back" in str(error)
            assert [request.split()[0] for request in server.heard(ATTEMPTS)] == [method] * ATTEMPTS

    def test_in_the_middle_of_a_body(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What sockets hold is taken, and then no more."""
        monkeypatch.setattr("scs2_cubes.storage.s3_objects._SLOWEST_LINE", 1e9)
        with S3Double(wants_body=True) as server:
            error = ended(lambda: objects_on(server, SHORT).put("a", bytes(30_000_000)))
            assert isinstance(error, StorageError)
            assert server.heard(ATTEMPTS) == ["PUT /bucket/cubes/a"] * ATTEMPTS

    def test_a_deadline_leaves_no_attempt_more_than_its_share(self) -> None:
        """A minute for each of three attempts would be three minutes."""
        with S3Double() as server:
            objects = objects_on(server, RetryPolicy(max_attempts=ATTEMPTS, timeout=60, deadline=3))
            begun = time.monotonic()
            assert isinstance(ended(lambda: objects.put("a", b"1")), StorageError)
            assert time.monotonic() - begun < FOREVER
            assert len(server.heard(ATTEMPTS)) == ATTEMPTS

    def test_a_claim_is_not_taken(self) -> None:
        with S3Double() as server:
            contender = Contender(objects_on(server, SHORT), "key", Timing())
            assert isinstance(ended(contender.take), StorageError)


class TestBrokenOff:
    """The head of an answer comes, and not all of its body: botocore itself doesn't ask again then."""

    def test_for_a_while(self) -> None:
        with S3Double(lambda number: answer("200 OK", b"12345", length=5 if number == 2 else 9)) as server:
            assert ended(lambda: objects_on(server).get("a")) == b"12345"
            assert server.requests == ["GET /bucket/cubes/a"] * 3

    def test_for_good(self) -> None:
        with S3Double(lambda _: answer("200 OK", b"12345", length=9)) as server:
            error = ended(lambda: objects_on(server).get("a"))
            assert isinstance(error, StorageError)
            assert "can't read s3://bucket/cubes/a" in str(error)
            assert "run again when the server is back" in str(error)
            assert len(server.requests) == ATTEMPTS

    def test_no_read_begins_after_the_time_that_one_may_take(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each has all attempts of botocore's; ten times ten would be far more than the policy says."""
        reads = []

        def slow(_: object, path: str) -> bytes:
            reads.append(path)
            time.sleep(1.1)
            raise IncompleteReadError(actual_bytes=5, expected_bytes=9)

        monkeypatch.setattr(FsspecObjects, "_read", slow)
        with S3Double() as server:
            objects = objects_on(server, RetryPolicy(max_attempts=10, timeout=0.1))
            assert isinstance(ended(lambda: objects.get("a")), StorageError)
            assert reads == ["bucket/cubes/a"]


class TestOpening:
    """Who reads a cube lazily has the same patience as who writes it, also in another process."""

    @staticmethod
    def store_on(server: S3Double) -> FsspecStore:
        options = s3_options({"key": "k", "secret": "s", "endpoint_url": server.url}, LONG)
        store = s3_store("s3://bucket/cubes/forest.zarr", options)
        restored: FsspecStore = pickle.loads(pickle.dumps(store))
        return restored

    @staticmethod
    def read(store: FsspecStore) -> bytes | None:
        value = zarr.core.sync.sync(store.get("age/0.0", default_buffer_prototype()))
        return None if value is None else value.to_bytes()

    def test_each_attempt_is_one_request(self) -> None:
        with S3Double(lambda _: answer("503 Service Unavailable")) as server:
            error = ended(lambda: self.read(self.store_on(server)))
            assert isinstance(error, OSError)
            assert server.requests == ["GET /bucket/cubes/forest.zarr/age/0.0"] * ATTEMPTS

    def test_a_body_that_breaks_off_for_a_while(self) -> None:
        with S3Double(lambda number: answer("200 OK", b"12345", length=5 if number == 2 else 9)) as server:
            assert ended(lambda: self.read(self.store_on(server))) == b"12345"
            assert len(server.requests) == ATTEMPTS

    def test_a_body_that_breaks_off_for_good(self) -> None:
        with S3Double(lambda _: answer("200 OK", b"12345", length=9)) as server:
            assert isinstance(ended(lambda: self.read(self.store_on(server))), Exception)
            assert len(server.requests) == ATTEMPTS

    def test_a_cube_is_opened_so(self) -> None:
        """Not just asked for: the first answer says that it's there, and from then on the server is overloaded."""
        with S3Double(lambda number: answer("503 Service Unavailable" if number else "200 OK", b"{}")) as server:
            options = s3_options({"key": "k", "secret": "s", "endpoint_url": server.url}, LONG)
            cube = ZarrCube.at(StorageSpec("s3://bucket/cubes", options), "forest")
            error = ended(cube.open)
            assert isinstance(error, StorageError)
            assert "can't open s3://bucket/cubes/forest.zarr" in str(error)
            # Of what zarr-python asks for at once, the first that fails ends it.
            assert max(Counter(server.requests[1:]).values()) == ATTEMPTS


class TestOverloaded:
    @pytest.mark.parametrize("name", ["put", "get", "delete", "keys"])
    def test_each_attempt_is_one_request(self, name: str) -> None:
        with S3Double(lambda _: answer("503 Service Unavailable")) as server:
            error = ended(lambda: CALLS[name][0](objects_on(server)))
            assert isinstance(error, StorageError)
            assert len(server.requests) == ATTEMPTS

    def test_for_a_while(self) -> None:
        with S3Double(lambda number: answer("200 OK" if number else "503 Service Unavailable", b"")) as server:
            assert ended(lambda: objects_on(server).put("a", b"1")) is None
            assert server.requests == ["PUT /bucket/cubes/a"] * 2


def test_a_refusal_is_not_asked_again() -> None:
    with S3Double(lambda _: answer("403 Forbidden")) as server:
        assert isinstance(ended(lambda: objects_on(server).get("a")), StorageError)
        assert len(server.requests) == 1


def test_a_large_object_is_one_put() -> None:
    """Several parts could be left behind half."""
    with S3Double(lambda _: answer("200 OK")) as server:
        objects_on(server, RetryPolicy(max_attempts=1)).put("a", bytes(101 * 2**20))
        assert server.requests == ["PUT /bucket/cubes/a"]


class TooLarge(bytes):
    """Bytes that say they are more than S3 takes at once."""

    def __len__(self) -> int:
        return 5 * 2**30


def test_what_is_too_large_for_one_put_is_refused() -> None:
    with S3Double() as server, pytest.raises(StorageError, match=r"can't write s3://bucket/cubes/a: .*5368709120 byte"):
        objects_on(server).put("a", TooLarge(b""))
    assert server.requests == []
