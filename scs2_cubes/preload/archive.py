"""A delivered archive: a zip with a zip in it, and in that the GeoTIFFs.

What comes from outside isn't trusted: names mustn't lead out of the folder, sizes mustn't fill the disk, and what can't
be read to its end with the right checksum isn't there. The layout is that of CLMS deliveries: ``Results/<name>.zip``,
and in that zip rasters at any depth beside other files.
"""

from __future__ import annotations

import re
import shutil
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from scs2_cubes.errors import ArchiveLayoutError, SourceFormatError, StorageError

__all__ = ["unpack"]

_RESULTS = "Results"
_RASTERS = frozenset({".tif", ".tiff"})
_PIECE = 1 << 20
_ENCRYPTED = 0x1
#: zipfile bounds the memory of these alone, whatever the bytes.
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
#: Drive letters and streams of Windows, its separator, and what no file name holds on purpose.
_FORBIDDEN = re.compile(r"[:\\\x00-\x1f\x7f]")
#: What zipfile and zlib raise at bytes that they can't make sense of.
_UNREADABLE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError, ValueError)
#: More names than these don't help anybody.
_NAMES_SHOWN = 8
#: As often as what is to be unpacked must fit: it is followed by as much again, the rasters after the zip that holds
#: them, the cache after the rasters. Compressed twice, they may be smaller, so this is no promise.
_ROOM = 2
#: Longest piece of a name in a message.
_NAME_LENGTH = 100


def unpack(archive: Path, folder: Path) -> tuple[Path, ...]:
    """Extract the rasters of ``archive`` into ``folder``, flat, and return their paths, sorted by name.

    They appear under their names once all of them are there; until then they have the suffix ``.part``, and what an
    earlier, interrupted call left is overwritten. Holds no more than a few MiB in memory.

    Raises ArchiveLayoutError where the archive is encrypted, laid out in another way or has names that mustn't be,
    SourceFormatError where it is damaged, and StorageError where the disk has too little room or can't be read or
    written.
    """
    inner = folder / "delivery.zip.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _opened(archive) as outer:
            member = _inner_zip(_files(outer, archive), archive)
            _check_room(folder, member.file_size)
            _extract(outer, member, inner, archive)
        with _opened(inner, shown=archive) as delivery:
            return _extract_rasters(delivery, folder, archive)
    except OSError as error:
        raise StorageError(f"can't unpack {archive} into {folder}: {error}") from error
    finally:
        inner.unlink(missing_ok=True)


def _extract_rasters(delivery: zipfile.ZipFile, folder: Path, archive: Path) -> tuple[Path, ...]:
    rasters = _rasters(_files(delivery, archive), archive)
    _check_room(folder, sum(member.file_size for member in rasters.values()))
    parts = {name: folder / f"{name}.part" for name in rasters}
    try:
        for name, member in rasters.items():
            _extract(delivery, member, parts[name], archive)
        return tuple(part.replace(folder / name) for name, part in parts.items())
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


@contextmanager
def _opened(path: Path, shown: Path | None = None) -> Iterator[zipfile.ZipFile]:
    """The zip at ``path``; messages name ``shown``, which it is or lies in."""
    with path.open("rb") as file:
        with _readable(shown or path, "it" if shown is None else "the zip in it"):
            archive = zipfile.ZipFile(file)
        with archive:
            yield archive


@contextmanager
def _readable(archive: Path, what: str) -> Iterator[None]:
    try:
        yield
    except (*_UNREADABLE, OSError) as error:
        # OSError is a seek to where a damaged directory points, as a disk that fails is; the message tells.
        raise SourceFormatError(
            f"{what} isn't a zip that can be read to its end: {type(error).__name__}: {error}. Fetch it again",
            url=str(archive),
        ) from error


def _files(opened: zipfile.ZipFile, archive: Path) -> list[zipfile.ZipInfo]:
    """Members that aren't folders, each with a name that can't lead anywhere. Raises ArchiveLayoutError."""
    members = opened.infolist()
    for member in members:
        problem = _problem(member)
        if problem is not None:
            raise ArchiveLayoutError(f"member {_shown(member.filename)} {problem}", url=str(archive))
    return [member for member in members if not member.is_dir()]


def _problem(member: zipfile.ZipInfo) -> str | None:
    # The name as it stands in the zip: zipfile cuts what follows a zero byte.
    name, kind = member.orig_filename, stat.S_IFMT(member.external_attr >> 16)
    if not name or name.startswith("/") or _FORBIDDEN.search(name) or ".." in PurePosixPath(name).parts:
        return "has a name that isn't a relative path of plain names"
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
        return f"is no plain file (mode {member.external_attr >> 16:o}): links and devices aren't followed"
    if member.flag_bits & _ENCRYPTED:
        return "is encrypted"
    if member.compress_type not in _METHODS:
        return f"is compressed by method {member.compress_type}; known are stored (0) and deflate (8)"
    return None


def _inner_zip(members: Sequence[zipfile.ZipInfo], archive: Path) -> zipfile.ZipInfo:
    names = [member.filename for member in members]
    zips = [member for member in members if PurePosixPath(member.filename).suffix.lower() == ".zip"]
    if len(zips) > 1:
        raise ArchiveLayoutError(
            f"it holds {len(zips)} zips, and which one is meant isn't known: {_list(m.filename for m in zips)}",
            url=str(archive),
        )
    if not zips or PurePosixPath(zips[0].filename).parts[:-1] != (_RESULTS,):
        raise ArchiveLayoutError(
            f"it should hold one {_RESULTS}/<name>.zip, but holds {_list(names)}", url=str(archive)
        )
    return zips[0]


def _rasters(members: Sequence[zipfile.ZipInfo], archive: Path) -> dict[str, zipfile.ZipInfo]:
    """File name → member, sorted by name. Raises ArchiveLayoutError where there is none, or two have one name."""
    found: dict[str, zipfile.ZipInfo] = {}
    folded: dict[str, zipfile.ZipInfo] = {}
    for member in members:
        name = PurePosixPath(member.filename).name
        if PurePosixPath(name).suffix.lower() not in _RASTERS:
            continue
        # What is one name to some filesystems: those that ignore case, and those that normalise accents.
        twin = folded.setdefault(unicodedata.normalize("NFC", name).casefold(), member)
        if twin is not member:
            raise ArchiveLayoutError(
                f"two of its rasters would have the same name: {_list([twin.filename, member.filename])}",
                url=str(archive),
            )
        found[name] = member
    if not found:
        names = _list(member.filename for member in members)
        raise ArchiveLayoutError(f"the zip in it should hold .tif or .tiff files, but holds {names}", url=str(archive))
    return dict(sorted(found.items()))


def _extract(opened: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, archive: Path) -> None:
    """Write one member to ``target``: as many bytes as it declares, with the checksum that it declares."""
    what = f"member {_shown(member.filename)}"
    with target.open("wb") as file:
        with _readable(archive, what):
            source = opened.open(member)
        with source:
            while piece := _read(source, archive, what):
                file.write(piece)
    written = target.stat().st_size
    if written != member.file_size:
        raise SourceFormatError(f"{what} has {written} bytes, not {member.file_size} as declared", url=str(archive))


def _read(source: IO[bytes], archive: Path, what: str) -> bytes:
    with _readable(archive, what):
        return source.read(_PIECE)


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if _ROOM * needed > free:
        raise StorageError(
            f"{folder} has {free} bytes free, but what is to be unpacked needs {needed}, and as much again for what is "
            "made of it: make room, or choose another folder for the cache"
        )


def _list(names: Iterable[str]) -> str:
    shown = [_shown(name) for name in names]
    rest = f" and {len(shown) - _NAMES_SHOWN} more" if len(shown) > _NAMES_SHOWN else ""
    return ", ".join(shown[:_NAMES_SHOWN]) + rest or "nothing"


def _shown(name: str) -> str:
    # As a literal, because a name may hold what a terminal or a log takes for its own.
    return repr(name if len(name) <= _NAME_LENGTH else f"{name[:_NAME_LENGTH]}…")
