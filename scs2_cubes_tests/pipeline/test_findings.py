"""Notes beside a cube of what is wrong with it: what is kept, what goes, and what never was the cube's fault."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import zarr

from scs2_cubes.core.checks import CHECKS, Verdict
from scs2_cubes.core.verdicts import unjudged
from scs2_cubes.pipeline.compute import ThreadCompute
from scs2_cubes.pipeline.findings import note_verdicts, noted_findings, noted_partitions
from scs2_cubes.pipeline.inspection import Look, inspect_partition
from scs2_cubes_tests.pipeline.worlds import World, age_world, genus_world

RIGHT = tuple(Verdict(name, passed=True, text="fine") for name in CHECKS)


def failing(*checks: str, lasts: bool = True) -> tuple[Verdict, ...]:
    return tuple(
        replace(verdict, passed=False, text=f"{verdict.check} is off", lasts=lasts)
        if verdict.check in checks
        else verdict
        for verdict in RIGHT
    )


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = genus_world(tmp_path)
    world.make()
    return world


def note(world: World) -> Path:
    return Path(world.storage.root) / "forest.records/wrong/here.json"


def judged(world: World) -> dict[str, str]:
    """What blocks, after looking at ``world`` and noting it as a run does."""
    found = inspect_partition(world.plan, world.partition, world.store, ThreadCompute(2), Look())
    return dict(note_verdicts(world.store, "here", found.verdicts, data_version=world.plan.data_version))


def test_what_is_wrong_is_kept_with_the_version_it_was_judged_at(world: World) -> None:
    note_verdicts(world.store, "here", failing("legal_codes", "valid_range"), data_version="v1")
    assert json.loads(note(world).read_text()) == {"data_version": "v1", "found": {"legal_codes": "legal_codes is off"}}
    found = {"legal_codes": "legal_codes is off"}
    assert noted_findings(world.store, "here") == noted_findings(world.store, "here", "v1") == found
    assert noted_findings(world.store, "here", "v2") == {}
    assert noted_findings(world.store, "elsewhere") == {}
    assert noted_partitions(world.store) == ["here"]
    note_verdicts(world.store, "here", RIGHT, data_version="v2")
    assert noted_findings(world.store, "here") == {}
    assert noted_partitions(world.store) == []


def test_what_a_run_mends_is_told_and_not_kept(world: World) -> None:
    verdicts = failing("complete", "layout", lasts=False)
    assert set(note_verdicts(world.store, "here", verdicts, data_version="v1")) == {"complete", "layout"}
    assert not note(world).exists()
    # An older note is none either: the values were judged, and are right.
    note_verdicts(world.store, "here", failing("legal_codes"), data_version="v1")
    note_verdicts(world.store, "here", verdicts, data_version="v1")
    assert not note(world).exists()


def test_where_nothing_could_be_judged_an_older_note_stays(world: World) -> None:
    blocking = {name for name, kind in CHECKS.items() if kind.blocking}
    for before in ((), ("legal_codes",)):
        note_verdicts(world.store, "here", failing(*before), data_version="v1")
        told = note_verdicts(world.store, "here", unjudged("layout", "another cube"), data_version="v2")
        assert set(told) == blocking
        assert set(noted_findings(world.store, "here")) == set(before)


def test_a_look_at_a_stale_cube_leaves_nothing_behind(world: World) -> None:
    """The source has published another version; then it returns to the first."""
    plan = replace(world.plan, components={**world.plan.components, "source_version": "next"})
    before = world.files()
    assert judged(replace(world, plan=plan)) == {}
    assert judged(world) == {}
    assert world.files() == before


def test_a_look_at_a_cube_whose_source_has_more_steps_leaves_nothing_behind(tmp_path: Path) -> None:
    world = age_world(tmp_path)
    world.make()
    schema = replace(world.plan.schema, times=(*world.plan.schema.times, "2030-01-01T00:00:00"))
    before = world.files()
    assert judged(replace(world, plan=replace(world.plan, schema=schema))) == {}
    # As the source returns to fewer steps, it's another cube for the configuration, and no wrong one.
    shorter = replace(world.plan.schema, times=world.plan.schema.times[:1])
    assert "layout" in judged(replace(world, plan=replace(world.plan, schema=shorter)))
    assert world.files() == before


def test_a_look_at_half_a_cube_leaves_nothing_behind(world: World) -> None:
    world.store.remove_record("y01x01")
    before = world.files()
    assert list(judged(world)) == ["complete"]
    assert world.files() == before


def test_damage_of_a_stale_cube_is_kept(world: World) -> None:
    array = zarr.open_array(world.store.url, path="genus", mode="r+")
    array[60:70, 60:70] = 255
    plan = replace(world.plan, components={**world.plan.components, "source_version": "next"})
    assert "as_recorded" in judged(replace(world, plan=plan))
    assert "as_recorded" in noted_findings(world.store, "here", plan.data_version)
