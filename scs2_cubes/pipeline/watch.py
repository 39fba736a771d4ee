"""What becomes of a cluster's workers while tiles are made: who is lost, who is out of memory, whether any is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
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
#: Seconds after which a cluster whose workers are all lost or paused is given up.
_PATIENCE = 60.0
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
    """Looks at a cluster's workers from time to time while ``graph`` runs, and tells what changes."""

    def __init__(self, client: Client, address: str, graph: TileGraph[Any], tell: Callable[[str], None]) -> None:
        self._client = client
        self._address = address
        self._graph = graph
        self._tell = tell
        self._seen: dict[str, _Worker] = {}
        self._tiles: dict[str, tuple[str, ...]] = {}
        self._looked = float("-inf")
        self._idle_since: float | None = None
        self._is_waiting_told = False

    def look(self) -> None:
        """Ask the scheduler about its workers, where the last time is long enough ago.

        Raises MaterializationError where all of them have been lost or out of memory for a minute. A cluster that
        hasn't had any worker yet is waited for: starting one can take long.
        """
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        info = self._asked("identity", n_workers=-1)
        if info is None:
            return
        workers = {address: _Worker.of(address, one) for address, one in info.get("workers", {}).items()}
        self._tell_changes(workers)
        has_had_some = bool(self._seen)
        if workers:
            self._seen = workers
            self._tiles = self._tiles_by_worker()
        self._judge(workers, now, has_had_some=has_had_some)

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

    def _judge(self, workers: Mapping[str, _Worker], now: float, *, has_had_some: bool) -> None:
        if any(not worker.is_paused for worker in workers.values()):
            self._idle_since, self._is_waiting_told = None, False
            return
        if not workers and not has_had_some:
            if not self._is_waiting_told:
                self._is_waiting_told = True
                self._tell(f"the cluster of {self._address} has no worker yet: waiting for one")
            return
        if self._idle_since is None:
            self._idle_since = now
        elif now - self._idle_since >= _PATIENCE:
            state = "are paused, because their memory is nearly full" if workers else "are gone"
            last = "; ".join(
                f"{address} with {worker.memory_text} of memory and {self._tiles_of(address)}"
                for address, worker in self._seen.items()
            )
            raise MaterializationError(
                f"all workers of {self._address} {state}, for {_PATIENCE:.0f} s. When last seen: "
                f"{last}. If memory is what they lack: {_REMEDY}. Finished tiles are kept"
            )

    def _tiles_by_worker(self) -> dict[str, tuple[str, ...]]:
        processing = self._asked("processing") or {}
        return {address: _tiles_of(self._graph, tasks) for address, tasks in processing.items()}

    def _asked(self, what: str, **parameters: Any) -> Any:
        """The scheduler's answer; None where it has none soon: that it is gone is noticed elsewhere, and at once."""
        if self._client.status != "running":
            return None
        try:
            # Not Client's methods, which wait for a lost scheduler to come back.
            return self._client.sync(getattr(self._client.scheduler, what), **parameters, callback_timeout=LOOK_SECONDS)
        except OSError:
            return None

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
