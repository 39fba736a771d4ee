"""What the containers add to Dagster, without any service: is a run alive, and a server that goes on looking."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType

import dagster as dg
import pytest
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import WorkerStatus
from dagster._grpc.server import DagsterApiServer
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import serialize_value
from sqlalchemy.exc import OperationalError

from scs2_cubes_tests.docker.composition import DOCKER

RUN = "b5a8a9f6-0000-0000-0000-000000000000"


@pytest.fixture
def addition(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    if request.param == "code_server":
        pytest.importorskip("dagster_postgres", reason="the extra 'postgres' isn't installed")
    monkeypatch.syspath_prepend(DOCKER)
    return importlib.import_module(f"scs2_docker.{request.param}")


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


@pytest.mark.parametrize("addition", ["run_launcher"], indirect=True)
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
    addition: ModuleType, server: CodeServer | None, status: WorkerStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher = addition.WatchedRunLauncher()
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


@pytest.mark.parametrize("addition", ["code_server"], indirect=True)
def test_server_looks_again_after_the_database_was_away(addition: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dagster._grpc.server.CLEANUP_TICK", 0.001)
    monkeypatch.setattr(DagsterApiServer, "_check_for_orphaned_runs", Housekeeping.look)
    postgres = importlib.import_module("dagster_postgres.utils")
    ends = [ABSENT, postgres.DagsterPostgresException("too many retries for DB connection")]
    with pytest.raises(OperationalError):
        DagsterApiServer._cleanup_thread(Housekeeping(iter(ends)))  # type: ignore[arg-type]  # see above
    addition.keep_looking_after_runs()
    patient = Housekeeping(iter(ends))
    DagsterApiServer._cleanup_thread(patient)  # type: ignore[arg-type]  # see above
    assert patient.looks == 3
    # What isn't the database's fault isn't hidden.
    with pytest.raises(ValueError, match="another"):
        DagsterApiServer._cleanup_thread(Housekeeping(iter([ValueError("another")])))  # type: ignore[arg-type]  # see above
