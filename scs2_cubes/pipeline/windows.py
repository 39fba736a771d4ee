"""Windows of a source on a worker: read chunk by chunk, or handed to a user's function first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from multiprocessing.pool import ThreadPool
from typing import Any

import numpy as np
import numpy.typing as npt

from scs2_cubes.core.grid import Tile, Window
from scs2_cubes.core.native import NativeArray, NativeDataset
from scs2_cubes.core.specification import FunctionSpec
from scs2_cubes.core.variables import Statistic
from scs2_cubes.pipeline.blocks import Block, BlockCache, BlockKey, load_block
from scs2_cubes.pipeline.layers import LayerPlan
from scs2_cubes.pipeline.plan import CubePlan, Job, blocks_of
from scs2_cubes.processing import apply_function, decode_window, load_function, narrow_times, output_planes
from scs2_cubes.processing.functions import Function
from scs2_cubes.sources import ChunkReader

__all__ = ["Plane", "WindowFunction", "WindowPlanes", "WindowReader"]

#: Chunks that one job asks for at once: enough to hide a latency of tens of milliseconds behind decoding.
READS_AT_ONCE = 6


@dataclass(frozen=True, slots=True)
class Plane:
    """One plane of a window."""

    values: npt.NDArray[Any]
    """(row, column)."""
    nodata: float | None
    """The number that means "no value"; NaN always does."""


@dataclass(frozen=True, slots=True)
class WindowPlanes:
    """The planes of a window: (array, statistic) → (step, row, column), or nothing where the source stores nothing."""

    window: Window
    """Its pixels on the source's lattice."""
    stacks: Mapping[tuple[str, Statistic | None], npt.NDArray[Any]]
    """The planes."""
    nodata: Mapping[str, float | None]
    """Array → the number that means "no value", where members aren't aggregated."""
    chunks: int
    """Source chunks that it touches."""
    absent: int
    """Those that the source doesn't store."""

    def plane(self, layer: LayerPlan, position: int) -> Plane | None:
        """One step of a layer, or None where the source stores nothing in the window."""
        stack = self.stacks.get((layer.array, layer.statistic))
        if stack is None:
            return None
        # Aggregated members are NaN where there is no value.
        nodata = None if layer.statistic is not None else self.nodata[layer.array]
        return Plane(stack[position], nodata)


@dataclass(frozen=True)
class WindowReader:
    """Reads windows through a cache of blocks; shared by the threads of a process."""

    plan: CubePlan
    reader: ChunkReader
    cache: BlockCache

    def aggregated(self, tile: Tile, job: Job, window: Window, layers: tuple[LayerPlan, ...]) -> WindowPlanes:
        """One array over ``window``, what ``tile`` needs, for a job's steps, per statistic of ``layers``."""
        array = self.plan.native.array(layers[0].array)
        steps = tuple(self.plan.source_steps[step] for step in job.steps)
        statistics = tuple(dict.fromkeys(layer.statistic for layer in layers))
        nodata = layers[0].nodata
        blocks = self._blocks(array, window, steps, statistics, nodata, self._neighbouring_windows(tile))
        stacks = {}
        if any(block.planes is not None for _, block in blocks):
            for statistic in statistics:
                stacks[array.name, statistic] = _stack(
                    window, blocks, statistic, _empty_value(array, statistic, nodata)
                )
        return WindowPlanes(window, stacks, {array.name: nodata}, *_counts(blocks))

    def raw(
        self, tile: Tile, array: NativeArray, window: Window, nodata: float | None
    ) -> tuple[npt.NDArray[Any], int, int]:
        """(stored numbers over ``window`` for all steps that a function sees, chunks touched, chunks absent).

        Dimensions are in stored order.
        """
        native, steps = self.plan.native, self.plan.source_steps
        blocks = self._blocks(array, window, steps, (None,), nodata, self._neighbouring_windows(tile))
        n_members = _members(native, array)
        if all(block.planes is None for _, block in blocks):
            shape = (len(steps) * n_members, *window.shape)
            stack = np.full(shape, _empty_value(array, None, nodata), dtype=array.dtype)
        else:
            stack = _stack(window, blocks, None, _empty_value(array, None, nodata))
        return _stored_order(native, array, stack.reshape(len(steps), n_members, *window.shape)), *_counts(blocks)

    def _blocks(
        self,
        array: NativeArray,
        window: Window,
        steps: tuple[int, ...],
        statistics: tuple[Statistic | None, ...],
        nodata: float | None,
        neighbours: list[Window],
    ) -> list[tuple[Window, Block]]:
        native = self.plan.native
        # An array without the time dimension has one plane, whatever the steps.
        steps = steps if native.time_dim in array.dims else (0,)
        places = list(blocks_of(native, array, window))

        def fetch(place: tuple[int, int], pixels: Window) -> Block:
            key = BlockKey(array.name, steps, place)
            load = partial(load_block, self.reader, native, array, key, pixels, statistics, nodata)
            shared = any(other.intersection(pixels) for other in neighbours)
            return self.cache.get(key, load, keep=shared)

        # Its threads are daemons, so that an interrupted process doesn't wait for a server that is silent.
        with ThreadPool(min(READS_AT_ONCE, len(places))) as pool:
            running = [pool.apply_async(fetch, place) for place in places]
            return [(pixels, answer.get()) for (_, pixels), answer in zip(places, running, strict=True)]

    def _neighbouring_windows(self, tile: Tile) -> list[Window]:
        """Source windows of the tiles around ``tile``: what they need, too, is worth keeping."""
        grid = self.plan.region.grid
        windows = [
            self.plan.tile_window(grid.tile(row, col))
            for row in range(max(tile.row - 1, 0), min(tile.row + 2, grid.tile_rows))
            for col in range(max(tile.col - 1, 0), min(tile.col + 2, grid.tile_cols))
            if (row, col) != (tile.row, tile.col)
        ]
        return [window for window in windows if window is not None]


@dataclass(frozen=True)
class WindowFunction:
    """A user's function, loaded once in a process, and what it sees of the source."""

    plan: CubePlan
    spec: FunctionSpec
    function: Function
    seen: NativeDataset

    @classmethod
    def load(cls, plan: CubePlan, spec: FunctionSpec) -> WindowFunction:
        """Run the module's text. Raises ProcessingError."""
        return cls(plan, spec, load_function(spec), narrow_times(plan.native, plan.source_steps))

    def apply(self, reader: WindowReader, tile: Tile, window: Window) -> WindowPlanes:
        """Read ``window``, what ``tile`` needs, of all variables and times, and call the function.

        The source's validity is carried past it. Raises ProcessingError, and what reading raises.
        """
        nodata = {layer.array: layer.nodata for layer in self.plan.layers}
        raw = {
            array.name: reader.raw(tile, array, window, nodata.get(array.name, array.fill))
            for array in self.plan.native.arrays
        }
        arrays = {name: values for name, (values, _, _) in raw.items()}
        result = apply_function(self.spec, self.function, decode_window(self.seen, arrays, window))
        stacks: dict[tuple[str, Statistic | None], npt.NDArray[Any]] = {}
        fills: dict[str, float | None] = {}
        for layer in self.plan.layers:
            if layer.output is None:
                continue
            values, valid = output_planes(
                self.spec, self.seen, result, window, layer.output, arrays, nodata.get(layer.array)
            )
            stacks[layer.array, None], fills[layer.array] = _masked(values, valid, layer)
        chunks = sum(touched for _, touched, _ in raw.values())
        absent = sum(missing for _, _, missing in raw.values())
        return WindowPlanes(window, stacks, fills, chunks, absent)


def _masked(
    values: npt.NDArray[Any], valid: npt.NDArray[np.bool_], layer: LayerPlan
) -> tuple[npt.NDArray[Any], float | None]:
    """(values with "no value" where they aren't valid, the number for it)."""
    if values.dtype.kind == "f":
        return np.where(valid, values, values.dtype.type(np.nan)), None
    fill = layer.variable.fill
    if np.isnan(fill):
        # Every number of an integer dtype may be a value here, so that none of them can mean "no value".
        floats = values.astype(np.promote_types(values.dtype, np.float32))
        return np.where(valid, floats, floats.dtype.type(np.nan)), None
    nothing = int(fill)
    # A dtype that can hold both, whatever the user's cast has left.
    dtype = np.promote_types(values.dtype if values.dtype.kind != "b" else np.uint8, np.min_scalar_type(nothing))
    return np.where(valid, values.astype(dtype), dtype.type(nothing)), float(nothing)


def _stack(
    window: Window, blocks: list[tuple[Window, Block]], statistic: Statistic | None, nothing: Any
) -> npt.NDArray[Any]:
    """(plane, row, column) over ``window`` from its blocks; ``nothing`` where the source stores none."""
    known = next(block.planes[statistic] for _, block in blocks if block.planes is not None)
    stack: npt.NDArray[Any] = np.empty((len(known), *window.shape), known.dtype)
    for pixels, block in blocks:
        part = window.intersection(pixels)
        if part is not None:
            target = (slice(None), *part.relative_to(window).slices)
            source = (slice(None), *part.relative_to(pixels).slices)
            stack[target] = nothing if block.planes is None else block.planes[statistic][source]
    return stack


def _empty_value(array: NativeArray, statistic: Statistic | None, nodata: float | None) -> Any:
    """What a block that the source doesn't store, and that means no value, reads as."""
    if statistic is not None:
        return np.float32(np.nan)
    dtype = np.dtype(array.dtype)
    if nodata is None:
        # Only floats get here: without nodata an absent block of integers is read as its fill.
        return np.asarray(np.nan if dtype.kind == "f" else 0, dtype)[()]
    return np.asarray(nodata, dtype)[()]


def _counts(blocks: list[tuple[Window, Block]]) -> tuple[int, int]:
    return sum(block.chunks for _, block in blocks), sum(block.absent for _, block in blocks)


def _members(native: NativeDataset, array: NativeArray) -> int:
    known = {native.y_dim, native.x_dim, native.time_dim}
    return int(np.prod([size for dim, size in zip(array.dims, array.shape, strict=True) if dim not in known]))


def _stored_order(native: NativeDataset, array: NativeArray, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(step, member, row, column) → the dimensions of ``array``, in their stored order."""
    known = {native.time_dim, native.y_dim, native.x_dim}
    members: str | None = next((dim for dim in array.dims if dim not in known), None)
    canonical = [native.time_dim, members, native.y_dim, native.x_dim]
    squeezed = tuple(axis for axis, dim in enumerate(canonical) if dim not in array.dims)
    present = [dim for dim in canonical if dim in array.dims]
    return values.squeeze(axis=squeezed).transpose([present.index(dim) for dim in array.dims])
