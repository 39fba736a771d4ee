"""What becomes of a cluster while tiles are made: whether it answers, who is lost or out of memory, who has come."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dask.utils import format_bytes
from distributed import Client, KilledWorker

from scs2_cubes.core.grid import Tile
from scs2_cubes.errors import MaterializationError
from scs2_cubes.pipeline.graph import TileGraph

__all__ = ["LOOK_SECONDS", "Watch", "killed_text"]

#: Seconds between two looks at the workers.
LOOK_SECONDS = 2.0
#: Seconds after which a cluster is given up whose workers are all lost or paused.
_PATIENCE = 60.0
#: Seconds for which the first worker is waited for: it may have to queue for a node, or to load an image.
_FIRST_PATIENCE = 600.0
#: Seconds without an answer of the scheduler after which that is told.
_SILENCE_SECONDS = 8.0
#: … and after which the cluster is given up.
_SILENCE_PATIENCE = 60.0
_REMEDY = (
    "Choose smaller tiles (tile_size), or give workers more memory (dask.memory_limit; --memory-limit of dask worker) "
    "or fewer threads (dask.threads_per_worker; --nthreads)"
)


@dataclass(frozen=True, slots=True)
class _Worker:
    """A worker as it was last seen."""

    address: str
    """Of the worker."""
    is_paused: bool
    """Whether it takes no tasks, because its memory is nearly full."""
    memory: int
    """Bytes that its process takes."""
    limit: int
    """Bytes that it may take; 0: no limit."""

    @classmethod
    def of(cls, address: str, info: Mapping[str, Any]) -> _Worker:
        memory = int((info.get("metrics") or {}).get("memory") or 0)
        return cls(address, info.get("status") == "paused", memory, int(info.get("memory_limit") or 0))

    @property
    def memory_text(self) -> str:
        """For people."""
        limit = format_bytes(self.limit) if self.limit else "no limit"
        return f"{format_bytes(self.memory)} of {limit}"


class Watch:
    """Looks at a cluster from time to time while graphs run on it, one after the other, and tells what changes."""

    def __init__(
        self,
        client: Client,
        address: str,
        tell: Callable[[str], None],
        examine: Callable[[Collection[str]], None] | None = None,
    ) -> None:
        """``examine`` takes the addresses of all workers, and raises where one of them may not take part."""
        self._client = client
        self._address = address
        self._tell = tell
        self._examine = examine
        self._graph: TileGraph[Any] | None = None
        self._seen: dict[str, _Worker] = {}
        self._last_seen: dict[str, _Worker] = {}
        self._tiles: dict[str, tuple[str, ...]] = {}
        self._looked = float("-inf")
        self._silent_since: float | None = None
        self._idle_since: float | None = None
        self._is_first_awaited = False
        self._is_silence_told = False
        self._was_given_up = False

    def begin(self, graph: TileGraph[Any] | None = None) -> None:
        """Look from now on while ``graph`` runs; None: tasks that don't belong to tiles.

        Workers that went between two graphs aren't lost: nobody needed them. Where an earlier graph was given up, this
        one waits for workers no longer than for any that are lost.
        """
        self._graph = graph
        self._seen = {}
        self._looked = float("-inf")
        self._silent_since = self._idle_since = None
        self._is_first_awaited = self._is_silence_told = False

    def heard(self) -> None:
        """Note that the scheduler has sent something: it is there, however busy."""
        self._silent_since, self._is_silence_told = None, False

    def missed(self, asked: float) -> None:
        """Note that what the cluster was asked for at that time hasn't come; the next look tells who is silent."""
        if self._silent_since is None:
            self._silent_since = asked

    def look(self, *, at_once: bool = False) -> None:
        """Ask the scheduler about its workers, where the last time is long enough ago (``at_once``: anyway).

        Raises MaterializationError where all of them have been lost or out of memory for a minute, where none has come
        for ten minutes, and where the scheduler hasn't answered for a minute although it is connected; and
        ConfigurationError where one has come that may not take part.
        """
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS and not at_once:
            return
        self._looked = now
        info = self._asked("identity", n_workers=-1)
        if info is None:
            self.missed(now)
            self._judge_silence()
            return
        self.heard()
        workers = {address: _Worker.of(address, one) for address, one in info.get("workers", {}).items()}
        if self._examine is not None:
            self._examine(workers)
        self._tell_changes(workers)
        if workers:
            self._seen = self._last_seen = workers
            self._tiles = self._tiles_by_worker()
        self._judge(workers, now)

    def _judge_silence(self) -> None:
        silence = self._silence()
        if silence >= _SILENCE_PATIENCE:
            raise MaterializationError(
                f"the Dask scheduler at {self._address} hasn't answered for {silence:.0f} s, although the connection "
                "stands: it is stopped, or overloaded. Start it again; finished tiles are kept, and the next run makes "
                "the others"
            )
        if silence >= _SILENCE_SECONDS and not self._is_silence_told:
            self._is_silence_told = True
            self._tell(f"the Dask scheduler at {self._address} hasn't answered for {silence:.0f} s: waiting for it")

    def _tell_changes(self, workers: Mapping[str, _Worker]) -> None:
        for address, worker in self._seen.items():
            # Where none is left, what was seen last is kept, and is told of once.
            if address not in workers and self._idle_since is None:
                self._tell(
                    f"worker {address} is gone; other workers make {self._tiles_of(address)}. When last seen it took "
                    f"{worker.memory_text} of memory; a worker that reaches its limit is ended"
                )
        for address, worker in workers.items():
            before = self._seen.get(address)
            if worker.is_paused and not (before and before.is_paused):
                self._tell(
                    f"worker {address} is paused: it takes {worker.memory_text} of memory with "
                    f"{self._tiles_of(address)}. {_REMEDY}"
                )

    def _judge(self, workers: Mapping[str, _Worker], now: float) -> None:
        if any(not worker.is_paused for worker in workers.values()):
            self._idle_since, self._is_first_awaited, self._was_given_up = None, False, False
            return
        is_first_awaited = not self._seen
        if self._idle_since is None or is_first_awaited != self._is_first_awaited:
            self._idle_since, self._is_first_awaited = now, is_first_awaited
            if is_first_awaited:
                state = "none of its workers any more" if self._last_seen else "no worker yet"
                self._tell(f"the cluster of {self._address} has {state}: waiting for one")
        patience = _FIRST_PATIENCE if is_first_awaited and not self._was_given_up else _PATIENCE
        if now - self._idle_since >= patience:
            self._was_given_up = True
            raise MaterializationError(self._verdict(workers, patience))

    def _verdict(self, workers: Mapping[str, _Worker], patience: float) -> str:
        """Why the cluster is given up."""
        if not self._last_seen:
            return (
                f"no worker has come to the cluster of {self._address} for {patience:.0f} s. Start one (dask worker "
                f"{self._address}), or set dask.mode to local or threads. Finished tiles are kept"
            )
        state = "are paused, because their memory is nearly full" if workers else "are gone"
        last = "; ".join(
            f"{address} with {worker.memory_text} of memory and {self._tiles_of(address)}"
            for address, worker in self._last_seen.items()
        )
        return (
            f"all workers of {self._address} {state}, for {patience:.0f} s. When last seen: {last}. If memory is what "
            f"they lack: {_REMEDY}. Finished tiles are kept"
        )

    def _tiles_by_worker(self) -> dict[str, tuple[str, ...]]:
        processing = self._asked("processing") or {}
        graph = self._graph
        return {} if graph is None else {address: _tiles_of(graph, tasks) for address, tasks in processing.items()}

    def _asked(self, what: str, **parameters: Any) -> Any:
        """The scheduler's answer; None where there is none soon. A closed connection is noticed elsewhere, and at once.

        The longer it has been silent, the longer it is waited for, up to the end of the patience: one that is
        overloaded needs its time.
        """
        if self._client.status != "running":
            return None
        silence = self._silence()
        timeout = max(LOOK_SECONDS, min(silence, _SILENCE_PATIENCE - silence))
        try:
            # Not Client's methods, which wait for a lost scheduler to come back.
            return self._client.sync(getattr(self._client.scheduler, what), **parameters, callback_timeout=timeout)
        except OSError:
            return None

    def _silence(self) -> float:
        """Seconds since the first question that has had no answer."""
        return 0.0 if self._silent_since is None else time.monotonic() - self._silent_since

    def _tiles_of(self, address: str) -> str:
        tiles = self._tiles.get(address, ())
        return f"tile {', '.join(tiles)}" if tiles else "no tile of this run"


def killed_text(graph: TileGraph[Any], errors: Sequence[KilledWorker]) -> str:
    """Why tasks were given up with their worker, with their tiles and what to change; ``errors``: one for each task.

    Dask suspects what the worker was at and what waited there alike, so that one of several tiles is the cause.
    """
    last = errors[0]
    tiles = _tiles_of(graph, [error.task for error in errors])
    what = f"tile {', '.join(tiles)}" if tiles else f"task {last.task}"
    those = "those, one of which is the cause" if len(tiles) > 1 else "it"
    return (
        f"{what}: {last.allowed_failures + 1} workers died while they had {those}, the last one at "
        f"{last.last_worker.address}. As a rule memory isn't enough: a worker over its limit is ended. {_REMEDY}. "
        "Finished tiles are kept"
    )


def _tiles_of(graph: TileGraph[Any], tasks: Iterable[Any]) -> tuple[str, ...]:
    """Keys of the tiles that ``tasks`` work for; without those of other graphs."""
    found = (part.key for task in tasks for part in graph.tasks.get(task, ()) if isinstance(part, Tile))
    return tuple(dict.fromkeys(found))
