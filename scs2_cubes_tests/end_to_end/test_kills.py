"""Killed with -9 at random moments, on disk and on S3: what is recorded is there, and the same command completes it.

Moments are counted, not timed, in requests to the source and in changes of the storage: nearly all of a command's
time passes before its first pixel or after its last one, and how much depends on what else the machine does.
"""

from __future__ import annotations

import random
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from scs2_cubes.demo.answers import Answer
from scs2_cubes.demo.faults import MakeAnswer
from scs2_cubes.demo.server import DemoServer
from scs2_cubes_tests.end_to_end.long_trials import (
    TILES,
    Undisturbed,
    recorded,
    require_completed,
    require_honest,
    run_counted,
    trial_of,
)
from scs2_cubes_tests.end_to_end.trial import Ended, Tree, Trial, ended
from scs2_cubes_tests.s3.server import Bucket
from scs2_cubes_tests.s3.worlds import FOLDER, storage_entry

pytestmark = [pytest.mark.full, pytest.mark.timeout(1800)]

MOMENTS = 10
#: So many of them fall among the records of tiles, and so many at least have to be found there: tiles that are under
#: way at the same time don't end in the same order each time.
AMONG_TILES, FOUND_THERE = 4, 3
#: Longest times from what was counted to the kill, in seconds. After a request there is much to do; a change takes a
#: millisecond on disk, and some on S3.
AFTER_REQUEST, AFTER_CHANGE = 0.2, 0.005


@dataclass(frozen=True)
class Moment:
    """When a process is killed."""

    what: Literal["request", "change"]
    """What is counted."""
    number: int
    """Of which one; the first one is 1."""
    delay: float
    """How many seconds after it has begun."""


@dataclass(frozen=True)
class Attempt:
    """A place for a run that is killed, and for the next one."""

    trial: Trial
    stored: Callable[[], Tree]
    """Path below the storage's root → bytes."""


@dataclass(frozen=True)
class Place:
    """Where the cubes of a test lie."""

    name: str
    attempt: Callable[[], Attempt]
    """A new one."""


@dataclass
class Killing:
    """Answers as usual, and kills ``process`` some seconds after its request ``number``; the first one is 1."""

    process: subprocess.Popen[str]
    number: int
    delay: float
    count: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, path: str, make: MakeAnswer) -> Answer:
        del path
        with self.lock:
            self.count += 1
            is_it = self.count == self.number
        if is_it:
            threading.Timer(self.delay, self.process.send_signal, (signal.SIGKILL,)).start()
        return make()


@pytest.fixture(params=["disk", "s3"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, slow_server: DemoServer, undisturbed_cube: Undisturbed
) -> Iterator[Place]:
    started: list[Trial] = []

    def on_disk() -> Attempt:
        trial = trial_of(undisturbed_cube.cube, tmp_path / str(len(started)), slow_server)
        started.append(trial)
        return Attempt(trial, trial.tree)

    def on_s3() -> Attempt:
        bucket = first.server.bucket()
        trial = on_disk().trial
        trial.data["data_stores"][0] = storage_entry(bucket)
        return Attempt(trial, lambda: bucket.objects(FOLDER))

    if request.param == "s3":
        first: Bucket = request.getfixturevalue("bucket")
    yield Place(request.param, on_s3 if request.param == "s3" else on_disk)
    for trial in started:
        trial.stop_all()


def moments(rng: random.Random, undisturbed: Undisturbed) -> list[Moment]:
    """Before and after the first pixel is asked for; before, among and after the records of tiles."""
    requests, changes = undisturbed.requests, undisturbed.changes
    pixels = 1 + requests.index(True)
    records = [number for number, is_record in enumerate(changes, 1) if is_record]
    first, last = records[0], records[-1]
    numbers: list[tuple[Literal["request", "change"], list[int]]] = [
        ("request", spread(rng, 1, pixels - 1, 2)),
        ("request", [*spread(rng, pixels, len(requests) - 1, 1), len(requests)]),
        ("change", spread(rng, 1, first, 1)),
        ("change", spread(rng, first + 1, last, AMONG_TILES)),
        ("change", spread(rng, last + 1, len(changes), 1)),
    ]
    longest = {"request": AFTER_REQUEST, "change": AFTER_CHANGE}
    return [Moment(what, number, rng.uniform(0, longest[what])) for what, some in numbers for number in some]


def spread(rng: random.Random, first: int, last: int, count: int) -> list[int]:
    """Random numbers from ``first`` to ``last``, one in each of ``count`` equal parts."""
    width = (last + 1 - first) / count
    return [first + int((part + rng.random()) * width) for part in range(count)]


def run_until(moment: Moment, trial: Trial) -> Ended:
    """The command in a process of its own, killed at ``moment``."""
    if moment.what == "change":
        return run_counted(trial, moment.number, moment.delay)
    process = trial.start()
    # In time: before its first request a process imports for seconds.
    trial.server.faults.add(Killing(process, moment.number, moment.delay))
    try:
        return ended(process)
    finally:
        trial.server.faults.clear()


def kill_and_complete(moment: Moment, attempt: Attempt, truth: Tree) -> int:
    """Kill the command, and give it again.

    How many tiles were recorded by then; -1 where it was over before.
    """
    result = run_until(moment, attempt.trial)
    left = attempt.stored()
    require_honest(left, truth)
    require_completed(attempt.trial, attempt.stored, truth)
    assert not list((attempt.trial.root / ".partial").glob("*"))
    if result.code == -signal.SIGKILL:
        return recorded(left)
    assert result.code == 0, result.said
    return -1


def test_killed(place: Place, undisturbed_cube: Undisturbed) -> None:
    rng = random.Random(f"{undisturbed_cube.cube} on {place.name}")
    planned = moments(rng, undisturbed_cube)
    assert len(planned) == MOMENTS
    found = [kill_and_complete(moment, place.attempt(), undisturbed_cube.tree) for moment in planned]
    # It tells something where most were killed, and some of them in the middle of the tiles.
    seen = list(zip(planned, found, strict=True))
    assert sum(count >= 0 for count in found) >= MOMENTS - 1, seen
    assert sum(0 < count < TILES for count in found) >= FOUND_THERE, seen
