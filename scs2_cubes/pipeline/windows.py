"""Windows of a source on a worker: read chunk by chunk, or handed to a user's function first."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.pool import AsyncResult, ThreadPool
from typing import Any

import numpy as np
import numpy.typing as npt

from scs2_cubes.core.grid import Tile, Window
from scs2_cubes.core.native import NativeArray, NativeDataset
from scs2_cubes.core.specification import FunctionSpec
from scs2_cubes.core.variables import Statistic
from scs2_cubes.pipeline.blocks import Block, BlockKey, Chunks, Memory, StoredChunk, Uses, chunks_of_block, make_block
from scs2_cubes.pipeline.heap import release_free_memory
from scs2_cubes.pipeline.layers import LayerPlan
from scs2_cubes.pipeline.plan import CubePlan, Job, blocks_of
from scs2_cubes.processing import apply_function, decode_window, load_function, narrow_times, output_planes
from scs2_cubes.processing.functions import Function
from scs2_cubes.sources import ChunkReader

__all__ = ["Plane", "WindowFunction", "WindowPlanes", "WindowReader"]

#: Chunks that one job asks for at once: enough to hide a latency of tens of milliseconds behind decoding.
READS_AT_ONCE = 8
#: … unless they are large: bytes of their pixels, which take several times longer to compute than to fetch.
READ_AHEAD_BYTES = 32 * 2**20
#: Bytes of blocks that a process keeps for the tiles around the present one. Tiles of 2048 x 2048 at 30 m share a rim
#: of blocks of about 1 MB (GAMI, aggregated) to 16 MB (a float of 30 m).
BLOCK_BYTES = 72 * 2**20
#: Bytes of stored chunks that it keeps for the next row of tiles: a rim of all arrays and steps.
STORED_BYTES = 96 * 2**20

#: (chunk numbers, answer with its bytes) of the chunks of a block.
_Answers = list[tuple[tuple[int, ...], "AsyncResult[StoredChunk]"]]


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
    source_valid: Mapping[str, npt.NDArray[np.uint8]] = field(default_factory=dict)
    """Variable → where the source has a value, (step, row, columns / 8), before a function that has kept its name.

    One bit for each pixel (np.packbits): this stays with the planes while they are worked on.
    """

    def valid_before(self, layer: LayerPlan, position: int) -> npt.NDArray[np.uint8] | None:
        """(row, column): 1 where the source had a value before the function, or None where nobody knows."""
        packed = self.source_valid.get(layer.array)
        return None if packed is None else np.unpackbits(packed[position], axis=-1, count=self.window.width)

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
    """Reads windows through memories of what was read; shared by the threads of a process.

    Blocks are kept for the tiles around; where they aren't aggregated also as they are stored: the next row's tiles
    come when the pixels have long been pushed out, and stored bytes are a tenth of them, or at most half.
    """

    plan: CubePlan
    reader: ChunkReader
    tiles: frozenset[tuple[int, int]]
    """(row, column) of the tiles that are to be made: what they need is worth keeping."""
    blocks: Memory[BlockKey, Block]
    stored: Memory[tuple[str, tuple[int, ...]], StoredChunk]
    uses: Uses[BlockKey]

    @classmethod
    def over(cls, plan: CubePlan, reader: ChunkReader, tiles: frozenset[tuple[int, int]]) -> WindowReader:
        """A reader for ``tiles`` of ``plan``, with empty memories."""
        return cls(plan, reader, tiles, Memory(BLOCK_BYTES), Memory(STORED_BYTES, lasting=1), Uses())

    def aggregated(self, tile: Tile, job: Job, window: Window, layers: tuple[LayerPlan, ...]) -> WindowPlanes:
        """One array over ``window``, what ``tile`` needs, for a job's steps, per statistic of ``layers``."""
        array = self.plan.native.array(layers[0].array)
        steps = tuple(self.plan.source_steps[step] for step in job.steps)
        statistics = tuple(dict.fromkeys(layer.statistic for layer in layers))
        nodata = layers[0].nodata
        stacks: dict[tuple[str, Statistic | None], npt.NDArray[Any]] = {}
        counts = _Counts()
        for statistic, stack in self._stacks(tile, array, window, steps, statistics, nodata, counts).items():
            stacks[array.name, statistic] = stack
        return WindowPlanes(window, stacks, {array.name: nodata}, counts.chunks, counts.absent)

    def raw(
        self, tile: Tile, array: NativeArray, window: Window, nodata: float | None
    ) -> tuple[npt.NDArray[Any], int, int]:
        """(stored numbers over ``window`` for all steps that a function sees, chunks touched, chunks absent).

        Dimensions are in stored order.
        """
        native, steps = self.plan.native, self.plan.source_steps
        counts = _Counts()
        n_members = _members(native, array)
        stack = self._stacks(tile, array, window, steps, (None,), nodata, counts).get(None)
        if stack is None:
            shape = (len(steps) * n_members, *window.shape)
            stack = np.full(shape, _empty_value(array, None, nodata), dtype=array.dtype)
        planes = _stored_order(native, array, stack.reshape(len(steps), n_members, *window.shape))
        return planes, counts.chunks, counts.absent

    def _stacks(
        self,
        tile: Tile,
        array: NativeArray,
        window: Window,
        steps: tuple[int, ...],
        statistics: tuple[Statistic | None, ...],
        nodata: float | None,
        counts: _Counts,
    ) -> dict[Statistic | None, npt.NDArray[Any]]:
        """Statistic → (plane, row, column) over ``window``; empty where the source stores nothing.

        Each block is let go as soon as it is in its place.
        """
        stacks: dict[Statistic | None, npt.NDArray[Any]] = {}
        void: list[Window] = []
        for pixels, block in self._blocks(tile, array, window, steps, statistics, nodata):
            counts.add(block)
            part = window.intersection(pixels)
            if part is None:
                continue
            if block.planes is None:
                void.append(part)
                continue
            target, source = part.relative_to(window).slices, part.relative_to(pixels).slices
            for statistic, planes in block.planes.items():
                if statistic not in stacks:
                    stacks[statistic] = np.empty((len(planes), *window.shape), planes.dtype)
                stacks[statistic][(slice(None), *target)] = planes[(slice(None), *source)]
        for statistic, stack in stacks.items():
            for part in void:
                stack[(slice(None), *part.relative_to(window).slices)] = _empty_value(array, statistic, nodata)
        return stacks

    def _blocks(
        self,
        tile: Tile,
        array: NativeArray,
        window: Window,
        steps: tuple[int, ...],
        statistics: tuple[Statistic | None, ...],
        nodata: float | None,
    ) -> Iterator[tuple[Window, Block]]:
        """(pixels, block) of the blocks under ``window``: asked for ahead, made one after the other."""
        native = self.plan.native
        # An array without the time dimension has one plane, whatever the steps.
        steps = steps if native.time_dim in array.dims else (0,)
        around = self._windows_around(tile)
        wanted = []
        for place, pixels in blocks_of(native, array, window):
            others = sum(other.intersection(pixels) is not None for other in around)
            # Aggregated blocks are smaller than the chunks that they are made of.
            again = others > 0 and statistics == (None,)
            wanted.append(_Wanted(BlockKey(array.name, steps, place), pixels, tile.row, others, again))
        # What is held comes first, lest it be pushed out by what isn't.
        wanted.sort(key=lambda one: not self.blocks.holds(one.key))
        ahead = max(2, min(READS_AT_ONCE, READ_AHEAD_BYTES // _chunk_bytes(array)))
        # Its threads are daemons, so that an interrupted process doesn't wait for a server that is silent.
        with ThreadPool(min(ahead, READS_AT_ONCE)) as pool:
            for one, answers in self._asked_ahead(array, wanted, pool, ahead):

                def load(one: _Wanted = one, answers: _Answers = answers) -> Block:
                    chunks = self._decoded(array, one, answers)
                    return make_block(native, array, one.key, one.pixels, statistics, nodata, chunks)

                yield one.pixels, self.blocks.get(one.key, load, keep=one.others > 0)
                self._let_go(array, window, one)
                release_free_memory()

    def _asked_ahead(
        self, array: NativeArray, wanted: list[_Wanted], pool: ThreadPool, ahead: int
    ) -> Iterator[tuple[_Wanted, _Answers]]:
        """Each block with its chunks, asked for while earlier ones are worked on: at most about ``ahead`` chunks."""
        waiting: deque[tuple[_Wanted, _Answers]] = deque()
        pending = 0
        for one in wanted:
            # What is held needs no bytes.
            indices = [] if one.key in self.blocks else chunks_of_block(self.plan.native, array, one.key)
            answers = [(index, pool.apply_async(self._fetch_ahead, (array, index, one))) for index in indices]
            waiting.append((one, answers))
            pending += len(answers)
            while pending > ahead and waiting:
                first = waiting.popleft()
                pending -= len(first[1])
                yield first
        yield from waiting

    def _decoded(self, array: NativeArray, one: _Wanted, answers: _Answers) -> Chunks:
        if not answers:
            # It was held when the others were asked for.
            for index in chunks_of_block(self.plan.native, array, one.key):
                yield index, self._pixels(array, index, self._fetch(array, index, one))
        for index, answer in answers:
            try:
                chunk = answer.get()
            except _BlockHeldError:
                # It was, but has been pushed out since.
                chunk = self._fetch(array, index, one)
            yield index, self._pixels(array, index, chunk)

    def _fetch(self, array: NativeArray, index: tuple[int, ...], one: _Wanted) -> StoredChunk:
        def load() -> StoredChunk:
            return StoredChunk(self.reader.fetch_chunk(array, index))

        while True:
            # One that was asked for ahead may be on its way, and find that nobody needs it.
            with suppress(_BlockHeldError):
                return self.stored.get((array.name, index), load, keep=one.others > 0, turn=one.row)

    def _fetch_ahead(self, array: NativeArray, index: tuple[int, ...], one: _Wanted) -> StoredChunk:
        """Raises _BlockHeldError where another thread has made the block, and dropped its bytes, since this was asked.

        Looked at once the bytes are known to be missing: earlier, the other thread might still be about to drop them.
        """

        def load() -> StoredChunk:
            if self.blocks.holds(one.key):
                raise _BlockHeldError
            return StoredChunk(self.reader.fetch_chunk(array, index))

        return self.stored.get((array.name, index), load, keep=one.others > 0, turn=one.row)

    def _pixels(self, array: NativeArray, index: tuple[int, ...], chunk: StoredChunk) -> npt.NDArray[Any] | None:
        return None if chunk.encoded is None else self.reader.decode_chunk(array, index, chunk.encoded)

    def _let_go(self, array: NativeArray, window: Window, one: _Wanted) -> None:
        """Hold a block no longer once every tile that needs it has had it.

        Where only some of them are made, or it is larger than a tile's window and may be needed from farther away, it
        stays until others push it out.
        """
        if not one.again:
            # Held only until the block is, for another thread that asks ahead at the same time.
            self._drop_stored(array, one.key)
        is_large = one.pixels.height > window.height or one.pixels.width > window.width
        if self.uses.add(one.key) > one.others and not is_large:
            self.blocks.drop(one.key)
            self._drop_stored(array, one.key)

    def _drop_stored(self, array: NativeArray, key: BlockKey) -> None:
        for index in chunks_of_block(self.plan.native, array, key):
            self.stored.drop((array.name, index))

    def _windows_around(self, tile: Tile) -> list[Window]:
        """Source windows of the tiles around ``tile`` that are to be made."""
        grid = self.plan.region.grid
        windows = [
            self.plan.tile_window(grid.tile(row, col))
            for row in range(max(tile.row - 1, 0), min(tile.row + 2, grid.tile_rows))
            for col in range(max(tile.col - 1, 0), min(tile.col + 2, grid.tile_cols))
            if (row, col) != (tile.row, tile.col) and (row, col) in self.tiles
        ]
        return [window for window in windows if window is not None]


class _BlockHeldError(Exception):
    """A chunk's bytes aren't needed: its block is there."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A block that a window needs."""

    key: BlockKey
    pixels: Window
    """Its pixels on the source's lattice."""
    row: int
    """Of the tile that needs it."""
    others: int
    """How many of the tiles around this one need it, too."""
    again: bool
    """Whether its bytes as stored are worth keeping for them, should its pixels be pushed out."""


@dataclass
class _Counts:
    """Source chunks that a window touches, and those that the source doesn't store."""

    chunks: int = 0
    absent: int = 0

    def add(self, block: Block) -> None:
        self.chunks += block.chunks
        self.absent += block.absent


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
        before: dict[str, npt.NDArray[np.uint8]] = {}
        for layer in self.plan.layers:
            if layer.output is None:
                continue
            values, valid = output_planes(
                self.spec, self.seen, result, window, layer.output, arrays, nodata.get(layer.array)
            )
            stacks[layer.array, None], fills[layer.array] = _masked(values, valid, layer)
            if layer.array in arrays:
                before[layer.array] = np.packbits(valid, axis=-1)
        chunks = sum(touched for _, touched, _ in raw.values())
        absent = sum(missing for _, _, missing in raw.values())
        return WindowPlanes(window, stacks, fills, chunks, absent, before)


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


def _empty_value(array: NativeArray, statistic: Statistic | None, nodata: float | None) -> Any:
    """What a block that the source doesn't store, and that means no value, reads as."""
    if statistic is not None:
        return np.float32(np.nan)
    dtype = np.dtype(array.dtype)
    if nodata is None:
        # Only floats get here: without nodata an absent block of integers is read as its fill.
        return np.asarray(np.nan if dtype.kind == "f" else 0, dtype)[()]
    return np.asarray(nodata, dtype)[()]


def _chunk_bytes(array: NativeArray) -> int:
    return int(np.prod(array.chunks)) * np.dtype(array.dtype).itemsize


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
