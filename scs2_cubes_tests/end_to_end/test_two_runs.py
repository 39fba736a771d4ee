"""Two processes at once on one cube, on disk and on S3: whoever comes second waits, and what lies there is right."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from scs2_cubes_tests.end_to_end.trial import GENUS, Tree, Trial, dataset, ended, region, wait_until
from scs2_cubes_tests.s3.server import Bucket
from scs2_cubes_tests.s3.worlds import FOLDER, storage_entry

CUBE = "forestpaths_genus"
#: ``scs2-cubes``, which stops before one of its chunks (0: before none) until it may go on, and shows that it waits.
STOPPING = """
import sys, threading, time
from pathlib import Path
from scs2_cubes.cli import main
from scs2_cubes.preload.claims import Contender
from scs2_cubes.storage.zarr_cube import ZarrCube

folder, number = Path(sys.argv[1]), int(sys.argv[2])
write, take, lock, calls = ZarrCube.write_plane, Contender.take, threading.Lock(), 0

def stopping(*arguments):
    global calls
    with lock:
        calls += 1
        mine = calls
    if mine == number:
        (folder / "stopped").touch()
    while number and mine >= number and not (folder / "go").exists():
        time.sleep(0.01)
    return write(*arguments)

def watched(contender):
    claim = take(contender)
    if claim is None:
        (folder / "waiting").touch()
    return claim

ZarrCube.write_plane, Contender.take = stopping, watched
main(sys.argv[3:])
"""


@dataclass
class Meeting:
    """One cube, and processes that make it."""

    trial: Trial
    folder: Path
    stored: Callable[[], Tree]
    """Path below the storage's root → bytes."""
    count: int = 0

    def start(self, stops_before: int = 0) -> subprocess.Popen[str]:
        """A run with a history of its own, as on another machine."""
        self.count += 1
        return self.trial.start_python(
            ("-c", STOPPING, str(self.folder), str(stops_before)),
            "run",
            "--config",
            str(self.trial.write()),
            extra={"DAGSTER_HOME": str(self.folder / f"history-{self.count}")},
        )

    def has(self, name: str) -> bool:
        return (self.folder / name).exists()

    def let_go(self) -> None:
        (self.folder / "go").touch()

    @property
    def records(self) -> set[str]:
        return {name for name in self.stored() if "/tiles/" in name}

    @property
    def claims(self) -> set[str]:
        return {name for name in self.stored() if "/claims/" in name}


@pytest.fixture(params=["disk", "s3"])
def meeting(request: pytest.FixtureRequest, trial: Trial, tmp_path: Path) -> Meeting:
    trial.data["datasets"] = [dataset(CUBE, GENUS, "demo")]
    stored: Callable[[], Tree] = trial.tree
    if request.param == "s3":
        bucket: Bucket = request.getfixturevalue("bucket")
        trial.data["data_stores"][0] = storage_entry(bucket)

        def stored() -> Tree:
            return bucket.objects(FOLDER)

    folder = tmp_path / "meeting"
    folder.mkdir()
    return Meeting(trial, folder, stored)


def undisturbed(meeting: Meeting, folder: Path) -> Tree:
    """What one run makes of the source as it is now, on disk."""
    folder.mkdir()
    fresh = Trial(folder, meeting.trial.server)
    fresh.data["datasets"] = meeting.trial.data["datasets"]
    result = fresh.run()
    assert result.code == 0, result.out + result.err
    return fresh.tree()


def require_current(meeting: Meeting) -> None:
    """One more run finds nothing to do."""
    result = meeting.trial.run()
    assert result.code == 0, result.out + result.err
    assert "All current: nothing to do." in result.out


@pytest.mark.parametrize(
    "newer", [pytest.param(False, marks=pytest.mark.full, id="same version"), pytest.param(True, id="newer version")]
)
def test_the_second_waits(meeting: Meeting, tmp_path: Path, *, newer: bool) -> None:
    first = meeting.start(stops_before=4)
    wait_until(lambda: meeting.has("stopped"), first)
    if newer:
        meeting.trial.server.catalogue.publish("FORESTPATHS_GENUS", 2)
    before = meeting.records
    second = meeting.start()
    wait_until(lambda: meeting.has("waiting"), second)
    assert meeting.records == before
    assert len(meeting.claims) == 1
    meeting.let_go()
    one, two = ended(first), ended(second)
    assert one.code == 0, one.out + one.err
    assert two.code == 0, two.out + two.err
    assert f"process {first.pid} on " in two.out + two.err
    stored = meeting.stored()
    assert stored == undisturbed(meeting, tmp_path / "fresh")
    require_current(meeting)
    assert meeting.stored() == stored


@pytest.mark.full
def test_who_was_told_of_an_older_version_does_not_go_back(meeting: Meeting, tmp_path: Path) -> None:
    """The second one begins before the source changes, and gets its turn afterwards."""
    first = meeting.start(stops_before=4)
    wait_until(lambda: meeting.has("stopped"), first)
    second = meeting.start()
    wait_until(lambda: meeting.has("waiting"), second)
    meeting.trial.server.catalogue.publish("FORESTPATHS_GENUS", 2)
    meeting.let_go()
    for process in (first, second):
        result = ended(process)
        assert result.code == 0, result.out + result.err
    assert meeting.stored() == undisturbed(meeting, tmp_path / "fresh")
    require_current(meeting)


def test_the_holder_is_killed(meeting: Meeting, tmp_path: Path) -> None:
    first = meeting.start(stops_before=4)
    wait_until(lambda: meeting.has("stopped"), first)
    second = meeting.start()
    wait_until(lambda: meeting.has("waiting"), second)
    first.send_signal(signal.SIGKILL)
    assert ended(first).code == -signal.SIGKILL
    meeting.let_go()
    result = ended(second, 50)
    assert result.code == 0, result.out + result.err
    assert meeting.stored() == undisturbed(meeting, tmp_path / "fresh")
    require_current(meeting)


@pytest.mark.full
def test_killed_after_the_last_word(meeting: Meeting, tmp_path: Path) -> None:
    """Nothing but its claim is left to be done."""
    truth = undisturbed(meeting, tmp_path / "fresh")
    program = STOPPING.replace("main(", "import os, signal\nClaim.release = die\nmain(").replace(
        "import Contender\n",
        "import Claim, Contender\n"
        "def die(claim):\n"
        "    if claim.notice.key.startswith('partition'):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    release(claim)\n"
        "release = Claim.release\n",
    )
    arguments = ("run", "--config", str(meeting.trial.write()))
    killed = meeting.trial.start_python(("-c", program, str(meeting.folder), "0"), *arguments)
    assert ended(killed).code == -signal.SIGKILL
    left = meeting.stored()
    assert truth.items() < left.items()
    assert left.keys() - truth.keys() == meeting.claims
    result = meeting.trial.run()
    assert result.code == 0, result.out + result.err
    assert meeting.stored() == truth
    require_current(meeting)


@pytest.mark.full
def test_who_was_told_of_an_older_version_and_finds_nobody_does_not_go_back(meeting: Meeting, tmp_path: Path) -> None:
    """A run of two partitions stops in its first; another one makes the second at a newer version, and has ended."""
    boxes = {"first": [3430000, 2450000, 3431920, 2451920], "second": [3441000, 2450000, 3442920, 2451920]}
    trial = meeting.trial
    trial.data["grid_mappings"] = [region(name, box, 32) for name, box in boxes.items()]
    trial.data["datasets"] = [dataset(CUBE, GENUS, list(boxes))]

    def second_region() -> Tree:
        stored = trial.tree(f"*/{CUBE}") or meeting.stored()
        return {name: content for name, content in stored.items() if name.startswith("second/")}

    first = meeting.start(stops_before=1)
    wait_until(lambda: meeting.has("stopped"), first)
    trial.server.catalogue.publish("FORESTPATHS_GENUS", 2)
    second = trial.run("--region", "second")
    assert second.code == 0, second.out + second.err
    newer = second_region()
    assert newer
    meeting.let_go()
    one = ended(first)
    assert one.code == 0, one.out + one.err
    assert second_region() == newer
    # Of the first one it was told before the source changed.
    result = trial.run()
    assert result.code == 0, result.out + result.err
    assert second_region() == newer
    require_current(meeting)
