"""Source chunks, read once: fetched side by side, aggregated where they hold members, kept while others need them.

A *block* is what the chunks at one place of the lattice hold for the steps of one job: (step, row, column) in native
dtype, or float32 where an ensemble has been aggregated. Aggregated blocks are a fifth of the raw ones and less, so
it is those that are kept.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from scs2_cubes.core.grid import Window
from scs2_cubes.core.native import NativeArray, NativeDataset
from scs2_cubes.core.resample import aggregate_each
from scs2_cubes.core.variables import Statistic
from scs2_cubes.sources import ChunkReader

__all__ = ["Block", "BlockCache", "BlockKey", "load_block"]


@dataclass(frozen=True, slots=True)
class BlockKey:
    """Which block."""

    array: str
    """Name of the source's array."""
    steps: tuple[int, ...]
    """Positions on the source's time axis; (0,) without one."""
    place: tuple[int, int]
    """(chunk row, chunk column)."""


@dataclass(frozen=True, slots=True)
class Block:
    """The pixels of one block, per statistic (None: no members)."""

    planes: Mapping[Statistic | None, npt.NDArray[Any]] | None
    """Arrays of shape (step, row, column), for None (step and member, row, column), members of a step together; None
    where the source stores nothing here and that means no value."""
    chunks: int
    """Source chunks that it is made of."""
    absent: int
    """Those that the source doesn't store."""

    @property
    def nbytes(self) -> int:
        return sum(plane.nbytes for plane in (self.planes or {}).values())


def load_block(
    reader: ChunkReader,
    native: NativeDataset,
    array: NativeArray,
    key: BlockKey,
    window: Window,
    statistics: tuple[Statistic | None, ...],
    nodata: float | None,
) -> Block:
    """Read a block: one request for each of its chunks. ``window``: its pixels on the source's lattice."""
    numbers = _chunk_numbers(native, array, key)
    chunks = [(index, reader.read_chunk(array, index)) for index in product(*numbers)]
    absent = sum(chunk is None for _, chunk in chunks)
    if absent == len(chunks) and _is_nodata(_absent_value(array, nodata), nodata):
        return Block(None, len(chunks), absent)
    values = _assemble(native, array, key, window, chunks, nodata)
    if statistics == (None,):
        return Block({None: values.reshape(-1, *window.shape)}, len(chunks), absent)
    wanted = [statistic for statistic in statistics if statistic is not None]
    steps = [aggregate_each(members, wanted, nodata=nodata) for members in values]
    planes: dict[Statistic | None, npt.NDArray[Any]] = {
        statistic: np.stack([step[statistic] for step in steps]) for statistic in wanted
    }
    return Block(planes, len(chunks), absent)


def _chunk_numbers(native: NativeDataset, array: NativeArray, key: BlockKey) -> list[range]:
    """Chunk numbers along each dimension of ``array``."""
    numbers = []
    for dim, size, length in zip(array.dims, array.chunks, array.shape, strict=True):
        if dim == native.y_dim:
            numbers.append(range(key.place[0], key.place[0] + 1))
        elif dim == native.x_dim:
            numbers.append(range(key.place[1], key.place[1] + 1))
        elif dim == native.time_dim:
            numbers.append(range(min(key.steps) // size, max(key.steps) // size + 1))
        else:
            numbers.append(range(-(-length // size)))
    return numbers


def _assemble(
    native: NativeDataset,
    array: NativeArray,
    key: BlockKey,
    window: Window,
    chunks: list[tuple[tuple[int, ...], npt.NDArray[Any] | None]],
    nodata: float | None,
) -> npt.NDArray[Any]:
    """(step, member, row, column) from chunks in the array's own order of dimensions; without members, one."""
    members_dim = next((dim for dim in array.dims if dim not in {native.y_dim, native.x_dim, native.time_dim}), None)
    n_members = array.shape[array.dims.index(members_dim)] if members_dim else 1
    time = native.time_dim if native.time_dim in array.dims else None
    out: npt.NDArray[Any] = np.empty((len(key.steps), n_members, *window.shape), dtype=array.dtype)
    order = [dim for dim in (native.time_dim, members_dim, native.y_dim, native.x_dim) if dim in array.dims]
    for index, chunk in chunks:
        number = dict(zip(array.dims, index, strict=True))
        size = dict(zip(array.dims, array.chunks, strict=True))
        start = number[members_dim] * size[members_dim] if members_dim else 0
        stop = min(start + size[members_dim], n_members) if members_dim else 1
        # A function sees all steps at once, which may lie in as many chunks.
        first, length = (0, 1) if time is None else (number[time] * size[time], size[time])
        positions = [position for position, step in enumerate(key.steps) if first <= step < first + length]
        if chunk is None:
            out[positions, start:stop] = _absent_value(array, nodata)
            continue
        values = chunk.transpose([array.dims.index(dim) for dim in order])
        values = values[np.newaxis] if time is None else values[[key.steps[one] - first for one in positions]]
        out[positions, start:stop] = values if members_dim else values[:, np.newaxis]
    return out


def _absent_value(array: NativeArray, nodata: float | None) -> float:
    """What a chunk that isn't stored reads as."""
    if array.absent is not None:
        return array.absent
    if nodata is not None:
        # An undefined fill can only mean "no value".
        return nodata
    # Where nothing means "no value", NaN does for floats, and integers read as zero, as zarr-python has it.
    return float("nan") if np.dtype(array.dtype).kind == "f" else 0.0


def _is_nodata(value: float, nodata: float | None) -> bool:
    return value == nodata or np.isnan(value)


@dataclass
class BlockCache:
    """Blocks that several tiles need, up to ``capacity`` bytes; the one that wasn't used for longest goes first.

    Two threads that want the same block at once wait for one read. Blocks that only one tile needs aren't kept.
    """

    capacity: int
    _blocks: OrderedDict[BlockKey, Block] = field(default_factory=OrderedDict, repr=False)
    _running: dict[BlockKey, Future[Block]] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _bytes: int = 0

    def get(self, key: BlockKey, load: Callable[[], Block], *, keep: bool) -> Block:
        """The block ``key``, from the cache or by ``load``. What ``load`` raises reaches everyone who waits for it."""
        with self._lock:
            if (block := self._blocks.get(key)) is not None:
                self._blocks.move_to_end(key)
                return block
            running = self._running.get(key)
            if running is None:
                mine = self._running[key] = Future[Block]()
        if running is not None:
            return running.result()
        return self._load(key, load, mine, keep=keep)

    def _load(self, key: BlockKey, load: Callable[[], Block], mine: Future[Block], *, keep: bool) -> Block:
        try:
            block = load()
        except BaseException as error:
            # Everything, an interruption too: whoever waits for this block must not wait for ever.
            with self._lock:
                del self._running[key]
            mine.set_exception(error)
            raise
        with self._lock:
            del self._running[key]
            if keep:
                self._keep(key, block)
        mine.set_result(block)
        return block

    def _keep(self, key: BlockKey, block: Block) -> None:
        if block.nbytes > self.capacity:
            return
        self._blocks[key] = block
        self._bytes += block.nbytes
        while self._bytes > self.capacity and self._blocks:
            _, dropped = self._blocks.popitem(last=False)
            self._bytes -= dropped.nbytes
