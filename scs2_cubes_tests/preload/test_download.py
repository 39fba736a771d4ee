from __future__ import annotations

import logging
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scs2_cubes.core.native import RetryPolicy
from scs2_cubes.errors import (
    AccessDeniedError,
    DataIdNotFoundError,
    Scs2CubesError,
    SourceFormatError,
    SourceUnavailableError,
    StorageError,
)
from scs2_cubes.preload.download import download, part_files
from scs2_cubes_tests.preload.files import FileServer, ignore_progress, serving

SIZE = 3_000_000
BODY = np.random.default_rng(1).bytes(SIZE)
OTHER = np.random.default_rng(2).bytes(SIZE + 17)
QUICK = RetryPolicy(deadline=5, max_attempts=3, initial_wait=0.01, max_wait=0.02, timeout=5)


def fetch(server: FileServer, target: Path, **arguments: Any) -> int:
    defaults: dict[str, Any] = {
        "policy": QUICK,
        "expected_size": None,
        "headers": {},
        "on_progress": ignore_progress,
    }
    return download(arguments.pop("url", server.url), target, **(defaults | arguments))


def interrupt(server: FileServer, target: Path, keep: int) -> None:
    """Leave a part file: the connection is cut, and then there's no file for a while."""
    server.cuts, server.statuses = [keep], [0, 404]
    with pytest.raises(DataIdNotFoundError):
        fetch(server, target)
    server.seen.clear()


def only(target: Path) -> None:
    """Nothing lies in the folder but the target."""
    assert list(target.parent.iterdir()) == [target]


def test_whole(tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    target = tmp_path / "new" / "delivery.zip"
    with serving(FileServer(BODY)) as server:
        size = fetch(
            server,
            target,
            expected_size=SIZE,
            headers={"Referer": "https://land.example/"},
            on_progress=lambda done, total: told.append((done, total)),
        )
    assert size == SIZE
    assert target.read_bytes() == BODY
    only(target)
    assert told[-1] == (SIZE, SIZE)
    assert told == sorted(told)
    assert server.seen[0]["user-agent"].startswith("scs2_cubes/")
    assert server.seen[0]["referer"] == "https://land.example/"
    assert "authorization" not in server.seen[0]
    assert "range" not in server.seen[0]


@pytest.mark.parametrize("validators", [{}, {"etag": None, "modified": "Mon, 01 Jan 2024 00:00:00 GMT"}])
def test_a_cut_body_is_resumed(tmp_path: Path, validators: dict[str, Any]) -> None:
    target = tmp_path / "a.zip"
    with serving(FileServer(BODY, cuts=[1_000_000, 500_000], **validators)) as server:
        fetch(server, target)
    assert target.read_bytes() == BODY
    assert [request.get("range") for request in server.seen] == [None, "bytes=1000000-", "bytes=1500000-"]
    assert {request.get("if-range") for request in server.seen[1:]} == {server.etag or server.modified}
    assert server.sent == SIZE
    only(target)


def test_progress_uses_up_no_attempts(tmp_path: Path) -> None:
    """Ten times cut, with three attempts."""
    with serving(FileServer(BODY, cuts=[200_000] * 10)) as server:
        fetch(server, tmp_path / "a.zip")
    assert len(server.seen) == 11
    assert (tmp_path / "a.zip").read_bytes() == BODY


def test_no_progress_uses_them_up(tmp_path: Path) -> None:
    with serving(FileServer(BODY, cuts=[1000] + [0] * 50)) as server:
        with pytest.raises(SourceUnavailableError, match="after 3 attempts"):
            fetch(server, tmp_path / "a.zip")
        assert len(server.seen) == 4
        server.cuts.clear()
        fetch(server, tmp_path / "a.zip")
    assert server.seen[-1]["range"] == "bytes=1000-"
    assert (tmp_path / "a.zip").read_bytes() == BODY


def test_the_same_bytes_again_are_no_progress(tmp_path: Path) -> None:
    """A server without ranges, always cut at the same place, isn't asked forever."""
    with (
        serving(FileServer(BODY, ranges=False, cuts=[1_000_000] * 50)) as server,
        pytest.raises(SourceUnavailableError, match="after 3 attempts"),
    ):
        fetch(server, tmp_path / "a.zip")
    assert len(server.seen) == 4


@pytest.mark.parametrize("how", [{"ranges": False}, {"etag": None}, {"etag": 'W/"weak"'}])
def test_starts_again_where_it_must(tmp_path: Path, how: dict[str, Any]) -> None:
    """Without ranges, or without a validator that ``If-Range`` takes."""
    with serving(FileServer(BODY, cuts=[1_000_000], **how)) as server:
        fetch(server, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == BODY
    assert server.sent == SIZE + 1_000_000


@pytest.mark.parametrize("conditional", [True, False])
def test_another_file_isnt_glued_on(tmp_path: Path, conditional: bool) -> None:
    target = tmp_path / "a.zip"
    with serving(FileServer(BODY, conditional=conditional)) as server:
        interrupt(server, target, 1_000_000)
        server.body, server.etag = OTHER, '"two"'
        fetch(server, target)
    assert target.read_bytes() == OTHER
    assert server.seen[0]["if-range"] == '"one"'


def test_another_link_starts_again(tmp_path: Path) -> None:
    """A validator means something for its own resource only."""
    target = tmp_path / "a.zip"
    with serving(FileServer(BODY)) as server:
        interrupt(server, target, 1_000_000)
        fetch(server, target, url=server.url.replace("delivery", "another"))
    assert "range" not in server.seen[0]
    assert target.read_bytes() == BODY


def test_a_signature_may_change(tmp_path: Path) -> None:
    target = tmp_path / "a.zip"
    with serving(FileServer(BODY, cuts=[1_000_000], statuses=[0, 410])) as server:
        with pytest.raises(DataIdNotFoundError):
            fetch(server, target, url=f"{server.url}?signature=old")
        fetch(server, target, url=f"{server.url}?signature=new")
    assert server.seen[-1]["range"] == "bytes=1000000-"
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("note", [b"", b"[]", b"{}", b'{"link": 1}', b"\xff"])
def test_a_part_of_unknown_origin_is_left(tmp_path: Path, note: bytes) -> None:
    target = tmp_path / "a.zip"
    part, beside = part_files(target)
    part.write_bytes(b"x" * 100)
    beside.write_bytes(note)
    with serving(FileServer(BODY)) as server:
        fetch(server, target)
    assert target.read_bytes() == BODY
    only(target)


def test_a_part_beyond_the_file_is_left(tmp_path: Path) -> None:
    target = tmp_path / "a.zip"
    with serving(FileServer(BODY)) as server:
        interrupt(server, target, 1_000_000)
        with part_files(target)[0].open("ab") as part:
            part.write(bytes(SIZE))
        fetch(server, target)
    assert target.read_bytes() == BODY


def test_a_whole_part_needs_no_request(tmp_path: Path) -> None:
    """As where a process was killed between the last byte and the move."""
    target = tmp_path / "a.zip"
    with serving(FileServer(BODY)) as server:
        interrupt(server, target, 1_000_000)
        part_files(target)[0].write_bytes(BODY)
        assert fetch(server, target) == SIZE
    assert server.seen == []
    assert target.read_bytes() == BODY
    only(target)


def test_without_an_announced_size(tmp_path: Path) -> None:
    with serving(FileServer(BODY, announce=False)) as server:
        assert fetch(server, tmp_path / "a.zip", expected_size=SIZE) == SIZE
        with pytest.raises(SourceFormatError, match=f"{SIZE} bytes, not {SIZE + 1} "):
            fetch(server, tmp_path / "b.zip", expected_size=SIZE + 1)
        told: list[int] = []
        with pytest.raises(SourceFormatError, match="not 1000000"):
            fetch(server, tmp_path / "c.zip", expected_size=1_000_000, on_progress=lambda done, _: told.append(done))
        # It stops where it is too long, not where it ends.
        assert max(told) <= 1_000_000
    only(tmp_path / "a.zip")


@pytest.mark.parametrize("etag", ['"one"', None])
def test_cut_without_an_announced_size(tmp_path: Path, etag: str | None) -> None:
    """Where somebody else has told the size, an early end is a connection that broke off."""
    with serving(FileServer(BODY, announce=False, etag=etag, cuts=[1_000_000, 500_000])) as server:
        assert fetch(server, tmp_path / "a.zip", expected_size=SIZE) == SIZE
    assert (tmp_path / "a.zip").read_bytes() == BODY
    assert len(server.seen) == 3
    assert server.seen[1].get("range") == ("bytes=1000000-" if etag else None)
    assert server.sent == (SIZE if etag else SIZE + 1_500_000)
    only(tmp_path / "a.zip")


def test_what_was_cut_without_an_announced_size_is_kept(tmp_path: Path) -> None:
    with serving(FileServer(BODY, announce=False, cuts=[1_000_000], statuses=[0, 404])) as server:
        with pytest.raises(DataIdNotFoundError):
            fetch(server, tmp_path / "a.zip", expected_size=SIZE)
        fetch(server, tmp_path / "a.zip", expected_size=SIZE)
    assert server.seen[-1]["range"] == "bytes=1000000-"
    assert (tmp_path / "a.zip").read_bytes() == BODY


def test_a_rest_without_an_announced_size_may_be_cut(tmp_path: Path) -> None:
    """Only ``Content-Range`` says how long it is."""
    with serving(FileServer(BODY, announce=False, cuts=[1_000_000, 500_000])) as server:
        interrupt_announced(server, tmp_path / "a.zip")
        assert fetch(server, tmp_path / "a.zip") == SIZE
    assert [request["range"] for request in server.seen] == ["bytes=1000000-", "bytes=1500000-"]
    assert (tmp_path / "a.zip").read_bytes() == BODY


def interrupt_announced(server: FileServer, target: Path) -> None:
    """As :func:`interrupt`, with a size that is announced this once; the cuts go on."""
    server.announce, server.statuses = True, [0, 404]
    with pytest.raises(DataIdNotFoundError):
        fetch(server, target)
    server.announce = False
    server.seen.clear()


@pytest.mark.parametrize("given", [{}, {"etag": None, "modified": "Mon, 01 Jan 2024 00:00:00 GMT"}])
def test_a_rest_without_validators(tmp_path: Path, given: dict[str, Any]) -> None:
    """RFC 9110, 15.3.7: what the client has named in ``If-Range`` needn't be repeated."""
    target = tmp_path / "a.zip"
    with serving(FileServer(BODY, cuts=[1_000_000], bare_parts=True, **given)) as server:
        fetch(server, target, expected_size=SIZE)
    assert server.sent == SIZE
    assert target.read_bytes() == BODY


def test_a_rest_without_validators_of_a_file_of_another_size(tmp_path: Path) -> None:
    target = tmp_path / "a.zip"
    with serving(FileServer(BODY, conditional=False, bare_parts=True)) as server:
        interrupt(server, target, 1_000_000)
        server.body, server.etag = OTHER, '"two"'
        fetch(server, target)
    assert target.read_bytes() == OTHER


def test_longer_than_the_part_says(tmp_path: Path) -> None:
    """Nobody else has told a size, so the message names what the server had said."""
    target = tmp_path / "a.zip"
    with serving(FileServer(BODY, announce=False, padding=7)) as server:
        server.padding = 0
        interrupt_announced_cut(server, target)
        server.padding = 7
        with pytest.raises(SourceFormatError, match=rf"{SIZE + 7} bytes, not {SIZE} as was told"):
            fetch(server, target)


def interrupt_announced_cut(server: FileServer, target: Path) -> None:
    server.cuts = [1_000_000]
    interrupt_announced(server, target)


def test_another_size_than_expected(tmp_path: Path) -> None:
    with serving(FileServer(BODY)) as server, pytest.raises(SourceFormatError, match=f"{SIZE} bytes, not 12 "):
        fetch(server, tmp_path / "a.zip", expected_size=12)
    assert server.sent <= SIZE
    assert not (tmp_path / "a.zip").exists()


def test_an_empty_file(tmp_path: Path) -> None:
    with serving(FileServer(b"")) as server:
        assert fetch(server, tmp_path / "a.zip") == 0
    only(tmp_path / "a.zip")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, DataIdNotFoundError),
        (410, DataIdNotFoundError),
        (401, AccessDeniedError),
        (403, AccessDeniedError),
        (400, SourceUnavailableError),
        (204, SourceFormatError),
        (206, SourceUnavailableError),
    ],
)
def test_refusals(tmp_path: Path, status: int, error: type[Scs2CubesError]) -> None:
    with serving(FileServer(BODY, statuses=[status] * 9)) as server, pytest.raises(error) as raised:
        fetch(server, tmp_path / "a.zip")
    assert server.url in str(raised.value)
    assert not (tmp_path / "a.zip").exists()


def test_errors_that_pass(tmp_path: Path) -> None:
    with serving(FileServer(BODY, statuses=[500, 429], extra={"Retry-After": "1"})) as server:
        began = time.monotonic()
        fetch(server, tmp_path / "a.zip")
    assert time.monotonic() - began > 1.9
    assert (tmp_path / "a.zip").read_bytes() == BODY


def test_compressed_transfer_is_refused(tmp_path: Path) -> None:
    with (
        serving(FileServer(BODY, extra={"Content-Encoding": "gzip"})) as server,
        pytest.raises(SourceFormatError, match="gzip"),
    ):
        fetch(server, tmp_path / "a.zip")
    assert server.seen[0]["accept-encoding"] == "identity"


def test_too_little_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", ["total", "used", "free"])  # noqa: PYI024 - as shutil's own
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 0, SIZE - 1))
    with serving(FileServer(BODY)) as server:
        with pytest.raises(StorageError, match=f"{SIZE - 1} bytes free, but .* needs {SIZE}"):
            fetch(server, tmp_path / "a.zip")
        # Only the rest of a file needs room.
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 0, SIZE))
        interrupt(server, tmp_path / "a.zip", 1_000_000)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 0, SIZE - 1_000_000))
        fetch(server, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == BODY


def test_a_folder_that_cant_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with serving(FileServer(BODY)) as server, pytest.raises(StorageError, match=r"a\.zip"):
        fetch(server, tmp_path / "file" / "a.zip")


def everything(error: BaseException) -> str:
    """All that a log could show of an error, causes and contexts included."""
    chain: list[BaseException] = []
    following: BaseException | None = error
    while following is not None:
        chain.append(following)
        following = following.__cause__ or following.__context__
    request = [str(getattr(link, "_request", "")) + str(vars(link)) for link in chain]
    return "".join(traceback.format_exception(error)) + repr(chain) + "".join(request)


@pytest.mark.parametrize(
    "faults",
    [{"statuses": [404]}, {"statuses": [403]}, {"statuses": [500] * 9}, {"cuts": [0] * 9}, {"statuses": [302] * 99}],
)
def test_secrets_stay_in_the_link(tmp_path: Path, caplog: pytest.LogCaptureFixture, faults: dict[str, Any]) -> None:
    caplog.set_level(logging.INFO)
    with serving(FileServer(BODY, **faults)) as server:
        link = server.url.replace("http://", "http://user:pa55-marked@") + "?signature=s1g-marked"
        server.extra = {"Location": "/elsewhere?signature=l0c-marked"}
        with pytest.raises(Scs2CubesError) as raised:
            fetch(server, tmp_path / "a.zip", url=link)
        server.statuses.clear()
        server.cuts = [1000]
        server.extra.clear()
        fetch(server, tmp_path / "a.zip", url=link)
    text = everything(raised.value) + caplog.text + repr([record.__dict__ for record in caplog.records])
    assert "marked" not in text
    assert "HTTP Request" in caplog.text
    for path in tmp_path.iterdir():
        assert b"marked" not in path.read_bytes()


@pytest.mark.parametrize("link", ["ftp://h/x?key=marked", "http://[::1/x?key=marked"])
def test_links_that_lead_nowhere(tmp_path: Path, link: str) -> None:
    with pytest.raises(SourceUnavailableError) as raised:
        fetch(FileServer(b""), tmp_path / "a.zip", url=link)
    assert "marked" not in everything(raised.value)


KILLED = """
import sys
from pathlib import Path
from scs2_cubes.core.native import RetryPolicy
from scs2_cubes.preload.download import download
download(sys.argv[1], Path(sys.argv[2]), policy=RetryPolicy(), expected_size=None, headers={},
         on_progress=lambda done, total: print(done, flush=True))
"""


def test_killed_in_the_middle(tmp_path: Path) -> None:
    target, go = tmp_path / "a.zip", threading.Event()
    with serving(FileServer(BODY, pause=(2 << 20, go))) as server:
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, server.url, str(target)], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            while int(process.stdout.readline()) < 1 << 20:
                pass
            process.send_signal(signal.SIGKILL)
        go.set()
        server.pause = None
        left = part_files(target)[0].stat().st_size
        assert 0 < left < SIZE
        assert not target.exists()
        fetch(server, target)
    assert server.seen[-1]["range"] == f"bytes={left}-"
    assert target.read_bytes() == BODY
    only(target)
