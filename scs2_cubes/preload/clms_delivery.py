"""The archive of a CLMS order: from its link to the rasters in it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from scs2_cubes.errors import (
    AccessDeniedError,
    ArchiveLayoutError,
    DataIdNotFoundError,
    SourceFormatError,
    SourceUnavailableError,
    StorageError,
    redact,
)
from scs2_cubes.preload.archive import unpack
from scs2_cubes.preload.base import Tell
from scs2_cubes.preload.clms_orders import Ordering
from scs2_cubes.preload.download import Progress, download, part_files
from scs2_cubes.preload.telling import decimal, progress_lines
from scs2_cubes.sources.clms import ClmsSource, OfferedFile, Task

__all__ = ["Delivery"]

_RASTERS = "rasters"


class Delivery:
    """The delivery of an order, in ``folder``: ``<task>.zip``, and ``rasters/``. Making it does no I/O."""

    def __init__(self, source: ClmsSource, ordering: Ordering, file: OfferedFile, folder: Path, tell: Tell) -> None:
        self._source = source
        self._ordering = ordering
        self._file = file
        self._folder = folder
        self._tell = tell
        self._downloaded = 0

    @property
    def downloaded(self) -> int:
        """Bytes that came over the network."""
        return self._downloaded

    def rasters(self) -> tuple[Path, ...]:
        """Paths of the rasters, sorted by name. Fetches what isn't there; a damaged archive is fetched twice.

        Raises ArchiveLayoutError where its layout is refused, SourceFormatError where it is damaged both times, what
        :class:`Ordering` raises, what downloading raises, and StorageError.
        """
        archive = self._archive()
        try:
            return self._unpack(archive)
        except ArchiveLayoutError:
            raise
        except SourceFormatError as error:
            self._say(f"{error.args[0]}; fetching it once more")
        _remove(archive)
        archive = self._archive()
        try:
            return self._unpack(archive)
        except ArchiveLayoutError:
            raise
        except SourceFormatError as error:
            _remove(archive)
            self._ordering.discard()
            text = f"{error.args[0]}. It was fetched twice, and isn't taken any more: run again to order anew"
            raise SourceFormatError(f"{self._what}: {text}", url=self._source.url) from error

    def _unpack(self, archive: Path) -> tuple[Path, ...]:
        self._say(f"unpacking {archive.name}, {decimal(archive.stat().st_size)}")
        try:
            return unpack(archive, self._folder / _RASTERS)
        except ArchiveLayoutError as error:
            self._ordering.keep()
            text = f"{error.args[0]}. What is delivered isn't what is known here; only force_preload orders it anew"
            raise ArchiveLayoutError(f"{self._what}: {text}", url=self._source.url) from error

    def _archive(self) -> Path:
        """The archive, whole; that of a run which was killed after its download is there already."""
        task_id = self._ordering.task_id or self._ordering.resume()
        if task_id is not None and self._path(task_id).is_file():
            return self._path(task_id)
        while True:
            task = self._ordering.ready()
            path = self._path(task.task_id)
            try:
                if not path.is_file():
                    self._download(task, path)
            except (DataIdNotFoundError, AccessDeniedError) as error:
                # Servers answer 404, 410 or 403 where a link has expired.
                self._ordering.again(error)
            else:
                return path

    def _download(self, task: Task, path: Path) -> None:
        self._say(f"downloading {decimal(task.size)}" if task.size else "downloading")
        shown = progress_lines(self._tell, f"{self._file.data_id}: downloaded", decimal)
        part = part_files(path)[0]
        counter = _Counter(part.stat().st_size if part.is_file() else 0, shown)
        try:
            download(
                self._source.documents.resolve(task.download_url or ""),
                path,
                policy=self._source.store.retry,
                expected_size=task.size,
                # Other clients send one; whether the server wants it isn't known.
                headers={"Referer": redact(self._source.url)},
                on_progress=counter,
            )
        except (SourceFormatError, SourceUnavailableError) as error:
            raise type(error)(f"{self._what}: {error.args[0]}", url=error.url) from error
        finally:
            self._downloaded += counter.new

    @property
    def _what(self) -> str:
        return f"the delivery of task {self._ordering.task_id} of {self._file.data_id} (Finished_ok)"

    def _path(self, task_id: str) -> Path:
        return self._folder / f"{quote(task_id, safe='')}.zip"

    def _say(self, text: str) -> None:
        self._tell(f"{self._file.data_id}: {text}")


class _Counter:
    """Counts what is new in a download that may go on from ``have`` bytes, or start again."""

    def __init__(self, have: int, following: Progress) -> None:
        self._have = have
        self._following = following
        self.new = 0

    def __call__(self, done: int, total: int | None) -> None:
        self.new += done - self._have if done > self._have else done
        self._have = done
        self._following(done, total)


def _remove(archive: Path) -> None:
    try:
        archive.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"can't remove {archive}, which is damaged: {error}") from error
