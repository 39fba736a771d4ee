"""Making, interrupting, resuming and remaking a cube."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from scs2_cubes.core.cube import CubeSchema, TileRecord
from scs2_cubes.core.grid import Tile, partitions_of
from scs2_cubes.errors import CubeIdentityError, StorageError, TileError
from scs2_cubes.pipeline.compute import ThreadCompute
from scs2_cubes.pipeline.materialize import Progress, materialize_partition, prepare_cube
from scs2_cubes.pipeline.state import partition_state, stale_reasons
from scs2_cubes.storage.zarr_cube import ZarrCube
from scs2_cubes_tests.pipeline.worlds import GENUS, World, age_world, genus_values, genus_world, write_genus

ONE = ThreadCompute(1)


class Killed(BaseException):
    """As sudden as an interruption."""


def after(tiles: int) -> Callable[[Progress], None]:
    def on_progress(progress: Progress) -> None:
        if progress.done == tiles:
            raise Killed

    return on_progress


@dataclass(frozen=True)
class Breaking(ZarrCube):
    """A cube on a disk that fails while it writes the planes of one tile (``*``: any), after some of them."""

    tile: str = ""
    planes: int = 0

    @classmethod
    def of(cls, world: World, tile: str, planes: int) -> Breaking:
        cube = ZarrCube.at(world.storage, "forest")
        return cls(cube.name, cube.storage, cube.objects, tile, planes)

    def __reduce__(self) -> tuple[Any, ...]:
        return Breaking, (self.name, self.storage, self.objects, self.tile, self.planes)

    def write_plane(
        self, schema: CubeSchema, layer: str, step: int, tile: Tile, values: npt.NDArray[Any] | None
    ) -> int:
        if self.tile in {"*", tile.key} and step >= self.planes:
            raise StorageError("no space left on device")
        return super().write_plane(schema, layer, step, tile, values)

    def write_record(self, record: TileRecord) -> None:
        if self.tile in {"*", record.tile}:
            raise StorageError("no space left on device")
        super().write_record(record)


class TestResume:
    @pytest.mark.parametrize("make", [age_world, genus_world])
    @pytest.mark.parametrize("tiles", [1, 7])
    def test_a_killed_run_is_finished_by_the_next(
        self, tmp_path: Path, make: Callable[[Path], World], tiles: int
    ) -> None:
        undisturbed = make(tmp_path / "undisturbed")
        undisturbed.make()
        world = make(tmp_path / "killed")
        with pytest.raises(Killed):
            world.make(ONE, after(tiles))
        done = world.store.records()
        assert len(done) == tiles
        whole = undisturbed.store.records()
        assert all(whole[key] == record for key, record in done.items())
        assert world.store.read_document("cube.json") is None
        reported: list[Progress] = []
        report = world.make(on_progress=reported.append)
        assert (report.kept, report.made) == (tiles, len(whole) - tiles)
        assert [progress.done for progress in reported] == list(range(1, report.made + 1))
        assert {progress.total for progress in reported} == {report.made}
        assert reported[-1].bytes_written == report.bytes_written
        assert world.files() == undisturbed.files()

    def test_the_pixels_of_a_record_are_there(self, tmp_path: Path) -> None:
        world, undisturbed = genus_world(tmp_path / "a"), genus_world(tmp_path / "b")
        undisturbed.make()
        with pytest.raises(Killed):
            world.make(ONE, after(9))
        made, whole = world.values("genus"), undisturbed.values("genus")
        for tile in world.plan.region.grid.tiles():
            if tile.key in world.store.records():
                np.testing.assert_array_equal(made[tile.window.slices], whole[tile.window.slices])

    def test_what_is_done_is_not_done_again(self, tmp_path: Path) -> None:
        world = genus_world(tmp_path)
        first = world.make()
        before = world.files()

        class Nothing:
            dashboard = None

            def run(self, *_: object) -> None:
                pytest.fail("there is nothing to do")

        second = world.make(Nothing())
        assert (second.made, second.kept, second.bytes_written) == (0, first.made, 0)
        assert second.valid_fraction == first.valid_fraction
        assert (second.empty, second.source_chunks_absent) == (first.empty, first.source_chunks_absent)
        assert world.files() == before

    @pytest.mark.parametrize("planes", [0, 1])
    def test_a_tile_that_fails_half_written_is_not_done(self, tmp_path: Path, planes: int) -> None:
        world, undisturbed = age_world(tmp_path / "a"), age_world(tmp_path / "b")
        undisturbed.make()
        prepare_cube(world.plan, world.store)
        with pytest.raises(TileError, match=r"tile y01x02: StorageError: no space left"):
            materialize_partition(
                world.plan, world.partition, Breaking.of(world, "y01x02", planes), ONE, lambda _: None
            )
        assert "y01x02" not in world.store.records()
        world.make()
        assert world.files() == undisturbed.files()

    def test_a_record_that_cannot_be_written(self, tmp_path: Path) -> None:
        world = genus_world(tmp_path)
        prepare_cube(world.plan, world.store)
        broken = Breaking.of(world, "y02x03", planes=1)
        with pytest.raises(TileError, match=r"tile y02x03: StorageError: no space left"):
            materialize_partition(world.plan, world.partition, broken, ONE, lambda _: None)
        assert "y02x03" not in world.store.records()

    def test_a_removed_record_is_made_again(self, tmp_path: Path) -> None:
        world = genus_world(tmp_path)
        world.make()
        before = world.files()
        world.store.remove_record("y02x02")
        report = world.make()
        assert report.made == 1
        assert world.files() == before


class TestVersions:
    def changed(self, folder: Path) -> tuple[World, World]:
        """A cube of version 1, and what version 2 of its source makes of it."""
        old = genus_world(folder)
        old.make()
        values = genus_values(seed=99)
        # Where version 1 had pixels there is nothing any more.
        values[96:192, 200:400] = 255
        return old, genus_world(folder, write_genus(folder / "second.zarr", values, created="2026-02-14"))

    def test_a_new_version_replaces_the_old_one(self, tmp_path: Path) -> None:
        _, new = self.changed(tmp_path / "a")
        fresh = replace(new, storage=replace(new.storage, root=str(tmp_path / "fresh")))
        report, _ = new.make(), fresh.make()
        assert report.kept == 0
        assert new.files() == fresh.files()
        assert new.store.open().attrs["source_version"] == new.plan.native.version

    def test_back_to_the_old_version_after_a_crash(self, tmp_path: Path) -> None:
        """A crash in the middle of version 2 never leaves version 1's record over mixed pixels."""
        old, new = self.changed(tmp_path)
        pixels, before = old.values("genus"), old.files()
        prepare_cube(new.plan, new.store)
        with pytest.raises(Killed):
            new.make(ONE, after(5))
        # Any tile, because the order of tiles is Dask's business.
        broken = Breaking.of(new, "*", 0)
        with pytest.raises(TileError):
            materialize_partition(new.plan, new.partition, broken, ONE, lambda _: None)
        records = old.store.records()
        assert len(records) == len(list(old.plan.region.grid.tiles())) - 1
        current = {key for key, record in records.items() if record.data_version == old.plan.data_version}
        assert 0 < len(current) < len(list(old.plan.region.grid.tiles()))
        now = old.values("genus")
        for tile in old.plan.region.grid.tiles():
            if tile.key in current:
                np.testing.assert_array_equal(now[tile.window.slices], pixels[tile.window.slices])
        old.make()
        after_all = old.files()
        assert {name: after_all[name] for name in before} == before

    def test_another_identity_is_refused_before_anything_is_written(self, tmp_path: Path) -> None:
        old = genus_world(tmp_path)
        old.make()
        before = old.files()
        other = genus_world(tmp_path, tmp_path / "genus.zarr", tile=64)
        with pytest.raises(CubeIdentityError, match="chunk"):
            other.make()
        assert old.files() == before


class TestCompletion:
    def test_the_last_tile_tells_the_cube(self, tmp_path: Path) -> None:
        world = genus_world(tmp_path)
        prepare_cube(world.plan, world.store)
        assert "source_version" not in world.store.open().attrs
        world.make()
        document = world.store.read_document("cube.json")
        assert document is not None
        tiles = len(list(world.plan.region.grid.tiles()))
        assert (document["tiles"], document["tiles_done"], document["complete"]) == (tiles, tiles, True)
        assert document["data_version"] == world.plan.data_version
        opened = world.store.open()
        assert opened.attrs["source_version"] == world.plan.native.version
        assert opened.attrs["source"] == "https://archive.example/a.zarr"
        assert opened.attrs["Conventions"].startswith("CF-")

    def test_a_part_is_not_the_whole(self, tmp_path: Path) -> None:
        world = genus_world(tmp_path)
        first, *rest = partitions_of(world.plan.region, max_pixels=64)
        prepare_cube(world.plan, world.store)
        report = materialize_partition(world.plan, first, world.store, ONE, lambda _: None)
        assert report.made == len(list(first.tiles())) == 4
        document = world.store.read_document("cube.json")
        assert document is not None
        assert (document["tiles_done"], document["complete"]) == (4, False)
        assert "source_version" not in world.store.open().attrs
        for partition in reversed(rest):
            materialize_partition(world.plan, partition, world.store, ONE, lambda _: None)
        undisturbed = replace(world, storage=replace(world.storage, root=str(tmp_path / "at-once")))
        undisturbed.make()
        assert world.files() == undisturbed.files()

    def test_nothing_in_a_cube_tells_of_the_machine(self, tmp_path: Path) -> None:
        world = genus_world(tmp_path)
        world.make()
        assert not [name for name, value in world.files().items() if str(tmp_path).encode() in value]


class TestState:
    def record(self, world: World, key: str, **changes: Any) -> TileRecord:
        made = TileRecord(key, world.plan.data_version, "v", 1, {"genus": 1}, 1, 0, 1, 0)
        return replace(made, **changes)

    def test_current_stale_and_missing(self, tmp_path: Path) -> None:
        world = genus_world(tmp_path, tile=64)
        keys = [tile.key for tile in world.partition.tiles()]
        records = {key: self.record(world, key) for key in keys[:4]}
        records[keys[1]] = self.record(world, keys[1], data_version="old")
        # That of another partition of the cube doesn't count.
        records["y99x99"] = self.record(world, "y99x99")
        state = partition_state(world.plan, world.partition, records)
        assert state.current == (keys[0], keys[2], keys[3])
        assert state.stale == (keys[1],)
        assert state.missing == tuple(keys[4:])
        assert (state.is_current, state.summary) == (False, "partly done")

    def test_in_a_word(self, tmp_path: Path) -> None:
        world = genus_world(tmp_path, tile=200)
        (key,) = [tile.key for tile in world.partition.tiles()]

        def summary(records: dict[str, TileRecord]) -> str:
            return partition_state(world.plan, world.partition, records).summary

        assert summary({}) == "missing"
        assert summary({key: self.record(world, key)}) == "current"
        assert summary({key: self.record(world, key, data_version="old")}) == "stale"

    def test_reasons(self, tmp_path: Path) -> None:
        world = genus_world(tmp_path)
        world.make()
        product = replace(GENUS, code_version=2)
        newer = genus_world(tmp_path, tmp_path / "genus.zarr", product=product, data_id="a/c.json")
        records = world.store.records()
        state = partition_state(newer.plan, newer.partition, records)
        assert state.summary == "stale"
        assert stale_reasons(newer.plan, state, newer.store, records) == ("code", "configuration (data_id)")
        unknown = {key: replace(record, data_version="unheard-of") for key, record in records.items()}
        state = partition_state(newer.plan, newer.partition, unknown)
        (reason,) = stale_reasons(newer.plan, state, newer.store, unknown)
        assert "unheard-of" in reason

    def test_components_are_on_record(self, tmp_path: Path) -> None:
        world = genus_world(tmp_path)
        world.make()
        name = f"forest.records/versions/{world.plan.data_version}.json"
        assert json.loads(world.files()[name]) == world.plan.components


def test_progress_for_people() -> None:
    progress = Progress(done=3, total=9, seconds=6.0, bytes_written=10)
    assert progress.seconds_left == 12.0
    assert progress.text == "3/9 tiles, 0.50 tiles/s, about 12 s left"
    # The first tiles compile what they need: their rate says nothing of the others'.
    assert Progress(1, 9, 8.0, 0).text == "1/9 tiles, 0.12 tiles/s"
    assert Progress(4, 9, 4.9, 0).text == "4/9 tiles, 0.82 tiles/s"
    assert Progress(2, 9, 5.0, 0).text == "2/9 tiles, 0.40 tiles/s, about 18 s left"
    assert Progress(1, 1, 0.5, 0).text == "1/1 tiles, 2.00 tiles/s, about 0 s left"
    assert Progress(0, 9, 0.0, 0).text.startswith("0/9 tiles")
