"""The limit: decode each needed source chunk once, encode and write each output chunk once, and nothing between.

Output pixels are those that ours made last, read before the clock starts, because the cost of encoding depends on them.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from scs2_cubes.core.grid import Tile, Window
from scs2_cubes.core.native import NativeArray
from scs2_cubes.pipeline.plan import CubePlan
from scs2_cubes_tests.benchmarks.contenders.base import Contender, Outcome, create_cube, open_source_group
from scs2_cubes_tests.benchmarks.tasks import Task, plan_of

__all__ = ["LIMIT", "needed_chunks"]

#: Finished pixels that are held at once; beyond it every so many tiles share theirs.
_HELD_BYTES = 2**30

_Planes = dict[tuple[str, int, Tile], npt.NDArray[Any]]


def _run(task: Task, prepared: tuple[CubePlan, _Planes]) -> Outcome:
    plan, planes = prepared
    source, cube = open_source_group(task.source), create_cube(task, plan)

    def read(chunk: tuple[str, tuple[slice, ...]]) -> None:
        _array(source, chunk[0])[chunk[1]]

    def write(place: tuple[str, int, Tile]) -> None:
        name, step, tile = place
        array = _array(cube, name)
        selection = (*((step,) if plan.schema.time_is_dim else ()), *tile.window.slices)
        array[selection] = planes.get(place, array.fill_value)

    with ThreadPoolExecutor(task.threads) as pool:
        list(pool.map(read, _selections(plan)))
        list(pool.map(write, _places(plan)))
    return Outcome()


def _prepare(task: Task) -> tuple[CubePlan, _Planes]:
    """The plan, and finished pixels by (layer, step, tile); none for a warm-up. Reads what ours made."""
    plan = plan_of(task)
    return plan, _finished(plan, Path(task.reference) / f"{task.cube}.zarr") if task.reference else {}


def _finished(plan: CubePlan, cube: Path) -> _Planes:
    group = zarr.open_group(str(cube), mode="r", zarr_format=2)
    places = _places(plan)
    size = sum(
        np.dtype(plan.schema.layer(name).dtype).itemsize * tile.window.height * tile.window.width
        for name, _, tile in places
    )
    every = -(-size // _HELD_BYTES)
    planes: _Planes = {}
    for number, place in enumerate(places):
        name, step, tile = place
        held = planes.get(places[number - 1]) if number % every else None
        if held is None or held.shape != tile.window.shape:
            array = _array(group, name)
            held = np.asarray(array[(*((step,) if plan.schema.time_is_dim else ()), *tile.window.slices)])
        planes[place] = held
    return planes


def needed_chunks(plan: CubePlan) -> set[tuple[str, tuple[int, ...]]]:
    """(array, chunk numbers) of every source chunk that lies under a tile; the corners of the whole's box need not."""
    windows = [plan.index_map.source_window(tile.window) for tile in plan.region.grid.tiles()]
    names = dict.fromkeys(layer.array for layer in plan.layers)
    return {
        (name, index)
        for name in names
        for window in windows
        if window is not None
        for index in product(*_numbers(plan, plan.native.array(name), window))
    }


def _numbers(plan: CubePlan, array: NativeArray, window: Window) -> list[range | list[int]]:
    spans = {
        plan.native.y_dim: (window.row_start, window.row_stop),
        plan.native.x_dim: (window.col_start, window.col_stop),
    }
    numbers: list[range | list[int]] = []
    for dim, size, length in zip(array.dims, array.chunks, array.shape, strict=True):
        if dim == plan.native.time_dim:
            numbers.append(sorted({step // size for step in plan.source_steps}))
        else:
            start, stop = spans.get(dim, (0, length))
            numbers.append(range(start // size, -(-stop // size)))
    return numbers


def _selections(plan: CubePlan) -> list[tuple[str, tuple[slice, ...]]]:
    selections = []
    for name, index in sorted(needed_chunks(plan)):
        array = plan.native.array(name)
        pairs = zip(index, array.chunks, array.shape, strict=True)
        selections.append((name, tuple(slice(i * n, min((i + 1) * n, length)) for i, n, length in pairs)))
    return selections


def _places(plan: CubePlan) -> list[tuple[str, int, Tile]]:
    tiles = tuple(plan.region.grid.tiles())
    steps = range(plan.schema.n_steps)
    return [(layer.name, step, tile) for layer in plan.schema.layers for step in steps for tile in tiles]


def _array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    array = group[name]
    if not isinstance(array, zarr.Array):
        raise TypeError(f"{name} is a group, not an array")
    return array


LIMIT = Contender(
    "limit",
    _run,
    lambda _: True,
    "no resampling at all: what reading and writing alone cost",
    is_judged=False,
    prepare=_prepare,
)
