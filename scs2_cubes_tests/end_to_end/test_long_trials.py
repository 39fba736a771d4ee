"""A full disk: what is recorded is there, and once there is space the same command completes it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from scs2_cubes.demo.catalogue import Catalogue
from scs2_cubes.demo.server import DemoServer
from scs2_cubes_tests.end_to_end.trial import GAMI, Tree, Trial, dataset

pytestmark = [pytest.mark.full, pytest.mark.timeout(1800)]

EFDA = "disturbance-change/EFDA/EFDA_v2.1.1/EFDA_v2.1.1.json"
#: One job a tile, and one for each of four years.
CUBES: dict[str, dict[str, Any]] = {
    "gami": dataset("gami", GAMI, "demo"),
    "efda": {**dataset("efda", EFDA, "demo"), "open_params": {"time_range": ["2020-01-01", None]}},
}
TILES = 9
#: Seconds before each answer, so that tiles are under way at the same time.
LATENCY = 0.05
#: Attributes and state of the whole are written again with the last tile.
OF_THE_WHOLE = (".zattrs", ".zmetadata", "cube.json")


@dataclass(frozen=True)
class Undisturbed:
    """A cube, made without any trouble."""

    cube: str
    tree: Tree


def trial_of(cube: str, folder: Path, server: DemoServer) -> Trial:
    folder.mkdir()
    trial = Trial(folder, server)
    trial.data["datasets"] = [CUBES[cube]]
    trial.data["dask"] = {"mode": "threads", "n_workers": 2}
    return trial


@pytest.fixture(scope="module")
def server() -> Iterator[DemoServer]:
    with DemoServer(latency=LATENCY, catalogue=Catalogue()) as running:
        yield running


@pytest.fixture(scope="module", params=CUBES)
def undisturbed(
    request: pytest.FixtureRequest, server: DemoServer, tmp_path_factory: pytest.TempPathFactory
) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    trial = trial_of(request.param, folder / "trial", server)
    assert trial.run().code == 0
    found = Undisturbed(request.param, trial.tree())
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


@contextmanager
def small_disk(folder: Path, kibibytes: int) -> Iterator[None]:
    """A filesystem of that size at ``folder``; skips where nothing may be mounted."""
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={kibibytes}k", "none", str(folder)]
    mounted = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no filesystem can be mounted here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("room", [0.2, 0.5, 0.9])
def test_disk_full(room: float, tmp_path: Path, server: DemoServer, undisturbed: Undisturbed) -> None:
    """Room for a part of the cube; somebody else's file takes the rest, until it is removed."""
    truth = undisturbed.tree
    # What a tmpfs takes for a file: whole pages.
    needed = sum(-(-len(content) // 4096) * 4 for content in truth.values())
    trial = trial_of(undisturbed.cube, tmp_path / "trial", server)
    with small_disk(trial.root, 4 * needed):
        ballast = trial.root / "ballast"
        ballast.write_bytes(b"0" * (int((4 - room) * needed) * 1024))
        result = trial.run()
        assert result.code == 1
        assert "Nospaceleftondevice" in result.message_column
        assert "StorageError" in result.message_column
        left = trial.tree()
        assert recorded(left) < TILES
        require_honest(left, truth)
        # Nothing else than what would have been written, half or whole; no attributes of a complete cube.
        assert {key for key in left if not key.endswith(OF_THE_WHOLE)} <= truth.keys()

        ballast.unlink()
        before = trial.moments()
        require_completed(trial, trial.tree, truth)
        after = trial.moments()
        records = [key for key in left if "/tiles/" in key]
        assert {key: after[key] for key in records} == {key: before[key] for key in records}
        assert not list((trial.root / ".partial").glob("*"))
