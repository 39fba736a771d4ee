"""Stores on disk, behind a web server and in a bucket: the same data ids, versions that notice, the same pixels."""

from __future__ import annotations

import pickle
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import zarr

from scs2_cubes.config.object_stores import s3_options
from scs2_cubes.core.native import Location, RetryPolicy
from scs2_cubes.core.specification import StoreSpec
from scs2_cubes.demo.faults import CutBody, Status
from scs2_cubes.demo.server import DemoServer
from scs2_cubes.errors import (
    AccessDeniedError,
    DataIdNotFoundError,
    SourceError,
    SourceFormatError,
    SourceUnavailableError,
)
from scs2_cubes.sources import DescribedSource, open_source
from scs2_cubes.sources.files import FileSource
from scs2_cubes.sources.zarr_group import content_version
from scs2_cubes_tests.s3.server import GUEST, OWNER, Bucket
from scs2_cubes_tests.sources.file_worlds import NORTH, SHAPE, WEST, Shelf, files, pixels, read_all, store_at, write_tif
from scs2_cubes_tests.sources.worlds import forest, write_store
from scs2_cubes_tests.storage.s3_servers import S3Double


def uploading(folder: Path, bucket: Bucket) -> Any:
    def publish() -> None:
        for path in folder.rglob("*"):
            if path.is_file():
                key = f"shelf/{path.relative_to(folder).as_posix()}"
                bucket.client.put_object(Bucket=bucket.name, Key=key, Body=path.read_bytes())

    return publish


@pytest.fixture
def web(tmp_path: Path) -> Iterator[DemoServer]:
    with DemoServer(catalogue=files(tmp_path)) as running:
        yield running


@pytest.fixture(params=["file", "https", "s3"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    folder = tmp_path / "shelf"
    folder.mkdir()
    if request.param == "https":
        server: DemoServer = request.getfixturevalue("web")
        return Shelf(folder, store_at("https", f"{server.url}/shelf"))
    if request.param == "s3":
        bucket: Bucket = request.getfixturevalue("bucket")
        options = {**OWNER, "endpoint_url": bucket.server.url}
        return Shelf(folder, store_at("s3", f"s3://{bucket.name}/shelf", options), uploading(folder, bucket))
    return Shelf(folder, store_at("file", str(folder)))


class TestEverywhere:
    """What every source has to keep to."""

    def test_is_a_source(self, shelf: Shelf) -> None:
        source = open_source(shelf.store)
        assert isinstance(source, FileSource)
        assert isinstance(source, DescribedSource)
        assert source.public_href("a/b.tif") == f"{shelf.store.params['root']}/a/b.tif"

    def test_geotiff(self, shelf: Shelf) -> None:
        values = pixels("int16", bands=3)
        path = write_tif(shelf.folder / "deep/map.tif", values, nodata=-1, descriptions=("a", "b", "c"), units="mmm")
        shelf.publish()
        native = shelf.source.describe("deep/map.tif")
        assert native.version == shelf.source.probe("deep/map.tif")
        assert [array.name for array in native.arrays] == ["band_1", "band_2", "band_3"]
        assert [array.attrs for array in native.arrays] == [{"long_name": name, "units": "m"} for name in "abc"]
        lattice = native.lattice
        assert (lattice.crs, lattice.x_origin, lattice.y_origin) == ("EPSG:3035", WEST, NORTH)
        assert (lattice.dx, lattice.dy, lattice.shape) == (30, -30, SHAPE)
        native = pickle.loads(pickle.dumps(native))
        with rasterio.open(path) as raster:
            for band in (1, 2, 3):
                array = native.array(f"band_{band}")
                assert (array.dims, array.chunks, array.dtype, array.fill) == (("y", "x"), (128, 128), "int16", -1)
                np.testing.assert_array_equal(read_all(native, array.name), raster.read(band))

    def test_newer_editions_lie_in_the_same_folder(self, shelf: Shelf) -> None:
        for name in ("a/age_v1.2.tif", "a/age_v1.10.tif", "a/age_v1.3.tif", "b/age_v2.0.tif", "a/genus_v3.0.tif"):
            write_tif(shelf.folder / name, pixels("uint8"))
        shelf.publish()
        found = shelf.source.newer_editions("a/age_v1.2.tif")
        is_web = str(shelf.store.params["root"]).startswith("http")
        assert found == (() if is_web else ("a/age_v1.3.tif", "a/age_v1.10.tif"))
        assert shelf.source.newer_editions("a/age_v1.10.tif") == ()

    # xarray consolidates although format 3 doesn't know that yet, and zarr says so.
    @pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part")
    @pytest.mark.parametrize("zarr_format", [2, 3])
    def test_zarr(self, shelf: Shelf, zarr_format: int) -> None:
        path = write_store(forest(), shelf.folder / "deep/forest.zarr", zarr_format)
        shelf.publish()
        native = shelf.source.describe("deep/forest.zarr")
        assert native.version == shelf.source.probe("deep/forest.zarr")
        stored = zarr.open_array(path, path="age", mode="r")[...]
        np.testing.assert_array_equal(read_all(native, "age"), stored)

    def test_what_is_not_there(self, shelf: Shelf) -> None:
        write_tif(shelf.folder / "forest_2020.tif", pixels())
        write_store(forest(), shelf.folder / "forest_2020.zarr")
        shelf.publish()
        lists = shelf.store.protocol != "https"
        for data_id in ("forest_2021.tif", "forest_2021.zarr"):
            for ask in (shelf.source.probe, shelf.source.describe):
                with pytest.raises(DataIdNotFoundError, match=rf"no data_id '{re.escape(data_id)}'") as missing:
                    ask(data_id)
                assert ("nearest: forest_2020" in str(missing.value)) == lists

    @pytest.mark.parametrize(
        ("data_id", "problem"),
        [
            ("forest", "has to end in"),
            ("forest.nc", "has to end in one of .zarr, .tif, .tiff"),
            ("../forest.tif", "below root"),
            ("/etc/forest.tif", "below root"),
            ("a//forest.tif", "below root"),
        ],
    )
    def test_what_cannot_be_a_data_id(self, shelf: Shelf, data_id: str, problem: str) -> None:
        write_tif(shelf.folder / "forest.tif", pixels())
        shelf.publish()
        with pytest.raises(DataIdNotFoundError, match=problem):
            shelf.source.describe(data_id)

    def test_a_change_is_another_version(self, shelf: Shelf) -> None:
        write_tif(shelf.folder / "map.tif", pixels())
        write_store(forest(), shelf.folder / "map.zarr")
        shelf.publish()
        before = {name: shelf.source.probe(name) for name in ("map.tif", "map.zarr")}
        assert {name: shelf.source.probe(name) for name in before} == before
        native = shelf.source.describe("map.tif")
        write_tif(shelf.folder / "map.tif", pixels() + 1)
        write_store(forest().assign_attrs(title="Changed"), shelf.folder / "map.zarr")
        shelf.publish()
        for name, version in before.items():
            assert shelf.source.probe(name) != version
        # Who still has the old description is told, and gets no mixture.
        with pytest.raises(SourceFormatError, match=r"was replaced since it was described\. Run again"):
            read_all(native, "band_1")

    @pytest.mark.parametrize("keep", [5, 200, 0.5, 0.99])
    def test_a_file_that_was_cut(self, shelf: Shelf, keep: float) -> None:
        path = write_tif(shelf.folder / "map.tif", pixels("uint16", 2))
        content = path.read_bytes()
        path.write_bytes(content[: int(keep if keep > 1 else keep * len(content))])
        shelf.publish()
        with pytest.raises(SourceError, match=r"cut|not a TIFF|ends within|HTTP 416|InvalidRange") as caught:
            read_everything(shelf, "map.tif")
        assert "map.tif" in str(caught.value)

    @pytest.mark.parametrize("suffix", [".msk", ".aux.xml"])
    def test_what_lies_beside_a_geotiff(self, shelf: Shelf, suffix: str) -> None:
        """GDAL would read another validity, or other numbers, than the file has."""
        path = write_tif(shelf.folder / "deep/map.tif", pixels())
        write_tif(shelf.folder / "deep/map2.tif", pixels())
        beside = path.with_name(path.name + suffix)
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False):
            write_beside(path, suffix)
        assert beside.is_file()
        shelf.publish()
        shelf.source.describe("deep/map2.tif")
        if shelf.store.protocol == "https":
            # Nothing can be listed there; the documentation says that they aren't read.
            shelf.source.describe("deep/map.tif")
            return
        with pytest.raises(SourceFormatError, match=rf"map\.tif{re.escape(suffix)} lies beside it"):
            shelf.source.describe("deep/map.tif")

    def test_statistics_beside_a_geotiff_say_nothing_of_its_values(self, shelf: Shelf) -> None:
        path = write_tif(shelf.folder / "map.tif", pixels())
        path.with_name("map.tif.aux.xml").write_text(STATISTICS, encoding="utf-8")
        with rasterio.open(path) as raster:
            assert raster.tags(1) == {"STATISTICS_MEAN": "99.1"}
        shelf.publish()
        np.testing.assert_array_equal(read_all(shelf.source.describe("map.tif"), "band_1"), pixels()[0])

    def test_unconsolidated(self, shelf: Shelf) -> None:
        forest().to_zarr(shelf.folder / "plain.zarr", zarr_format=2, consolidated=False)
        shelf.publish()
        if shelf.store.protocol == "https":
            with pytest.raises(SourceFormatError, match="consolidated"):
                shelf.source.describe("plain.zarr")
            return
        before = shelf.source.probe("plain.zarr")
        native = shelf.source.describe("plain.zarr")
        assert native.version == before
        stored = zarr.open_array(shelf.folder / "plain.zarr", path="age", mode="r")[...]
        np.testing.assert_array_equal(read_all(native, "age"), stored)
        zarr.open_array(shelf.folder / "plain.zarr", path="age", mode="a").attrs["creation_date"] = "now"
        shelf.publish()
        assert shelf.source.probe("plain.zarr") != before


#: As GDAL writes them once a program has asked for them.
STATISTICS = """<PAMDataset>
  <PAMRasterBand band="1">
    <Histograms><HistItem><HistMin>-0.5</HistMin><HistMax>199.5</HistMax><BucketCount>2</BucketCount>
      <IncludeOutOfRange>0</IncludeOutOfRange><Approximate>0</Approximate><HistCounts>3|4</HistCounts></HistItem>
    </Histograms>
    <Metadata><MDI key="STATISTICS_MEAN">99.1</MDI></Metadata>
  </PAMRasterBand>
</PAMDataset>
"""


def write_beside(path: Path, suffix: str) -> None:
    """A mask, or nodata and scale, as GDAL writes them beside ``path`` where it may not write to the file."""
    if suffix == ".msk":
        with rasterio.open(path, "r+") as raster:
            raster.write_mask(pixels()[0] > 100)
        return
    path.with_name(path.name + suffix).write_text(
        '<PAMDataset>\n  <PAMRasterBand band="1">\n    <NoDataValue>7</NoDataValue>\n    <Scale>0.5</Scale>\n'
        "  </PAMRasterBand>\n</PAMDataset>\n",
        encoding="utf-8",
    )
    with rasterio.open(path) as raster:
        assert (raster.nodata, raster.scales) == (7, (0.5,))


@contextmanager
def silent_of_versions(content: bytes) -> Iterator[str]:
    """Address of a server that has ``content`` everywhere, and says nothing of it but its size."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response_only(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def read_everything(shelf: Shelf, data_id: str) -> None:
    native = shelf.source.describe(data_id)
    for array in native.arrays:
        read_all(native, array.name)


class TestListing:
    def test_ids(self, shelf: Shelf) -> None:
        write_tif(shelf.folder / "b.tif", pixels())
        write_tif(shelf.folder / "deep/a.TIFF", pixels())
        write_store(forest(), shelf.folder / "deep/er/forest.zarr")
        (shelf.folder / "notes.txt").write_text("no data")
        shelf.publish()
        if shelf.store.protocol == "https":
            with pytest.raises(SourceError, match="nothing can be listed: name data ids"):
                list(shelf.source.data_ids())
        else:
            assert list(shelf.source.data_ids()) == ["b.tif", "deep/a.TIFF", "deep/er/forest.zarr"]
            shelf.source.probe("deep/a.TIFF")

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        source = FileSource.open(store_at("file", str(tmp_path / "nothing")))
        with pytest.raises(DataIdNotFoundError, match="nothing lies there"):
            list(source.data_ids())


class TestRequests:
    """One question for the version, one for the header, and one for each block."""

    def test_counted(self, tmp_path: Path, web: DemoServer) -> None:
        write_tif(tmp_path / "map.tif", pixels(bands=2), interleave="band")
        source = FileSource.open(store_at("https", web.url))
        source.probe("map.tif")
        assert web.requests.count() == 1
        native = source.describe("map.tif")
        assert web.requests.count() == 3
        read_all(native, "band_2")
        # The header once more: it's another process, as a rule. Three by two blocks.
        assert web.requests.count() == 3 + 1 + 6

    def test_retried(self, tmp_path: Path, web: DemoServer) -> None:
        write_tif(tmp_path / "map.tif", pixels())
        source = FileSource.open(store_at("https", web.url))
        web.faults.add(Status(503), "map.tif", times=2)
        native = source.describe("map.tif")
        web.faults.add(Status(503), "map.tif", times=2)
        np.testing.assert_array_equal(read_all(native, "band_1"), pixels()[0])
        web.faults.add(Status(403), "map.tif")
        with pytest.raises(AccessDeniedError, match="403"):
            source.probe("map.tif")
        with pytest.raises(AccessDeniedError, match="403"):
            read_all(native, "band_1")
        web.faults.clear()
        web.faults.add(Status(500), "map.tif")
        with pytest.raises(SourceUnavailableError, match="4 attempts"):
            read_all(native, "band_1")

    def test_answers_that_are_cut(self, tmp_path: Path, web: DemoServer) -> None:
        write_tif(tmp_path / "map.tif", pixels())
        native = FileSource.open(store_at("https", web.url)).describe("map.tif")
        web.faults.add(CutBody(0.5), "map.tif")
        with pytest.raises(SourceUnavailableError):
            read_all(native, "band_1")


class TestVersions:
    def test_a_server_that_says_nothing_of_versions(self, tmp_path: Path) -> None:
        """Of the same size, another file would be the same version for ever."""
        path = write_tif(tmp_path / "map.tif", pixels(), compress=None)
        with silent_of_versions(path.read_bytes()) as url:
            source = FileSource.open(store_at("https", url))
            for ask in (source.probe, source.describe):
                with pytest.raises(SourceFormatError, match=r"neither an ETag nor a Last-Modified.*map\.tif"):
                    ask("map.tif")

    def test_a_copy_with_its_times_is_the_same_version(self, tmp_path: Path) -> None:
        """A folder that was moved, or copied as ``cp -p`` does, makes no cube stale."""
        path = write_tif(tmp_path / "a/map.tif", pixels())
        before = FileSource.open(store_at("file", str(tmp_path / "a"))).probe("map.tif")
        shutil.copytree(tmp_path / "a", tmp_path / "b")
        path.unlink()
        assert FileSource.open(store_at("file", str(tmp_path / "b"))).probe("map.tif") == before


class TestBucket:
    @pytest.mark.parametrize(
        ("login", "problem"),
        [
            ({"key": "PLANTEDKEY", "secret": "PLANTEDSECRET"}, "InvalidAccessKeyId"),
            ({"key": OWNER["key"], "secret": "PLANTEDSECRET"}, "SignatureDoesNotMatch"),
            (GUEST, "AccessDenied"),
            ({"anon": True}, "AccessDenied"),
            ({}, "NoCredentialsError"),
        ],
    )
    def test_who_may_not_read(self, tmp_path: Path, bucket: Bucket, login: dict[str, Any], problem: str) -> None:
        write_store(forest(), tmp_path / "forest.zarr")
        write_tif(tmp_path / "map.tif", pixels())
        uploading(tmp_path, bucket)()
        options = {**login, "endpoint_url": bucket.server.url}
        source = FileSource.open(store_at("s3", f"s3://{bucket.name}/shelf", options))
        for ask in (
            lambda: source.probe("forest.zarr"),
            lambda: source.describe("map.tif"),
            lambda: list(source.data_ids()),
        ):
            with pytest.raises(AccessDeniedError, match=f"{problem}|access denied|no permission") as denied:
                ask()
            assert "PLANTED" not in f"{denied.value}{source}"

    def test_anonymous_where_it_is_allowed(self, tmp_path: Path, bucket: Bucket) -> None:
        write_tif(tmp_path / "map.tif", pixels())
        uploading(tmp_path, bucket)()
        bucket.allow_everybody("GetObject", "ListBucket")
        options = {"anon": True, "endpoint_url": bucket.server.url}
        source = FileSource.open(store_at("s3", f"s3://{bucket.name}/shelf", options))
        np.testing.assert_array_equal(read_all(source.describe("map.tif"), "band_1"), pixels()[0])

    def test_each_attempt_is_one_request(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """s3fs makes attempts of its own, which the policy knows nothing of."""
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        with S3Double() as server:
            policy = RetryPolicy(max_attempts=3, timeout=1.0, initial_wait=0.01, max_wait=0.01)
            options = s3_options({**OWNER, "endpoint_url": server.url}, policy, attempts=1)
            params = {"root": "s3://bucket/shelf", "storage_options": options}
            source = FileSource.open(StoreSpec("files", "s3", params, retry=policy))
            with pytest.raises(SourceUnavailableError, match="3"):
                source.probe("map.tif")
            assert [request.split()[0] for request in server.heard(3)] == ["HEAD"] * 3
            with pytest.raises(SourceUnavailableError, match="3"):
                list(source.data_ids())
            assert [request.split()[0] for request in server.heard(6)[3:]] == ["GET"] * 3

    def test_each_attempt_at_a_chunk_is_one_request(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        with S3Double() as server:
            policy = RetryPolicy(max_attempts=3, timeout=1.0, initial_wait=0.01, max_wait=0.01)
            options = s3_options({**OWNER, "endpoint_url": server.url}, policy, attempts=1)
            with pytest.raises(SourceUnavailableError, match="3"):
                content_version(Location("s3://bucket/shelf/height.zarr", options, retry=policy))
            assert [request.split()[0] for request in server.heard(3)] == ["GET"] * 3

    def test_a_bucket_that_is_not_there(self, bucket: Bucket) -> None:
        options = {**OWNER, "endpoint_url": bucket.server.url}
        source = FileSource.open(store_at("s3", "s3://scs2-nothing", options))
        for ask in (lambda: source.probe("map.tif"), lambda: list(source.data_ids())):
            with pytest.raises(DataIdNotFoundError, match=r"no such bucket|no data_id"):
                ask()
