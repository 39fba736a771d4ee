"""One tile's way on a worker: read the window, resample by kind, write the region, record it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from multiprocessing.pool import ThreadPool
from typing import Any

import numpy as np
import numpy.typing as npt

from scs2_cubes.core.cube import TileRecord
from scs2_cubes.core.grid import Tile, Window
from scs2_cubes.core.native import NativeArray
from scs2_cubes.core.resample import resample
from scs2_cubes.core.variables import Statistic
from scs2_cubes.pipeline.blocks import Block, BlockCache, BlockKey, load_block
from scs2_cubes.pipeline.layers import LayerPlan
from scs2_cubes.pipeline.plan import CubePlan, Job, blocks_of
from scs2_cubes.sources import ChunkReader, open_reader
from scs2_cubes.storage import CubeStore

__all__ = ["JobResult", "Workshop"]

#: Bytes of source blocks that a worker process keeps for neighbouring tiles. Tiles of 2048 x 2048 at 30 m share a
#: rim of blocks of about 1 MB (GAMI, aggregated) or 8 MB (genus); more would only hold what nobody asks for again.
CACHE_BYTES = 96 * 2**20

#: Chunks that one job asks for at once: enough to hide a latency of tens of milliseconds behind decoding.
READS_AT_ONCE = 6


@dataclass(frozen=True, slots=True)
class JobResult:
    """What one job did; small, because it travels back to the scheduler."""

    valid: Mapping[str, int]
    """Layer → pixels with a value, over the job's steps."""
    written: int
    """Chunks that hold a value."""
    empty: int
    """Chunks that hold none."""
    bytes_written: int
    """Bytes of the chunks written."""
    source_chunks: int
    """Source chunks that its windows touch."""
    source_absent: int
    """Those that the source doesn't store."""


class Workshop:
    """What the tiles of one plan share within one process: a reader and a cache.

    Made once in each process; pickling it takes the plan along and leaves everything else behind.
    """

    def __init__(self, plan: CubePlan, store: CubeStore) -> None:
        self._plan = plan
        self._store = store
        self._reader: ChunkReader = open_reader(plan.native.location)
        self._cache = BlockCache(CACHE_BYTES)

    def __reduce__(self) -> tuple[Any, ...]:
        return Workshop, (self._plan, self._store)

    def run(self, tile: Tile, job: Job) -> JobResult:
        """Make one job's part of ``tile``. The tile's record goes first: from here on the tile isn't done."""
        self._store.remove_record(tile.key)
        layers = self._plan.layers_of(job.array)
        window = self._plan.index_map.source_window(tile.window)
        planes = None if window is None else self._read(tile, job, window, layers)
        results = [
            self._make_plane(tile, layer, position, step, planes)
            for layer in layers
            for position, step in enumerate(job.steps)
        ]
        valid: dict[str, int] = {}
        for layer_name, count, _ in results:
            valid[layer_name] = valid.get(layer_name, 0) + count
        return JobResult(
            valid=valid,
            written=sum(count > 0 for _, count, _ in results),
            empty=sum(count == 0 for _, count, _ in results),
            bytes_written=sum(size for _, _, size in results),
            source_chunks=planes.chunks if planes else 0,
            source_absent=planes.absent if planes else 0,
        )

    def finish(self, tile: Tile, results: list[JobResult]) -> TileRecord:
        """Record that ``tile`` is done; ``results`` are those of all its jobs."""
        valid: dict[str, int] = {layer.variable.name: 0 for layer in self._plan.layers}
        for result in results:
            for name, count in result.valid.items():
                valid[name] += count
        record = TileRecord(
            tile=tile.key,
            data_version=self._plan.data_version,
            source_version=self._plan.source_version,
            pixels=tile.window.height * tile.window.width,
            valid=valid,
            chunks_written=sum(result.written for result in results),
            chunks_empty=sum(result.empty for result in results),
            source_chunks=sum(result.source_chunks for result in results),
            source_chunks_absent=sum(result.source_absent for result in results),
        )
        self._store.write_record(record)
        return record

    def _make_plane(
        self, tile: Tile, layer: LayerPlan, position: int, step: int, planes: _WindowPlanes | None
    ) -> tuple[str, int, int]:
        """(layer, valid pixels, bytes written) of one output chunk."""
        name = layer.variable.name
        source = planes.plane(layer.statistic, position) if planes else None
        if planes is None or source is None:
            self._store.write_plane(self._plan.schema, name, step, tile, None)
            return name, 0, 0
        values = resample(
            source,
            planes.window,
            self._plan.index_map,
            tile.window,
            layer.method,
            # Aggregated members are NaN where there is no value.
            nodata=None if layer.statistic is not None else layer.nodata,
            dtype=np.dtype(layer.variable.dtype),
            fill=layer.variable.fill,
        )
        valid = _count_valid(values, layer.variable.fill)
        written = self._store.write_plane(self._plan.schema, name, step, tile, values if valid else None)
        return name, valid, written

    def _read(self, tile: Tile, job: Job, window: Window, layers: tuple[LayerPlan, ...]) -> _WindowPlanes:
        """The pixels of ``window`` for all steps of a job, per statistic."""
        array = self._plan.native.array(job.array)
        steps = tuple(self._plan.source_steps[step] for step in job.steps)
        statistics = tuple(dict.fromkeys(layer.statistic for layer in layers))
        nodata = layers[0].nodata
        native = self._plan.native
        places = list(blocks_of(native, array, window))
        neighbours = self._neighbouring_windows(tile)

        def fetch(place: tuple[int, int], pixels: Window) -> Block:
            key = BlockKey(array.name, steps, place)
            load = partial(load_block, self._reader, native, array, key, pixels, statistics, nodata)
            shared = any(other.intersection(pixels) for other in neighbours)
            return self._cache.get(key, load, keep=shared)

        # Its threads are daemons, so that an interrupted process doesn't wait for a server that is silent.
        with ThreadPool(min(READS_AT_ONCE, len(places))) as pool:
            running = [pool.apply_async(fetch, place) for place in places]
            blocks = [(pixels, answer.get()) for (_, pixels), answer in zip(places, running, strict=True)]
        return _WindowPlanes.assemble(window, len(steps), statistics, blocks, array, nodata)

    def _neighbouring_windows(self, tile: Tile) -> list[Window]:
        """Source windows of the tiles around ``tile``: what they need, too, is worth keeping."""
        grid = self._plan.region.grid
        windows = [
            self._plan.index_map.source_window(grid.tile(row, col).window)
            for row in range(max(tile.row - 1, 0), min(tile.row + 2, grid.tile_rows))
            for col in range(max(tile.col - 1, 0), min(tile.col + 2, grid.tile_cols))
            if (row, col) != (tile.row, tile.col)
        ]
        return [window for window in windows if window is not None]


@dataclass(frozen=True, slots=True)
class _WindowPlanes:
    """The pixels of a window: per statistic (step, row, column), or nothing where the source stores nothing."""

    window: Window
    stacks: Mapping[Statistic | None, npt.NDArray[Any]]
    chunks: int
    absent: int

    @classmethod
    def assemble(
        cls,
        window: Window,
        n_steps: int,
        statistics: tuple[Statistic | None, ...],
        blocks: list[tuple[Window, Block]],
        array: NativeArray,
        nodata: float | None,
    ) -> _WindowPlanes:
        chunks = sum(block.chunks for _, block in blocks)
        absent = sum(block.absent for _, block in blocks)
        if all(block.planes is None for _, block in blocks):
            return cls(window, {}, chunks, absent)
        stacks = {}
        for statistic in statistics:
            dtype = np.dtype(array.dtype) if statistic is None else np.dtype("float32")
            nothing = np.nan if statistic is not None or nodata is None else nodata
            stack: npt.NDArray[Any] = np.empty((n_steps, *window.shape), dtype)
            for pixels, block in blocks:
                part = window.intersection(pixels)
                if part is not None:
                    target = (slice(None), *part.relative_to(window).slices)
                    source = (slice(None), *part.relative_to(pixels).slices)
                    stack[target] = nothing if block.planes is None else block.planes[statistic][source]
            stacks[statistic] = stack
        return cls(window, stacks, chunks, absent)

    def plane(self, statistic: Statistic | None, position: int) -> npt.NDArray[Any] | None:
        """(row, column) of one step, or None where the source stores nothing in the window."""
        stack = self.stacks.get(statistic)
        return None if stack is None else stack[position]


def _count_valid(values: npt.NDArray[Any], fill: float) -> int:
    if np.isnan(fill):
        return int(values.size - np.count_nonzero(np.isnan(values)))
    return int(np.count_nonzero(values != fill))
