from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
import time
import traceback
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import fsspec
import pytest
from botocore.exceptions import (  # type: ignore[import-untyped]  # ships no type information
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
)
from fsspec.implementations.memory import MemoryFileSystem

from scs2_cubes.core.specification import StorageSpec
from scs2_cubes.errors import StorageError
from scs2_cubes.storage import sweep
from scs2_cubes.storage.objects import FsspecObjects, LocalObjects, Objects, open_objects
from scs2_cubes.storage.processes import Process
from scs2_cubes_tests.storage.worlds import Place


@pytest.fixture
def objects(place: Place) -> Objects:
    return open_objects(place.root, place.options)


def finished_process() -> Process:
    """One that has ended."""
    program = "from scs2_cubes.storage.processes import Process; p = Process.this(); print(p.number, p.birth)"
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    number, _, birth = said.strip().partition(" ")
    return replace(Process.this(), number=int(number), birth=birth)


class TestEverywhere:
    def test_put_get_delete(self, objects: Objects, place: Place) -> None:
        assert objects.get("a/b") is None
        objects.put("a/b", b"one")
        objects.put("a/b", b"two")
        assert objects.get("a/b") == b"two"
        assert place.files() == {"a/b": b"two"}
        objects.delete("a/b")
        assert objects.get("a/b") is None
        objects.delete("a/b")

    def test_keys_of_one_folder(self, objects: Objects) -> None:
        assert list(objects.keys("a")) == []
        for key in ("a/2", "a/10", "a/b/3", "ab/4"):
            objects.put(key, b"-")
        assert list(objects.keys("a")) == ["a/10", "a/2"]
        objects.delete("a/2")
        assert list(objects.keys("a")) == ["a/10"]

    def test_size(self, objects: Objects) -> None:
        assert objects.size("a") == 0
        objects.put("a/1", b"12345")
        objects.put("a/b/2", b"678")
        objects.put("ab/3", b"9")
        assert objects.size("a") == 8

    def test_move(self, objects: Objects, place: Place) -> None:
        objects.put("a/1", b"1")
        objects.put("a/b/2", b"2")
        objects.move("a", "old/a")
        assert place.files() == {"old/a/1": b"1", "old/a/b/2": b"2"}
        objects.put("a/1", b"3")
        with pytest.raises(StorageError, match="exists already"):
            objects.move("a", "old/a")
        assert objects.get("a/1") == b"3"

    def test_move_of_names_that_look_like_patterns(self, objects: Objects, place: Place) -> None:
        """``[ab]`` as a pattern is ``a``, and ``*`` is everything."""
        files = {"[ab]": b"1", "a": b"2", "b/*": b"3", "b/c": b"4", "d?": b"5", "de": b"6"}
        for name, content in files.items():
            objects.put(f"x/{name}", content)
        objects.move("x", "y")
        assert place.files() == {f"y/{name}": content for name, content in files.items()}

    def test_walk_and_remove(self, place: Place) -> None:
        tree = open_objects(place.root, place.options)
        assert list(tree.walk("")) == []
        for key in ("a/2", "a/b/c/3", "ab/4"):
            tree.put(key, b"-")
        assert list(tree.walk("a")) == ["a/2", "a/b/c/3"]
        assert list(tree.walk("")) == ["a/2", "a/b/c/3", "ab/4"]
        tree.remove("a")
        assert not tree.exists("a")
        assert list(tree.walk("")) == ["ab/4"]
        tree.remove("a")

    def test_sizes(self, place: Place) -> None:
        tree = open_objects(place.root, place.options)
        assert tree.sizes("a") == {}
        for key, content in {"a/2": b"", "a/b/c/3": b"12345", "ab/4": b"6"}.items():
            tree.put(key, content)
        assert tree.sizes("a") == {"2": 0, "b/c/3": 5}
        assert tree.sizes("") == {"a/2": 0, "a/b/c/3": 5, "ab/4": 1}

    def test_url_is_where_other_libraries_find_it(self, objects: Objects, place: Place) -> None:
        objects.put("a/b", b"here")
        filesystem, path = fsspec.core.url_to_fs(objects.url("a/b"), **place.options)
        assert filesystem.cat_file(path) == b"here"


def test_a_file_url_is_a_folder(tmp_path: Path) -> None:
    """Objects in a folder are put by renaming, however the folder is written."""
    objects = open_objects(f"file://{tmp_path}/with%20space", {})
    assert isinstance(objects, LocalObjects)
    objects.put("a/b", b"one")
    assert (tmp_path / "with space" / "a" / "b").read_bytes() == b"one"


class TestFolder:
    def test_a_reader_never_sees_half(self, tmp_path: Path) -> None:
        objects = LocalObjects(tmp_path)
        versions = {bytes([number]) * 2_000_000 for number in range(4)}
        objects.put("a", bytes(2_000_000))
        done = threading.Event()
        seen: set[bytes | None] = set()

        def read() -> None:
            while not done.is_set():
                seen.add(objects.get("a"))

        readers = [threading.Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        try:
            for _ in range(25):
                for version in versions:
                    objects.put("a", version)
        finally:
            done.set()
            for reader in readers:
                reader.join()
        assert seen
        assert seen <= versions

    def test_nothing_is_left_beside_the_objects(self, tmp_path: Path) -> None:
        LocalObjects(tmp_path).put("a/b", b"one")
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "a" / "b"]

    def test_a_failed_put_keeps_what_was_there(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        objects = LocalObjects(tmp_path)
        objects.put("a", b"old")

        def half(path: Path, value: bytes) -> int:
            with path.open("wb") as file:
                file.write(value[: len(value) // 2])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", half)
        with pytest.raises(StorageError, match=re.escape(str(tmp_path / "a")) + ".*No space left"):
            objects.put("a", b"newer")
        assert objects.get("a") == b"old"
        assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a"]

    def test_a_file_in_the_way_is_named(self, tmp_path: Path) -> None:
        objects = LocalObjects(tmp_path)
        objects.put("a", b"one")
        with pytest.raises(StorageError, match=re.escape(str(tmp_path / "a" / "b"))):
            objects.put("a/b", b"two")
        assert objects.get("a") == b"one"

    def test_a_folder_in_the_way_is_named(self, tmp_path: Path) -> None:
        objects = LocalObjects(tmp_path)
        objects.put("a/b", b"one")
        with pytest.raises(StorageError, match=re.escape(str(tmp_path / "a"))):
            objects.put("a", b"two")
        with pytest.raises(StorageError, match=re.escape(str(tmp_path / "a"))):
            objects.delete("a")
        assert objects.get("a/b") == b"one"

    def test_a_folder_is_no_object(self, tmp_path: Path) -> None:
        objects = LocalObjects(tmp_path)
        objects.put("a/b", b"one")
        assert objects.get("a") is None
        assert objects.get("a/b/c") is None

    @pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
    def test_a_read_only_folder_is_named(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o500)
        try:
            with pytest.raises(StorageError, match=re.escape(str(tmp_path))):
                LocalObjects(tmp_path).put("a/b", b"one")
        finally:
            tmp_path.chmod(0o700)

    def test_removed_by_two_at_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Another process removes an inner file while this one is at it: what is left goes, too."""
        objects = LocalObjects(tmp_path)
        for key in ("a/1", "a/2", "a/b/3", "c"):
            objects.put(key, b"-")
        real, removed = os.unlink, []

        def unlink(path: str, **given: Any) -> None:
            removed.append(path)
            real(path, **given)
            if len(removed) == 1:
                # As it looks where the other one was faster.
                raise FileNotFoundError(2, "No such file or directory")

        monkeypatch.setattr(os, "unlink", unlink)
        objects.remove("a")
        monkeypatch.undo()
        assert not (tmp_path / "a").exists()
        assert objects.get("c") == b"-"
        assert len(removed) == 3


class Refusing(MemoryFileSystem):  # type: ignore[misc]  # fsspec ships no type information
    """Answers every request with an error."""

    cachable = False

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        raise PermissionError(13, "Forbidden")

    find = info = mv = cat_file = pipe_file = rm_file = rm = ls = _refuse


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> FsspecObjects:
    objects = FsspecObjects("memory://user:PLANTED@bucket/x", {})
    monkeypatch.setattr(objects, "_filesystem", Refusing())
    return objects


CALLS = [
    lambda objects: objects.get("a"),
    lambda objects: objects.put("a", b""),
    lambda objects: objects.delete("a"),
    lambda objects: list(objects.keys("a")),
    lambda objects: objects.size("a"),
    lambda objects: objects.sizes("a"),
    lambda objects: objects.exists("a"),
    lambda objects: objects.move("a", "b"),
    lambda objects: list(objects.walk("a")),
    lambda objects: objects.remove("a"),
]


@pytest.mark.parametrize("call", CALLS)
def test_errors_of_an_object_store(refused: FsspecObjects, call: Any) -> None:
    """They are this package's, name the place, and show no password."""
    with pytest.raises(StorageError, match=r"memory://bucket/x/[ab].*Forbidden") as caught:
        call(refused)
    assert "PLANTED" not in str(caught.value)
    assert refused.shown("k") == "memory://bucket/x/k"


class Unreachable(MemoryFileSystem):  # type: ignore[misc]  # fsspec ships no type information
    """Answers every request with an error that isn't an OSError, as s3fs and fsspec over HTTP do."""

    cachable = False

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def _fail(self, *args: Any, **kwargs: Any) -> Any:
        raise self._error

    find = info = mv = cat_file = pipe_file = rm_file = rm = ls = _fail


ADDRESS = "https://user:PLANTED@s3.example/bucket?sig=PLANTED"
FOREIGN = [
    EndpointConnectionError(endpoint_url=ADDRESS),
    NoCredentialsError(),
    ClientError({"Error": {"Code": "SlowDown", "Message": f"not at {ADDRESS} now"}}, "GetObject"),
    aiohttp.ServerDisconnectedError(f"from {ADDRESS}"),
]


@pytest.mark.parametrize("error", FOREIGN, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("call", CALLS)
def test_errors_of_other_libraries(monkeypatch: pytest.MonkeyPatch, call: Any, error: Exception) -> None:
    assert not isinstance(error, OSError)
    objects = FsspecObjects("memory://user:PLANTED@bucket/x", {})
    monkeypatch.setattr(objects, "_filesystem", Unreachable(error))
    with pytest.raises(StorageError, match=r"^can't \w+( at)? memory://bucket/x/[ab]\b.*: ") as caught:
        call(objects)
    text = "".join(traceback.TracebackException.from_exception(caught.value).format())
    assert "PLANTED" not in text
    assert ("s3.example/bucket" in text) == (ADDRESS in str(error))


def test_a_mistake_of_ours_is_no_storage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    objects = FsspecObjects("memory://bucket/x", {})
    monkeypatch.setattr(objects, "_filesystem", Unreachable(KeyError("a mistake")))
    with pytest.raises(KeyError):
        objects.get("a")


def test_s3_that_is_not_there() -> None:
    """s3fs itself, asked to speak to a port on which nobody listens."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        options = {"key": "k", "secret": "s", "config_kwargs": {"retries": {"max_attempts": 0}}}
        objects = open_objects("s3://bucket/x", {"endpoint_url": address, "skip_instance_cache": True, **options})
        with pytest.raises(StorageError, match=r"can't write s3://bucket/x/a: .*127\.0\.0\.1"):
            objects.put("a", b"")


class Dying(MemoryFileSystem):  # type: ignore[misc]  # fsspec ships no type information
    """A server that goes away after a number of copies or removals."""

    cachable = False

    def __init__(self, copies: int, removals: int) -> None:
        super().__init__()
        self._left = {"copies": copies, "removals": removals}

    def _count(self, what: str) -> None:
        if not self._left[what]:
            raise ConnectionResetError("gone")
        self._left[what] -= 1

    def cp_file(self, path1: str, path2: str, **given: Any) -> None:
        self._count("copies")
        super().cp_file(path1, path2, **given)

    def rm(self, path: Any, **given: Any) -> None:
        for name in path:
            self._count("removals")
            super().rm_file(name)


@pytest.mark.parametrize(("copies", "removals"), [(0, 0), (2, 0), (4, 0), (4, 3), (4, 4)])
def test_an_interrupted_move_goes_on(monkeypatch: pytest.MonkeyPatch, copies: int, removals: int) -> None:
    root = f"memory://scs2-{uuid.uuid4().hex}"
    objects, files = FsspecObjects(root, {}), {str(number): bytes([number]) for number in range(4)}
    for name, content in files.items():
        objects.put(f"x/{name}", content)
    whole = objects._filesystem
    monkeypatch.setattr(objects, "_filesystem", Dying(copies, removals))
    if removals < len(files):
        with pytest.raises(StorageError, match="gone"):
            objects.move("x", "y")
        # All of it is there.
        assert {key.partition("/")[2] for key in objects.walk("") if "/" in key} == set(files)
    else:
        objects.move("x", "y")
    monkeypatch.setattr(objects, "_filesystem", whole)
    if removals < len(files):
        objects.move("x", "y")
    assert list(objects.walk("")) == [f"y/{name}" for name in files]
    assert {name: objects.get(f"y/{name}") for name in files} == files
    objects.put("x/new", b"")
    with pytest.raises(StorageError, match="exists already"):
        objects.move("x", "y")


class TestSweep:
    def test_only_what_dead_processes_of_this_system_left(self, tmp_path: Path) -> None:
        partial = tmp_path / ".partial"
        partial.mkdir()
        this, dead, unique = Process.this(), finished_process(), "0123456789abcdef" * 2
        left = [
            partial / f"{dead.name}-{unique}",
            # Its number is this process's by now.
            partial / f"{replace(this, birth='1').name}-{unique}",
        ]
        kept = [
            partial / f"{this.name}-{unique}",
            # Another container of the same host name has numbers of its own.
            partial / f"{replace(dead, system='another').name}-{unique}",
            partial / f"{replace(dead, host='another').name}-{unique}",
            # As earlier releases called it.
            partial / f"{dead.host}-{dead.number}-{unique}",
            partial / f"{dead.name}-notes",
            tmp_path / f"{dead.name}-{unique}",
        ]
        for path in (*left, *kept):
            path.write_bytes(b"half")
        sweep(StorageSpec(str(tmp_path)))
        assert not any(path.exists() for path in left)
        assert all(path.exists() for path in kept)

    def test_what_other_systems_left_goes_after_a_day(self, tmp_path: Path) -> None:
        """A container that is made again never is the one that was killed."""
        partial = tmp_path / ".partial"
        partial.mkdir()
        this, unique = Process.this(), "0123456789abcdef" * 2
        elsewhere = replace(this, system="another").name
        ages = {
            f"{elsewhere}-{unique}": 25,
            f"host-77-{unique}": 25,
            f"{elsewhere}-{unique[::-1]}": 23,
            # It may have been suspended.
            f"{this.name}-{unique}": 25,
            "notes": 25,
        }
        for name, hours in ages.items():
            path = partial / name
            path.write_bytes(b"half")
            moment = time.time() - hours * 3600
            os.utime(path, (moment, moment))
        sweep(StorageSpec(str(tmp_path)))
        assert sorted(path.name for path in partial.iterdir()) == sorted(list(ages)[2:])

    def test_nothing_to_sweep(self, tmp_path: Path) -> None:
        sweep(StorageSpec(str(tmp_path / "nothing")))
        assert not (tmp_path / "nothing").exists()

    def test_a_killed_writer_leaves_nothing_among_the_objects(self, tmp_path: Path) -> None:
        program = """
import os, sys
from pathlib import Path
from scs2_cubes.storage.objects import LocalObjects
write = Path.write_bytes
def killed(path, value):
    write(path, value[:2])
    os._exit(9)
Path.write_bytes = killed
LocalObjects(Path(sys.argv[1])).put("a/b", b"whole")
"""
        ended = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
        assert ended.returncode == 9
        assert LocalObjects(tmp_path).get("a/b") is None
        assert len(list((tmp_path / ".partial").iterdir())) == 1
        sweep(StorageSpec(str(tmp_path)))
        assert list((tmp_path / ".partial").iterdir()) == []


class TestObjectStore:
    class Refusing(MemoryFileSystem):  # type: ignore[misc]  # fsspec ships no type information
        """A server that refuses everything."""

        protocol = "refusing"

        def _refuse(self, *_: Any, **__: Any) -> Any:
            raise PermissionError("Access Denied")

        cat_file = pipe_file = rm_file = ls = _refuse

    def test_refusals_are_storage_errors_that_name_the_object(self) -> None:
        fsspec.register_implementation("refusing", self.Refusing, clobber=True)
        objects = FsspecObjects("refusing://bucket/cubes/", {})
        for action in (
            lambda: objects.get("a/b"),
            lambda: objects.put("a/b", b""),
            lambda: objects.delete("a/b"),
            lambda: list(objects.keys("a/b")),
        ):
            with pytest.raises(StorageError, match=r"refusing://bucket/cubes/a/b.*Access Denied"):
                action()
