from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from dagster._core.storage.noop_compute_log_manager import NoOpComputeLogManager  # no public name

from scs2_cubes.errors import StorageError
from scs2_cubes.orchestration.instance import open_instance, prepare_home


def children() -> Iterator[dict[str, str]]:
    """What the kernel says of this process's children (proc_pid_status(5))."""
    for path in Path("/proc").glob("[0-9]*/status"):
        # It may have ended since it was listed.
        with suppress(OSError):
            lines = path.read_text(encoding="utf-8").splitlines()
            said = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
            if said["PPid"] == str(os.getpid()):
                yield said


def test_a_home_that_cant_be_written_is_told(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a folder", encoding="utf-8")
    with pytest.raises(StorageError, match=r"can't keep Dagster's history in .*file/home: .* set DAGSTER_HOME"):
        prepare_home(in_the_way / "home")


def test_interruptions_still_reach_this_process(tmp_path: Path) -> None:
    with (
        open_instance(tmp_path) as instance,
        instance.compute_log_manager.capture_logs(["run", "compute_logs", "step"]),
    ):
        assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_what_captures_output_does_not_hear_them(tmp_path: Path) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("there is no /proc in which to look at signals")
    # Tests before this one may have left a process that serves them all, such as multiprocessing's.
    before = {child["Pid"] for child in children()}
    with (
        open_instance(tmp_path) as instance,
        instance.compute_log_manager.capture_logs(["run", "compute_logs", "step"]),
    ):
        helpers = [child for child in children() if child["Pid"] not in before]
    # tail and its watchdog, for each of two streams.
    assert len(helpers) == 4
    assert all(int(child["SigBlk"], 16) & 1 << signal.SIGINT - 1 for child in helpers)


def test_another_way_to_keep_output_is_left_alone(tmp_path: Path) -> None:
    kind = NoOpComputeLogManager
    text = f"compute_logs: {{module: {kind.__module__}, class: {kind.__name__}}}\n"
    (tmp_path / "dagster.yaml").write_text(text, encoding="utf-8")
    with open_instance(tmp_path) as instance:
        assert type(instance.compute_log_manager) is kind
