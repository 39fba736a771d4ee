"""Runs that write one cube at once: claims on its partitions, the fence, and what is told of the whole."""

from __future__ import annotations

import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from scs2_cubes.core.cube import CubeSchema
from scs2_cubes.core.grid import Partition, Tile, partitions_of
from scs2_cubes.errors import ClaimLostError, CubeBusyError, GridError, TileError
from scs2_cubes.pipeline.claims import claim_partition
from scs2_cubes.pipeline.compute import ThreadCompute
from scs2_cubes.pipeline.cubes import PlannedPartition
from scs2_cubes.pipeline.graph import build_graph
from scs2_cubes.pipeline.materialize import PartitionReport, materialize_partition, prepare_cube
from scs2_cubes.pipeline.state import is_concluded
from scs2_cubes.preload.claims import Claim, Timing
from scs2_cubes.storage.zarr_cube import ZarrCube
from scs2_cubes_tests.pipeline.editions import TILES, Archive, Tree, World, tree
from scs2_cubes_tests.s3.server import Bucket
from scs2_cubes_tests.s3.worlds import FOLDER, storage_entry

QUICK = Timing(beat=0.05, lease=0.4, poll=0.02)
#: A process that claims the partition, makes one tile's record disappear, says so, and waits for its end.
HOLDER = """
import sys, time
from pathlib import Path
from scs2_cubes.config import load_case
from scs2_cubes.pipeline.claims import claim_partition
from scs2_cubes.pipeline.cubes import describe_source, plan_partition
case = load_case(Path(sys.argv[1]), environ={})
spec = case.dataset("forest")
planned = plan_partition(spec, case.storage, describe_source(spec), "here")
with claim_partition(planned.store, "here", print) as claim:
    claim.fence.remove_record("y01x01")
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def world(tmp_path: Path) -> World:
    archive = Archive(tmp_path / "archive")
    archive.publish()
    return World(tmp_path / "world", archive)


@dataclass
class Place:
    """A case, and what lies in its storage."""

    world: World
    stored: Callable[[], Tree]


@pytest.fixture(params=["disk", "s3"])
def place(request: pytest.FixtureRequest, world: World) -> Place:
    if request.param == "disk":
        return Place(world, world.tree)
    bucket: Bucket = request.getfixturevalue("bucket")
    world.data["data_stores"][0] = storage_entry(bucket)
    return Place(world, lambda: bucket.objects(FOLDER))


def ignore(_: object) -> None:
    pass


def halves(planned: PlannedPartition) -> tuple[Partition, Partition]:
    """The cube in two partitions, of four tiles and of two."""
    first, second = partitions_of(planned.plan.region, max_pixels=32)
    return first, second


def make(planned: PlannedPartition, partition: Partition, store: Any = None) -> PartitionReport:
    """As a run makes it, claims and all."""
    store = store or planned.store
    with claim_partition(store, partition.key, ignore) as claim:
        with claim.cube():
            prepare_cube(planned.plan, store)
        return materialize_partition(planned.plan, partition, store, ThreadCompute(2), ignore, claim=claim)


def undisturbed(world: World, folder: Path) -> Tree:
    fresh = World(folder, world.archive)
    fresh.make()
    return fresh.tree()


def together(*work: Callable[[], object]) -> list[BaseException]:
    """Do all of it at once, in threads; what failed."""
    start = threading.Barrier(len(work))
    failures: list[BaseException] = []

    def run(one: Callable[[], object]) -> None:
        start.wait()
        try:
            one()
        except BaseException as error:  # noqa: BLE001  (whatever it is, the test must say so)
            failures.append(error)

    threads = [threading.Thread(target=run, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


class TestTogether:
    def test_different_partitions(self, place: Place, tmp_path: Path) -> None:
        planned = place.world.plan()
        assert together(*(lambda part=part: make(planned, part) for part in halves(planned))) == []
        assert place.stored() == undisturbed(place.world, tmp_path / "fresh")
        assert is_concluded(planned.plan, planned.store, planned.store.records())

    def test_different_partitions_at_different_versions(self, place: Place, tmp_path: Path) -> None:
        place.world.make()
        old = place.world.plan()
        place.world.archive.publish(2)
        new = place.world.plan()
        for tile in ("y00x00", "y00x02"):
            old.store.remove_record(tile)
        first, second = halves(old)
        assert together(lambda: make(old, first), lambda: make(new, second)) == []
        records = old.store.records()
        assert {key: record.data_version for key, record in records.items()} == {
            **{tile.key: old.plan.data_version for tile in first.tiles()},
            **{tile.key: new.plan.data_version for tile in second.tiles()},
        }
        # Each of them is still described.
        assert all(old.store.read_document(f"versions/{one.plan.data_version}.json") for one in (old, new))
        document = old.store.read_document("cube.json")
        assert document is not None
        assert document["complete"] is False
        assert make(new, first).made == 4
        assert make(new, second).made == 0
        assert place.stored() == undisturbed(place.world, tmp_path / "fresh")

    def test_the_same_partition_is_made_once(self, place: Place, tmp_path: Path) -> None:
        planned = place.world.plan()
        reports: list[PartitionReport] = []
        assert together(*[lambda: reports.append(make(planned, planned.partition))] * 2) == []
        assert sorted((report.made, report.kept) for report in reports) == [(0, TILES), (TILES, 0)]
        assert place.stored() == undisturbed(place.world, tmp_path / "fresh")

    def test_killed_holder(self, place: Place, tmp_path: Path) -> None:
        place.world.make()
        pipe = subprocess.PIPE
        with subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(place.world.write())], stdout=pipe, text=True
        ) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            planned = place.world.plan()
            told: list[str] = []
            with (
                pytest.raises(CubeBusyError, match=rf"process {holder.pid} on .*since 20.*end it, and run again"),
                claim_partition(planned.store, "here", told.append, max_wait=0.2),
            ):
                pass
            (line,) = told
            assert line.startswith(f"partition here: process {holder.pid} on ")
            holder.send_signal(signal.SIGKILL)
            holder.wait()
        started = time.monotonic()
        assert make(planned, planned.partition).made == 1
        # Not after a lease of a minute: its process has ended on this host.
        assert time.monotonic() - started < 30
        assert place.stored() == undisturbed(place.world, tmp_path / "fresh")


class TestWhole:
    """What is told of a cube while another version of it has begun."""

    def test_a_version_described_again_by_who_made_it(self, world: World) -> None:
        world.make()
        old = world.plan()
        world.archive.publish(2)
        new = world.plan()
        first, second = halves(old)
        with claim_partition(new.store, second.key, ignore) as claim:
            prepare_cube(new.plan, new.store)
            # Nothing of the new version is made yet, so the old one is complete, and tidies.
            make(old, first)
            name = f"versions/{new.plan.data_version}.json"
            assert new.store.read_document(name) is None
            materialize_partition(new.plan, second, new.store, ThreadCompute(1), ignore, claim=claim)
            assert new.store.read_document(name) == new.plan.components

    def test_a_cube_that_has_grown_is_not_cut(self, world: World, tmp_path: Path) -> None:
        old = world.plan()
        first, second = halves(old)
        make(old, first)
        with claim_partition(old.store, second.key, ignore) as claim:
            prepare_cube(old.plan, old.store)
            world.archive.publish(1, years=3)
            new = world.plan()
            prepare_cube(new.plan, new.store)
            materialize_partition(old.plan, second, old.store, ThreadCompute(1), ignore, claim=claim)
        assert old.store.open().sizes["time"] == 3
        document = old.store.read_document("cube.json")
        assert document is not None
        assert (document["tiles_done"], document["complete"]) == (TILES, False)
        make(new, new.partition)
        assert world.tree() == undisturbed(world, tmp_path / "fresh")

    def test_a_claim_that_a_killed_run_left_is_something_to_do(self, world: World) -> None:
        world.make()
        planned = world.plan()
        with claim_partition(planned.store, "here", ignore) as claim:
            assert is_concluded(planned.plan, planned.store, planned.store.records())
            document = planned.store.read_document(claim.claim.document)
            assert document is not None
            ended = {**document["process"], "birth": "1"}
            planned.store.write_document("claims/left-behind.json", {**document, "process": ended})
            assert not is_concluded(planned.plan, planned.store, planned.store.records())
        make(planned, planned.partition)
        assert planned.store.documents("claims") == []
        assert is_concluded(planned.plan, planned.store, planned.store.records())


@dataclass(frozen=True)
class Losing(ZarrCube):
    """A cube whose claims disappear when the tile ``tile`` comes to ``moment``; what lies there then is copied."""

    tile: str = ""
    moment: str = ""

    def __reduce__(self) -> tuple[Any, ...]:
        return Losing, (self.name, self.storage, self.objects, self.tile, self.moment)

    def remove_record(self, tile: str) -> None:
        super().remove_record(tile)
        self._lose(tile, "begun")

    def write_plane(
        self, schema: CubeSchema, layer: str, step: int, tile: Tile, values: npt.NDArray[Any] | None
    ) -> int:
        written = super().write_plane(schema, layer, step, tile, values)
        self._lose(tile.key, f"{layer} {step}")
        return written

    def _lose(self, tile: str, moment: str) -> None:
        if (self.tile, self.moment) == (tile, moment):
            for name in self.documents("claims"):
                self.remove_document(name)
            shutil.copytree(self.storage.root, f"{self.storage.root}-then")


class TestFence:
    @pytest.mark.parametrize("moment", ["begun", "kind 0", "height 1"])
    def test_nothing_is_written_without_the_claim(self, world: World, tmp_path: Path, moment: str) -> None:
        world.make()
        world.archive.publish(2)
        planned = world.plan()
        cube = ZarrCube.at(world.case().storage, "forest")
        losing = Losing(cube.name, cube.storage, cube.objects, "y00x01", moment)
        with (
            claim_partition(losing, "here", ignore) as claim,
            pytest.raises(TileError, match=r"tile y0.x0.: ClaimLostError: .*claims/.* is gone.*run again"),
        ):
            materialize_partition(planned.plan, planned.partition, losing, ThreadCompute(1), ignore, claim=claim)
        assert world.tree() == tree(Path(f"{world.root}-then"))
        assert "y00x01" not in world.records()
        make(planned, planned.partition)
        assert world.tree() == undisturbed(world, tmp_path / "fresh")

    def test_tasks_of_a_run_that_has_ended(self, world: World) -> None:
        """They are carried out somewhere else, later, when another version lies there."""
        old = world.plan()
        with claim_partition(old.store, "here", ignore) as claim:
            prepare_cube(old.plan, old.store)
            graph = build_graph(old.plan, claim.fence, old.partition.tiles())
            fence = pickle.loads(pickle.dumps(claim.fence))
            fence.remove_record("y00x00")
        world.archive.publish(2)
        world.make()
        before = world.tree()
        with pytest.raises(TileError, match="ClaimLostError"):
            ThreadCompute(2).run(graph, ignore)
        with pytest.raises(ClaimLostError):
            fence.remove_record("y00x00")
        assert world.tree() == before

    def test_a_run_that_is_taken_for_dead_does_not_tell_of_the_cube(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another host's, by the look of it, and silent for a lease while it makes its last tile."""
        monkeypatch.setattr(Claim, "renew", ignore)
        world.make()
        planned = world.plan()
        with claim_partition(planned.store, "here", ignore) as silent:
            document = planned.store.read_document(silent.claim.document)
            assert document is not None
            elsewhere = {**document["process"], "host": "elsewhere.example"}
            planned.store.write_document(silent.claim.document, {**document, "process": elsewhere})
            with claim_partition(planned.store, "here", ignore, timing=QUICK) as claim:
                assert claim.has_waited
                before = world.tree()
                with pytest.raises(ClaimLostError):
                    materialize_partition(
                        planned.plan, planned.partition, planned.store, ThreadCompute(1), ignore, claim=silent
                    )
                assert world.tree() == before


class TestAlignment:
    """What all of it rests on: no chunk belongs to two tiles."""

    def made_with(self, world: World, chunk: tuple[int, int]) -> dict[str, npt.NDArray[Any]]:
        """Layer → values (step, row, column) after two runs at once, of a partition each, with chunks of that shape."""
        planned = world.plan()
        schema = replace(planned.plan.schema, chunk=chunk)
        planned = replace(planned, plan=replace(planned.plan, schema=schema))
        assert together(*(lambda part=part: make(planned, part) for part in halves(planned))) == []
        return {name: world.values(name) for name in ("kind", "height")}

    def truth(self, world: World, folder: Path) -> dict[str, npt.NDArray[Any]]:
        fresh = World(folder, world.archive)
        fresh.make()
        return {name: fresh.values(name) for name in ("kind", "height")}

    def test_several_chunks_of_one_tile(self, world: World, tmp_path: Path) -> None:
        truth = self.truth(world, tmp_path / "fresh")
        np.testing.assert_equal(self.made_with(world, (16, 8)), truth)

    def test_a_chunk_of_two_tiles_is_noticed(
        self, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without the refusal of such a cube the comparison above fails: pixels are lost, and no run errs."""
        truth = self.truth(world, tmp_path / "fresh")
        with pytest.raises(GridError, match="isn't a multiple of a chunk"):
            self.made_with(world, (16, 32))
        monkeypatch.setattr(CubeSchema, "__post_init__", ignore)
        made = self.made_with(world, (16, 32))
        with pytest.raises(AssertionError):
            np.testing.assert_equal(made, truth)
        # Every tile is said to be done.
        assert len(world.records()) == TILES
