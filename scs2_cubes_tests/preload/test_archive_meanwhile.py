"""What a reader gets of a cache that is replaced or cleared after it was described: old pixels or an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from scs2_cubes.core.native import NativeDataset
from scs2_cubes.core.specification import StorageSpec
from scs2_cubes.errors import NotPreloadedError, SourceFormatError
from scs2_cubes.preload.archive_cache import ArchiveCache
from scs2_cubes.preload.mosaic import Mosaic
from scs2_cubes.sources import open_reader, read_chunk
from scs2_cubes.storage.objects import ObjectTree
from scs2_cubes_tests.preload.files import ignore_progress, write_tif

DATA_ID = "product|FILE"
#: Three chunks below each other, the last of which holds no value.
SHAPE = (5000, 30)
INDICES = ((0, 0), (1, 0), (2, 0))


def raster(value: int) -> npt.NDArray[np.uint8]:
    values = np.full(SHAPE, value, np.uint8)
    values[4096:] = 255
    return values


@pytest.fixture
def cache(tmp_path: Path) -> ArchiveCache:
    return ArchiveCache.open(StorageSpec(str(tmp_path / "cache")))


def write(cache: ArchiveCache, folder: Path, value: int, **changed: Any) -> None:
    arguments: dict[str, Any] = {
        "variable": "FILE",
        "attrs": {},
        "provenance": {},
        "href": "",
        "on_progress": ignore_progress,
    }
    mosaic = Mosaic.open([write_tif(folder / f"{value}.tif", raster(value))])
    cache.write(DATA_ID, changed.pop("version", "v1"), mosaic, **(arguments | changed))


def seen(native: NativeDataset) -> list[int | None]:
    """What each chunk holds, of one value; None: nothing, as where fill is meant."""
    reader = open_reader(native.location)
    found: list[int | None] = []
    for index in INDICES:
        chunk = read_chunk(reader, native.arrays[0], index)
        values = None if chunk is None else np.unique(chunk)
        assert values is None or len(values) == 1
        found.append(None if values is None else int(values[0]))
    return found


def test_chunks_without_values_are_stored(cache: ArchiveCache, tmp_path: Path) -> None:
    write(cache, tmp_path, 1)
    assert seen(cache.describe(DATA_ID)) == [1, 1, 255]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_while_it_is_replaced_the_old_pixels_are_read(cache: ArchiveCache, tmp_path: Path, version: str) -> None:
    write(cache, tmp_path, 1)
    native = cache.describe(DATA_ID)
    found = []

    def look(done: int, total: int | None) -> None:
        assert cache.describe(DATA_ID) == native
        found.append(seen(native))

    write(cache, tmp_path, 2, version=version, on_progress=look)
    assert found == [[1, 1, 255]] * 3
    assert seen(cache.describe(DATA_ID)) == [2, 2, 255]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_once_it_is_replaced_the_old_description_is_an_error(cache: ArchiveCache, tmp_path: Path, version: str) -> None:
    write(cache, tmp_path, 1)
    native = cache.describe(DATA_ID)
    reader = open_reader(native.location)
    write(cache, tmp_path, 2, version=version)
    for index in INDICES:
        with pytest.raises(NotPreloadedError, match=r"FILE/.\.0.*replaced or cleared.*[Rr]un again"):
            read_chunk(reader, native.arrays[0], index)


def test_once_it_is_cleared_too(cache: ArchiveCache, tmp_path: Path) -> None:
    write(cache, tmp_path, 1)
    native = cache.describe(DATA_ID)
    cache.clear(DATA_ID)
    with pytest.raises(NotPreloadedError, match="replaced or cleared"):
        seen(native)
    # Also where something else lies there by now.
    write(cache, tmp_path, 2)
    with pytest.raises(NotPreloadedError, match="replaced or cleared"):
        seen(native)


def test_a_replacement_that_fails_leaves_what_was_there(cache: ArchiveCache, tmp_path: Path) -> None:
    write(cache, tmp_path, 1)
    native = cache.describe(DATA_ID)

    def fail(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(cache, tmp_path, 2, on_progress=fail)
    assert cache.describe(DATA_ID) == native
    assert cache.fault(DATA_ID) is None
    assert seen(native) == [1, 1, 255]
    # What the failed one left is gone with the next one.
    write(cache, tmp_path, 3)
    assert len(list(Path(cache.spec.root).rglob("*.zarr"))) == 1
    assert seen(cache.describe(DATA_ID)) == [3, 3, 255]


def test_replaced_in_the_middle_of_describing(
    cache: ArchiveCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the record and the group that it names: the new one is described."""
    write(cache, tmp_path, 1)
    stale = cache.record(DATA_ID)
    write(cache, tmp_path, 2, version="v2")
    real, answers = ArchiveCache.record, [stale]
    monkeypatch.setattr(ArchiveCache, "record", lambda *given: answers.pop() if answers else real(*given))
    native = cache.describe(DATA_ID)
    assert (native.version, seen(native)) == ("v2", [2, 2, 255])


def test_a_damaged_chunk_is_noticed_when_it_is_read(cache: ArchiveCache, tmp_path: Path) -> None:
    """Describing looks at sizes alone; each chunk has its checksum."""
    write(cache, tmp_path, 1)
    (chunk,) = Path(cache.spec.root).rglob("FILE/1.0")
    content = bytearray(chunk.read_bytes())
    content[-1] ^= 1
    chunk.write_bytes(content)
    native = cache.describe(DATA_ID)
    with pytest.raises(SourceFormatError, match="decoded"):
        seen(native)


def test_describing_reads_no_pixels(cache: ArchiveCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(cache, tmp_path, 1)
    read: list[str] = []
    kind = type(cache.objects)
    real = kind.get

    def get(objects: ObjectTree, key: str) -> bytes | None:
        read.append(key)
        found: bytes | None = real(objects, key)
        return found

    monkeypatch.setattr(kind, "get", get)
    cache.describe(DATA_ID)
    assert read
    assert not [key for key in read if key.rpartition("FILE/")[2] in {"0.0", "1.0", "2.0"}]
    assert cache.fault(DATA_ID) is None
    assert [key for key in read if key.endswith("FILE/2.0")]
