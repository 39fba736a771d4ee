"""Moving a cube aside: nothing is deleted, nothing counts as done, whatever interrupts it."""

from __future__ import annotations

import contextlib
import io
import uuid
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scs2_cubes.cli import main
from scs2_cubes.core.cube import CubeLayer, CubeSchema, TileRecord
from scs2_cubes.core.grid import Grid
from scs2_cubes.core.specification import StorageSpec
from scs2_cubes.errors import CubeNotFoundError, StorageError
from scs2_cubes.storage import CubeStore, open_cube_store
from scs2_cubes.storage.objects import FsspecObjects
from scs2_cubes.storage.zarr_cube import ZarrCube
from scs2_cubes_tests.pipeline.editions import TILES, Archive, Disk, DiskFullError, World, tree
from scs2_cubes_tests.storage.worlds import Place

GRID = Grid.from_bbox([3401404, 2346797, 3401704, 2347007], "EPSG:3035", 30, (4, 3))
SCHEMA = CubeSchema((CubeLayer("genus", "uint8", 255),), GRID, ("2020-01-01T00:00:00",), time_is_dim=False)
NAME = "landes/forest"


def finish(cube: CubeStore, place: Place) -> None:
    """Retire what is left of an interrupted retirement, if anything is."""
    if any("retired" not in name for name in place.files()):
        assert cube.retire().endswith("forest.retired-1.zarr")


def made(where: Path | str | Place, value: int = 1, *, is_finished: bool = True) -> CubeStore:
    """A cube with one finished tile; without its records where it isn't ``is_finished``."""
    cube = open_cube_store(where.spec if isinstance(where, Place) else StorageSpec(str(where)), NAME)
    cube.create(SCHEMA)
    tile = GRID.tile(0, 0)
    cube.write_plane(SCHEMA, "genus", 0, tile, np.full(tile.window.shape, value, "uint8"))
    if is_finished:
        cube.write_record(TileRecord(tile.key, "abc", "v1", 12, {"genus": 12}, 1, 0, value, 0))
        cube.write_document("cube.json", {"complete": False})
    return cube


def moved(files: dict[str, bytes], number: int) -> dict[str, bytes]:
    return {name.replace("forest.", f"forest.retired-{number}.", 1): value for name, value in files.items()}


class TestMoving:
    def test_all_of_it_goes_aside(self, tmp_path: Path) -> None:
        cube = made(tmp_path)
        before = tree(tmp_path)
        where = cube.retire()
        assert where == str(tmp_path / "landes/forest.retired-1.zarr")
        assert tree(tmp_path) == moved(before, 1)
        assert cube.records() == {}
        assert not cube.exists()
        with pytest.raises(CubeNotFoundError):
            cube.open()

    def test_the_number_counts_up(self, tmp_path: Path) -> None:
        kept: dict[str, bytes] = {}
        for number in (1, 2, 3):
            cube = made(tmp_path, number)
            mine = {name: value for name, value in tree(tmp_path).items() if "retired" not in name}
            assert cube.retire().endswith(f"forest.retired-{number}.zarr")
            kept |= moved(mine, number)
            assert tree(tmp_path) == kept
        assert len(kept) == 3 * len(mine)

    def test_what_is_aside_is_a_cube_of_its_own(self, tmp_path: Path) -> None:
        made(tmp_path, 3).retire()
        aside = open_cube_store(StorageSpec(str(tmp_path)), f"{NAME}.retired-1")
        assert list(aside.records()) == ["y00x00"]
        assert int(aside.open()["genus"][0, 0]) == 3

    def test_nothing_to_retire(self, tmp_path: Path) -> None:
        cube = open_cube_store(StorageSpec(str(tmp_path)), NAME)
        with pytest.raises(CubeNotFoundError, match=r"landes/forest\.zarr, so there is nothing to move aside"):
            cube.retire()
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("part", ["zarr", "records"])
    def test_what_is_left_of_one(self, tmp_path: Path, part: str) -> None:
        """A cube without records, and records without a cube."""
        cube = made(tmp_path)
        folder = tmp_path / f"landes/forest.{part}"
        folder.rename(tmp_path / "elsewhere")
        before = tree(tmp_path)
        cube.retire()
        assert tree(tmp_path) == moved(before, 1)

    def test_a_crash_between_the_two_moves(self, tmp_path: Path) -> None:
        made(tmp_path)
        before = tree(tmp_path)
        whole = ZarrCube.at(StorageSpec(str(tmp_path)), NAME)
        with pytest.raises(DiskFullError):
            ZarrCube(NAME, whole.storage, Disk(whole.objects, 1)).retire()
        # The cube lies there still, but nothing of it counts as done.
        assert whole.exists()
        assert whole.records() == {}
        assert sorted(tree(tmp_path).values()) == sorted(before.values())
        whole.retire()
        assert not whole.exists()
        assert sorted(tree(tmp_path).values()) == sorted(before.values())
        assert not [name for name in tree(tmp_path) if "retired" not in name]

    def test_in_memory(self) -> None:
        storage = StorageSpec(f"memory://scs2-{uuid.uuid4().hex}")
        cube = open_cube_store(storage, NAME)
        cube.create(SCHEMA)
        cube.write_record(TileRecord("y00x00", "abc", "v1", 12, {"genus": 12}, 1, 0, 1, 0))
        assert cube.retire().endswith("forest.retired-1.zarr")
        assert not cube.exists()
        assert cube.records() == {}
        cube.create(SCHEMA)
        assert cube.retire().endswith("forest.retired-2.zarr")
        aside = open_cube_store(storage, f"{NAME}.retired-1")
        assert list(aside.records()) == ["y00x00"]
        assert aside.exists()

    @pytest.mark.parametrize("method", ["_copy", "_remove_all"])
    @pytest.mark.parametrize("part", range(3))
    @pytest.mark.parametrize("is_before", [True, False])
    def test_an_object_store_that_goes_away(
        self, monkeypatch: pytest.MonkeyPatch, method: str, part: int, *, is_before: bool
    ) -> None:
        """All of the cube comes to lie under one number, at whichever step of whichever part it was interrupted."""
        place = Place(f"memory://scs2-{uuid.uuid4().hex}")
        cube = made(place.root)
        cube.write_picture("landes.overview.png", b"picture")
        before = place.files()
        real, calls = getattr(FsspecObjects, method), count()

        def interrupted(objects: FsspecObjects, *given: Any) -> None:
            is_it = next(calls) == part
            if not (is_it and is_before):
                real(objects, *given)
            if is_it:
                raise StorageError("gone")

        with monkeypatch.context() as patched:
            patched.setattr(FsspecObjects, method, interrupted)
            with pytest.raises(StorageError, match="gone"):
                cube.retire()
        assert set(before.values()) <= set(place.files().values())
        finish(cube, place)
        aside = place.files()
        # Where nothing is left to retire but the sign of the last move, the next retirement removes that.
        aside.pop(f"{NAME}.retired-1.quicklooks.moving", None)
        assert aside == moved(before, 1)
        made(place.root, 2)
        again = moved({name: value for name, value in place.files().items() if "retired" not in name}, 2)
        assert cube.retire().endswith("forest.retired-2.zarr")
        assert place.files() == aside | again

    def test_another_cube_does_not_go_where_one_was_interrupted(self, tmp_path: Path) -> None:
        """Records are aside, and the tiles have been made again since."""
        made(tmp_path)
        (tmp_path / "landes/forest.records").rename(tmp_path / "landes/forest.retired-1.records")
        cube = made(tmp_path, 2)
        assert cube.retire().endswith("forest.retired-2.zarr")
        assert not cube.exists()

    @pytest.mark.parametrize("part", range(2))
    @pytest.mark.parametrize("left", ["copies", "part of it", "only the mark"])
    def test_another_cube_does_not_go_where_one_was_interrupted_in_an_object_store(
        self, monkeypatch: pytest.MonkeyPatch, place: Place, part: int, left: str
    ) -> None:
        """Made again since, by the same names, at whichever moment of the first move or the second."""
        if place.root.startswith("/"):
            pytest.skip("on disk a move is one call")
        cube = made(place)
        real, calls = FsspecObjects._remove_all, count()

        def interrupted(objects: FsspecObjects, prefix: str, names: list[str], what: str) -> None:
            is_it = next(calls) == part
            gone = {"copies": [], "part of it": names[:1], "only the mark": names}[left] if is_it else names
            real(objects, prefix, gone, what)
            if is_it:
                raise StorageError("gone")

        with monkeypatch.context() as patched:
            patched.setattr(FsspecObjects, "_remove_all", interrupted)
            with pytest.raises(StorageError, match="gone"):
                cube.retire()
        aside = {name: value for name, value in place.files().items() if "retired-1" in name}
        (mark,) = (name for name in aside if name.endswith(".moving"))
        del aside[mark]
        # Where the second move was interrupted, records would tell it, too.
        made(place, 2, is_finished=not part)
        mine = moved({name: value for name, value in place.files().items() if "retired" not in name}, 2)
        assert cube.retire().endswith("forest.retired-2.zarr")
        assert place.files() == aside | mine


# The command.


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


def command(*arguments: str) -> Ended:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main(arguments)
    return Ended(int(ended.value.code or 0), out.getvalue(), err.getvalue())


@pytest.fixture
def world(tmp_path: Path) -> World:
    archive = Archive(tmp_path / "archive")
    archive.publish()
    return World(tmp_path / "world", archive)


class TestCommand:
    def test_makes_room_for_another_cube(self, world: World) -> None:
        world.make()
        before = world.tree()
        world.data["grid_mappings"][0]["tile_size"] = 8
        ended = command("retire", "forest", "--config", str(world.write()))
        assert (ended.code, ended.out) == (0, f"moved to {world.root}/forest.retired-1.zarr\n")
        assert world.tree() == moved(before, 1)
        assert world.make().made == 4 * TILES
        assert {name: value for name, value in world.tree().items() if "retired" in name} == moved(before, 1)

    def test_after_a_crash_between_the_moves_all_is_made_again(self, world: World) -> None:
        world.make()
        before = world.tree()
        (world.root / "forest.records").rename(world.root / "forest.retired-1.records")
        assert world.make().made == TILES
        assert {name: value for name, value in world.tree().items() if "retired" not in name} == before

    def test_nothing_to_retire(self, world: World) -> None:
        ended = command("retire", "forest", "--config", str(world.write()))
        assert ended.code == 1
        assert "CubeNotFoundError: there is no cube at" in ended.err
        assert "Traceback" not in ended.err
        assert not world.root.exists()

    def test_an_unknown_cube(self, world: World) -> None:
        ended = command("retire", "forst", "--config", str(world.write()))
        assert ended.code == 2
        assert "no dataset 'forst'; there are: forest" in ended.err

    def test_several_regions(self, world: World) -> None:
        first = world.data["grid_mappings"][0]
        world.data["grid_mappings"].append({**first, "identifier": "there"})
        world.dataset["grid_mapping"] = ["here", "there"]
        path = str(world.write())
        world.make()
        before = world.tree()
        for arguments, problem in (
            ((), "several regions; say which"),
            (("--region", "nowhere"), "no region 'nowhere'"),
        ):
            ended = command("retire", "forest", "--config", path, *arguments)
            assert ended.code == 2
            assert f"dataset 'forest' has {problem}: here, there" in ended.err
        assert world.tree() == before
        assert command("retire", "forest", "--config", path, "--region", "there").code == 1
        assert command("retire", "forest", "--config", path, "--region", "here").code == 0
        assert {name.split("/")[0] for name in world.tree()} == {"here"}
        assert not (world.root / "here/forest.zarr").exists()
