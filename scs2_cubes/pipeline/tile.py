"""One tile's way on a worker: read the window, resample by kind, write the region, record it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scs2_cubes.core.cube import TileRecord
from scs2_cubes.core.grid import Tile, Window
from scs2_cubes.core.resample import resample
from scs2_cubes.errors import ProcessingError
from scs2_cubes.pipeline.layers import LayerPlan
from scs2_cubes.pipeline.plan import CubePlan, Job
from scs2_cubes.pipeline.windows import Plane, WindowFunction, WindowPlanes, WindowReader
from scs2_cubes.preload import open_reader
from scs2_cubes.storage import CubeStore

__all__ = ["JobResult", "Workshop"]

#: Every so manyth row and column is enough to see that a window has values, where most have.
_SAMPLE_STEP = 32


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
        self._windows = WindowReader.over(plan, open_reader(plan.native.location))
        self._function = None if plan.processing is None else WindowFunction.load(plan, plan.processing)
        self._whole: WindowPlanes | None = None
        self._whole_lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return Workshop, (self._plan, self._store)

    def run(self, tile: Tile, job: Job) -> JobResult:
        """Make one job's part of ``tile``. The tile's record goes first: from here on the tile isn't done."""
        self._store.remove_record(tile.key)
        window = self._plan.tile_window(tile)
        if job.array is None:
            layers = self._plan.layers
            planes = None if window is None else self._processed(tile, window)
        else:
            layers = self._plan.layers_of(job.array)
            planes = None if window is None else self._windows.aggregated(tile, job, window, layers)
        results = [
            self._make_plane(tile, layer, position, step, planes)
            for layer in layers
            for position, step in enumerate(job.steps)
        ]
        valid: dict[str, int] = {}
        for name, count, _ in results:
            valid[name] = valid.get(name, 0) + count
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
        self, tile: Tile, layer: LayerPlan, position: int, step: int, planes: WindowPlanes | None
    ) -> tuple[str, int, int]:
        """(layer, valid pixels, bytes written) of one output chunk."""
        name = layer.variable.name
        source = planes.plane(layer, position) if planes else None
        if planes is None or source is None or _is_void(source):
            self._store.write_plane(self._plan.schema, name, step, tile, None)
            return name, 0, 0
        values = resample(
            source.values,
            planes.window,
            self._plan.index_map,
            tile.window,
            layer.method,
            nodata=source.nodata,
            dtype=np.dtype(layer.variable.dtype),
            fill=layer.variable.fill,
        )
        valid = _count_valid(values, layer.variable.fill)
        written = self._store.write_plane(self._plan.schema, name, step, tile, values if valid else None)
        return name, valid, written

    def _processed(self, tile: Tile, window: Window) -> WindowPlanes:
        """What the user's function makes of ``window``; of the whole region's, once, where it isn't local in space."""
        if self._function is None:
            raise ProcessingError(f"the plan of {self._plan.identifier} has no function to apply")
        if self._plan.processing is None or not self._plan.processing.whole:
            return self._function.apply(self._windows, tile, window)
        with self._whole_lock:
            if self._whole is None:
                region = self._plan.region_window()
                self._whole = self._function.apply(self._windows, tile, window if region is None else region)
            return self._whole


def _is_void(plane: Plane) -> bool:
    """True where no pixel has a value: what the kernels would find out more slowly."""
    sample = slice(None, None, _SAMPLE_STEP)
    return _all_nodata(plane.values[sample, sample], plane.nodata) and _all_nodata(plane.values, plane.nodata)


def _all_nodata(values: npt.NDArray[Any], nodata: float | None) -> bool:
    void = values == nodata if nodata is not None else np.zeros(values.shape, dtype=np.bool_)
    return bool(np.all(void | np.isnan(values) if values.dtype.kind == "f" else void))


def _count_valid(values: npt.NDArray[Any], fill: float) -> int:
    if np.isnan(fill):
        return int(values.size - np.count_nonzero(np.isnan(values)))
    return int(np.count_nonzero(values != fill))
