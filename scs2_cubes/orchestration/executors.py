"""An executor besides the ordinary one: steps as tasks of an existing Dask cluster. Says nothing of how tiles are made.

Ordinarily a run's process asks Dask for tiles, and one cube after the other uses the whole cluster. The job here hands
whole steps to the workers: so many cubes are made side by side, each by the threads of one worker. It is there only
where the configuration says ``dask.steps``, because a worker that makes steps needs more than one that makes tiles:
Dagster's instance, the configuration with its secrets, and the caches.
"""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition  # no public name

from scs2_cubes.core.specification import Case, DaskSpec
from scs2_cubes.orchestration.provenance import cube_key
from scs2_cubes.orchestration.resources import DaskResource

__all__ = ["EVERYTHING_ON_DASK", "executor_on", "jobs_on_dask", "require_run"]

#: The job that makes all cubes, each as one task of the cluster.
EVERYTHING_ON_DASK = "everything_on_dask"


def jobs_on_dask(case: Case) -> list[UnresolvedAssetJobDefinition]:
    """The job that materializes everything on the cluster of ``dask.address``; none without ``dask.steps``. No I/O.

    Nor is there one where datasets have different partitions, which Dagster refuses in one job.
    """
    keys = {dataset.partition_keys for dataset in case.datasets}
    if case.dask.mode != "address" or not case.dask.steps or len(keys) != 1:
        return []
    cubes = dg.AssetSelection.assets(*map(cube_key, case.datasets))
    return [
        dg.define_asset_job(
            EVERYTHING_ON_DASK,
            cubes | cubes.upstream(),
            executor_def=executor_on(case.dask, DaskResource.of(case).folders),
            description="Makes all cubes side by side, each by the threads of one Dask worker. Workers must reach "
            "Dagster's instance and load this configuration.",
        )
    ]


def require_run(context: dg.AssetExecutionContext) -> None:
    """End a step that a worker makes where its run is over. One question to Dagster's instance; none elsewhere.

    Other steps end with their run's process; a task that runs can't be taken from a worker. Raises
    DagsterExecutionInterruptedError.
    """
    if context.job_name != EVERYTHING_ON_DASK:
        return
    run = context.instance.get_run_by_id(context.run.run_id)
    if run is None or run.is_finished or run.status is dg.DagsterRunStatus.CANCELING:
        status = run.status.value if run else "removed"
        raise dg.DagsterExecutionInterruptedError(f"run {context.run.run_id} is over ({status}), and this step with it")


def executor_on(spec: DaskSpec, folders: Sequence[str]) -> dg.ExecutorDefinition:
    """What hands steps to the workers of ``spec.address``, which have to see ``folders`` of this machine. No I/O."""

    @dg.executor(name="dask", requirements=dg.multiple_process_executor_requirements())
    def dask(_: dg.InitExecutorContext) -> dg.Executor:
        from scs2_cubes.orchestration.dask_steps import DaskSteps  # noqa: PLC0415  (a second, for clusters only)

        return DaskSteps(spec, folders)

    return dask
