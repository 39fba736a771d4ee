"""One tile's way on a worker: read the window, resample by kind, write the region, record it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from scs2_cubes.core.cube import TileRecord
from scs2_cubes.core.facts import POINTWISE, SourcePixels, count_source_pixels, sample_of, source_pixels
from scs2_cubes.core.grid import Tile, Window
from scs2_cubes.core.resample import resample
from scs2_cubes.core.transform import Nodes
from scs2_cubes.errors import ProcessingError
from scs2_cubes.pipeline.claims import TileStore
from scs2_cubes.pipeline.heap import release_free_memory
from scs2_cubes.pipeline.installations import source_fingerprint
from scs2_cubes.pipeline.layers import LayerPlan
from scs2_cubes.pipeline.plan import CubePlan, Job
from scs2_cubes.pipeline.windows import Plane, WindowFunction, WindowPlanes, WindowReader
from scs2_cubes.preload import open_reader

__all__ = ["JobResult", "Workshop"]

#: Every so manyth row and column is enough to see that a window has values, where most have.
_SAMPLE_STEP = 32

# Remembered from now on: a worker's files may change while it runs, and what it has loaded from them stays.
source_fingerprint()


@dataclass(frozen=True, slots=True)
class JobResult:
    """What one job did; small, because it travels back to the scheduler."""

    valid: Mapping[str, int]
    """Layer → pixels with a value, over the job's steps."""
    source_valid: Mapping[tuple[str, int], int]
    """(layer, step) → pixels of the tile's sample under which the source has a value."""
    function_valid: Mapping[tuple[str, int], int]
    """… under which what the user's function returned has one; empty without a function."""
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


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a tile lies on the source: the same for all its planes."""

    nodes: Nodes
    """Source indices around its window."""
    samples: Mapping[bool, SourcePixels]
    """Whether a method looks at centres alone → the source pixels under its sample; those that are needed."""


@dataclass(frozen=True, slots=True)
class _SourceCounts:
    """Pixels of the tile's sample under which there is a value."""

    source: int | None
    """In the source; None where a function stands between, and has made the variable."""
    function: int | None = None
    """In what the function returned; None where there is none."""


@dataclass(frozen=True, slots=True)
class _PlaneResult:
    """What became of one output plane."""

    layer: str
    """Name of its layer."""
    valid: int
    """Pixels with a value."""
    step: int
    """Which of the layer's."""
    counts: _SourceCounts
    """What it was made from."""
    bytes_written: int
    """Bytes of its chunks."""


@dataclass(frozen=True, slots=True)
class _Tools:
    """What a process opens once."""

    windows: WindowReader
    """Reader of the source, and its cache."""
    function: WindowFunction | None
    """The user's; None where there is none."""


class Workshop:
    """What the tiles of one plan share within one process: a reader and a cache, and the user's function.

    Made once in each process; pickling it takes the plan along and leaves everything else behind. The first tile
    opens them, not the constructor: a workshop is unpickled where a worker fetches it from another one, and an error
    there would leave the tasks waiting for ever (https://github.com/dask/distributed/issues/7060).
    """

    def __init__(self, plan: CubePlan, store: TileStore, tiles: frozenset[tuple[int, int]]) -> None:
        """``tiles``: (row, column) of those that are to be made."""
        self._plan = plan
        self._store = store
        self._tiles = tiles
        self._opened: _Tools | None = None
        self._opening = threading.Lock()
        self._whole: WindowPlanes | None = None
        self._whole_lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return Workshop, (self._plan, self._store, self._tiles)

    @property
    def _tools(self) -> _Tools:
        """Opened now, where they aren't yet. Raises what opening the reader or loading the function does."""
        with self._opening:
            if self._opened is None:
                plan = self._plan
                function = None if plan.processing is None else WindowFunction.load(plan, plan.processing)
                reader = open_reader(plan.native.location)
                self._opened = _Tools(WindowReader.over(plan, reader, self._tiles), function)
            return self._opened

    def run(self, tile: Tile, job: Job) -> JobResult:
        """Make one job's part of ``tile``. The tile's record goes before its pixels: from there on it isn't done."""
        # Before the record goes: where they can't be opened, the tile keeps what it has.
        windows = self._tools.windows
        self._store.remove_record(tile.key)
        window = self._plan.tile_window(tile)
        if job.array is None:
            layers = self._plan.layers
            planes = None if window is None else self._processed(tile, window)
        else:
            layers = self._plan.layers_of(job.array)
            planes = None if window is None else windows.aggregated(tile, job, window, layers)
        place = self._place_of(tile, layers)
        results = [
            self._make_plane(tile, layer, position, step, planes, place)
            for layer in layers
            for position, step in enumerate(job.steps)
        ]
        release_free_memory()
        return JobResult(
            valid=_totals((result.layer, result.valid) for result in results),
            source_valid=_known(((result.layer, result.step), result.counts.source) for result in results),
            function_valid=_known(((result.layer, result.step), result.counts.function) for result in results),
            written=sum(result.valid > 0 for result in results),
            empty=sum(result.valid == 0 for result in results),
            bytes_written=sum(result.bytes_written for result in results),
            source_chunks=planes.chunks if planes else 0,
            source_absent=planes.absent if planes else 0,
        )

    def finish(self, tile: Tile, results: list[JobResult]) -> TileRecord:
        """Record that ``tile`` is done; ``results`` are those of all its jobs."""
        none = [(layer.variable.name, 0) for layer in self._plan.layers]
        record = TileRecord(
            tile=tile.key,
            data_version=self._plan.data_version,
            source_version=self._plan.source_version,
            pixels=tile.window.height * tile.window.width,
            valid=_totals(chain(none, *(result.valid.items() for result in results))),
            chunks_written=sum(result.written for result in results),
            chunks_empty=sum(result.empty for result in results),
            source_chunks=sum(result.source_chunks for result in results),
            source_chunks_absent=sum(result.source_absent for result in results),
            source_valid=self._by_step(chain.from_iterable(result.source_valid.items() for result in results)),
            sampled=sample_of(tile.window).size,
            function_valid=self._by_step(chain.from_iterable(result.function_valid.items() for result in results)),
        )
        self._store.write_record(record)
        return record

    def _by_step(self, counts: Iterable[tuple[tuple[str, int], int]]) -> dict[str, list[int]]:
        """Layer → count by step, in the plan's order; without layers that nothing was counted of."""
        found = dict(counts)
        steps = range(self._plan.schema.n_steps)
        names = [layer.variable.name for layer in self._plan.layers]
        return {
            name: [found.get((name, step), 0) for step in steps]
            for name in names
            if any((name, step) in found for step in steps)
        }

    def _place_of(self, tile: Tile, layers: Iterable[LayerPlan]) -> _Place:
        nodes = self._plan.index_map.nodes(tile.window)
        sample, mapping = sample_of(tile.window), self._plan.index_map
        ways = {layer.method in POINTWISE for layer in layers}
        return _Place(nodes, {way: source_pixels(sample, mapping, nodes, spread=not way) for way in ways})

    def _make_plane(
        self, tile: Tile, layer: LayerPlan, position: int, step: int, planes: WindowPlanes | None, place: _Place
    ) -> _PlaneResult:
        """Make and write one plane."""
        name = layer.variable.name
        source = planes.plane(layer, position) if planes else None
        sample = place.samples[layer.method in POINTWISE]
        counts = self._counted(layer, position, planes, source, sample)
        if planes is None or source is None or _is_void(source):
            self._store.write_plane(self._plan.schema, name, step, tile, None)
            return _PlaneResult(name, 0, step, counts, 0)
        values = resample(
            source.values,
            planes.window,
            self._plan.index_map,
            tile.window,
            layer.method,
            nodata=source.nodata,
            dtype=np.dtype(layer.variable.dtype),
            fill=layer.variable.fill,
            nodes=place.nodes,
        )
        valid = _count_valid(values, layer.variable.fill)
        written = self._store.write_plane(self._plan.schema, name, step, tile, values if valid else None)
        return _PlaneResult(name, valid, step, counts, written)

    def _counted(
        self, layer: LayerPlan, position: int, planes: WindowPlanes | None, source: Plane | None, sample: SourcePixels
    ) -> _SourceCounts:
        """Under how much of the sample the source has values, and what the user's function returned."""
        if self._plan.processing is None:
            return _SourceCounts(_count_under(planes, source, sample))
        if planes is None:
            # The tile lies outside of the source.
            return _SourceCounts(0 if self._is_in_source(layer) else None, 0)
        before = planes.valid_before(layer, position)
        # A number that is stored as fill is no value in the cube, whatever the function meant by it.
        fill = layer.variable.fill
        stored = replace(source, nodata=fill) if source and source.nodata is None and not np.isnan(fill) else source
        return _SourceCounts(
            None if before is None else _count_under(planes, Plane(before, 0), sample),
            _count_under(planes, stored, sample),
        )

    def _is_in_source(self, layer: LayerPlan) -> bool:
        return any(array.name == layer.array for array in self._plan.native.arrays)

    def _processed(self, tile: Tile, window: Window) -> WindowPlanes:
        """What the user's function makes of ``window``; of the whole region's, once, where it isn't local in space."""
        tools = self._tools
        if tools.function is None or self._plan.processing is None:
            raise ProcessingError(f"the plan of {self._plan.identifier} has no function to apply")
        if not self._plan.processing.whole:
            return tools.function.apply(tools.windows, tile, window)
        with self._whole_lock:
            if self._whole is None:
                region = self._plan.region_window()
                self._whole = tools.function.apply(tools.windows, tile, window if region is None else region)
            return self._whole


def _totals(counts: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Name → sum of its counts, in the order in which names come first."""
    totals: dict[str, int] = {}
    for name, count in counts:
        totals[name] = totals.get(name, 0) + count
    return totals


def _known(counts: Iterable[tuple[tuple[str, int], int | None]]) -> dict[tuple[str, int], int]:
    return {place: count for place, count in counts if count is not None}


def _count_under(planes: WindowPlanes | None, plane: Plane | None, sample: SourcePixels) -> int:
    """Pixels of ``sample`` under which ``plane`` has a value."""
    if planes is None or plane is None:
        return 0
    return count_source_pixels(plane.values, planes.window, plane.nodata, sample)


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
