"""A full disk: what is recorded is there, and once there is space the same command completes it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scs2_cubes.demo.server import DemoServer
from scs2_cubes_tests.end_to_end.long_trials import (
    TILES,
    Undisturbed,
    recorded,
    require_completed,
    require_honest,
    trial_of,
)

pytestmark = [pytest.mark.full, pytest.mark.timeout(1800)]

#: Attributes and state of the whole are written again with the last tile.
OF_THE_WHOLE = (".zattrs", ".zmetadata", "cube.json")


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
def test_disk_full(room: float, tmp_path: Path, slow_server: DemoServer, undisturbed_cube: Undisturbed) -> None:
    """Room for a part of the cube; somebody else's file takes the rest, until it is removed."""
    truth = undisturbed_cube.tree
    # What a tmpfs takes for a file: whole pages.
    needed = sum(-(-len(content) // 4096) * 4 for content in truth.values())
    trial = trial_of(undisturbed_cube.cube, tmp_path / "trial", slow_server)
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
