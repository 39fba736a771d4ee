"""Brings missing pieces into the cache: each claimed by one, asked for in few large requests, a few at a time.

What is claimed is a *layer*, one array at one time step, because it is the layer's file that requests go to: a
partition's window of it is one request, and two runs that need different parts of it take turns.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import TimeoutError as PoolTimeoutError
from multiprocessing.pool import ThreadPool
from typing import Any

import numpy as np
import numpy.typing as npt

from scs2_cubes.core.grid import Window
from scs2_cubes.core.native import NativeArray, NativeDataset
from scs2_cubes.errors import Scs2CubesError
from scs2_cubes.preload.base import Tell, WantedWindow
from scs2_cubes.preload.claims import Claim, Contender
from scs2_cubes.preload.window_cache import Pieces
from scs2_cubes.preload.window_pieces import PieceLattice, Place, bounds, cover, places_in

__all__ = ["Layer", "Missing", "Tally", "WindowFetch", "layers_of", "missing_of", "wire_bytes"]

#: (array, step, pixels) → values (rows, columns) in native dtype: one request.
ReadWindow = Callable[[NativeArray, int, Window], npt.NDArray[Any]]

#: Bytes of one reply. A partition of ``landes`` has 30 MiB; the memory that a request takes is half as much again.
_MAX_REPLY = 64 * 2**20
#: Seconds between two lines of progress: often enough to see that it moves, rarely enough to read.
_TOLD_EVERY = 10.0
#: Seconds after which one looks again at what others fetch.
_LOOK_AGAIN = 0.5
#: DAP2 sends numbers of 16 bits in 32 (DAP 2.0, section 7.3); bytes travel as they are.
_SMALLEST_NUMBER = 4


@dataclass(frozen=True, slots=True)
class Layer:
    """One array at one time step, and places of it."""

    array: NativeArray
    """Which array."""
    step: int
    """Position on the source's time axis."""
    places: frozenset[Place]
    """The pieces that are meant."""

    @property
    def size(self) -> int:
        """Bytes of the pieces in memory, which they don't exceed in the cache by more than a few."""
        return len(self.places) * PieceLattice.of(self.array).piece_pixels * np.dtype(self.array.dtype).itemsize


@dataclass(frozen=True, slots=True)
class Missing:
    """What the cache lacks of a layer."""

    layer: Layer
    """The layer, with the missing places."""
    blocks: tuple[Window, ...]
    """The requests that they take, as blocks of places; nothing that the cache holds is in them."""

    @property
    def wire_bytes(self) -> int:
        """Bytes that the blocks take as they travel."""
        return sum(wire_bytes(self.layer.array, block) for block in self.blocks)

    @property
    def stored_bytes(self) -> int:
        """Bytes that the blocks take in the cache, at most but for a few."""
        return (
            sum(_pixels(self.layer.array, block) for block in self.blocks) * np.dtype(self.layer.array.dtype).itemsize
        )


def layers_of(native: NativeDataset, wanted: Sequence[WantedWindow]) -> tuple[Layer, ...]:
    """The layers with the places that ``wanted`` touches, by step and array. Raises KeyError for unknown arrays."""
    places: dict[tuple[str, tuple[int, ...]], set[Place]] = {}
    for window in wanted:
        lattice = PieceLattice.of(native.array(window.array))
        places.setdefault((window.array, window.steps), set()).update(lattice.places(window.window))
    layers: dict[tuple[int, str], frozenset[Place]] = {}
    for (array, steps), found in places.items():
        frozen = frozenset(found)
        for step in steps:
            known = layers.get((step, array))
            layers[step, array] = frozen if known is None else known | frozen
    return tuple(Layer(native.array(name), step, layers[step, name]) for step, name in sorted(layers))


def missing_of(pieces: Pieces, layer: Layer) -> Missing:
    """What of ``layer`` isn't in the cache, or isn't good there. Reads all of it that is. Raises StorageError."""
    array, step = layer.array, layer.step
    places = frozenset(place for place in layer.places if not pieces.holds(array, step, place))
    if not places:
        return Missing(Layer(array, step, places), ())
    around = set(places_in(bounds(places))) - places
    held = {place for place in around if pieces.holds(array, step, place)}
    most = max(1, _MAX_REPLY // (PieceLattice.of(array).piece_pixels * _wire_size(array)))
    return Missing(Layer(array, step, places), cover(places, held, most))


def wire_bytes(array: NativeArray, block: Window) -> int:
    """Bytes that a block of places takes as it travels."""
    return _pixels(array, block) * _wire_size(array)


def _pixels(array: NativeArray, block: Window) -> int:
    window = PieceLattice.of(array).pixels(block)
    return window.height * window.width


def _wire_size(array: NativeArray) -> int:
    size = np.dtype(array.dtype).itemsize
    return size if size == 1 else max(size, _SMALLEST_NUMBER)


@dataclass
class Tally:
    """How far a fetch is. Safe to share between threads."""

    layers: int
    """Layers that it has to do with."""
    bytes: int
    """Bytes that it expects to travel."""
    layers_done: int = 0
    """Layers that are there."""
    requests: int = 0
    """Data requests that were answered."""
    fetched: int = 0
    """Bytes of pixels, as they travelled."""
    spared: int = 0
    """Bytes that another run fetched meanwhile."""
    started: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add_reply(self, size: int) -> None:
        with self._lock:
            self.requests += 1
            self.fetched += size

    def add_layer(self, spared: int) -> None:
        with self._lock:
            self.layers_done += 1
            self.spared += spared

    def text(self) -> str:
        """For people: steps and bytes done, rate, time left."""
        seconds = time.monotonic() - self.started
        rate = self.fetched / seconds if seconds > 0 else 0.0
        total = max(self.bytes - self.spared, self.fetched)
        left = f", about {(total - self.fetched) / rate:.0f} s left" if rate > 0 else ""
        done = f"{self.layers_done}/{self.layers} fields, {self.fetched / 1e6:.1f} of {total / 1e6:.1f} MB"
        return f"{done}, {rate / 1e6:.2f} MB/s{left}"


@dataclass(frozen=True, slots=True)
class _Job:
    """What is to be fetched, and what remembers who else wants it."""

    missing: Missing
    contender: Contender


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of a job in one round."""

    job: _Job
    is_done: bool
    error: Scs2CubesError | None = None


@dataclass(frozen=True)
class WindowFetch:
    """Fetches layers' missing pieces."""

    pieces: Pieces
    """Where they go."""
    read: ReadWindow
    """Asks for a window."""
    connections: int
    """How many windows are asked for at once."""
    tell: Tell
    """Gets a line now and then."""

    def run(self, missing: Sequence[Missing], tally: Tally) -> None:
        """Fetch what is missing; what other runs are fetching is waited for.

        After the first failure nothing new is begun; what is under way is finished and kept, and then that failure is
        raised: what ``read`` raises, PreloadError where a claim was lost, StorageError.
        """
        jobs = [_Job(one, self._contender(one.layer)) for one in missing]
        failed = threading.Event()
        rhythm = _Rhythm(self.tell)
        # A ThreadPool, because its threads are daemons: an interrupted run doesn't wait for a server that is silent.
        with ThreadPool(self.connections) as pool:
            line: Callable[[], str] = tally.text
            while jobs:
                outcomes = list(self._round(pool, jobs, tally, failed, partial(rhythm.say, line)))
                errors = [outcome.error for outcome in outcomes if outcome.error is not None]
                if errors:
                    raise errors[0]
                jobs = [outcome.job for outcome in outcomes if not outcome.is_done]
                if jobs:
                    line = partial(_waiting_text, tally, jobs)
                    time.sleep(_LOOK_AGAIN)
        self.tell(tally.text())

    def _contender(self, layer: Layer) -> Contender:
        return Contender(self.pieces.objects, self.pieces.layer(layer.array, layer.step))

    def _round(
        self,
        pool: ThreadPool,
        jobs: Sequence[_Job],
        tally: Tally,
        failed: threading.Event,
        say: Callable[[], None],
    ) -> Iterator[_Outcome]:
        """The outcome of each job; calls ``say`` meanwhile."""
        outcomes = pool.imap_unordered(lambda job: self._try(job, tally, failed), jobs)
        pending = len(jobs)
        while pending:
            try:
                outcome = outcomes.next(timeout=_TOLD_EVERY)
            except PoolTimeoutError:
                # One reply may take minutes.
                say()
                continue
            pending -= 1
            say()
            yield outcome

    def _try(self, job: _Job, tally: Tally, failed: threading.Event) -> _Outcome:
        if failed.is_set():
            return _Outcome(job, is_done=False)
        try:
            claim = job.contender.take()
            if claim is None:
                return _Outcome(job, is_done=False)
            with claim:
                self._fill(job.missing, claim, tally)
        except Scs2CubesError as error:
            failed.set()
            return _Outcome(job, is_done=False, error=error)
        return _Outcome(job, is_done=True)

    def _fill(self, expected: Missing, claim: Claim, tally: Tally) -> None:
        """Fetch what is still missing now that nobody else fetches it."""
        missing = missing_of(self.pieces, expected.layer)
        for block in missing.blocks:
            claim.check()
            self._fetch_block(missing.layer, block)
            tally.add_reply(wire_bytes(missing.layer.array, block))
        tally.add_layer(expected.wire_bytes - missing.wire_bytes)

    def _fetch_block(self, layer: Layer, block: Window) -> None:
        lattice = PieceLattice.of(layer.array)
        window = lattice.pixels(block)
        values = self.read(layer.array, layer.step, window)
        for place in places_in(block):
            part = lattice.pixels_at(place).relative_to(window)
            self.pieces.put(layer.array, layer.step, place, values[part.slices])


def _waiting_text(tally: Tally, jobs: Sequence[_Job]) -> str:
    rivals = ", ".join(sorted({job.contender.rival for job in jobs}))
    return f"{tally.text()}; waiting for what {rivals} fetches"


@dataclass
class _Rhythm:
    """Passes a line on now and then."""

    tell: Tell
    last: float = field(default_factory=time.monotonic)

    def say(self, line: Callable[[], str]) -> None:
        now = time.monotonic()
        if now - self.last >= _TOLD_EVERY:
            self.last = now
            self.tell(line())
