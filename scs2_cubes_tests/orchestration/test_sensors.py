"""Ticks of the sensors with an ephemeral instance: what is reported, what is asked for, and what isn't."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

import dagster as dg
import pytest
from dagster._core.definitions.data_version import StaleStatus
from dagster._core.test_utils import create_run_for_test

from scs2_cubes.core.checks import Verdict
from scs2_cubes.core.specification import Case
from scs2_cubes.demo.faults import Status
from scs2_cubes.orchestration.build import build_definitions
from scs2_cubes.orchestration.sensors import version_sensors
from scs2_cubes.pipeline.cubes import describe_source, plan_partition
from scs2_cubes.pipeline.findings import note_verdicts
from scs2_cubes.sources.stac import StacSource
from scs2_cubes_tests.end_to_end.trial import GAMI, Trial, dataset
from scs2_cubes_tests.orchestration.sites import (
    GENUS_KEY,
    TILES,
    events,
    materialize,
    source_key_of,
    staleness,
    tags,
    with_sites,
)

VERSION = "dagster/data_version"


@dataclass
class Watch:
    """The daemon's part: evaluates ticks, tells the instance what they report, and remembers run keys and cursors."""

    case: Case
    instance: dg.DagsterInstance
    clock: Callable[[], float] = time.monotonic
    cursor: str | None = None
    run_keys: set[str] = field(default_factory=set)

    def tick(self) -> dg.SensorResult:
        (sensor,) = version_sensors(self.case, self.clock)
        context = dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, definitions=build_definitions(self.case)
        )
        with context:
            result = sensor.evaluate_tick(context)
        for event in result.asset_events:
            self.instance.report_runless_asset_event(event)
        self.cursor = result.cursor
        return dg.SensorResult(
            asset_events=result.asset_events,
            run_requests=list(self._new(result.run_requests or [])),
            skip_reason=None if result.run_requests else result.skip_message,
            cursor=result.cursor,
        )

    def _new(self, requests: Sequence[dg.RunRequest]) -> Iterator[dg.RunRequest]:
        for request in requests:
            assert request.run_key is not None
            if request.run_key not in self.run_keys:
                self.run_keys.add(request.run_key)
                yield request

    def latest(self, name: str) -> dg.AssetCheckEvaluation:
        """What the check ``name``, of the cube or of its source, said last."""
        key = GENUS_KEY if name == "current" else source_key_of(self.case)
        (record, *_) = self.instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(key, name), limit=1
        )
        assert record.event is not None
        assert record.event.dagster_event is not None
        evaluation = record.event.dagster_event.event_specific_data
        assert isinstance(evaluation, dg.AssetCheckEvaluation)
        return evaluation

    def launch(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        """As the run launcher does, in this process."""
        job = build_definitions(self.case).resolve_implicit_global_asset_job_def()
        return job.execute_in_process(
            asset_selection=list(request.asset_selection or []),
            instance=self.instance,
            tags=dict(request.tags),
            raise_on_error=False,
        )

    def began(self, request: dg.RunRequest, status: dg.DagsterRunStatus) -> dg.DagsterRun:
        """A run of which nothing is known but its status."""
        run: dg.DagsterRun = create_run_for_test(
            self.instance,
            asset_selection=frozenset(request.asset_selection or []),
            tags=dict(request.tags),
            status=status,
        )
        return run


def requested(result: dg.SensorResult) -> list[tuple[str, str]]:
    """First and last partition of each run that was asked for."""
    return [
        (one.tags["dagster/asset_partition_range_start"], one.tags["dagster/asset_partition_range_end"])
        for one in result.run_requests or []
    ]


def reported(result: dg.SensorResult, key: dg.AssetKey) -> list[dg.AssetMaterialization]:
    return [one for one in result.asset_events if isinstance(one, dg.AssetMaterialization) and one.asset_key == key]


def evaluated(result: dg.SensorResult) -> list[str]:
    """Names of the checks that a tick tells of."""
    return [one.check_name for one in result.asset_events if isinstance(one, dg.AssetCheckEvaluation)]


def genus(trial: Trial, *names: str, automation: str = "on_new_version") -> Case:
    with_sites(trial, *names).data["datasets"][0]["automation"] = automation
    return trial.case()


def made(trial: Trial, case: Case, instance: dg.DagsterInstance, first: str, last: str) -> None:
    assert materialize(case, instance, GENUS_KEY, span=(first, last)).success
    trial.server.requests.clear()


def outdated(trial: Trial, instance: dg.DagsterInstance) -> Watch:
    """A look at a cube whose source has got a second version since it was made."""
    case = genus(trial, "first")
    made(trial, case, instance, "first", "first")
    trial.server.catalogue.publish("FORESTPATHS_GENUS", 2)
    return Watch(case, instance)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def test_first_look_reports_the_version_and_starts_nothing(trial: Trial, instance: dg.DagsterInstance) -> None:
    case = genus(trial, "first")
    watch = Watch(case, instance)
    result = watch.tick()
    (event,) = reported(result, source_key_of(case))
    assert tags(event)[VERSION] == event.metadata["source_version"].value
    assert requested(result) == []
    assert watch.latest("newest_edition").passed
    current = watch.latest("current")
    assert not current.passed
    assert "missing" in (current.description or "")
    assert trial.chunk_requests() == []
    assert instance.get_runs() == []
    assert not trial.root.exists()


def test_no_change_is_no_news(trial: Trial, instance: dg.DagsterInstance) -> None:
    case = genus(trial, "first", "second")
    watch = Watch(case, instance)
    made(trial, case, instance, "first", "second")
    before = len(events(instance, source_key_of(case)))
    for told in (["newest_edition"], [], []):
        result = watch.tick()
        assert reported(result, source_key_of(case)) == []
        assert requested(result) == []
        # The run has told of the cube; what was told once isn't told again.
        assert evaluated(result) == told
        assert watch.latest("current").passed
    assert len(events(instance, source_key_of(case))) == before
    assert staleness(case, instance, "first") == StaleStatus.FRESH


def test_new_version_is_shown_and_nothing_started_where_that_is_manual(
    trial: Trial, instance: dg.DagsterInstance
) -> None:
    case = genus(trial, "first", automation="manual")
    made(trial, case, instance, "first", "first")
    trial.server.catalogue.publish("FORESTPATHS_GENUS", 2)
    watch = Watch(case, instance)
    result = watch.tick()
    assert len(reported(result, source_key_of(case))) == 1
    assert requested(result) == []
    assert staleness(case, instance, "first") == StaleStatus.STALE
    current = watch.latest("current")
    assert not current.passed
    assert current.severity is dg.AssetCheckSeverity.WARN
    text = str(current.metadata["status"].value)
    assert "stale" in text
    assert "source" in text


def test_new_version_remakes_what_is_stale_once(trial: Trial, instance: dg.DagsterInstance) -> None:
    case = genus(trial, "first", "second", "third")
    watch = Watch(case, instance)
    # The second was never made: that is nothing new about its source.
    made(trial, case, instance, "first", "first")
    made(trial, case, instance, "third", "third")
    trial.server.catalogue.publish("FORESTPATHS_GENUS", 2)
    result = watch.tick()
    assert requested(result) == [("first", "first"), ("third", "third")]
    for request in result.run_requests or []:
        assert watch.launch(request).success
    assert [event.metadata["tiles_made"].value for event in events(instance, GENUS_KEY)[-2:]] == [TILES, TILES]
    assert staleness(case, instance, "first") == staleness(case, instance, "third") == StaleStatus.FRESH
    assert staleness(case, instance, "second") == StaleStatus.MISSING
    for _ in range(3):
        assert requested(watch.tick()) == []


def test_two_changes_between_ticks_are_one(trial: Trial, instance: dg.DagsterInstance) -> None:
    watch = outdated(trial, instance)
    trial.server.catalogue.publish("FORESTPATHS_GENUS", 3)
    result = watch.tick()
    assert len(reported(result, source_key_of(watch.case))) == 1
    (request,) = result.run_requests or []
    assert watch.launch(request).success
    assert requested(watch.tick()) == []


def test_version_that_came_and_went_between_ticks_starts_nothing(trial: Trial, instance: dg.DagsterInstance) -> None:
    watch = outdated(trial, instance)
    assert requested(watch.tick()) == [("first", "first")]  # not launched
    trial.server.catalogue.publish("FORESTPATHS_GENUS", 1)
    result = watch.tick()
    assert len(reported(result, source_key_of(watch.case))) == 1
    assert requested(result) == []
    assert watch.latest("current").passed


def test_version_that_moves_during_a_run_is_not_lost(trial: Trial, instance: dg.DagsterInstance) -> None:
    watch = outdated(trial, instance)
    (request,) = watch.tick().run_requests or []
    run = watch.began(request, dg.DagsterRunStatus.STARTED)
    instance.report_engine_event("at work", run)
    trial.server.catalogue.publish("FORESTPATHS_GENUS", 3)
    result = watch.tick()
    # It is told, and what works on the cube is left in peace.
    assert len(reported(result, source_key_of(watch.case))) == 1
    assert requested(result) == []
    assert run.run_id in str(result.skip_reason)
    # The run ends with what it began with, after the sensor's tick: the newer version is still due.
    trial.server.catalogue.publish("FORESTPATHS_GENUS", 2)
    instance.report_run_canceled(run)
    assert watch.launch(request).success
    trial.server.catalogue.publish("FORESTPATHS_GENUS", 3)
    result = watch.tick()
    (again,) = result.run_requests or []
    assert watch.launch(again).success
    result = watch.tick()
    assert requested(result) == []
    assert watch.latest("current").passed


def test_run_that_gave_no_sign_of_life_for_long_stands_in_nobodys_way(
    trial: Trial, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = outdated(trial, instance)
    (request,) = watch.tick().run_requests or []
    run = watch.began(request, dg.DagsterRunStatus.STARTED)
    instance.report_engine_event("at work", run)
    assert requested(watch.tick()) == []
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 7200)
    assert requested(watch.tick()) == [("first", "first")]


def test_silent_source_is_a_reason_and_never_a_version(trial: Trial, instance: dg.DagsterInstance) -> None:
    case = genus(trial, "first")
    watch = Watch(case, instance)
    made(trial, case, instance, "first", "first")
    known = tags(events(instance, source_key_of(case))[-1])[VERSION]
    trial.server.faults.add(Status(HTTPStatus.SERVICE_UNAVAILABLE))
    result = watch.tick()
    trial.server.faults.clear()
    assert list(result.asset_events) == []
    assert requested(result) == []
    assert "SourceUnavailableError" in str(result.skip_reason)
    assert "503" in str(result.skip_reason)
    result = watch.tick()
    assert reported(result, source_key_of(case)) == []
    assert watch.latest("current").passed
    assert tags(events(instance, source_key_of(case))[-1])[VERSION] == known


def test_remake_that_was_stopped_by_hand_isnt_started_again(trial: Trial, instance: dg.DagsterInstance) -> None:
    watch = outdated(trial, instance)
    (request,) = watch.tick().run_requests or []
    watch.began(request, dg.DagsterRunStatus.CANCELED)
    for _ in range(2):
        result = watch.tick()
        assert requested(result) == []
        assert "stopped by hand" in str(result.skip_reason)
    trial.server.catalogue.publish("FORESTPATHS_GENUS", 3)
    assert requested(watch.tick()) == [("first", "first")]


def test_failures_are_counted_by_attempts_not_by_ranges(trial: Trial, instance: dg.DagsterInstance) -> None:
    case = genus(trial, "first", "second", "third", "at_sea", "far_out")
    watch = Watch(case, instance)
    for key in ("first", "third", "far_out"):
        made(trial, case, instance, key, key)
    trial.server.catalogue.publish("FORESTPATHS_GENUS", 2)
    for _ in range(3):
        requests = watch.tick().run_requests or []
        assert len(requests) == 3
        for request in requests:
            watch.began(request, dg.DagsterRunStatus.FAILURE)
    result = watch.tick()
    assert requested(result) == []
    assert "3 attempts in a row have failed" in str(result.skip_reason)


def test_cube_that_a_run_works_on_is_left_to_it(trial: Trial, instance: dg.DagsterInstance) -> None:
    case = genus(trial, "first", automation="manual")
    made(trial, case, instance, "first", "first")
    with dg.DagsterInstance.ephemeral() as other:
        watch = Watch(case, other)
        run: dg.DagsterRun = create_run_for_test(
            other, asset_selection=frozenset([GENUS_KEY]), status=dg.DagsterRunStatus.STARTED
        )
        other.report_engine_event("at work", run)
        # Neither adopted nor judged by a look that may be older than what the run will tell.
        result = watch.tick()
        assert reported(result, GENUS_KEY) == []
        assert evaluated(result) == ["newest_edition"]
        other.report_run_canceled(run)
        assert len(reported(watch.tick(), GENUS_KEY)) == 1


def test_partition_that_was_found_wrong_isnt_adopted(trial: Trial, instance: dg.DagsterInstance) -> None:
    case = genus(trial, "first", automation="manual")
    made(trial, case, instance, "first", "first")
    planned = plan_partition(case.dataset("genus"), case.storage, describe_source(case.dataset("genus")), "first")
    wrong = [Verdict("legal_codes", passed=False, text="no class is 99")]
    note_verdicts(planned.store, "first", wrong, data_version=planned.plan.data_version)
    with dg.DagsterInstance.ephemeral() as other:
        watch = Watch(case, other)
        assert reported(watch.tick(), GENUS_KEY) == []
        assert "1 wrong" in str(watch.latest("current").description)


def test_source_that_breaks_the_client_doesnt_stop_the_others(
    trial: Trial, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_sites(trial, "first").data["datasets"] += [dataset("gami", GAMI, "first")]
    case = trial.case()

    def newer(self: StacSource, data_id: str) -> tuple[str, ...]:
        raise KeyError(data_id)

    probe = StacSource.probe
    monkeypatch.setattr(StacSource, "newer_editions", newer)
    monkeypatch.setattr(
        StacSource, "probe", lambda self, data_id: {}[data_id] if "GENUS" in data_id else probe(self, data_id)
    )
    result = Watch(case, instance).tick()
    versions = [one.asset_key for one in result.asset_events if isinstance(one, dg.AssetMaterialization)]
    assert [key.path[-1][:4] for key in versions] == ["GAMI"]
    assert str(result.skip_reason).count("KeyError") == 2


def test_version_is_given_up_after_three_failures_in_a_row(trial: Trial, instance: dg.DagsterInstance) -> None:
    watch = outdated(trial, instance)
    for _ in range(3):
        (request,) = watch.tick().run_requests or []
        watch.began(request, dg.DagsterRunStatus.FAILURE)
    result = watch.tick()
    assert requested(result) == []
    assert "3 attempts in a row have failed" in str(result.skip_reason)
    # Another version is another matter.
    trial.server.catalogue.publish("FORESTPATHS_GENUS", 3)
    assert requested(watch.tick()) == [("first", "first")]


def test_remake_that_was_killed_at_its_last_tile_is_finished(trial: Trial, instance: dg.DagsterInstance) -> None:
    watch = outdated(trial, instance)
    (request,) = watch.tick().run_requests or []
    assert watch.launch(request).success
    (trial.root / "first/genus.records/tiles/y00x00.json").unlink()
    assert requested(watch.tick()) == [("first", "first")]


def test_what_was_interrupted_by_hand_is_left_to_people(trial: Trial, instance: dg.DagsterInstance) -> None:
    case = genus(trial, "first")
    made(trial, case, instance, "first", "first")
    (trial.root / "first/genus.records/tiles/y00x00.json").unlink()
    watch = Watch(case, instance)
    result = watch.tick()
    assert requested(result) == []
    assert "partly done" in (watch.latest("current").description or "")


def test_finished_partitions_are_adopted_also_those_of_another_version(
    trial: Trial, instance: dg.DagsterInstance
) -> None:
    case = genus(trial, "first", "second", automation="manual")
    made(trial, case, instance, "first", "first")
    trial.server.catalogue.publish("FORESTPATHS_GENUS", 2)
    made(trial, case, instance, "second", "second")
    with dg.DagsterInstance.ephemeral() as other:
        watch = Watch(case, other)
        adopted = reported(watch.tick(), GENUS_KEY)
        assert sorted(event.partition or "" for event in adopted) == ["first", "second"]
        assert all(event.metadata["adopted"].value is True for event in adopted)
        assert staleness(case, other, "first") == StaleStatus.STALE
        assert staleness(case, other, "second") == StaleStatus.FRESH
        assert reported(watch.tick(), GENUS_KEY) == []


def test_tick_that_has_no_time_left_goes_on_where_it_stopped(trial: Trial, instance: dg.DagsterInstance) -> None:
    with_sites(trial, "first").data["datasets"] += [dataset("gami", GAMI, "first")]
    case = trial.case()
    now = iter(range(0, 100_000, 1000))
    watch = Watch(case, instance, clock=lambda: float(next(now)))
    seen = []
    for _ in range(3):
        result = watch.tick()
        seen.append([one.asset_key for one in result.asset_events if isinstance(one, dg.AssetMaterialization)])
        assert "no time left" in str(result.skip_reason)
    assert [len(keys) for keys in seen] == [1, 1, 0]
    assert seen[0] != seen[1]


def test_cube_of_many_partitions_is_looked_at_over_several_ticks(trial: Trial, instance: dg.DagsterInstance) -> None:
    case = genus(trial, "first", "second", "third")
    made(trial, case, instance, "first", "third")
    trial.server.catalogue.publish("FORESTPATHS_GENUS", 2)
    now = iter(range(0, 100_000, 1000))
    watch = Watch(case, instance, clock=lambda: float(next(now)))
    told, asked = [], []
    for _ in range(3):
        result = watch.tick()
        told.append("current" in evaluated(result))
        asked += requested(result)
    # What is due is asked for at once; what the cube is as a whole, when all of it was seen.
    assert asked == [("first", "first"), ("second", "second"), ("third", "third")]
    assert told == [False, False, True]
    assert watch.latest("current").description == "3 partitions: 3 stale (source)"
    assert watch.cursor == "{}"


def test_cursor_of_another_release_begins_anew(trial: Trial, instance: dg.DagsterInstance) -> None:
    case = genus(trial, "first")
    for cursor in ("sources/eoforest_stac/x", "[]", '{"source": 1, "seen": [{}]}', '{"seen": 3}', '{"other": ""}'):
        watch = Watch(case, instance, cursor=cursor)
        watch.tick()
        assert watch.cursor == "{}"


@pytest.mark.parametrize("running", [True, False])
def test_interval_and_state_are_the_configurations(trial: Trial, *, running: bool) -> None:
    trial.data["automation"] = {"interval": 1234, "sensors": "running" if running else "stopped"}
    (sensor,) = version_sensors(trial.case())
    assert sensor.name == "stac_versions"
    assert sensor.minimum_interval_seconds == 1234
    assert sensor.default_status is (dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED)


def test_cubes_of_one_sensor_may_have_different_partitions(trial: Trial) -> None:
    with_sites(trial, "first", "second").data["datasets"] += [dataset("gami", GAMI, ["first"])]
    definitions = build_definitions(trial.case())
    dg.Definitions.validate_loadable(definitions)
    assert [one.name for one in definitions.sensors or []] == ["stac_versions"]
