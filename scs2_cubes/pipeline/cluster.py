"""A Dask cluster: one that is started for the occasion, or one that runs already."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import dask
from distributed import Client, Future, KilledWorker, LocalCluster
from distributed.client import ClosedClientError, FutureCancelledError
from distributed.comm.core import CommClosedError

from scs2_cubes.core.specification import DaskSpec
from scs2_cubes.errors import ConfigurationError, MaterializationError
from scs2_cubes.pipeline.graph import TileGraph
from scs2_cubes.pipeline.installations import require_agreement
from scs2_cubes.pipeline.watch import LOOK_SECONDS, Watch, killed_text

__all__ = ["ClusterCompute", "open_cluster"]

#: What comes of one tile.
Result = TypeVar("Result")

_CONNECT_SECONDS = 20
#: Seconds for which a small result is waited for before the workers are looked at.
_GATHER_SECONDS = 10
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

    @property
    def dashboard(self) -> str | None:
        return str(self.client.dashboard_link)

    def run(self, graph: TileGraph[Result], on_tile: Callable[[Result], None]) -> None:
        """See :class:`scs2_cubes.pipeline.compute.Compute`.

        Raises MaterializationError where the scheduler is lost, and where workers die of a tile.
        """
        if self.client.status != "running":
            # Otherwise it would wait for a scheduler that may never come back, for each partition anew.
            raise MaterializationError(self._lost())
        futures: list[Future[Any]] = []
        try:
            futures += self.client.get(graph.tasks, list(graph.tiles), sync=False)
            watch = Watch(self.client, self.address, graph, self.tell)
            for future in _as_finished(futures, watch):
                on_tile(_result_of(future, watch))
        except KilledWorker as error:
            killed = _killed_together(futures, error)
            self._forget(futures)
            raise MaterializationError(killed_text(graph, killed)) from error
        except (FutureCancelledError, CommClosedError, ClosedClientError) as error:
            self._forget(futures)
            raise MaterializationError(f"{self._lost()} ({type(error).__name__}: {error})") from error
        except BaseException:
            # An interruption, too: the cluster must not go on with what nobody waits for.
            self._forget(futures)
            raise

    def _lost(self) -> str:
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

    ``tell`` takes warnings: of versions that differ, of workers elsewhere although ``folders`` (cubes, caches) lie on
    this machine, and later of workers that are lost or out of memory. Raises ConfigurationError where no scheduler
    answers at the address, and where scheduler or workers have versions with which nothing may be made.
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
            yield ClusterCompute(client, cluster.scheduler_address, tell)
    else:
        address = spec.address or ""
        with _connect(address) as client:
            require_agreement(client, address, tell)
            _tell_strangers(client, folders, tell)
            yield ClusterCompute(client, address, tell)


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
        missing -= 1
        yield future


def _result_of(future: Future[Any], watch: Watch) -> Any:
    """What came of a task that is finished; made again, where the worker that had it is gone by now."""
    while True:
        try:
            return future.result(timeout=_GATHER_SECONDS)
        except TimeoutError:
            if future.status == "error":
                # The task's own.
                raise
            watch.look()


def _killed_together(futures: Sequence[Future[Any]], first: KilledWorker) -> list[KilledWorker]:
    """Why tasks were given up with the worker that ``first`` names, ``first`` among them."""
    # The scheduler tells of each task by itself, within milliseconds.
    time.sleep(_TOGETHER_SECONDS)
    errors = [future.exception(timeout=_GATHER_SECONDS) for future in futures if future.status == "error"]
    same = [one for one in errors if isinstance(one, KilledWorker) and one.task != first.task]
    return [first, *same]


def _tell_strangers(client: Client, folders: Sequence[str], tell: Callable[[str], None]) -> None:
    """Tell of workers on other hosts that are to use folders of this one."""
    if not folders:
        return
    info: Any = client.scheduler_info()
    hosts = _strangers(worker["host"] for worker in info["workers"].values())
    if hosts:
        tell(
            f"workers run on other hosts ({', '.join(hosts)}), but these lie on this one: {', '.join(folders)}. Unless "
            "they are shared folders at the same path there, put them on S3 (store_id: s3)"
        )


def _strangers(hosts: Iterable[Any]) -> list[str]:
    return sorted({str(host) for host in hosts if not _is_here(str(host))})


def _is_here(host: str) -> bool:
    """True where ``host`` is an address of this machine: only to those a socket can be bound."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as trial:
            trial.bind((host, 0))
    except OSError:
        return False
    return True
