"""Small objects by key, on disk or in an object store: put, get, delete, list.

A put is atomic: readers see the old bytes, the new bytes, or nothing.
"""

from __future__ import annotations

import os
import re
import socket
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import fsspec

from scs2_cubes.errors import StorageError

__all__ = ["FsspecObjects", "LocalObjects", "Objects", "open_objects"]

_PARTIAL = ".partial"


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
        """Bytes below the folder ``prefix``."""
        ...

    def exists(self, prefix: str) -> bool:
        """True where the folder ``prefix`` is there."""
        ...

    def move(self, prefix: str, target: str) -> None:
        """Move the folder ``prefix`` to ``target``. Raises StorageError where something lies there."""
        ...

    def url(self, key: str) -> str:
        """Path or URL of ``key``, for people and for other libraries."""
        ...


def open_objects(root: str, options: Mapping[str, Any]) -> Objects:
    """Objects below ``root``, a path or an fsspec URL. No I/O."""
    if root.startswith("file://"):
        return LocalObjects(Path(unquote(urlsplit(root).path)))
    if "://" in root:
        return FsspecObjects(root, options)
    return LocalObjects(Path(root))


class LocalObjects:
    """Objects as files below a folder.

    A put writes into ``.partial`` below the root and renames, so that neither a killed process nor a full disk leaves
    half a file among the objects; a power failure may, because nothing is forced to the disk. :meth:`sweep` removes
    what dead processes of this host left there.
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
        partial = self._root / _PARTIAL / f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex}"
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
        return sum(_file_size(path) for path in (self._root / prefix).rglob("*"))

    def exists(self, prefix: str) -> bool:
        return (self._root / prefix).exists()

    def move(self, prefix: str, target: str) -> None:
        source, destination = self._root / prefix, self._root / target
        if destination.exists():
            raise StorageError(f"can't move {source}: {destination} exists already")
        try:
            destination.parent.mkdir(parents=True, exist_ok=True)
            source.rename(destination)
        except OSError as error:
            raise StorageError(f"can't move {source} to {destination}: {error}") from error

    def url(self, key: str) -> str:
        return str(self._root / key)

    def sweep(self) -> None:
        """Remove partial files of this host's processes that no longer run."""
        folder = self._root / _PARTIAL
        # The whole name, because that of another host may begin as this one's does.
        mine = re.compile(rf"{re.escape(socket.gethostname())}-([0-9]+)-[0-9a-f]{{32}}")
        for path in folder.iterdir() if folder.is_dir() else ():
            name = mine.fullmatch(path.name)
            if name is not None and not _is_running(int(name[1])):
                path.unlink(missing_ok=True)


class FsspecObjects:
    """Objects in an object store that fsspec speaks to, where a put is atomic by itself."""

    def __init__(self, root: str, options: Mapping[str, Any]) -> None:
        self._filesystem, self._path = fsspec.core.url_to_fs(root, **options)
        self._root = root.rstrip("/")

    def get(self, key: str) -> bytes | None:
        try:
            value: bytes = self._filesystem.cat_file(f"{self._path}/{key}")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"can't read {self.url(key)}: {error}") from error
        return value

    def put(self, key: str, value: bytes) -> None:
        try:
            self._filesystem.pipe_file(f"{self._path}/{key}", bytes(value))
        except OSError as error:
            raise StorageError(f"can't write {self.url(key)}: {error}") from error

    def delete(self, key: str) -> None:
        try:
            self._filesystem.rm_file(f"{self._path}/{key}")
        except FileNotFoundError:
            return
        except OSError as error:
            raise StorageError(f"can't remove {self.url(key)}: {error}") from error

    def keys(self, prefix: str) -> Iterator[str]:
        try:
            entries = self._filesystem.ls(f"{self._path}/{prefix}", detail=True, refresh=True)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StorageError(f"can't list {self.url(prefix)}: {error}") from error
        yield from sorted(
            f"{prefix}/{entry['name'].rsplit('/', 1)[-1]}" for entry in entries if entry["type"] == "file"
        )

    def size(self, prefix: str) -> int:
        found = self._filesystem.find(f"{self._path}/{prefix}", detail=True)
        return sum(int(entry["size"] or 0) for entry in found.values())

    def exists(self, prefix: str) -> bool:
        return bool(self._filesystem.exists(f"{self._path}/{prefix}"))

    def move(self, prefix: str, target: str) -> None:
        if self._filesystem.exists(f"{self._path}/{target}"):
            raise StorageError(f"can't move {self.url(prefix)}: {self.url(target)} exists already")
        self._filesystem.mv(f"{self._path}/{prefix}", f"{self._path}/{target}", recursive=True)

    def url(self, key: str) -> str:
        return f"{self._root}/{key}"


def _file_size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except FileNotFoundError:
        # Another run may have removed a chunk that is empty now.
        return 0


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
