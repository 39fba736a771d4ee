"""The benchmark itself: does it count, judge and generate rightly?"""

from __future__ import annotations

import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from scs2_cubes.config import load_case
from scs2_cubes.core.grid import Window
from scs2_cubes.core.methods import Method
from scs2_cubes_tests.benchmarks.conftest import EXTENT, MakeTask, session_of
from scs2_cubes_tests.benchmarks.contenders.base import nodata_of
from scs2_cubes_tests.benchmarks.contenders.limit import LIMIT
from scs2_cubes_tests.benchmarks.contenders.ours import OURS
from scs2_cubes_tests.benchmarks.exactness import exact_block, judge
from scs2_cubes_tests.benchmarks.fields import noise
from scs2_cubes_tests.benchmarks.layouts import LAYOUTS
from scs2_cubes_tests.benchmarks.results import Sample, Verdict, summarise
from scs2_cubes_tests.benchmarks.server import FileServer
from scs2_cubes_tests.benchmarks.tasks import Task, extent_of, plan_of, planned_partitions, small_task
from scs2_cubes_tests.benchmarks.worker import Measurement
from scs2_cubes_tests.core import oracles
from scs2_cubes_tests.docs.cases import CONFIGS

# Source clients leave their connections to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

CUBES = tuple(LAYOUTS)


def test_the_server_counts_chunks_heads_gaps_and_sessions_apart(tmp_path: Path) -> None:
    (tmp_path / "a.zarr" / "v").mkdir(parents=True)
    (tmp_path / "a.zarr" / "v" / "0.1").write_bytes(b"12345")
    (tmp_path / "a.zarr" / ".zmetadata").write_bytes(b"{}")
    with FileServer(tmp_path) as server:
        for name in ("v/0.1", "v/0.1", ".zmetadata"):
            urllib.request.urlopen(f"{server.url('one')}/a.zarr/{name}").read()
        urllib.request.urlopen(urllib.request.Request(f"{server.url('one')}/a.zarr/v/0.1", method="HEAD")).close()
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{server.url('two')}/a.zarr/v/7.7")
        refused.value.close()
        one, two = server.tally("one"), server.tally("two")
    assert (one.chunk_gets, one.chunk_heads, one.chunk_bytes, one.other_requests) == (2, 1, 10, 1)
    assert one.keys == {"a.zarr/v/0.1"}
    assert (two.chunk_gets, two.chunks_absent, two.chunk_bytes) == (1, 1, 0)


def test_a_field_is_the_same_whichever_block_it_is_computed_in() -> None:
    whole = noise((slice(40, 90), slice(1000, 1100)), (30, 7), seed=5)
    part = noise((slice(63, 80), slice(1011, 1020)), (30, 7), seed=5)
    assert np.array_equal(whole[23:40, 11:20], part)
    assert 0 <= whole.min() < whole.max() <= 1


@pytest.mark.parametrize("cube", CUBES)
def test_sources_declare_the_real_shape_and_hold_values_and_gaps(cube: str, sources: Path) -> None:
    layout = LAYOUTS[cube]
    group = zarr.open_group(str(sources / f"{layout.item}.zarr"), mode="r", zarr_format=2)
    for array in layout.arrays:
        stored: Any = group[array.name]
        assert (stored.shape, stored.chunks, stored.dtype.name) == (array.shape, array.chunks, array.dtype)


@pytest.mark.parametrize("cube", CUBES)
def test_the_judge_agrees_with_loops_written_from_the_definitions(
    cube: str, make_task: MakeTask, sources: Path
) -> None:
    task = make_task("ours", cube)
    plan = plan_of(task)
    layer, native = plan.layers[0], plan.native
    group = zarr.open_group(str(sources / f"{task.layout.item}.zarr"), mode="r", zarr_format=2)
    window = Window(40, 52, 60, 75)
    found = exact_block(plan, layer, group[layer.array], 0, window)
    source, target = native.lattice, plan.region.grid.lattice
    u, v = oracles.source_index(
        (source.crs, source.x_origin, source.y_origin, source.dx, source.dy),
        (target.crs, target.x_origin, target.y_origin, target.dx, target.dy),
        range(window.row_start, window.row_stop),
        range(window.col_start, window.col_stop),
    )
    row, col = int(v.min()) - 8, int(u.min()) - 8
    plane, nodata = _plane(group[layer.array], task, row, col, plan.source_steps[0]), nodata_of(layer)
    if layer.statistic is not None:
        plane, nodata = np.ma.masked_equal(plane, -9999).mean(axis=0).filled(np.nan), None
    size = (target.dx / source.dx, target.dy / source.dy)
    rules = {
        Method.BILINEAR: lambda x, y: oracles.bilinear(plane, x, y, nodata),
        Method.NEAREST: lambda x, y: oracles.nearest(plane, x, y, nodata),
        Method.MAJORITY: lambda x, y: oracles.majority(plane, x, y, size, nodata),
    }
    expected = [
        [rules[layer.method](x - col, y - row) for x, y in zip(*line, strict=True)] for line in zip(u, v, strict=True)
    ]
    assert np.allclose(found, np.array(expected, dtype=float), rtol=1e-6, equal_nan=True)


@pytest.mark.parametrize("cube", ["forest_type_2015", "gami", "efda"])
def test_the_judge_finds_a_displaced_cube(cube: str, make_task: MakeTask, sources: Path) -> None:
    task = make_task("ours", cube)
    OURS.run(task, task.dataset)
    plan, made = plan_of(task), Path(task.output) / f"{cube}.zarr"
    source = sources / f"{task.layout.item}.zarr"
    assert judge(plan, source, made).share <= 1e-3
    array: Any = zarr.open_group(str(made), mode="r+", zarr_format=2)[plan.layers[0].variable.name]
    array[...] = np.roll(array[...], 1, axis=-1)
    assert judge(plan, source, made).share > 5e-3


@pytest.mark.parametrize("cube", ["liu", "efda"])
def test_the_limit_reads_the_same_chunks_and_writes_the_same_pixels(
    cube: str, make_task: MakeTask, server: FileServer, tmp_path: Path
) -> None:
    task = make_task("ours", cube)
    OURS.run(task, task.dataset)
    session = session_of(tmp_path, cube)
    asked = set(server.tally(session).keys)
    limit = make_task("limit", cube)
    LIMIT.run(limit, LIMIT.prepare(limit) if LIMIT.prepare else None)
    tally = server.tally(session)
    assert tally.keys == asked
    assert tally.chunk_gets == 2 * len(asked)
    for name in LAYOUTS[cube].variables:
        arrays: list[Any] = [
            zarr.open_group(str(tmp_path / who / f"{cube}.zarr"), mode="r", zarr_format=2)[name]
            for who in ("ours", "limit")
        ]
        assert np.array_equal(arrays[0][...], arrays[1][...], equal_nan=True)


def test_a_task_survives_its_way_to_a_process() -> None:
    task = Task("ours", "efda", "http://127.0.0.1:1/s", "out", None, EXTENT, 5, 2, wraps_window=False)
    assert Task.from_json(task.to_json()) == task


def test_france_is_the_configurations() -> None:
    (region,) = load_case(CONFIGS / "france.yml", environ={}).regions
    assert extent_of("france").name == region.name
    assert extent_of("france").grid == region.grid


def test_one_partition_is_made_where_it_lies(make_task: MakeTask) -> None:
    task = replace(make_task("ours", "efda", extent_of("france")), partition="france-y01x02")
    (planned,) = planned_partitions(task, task.dataset)
    assert planned.partition.key == "france-y01x02"
    assert planned.plan.region.grid == extent_of("france").grid
    # The second row of blocks of 8192 from the north, the third from the west.
    west, north = 3200014.0 + 2 * 8192 * 30, 2999987.0 - 8192 * 30
    grid = task.made_grid
    assert grid.bbox == (west, north - 8192 * 30, west + 8192 * 30, north)
    assert sorted(tile.window.shape for tile in grid.tiles()) == [(2048, 2048)] * 16
    # Compiling happens where there are pixels.
    small = small_task(task, task.url, task.output).extent.bbox
    assert (small[0] - west, north - small[3]) == (4096 * 30, (4096 - 96) * 30)


def test_a_scale_that_the_sources_do_not_cover_is_refused() -> None:
    with pytest.raises(ValueError, match="25001"):
        extent_of("25001")


@pytest.mark.parametrize(
    ("figure", "more_is_better", "word"),
    [(1.0, False, "goal"), (1.8, False, "floor"), (2.1, False, "MISSED"), (2.1, True, "goal"), (0.5, True, "MISSED")],
)
def test_verdicts(figure: float, word: str, *, more_is_better: bool) -> None:
    goal, floor = (1.5, 2.0) if not more_is_better else (2.0, 1.5)
    assert Verdict("x", figure, goal, floor, more_is_better).word == word


def _plane(stored: Any, task: Task, row: int, col: int, step: int) -> Any:
    """60 x 60 source pixels around a place, cut by hand: (row, column), or (member, row, column)."""
    rows, cols = slice(row, row + 60), slice(col, col + 60)
    if task.cube == "gami":
        return stored[:, rows, cols, step]
    return stored[step, rows, cols] if stored.ndim == 3 else stored[rows, cols]


@pytest.mark.parametrize("judged", [0, 1, 2, None])
def test_medians_keep_what_was_found_of_the_pixels(judged: int | None) -> None:
    samples = [
        Sample(
            cube="gami",
            contender="ours",
            measurement=Measurement(cpu, 2 * cpu, 100, 1000, 0.5, None, None),
            chunks_needed=1,
            chunks_read=1,
            requests=1,
            other_requests=1,
            bytes_read=1,
            bytes_needed=1,
            bytes_written=1,
            different=0.25 if number == judged else None,
        )
        for number, cpu in enumerate((3.0, 9.0, 1.0))
    ]
    (entry,) = summarise(samples)
    assert (entry.cpu, entry.wall, entry.repetitions) == (3.0, 6.0, 3)
    assert entry.sample.different == (None if judged is None else 0.25)
