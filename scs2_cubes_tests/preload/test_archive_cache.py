from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import xarray as xr
from pyproj import CRS

from scs2_cubes.core.grid import Lattice
from scs2_cubes.core.specification import StorageSpec
from scs2_cubes.errors import NotPreloadedError, PreloadError, SourceFormatError, StorageError
from scs2_cubes.preload.archive import unpack
from scs2_cubes.preload.archive_cache import ArchiveCache, CacheRecord
from scs2_cubes.preload.mosaic import Mosaic
from scs2_cubes.sources import open_reader, read_chunk
from scs2_cubes_tests.preload.files import deliver, ignore_progress, write_tif

DATA_ID = "forest-type-2015|FTY_2015_020m_eu_03035_d04_E30N20"
NAME = "forest-type-2015%7CFTY_2015_020m_eu_03035_d04_E30N20"
VARIABLE = "FTY_2015_020m_eu_03035_d04_E30N20"
FOLDER = f"archives/{NAME}"
RECORD = f"{FOLDER}/record.json"
RNG = np.random.default_rng(13)


def classes() -> npt.NDArray[np.uint8]:
    """2 x 3 chunks of 2048, of which the second of the first row holds no value, and the last ones hang over."""
    values = np.kron(RNG.choice(np.array([0, 1, 2, 254, 255], np.uint8), (51, 100)), np.ones((50, 50), np.uint8))
    values = values[:2500, :4200].copy()
    values[:2048, 2048:4096] = 255
    return values


VALUES = classes()


@pytest.fixture
def mosaic(tmp_path: Path) -> Mosaic:
    return Mosaic.open([write_tif(tmp_path / "a.tif", VALUES, tags={"DataType": "Thematic", "scale_factor": "0.1"})])


def write(cache: ArchiveCache, mosaic: Mosaic, **changed: Any) -> CacheRecord:
    arguments: dict[str, Any] = {
        "variable": VARIABLE,
        "attrs": {"long_name": "Forest type"},
        "provenance": {"clms_task_id": "1"},
        "href": "https://land.example/forest-type",
        "on_progress": ignore_progress,
    }
    data_id, version = changed.pop("data_id", DATA_ID), changed.pop("version", "v1")
    return cache.write(data_id, version, mosaic, **(arguments | changed))


def files(place: StorageSpec) -> dict[str, bytes]:
    """Everything that lies there, by its path below the root."""
    filesystem, path = fsspec.core.url_to_fs(place.root)
    if not filesystem.exists(path):
        return {}
    return {name.removeprefix(f"{path}/"): filesystem.cat_file(name) for name in filesystem.find(path)}


def without_generations(found: dict[str, bytes]) -> dict[str, bytes]:
    """The same whatever the groups are called."""
    named = {re.sub(r"/[0-9a-f]{32}\.zarr/", "/group/", key): content for key, content in found.items()}
    assert len(named) == len(found)
    return {
        key: re.sub(rb'"(generation)": "[0-9a-f]{32}"|"crc32": \d+', b"", content)
        if key.endswith("record.json")
        else content
        for key, content in named.items()
    }


def put(place: StorageSpec, key: str, content: bytes) -> None:
    filesystem, path = fsspec.core.url_to_fs(place.root)
    filesystem.makedirs(f"{path}/{key}".rpartition("/")[0], exist_ok=True)
    filesystem.pipe_file(f"{path}/{key}", content)


def read_back(cache: ArchiveCache, data_id: str = DATA_ID) -> npt.NDArray[Any]:
    """All pixels, through the pipeline's own reader of chunks; absent ones as it fills them."""
    native = cache.describe(data_id)
    (array,) = native.arrays
    reader = open_reader(native.location)
    whole = np.empty(array.shape, array.dtype)
    for row in range(-(-array.shape[0] // array.chunks[0])):
        for col in range(-(-array.shape[1] // array.chunks[1])):
            rows = slice(row * array.chunks[0], (row + 1) * array.chunks[0])
            cols = slice(col * array.chunks[1], (col + 1) * array.chunks[1])
            chunk = read_chunk(reader, array, (row, col))
            whole[rows, cols] = array.absent if chunk is None else chunk
    return whole


class TestWhatIsWritten:
    def test_layout(self, place: StorageSpec, mosaic: Mosaic) -> None:
        cache = ArchiveCache.open(place)
        record = write(cache, mosaic)
        found = files(place)
        group = f"{FOLDER}/{record.generation}.zarr"
        # The one without any value, too.
        chunks = {f"{group}/{VARIABLE}/{index}" for index in ("0.0", "0.1", "0.2", "1.0", "1.1", "1.2")}
        assert {key for key in found if key.startswith(f"{group}/{VARIABLE}/") and "/." not in key} == chunks
        assert {key for key in found if not key.startswith(f"{group}/")} == {RECORD}
        assert len(found[f"{group}/{VARIABLE}/0.1"]) < 1000
        array = json.loads(found[f"{group}/{VARIABLE}/.zarray"])
        assert array["chunks"] == [2048, 2048]
        assert (array["dtype"], array["fill_value"], array["filters"]) == ("|u1", 255, None)
        assert array["compressor"] == {"id": "zstd", "level": 1, "checksum": True}
        attrs = json.loads(found[f"{group}/{VARIABLE}/.zattrs"])
        assert attrs == {
            "_ARRAY_DIMENSIONS": ["y", "x"],
            "AREA_OR_POINT": "Area",
            "DataType": "Thematic",
            "long_name": "Forest type",
            "coordinates": "spatial_ref",
            "grid_mapping": "spatial_ref",
        }
        assert record == cache.record(DATA_ID)
        assert record.bytes == sum(len(content) for key, content in found.items() if key.startswith(group))
        assert (record.version, record.variable) == ("v1", VARIABLE)

    def test_the_same_again_is_the_same(self, place: StorageSpec, mosaic: Mosaic) -> None:
        write(ArchiveCache.open(place), mosaic)
        before = files(place)
        write(ArchiveCache.open(place), mosaic)
        assert without_generations(files(place)) == without_generations(before)
        assert not files(place).keys() & before.keys() - {RECORD}

    def test_xarray_reads_it(self, place: StorageSpec, mosaic: Mosaic) -> None:
        cache = ArchiveCache.open(place)
        write(cache, mosaic)
        url = cache.location(DATA_ID).url
        with xr.open_zarr(url, mask_and_scale=False, decode_coords="all", chunks=None) as dataset:
            assert list(dataset.data_vars) == [VARIABLE]
            assert dataset[VARIABLE].dims == ("y", "x")
            assert dataset[VARIABLE].dtype == np.uint8
            assert set(dataset.coords) == {"y", "x", "spatial_ref"}
            np.testing.assert_array_equal(dataset[VARIABLE].to_numpy(), VALUES)
            np.testing.assert_array_equal(dataset["x"], 3_000_010 + 20 * np.arange(4200))
            np.testing.assert_array_equal(dataset["y"], 2_999_990 - 20 * np.arange(2500))
            assert dataset["y"].attrs["standard_name"] == "projection_y_coordinate"
            assert CRS.from_cf(dataset["spatial_ref"].attrs) == CRS.from_epsg(3035)
            assert dataset["spatial_ref"].attrs["GeoTransform"] == "3000000.0 20.0 0.0 3000000.0 0.0 -20.0"
        with xr.open_zarr(url, chunks=None) as decoded:
            assert int(decoded[VARIABLE].isnull().sum()) == int((VALUES == 255).sum())

    def test_sources_read_it(self, tmp_path: Path, mosaic: Mosaic) -> None:
        """In a folder: of object stores they read those alone that answer asynchronously, as S3's client does."""
        cache = ArchiveCache.open(StorageSpec(str(tmp_path / "cache")))
        write(cache, mosaic)
        native = cache.describe(DATA_ID)
        assert native.lattice == Lattice("EPSG:3035", 3_000_000, 3_000_000, 20, -20, 4200, 2500)
        assert (native.y_dim, native.x_dim, native.times) == ("y", "x", ())
        assert (native.version, native.href) == ("v1", "https://land.example/forest-type")
        assert native.provenance == {"clms_task_id": "1"}
        (array,) = native.arrays
        assert (array.name, array.dtype, array.fill, array.absent) == (VARIABLE, "uint8", 255, 255)
        assert (array.scale, array.offset) == (1, 0)
        np.testing.assert_array_equal(read_back(cache), VALUES)

    @pytest.mark.parametrize(
        ("dtype", "nodata"), [("float32", float("nan")), ("int16", -9999), ("float64", -1.0), ("uint8", None)]
    )
    def test_other_dtypes(self, tmp_path: Path, dtype: str, nodata: float | None) -> None:
        values = RNG.integers(0, 100, (30, 40)).astype(dtype)
        if nodata is not None:
            values[:3] = nodata
        mosaic = Mosaic.open([write_tif(tmp_path / "a.tif", values, nodata=nodata)])
        cache = ArchiveCache.open(StorageSpec(str(tmp_path)))
        write(cache, mosaic)
        assert cache.describe(DATA_ID).arrays[0].dtype == dtype
        np.testing.assert_array_equal(read_back(cache), values)

    def test_all_nodata(self, tmp_path: Path) -> None:
        values = np.full((30, 40), 255, np.uint8)
        cache = ArchiveCache.open(StorageSpec(str(tmp_path / "cache")))
        write(cache, Mosaic.open([write_tif(tmp_path / "a.tif", values)]))
        np.testing.assert_array_equal(read_back(cache), values)

    def test_a_geographic_crs(self, tmp_path: Path) -> None:
        path = write_tif(tmp_path / "a.tif", VALUES[:60, :50], west=5, north=50, crs="EPSG:4326")
        with rasterio.open(path, "r+") as file:
            file.transform = rasterio.Affine(0.25, 0, 5, 0, -0.25, 50)
        cache = ArchiveCache.open(StorageSpec(str(tmp_path)))
        write(cache, Mosaic.open([path]))
        native = cache.describe(DATA_ID)
        assert native.lattice == Lattice("EPSG:4326", 5, 50, 0.25, -0.25, 50, 60)
        with xr.open_zarr(cache.location(DATA_ID).url, chunks=None) as dataset:
            assert dataset["y"].attrs["standard_name"] == "latitude"

    def test_progress(self, place: StorageSpec, mosaic: Mosaic) -> None:
        told: list[tuple[int, int | None]] = []
        write(ArchiveCache.open(place), mosaic, on_progress=lambda done, total: told.append((done, total)))
        assert told == [(2048, 2500), (2500, 2500)]

    @pytest.mark.parametrize("variable", ["", "x", "spatial_ref", "../a", "a/b", ".zattrs"])
    def test_names_that_cant_be(self, place: StorageSpec, mosaic: Mosaic, variable: str) -> None:
        with pytest.raises(PreloadError, match="can't be the name"):
            write(ArchiveCache.open(place), mosaic, variable=variable)
        assert files(place) == {}


@pytest.mark.parametrize("data_id", ["..", ".", "a/../b", "a b%7C|é", "A", "x.zarr", "downloads"])
def test_no_data_id_leaves_the_folder(place: StorageSpec, tmp_path: Path, mosaic: Mosaic, data_id: str) -> None:
    cache = ArchiveCache.open(place)
    write(cache, mosaic, data_id=data_id)
    write(cache, mosaic, data_id="other")
    put(place, cache.downloads(data_id).removeprefix(f"{place.root}/") + "/a.zip.part", b"12345")
    assert {key.split("/")[0] for key in files(place)} == {"archives"}
    assert len({key.split("/")[1] for key in files(place)}) == 2
    assert cache.fault(data_id) is None
    assert [(e.data_id, e.complete) for e in cache.entries() if e.data_id == data_id] == [
        (data_id, True),
        (data_id, False),
    ]
    cache.clear(data_id)
    assert [entry.data_id for entry in cache.entries()] == ["other"]
    assert cache.fault("other") is None


def flip(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


class TestDamage:
    def test_nothing_there(self, place: StorageSpec) -> None:
        cache = ArchiveCache.open(place)
        assert cache.record(DATA_ID) is None
        assert cache.fault(DATA_ID) == "it hasn't been fetched yet"
        assert cache.entries() == ()
        assert cache.clear(DATA_ID) == 0
        with pytest.raises(NotPreloadedError, match=r"hasn't been fetched yet.*scs2-cubes run"):
            cache.describe(DATA_ID)
        assert files(place) == {}

    def test_another_version_is_no_fault(self, place: StorageSpec, mosaic: Mosaic) -> None:
        cache = ArchiveCache.open(place)
        write(cache, mosaic)
        write(cache, mosaic, version="v2")
        assert cache.fault(DATA_ID) is None
        record = cache.record(DATA_ID)
        assert record is not None
        assert record.version == "v2"

    def test_any_object_missing_or_changed(self, place: StorageSpec, mosaic: Mosaic) -> None:
        """Each document, coordinate and chunk; the record, too. Describing leaves a chunk's content to its reader."""
        cache = ArchiveCache.open(place)
        write(cache, mosaic)
        filesystem, root = fsspec.core.url_to_fs(place.root)
        good = files(place)
        assert len(good) > 15
        for key, content in good.items():
            assert cache.fault(DATA_ID) is None
            for damaged in (None, flip(content), content[:-1], content + b"\0", b""):
                if damaged is None:
                    filesystem.rm_file(f"{root}/{key}")
                else:
                    put(place, key, damaged)
                fault = cache.fault(DATA_ID)
                assert fault is not None
                assert key == RECORD or key.split("/", 3)[3] in fault
                flipped_chunk = damaged is not None and len(damaged) == len(content) and f"/{VARIABLE}/" in key
                if flipped_chunk and "/." not in key:
                    if "://" in place.root:
                        # The sources' readers want object stores that answer asynchronously.
                        put(place, key, content)
                        continue
                    with pytest.raises(SourceFormatError, match="decoded"):
                        read_back(ArchiveCache.open(place))
                else:
                    with pytest.raises(NotPreloadedError):
                        cache.describe(DATA_ID)
                put(place, key, content)

    def test_what_doesnt_belong_there(self, place: StorageSpec, mosaic: Mosaic) -> None:
        cache = ArchiveCache.open(place)
        write(cache, mosaic)
        (some,) = [key for key in files(place) if key.endswith(f"{VARIABLE}/0.0")]
        put(place, some.replace("/0.0", "/0.7"), files(place)[some])
        assert cache.fault(DATA_ID) == f"{VARIABLE}/0.7 doesn't belong there"
        with pytest.raises(NotPreloadedError, match="doesn't belong there"):
            cache.describe(DATA_ID)
        write(cache, mosaic)
        assert cache.fault(DATA_ID) is None

    def test_any_word_of_the_record(self, place: StorageSpec, mosaic: Mosaic) -> None:
        cache = ArchiveCache.open(place)
        write(cache, mosaic)
        good = files(place)[RECORD]
        for old, new in ((b'"v1"', b'"v2"'), (b"land.example", b"evil.example"), (b"{", b"["), (b'"objects"', b'"x"')):
            put(place, RECORD, good.replace(old, new, 1))
            assert "can't be read" in str(cache.fault(DATA_ID))
            assert cache.record(DATA_ID) is None
            assert not cache.entries()[0].complete

    def test_anothers_record(self, place: StorageSpec, mosaic: Mosaic) -> None:
        cache = ArchiveCache.open(place)
        write(cache, mosaic, data_id="other")
        for key, content in files(place).items():
            put(place, key.replace("other", NAME, 1), content)
        assert "of something else" in str(cache.fault(DATA_ID))

    def test_smaller_ones_leave_nothing_of_larger_ones(
        self, place: StorageSpec, mosaic: Mosaic, tmp_path: Path
    ) -> None:
        cache = ArchiveCache.open(place)
        write(cache, mosaic)
        small = VALUES[:100, :100]
        write(cache, Mosaic.open([write_tif(tmp_path / "b.tif", small)]), variable="other")
        assert cache.fault(DATA_ID) is None
        assert not any(VARIABLE in key.removeprefix(FOLDER) for key in files(place))
        with xr.open_zarr(cache.location(DATA_ID).url, mask_and_scale=False, chunks=None) as dataset:
            np.testing.assert_array_equal(dataset["other"].to_numpy(), small)

    def test_a_source_that_ends_on_the_way(self, place: StorageSpec, mosaic: Mosaic, tmp_path: Path) -> None:
        cache = ArchiveCache.open(place)
        write(cache, mosaic)
        path = tmp_path / "a.tif"
        path.write_bytes(path.read_bytes()[:-2000])
        with pytest.raises(SourceFormatError):
            write(cache, mosaic)
        # What lay there is as good as it was.
        assert cache.fault(DATA_ID) is None
        put(place, "archives/other/record.json", b"{}")
        with pytest.raises(SourceFormatError):
            write(cache, mosaic, data_id="another")
        assert cache.fault("another") == "it hasn't been fetched yet"

    def test_a_folder_that_cant_be_written(self, tmp_path: Path, mosaic: Mosaic) -> None:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(StorageError):
            write(ArchiveCache.open(StorageSpec(str(tmp_path / "file" / "cache"))), mosaic)


def test_entries_and_clear(place: StorageSpec, mosaic: Mosaic) -> None:
    cache = ArchiveCache.open(place)
    record = write(cache, mosaic)
    write(cache, mosaic, data_id="b|half")
    filesystem, root = fsspec.core.url_to_fs(place.root)
    filesystem.rm_file(f"{root}/archives/b%7Chalf/record.json")
    put(place, "archives/c%7Cleft/downloads/delivery.zip.part", b"12345")
    put(place, f"{FOLDER}/downloads/delivery.zip", b"123")
    put(place, "orders/x.json", b"{}")
    group, half, left, mine = (
        cache.location(DATA_ID).url,
        f"{place.root}/archives/b%7Chalf",
        cache.downloads("c|left"),
        cache.downloads(DATA_ID),
    )
    assert [(e.data_id, e.version, e.bytes, e.complete, e.url) for e in cache.entries()] == [
        ("b|half", None, record.bytes, False, half),
        ("c|left", None, 5, False, left),
        (DATA_ID, "v1", record.bytes, True, group),
        (DATA_ID, None, 3, False, mine),
    ]
    of_record = len(files(place)[RECORD])
    assert cache.clear(DATA_ID) == record.bytes + of_record + 3
    assert cache.clear("b|half") == record.bytes
    assert cache.clear("c|left") == 5
    assert cache.entries() == ()
    assert files(place) == {"orders/x.json": b"{}"}


GROUP = f"{0:032x}.zarr"


def test_nothing_else_is_seen_or_touched(place: StorageSpec, mosaic: Mosaic) -> None:
    """Cubes and others' folders, below the root and where this cache has its own."""
    cache = ArchiveCache.open(place)
    foreign = {
        "landes.zarr/genus/0.0.0": b"pixels",
        "landes.json": b"{}",
        f"{NAME}.zarr/0.0": b"of another release",
        f"downloads/{NAME}/notes": b"mine",
        "archives/README": b"mine",
        f"archives/foo bar/{GROUP}/0.0": b"no name of a data id",
        f"archives/a|b/{GROUP}/0.0": b"neither",
        "archives/mine/thesis.zarr/0.0": b"neither",
        f"{FOLDER}/notes.txt": b"mine",
        f"{FOLDER}/copy.zarr/0.0": b"mine",
    }
    for key, content in foreign.items():
        put(place, key, content)
    assert cache.entries() == ()
    write(cache, mosaic)
    write(cache, mosaic)
    assert [entry.data_id for entry in cache.entries()] == [DATA_ID]
    assert cache.fault(DATA_ID) is None
    for data_id in (DATA_ID, "landes", "foo bar", "a|b", "mine"):
        cache.clear(data_id)
    # What clear can remove is what entries can list: "a|b" is a data id, but its folder has another name.
    assert files(place) == foreign


def test_secrets_are_not_shown() -> None:
    place = StorageSpec("memory://user:PLANTED@host/x")
    cache = ArchiveCache.open(place)
    put(place, "archives/a/downloads/b", b"12345")
    with pytest.raises(NotPreloadedError, match="memory://host/x") as caught:
        cache.describe("a")
    put(place, "archives/a/record.json", b"{}")
    shown = [str(caught.value), str(cache.fault("a")), *(entry.url for entry in cache.entries()), repr(place)]
    assert len(shown) == 5
    assert not [text for text in shown if "PLANTED" in text]
    assert [text for text in shown if "host/x" in text] == shown
    assert "PLANTED" in cache.downloads("a")


@pytest.mark.parametrize("tag", ["units", "calendar", "flag_values", "bounds", "standard_name", "scale_factor", "foo"])
def test_tags_that_would_change_what_pixels_mean(tmp_path: Path, tag: str) -> None:
    text = {"units": "days", "scale_factor": "0.1"}.get(tag, "1")
    values = VALUES[:30, :30]
    tags = {tag: text, "TIFFTAG_COPYRIGHT": "EEA", "DataType": "Thematic"}
    cache = ArchiveCache.open(StorageSpec(str(tmp_path / "cache")))
    write(cache, Mosaic.open([write_tif(tmp_path / "a.tif", values, tags=tags)]))
    with xr.open_zarr(cache.location(DATA_ID).url, chunks=None) as dataset:
        expected = np.where(values == 255, np.nan, values.astype("float32"))
        np.testing.assert_array_equal(dataset[VARIABLE].to_numpy(), expected)
        assert (dataset[VARIABLE].attrs["TIFFTAG_COPYRIGHT"], dataset[VARIABLE].attrs["DataType"]) == (
            "EEA",
            "Thematic",
        )
        assert tag not in dataset[VARIABLE].attrs


KILLED = """
import sys
from pathlib import Path
from scs2_cubes.core.specification import StorageSpec
from scs2_cubes.preload.archive_cache import ArchiveCache
from scs2_cubes.preload.mosaic import Mosaic
import time
def wait(done, total):
    print(done, flush=True)
    time.sleep(60)
ArchiveCache.open(StorageSpec(sys.argv[1])).write(
    sys.argv[2], "v2", Mosaic.open([Path(sys.argv[3])]), variable=sys.argv[4], attrs={}, provenance={}, href="",
    on_progress=wait)
"""


def test_killed_in_the_middle(tmp_path: Path, mosaic: Mosaic) -> None:
    place = StorageSpec(str(tmp_path / "cache"))
    cache = ArchiveCache.open(place)
    write(cache, mosaic)
    before = files(place)
    arguments = [place.root, DATA_ID, str(tmp_path / "a.tif"), VARIABLE]
    with subprocess.Popen([sys.executable, "-c", KILLED, *arguments], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"2048\n"
        process.send_signal(signal.SIGKILL)
    # What was there is as good as before, and what was begun takes room until the next one.
    assert before.items() < files(place).items()
    assert cache.fault(DATA_ID) is None
    np.testing.assert_array_equal(read_back(cache), VALUES)
    assert [entry.complete for entry in cache.entries()] == [True]
    assert cache.entries()[0].bytes > sum(map(len, before.values())) - len(before[RECORD])
    write(cache, mosaic)
    assert without_generations(files(place)) == without_generations(before)


def test_killed_in_the_middle_of_the_first_one(tmp_path: Path, mosaic: Mosaic) -> None:
    place = StorageSpec(str(tmp_path / "cache"))
    cache = ArchiveCache.open(place)
    assert mosaic.lattice.ny == 2500
    arguments = [place.root, DATA_ID, str(tmp_path / "a.tif"), VARIABLE]
    with subprocess.Popen([sys.executable, "-c", KILLED, *arguments], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"2048\n"
        process.send_signal(signal.SIGKILL)
    assert cache.fault(DATA_ID) == "it isn't finished: it has no record"
    assert [entry.complete for entry in cache.entries()] == [False]
    with pytest.raises(NotPreloadedError):
        cache.describe(DATA_ID)
    assert cache.clear(DATA_ID) > 0
    assert files(place) == {}


def delivered(recorded: Path, tmp_path: Path) -> tuple[Path, Path]:
    """The recorded clip as CLMS would deliver it, and its raster as it is."""
    clip = recorded / "clms" / "FTY_2015_020m_mt_03035_d04_clip.zip"
    if not clip.is_file():
        pytest.skip(f"no recorded clip {clip}; set SCS2_RECORDED")
    with zipfile.ZipFile(clip) as archive:
        members = {member.filename: archive.read(member) for member in archive.infolist()}
    raster = tmp_path / "x" / "raster.tif"
    raster.parent.mkdir()
    raster.write_bytes(next(content for name, content in members.items() if name.endswith(".tif")))
    return deliver(tmp_path, members), raster


def test_the_real_clip_goes_the_whole_way(recorded: Path, tmp_path: Path) -> None:
    archive, raster = delivered(recorded, tmp_path)
    cache = ArchiveCache.open(StorageSpec(str(tmp_path / "cache")))
    write(cache, Mosaic.open(unpack(archive, tmp_path / "out")))
    with rasterio.open(raster) as file:
        expected, transform = file.read(1), file.transform
    assert set(np.unique(expected)) >= {0, 1, 2}
    native = cache.describe(DATA_ID)
    assert native.lattice.crs == "EPSG:3035"
    assert (native.lattice.x_origin, native.lattice.y_origin) == (transform.c, transform.f)
    np.testing.assert_array_equal(read_back(cache), expected)
    with xr.open_zarr(cache.location(DATA_ID).url, mask_and_scale=False, chunks=None) as dataset:
        np.testing.assert_array_equal(dataset[VARIABLE].to_numpy(), expected)


LARGE = """
import resource, sys, time
from pathlib import Path
from scs2_cubes.core.specification import StorageSpec
from scs2_cubes.preload.archive import unpack
from scs2_cubes.preload.archive_cache import ArchiveCache
from scs2_cubes.preload.mosaic import Mosaic
began = time.monotonic()
cache = ArchiveCache.open(StorageSpec(sys.argv[2]))
cache.write("large", "v1", Mosaic.open(unpack(Path(sys.argv[1]), Path(sys.argv[3]))), variable="large", attrs={},
            provenance={}, href="", on_progress=lambda done, total: None)
native = cache.describe("large")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, native.lattice.shape, time.monotonic() - began)
"""


def large_delivery(folder: Path, halves: int) -> Path:
    """50000 x 50000 pixels, mostly uniform, in strips of one row; in one file or in several beside each other."""
    side = 50_000
    width = side // halves
    folder.mkdir()
    with zipfile.ZipFile(folder / "inner.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as inner:
        for number in range(halves):
            path = folder / f"{number}.tif"
            profile = {"dtype": "uint8", "count": 1, "nodata": 255, "crs": "EPSG:3035", "compress": "lzw"}
            transform = rasterio.Affine(20, 0, 3e6 + 20 * number * width, 0, -20, 3e6)
            with rasterio.open(
                path, "w", driver="GTiff", width=width, height=side, transform=transform, **profile
            ) as file:
                for row in range(0, side, 2000):
                    values = np.full((2000, width), number, np.uint8)
                    values[100:900, 1000:9000] = RNG.integers(0, 3, (800, 1), np.uint8)
                    values[:, -300:] = 255
                    file.write(values, 1, window=((row, row + 2000), (0, width)))
            inner.write(path)
            path.unlink()
    with zipfile.ZipFile(folder / "delivery.zip", "w") as outer:
        outer.write(folder / "inner.zip", "Results/inner.zip")
    (folder / "inner.zip").unlink()
    return folder / "delivery.zip"


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("halves", [1, 2])
def test_a_large_archive_in_little_memory(tmp_path: Path, halves: int) -> None:
    archive = large_delivery(tmp_path / "made", halves)
    ran = subprocess.run(
        [sys.executable, "-c", LARGE, str(archive), str(tmp_path / "cache"), str(tmp_path / "out")],
        check=True,
        capture_output=True,
        text=True,
    )
    kibibytes = int(ran.stdout.split()[0])
    assert "(50000, 50000)" in ran.stdout
    assert kibibytes * 1024 < 1e9, ran.stdout
