"""Resources: connections and where progress goes. No logic of cubes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Literal, Protocol, TypeVar

import dagster as dg

from scs2_cubes.core.specification import DaskSpec
from scs2_cubes.pipeline.compute import Compute, open_compute
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

    @classmethod
    def from_spec(cls, spec: DaskSpec) -> DaskResource:
        """The resource for a configuration's ``dask`` section."""
        return cls(
            mode=spec.mode,
            address=spec.address,
            n_workers=spec.n_workers,
            threads_per_worker=spec.threads_per_worker,
            memory_limit=spec.memory_limit,
        )

    @contextmanager
    def connect(self) -> Iterator[Compute]:
        """What computes, for the length of the block; started or connected to when the first tile is due."""
        spec = DaskSpec(
            mode=self.mode,
            address=self.address,
            n_workers=self.n_workers,
            threads_per_worker=self.threads_per_worker,
            memory_limit=self.memory_limit,
        )
        with ExitStack() as stack:
            yield _OnDemand(spec, stack)


class _OnDemand:
    """Compute that starts when it has something to do: a cluster takes seconds, and often all is current."""

    def __init__(self, spec: DaskSpec, stack: ExitStack) -> None:
        self._spec = spec
        self._stack = stack
        self._compute: Compute | None = None

    @property
    def dashboard(self) -> str | None:
        return self._compute.dashboard if self._compute else None

    def run(self, graph: TileGraph[Result], on_tile: Callable[[Result], None]) -> None:
        if self._compute is None:
            self._compute = self._stack.enter_context(open_compute(self._spec))
        self._compute.run(graph, on_tile)


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
