"""What every cube store must keep to; a format or a place joins by one parameter."""

from __future__ import annotations

import json
import pickle
import re
import threading
import time
from dataclasses import replace
from typing import Any

import numcodecs
import numpy as np
import numpy.typing as npt
import pytest
import rioxarray  # noqa: F401  (registers the accessor .rio)
import xarray as xr
import zarr
from pyproj import CRS

from scs2_cubes.core.cube import CubeLayer, CubeSchema
from scs2_cubes.core.grid import Grid
from scs2_cubes.errors import CubeIdentityError, CubeNotFoundError, StorageError
from scs2_cubes.storage import CubeStore, cube_name, open_cube_store
from scs2_cubes.storage.zarr_cube import ZarrCube
from scs2_cubes_tests.storage.worlds import (
    AGE,
    GENUS,
    GRID,
    RECORD,
    SCALAR_TIME,
    SCHEMA,
    OutOfSpace,
    Place,
    Watched,
    planes,
)

NAME = "landes/forest"

#: rioxarray multiplies transforms in a way that affine is going to give up.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


@pytest.fixture(params=[2, 3])
def schema(request: pytest.FixtureRequest) -> CubeSchema:
    return replace(SCHEMA, zarr_format=request.param)


def at(place: Place) -> CubeStore:
    return open_cube_store(place.spec, NAME)


def options(place: Place) -> dict[str, Any] | None:
    """What other libraries want to know."""
    return dict(place.options) or None


def write_all(cube: CubeStore, schema: CubeSchema) -> dict[str, npt.NDArray[Any]]:
    """Fill the cube; the last tile is left out."""
    written = {}
    for layer in schema.layers:
        values = planes(schema, layer)
        *tiles, last = schema.grid.tiles()
        for step in range(schema.n_steps):
            for tile in tiles:
                cube.write_plane(schema, layer.name, step, tile, values[(step, *tile.window.slices)])
            values[(step, *last.window.slices)] = layer.numpy_dtype.type(layer.fill)
        written[layer.name] = values
    return written


def chunk_file(schema: CubeSchema, layer: str, index: tuple[int, ...]) -> str:
    """Where both versions of the Zarr specification put a chunk."""
    separator, prefix = (".", "") if schema.zarr_format == 2 else ("/", "c/")
    return f"{NAME}.zarr/{layer}/{prefix}{separator.join(str(number) for number in index)}"


def test_the_folder_of_a_region_comes_first() -> None:
    assert cube_name("forest", None) == "forest"
    assert cube_name("forest", "landes") == "landes/forest"


class TestCreation:
    def test_two_creators_write_the_same_bytes(self, place: Place, schema: CubeSchema) -> None:
        at(place).create(schema)
        first = place.files()
        other = place.below("other")
        at(other).create(schema)
        assert other.files() == first

    def test_a_second_creation_writes_nothing(self, place: Place, schema: CubeSchema) -> None:
        cube = ZarrCube.at(place.spec, NAME)
        cube.create(schema)
        before = place.files()
        assert cube.differences(schema) == ()
        ZarrCube(NAME, cube.storage, OutOfSpace(cube.objects, 0)).create(schema)
        assert place.files() == before

    def test_an_empty_place_differs_in_nothing(self, place: Place, schema: CubeSchema) -> None:
        assert at(place).differences(schema) == ()
        assert place.files() == {}

    def test_the_next_creator_completes_what_a_crash_left(self, place: Place, schema: CubeSchema) -> None:
        whole = place.below("whole")
        at(whole).create(schema)
        undisturbed = whole.files()
        # Not each of them, where each takes its time.
        for puts in range(0, len(undisturbed), 5 if place.options else 1):
            broken = place.below(f"after-{puts}")
            cube = ZarrCube.at(broken.spec, NAME)
            with pytest.raises(StorageError, match="no space left"):
                ZarrCube(NAME, cube.storage, OutOfSpace(cube.objects, puts)).create(schema)
            assert len(broken.files()) == puts
            # Nobody takes the torso for a cube.
            with pytest.raises(CubeNotFoundError):
                cube.open()
            assert cube.differences(schema) == ()
            cube.create(schema)
            assert broken.files() == undisturbed

    def test_a_crash_between_two_identities_is_told(self, place: Place, schema: CubeSchema) -> None:
        """The torso of one cube isn't completed as another one."""
        cube = ZarrCube.at(place.spec, NAME)
        with pytest.raises(StorageError):
            ZarrCube(NAME, cube.storage, OutOfSpace(cube.objects, 10)).create(schema)
        with pytest.raises(CubeIdentityError, match=r"age (dtype|data_type)"):
            cube.create(replace(schema, layers=(GENUS, replace(AGE, dtype="float64"))))


def moved(grid: Grid, **changes: Any) -> CubeSchema:
    return replace(SCHEMA, grid=replace(grid, **changes))


OTHERS: dict[str, tuple[CubeSchema, str]] = {
    "dtype": (replace(SCHEMA, layers=(GENUS, replace(AGE, dtype="float64"))), "age (dtype|data_type)"),
    "fill": (replace(SCHEMA, layers=(replace(GENUS, fill=254), AGE)), "genus fill_value: 255 there, 254 here"),
    "chunk": (moved(GRID, tile_nx=5), "genus chunk"),
    "shape": (moved(GRID, nx=11), "genus shape"),
    "coordinates": (moved(GRID, west=GRID.west + 30), "x: other coordinates"),
    "CRS": (moved(GRID, crs="EPSG:32630"), "spatial_ref.*32630"),
    "another variable": (replace(SCHEMA, layers=(GENUS, AGE, CubeLayer("cover", "uint8", 255))), "cover"),
    "a variable less": (replace(SCHEMA, layers=(GENUS,)), "age: not in this cube"),
    "times": (replace(SCHEMA, times=("2010-01-01T00:00:00", "2021-01-01T00:00:00")), "time: other coordinates"),
    "scalar time": (SCALAR_TIME, "genus shape"),
}


class TestIdentity:
    @pytest.mark.parametrize("what", OTHERS)
    def test_another_cube_is_refused(self, place: Place, schema: CubeSchema, what: str) -> None:
        cube = at(place)
        cube.create(schema)
        before = place.files()
        other, message = OTHERS[what]
        with pytest.raises(CubeIdentityError, match=message) as refused:
            cube.create(replace(other, zarr_format=schema.zarr_format))
        assert cube.url in str(refused.value)
        assert place.files() == before

    def test_another_zarr_format_is_refused(self, place: Place, schema: CubeSchema) -> None:
        cube = at(place)
        cube.create(schema)
        before = place.files()
        with pytest.raises(CubeIdentityError, match="zarr_format"):
            cube.create(replace(schema, zarr_format=5 - schema.zarr_format))
        assert place.files() == before

    def test_all_differences_are_listed(self, place: Place, schema: CubeSchema) -> None:
        cube = at(place)
        cube.create(schema)
        other = replace(schema, layers=(replace(GENUS, fill=7), CubeLayer("cover", "uint8", 255)))
        listed = "; ".join(cube.differences(other))
        assert all(name in listed for name in ("genus fill_value", "cover", "age"))

    def test_texts_are_no_part_of_it(self, place: Place, schema: CubeSchema) -> None:
        cube = at(place)
        cube.create(schema)
        renamed = replace(schema, attrs={"title": "Another title"}, layers=(replace(GENUS, attrs={}), AGE))
        assert cube.differences(renamed) == ()

    @pytest.mark.parametrize("document", [".zmetadata", "genus/.zarray"])
    def test_damaged_metadata_are_named(self, place: Place, document: str) -> None:
        cube = ZarrCube.at(place.spec, NAME)
        cube.create(SCHEMA)
        cube.objects.put(f"{NAME}.zarr/{document}", b"{half")
        with pytest.raises(StorageError, match=r"forest\.zarr"):
            cube.differences(SCHEMA)


class TestPixels:
    def test_what_is_written_is_read_with_plain_tools(self, place: Place, schema: CubeSchema) -> None:
        cube = at(place)
        cube.create(schema)
        written = write_all(cube, schema)
        for layer in schema.layers:
            plain = zarr.open_array(cube.url, path=layer.name, mode="r", storage_options=options(place))
            assert plain.chunks == (1, 3, 4)
            assert plain.dtype == layer.numpy_dtype
            np.testing.assert_array_equal(plain[...], written[layer.name])
        with xr.open_zarr(cube.url, consolidated=True, storage_options=options(place)) as decoded:
            expected = np.where(written["genus"] == 255, np.nan, written["genus"])
            np.testing.assert_array_equal(decoded["genus"], expected)
            np.testing.assert_array_equal(decoded["age"], written["age"])

    def test_a_scalar_time_gives_planes(self, place: Place, schema: CubeSchema) -> None:
        cube, flat = at(place), replace(SCALAR_TIME, zarr_format=schema.zarr_format)
        cube.create(flat)
        written = write_all(cube, flat)
        opened = cube.open()
        assert opened["genus"].dims == ("y", "x")
        assert opened["time"].to_numpy() == np.datetime64("2020-01-01")
        np.testing.assert_array_equal(opened["genus"], written["genus"][0])

    def test_a_tile_without_values_is_removed(self, place: Place, schema: CubeSchema) -> None:
        cube = at(place)
        cube.create(schema)
        tile = GRID.tile(1, 1)
        size = cube.write_plane(schema, "genus", 1, tile, np.full(tile.window.shape, 3, "uint8"))
        key = chunk_file(schema, "genus", (1, 1, 1))
        assert len(place.files()[key]) == size > 0
        assert cube.write_plane(schema, "genus", 1, tile, None) == 0
        assert key not in place.files()
        assert np.all(zarr.open_array(cube.url, path="genus", mode="r", storage_options=options(place))[...] == 255)
        # What isn't there can be removed again.
        assert cube.write_plane(schema, "genus", 1, tile, None) == 0

    @pytest.mark.parametrize(
        "values", [np.zeros((3, 3), "uint8"), np.zeros((3, 4), "int16")], ids=["other shape", "other dtype"]
    )
    def test_a_plane_that_does_not_fit_is_refused(
        self, place: Place, schema: CubeSchema, values: npt.NDArray[Any]
    ) -> None:
        cube = at(place)
        cube.create(schema)
        before = place.files()
        with pytest.raises(StorageError, match="y00x00"):
            cube.write_plane(schema, "genus", 0, GRID.tile(0, 0), values)
        assert place.files() == before

    def test_planes_are_read_as_they_are_stored(self, place: Place, schema: CubeSchema) -> None:
        cube = at(place)
        for one in (schema, replace(schema, chunk=(1, 2))):
            cube = open_cube_store(place.spec, f"chunks-{one.chunk}")
            cube.create(one)
            written = write_all(cube, one)
            for layer in one.layers:
                for step in range(one.n_steps):
                    for tile in GRID.tiles():
                        plane = cube.reader(one).read_plane(layer.name, step, tile)
                        assert plane.dtype == layer.numpy_dtype
                        np.testing.assert_array_equal(plane, written[layer.name][(step, *tile.window.slices)])

    def test_planes_of_a_scalar_time_are_read(self, place: Place, schema: CubeSchema) -> None:
        cube, flat = at(place), replace(SCALAR_TIME, zarr_format=schema.zarr_format)
        cube.create(flat)
        written = write_all(cube, flat)
        tile = GRID.tile(1, 1)
        plane = cube.reader(flat).read_plane("age", 0, tile)
        np.testing.assert_array_equal(plane, written["age"][(0, *tile.window.slices)])

    def test_planes_that_another_writer_has_encoded_are_read(self, place: Place, schema: CubeSchema) -> None:
        cube, tile = at(place), GRID.tile(0, 1)
        cube.create(schema)
        array = zarr.open_array(cube.url, path="age", mode="r+", storage_options=options(place))
        array[1, 0:3, 4:8] = np.arange(12).reshape(3, 4)
        np.testing.assert_array_equal(cube.reader(schema).read_plane("age", 1, tile), np.arange(12).reshape(3, 4))

    @pytest.mark.parametrize("layer", ["genus", "age"])
    @pytest.mark.parametrize("damage", ["empty", "half", "garbled", "of another size"])
    def test_a_chunk_that_cannot_be_decoded_is_named(
        self, place: Place, schema: CubeSchema, layer: str, damage: str
    ) -> None:
        """Half a buffer of Blosc alone would end the process, not just the reading of it."""
        cube = ZarrCube.at(place.spec, NAME)
        cube.create(schema)
        write_all(cube, schema)
        key = chunk_file(schema, layer, (1, 0, 1))
        whole = place.files()[key]
        other = numcodecs.Zstd().encode(np.zeros(5, "uint8"))
        garbled = {"empty": b"", "half": whole[: len(whole) // 2], "garbled": b"\x07" * 40, "of another size": other}
        cube.objects.put(key, garbled[damage])
        reader = cube.reader(schema)
        with pytest.raises(StorageError, match=re.escape(key)) as refused:
            reader.read_plane(layer, 1, GRID.tile(0, 1))
        assert "scs2-cubes check --forget" in str(refused.value)
        # Its neighbours can be read.
        reader.read_plane(layer, 1, GRID.tile(0, 0))
        reader.read_plane(layer, 0, GRID.tile(0, 1))

    def test_a_reader_reads_the_metadata_once(self, place: Place, schema: CubeSchema) -> None:
        cube = ZarrCube.at(place.spec, NAME)
        cube.create(schema)
        write_all(cube, schema)
        counting = Watched(cube.objects)
        reader = ZarrCube(NAME, cube.storage, counting).reader(schema)
        for layer in schema.layers:
            for step in range(schema.n_steps):
                reader.read_plane(layer.name, step, GRID.tile(0, 1))
        chunks = {chunk_file(schema, layer.name, (step, 0, 1)) for layer in schema.layers for step in range(2)}
        # Where there is no .zmetadata it may be Zarr format 3.
        roots = [f"{NAME}.zarr/.zmetadata", f"{NAME}.zarr/zarr.json"][: schema.zarr_format - 1]
        assert counting.asked == [*roots, *(key for key in counting.asked if key in chunks)]
        assert len(counting.asked) == len(roots) + 4

    def test_a_plane_of_no_cube(self, place: Place, schema: CubeSchema) -> None:
        with pytest.raises(CubeNotFoundError, match="landes/forest"):
            at(place).reader(schema)

    def test_metadata_that_cannot_be_understood(self, place: Place, schema: CubeSchema) -> None:
        cube = ZarrCube.at(place.spec, NAME)
        cube.objects.put(f"{NAME}.zarr/.zmetadata", b"{half")
        with pytest.raises(StorageError, match=r"\.zmetadata doesn't describe a cube: JSONDecodeError"):
            cube.reader(schema)

    def test_a_plane_of_a_layer_that_is_not_there(self, place: Place, schema: CubeSchema) -> None:
        cube = at(place)
        cube.create(schema)
        with pytest.raises(StorageError, match="doesn't describe 'height'"):
            cube.reader(schema).read_plane("height", 0, GRID.tile(0, 0))

    def test_size_counts_the_cube_and_not_its_records(self, place: Place, schema: CubeSchema) -> None:
        cube = at(place)
        cube.create(schema)
        write_all(cube, schema)
        cube.write_record(RECORD)
        assert cube.size() == sum(len(value) for key, value in place.files().items() if ".zarr/" in key)


class TestRecords:
    def test_round_trip_and_removal(self, place: Place, schema: CubeSchema) -> None:
        cube = at(place)
        assert cube.records() == {}
        other = replace(RECORD, tile="y00x00")
        cube.write_record(RECORD)
        cube.write_record(other)
        assert cube.records() == {"y01x02": RECORD, "y00x00": other}
        cube.remove_record("y01x02")
        assert cube.records() == {"y00x00": other}
        cube.remove_record("y01x02")

    def test_the_last_record_holds(self, place: Place) -> None:
        cube = at(place)
        cube.write_record(RECORD)
        cube.write_record(replace(RECORD, data_version="another"))
        assert cube.records()["y01x02"].data_version == "another"

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"tile": "y00x00"}', b"\xff"])
    def test_a_damaged_record_is_named(self, place: Place, content: bytes) -> None:
        cube = ZarrCube.at(place.spec, NAME)
        cube.write_record(RECORD)
        cube.objects.put(f"{NAME}.records/tiles/y00x00.json", content)
        with pytest.raises(StorageError, match=r"forest\.records/tiles/y00x00\.json"):
            cube.records()

    def test_many_are_read_side_by_side_and_come_in_order(self, place: Place) -> None:
        keys = [tile.key for tile in GRID.tiles()]
        cube = ZarrCube.at(place.spec, NAME)
        for key in keys:
            cube.write_record(replace(RECORD, tile=key))
        # Nine requests; none is answered before the last of them is there.
        together = threading.Barrier(len(keys), timeout=10)

        def wait(_: str) -> None:
            together.wait()

        found = ZarrCube(NAME, cube.storage, Watched(cube.objects, wait)).records()
        assert list(found) == sorted(keys)
        assert found == cube.records()

    def test_no_more_than_so_many_at_once(self, place: Place) -> None:
        cube = ZarrCube.at(place.spec, NAME)
        for number in range(100):
            cube.write_record(replace(RECORD, tile=f"y00x{number:02d}"))
        lock, now, most = threading.Lock(), 0, 0

        def count(_: str) -> None:
            nonlocal now, most
            with lock:
                now += 1
                most = max(most, now)
            time.sleep(0.002)
            with lock:
                now -= 1

        assert len(ZarrCube(NAME, cube.storage, Watched(cube.objects, count)).records()) == 100
        assert 2 <= most <= 16

    def test_of_many_the_first_that_cannot_be_read_is_told(self, place: Place) -> None:
        cube = ZarrCube.at(place.spec, NAME)
        for tile in GRID.tiles():
            cube.write_record(replace(RECORD, tile=tile.key))
        second = threading.Event()

        def refuse(key: str) -> None:
            if key.endswith("y02x01.json"):
                second.set()
                raise StorageError(f"can't read {key}")
            if key.endswith("y00x02.json"):
                assert second.wait(10)
                raise StorageError(f"can't read {key}")

        with pytest.raises(StorageError, match=r"y00x02\.json"):
            ZarrCube(NAME, cube.storage, Watched(cube.objects, refuse)).records()
        # One that is gone by then is no error.
        forgotten = ZarrCube(NAME, cube.storage, Watched(cube.objects, lambda _: cube.remove_record("y02x02")))
        assert "y02x02" not in forgotten.records()

    def test_documents(self, place: Place) -> None:
        cube = ZarrCube.at(place.spec, NAME)
        assert cube.read_document("cube.json") is None
        cube.write_document("versions/abc.json", {"a": [1, None]})
        assert cube.read_document("versions/abc.json") == {"a": [1, None]}
        cube.objects.put(f"{NAME}.records/cube.json", b"[1]")
        with pytest.raises(StorageError, match=r"cube\.json"):
            cube.read_document("cube.json")


class TestCompletion:
    ATTRS = {"source_version": "abc", "history": "made of nothing"}  # noqa: RUF012  (not changed by any test)

    def test_only_attributes_change(self, place: Place, schema: CubeSchema) -> None:
        cube = at(place)
        cube.create(schema)
        write_all(cube, schema)
        cube.write_record(RECORD)
        before = place.files()
        cube.complete(schema, self.ATTRS)
        after = place.files()
        changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
        documents = {".zattrs", ".zmetadata"} if schema.zarr_format == 2 else {"zarr.json"}
        assert changed == {f"{NAME}.zarr/{name}" for name in documents}
        opened = cube.open()
        assert {**opened.attrs} == {"title": "A cube", **self.ATTRS}
        group = zarr.open_group(cube.url, mode="r", use_consolidated=False, storage_options=options(place))
        assert dict(group.attrs) == opened.attrs

    def test_it_stays_the_same_cube(self, place: Place, schema: CubeSchema) -> None:
        cube = at(place)
        cube.create(schema)
        cube.complete(schema, self.ATTRS)
        completed = place.files()
        assert cube.differences(schema) == ()
        cube.create(schema)
        cube.complete(schema, self.ATTRS)
        assert place.files() == completed


class TestOpening:
    def test_nothing_lies_there(self, place: Place) -> None:
        with pytest.raises(CubeNotFoundError, match="landes/forest"):
            at(place).open()

    def test_stored_dtypes_decoded_time_and_crs(self, place: Place, schema: CubeSchema) -> None:
        cube = at(place)
        cube.create(schema)
        written = write_all(cube, schema)
        opened = cube.open()
        assert opened["genus"].dtype == np.uint8
        assert opened["age"].dtype == np.float32
        np.testing.assert_array_equal(opened["genus"], written["genus"])
        np.testing.assert_array_equal(opened["age"], written["age"])
        assert np.isnan(opened["age"]).any()
        assert list(opened["time"].to_numpy()) == [np.datetime64("2010-01-01"), np.datetime64("2020-01-01")]
        assert "spatial_ref" in opened.coords
        assert set(opened.data_vars) == {"genus", "age"}
        assert opened["genus"].dims == ("time", "y", "x")

    def test_rioxarray_finds_crs_and_transform(self, place: Place, schema: CubeSchema) -> None:
        cube = at(place)
        cube.create(schema)
        genus = cube.open()["genus"]
        assert genus.rio.crs.to_epsg() == 3035
        assert tuple(genus.rio.transform())[:6] == (30.0, 0.0, 3401404.0, 0.0, -30.0, 2347007.0)
        assert genus.rio.transform(recalc=True) == genus.rio.transform()
        assert genus.rio.bounds() == (3401404.0, 2346797.0, 3401704.0, 2347007.0)

    def test_coordinates_say_what_they_are(self, place: Place, schema: CubeSchema) -> None:
        cube = at(place)
        cube.create(schema)
        group = zarr.open_group(cube.url, mode="r", storage_options=options(place))
        assert {group["x"].attrs["standard_name"], group["y"].attrs["standard_name"]} == {
            "projection_x_coordinate",
            "projection_y_coordinate",
        }
        assert group["y"].attrs["standard_name"] == "projection_y_coordinate"
        assert group["x"].attrs["units"] == group["y"].attrs["units"] == "metre"
        assert group["time"].attrs["standard_name"] == "time"
        assert group["genus"].attrs["grid_mapping"] == "spatial_ref"
        mapping = group["spatial_ref"].attrs
        assert mapping["grid_mapping_name"] == "lambert_azimuthal_equal_area"
        assert CRS.from_wkt(str(mapping["crs_wkt"])).to_epsg() == 3035
        assert [float(number) for number in str(mapping["GeoTransform"]).split()] == [
            3401404.0,
            30.0,
            0.0,
            2347007.0,
            0.0,
            -30.0,
        ]
        opened = cube.open()
        np.testing.assert_array_equal(opened["x"], 3401404 + 30 * (np.arange(10) + 0.5))
        np.testing.assert_array_equal(opened["y"], 2347007 - 30 * (np.arange(7) + 0.5))

    def test_a_geographic_crs_has_latitude_and_longitude(self, place: Place, schema: CubeSchema) -> None:
        grid = Grid.from_bbox([-1.0, 44.0, -0.5, 44.25], "EPSG:4326", 0.05, (4, 3))
        geographic = replace(schema, grid=grid)
        cube = at(place)
        cube.create(geographic)
        written = write_all(cube, geographic)
        opened = cube.open()
        assert opened["age"].dims == ("time", "lat", "lon")
        for name, standard, units in (
            ("lat", "latitude", "degrees_north"),
            ("lon", "longitude", "degrees_east"),
        ):
            assert opened[name].attrs["standard_name"] == standard
            # CF allows degree_north and degrees_north alike.
            assert opened[name].attrs["units"].replace("degree_", "degrees_") == units
        assert np.all(np.diff(opened["lat"]) < 0)
        assert opened["age"].rio.crs.to_epsg() == 4326
        np.testing.assert_array_equal(opened["genus"], written["genus"])


def test_a_pickled_store_is_the_same_store(place: Place, schema: CubeSchema) -> None:
    cube = at(place)
    cube.create(schema)
    copied = pickle.loads(pickle.dumps(cube))
    assert copied.url == cube.url
    copied.write_record(RECORD)
    assert cube.records() == {"y01x02": RECORD}
    assert copied.differences(schema) == ()


def test_a_record_is_plain_json(place: Place) -> None:
    at(place).write_record(RECORD)
    record = json.loads(place.files()[f"{NAME}.records/tiles/y01x02.json"])
    assert record["valid"] == {"genus": 3, "age": 0}
    assert record["data_version"] == "0123456789abcdef"
