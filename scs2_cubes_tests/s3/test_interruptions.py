"""The server dies in the middle: retried or told, nothing is said to be done that isn't, and the next run completes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scs2_cubes.errors import Scs2CubesError
from scs2_cubes_tests.pipeline.editions import TILES, Archive, Disk, World
from scs2_cubes_tests.s3.server import Bucket, Rgw
from scs2_cubes_tests.s3.worlds import FOLDER, on_s3

#: Puts of a cube's metadata and coordinates, before its pixels.
DOCUMENTS = 20


@pytest.fixture
def server(rgw: Rgw) -> Iterator[Rgw]:
    """Runs when the test begins, and afterwards."""
    yield rgw
    rgw.start()


@pytest.fixture
def world(tmp_path: Path, bucket: Bucket) -> World:
    return on_s3(tmp_path, bucket)


@pytest.fixture
def undisturbed(world: World, tmp_path: Path) -> dict[str, bytes]:
    disk = World(tmp_path / "disk", Archive(tmp_path / "archive"))
    disk.make()
    return disk.tree()


def require_honest(stored: dict[str, bytes], truth: dict[str, bytes]) -> int:
    """Every record is the undisturbed one, and so is each chunk of its tile; the number of records."""
    # Attributes and state of the whole come with the last tile.
    last = (".zattrs", ".zmetadata", "cube.json")
    assert {item for item in stored.items() if not item[0].endswith(last)} <= truth.items()
    records = [json.loads(value)["tile"] for key, value in stored.items() if "/tiles/" in key]
    for tile in records:
        row, col = int(tile[1:3]), int(tile[4:6])
        chunks = [key for key in truth if ".zarr/" in key and key.endswith(f".{row}.{col}")]
        assert len(chunks) == 4
        assert set(chunks) <= stored.keys()
    return len(records)


class Moment:
    """Does something once, after a number of changes."""

    def __init__(self, changes: int, action: Callable[[], None]) -> None:
        self.left = changes
        self.action = action
        self.lock = threading.Lock()

    def __call__(self) -> None:
        with self.lock:
            self.left -= 1
            if self.left == 0:
                self.action()


@pytest.mark.parametrize("after", [3, DOCUMENTS + 9, pytest.param(DOCUMENTS + 16, marks=pytest.mark.full)])
def test_killed_for_good(server: Rgw, world: World, bucket: Bucket, undisturbed: dict[str, bytes], after: int) -> None:
    moment = Moment(after, server.kill_gateway)
    with pytest.raises(Scs2CubesError, match=r"run again|could not be made|can't write"):
        world.make(lambda objects: Disk(objects, seen=moment))
    assert moment.left <= 0
    server.start()
    done = require_honest(bucket.objects(FOLDER), undisturbed)
    assert done < TILES
    assert world.make().made == TILES - done
    assert bucket.objects(FOLDER) == undisturbed


def test_killed_and_back_in_time(server: Rgw, world: World, bucket: Bucket, undisturbed: dict[str, bytes]) -> None:
    """The run doesn't notice more than a delay."""
    world.data["general"]["retry"] = {"max_attempts": 10, "timeout": 20}
    back = threading.Thread(target=server.start)

    def restart() -> None:
        server.kill_gateway()
        back.start()

    moment = Moment(DOCUMENTS + 5, restart)
    assert world.make(lambda objects: Disk(objects, seen=moment)).made == TILES
    back.join()
    assert bucket.objects(FOLDER) == undisturbed
