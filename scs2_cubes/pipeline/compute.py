"""What runs a graph: threads of this process, or a Dask cluster. Pixels never come back, only counts."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from typing import Any, Protocol, TypeVar

import dask.threaded
from dask.callbacks import Callback, normalize_callback

from scs2_cubes.core.specification import DaskSpec
from scs2_cubes.pipeline.graph import TileGraph

__all__ = ["Compute", "ThreadCompute", "open_compute"]

#: What comes of one tile.
Result = TypeVar("Result")


class Compute(Protocol):
    """Runs a graph."""

    @property
    def dashboard(self) -> str | None:
        """Link to the dashboard, where there is one."""
        ...

    def run(self, graph: TileGraph[Result], on_tile: Callable[[Result], None]) -> None:
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

    def run(self, graph: TileGraph[Result], on_tile: Callable[[Result], None]) -> None:
        """See :class:`Compute`."""

        def finished(key: Any, result: Any, *_: Any) -> None:
            if key in graph.tiles:
                on_tile(result)

        # A ThreadPool, because its threads are daemons: an interrupted run doesn't wait for a server that is silent.
        pool = ThreadPool(self.n_threads)
        try:
            # Given to this call alone: Dask's context manager would hear the tasks of every run in this process.
            callback = normalize_callback(Callback(posttask=finished))
            dask.threaded.get(graph.tasks, list(graph.tiles), pool=pool, callbacks=[callback])
        finally:
            pool.terminate()


@contextmanager
def open_compute(
    spec: DaskSpec, tell: Callable[[str], None] | None = None, folders: Sequence[str] = ()
) -> Iterator[Compute]:
    """What ``spec`` asks for, until the end of the block. Starts processes or connects where it must.

    ``tell`` takes what is worth knowing about a cluster (default: Python's log), ``folders`` are those of this machine
    that its workers have to use. Raises ConfigurationError where no scheduler answers at the address, or one whose
    workers have something else installed or don't see ``folders``.
    """
    if spec.mode == "threads":
        yield ThreadCompute(spec.n_workers or len(os.sched_getaffinity(0)))
        return
    from scs2_cubes.pipeline.cluster import open_cluster  # noqa: PLC0415  (a second of import, for clusters only)

    with open_cluster(spec, tell or _log, folders) as compute:
        yield compute


def _log(line: str) -> None:
    logging.getLogger(__name__).warning(line)
