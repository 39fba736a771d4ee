"""Resources: connections and where progress goes. No logic of cubes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Literal, Protocol, TypeVar

import dagster as dg

from scs2_cubes.core.specification import Case, DaskSpec
from scs2_cubes.pipeline.compute import Compute, ThreadCompute, open_compute
from scs2_cubes.pipeline.graph import TileGraph
from scs2_cubes.pipeline.materialize import Progress

__all__ = ["DaskResource", "LogProgress", "ProgressSink"]

#: Seconds between two log lines of one partition: often enough to see that it moves, rarely enough to read.
_LOG_INTERVAL = 10.0

Result = TypeVar("Result")


class DaskResource(dg.ConfigurableResource[None]):
    """What computes the tiles: threads of the run's process, a local cluster, or a running scheduler."""

    mode: Literal["threads", "local", "address"] = "threads"
    address: str | None = None
    n_workers: int | None = None
    threads_per_worker: int = 1
    memory_limit: str = "auto"
    folders: list[str] = []  # noqa: RUF012  (pydantic copies it for each object)
    """Folders of this machine that hold cubes and caches: workers elsewhere must see them, too."""

    @classmethod
    def of(cls, case: Case) -> DaskResource:
        """The resource for a configuration's ``dask`` section."""
        spec = case.dask
        roots = [case.storage.root, *(store.cache.root for store in case.stores if store.cache)]
        return cls(
            folders=[root for root in dict.fromkeys(roots) if "://" not in root],
            mode=spec.mode,
            address=spec.address,
            n_workers=spec.n_workers,
            threads_per_worker=spec.threads_per_worker,
            memory_limit=spec.memory_limit,
        )

    @contextmanager
    def connect(self, tell: Callable[[str], None] | None = None) -> Iterator[Compute]:
        """What computes, for the length of the block; started or connected to when the first tile is due.

        ``tell`` takes what is worth knowing about a cluster (default: Python's log).
        """
        threads = _threads_of_this_worker()
        if threads is not None:
            # The step is itself a task of a cluster: it would wait for tasks on the very workers that it occupies.
            yield ThreadCompute(threads)
            return
        spec = DaskSpec(
            mode=self.mode,
            address=self.address,
            n_workers=self.n_workers,
            threads_per_worker=self.threads_per_worker,
            memory_limit=self.memory_limit,
        )
        with ExitStack() as stack:
            yield _OnDemand(spec, stack, tell, self.folders)


class _OnDemand:
    """Compute that starts when it has something to do: a cluster takes seconds, and often all is current."""

    def __init__(
        self, spec: DaskSpec, stack: ExitStack, tell: Callable[[str], None] | None, folders: Sequence[str]
    ) -> None:
        self._spec = spec
        self._stack = stack
        self._tell = tell
        self._folders = folders
        self._compute: Compute | None = None

    @property
    def dashboard(self) -> str | None:
        return self._compute.dashboard if self._compute else None

    def run(self, graph: TileGraph[Result], on_tile: Callable[[Result], None]) -> None:
        if self._compute is None:
            self._compute = self._stack.enter_context(open_compute(self._spec, self._tell, self._folders))
        self._compute.run(graph, on_tile)


def _threads_of_this_worker() -> int | None:
    """Threads of the Dask worker of which this thread runs a task; None where it runs none."""
    if "distributed" not in sys.modules:
        # Then this process is no worker; importing it takes a second.
        return None
    from distributed import get_worker  # noqa: PLC0415  (see above)

    try:
        return int(get_worker().state.nthreads)
    except ValueError:
        return None


class ProgressSink(Protocol):
    """Where the progress of partitions goes."""

    def listener(self, log: dg.DagsterLogManager, name: str) -> Callable[[Progress], None]:
        """What is called after each tile of the partition that ``name`` describes."""
        ...

    def tell(self, line: str) -> None:
        """Take a line that preloading has to tell; the run's log has it anyway."""
        ...


class LogProgress:
    """Progress as log lines at a human rhythm."""

    def listener(self, log: dg.DagsterLogManager, name: str) -> Callable[[Progress], None]:
        last = time.monotonic()

        def listen(progress: Progress) -> None:
            nonlocal last
            now = time.monotonic()
            if progress.done == progress.total or now - last >= _LOG_INTERVAL:
                last = now
                log.info(f"{name}: {progress.text}")

        return listen

    def tell(self, line: str) -> None:
        """Nothing more than the log has."""
