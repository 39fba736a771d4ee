from __future__ import annotations

import io
import shutil
import stat
import struct
import unicodedata
import zipfile
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scs2_cubes.errors import ArchiveLayoutError, SourceFormatError, StorageError
from scs2_cubes.preload.archive import unpack
from scs2_cubes_tests.preload.files import deliver, write_zip

NOISE = np.random.default_rng(3).bytes(200_000)


def refused(archive: Path, folder: Path, match: str, kind: type[SourceFormatError] = ArchiveLayoutError) -> None:
    """It is refused by name, and leaves nothing behind."""
    with pytest.raises(SourceFormatError, match=match) as raised:
        unpack(archive, folder)
    assert type(raised.value) is kind
    assert raised.value.url == str(archive)
    assert list(folder.rglob("*")) == []
    assert not (folder.parent / "evil.tif").exists()


def zipped(*members: tuple[zipfile.ZipInfo | str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


def as_delivery(tmp_path: Path, inner: bytes) -> Path:
    return write_zip(tmp_path / "delivery.zip", {"Results/": b"", "Results/a.zip": inner})


def test_rasters_at_any_depth(tmp_path: Path) -> None:
    members = {
        "b/": b"",
        "b/b.tif": b"one",
        "b/b.tif.vat.dbf": b"x",
        "b/b.tfw": b"x",
        "b/c/d/E00N20.TIFF": NOISE,
        "a.tif": b"",
    }
    folder = tmp_path / "out"
    found = unpack(deliver(tmp_path, members), folder)
    assert found == (folder / "E00N20.TIFF", folder / "a.tif", folder / "b.tif")
    assert [path.read_bytes() for path in found] == [NOISE, b"", b"one"]
    assert sorted(folder.iterdir()) == sorted(found)


def test_again_over_what_was_interrupted(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    for name in ("a.tif.part", "delivery.zip.part", "a.tif"):
        (folder / name).write_bytes(b"half")
    assert unpack(deliver(tmp_path, {"a.tif": NOISE}), folder) == (folder / "a.tif",)
    assert (folder / "a.tif").read_bytes() == NOISE
    assert list(folder.iterdir()) == [folder / "a.tif"]


@pytest.mark.parametrize(
    ("members", "match"),
    [
        ({}, "holds nothing"),
        ({"Results/a.tif": b"x"}, r"holds 'Results/a\.tif'"),
        ({"a.zip": b"x"}, r"holds 'a\.zip'"),
        ({"Results/deep/a.zip": b"x"}, r"'Results/deep/a\.zip'"),
        ({"Results/a.zip": b"x", "Results/b.ZIP": b"x"}, r"2 zips.*'Results/a\.zip', 'Results/b\.ZIP'"),
        ({"Results/a.zip": b"x", "b.zip": b"x"}, r"2 zips"),
        ({f"{i:02d}.txt": b"" for i in range(20)}, r"'07\.txt' and 12 more"),
    ],
)
def test_other_layouts_outside(tmp_path: Path, members: dict[str, bytes], match: str) -> None:
    refused(write_zip(tmp_path / "d.zip", members), tmp_path / "out", match)


@pytest.mark.parametrize(
    ("members", "match"),
    [
        ({}, "holds nothing"),
        ({"a.jp2": b"x", "a.zip": b"x"}, r"holds 'a\.jp2', 'a\.zip'"),
        ({"a.tif/": b"", "b.txt": b""}, r"holds 'b\.txt'"),
        ({"x/a.tif": b"x", "y/a.tif": b"y"}, r"same name: 'x/a\.tif', 'y/a\.tif'"),
        ({"x/a.tif": b"x", "A.TIF": b"y"}, r"same name: 'x/a\.tif', 'A\.TIF'"),
        ({unicodedata.normalize(form, "é.tif"): b"x" for form in ("NFC", "NFD")}, "same name"),
    ],
)
def test_other_layouts_inside(tmp_path: Path, members: dict[str, bytes], match: str) -> None:
    refused(deliver(tmp_path, members), tmp_path / "out", match)


@pytest.mark.parametrize(
    "name",
    [
        "../evil.tif",
        "a/../../evil.tif",
        "/evil.tif",
        "C:/evil.tif",
        "C:evil.tif",
        "..\\evil.tif",
        "a\\evil.tif",
        "evil.tif:stream.tif",
        "ev\nil.tif",
        "..",
        "../",
    ],
)
@pytest.mark.parametrize("where", ["outside", "inside"])
def test_names_that_lead_away(tmp_path: Path, name: str, where: str) -> None:
    if where == "inside":
        archive = as_delivery(tmp_path, zipped(("good.tif", b"x"), (name, b"x")))
    else:
        inner = zipped(("good.tif", b"x"))
        archive = write_zip(tmp_path / "d.zip", {"Results/a.zip": inner, name: b"x"})
    refused(archive, tmp_path / "out", "has a name that isn't")


def test_a_zero_byte_in_a_name(tmp_path: Path) -> None:
    inner = zipped(("goodXevil.tif", b"x")).replace(b"goodXevil", b"good\0evil")
    refused(as_delivery(tmp_path, inner), tmp_path / "out", "has a name that isn't")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFBLK])
def test_links_and_devices(tmp_path: Path, kind: int) -> None:
    member = zipfile.ZipInfo("a.tif")
    member.create_system = 3
    member.external_attr = (kind | 0o777) << 16
    refused(as_delivery(tmp_path, zipped((member, b"/etc/passwd"))), tmp_path / "out", r"'a\.tif' is no plain file")


def patched(inner: bytes, central: int, local: int, value: bytes) -> bytes:
    """The first member's headers, with ``value`` at those offsets of the central and of the local one."""
    changed = bytearray(inner)
    start = inner.index(b"PK\x01\x02")
    changed[start + central : start + central + len(value)] = value
    changed[local : local + len(value)] = value
    return bytes(changed)


def flagged(inner: bytes) -> bytes:
    return patched(inner, 8, 6, struct.pack("<H", 1))


def strange_method(inner: bytes) -> bytes:
    return patched(inner, 10, 8, struct.pack("<H", 9))


def too_small(inner: bytes) -> bytes:
    return patched(inner, 24, 22, struct.pack("<L", 1000))


def too_large(inner: bytes) -> bytes:
    return patched(inner, 24, 22, struct.pack("<L", 300_000))


def wrong_checksum(inner: bytes) -> bytes:
    return patched(inner, 16, 14, b"\0\0\0\0")


def broken_stream(inner: bytes) -> bytes:
    return inner[:1000] + bytes(1000) + inner[2000:]


def truncated(inner: bytes) -> bytes:
    return inner[:-100]


def beheaded(inner: bytes) -> bytes:
    return inner[1000:]


@pytest.mark.parametrize(
    "damage",
    [too_small, too_large, wrong_checksum, broken_stream, truncated, beheaded],
    ids=lambda damage: damage.__name__,
)
def test_damage_inside(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    inner = write_zip(tmp_path / "inner.zip", {"a.tif": NOISE}).read_bytes()
    refused(as_delivery(tmp_path, damage(inner)), tmp_path / "out", r"a\.tif|the zip in it", SourceFormatError)


@pytest.mark.parametrize("make", [flagged, strange_method], ids=lambda make: make.__name__)
def test_what_is_not_read(tmp_path: Path, make: Callable[[bytes], bytes]) -> None:
    inner = write_zip(tmp_path / "inner.zip", {"a.tif": NOISE}).read_bytes()
    refused(as_delivery(tmp_path, make(inner)), tmp_path / "out", r"'a\.tif' is (encrypted|compressed by method 9)")


@pytest.mark.parametrize("length", [0, 3, 50, 1000, 100_000, -1])
def test_truncated_outside(tmp_path: Path, length: int) -> None:
    archive = deliver(tmp_path, {"a.tif": NOISE})
    archive.write_bytes(archive.read_bytes()[:length])
    refused(archive, tmp_path / "out", "isn't a zip that can be read to its end", SourceFormatError)


def test_every_bit_matters(tmp_path: Path) -> None:
    """Wherever a bit is turned over, the rasters are what they were, or there's an error of the tree."""
    archive = deliver(tmp_path, {"a.tif": NOISE[:2000]})
    whole = archive.read_bytes()
    rng = np.random.default_rng(5)
    for place in rng.choice(len(whole), min(len(whole), 400), replace=False):
        changed = bytearray(whole)
        changed[place] ^= 1 << int(rng.integers(8))
        archive.write_bytes(changed)
        try:
            found = unpack(archive, tmp_path / "out")
        except (SourceFormatError, StorageError):
            continue
        assert [path.read_bytes() for path in found] == [NOISE[:2000]]


def test_no_archive_fills_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten files of a megabyte each, out of ten kilobytes."""
    archive = deliver(tmp_path, {f"{i}.tif": bytes(1_000_000) for i in range(10)})
    usage = namedtuple("usage", ["total", "used", "free"])  # noqa: PYI024 - as shutil's own
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 0, 19_999_999))
    with pytest.raises(StorageError, match=r"19999999 bytes free, but .* needs 10000000, and as much again"):
        unpack(archive, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 0, 20_000_000))
    assert len(unpack(archive, tmp_path / "out")) == 10


def test_no_archive_there(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"none\.zip"):
        unpack(tmp_path / "none.zip", tmp_path / "out")
