"""Whole steps as tasks of a cluster: what they make, that runs don't meet, and what ends them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import dagster as dg
import pytest
from distributed import Client

from scs2_cubes.config import load_case
from scs2_cubes.core.specification import DaskSpec
from scs2_cubes.demo.faults import Delay
from scs2_cubes.orchestration.build import build_definitions
from scs2_cubes.orchestration.executors import EVERYTHING_ON_DASK, executor_on
from scs2_cubes.orchestration.instance import prepare_home
from scs2_cubes_tests.end_to_end.fixtures import Undisturbed
from scs2_cubes_tests.end_to_end.trial import CHUNK, Trial, ended, wait_until
from scs2_cubes_tests.orchestration.sites import GENUS_KEY, TILES, events, with_sites
from scs2_cubes_tests.pipeline.dask_processes import DaskProcesses


def everything() -> dg.JobDefinition:
    """The job of the configuration that ``SCS2_CONFIG`` names, here and on the workers."""
    return build_definitions(load_case()).resolve_job_def(EVERYTHING_ON_DASK)


@dataclass
class Cluster:
    """A scheduler, and runs of the job on it."""

    trial: Trial
    processes: DaskProcesses
    settings: dict[str, str] = field(default_factory=dict)

    def prepare(self) -> None:
        self.trial.data["dask"] = {"mode": "address", "address": self.processes.address, "steps": True}
        prepare_home(self.trial.home)
        self.settings = {"SCS2_CONFIG": str(self.trial.write()), "DAGSTER_HOME": str(self.trial.home)}

    def start_worker(self) -> None:
        self.processes.start_worker(extra=self.settings)

    @property
    def waiting(self) -> int:
        """Runs that have asked for something that isn't made."""
        with Client(self.processes.address) as client:
            found: int = client.run_on_scheduler(
                lambda dask_scheduler: sum(bool(one.wants_what) for one in dask_scheduler.clients.values())
            )
        return found

    def start(self, job: str, *assets: str) -> subprocess.Popen[str]:
        """A run in a process of its own, as Dagster starts them: of a partition, or of assets."""
        return self.trial.start_python(("-c", RUNNING, job), *assets, extra=self.settings)


#: A run of one of the jobs below, of a partition or of some of its assets.
RUNNING = """
import sys
import dagster as dg
from scs2_cubes_tests.orchestration.test_executors import everything, waiting
job, *names = sys.argv[1:]
with dg.DagsterInstance.get() as instance:
    if job == "everything":
        made = dg.execute_job(dg.reconstructable(everything), instance, tags={"dagster/partition": names[0]})
    else:
        made = dg.execute_job(dg.reconstructable(waiting), instance, asset_selection=[*map(dg.AssetKey, names)])
    with made as result:
        sys.exit(0 if result.success else 3)
"""


@pytest.mark.parametrize(
    ("dask", "other_grid", "there"),
    [
        (DaskSpec("address", "tcp://s:1", steps=True), False, True),
        (DaskSpec("address", "tcp://s:1"), False, False),
        (DaskSpec(), False, False),
        (DaskSpec("address", "tcp://s:1", steps=True), True, False),
    ],
)
def test_where_the_job_is_there(trial: Trial, dask: DaskSpec, other_grid: bool, there: bool) -> None:
    case = replace(trial.case(), dask=dask)
    if other_grid:
        first, second = case.datasets
        case = replace(case, datasets=(first, replace(second, regions=())))
    definitions = build_definitions(case)
    assert bool(definitions.jobs) is there
    if there:
        job = definitions.resolve_job_def(EVERYTHING_ON_DASK)
        assert job.partitions_def is not None
        assert job.partitions_def.get_partition_keys() == ["demo"]
        made = {key.to_user_string() for key in job.asset_layer.executable_asset_keys}
        assert {"gami", "forestpaths_genus"} < made
        assert len(made) == 4


@pytest.fixture
def cluster(trial: Trial, tmp_path: Path) -> Iterator[Cluster]:
    folder = tmp_path / "dask"
    folder.mkdir()
    processes = DaskProcesses(folder)
    processes.start_scheduler()
    yield Cluster(trial, processes)
    processes.stop()


def test_steps_as_tasks(cluster: Cluster, undisturbed: Undisturbed) -> None:
    cluster.prepare()
    cluster.start_worker()
    run = ended(cluster.start("everything", "demo"))
    assert run.code == 0, run.out + run.err
    assert cluster.trial.tree() == undisturbed.tree


def test_two_runs_at_once_make_two_partitions(cluster: Cluster) -> None:
    with_sites(cluster.trial, "first", "second")
    cluster.prepare()
    runs = [cluster.start("everything", "first")]
    wait_until(lambda: cluster.waiting == 1, runs[0])
    runs.append(cluster.start("everything", "second"))
    # Without a worker nothing is made until both have told the scheduler of their steps.
    wait_until(lambda: cluster.waiting == 2, runs[1])
    cluster.start_worker()
    for run in map(ended, runs):
        assert run.code == 0, run.out + run.err
    with cluster.trial.instance() as instance:
        assert {event.partition for event in events(instance, GENUS_KEY)} == {"first", "second"}
    for place in ("first", "second"):
        assert len(cluster.trial.records(f"{place}/genus")) == TILES


@dataclass
class Steps:
    """Assets that note that they have begun and wait to be let go, on the same cluster."""

    cluster: Cluster
    folder: Path

    def let_go(self, name: str) -> None:
        (self.folder / f"go-{name}").touch()

    @property
    def begun(self) -> set[str]:
        return {path.name.removeprefix("begun-") for path in self.folder.glob("begun-*")}

    def use(self, address: str) -> None:
        self.cluster.settings |= {"SCS2_TRIAL_SCHEDULER": address}

    def start(self, *names: str) -> subprocess.Popen[str]:
        return self.cluster.start("waiting", *names)

    def told(self) -> str:
        """All messages of all runs."""
        with dg.DagsterInstance.from_config(str(self.cluster.trial.home)) as instance:
            entries = [entry for run in instance.get_runs() for entry in instance.all_logs(run.run_id)]
        return "\n".join(entry.message for entry in entries)


@pytest.fixture
def steps(cluster: Cluster, tmp_path: Path) -> Steps:
    folder = tmp_path / "steps"
    folder.mkdir()
    prepare_home(cluster.trial.home)
    cluster.settings = {"SCS2_TRIAL_FOLDER": str(folder), "DAGSTER_HOME": str(cluster.trial.home)}
    found = Steps(cluster, folder)
    found.use(cluster.processes.address)
    return found


def waiting() -> dg.JobDefinition:
    """A job on the cluster, here and on the workers."""
    folder = Path(os.environ["SCS2_TRIAL_FOLDER"])

    def wait(name: str) -> None:
        (folder / f"begun-{name}").touch()
        wait_until((folder / f"go-{name}").exists)

    @dg.asset(pool="cciodp")
    def first() -> None:
        wait("first")

    @dg.asset(pool="cciodp")
    def second() -> None:
        wait("second")

    @dg.asset
    def failing() -> None:
        message = "planted"
        raise ValueError(message)

    @dg.asset(deps=[failing])
    def dependent() -> None:
        (folder / "begun-dependent").touch()

    executor = executor_on(DaskSpec("address", os.environ["SCS2_TRIAL_SCHEDULER"]), ())
    job = dg.define_asset_job("waiting", dg.AssetSelection.all(), executor_def=executor)
    return dg.Definitions(assets=[first, second, failing, dependent], jobs=[job]).resolve_job_def("waiting")


def take_turns(steps: Steps, held: Callable[[], object]) -> None:
    """Two runs, of which the second one has to wait for the first one; ``held`` says that it does."""
    runs = [steps.start("first")]
    wait_until(lambda: steps.begun == {"first"}, runs[0])
    runs.append(steps.start("second"))
    wait_until(held, runs[1])
    time.sleep(2)
    assert steps.begun == {"first"}
    steps.let_go("first")
    wait_until(lambda: steps.begun == {"first", "second"}, runs[1])
    steps.let_go("second")
    for run in map(ended, runs):
        assert run.code == 0, run.out + run.err


def test_pools_count(steps: Steps) -> None:
    """There is a worker that has nothing to do, and yet the second step waits."""
    limit = "telemetry:\n  enabled: false\nconcurrency:\n  pools:\n    default_limit: 1\n"
    (steps.cluster.trial.home / "dagster.yaml").write_text(limit, encoding="utf-8")
    for _ in range(2):
        steps.cluster.start_worker()
    take_turns(steps, lambda: "blocked by limit for pool cciodp" in steps.told())


def test_one_step_at_a_time_in_one_process(steps: Steps) -> None:
    """Two that begin together could wait for each other for ever."""
    options = ("--no-nanny", "--nthreads", "2", "--no-dashboard", "--host", "127.0.0.1")
    address, extra = steps.cluster.processes.address, {"DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False"}
    steps.cluster.trial.start_python(
        ("-m", "dask"), "worker", address, *options, extra={**steps.cluster.settings, **extra}
    )
    take_turns(steps, lambda: steps.cluster.waiting == 2)


def test_what_depends_on_a_failed_step_is_not_made(steps: Steps) -> None:
    steps.cluster.start_worker()
    assert ended(steps.start("failing", "dependent")).code == 3
    assert "Dependencies for step dependent failed: ['failing']. Not executing." in steps.told()
    assert steps.begun == set()


def test_a_run_that_is_cancelled_leaves_no_step(cluster: Cluster) -> None:
    """Its process is gone, and the worker goes on until it has seen so."""
    with_sites(cluster.trial, "first")
    cluster.prepare()
    cluster.start_worker()
    trial = cluster.trial
    # Long enough for the run to end before the first tile is made.
    trial.server.faults.add(Delay(12), CHUNK)
    run = cluster.start("everything", "first")
    claims = trial.root / "first/genus.records/claims"
    wait_until(lambda: list(claims.glob("*")), run)
    with trial.instance() as instance:
        # As Dagster terminates a run.
        instance.report_run_canceling(instance.get_runs()[0])
    run.send_signal(signal.SIGINT)
    ended(run)
    wait_until(lambda: not list(claims.glob("*")))
    with trial.instance() as instance:
        (made,) = instance.get_runs()
        assert made.status is dg.DagsterRunStatus.CANCELED
        assert events(instance, GENUS_KEY) == []
    assert len(trial.records("first/genus")) < TILES
