"""An executor of Dagster whose steps are tasks of a Dask cluster that runs already.

On the worker dagster-dask makes the step. Its own executor isn't used, because it names a step's task the same in every
run: of two runs at once the second would be given what came of the first. Nor does it take slots in pools.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
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
from dagster._core.execution.plan.step import ExecutionStep
from dagster._core.execution.retries import RetryMode
from dagster._utils.error import serializable_error_info_from_exc_info
from dagster_dask.executor import query_on_dask_worker
from distributed import Client, Future, wait

from scs2_cubes.core.specification import DaskSpec
from scs2_cubes.pipeline.cluster import open_cluster

__all__ = ["DaskSteps"]

#: Seconds between two looks at what is finished, and at pools in which a slot may be free.
_LOOK_SECONDS = 1.0

_Running = dict[Future[Any], str]


class DaskSteps(dg.Executor):
    """Hands the steps of a run to the workers of a scheduler. Connects when the run begins."""

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

        An interruption ends it at once; steps that run then see that their run is over, and end by themselves. Raises
        ConfigurationError where no scheduler answers, or one of other versions.
        """
        running: _Running = {}
        with (
            open_cluster(self._spec, plan_context.log.warning, self._folders) as cluster,
            InstanceConcurrencyContext(plan_context.instance, plan_context.dagster_run) as pools,
            ActiveExecution(execution_plan, retry_mode=self.retries, instance_concurrency_context=pools) as active,
        ):
            try:
                while not active.is_complete:
                    for step in active.get_steps_to_execute():
                        running[_submitted(cluster.client, plan_context, active, step)] = step.key
                    yield from active.concurrency_event_iterator(plan_context)
                    for future in _finished(running):
                        yield from self._told(plan_context, active, future, running.pop(future))
                    # Steps that aren't made, because what they depend on isn't.
                    yield from active.plan_events_iterator(plan_context)
            finally:
                for key in running.values():
                    pools.free_step(key)

    def _told(
        self, plan_context: PlanOrchestrationContext, active: ActiveExecution, future: Future[Any], key: str
    ) -> Iterator[dg.DagsterEvent]:
        """What came of a step, as Dagster's events."""
        try:
            events = future.result()
        except Exception:  # noqa: BLE001  (whatever becomes of one step's task, the others are made)
            error = serializable_error_info_from_exc_info(sys.exc_info())
            step = plan_context.for_step(active.get_step_by_key(key))
            events = [self.log_failure_or_retry_event_after_error(step, error, active.get_known_state())]
        for event in events:
            yield event
            active.handle_event(event)
        active.verify_complete(plan_context, key)


def _made(*arguments: Any) -> Any:
    """On a worker: a step, made as dagster-dask makes it, as soon as this process makes no other one.

    Two runs that begin at once in one process can wait for each other's locks for ever: Dagster configures Python's
    logging for each. And a cube uses all threads of its worker by itself.
    """
    with _turn():
        return query_on_dask_worker(*arguments)


@cache
def _turn() -> Lock:
    """The one lock of this process."""
    return Lock()


def _submitted(
    client: Client, plan_context: PlanOrchestrationContext, active: ActiveExecution, step: ExecutionStep
) -> Future[Any]:
    run = plan_context.dagster_run
    made = partial(
        _made,
        # Nothing to wait for: what this step depends on is made.
        (),
        plan_context.reconstructable_job,
        run,
        plan_context.run_config,
        [step.key],
        plan_context.instance.get_ref(),
        active.get_known_state(),
    )
    # As one function: of arguments Dask looks for tasks in every tuple, and some of a run's refuse to be looked into.
    # Every client of a scheduler gets the same result for the same key.
    return client.submit(made, key=f"{step.key}-{run.run_id}")


def _finished(running: _Running) -> list[Future[Any]]:
    """Those that are finished or failed; waits for a moment. Raises where the run is interrupted meanwhile."""
    with raise_execution_interrupts():
        if not running:
            time.sleep(_LOOK_SECONDS)
            return []
        try:
            return list(wait(list(running), timeout=_LOOK_SECONDS, return_when="FIRST_COMPLETED").done)
        except TimeoutError:
            return []
