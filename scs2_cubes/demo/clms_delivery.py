"""What the embedded CLMS service delivers: archives made on the fly or planted, and how they are handed out.

A delivery is a ZIP with a folder ``Results``, in which lies another ZIP with the folder of the prepackaged file. The
same order always gives the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from http import HTTPStatus
from pathlib import Path
from threading import Lock
from typing import Final, Protocol

from scs2_cubes.demo.answers import Answer
from scs2_cubes.demo.clms_answers import json_answer
from scs2_cubes.demo.clms_raster import forest_types, geotiff, rasters_of, sidecars
from scs2_cubes.demo.memo import BoundedMemo
from scs2_cubes.errors import ConfigurationError

__all__ = ["Archive", "Deliveries", "FileArchive", "MemoryArchive", "archive_answer"]

_MODIFIED: Final = datetime(2018, 11, 13, 17, 56, tzinfo=UTC)
_MEMORY: Final = 64 * 2**20
_RANGE: Final = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


class Archive(Protocol):
    """One delivery."""

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    @property
    def etag(self) -> str:
        """Entity tag, in its quotes."""
        ...

    @property
    def last_modified(self) -> datetime:
        """Moment of its last change (UTC)."""
        ...

    def read(self, start: int, stop: int) -> bytes:
        """Bytes from ``start`` to ``stop`` (exclusive)."""
        ...


@dataclass(frozen=True, slots=True)
class MemoryArchive:
    """A delivery that was made here."""

    body: bytes
    """All of it."""

    @property
    def size(self) -> int:
        return len(self.body)

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'

    @property
    def last_modified(self) -> datetime:
        return _MODIFIED

    def read(self, start: int, stop: int) -> bytes:
        return self.body[start:stop]


@dataclass(frozen=True, slots=True)
class FileArchive:
    """A delivery that was planted: handed out as it lies there, of which only the part that was asked for is read."""

    path: Path
    """Where it lies."""

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    @property
    def etag(self) -> str:
        # Without its content, which may be large.
        status = self.path.stat()
        return f'"{status.st_mtime_ns:x}-{status.st_size:x}"'

    @property
    def last_modified(self) -> datetime:
        return datetime.fromtimestamp(int(self.path.stat().st_mtime), UTC)

    def read(self, start: int, stop: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(stop - start)


class Deliveries:
    """Archives by the names of the prepackaged files in them. Safe to use from several threads."""

    def __init__(self, memory: int = _MEMORY) -> None:
        self._memo = BoundedMemo(memory)
        self._planted: dict[str, Path] = {}
        self._lock = Lock()

    def plant(self, file_name: str, path: Path) -> None:
        """Deliver the archive at ``path``, outer ZIP and all, for orders of ``file_name``.

        Raises ConfigurationError where there is no such archive.
        """
        if not path.is_file():
            raise ConfigurationError(f"there is no archive {path} to deliver as {file_name}: give the path of a ZIP")
        with self._lock:
            self._planted[file_name] = path

    def archive(self, file_names: Sequence[str]) -> Archive | None:
        """Delivery of an order; None where the demonstration has no data for one of the files.

        A planted archive is for orders of a single file. May compute for a second.
        """
        with self._lock:
            planted = self._planted.get(file_names[0]) if len(file_names) == 1 else None
        if planted is not None:
            return FileArchive(planted)
        if not file_names or not all(rasters_of(name) for name in file_names):
            return None
        return MemoryArchive(self._memo.get("|".join(file_names), lambda: _outer(file_names)))


def archive_answer(archive: Archive, headers: Mapping[str, str], *, ranges: bool) -> Answer:
    """Answer to a GET of an archive; names of the request's ``headers`` are lower case.

    Ranges after RFC 9110, sections 13.1.5 and 14, where ``ranges`` says so; otherwise the whole archive.
    """
    size = archive.size
    fields = {
        "Content-Type": "application/zip",
        "ETag": archive.etag,
        "Last-Modified": format_datetime(archive.last_modified, usegmt=True),
    }
    if ranges:
        fields["Accept-Ranges"] = "bytes"
    condition = headers.get("if-range")
    wanted = _RANGE.fullmatch(headers.get("range", ""))
    changed = condition is not None and condition not in {fields["ETag"], fields["Last-Modified"]}
    if not ranges or changed or wanted is None or wanted.groups() == ("", ""):
        return Answer(HTTPStatus.OK, fields, archive.read(0, size), size)
    start, stop = _span(wanted[1], wanted[2], size)
    if start >= stop:
        status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
        return json_answer(status, {"message": "no such bytes"}, {"Content-Range": f"bytes */{size}"})
    part = {**fields, "Content-Range": f"bytes {start}-{stop - 1}/{size}"}
    return Answer(HTTPStatus.PARTIAL_CONTENT, part, archive.read(start, stop), stop - start)


def _span(first: str, last: str, size: int) -> tuple[int, int]:
    if not first:
        return max(size - int(last), 0), size
    return int(first), min(int(last) + 1, size) if last else size


def _outer(file_names: Sequence[str]) -> bytes:
    inner = {f"Results/{name}.zip": _inner(name) for name in file_names}
    return _zip({"Results/": b"", **inner}, zipfile.ZIP_STORED)


def _inner(file_name: str) -> bytes:
    members = {f"{file_name}/": b""}
    for raster in rasters_of(file_name):
        types = forest_types(raster.lattice)
        members[f"{file_name}/{raster.stem}.tif"] = geotiff(raster.lattice, types)
        members |= {f"{file_name}/{name}": body for name, body in sidecars(raster, types).items()}
    return _zip(members, zipfile.ZIP_DEFLATED)


def _zip(members: Mapping[str, bytes], compression: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, body in members.items():
            # Their own date, not today's: the same order gives the same bytes.
            info = zipfile.ZipInfo(name, _MODIFIED.timetuple()[:6])
            info.create_system = 3
            info.external_attr = (0o40755 << 16 | 0x10) if name.endswith("/") else 0o100644 << 16
            info.compress_type = zipfile.ZIP_STORED if name.endswith("/") else compression
            archive.writestr(info, body)
    return buffer.getvalue()
