"""Workers that don't see the folders of this machine."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from distributed import Client

from scs2_cubes.errors import ConfigurationError
from scs2_cubes.pipeline import admission
from scs2_cubes.pipeline.admission import Admission, absent, marked
from scs2_cubes.pipeline.compute import open_compute
from scs2_cubes_tests.pipeline.dask_processes import DaskProcesses, connected, slow
from scs2_cubes_tests.pipeline.test_installations import older_checkout
from scs2_cubes_tests.pipeline.worlds import genus_world

#: The same path, but another folder for each process: as /data is on each computer.
UNSHARED = "/proc/self/cwd"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This process's folder at that path."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_a_folder_that_all_see(tmp_path: Path, processes: DaskProcesses, here: Path) -> None:
    processes.start_worker(cwd=here)
    processes.start_worker(cwd=here)
    told: list[str] = []
    with connected(processes, 2), open_compute(processes.spec, told.append, [UNSHARED, str(tmp_path / "not made yet")]):
        assert list(here.iterdir()) == []
    assert told == []
    assert not (tmp_path / "not made yet").exists()


def test_a_folder_that_one_does_not_see(tmp_path: Path, processes: DaskProcesses, here: Path) -> None:
    processes.start_worker(cwd=here)
    processes.start_worker()
    with connected(processes, 2) as client:
        workers = client.scheduler_info(n_workers=-1)["workers"]
    with (
        pytest.raises(ConfigurationError, match=r"don't see folders of this machine .*put them on S3") as raised,
        open_compute(processes.spec, folders=[str(tmp_path), UNSHARED]),
    ):
        pytest.fail("it must not be used")
    (blind,) = [address for address, worker in workers.items() if worker["name"] == "worker1"]
    assert re.findall(r"(\S+) by (tcp://[^;]*?)\. Share", str(raised.value)) == [(UNSHARED, blind)]
    assert list(here.iterdir()) == []


def test_one_that_comes_later(tmp_path: Path, processes: DaskProcesses, here: Path) -> None:
    processes.start_worker(cwd=here)
    world = slow(genus_world(tmp_path), 1.0)

    def on_progress(_: object) -> None:
        if len(processes.workers) == 1:
            processes.start_worker()

    with (
        connected(processes, 1),
        open_compute(processes.spec, folders=[UNSHARED]) as compute,
        pytest.raises(ConfigurationError, match=f"{UNSHARED} by tcp://127"),
    ):
        world.make(compute, on_progress)
    assert list(here.iterdir()) == []


def test_the_cause_comes_before_what_came_of_it(tmp_path: Path, processes: DaskProcesses, here: Path) -> None:
    """Not the error of its tile, which says that the claim is gone."""
    assert here
    world = genus_world(tmp_path)

    def tell(_: str) -> None:
        """Nothing is there yet when the run connects: a worker that sees nothing makes the first tile."""
        processes.start_worker()

    with (
        open_compute(processes.spec, tell, folders=[UNSHARED]) as compute,
        pytest.raises(ConfigurationError, match="don't see folders"),
    ):
        world.make(compute)


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    with marked(tmp_path) as old, marked(tmp_path) as recent:
        hours = time.time() - 2 * 3600
        os.utime(old, (hours, hours))
        cube = tmp_path / "genus.zarr"
        cube.mkdir()
        os.utime(cube, (hours, hours))
        with marked(tmp_path) as own:
            assert len({old, recent, own}) == 3
            assert {path.name for path in tmp_path.iterdir()} == {recent.name, own.name, cube.name}
    assert [path.name for path in tmp_path.iterdir()] == [cube.name]


def test_markers_go_with_errors_and_with_others_in_the_way(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), marked(tmp_path):
        raise KeyboardInterrupt
    with marked(tmp_path) as marker:
        marker.unlink()
    assert list(tmp_path.iterdir()) == []


def test_what_is_absent(tmp_path: Path) -> None:
    assert absent([str(tmp_path), str(tmp_path / "nothing")]) == [str(tmp_path / "nothing")]


def test_a_folder_that_can_not_be_written(processes: DaskProcesses) -> None:
    processes.start_worker()
    told: list[str] = []
    # Not even root makes files there.
    with connected(processes, 1), open_compute(processes.spec, told.append, ["/proc/self"]):
        pass
    (line,) = told
    assert line.startswith("can't write to /proc/self, so whether workers see it isn't known: ")


def test_workers_that_do_not_answer(processes: DaskProcesses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "_ANSWER_SECONDS", 2.0)
    processes.start_worker()
    told: list[str] = []
    with connected(processes, 1) as client:
        (address,) = client.scheduler_info(n_workers=-1)["workers"]
        processes.workers[0].send_signal(signal.SIGSTOP)
        with open_compute(processes.spec, told.append):
            pass
        processes.workers[0].send_signal(signal.SIGCONT)
    (line,) = told
    assert f"of {address} of the cluster of {processes.address} it isn't known whether" in line


def address_of(client: Client, name: str) -> str:
    workers = client.scheduler_info(n_workers=-1)["workers"]
    (address,) = [address for address, worker in workers.items() if worker["name"] == name]
    return str(address)


def test_one_that_does_not_answer_hides_no_other(
    tmp_path: Path, processes: DaskProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "_ANSWER_SECONDS", 5.0)
    processes.start_worker()
    processes.start_worker(extra=older_checkout(tmp_path))
    with connected(processes, 2) as client:
        older = address_of(client, "worker1")
        processes.workers[0].send_signal(signal.SIGSTOP)
        with (
            pytest.raises(ConfigurationError, match=f"source text of scs2_cubes is .* on worker {older}"),
            open_compute(processes.spec),
        ):
            pytest.fail("it must not be used")
        processes.workers[0].send_signal(signal.SIGCONT)


def test_one_that_did_not_answer_is_asked_again_by_itself(
    tmp_path: Path, processes: DaskProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "_ANSWER_SECONDS", 5.0)
    asked: list[list[str]] = []
    real = Admission._require_agreement

    def require_agreement(self: Admission, workers: Sequence[str], timeout: float) -> set[str]:
        asked.append(list(workers))
        return real(self, workers, timeout)

    monkeypatch.setattr(Admission, "_require_agreement", require_agreement)
    processes.start_worker()
    processes.start_worker(extra=older_checkout(tmp_path))
    told: list[str] = []
    with connected(processes, 2) as client:
        other, older = address_of(client, "worker0"), address_of(client, "worker1")
        processes.workers[1].send_signal(signal.SIGSTOP)
        examining = Admission(client, processes.address, [str(tmp_path)], told.append)
        examining.examine([other, older])
        # Not before a minute is over.
        examining.examine([other, older])
        assert asked == [sorted([other, older])]
        # It is still stopped, and not taken for examined.
        monkeypatch.setattr(admission, "_AGAIN_SECONDS", 0.0)
        examining._silent[older] = 0.0
        examining.examine([other, older])
        processes.workers[1].send_signal(signal.SIGCONT)
        monkeypatch.setattr(admission, "_AGAIN_ANSWER_SECONDS", 30.0)
        with pytest.raises(ConfigurationError, match=f"source text of scs2_cubes is .* on worker {older}"):
            examining.examine([other, older])
    assert asked == [sorted([other, older]), [older], [older]]
    (line,) = told
    assert line.startswith(f"of {older} of the cluster of {processes.address} it isn't known whether")
