"""The cache of windows: pieces of a fixed lattice, each stored at once and whole, each good or absent by itself.

``<root>/<data id>.windows/<granule>/<array>/<y>.<x>/<row>.<col>`` is the piece at (row, column); the data id with
unsafe characters percent-encoded, the granule and the array by fingerprints of their content and layout, so that a new
edition of a file has a place of its own. ``<y>.<x>`` is the *shelf*: pieces of one neighbourhood, which are dropped
together; ``used`` in it says when a run needed it last. ``<data id>.windows/source.json`` says which version was asked
for last.

A piece is a Zstandard frame with its checksum (RFC 8878), of the digest of its own key and of the pixels as they are
stored in the source, little-endian: so neither a damaged nor a misplaced one is taken for good. Absent means that it
hasn't been fetched, never fill.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
import numpy.typing as npt
from numcodecs import Zstd

from scs2_cubes.core.native import Location, NativeArray
from scs2_cubes.core.specification import StorageSpec
from scs2_cubes.errors import NotPreloadedError, PreloadError, SourceFormatError
from scs2_cubes.preload.archive_cache import CacheEntry
from scs2_cubes.preload.telling import decimal
from scs2_cubes.preload.window_pieces import PieceLattice, Place
from scs2_cubes.storage.objects import ObjectTree, open_objects

__all__ = ["FORM", "Pieces", "WindowCache", "WindowCacheReader"]

#: :attr:`scs2_cubes.core.native.Location.form` of what lies in such a cache.
FORM = "windows"

_FOLDER = ".windows"
_SOURCE = "source.json"
_USED = "used"
#: Pieces along the edge of a shelf: 4096 pixels, half a partition.
_SHELF = 8
_LEVEL = 3
_DIGEST = 16


@dataclass(frozen=True)
class Pieces:
    """The pieces of one data id. Safe to share between threads and processes; methods with a place do I/O."""

    objects: ObjectTree
    folder: str
    granules: tuple[str, ...]
    """Fingerprint of the granule of each time step."""

    @classmethod
    def at(cls, location: Location) -> Pieces:
        """The pieces at a ``location`` that :meth:`WindowCache.location` made. No I/O."""
        options = location.options
        objects = open_objects(str(options["root"]), options["storage_options"])
        return cls(objects, _folder(str(options["data_id"])), tuple(options["granules"]))

    def layer(self, array: NativeArray, step: int) -> str:
        """Key of the folder of all pieces of an array's step. No I/O."""
        return f"{self.folder}/{self.granules[step]}/{_array_key(array)}"

    def shelf(self, array: NativeArray, step: int, place: Place) -> str:
        """Key of the folder that the piece lies in. No I/O."""
        row, col = place[0] // _SHELF, place[1] // _SHELF
        return f"{self.layer(array, step)}/{row}.{col}"

    def url(self, array: NativeArray, step: int, place: Place) -> str:
        """Where the piece lies, for people. No I/O."""
        return self.objects.shown(self._key(array, step, place))

    def get(self, array: NativeArray, step: int, place: Place) -> bytes | None:
        """The piece as it is stored, unchecked; None where it hasn't been fetched. Raises StorageError."""
        return self.objects.get(self._key(array, step, place))

    def put(self, array: NativeArray, step: int, place: Place, pixels: npt.NDArray[Any]) -> int:
        """Store ``pixels`` (rows, columns) of the piece, and return the bytes that it takes. Raises StorageError."""
        key = self._key(array, step, place)
        # numpy says "=" for the machine's own order; what is stored must not depend on the machine.
        content = np.ascontiguousarray(pixels, dtype=np.dtype(array.dtype).newbyteorder("<"))
        encoded: bytes = Zstd(level=_LEVEL, checksum=True).encode(_digest(key) + content.tobytes())
        self.objects.put(key, encoded)
        return len(encoded)

    def decode(self, array: NativeArray, step: int, place: Place, encoded: bytes) -> npt.NDArray[Any]:
        """Pixels (rows, columns) of a stored piece, in native dtype. No I/O. Raises SourceFormatError for a bad one."""
        key, shape = self._key(array, step, place), PieceLattice.of(array).pixels_at(place).shape
        dtype = np.dtype(array.dtype).newbyteorder("<")
        try:
            content: bytes = Zstd().decode(encoded)
        except (RuntimeError, ValueError) as error:
            raise self._damaged(key, str(error)) from error
        expected = _DIGEST + shape[0] * shape[1] * dtype.itemsize
        if len(content) != expected:
            raise self._damaged(key, f"it holds {len(content)} bytes, not {expected}")
        if content[:_DIGEST] != _digest(key):
            raise self._damaged(key, "it is another piece")
        return np.frombuffer(content, dtype, offset=_DIGEST).reshape(shape).astype(array.dtype, copy=False)

    def holds(self, array: NativeArray, step: int, place: Place) -> bool:
        """Whether a good piece lies there: reads all of it. Raises StorageError where reading fails."""
        encoded = self.get(array, step, place)
        if encoded is None:
            return False
        try:
            self.decode(array, step, place, encoded)
        except SourceFormatError:
            # As good as absent: it is fetched again.
            return False
        return True

    def note_use(self, shelf: str) -> None:
        """Remember that ``shelf`` is needed now. Raises StorageError."""
        self.objects.put(f"{shelf}/{_USED}", f"{time.time():.0f}".encode())

    def discard(self, step: int) -> None:
        """Remove everything of a step's granule. Raises StorageError."""
        self.objects.remove(f"{self.folder}/{self.granules[step]}")

    def _key(self, array: NativeArray, step: int, place: Place) -> str:
        return f"{self.shelf(array, step, place)}/{place[0]}.{place[1]}"

    def _damaged(self, key: str, why: str) -> SourceFormatError:
        return SourceFormatError(
            f"the piece in the cache is damaged: {why}. Run again, which fetches it anew", url=self.objects.shown(key)
        )


@dataclass(frozen=True)
class WindowCache:
    """The cache in one folder. Several processes may write it at once. Every method but :meth:`location` does I/O."""

    spec: StorageSpec
    objects: ObjectTree

    @classmethod
    def open(cls, spec: StorageSpec) -> WindowCache:
        """The cache in ``spec``'s folder, which needn't be there yet. No I/O."""
        return cls(spec, open_objects(spec.root, spec.options))

    def location(self, data_id: str, granules: Sequence[str]) -> Location:
        """Where readers find the pieces of ``data_id``; ``granules``: fingerprint of each time step's. No I/O."""
        options = {
            "root": self.spec.root,
            "storage_options": dict(self.spec.options),
            "data_id": data_id,
            "granules": tuple(granules),
        }
        return Location(self.objects.url(_folder(data_id)), options, form=FORM)

    def note_source(self, data_id: str, version: str) -> None:
        """Remember which version of the source was asked for last. Raises StorageError."""
        document = json.dumps({"data_id": data_id, "version": version}, sort_keys=True).encode()
        key = f"{_folder(data_id)}/{_SOURCE}"
        if self.objects.get(key) != document:
            self.objects.put(key, document)

    def entries(self) -> tuple[CacheEntry, ...]:
        """A data id each, sorted; what is there of it is whole, piece by piece. Raises StorageError."""
        tops = {key.partition("/")[0] for key in self.objects.walk("")}
        names = sorted(unquote(top.removesuffix(_FOLDER)) for top in tops if top.endswith(_FOLDER))
        return tuple(self._entry(name) for name in names)

    def clear(self, data_id: str) -> int:
        """Remove what was fetched of ``data_id``, and return the bytes that this freed. Raises StorageError."""
        folder = _folder(data_id)
        freed = self.objects.size(folder)
        self.objects.remove(folder)
        return freed

    def require_fits(self, needed: int, limit: int) -> None:
        """Raise PreloadError where ``needed`` bytes are more than ``limit``, which the cache may have. No I/O."""
        if needed > limit:
            raise PreloadError(
                f"the windows that are needed at once take up to {decimal(needed)} in the cache "
                f"{self.objects.shown('')}, which may have {decimal(limit)}. Choose a smaller region, fewer years "
                f"or variables, or a cache_size of the store of at least {needed} (bytes)"
            )

    def make_room(self, needed: int, keep: AbstractSet[str], limit: int) -> tuple[int, int]:
        """Drop shelves that weren't used for longest, until ``needed`` bytes more don't exceed ``limit``.

        Shelves in ``keep`` stay. Returns (shelves, bytes) that were dropped. Raises PreloadError, before anything is
        dropped, where that can't be enough, and StorageError.
        """
        total = self.objects.size("")
        if total + needed <= limit:
            return 0, 0
        sizes = self._shelf_sizes()
        self.require_fits(needed + sum(size for shelf, size in sizes.items() if shelf in keep), limit)
        dropped = freed = 0
        for shelf in sorted(sizes.keys() - keep, key=self._last_use):
            if total - freed + needed <= limit:
                break
            self.objects.remove(shelf)
            dropped, freed = dropped + 1, freed + sizes[shelf]
        return dropped, freed

    def _shelf_sizes(self) -> dict[str, int]:
        shelves = {
            folder
            for folder, _, name in (key.rpartition("/") for key in self.objects.walk(""))
            if name != _SOURCE and folder.partition("/")[0].endswith(_FOLDER)
        }
        return {shelf: self.objects.size(shelf) for shelf in shelves}

    def _last_use(self, shelf: str) -> float:
        """Seconds since 1970; 0 where nobody knows."""
        noted = self.objects.get(f"{shelf}/{_USED}") or b""
        return float(noted) if noted.isdigit() else 0.0

    def _entry(self, data_id: str) -> CacheEntry:
        folder = _folder(data_id)
        noted = _document(self.objects.get(f"{folder}/{_SOURCE}"))
        version = noted.get("version")
        return CacheEntry(
            data_id,
            version if isinstance(version, str) else None,
            self.objects.size(folder),
            complete=True,
            url=self.objects.shown(folder),
        )


@dataclass(frozen=True)
class WindowCacheReader:
    """Reads pieces as chunks, see :class:`scs2_cubes.sources.base.ChunkReader`; but nothing that is absent is fill."""

    pieces: Pieces

    @classmethod
    def open(cls, location: Location) -> WindowCacheReader:
        """Reader for a ``location`` of the form :data:`FORM`. No I/O."""
        return cls(Pieces.at(location))

    def fetch_chunk(self, array: NativeArray, index: tuple[int, ...]) -> bytes:
        """The stored piece at ``index`` (step, row, column of pieces).

        Raises NotPreloadedError where it hasn't been fetched, and StorageError.
        """
        step, place = index[0], (index[1], index[2])
        encoded = self.pieces.get(array, step, place)
        if encoded is None:
            raise NotPreloadedError(
                f"{array.name}, step {step}: {self.pieces.url(array, step, place)} isn't in the cache; it hasn't been "
                "fetched, or was dropped for others. Run again, which fetches what is missing"
            )
        return encoded

    def decode_chunk(self, array: NativeArray, index: tuple[int, ...], encoded: bytes) -> npt.NDArray[Any]:
        """The piece in native dtype, shape (1, rows, columns). Raises SourceFormatError where it is damaged."""
        return self.pieces.decode(array, index[0], (index[1], index[2]), encoded)[np.newaxis]


def _folder(data_id: str) -> str:
    # A leading dot makes a hidden file, or the folder above.
    name = quote(data_id, safe="")
    return f"{'%2E' + name[1:] if name.startswith('.') else name}{_FOLDER}"


def _array_key(array: NativeArray) -> str:
    """Name and layout: what changes where the same number of a piece would be other pixels."""
    layout = json.dumps([array.metadata, array.dtype, array.shape[-2:], array.chunks[-2:]])
    return f"{quote(array.name, safe='')}-{hashlib.sha256(layout.encode()).hexdigest()[:12]}"


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()[:_DIGEST]


def _document(content: bytes | None) -> Mapping[str, Any]:
    try:
        document = json.loads(content or b"{}")
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
