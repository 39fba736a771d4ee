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
from scs2_cubes.orchestration.preloads import preload_assets
from scs2_cubes_tests.end_to_end.fixtures import Undisturbed
from scs2_cubes_tests.end_to_end.trial import CHUNK, Trial, ended, wait_until
from scs2_cubes_tests.orchestration.archives import FOREST, Archives, preload_key, with_forest
from scs2_cubes_tests.orchestration.sites import GENUS_KEY, TILES, events, with_sites
from scs2_cubes_tests.pipeline.dask_processes import DaskProcesses, until_workers


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


#: Steps that end as soon as they have begun.
QUICK = ("third", "fourth", "fifth", "sixth")
#: A run of one of the jobs below, of a partition or of some of its assets.
RUNNING = """
import os
import sys
import dagster as dg
from scs2_cubes.pipeline import watch
from scs2_cubes_tests.orchestration.test_executors import everything, waiting
job, *names = sys.argv[1:]
if "SCS2_TRIAL_PATIENCE" in os.environ:
    which, seconds = os.environ["SCS2_TRIAL_PATIENCE"].split()
    setattr(watch, which, float(seconds))
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

    def set_patience(self, which: str, seconds: int) -> None:
        """One of the watch's; a busy machine needs the others as they are."""
        self.cluster.settings |= {"SCS2_TRIAL_PATIENCE": f"{which} {seconds}"}

    def start_worker_of_two_threads(self) -> None:
        options = ("--no-nanny", "--nthreads", "2", "--no-dashboard", "--host", "127.0.0.1")
        extra = {**self.cluster.settings, "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False"}
        processes = self.cluster.processes
        self.cluster.trial.start_python(("-m", "dask"), "worker", processes.address, *options, extra=extra)

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

    def quick(name: str) -> dg.AssetsDefinition:
        @dg.asset(name=name)
        def made() -> None:
            (folder / f"begun-{name}").touch()

        return made

    @dg.asset
    def failing() -> None:
        message = "planted"
        raise ValueError(message)

    @dg.asset(deps=[failing])
    def dependent() -> None:
        (folder / "begun-dependent").touch()

    executor = executor_on(DaskSpec("address", os.environ["SCS2_TRIAL_SCHEDULER"]), ())
    job = dg.define_asset_job("waiting", dg.AssetSelection.all(), executor_def=executor)
    assets = [first, second, failing, dependent, *map(quick, QUICK)]
    return dg.Definitions(assets=assets, jobs=[job]).resolve_job_def("waiting")


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
    steps.start_worker_of_two_threads()
    take_turns(steps, lambda: steps.cluster.waiting == 2)


def test_steps_go_to_workers_that_make_none(steps: Steps) -> None:
    """The first one waits, as for an order; its worker's other thread doesn't hold back what others can make."""
    for _ in range(2):
        steps.start_worker_of_two_threads()
    until_workers(steps.cluster.processes, 2)
    waiting = steps.start("first")
    wait_until(lambda: steps.begun == {"first"}, waiting)
    run = ended(steps.start(*QUICK), 300)
    assert run.code == 0, run.out + run.err
    assert steps.begun == {"first", *QUICK}
    assert waiting.poll() is None
    steps.let_go("first")
    run = ended(waiting)
    assert run.code == 0, run.out + run.err


def test_a_step_whose_worker_dies_is_made_again(steps: Steps) -> None:
    worker = steps.cluster.processes.start_worker(extra=steps.cluster.settings)
    run = steps.start("first")
    wait_until(lambda: steps.begun == {"first"}, run)
    worker.send_signal(signal.SIGKILL)
    worker.wait(20)
    (steps.folder / "begun-first").unlink()
    steps.let_go("first")
    steps.cluster.start_worker()
    found = ended(run)
    assert found.code == 0, found.out + found.err
    assert steps.begun == {"first"}


def test_a_worker_that_never_comes_is_given_up(steps: Steps) -> None:
    steps.set_patience("_FIRST_PATIENCE", 5)
    run = ended(steps.start("first"))
    assert run.code == 3
    assert f"no worker has come to the cluster of {steps.cluster.processes.address} for 5 s. Start one" in run.err, (
        run.err
    )
    assert steps.begun == set()


@pytest.mark.parametrize(
    ("how", "told"),
    [(signal.SIGSTOP, "hasn't answered for "), (signal.SIGKILL, "is lost. Start it again where it has ended")],
)
def test_a_scheduler_that_is_lost_or_silent(steps: Steps, how: signal.Signals, told: str) -> None:
    steps.set_patience("_SILENCE_PATIENCE", 15)
    steps.cluster.start_worker()
    scheduler = steps.cluster.processes.scheduler
    assert scheduler is not None
    run = steps.start("first")
    wait_until(lambda: steps.begun == {"first"}, run)
    scheduler.send_signal(how)
    found = ended(run, 300)
    assert found.code == 3, found.out + found.err
    (line,) = {line for line in found.err.splitlines() if "scs2_cubes.errors.MaterializationError" in line}
    assert f"Dask scheduler at {steps.cluster.processes.address} " in line
    assert told in line


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


@pytest.mark.parametrize(("job", "goes_on"), [(EVERYTHING_ON_DASK, False), ("another", True)])
def test_a_preload_whose_run_is_over_ends(trial: Trial, archives: Archives, job: str, goes_on: bool) -> None:
    """On a worker nobody else ends it; elsewhere it ends with its process. It looks when it has something to tell."""
    case = with_forest(trial, "first").case()
    key = preload_key(trial)
    heard: list[str] = []

    class CancelledMeanwhile:
        """Takes the first line as the sign to cancel the run."""

        def tell(self, line: str) -> None:
            heard.append(line)
            if len(heard) == 1:
                instance.report_run_canceling(instance.get_runs()[0])

    definitions = dg.Definitions(
        assets=preload_assets(case),
        jobs=[dg.define_asset_job(job, dg.AssetSelection.assets(key))],
        resources={"progress": CancelledMeanwhile()},
    )
    with trial.instance() as instance:
        made = definitions.resolve_job_def(job)
        if goes_on:
            assert made.execute_in_process(instance=instance).success
        else:
            with pytest.raises(dg.DagsterExecutionInterruptedError, match=r"run .* is over \(CANCELING\)"):
                made.execute_in_process(instance=instance)
        assert len(events(instance, key)) == goes_on
    # Its order is made, and remembered, before it is waited for.
    assert archives.orders == [FOREST]
    assert heard == [f"{FOREST}: looking for it", *([f"{FOREST}: task 77 is Queued"] if goes_on else [])]
