"""A Dask cluster of processes that die, are lost, are out of memory or have other versions."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import Client

from scs2_cubes.core.specification import DaskSpec
from scs2_cubes.errors import ConfigurationError, MaterializationError
from scs2_cubes.pipeline import cluster, watch
from scs2_cubes.pipeline.compute import open_compute
from scs2_cubes.pipeline.installations import disagreements
from scs2_cubes.pipeline.materialize import Progress
from scs2_cubes_tests.pipeline.dask_processes import DaskProcesses, slow
from scs2_cubes_tests.pipeline.worlds import genus_world

#: Of the grid of 130 x 135 pixels, in tiles of 32.
ALL_TILES = 25


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[DaskProcesses]:
    folder = tmp_path / "dask"
    folder.mkdir()
    running = DaskProcesses(folder)
    running.start_scheduler()
    yield running
    running.stop()


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
    assert time.monotonic() - killed[0] < 10
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
        pytest.raises(MaterializationError, match=r"are paused, because .* tile y02x02.* Choose smaller tiles"),
    ):
        world.make(compute)
    assert any("is paused: it takes" in line and "with tile y02x02" in line for line in told)


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

    with (
        open_compute(processes.spec, tell) as compute,
        pytest.raises(MaterializationError, match=f"all workers of {processes.address} are gone, for 3 s"),
    ):
        world.make(compute, on_progress)
    assert told[0] == f"the cluster of {processes.address} has no worker yet: waiting for one"
    assert 3 <= len(world.store.records()) < ALL_TILES


def pretended(folder: Path, package: str, version: str) -> dict[str, str]:
    """An environment in which ``package`` is said to be installed as ``version``; what is imported is the same."""
    metadata = folder / "elsewhere" / f"{package}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    return {"PYTHONPATH": f"{metadata.parents[1]}:{Path(__file__).resolve().parents[2]}"}


def test_a_worker_with_another_version_of_ours(tmp_path: Path, processes: DaskProcesses) -> None:
    processes.start_worker()
    processes.start_worker(extra=pretended(tmp_path, "scs2_cubes", "9.9.9"))
    with (
        connected(processes, 2),
        pytest.raises(ConfigurationError, match=r"scs2_cubes is .* here, 9\.9\.9 on worker tcp://127") as raised,
        open_compute(processes.spec),
    ):
        pytest.fail("it must not be used")
    # The other one isn't blamed.
    assert str(raised.value).count("worker tcp://") == 1


@pytest.mark.filterwarnings("ignore::distributed.versions.VersionMismatchWarning")
def test_a_worker_with_another_numba_is_told_of(tmp_path: Path, processes: DaskProcesses) -> None:
    processes.start_worker(extra=pretended(tmp_path, "numba", "0.1.2"))
    told: list[str] = []
    with connected(processes, 1), open_compute(processes.spec, told.append):
        pass
    (line,) = told
    assert "numba is" in line
    assert "0.1.2 on worker tcp://127.0.0.1:" in line


def connected(processes: DaskProcesses, workers: int) -> Client:
    """A client that has seen that number of workers."""
    client = Client(processes.address)
    client.wait_for_workers(workers, timeout=60)
    return client


def answer(**packages: str | None) -> dict[str, Any]:
    same = {"scs2_cubes": "1", "python": "3.11.2.final.0", "dask": "1", "distributed": "1", "zarr": "1", "numpy": "1"}
    return {"packages": {**same, "numba": "1", **packages}}


@pytest.mark.parametrize(
    ("scheduler", "worker", "expected"),
    [
        ({}, {}, []),
        ({"dask": "2"}, {}, [("dask is 1 here, 2 on the scheduler", True)]),
        ({"scs2_cubes": None}, {}, [("scs2_cubes is 1 here, not installed on the scheduler", True)]),
        ({}, {"distributed": "2"}, [("distributed is 1 here, 2 on worker tcp://w:1", True)]),
        ({}, {"python": "3.12.2.final.0"}, [("python is 3.11.2 here, 3.12.2 on worker tcp://w:1", True)]),
        ({}, {"python": "3.11.9.final.0"}, [("python is 3.11.2 here, 3.11.9 on worker tcp://w:1", False)]),
        (
            {"zarr": "3"},
            {"zarr": "3", "numpy": "2"},
            [
                ("zarr is 1 here, 3 on the scheduler, worker tcp://w:1", False),
                ("numpy is 1 here, 2 on worker tcp://w:1", False),
            ],
        ),
    ],
)
def test_what_differs(
    scheduler: dict[str, str | None], worker: dict[str, str | None], expected: list[tuple[str, bool]]
) -> None:
    versions = {
        "client": answer(),
        "scheduler": answer(**scheduler),
        "workers": {"tcp://w:1": answer(**worker), "tcp://v:1": answer()},
    }
    assert [(one.text, one.is_fatal) for one in disagreements(versions)] == expected


def test_many_workers_are_counted() -> None:
    workers = {f"tcp://w:{number}": answer(numpy="2") for number in range(1, 7)}
    (found,) = disagreements({"client": answer(), "scheduler": answer(), "workers": workers})
    assert found.text == "numpy is 1 here, 2 on worker tcp://w:1, worker tcp://w:2, worker tcp://w:3 and 3 more"


def test_hosts_that_are_not_this_one() -> None:
    # 192.0.2.0/24 and 2001:db8::/32 are for documentation: no machine has an address there (RFC 5737, RFC 3849).
    assert cluster._strangers(["127.0.0.1", "192.0.2.7", "::1", "2001:db8::7", "127.0.0.1"]) == [
        "192.0.2.7",
        "2001:db8::7",
    ]


def test_workers_elsewhere_with_folders_of_this_machine(
    processes: DaskProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes.start_worker()
    told: list[str] = []
    with connected(processes, 1):
        with open_compute(processes.spec, told.append, ["/data/cubes"]):
            pass
        assert told == []
        monkeypatch.setattr(cluster, "_is_here", lambda _: False)
        with open_compute(processes.spec, told.append):
            pass
        assert told == []
        with open_compute(processes.spec, told.append, ["/data/cubes"]):
            pass
    (line,) = told
    assert "other hosts (127.0.0.1)" in line
    assert "/data/cubes" in line
