"""The whole platform as processes, from the files of ``docker/``: runs through the queue, and one kill after another.

Storage is a folder, then S3. To try another one, write its ``Place``, and give :func:`place` one more parameter.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import pytest
import yaml

from scs2_cubes.config import load_case
from scs2_cubes.demo.answers import Answer
from scs2_cubes.demo.server import DemoServer
from scs2_cubes.orchestration.provenance import source_key
from scs2_cubes_tests.docker.composition import CHECKOUT, example_variables
from scs2_cubes_tests.docker.processes import Stack, missing_programs
from scs2_cubes_tests.docker.queue import attempts, is_settled, launch, wait_until
from scs2_cubes_tests.docker.storages import Folder, InBucket, Place, tree
from scs2_cubes_tests.end_to_end.trial import Tree, in_process
from scs2_cubes_tests.s3.server import OWNER

pytestmark = [pytest.mark.full, pytest.mark.timeout(1800)]

SUCCESS = dg.DagsterRunStatus.SUCCESS
CUBES = ("gami", "forestpaths_genus", "liu", "esa_cci_biomass", "efda", "forest_type_2015")
TILES = 9
#: Requests for pixels of a cube.
PIXELS = {
    "gami": r"GAMI.*\.zarr/forest_age/\d",
    "forestpaths_genus": r"GENUS.*\.zarr/genus/\d",
    "liu": r"LIU.*\.zarr/[a-z_]+/\d",
    "efda": r"EFDA.*\.zarr/[a-z_]+/\d",
    "esa_cci_biomass": r"\.dods$",
}
#: A password that can't stand in a URL as it is.
PASSWORD = "ab/c@d:e%f"


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder that PostgreSQL's user may enter, which pytest's own aren't."""
    if reason := missing_programs():
        pytest.skip(reason)
    pytest.importorskip("dagster_postgres", reason="the extra 'postgres' isn't installed")
    folder = Path(tempfile.mkdtemp(prefix="scs2-docker-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def variables() -> dict[str, str]:
    return {**example_variables(), "POSTGRES_PASSWORD": PASSWORD, "SCS2_WORKER_MEMORY": "1gb"}


def all_up(stack: Stack) -> None:
    names = [name for name in ("scheduler", "worker", "code", "webserver", "daemon") for name in stack.names(name)]
    stack.prepare()
    stack.up(*names)


@dataclass
class Hold:
    """Keeps answers back until it is released."""

    reached: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def __call__(self, path: str, make: Callable[[], Answer]) -> Answer:
        self.reached.set()
        # Whatever happens, the server's threads come to an end.
        self.released.wait(120)
        return make()


@dataclass
class Trial:
    """The running platform, its sources, and what to compare with."""

    stack: Stack
    server: DemoServer
    place: Place
    reference: Tree
    last_asked: Mapping[str, str]
    """Cube → path of the source's chunk that was asked for last when the cube was made without trouble."""
    forest_source: Sequence[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.stack.port('3000')}"

    def launch(self, cube: str) -> str:
        keys = [[cube], self.forest_source] if cube == "forest_type_2015" else [[cube]]
        return launch(self.url, keys, "demo")

    def release(self, hold: Hold) -> None:
        self.server.faults.clear()
        hold.released.set()

    def in_the_middle(self, cube: str) -> tuple[str, Hold]:
        """Launch a run, and hold it where it has begun and can't end: by one chunk, so that other tiles are made."""
        hold = Hold()
        self.server.faults.add(hold, self.last_asked[cube])
        run = self.launch(cube)
        wait_until(f"{cube} to be in the middle", hold.reached.is_set, 240)
        assert len(self.place.records(cube)) < TILES
        return run, hold

    def settled(self, *runs: str) -> list[dg.DagsterRunStatus]:
        """Wait until nothing more will come of the runs; how they ended."""
        with self.stack.instance() as instance:
            wait_until("the runs' end", lambda: all(is_settled(instance, run) for run in runs), 300, interval=0.5)
            return [attempts(instance, run)[-1].status for run in runs]

    def require_truth(self) -> None:
        """What the instance holds for done is done, at that version."""
        with self.stack.instance() as instance:
            for cube in CUBES:
                found = instance.fetch_materializations(dg.AssetKey(cube), limit=1).records
                if found and (event := found[0].asset_materialization):
                    versions = [record["data_version"] for record in self.place.records(cube).values()]
                    assert versions == [(event.tags or {})["dagster/data_version"]] * TILES, cube

    def require_done(self, *cubes: str) -> None:
        """The cubes are finished, known to the instance, and the undisturbed ones byte for byte."""
        self.require_truth()
        with self.stack.instance() as instance:
            for cube in cubes:
                assert instance.get_materialized_partitions(dg.AssetKey(cube)) == {"demo"}, cube
                made, expected = self.place.tree(cube), part(self.reference, cube)
                assert made.keys() == expected.keys(), cube
                assert {name for name in expected if made[name] != expected[name]} == set(), cube


def part(whole: Tree, cube: str) -> Tree:
    return {name: content for name, content in whole.items() if name.startswith(f"{cube}.")}


def case_of(folder: Path, place: Place) -> Path:
    """The demonstration on the platform's cluster, with its cubes in ``place``."""
    data = yaml.safe_load((CHECKOUT / "configs/demo.yml").read_text(encoding="utf-8"))
    if place.entry is not None:
        data["data_stores"] = [
            place.entry if store["identifier"] == "storage" else store for store in data["data_stores"]
        ]
    data["dask"] = {"mode": "address", "address": "${DASK_SCHEDULER_ADDRESS}"}
    path = folder / "case.yml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


def made_without_trouble(folder: Path, settings: Mapping[str, str], patch: pytest.MonkeyPatch) -> Tree:
    """The six cubes by the command line, with threads of one process."""
    for name, value in {**settings, "SCS2_DEMO_ROOT": str(folder / "cubes")}.items():
        patch.setenv(name, value)
    ended = in_process("run", "--config", str(CHECKOUT / "configs/demo.yml"), home=folder / "history")
    assert ended.code == 0, ended.out + ended.err
    return tree(folder / "cubes/demo")


@pytest.fixture(params=["folder", "s3"])
def place(root: Path, request: pytest.FixtureRequest) -> Place:
    if request.param == "s3":
        return InBucket(request.getfixturevalue("bucket"))
    return Folder(root / "volumes/data")


@pytest.fixture
def trial(root: Path, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trial]:
    with DemoServer() as server:
        key = root / "key.json"
        server.clms.write_credentials(key)
        settings = {"SCS2_DEMO_URL": server.url, "SCS2_DEMO_CLMS_CREDENTIALS": str(key)}
        reference = made_without_trouble(tmp_path, settings, monkeypatch)
        last = {cube: server.requests.entries(re.compile(paths))[-1].path for cube, paths in PIXELS.items()}
        case = load_case(CHECKOUT / "configs/demo.yml")
        settings |= {"SCS2_CONFIG": str(case_of(root, place)), "SCS2_DEMO_ROOT": str(root / "volumes/data")}
        stack = Stack(root, {**variables(), **place.variables}, settings, ports=place.ports)
        try:
            all_up(stack)
            yield Trial(stack, server, place, reference, last, source_key(case.preloads[0]).path)
        finally:
            stack.kill_all()


def test_killed_one_by_one(trial: Trial) -> None:
    worker_killed(trial)
    code_server_killed(trial)
    daemon_killed(trial)
    database_killed(trial)
    run_killed_while_the_database_is_away(trial)
    nothing_is_left_behind(trial)


def worker_killed(trial: Trial) -> None:
    """The run doesn't even notice."""
    run, hold = trial.in_the_middle("gami")
    trial.stack.kill("worker-1")
    trial.require_truth()
    trial.release(hold)
    trial.stack.start("worker-1")
    assert trial.settled(run) == [SUCCESS]
    with trial.stack.instance() as instance:
        assert len(attempts(instance, run)) == 1
    trial.require_done("gami")


def code_server_killed(trial: Trial) -> None:
    """The run was a process of its container: it is found out, and started again by itself."""
    run, hold = trial.in_the_middle("liu")
    trial.stack.kill("code")
    trial.release(hold)
    trial.require_truth()
    trial.stack.up("code")
    assert trial.settled(run) == [SUCCESS]
    with trial.stack.instance() as instance:
        assert [one.status for one in attempts(instance, run)] == [dg.DagsterRunStatus.FAILURE, SUCCESS]
    trial.require_done("liu")


def daemon_killed(trial: Trial) -> None:
    """A run that goes on does so; what is queued meanwhile isn't lost, and begins when the daemon is back."""
    run, hold = trial.in_the_middle("esa_cci_biomass")
    trial.stack.kill("daemon")
    queued = trial.launch("forest_type_2015")
    trial.release(hold)
    assert trial.settled(run) == [SUCCESS]
    with trial.stack.instance() as instance:
        assert [one.status for one in attempts(instance, queued)] == [dg.DagsterRunStatus.QUEUED]
    trial.stack.start("daemon")
    assert trial.settled(queued) == [SUCCESS]
    trial.require_done("esa_cci_biomass", "forest_type_2015")


def database_killed(trial: Trial) -> None:
    """The run goes on, or fails where it had something to tell meanwhile; then it is launched again, by a person."""
    run, hold = trial.in_the_middle("efda")
    trial.stack.kill("postgres")
    trial.stack.up("postgres")
    trial.release(hold)
    if trial.settled(run) != [SUCCESS]:
        trial.require_truth()
        assert trial.settled(trial.launch("efda")) == [SUCCESS]
    trial.require_done("efda")


def run_killed_while_the_database_is_away(trial: Trial) -> None:
    """Nobody can be told at that moment; the code server finds out when the database is back."""
    run, hold = trial.in_the_middle("forestpaths_genus")
    with trial.stack.instance() as instance:
        process = process_of(instance, run)
    trial.stack.kill("postgres")
    trial.stack.kill_process("code", process)
    trial.release(hold)
    wait_until(
        "the code server to miss the database", lambda: "can't look after the runs" in trial.stack.log("code"), 60
    )
    trial.stack.up("postgres")
    assert trial.settled(run) == [SUCCESS]
    trial.require_done("forestpaths_genus")


def process_of(instance: dg.DagsterInstance, run: str) -> int:
    """Id of a run's process, as it has told itself."""
    for entry in instance.all_logs(run, of_type=dg.DagsterEventType.ENGINE_EVENT):
        event = entry.dagster_event
        if event is not None and "pid" in (metadata := event.engine_event_data.metadata):
            return int(str(metadata["pid"].value))
    pytest.fail(f"run {run} hasn't told its process")


def nothing_is_left_behind(trial: Trial) -> None:
    """All six once more, through the same queue: no place and no slot is taken, and no pixel is made again."""
    before = trial.place.moments()
    assert before
    assert trial.settled(*[trial.launch(cube) for cube in CUBES]) == [SUCCESS] * len(CUBES)
    assert trial.place.moments() == before
    trial.require_done(*CUBES)
    require_no_slot_taken(trial.stack)
    if isinstance(trial.place, InBucket):
        # Nothing lies in a container: neither cubes nor what was fetched for them.
        assert list((trial.stack.root / "volumes/data").iterdir()) == []
        require_no_secret_in_logs(trial.stack)


def require_no_secret_in_logs(stack: Stack) -> None:
    logs = list((stack.root / "logs").iterdir())
    assert logs
    assert [log.name for log in logs if OWNER["secret"] in log.read_text(encoding="utf-8", errors="replace")] == []


def require_no_slot_taken(stack: Stack) -> None:
    with stack.instance() as instance:
        assert instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])) == []
        storage = instance.event_log_storage
        for pool in storage.get_concurrency_keys():
            info = storage.get_concurrency_info(pool)
            assert (info.claimed_slots, info.pending_steps) == ([], []), pool


# Pools.


def test_slot_of_a_killed_run_is_freed(root: Path) -> None:
    """Two runs whose steps share a pool, one after the other; the first is killed with its slot."""
    begun = root / "begun"
    begun.mkdir(mode=0o777)
    stack = Stack(root, variables(), {"SCS2_BEGUN": str(begun)}, module="scs2_cubes_tests.docker.slow_definitions")
    try:
        all_up(stack)
        url = f"http://127.0.0.1:{stack.port('3000')}"
        first = launch(url, [["slow"]])
        wait_until("the first step", (begun / "slow").exists, 60)
        second = launch(url, [["quick"]])
        with stack.instance() as instance:
            assert instance.event_log_storage.get_concurrency_info("cciodp").slot_count == 1
        with pytest.raises(pytest.fail.Exception):
            wait_until("what mustn't happen", (begun / "quick").exists, 20)
        stack.kill("code")
        (begun / "stop").touch()
        stack.up("code")
        with stack.instance() as instance:
            wait_until("the runs' end", lambda: all(is_settled(instance, run) for run in (first, second)), 240)
            assert [attempts(instance, run)[-1].status for run in (first, second)] == [SUCCESS, SUCCESS]
        assert (begun / "quick").exists()
        require_no_slot_taken(stack)
    finally:
        stack.kill_all()
