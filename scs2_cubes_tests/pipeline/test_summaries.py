"""What partitions tell their region: means and shares of several are those of the whole cube, by plain numpy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scs2_cubes.core.checks import Verdict
from scs2_cubes.core.grid import Partition, partitions_of
from scs2_cubes.pipeline.compute import ThreadCompute
from scs2_cubes.pipeline.inspection import Inspection, Look, inspect_partition
from scs2_cubes.pipeline.materialize import materialize_partition, prepare_cube
from scs2_cubes.pipeline.summaries import note_summary, region_partitions, region_scales, region_summary
from scs2_cubes_tests.pipeline.worlds import AGE, World, age_world, dataset, genus_world

TWO = ThreadCompute(2)


def split(world: World) -> dict[str, Partition]:
    """The region as several partitions, although it is small."""
    return {part.key: part for part in partitions_of(world.plan.region, max_pixels=64)}


def made(world: World) -> dict[str, Inspection]:
    prepare_cube(world.plan, world.store)
    for part in split(world).values():
        materialize_partition(world.plan, part, world.store, TWO, lambda _: None)
    return {key: inspect_partition(world.plan, part, world.store, TWO, Look()) for key, part in split(world).items()}


@pytest.fixture(scope="module")
def age(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, dict[str, Inspection]]:
    world = age_world(tmp_path_factory.mktemp("age"))
    return world, made(world)


@pytest.fixture(scope="module")
def genus(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, dict[str, Inspection]]:
    world = genus_world(tmp_path_factory.mktemp("genus"))
    return world, made(world)


@pytest.fixture(autouse=True)
def forgotten(age: tuple[World, Any], genus: tuple[World, Any]) -> None:
    """Every test begins without any summary."""
    for world, _ in (age, genus):
        for name in world.store.documents("series"):
            world.store.remove_document(name)


def noted(world: World, found: Mapping[str, Inspection], *, but: str = "") -> list[str]:
    for key, one in found.items():
        if key != but:
            note_summary(world.store, world.plan, one, list(found))
    return list(found)


def test_means_are_those_of_the_whole_cube(age: tuple[World, dict[str, Inspection]]) -> None:
    world, found = age
    assert len(found) > 2
    summary = region_summary(world.store, noted(world, found), world.plan.data_version)
    assert summary is not None
    values = world.values("forest_age").astype(np.float64)
    np.testing.assert_allclose(summary.means["forest_age"], np.nanmean(values, axis=(1, 2)), rtol=1e-12)
    # Not the mean of the partitions' means, which have unequal numbers of pixels.
    naive = np.nanmean([one.means["forest_age"] for one in found.values()], axis=0)
    assert np.abs(naive - summary.means["forest_age"]).max() > 1e-6
    assert summary.shares == {}


def test_shares_are_those_of_the_whole_cube(genus: tuple[World, dict[str, Inspection]]) -> None:
    world, found = genus
    # A class that one partition alone has.
    first = next(iter(found))
    only = {**found[first].shares["genus"], 99: np.array([0.25])}
    summary = region_summary(world.store, noted(world, found), world.plan.data_version)
    assert summary is not None
    values = world.values("genus")
    valid = values[values != 255]
    assert set(summary.shares["genus"]) == {int(code) for code in np.unique(valid)}
    for code, share in summary.shares["genus"].items():
        np.testing.assert_allclose(share, [(valid == code).mean()], rtol=1e-12)
    rare = {**found, first: replace(found[first], shares={"genus": only})}
    summary = region_summary(world.store, noted(world, rare), world.plan.data_version)
    assert summary is not None
    expected = 0.25 * found[first].counts["genus"][0] / valid.size
    np.testing.assert_allclose(summary.shares["genus"][99], [expected], rtol=1e-12)
    assert summary.means == {}


def test_nothing_until_all_have_told_theirs_at_one_version(age: tuple[World, dict[str, Inspection]]) -> None:
    world, found = age
    last = list(found)[-1]
    keys = noted(world, found, but=last)
    version = world.plan.data_version
    assert region_summary(world.store, keys, version) is None
    note_summary(world.store, world.plan, replace(found[last], data_version="another"), keys)
    assert region_summary(world.store, keys, version) is None
    assert region_summary(world.store, keys, "another") is None
    note_summary(world.store, world.plan, found[last], keys)
    assert region_summary(world.store, keys, version) is not None
    assert region_summary(world.store, [*keys, "one more"], version) is None


def test_a_partition_that_is_wrong_takes_its_summary_back(age: tuple[World, dict[str, Inspection]]) -> None:
    world, found = age
    keys = noted(world, found)
    wrong = replace(found[keys[0]], verdicts=(Verdict("as_recorded", passed=False, text="damaged"),))
    note_summary(world.store, world.plan, wrong, keys)
    assert region_summary(world.store, keys, world.plan.data_version) is None
    # What only warns stops nothing.
    warned = replace(found[keys[0]], verdicts=(Verdict("description", passed=False, text="no licence"),))
    note_summary(world.store, world.plan, warned, keys)
    assert region_summary(world.store, keys, world.plan.data_version) is not None


def test_a_step_without_values_is_a_gap(age: tuple[World, dict[str, Inspection]]) -> None:
    world, found = age
    empty = {
        key: replace(
            one,
            means={"forest_age": np.array([np.nan, 7.0])},
            counts={"forest_age": np.array([0.0, 2.0])},
            sums={"forest_age": np.array([0.0, 14.0])},
        )
        for key, one in found.items()
    }
    summary = region_summary(world.store, noted(world, empty), world.plan.data_version)
    assert summary is not None
    np.testing.assert_array_equal(summary.means["forest_age"], [np.nan, 7])


def test_sums_counts_and_extremes_are_of_all_pixels(age: tuple[World, dict[str, Inspection]]) -> None:
    world, found = age
    values = world.values("forest_age").astype(np.float64)
    for key, part in split(world).items():
        inside = values[(slice(None), *part.window.slices)]
        one = found[key]
        np.testing.assert_array_equal(one.counts["forest_age"], np.isfinite(inside).sum(axis=(1, 2)))
        np.testing.assert_allclose(one.sums["forest_age"], np.nansum(inside, axis=(1, 2)), rtol=1e-9)
        expected = {"forest_age": (np.nanmin(inside), np.nanmax(inside))} if np.isfinite(inside).any() else {}
        assert one.extremes == expected


class TestScales:
    def scales(self, world: World, keys: list[str]) -> Mapping[str, tuple[float, float]]:
        return region_scales(world.store, keys, world.plan.data_version)

    def with_extremes(self, found: Mapping[str, Inspection], *ends: tuple[float, float]) -> dict[str, Inspection]:
        pairs = zip(found.items(), ends, strict=False)
        return {key: replace(one, extremes={"forest_age": pair} if pair else {}) for (key, one), pair in pairs}

    def test_that_of_the_first_holds_for_all_and_stays(self, age: tuple[World, dict[str, Inspection]]) -> None:
        world, found = age
        several = self.with_extremes(found, (5, 80), (1, 200), (30, 40))
        keys = list(several)
        seen = []
        for key in [keys[1], keys[0], keys[2], keys[1]]:
            note_summary(world.store, world.plan, several[key], keys)
            seen.append(self.scales(world, keys))
        assert seen == [{"forest_age": (1, 200)}] * 4

    def test_of_one_that_has_no_values_there_is_none(self, age: tuple[World, dict[str, Inspection]]) -> None:
        world, found = age
        several = self.with_extremes(found, (), (7, 7), (30, 40))  # type: ignore[arg-type]  # none
        keys = list(several)
        for key, expected in zip(keys, ({}, {}, {"forest_age": (30, 40)}), strict=True):
            note_summary(world.store, world.plan, several[key], keys)
            assert self.scales(world, keys) == expected

    def test_another_version_has_another(self, age: tuple[World, dict[str, Inspection]]) -> None:
        world, found = age
        several = self.with_extremes(found, (5, 80), (1, 200))
        first, second = several.values()
        note_summary(world.store, world.plan, replace(first, data_version="old"), list(several))
        note_summary(world.store, world.plan, second, list(several))
        assert self.scales(world, list(several)) == {"forest_age": (1, 200)}

    def test_values_that_cannot_be_leave_no_mark(self, tmp_path: Path) -> None:
        variable = replace(AGE.variables[0], valid_range=(1, 300))
        world = age_world(tmp_path, product=replace(AGE, variables=(variable,)))
        found = made(world)
        several = self.with_extremes(found, (-5, 1e30), (-np.inf, 20))
        keys = list(several)
        note_summary(world.store, world.plan, several[keys[0]], keys)
        assert self.scales(world, keys) == {"forest_age": (1, 300)}

    def test_a_region_of_one_partition_has_none(self, age: tuple[World, dict[str, Inspection]]) -> None:
        """Its pictures have no others to agree with: percentiles show more."""
        world, found = age
        first = next(iter(found))
        note_summary(world.store, world.plan, found[first], [first])
        assert self.scales(world, [first]) == {}


def test_partitions_of_the_same_region(genus: tuple[World, Any]) -> None:
    world, _ = genus
    specification = replace(dataset(AGE), regions=(world.plan.region,))
    assert region_partitions(specification, world.partition) == ("here",)
    native = Partition("native", world.plan.region, 0, 1, 0, 1)
    assert region_partitions(replace(specification, regions=()), native) == ("native",)
