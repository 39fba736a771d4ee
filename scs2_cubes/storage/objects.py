"""Small objects by key, on disk or in an object store: put, get, delete, list.

A put is atomic: readers see the old bytes, the new bytes, or nothing.
"""

from __future__ import annotations

import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import fsspec

from scs2_cubes.errors import StorageError, redact
from scs2_cubes.storage.failures import Access, failures, is_absence
from scs2_cubes.storage.moves import Manifest
from scs2_cubes.storage.processes import Process

__all__ = ["FsspecObjects", "LocalObjects", "ObjectTree", "Objects", "forget_move", "open_objects"]

_S3 = "s3://"
_PARTIAL = ".partial"
#: Name of a partial file; here or elsewhere, it ends so.
_PARTIAL_NAME = re.compile(r".+-[0-9]+-(?P<unique>[0-9a-f]{32})")
#: Seconds after which what another system, whose processes nobody here can ask for, left half-written is given up.
_ABANDONED = 86400.0
#: Beside a folder: these objects are on their way to it.
_MOVING = ".moving"
#: Objects that are copied at once: each is two requests, and most of their time is waiting.
_COPIES_AT_ONCE = 16
#: What fsspec takes for signs of a pattern.
_PATTERN = frozenset("*?[]")


class Objects(Protocol):
    """Keys are relative, with ``/`` between their parts."""

    def get(self, key: str) -> bytes | None:
        """The bytes under ``key``, or None. Raises StorageError where reading fails."""
        ...

    def put(self, key: str, value: bytes) -> None:
        """Store ``value`` under ``key``, at once and whole. Raises StorageError where writing fails."""
        ...

    def delete(self, key: str) -> None:
        """Remove ``key``; nothing happens where it isn't there. Raises StorageError where removing fails."""
        ...

    def keys(self, prefix: str) -> Iterator[str]:
        """Keys in the folder ``prefix``, not in its subfolders, sorted."""
        ...

    def size(self, prefix: str) -> int:
        """Bytes below the folder ``prefix``. Raises StorageError where it can't be listed."""
        ...

    def exists(self, prefix: str) -> bool:
        """True where the folder ``prefix`` is there. Raises StorageError where that can't be found out."""
        ...

    def move(self, prefix: str, target: str) -> None:
        """Move the folder ``prefix`` to ``target``. Raises StorageError where something lies there.

        What an interrupted move has left there, as :meth:`is_being_moved` tells, is completed.
        """
        ...

    def is_being_moved(self, prefix: str, target: str) -> bool:
        """Whether what lies in the folder ``prefix`` is what an interrupted move to ``target`` left there, and no more.

        Lists ``prefix`` where a move takes more than one call. Raises StorageError.
        """
        ...

    def url(self, key: str) -> str:
        """Path or URL of ``key``, for other libraries; it may hold a password."""
        ...

    def shown(self, key: str) -> str:
        """Path or URL of ``key`` without its secrets, for people."""
        ...


class ObjectTree(Objects, Protocol):
    """Objects whose folders can be walked and removed whole: for caches. Of cubes nothing is ever removed so."""

    def walk(self, prefix: str) -> Iterator[str]:
        """Keys below the folder ``prefix`` (empty: below the root) at any depth, sorted. Raises StorageError."""
        ...

    def sizes(self, prefix: str) -> Mapping[str, int]:
        """Key relative to the folder ``prefix`` → bytes, of all below it at any depth. Raises StorageError."""
        ...

    def remove(self, prefix: str) -> None:
        """Remove the folder ``prefix`` and all below it; nothing happens where it isn't there. Raises StorageError."""
        ...


def open_objects(root: str, options: Mapping[str, Any]) -> ObjectTree:
    """Objects below ``root``, a path or an fsspec URL. No I/O."""
    if root.startswith("file://"):
        return LocalObjects(Path(unquote(urlsplit(root).path)))
    if root.startswith(_S3):
        from scs2_cubes.storage.s3_objects import S3Objects  # noqa: PLC0415 - aiobotocore, for those who are on S3

        return S3Objects(root, options)
    if "://" in root:
        return FsspecObjects(root, options)
    return LocalObjects(Path(root))


def forget_move(objects: Objects, target: str) -> None:
    """Remove the sign of an interrupted move to the folder ``target``, if there's one. Raises StorageError."""
    if objects.get(f"{target}{_MOVING}") is not None:
        objects.delete(f"{target}{_MOVING}")


class LocalObjects:
    """Objects as files below a folder.

    A put writes into ``.partial`` below the root and renames, so that neither a killed process nor a full disk leaves
    half a file among the objects; a power failure may, because nothing is forced to the disk. :meth:`sweep` removes
    what dead processes left there.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def get(self, key: str) -> bytes | None:
        try:
            return (self._root / key).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            # A folder is no object, and below an object there is none.
            return None
        except OSError as error:
            raise StorageError(f"can't read {self._root / key}: {error}") from error

    def put(self, key: str, value: bytes | memoryview) -> None:
        path = self._root / key
        partial = self._root / _PARTIAL / f"{Process.this().name}-{uuid.uuid4().hex}"
        try:
            partial.parent.mkdir(parents=True, exist_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                partial.write_bytes(value)
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"can't write {path}: {error}. What was finished is kept; run again") from error

    def delete(self, key: str) -> None:
        try:
            (self._root / key).unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"can't remove {self._root / key}: {error}") from error

    def keys(self, prefix: str) -> Iterator[str]:
        folder = self._root / prefix
        try:
            found = [f"{prefix}/{path.name}" for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
        except OSError as error:
            raise StorageError(f"can't list {folder}: {error}") from error
        yield from sorted(found)

    def size(self, prefix: str) -> int:
        return sum(self.sizes(prefix).values())

    def exists(self, prefix: str) -> bool:
        try:
            (self._root / prefix).stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise StorageError(f"can't look at {self._root / prefix}: {error}") from error
        return True

    def move(self, prefix: str, target: str) -> None:
        source, destination = self._root / prefix, self._root / target
        if destination.exists():
            raise StorageError(f"can't move {source}: {destination} exists already")
        try:
            destination.parent.mkdir(parents=True, exist_ok=True)
            source.rename(destination)
        except OSError as error:
            raise StorageError(f"can't move {source} to {destination}: {error}") from error

    def is_being_moved(self, prefix: str, target: str) -> bool:  # noqa: ARG002  (a folder is moved by one call)
        return False

    def walk(self, prefix: str) -> Iterator[str]:
        found = [(self._root / prefix / name).relative_to(self._root).as_posix() for name in self.sizes(prefix)]
        yield from sorted(key for key in found if not key.startswith(f"{_PARTIAL}/"))

    def sizes(self, prefix: str) -> Mapping[str, int]:
        folder = self._root / prefix
        try:
            found = {path.relative_to(folder).as_posix(): _file_size(path) for path in _files(folder)}
        except OSError as error:
            raise StorageError(f"can't list {folder}: {error}") from error
        return {name: size for name, size in found.items() if size is not None}

    def remove(self, prefix: str) -> None:
        folder = self._root / prefix
        while True:
            try:
                shutil.rmtree(folder)
            except FileNotFoundError:
                # It is gone, or something in it was removed by another process meanwhile.
                if not self.exists(prefix):
                    return
            except OSError as error:
                raise StorageError(f"can't remove {folder}: {error}") from error
            else:
                return

    def url(self, key: str) -> str:
        return str(self._root / key)

    def shown(self, key: str) -> str:
        return self.url(key)

    def sweep(self) -> None:
        """Remove partial files of this system's processes that no longer run, and those of others after a day."""
        folder, this = self._root / _PARTIAL, Process.this()
        for path in folder.iterdir() if folder.is_dir() else ():
            if _PARTIAL_NAME.fullmatch(path.name) is None:
                continue
            writer = this.neighbour(path.name.rpartition("-")[0])
            if writer.has_ended() if writer is not None else _is_abandoned(path):
                path.unlink(missing_ok=True)


class FsspecObjects:
    """Objects in an object store that fsspec speaks to, where a put is atomic by itself: S3, or memory.

    A bucket that isn't there is an error, not an empty one.
    """

    def __init__(self, root: str, options: Mapping[str, Any]) -> None:
        self._filesystem, self._path = self._open(root, options)
        self._root = root.rstrip("/")
        self._access = Access.of(options)

    def _open(self, root: str, options: Mapping[str, Any]) -> tuple[Any, str]:
        """(filesystem, path) of ``root``. No I/O."""
        filesystem, path = fsspec.core.url_to_fs(root, **options)
        return filesystem, path

    def _read(self, path: str) -> bytes:
        content: bytes = self._filesystem.cat_file(path)
        return content

    def _write(self, path: str, value: bytes) -> None:
        self._filesystem.pipe_file(path, value)

    def get(self, key: str) -> bytes | None:
        try:
            value = self._read(f"{self._path}/{key}")
        except failures() as error:
            self._absent(f"can't read {self.shown(key)}", error)
            return None
        return value

    def put(self, key: str, value: bytes) -> None:
        try:
            self._write(f"{self._path}/{key}", bytes(value))
        except failures() as error:
            raise self._access.error(f"can't write {self.shown(key)}", error) from self._access.cause(error)

    def delete(self, key: str) -> None:
        try:
            self._filesystem.rm_file(f"{self._path}/{key}")
        except failures() as error:
            self._absent(f"can't remove {self.shown(key)}", error)

    def keys(self, prefix: str) -> Iterator[str]:
        yield from sorted(
            f"{prefix}/{entry['name'].rsplit('/', 1)[-1]}" for entry in self._list(prefix) if entry["type"] == "file"
        )

    def size(self, prefix: str) -> int:
        return sum(self.sizes(prefix).values())

    def exists(self, prefix: str) -> bool:
        # Not exists(): fsspec's own answers "no" to every error. Not info() either: s3fs asks for an object first, to
        # which S3 says neither that the bucket is missing nor why access is denied.
        return bool(self._list(prefix, "look at"))

    def move(self, prefix: str, target: str) -> None:
        if self.exists(target) and not self.is_being_moved(prefix, target):
            raise StorageError(f"can't move {self.shown(prefix)}: {self.shown(target)} exists already")
        listing = self._listing(prefix)
        old, new = ([f"{self._path}/{folder}/{name}" for name in listing] for folder in (prefix, target))
        what = f"can't move {self.shown(prefix)} to {self.shown(target)}"
        self.put(f"{target}{_MOVING}", Manifest.of(listing).encode())
        try:
            # All of them are there twice before the first one goes.
            self._copy(old, new)
        except failures() as error:
            raise self._access.error(what, error) from self._access.cause(error)
        self._remove_all(prefix, old, what)
        self.delete(f"{target}{_MOVING}")

    def is_being_moved(self, prefix: str, target: str) -> bool:
        begun = self.get(f"{target}{_MOVING}")
        return begun is not None and Manifest.decode(begun).covers(Manifest.of(self._listing(prefix)))

    def _copy(self, old: list[str], new: list[str]) -> None:
        """Copy objects, each by its name: in a list, fsspec takes some names for patterns."""
        if names := list(zip(old, new, strict=True)):
            with ThreadPool(min(_COPIES_AT_ONCE, len(names))) as pool:
                for _ in pool.imap_unordered(lambda pair: self._filesystem.cp_file(*pair), names):
                    pass

    def walk(self, prefix: str) -> Iterator[str]:
        yield from sorted(f"{prefix}/{name}".lstrip("/") for name in self.sizes(prefix))

    def sizes(self, prefix: str) -> Mapping[str, int]:
        return {name: int(entry["size"] or 0) for name, entry in self._listing(prefix).items()}

    def _listing(self, prefix: str) -> Mapping[str, Mapping[str, Any]]:
        """Key relative to the folder ``prefix`` → fsspec's entry, of all below it at any depth."""
        root = f"{self._path.rstrip('/')}/{prefix}".rstrip("/")
        # Other processes write here, too, and some filesystems remember what they listed.
        self._filesystem.invalidate_cache()
        try:
            found = self._filesystem.find(root, detail=True)
        except failures() as error:
            self._absent(f"can't list {self.shown(prefix)}", error)
            return {}
        return {name.removeprefix(f"{root}/"): entry for name, entry in found.items()}

    def remove(self, prefix: str) -> None:
        names = [f"{self._path}/{prefix}/{name}" for name in self.sizes(prefix)]
        self._remove_all(prefix, names, f"can't remove {self.shown(prefix)}")

    def url(self, key: str) -> str:
        return f"{self._root}/{key}"

    def shown(self, key: str) -> str:
        return redact(self.url(key))

    def _list(self, prefix: str, what: str = "list") -> list[dict[str, Any]]:
        """Entries, as fsspec has them, of the folder ``prefix``; nothing where it isn't there."""
        try:
            entries: list[dict[str, Any]] = self._filesystem.ls(f"{self._path}/{prefix}", detail=True, refresh=True)
        except failures() as error:
            self._absent(f"can't {what} {self.shown(prefix)}", error)
            return []
        return entries

    def _remove_all(self, prefix: str, names: list[str], what: str) -> None:
        """Remove the objects ``names``, all that is in the folder ``prefix``."""
        try:
            # A list is removed by few requests, but signs of patterns in it would be taken for such.
            if names and not any(_PATTERN & set(name) for name in names):
                self._filesystem.rm(names)
            else:
                for name in names:
                    self._filesystem.rm_file(name)
        except failures() as error:
            # Another process may be faster.
            self._absent(what, error)
        # S3 answers "yes" to a list of which it removes nothing, and s3fs doesn't look what it says of each.
        left = {f"{self._path}/{prefix}/{name}" for name in self.sizes(prefix)} & set(names)
        if left:
            raise StorageError(
                f"{what}: {len(left)} of {len(names)} objects are still there. Ask the bucket's owner for the right to "
                "remove, and run again"
            )

    def _absent(self, what: str, error: Exception) -> None:
        """Nothing, where ``error`` says that something isn't there; else raise StorageError for it."""
        if not is_absence(error):
            raise self._access.error(what, error) from self._access.cause(error)


def _files(folder: Path) -> Iterator[Path]:
    """Everything below ``folder`` that isn't a folder. Raises OSError."""

    def refuse(error: OSError) -> None:
        # Others may remove folders meanwhile.
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise error

    for parent, _, names in os.walk(folder, onerror=refuse):
        for name in names:
            yield Path(parent, name)


def _file_size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        # Another run may have removed a chunk that is empty now.
        return None


def _is_abandoned(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > _ABANDONED
    except FileNotFoundError:
        return False
