"""Source chunks, read once: aggregated where they hold members, kept while others need them.

A *block* is what the chunks at one place of the lattice hold for the steps of one job: (step, row, column) in native
dtype, or float32 where an ensemble has been aggregated. Aggregated blocks are a fifth of the raw ones and less, so
it is those that are kept.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from scs2_cubes.core.grid import Window
from scs2_cubes.core.native import NativeArray, NativeDataset
from scs2_cubes.core.resample import aggregate_each
from scs2_cubes.core.variables import Statistic

__all__ = ["Block", "BlockKey", "Chunks", "Memory", "StoredChunk", "Uses", "chunks_of_block", "make_block"]

#: (chunk numbers, pixels or None) of the chunks of a block.
Chunks = Iterable[tuple[tuple[int, ...], npt.NDArray[Any] | None]]


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


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """One chunk as the source stores it."""

    encoded: bytes | None
    """Its bytes; None where the source stores none."""

    @property
    def nbytes(self) -> int:
        return len(self.encoded or b"")


def chunks_of_block(native: NativeDataset, array: NativeArray, key: BlockKey) -> list[tuple[int, ...]]:
    """Chunk numbers, in the order of ``array.dims``, of what a block is made of."""
    return list(product(*_chunk_numbers(native, array, key)))


def make_block(
    native: NativeDataset,
    array: NativeArray,
    key: BlockKey,
    window: Window,
    statistics: tuple[Statistic | None, ...],
    nodata: float | None,
    chunks: Chunks,
) -> Block:
    """A block from its ``chunks``: (chunk numbers, pixels or None where the source stores none), each taken once.

    ``window``: its pixels on the source's lattice.
    """
    count, absent, stored = 0, 0, False
    values: npt.NDArray[Any] | None = None
    for index, chunk in chunks:
        count += 1
        absent += chunk is None
        stored = stored or chunk is not None
        if values is None and chunk is not None and _is_whole(native, array, key):
            # A part of a chunk at the source's edge would hold all of it in memory.
            whole = chunk if chunk.base is None or chunk.size == np.prod(array.chunks) else chunk.copy()
            values = _in_order(native, array, whole).reshape(1, 1, *window.shape)
            continue
        if values is None:
            values = _blank(native, array, key, window)
        _put(native, array, key, values, index, chunk, nodata)
    if values is None or (not stored and _is_nodata(_absent_value(array, nodata), nodata)):
        return Block(None, count, absent)
    if statistics == (None,):
        return Block({None: values.reshape(-1, *window.shape)}, count, absent)
    wanted = [statistic for statistic in statistics if statistic is not None]
    steps = [aggregate_each(members, wanted, nodata=nodata) for members in values]
    planes: dict[Statistic | None, npt.NDArray[Any]] = {
        statistic: np.stack([step[statistic] for step in steps]) for statistic in wanted
    }
    return Block(planes, count, absent)


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


def _members_dim(native: NativeDataset, array: NativeArray) -> str | None:
    return next((dim for dim in array.dims if dim not in {native.y_dim, native.x_dim, native.time_dim}), None)


def _is_whole(native: NativeDataset, array: NativeArray, key: BlockKey) -> bool:
    """True where a block is one chunk as it stands: one step, no members."""
    extra = [size for dim, size in zip(array.dims, array.chunks, strict=True) if dim == native.time_dim]
    return len(key.steps) == 1 and extra in ([], [1]) and _members_dim(native, array) is None


def _in_order(native: NativeDataset, array: NativeArray, chunk: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A chunk with its dimensions as (step, member, row, column), those that it has."""
    order = [native.time_dim, _members_dim(native, array), native.y_dim, native.x_dim]
    return chunk.transpose([array.dims.index(dim) for dim in order if dim in array.dims])


def _blank(native: NativeDataset, array: NativeArray, key: BlockKey, window: Window) -> npt.NDArray[Any]:
    """(step, member, row, column), to be filled; without members, one."""
    members = _members_dim(native, array)
    n_members = array.shape[array.dims.index(members)] if members else 1
    return np.empty((len(key.steps), n_members, *window.shape), dtype=array.dtype)


def _put(
    native: NativeDataset,
    array: NativeArray,
    key: BlockKey,
    out: npt.NDArray[Any],
    index: tuple[int, ...],
    chunk: npt.NDArray[Any] | None,
    nodata: float | None,
) -> None:
    """Write what one chunk holds of a block into ``out``, (step, member, row, column)."""
    members = _members_dim(native, array)
    time = native.time_dim if native.time_dim in array.dims else None
    number, size = dict(zip(array.dims, index, strict=True)), dict(zip(array.dims, array.chunks, strict=True))
    start = number[members] * size[members] if members else 0
    stop = min(start + size[members], out.shape[1]) if members else 1
    # A function sees all steps at once, which may lie in as many chunks.
    first, length = (0, 1) if time is None else (number[time] * size[time], size[time])
    positions = [position for position, step in enumerate(key.steps) if first <= step < first + length]
    if chunk is None:
        out[positions, start:stop] = _absent_value(array, nodata)
        return
    values = _in_order(native, array, chunk)
    values = values[np.newaxis] if time is None else values[[key.steps[one] - first for one in positions]]
    out[positions, start:stop] = values if members else values[:, np.newaxis]


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


class Sized(Protocol):
    """Something whose size in memory is known."""

    @property
    def nbytes(self) -> int:
        """Bytes."""
        ...


K = TypeVar("K")
V = TypeVar("V", bound=Sized)


@dataclass
class Memory(Generic[K, V]):
    """What several tiles need, up to ``capacity`` bytes; what wasn't used for longest goes first.

    Two threads that want the same thing at once wait for one load. What only one tile needs isn't kept.

    Rows of tiles come one after the other, and each needs what the one before had: where that is more than fits, the
    one unused for longest is always the one needed next, and all of it would be loaded twice. With ``lasting`` what
    fits stays, and the rest alone is loaded again.
    """

    capacity: int
    lasting: int | None = None
    """Turns away from the one in which it was last wanted in which nothing is pushed out; None: it always may be."""
    _held: OrderedDict[K, V] = field(default_factory=OrderedDict, repr=False)
    _running: dict[K, Future[V]] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _turns: dict[K, int] = field(default_factory=dict, repr=False)
    _bytes: int = 0

    def __contains__(self, key: K) -> bool:
        """Whether it is held, or being loaded."""
        with self._lock:
            return key in self._held or key in self._running

    def holds(self, key: K) -> bool:
        """Whether it is held; not, where it is only being loaded."""
        with self._lock:
            return key in self._held

    def get(self, key: K, load: Callable[[], V], *, keep: bool, turn: int = 0) -> V:
        """What is held as ``key``, or what ``load`` returns. What ``load`` raises reaches everyone who waits for it.

        ``turn``: the row of the tile that wants it; rows come in order, from either end.
        """
        with self._lock:
            if (held := self._held.get(key)) is not None:
                self._held.move_to_end(key)
                self._turns[key] = turn
                return held
            running = self._running.get(key)
            if running is None:
                mine = self._running[key] = Future[V]()
        if running is not None:
            return running.result()
        return self._load(key, load, mine, turn if keep else None)

    def drop(self, key: K) -> None:
        """Hold ``key`` no longer."""
        with self._lock:
            if key in self._held:
                self._push_out(key)

    def _load(self, key: K, load: Callable[[], V], mine: Future[V], turn: int | None) -> V:
        try:
            loaded = load()
        except BaseException as error:
            # Everything, an interruption too: whoever waits for this must not wait for ever.
            with self._lock:
                del self._running[key]
            mine.set_exception(error)
            raise
        with self._lock:
            del self._running[key]
            if turn is not None:
                self._keep(key, loaded, turn)
        mine.set_result(loaded)
        return loaded

    def _keep(self, key: K, loaded: V, turn: int) -> None:
        if loaded.nbytes > self.capacity:
            return
        while self._bytes + loaded.nbytes > self.capacity:
            oldest = next(iter(self._held))
            if self.lasting is not None and abs(self._turns[oldest] - turn) <= self.lasting:
                # It passes through.
                return
            self._push_out(oldest)
        self._held[key] = loaded
        self._turns[key] = turn
        self._bytes += loaded.nbytes

    def _push_out(self, key: K) -> None:
        self._bytes -= self._held.pop(key).nbytes
        del self._turns[key]


@dataclass
class Uses(Generic[K]):
    """How often something was used. Safe to share between threads."""

    _counts: Counter[K] = field(default_factory=Counter, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, key: K) -> int:
        """Count one more use of ``key``; returns how many there are now."""
        with self._lock:
            self._counts[key] += 1
            return self._counts[key]
