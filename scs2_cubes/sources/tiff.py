"""TIFF's structure: where the blocks of an image lie, and a file of its own for some of them. No I/O of its own.

TIFF 6.0 (Adobe, 1992) with the tiles of its section 15, and BigTIFF. What a block's bytes mean is left to GDAL: it is
given a small TIFF with the same fields that holds nothing but the blocks in question.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

__all__ = ["Blocks", "Directory", "Field", "TiffError", "read_directories", "small_file"]

SUBFILE, WIDTH, LENGTH, BITS, PHOTOMETRIC = 254, 256, 257, 258, 262
STRIP_OFFSETS, SAMPLES, ROWS_PER_STRIP, STRIP_SIZES, PLANAR = 273, 277, 278, 279, 284
TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, TILE_SIZES = 322, 323, 324, 325
_SUB_DIRECTORIES, _EXTRA_SAMPLES, _EXIF, _GPS, _GDAL_METADATA = 330, 338, 34665, 34853, 42112
#: Fields with a number for each sample: bits, smallest, largest, format, smallest, largest.
_PER_SAMPLE = (BITS, 280, 281, 339, 340, 341)
#: Fields that lead elsewhere in the file, or say what isn't so of a part of it.
_LEFT_OUT = {SUBFILE, STRIP_OFFSETS, STRIP_SIZES, TILE_OFFSETS, TILE_SIZES, _SUB_DIRECTORIES, _EXIF, _GPS}

_SHORT, _LONG, _LONG8 = 3, 4, 16
#: Type → size in bytes, and numpy's name for those that are whole numbers.
_SIZES = MappingProxyType(
    {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
)
_NUMBERS = MappingProxyType({1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"})
_MAX_FIELDS, _MAX_DIRECTORIES, _MAX_VALUE = 4096, 64, 256 * 2**20
_SEPARATE = 2
_MASK = 4

Read = Callable[[int, int], bytes]


class TiffError(ValueError):
    """The file isn't a TIFF, or not one whose blocks could be found. Never leaves this package's readers."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a directory."""

    kind: int
    """Its type, by TIFF's number."""
    count: int
    """How many values."""
    raw: bytes
    """Them, in the file's byte order."""


@dataclass(frozen=True, slots=True)
class Directory:
    """An image's fields, in the byte order ``<`` or ``>``."""

    order: str
    fields: Mapping[int, Field]

    @property
    def is_mask(self) -> bool:
        """Whether the image says which pixels of the first one are valid."""
        return bool(self.number(SUBFILE, 0) & _MASK)

    def numbers(self, tag: int) -> npt.NDArray[np.int64]:
        """The whole numbers of a field; none where it isn't there. Raises TiffError for others."""
        field = self.fields.get(tag)
        if field is None:
            return np.zeros(0, np.int64)
        if field.kind not in _NUMBERS:
            raise TiffError(f"field {tag} has type {field.kind}, not a whole number")
        return np.frombuffer(field.raw, f"{self.order}{_NUMBERS[field.kind]}").astype(np.int64)

    def number(self, tag: int, default: int | None = None) -> int:
        """The first number of a field. Raises TiffError where it isn't there and ``default`` is None."""
        found = self.numbers(tag)
        if found.size:
            return int(found[0])
        if default is None:
            raise TiffError(f"it has no field {tag}")
        return default


@dataclass(frozen=True, slots=True)
class Blocks:
    """Where the blocks of an image lie: its tiles, or its strips."""

    width: int
    height: int
    samples: int
    block: tuple[int, int]
    """Rows and columns of a block; the last strip has fewer rows, tiles are whole."""
    is_tiled: bool
    is_separate: bool
    """Whether each sample has blocks of its own."""
    offsets: npt.NDArray[np.int64]
    """Of each block in the file; sample by sample, row by row."""
    sizes: npt.NDArray[np.int64]
    """Bytes of each; 0: it isn't stored."""

    @classmethod
    def of(cls, directory: Directory) -> Blocks:
        """Those of ``directory``. Raises TiffError where it says them wrong or not at all."""
        width, height = directory.number(WIDTH), directory.number(LENGTH)
        is_tiled = TILE_OFFSETS in directory.fields
        block = (
            (directory.number(TILE_LENGTH), directory.number(TILE_WIDTH))
            if is_tiled
            else (min(directory.number(ROWS_PER_STRIP, height), height), width)
        )
        samples = directory.number(SAMPLES, 1)
        offsets = directory.numbers(TILE_OFFSETS if is_tiled else STRIP_OFFSETS)
        sizes = directory.numbers(TILE_SIZES if is_tiled else STRIP_SIZES)
        is_separate = samples > 1 and directory.number(PLANAR, 1) == _SEPARATE
        found = cls(width, height, samples, block, is_tiled, is_separate, offsets, sizes)
        if min(width, height, samples, *block) < 1:
            raise TiffError(f"{height} x {width} pixels, {samples} samples, blocks of {block[0]} x {block[1]}")
        expected = found.down * found.across * (samples if is_separate else 1)
        if len(offsets) != expected or len(sizes) != expected:
            raise TiffError(f"{len(offsets)} offsets and {len(sizes)} sizes of {expected} blocks")
        if (offsets < 0).any() or (sizes < 0).any():
            raise TiffError("offsets or sizes of blocks that are negative")
        return found

    @property
    def down(self) -> int:
        """Rows of blocks."""
        return -(-self.height // self.block[0])

    @property
    def across(self) -> int:
        """Blocks in a row."""
        return -(-self.width // self.block[1])

    def numbers(self, sample: int, row: int, col: int, count: int) -> list[int]:
        """Numbers of at most ``count`` blocks of a sample, downwards from (row, col)."""
        plane = sample * self.down * self.across if self.is_separate else 0
        return [plane + number * self.across + col for number in range(row, min(row + count, self.down))]


def read_directories(read: Read) -> Iterator[Directory]:
    """The file's directories in order; of those behind the first only what says whether it is a mask.

    ``read(offset, size)`` gives the file's bytes, fewer where it ends before. Raises TiffError.
    """
    order, is_big, offset = _header(read(0, 16))
    for number in range(_MAX_DIRECTORIES):
        if offset == 0:
            return
        only = None if number == 0 else {SUBFILE}
        directory, offset = _directory(read, offset, order, is_big=is_big, only=only)
        yield directory


def small_file(directory: Directory, blocks: Blocks, sample: int, stored: Sequence[bytes], rows: int) -> bytes:
    """A BigTIFF of ``rows`` rows that holds ``stored`` alone: blocks of one column, downwards.

    An empty one stands for a block that isn't stored. Where samples have blocks of their own, it has just ``sample``.
    """
    fields = {tag: field for tag, field in directory.fields.items() if tag not in _LEFT_OUT}
    order = directory.order
    if blocks.is_separate:
        fields = _of_one_sample(fields, sample)
        fields[SAMPLES] = fields[PLANAR] = Field(_SHORT, 1, struct.pack(f"{order}H", 1))
    for tag, number in ((LENGTH, rows), (WIDTH, blocks.block[1])):
        fields[tag] = Field(_LONG, 1, struct.pack(f"{order}I", number))
    count = len(stored)
    tags = (TILE_OFFSETS, TILE_SIZES) if blocks.is_tiled else (STRIP_OFFSETS, STRIP_SIZES)
    for tag in tags:
        fields[tag] = Field(_LONG8, count, bytes(8 * count))
    if not blocks.is_tiled:
        fields[ROWS_PER_STRIP] = Field(_LONG, 1, struct.pack(f"{order}I", blocks.block[0]))
    start = len(_written(fields, order))
    sizes = [len(block) for block in stored]
    places = [start + sum(sizes[:number]) if sizes[number] else 0 for number in range(count)]
    for tag, numbers in zip(tags, (places, sizes), strict=True):
        fields[tag] = Field(_LONG8, count, struct.pack(f"{order}{count}Q", *numbers))
    return b"".join([_written(fields, order), *stored])


def _of_one_sample(fields: Mapping[int, Field], sample: int) -> dict[int, Field]:
    found = {tag: field for tag, field in fields.items() if tag not in {_EXTRA_SAMPLES, PHOTOMETRIC, _GDAL_METADATA}}
    for tag in _PER_SAMPLE:
        field = found.get(tag)
        if field is not None and field.count > 1:
            size = _SIZES[field.kind]
            found[tag] = replace(field, count=1, raw=field.raw[sample * size : (sample + 1) * size])
    # Black is zero.
    return {**found, PHOTOMETRIC: Field(1, 1, b"\x01")}


def _header(start: bytes) -> tuple[str, bool, int]:
    """(byte order, whether it's a BigTIFF, offset of the first directory)."""
    order = {b"II": "<", b"MM": ">"}.get(start[:2])
    if order is not None and len(start) >= 8 and struct.unpack(f"{order}H", start[2:4])[0] == 42:  # noqa: PLR2004 - TIFF's mark
        return order, False, struct.unpack(f"{order}I", start[4:8])[0]
    if order is not None and len(start) >= 16 and struct.unpack(f"{order}HHH", start[2:8]) == (43, 8, 0):  # noqa: PLR2004 - BigTIFF's
        return order, True, struct.unpack(f"{order}Q", start[8:16])[0]
    raise TiffError(f"it doesn't begin as a TIFF does, but with {start[:4]!r}")


def _directory(read: Read, offset: int, order: str, *, is_big: bool, only: set[int] | None) -> tuple[Directory, int]:
    """The directory at ``offset``, with the fields ``only`` (None: all), and the offset of the next one."""
    head, entry, word = (8, 20, 8) if is_big else (2, 12, 4)
    count = int.from_bytes(_whole(read, offset, head), "little" if order == "<" else "big")
    if not 1 <= count <= _MAX_FIELDS:
        raise TiffError(f"a directory with {count} fields")
    body = _whole(read, offset + head, count * entry + word)
    fields: dict[int, Field] = {}
    for number in range(count):
        start = number * entry
        tag, kind = struct.unpack_from(f"{order}HH", body, start)
        if (only is not None and tag not in only) or kind not in _SIZES:
            continue
        values = struct.unpack_from(f"{order}{'Q' if is_big else 'I'}", body, start + 4)[0]
        size = values * _SIZES[kind]
        place = start + entry - word
        if size > _MAX_VALUE:
            raise TiffError(f"field {tag} has {size} bytes")
        where = struct.unpack_from(f"{order}{'Q' if is_big else 'I'}", body, place)[0]
        fields[tag] = Field(kind, values, body[place : place + size] if size <= word else _whole(read, where, size))
    following = struct.unpack_from(f"{order}{'Q' if is_big else 'I'}", body, count * entry)[0]
    return Directory(order, fields), following


def _whole(read: Read, offset: int, size: int) -> bytes:
    found = read(offset, size)
    if len(found) != size:
        raise TiffError(f"it ends within its header: {len(found)} bytes at {offset}, not {size}")
    return found


def _written(fields: Mapping[int, Field], order: str) -> bytes:
    """A BigTIFF's header with one directory; blocks follow."""
    place = 16 + 8 + 20 * len(fields) + 8
    entries, values = [], b""
    for tag, field in sorted(fields.items()):
        entry = struct.pack(f"{order}HHQ", tag, field.kind, field.count)
        if len(field.raw) <= 8:  # noqa: PLR2004 - what fits in an entry of a BigTIFF
            entries.append(entry + field.raw.ljust(8, b"\0"))
            continue
        entries.append(entry + struct.pack(f"{order}Q", place + len(values)))
        values += field.raw + bytes(-len(field.raw) % 8)
    mark = b"II" if order == "<" else b"MM"
    header = mark + struct.pack(f"{order}HHHQ", 43, 8, 0, 16)
    return b"".join([header, struct.pack(f"{order}Q", len(fields)), *entries, bytes(8), values])
