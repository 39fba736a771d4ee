"""What makes ours fast, as counts that don't depend on the machine's mood: chunks, requests, bytes, tasks, graph."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pytest

from scs2_cubes.core.native import Location, NativeArray
from scs2_cubes.pipeline import tile as tile_module
from scs2_cubes.pipeline.cubes import PlannedPartition
from scs2_cubes.sources import ChunkReader, open_reader
from scs2_cubes_tests.benchmarks.conftest import EXTENT, STEPS, MakeTask, session_of
from scs2_cubes_tests.benchmarks.contenders.limit import needed_chunks
from scs2_cubes_tests.benchmarks.contenders.ours import OURS, graph_size
from scs2_cubes_tests.benchmarks.layouts import LAYOUTS
from scs2_cubes_tests.benchmarks.server import FileServer
from scs2_cubes_tests.benchmarks.tasks import Task, extent_of, plan_of, planned_partitions

# Source clients leave their connections to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

CUBES = tuple(LAYOUTS)
MEBIBYTE = 2**20
#: Documents that a description asks for: the item, the store's consolidated metadata, and for users'
#: functions the grid mapping and the time axis once more.
DOCUMENTS = 4

#: Chunks that the four tiles need, reckoned by hand from origin, resolution and chunk size of each source: rows times
#: columns of chunks, times arrays, steps and blocks of members.
NEEDED = {
    "forest_type_2015": 1 * 1,
    "forestpaths_genus": 1 * 1,
    "liu": 1 * 1 * 3,
    "gami": 1 * 2 * 4,
    "esa_cci_biomass": 1 * 1 * 2 * STEPS,
    "efda": 1 * 1 * STEPS,
}


class CountingReader:
    """The real reader, with what it decodes counted at the seam."""

    def __init__(self, reader: ChunkReader, counts: Counter[tuple[str, tuple[int, ...]]]) -> None:
        self._reader = reader
        self._counts = counts
        self._lock = threading.Lock()

    def fetch_chunk(self, array: NativeArray, index: tuple[int, ...]) -> bytes | None:
        return self._reader.fetch_chunk(array, index)

    def decode_chunk(self, array: NativeArray, index: tuple[int, ...], encoded: bytes) -> npt.NDArray[Any]:
        with self._lock:
            self._counts[array.name, index] += 1
        return self._reader.decode_chunk(array, index, encoded)


@pytest.mark.parametrize("cube", CUBES)
def test_every_needed_chunk_is_asked_for_once_and_nothing_else(
    cube: str, make_task: MakeTask, server: FileServer, sources: Path, tmp_path: Path
) -> None:
    task = make_task("ours", cube)
    needed = {
        f"{task.layout.item}.zarr/{name}/{'.'.join(map(str, index))}" for name, index in needed_chunks(plan_of(task))
    }
    before = server.tally(session_of(tmp_path, cube)).other_requests
    OURS.run(task, task.dataset)
    tally = server.tally(session_of(tmp_path, cube))
    assert len(needed) == NEEDED[cube]
    assert tally.keys == needed
    assert (tally.chunk_gets, tally.chunk_heads, tally.chunks_absent) == (len(needed), 0, 0)
    assert tally.chunk_bytes == sum((sources / key).stat().st_size for key in needed)
    coordinates = sum(
        len([file for file in (sources / f"{task.layout.item}.zarr" / name).iterdir() if file.name[0] != "."])
        for name in (task.layout.x_dim, task.layout.y_dim, "time", "members", task.layout.crs_variable)
        if (sources / f"{task.layout.item}.zarr" / name).is_dir()
    )
    assert tally.other_requests - before <= DOCUMENTS + coordinates


@pytest.mark.parametrize("cube", CUBES)
def test_every_needed_chunk_is_decoded_once(cube: str, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: Counter[tuple[str, tuple[int, ...]]] = Counter()

    def open_counting(location: Location) -> CountingReader:
        return CountingReader(open_reader(location), counts)

    monkeypatch.setattr(tile_module, "open_reader", open_counting)
    task = make_task("ours", cube)
    OURS.run(task, task.dataset)
    assert len(counts) == NEEDED[cube]
    assert set(counts.values()) == {1}


@pytest.mark.parametrize("cube", CUBES)
def test_a_task_for_each_output_chunk_that_shares_no_source_chunk(cube: str, make_task: MakeTask) -> None:
    arrays = len(LAYOUTS[cube].variables)
    steps = 1 if LAYOUTS[cube].default_steps is None else STEPS
    tiles = (EXTENT.grid.nx // EXTENT.tile) ** 2
    (planned,) = _partitions(make_task("ours", cube))
    # One for each array and step of each tile, one that records the tile, one for each array and step, where there are
    # several, of a row of tiles, one for what they share.
    strips = EXTENT.grid.ny // EXTENT.tile * arrays * steps if arrays * steps > 1 else 0
    assert graph_size([planned]).tasks == tiles * (arrays * steps + 1) + strips + 1


@pytest.mark.parametrize("cube", CUBES)
@pytest.mark.parametrize(("scale", "limit"), [("landes", 1), ("france", 10)])
def test_the_graph_is_small_whatever_the_area(cube: str, scale: str, limit: int, make_task: MakeTask) -> None:
    partitions = _partitions(make_task("ours", cube, extent_of(scale)))
    assert sum(graph_size([planned]).n_bytes for planned in partitions) <= limit * MEBIBYTE


def _partitions(task: Task) -> list[PlannedPartition]:
    return planned_partitions(task, task.dataset)
