"""A Dask cluster of processes that die, are lost, are frozen or out of memory."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import dask
import pytest

from scs2_cubes.core.specification import DaskSpec
from scs2_cubes.errors import MaterializationError
from scs2_cubes.pipeline import watch
from scs2_cubes.pipeline.compute import open_compute
from scs2_cubes.pipeline.materialize import Progress
from scs2_cubes_tests.pipeline.dask_processes import DaskProcesses, connected, slow, until_workers
from scs2_cubes_tests.pipeline.worlds import genus_world

#: Of the grid of 130 x 135 pixels, in tiles of 32.
ALL_TILES = 25


@pytest.fixture
def expected(tmp_path: Path) -> dict[str, bytes]:
    """Files of the cube as an undisturbed run in threads makes them."""
    world = genus_world(tmp_path / "undisturbed")
    world.make()
    return world.files()


def test_a_worker_killed_in_the_middle(tmp_path: Path, processes: DaskProcesses, expected: dict[str, bytes]) -> None:
    victim, _ = processes.start_worker(), processes.start_worker()
    world = slow(genus_world(tmp_path))
    told: list[str] = []

    def on_progress(progress: Progress) -> None:
        if progress.done == 3:
            victim.send_signal(signal.SIGKILL)

    with open_compute(processes.spec, told.append) as compute:
        compute.client.wait_for_workers(2, timeout=60)  # type: ignore[attr-defined]  # this one's a ClusterCompute
        report = world.make(compute, on_progress)
    assert victim.wait(10) == -signal.SIGKILL
    assert report.made == ALL_TILES
    assert world.files() == expected
    (line,) = told
    assert "is gone; other workers make" in line


def test_the_scheduler_gone_in_the_middle(tmp_path: Path, processes: DaskProcesses, expected: dict[str, bytes]) -> None:
    processes.start_worker()
    scheduler = processes.scheduler
    assert scheduler is not None
    world = slow(genus_world(tmp_path))
    killed: list[float] = []

    def on_progress(progress: Progress) -> None:
        if progress.done == 3:
            scheduler.send_signal(signal.SIGKILL)
            killed.append(time.monotonic())

    with open_compute(processes.spec) as compute:
        with pytest.raises(MaterializationError, match=f"connection to the Dask scheduler at {processes.address} is"):
            world.make(compute, on_progress)
        # The next partition of the same run doesn't wait either.
        with pytest.raises(MaterializationError, match="finished tiles are kept, and the next run makes the others"):
            world.make(compute)
    assert time.monotonic() - killed[0] < 60
    done = world.store.records()
    assert 3 <= len(done) < ALL_TILES
    scheduler.wait(10)
    processes.workers[0].wait(60)

    processes.start_scheduler()
    processes.start_worker()
    with open_compute(processes.spec) as compute:
        report = world.make(compute)
    # The worker may have finished what it was at when the scheduler went.
    assert 0 < report.made <= ALL_TILES - len(done)
    assert world.files() == expected


def test_a_worker_over_its_memory_limit(tmp_path: Path) -> None:
    world = slow(genus_world(tmp_path), 0, "y02x02", 1_000_000_000)
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        open_compute(DaskSpec("local", n_workers=1, memory_limit="800MB")) as compute,
        # Tiles that waited there are suspected, too.
        pytest.raises(
            MaterializationError, match=r"^tile .*y02x02.*: 2 workers died .* Choose smaller tiles \(tile_size\)"
        ),
    ):
        world.make(compute)
    assert "y02x02" not in world.store.records()


@pytest.mark.full  # how soon a worker notices its own memory depends on what else the machine does
def test_workers_that_are_paused(tmp_path: Path, processes: DaskProcesses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_PATIENCE", 3.0)
    processes.start_worker("800MB")
    told: list[str] = []
    world = slow(genus_world(tmp_path), 0, "y02x02", 700_000_000)
    with (
        open_compute(processes.spec, told.append) as compute,
        pytest.raises(MaterializationError, match=r"are paused, because .* tile .*y02x02.* Choose smaller tiles"),
    ):
        world.make(compute)
    assert any("is paused: it takes" in line and "y02x02" in line for line in told)


def test_all_workers_gone(tmp_path: Path, processes: DaskProcesses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_PATIENCE", 3.0)
    told: list[str] = []
    world = slow(genus_world(tmp_path))

    def on_progress(progress: Progress) -> None:
        if progress.done == 3:
            processes.workers[0].send_signal(signal.SIGKILL)

    def tell(line: str) -> None:
        told.append(line)
        if not processes.workers:
            # One that comes later is waited for.
            processes.start_worker()

    gone = f"all workers of {processes.address} are gone, for 3 s"
    with open_compute(processes.spec, tell) as compute:
        with pytest.raises(MaterializationError, match=gone):
            world.make(compute, on_progress)
        assert told[0] == f"the cluster of {processes.address} has no worker yet: waiting for one"
        assert 3 <= len(world.store.records()) < ALL_TILES

        # The next partition of the same run doesn't wait as for a cluster that is only starting.
        with pytest.raises(MaterializationError, match=gone):
            world.make(compute)
        assert told[-1] == f"the cluster of {processes.address} has none of its workers any more: waiting for one"

        # Where one comes back, all is well again.
        processes.start_worker()
        connected(processes, 1).close()
        assert world.make(compute).made > 0
    assert len(world.store.records()) == ALL_TILES


def test_a_worker_that_never_comes(tmp_path: Path, processes: DaskProcesses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_FIRST_PATIENCE", 5.0)
    monkeypatch.setattr(watch, "_PATIENCE", 2.0)
    world = genus_world(tmp_path)
    with open_compute(processes.spec) as compute:
        with pytest.raises(
            MaterializationError, match=rf"no worker has come to the cluster of {processes.address} for 5 s\. Start one"
        ):
            world.make(compute)
        with pytest.raises(MaterializationError, match=r"no worker has come to .* for 2 s"):
            world.make(compute)


def test_workers_that_go_between_two_partitions(
    tmp_path: Path, processes: DaskProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of an adaptive cluster do; new ones may have to queue for a node."""
    monkeypatch.setattr(watch, "_PATIENCE", 0.1)
    told: list[str] = []
    first = processes.start_worker()
    connected(processes, 1).close()

    def tell(line: str) -> None:
        told.append(line)
        processes.start_worker()

    with open_compute(processes.spec, tell) as compute:
        assert genus_world(tmp_path / "first").make(compute).made == ALL_TILES
        first.send_signal(signal.SIGKILL)
        first.wait(10)
        until_workers(processes, 0)
        assert genus_world(tmp_path / "second").make(compute).made == ALL_TILES
    assert told == [f"the cluster of {processes.address} has none of its workers any more: waiting for one"]


def test_a_frozen_scheduler(
    tmp_path: Path, processes: DaskProcesses, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_SILENCE_PATIENCE", 20.0)
    monkeypatch.setattr(watch, "_SILENCE_SECONDS", 3.0)
    processes.start_worker()
    connected(processes, 1).close()
    scheduler = processes.scheduler
    assert scheduler is not None
    world = slow(genus_world(tmp_path))
    told: list[str] = []
    with open_compute(processes.spec, told.append) as compute:
        with pytest.raises(
            MaterializationError, match=rf"scheduler at {processes.address} hasn't answered for \d+ s, although"
        ):
            world.make(compute, freezing(scheduler))
        (line,) = told
        assert line.startswith(f"the Dask scheduler at {processes.address} hasn't answered for ")
        assert 3 <= len(world.store.records()) < ALL_TILES
        scheduler.send_signal(signal.SIGCONT)
        world.make(compute)
    assert world.files() == expected


def test_a_scheduler_that_is_frozen_to_the_end(
    tmp_path: Path, processes: DaskProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leaving the cluster doesn't wait for it, and doesn't hide the error."""
    monkeypatch.setattr(watch, "_SILENCE_PATIENCE", 3.0)
    processes.start_worker()
    scheduler = processes.scheduler
    assert scheduler is not None
    world = slow(genus_world(tmp_path))
    frozen: list[float] = []

    def on_progress(progress: Progress) -> None:
        frozen.append(time.monotonic())
        freezing(scheduler)(progress)

    with pytest.raises(MaterializationError, match="hasn't answered"), open_compute(processes.spec) as compute:
        world.make(compute, on_progress)
    assert time.monotonic() - frozen[-1] < 30


def test_a_scheduler_that_is_silent_for_a_while(
    tmp_path: Path, processes: DaskProcesses, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_SILENCE_SECONDS", 3.0)
    processes.start_worker()
    scheduler = processes.scheduler
    assert scheduler is not None
    world = slow(genus_world(tmp_path))
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        if "hasn't answered" in line:
            scheduler.send_signal(signal.SIGCONT)

    with open_compute(processes.spec, tell) as compute:
        assert world.make(compute, freezing(scheduler)).made == ALL_TILES
    assert len([line for line in told if "hasn't answered" in line]) == 1
    assert world.files() == expected


def freezing(scheduler: subprocess.Popen[bytes]) -> Callable[[Progress], None]:
    """What stops the scheduler's process after three tiles."""

    def on_progress(progress: Progress) -> None:
        if progress.done == 3:
            scheduler.send_signal(signal.SIGSTOP)

    return on_progress
