"""Runs as processes of the code server, and the question whether such a process still lives.

Dagster's own launcher for code servers can't be asked that. So a run whose container was killed stays "started" for
ever: it takes one of the queue's places, its slots in pools are never freed, and nothing starts it again. With this
launcher ``run_monitoring`` marks it as failed, and the rest follows from ``dagster.yaml``.

Named there, not imported by any module: daemon and web server load it, and nothing else of the package.
"""

from __future__ import annotations

import dagster as dg

# Dagster has no public names for these; run launchers of other packages import them from the same places.
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import deserialize_value

__all__ = ["WatchedRunLauncher"]

_ANSWER_SECONDS = 10


class WatchedRunLauncher(DefaultRunLauncher):
    """Dagster's launcher for runs on a code server (``dagster api grpc``), which can tell whether a run is alive.

    Not for ``dagster code-server start``: after a reload its proxy asks the new server alone, which doesn't know the
    runs of the old one.
    """

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Ask the code server that started ``run`` for it: one request, which waits for seconds at most.

        A server that doesn't answer says nothing about the run, so it counts as running until there is an answer: one
        that was killed has lost its runs, and says so as soon as it is back.
        """
        client = self._get_grpc_client_for_termination(run.run_id)  # type: ignore[no-untyped-call]  # Dagster's own
        if client is None:
            return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "the run doesn't say which code server it runs on")
        request = CanCancelExecutionRequest(run_id=run.run_id)
        try:
            answer = client.can_cancel_execution(request, timeout=_ANSWER_SECONDS)
        except DagsterUserCodeUnreachableError as error:
            return CheckRunHealthResult(WorkerStatus.RUNNING, f"the code server doesn't answer: {error}")
        if deserialize_value(answer, CanCancelExecutionResult).can_cancel:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(
            WorkerStatus.NOT_FOUND,
            "the code server doesn't have the run's process: it was started again, or the run is being terminated",
        )
