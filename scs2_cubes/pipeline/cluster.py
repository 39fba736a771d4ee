"""A Dask cluster: one that is started for the occasion, or one that runs already."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import dask
from distributed import Client, KilledWorker, LocalCluster, as_completed
from distributed.comm.core import CommClosedError

from scs2_cubes.core.specification import DaskSpec
from scs2_cubes.errors import ConfigurationError, MaterializationError
from scs2_cubes.pipeline.graph import TileGraph

__all__ = ["ClusterCompute", "open_cluster"]

#: What comes of one tile.
Result = TypeVar("Result")

_CONNECT_SECONDS = 20


@dataclass(frozen=True)
class ClusterCompute:
    """A Dask cluster, by its client."""

    client: Client

    @property
    def dashboard(self) -> str | None:
        return str(self.client.dashboard_link)

    def run(self, graph: TileGraph[Result], on_tile: Callable[[Result], None]) -> None:
        """See :class:`scs2_cubes.pipeline.compute.Compute`."""
        futures = self.client.get(graph.tasks, list(graph.tiles), sync=False)
        try:
            for future in as_completed(futures):
                on_tile(future.result())
        except (KilledWorker, CommClosedError) as error:
            self.client.cancel(futures, force=True)
            raise MaterializationError(
                f"the Dask cluster failed: {type(error).__name__}: {error}. Where a worker died of memory, give it "
                "more (dask.memory_limit) or choose smaller tiles; finished tiles are kept"
            ) from error
        except BaseException:
            # An interruption, too: the cluster must not go on with what nobody waits for.
            self.client.cancel(futures, force=True)
            raise


@contextmanager
def open_cluster(spec: DaskSpec) -> Iterator[ClusterCompute]:
    """The cluster that ``spec`` asks for, until the end of the block: mode ``local`` or ``address``.

    Raises ConfigurationError where no scheduler answers at the address.
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
