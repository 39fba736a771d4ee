"""What the containers add to Dagster, without any service: is a run alive, and a server that goes on looking."""

from __future__ import annotations

import importlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import dagster as dg
import pytest
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import WorkerStatus
from dagster._grpc.server import DagsterApiServer
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import serialize_value
from sqlalchemy.exc import OperationalError

import scs2_cubes.orchestration
from scs2_cubes.orchestration.run_launcher import WatchedRunLauncher

RUN = "b5a8a9f6-0000-0000-0000-000000000000"


#: What makes cubes, and what keeps a history in PostgreSQL.
CUBE_LIBRARIES = ("numpy", "xarray", "zarr", "numba", "dask", "distributed", "rasterio", "pyproj", "matplotlib")
POSTGRES_LIBRARIES = ("dagster_postgres", "psycopg2")


@pytest.fixture
def code_server() -> ModuleType:
    pytest.importorskip("dagster_postgres", reason="the extra 'postgres' isn't installed")
    return importlib.import_module("scs2_cubes.orchestration.code_server")


@dataclass
class CodeServer:
    """As much of a code server's client as is asked: the runs that it has, or no answer at all."""

    runs: tuple[str, ...] | None
    asked: list[str] = field(default_factory=list)

    def can_cancel_execution(self, request: CanCancelExecutionRequest, timeout: int) -> str:
        assert 0 < timeout <= 60
        self.asked.append(request.run_id)
        if self.runs is None:
            raise DagsterUserCodeUnreachableError("it is being started")
        return serialize_value(CanCancelExecutionResult(can_cancel=request.run_id in self.runs))


def loaded_with(module: str) -> set[str]:
    """Packages that a fresh Python has loaded when ``module`` is imported."""
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_daemon_loads_the_launcher_alone() -> None:
    """It imports the launcher by the name in ``dagster.yaml``."""
    loaded = loaded_with("scs2_cubes.orchestration.run_launcher")
    assert "dagster" in loaded
    assert loaded & {*CUBE_LIBRARIES, *POSTGRES_LIBRARIES} == set()


def test_starting_a_run_doesnt_load_the_cubes_twice(code_server: ModuleType) -> None:
    """Each run imports the code server before it imports what it runs."""
    assert code_server.__name__ == "scs2_cubes.orchestration.code_server"
    loaded = loaded_with(code_server.__name__)
    assert "dagster_postgres" in loaded
    assert loaded & set(CUBE_LIBRARIES) == set()


def test_cubes_need_no_postgresql(tmp_path: Path) -> None:
    """Every module but the code server can be imported where the extra isn't installed."""
    folder = Path(scs2_cubes.orchestration.__path__[0])
    modules = sorted(path.stem for path in folder.glob("*.py") if path.stem not in {"__init__", "code_server"})
    assert {"assets", "run_launcher"} <= set(modules)
    for library in POSTGRES_LIBRARIES:
        (tmp_path / f"{library}.py").write_text("raise ModuleNotFoundError(name=__name__)\n", encoding="utf-8")
    imports = [f"scs2_cubes.orchestration.{name}" for name in modules]
    without = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nimport "
    ended = [
        subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
        for text in (without + ", ".join(imports), f"{without}scs2_cubes.orchestration.code_server")
    ]
    assert ended[0].returncode == 0, ended[0].stderr
    assert ended[1].returncode == 1
    assert "ModuleNotFoundError" in ended[1].stderr


@pytest.mark.parametrize(
    ("server", "status"),
    [
        (CodeServer((RUN, "other")), WorkerStatus.RUNNING),
        (CodeServer(("other",)), WorkerStatus.NOT_FOUND),
        (CodeServer(None), WorkerStatus.RUNNING),
        (None, WorkerStatus.NOT_FOUND),
    ],
    ids=["goes on", "server was started again", "server doesn't answer", "nothing known"],
)
def test_whether_a_run_is_alive(
    server: CodeServer | None, status: WorkerStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher = WatchedRunLauncher()
    monkeypatch.setattr(launcher, "_get_grpc_client_for_termination", lambda _run_id: server)
    assert launcher.supports_check_run_worker_health
    assert launcher.check_run_worker_health(dg.DagsterRun("job", run_id=RUN)).status == status
    assert server is None or server.asked == [RUN]


@dataclass
class Housekeeping:
    """A server's thread, and what its looks at the runs end with."""

    ends: Iterator[Exception | None]
    looks: int = 0
    _server_termination_event: threading.Event = field(default_factory=threading.Event)

    def look(self) -> None:
        self.looks += 1
        end = next(self.ends, None)
        if end is None:
            self._server_termination_event.set()
            return
        raise end

    def _check_for_orphaned_runs(self) -> None:
        # As the server's thread finds it: the class's own, or what has taken its place.
        DagsterApiServer._check_for_orphaned_runs(self)  # type: ignore[arg-type]  # as much of a server as it needs


ABSENT = OperationalError("select", {}, Exception("connection refused"))


def test_server_looks_again_after_the_database_was_away(
    code_server: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dagster._grpc.server.CLEANUP_TICK", 0.001)
    monkeypatch.setattr(DagsterApiServer, "_check_for_orphaned_runs", Housekeeping.look)
    postgres = importlib.import_module("dagster_postgres.utils")
    ends = [ABSENT, postgres.DagsterPostgresException("too many retries for DB connection")]
    with pytest.raises(OperationalError):
        DagsterApiServer._cleanup_thread(Housekeeping(iter(ends)))  # type: ignore[arg-type]  # see above
    code_server.keep_looking_after_runs()
    patient = Housekeeping(iter(ends))
    DagsterApiServer._cleanup_thread(patient)  # type: ignore[arg-type]  # see above
    assert patient.looks == 3
    # What isn't the database's fault isn't hidden.
    with pytest.raises(ValueError, match="another"):
        DagsterApiServer._cleanup_thread(Housekeeping(iter([ValueError("another")])))  # type: ignore[arg-type]  # see above
