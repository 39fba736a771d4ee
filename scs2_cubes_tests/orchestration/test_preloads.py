"""What has to be preloaded: an asset of its own, part of the run that needs it, ordered once and asked for once."""

from __future__ import annotations

import dagster as dg
import pytest
from dagster._core.definitions.data_version import StaleStatus

from scs2_cubes.errors import OrderPendingError
from scs2_cubes.orchestration.build import build_definitions
from scs2_cubes.orchestration.grids import GRIDS_KEY
from scs2_cubes.orchestration.jobs import CaseJob, RunEnd
from scs2_cubes.orchestration.preload_runs import PreloadRuns
from scs2_cubes.orchestration.provenance import source_key
from scs2_cubes_tests.end_to_end.trial import GENUS, Ended, Trial, dataset, in_process
from scs2_cubes_tests.orchestration.archives import (
    FOREST,
    FOREST_KEY,
    OTHER,
    Archives,
    archive,
    preload_key,
    searches,
    with_forest,
)
from scs2_cubes_tests.orchestration.sites import TILES, events, materialize, record, staleness, tags

VERSION = "dagster/data_version"


def values(event: dg.AssetMaterialization) -> dict[str, object]:
    return {name: value.value for name, value in event.metadata.items()}


def table_rows(result: Ended) -> list[list[str]]:
    lines = [line for line in result.out.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def run_count(trial: Trial) -> int:
    with trial.instance() as instance:
        return instance.get_runs_count()


# Definitions.


def test_preload_is_an_asset_that_its_cubes_depend_on(trial: Trial, archives: Archives) -> None:
    with_forest(trial, "first")
    trial.data["datasets"].append(trial.data["datasets"][0] | {"identifier": "again", "data_id": FOREST})
    trial.data["preload_datasets"] = [{"store": "clms", "data_ids": [f"{FOREST}.zarr", OTHER]}]
    graph = build_definitions(trial.case()).resolve_asset_graph()
    key, other = preload_key(trial), preload_key(trial, OTHER)
    assert graph.get_all_asset_keys() == {key, other, FOREST_KEY, dg.AssetKey("again"), GRIDS_KEY}
    assert graph.get(FOREST_KEY).parent_keys == graph.get(dg.AssetKey("again")).parent_keys == {key}
    assert graph.get(other).child_keys == set()
    assert key.path[:2] == ["sources", "clms"]
    # Both spellings of the id are one asset, whose key has neither.
    assert key.path[2].startswith("forest_type_2015_FTY_2015_020m_eu_03035_d04_E30N20_")
    for one in (key, other):
        assert graph.get(one).group_name == "sources"
        assert graph.get(one).kinds == {"clms", "zarr"}
        assert not graph.get(one).is_partitioned
    assert trial.server.requests.count() == 0
    assert archives.fetches == []


def test_preload_reports_what_it_did(trial: Trial, archives: Archives) -> None:
    case, key = with_forest(trial, "first").case(), preload_key(trial)
    with trial.instance() as instance:
        ended = materialize(case, instance, key)
        assert ended.success
        assert materialize(case, instance, key).success
        first, second = events(instance, key)
        lines = [one.user_message for one in instance.all_logs(ended.run_id) if not one.is_dagster_event]
        levels = {one.level for one in instance.all_logs(ended.run_id) if not one.is_dagster_event}
    cache = archive(trial, archives).cache
    kept = cache.record(FOREST)
    assert kept is not None
    assert values(first) == {
        "source_version": kept.version,
        "fresh": True,
        "status": "fetched by an order that was there already",
        "task": "77",
        "seconds_waited": 1.5,
        "bytes_downloaded": 4321,
        "cache": cache.location(FOREST).url,
        "bytes_in_cache": kept.bytes,
        "seconds": 2.25,
    }
    assert (values(second)["fresh"], values(second)["status"]) == (False, "the cache is good already")
    assert "task" not in second.metadata
    assert {tags(one)[VERSION] for one in (first, second)} == {kept.version}
    assert lines == [f"{FOREST}: looking for it", f"{FOREST}: task 77 is Queued"]
    assert levels == {20}


# A cube by itself.


def test_cube_alone_reads_the_cache_and_asks_nobody(trial: Trial, archives: Archives) -> None:
    case, key = with_forest(trial, "first", "second").case(), preload_key(trial)
    archive(trial, archives).put(FOREST, "version-7")
    trial.server.stop()
    with trial.instance() as instance:
        assert materialize(case, instance, FOREST_KEY, span=("first", "second")).success
        found = events(instance, FOREST_KEY)
        assert [event.partition for event in found] == ["first", "second"]
        # What the cube was made from is told of its source.
        assert tags(events(instance, key)[-1])[VERSION] == "version-7"
        assert {staleness(case, instance, name, FOREST_KEY) for name in ("first", "second")} == {StaleStatus.FRESH}
    assert record(trial, "first/forest", "y00x00")["source_version"] == "version-7"
    assert archives.fetches == []


def test_cube_alone_without_a_cache_says_what_to_run(trial: Trial, archives: Archives) -> None:
    case = with_forest(trial, "first").case()
    with trial.instance() as instance:
        ended = materialize(case, instance, FOREST_KEY, partition="first")
    assert not ended.success
    (failure,) = [event.step_failure_data.error for event in ended.all_events if event.is_step_failure]
    assert failure is not None
    assert failure.cause is not None
    assert "NotPreloadedError" in failure.cause.message
    assert "'scs2-cubes run' does so by itself" in failure.cause.message
    assert archives.fetches == []
    assert trial.server.requests.count() == 0
    assert not (trial.root / "first").exists()


# ``scs2-cubes run``.


def test_one_run_preloads_and_then_makes_the_cube(trial: Trial, archives: Archives) -> None:
    with_forest(trial, "first", "second")
    result = trial.run()
    assert result.code == 0, result.said
    assert result.status_of("forest (first)") == result.status_of("forest (second)") == "made"
    assert "preloaded" in result.out
    assert f"{FOREST}: task 77 is Queued" in result.out
    assert archives.orders == [FOREST]
    with trial.instance() as instance:
        (run,) = instance.get_runs()
        stored = instance.all_logs(run.run_id)
        (fetched,) = events(instance, preload_key(trial))
        assert [event.partition for event in events(instance, FOREST_KEY)] == ["first", "second"]
        for event in events(instance, FOREST_KEY):
            name = preload_key(trial).to_user_string()
            assert tags(event)[f"dagster/input_data_version/{name}"] == tags(fetched)[VERSION]
            assert values(event)["tiles_made"] == TILES
        assert fetched.partition is None
    happened = [
        one.dagster_event.asset_key
        for one in stored
        if one.dagster_event is not None and one.dagster_event.is_step_materialization
    ]
    assert happened == [preload_key(trial), FOREST_KEY, FOREST_KEY]


def test_second_run_asks_once_and_orders_nothing(trial: Trial, archives: Archives) -> None:
    with_forest(trial, "first", "second")
    trial.data["datasets"].append(trial.data["datasets"][0] | {"identifier": "again"})
    assert trial.run().code == 0
    # Two datasets, one order; asked for once.
    assert archives.fetches == archives.orders == [FOREST]
    before, runs = trial.moments("*/*"), run_count(trial)
    trial.server.requests.clear()
    result = trial.run()
    assert result.code == 0, result.said
    assert "All current: nothing to do." in result.out
    assert "preloaded" not in result.out
    assert archives.fetches == [FOREST]
    assert searches(trial) == 1
    assert {request.path.rstrip("/").rpartition("/")[2] for request in trial.server.requests.entries()} == {"@search"}
    assert trial.moments("*/*") == before
    assert run_count(trial) == runs


def test_lost_history_is_told_of_cube_and_preload(trial: Trial, archives: Archives) -> None:
    with_forest(trial, "first")
    assert trial.run().code == 0
    trial.home = trial.folder / "another"
    assert trial.run().code == 0
    assert archives.orders == [FOREST]
    with trial.instance() as instance:
        assert len(events(instance, preload_key(trial))) == 1
        assert [event.metadata["adopted"].value for event in events(instance, FOREST_KEY)] == [True]
        assert staleness(trial.case(), instance, "first", FOREST_KEY) == StaleStatus.FRESH


def test_lost_cache_is_fetched_again_and_the_cube_kept(trial: Trial, archives: Archives) -> None:
    with_forest(trial, "first", "second")
    assert trial.run().code == 0
    archive(trial, archives).cache.clear(FOREST)
    tiles = {name: moment for name, moment in trial.moments("*/*").items() if "/tiles/" in name or "_E30N20/" in name}
    assert tiles
    status = in_process("status", "--config", str(trial.path), home=trial.home)
    assert status.code == 1
    assert status.said.count("unknown") == status.said.count("can'tbetoldwithoutthecache") == 2
    result = trial.run()
    assert result.code == 0, result.said
    assert archives.orders == [FOREST, FOREST]
    assert result.status_of("forest (first)") == result.status_of("forest (second)") == "current"
    assert "preloaded" in result.out
    after = trial.moments("*/*")
    assert {name: after[name] for name in tiles} == tiles


def test_another_version_is_fetched_and_the_cube_remade(trial: Trial, archives: Archives) -> None:
    with_forest(trial, "first")
    archive(trial, archives).put(FOREST, "of yore")
    with trial.instance() as instance:
        assert materialize(trial.case(), instance, FOREST_KEY, partition="first").success
    result = trial.run()
    assert result.code == 0, result.said
    assert archives.orders == [FOREST]
    assert result.status_of("forest (first)") == "made"
    assert record(trial, "first/forest", "y00x00")["source_version"] != "of yore"


def test_forced_once_in_a_run(trial: Trial, archives: Archives) -> None:
    with_forest(trial, "first")
    trial.data["general"]["force_preload"] = True
    trial.data["datasets"].append(trial.data["datasets"][0] | {"identifier": "again"})
    for number in (1, 2):
        assert trial.run().code == 0
        assert archives.orders == number * [FOREST]


def test_later_ranges_dont_fetch_again(trial: Trial, archives: Archives) -> None:
    with_forest(trial, "first", "second", "third")
    archive(trial, archives).put(FOREST, "of yore")
    # The one in the middle isn't wanted.
    result = trial.run("--region", "first", "--region", "third")
    assert result.code == 0, result.said
    assert archives.fetches == [FOREST]
    assert run_count(trial) == 2
    assert not (trial.root / "second").exists()
    assert result.status_of("forest (third)") == "made"


def test_failed_preload_is_tried_once_and_stops_no_other_source(trial: Trial, archives: Archives) -> None:
    with_forest(trial, "first", "second")
    trial.data["datasets"] += [
        trial.data["datasets"][0] | {"identifier": "again"},
        dataset("genus", GENUS, ["first"]),
    ]
    archives.failure = OrderPendingError("task 77 is still Queued after 7200 s; the next run goes on waiting for it")
    result = trial.run()
    assert result.code == 1
    assert archives.fetches == [FOREST]
    for name in ("forest (first)", "forest (second)", "again (first)", "again (second)"):
        assert result.status_of(name) == "failed"
    assert result.status_of("genus (first)") == "made"
    # What failed has a row of its own, once.
    assert [row[1] for row in table_rows(result) if row[0].startswith(FOREST.partition("|")[0])] == ["failed"]
    assert "OrderPendingError:task77isstillQueuedafter7200s" in result.message_column
    assert not (trial.root / "first/forest.zarr").exists()
    archives.failure = None
    assert trial.run().code == 0
    assert archives.fetches == [FOREST, FOREST]


def test_service_that_is_off_fails_the_run_and_leaves_the_cube(trial: Trial, archives: Archives) -> None:
    with_forest(trial, "first")
    assert trial.run().code == 0
    before = trial.tree("*/*")
    trial.server.stop()
    result = trial.run()
    assert result.code == 1
    assert "SourceUnavailableError" in result.message_column
    assert trial.tree("*/*") == before
    assert archives.orders == [FOREST]


@pytest.mark.parametrize(("arguments", "fetched"), [((), [OTHER, FOREST]), (("--dataset", "forest"), [FOREST])])
def test_what_nobody_reads_is_fetched_where_nothing_is_named(
    trial: Trial, archives: Archives, arguments: tuple[str, ...], fetched: list[str]
) -> None:
    with_forest(trial, "first")
    trial.data["preload_datasets"] = [{"store": "clms", "data_ids": [OTHER]}]
    result = trial.run(*arguments)
    assert result.code == 0, result.said
    assert archives.orders == fetched
    assert result.out.count("preloaded") == len(fetched)
    trial.server.requests.clear()
    assert "All current: nothing to do." in trial.run(*arguments).out
    assert archives.fetches == fetched
    assert searches(trial) == len(fetched)


def test_what_nobody_reads_can_fail(trial: Trial, archives: Archives) -> None:
    with_forest(trial, "first")
    trial.data["datasets"] = [dataset("genus", GENUS, ["first"])]
    trial.data["preload_datasets"] = [{"store": "clms", "data_ids": [OTHER]}]
    archives.failure = OrderPendingError("task 78 is still Queued")
    result = trial.run()
    assert result.code == 1
    assert result.status_of("genus (first)") == "made"
    assert "OrderPendingError:task78isstillQueued" in result.message_column


def test_what_a_cube_reports_of_its_source_is_no_preload(trial: Trial, archives: Archives) -> None:
    """Its step tells the source's version by an event of the same key, where the cache has moved on meanwhile."""
    case = with_forest(trial, "first").case()
    (spec,) = case.preloads
    with trial.instance() as instance:
        job = CaseJob(build_definitions(case).resolve_implicit_global_asset_job_def(), instance, "error")
        runs = PreloadRuns(case, job)
        fetched = {"fresh": True, "bytes_in_cache": 7, "seconds": 0.5}
        key = source_key(spec)
        told = (dg.AssetMaterialization(key, metadata=fetched), dg.AssetMaterialization(key))
        assert [outcome.size for outcome in runs.conclude(spec, RunEnd(None, told), 1.0)] == [7]
        (failed,) = PreloadRuns(case, job).conclude(spec, RunEnd("it failed", told[1:]), 1.0)
        assert (failed.size, failed.seconds, failed.message) == (0, 1.0, "it failed")
    assert archives.fetches == []
