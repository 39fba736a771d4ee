from __future__ import annotations

import itertools
import pickle
import random
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path

import dask
import dask.order
import pytest

from scs2_cubes.config import load_case
from scs2_cubes.core.grid import Grid, Lattice, Region, Window, partitions_of
from scs2_cubes.core.native import Location, NativeArray, NativeDataset
from scs2_cubes.core.specification import Case, DaskSpec, StorageSpec
from scs2_cubes.demo.faults import Fault, GarbledBody, Status
from scs2_cubes.errors import ConfigurationError, TileError
from scs2_cubes.pipeline.compute import Compute, ThreadCompute, open_compute
from scs2_cubes.pipeline.graph import build_graph
from scs2_cubes.pipeline.plan import CubePlan, make_plan
from scs2_cubes.storage import open_cube_store
from scs2_cubes_tests.docs.cases import CONFIGS
from scs2_cubes_tests.pipeline.worlds import AGE, World, age_world, dataset, genus_world, write_genus
from scs2_cubes_tests.sources.worlds import served

MIB = 2**20
LANDES = Grid.from_bbox([3401404, 2346797, 3556068, 2539337], "EPSG:3035", 30, 2048)
FRANCE = Grid.from_bbox([3200014, 2249987, 3950014, 2999987], "EPSG:3035", 30, 2048)
#: The same with tiles that are four times as many.
FINE_FRANCE = Grid.from_bbox([3200014, 2249987, 3950014, 2999987], "EPSG:3035", 30, 1024)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Compute]:
    """Two worker processes, shared by the tests of this module: they take seconds to start."""
    with open_compute(DaskSpec(mode="local", n_workers=2, memory_limit="2GiB")) as compute:
        yield compute


def planned(grid: Grid, years: int) -> CubePlan:
    """In the layout of GAMI, or with one chunk for each of many years."""
    array = NativeArray(
        "forest_age",
        ("members", "latitude", "longitude", "time"),
        (20, 202_500, 405_000, years),
        (5, 500, 500, 2 if years == 2 else 1),
        "int16",
        -9999.0,
        -9999.0,
        attrs={"units": "years", "description": "x" * 500},
        metadata="x" * 1500,
    )
    native = NativeDataset(
        Location("https://archive.example/collections/GAMI/GAMI_v3.1.zarr"),
        "https://archive.example/collections/GAMI/GAMI_v3.1.zarr",
        (array,),
        Lattice("EPSG:4326", -180.0, 90.0, 1 / 1125, -1 / 1125, 405_000, 202_500),
        "latitude",
        "longitude",
        "0123456789abcdef",
        "time",
        tuple(f"{1985 + year}-01-01T00:00:00" for year in range(years)),
    )
    return make_plan(dataset(AGE), Region("region", grid), native)


class TestSize:
    @pytest.mark.parametrize(
        ("grid", "years", "limit"),
        [
            (LANDES, 2, MIB),
            (LANDES, 39, MIB),
            (FRANCE, 2, 10 * MIB),
            (FRANCE, 39, 10 * MIB),
            (FINE_FRANCE, 2, 10 * MIB),
            (FINE_FRANCE, 39, 10 * MIB),
        ],
        ids=["landes", "landes, 39 years", "france", "france, 39 years", "small tiles", "small tiles, 39 years"],
    )
    def test_it_holds_plans_and_not_pixels(self, grid: Grid, years: int, limit: int, tmp_path: Path) -> None:
        plan = planned(grid, years)
        store = open_cube_store(StorageSpec(str(tmp_path)), "forest")
        graph = build_graph(plan, store, grid.tiles())
        tiles = grid.tile_rows * grid.tile_cols
        jobs = 1 if years == 2 else years
        assert len(plan.jobs()) == jobs
        # One for each job of each tile, for each tile's record, for each of several jobs of a row, and one workshop.
        strips = grid.tile_rows * jobs if jobs > 1 else 0
        assert len(graph.tasks) == tiles * (jobs + 1) + strips + 1
        assert sorted(graph.tiles.values()) == sorted(tile.key for tile in grid.tiles())
        assert len(pickle.dumps(dict(graph.tasks))) <= limit
        assert not any(tmp_path.iterdir())


class TestFrance:
    """``configs/france.yml``: the case on a country."""

    @pytest.fixture
    def france(self) -> Case:
        return load_case(CONFIGS / "france.yml", environ={})

    def test_it_is_as_large_as_it_says(self, france: Case) -> None:
        (region,) = france.regions
        assert region.grid == FRANCE
        assert region.grid.shape == (25_000, 25_000)
        (landes,) = load_case(CONFIGS / "scs2.yml", environ={}).regions
        shift = (region.grid.west - landes.grid.west, region.grid.south - landes.grid.south)
        assert (shift[0] % 30, shift[1] % 30) == (0, 0)

    def test_it_has_sixteen_partitions_that_are_all_of_it(self, france: Case) -> None:
        keys = tuple(f"france-y{row:02d}x{col:02d}" for row in range(4) for col in range(4))
        assert {dataset.partition_keys for dataset in france.datasets} == {keys}
        (region,) = france.regions
        # Three blocks of four tiles, and the pixels that are left.
        edges = [(start, min(start + 4 * 2048, 25_000)) for start in range(0, 25_000, 4 * 2048)]
        parts = {part.key: part.window for part in partitions_of(region)}
        assert parts == {
            f"france-y{row:02d}x{col:02d}": Window(*rows, *cols)
            for row, rows in enumerate(edges)
            for col, cols in enumerate(edges)
        }

    def test_but_for_region_and_folder_it_is_the_case(self, france: Case) -> None:
        case = load_case(CONFIGS / "scs2.yml", environ={})
        # A list of one region, so that cubes lie apart from those of landes in the same storage.
        assert all(dataset.region_folders for dataset in france.datasets)
        anywhere, expected = (
            [replace(dataset, regions=(), region_folders=False) for dataset in one.datasets] for one in (france, case)
        )
        assert anywhere == expected
        assert len(france.datasets) == 6
        assert not {dataset.identifier for dataset in france.datasets if dataset.time_range}
        changed = {"name", "datasets", "regions"}
        for field in fields(case):
            assert field.name in changed or getattr(france, field.name) == getattr(case, field.name), field.name


@pytest.mark.parametrize("seed", [0, 1])
def test_dask_makes_a_row_of_tiles_job_by_job(seed: int, tmp_path: Path) -> None:
    """Neighbours share source chunks: those of one array and step at a time needn't be held for long."""
    plan = planned(LANDES, 39)
    tiles = list(LANDES.tiles())
    random.Random(seed).shuffle(tiles)
    graph = build_graph(plan, open_cube_store(StorageSpec(str(tmp_path)), "forest"), tiles)
    order = {str(key): number for key, number in dask.order.order(graph.tasks).items()}
    jobs = [key for key in sorted(order, key=order.__getitem__) if key.startswith("job-")]
    # job-<prefix>-y00x01-0007
    places = [(key.rsplit("-", 2)[1][:3], key.rsplit("-", 1)[1]) for key in jobs]
    runs = [place for place, _ in itertools.groupby(places)]
    assert len(runs) == len(set(runs)) == LANDES.tile_rows * 39
    assert len({row for row, _ in itertools.groupby(row for row, _ in runs)}) == LANDES.tile_rows
    assert len(list(itertools.groupby(row for row, _ in runs))) == LANDES.tile_rows


def test_graphs_never_share_tasks(tmp_path: Path) -> None:
    """On one scheduler, another one's tiles aren't mine."""
    world = genus_world(tmp_path)
    other = open_cube_store(StorageSpec(str(tmp_path / "other")), "forest")
    tiles = list(world.plan.region.grid.tiles())
    graphs = [build_graph(world.plan, store, tiles) for store in (world.store, other, world.store)]
    names = [set(graph.tasks) for graph in graphs]
    assert len(set.union(*names)) == sum(len(one) for one in names)


@pytest.mark.parametrize("make", [age_world, genus_world])
def test_threads_and_processes_give_the_same_bytes(
    tmp_path: Path, cluster: Compute, make: Callable[[Path], World]
) -> None:
    threads, processes = make(tmp_path / "threads"), make(tmp_path / "processes")
    reports = threads.make(ThreadCompute(2)), processes.make(cluster)
    assert threads.files() == processes.files()
    assert reports[0].bytes_written == reports[1].bytes_written
    assert reports[0].made == reports[1].made


def test_a_cluster_makes_a_cube_again_that_was_removed(tmp_path: Path, cluster: Compute) -> None:
    world = genus_world(tmp_path)
    world.make(cluster)
    made = world.files()
    shutil.rmtree(world.storage.root)
    world.make(cluster)
    assert world.files() == made


@pytest.mark.parametrize("how", ["threads", "processes"])
@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (Fault(Status(403)), "AccessDeniedError"),
        (Fault(Status(503)), "SourceUnavailableError"),
        (Fault(GarbledBody()), "SourceFormatError"),
    ],
    ids=["denied", "down", "garbled"],
)
def test_an_error_names_tile_cause_and_address(
    tmp_path: Path, request: pytest.FixtureRequest, how: str, fault: Fault, cause: str
) -> None:
    compute = ThreadCompute(2) if how == "threads" else request.getfixturevalue("cluster")
    # The pixels of the fixture's compressor, so that garbled bytes are noticed.
    write_genus(tmp_path / "a.zarr")
    with served(tmp_path) as server:
        world = genus_world(tmp_path, f"{server.url}/a.zarr")
        server.faults.add(fault.behaviour, "genus/3.3")
        with pytest.raises(TileError) as failed:
            world.make(compute)
        message = str(failed.value)
        assert cause in message
        assert f"{server.url}/a.zarr/genus/3.3" in message
        tiles = {tile.key: tile for tile in world.plan.region.grid.tiles()}
        key = message.removeprefix("tile ").partition(":")[0]
        assert key not in world.store.records()
        window = world.plan.index_map.source_window(tiles[key].window)
        assert window is not None
        assert window.row_start < 256
        assert window.row_stop > 192
        # When the archive is well again the rest is made.
        server.faults.clear()
        world.make(compute)
    undisturbed = genus_world(tmp_path / "undisturbed")
    undisturbed.make()
    assert {name: value for name, value in world.files().items() if ".zarr/genus/" in name} == {
        name: value for name, value in undisturbed.files().items() if ".zarr/genus/" in name
    }


class TestComputes:
    def test_threads_of_this_process(self) -> None:
        with open_compute(DaskSpec(mode="threads", n_workers=3)) as compute:
            assert isinstance(compute, ThreadCompute)
            assert compute.n_threads == 3
            assert compute.dashboard is None

    def test_a_cluster_has_a_dashboard(self, cluster: Compute) -> None:
        assert str(cluster.dashboard).startswith("http://127.0.0.1:")

    def test_its_workers_are_not_profiled(self, cluster: Compute) -> None:
        """Under Python 3.11 the profiler deadlocks with threads that come and go."""
        client = cluster.client  # type: ignore[attr-defined]  # this one's a ClusterCompute
        profiled = client.run(lambda: dask.config.get("distributed.worker.profile.enabled"))
        assert list(profiled.values()) == [False, False]

    def test_a_running_scheduler(self, tmp_path: Path, cluster: Compute) -> None:
        address = cluster.client.scheduler.address  # type: ignore[attr-defined]  # this one's a ClusterCompute
        world = genus_world(tmp_path)
        with open_compute(DaskSpec(mode="address", address=address)) as compute:
            assert world.make(compute).made == len(list(world.plan.region.grid.tiles()))

    def test_no_scheduler_at_the_address(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("scs2_cubes.pipeline.cluster._CONNECT_SECONDS", 0.5)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        address = f"tcp://127.0.0.1:{port}"
        with (
            pytest.raises(ConfigurationError, match=f"no scheduler answers at {address}"),
            open_compute(DaskSpec(mode="address", address=address)),
        ):
            pytest.fail("there is nobody")


def test_native_arrays_are_cheap_to_send() -> None:
    plan = planned(LANDES, 2)
    assert len(pickle.dumps(replace(plan.native.arrays[0]))) < 5000
