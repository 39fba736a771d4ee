"""A Dask cluster: one that is started for the occasion, or one that runs already."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import dask
from distributed import Client, Future, KilledWorker, LocalCluster
from distributed.client import ClosedClientError, FutureCancelledError
from distributed.comm.core import CommClosedError

from scs2_cubes.core.specification import DaskSpec
from scs2_cubes.errors import ConfigurationError, MaterializationError, TileError
from scs2_cubes.pipeline.admission import Admission
from scs2_cubes.pipeline.exposure import exposed
from scs2_cubes.pipeline.graph import TileGraph
from scs2_cubes.pipeline.watch import LOOK_SECONDS, Watch, killed_text

__all__ = ["ClusterCompute", "open_cluster"]

#: What comes of one tile.
Result = TypeVar("Result")

_CONNECT_SECONDS = 20
#: Addresses at which nobody on the way can read along.
_ENCRYPTED = ("tls://", "wss://", "inproc://")
#: Seconds for which a small result is waited for before the workers are looked at.
_GATHER_SECONDS = 5
#: Seconds within which a scheduler tells of all tasks that it gives up with one worker.
_TOGETHER_SECONDS = 0.5


@dataclass(frozen=True)
class ClusterCompute:
    """A Dask cluster, by its client."""

    client: Client
    """Connected."""
    address: str
    """The scheduler's, for messages."""
    tell: Callable[[str], None]
    """Takes what is worth knowing about the workers."""
    watch: Watch
    """Looks at the workers, and knows them from one graph to the next."""
    exposes: bool = False
    """Whether what is sent goes over a network where others can read it."""
    _told_of: set[str] = field(default_factory=set)

    @property
    def dashboard(self) -> str | None:
        return str(self.client.dashboard_link)

    def run(self, graph: TileGraph[Result], on_tile: Callable[[Result], None]) -> None:
        """See :class:`scs2_cubes.pipeline.compute.Compute`.

        Tells where access keys travel over a network that others can read. Raises MaterializationError where the
        scheduler is lost or silent, where workers die of a tile, and where none is left or comes; ConfigurationError
        where one comes that may not take part.
        """
        if self.client.status != "running":
            # Otherwise it would wait for a scheduler that may never come back, for each partition anew.
            raise MaterializationError(self.lost)
        self._tell_exposed(graph)
        futures: list[Future[Any]] = []
        try:
            self.watch.begin(graph)
            futures += self.client.get(graph.tasks, list(graph.tiles), sync=False)
            for future in _as_finished(futures, self.watch):
                on_tile(_result_of(future, self.watch))
        except KilledWorker as error:
            killed = _killed_together(futures, error)
            self._forget(futures)
            raise MaterializationError(killed_text(graph, killed)) from error
        except (TileError, TypeError):
            self._forget(futures)
            # A worker that came a moment ago, and that may not take part, can be the cause; one of an older release
            # takes other arguments.
            self.watch.look(at_once=True)
            raise
        except (FutureCancelledError, CommClosedError, ClosedClientError) as error:
            self._forget(futures)
            raise MaterializationError(f"{self.lost} ({type(error).__name__}: {error})") from error
        except BaseException:
            # An interruption, too: the cluster must not go on with what nobody waits for.
            self._forget(futures)
            raise

    def _tell_exposed(self, graph: TileGraph[Any]) -> None:
        places = [place for place in exposed(graph) if place not in self._told_of] if self.exposes else []
        if places:
            self._told_of.update(places)
            self.tell(
                f"the access key of {', '.join(places)} is sent to the scheduler at {self.address} and to its workers "
                "unencrypted, and lies in their memory. Take it out of storage_options, and give workers and this "
                "process the AWS environment or a profile; or use a scheduler at tls://…"
            )

    @property
    def lost(self) -> str:
        """For people: that the scheduler is lost, and what to do."""
        return (
            f"the connection to the Dask scheduler at {self.address} is lost. Start it again where it "
            "has ended; finished tiles are kept, and the next run makes the others"
        )

    def _forget(self, futures: Sequence[Future[Any]]) -> None:
        """Have the cluster forget them; where the scheduler is gone there is nobody to be told."""
        if self.client.status == "running":
            self.client.cancel(futures, force=True)


@contextmanager
def open_cluster(spec: DaskSpec, tell: Callable[[str], None], folders: Sequence[str] = ()) -> Iterator[ClusterCompute]:
    """The cluster that ``spec`` asks for, until the end of the block: mode ``local`` or ``address``.

    ``tell`` takes warnings: of versions that differ, of access keys that travel in clear, and later of workers that are
    lost or out of memory, and of a scheduler that doesn't answer. ``folders`` (of cubes, of caches) are those of this
    machine that workers of an existing cluster have to see, too; what isn't there yet is left out. Each worker is
    examined when the run connects or, where it comes later, within seconds of its coming.

    Raises ConfigurationError where no scheduler answers at the address, where scheduler or workers have something
    installed with which nothing may be made, and where workers don't see the folders.
    """
    if spec.mode == "local":
        with (
            # The profiler can stop a worker for ever under Python 3.11, the more often the more threads come and go:
            # https://github.com/dask/distributed/issues/8616
            dask.config.set({"distributed.worker.profile.enabled": False}),
            LocalCluster(
                n_workers=spec.n_workers,
                threads_per_worker=spec.threads_per_worker,
                memory_limit=spec.memory_limit,
                dashboard_address="127.0.0.1:0",
            ) as cluster,
            Client(cluster) as client,
        ):
            address = cluster.scheduler_address
            yield ClusterCompute(client, address, tell, Watch(client, address, tell))
    else:
        address = spec.address or ""
        with _connect(address) as client:
            admission = Admission(client, address, folders, tell)
            admission.examine_all()
            watch = Watch(client, address, tell, admission.examine)
            yield ClusterCompute(client, address, tell, watch, exposes=not address.startswith(_ENCRYPTED))


def _connect(address: str) -> Client:
    try:
        return Client(address, timeout=_CONNECT_SECONDS)
    except OSError as error:
        raise ConfigurationError(
            f"dask.address: no scheduler answers at {address} within {_CONNECT_SECONDS} s: {error}. Start it, or set "
            "dask.mode to threads"
        ) from error


def _as_finished(futures: Sequence[Future[Any]], watch: Watch) -> Iterator[Future[Any]]:
    """Each of ``futures`` when it is finished or failed; looks at the workers meanwhile."""
    finished: SimpleQueue[Future[Any]] = SimpleQueue()
    for future in futures:
        future.add_done_callback(finished.put)
    missing = len(futures)
    while missing:
        watch.look()
        try:
            future = finished.get(timeout=LOOK_SECONDS)
        except Empty:
            continue
        watch.heard()
        missing -= 1
        yield future


def _result_of(future: Future[Any], watch: Watch) -> Any:
    """What came of a task that is finished; made again, where the worker that had it is gone by now.

    Raises what the task raised, and as :meth:`~scs2_cubes.pipeline.watch.Watch.look` does: a scheduler that is silent
    would be waited for without end.
    """
    while True:
        asked = time.monotonic()
        try:
            return future.result(timeout=_GATHER_SECONDS)
        except TimeoutError:
            if future.status == "error":
                # The task's own.
                raise
            watch.missed(asked)
            watch.look()


def _killed_together(futures: Sequence[Future[Any]], first: KilledWorker) -> list[KilledWorker]:
    """Why tasks were given up with the worker that ``first`` names, ``first`` among them."""
    # The scheduler tells of each task by itself, within milliseconds.
    time.sleep(_TOGETHER_SECONDS)
    errors = [future.exception(timeout=_GATHER_SECONDS) for future in futures if future.status == "error"]
    same = [one for one in errors if isinstance(one, KilledWorker) and one.task != first.task]
    return [first, *same]
