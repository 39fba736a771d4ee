"""Once for real: daemon, web server and embedded sources run, a source publishes, and what is stale is made again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import dagster as dg
import pytest
from dagster._core.definitions.data_version import StaleStatus

from scs2_cubes.demo.catalogue import Catalogue
from scs2_cubes_tests.browser.dagster_dev import DagsterDev, left_over
from scs2_cubes_tests.end_to_end.trial import GAMI, GENUS, Trial, dataset, region
from scs2_cubes_tests.orchestration.sites import record, staleness

SENSOR = "stac_versions"
#: Seconds from when the servers answer: a look at the sources each half a minute, the queue, a process for the run.
DEADLINE = 150.0
EDGE = 192 * 30
WEST, SOUTH = 3_430_404, 2_446_817
TILES = 9


@dataclass(frozen=True)
class Watch:
    """Servers at work and the history that they write, for tests that wait for something to happen by itself."""

    servers: DagsterDev
    instance: dg.DagsterInstance
    deadline: float
    """By ``time.monotonic()``."""

    def wait_for(self, what: str, condition: Callable[[], bool]) -> None:
        """Poll until ``condition`` holds; at the deadline the daemon's log tells why it doesn't."""
        while not condition():
            if time.monotonic() > self.deadline:
                pytest.fail(f"after {DEADLINE:.0f} s not yet: {what}\n{self._runs_told()}\n{self.servers.said}")
            time.sleep(0.5)

    def looks(self) -> int:
        """How many times the sensor has looked at its sources, and was done."""
        return sum(
            tick.timestamp is not None and tick.end_timestamp is not None
            for state in self.instance.all_instigator_state()
            if state.instigator_name == SENSOR
            for tick in self.instance.get_ticks(state.instigator_origin_id, state.selector_id)
        )

    def runs(self) -> list[dg.DagsterRun]:
        """Those that the sensor has asked for, newest first."""
        return list(self.instance.get_runs(dg.RunsFilter(tags={"dagster/sensor_name": SENSOR})))

    def _runs_told(self) -> str:
        return "\n".join(f"run {run.run_id}: {run.status.value}, {run.tags}" for run in self.runs()) or "no runs"


@contextmanager
def watching(trial: Trial) -> Iterator[Watch]:
    with DagsterDev(trial.write(), trial.home) as servers, trial.instance() as instance:
        yield Watch(servers, instance, time.monotonic() + DEADLINE)
    assert left_over(trial.home) == []


@pytest.fixture
def watched(trial: Trial) -> Trial:
    """Cubes of one source that are remade and that aren't, and of another source, made once of one of two regions."""
    trial.data["automation"] = {"interval": 30, "sensors": "running"}
    trial.data["grid_mappings"] = [
        region(name, [west, SOUTH, west + EDGE, SOUTH + EDGE], 64)
        for name, west in (("west", WEST), ("east", WEST + EDGE))
    ]
    trial.data["datasets"] = [
        {**dataset("gami", GAMI, ["west", "east"]), "automation": "on_new_version"},
        {**dataset("by_hand", GAMI, ["west"]), "automation": "manual"},
        {**dataset("genus", GENUS, ["west"]), "automation": "on_new_version"},
    ]
    made = trial.run("--region", "west")
    assert made.code == 0, made.out + made.err
    return trial


def source_versions(trial: Trial, cube: str) -> set[str]:
    """What the records of a cube's nine tiles say about the version of their source."""
    keys = trial.records(cube)
    return {record(trial, cube, key)["source_version"] for key in keys} if len(keys) == TILES else set()


@pytest.mark.timeout(450)  # the cubes' making and the servers' start come on top of the deadline
def test_cube_is_remade_by_itself_when_its_source_publishes(
    watched: Trial, catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory
) -> None:
    untouched = {cube: watched.moments(f"west/{cube}") for cube in ("by_hand", "genus")}
    (first,) = source_versions(watched, "west/gami")

    with watching(watched) as watch:
        watch.wait_for("the sensor has looked once", lambda: watch.looks() > 0)
        assert watch.runs() == []
        assert source_versions(watched, "west/gami") == {first}
        catalogue.publish("GAMI", 2)
        watch.wait_for(
            "a run that the sensor has asked for is over", lambda: any(run.is_finished for run in watch.runs())
        )
        looks = watch.looks()
        watch.wait_for("the sensor has looked once more after the run", lambda: watch.looks() > looks + 1)
        runs = watch.runs()
        events = watch.instance.fetch_materializations(dg.AssetKey("gami"), limit=10).records
        states = {cube: staleness(watched.case(), watch.instance, "west", dg.AssetKey(cube)) for cube in untouched}
        states["gami"] = staleness(watched.case(), watch.instance, "west", dg.AssetKey("gami"))

    # One run, of one partition: the other one was never made, and the version triggers once.
    assert [run.status for run in runs] == [dg.DagsterRunStatus.SUCCESS]
    assert [event.partition_key for event in events] == ["west", "west"]
    latest = events[0].asset_materialization
    assert latest is not None
    assert {name: latest.metadata[name].value for name in ("tiles_made", "tiles_kept")} == {
        "tiles_made": TILES,
        "tiles_kept": 0,
    }
    assert watched.records("east/gami") == set()

    # What was made is what anybody makes of the second version from nothing.
    fresh = Trial(tmp_path_factory.mktemp("fresh"), watched.server)
    fresh.data = {**watched.data, "data_stores": [fresh.data["data_stores"][0], watched.data["data_stores"][1]]}
    assert fresh.run("--region", "west", "--dataset", "gami").code == 0
    assert watched.tree("west/gami") == fresh.tree("west/gami")
    (second,) = source_versions(watched, "west/gami")
    assert second != first

    # The same source's other cube is stale and waits for people; another source's is what it was.
    assert states == {"gami": StaleStatus.FRESH, "by_hand": StaleStatus.STALE, "genus": StaleStatus.FRESH}
    assert source_versions(watched, "west/by_hand") == {first}
    assert {cube: watched.moments(f"west/{cube}") for cube in untouched} == untouched
