from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scs2_cubes.core.grid import Grid, Lattice, Region, Tile, Window
from scs2_cubes.core.native import Location, NativeArray, NativeDataset
from scs2_cubes.core.specification import StorageSpec
from scs2_cubes.core.variables import Statistic
from scs2_cubes.pipeline import windows
from scs2_cubes.pipeline.blocks import Block, BlockKey, Memory, StoredChunk, chunks_of_block, make_block
from scs2_cubes.pipeline.compute import ThreadCompute
from scs2_cubes.pipeline.plan import CubePlan, blocks_of, make_plan
from scs2_cubes_tests.pipeline.worlds import (
    GENUS,
    GENUS_RASTER,
    LAEA,
    CountingReader,
    World,
    age_world,
    dataset,
    genus_world,
    native,
    write_genus,
)

MEGABYTE = 2**20


def key(number: int) -> BlockKey:
    return BlockKey("a", (0,), (0, number))


def block(size: int = MEGABYTE, fill: int = 0) -> Block:
    return Block({None: np.full((1, 1, size), fill, "uint8")}, 1, 0)


def blocks(capacity: int) -> Memory[BlockKey, Block]:
    return Memory(capacity)


class TestMemory:
    def test_what_is_kept_is_loaded_once(self) -> None:
        cache = blocks(10 * MEGABYTE)
        kept = cache.get(key(1), block, keep=True)
        assert cache.get(key(1), pytest.fail, keep=True) is kept

    def test_what_nobody_else_needs_is_not_kept(self) -> None:
        cache = blocks(10 * MEGABYTE)
        first = cache.get(key(1), block, keep=False)
        assert cache.get(key(1), block, keep=False) is not first

    def test_the_one_unused_for_longest_goes_first(self) -> None:
        cache = blocks(3 * MEGABYTE)
        for number in (1, 2, 3):
            cache.get(key(number), block, keep=True)
        cache.get(key(1), pytest.fail, keep=True)
        cache.get(key(4), block, keep=True)
        for number in (1, 3, 4):
            cache.get(key(number), pytest.fail, keep=True)
        again = block()
        assert cache.get(key(2), lambda: again, keep=True) is again

    @given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5000)), max_size=60))
    def test_capacity_is_kept_to(self, wanted: list[tuple[int, int]]) -> None:
        cache = blocks(8000)
        for number, size in wanted:
            cache.get(key(number), lambda size=size: block(size), keep=True)  # type: ignore[misc]  # a default
            held = sum(one.nbytes for one in cache._held.values())
            assert held <= 8000
            assert held == cache._bytes

    def test_a_block_beyond_the_capacity_passes_through(self) -> None:
        cache = blocks(MEGABYTE)
        small = cache.get(key(1), lambda: block(1000), keep=True)
        assert cache.get(key(2), lambda: block(2 * MEGABYTE), keep=True).nbytes == 2 * MEGABYTE
        # It needn't drive out the others.
        assert cache.get(key(1), pytest.fail, keep=True) is small

    def test_what_is_wanted_row_by_row_stays_as_far_as_it_fits(self) -> None:
        """Four wanted by each row, three of which fit: each row but the first loads one."""
        memory, loads = Memory[BlockKey, Block](3 * MEGABYTE, lasting=1), []
        for row in range(4):
            for number in range(4):

                def load(number: int = number) -> Block:
                    loads.append(number)
                    return block()

                memory.get(key(number), load, keep=True, turn=row)
        assert loads == [0, 1, 2, 3, 3, 3, 3]

    def test_what_no_row_has_wanted_for_a_while_makes_room(self) -> None:
        """Other processes may make the tiles that were to have it."""
        memory = Memory[BlockKey, Block](MEGABYTE, lasting=1)
        memory.get(key(1), block, keep=True, turn=0)
        memory.get(key(2), block, keep=True, turn=1)
        assert memory.holds(key(1))
        memory.get(key(2), block, keep=True, turn=2)
        assert memory.holds(key(2))
        assert not memory.holds(key(1))

    def test_threads_that_want_one_block_wait_for_one_read(self) -> None:
        cache, loads = blocks(MEGABYTE), []
        gate = threading.Barrier(8)
        results: list[Block] = []

        def load() -> Block:
            loads.append(1)
            time.sleep(0.2)
            return block(1000)

        def want() -> None:
            gate.wait()
            results.append(cache.get(key(1), load, keep=False))

        run_together(want, 8)
        assert len(loads) == 1
        assert len(results) == 8
        assert all(one is results[0] for one in results)

    def test_an_error_reaches_everyone_and_is_not_kept(self) -> None:
        cache, loads = blocks(MEGABYTE), []
        gate = threading.Barrier(6)
        errors: list[OSError] = []

        def load() -> Block:
            loads.append(1)
            time.sleep(0.2)
            raise OSError("disk on fire")

        def want() -> None:
            gate.wait()
            try:
                cache.get(key(1), load, keep=True)
            except OSError as error:
                errors.append(error)

        run_together(want, 6)
        assert len(loads) == 1
        assert len(errors) == 6
        assert cache.get(key(1), lambda: block(10), keep=True).nbytes == 10

    def test_different_blocks_do_not_wait_for_each_other(self) -> None:
        cache, gate = blocks(MEGABYTE), threading.Barrier(4, timeout=5)

        def load() -> Block:
            gate.wait()
            return block(10)

        numbers = iter(range(4))
        run_together(lambda: cache.get(key(next(numbers)), load, keep=True), 4)
        assert not gate.broken


def run_together(action: Callable[[], object], count: int) -> None:
    threads = [threading.Thread(target=action) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


class Chunked:
    """Chunks of an array, in any order of dimensions."""

    def __init__(self, values: npt.NDArray[np.int16], absent: set[tuple[int, ...]]) -> None:
        self.values = values
        self.absent = absent

    def read_chunk(self, array: NativeArray, index: tuple[int, ...]) -> npt.NDArray[np.int16] | None:
        if index in self.absent:
            return None
        return self.values[tuple(slice(i * n, (i + 1) * n) for i, n in zip(index, array.chunks, strict=True))]


def loaded_block(
    reader: Chunked,
    native: NativeDataset,
    array: NativeArray,
    key: BlockKey,
    window: Window,
    statistics: tuple[Statistic | None, ...],
    nodata: float | None,
) -> Block:
    chunks = ((index, reader.read_chunk(array, index)) for index in chunks_of_block(native, array, key))
    return make_block(native, array, key, window, statistics, nodata, chunks)


SIZES = {"time": (5, 2), "members": (7, 3), "y": (20, 8), "x": (30, 16)}
#: Second row, second column of chunks; the column is cut.
PLACE, PIXELS = (1, 1), Window(8, 16, 16, 30)


def world(dims: tuple[str, ...], absent_value: float | None = -1.0) -> tuple[NativeDataset, NativeArray]:
    shape, chunks = zip(*(SIZES[dim] for dim in dims), strict=True)
    array = NativeArray("a", dims, shape, chunks, "int16", -1.0, absent_value)
    lattice = Lattice("EPSG:3035", 0, 0, 1, -1, 30, 20)
    time_dim = "time" if "time" in dims else None
    return NativeDataset(Location("/a"), "/a", (array,), lattice, "y", "x", "v", time_dim), array


class TestLoading:
    @pytest.mark.parametrize(
        "dims",
        [("y", "x"), ("x", "y"), ("time", "y", "x"), ("y", "x", "time"), ("x", "time", "y")],
        ids="-".join,
    )
    @pytest.mark.parametrize("steps", [(2,), (2, 3), (4,)], ids=str)
    def test_any_order_of_dimensions(self, dims: tuple[str, ...], steps: tuple[int, ...]) -> None:
        native, array = world(dims)
        values = np.random.default_rng(1).integers(0, 99, array.shape).astype("int16")
        asked = steps if "time" in dims else (0,)
        loaded = loaded_block(Chunked(values, set()), native, array, BlockKey("a", asked, PLACE), PIXELS, (None,), -1)
        ordered = values.transpose([dims.index(dim) for dim in ("time", "y", "x") if dim in dims])
        expected = ordered[list(asked)] if "time" in dims else ordered[None]
        assert loaded.planes is not None
        np.testing.assert_array_equal(loaded.planes[None], expected[:, 8:16, 16:30])
        assert (loaded.chunks, loaded.absent) == (1, 0)

    @pytest.mark.parametrize("dims", [("members", "y", "x", "time"), ("time", "x", "members", "y")], ids="-".join)
    def test_members_are_aggregated_over_all_their_chunks(self, dims: tuple[str, ...]) -> None:
        native, array = world(dims)
        values = np.random.default_rng(1).integers(-1, 99, array.shape).astype("int16")
        statistics = (Statistic.MEAN, Statistic.STD)
        loaded = loaded_block(
            Chunked(values, set()), native, array, BlockKey("a", (2, 3), PLACE), PIXELS, statistics, nodata=-1
        )
        ordered = values.transpose([dims.index(dim) for dim in ("time", "members", "y", "x")]).astype(float)
        ordered[ordered == -1] = np.nan
        part = ordered[2:4, :, 8:16, 16:30]
        assert loaded.planes is not None
        np.testing.assert_allclose(loaded.planes[Statistic.MEAN], np.nanmean(part, axis=1), rtol=1e-6)
        np.testing.assert_allclose(loaded.planes[Statistic.STD], np.nanstd(part, axis=1), rtol=1e-5)
        assert loaded.chunks == 3

    def test_absent_members_have_no_value(self) -> None:
        native, array = world(("members", "y", "x"))
        values = np.full(array.shape, 10, "int16")
        values[3:] = 40
        loaded = loaded_block(
            Chunked(values, {(0, 1, 1)}), native, array, BlockKey("a", (0,), PLACE), PIXELS, (Statistic.MEAN,), -1
        )
        assert loaded.planes is not None
        assert np.all(loaded.planes[Statistic.MEAN] == 40)
        assert (loaded.chunks, loaded.absent) == (3, 1)

    def test_all_absent_is_nothing_at_all(self) -> None:
        native, array = world(("members", "y", "x"))
        absent: set[tuple[int, ...]] = {(number, 1, 1) for number in range(3)}
        loaded = loaded_block(
            Chunked(np.zeros(array.shape, "int16"), absent), native, array, BlockKey("a", (0,), PLACE), PIXELS,
            (Statistic.MEAN,), -1,
        )  # fmt: skip
        assert loaded == Block(None, 3, 3)
        assert loaded.nbytes == 0

    def test_where_the_source_says_that_absent_means_zero_it_is_zero(self) -> None:
        """Zarr's fill isn't always the product's nodata."""
        native, array = world(("y", "x"), absent_value=0.0)
        reader = Chunked(np.ones(array.shape, "int16"), {(1, 1)})
        loaded = loaded_block(reader, native, array, BlockKey("a", (0,), PLACE), PIXELS, (None,), nodata=-1)
        assert loaded.planes is not None
        assert np.all(loaded.planes[None] == 0)

    def test_where_the_source_does_not_say_it_is_no_value(self) -> None:
        native, array = world(("y", "x"), absent_value=None)
        reader = Chunked(np.ones(array.shape, "int16"), {(1, 1)})
        assert loaded_block(reader, native, array, BlockKey("a", (0,), PLACE), PIXELS, (None,), 255).planes is None


@dataclass
class Memories:
    """What is left once tiles have been read."""

    reader: CountingReader
    blocks: Memory[BlockKey, Block]
    stored: Memory[tuple[str, tuple[int, ...]], StoredChunk]


def read_tiles(plan: CubePlan, tiles: Sequence[Tile], later: Sequence[Tile] = ()) -> Memories:
    """Read what ``tiles`` need, as where ``later`` come next, and nothing else is to be made."""
    reader = CountingReader.open(plan.native.location)
    made = windows.WindowReader.over(plan, reader, frozenset((tile.row, tile.col) for tile in (*tiles, *later)))
    for tile, job in product(tiles, plan.jobs()):
        window = plan.tile_window(tile)
        assert job.array is not None
        if window is not None:
            made.aggregated(tile, job, window, plan.layers_of(job.array))
    return Memories(reader, made.blocks, made.stored)


class TestReads:
    """How often the source is asked."""

    @pytest.fixture
    def readers(self, monkeypatch: pytest.MonkeyPatch) -> list[CountingReader]:
        opened: list[CountingReader] = []

        def open_counting(location: Location) -> CountingReader:
            opened.append(CountingReader.open(location))
            return opened[-1]

        monkeypatch.setattr("scs2_cubes.pipeline.tile.open_reader", open_counting)
        return opened

    @pytest.mark.parametrize("make", [age_world, genus_world])
    @pytest.mark.parametrize("threads", [1, 3])
    def test_each_chunk_once_over_all_tiles(
        self, tmp_path: Path, readers: list[CountingReader], make: Callable[[Path], World], threads: int
    ) -> None:
        make(tmp_path).make(ThreadCompute(threads))
        (reader,) = readers
        assert reader.reads
        assert {chunk for chunk, reads in reader.reads.items() if reads > 1} == set()

    def test_bytes_asked_for_ahead_of_a_block_that_another_thread_makes_first(
        self, tmp_path: Path, readers: list[CountingReader], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The late one is slow to ask; when its turn comes, the other one has made the block and dropped the bytes."""
        made, answering = age_world(tmp_path), threading.Event()

        def pool(size: int) -> ThreadPool:
            is_late = threading.current_thread().name == "late"
            return ThreadPool(size, answering.wait if is_late else None)

        monkeypatch.setattr(windows, "ThreadPool", pool)
        plan, grid = made.plan, made.plan.region.grid
        places_of_tiles = frozenset((tile.row, tile.col) for tile in grid.tiles())
        reader = windows.WindowReader.over(plan, CountingReader.open(plan.native.location), places_of_tiles)
        (job, *_) = plan.jobs()
        assert job.array is not None
        array, layers = plan.native.array(job.array), plan.layers_of(job.array)

        def places(tile: Tile) -> list[tuple[int, int]]:
            window = plan.tile_window(tile)
            return [] if window is None else [place for place, _ in blocks_of(plan.native, array, window)]

        def read(tile: Tile) -> None:
            window = plan.tile_window(tile)
            assert window is not None
            reader.aggregated(tile, job, window, layers)

        late, early = next(
            (one, other)
            for one, other in permutations(grid.tiles(), 2)
            if set(places(one)) & set(places(other)) and places(one)[0] not in places(other)
        )
        thread = threading.Thread(target=read, args=(late,), name="late", daemon=True)
        thread.start()
        steps = tuple(plan.source_steps[step] for step in job.steps) if plan.native.time_dim in array.dims else (0,)
        limit = time.monotonic() + 60
        while BlockKey(array.name, steps, places(late)[0]) not in reader.blocks:
            assert thread.is_alive()
            assert time.monotonic() < limit
            time.sleep(0.01)
        read(early)
        answering.set()
        thread.join()
        counted = reader.reader
        assert isinstance(counted, CountingReader)
        assert set(counted.reads.values()) == {1}

    def test_bytes_that_another_thread_finds_it_does_not_need_are_fetched_all_the_same(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It asks ahead and sees the block held, which is pushed out before this one, who needs it, joins its load."""
        plan = genus_world(tmp_path).plan
        reader = windows.WindowReader.over(plan, CountingReader.open(plan.native.location), frozenset())
        (array,) = plan.native.arrays
        wanted = windows._Wanted(BlockKey(array.name, (0,), (1, 1)), Window(64, 128, 64, 128), 0, 1, again=True)
        looking, joined = threading.Event(), threading.Event()

        def holds(_: BlockKey) -> bool:
            looking.set()
            return joined.wait(60)

        monkeypatch.setattr(reader.blocks, "holds", holds)
        with ThreadPool(2) as pool:
            ahead = pool.apply_async(reader._fetch_ahead, (array, (1, 1), wanted))
            assert looking.wait(60)
            needed = pool.apply_async(reader._fetch, (array, (1, 1), wanted))
            # It waits for the other's load.
            needed.wait(0.5)
            joined.set()
            assert needed.get(60).encoded
            with pytest.raises(windows._BlockHeldError):
                ahead.get(60)

    @pytest.mark.parametrize("stored", [windows.STORED_BYTES, 0])
    def test_bytes_are_kept_where_pixels_are_pushed_out(
        self, tmp_path: Path, readers: list[CountingReader], monkeypatch: pytest.MonkeyPatch, stored: int
    ) -> None:
        """Two blocks of 64 x 64 in 16 bits are less than two tiles share."""
        monkeypatch.setattr(windows, "BLOCK_BYTES", 2 * 64 * 64 * 2)
        monkeypatch.setattr(windows, "STORED_BYTES", stored)
        genus_world(tmp_path).make(ThreadCompute(1))
        # Without that memory chunks are read again, or this test would show nothing.
        assert (max(readers[0].reads.values()) == 1) == (stored > 0)

    @pytest.mark.parametrize("towards", [1, -1])
    def test_along_a_row_what_is_held_is_used_before_it_is_pushed_out(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, towards: int
    ) -> None:
        """Room for fewer blocks than a tile needs, and none for bytes; Dask goes either way."""
        plan = genus_world(tmp_path).plan
        row = [tile for tile in plan.region.grid.tiles() if tile.row == 1][::towards]
        below = [tile for tile in plan.region.grid.tiles() if tile.row == 2]
        (array,) = plan.native.arrays
        windows_of = [window for tile in row if (window := plan.tile_window(tile)) is not None]
        fewest = min(len(list(blocks_of(plan.native, array, window))) for window in windows_of)
        monkeypatch.setattr(windows, "BLOCK_BYTES", (fewest - 1) * 64 * 64 * np.dtype(array.dtype).itemsize)
        monkeypatch.setattr(windows, "STORED_BYTES", 0)
        counted = read_tiles(plan, row, below)
        assert set(counted.reader.reads.values()) == {1}

    def test_nothing_is_kept_for_tiles_that_are_not_to_be_made(self, tmp_path: Path) -> None:
        """Those of other partitions, and those that are there already."""
        plan = genus_world(tmp_path).plan
        some = [tile for tile in plan.region.grid.tiles() if tile.row in {1, 2} and tile.col in {1, 2}]
        memories = read_tiles(plan, some)
        assert memories.blocks._bytes == 0
        assert memories.stored._bytes == 0

    @pytest.mark.parametrize("offset", [-1.5, -0.5, 0.0, 0.5])
    def test_also_where_tiles_and_chunks_end_nearly_together(
        self, tmp_path: Path, readers: list[CountingReader], offset: float
    ) -> None:
        """A chunk that lies wholly in one tile's window may still be touched by the margin of the next."""
        # Source column 128 is where the second chunk ends, and 96 columns are a tile.
        west, north = GENUS_RASTER[1] + (128 + offset - 96) * 10, GENUS_RASTER[2] - (128 + offset - 96) * 10
        grid = Grid(LAEA, west, north - 96 * 30, 30, 30, 96, 96, 32, 32)
        source = native(write_genus(tmp_path / "genus.zarr"))
        plan = make_plan(dataset(GENUS), Region("here", grid), source)
        World(plan, StorageSpec(str(tmp_path / "cubes"))).make(ThreadCompute(1))
        assert max(readers[0].reads.values()) == 1

    def test_only_what_the_region_needs(self, tmp_path: Path, readers: list[CountingReader]) -> None:
        made = genus_world(tmp_path)
        made.make()
        window = made.plan.index_map.source_window(made.plan.region.grid.lattice.window)
        assert window is not None
        rows = range(window.row_start // 64, -(-window.row_stop // 64))
        cols = range(window.col_start // 64, -(-window.col_stop // 64))
        assert {index for _, index in readers[0].reads} == set(product(rows, cols))
