"""A Dask scheduler and its workers as processes of their own, and cubes that are slow or greedy on purpose."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from distributed import Client

from scs2_cubes.core.cube import CubeSchema
from scs2_cubes.core.grid import Tile
from scs2_cubes.core.specification import DaskSpec
from scs2_cubes.pipeline.installations import source_fingerprint
from scs2_cubes.storage.zarr_cube import ZarrCube
from scs2_cubes_tests.end_to_end.trial import CHECKOUT
from scs2_cubes_tests.pipeline.worlds import World


@dataclass
class DaskProcesses:
    """A scheduler on loopback, and workers without nannies, so that the process that is killed is the worker."""

    folder: Path
    port: int = 0
    scheduler: subprocess.Popen[bytes] | None = None
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    @property
    def spec(self) -> DaskSpec:
        return DaskSpec(mode="address", address=self.address)

    def start_scheduler(self, extra: Mapping[str, str] | None = None) -> None:
        # These workers load the files as they are now, whatever they were when another test looked.
        source_fingerprint.cache_clear()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = self.port or free.getsockname()[1]
        options = ("--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard")
        self.scheduler = self._start("scheduler", *options, extra=extra)
        limit = time.monotonic() + 60
        while not self._answers():
            assert self.scheduler.poll() is None, "the scheduler has ended"
            assert time.monotonic() < limit, "the scheduler doesn't answer"
            time.sleep(0.05)

    def start_worker(
        self, memory: str = "2GiB", extra: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.Popen[bytes]:
        number = len(self.workers)
        options = ("--no-nanny", "--nthreads", "1", "--memory-limit", memory, "--no-dashboard", "--host", "127.0.0.1")
        places = ("--local-directory", str(self.folder / f"worker{number}"), "--death-timeout", "10")
        name = ("--name", f"worker{number}")
        worker = self._start("worker", self.address, *options, *places, *name, extra=extra, cwd=cwd)
        self.workers.append(worker)
        return worker

    def stop(self) -> None:
        for process in (*self.workers, *([self.scheduler] if self.scheduler else [])):
            process.send_signal(signal.SIGKILL)
            process.wait(20)

    def _start(
        self, *command: str, extra: Mapping[str, str] | None, cwd: Path | None = None
    ) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False"}
        log = self.folder / f"{command[0]}.log"
        with log.open("ab") as out:
            return subprocess.Popen(
                [sys.executable, "-m", "dask", *command],
                env={**environment, **(extra or {})},
                cwd=cwd or self.folder,
                stdout=out,
                stderr=out,
            )

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[DaskProcesses]:
    """A scheduler without workers."""
    folder = tmp_path / "dask"
    folder.mkdir()
    running = DaskProcesses(folder)
    running.start_scheduler()
    yield running
    running.stop()


def connected(processes: DaskProcesses, workers: int) -> Client:
    """A client that has seen that number of workers."""
    client = Client(processes.address)
    client.wait_for_workers(workers, timeout=60)
    return client


def until_workers(processes: DaskProcesses, count: int) -> None:
    """Wait until the scheduler has no more and no fewer workers than that."""
    limit = time.monotonic() + 60
    with Client(processes.address) as client:
        while len(client.scheduler_info(n_workers=-1)["workers"]) != count:
            assert time.monotonic() < limit, f"there aren't {count} workers"
            time.sleep(0.1)


@dataclass(frozen=True)
class SlowCube(ZarrCube):
    """A cube whose planes take a while to be written, so that there is a middle; one tile takes memory, too."""

    seconds: float = 0.0
    greedy: str = ""
    appetite: int = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return SlowCube, (self.name, self.storage, self.objects, self.seconds, self.greedy, self.appetite)

    def write_plane(
        self, schema: CubeSchema, layer: str, step: int, tile: Tile, values: npt.NDArray[Any] | None
    ) -> int:
        if tile.key == self.greedy:
            meal = np.ones(self.appetite, np.uint8)
            time.sleep(20)
            del meal
        time.sleep(self.seconds)
        return super().write_plane(schema, layer, step, tile, values)


@dataclass(frozen=True)
class SlowWorld(World):
    """A world with such a cube."""

    seconds: float = 0.0
    greedy: str = ""
    appetite: int = 0

    @property
    def store(self) -> ZarrCube:
        cube = ZarrCube.at(self.storage, "forest")
        return SlowCube(cube.name, cube.storage, cube.objects, self.seconds, self.greedy, self.appetite)


def slow(world: World, seconds: float = 0.1, greedy: str = "", appetite: int = 0) -> SlowWorld:
    return SlowWorld(world.plan, world.storage, seconds, greedy, appetite)
