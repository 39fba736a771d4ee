"""What the long trials share: two cubes with nine tiles, made without any trouble, and what must lie there after it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from scs2_cubes.demo.catalogue import Catalogue
from scs2_cubes.demo.server import DemoServer
from scs2_cubes_tests.end_to_end.trial import GAMI, Ended, Tree, Trial, dataset, ended

__all__ = [
    "LATENCY",
    "TILES",
    "Undisturbed",
    "recorded",
    "require_completed",
    "require_honest",
    "run_counted",
    "slow_server",
    "trial_of",
    "undisturbed_cube",
]

EFDA = "disturbance-change/EFDA/EFDA_v2.1.1/EFDA_v2.1.1.json"
#: One job a tile, and one for each of four years.
CUBES: dict[str, dict[str, Any]] = {
    "gami": dataset("gami", GAMI, "demo"),
    "efda": {**dataset("efda", EFDA, "demo"), "open_params": {"time_range": ["2020-01-01", None]}},
}
TILES = 9
#: Seconds before each answer, so that tiles are under way at the same time.
LATENCY = 0.05
#: Paths of the cubes' pixels in their sources.
PIXELS = re.compile(r"\.zarr/(forest_age|disturbance_agent)/\d+(\.\d+)+$")
#: What is noted of a change that says that a tile is done.
RECORDED = re.compile("^put .*/tiles/")
#: ``scs2-cubes``, which counts the puts and deletions of objects, writes them to a file, and is killed some seconds
#: after it has begun with the one that is given (0: not at all). Signs of life of a claim depend on the time: they
#: don't count.
COUNTING = """
import os, signal, sys, threading
from pathlib import Path
from scs2_cubes.cli import main
from scs2_cubes.storage.objects import FsspecObjects, LocalObjects

told, number, delay = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
lock, changes = threading.Lock(), []

def counted(change):
    def counting(objects, key, *value):
        with lock:
            if "/claims/" not in key:
                changes.append(f"{change.__name__} {key}")
                if len(changes) == number:
                    threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
        return change(objects, key, *value)
    return counting

for kind in (FsspecObjects, LocalObjects):
    kind.put, kind.delete = counted(kind.put), counted(kind.delete)
try:
    main(sys.argv[4:])
finally:
    told.write_text("\\n".join(changes))
"""


@dataclass(frozen=True)
class Undisturbed:
    """A cube, made without any trouble."""

    cube: str
    tree: Tree
    requests: tuple[bool, ...]
    """Of each request to the source, in order, whether it was for pixels."""
    changes: tuple[bool, ...]
    """Of each change in the storage, in order, whether it put the record of a tile."""


def trial_of(cube: str, folder: Path, server: DemoServer) -> Trial:
    folder.mkdir()
    trial = Trial(folder, server)
    trial.data["datasets"] = [CUBES[cube]]
    trial.data["dask"] = {"mode": "threads", "n_workers": 2}
    return trial


def run_counted(trial: Trial, kill_at: int = 0, delay: float = 0.0) -> Ended:
    """The command in a process of its own, killed ``delay`` seconds after the change ``kill_at``; 0: left alone."""
    how = ("-c", COUNTING, str(trial.folder / "changes"), str(kill_at), str(delay))
    return ended(trial.start_python(how, "run", "--config", str(trial.write())))


@pytest.fixture(scope="module")
def slow_server() -> Iterator[DemoServer]:
    with DemoServer(latency=LATENCY, catalogue=Catalogue()) as running:
        yield running


@pytest.fixture(scope="module", params=CUBES)
def undisturbed_cube(
    request: pytest.FixtureRequest, slow_server: DemoServer, tmp_path_factory: pytest.TempPathFactory
) -> Undisturbed:
    trial = trial_of(request.param, tmp_path_factory.mktemp("undisturbed") / "trial", slow_server)
    slow_server.requests.clear()
    result = run_counted(trial)
    assert result.code == 0, result.said
    found = Undisturbed(
        cube=request.param,
        tree=trial.tree(),
        requests=tuple(PIXELS.search(entry.path) is not None for entry in slow_server.requests.entries()),
        changes=tuple(
            RECORDED.search(line) is not None for line in (trial.folder / "changes").read_text().splitlines()
        ),
    )
    assert recorded(found.tree) == TILES
    return found


def recorded(stored: Tree) -> int:
    """How many tiles are said to be done."""
    return sum("/tiles/" in key for key in stored)


def require_honest(stored: Tree, truth: Tree) -> None:
    """Every record is the undisturbed one, and so is every chunk of its tile, those that aren't there included."""
    for key in (key for key in stored if "/tiles/" in key):
        assert stored[key] == truth[key]
        tile = json.loads(stored[key])["tile"]
        chunk = re.compile(rf"\.zarr/\w+/(\d+\.)?{int(tile[1:3])}\.{int(tile[4:6])}$")
        ours, theirs = ({name: tree[name] for name in tree if chunk.search(name)} for tree in (stored, truth))
        assert theirs
        assert ours == theirs


def require_completed(trial: Trial, stored: Callable[[], Tree], truth: Tree) -> None:
    """The same command goes on to the same bytes."""
    trial.server.faults.latency = 0.0
    try:
        result = trial.run()
    finally:
        trial.server.faults.latency = LATENCY
    assert result.code == 0, result.said
    assert stored() == truth
