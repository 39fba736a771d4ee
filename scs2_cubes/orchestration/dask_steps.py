"""An executor of Dagster whose steps are tasks of a Dask cluster that runs already.

On the worker dagster-dask makes the step. Its own executor isn't used, because it names a step's task the same in every
run: of two runs at once the second would be given what came of the first. Nor does it take slots in pools.
"""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from threading import Lock
from typing import Any

import dagster as dg
from dagster._core.errors import raise_execution_interrupts

# What every executor of Dagster is made of; none of it has a public name.
from dagster._core.execution.context.system import PlanOrchestrationContext
from dagster._core.execution.plan.active import ActiveExecution
from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode
from dagster._utils.error import serializable_error_info_from_exc_info
from dagster_dask.executor import query_on_dask_worker
from distributed import Client, Future, wait
from distributed.client import ClosedClientError, FutureCancelledError, FuturesCancelledError
from distributed.comm.core import CommClosedError

from scs2_cubes.core.specification import DaskSpec
from scs2_cubes.errors import MaterializationError
from scs2_cubes.pipeline.cluster import ClusterCompute, open_cluster

__all__ = ["DaskSteps"]

#: Seconds between two looks at what is finished, and at pools in which a slot may be free.
_LOOK_SECONDS = 1.0
#: Seconds for which what came of a step is waited for before the workers are looked at.
_GATHER_SECONDS = 5.0
#: Seconds for which a step waits in a process that makes another one, before it is handed to the cluster anew.
_TURN_SECONDS = 1.0
#: How a lost scheduler shows.
_LOST = (FutureCancelledError, FuturesCancelledError, CommClosedError, ClosedClientError)

_Running = dict[Future[Any], str]


class DaskSteps(dg.Executor):
    """Hands the steps of a run to the workers of a scheduler. Connects when the run begins.

    A step that fails isn't made again. One whose worker dies Dask gives to another worker, to four in all.
    """

    def __init__(self, spec: DaskSpec, folders: Sequence[str]) -> None:
        self._spec = spec
        self._folders = folders

    @property
    def retries(self) -> RetryMode:
        """None: what fails for a reason has been tried again by itself."""
        return RetryMode.DISABLED

    def execute(
        self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan
    ) -> Iterator[dg.DagsterEvent]:
        """Make the steps, each as soon as what it depends on is made and its pool has a slot.

        An interruption ends it at once; steps that run then see that their run is over, and end by themselves. Their
        slots are free at once all the same, so that for that while more may run than a pool allows.

        Raises ConfigurationError where no scheduler answers, or where scheduler or workers have other versions; and,
        while steps are to be made, as :meth:`~scs2_cubes.pipeline.watch.Watch.look` does: MaterializationError where
        the scheduler is silent or lost, and where no worker is left or comes; ConfigurationError where one comes that
        may not take part.
        """
        running: _Running = {}
        with (
            open_cluster(self._spec, plan_context.log.warning, self._folders) as cluster,
            _telling_of_loss(cluster),
            InstanceConcurrencyContext(plan_context.instance, plan_context.dagster_run) as pools,
            ActiveExecution(execution_plan, retry_mode=self.retries, instance_concurrency_context=pools) as active,
        ):
            try:
                while not active.is_complete:
                    if not running:
                        # Nobody needs workers that go while all steps wait for their pools.
                        cluster.watch.begin()
                    for step in active.get_steps_to_execute():
                        running[_submitted(cluster.client, plan_context, active, step.key)] = step.key
                    yield from active.concurrency_event_iterator(plan_context)
                    for future in _finished(cluster, running):
                        yield from self._told(cluster.client, plan_context, active, running, future)
                    # Steps that aren't made, because what they depend on isn't.
                    yield from active.plan_events_iterator(plan_context)
            finally:
                for key in running.values():
                    pools.free_step(key)

    def _told(
        self,
        client: Client,
        plan_context: PlanOrchestrationContext,
        active: ActiveExecution,
        running: _Running,
        future: Future[Any],
    ) -> Iterator[dg.DagsterEvent]:
        """What came of a step, as Dagster's events; where nothing has yet, it stays in ``running``."""
        key = running[future]
        try:
            events = future.result(timeout=_GATHER_SECONDS)
        except _LOST:
            raise
        except Exception as caught:  # noqa: BLE001  (whatever becomes of one step's task, the others are made)
            if isinstance(caught, TimeoutError) and future.status != "error":
                # The worker that had it is gone, or the scheduler is silent.
                return
            error = serializable_error_info_from_exc_info(sys.exc_info())
            step = plan_context.for_step(active.get_step_by_key(key))
            events = [self.log_failure_or_retry_event_after_error(step, error, active.get_known_state())]
        if events is None:
            # The worker was busy with another step.
            running[_submitted(client, plan_context, active, key)] = key
        # Not before: what is here gives its slot back, whatever is raised.
        del running[future]
        if events is None:
            return
        for event in events:
            yield event
            active.handle_event(event)
        active.verify_complete(plan_context, key)


@contextmanager
def _telling_of_loss(cluster: ClusterCompute) -> Iterator[None]:
    """Raise MaterializationError, with what to do, where the scheduler is lost within the block."""
    try:
        yield
    except _LOST as error:
        raise MaterializationError(cluster.lost) from error


def _made(*arguments: Any) -> Any:
    """On a worker: a step, made as dagster-dask makes it; None where this process makes another one.

    Two runs that begin at once in one process can wait for each other's locks for ever: Dagster configures Python's
    logging for each. And a cube uses all threads of its worker by itself. What waited here until the other step ends
    could wait for hours while other workers have nothing to do: Dask moves no task that has begun.
    """
    turn = _turn()
    if not turn.acquire(timeout=_TURN_SECONDS):
        return None
    try:
        return query_on_dask_worker(*arguments)
    finally:
        turn.release()


@cache
def _turn() -> Lock:
    """The one lock of this process."""
    return Lock()


def _submitted(
    client: Client, plan_context: PlanOrchestrationContext, active: ActiveExecution, step_key: str
) -> Future[Any]:
    run = plan_context.dagster_run
    made = partial(
        _made,
        # Nothing to wait for: what this step depends on is made.
        (),
        plan_context.reconstructable_job,
        run,
        plan_context.run_config,
        [step_key],
        plan_context.instance.get_ref(),
        active.get_known_state(),
    )
    # As one function: of arguments Dask looks for tasks in every tuple, and some of a run's refuse to be looked into.
    # Every client of a scheduler gets the same result for the same key. Where there are many workers Dask takes turns
    # with new keys only: the same one could come back to the same busy worker again and again.
    return client.submit(made, key=f"{step_key}-{run.run_id}-{uuid.uuid4().hex}")


def _finished(cluster: ClusterCompute, running: _Running) -> list[Future[Any]]:
    """Those that are finished or failed; looks at the workers, and waits for a moment.

    Raises as :meth:`DaskSteps.execute` does, and where the run is interrupted meanwhile.
    """
    with raise_execution_interrupts():
        if not running:
            time.sleep(_LOOK_SECONDS)
            return []
        if cluster.client.status != "running":
            # Otherwise it would wait for a scheduler that may never come back.
            raise MaterializationError(cluster.lost)
        cluster.watch.look()
        try:
            return list(wait(list(running), timeout=_LOOK_SECONDS, return_when="FIRST_COMPLETED").done)
        except TimeoutError:
            return []
