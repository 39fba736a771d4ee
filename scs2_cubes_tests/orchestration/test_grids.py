"""The grids' asset: its version changes with everything that its map shows, and with nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import dagster as dg
import pytest

from scs2_cubes.core.grid import Grid, Region
from scs2_cubes.core.specification import Case, SiteSpec, StorageSpec
from scs2_cubes.orchestration.grids import GRIDS_KEY, tell_grids
from scs2_cubes.report.region_map import region_map_png

HERE = Region("here", Grid.from_bbox([3_400_000, 2_400_000, 3_410_000, 2_410_000], "EPSG:3035", 30, 128))
THERE = Region("there", Grid.from_bbox([3_420_000, 2_400_000, 3_430_000, 2_410_000], "EPSG:3035", 30, 128))
CASE = Case("a/case.yml", (), (), (HERE, THERE), StorageSpec("cubes"), sites=(SiteSpec("oak", -1, 44.6, "EPSG:4326"),))

#: What the map shows.
SHOWN: dict[str, Callable[[Case], Case]] = {
    "no sites": lambda case: replace(case, sites=()),
    "another site": lambda case: replace(case, sites=(*case.sites, SiteSpec("pine", -1.1, 44.6, "EPSG:4326"))),
    "a site's name": lambda case: replace(case, sites=(replace(case.sites[0], name="beech"),)),
    "a site's place": lambda case: replace(case, sites=(replace(case.sites[0], x=-1.05),)),
    "the title": lambda case: replace(case, name="a/other.yml"),
    "a region less": lambda case: replace(case, regions=case.regions[:1]),
    "a region's name": lambda case: replace(case, regions=(replace(HERE, name="elsewhere"), THERE)),
    "a region's tiles": lambda case: replace(case, regions=(replace(HERE, grid=replace(HERE.grid, tile_nx=64)), THERE)),
}


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def told(instance: dg.DagsterInstance) -> int:
    return len(instance.fetch_materializations(GRIDS_KEY, limit=10).records)


@pytest.mark.parametrize("change", SHOWN.values(), ids=SHOWN)
def test_another_map_is_told(instance: dg.DagsterInstance, change: Callable[[Case], Case]) -> None:
    tell_grids(instance, CASE)
    tell_grids(instance, CASE)
    assert told(instance) == 1
    changed = change(CASE)
    assert region_map_png(changed) != region_map_png(CASE)
    tell_grids(instance, changed)
    assert told(instance) == 2
    tell_grids(instance, CASE)
    assert told(instance) == 3


def test_the_same_map_is_told_once(instance: dg.DagsterInstance) -> None:
    tell_grids(instance, CASE)
    moved = replace(CASE, name="b/case.yml", storage=StorageSpec("elsewhere"), visualize=False)
    assert region_map_png(moved) == region_map_png(CASE)
    tell_grids(instance, moved)
    assert told(instance) == 1
