"""Probes, and what Dagster makes of the versions that they report."""

from __future__ import annotations

import dagster as dg
from dagster._core.definitions.data_version import StaleStatus

from scs2_cubes_tests.end_to_end.trial import Trial
from scs2_cubes_tests.orchestration.sites import (
    GENUS_KEY,
    TILES,
    events,
    materialize,
    record,
    source_key_of,
    staleness,
    tags,
    with_sites,
)

VERSION = "dagster/data_version"


def test_probe_costs_metadata_only(trial: Trial) -> None:
    case = with_sites(trial, "first").case()
    source = source_key_of(case)
    with trial.instance() as instance:
        assert materialize(case, instance, source).success
        (event,) = events(instance, source)
    # The item and the metadata of its store; for newer editions the item and its collection.
    paths = [request.path.rpartition("/")[2] for request in trial.server.requests.entries()]
    item = "FORESTPATHS_GENUS_v0.0.1.json"
    assert paths == [item, ".zmetadata", item, "collection.json"]
    assert trial.chunk_requests() == []
    assert tags(event)[VERSION] == event.metadata["source_version"].value
    assert not trial.root.exists()


def test_new_version_makes_the_cube_stale_until_it_is_remade(trial: Trial) -> None:
    case = with_sites(trial, "first", "second").case()
    source = source_key_of(case)
    with trial.instance() as instance:
        assert staleness(case, instance, "first") == StaleStatus.MISSING
        assert materialize(case, instance, source).success
        assert materialize(case, instance, GENUS_KEY, span=("first", "second")).success
        first_version = record(trial, "first/genus", "y00x00")["source_version"]
        assert tags(events(instance, source)[-1])[VERSION] == first_version
        assert {staleness(case, instance, key) for key in ("first", "second")} == {StaleStatus.FRESH}

        # The same version again is no news.
        assert materialize(case, instance, source).success
        assert staleness(case, instance, "first") == StaleStatus.FRESH

        trial.server.catalogue.publish("FORESTPATHS_GENUS", 2)
        assert staleness(case, instance, "first") == StaleStatus.FRESH  # nobody has asked yet
        assert materialize(case, instance, source).success
        assert {staleness(case, instance, key) for key in ("first", "second")} == {StaleStatus.STALE}

        assert materialize(case, instance, GENUS_KEY, partition="first").success
        assert staleness(case, instance, "first") == StaleStatus.FRESH
        assert staleness(case, instance, "second") == StaleStatus.STALE
        assert events(instance, GENUS_KEY)[-1].metadata["tiles_made"].value == TILES
    assert record(trial, "first/genus", "y00x00")["source_version"] != first_version
    assert record(trial, "second/genus", "y00x00")["source_version"] == first_version


def test_run_that_meets_a_new_version_reports_it(trial: Trial) -> None:
    case = with_sites(trial, "first", "second").case()
    source = source_key_of(case)
    with trial.instance() as instance:
        assert materialize(case, instance, GENUS_KEY, span=("first", "second")).success
        assert staleness(case, instance, "second") == StaleStatus.FRESH  # although no probe ever ran
        trial.server.catalogue.publish("FORESTPATHS_GENUS", 2)
        assert materialize(case, instance, GENUS_KEY, partition="first").success
        assert len(events(instance, source)) == 2
        assert staleness(case, instance, "first") == StaleStatus.FRESH
        assert staleness(case, instance, "second") == StaleStatus.STALE


def test_finished_partitions_are_adopted_by_another_instance(trial: Trial) -> None:
    case = with_sites(trial, "first", "second").case()
    assert trial.run().code == 0
    before = trial.moments("*/genus")
    trial.server.requests.clear()
    trial.home = trial.folder / "another"
    ended = trial.run()
    assert ended.code == 0, ended.said
    assert "Allcurrent:nothingtodo." in ended.said
    assert trial.chunk_requests() == []
    assert trial.moments("*/genus") == before
    with trial.instance() as instance:
        found = events(instance, GENUS_KEY)
        assert [(event.partition, event.metadata["adopted"].value) for event in found] == [
            ("first", True),
            ("second", True),
        ]
        assert {staleness(case, instance, key) for key in ("first", "second")} == {StaleStatus.FRESH}
    # Known by now: nothing is told again.
    assert trial.run().code == 0
    with trial.instance() as instance:
        assert len(events(instance, GENUS_KEY)) == 2
        assert instance.get_materialized_partitions(GENUS_KEY) == {"first", "second"}
        assert isinstance(found[0], dg.AssetMaterialization)
