"""What runs a graph: threads of this process, or a Dask cluster. Pixels never come back, only counts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from typing import Any, Protocol

import dask.threaded
from dask.callbacks import Callback
from distributed import Client, LocalCluster, as_completed

from scs2_cubes.core.specification import DaskSpec
from scs2_cubes.errors import ConfigurationError
from scs2_cubes.pipeline.graph import TileGraph, TileResult

__all__ = ["ClusterCompute", "Compute", "ThreadCompute", "open_compute"]

_CONNECT_SECONDS = 20


class Compute(Protocol):
    """Runs a graph."""

    @property
    def dashboard(self) -> str | None:
        """Link to the dashboard, where there is one."""
        ...

    def run(self, graph: TileGraph, on_tile: Callable[[TileResult], None]) -> None:
        """Run ``graph`` and call ``on_tile`` in this thread as tiles finish. Raises what the first failing task raised.

        An interruption ends it at once: what runs then finishes or not, and no record claims what isn't there.
        """
        ...


@dataclass(frozen=True)
class ThreadCompute:
    """Threads of this process: no start-up cost, and the kernels release the GIL."""

    n_threads: int

    @property
    def dashboard(self) -> str | None:
        return None

    def run(self, graph: TileGraph, on_tile: Callable[[TileResult], None]) -> None:
        """See :class:`Compute`."""

        def finished(key: Any, result: Any, *_: Any) -> None:
            if key in graph.tiles and isinstance(result, TileResult):
                on_tile(result)

        # A ThreadPool, because its threads are daemons: an interrupted run doesn't wait for a server that is silent.
        pool = ThreadPool(self.n_threads)
        try:
            with Callback(posttask=finished):
                dask.threaded.get(graph.tasks, list(graph.tiles), pool=pool)
        finally:
            pool.terminate()


@dataclass(frozen=True)
class ClusterCompute:
    """A Dask cluster, by its client."""

    client: Client

    @property
    def dashboard(self) -> str | None:
        return str(self.client.dashboard_link)

    def run(self, graph: TileGraph, on_tile: Callable[[TileResult], None]) -> None:
        """See :class:`Compute`."""
        futures = self.client.get(graph.tasks, list(graph.tiles), sync=False)
        try:
            for future in as_completed(futures):
                on_tile(future.result())
        except BaseException:
            # An interruption, too: the cluster must not go on with what nobody waits for.
            self.client.cancel(futures, force=True)
            raise


@contextmanager
def open_compute(spec: DaskSpec) -> Iterator[Compute]:
    """What ``spec`` asks for, until the end of the block. Starts processes or connects where it must.

    Raises ConfigurationError where no scheduler answers at the address.
    """
    if spec.mode == "threads":
        yield ThreadCompute(spec.n_workers or len(os.sched_getaffinity(0)))
    elif spec.mode == "local":
        with (
            LocalCluster(
                n_workers=spec.n_workers,
                threads_per_worker=spec.threads_per_worker,
                memory_limit=spec.memory_limit,
                dashboard_address="127.0.0.1:0",
            ) as cluster,
            Client(cluster) as client,
        ):
            yield ClusterCompute(client)
    else:
        with _connect(spec.address or "") as client:
            yield ClusterCompute(client)


def _connect(address: str) -> Client:
    try:
        return Client(address, timeout=_CONNECT_SECONDS)
    except OSError as error:
        raise ConfigurationError(
            f"dask.address: no scheduler answers at {address} within {_CONNECT_SECONDS} s: {error}. Start it, or set "
            "dask.mode to threads"
        ) from error
