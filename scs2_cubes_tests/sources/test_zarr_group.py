from __future__ import annotations

import pickle
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from scs2_cubes.core.native import Location, NativeDataset
from scs2_cubes.demo.faults import CutBody, GarbledBody, Status
from scs2_cubes.demo.server import DemoServer
from scs2_cubes.errors import AccessDeniedError, SourceError, SourceFormatError, SourceUnavailableError
from scs2_cubes.sources import open_reader, read_chunk
from scs2_cubes.sources.zarr_group import content_version, describe_group
from scs2_cubes_tests.sources.worlds import QUICK, centres, forest, served, write_store

#: xarray consolidates stores of format 3, too; the specification doesn't know of it yet.
pytestmark = pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part")


def describe(url: Path | str) -> NativeDataset:
    return describe_group(Location(str(url), retry=QUICK), href="https://a.example", version="1", provenance={})


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DemoServer]:
    with served(tmp_path) as running:
        yield running


@pytest.fixture(params=[2, 3])
def zarr_format(request: pytest.FixtureRequest) -> int:
    return int(request.param)


class TestDescription:
    def test_lattice_from_centres(self, tmp_path: Path, zarr_format: int) -> None:
        dataset = forest()
        native = describe(write_store(dataset, tmp_path / "a.zarr", zarr_format))
        lattice = native.lattice
        assert lattice.crs == "EPSG:3035"
        assert (lattice.x_origin, lattice.y_origin) == (3_400_003.0, 2_500_007.0)
        assert (lattice.dx, lattice.dy, lattice.nx, lattice.ny) == (20.0, -20.0, 90, 70)
        np.testing.assert_allclose(lattice.x_centres(), centres(dataset, "x"))
        np.testing.assert_allclose(lattice.y_centres(), centres(dataset, "y"))
        assert (native.y_dim, native.x_dim) == ("y", "x")

    def test_arrays(self, tmp_path: Path, zarr_format: int) -> None:
        native = describe(write_store(forest(), tmp_path / "a.zarr", zarr_format))
        assert [array.name for array in native.arrays] == ["age"]
        age = native.array("age")
        assert (age.dims, age.shape, age.chunks, age.dtype) == (("y", "x"), (70, 90), (32, 32), "int16")
        assert age.fill == -9999
        assert (age.scale, age.offset) == (1.0, 0.0)
        assert age.attrs == {"units": "years", "long_name": "Age"}
        with pytest.raises(KeyError):
            native.array("x")

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_floats_with_nan(self, tmp_path: Path, zarr_format: int, dtype: str) -> None:
        dataset = forest(dtype=dtype)
        dataset["age"].encoding["_FillValue"] = np.nan
        fill = describe(write_store(dataset, tmp_path / "a.zarr", zarr_format)).array("age").fill
        assert fill is not None
        assert np.isnan(fill)

    def test_floats_with_a_number(self, tmp_path: Path, zarr_format: int) -> None:
        native = describe(write_store(forest(dtype="float32"), tmp_path / "a.zarr", zarr_format))
        assert native.array("age").fill == -9999

    def test_packed_numbers(self, tmp_path: Path, zarr_format: int) -> None:
        dataset = forest(dtype="float64")
        dataset["age"].encoding |= {"dtype": "int16", "scale_factor": 0.5, "add_offset": 10.0}
        age = describe(write_store(dataset, tmp_path / "a.zarr", zarr_format)).array("age")
        assert (age.dtype, age.scale, age.offset, age.fill) == ("int16", 0.5, 10.0, -9999)

    def test_ascending_rows(self, tmp_path: Path) -> None:
        dataset = forest().isel(y=slice(None, None, -1))
        lattice = describe(write_store(dataset, tmp_path / "a.zarr")).lattice
        assert lattice.dy == 20.0
        assert lattice.y_origin == 2_500_007.0 - 70 * 20

    @pytest.mark.parametrize("dims", [("y", "x"), ("latitude", "longitude"), ("lat", "lon")])
    @pytest.mark.parametrize("crs_at", ["coordinate", "crs coordinate", "data variable", "attribute"])
    def test_names_of_axes_and_places_of_the_crs(self, tmp_path: Path, dims: tuple[str, str], crs_at: str) -> None:
        crs = "EPSG:3035" if dims == ("y", "x") else "EPSG:4326"
        native = describe(write_store(forest(dims=dims, crs=crs, crs_at=crs_at), tmp_path / "a.zarr"))
        assert native.lattice.crs == crs
        assert (native.y_dim, native.x_dim) == dims
        assert [array.name for array in native.arrays] == ["age"]

    def test_time_as_a_dimension(self, tmp_path: Path, zarr_format: int) -> None:
        times = np.array(["2010-01-01", "2020-07-02T11:59:59"], "datetime64[ns]")
        dataset = forest().expand_dims(time=times, axis=2)
        dataset["age"].encoding["chunks"] = (32, 32, 1)
        native = describe(write_store(dataset, tmp_path / "a.zarr", zarr_format))
        assert native.time_dim == "time"
        assert native.times == ("2010-01-01T00:00:00", "2020-07-02T11:59:59")
        assert native.array("age").dims == ("y", "x", "time")

    def test_time_as_a_scalar(self, tmp_path: Path, zarr_format: int) -> None:
        dataset = forest().assign_coords(time=np.datetime64("2020-01-01", "ns"))
        native = describe(write_store(dataset, tmp_path / "a.zarr", zarr_format))
        assert (native.time_dim, native.times) == (None, ("2020-01-01T00:00:00",))

    def test_no_time(self, tmp_path: Path) -> None:
        native = describe(write_store(forest(), tmp_path / "a.zarr"))
        assert (native.time_dim, native.times) == (None, ())

    def test_it_travels(self, tmp_path: Path) -> None:
        native = describe(write_store(forest(), tmp_path / "a.zarr"))
        assert pickle.loads(pickle.dumps(native)) == native
        assert len(pickle.dumps(native)) < 10_000


class TestRefusals:
    def test_no_zarr(self, tmp_path: Path, server: DemoServer) -> None:
        for url in (str(tmp_path / "nothing.zarr"), f"{server.url}/nothing.zarr"):
            for ask in (content_version, describe):
                with pytest.raises(SourceFormatError, match="no Zarr group") as refused:
                    ask(Location(url, retry=QUICK) if ask is content_version else url)  # type: ignore[arg-type]
                assert refused.value.url == url

    @pytest.mark.parametrize(
        ("dataset", "message"),
        [
            (forest(crs_at="nowhere"), "no coordinate reference system"),
            (forest().rename(x="column"), "no spatial coordinates"),
            (forest().drop_vars("age"), "no array has the dimensions y and x"),
            (forest().assign_coords(x=np.arange(90.0) ** 2), "coordinate x isn't evenly spaced"),
            (forest().assign_coords(y=np.where(np.arange(70) == 9, np.nan, np.arange(70.0))), "coordinate y"),
            (forest().isel(x=slice(0, 1)), "coordinate x needs"),
        ],
        ids=["CRS", "axes", "arrays", "uneven", "NaN", "one column"],
    )
    def test_what_cannot_be_understood(self, tmp_path: Path, dataset: xr.Dataset, message: str) -> None:
        path = write_store(dataset, tmp_path / "a.zarr")
        with pytest.raises(SourceFormatError, match=message) as refused:
            describe(path)
        assert refused.value.url == str(path)

    def test_time_without_a_meaning(self, tmp_path: Path) -> None:
        dataset = forest().expand_dims(time=[1, 2])
        dataset["time"].attrs = {"units": "fortnights since the flood"}
        with pytest.raises(SourceFormatError, match="time"):
            describe(write_store(dataset, tmp_path / "a.zarr"))

    @pytest.mark.parametrize("fault", [GarbledBody(), CutBody(0.5)], ids=["garbled", "cut"])
    @pytest.mark.parametrize("key", [".zmetadata", "a.zarr/x/0"])
    def test_damaged_metadata(self, tmp_path: Path, server: DemoServer, fault: GarbledBody, key: str) -> None:
        write_store(forest(), tmp_path / "a.zarr")
        server.faults.add(fault, key)
        expected = SourceFormatError if isinstance(fault, GarbledBody) else SourceUnavailableError
        with pytest.raises(expected, match=r"a\.zarr"):
            describe(f"{server.url}/a.zarr")

    def test_metadata_that_are_no_metadata(self, tmp_path: Path) -> None:
        path = write_store(forest(), tmp_path / "a.zarr")
        (path / ".zmetadata").write_bytes(b'{"metadata": []}')
        with pytest.raises(SourceFormatError, match=r"a\.zarr"):
            describe(path)


class TestChunks:
    def test_edges_are_cut_and_numbers_undecoded(self, tmp_path: Path, zarr_format: int) -> None:
        dataset = forest()
        native = describe(write_store(dataset, tmp_path / "a.zarr", zarr_format))
        age = native.array("age")
        reader = open_reader(native.location)
        for row, col in product(range(3), range(3)):
            chunk = read_chunk(reader, age, (row, col))
            assert chunk is not None
            expected = dataset["age"].to_numpy()[32 * row : 32 * row + 32, 32 * col : 32 * col + 32]
            assert chunk.dtype == np.int16
            np.testing.assert_array_equal(chunk, expected)

    def test_absent_is_none_and_zero_is_zero(self, tmp_path: Path, zarr_format: int) -> None:
        dataset = forest()
        dataset["age"][:32, :32] = 0
        dataset["age"].encoding["write_empty_chunks"] = True
        path = write_store(dataset, tmp_path / "a.zarr", zarr_format)
        native = describe(path)
        (path / "age" / ("0.1" if zarr_format == 2 else "c/0/1")).unlink()
        reader = open_reader(native.location)
        first = read_chunk(reader, native.array("age"), (0, 0))
        assert first is not None
        assert not first.any()
        assert read_chunk(reader, native.array("age"), (0, 1)) is None
        assert read_chunk(reader, native.array("age"), (0, 1)) is None

    def test_threads_that_ask_for_one_absent_chunk(self, tmp_path: Path, server: DemoServer) -> None:
        path = write_store(forest(), tmp_path / "a.zarr")
        native = describe(f"{server.url}/a.zarr")
        (path / "age" / "1.1").unlink()
        reader = open_reader(native.location)
        gate = threading.Barrier(8)
        answers: list[object] = []

        def ask() -> None:
            gate.wait()
            answers.append(read_chunk(reader, native.array("age"), (1, 1)))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [answer is None for answer in answers] == [True] * 8

    def test_opening_costs_nothing_and_reading_one_request_a_chunk(self, tmp_path: Path, server: DemoServer) -> None:
        write_store(forest(), tmp_path / "a.zarr")
        native = describe(f"{server.url}/a.zarr")
        server.requests.clear()
        reader = open_reader(native.location)
        assert server.requests.count() == 0
        for index in ((0, 0), (2, 2), (0, 1)):
            read_chunk(reader, native.array("age"), index)
        assert [request.path for request in server.requests.entries()] == [
            f"/a.zarr/age/{key}" for key in ("0.0", "2.2", "0.1")
        ]

    def test_bursts_pass(self, tmp_path: Path, server: DemoServer) -> None:
        write_store(forest(), tmp_path / "a.zarr")
        native = describe(f"{server.url}/a.zarr")
        server.requests.clear()
        server.faults.add(Status(503), "age/", times=2)
        server.faults.add(Status(429, retry_after="0"), "age/", times=1)
        assert read_chunk(open_reader(native.location), native.array("age"), (0, 0)) is not None
        assert [request.status for request in server.requests.entries()] == [503, 503, 429, 200]

    def test_retry_after_is_kept_to(self, tmp_path: Path, server: DemoServer) -> None:
        write_store(forest(), tmp_path / "a.zarr")
        native = describe(f"{server.url}/a.zarr")
        server.faults.add(Status(429, retry_after="3600"), "age/")
        with pytest.raises(SourceUnavailableError, match="3600 s"):
            read_chunk(open_reader(native.location), native.array("age"), (0, 0))

    @pytest.mark.parametrize(
        ("fault", "error", "requests"),
        [
            (Status(403), AccessDeniedError, 1),
            (Status(401), AccessDeniedError, 1),
            (Status(400), SourceUnavailableError, 1),
            (Status(500), SourceUnavailableError, 4),
            (CutBody(0.5), SourceUnavailableError, 4),
            (GarbledBody(), SourceFormatError, 1),
        ],
    )
    def test_failed_reads_are_errors_and_never_fill(
        self, tmp_path: Path, server: DemoServer, fault: Status, error: type[SourceError], requests: int
    ) -> None:
        write_store(forest(), tmp_path / "a.zarr")
        native = describe(f"{server.url}/a.zarr")
        server.requests.clear()
        server.faults.add(fault, "age/")
        with pytest.raises(error) as failed:
            read_chunk(open_reader(native.location), native.array("age"), (1, 2))
        assert failed.value.url == f"{server.url}/a.zarr/age/1.2"
        assert server.requests.count() == requests

    def test_a_chunk_of_the_wrong_size(self, tmp_path: Path) -> None:
        path = write_store(forest(), tmp_path / "a.zarr")
        native = describe(path)
        shorter = zarr.create_array(
            tmp_path / "b.zarr", shape=(8, 8), chunks=(8, 8), dtype="int16", zarr_format=2, fill_value=7
        )
        shorter[...] = 1
        (path / "age" / "0.0").write_bytes((tmp_path / "b.zarr" / "0.0").read_bytes())
        with pytest.raises(SourceFormatError, match=r"age/0\.0"):
            read_chunk(open_reader(native.location), native.array("age"), (0, 0))

    def test_a_refused_connection(self, tmp_path: Path) -> None:
        path = write_store(forest(), tmp_path / "a.zarr")
        with served(tmp_path) as server:
            native = describe(f"{server.url}/a.zarr")
        with pytest.raises(SourceUnavailableError, match="4 attempts"):
            read_chunk(open_reader(native.location), native.array("age"), (0, 0))
        shutil.rmtree(path)


class TestVersion:
    def test_it_is_the_content_and_not_the_address(self, tmp_path: Path) -> None:
        first = write_store(forest(), tmp_path / "first" / "a.zarr")
        second = write_store(forest(), tmp_path / "second" / "b.zarr")
        with served(tmp_path) as server:
            addresses = (str(first), str(second), f"{server.url}/first/a.zarr")
            assert len({content_version(Location(url, retry=QUICK)) for url in addresses}) == 1
            assert server.requests.count() == 1
        changed = write_store(forest().assign_attrs(creation_date="later"), tmp_path / "a.zarr")
        assert content_version(Location(str(changed))) != content_version(Location(str(first)))

    def test_each_format_has_one(self, tmp_path: Path, zarr_format: int) -> None:
        path = write_store(forest(), tmp_path / "a.zarr", zarr_format)
        assert len(content_version(Location(str(path)))) == 64


class TestRecorded:
    """The real writers' stores; their structure is real, their values are synthetic."""

    def test_gami(self, recorded: Path) -> None:
        native = describe(recorded / "eoforest/stores/gami.zarr")
        age = native.array("forest_age")
        assert age.dims == ("members", "latitude", "longitude", "time")
        assert (age.shape, age.chunks, age.dtype) == ((20, 300, 300, 2), (5, 100, 100, 2), "int16")
        assert (age.fill, age.absent) == (-9999, -9999)
        assert age.attrs["units"] == "years"
        assert native.lattice.crs == "EPSG:4326"
        assert native.lattice.dy < 0 < native.lattice.dx
        assert native.lattice.dx == pytest.approx(1 / 1125, rel=1e-6)
        assert (native.time_dim, len(native.times)) == ("time", 2)
        assert [array.name for array in native.arrays] == ["forest_age"]
        with xr.open_zarr(recorded / "eoforest/stores/gami.zarr", mask_and_scale=False) as plain:
            np.testing.assert_allclose(native.lattice.y_centres(), plain["latitude"])
            chunk = read_chunk(open_reader(native.location), age, (1, 2, 0, 0))
            assert chunk is not None
            np.testing.assert_array_equal(chunk, plain["forest_age"][5:10, 200:300, :100])

    def test_genus(self, recorded: Path) -> None:
        native = describe(recorded / "eoforest/stores/genus.zarr")
        genus = native.array("genus")
        assert (genus.dims, genus.dtype, genus.fill, genus.absent) == (("y", "x"), "uint16", None, None)
        assert (genus.scale, genus.offset) == (1.0, 0.0)
        assert genus.attrs["flag_values"] == list(range(8))
        assert native.lattice == replace(native.lattice, crs="EPSG:3035", dx=10.0, dy=-10.0, nx=600, ny=600)
        assert (native.lattice.x_origin, native.lattice.y_origin) == (3400804.0, 2539937.0)
        assert (native.time_dim, native.times) == (None, ("2020-01-01T00:00:00",))
        chunk = read_chunk(open_reader(native.location), genus, (0, 0))
        assert chunk is not None
        assert chunk.shape == (600, 600)
