"""What was fetched, as Zarr: groups that are written once, and for each data id a record that names the good one.

Everything of a data id lies in ``<root>/archives/<name>/``, where the name is the data id with unsafe characters
percent-encoded: ``<generation>.zarr`` holds the pixels, ``record.json`` says which generation is good, with size and
CRC-32 of each of its objects, and ``downloads/`` is for what is being fetched. A generation is a random name, so it's
never written again. It gets its record once it is whole, and then the older ones are removed: who was reading them
finds chunks missing, which is an error because every chunk of a group is stored. Nothing else below the root is looked
at or touched.
"""

from __future__ import annotations

import json
import re
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote, unquote

from scs2_cubes.core.native import Location, NativeDataset
from scs2_cubes.core.specification import StorageSpec
from scs2_cubes.errors import NotPreloadedError, SourceFormatError
from scs2_cubes.preload.archive_layout import ArchiveLayout
from scs2_cubes.preload.mosaic import Mosaic
from scs2_cubes.sources.zarr_group import describe_group
from scs2_cubes.storage import sweep
from scs2_cubes.storage.objects import ObjectTree, open_objects

__all__ = ["ArchiveCache", "CacheEntry", "CacheRecord"]

_ARCHIVES = "archives"
_DOWNLOADS = "downloads"
_RECORD = "record.json"
_GROUP = re.compile(r"([0-9a-f]{32})\.zarr")


@dataclass(frozen=True, slots=True)
class CacheRecord:
    """That a data id lies in the cache, whole."""

    data_id: str
    """Which of the store's datasets."""
    version: str
    """The source version that was fetched."""
    variable: str
    """Name of the array."""
    href: str
    """Public address of what was fetched."""
    provenance: Mapping[str, str]
    """Attributes that the source adds to a cube."""
    generation: str
    """Name of the group that is good, without suffix."""
    objects: Mapping[str, tuple[int, int]]
    """Key of each object below the group → its bytes, and their CRC-32."""

    @property
    def bytes(self) -> int:
        """Size of all objects."""
        return sum(size for size, _ in self.objects.values())


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """Something that lies in the cache, as a list shows it."""

    data_id: str
    """Which of the store's datasets."""
    version: str | None
    """The source version; None for what isn't finished."""
    bytes: int
    """What it takes."""
    complete: bool
    """Whether there is a record, and as many bytes as it says. Checksums are :meth:`ArchiveCache.fault`'s business."""
    url: str
    """Where it lies, without secrets: the group, or the folder of what isn't finished or is left over."""


@dataclass(frozen=True)
class ArchiveCache:
    """The cache in one folder. One process at a time may write a data id, see :mod:`scs2_cubes.preload.claims`.

    Others may read meanwhile: they get the pixels that they described, or an error. Every method but :meth:`open` and
    :meth:`downloads` does I/O, and raises StorageError where that fails.
    """

    spec: StorageSpec
    objects: ObjectTree

    @classmethod
    def open(cls, spec: StorageSpec) -> ArchiveCache:
        """The cache in ``spec``'s folder, which needn't be there yet. No I/O."""
        return cls(spec, open_objects(spec.root, spec.options))

    def write(
        self,
        data_id: str,
        version: str,
        mosaic: Mosaic,
        *,
        variable: str,
        attrs: Mapping[str, Any],
        provenance: Mapping[str, str],
        href: str,
        on_progress: Callable[[int, int | None], None],
    ) -> CacheRecord:
        """Replace what lies there for ``data_id`` by ``mosaic``: the array ``variable``, in native dtype and grid.

        ``attrs`` are added to the file's tags in the variable's attributes. ``on_progress`` gets rows done and rows in
        all. Holds one row of chunks, or 256 MiB of it, at a time. What lay there stays good until all is written, so
        that both need room; killed on the way, it is as good as before.

        Raises SourceFormatError where the mosaic can't be read, and PreloadError where ``variable`` can't be a name.
        """
        layout = ArchiveLayout.of(mosaic, variable, attrs)
        documents = layout.documents()
        before = self.record(data_id)
        self._remove_groups(data_id, keep=before.generation if before else "")
        sweep(self.spec)
        generation = uuid.uuid4().hex
        group = _group_key(data_id, generation)
        stored: dict[str, tuple[int, int]] = {}
        for window, values in mosaic.bands(layout.chunk):
            for key, content in layout.chunks(window, values):
                stored[key] = self._put(group, key, content)
            on_progress(window.row_stop, mosaic.lattice.ny)
        for key, content in documents.items():
            stored[key] = self._put(group, key, content)
        objects = dict(sorted(stored.items()))
        record = CacheRecord(data_id, version, variable, href, dict(provenance), generation, objects)
        self.objects.put(_record_key(data_id), _encode(record))
        self._remove_groups(data_id, keep=generation)
        return record

    def record(self, data_id: str) -> CacheRecord | None:
        """What is said to lie there; None where nothing is, or nothing that can be understood."""
        content = self.objects.get(_record_key(data_id))
        record = None if content is None else _decode(content)
        return record if record is not None and record.data_id == data_id else None

    def fault(self, data_id: str) -> str | None:
        """Why what lies there can't be used; None: it is good. Reads every byte of it.

        Another version than the source's present one isn't a fault: it is compared by whoever knows that.
        """
        record = self.record(data_id)
        if record is None:
            return self._why_no_record(data_id)
        return self._misfit(record) or next(self._damaged(record, record.objects), None)

    def _misfit(self, record: CacheRecord) -> str | None:
        """Why keys or sizes aren't those of ``record``: one list, nothing is read."""
        sizes = self.objects.sizes(_group_of(record))
        for key, (size, _) in record.objects.items():
            if key not in sizes:
                return f"{key} is missing"
            if sizes[key] != size:
                return f"{key} has {sizes[key]} bytes, not {size}"
        foreign = sorted(sizes.keys() - record.objects.keys())
        return f"{foreign[0]} doesn't belong there" if foreign else None

    def _damaged(self, record: CacheRecord, keys: Iterable[str]) -> Iterator[str]:
        """What is wrong with the content of ``keys``. Reads them."""
        for key in keys:
            content, (_, checksum) = self.objects.get(f"{_group_of(record)}/{key}"), record.objects[key]
            if content is None:
                yield f"{key} is missing"
            elif zlib.crc32(content) != checksum:
                yield f"{key} has CRC-32 {zlib.crc32(content):08x}, not {checksum:08x}"

    def _why_no_record(self, data_id: str) -> str:
        if self.objects.get(_record_key(data_id)) is not None:
            return f"its record {self.objects.shown(_record_key(data_id))} can't be read, or is of something else"
        if any(self._generations(data_id)):
            return "it isn't finished: it has no record"
        return "it hasn't been fetched yet"

    def location(self, data_id: str) -> Location:
        """Where the good group lies; the folder of ``data_id`` where there is none. Reads the record."""
        record = self.record(data_id)
        return self._location(_folder(data_id) if record is None else _group_of(record))

    def _location(self, key: str) -> Location:
        return Location(self.objects.url(key), self.spec.options, complete=True)

    def describe(self, data_id: str) -> NativeDataset:
        """Arrays and lattice of what lies there. Reads record, list of objects, metadata and coordinates, no pixels.

        Chunks have their own checksums, which readers check. Raises NotPreloadedError where there is nothing whole, and
        SourceFormatError where the place is one that readers can't read.
        """
        record = self.record(data_id)
        if record is None:
            raise self._not_there(data_id, self._why_no_record(data_id))
        while True:
            try:
                return self._described(record)
            except (NotPreloadedError, SourceFormatError) as error:
                newer = self.record(data_id)
                if newer is None:
                    raise self._not_there(data_id, self._why_no_record(data_id)) from error
                if newer.generation == record.generation:
                    raise
                # It was replaced between its record and its metadata.
                record = newer

    def _described(self, record: CacheRecord) -> NativeDataset:
        fault = self._misfit(record) or next(self._damaged(record, _documents(record)), None)
        if fault is not None:
            raise self._not_there(record.data_id, fault)
        location = self._location(_group_of(record))
        return describe_group(location, href=record.href, version=record.version, provenance=record.provenance)

    def _not_there(self, data_id: str, why: str) -> NotPreloadedError:
        return NotPreloadedError(
            f"{data_id!r} can't be read from {self.objects.shown(_folder(data_id))}: {why}. Materialize its preload, "
            "which fetches it; 'scs2-cubes run' does so by itself"
        )

    def entries(self) -> tuple[CacheEntry, ...]:
        """Everything that lies there, sorted by data id; unfinished ones and left-over downloads, too."""
        archives: set[str] = set()
        downloads: set[str] = set()
        for key in self.objects.walk(_ARCHIVES):
            name, _, rest = key.removeprefix(f"{_ARCHIVES}/").partition("/")
            top, _, inner = rest.partition("/")
            data_id = unquote(name)
            # Others' folders may look alike.
            if not data_id or _name(data_id) != name:
                continue
            if top == _DOWNLOADS and inner:
                downloads.add(data_id)
            elif rest == _RECORD or (_GROUP.fullmatch(top) and inner):
                archives.add(data_id)
        found = [self._entry(data_id) for data_id in archives] + [self._download(data_id) for data_id in downloads]
        return tuple(sorted(found, key=lambda entry: (entry.data_id, not entry.complete, entry.url)))

    def _entry(self, data_id: str) -> CacheEntry:
        record = self.record(data_id)
        sizes = {name: self.objects.size(_group_key(data_id, name)) for name in self._generations(data_id)}
        complete = record is not None and sizes.get(record.generation) == record.bytes
        place = _folder(data_id) if record is None else _group_of(record)
        version = record.version if record is not None else None
        return CacheEntry(data_id, version, sum(sizes.values()), complete, self.objects.shown(place))

    def _download(self, data_id: str) -> CacheEntry:
        folder = _download_key(data_id)
        return CacheEntry(data_id, None, self.objects.size(folder), False, self.objects.shown(folder))

    def downloads(self, data_id: str) -> str:
        """Path or URL of the folder for what is fetched on the way to the cache. No I/O."""
        return self.objects.url(_download_key(data_id))

    def clear_downloads(self, data_id: str) -> int:
        """Remove what was fetched on the way to the cache, and return the bytes that this freed."""
        folder = _download_key(data_id)
        freed = self.objects.size(folder)
        self.objects.remove(folder)
        return freed

    def clear(self, data_id: str) -> int:
        """Remove everything of ``data_id``, downloads too, and return the bytes that this freed."""
        record, folder = _record_key(data_id), _folder(data_id)
        freed = len(self.objects.get(record) or b"")
        self.objects.delete(record)
        freed += self._remove_groups(data_id, keep="") + self.clear_downloads(data_id)
        if not any(True for _ in self.objects.walk(folder)):
            self.objects.remove(folder)
        return freed

    def _remove_groups(self, data_id: str, *, keep: str) -> int:
        """Remove all generations but ``keep``, and return the bytes that this freed."""
        freed = 0
        for generation in self._generations(data_id) - {keep}:
            group = _group_key(data_id, generation)
            freed += self.objects.size(group)
            self.objects.remove(group)
        return freed

    def _generations(self, data_id: str) -> set[str]:
        folder = f"{_folder(data_id)}/"
        tops = {key.removeprefix(folder).partition("/")[0] for key in self.objects.walk(_folder(data_id))}
        return {found[1] for top in tops if (found := _GROUP.fullmatch(top))}

    def _put(self, group: str, key: str, content: bytes) -> tuple[int, int]:
        self.objects.put(f"{group}/{key}", content)
        return len(content), zlib.crc32(content)


def _name(data_id: str) -> str:
    # A leading dot makes a hidden file, or the folder above.
    name = quote(data_id, safe="")
    return f"%2E{name[1:]}" if name.startswith(".") else name


def _folder(data_id: str) -> str:
    return f"{_ARCHIVES}/{_name(data_id)}"


def _group_key(data_id: str, generation: str) -> str:
    return f"{_folder(data_id)}/{generation}.zarr"


def _group_of(record: CacheRecord) -> str:
    return _group_key(record.data_id, record.generation)


def _record_key(data_id: str) -> str:
    return f"{_folder(data_id)}/{_RECORD}"


def _download_key(data_id: str) -> str:
    return f"{_folder(data_id)}/{_DOWNLOADS}"


def _documents(record: CacheRecord) -> Iterator[str]:
    """Keys of metadata and coordinates: what has no checksum of its own, as chunks have."""
    for key in record.objects:
        if not key.startswith(f"{record.variable}/") or key.startswith(f"{record.variable}/."):
            yield key


def _checksum(document: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(document, sort_keys=True).encode())


def _encode(record: CacheRecord) -> bytes:
    document = json.loads(json.dumps(asdict(record)))
    return json.dumps({**document, "crc32": _checksum(document)}, sort_keys=True, indent=1).encode()


def _decode(content: bytes) -> CacheRecord | None:
    try:
        document = json.loads(content)
        checksum = document.pop("crc32")
        if _checksum(document) != checksum:
            return None
        objects = {key: (size, crc) for key, (size, crc) in document.pop("objects").items()}
        return CacheRecord(**document, objects=objects)
    except (ValueError, TypeError, LookupError, AttributeError):
        # Not a record, or one of another release: either way the cache is made anew.
        return None
