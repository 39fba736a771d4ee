"""A cube's second version: what becomes stale and what doesn't, partial remakes, crashes, and the way back."""

from __future__ import annotations

import json
import shutil
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import xarray as xr

from scs2_cubes.core.native import NativeArray
from scs2_cubes.core.resample import resample
from scs2_cubes.errors import CubeIdentityError, TileError
from scs2_cubes.pipeline import tile as tile_module
from scs2_cubes.pipeline.plan import specification_version
from scs2_cubes.pipeline.state import is_concluded, partition_state, stale_reasons
from scs2_cubes.sources import ChunkReader, open_reader
from scs2_cubes_tests.pipeline.editions import TILES, Archive, Disk, DiskFullError, World

#: Of the archive's chunks, two columns and a row of them; the target's westernmost tiles need the first two.
WESTERN = (slice(0, 64), slice(0, 32))
KEYS = [f"y{row:02d}x{col:02d}" for row in range(2) for col in range(3)]
ADDING = "def change(dataset):\n    return dataset.assign(height=dataset.height + {number})\n"


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    made = Archive(tmp_path / "archive")
    made.publish()
    return made


@pytest.fixture
def world(tmp_path: Path, archive: Archive) -> World:
    return World(tmp_path / "world", archive)


def with_function(world: World, number: int) -> None:
    (world.folder / "mine.py").write_text(ADDING.format(number=number), encoding="utf-8")
    world.dataset["custom_processing"] = {"module_path": "mine", "function_name": "change"}


def stale(world: World) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(keys of stale tiles, why)."""
    planned = world.plan()
    records = planned.store.records()
    state = partition_state(planned.plan, planned.partition, records)
    return state.stale, stale_reasons(planned.plan, state, planned.store, records)


# What makes stale, and why.


def new_content(world: World) -> None:
    world.archive.publish(2)


def another_function(world: World) -> None:
    with_function(world, 2)


def another_method(world: World) -> None:
    world.dataset["spatial_resample_params"] = {"interp_methods": {"height": "nearest"}}


def longer_time_range(world: World) -> None:
    world.dataset["open_params"] = {"time_range": ["2000-01-01", "2002-12-31"]}


def narrower_box(world: World) -> None:
    world.dataset["open_params"] = {"bbox": [3_400_000, 2_500_400, 3_402_000, 2_502_000]}


STALE: dict[str, tuple[Callable[[World], None], tuple[str, ...]]] = {
    "source": (new_content, ("source",)),
    "function": (another_function, ("function",)),
    "method": (another_method, ("configuration (method of height)",)),
    "time range": (longer_time_range, ("configuration (time_range)",)),
    "box": (narrower_box, ("configuration (bbox)",)),
}


@pytest.mark.parametrize("what", STALE)
def test_what_makes_every_tile_stale(world: World, what: str) -> None:
    change, reasons = STALE[what]
    if what == "function":
        with_function(world, 1)
    world.make()
    assert stale(world) == ((), ())
    change(world)
    assert stale(world) == (tuple(KEYS), reasons)
    report = world.make()
    assert (report.made, report.kept) == (TILES, 0)
    assert stale(world) == ((), ())


def test_the_code_makes_stale(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.make()
    monkeypatch.setattr("scs2_cubes.pipeline.plan.KERNEL_CODE_VERSION", 99)
    assert stale(world) == (tuple(KEYS), ("code",))


def test_several_reasons(world: World) -> None:
    world.make()
    new_content(world)
    another_method(world)
    assert stale(world)[1] == ("configuration (method of height)", "source")


def test_a_version_of_which_nothing_is_known(world: World) -> None:
    world.make()
    version = world.plan().plan.data_version
    (world.root / f"forest.records/versions/{version}.json").unlink()
    new_content(world)
    assert stale(world)[1] == (f"made as version {version}, of which nothing is known",)


# What doesn't.


def comments(world: World) -> None:
    world.head = "# Another comment.\n\n"


def other_order(world: World) -> None:
    for section in ("data_stores", "grid_mappings", "datasets"):
        world.data[section] = [dict(reversed(entry.items())) for entry in world.data[section]]
    world.data = dict(reversed(world.data.items()))


def patience(world: World) -> None:
    world.data["general"] = {"retry": {"max_attempts": 3, "timeout": 7}, "visualize": False}


def workers(world: World) -> None:
    world.data["dask"] = {"mode": "threads", "n_workers": 1}


def address(world: World) -> None:
    world.data["data_stores"][1]["store_params"]["href_rewrite"] = {"https://elsewhere.example": "http://127.0.0.1:1"}


def another_place(world: World) -> None:
    """The archive has moved, as a whole."""
    moved = Archive(world.folder / "moved")
    shutil.copytree(world.archive.folder, moved.folder)
    world.data["data_stores"][1]["store_params"]["url"] = moved.url


def name_of_the_store(world: World) -> None:
    world.data["data_stores"][1]["identifier"] = world.dataset["store"] = "mirror"


def crs_in_lower_case(world: World) -> None:
    world.data["grid_mappings"][0]["crs"] = "epsg:3035"


def crs_as_urn(world: World) -> None:
    world.data["grid_mappings"][0]["crs"] = "urn:ogc:def:crs:EPSG::3035"


def what_is_so_anyway(world: World) -> None:
    world.dataset["spatial_resample_params"] = {"interp_methods": {"height": "bilinear"}}


NOT_STALE = {
    change.__name__: change
    for change in (
        comments,
        other_order,
        patience,
        workers,
        address,
        another_place,
        name_of_the_store,
        crs_in_lower_case,
        crs_as_urn,
        what_is_so_anyway,
    )
}


@pytest.mark.parametrize("what", NOT_STALE)
def test_what_makes_nothing_stale(world: World, what: str) -> None:
    world.make()
    before, plan = world.tree(), world.plan().plan
    NOT_STALE[what](world)
    planned = world.plan()
    assert planned.plan.data_version == plan.data_version
    assert planned.store.is_created(planned.plan.schema)
    assert is_concluded(planned.plan, planned.store, planned.store.records())
    assert world.make().made == 0
    assert {name: value for name, value in world.tree().items() if ".zarr/" not in name} == {
        name: value for name, value in before.items() if ".zarr/" not in name
    }


@pytest.mark.parametrize("what", ["comments", "other_order", "patience", "workers", "address", "another_place"])
def test_what_is_no_other_code_to_dagster(world: World, what: str) -> None:
    before = specification_version(world.spec())
    NOT_STALE[what](world)
    assert specification_version(world.spec()) == before


@pytest.mark.parametrize("change", [another_function, another_method, longer_time_range, narrower_box])
def test_what_is_other_code_to_dagster(world: World, change: Callable[[World], None]) -> None:
    before = specification_version(world.spec())
    change(world)
    assert specification_version(world.spec()) != before


def test_the_box_of_a_source_in_other_words(world: World) -> None:
    narrower_box(world)
    world.dataset["open_params"]["crs"] = "EPSG:3035"
    before = world.plan().plan.data_version
    world.dataset["open_params"]["crs"] = "epsg:3035"
    assert world.plan().plan.data_version == before


def test_a_crs_without_a_code_is_told_by_its_text(world: World) -> None:
    projection = "+proj=laea +lat_0=52.5 +lon_0=10 +x_0=4321000 +y_0=3265000 +ellps=GRS80 +units=m +no_defs"
    before = world.plan().plan.components["crs"]
    world.data["grid_mappings"][0]["crs"] = projection
    assert before == "EPSG:3035"
    assert world.plan().plan.components["crs"] == projection


# Partial remakes.


def test_only_what_is_stale_or_missing_is_made(world: World) -> None:
    world.make()
    new_content(world)
    # Version 2 of a row of three tiles, of which one gets its record, then the end.
    with pytest.raises(TileError, match="no space left"):
        world.make(until_record(2), threads=1)
    states = {key: record.data_version for key, record in world.records().items()}
    version = world.plan().plan.data_version
    done = sorted(key for key, value in states.items() if value == version)
    assert len(done) == 1
    assert len(stale(world)[0]) == TILES - 3, "two more tiles were begun: their records are gone"
    moments = {key: record_moment(world, key) for key in done}
    report = world.make()
    assert (report.made, report.kept) == (TILES - 1, 1)
    assert {key: record_moment(world, key) for key in done} == moments


def until_record(number: int) -> Callable[[Any], Disk]:
    """Storage on which the record of the so manyth tile can't be written any more."""

    class Ending(Disk):
        def put(self, key: str, value: bytes) -> None:
            if "/tiles/" in key:
                self.records += 1
            if self.records >= number:
                raise DiskFullError(f"{key}: no space left on device")
            super().put(key, value)

        records = 0

    return Ending


def record_moment(world: World, key: str) -> int:
    return (world.root / f"forest.records/tiles/{key}.json").stat().st_mtime_ns


@pytest.mark.parametrize("removed", [["y00x01"], ["y01x02", "y00x00"]])
def test_missing_tiles_alone_are_made(world: World, removed: list[str]) -> None:
    world.make()
    before = world.tree()
    for key in removed:
        (world.root / f"forest.records/tiles/{key}.json").unlink()
    assert world.make().made == len(removed)
    assert world.tree() == before


# Crashes, and the way back.


def forth_by_source(world: World) -> None:
    world.archive.publish(2)


def back_by_source(world: World) -> None:
    world.archive.publish(1)


def forth_by_function(world: World) -> None:
    with_function(world, 2)


def back_by_function(world: World) -> None:
    with_function(world, 1)


def forth_by_method(world: World) -> None:
    world.dataset["spatial_resample_params"] = {"interp_methods": {"height": "nearest"}}


def back_by_method(world: World) -> None:
    world.dataset["spatial_resample_params"] = {"interp_methods": {"height": "bilinear"}}


CHANGES = {
    "source": (back_by_source, forth_by_source),
    "function": (back_by_function, forth_by_function),
    "method": (back_by_method, forth_by_method),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_remake_that_ends_anywhere_can_be_taken_back(tmp_path: Path, archive: Archive, what: str) -> None:
    """Storage stands still at every eleventh change: what lies there then is honest, and the way back is complete."""
    back, forth = CHANGES[what]
    begun = World(tmp_path / "begun", archive)
    back(begun)
    begun.make()
    first, version = begun.tree(), begun.plan().plan.data_version
    counting: list[Disk] = []

    def count(objects: Any) -> Disk:
        counting.append(Disk(objects))
        return counting[-1]

    remade = World(tmp_path / "remade", archive)
    shutil.copytree(begun.root, remade.root)
    back(remade)
    forth(remade)
    remade.make(count)
    assert remade.tree() != first
    changes = len(counting[0].changed)
    assert changes > 30
    for number in [0, 1, *range(2, changes, 11), changes - 2, changes - 1]:
        world = World(tmp_path / f"after-{number}", archive)
        shutil.copytree(begun.root, world.root)
        forth(world)
        with pytest.raises((TileError, DiskFullError)):
            world.make(lambda objects, number=number: Disk(objects, number), threads=1)  # type: ignore[misc]  # bound now
        back(world)
        require_honest(world, first, version)
        planned = world.plan()
        # What is all done but not all said isn't taken for current, or nobody would ever say it.
        if is_current(world) and world.tree() != first:
            assert not is_concluded(planned.plan, planned.store, planned.store.records())
        world.make()
        assert world.tree() == first, number


def is_current(world: World) -> bool:
    planned = world.plan()
    return partition_state(planned.plan, planned.partition, planned.store.records()).is_current


def require_honest(world: World, first: dict[str, bytes], version: str) -> None:
    """Each record of the first version stands over pixels of the first version, and ``cube.json`` claims no more."""
    lying = world.tree()
    done = 0
    for key, record in world.records().items():
        if record.data_version == version:
            done += 1
            row, col = int(key[1:3]), int(key[4:6])
            for name, value in first.items():
                if name.endswith(f".{row}.{col}"):
                    assert lying[name] == value
    document = lying.get("forest.records/cube.json")
    if document is not None and json.loads(document)["complete"]:
        made = json.loads(document)["data_version"]
        assert all(record.data_version == made for record in world.records().values())
        assert len(world.records()) == TILES


def test_an_end_between_the_last_tile_and_the_attributes(world: World) -> None:
    world.make()
    whole = world.tree()
    shutil.rmtree(world.root)

    class Ending(Disk):
        def put(self, key: str, value: bytes) -> None:
            if self.changed and "/tiles/" in self.changed[-1] and key.endswith(".zattrs"):
                raise DiskFullError("no space left on device")
            super().put(key, value)

    with pytest.raises(DiskFullError):
        world.make(Ending)
    planned = world.plan()
    records = planned.store.records()
    assert partition_state(planned.plan, planned.partition, records).is_current
    assert not is_concluded(planned.plan, planned.store, records)
    assert "source_version" not in planned.store.open().attrs
    assert world.make().made == 0
    assert is_concluded(planned.plan, planned.store, records)
    assert world.tree() == whole


def test_documents_of_versions_are_pruned_at_completion_and_not_before(world: World) -> None:
    world.make()
    first = world.plan().plan.data_version
    new_content(world)
    second = world.plan().plan.data_version
    with pytest.raises(TileError):
        world.make(until_record(2), threads=1)
    documents = {path.stem for path in (world.root / "forest.records/versions").iterdir()}
    assert documents == {first, second}
    world.make()
    (document,) = (world.root / "forest.records/versions").iterdir()
    assert document.stem == second
    assert json.loads(document.read_text()) == world.plan().plan.components


# Time grows.


def test_a_year_more(world: World, tmp_path: Path) -> None:
    world.make()
    before = world.tree()
    world.archive.publish(1, years=3)
    assert stale(world) == (tuple(KEYS), ("source",))
    assert world.make().made == TILES
    after = world.tree()
    chunks = {name for name in before if name.split("/")[-1].count(".") == 2 and ".zarr/" in name}
    assert len(chunks) == 2 * 2 * TILES
    assert {name: after[name] for name in chunks} == {name: before[name] for name in chunks}
    with xr.open_zarr(world.root / "forest.zarr", mask_and_scale=False) as opened:
        assert list(opened["time"].dt.year.to_numpy()) == [2000, 2001, 2002]
        assert opened.attrs["source_version"] == world.plan().plan.source_version
        assert bool((opened["kind"][2] != 255).any())
    fresh = World(tmp_path / "fresh", world.archive)
    fresh.make()
    assert after == fresh.tree()


@pytest.mark.parametrize("number", [0, 1, 2, 4, 6, 8, 9, 12, 30])
def test_a_year_more_after_a_crash(world: World, tmp_path: Path, number: int) -> None:
    world.make()
    world.archive.publish(1, years=3)
    with pytest.raises((TileError, DiskFullError)):
        world.make(lambda objects: Disk(objects, number), threads=1)
    world.make()
    fresh = World(tmp_path / "fresh", world.archive)
    fresh.make()
    assert world.tree() == fresh.tree()


@pytest.mark.parametrize("number", [0, 1, 2, 4])
def test_a_year_more_that_was_hardly_begun_can_be_taken_back(world: World, number: int) -> None:
    world.make()
    before = world.tree()
    world.archive.publish(1, years=3)
    with pytest.raises(DiskFullError):
        world.make(lambda objects: Disk(objects, number))
    world.archive.publish(1)
    world.make()
    assert world.tree() == before


def test_a_year_less_is_refused(world: World) -> None:
    world.archive.publish(1, years=3)
    world.make()
    before = world.tree()
    world.archive.publish(1, years=2)
    with pytest.raises(CubeIdentityError, match="time: 3 steps there, 2 here"):
        world.make()
    assert world.tree() == before


def test_a_longer_time_range_grows(world: World, tmp_path: Path) -> None:
    world.archive.publish(1, years=4)
    world.dataset["open_params"] = {"time_range": ["2001-01-01", "2001-12-31"]}
    world.make()
    old = world.values("kind")
    world.dataset["open_params"] = {"time_range": ["2001-01-01", None]}
    assert stale(world)[1] == ("configuration (time_range)",)
    world.make()
    assert world.values("kind").shape == (3, 32, 48)
    np.testing.assert_array_equal(world.values("kind")[:1], old)
    fresh = World(tmp_path / "fresh", world.archive)
    fresh.dataset["open_params"] = {"time_range": ["2001-01-01", None]}
    fresh.make()
    assert world.tree() == fresh.tree()
    world.dataset["open_params"] = {"time_range": ["2000-01-01", None]}
    with pytest.raises(CubeIdentityError, match="time: other coordinates"):
        world.make()


# Sparse sources.


class Counting:
    """Counts chunks that are read and windows that are resampled."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reads: Counter[str] = Counter()
        self.kernels = 0
        self._lock = threading.Lock()

        def counted(*args: Any, **kwargs: Any) -> npt.NDArray[Any]:
            with self._lock:
                self.kernels += 1
            return resample(*args, **kwargs)

        monkeypatch.setattr(tile_module, "resample", counted)
        monkeypatch.setattr(tile_module, "open_reader", lambda location: _CountingReader(open_reader(location), self))

    def read(self, name: str) -> None:
        with self._lock:
            self.reads[name] += 1


class _CountingReader:
    def __init__(self, reader: ChunkReader, counting: Counting) -> None:
        self._reader, self._counting = reader, counting

    def fetch_chunk(self, array: NativeArray, index: tuple[int, ...]) -> bytes | None:
        encoded = self._reader.fetch_chunk(array, index)
        self._counting.read("absent" if encoded is None else "stored")
        return encoded

    def decode_chunk(self, array: NativeArray, index: tuple[int, ...], encoded: bytes) -> npt.NDArray[Any]:
        return self._reader.decode_chunk(array, index, encoded)


@pytest.mark.parametrize("stored", [False, True])
def test_what_has_no_value_costs_no_kernel_and_writes_no_chunk(
    world: World, monkeypatch: pytest.MonkeyPatch, stored: bool
) -> None:
    world.archive.publish(1, void=[WESTERN], stored=stored)
    counting = Counting(monkeypatch)
    report = world.make()
    # Two of six tiles lie in it; two layers of two years each.
    assert report.empty == 2
    assert counting.kernels == 4 * 2 * 2
    assert (counting.reads["absent"] > 0) == (not stored)
    records = world.records()
    for key, record in records.items():
        is_void = key.endswith("x00")
        assert (record.chunks_written, record.chunks_empty) == ((0, 4) if is_void else (4, 0))
        assert all((count == 0) == is_void for count in record.valid.values())
    assert (sum(record.source_chunks_absent for record in records.values()) > 0) == (not stored)
    written = {name for name in world.tree() if "/kind/0." in name}
    assert written == {f"forest.zarr/kind/0.{row}.{col}" for row in range(2) for col in (1, 2)}
    assert np.all(world.values("kind")[:, :, :16] == 255)
    assert np.isnan(world.values("height")[:, :, :16]).all()


def test_an_absent_source_is_as_an_empty_one(world: World, tmp_path: Path) -> None:
    world.archive.publish(1, void=[WESTERN], stored=True)
    world.make()
    world.archive.publish(1, void=[WESTERN], stored=False)
    other = World(tmp_path / "other", world.archive)
    other.make()
    pixels = {name: value for name, value in world.tree().items() if "/kind/" in name or "/height/" in name}
    assert pixels == {name: value for name, value in other.tree().items() if "/kind/" in name or "/height/" in name}


def test_a_tile_that_becomes_empty_loses_its_chunks(world: World, tmp_path: Path) -> None:
    world.make()
    assert (world.root / "forest.zarr/kind/0.1.0").exists()
    world.archive.publish(2, void=[WESTERN])
    world.make()
    assert not list((world.root / "forest.zarr").glob("*/*.*.0"))
    fresh = World(tmp_path / "fresh", world.archive)
    fresh.make()
    assert world.tree() == fresh.tree()


@pytest.mark.parametrize("year", [0, 1])
def test_a_year_that_the_source_does_not_store(world: World, tmp_path: Path, year: int) -> None:
    """A function, which sees all years at once, finds the other one as it is."""
    for chunk in (world.archive.folder / "forest/forest.zarr/height").glob(f"{year}.*"):
        chunk.unlink()
    plain = World(tmp_path / "plain", world.archive)
    plain.make()
    with_function(world, 0)
    world.make()
    made = world.values("height")
    assert np.isnan(made[year]).all()
    assert not np.isnan(made[1 - year]).all()
    np.testing.assert_array_equal(made, plain.values("height"))


def test_one_empty_plane_of_a_tile(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A year in which the source has nothing, in a tile that has something in another."""
    world.archive.publish(1, years=2)
    world.make()
    full = world.values("kind")
    real = tile_module.Workshop._make_plane

    def make(workshop: Any, tile: Any, layer: Any, position: int, step: int, planes: Any, place: Any) -> Any:
        none = step == 1 and layer.array == "kind"
        return real(workshop, tile, layer, position, step, None if none else planes, place)

    monkeypatch.setattr(tile_module.Workshop, "_make_plane", make)
    new_content(world)
    world.make()
    assert not list((world.root / "forest.zarr/kind").glob("1.*"))
    record = world.records()["y00x01"]
    assert (record.chunks_written, record.chunks_empty) == (3, 1)
    assert not np.array_equal(world.values("kind")[0], full[0])


# Several at once.


@pytest.mark.parametrize("version", [1, 2])
def test_two_runs_of_the_same_partition_at_once(world: World, tmp_path: Path, version: int) -> None:
    if version == 2:
        world.make()
        new_content(world)
    start = threading.Barrier(2)
    failures: list[BaseException] = []

    def run() -> None:
        start.wait()
        try:
            world.make()
        except BaseException as error:  # noqa: BLE001  (whatever it is, the test must say so)
            failures.append(error)

    world.write()
    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    fresh = World(tmp_path / "fresh", world.archive)
    fresh.make()
    assert world.tree() == fresh.tree()
